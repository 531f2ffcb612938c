//! A digest of a set of facts that is kept up to date fact by fact, whatever their order.

use twox_hash::XxHash3_128;

use crate::protocol::{hash::Blake3Hash, ids::hash_parts, version::VersionVector};

/// Bytes of a fact that are put together without an allocation.
const FEW: usize = 384;

/// The sum of the hashes of all facts that hold (a multiset hash of the additive kind, Clarke et al. 2003). It finds what a bug or a
/// lost message left behind, and no attack: trackers do not attack each other. So the hashes need not be cryptographic, and a start,
/// which takes millions, does not wait for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(u128);

impl Fingerprint {
    /// Counts a fact in.
    pub(super) fn add(&mut self, fact: Fact) {
        self.0 = self.0.wrapping_add(fact.0);
    }

    /// Counts all in that was counted elsewhere.
    pub(super) fn join(&mut self, other: Self) {
        self.add(Fact(other.0));
    }

    /// Counts a fact in that holds now, or out that was counted in.
    pub(super) fn set(&mut self, holds: bool, fact: Fact) {
        if holds {
            self.add(fact);
        } else {
            self.0 = self.0.wrapping_sub(fact.0);
        }
    }

    /// The digest of all facts that hold, and of all changes known.
    pub(super) fn digest(&self, vector: &VersionVector) -> Blake3Hash {
        let known: Vec<u8> =
            vector.iter().flat_map(|dot| [dot.origin.0.as_slice(), &dot.counter.to_le_bytes()].concat()).collect();
        Blake3Hash(hash_parts("p2p 2026 catalog digest", &[&self.0.to_le_bytes(), &known]))
    }
}

/// Something that holds, as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fact(u128);

impl Fact {
    /// What these parts say.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let length = parts.iter().map(|part| size_of::<u64>() + part.len()).sum();
        let (mut few, mut many) = ([0; FEW], Vec::new());
        let joined = few.get_mut(..length).unwrap_or_else(|| {
            many.resize(length, 0);
            &mut many
        });
        let mut rest = &mut *joined;
        for part in parts {
            rest = put(rest, &(part.len() as u64).to_le_bytes());
            rest = put(rest, part);
        }
        Self(XxHash3_128::oneshot(joined))
    }
}

/// Puts a part first; returns the place after it.
fn put<'a>(place: &'a mut [u8], part: &[u8]) -> &'a mut [u8] {
    let (first, rest) = place.split_at_mut(part.len());
    first.copy_from_slice(part);
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn facts_differ_where_their_parts_do(
            one in prop::collection::vec(prop::collection::vec(0u8..2, 0..200), 0..4),
            other in prop::collection::vec(prop::collection::vec(0u8..2, 0..200), 0..4),
        ) {
            let of = |parts: &Vec<Vec<u8>>| Fact::of(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(of(&one) == of(&other), one == other);
        }

        #[test]
        fn what_is_counted_out_leaves_nothing_behind(parts in prop::collection::vec(any::<[u8; 8]>(), 1..20), cut in 0usize..20) {
            let sum = |parts: &[[u8; 8]]| {
                let mut sum = Fingerprint::default();
                for part in parts {
                    sum.add(Fact::of(&[part]));
                }
                sum
            };
            let (some, others) = parts.split_at(cut.min(parts.len()));
            let mut all = sum(&parts);
            prop_assert_eq!(sum(&[others, some].concat()), all);
            for part in some {
                all.set(false, Fact::of(&[part]));
            }
            prop_assert_eq!(all, sum(others));
        }
    }
}
