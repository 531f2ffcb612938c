//! The disk seam: synchronous, positional, with every fsync explicit.
//!
//! What is assumed of the medium: bytes written before a [`DiskFile::sync`] that returned stay, bytes outside a write do
//! not change, a rename is atomic and stays once its folder was synced ([`Disk::sync_dir`]). Anything else may be lost or torn.
//!
//! Synchronous because redb and the hashers are; role code calls it inside `Environment::offload`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::io::Errno;

mod system;

pub use system::SystemDisk;

/// A file system: the real one, or one that the simulation crashes.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file. Never follows a symbolic link in the last component when creating.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// What is at `path`; `NotFound` when nothing is. Follows symbolic links.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// What bears the name `path` itself; does not follow a symbolic link.
    fn stat_name(&self, path: &Path) -> io::Result<Stat>;

    /// Makes a folder and those above it; new ones for the owner only (0700).
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Names in a folder, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Renames a file; fails with `AlreadyExists` when `to` is there, atomically.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file over what is there.
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Lets two names of one volume change places, atomically where the file system can; `NotFound` when one is not there. Nothing
    /// is replaced.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// fsync of a folder: names made, renamed or removed in it stay.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Bytes free for this user on the volume of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Absolute form of a path that the user gave, relative to the process's folder; symbolic links resolved where it exists.
    fn absolute(&self, path: &Path) -> io::Result<PathBuf>;
}

/// Whether an error says nothing about the file: the process or the system has run out of something for now.
pub fn is_passing(error: &io::Error) -> bool {
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// To read; it must be there.
    Read,
    /// To read and write; it must be there.
    ReadWrite,
    /// To read and write; made when it is not there, for the owner only (0600).
    Create,
    /// To read and write; it must not be there. For the owner only (0600).
    CreateNew,
}

/// An open file.
pub trait DiskFile: Send + Sync + 'static {
    /// Fills `buffer` from `offset`; `UnexpectedEof` when the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, beyond the end if need be.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or extends (with zeros) to `size` bytes.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Reserves room for `size` bytes, so that later writes inside do not fail with a full disk; extends the file.
    fn allocate(&self, size: u64) -> io::Result<()>;

    /// fsync: all written before, and the file's size, stay.
    fn sync(&self) -> io::Result<()>;

    /// What the open file is now.
    fn stat(&self) -> io::Result<Stat>;

    /// Takes the file's exclusive lock for as long as it is open; `WouldBlock` when another process has it.
    fn lock(&self) -> io::Result<()>;
}

/// Makes a folder for secrets; refuses one that is there and open to others.
pub fn private_dir(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.create_dir_all(path)?;
    if disk.stat(path)?.is_private {
        return Ok(());
    }
    let why =
        "other users can look into it, and it is to hold private keys. Make it yours alone with chmod 700 and chown";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Whether it belongs to this process's user, and its mode lets nobody else read, write or enter.
    pub is_private: bool,
    /// Tells whether a file is still what it was.
    pub stamp: FileStamp,
}

/// Changes whenever a file's content may have: kept with a share and compared before its bytes are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileStamp {
    /// Bytes.
    pub size: u64,
    /// Last modification, nanoseconds since the Unix epoch.
    pub modified_ns: i64,
    /// Inode number.
    pub inode: u64,
    /// Device number of the volume.
    pub device: u64,
}

impl FileStamp {
    /// Whether both are of one file, whatever was written to it in between.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.inode, self.device) == (other.inode, other.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_passes_and_a_fault_of_the_disk_does_not() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR] {
            assert!(is_passing(&errno.into()), "{errno}");
        }
        for errno in [Errno::IO, Errno::NOENT, Errno::ACCESS, Errno::NOSPC] {
            assert!(!is_passing(&errno.into()), "{errno}");
        }
        assert!(!is_passing(&io::ErrorKind::UnexpectedEof.into()));
    }
}
