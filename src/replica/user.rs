//! One account: registered once, its credential by the last writer.

use std::collections::BTreeMap;

use super::{claim::Claim, stability::Cut};
use crate::mutant::Mutant;
use crate::protocol::{
    ids::{RequestId, SessionId},
    name::UserName,
    record::{Change, Credential},
    ticket::CredentialId,
    version::{Dot, Timestamp},
};

/// A user record: what is known of the registration, and every password set.
#[derive(Clone, Debug, Default)]
pub struct User {
    created: Option<Created>,
    /// By request: a password set twice by one request was set at the lesser time.
    passwords: BTreeMap<RequestId, Set>,
    closed: bool,
}

/// A password set, by the least try of its request.
#[derive(Clone, Debug)]
struct Set {
    at: Timestamp,
    dot: Dot,
    credential: Credential,
    /// The session it was set in.
    keeps: Option<SessionId>,
    /// Dots of all tries.
    tries: Vec<Dot>,
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
    pub(super) fn set_password(&mut self, change: &Change, credential: &Credential, keeps: Option<SessionId>) {
        let (at, dot, tries) = (change.at, change.dot, Vec::new());
        let first = || Set { at, dot, credential: credential.clone(), keeps, tries };
        let known = self.passwords.entry(change.request).or_insert_with(first);
        known.tries.push(dot);
        if (at, dot) < (known.at, known.dot) {
            (known.at, known.dot, known.credential, known.keeps) = (at, dot, credential.clone(), keeps);
        }
    }

    /// Merges the end of the account: once closed stays so.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether the account is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Forgets passwords that a later one has replaced for good; returns the changes that nothing needs any more.
    pub(super) fn fold(&mut self, cut: &Cut) -> Vec<(Dot, RequestId)> {
        let is_stable = |set: &Set| set.tries.iter().all(|dot| cut.covers(dot));
        let stable = self.passwords.iter().filter(|(_, set)| is_stable(set));
        let Some(last) = stable.map(|(request, set)| (set.at, *request)).max() else { return Vec::new() };
        let replaced = |request: &RequestId, set: &mut Set| (set.at, *request) < last && is_stable(set);
        let forgotten = self.passwords.extract_if(.., replaced);
        forgotten.flat_map(|(request, set)| set.tries.into_iter().map(move |dot| (dot, request))).collect()
    }

    /// The name claimed; `None` while the registration has yet to arrive.
    pub(super) fn claim(&self) -> Option<&Claim<UserName>> {
        self.created.as_ref().map(|created| &created.claim)
    }

    /// Whether a password was set since the registration.
    pub(super) fn has_changed_password(&self) -> bool {
        !self.passwords.is_empty()
    }

    /// The credential that counts, and which it is; `None` for a closed account.
    pub(super) fn credential(&self) -> Option<(CredentialId, &Credential)> {
        let created = self.created.as_ref().filter(|_| !self.closed)?;
        let first = (CredentialId { at: created.claim.at, request: None }, &created.credential);
        let id = |request: &RequestId, set: &Set| CredentialId { at: set.at, request: Some(*request) };
        Some(self.last().map_or(first, |(request, set)| (id(request, set), &set.credential)))
    }

    /// The session in which the password that counts was set: it goes on, whatever it was opened with.
    pub(super) fn kept_session(&self) -> Option<SessionId> {
        self.last()?.1.keeps
    }

    fn last(&self) -> Option<(&RequestId, &Set)> {
        let passwords = self.passwords.iter();
        if Mutant::FirstPasswordWins.is_on() {
            passwords.min_by_key(|(request, set)| (set.at, **request))
        } else {
            passwords.max_by_key(|(request, set)| (set.at, **request))
        }
    }
}
