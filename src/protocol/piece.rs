//! Geometry of pieces and blocks: which bytes of a file a piece or block covers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes in every piece but the last.
pub const PIECE_SIZE: u32 = 512 * 1024;

/// Bytes in every block but the last of a piece: the unit of one request.
pub const BLOCK_SIZE: u32 = 128 * 1024;

/// Largest file, in bytes (2 TiB): 4 Mi pieces.
pub const MAX_FILE_SIZE: u64 = 1 << 41;

/// Position of a piece in its file, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PieceIndex(pub u32);

impl PieceIndex {
    /// Byte at which this piece begins in its file.
    pub fn start(self) -> u64 {
        u64::from(self.0) * u64::from(PIECE_SIZE)
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A part of one piece that is asked for, sent and received at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Block {
    /// The piece it belongs to.
    pub piece: PieceIndex,
    /// Bytes from the piece's start.
    pub offset: u32,
    /// Bytes in this block; never 0.
    pub length: u32,
}

/// Number of pieces in a file of `size` bytes; an empty file has none.
pub fn piece_count(size: u64) -> u32 {
    u32::try_from(size.div_ceil(u64::from(PIECE_SIZE))).unwrap_or(u32::MAX)
}

/// Bytes in piece `index` of a file of `size` bytes; 0 past its end.
pub fn piece_length(size: u64, index: PieceIndex) -> u32 {
    let rest = size.saturating_sub(index.start());
    u32::try_from(rest.min(u64::from(PIECE_SIZE))).unwrap_or(PIECE_SIZE)
}

/// The blocks of a piece in order, given the piece's length in bytes.
pub fn blocks(piece: PieceIndex, piece_length: u32) -> impl Iterator<Item = Block> {
    (0..piece_length).step_by(BLOCK_SIZE as usize).map(move |offset| Block {
        piece,
        offset,
        length: BLOCK_SIZE.min(piece_length - offset),
    })
}

/// Whether `block` lies inside its piece in a file of `size` bytes.
pub fn is_valid_block(size: u64, block: Block) -> bool {
    let end = u64::from(block.offset) + u64::from(block.length);
    block.length > 0 && block.length <= BLOCK_SIZE && end <= u64::from(piece_length(size, block.piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_file_exactly() {
        let piece = u64::from(PIECE_SIZE);
        for size in [0, 1, piece - 1, piece, piece + 1, 3 * piece, MAX_FILE_SIZE] {
            let count = piece_count(size);
            let last = count
                .checked_sub(1)
                .map_or(0, |last| PieceIndex(last).start() + u64::from(piece_length(size, PieceIndex(last))));
            assert_eq!(last, size);
            assert_eq!(piece_length(size, PieceIndex(count)), 0);
        }
    }

    #[test]
    fn blocks_cover_the_piece_exactly() {
        for length in [1, BLOCK_SIZE, BLOCK_SIZE + 1, PIECE_SIZE - 1, PIECE_SIZE] {
            let total: u32 = blocks(PieceIndex(3), length).map(|block| block.length).sum();
            assert_eq!(total, length);
            assert!(blocks(PieceIndex(0), length).all(|block| is_valid_block(u64::from(length), block)));
        }
    }

    #[test]
    fn a_block_outside_its_piece_is_invalid() {
        let block = Block { piece: PieceIndex(0), offset: u32::MAX, length: BLOCK_SIZE };
        assert!(!is_valid_block(1 << 30, block));
        assert!(!is_valid_block(1 << 30, Block { offset: 0, length: 0, ..block }));
        assert!(!is_valid_block(10, Block { offset: 0, length: 11, ..block }));
    }
}
