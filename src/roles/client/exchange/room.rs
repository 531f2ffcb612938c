//! The memory that all downloads share: so many pieces, however many downloads there are.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How many pieces all downloads hold together. Every copy is the same one.
#[derive(Clone, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

/// What one download holds of them, until it is dropped.
pub(super) struct Held {
    room: Room,
    own: usize,
}

impl Room {
    /// One more download, which holds nothing yet.
    pub(super) fn enter(&self) -> Held {
        Held { room: self.clone(), own: 0 }
    }
}

impl Held {
    /// It holds so many now.
    pub(super) fn set(&mut self, own: usize) {
        let Room(all) = &self.room;
        // Only the hub counts, so that no order of memory matters.
        all.fetch_add(own, Ordering::Relaxed);
        all.fetch_sub(self.own, Ordering::Relaxed);
        self.own = own;
    }

    /// What it may hold of `all` pieces, beside what the others do.
    pub(super) fn left_of(&self, all: usize) -> usize {
        let others = self.room.0.load(Ordering::Relaxed) - self.own;
        all.saturating_sub(others)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_may_hold_what_the_others_leave() {
        let room = Room::default();
        let (mut one, mut two) = (room.enter(), room.enter());
        one.set(5);
        two.set(2);
        assert_eq!((one.left_of(8), two.left_of(8)), (6, 3));
        two.set(9);
        assert_eq!((one.left_of(8), two.left_of(8)), (0, 3));
        drop(one);
        assert_eq!((two.left_of(8), room.enter().left_of(8)), (8, 0));
    }
}
