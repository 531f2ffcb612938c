//! The clients linked here: who is logged in on which link, and how to reach them.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::presence::LinkNo;
use crate::protocol::{
    client::{FromTracker, Notice},
    ids::{DeviceKey, UserId},
    version::Timestamp,
};

/// Who is logged in on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoggedIn {
    /// The user.
    pub(super) user: UserId,
    /// Stamp of the password the session was opened with.
    pub(super) credential_at: Timestamp,
}

/// One client's link.
#[derive(Debug)]
pub(super) struct Client {
    /// The key it proved.
    pub(super) device: DeviceKey,
    /// Its session.
    pub(super) session: Option<LoggedIn>,
    /// What it is sent.
    outgoing: mpsc::Sender<FromTracker>,
    /// Ends the link.
    end: CancellationToken,
}

/// All of them, by link.
#[derive(Debug, Default)]
pub(super) struct Clients {
    by_link: BTreeMap<LinkNo, Client>,
    next: LinkNo,
}

impl Clients {
    /// A client has linked.
    pub(super) fn add(
        &mut self,
        device: DeviceKey,
        outgoing: mpsc::Sender<FromTracker>,
        end: CancellationToken,
    ) -> LinkNo {
        self.next += 1;
        self.by_link.insert(self.next, Client { device, session: None, outgoing, end });
        self.next
    }

    /// A link has ended.
    pub(super) fn remove(&mut self, link: LinkNo) {
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
        std::mem::replace(&mut client.session, session)
    }

    /// Links on which `user` is logged in.
    pub(super) fn links_of(&self, user: &UserId) -> Vec<LinkNo> {
        let logged_in = |client: &Client| client.session.is_some_and(|session| session.user == *user);
        self.by_link.iter().filter(|(_, client)| logged_in(client)).map(|(link, _)| *link).collect()
    }

    /// Sends a notice to a link. A client that does not read what it is sent loses its link: it asks anew after the next hello.
    pub(super) fn notify(&self, link: LinkNo, notice: Notice) {
        let Some(client) = self.by_link.get(&link) else { return };
        if client.outgoing.try_send(FromTracker::Notice(notice)).is_err() {
            client.end.cancel();
        }
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
