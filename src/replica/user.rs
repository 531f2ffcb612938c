//! One account: registered once, its credential by the last writer.

use std::collections::BTreeMap;

use super::claim::Claim;
use crate::protocol::{
    ids::RequestId,
    name::UserName,
    record::{Change, Credential},
    version::{Dot, Timestamp},
};

/// A user record: what is known of the registration, and every password set.
#[derive(Clone, Debug, Default)]
pub struct User {
    created: Option<Created>,
    /// By request: a password set twice by one request was set at the lesser time.
    passwords: BTreeMap<RequestId, (Timestamp, Dot, Credential)>,
}

#[derive(Clone, Debug)]
struct Created {
    dot: Dot,
    claim: Claim<UserName>,
    credential: Credential,
}

impl User {
    /// Merges a registration; of two tries of one request the lesser (timestamp, dot) counts.
    pub(super) fn create(&mut self, change: &Change, name: &UserName, credential: &Credential) {
        let first = self.created.as_ref().is_none_or(|known| (change.at, change.dot) < (known.claim.at, known.dot));
        if first {
            let claim = Claim { name: name.clone(), at: change.at, taken_by: change.taken_by };
            self.created = Some(Created { dot: change.dot, claim, credential: credential.clone() });
        }
    }

    /// Merges a password set.
    pub(super) fn set_password(&mut self, change: &Change, credential: &Credential) {
        let known = self.passwords.get(&change.request);
        if known.is_none_or(|(at, dot, _)| (change.at, change.dot) < (*at, *dot)) {
            self.passwords.insert(change.request, (change.at, change.dot, credential.clone()));
        }
    }

    /// The name claimed; `None` while the registration has yet to arrive.
    pub(super) fn claim(&self) -> Option<&Claim<UserName>> {
        self.created.as_ref().map(|created| &created.claim)
    }

    /// Whether a password was set since the registration.
    pub(super) fn has_changed_password(&self) -> bool {
        !self.passwords.is_empty()
    }

    /// The credential that counts, with the stamp of the change that set it.
    pub(super) fn credential(&self) -> Option<(Timestamp, &Credential)> {
        let created = self.created.as_ref()?;
        let last = self.passwords.iter().max_by_key(|(request, (at, ..))| (*at, **request));
        Some(last.map_or((created.claim.at, &created.credential), |(_, (at, _, credential))| (*at, credential)))
    }
}
