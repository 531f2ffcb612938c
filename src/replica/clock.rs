//! The hybrid logical clock (Kulkarni et al. 2014) over an injected wall clock.

use std::time::Duration;

use crate::protocol::version::Timestamp;

/// How far ahead of this machine's wall clock a stamp from another tracker may pull the clock.
pub const MAX_CLOCK_LEAD: Duration = Duration::from_mins(1);

/// Draws stamps that grow from one to the next, and beyond every stamp observed as long as that is believable.
#[derive(Clone, Copy, Debug, Default)]
pub struct HybridClock {
    last: Timestamp,
}

/// What came of observing a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The clock is at the stamp or beyond.
    Followed,
    /// The stamp leads the wall clock by so many milliseconds, more than [`MAX_CLOCK_LEAD`]: the clock went only as far as
    /// that. To be reported.
    Clamped {
        /// The stamp minus the wall clock, in milliseconds.
        lead_ms: u64,
    },
}

impl HybridClock {
    /// Draws the next stamp, at `wall_now_ms` since the Unix epoch or later.
    pub fn tick(&mut self, wall_now_ms: u64) -> Timestamp {
        self.last = successor(self.last).max(Timestamp { wall_ms: wall_now_ms, logical: 0 });
        self.last
    }

    /// Draws the next stamp for a change that must come after `after`, the stamps of what it rests on or replaces.
    ///
    /// Where `after` is too far ahead to be believed, only this stamp goes beyond it and the clock stays behind.
    pub fn tick_after(&mut self, after: Timestamp, wall_now_ms: u64) -> Timestamp {
        self.observe(after, wall_now_ms);
        self.tick(wall_now_ms).max(successor(after))
    }

    /// Takes note of a stamp drawn elsewhere.
    pub fn observe(&mut self, stamp: Timestamp, wall_now_ms: u64) -> Observed {
        let lead_ms = stamp.wall_ms.saturating_sub(wall_now_ms);
        let most_ms = u64::try_from(MAX_CLOCK_LEAD.as_millis()).unwrap_or(u64::MAX);
        if lead_ms <= most_ms {
            self.last = self.last.max(stamp);
            return Observed::Followed;
        }
        self.last = self.last.max(Timestamp { wall_ms: wall_now_ms.saturating_add(most_ms), logical: 0 });
        Observed::Clamped { lead_ms }
    }
}

fn successor(stamp: Timestamp) -> Timestamp {
    match stamp.logical.checked_add(1) {
        Some(logical) => Timestamp { wall_ms: stamp.wall_ms, logical },
        None => Timestamp { wall_ms: stamp.wall_ms.saturating_add(1), logical: 0 },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(wall_ms: u64) -> Timestamp {
        Timestamp { wall_ms, logical: 0 }
    }

    proptest! {
        #[test]
        fn stamps_grow_whatever_the_wall_clock_does(walls in prop::collection::vec(0u64..100, 1..50)) {
            let mut clock = HybridClock::default();
            let stamps: Vec<_> = walls.iter().map(|&wall| clock.tick(wall)).collect();
            prop_assert!(stamps.is_sorted_by(|a, b| a < b));
            prop_assert!(stamps.iter().zip(&walls).all(|(stamp, &wall)| stamp.wall_ms >= wall));
        }

        #[test]
        fn a_stamp_comes_after_what_it_rests_on(after in 0u64..10_000_000, wall in 0u64..10_000_000) {
            prop_assert!(HybridClock::default().tick_after(at(after), wall) > at(after));
        }
    }

    #[test]
    fn a_stamp_from_the_future_does_not_drag_the_clock() {
        let mut clock = HybridClock::default();
        assert_eq!(clock.observe(at(61_000), 1_000), Observed::Followed);
        assert_eq!(clock.observe(at(9_000_000), 2_000), Observed::Clamped { lead_ms: 8_998_000 });
        assert_eq!(clock.tick(2_000), Timestamp { wall_ms: 62_000, logical: 1 });
        assert!(clock.tick_after(at(9_000_000), 2_000) > at(9_000_000));
        assert_eq!(clock.tick(2_000).wall_ms, 62_000);
        assert_eq!(clock.tick(70_000), at(70_000));
    }
}
