//! redb on the disk seam, so that the simulation crashes it like any other file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use redb::{Database, DatabaseError, StorageBackend, StorageError};

use super::disk::{Disk, DiskFile, OpenMode};
use crate::mutant::Mutant;

/// Bytes of pages that a database keeps in memory.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why a database did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process: stop it, or choose another --data-dir", .0.display())]
    InUse(PathBuf),
    /// The disk failed.
    #[error("{}: {error}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        error: io::Error,
    },
    /// What is in the file is no database of ours.
    #[error("{} cannot be read as a database: {error}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What redb said.
        error: Box<DatabaseError>,
    },
}

/// Opens the database at `path`, or makes it; its folder must be there. One process at a time.
pub fn open_database(disk: &dyn Disk, path: &Path) -> Result<Database, OpenError> {
    let failed = |error: io::Error| OpenError::Disk { path: path.into(), error };
    let file = disk.open(path, OpenMode::Create).map_err(failed)?;
    file.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse(path.into()),
        _ => failed(error),
    })?;
    if let Some(folder) = path.parent() {
        disk.sync_dir(folder).map_err(failed)?;
    }
    let backend = FileBackend(Mutex::new(Some(file)));
    Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.into()),
        DatabaseError::Storage(StorageError::Io(error)) => failed(error),
        error => OpenError::Database { path: path.into(), error: Box::new(error) },
    })
}

/// A file as redb wants it. redb closes it when the database is dropped; the lock goes with it.
struct FileBackend(Mutex<Option<Arc<dyn DiskFile>>>);

impl FileBackend {
    fn file(&self) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        file.ok_or_else(|| io::Error::other("the database is closed"))
    }
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileBackend")
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file()?.stat()?.stamp.size)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file()?.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file()?.set_size(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if Mutant::SkipFsync.is_on() {
            return Ok(());
        }
        self.file()?.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file()?.write_at(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase as _, TableDefinition};

    use super::*;
    use crate::store::disk::SystemDisk;

    const NUMBERS: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

    #[test]
    fn what_was_committed_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let database = open_database(&SystemDisk, &path).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(NUMBERS).unwrap().insert(1, 2).unwrap();
        write.commit().unwrap();
        drop(database);
        let database = open_database(&SystemDisk, &path).unwrap();
        let read = database.begin_read().unwrap().open_table(NUMBERS).unwrap();
        assert_eq!(read.get(1).unwrap().unwrap().value(), 2);
    }

    #[test]
    fn a_database_has_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let _held = open_database(&SystemDisk, &path).unwrap();
        let Err(OpenError::InUse(named)) = open_database(&SystemDisk, &path) else { panic!("opened twice") };
        assert_eq!(named, path);
    }

    #[test]
    fn rubbish_is_no_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        SystemDisk.open(&path, OpenMode::Create).unwrap().write_at(0, &[7; 9000]).unwrap();
        assert!(matches!(open_database(&SystemDisk, &path), Err(OpenError::Disk { .. } | OpenError::Database { .. })));
    }
}
