//! Causality: dots, version vectors, and the timestamps of the hybrid logical clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::DeviceKey;

/// Names one change: the tracker that took it, and that tracker's counter, from 1 without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// The tracker that took the change, by its device key: a tracker that lost its disk comes back as another origin.
    pub origin: DeviceKey,
    /// Counter of the change at its origin, from 1.
    pub counter: u64,
}

/// Stamp of the hybrid logical clock (Kulkarni et al. 2014): physical milliseconds, then a counter that keeps order within one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// Order within one millisecond.
    pub logical: u32,
}

/// Highest counter known per origin: all that a replica knows, since changes of one origin are applied in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionVector(BTreeMap<DeviceKey, u64>);

impl VersionVector {
    /// Highest counter known of `origin`; 0 when none is.
    pub fn counter(&self, origin: &DeviceKey) -> u64 {
        self.0.get(origin).copied().unwrap_or(0)
    }

    /// Whether the change named by `dot` is known.
    pub fn contains(&self, dot: &Dot) -> bool {
        dot.counter <= self.counter(&dot.origin)
    }

    /// Whether everything that `other` knows is known here too.
    pub fn includes(&self, other: &Self) -> bool {
        other.0.iter().all(|(origin, counter)| *counter <= self.counter(origin))
    }

    /// Raises the counter of the dot's origin to the dot's.
    pub fn insert(&mut self, dot: Dot) {
        let counter = self.0.entry(dot.origin).or_default();
        *counter = (*counter).max(dot.counter);
    }

    /// The least vector that includes both.
    pub fn merge(&mut self, other: &Self) {
        for (&origin, &counter) in &other.0 {
            self.insert(Dot { origin, counter });
        }
    }

    /// The greatest vector that both include.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let common = self.0.iter().map(|(&origin, &counter)| (origin, counter.min(other.counter(&origin))));
        Self(common.filter(|(_, counter)| *counter > 0).collect())
    }

    /// Number of changes known here that `other` lacks.
    pub fn ahead_of(&self, other: &Self) -> u64 {
        self.0.iter().map(|(origin, counter)| counter.saturating_sub(other.counter(origin))).sum()
    }

    /// Origins and their counters, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = Dot> + '_ {
        self.0.iter().map(|(&origin, &counter)| Dot { origin, counter })
    }

    /// Number of origins.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector() -> impl Strategy<Value = VersionVector> {
        prop::collection::btree_map((0u8..4).prop_map(|n| DeviceKey([n; 32])), 1u64..9, 0..4).prop_map(VersionVector)
    }

    fn merged(a: &VersionVector, b: &VersionVector) -> VersionVector {
        let mut out = a.clone();
        out.merge(b);
        out
    }

    proptest! {
        #[test]
        fn merge_is_a_join(a in vector(), b in vector(), c in vector()) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert!(merged(&a, &b).includes(&a));
            prop_assert_eq!(a.ahead_of(&b) == 0, b.includes(&a));
            prop_assert_eq!(a.meet(&b), b.meet(&a));
            prop_assert!(a.includes(&a.meet(&b)) && b.includes(&a.meet(&b)));
            prop_assert_eq!(a.meet(&merged(&a, &b)), a);
        }
    }
}
