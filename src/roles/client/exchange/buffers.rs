//! Pieces on their way, in memory until they are whole.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::protocol::piece::{Block, PieceIndex};

/// The received blocks of a download's open pieces.
#[derive(Default)]
pub(super) struct Buffers(BTreeMap<PieceIndex, BTreeMap<u32, Bytes>>);

impl Buffers {
    /// Keeps a block. It takes the place of one that came before: what a banned peer sent is asked for again, and its bytes
    /// may still be here.
    pub(super) fn keep(&mut self, block: Block, bytes: Bytes) {
        self.0.entry(block.piece).or_default().insert(block.offset, bytes);
    }

    /// Takes a piece out: its blocks, in order.
    pub(super) fn take(&mut self, piece: PieceIndex) -> Vec<Bytes> {
        self.0.remove(&piece).unwrap_or_default().into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::piece::BLOCK_SIZE;

    #[test]
    fn a_block_that_comes_again_takes_the_place_of_the_disowned_one() {
        let mut buffers = Buffers::default();
        let block = |index| Block { piece: PieceIndex(3), offset: index * BLOCK_SIZE, length: 4 };
        buffers.keep(block(1), Bytes::from_static(b"lie!"));
        buffers.keep(block(0), Bytes::from_static(b"true"));
        buffers.keep(block(1), Bytes::from_static(b"also"));
        assert_eq!(buffers.take(PieceIndex(3)), [Bytes::from_static(b"true"), Bytes::from_static(b"also")]);
        assert_eq!(buffers.take(PieceIndex(3)), Vec::<Bytes>::new());
    }
}
