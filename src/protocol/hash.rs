//! SHA-1 and BLAKE3 values of files and pieces, and how they are computed from bytes.

use std::fmt;

use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};
use sha1::Digest as _;

use super::piece::PieceIndex;

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
        let mut sha1 = sha1::Sha1::new();
        let mut blake3 = blake3::Hasher::new();
        if piece_count > 1 {
            blake3.set_input_offset(index.start());
        }
        for part in data {
            sha1.update(part);
            blake3.update(part);
        }
        let blake3 = if piece_count > 1 { blake3.finalize_non_root() } else { *blake3.finalize().as_bytes() };
        Self { sha1: Sha1Hash(sha1.finalize().into()), blake3: Blake3Hash(blake3) }
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
        }
    }

    #[test]
    fn the_hash_string_joins_twenty_hex_characters_a_piece() {
        let pieces = [PieceHash::of(PieceIndex(0), 1, [b"abc".as_slice()])];
        assert_eq!(hash_string(&pieces), "a9993e364706816aba3e");
    }
}
