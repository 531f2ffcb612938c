//! A disk on which no more files can be opened for a while, for the process is out of descriptors; or on which another program
//! acts at the worst moment.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use rustix::io::Errno;

use crate::store::disk::{Disk, DiskFile, OpenMode, Stat, SystemDisk};

type Act = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Troubled {
    pub(super) starved: AtomicBool,
    before_exchange: Mutex<Option<Act>>,
}

impl Troubled {
    /// Another program acts when two files are about to change places.
    pub(super) fn before_exchange(&self, act: impl FnOnce() + Send + 'static) {
        *self.before_exchange.lock().unwrap() = Some(Box::new(act));
    }
}

impl Disk for Troubled {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if self.starved.load(SeqCst) { Err(Errno::MFILE.into()) } else { SystemDisk.open(path, mode) }
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        SystemDisk.stat(path)
    }

    fn stat_name(&self, path: &Path) -> io::Result<Stat> {
        SystemDisk.stat_name(path)
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

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        if let Some(act) = self.before_exchange.lock().unwrap().take() {
            act();
        }
        SystemDisk.exchange(one, other)
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
