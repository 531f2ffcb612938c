//! The clients linked here: who is logged in on which link, and how to reach them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{held::Held, limits::Limits, presence::LinkNo};
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

impl Client {
    /// Whether a quarter of its queue is free: answers need room, too.
    fn has_room(&self) -> bool {
        self.outgoing.capacity() > self.outgoing.max_capacity() / 4
    }

    fn send(&self, notice: Notice) {
        // A link that has ended hears nothing.
        let _ = self.outgoing.try_send(Outgoing { message: Box::new(FromTracker::Notice(notice)), slot: None });
    }
}

/// All of them, by link.
#[derive(Debug)]
pub(super) struct Clients {
    limits: Limits,
    by_link: BTreeMap<LinkNo, Client>,
    by_user: BTreeMap<UserId, FewSet<LinkNo>>,
    /// Links that have yet to be told of swarms.
    untold: BTreeSet<LinkNo>,
    /// What waits for clients that read slowly.
    held: RefCell<BTreeMap<LinkNo, Held>>,
    next: LinkNo,
}

impl Clients {
    /// Nobody is linked.
    pub(super) fn new(limits: Limits) -> Self {
        let (by_link, by_user, untold) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { limits, by_link, by_user, untold, held: RefCell::default(), next: 0 }
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

    /// Sends a notice to a link. What a client does not read waits, each thing once; when too much does that the client has to act
    /// on, it loses its link, and asks anew after the next hello.
    pub(super) fn notify(&self, link: LinkNo, notice: Notice) {
        let Some(client) = self.by_link.get(&link) else { return };
        let mut held = self.held.borrow_mut();
        if !held.contains_key(&link) && client.has_room() {
            return client.send(notice);
        }
        if !held.entry(link).or_default().put(notice) {
            client.place.end().cancel();
        }
    }

    /// Sends what has waited, as far as there is room.
    fn tell_held(&mut self) {
        self.held.get_mut().retain(|link, held| {
            let Some(client) = self.by_link.get(link) else { return false };
            while client.has_room()
                && let Some(notice) = held.take()
            {
                client.send(notice);
            }
            !held.is_empty()
        });
    }

    /// Notes that a swarm has changed, for [`tell_swarms`](Self::tell_swarms).
    pub(super) fn note_swarm(&mut self, link: LinkNo, file: FileId) {
        if let Some(client) = self.by_link.get_mut(&link) {
            client.changed.insert(file);
            self.untold.insert(link);
        }
    }

    /// Tells each client what has waited, and of swarms that have changed, as many as leave half of its queue free: the others wait for the next time.
    pub(super) fn tell_swarms(&mut self) {
        self.tell_held();
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

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::{
        protocol::{
            ids::{GroupId, MembershipId},
            name::{GroupName, UserName},
        },
        roles::port::{Doorkeeper, for_strangers},
    };

    /// A client with room for eight messages that reads nothing.
    fn deaf() -> (Clients, LinkNo, Receiver<Outgoing>) {
        let (mut clients, (outgoing, queue)) = (Clients::new(Limits::STANDARD), channel(8));
        let place = Doorkeeper::new(for_strangers(1, 1)).enter([10, 0, 0, 1].into()).unwrap();
        let link = clients.add(DeviceKey([1; 32]), outgoing, place, Trust::default());
        (clients, link, queue)
    }

    fn is_cut_off(clients: &Clients, link: LinkNo) -> bool {
        clients.by_link[&link].place.end().is_cancelled()
    }

    fn asks(user: u32) -> Notice {
        let (group, user) = (GroupName::parse("g").unwrap(), UserName::parse(&format!("user{user}")).unwrap());
        Notice::JoinRequested { group, user }
    }

    fn ended(user: u32) -> Notice {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&user.to_le_bytes());
        let memberships = vec![MembershipId([1; 32])];
        Notice::MembershipEnded { group: GroupId([1; 32]), user: UserId(key), memberships }
    }

    #[test]
    fn an_owner_who_reads_slowly_is_not_cut_off_by_spam_and_hears_the_rest_later() {
        let (mut clients, link, mut queue) = deaf();
        for _ in 0..1000 {
            (0..10).for_each(|user| clients.notify(link, asks(user)));
            clients.tell_swarms();
        }
        clients.notify(link, ended(1));
        assert!(!is_cut_off(&clients, link));
        let mut told = Vec::new();
        while let Ok(next) = queue.try_recv() {
            told.push(*next.message);
            clients.tell_swarms();
        }
        assert!((11..30).contains(&told.len()), "{told:?}");
        assert_eq!(told.last(), Some(&FromTracker::Notice(ended(1))));
        clients.notify(link, asks(1));
        assert!(queue.try_recv().is_ok(), "who reads again is told at once");
    }

    #[test]
    fn who_lets_too_much_pile_up_that_it_must_act_on_asks_anew() {
        let (clients, link, _queue) = deaf();
        (0..10_000).for_each(|user| clients.notify(link, ended(user)));
        assert!(is_cut_off(&clients, link));
    }
}
