//! The file that the demo shares: given, or made; and its SHA-1 as read back from the disk.

use std::{
    io,
    path::{Path, PathBuf},
};

use sha1::Digest as _;

use super::super::environment::Environment;
use crate::{
    protocol::{
        error::{ErrorCode, Failure},
        hash::Sha1Hash,
    },
    store::disk::{Disk, OpenMode},
};

/// Bytes written or read at a time.
const CHUNK: usize = 1 << 20;

/// The file to share and its size: `given`, or one that is made in `dir`.
pub(super) async fn choose(env: &Environment, given: Option<PathBuf>, dir: &Path) -> Result<(PathBuf, u64), Failure> {
    let disk = env.disk.clone();
    let path = dir.join("holiday.mp4");
    let seed = env.rng("demo content", 0).get_seed();
    env.offload(move || match given {
        Some(path) => look_at(&*disk, &path),
        None => match make(&*disk, &path, &seed, super::MADE_SIZE) {
            Ok(()) => Ok((path, super::MADE_SIZE)),
            Err(error) => Err(super::cannot("make a file to share", &error)),
        },
    })
    .await
}

fn look_at(disk: &dyn Disk, path: &Path) -> Result<(PathBuf, u64), Failure> {
    let shown = path.display();
    let unreadable = |error| Failure::new(ErrorCode::NotReadable, format!("{shown} cannot be read: {error}."));
    let path = disk.absolute(path).map_err(unreadable)?;
    let stat = disk.stat(&path).map_err(unreadable)?;
    if stat.is_dir {
        return Err(Failure::new(ErrorCode::IsDirectory, format!("{shown} is a folder. Name a file to share.")));
    }
    Ok((path, stat.stamp.size))
}

/// Writes `size` bytes that cannot be guessed or compressed.
fn make(disk: &dyn Disk, path: &Path, seed: &[u8; 32], size: u64) -> io::Result<()> {
    let file = disk.open(path, OpenMode::CreateNew)?;
    let mut noise = blake3::Hasher::new_keyed(seed).finalize_xof();
    let mut chunk = vec![0; CHUNK];
    for offset in (0..size).step_by(CHUNK) {
        noise.fill(&mut chunk);
        file.write_at(offset, &chunk)?;
    }
    Ok(())
}

/// SHA-1 of a file as it is on the disk.
pub(super) async fn sha1(env: &Environment, path: PathBuf) -> io::Result<Sha1Hash> {
    let disk = env.disk.clone();
    env.offload(move || {
        let file = disk.open(&path, OpenMode::Read)?;
        let size = file.stat()?.stamp.size;
        let (mut hasher, mut chunk) = (sha1::Sha1::new(), vec![0; CHUNK]);
        let mut offset = 0;
        while offset < size {
            let length = usize::try_from(size - offset).map_or(CHUNK, |rest| rest.min(CHUNK));
            file.read_at(offset, &mut chunk[..length])?;
            hasher.update(&chunk[..length]);
            offset += length as u64;
        }
        Ok(Sha1Hash(hasher.finalize().into()))
    })
    .await
}
