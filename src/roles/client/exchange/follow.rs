//! The whole file's SHA-1, which follows the pieces in file order.

use std::{collections::BTreeMap, io};

use bytes::Bytes;

use crate::{
    protocol::{bitfield::Bitfield, piece::PieceIndex},
    store::hasher::FileHash,
};

/// Verified pieces kept in memory for the whole file's hash, counted from the first it lacks.
const AHEAD: u32 = 16;
/// Pieces hashed into the whole file's hash at once.
const STRIDE: u32 = 16;

/// How far the whole file's hash has come.
pub(super) type Followed = io::Result<(FileHash, u32)>;

/// The whole file's SHA-1, in file order behind the pieces.
pub(super) struct Follow {
    /// `None` while a job has it.
    pub(super) hash: Option<FileHash>,
    /// First piece it lacks.
    pub(super) next: u32,
    /// Pieces soon to come, so that they need not be read again.
    kept: BTreeMap<u32, Vec<Bytes>>,
}

impl Default for Follow {
    fn default() -> Self {
        Self { hash: Some(FileHash::default()), next: 0, kept: BTreeMap::new() }
    }
}

impl Follow {
    /// Keeps a verified piece that will soon be its turn.
    pub(super) fn keep(&mut self, piece: PieceIndex, parts: Vec<Bytes>) {
        if (self.next..self.next + AHEAD).contains(&piece.0) {
            self.kept.insert(piece.0, parts);
        }
    }

    /// The next pieces in order that are there, to be hashed by a job; `None` when there are none or a job is at it.
    #[expect(clippy::type_complexity, reason = "a piece and, when it is still in memory, its bytes")]
    pub(super) fn take(&mut self, have: &Bitfield) -> Option<(FileHash, Vec<(PieceIndex, Option<Vec<Bytes>>)>)> {
        let there = (self.next..self.next + STRIDE).map(PieceIndex).take_while(|piece| have.has(*piece));
        let pieces: Vec<PieceIndex> = there.collect();
        let hash = if pieces.is_empty() { None } else { self.hash.take() }?;
        Some((hash, pieces.into_iter().map(|piece| (piece, self.kept.remove(&piece.0))).collect()))
    }
}
