//! Hashing a whole file for sharing, one pass: SHA-1 and BLAKE3 of every piece, SHA-1 of the whole.
//!
//! Cut into steps that the caller runs where it likes. SHA-1 is serial: that of the whole file sets the pace, and those of the pieces
//! come along for little more. So one core does [`Batch::sums`], and another the read of the next batch and [`Batch::trees`] of this
//! one. Memory is bounded by the batches in hand.

use std::{io, path::Path, sync::Arc};

use super::disk::{Disk, DiskFile, FileStamp, OpenMode};
use crate::protocol::{
    hash::{Blake3Hash, FileHash, Sha1Hash},
    piece::{MAX_FILE_SIZE, PIECE_SIZE, PieceIndex, piece_count},
};

/// Pieces read and hashed in one step: 8 MiB, some milliseconds of work, and as many as SHA-1 takes side by side.
const BATCH_PIECES: u32 = 16;

/// Why a file cannot be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// It is a folder.
    #[error("it is a folder")]
    Directory,
    /// It is larger than any file that can be shared.
    #[error("it is larger than 2 TiB")]
    TooLarge,
    /// It was written to, or replaced, while it was read.
    #[error("it changed while it was read")]
    Changed,
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file open for hashing, and what it was when it was opened.
#[derive(Clone)]
pub struct Source {
    file: Arc<dyn DiskFile>,
    stamp: FileStamp,
}

impl Source {
    /// Opens the file at `path`.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, HashError> {
        if disk.stat(path)?.is_dir {
            return Err(HashError::Directory);
        }
        let file = disk.open(path, OpenMode::Read)?;
        let stamp = file.stat()?.stamp;
        if stamp.size > MAX_FILE_SIZE {
            return Err(HashError::TooLarge);
        }
        Ok(Self { file, stamp })
    }

    /// What the file was when it was opened.
    pub fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// Number of pieces.
    pub fn piece_count(&self) -> u32 {
        piece_count(self.stamp.size)
    }

    /// Reads the batch that begins with piece `first`, into the memory of an earlier one; `None` past the end.
    pub fn read(&self, first: PieceIndex, mut memory: Vec<u8>) -> Result<Option<Batch>, HashError> {
        let rest = self.stamp.size.saturating_sub(first.start());
        let length = rest.min(u64::from(BATCH_PIECES * PIECE_SIZE));
        if length == 0 {
            return Ok(None);
        }
        memory.resize(usize::try_from(length).expect("a batch is a few MiB"), 0);
        self.file.read_at(first.start(), &mut memory).map_err(cut_short)?;
        Ok(Some(Batch { first, piece_count: self.piece_count(), bytes: memory }))
    }

    /// Checks that the file is still what it was when it was opened: to be asked after the last byte was read.
    pub fn check_unchanged(&self) -> Result<(), HashError> {
        if self.file.stat()?.stamp == self.stamp { Ok(()) } else { Err(HashError::Changed) }
    }
}

/// A file that ends before its size was made shorter meanwhile.
fn cut_short(error: io::Error) -> HashError {
    if error.kind() == io::ErrorKind::UnexpectedEof { HashError::Changed } else { error.into() }
}

/// Some pieces of a file, in order, in memory.
pub struct Batch {
    first: PieceIndex,
    piece_count: u32,
    bytes: Vec<u8>,
}

impl Batch {
    /// SHA-1 of its pieces, in order; takes that of the whole file further.
    pub fn sums(&self, whole: &mut FileHash) -> Vec<Sha1Hash> {
        let pieces: Vec<Vec<&[u8]>> = self.cut().map(|bytes| vec![bytes]).collect();
        Sha1Hash::of_each_beside(&pieces, whole, self.cut())
    }

    /// BLAKE3 of its pieces, in order.
    pub fn trees(&self) -> Vec<Blake3Hash> {
        let tree = |(index, bytes)| Blake3Hash::of_piece(PieceIndex(index), self.piece_count, [bytes]);
        (self.first.0..).zip(self.cut()).map(tree).collect()
    }

    fn cut(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(PIECE_SIZE as usize)
    }

    /// Bytes in it.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The piece after its last.
    pub fn next(&self) -> PieceIndex {
        PieceIndex(self.first.0 + piece_count(self.size()))
    }

    /// Its memory, for another batch.
    pub fn into_memory(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{protocol::hash::PieceHash, store::disk::SystemDisk};

    #[test]
    fn batch_by_batch_the_hashes_are_those_of_the_whole_content() {
        let content: Vec<u8> = (0..=250).cycle().take((17 * PIECE_SIZE + 77) as usize).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        SystemDisk.open(&path, OpenMode::CreateNew).unwrap().write_at(0, &content).unwrap();
        let source = Source::open(&SystemDisk, &path).unwrap();
        let (mut whole, mut pieces, mut at) = (FileHash::default(), Vec::new(), PieceIndex(0));
        while let Some(batch) = source.read(at, Vec::new()).unwrap() {
            at = batch.next();
            let sums = batch.sums(&mut whole);
            pieces.extend(sums.into_iter().zip(batch.trees()).map(|(sha1, blake3)| PieceHash { sha1, blake3 }));
        }
        source.check_unchanged().unwrap();
        assert_eq!(whole.finish(), Sha1Hash::of([content.as_slice()]));
        let count = source.piece_count();
        let expected = (0..)
            .zip(content.chunks(PIECE_SIZE as usize))
            .map(|(index, bytes)| PieceHash::of(PieceIndex(index), count, [bytes]));
        assert_eq!(pieces, expected.collect::<Vec<_>>());
    }
}
