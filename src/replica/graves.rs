//! Tombstones: how long a request is remembered of which nothing else is left.
//!
//! A repeat must be known as one for as long as a client may send it, which is a minute at most; a peer that missed the end
//! of a membership may ask about it for as long as a ticket lives, ten minutes. An hour covers both, and a machine that slept.
//! It is counted from when the record was dropped here, or from the start of the program, by a clock that nobody sets. And
//! whoever still has the record must not merge a late repeat with it while others make a new one: so a tombstone stays until
//! every listed tracker has dropped the record too.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::protocol::{ids::RequestId, version::VersionVector};

/// How long a repeat is known as one after its record is dropped.
pub const REPEAT_WINDOW: Duration = Duration::from_hours(1);
/// Tombstones of so long a time go together.
const BATCH: Duration = Duration::from_mins(1);

/// All tombstones, by age.
#[derive(Clone, Debug, Default)]
pub struct Graves {
    batches: VecDeque<Batch>,
}

#[derive(Clone, Debug)]
struct Batch {
    first: Instant,
    last: Instant,
    /// What the records were dropped under.
    cut: VersionVector,
    requests: Vec<RequestId>,
}

impl Graves {
    /// These requests were dropped under `cut`.
    pub fn dig(&mut self, now: Instant, cut: &VersionVector, requests: impl IntoIterator<Item = RequestId>) {
        let requests: Vec<_> = requests.into_iter().collect();
        if requests.is_empty() {
            return;
        }
        match self.batches.back_mut().filter(|batch| now.saturating_duration_since(batch.first) < BATCH) {
            Some(batch) => {
                batch.last = now;
                batch.cut.merge(cut);
                batch.requests.extend(requests);
            }
            None => self.batches.push_back(Batch { first: now, last: now, cut: cut.clone(), requests }),
        }
    }

    /// Takes out the requests that need not be remembered any more, where every tracker has dropped all that can be of `folded`.
    pub fn level(&mut self, now: Instant, folded: &VersionVector) -> Vec<RequestId> {
        let is_over = |batch: &mut Batch| {
            now.saturating_duration_since(batch.last) >= REPEAT_WINDOW && folded.includes(&batch.cut)
        };
        let mut over = Vec::new();
        while let Some(batch) = self.batches.pop_front_if(is_over) {
            over.extend(batch.requests);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ids::DeviceKey, version::Dot};

    fn vector(counter: u64) -> VersionVector {
        let mut vector = VersionVector::default();
        vector.insert(Dot { origin: DeviceKey([1; 32]), counter });
        vector
    }

    #[test]
    fn a_request_is_remembered_for_an_hour_and_until_all_have_dropped_it() {
        let (mut graves, start) = (Graves::default(), tokio::time::Instant::now().into_std());
        let [one, two] = [RequestId([1; 32]), RequestId([2; 32])];
        graves.dig(start, &vector(1), [one]);
        graves.dig(start + 2 * BATCH, &vector(5), [two]);
        assert_eq!(graves.level(start + BATCH, &vector(9)), []);
        assert_eq!(graves.level(start + REPEAT_WINDOW, &vector(0)), []);
        assert_eq!(graves.level(start + REPEAT_WINDOW, &vector(1)), [one]);
        assert_eq!(graves.level(start + 2 * REPEAT_WINDOW, &vector(4)), []);
        assert_eq!(graves.level(start + 2 * REPEAT_WINDOW, &vector(5)), [two]);
    }
}
