//! Who takes part in which file on a link, and with which ticket.
//!
//! For a file, a link goes through these steps, each side for itself:
//!
//! ```text
//!   our join:    not yet ──(our ticket is there)──► asked
//!   their join:  not yet ──(their ticket holds)──► waits ──(a tracker in touch does not say otherwise)──► verified
//!   both:        told: our bitfield is sent, their requests are served
//! ```

use std::{collections::BTreeSet, time::Duration};

use super::{hub::Hub, peers::Peer};
use crate::{
    protocol::{
        bitfield::Bitfield,
        error::{ErrorCode, Failure},
        ids::{FileId, GroupId},
        limits::{MAX_EARLY_PIECES, MAX_HAVE, MAX_LINK_FILES},
        peer::PeerMessage,
        piece::{Block, PieceIndex, piece_count},
        ticket::{Signed, Ticket},
    },
    swarm::{PeerId, download, rate::RateMeter},
};

/// How often a ticket of ours is fetched anew because somebody refused it.
const DOUBT_TICKET_EVERY: Duration = Duration::from_secs(5);

/// A ticket that the peer showed and that was found good.
pub(super) struct Shown {
    pub(super) signed: Signed,
    pub(super) ticket: Ticket,
    /// The tracker in use knows of no end of that membership, or none can be asked.
    pub(super) checked: bool,
}

/// A file on a link.
pub(super) struct Joined {
    pub(super) group: GroupId,
    /// Our join is sent.
    asked: bool,
    theirs: Theirs,
    /// What they have, once told.
    pub(super) pieces: Option<Bitfield>,
    pub(super) up: RateMeter,
}

/// How far their join is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Theirs {
    /// They have not joined.
    NotYet,
    /// Their ticket is good, and is being checked with a tracker.
    Waits,
    /// They are a member, as far as anybody in touch knows.
    Verified,
    /// Our bitfield is sent: their requests are served.
    Told,
}

impl Joined {
    fn new(group: GroupId) -> Self {
        Self { group, asked: false, theirs: Theirs::NotYet, pieces: None, up: RateMeter::default() }
    }

    /// Whether our join waits for our ticket alone. Who is still being checked is told nothing.
    fn lacks_ticket(&self) -> bool {
        !self.asked && self.theirs != Theirs::Waits
    }

    /// Whether their requests are served.
    pub(super) fn is_served(&self) -> bool {
        self.theirs == Theirs::Told
    }
}

impl Hub {
    pub(super) fn they_join(
        &mut self,
        id: PeerId,
        group: GroupId,
        file: FileId,
        signed: Signed,
        pieces: Option<Bitfield>,
    ) {
        let Some(device) = self.peers.links.get(&id).map(|peer| peer.device) else { return };
        let ticket = match self.check_ticket(&signed, group, device) {
            Ok(ticket) => ticket,
            Err(failure) => {
                tracing::trace!(target: "coverage", reached = "ticket: refused");
                return self.part(id, file, Some(&failure));
            }
        };
        if self.local_group(file) != Some(group) {
            let reason = Failure::new(ErrorCode::NoSuchFile, "This device does not serve that file now.");
            return self.part(id, file, Some(&reason));
        }
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        if !peer.files.contains_key(&file) && peer.files.len() >= MAX_LINK_FILES {
            // It asks again when it looks next for who has the file.
            let reason = Failure::new(ErrorCode::TooManyAttempts, "Too many files on one link. Ask again later.");
            return self.part(id, file, Some(&reason));
        }
        peer.used = self.now;
        let joined = peer.files.entry(file).or_insert_with(|| Joined::new(group));
        joined.pieces = pieces.or_else(|| joined.pieces.take());
        self.note_ticket(id, group, signed, ticket);
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        let is_checked = peer.shown.get(&group).is_some_and(|shown| shown.checked);
        if let Some(joined) = peer.files.get_mut(&file) {
            joined.theirs = if is_checked { joined.theirs.max(Theirs::Verified) } else { Theirs::Waits };
        }
        if is_checked {
            self.welcome(id, file);
        }
    }

    /// The ticket shown for a group was checked: takes up the joins that waited for that.
    pub(super) fn admit(&mut self, id: PeerId, group: GroupId) {
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        let mut admitted = Vec::new();
        for (file, joined) in &mut peer.files {
            if joined.group == group && joined.theirs == Theirs::Waits {
                joined.theirs = Theirs::Verified;
                admitted.push(*file);
            }
        }
        for file in admitted {
            self.welcome(id, file);
        }
    }

    /// A peer whose ticket counts takes part in a file: so do we.
    fn welcome(&mut self, id: PeerId, file: FileId) {
        let Some(joined) = self.peers.links.get_mut(&id).and_then(|peer| peer.files.get_mut(&file)) else { return };
        let asked = joined.asked;
        if let Some(pieces) = joined.pieces.clone() {
            self.they_have(id, file, pieces);
        }
        if asked { self.tell_pieces(id, file) } else { self.join(id, file) }
    }

    /// Sends our bitfield to a peer whose ticket was found good after we had joined.
    fn tell_pieces(&mut self, id: PeerId, file: FileId) {
        let Some(pieces) = self.local_pieces(file) else { return };
        let joined = self.peers.links.get_mut(&id).and_then(|peer| peer.files.get_mut(&file));
        let Some(joined) = joined.filter(|joined| joined.theirs == Theirs::Verified) else { return };
        joined.theirs = Theirs::Told;
        self.send(id, PeerMessage::Pieces { file, pieces });
        self.server.uploader.interest(id, file, true);
    }

    /// Takes part in a file with a peer; sent as soon as our ticket is there.
    pub(super) fn join(&mut self, id: PeerId, file: FileId) {
        let Some(group) = self.local_group(file) else { return };
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        if peer.files.entry(file).or_insert_with(|| Joined::new(group)).asked {
            return;
        }
        match self.tickets.get(&group) {
            Some(Some(ticket)) => {
                let ticket = ticket.clone();
                self.send_join(id, file, group, ticket);
            }
            Some(None) => {}
            None => self.fetch_ticket(group),
        }
    }

    fn send_join(&mut self, id: PeerId, file: FileId, group: GroupId, ticket: Signed) {
        let pieces = self.local_pieces(file);
        let joined = self.peers.links.get_mut(&id).and_then(|peer| peer.files.get_mut(&file));
        let Some(joined) = joined else { return };
        joined.asked = true;
        let is_short = |pieces: &Bitfield| pieces.len() <= MAX_EARLY_PIECES;
        let pieces = pieces.filter(|pieces| joined.theirs == Theirs::Verified && is_short(pieces));
        if pieces.is_some() {
            joined.theirs = Theirs::Told;
            self.server.uploader.interest(id, file, true);
        }
        self.send(id, PeerMessage::Join { group, file, ticket, pieces });
    }

    fn fetch_ticket(&mut self, group: GroupId) {
        self.tickets.entry(group).or_insert(None);
        let seams = std::sync::Arc::clone(&self.seams);
        self.seams.env.spawn(async move {
            let result = seams.tracker.ticket(group).await;
            seams.report(super::hub::Input::Ticket { group, result }).await;
        });
    }

    /// Our own ticket is there: joins that waited for it are sent, and peers that saw an older one get this one.
    pub(super) fn own_ticket(&mut self, group: GroupId, result: Result<Signed, Failure>) {
        let ticket = match result {
            Ok(ticket) => ticket,
            Err(failure) => {
                tracing::debug!(?group, %failure, "no member ticket");
                if self.tickets.get(&group).is_some_and(Option::is_none) {
                    self.tickets.remove(&group);
                }
                return;
            }
        };
        let before = self.tickets.insert(group, Some(ticket.clone())).flatten();
        let is_new = before.is_some_and(|before| before != ticket);
        let peers: Vec<PeerId> = self.peers.links.keys().copied().collect();
        for id in peers {
            let Some(peer) = self.peers.links.get(&id) else { continue };
            let files = peer.files.iter().filter(|(_, joined)| joined.group == group);
            let waiting: Vec<FileId> =
                files.clone().filter(|(_, joined)| joined.lacks_ticket()).map(|(file, _)| *file).collect();
            if is_new && files.clone().any(|(_, joined)| joined.asked) {
                self.send(id, PeerMessage::Renew { group, ticket: ticket.clone() });
            }
            for file in waiting {
                self.send_join(id, file, group, ticket.clone());
            }
        }
    }

    /// Joins that wait for a ticket which no tracker gave are tried again.
    pub(super) fn retry_joins(&mut self) {
        let waiting =
            self.peers.links.values().flat_map(|peer| peer.files.values()).filter(|joined| joined.lacks_ticket());
        let groups: BTreeSet<GroupId> = waiting.map(|joined| joined.group).collect();
        for group in groups {
            if !self.tickets.contains_key(&group) {
                self.fetch_ticket(group);
            }
        }
    }

    /// Looks whether our tickets are to be renewed: the tracker link gives a fresh one at half of the old one's life.
    pub(super) fn refresh_tickets(&mut self) {
        let groups: Vec<GroupId> = self.tickets.keys().copied().collect();
        for group in groups {
            if self.files_of(group).is_empty() {
                self.tickets.remove(&group);
            } else {
                self.fetch_ticket(group);
            }
        }
    }

    pub(super) fn they_have(&mut self, id: PeerId, file: FileId, pieces: Bitfield) {
        let Some(size) = self.local_size(file) else { return };
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        let Some(joined) = peer.files.get_mut(&file).filter(|joined| joined.theirs >= Theirs::Waits) else { return };
        if pieces.len() != piece_count(size) {
            return self.expel(id, "its bitfield is not the file's");
        }
        joined.pieces = Some(pieces.clone());
        if joined.theirs == Theirs::Waits {
            return;
        }
        let (device, asked) = (peer.device, joined.asked);
        if asked {
            // They have found our ticket good. A long bitfield has waited for that.
            self.tell_pieces(id, file);
        }
        if self.transfers.get(&file).is_some_and(|transfer| !transfer.banned.contains(&device)) {
            self.note_source(file, id, device);
            self.feed(file, download::Event::PeerJoined { peer: id, bitfield: pieces });
        }
    }

    pub(super) fn they_gained(&mut self, id: PeerId, file: FileId, pieces: Vec<PieceIndex>) {
        if pieces.len() > MAX_HAVE {
            return self.expel(id, "it announces too many pieces at once");
        }
        let joined = self.peers.links.get_mut(&id).and_then(|peer| peer.files.get_mut(&file));
        let Some(theirs) = joined.and_then(|joined| joined.pieces.as_mut()) else { return };
        for piece in &pieces {
            theirs.insert(*piece);
        }
        if theirs.is_full() {
            self.server.uploader.interest(id, file, false);
        }
        self.feed(file, download::Event::Have { peer: id, pieces });
    }

    pub(super) fn they_leave(&mut self, id: PeerId, file: FileId, reason: Option<Failure>) {
        if let Some(failure) = reason.filter(|failure| failure.code == ErrorCode::NotAMember) {
            tracing::debug!(peer = id.0, %failure, "a peer refused our ticket");
            let joined = self.peers.links.get(&id).and_then(|peer| peer.files.get(&file));
            if let Some(group) = joined.filter(|joined| joined.asked).map(|joined| joined.group) {
                self.doubt_ticket(group);
            }
        }
        self.forget_joined(id, file);
    }

    /// Our ticket was refused: another is fetched for the next join, now and then. Whoever refuses good ones over and over must
    /// not make this device ask the tracker each time, and tell all others of each new ticket.
    fn doubt_ticket(&mut self, group: GroupId) {
        let now = self.now;
        if self.tickets_doubted.get(&group).is_some_and(|at| now.saturating_duration_since(*at) < DOUBT_TICKET_EVERY) {
            return;
        }
        self.tickets_doubted.insert(group, now);
        self.tickets.remove(&group);
        self.seams.tracker.forget_ticket(group);
    }

    pub(super) fn they_renew(&mut self, id: PeerId, group: GroupId, signed: Signed) {
        let Some(device) = self.peers.links.get(&id).map(|peer| peer.device) else { return };
        match self.check_ticket(&signed, group, device) {
            Ok(ticket) => self.note_ticket(id, group, signed, ticket),
            Err(failure) => self.exclude(id, group, &failure),
        }
    }

    /// They say whether a turn would be of use.
    pub(super) fn they_want(&mut self, id: PeerId, file: FileId, is_interested: bool) {
        let joined = self.peers.links.get(&id).and_then(|peer| peer.files.get(&file));
        if joined.is_some_and(Joined::is_served) {
            self.server.uploader.interest(id, file, is_interested);
        }
    }

    pub(super) fn they_request(&mut self, id: PeerId, file: FileId, blocks: &[Block]) {
        let refused = self.accept_requests(id, file, blocks);
        if !refused.is_empty() {
            self.send(id, PeerMessage::Reject { file, blocks: refused });
        }
    }

    /// Leaves a file on every link.
    pub(super) fn part_all(&mut self, file: FileId, reason: Option<&Failure>) {
        let joined = self.peers.links.iter().filter(|(_, peer)| peer.files.contains_key(&file));
        let ids: Vec<PeerId> = joined.map(|(id, _)| *id).collect();
        for id in ids {
            self.part(id, file, reason);
        }
        for (id, block) in self.server.uploader.withdraw(file) {
            self.send(id, PeerMessage::Reject { file, blocks: vec![block] });
        }
    }

    /// The file is whole here: leaves it on the links to those who have it whole too. There is nothing to send either way.
    pub(super) fn part_seeders(&mut self, file: FileId) {
        let is_seeder = |peer: &Peer| {
            let joined = peer.files.get(&file);
            joined.and_then(|joined| joined.pieces.as_ref()).is_some_and(Bitfield::is_full)
        };
        let seeders = self.peers.links.iter().filter(|(_, peer)| is_seeder(peer));
        for id in seeders.map(|(id, _)| *id).collect::<Vec<PeerId>>() {
            self.part(id, file, None);
        }
    }

    /// Leaves a file on one link.
    pub(super) fn part(&mut self, id: PeerId, file: FileId, reason: Option<&Failure>) {
        self.send(id, PeerMessage::Leave { file, reason: reason.cloned() });
        self.forget_joined(id, file);
    }

    pub(super) fn forget_joined(&mut self, id: PeerId, file: FileId) {
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        if peer.files.remove(&file).is_some() {
            self.server.uploader.refuse(id, file);
            self.requests.withdraw(id, file, |_| true);
            self.feed(file, download::Event::PeerLeft { peer: id });
        }
    }

    /// The group of a file that this device serves or downloads now.
    fn local_group(&self, file: FileId) -> Option<GroupId> {
        let transfer = self.transfers.get(&file).filter(|transfer| transfer.active.is_some());
        let share = || self.shares.get(&file).filter(|share| share.suspended.is_none());
        transfer.map(|transfer| transfer.record.group).or_else(|| share().map(|share| share.record.group))
    }
}
