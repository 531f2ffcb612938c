//! Which changes are known, what their requests did, and what is to be looked at for something to forget.
//!
//! It says nothing of what the changes come to, so that a log can be taken note of on one thread while another merges it.

use std::collections::hash_map::Entry;

use super::{
    fold::{Touched, Trail},
    table::IdTable,
};
use crate::protocol::{
    ids::{FileId, RequestId},
    name::FileName,
    record::{Change, ChangeBody, Done, EndReason, Tombstone},
    version::{Timestamp, VersionVector},
};

/// The changes known. Whatever their order, the same comes of it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(super) vector: VersionVector,
    pub(super) latest: Timestamp,
    /// What requests did, but for shares begun: those the catalog has.
    pub(super) requests: IdTable<RequestId, Known>,
    /// Changes that are not known to be stable, and what they touched: there may be something to forget once they are.
    pub(super) touched: Trail,
}

/// A known request.
#[derive(Clone, Debug)]
pub(super) struct Known {
    done: Deed,
    /// Its changes that are not forgotten.
    pub(super) changes: u32,
}

/// What a request did, small where it says no more than the request itself.
#[derive(Clone, Debug)]
enum Deed {
    Plain,
    Told(Box<Done>),
}

impl Known {
    /// What the request did.
    pub(super) fn done(&self) -> Done {
        match &self.done {
            Deed::Plain => Done::Plain,
            Deed::Told(done) => (**done).clone(),
        }
    }

    /// Of two changes with one request the answer that says more counts, so that order does not.
    fn note(&mut self, done: Deed) {
        let done = Self { done, changes: 0 };
        if rank(&done.done()) > rank(&self.done()) {
            self.done = done.done;
        }
    }
}

impl Deed {
    fn of(change: &Change) -> Self {
        match &change.body {
            ChangeBody::MembershipEnded { group, user, by, reason, rests_on, .. } if user == by => {
                Self::Told(Box::new(Done::Left { group: *group, reason: *reason, owned: !rests_on.is_empty() }))
            }
            ChangeBody::CredentialSet { user, .. } => Self::Told(Box::new(Done::PasswordSet(*user))),
            _ => Self::Plain,
        }
    }
}

impl Ledger {
    /// Takes note of a change.
    pub fn note(&mut self, change: &Change) {
        self.vector.insert(change.dot);
        self.latest = self.latest.max(change.at);
        self.touched.add(change.dot, Touched::by(change));
        if matches!(change.body, ChangeBody::ShareBegun { .. }) {
            return;
        }
        let done = Deed::of(change);
        match self.requests.entry(change.request) {
            Entry::Vacant(place) => drop(place.insert(Known { done, changes: 1 })),
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.changes += 1;
                known.note(done);
            }
        }
    }

    /// A share is forgotten, and its begins are about to be.
    pub(super) fn forget_share(&mut self, request: RequestId, begins: u32, file: FileId, name: FileName) {
        let known = self.requests.entry(request).or_insert(Known { done: Deed::Plain, changes: 0 });
        known.done = Deed::Told(Box::new(Done::SharedOnce { file, name }));
        known.changes += begins;
    }

    /// Makes room for so many requests that do not begin shares.
    pub fn reserve(&mut self, requests: usize) {
        self.requests.reserve(requests);
    }

    /// Takes note of what is forgotten.
    pub(super) fn forgotten(
        &mut self,
        folded: &VersionVector,
        latest: Timestamp,
        tombstones: impl IntoIterator<Item = Tombstone>,
    ) {
        self.vector.merge(folded);
        self.latest = self.latest.max(latest);
        self.touched.sort();
        for Tombstone { request, done } in tombstones {
            self.requests.entry(request).or_insert_with(|| Known { done: Deed::Told(Box::new(done)), changes: 0 });
        }
    }
}

/// Of two changes with one request the answer that says more counts.
pub(super) fn rank(done: &Done) -> (u8, [u8; 32], bool, bool) {
    match done {
        Done::Plain => (0, [0; 32], false, false),
        Done::Left { group, reason, owned } => (1, group.0, *reason == EndReason::Left, *owned),
        Done::Shared(share) => (2, share.0, false, false),
        Done::SharedOnce { file, .. } => (2, file.0, false, false),
        Done::PasswordSet(user) => (3, user.0, false, false),
    }
}
