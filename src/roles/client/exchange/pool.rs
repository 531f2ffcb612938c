//! Memory of pieces that were served, for the next ones: new memory is handed out page by page and cleared, which costs about as
//! much as the read itself.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces whose memory is remembered.
const LENT: usize = 8;

/// What was lent, oldest first. It comes back by itself, when the last block of a piece has gone out.
#[derive(Default)]
pub(super) struct Pool {
    lent: VecDeque<Bytes>,
}

impl Pool {
    /// Memory of a piece that nobody reads any more, with its old content; empty where there is none.
    pub(super) fn take(&mut self) -> BytesMut {
        let free = self.lent.iter().position(Bytes::is_unique);
        free.and_then(|at| self.lent.remove(at)).and_then(|bytes| bytes.try_into_mut().ok()).unwrap_or_default()
    }

    /// Remembers the memory of a piece that is read from now on.
    pub(super) fn lend(&mut self, piece: &Bytes) {
        if self.lent.len() == LENT {
            self.lent.pop_front();
        }
        self.lent.push_back(piece.clone());
    }

    /// Gives all of it back to the system.
    pub(super) fn clear(&mut self) {
        self.lent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_its_last_reader_is_gone() {
        let mut pool = Pool::default();
        assert!(pool.take().is_empty());
        let piece = Bytes::from(vec![7; 100]);
        let (block, at) = (piece.slice(10..20), piece.as_ptr());
        pool.lend(&piece);
        drop(piece);
        assert!(pool.take().is_empty());
        drop(block);
        let memory = pool.take();
        assert_eq!((memory.as_ptr(), memory.len()), (at, 100));
        assert!(pool.take().is_empty());
    }

    #[test]
    fn only_so_much_is_remembered() {
        let mut pool = Pool::default();
        (0..=LENT).for_each(|_| pool.lend(&Bytes::from(vec![7; 100])));
        assert_eq!((0..=LENT).filter(|_| !pool.take().is_empty()).count(), LENT);
    }
}
