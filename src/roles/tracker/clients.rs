//! The clients linked here: who is logged in on which link, and how to reach them.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{limits::Limits, presence::LinkNo};
use crate::protocol::{
    client::{FromTracker, Notice},
    ids::{DeviceKey, FileId, UserId},
    ticket::SessionRef,
};
use crate::{replica::few::FewSet, roles::port::Place, transport::link::Trust};

/// Who is logged in on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoggedIn {
    /// The user.
    pub(super) user: UserId,
    /// In which session.
    pub(super) session: SessionRef,
}

/// What a client is sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) message: Box<FromTracker>,
    /// Held until the answer is taken to be written: bounds what one client has under way and waiting.
    pub(super) slot: Option<OwnedSemaphorePermit>,
}

/// One client's link.
#[derive(Debug)]
pub(super) struct Client {
    /// The key it proved.
    pub(super) device: DeviceKey,
    /// Its session.
    pub(super) session: Option<LoggedIn>,
    /// What it is sent.
    outgoing: mpsc::Sender<Outgoing>,
    /// Swarms it takes part in that have changed, and of which it was not told yet.
    changed: BTreeSet<FileId>,
    /// What it may send.
    trust: Trust,
    /// Its place, whose end ends the link.
    place: Place,
}

/// All of them, by link.
#[derive(Debug)]
pub(super) struct Clients {
    limits: Limits,
    by_link: BTreeMap<LinkNo, Client>,
    by_user: BTreeMap<UserId, FewSet<LinkNo>>,
    /// Links that have yet to be told of swarms.
    untold: BTreeSet<LinkNo>,
    next: LinkNo,
}

impl Clients {
    /// Nobody is linked.
    pub(super) fn new(limits: Limits) -> Self {
        let (by_link, by_user, untold) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { limits, by_link, by_user, untold, next: 0 }
    }

    /// A client has linked.
    pub(super) fn add(
        &mut self,
        device: DeviceKey,
        outgoing: mpsc::Sender<Outgoing>,
        place: Place,
        trust: Trust,
    ) -> LinkNo {
        self.next += 1;
        let client = Client { device, session: None, outgoing, changed: BTreeSet::new(), trust, place };
        self.by_link.insert(self.next, client);
        self.next
    }

    /// A link has ended.
    pub(super) fn remove(&mut self, link: LinkNo) {
        self.set_session(link, None);
        self.untold.remove(&link);
        self.by_link.remove(&link);
    }

    /// The client on a link.
    pub(super) fn get(&self, link: LinkNo) -> Option<&Client> {
        self.by_link.get(&link)
    }

    /// Number of links.
    pub(super) fn len(&self) -> usize {
        self.by_link.len()
    }

    /// Begins or ends the session on a link; returns the one before.
    pub(super) fn set_session(&mut self, link: LinkNo, session: Option<LoggedIn>) -> Option<LoggedIn> {
        let client = self.by_link.get_mut(&link)?;
        let before = std::mem::replace(&mut client.session, session);
        client.place.recognize(session.is_some());
        if session.is_some() {
            client.trust.give();
        }
        if let Some(LoggedIn { user, .. }) = before
            && let Some(links) = self.by_user.get_mut(&user)
        {
            links.remove(&link);
            if links.is_empty() {
                self.by_user.remove(&user);
            }
        }
        if let Some(LoggedIn { user, .. }) = session {
            self.by_user.entry(user).or_default().insert(link);
            self.make_way(user, link);
        }
        before
    }

    /// Of a user with too many links the oldest one ends.
    fn make_way(&self, user: UserId, newest: LinkNo) {
        let Some(links) = self.by_user.get(&user).filter(|links| links.len() > self.limits.links_per_user) else {
            return;
        };
        let oldest = links.iter().find(|link| **link != newest).and_then(|link| self.by_link.get(link));
        if let Some(oldest) = oldest {
            oldest.place.end().cancel();
        }
    }

    /// Everybody who is logged in.
    pub(super) fn users(&self) -> BTreeSet<UserId> {
        self.by_user.keys().copied().collect()
    }

    /// Links on which `user` is logged in.
    pub(super) fn links_of(&self, user: &UserId) -> Vec<LinkNo> {
        self.by_user.get(user).into_iter().flatten().copied().collect()
    }

    /// Sends a notice to a link. A client that does not read what it is sent loses its link: it asks anew after the next hello.
    pub(super) fn notify(&self, link: LinkNo, notice: Notice) {
        let Some(client) = self.by_link.get(&link) else { return };
        let notice = Outgoing { message: Box::new(FromTracker::Notice(notice)), slot: None };
        if client.outgoing.try_send(notice).is_err() {
            client.place.end().cancel();
        }
    }

    /// Notes that a swarm has changed, for [`tell_swarms`](Self::tell_swarms).
    pub(super) fn note_swarm(&mut self, link: LinkNo, file: FileId) {
        if let Some(client) = self.by_link.get_mut(&link) {
            client.changed.insert(file);
            self.untold.insert(link);
        }
    }

    /// Tells each client of swarms that have changed, as many as leave half of its queue free: the others wait for the next time.
    pub(super) fn tell_swarms(&mut self) {
        self.untold.retain(|link| {
            let Some(client) = self.by_link.get_mut(link) else { return false };
            while client.outgoing.capacity() > client.outgoing.max_capacity() / 2
                && let Some(file) = client.changed.pop_first()
            {
                let message = Box::new(FromTracker::Notice(Notice::SwarmChanged { file }));
                let _ = client.outgoing.try_send(Outgoing { message, slot: None });
            }
            !client.changed.is_empty()
        });
    }

    /// Sends a notice to every link of a user.
    pub(super) fn notify_user(&self, user: &UserId, notice: &Notice) {
        for link in self.links_of(user) {
            self.notify(link, notice.clone());
        }
    }

    /// Sends a notice to every link.
    pub(super) fn notify_all(&self, notice: &Notice) {
        for link in self.by_link.keys() {
            self.notify(*link, notice.clone());
        }
    }
}
