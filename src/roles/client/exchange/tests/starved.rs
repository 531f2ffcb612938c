//! A disk on which no more files can be opened for a while: the process is out of descriptors.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use rustix::io::Errno;

use crate::store::disk::{Disk, DiskFile, OpenMode, Stat, SystemDisk};

#[derive(Default)]
pub(super) struct Starved(pub(super) AtomicBool);

impl Disk for Starved {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if self.0.load(SeqCst) { Err(Errno::MFILE.into()) } else { SystemDisk.open(path, mode) }
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        SystemDisk.stat(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(path)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename_new(from, to)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename_over(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        SystemDisk.free_bytes(path)
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        SystemDisk.absolute(path)
    }
}
