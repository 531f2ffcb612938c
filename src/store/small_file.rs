//! Files small enough to be read and replaced whole.

use std::{io, path::Path};

use super::disk::{Disk, OpenMode};

/// Largest file read whole: a version vector, a list of known trackers, a key.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a file whole; `None` when there is none.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let read = || {
        let file = disk.open(path, OpenMode::Read)?;
        let size = usize::try_from(file.stat()?.stamp.size.min(MAX_BYTES)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; size];
        file.read_at(0, &mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts `bytes` in place of a file: after a crash there is the old content or the new, never a mixture.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let file = disk.open(&fresh, OpenMode::Create)?;
    file.set_size(0)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename_over(&fresh, path)?;
    disk.sync_dir(path.parent().unwrap_or(path))
}
