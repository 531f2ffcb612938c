//! Pieces in memory that peers ask for next: those that were read for the first of their blocks, and those that came just now.

use std::{
    collections::{BTreeMap, VecDeque},
    slice,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::protocol::{
    ids::FileId,
    piece::{Block, PieceIndex},
};

/// How long a piece once read may serve further requests without another look at the file.
const FRESH: Duration = Duration::from_millis(100);
/// Pieces kept that were read.
const READ: usize = 8;
/// Pieces kept that were received and verified: what is new is rare, so others ask for it first.
const RECEIVED: usize = 12;
/// How long those stay where no others come.
const NEW: Duration = Duration::from_secs(1);

/// A piece of a file.
type Key = (FileId, PieceIndex);

/// The bytes of a piece, in the blocks they came in.
pub(super) type Parts = Vec<Bytes>;

/// What is kept, bounded by number and by time.
#[derive(Default)]
pub(super) struct Kept {
    read: BTreeMap<Key, (Instant, Bytes)>,
    received: VecDeque<(Instant, Key, Parts)>,
}

impl Kept {
    /// Keeps a piece that was read from its file.
    pub(super) fn read(&mut self, now: Instant, key: Key, bytes: Bytes) {
        self.read.retain(|_, (read, _)| is_within(FRESH, *read, now));
        if self.read.len() < READ {
            self.read.insert(key, (now, bytes));
        }
    }

    /// Keeps a piece that was received, verified and written.
    pub(super) fn received(&mut self, now: Instant, key: Key, parts: Parts) {
        self.drop_old(now);
        if self.received.len() == RECEIVED {
            self.received.pop_front();
        }
        self.received.push_back((now, key, parts));
    }

    /// Drops received pieces that have been here for long.
    pub(super) fn drop_old(&mut self, now: Instant) {
        self.received.retain(|(received, ..)| is_within(NEW, *received, now));
    }

    /// A block of a piece that is kept.
    pub(super) fn block(&self, now: Instant, file: FileId, block: Block) -> Option<Bytes> {
        let key = (file, block.piece);
        let read = self.read.get(&key).filter(|(read, _)| is_within(FRESH, *read, now));
        let received = || self.received.iter().rev().find(|(_, received, _)| *received == key);
        match read {
            Some((_, bytes)) => cut(slice::from_ref(bytes), block),
            None => received().and_then(|(.., parts)| cut(parts, block)),
        }
    }

    /// Forgets all of a file.
    pub(super) fn forget(&mut self, file: FileId) {
        self.read.retain(|(kept, _), _| *kept != file);
        self.received.retain(|(_, (kept, _), _)| *kept != file);
    }
}

fn is_within(duration: Duration, since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < duration
}

/// A block of a piece, if it lies in one of its parts.
fn cut(parts: &[Bytes], block: Block) -> Option<Bytes> {
    let (mut begin, length) = (block.offset as usize, block.length as usize);
    for part in parts {
        if begin < part.len() {
            return (begin + length <= part.len()).then(|| part.slice(begin..begin + length));
        }
        begin -= part.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId([1; 32]);

    fn block(piece: u32, offset: u32, length: u32) -> Block {
        Block { piece: PieceIndex(piece), offset, length }
    }

    fn key(piece: u32) -> Key {
        (FILE, PieceIndex(piece))
    }

    fn parts() -> Parts {
        vec![Bytes::from_static(b"0123"), Bytes::from_static(b"45")]
    }

    #[test]
    fn a_block_is_cut_out_of_the_part_that_has_it() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        kept.received(now, key(0), parts());
        kept.read(now, key(1), Bytes::from_static(b"abcdef"));
        let found = |piece, offset, length| kept.block(now, FILE, block(piece, offset, length));
        assert_eq!(found(0, 1, 2).as_deref(), Some(&b"12"[..]));
        assert_eq!(found(0, 4, 2).as_deref(), Some(&b"45"[..]));
        assert_eq!(found(1, 2, 4).as_deref(), Some(&b"cdef"[..]));
        assert_eq!([found(0, 3, 2), found(0, 4, 3), found(0, 6, 1), found(2, 0, 1)], [None, None, None, None]);
        assert_eq!(kept.block(now, FileId([2; 32]), block(0, 0, 1)), None);
    }

    #[test]
    fn what_is_old_or_of_a_file_that_ended_is_not_kept() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        kept.received(now, key(0), parts());
        kept.read(now, key(1), Bytes::from_static(b"abcdef"));
        assert_eq!(kept.block(now + FRESH, FILE, block(1, 0, 1)), None);
        kept.drop_old(now + NEW / 2);
        assert!(kept.block(now, FILE, block(0, 0, 1)).is_some());
        kept.drop_old(now + NEW);
        assert_eq!(kept.block(now, FILE, block(0, 0, 1)), None);
        kept.received(now, key(0), parts());
        kept.forget(FILE);
        assert_eq!([0, 1].map(|piece| kept.block(now, FILE, block(piece, 0, 1))), [None, None]);
    }

    #[test]
    fn the_newest_are_kept() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        let count = u32::try_from(RECEIVED).unwrap() + 3;
        (0..count).for_each(|piece| kept.received(now, key(piece), parts()));
        let is_kept = |piece: &u32| kept.block(now, FILE, block(*piece, 0, 1)).is_some();
        assert!((0..count).filter(is_kept).eq(3..count));
    }
}
