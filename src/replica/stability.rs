//! Causal stability: what every listed tracker is known to have made durable, so that its past may be forgotten.
//!
//! A tracker decides on a write knowing all that it has confirmed before, and confirms a change of its own before, or together
//! with, whatever it learned after making it. So once this tracker knows all that each listed one has confirmed, every change
//! yet to arrive was made by somebody who knew the *stable cut*, the least of those vectors. Nothing yet to arrive can be
//! concurrent with what lies under the cut.
//!
//! Nothing of this is stored: after a restart all of it is heard again, and until then nothing is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{
    ids::DeviceKey,
    version::{Dot, VersionVector},
};

/// What is known of the other trackers, by their keys. Keys of trackers that are not listed do no harm: nobody asks for them.
#[derive(Clone, Debug, Default)]
pub struct Stability {
    others: BTreeMap<DeviceKey, Knowledge>,
}

#[derive(Clone, Debug, Default)]
struct Knowledge {
    /// Confirmed by it, and all known here.
    confirmed: VersionVector,
    /// Confirmed by it, and not all known here when it was heard. Kept until it is, so that under load one is reached.
    ahead: Option<VersionVector>,
    /// What it has forgotten all that can be of.
    folded: VersionVector,
}

/// What may be forgotten: a stable vector, and what will never come.
#[derive(Clone, Debug)]
pub struct Cut {
    stable: VersionVector,
    /// Origins of which more may come: those that live, and those of the past whose changes are not all stable.
    open: BTreeSet<DeviceKey>,
}

impl Stability {
    /// A tracker has confirmed `vector`, said by itself or passed on.
    pub fn hear(&mut self, tracker: DeviceKey, vector: &VersionVector) {
        let known = self.others.entry(tracker).or_default();
        if known.ahead.is_none() && !known.confirmed.includes(vector) {
            known.ahead = Some(vector.clone());
        }
    }

    /// A tracker has said hello: this is all that it has, also when it had more before its disk was set back.
    pub fn greet(&mut self, tracker: DeviceKey, vector: &VersionVector) {
        let known = self.others.entry(tracker).or_default();
        known.confirmed = known.confirmed.meet(vector);
        known.ahead = Some(vector.clone());
    }

    /// A tracker has forgotten all that can be of `vector`, and that is durable.
    pub fn hear_folded(&mut self, tracker: DeviceKey, vector: &VersionVector) {
        self.others.entry(tracker).or_default().folded.merge(vector);
    }

    /// What is to be passed on: of each tracker, what it has confirmed and what it has forgotten.
    pub fn told(&self) -> impl Iterator<Item = (DeviceKey, &VersionVector, &VersionVector)> {
        self.others.iter().map(|(key, known)| (*key, &known.confirmed, &known.folded))
    }

    /// The stable cut of this tracker, which has `durable`, and of the other listed ones.
    pub fn cut(&mut self, own: DeviceKey, durable: &VersionVector, others: &BTreeSet<DeviceKey>) -> Cut {
        let mut stable = durable.clone();
        for other in others {
            let known = self.others.entry(*other).or_default();
            if let Some(ahead) = known.ahead.take_if(|ahead| durable.includes(ahead)) {
                known.confirmed.merge(&ahead);
            }
            stable = stable.meet(&known.confirmed);
        }
        let living = others.iter().copied().chain([own]).collect();
        Cut::new(stable, durable, living)
    }

    /// What every one of `others` has confirmed, but for changes that this tracker lacks.
    pub fn confirmed(&self, tracker: &DeviceKey) -> VersionVector {
        self.others.get(tracker).map(|known| known.confirmed.clone()).unwrap_or_default()
    }

    /// What this tracker, which has forgotten all that can be of `own`, and all others have forgotten.
    pub fn folded_everywhere(&self, own: &VersionVector, others: &BTreeSet<DeviceKey>) -> VersionVector {
        let of = |key| self.others.get(key).map(|known| &known.folded);
        others.iter().fold(own.clone(), |least, key| of(key).map_or_else(VersionVector::default, |one| least.meet(one)))
    }
}

impl Cut {
    /// A cut at `stable`, where `known` is known and only `living` can make changes.
    pub fn new(stable: VersionVector, known: &VersionVector, living: BTreeSet<DeviceKey>) -> Self {
        let mut open = living;
        open.extend(known.iter().filter(|newest| !stable.contains(newest)).map(|newest| newest.origin));
        Self { stable, open }
    }

    /// The stable vector.
    pub fn stable(&self) -> &VersionVector {
        &self.stable
    }

    /// Whether a change is stable, or was lost with its origin and will never come.
    pub fn covers(&self, dot: &Dot) -> bool {
        self.stable.contains(dot) || !self.open.contains(&dot.origin)
    }

    /// Whether all of a past is stable or will never come.
    pub fn covers_past(&self, past: &VersionVector) -> bool {
        past.iter().all(|newest| self.covers(&newest))
    }
}
