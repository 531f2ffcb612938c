//! Sessions: who is logged in on which device. One is live that was opened and not ended; a later password ends it, too.
//!
//! A session counts by its tracker's signature, also where its record has yet to arrive. Where the change that opened it is
//! known and the record is not there, it was ended and forgotten: so no tombstone has to outlive the signature.

use std::collections::{BTreeMap, BTreeSet};

use super::{stability::Cut, table::IdTable};
use crate::protocol::{
    ids::{DeviceKey, RequestId, SessionId, UserId},
    record::Change,
    ticket::{CredentialId, SessionRef},
    version::{Dot, Timestamp},
};

/// A session that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// When.
    pub at: Timestamp,
    /// By which change.
    pub dot: Dot,
    /// On which device.
    pub device: DeviceKey,
    /// With which password.
    pub opened_with: CredentialId,
}

impl Opened {
    /// The session so opened, as tickets name it.
    pub fn session(&self, id: SessionId) -> SessionRef {
        SessionRef { id, opened: self.dot, opened_with: self.opened_with }
    }
}

/// What is known of a session.
#[derive(Clone, Debug, Default)]
struct Session {
    /// By the least try of its request; `None` while that has yet to arrive.
    opened: Option<Opened>,
    /// Dots of all tries.
    tries: BTreeSet<Dot>,
    /// Changes that end it, and by which one it was opened, as each of them says.
    ends: BTreeMap<Dot, Dot>,
}

/// A change that ends sessions, as long as one of them is not forgotten.
#[derive(Clone, Debug)]
struct Ending {
    request: RequestId,
    sessions: BTreeSet<SessionId>,
}

/// All sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    by_user: IdTable<UserId, BTreeMap<SessionId, Session>>,
    endings: BTreeMap<(UserId, Dot), Ending>,
}

impl Session {
    fn live(&self) -> Option<&Opened> {
        self.opened.as_ref().filter(|_| self.ends.is_empty())
    }

    /// Over, and nothing is said of it that is not known everywhere. What opened it may have been forgotten before a restart,
    /// where an end stays that ends another session, too.
    fn is_forgettable(&self, cut: &Cut) -> bool {
        let said = self.tries.iter().chain(self.ends.keys()).chain(self.ends.values());
        !self.ends.is_empty() && said.into_iter().all(|dot| cut.covers(dot))
    }
}

impl Sessions {
    /// Merges a login; of two tries of one request the lesser (timestamp, dot) counts.
    pub(super) fn open(&mut self, user: UserId, id: SessionId, opened: Opened) {
        let session = self.by_user.entry(user).or_default().entry(id).or_default();
        session.tries.insert(opened.dot);
        if session.opened.is_none_or(|known| (opened.at, opened.dot) < (known.at, known.dot)) {
            session.opened = Some(opened);
        }
    }

    /// Merges the end of these sessions.
    pub(super) fn end(&mut self, change: &Change, sessions: &[(SessionId, Dot)], user: UserId) {
        let known = self.by_user.entry(user).or_default();
        for (id, opened) in sessions {
            known.entry(*id).or_default().ends.insert(change.dot, *opened);
        }
        let sessions = sessions.iter().map(|(id, _)| *id).collect();
        let ending = Ending { request: change.request, sessions };
        self.endings.insert((user, change.dot), ending);
    }

    /// A live session.
    pub(super) fn get(&self, user: &UserId, id: &SessionId) -> Option<&Opened> {
        self.by_user.get(user)?.get(id)?.live()
    }

    /// A user's live sessions.
    pub(super) fn of_user(&self, user: &UserId) -> impl Iterator<Item = (SessionId, &Opened)> + '_ {
        let known = self.by_user.get(user).into_iter().flatten();
        known.filter_map(|(id, session)| Some((*id, session.live()?)))
    }

    /// Whether a session is known to be ended, where `is_known` says which changes are.
    pub(super) fn is_ended(&self, user: &UserId, session: &SessionRef, is_known: impl Fn(&Dot) -> bool) -> bool {
        match self.by_user.get(user).and_then(|known| known.get(&session.id)) {
            Some(known) => !known.ends.is_empty(),
            None => is_known(&session.opened),
        }
    }

    /// Forgets what is over; returns the changes that nothing needs any more.
    pub(super) fn fold(&mut self, user: &UserId, cut: &Cut) -> Vec<(Dot, RequestId)> {
        let Some(known) = self.by_user.get_mut(user) else { return Vec::new() };
        let forgotten: Vec<_> = known.extract_if(.., |_, session| session.is_forgettable(cut)).collect();
        if known.is_empty() {
            self.by_user.remove(user);
        }
        let mut dropped = Vec::new();
        for (id, session) in forgotten {
            dropped.extend(session.tries.into_iter().map(|dot| (dot, RequestId(id.0))));
            dropped.extend(session.ends.into_keys().filter_map(|dot| self.forget_ending(*user, id, dot)));
        }
        dropped
    }

    fn forget_ending(&mut self, user: UserId, id: SessionId, dot: Dot) -> Option<(Dot, RequestId)> {
        let ending = self.endings.get_mut(&(user, dot))?;
        ending.sessions.remove(&id);
        if !ending.sessions.is_empty() {
            return None;
        }
        self.endings.remove(&(user, dot)).map(|ending| (dot, ending.request))
    }
}
