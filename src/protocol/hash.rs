//! SHA-1 and BLAKE3 values of files and pieces, and how they are computed from bytes.

use std::fmt;

use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

use super::{
    piece::PieceIndex,
    sha1_sum::{self, Sha1Sum},
};

/// A SHA-1 value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sha1Hash(#[serde(with = "serde_bytes")] pub [u8; 20]);

/// A BLAKE3 value: the root of a file, or the chaining value of a piece's subtree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Blake3Hash(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl fmt::Display for Sha1Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Sha1Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha1Hash({self})")
    }
}

impl fmt::Display for Blake3Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Blake3Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blake3Hash({self})")
    }
}

impl Sha1Hash {
    /// SHA-1 of bytes given in parts.
    pub fn of<'a>(data: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut whole = FileHash::default();
        data.into_iter().for_each(|part| whole.update(part));
        whole.finish()
    }

    /// Streams that cost least to sum at once.
    pub const TOGETHER: usize = sha1_sum::TOGETHER;

    /// SHA-1 of each of several, given in parts: for less than the cost of one after the other.
    pub fn of_each(all: &[Vec<&[u8]>]) -> Vec<Self> {
        sha1_sum::of_each(all).into_iter().map(Self).collect()
    }

    /// As [`Sha1Hash::of_each`], and takes `whole` further by `others` meanwhile: as much of that as all the others have together comes
    /// for little more than its own cost.
    pub fn of_each_beside<'a>(
        all: &[Vec<&[u8]>],
        whole: &mut FileHash,
        others: impl Iterator<Item = &'a [u8]>,
    ) -> Vec<Self> {
        sha1_sum::of_each_beside(all, &mut whole.0, others).into_iter().map(Self).collect()
    }
}

impl Blake3Hash {
    /// Value of piece `index` of a file that has `piece_count` pieces, its bytes given in parts.
    pub fn of_piece<'a>(index: PieceIndex, piece_count: u32, data: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = subtree_hasher(index, piece_count);
        data.into_iter().for_each(|part| {
            hasher.update(part);
        });
        subtree_value(&hasher, piece_count)
    }
}

/// Both hashes of one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceHash {
    /// SHA-1 of the piece's bytes.
    pub sha1: Sha1Hash,
    /// Chaining value of the piece as a subtree of the file's BLAKE3 tree; the root itself where the file is a single piece.
    pub blake3: Blake3Hash,
}

impl PieceHash {
    /// Bytes of one piece hash in a manifest page: 20 + 32.
    pub const ENCODED_SIZE: usize = 52;

    /// Hashes the bytes of piece `index` of a file that has `piece_count` pieces.
    ///
    /// `data` is given in parts so that received blocks need not be joined first.
    pub fn of<'a>(index: PieceIndex, piece_count: u32, data: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let (mut sha1, mut blake3) = (Sha1Sum::default(), subtree_hasher(index, piece_count));
        for part in data {
            sha1.update(part);
            blake3.update(part);
        }
        Self { sha1: Sha1Hash(sha1.finish()), blake3: subtree_value(&blake3, piece_count) }
    }
}

/// A hasher for a piece as a subtree of its file's BLAKE3 tree; for the file itself where the piece is all of it.
fn subtree_hasher(index: PieceIndex, piece_count: u32) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    if piece_count > 1 {
        hasher.set_input_offset(index.start());
    }
    hasher
}

fn subtree_value(hasher: &blake3::Hasher, piece_count: u32) -> Blake3Hash {
    Blake3Hash(if piece_count > 1 { hasher.finalize_non_root() } else { *hasher.finalize().as_bytes() })
}

/// SHA-1s of several pieces, fed side by side.
pub struct PieceSums(Vec<Sha1Sum>);

impl PieceSums {
    /// Of so many pieces.
    pub fn new(count: usize) -> Self {
        Self(vec![Sha1Sum::default(); count])
    }

    /// Goes on with what comes next of each piece, given in parts, and takes `whole` further by `others` meanwhile, as
    /// [`Sha1Hash::of_each_beside`] does.
    pub fn update_beside<'a>(
        &mut self,
        each: &[Vec<&[u8]>],
        whole: &mut FileHash,
        others: impl Iterator<Item = &'a [u8]>,
    ) {
        sha1_sum::update_each_beside(&mut self.0, each, &mut whole.0, others);
    }

    /// The values, when all was fed.
    pub fn finish(self) -> impl Iterator<Item = Sha1Hash> {
        self.0.into_iter().map(|sum| Sha1Hash(sum.finish()))
    }
}

/// SHA-1 of a whole file, fed in file order.
#[derive(Clone, Default)]
pub struct FileHash(Sha1Sum);

impl FileHash {
    /// Goes on with some bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The value, when all was fed.
    pub fn finish(self) -> Sha1Hash {
        Sha1Hash(self.0.finish())
    }
}

/// BLAKE3 of a whole file from the values of its pieces in order (the BLAKE3 paper, section 2.1: the left subtree is the
/// largest power of two that leaves something for the right).
pub fn blake3_root(pieces: &[PieceHash]) -> Blake3Hash {
    match pieces {
        [] => Blake3Hash(*blake3::hash(&[]).as_bytes()),
        [only] => only.blake3,
        _ => {
            let (left, right) = pieces.split_at(left_subtree(pieces.len()));
            Blake3Hash(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes())
        }
    }
}

fn subtree(pieces: &[PieceHash]) -> [u8; 32] {
    if let [only] = pieces {
        return only.blake3.0;
    }
    let (left, right) = pieces.split_at(left_subtree(pieces.len()));
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

fn left_subtree(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// The mission's hash string: the first 20 hex characters of each piece's SHA-1, joined.
pub fn hash_string(pieces: &[PieceHash]) -> String {
    pieces.iter().map(|piece| data_encoding::HEXLOWER.encode(&piece.sha1.0[..10])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::piece::PIECE_SIZE;

    #[test]
    fn the_root_follows_from_the_pieces() {
        let piece = PIECE_SIZE as usize;
        for size in [0, 1, piece - 1, piece, piece + 1, 2 * piece, 3 * piece, 5 * piece + 77, 8 * piece] {
            let data: Vec<u8> = (0..=250).cycle().take(size).collect();
            let count = u32::try_from(data.chunks(piece).count()).unwrap();
            let pieces: Vec<_> = data
                .chunks(piece)
                .zip(0..)
                .map(|(bytes, index)| PieceHash::of(PieceIndex(index), count, bytes.chunks(1000)))
                .collect();
            assert_eq!(blake3_root(&pieces).0, *blake3::hash(&data).as_bytes(), "{size} bytes");
            for ((bytes, index), piece) in data.chunks(piece).zip(0..).zip(&pieces) {
                assert_eq!(Blake3Hash::of_piece(PieceIndex(index), count, bytes.chunks(77)), piece.blake3);
                assert_eq!(Sha1Hash::of(bytes.chunks(77)), piece.sha1);
                let mut whole = FileHash::default();
                let beside = Sha1Hash::of_each_beside(&[bytes.chunks(77).collect()], &mut whole, bytes.chunks(1000));
                assert_eq!((beside, whole.finish()), (vec![piece.sha1], piece.sha1));
            }
        }
    }

    #[test]
    fn each_of_several_has_its_own_sum() {
        let data: Vec<u8> = (0..=250).cycle().take(40 * 1000).collect();
        for (count, last) in [(0, 0), (1, 1000), (2, 7), (7, 1000), (8, 1000), (16, 0), (17, 1000), (33, 999), (40, 64)]
        {
            let streams: Vec<&[u8]> =
                (0..count).map(|n| &data[n * 1000..][..if n + 1 == count { last } else { 1000 }]).collect();
            let parts: Vec<Vec<&[u8]>> =
                streams.iter().enumerate().map(|(n, stream)| stream.chunks(64 + 100 * n).collect()).collect();
            let expected: Vec<_> = streams.iter().map(|stream| Sha1Hash::of([*stream])).collect();
            assert_eq!(Sha1Hash::of_each(&parts), expected, "{count} streams, the last of {last} bytes");
        }
    }

    #[test]
    fn the_hash_string_joins_twenty_hex_characters_a_piece() {
        let pieces = [PieceHash::of(PieceIndex(0), 1, [b"abc".as_slice()])];
        assert_eq!(hash_string(&pieces), "a9993e364706816aba3e");
    }
}
