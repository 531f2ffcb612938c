//! Content being downloaded: a partial file beside its destination, and how it becomes the file.
//!
//! The order of things, for each piece: hash, then write, then `Partial::mark`; only then it is announced. The mark, a
//! byte behind the content in the same file, outlives the process (kill -9) without an fsync; it does not outlive a
//! power loss for sure. [`Partial::sync`] makes all pieces written before it durable; the caller records them after it,
//! and only in this order. On the way back, recorded pieces are trusted while the file is the same, marked but
//! unrecorded ones are read, hashed and written again, all others are missing.
//!
//! The end: all pieces recorded, marks cut off, fsync, rename to a name that must be free, fsync of the folder. A partial
//! file never bears the final name, and nothing is ever overwritten.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::BytesMut;

use super::disk::{Disk, DiskFile, FileStamp, OpenMode};
use crate::mutant::Mutant;
use crate::protocol::{
    bitfield::Bitfield,
    piece::{PieceIndex, piece_count, piece_length},
};

/// Most bytes of the final name that appear in the partial file's; leaves room for the rest within 255.
const MAX_STEM: usize = 200;

/// Mark of a piece that was verified and written.
const VERIFIED: u8 = 1;

/// Why content cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Something is at the destination already.
    #[error("something is at the destination already")]
    DestinationExists,
    /// The destination's folder is not there.
    #[error("the destination's folder is not there")]
    NoFolder,
    /// The disk is full.
    #[error("the disk is full")]
    NoSpace,
    /// The partial file is gone, or another file is in its place.
    #[error("the partial file is gone")]
    Lost,
    /// Reading or writing failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::NoSpace,
            _ => Self::Io(error),
        }
    }
}

/// Where a download's partial file lies: hidden, in the folder of its destination, so that the last rename is atomic.
/// `tag` tells two downloads to the same place apart.
pub fn partial_path(destination: &Path, tag: u32) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    let end = (0..=name.len().min(MAX_STEM)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    destination.with_file_name(format!(".{}.{tag:08x}.p2p-part", &name[..end]))
}

/// The file of a download, open.
#[derive(Clone)]
pub struct Partial {
    file: Arc<dyn DiskFile>,
    size: u64,
    /// An fsync has failed. The system takes for written what it could not write then: no later fsync proves anything of it.
    unsynced: Arc<Mutex<bool>>,
}

impl Partial {
    /// Makes the partial file at `path` for content of `size` bytes, with all its room reserved.
    pub fn create(disk: &dyn Disk, path: &Path, size: u64) -> Result<Self, ContentError> {
        let file = disk.open(path, OpenMode::CreateNew).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ContentError::NoFolder,
            _ => error.into(),
        })?;
        let reserved = file.allocate(size + u64::from(piece_count(size)));
        if let Err(error) = reserved.and_then(|()| sync_parent(disk, path)) {
            disk.remove(path)?;
            return Err(error.into());
        }
        Ok(Self::new(file, size))
    }

    fn new(file: Arc<dyn DiskFile>, size: u64) -> Self {
        Self { file, size, unsynced: Arc::default() }
    }

    /// Opens the partial file made earlier, whose inode and volume were then those of `made`, and reads its marks.
    pub fn reopen(disk: &dyn Disk, path: &Path, size: u64, made: FileStamp) -> Result<(Self, Bitfield), ContentError> {
        let file = disk.open(path, OpenMode::ReadWrite).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ContentError::Lost,
            _ => error.into(),
        })?;
        let partial = Self::new(file, size);
        let stamp = partial.stamp()?;
        let pieces = piece_count(size);
        let is_same = (stamp.inode, stamp.device) == (made.inode, made.device);
        if !is_same || (stamp.size != size && stamp.size != size + u64::from(pieces)) {
            return Err(ContentError::Lost);
        }
        let marks = if stamp.size == size { Bitfield::full(pieces) } else { partial.marks()? };
        if stamp.size == size {
            partial.restore_marks()?;
        }
        Ok((partial, marks))
    }

    /// What the file is now.
    pub fn stamp(&self) -> io::Result<FileStamp> {
        Ok(self.file.stat()?.stamp)
    }

    /// Writes a verified piece, given in parts, and marks it.
    pub fn write<'a>(&self, piece: PieceIndex, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<(), ContentError> {
        let mut offset = piece.start();
        for part in parts {
            self.file.write_at(offset, part)?;
            offset += part.len() as u64;
        }
        self.mark(piece, VERIFIED)
    }

    /// Takes a piece's mark away: it was found damaged.
    pub fn unmark(&self, piece: PieceIndex) -> Result<(), ContentError> {
        self.mark(piece, 0)
    }

    /// Reads a whole piece.
    pub fn read(&self, piece: PieceIndex) -> io::Result<Vec<u8>> {
        Ok(self.read_into(piece, BytesMut::new())?.into())
    }

    /// Reads a whole piece into the memory of an earlier one.
    pub fn read_into(&self, piece: PieceIndex, mut memory: BytesMut) -> io::Result<BytesMut> {
        memory.resize(piece_length(self.size, piece) as usize, 0);
        self.file.read_at(piece.start(), &mut memory)?;
        Ok(memory)
    }

    /// fsync: every piece written before stays. Once it has failed it always does: only what is written again after the file
    /// was opened again can become durable.
    pub fn sync(&self) -> Result<(), ContentError> {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        if *unsynced && !Mutant::SyncAgain.is_on() {
            return Err(ContentError::Io(io::Error::other("an earlier fsync of it failed")));
        }
        let synced = self.file.sync();
        *unsynced = synced.is_err();
        Ok(synced?)
    }

    /// Makes the complete, verified content at `path` the file at `destination`; returns what it is then. Nothing may be
    /// there, but for a file that still is what `replaces` says.
    pub fn finish(
        &self,
        disk: &dyn Disk,
        path: &Path,
        destination: &Path,
        replaces: Option<FileStamp>,
    ) -> Result<FileStamp, ContentError> {
        self.file.set_size(self.size)?;
        if !Mutant::NameUnsynced.is_on() {
            self.sync()?;
        }
        let is_replaced = replaces.is_some() && disk.stat(destination).ok().map(|it| it.stamp) == replaces;
        let renamed =
            if is_replaced { disk.rename_over(path, destination) } else { disk.rename_new(path, destination) };
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ContentError::DestinationExists,
            io::ErrorKind::NotFound => ContentError::Lost,
            _ => error.into(),
        })?;
        sync_parent(disk, destination)?;
        Ok(self.stamp()?)
    }

    fn mark(&self, piece: PieceIndex, value: u8) -> Result<(), ContentError> {
        Ok(self.file.write_at(self.size + u64::from(piece.0), &[value])?)
    }

    fn marks(&self) -> io::Result<Bitfield> {
        let pieces = piece_count(self.size);
        let mut bytes = vec![0; pieces as usize];
        self.file.read_at(self.size, &mut bytes)?;
        let mut marks = Bitfield::empty(pieces);
        for (piece, _) in (0..pieces).zip(&bytes).filter(|(_, byte)| **byte == VERIFIED) {
            marks.insert(PieceIndex(piece));
        }
        Ok(marks)
    }

    /// The last step was interrupted after the marks were cut off: all was verified by then.
    fn restore_marks(&self) -> io::Result<()> {
        self.file.write_at(self.size, &vec![VERIFIED; piece_count(self.size) as usize])
    }
}

/// fsync of the folder that `path` lies in.
fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| disk.sync_dir(folder))
}
