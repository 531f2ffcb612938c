//! Durable state of a client, one folder each: its lock, its device key, what it remembers of the trackers, shares and downloads.

pub mod downloads;
pub mod identity;
pub mod manifests;
pub mod memory;
mod path;
pub mod shares;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    disk::{Disk, DiskFile, OpenMode, private_dir},
    small_file,
};
use crate::protocol::error::{ErrorCode, Failure};

/// A client's folder, held for itself alone while this lives.
pub struct DataDir {
    /// The folder.
    pub path: PathBuf,
    _lock: Arc<dyn DiskFile>,
}

/// Why a client's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error(
        "The data directory {0} is in use by another client. Stop that one, or give this one its own with --data-dir."
    )]
    InUse(PathBuf),
    /// A file in it is not what this program wrote.
    #[error("{0} is damaged. Restore it from a backup, or remove it: {1}")]
    Damaged(PathBuf, &'static str),
    /// The disk refused.
    #[error(
        "Cannot use {0}: {1}. Check the path, its permissions and the space left, or choose another with --data-dir."
    )]
    Io(PathBuf, io::Error),
}

impl From<DataDirError> for Failure {
    fn from(error: DataDirError) -> Self {
        Self::new(ErrorCode::Io, error.to_string())
    }
}

impl DataDir {
    /// Makes the folder if need be, and takes its lock.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, DataDirError> {
        let failed = |error| DataDirError::Io(path.to_owned(), error);
        private_dir(disk, path).map_err(failed)?;
        let lock = disk.open(&path.join("lock"), OpenMode::Create).map_err(failed)?;
        match lock.lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(DataDirError::InUse(path.to_owned())),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Reads a small file whole; `None` when there is none.
fn read_small(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, DataDirError> {
    small_file::read(disk, path).map_err(|error| DataDirError::Io(path.to_owned(), error))
}

/// Puts `bytes` in place of a small file: after a crash there is the old content or the new, never a mixture.
fn replace_small(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    small_file::replace(disk, path, bytes).map_err(|error| DataDirError::Io(path.to_owned(), error))
}
