//! A digest of a set of facts that is kept up to date fact by fact, whatever their order.

use crate::protocol::{
    hash::Blake3Hash,
    ids::{Context, hash_parts},
    version::VersionVector,
};

/// The sum of the hashes of all facts that hold, lane by lane and without carry between lanes (the additive form of
/// `LtHash`, Bellare and Micciancio 1997). It finds what a bug or a lost message left behind; trackers do not attack each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint([u64; 4]);

impl Fingerprint {
    /// Counts a fact in.
    pub(super) fn add(&mut self, fact: &Fact) {
        for (sum, lane) in self.0.iter_mut().zip(fact.0) {
            *sum = sum.wrapping_add(lane);
        }
    }

    /// All facts of both.
    pub(super) fn with(mut self, other: &Self) -> Self {
        self.add(&Fact(other.0));
        self
    }

    /// Counts a fact in that holds now, or out that was counted in.
    pub(super) fn set(&mut self, holds: bool, fact: &Fact) {
        if holds {
            self.add(fact);
        } else {
            self.remove(fact);
        }
    }

    fn remove(&mut self, fact: &Fact) {
        for (sum, lane) in self.0.iter_mut().zip(fact.0) {
            *sum = sum.wrapping_sub(lane);
        }
    }

    /// The digest of all facts that hold, and of all changes known.
    pub(super) fn digest(&self, vector: &VersionVector) -> Blake3Hash {
        let lanes: Vec<u8> = self.0.iter().flat_map(|lane| lane.to_le_bytes()).collect();
        let known: Vec<u8> =
            vector.iter().flat_map(|dot| [dot.origin.0.as_slice(), &dot.counter.to_le_bytes()].concat()).collect();
        Blake3Hash(hash_parts("p2p 2026 catalog digest", &[&lanes, &known]))
    }
}

/// Something that holds, as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fact([u64; 4]);

impl Fact {
    /// What these parts say.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        static CONTEXT: Context = Context::new("p2p 2026 catalog fact");
        let mut hashing = CONTEXT.begin();
        for part in parts {
            hashing.add(&(part.len() as u64).to_le_bytes());
            hashing.add(part);
        }
        let hash = hashing.finish();
        Self(std::array::from_fn(|lane| u64::from_le_bytes(std::array::from_fn(|byte| hash[lane * 8 + byte]))))
    }
}
