//! Links to peers and what is agreed on each: who takes part in which file, with which ticket.
//!
//! For a file, a link goes through these steps, each side for itself:
//!
//! ```text
//!   our join:    not yet ──(our ticket is there)──► asked
//!   their join:  not yet ──(their ticket holds)──► waits ──(a tracker in touch does not say otherwise)──► verified
//!   both:        told: our bitfield is sent, their requests are served
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    hub::Hub,
    peer_link::{self, Handle, Outgoing, Received},
};
use crate::{
    protocol::{
        bitfield::Bitfield,
        error::{ErrorCode, Failure},
        ids::{DeviceKey, FileId, GroupId},
        limits::{MAX_HAVE, MAX_LINK_FILES, MAX_REQUESTED_BLOCKS},
        peer::{PeerMessage, VERSION},
        piece::{Block, PieceIndex, piece_count},
        ticket::{Signed, Ticket},
    },
    swarm::{PeerId, download, rate::RateMeter},
    transport::link::Link,
};

/// A link without a word for this long is dead.
const SILENCE: Duration = Duration::from_mins(1);
/// A link that stands in a new one's way is given up after this long without a word.
const DOUBT: Duration = Duration::from_secs(10);
/// How often a ticket of ours is fetched anew because somebody refused it.
const DOUBT_TICKET_EVERY: Duration = Duration::from_secs(5);
/// How often an idle link is kept alive.
const PING_EVERY: Duration = Duration::from_secs(20);
/// An unused link is closed after this long.
const UNUSED: Duration = Duration::from_mins(2);
/// Pieces announced at once, or all there are after [`HAVE_DELAY`].
const HAVE_BATCH: usize = 16;
/// How long a new piece may wait to be announced.
const HAVE_DELAY: Duration = Duration::from_millis(50);

/// All links.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) links: BTreeMap<PeerId, Peer>,
    pub(super) by_device: BTreeMap<DeviceKey, PeerId>,
    /// Dials under way.
    pub(super) dialling: BTreeMap<DeviceKey, String>,
    /// Devices that could not be dialled lately.
    pub(super) unreachable: BTreeMap<DeviceKey, Unreachable>,
    /// Pieces to be announced.
    haves: BTreeMap<FileId, Vec<PieceIndex>>,
    haves_due: Option<Instant>,
    links_made: u64,
}

/// A device that could not be dialled.
pub(super) struct Unreachable {
    pub(super) retry_at: Instant,
    pub(super) failures: u32,
    pub(super) reason: String,
}

/// One link.
pub(super) struct Peer {
    pub(super) device: DeviceKey,
    /// Whether we dialled.
    pub(super) dialled: bool,
    handle: Handle,
    greeted: bool,
    pub(super) files: BTreeMap<FileId, Joined>,
    pub(super) shown: BTreeMap<GroupId, Shown>,
    heard: Instant,
    pinged: Instant,
    used: Instant,
}

/// A ticket that the peer showed and that was found good.
pub(super) struct Shown {
    pub(super) signed: Signed,
    pub(super) ticket: Ticket,
    /// The tracker in use knows of no end of that membership, or none can be asked.
    pub(super) checked: bool,
}

impl Peer {
    /// Files this link takes part in, in a group.
    pub(super) fn files_of(&self, group: GroupId) -> impl Iterator<Item = FileId> + '_ {
        self.files.iter().filter(move |(_, joined)| joined.group == group).map(|(file, _)| *file)
    }
}

/// A file on a link.
pub(super) struct Joined {
    group: GroupId,
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

/// Whether a message about blocks names more than may be asked for: what is refused is named again, and waits in memory
/// while the other side does not read.
fn names_too_many(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Request { blocks, .. }
        | PeerMessage::Cancel { blocks, .. }
        | PeerMessage::Reject { blocks, .. } => blocks.len() > MAX_REQUESTED_BLOCKS,
        _ => false,
    }
}

impl Hub {
    /// A link stands, dialled or accepted. Of two links to one device the one dialled by the smaller key stays.
    pub(super) fn linked(&mut self, link: Link, dialled: bool) {
        let device = link.device();
        self.peers.dialling.remove(&device);
        self.peers.unreachable.remove(&device);
        let own = self.seams.identity.device();
        let is_welcome = self.user.is_some() && device != own;
        if !is_welcome || !self.make_way(device, dialled == (own < device), dialled) {
            return;
        }
        self.peers.links_made += 1;
        let id = PeerId(self.peers.links_made);
        let handle = peer_link::start(&self.seams, id, link);
        let now = self.now;
        let peer = Peer {
            device,
            dialled,
            handle,
            greeted: false,
            files: BTreeMap::new(),
            shown: BTreeMap::new(),
            heard: now,
            pinged: now,
            used: now,
        };
        self.peers.links.insert(id, peer);
        self.peers.by_device.insert(device, id);
        self.send(id, PeerMessage::Hello { version: VERSION });
        self.join_candidate(device);
    }

    /// Whether a new link may stand: gives up one that it replaces.
    fn make_way(&mut self, device: DeviceKey, preferred: bool, dialled: bool) -> bool {
        let Some(old) = self.peers.by_device.get(&device).copied() else {
            return self.peers.links.len() < 2 * self.seams.max_peers || self.drop_stranger();
        };
        let Some(peer) = self.peers.links.get(&old) else { return true };
        let is_doubtful = self.now.saturating_duration_since(peer.heard) > DOUBT;
        if preferred || peer.dialled == dialled || is_doubtful {
            self.unlinked(old);
            return true;
        }
        false
    }

    /// Gives up the link that has been of no use for longest among those that dialled us and never showed a ticket, so that who
    /// is no member cannot keep members out.
    fn drop_stranger(&mut self) -> bool {
        let strangers = self.peers.links.iter().filter(|(_, peer)| peer.shown.is_empty() && !peer.dialled);
        let Some(id) = strangers.min_by_key(|(id, peer)| (peer.used, **id)).map(|(id, _)| *id) else { return false };
        self.unlinked(id);
        true
    }

    /// A link has ended, or is given up.
    pub(super) fn unlinked(&mut self, id: PeerId) {
        let Some(peer) = self.peers.links.remove(&id) else { return };
        if self.peers.by_device.get(&peer.device) == Some(&id) {
            self.peers.by_device.remove(&peer.device);
        }
        self.server.uploader.leave(id);
        self.requests.forget(id);
        for (file, joined) in &peer.files {
            self.feed(*file, download::Event::PeerLeft { peer: id });
            if joined.pieces.is_some() {
                self.find_again(*file);
            }
        }
    }

    /// Gives up a link whose other end breaks the rules.
    fn expel(&mut self, id: PeerId, reason: &str) {
        tracing::warn!(peer = id.0, reason, "a peer broke the protocol");
        tracing::trace!(target: "coverage", reached = "peer: expelled");
        self.unlinked(id);
    }

    pub(super) fn received(&mut self, id: PeerId, received: Received) {
        let now = self.now;
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        peer.heard = now;
        match received {
            Received::Message(PeerMessage::Hello { version: VERSION }) => peer.greeted = true,
            Received::Message(PeerMessage::Hello { .. }) => self.expel(id, "it speaks another version"),
            _ if !peer.greeted => self.expel(id, "it did not say hello"),
            Received::Message(message) => self.message(id, message),
            Received::Block { file, block, bytes } => {
                peer.used = now;
                self.block(id, file, block, bytes);
            }
        }
    }

    fn message(&mut self, id: PeerId, message: PeerMessage) {
        use download::Event;
        if names_too_many(&message) {
            return self.expel(id, "it names too many blocks at once");
        }
        match message {
            PeerMessage::Hello { .. } | PeerMessage::Ping => {}
            PeerMessage::Join { group, file, ticket, pieces } => self.they_join(id, group, file, ticket, pieces),
            PeerMessage::Pieces { file, pieces } => self.they_have(id, file, pieces),
            PeerMessage::Renew { group, ticket } => self.they_renew(id, group, ticket),
            PeerMessage::Leave { file, reason } => self.they_leave(id, file, reason),
            PeerMessage::Have { file, pieces } => self.they_gained(id, file, pieces),
            PeerMessage::Request { file, blocks } => self.they_request(id, file, &blocks),
            PeerMessage::Cancel { file, blocks } => {
                for block in blocks {
                    self.server.uploader.cancel(id, file, block);
                }
            }
            PeerMessage::Reject { file, blocks } => {
                for block in blocks {
                    self.feed(file, Event::Rejected { peer: id, block });
                }
            }
            PeerMessage::Choke { file } => {
                self.requests.withdraw(id, file, |_| true);
                self.feed(file, Event::Choked { peer: id });
            }
            PeerMessage::Unchoke { file } => self.feed(file, Event::Unchoked { peer: id }),
        }
    }

    fn they_join(&mut self, id: PeerId, group: GroupId, file: FileId, signed: Signed, pieces: Option<Bitfield>) {
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
        let pieces = pieces.filter(|_| joined.theirs == Theirs::Verified);
        if joined.theirs == Theirs::Verified {
            joined.theirs = Theirs::Told;
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

    fn they_have(&mut self, id: PeerId, file: FileId, pieces: Bitfield) {
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
        let device = peer.device;
        if self.transfers.get(&file).is_some_and(|transfer| !transfer.banned.contains(&device)) {
            self.note_source(file, id, device);
            self.feed(file, download::Event::PeerJoined { peer: id, bitfield: pieces });
        }
    }

    fn they_gained(&mut self, id: PeerId, file: FileId, pieces: Vec<PieceIndex>) {
        if pieces.len() > MAX_HAVE {
            return self.expel(id, "it announces too many pieces at once");
        }
        let joined = self.peers.links.get_mut(&id).and_then(|peer| peer.files.get_mut(&file));
        let Some(theirs) = joined.and_then(|joined| joined.pieces.as_mut()) else { return };
        for piece in &pieces {
            theirs.insert(*piece);
        }
        self.feed(file, download::Event::Have { peer: id, pieces });
    }

    fn they_leave(&mut self, id: PeerId, file: FileId, reason: Option<Failure>) {
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

    fn they_renew(&mut self, id: PeerId, group: GroupId, signed: Signed) {
        let Some(device) = self.peers.links.get(&id).map(|peer| peer.device) else { return };
        match self.check_ticket(&signed, group, device) {
            Ok(ticket) => self.note_ticket(id, group, signed, ticket),
            Err(failure) => self.exclude(id, group, &failure),
        }
    }

    fn they_request(&mut self, id: PeerId, file: FileId, blocks: &[Block]) {
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

    /// The file is whole here: leaves it on the links to those who have it whole too. They are not told of new pieces, and would
    /// take this device for a leecher as long as the link stands.
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

    pub(super) fn send(&mut self, id: PeerId, message: PeerMessage) {
        self.hand_over(id, Outgoing::Message(message));
    }

    /// Hands something to a link's writer; a link that takes nothing any more is given up.
    pub(super) fn hand_over(&mut self, id: PeerId, outgoing: Outgoing) {
        let taken = self.peers.links.get(&id).is_none_or(|peer| peer.handle.send(outgoing));
        if !taken {
            tracing::debug!(peer = id.0, "a peer takes nothing any more");
            self.unlinked(id);
        }
    }

    /// A piece is there: it is announced soon.
    pub(super) fn queue_have(&mut self, file: FileId, piece: PieceIndex) {
        self.peers.haves.entry(file).or_default().push(piece);
        let due = self.peers.haves_due.get_or_insert(self.now + HAVE_DELAY);
        if self.peers.haves.values().any(|pieces| pieces.len() >= HAVE_BATCH) {
            *due = self.now;
        }
    }

    pub(super) fn haves_due(&self) -> Option<Instant> {
        self.peers.haves_due
    }

    pub(super) fn flush_haves(&mut self) {
        if self.peers.haves_due.is_none_or(|due| due > self.now) {
            return;
        }
        self.peers.haves_due = None;
        for (file, pieces) in std::mem::take(&mut self.peers.haves) {
            let lacking =
                |joined: &Joined| joined.is_served() && joined.pieces.as_ref().is_none_or(|theirs| !theirs.is_full());
            let links = self.peers.links.iter();
            let listeners = links.filter(|(_, peer)| peer.files.get(&file).is_some_and(lacking));
            let ids: Vec<PeerId> = listeners.map(|(id, _)| *id).collect();
            for (id, pieces) in ids.iter().flat_map(|id| pieces.chunks(MAX_HAVE).map(move |chunk| (*id, chunk))) {
                self.send(id, PeerMessage::Have { file, pieces: pieces.to_vec() });
            }
        }
    }

    /// Keeps links alive, and gives up dead and unused ones.
    pub(super) fn tend_links(&mut self) {
        let now = self.now;
        let age = |since: Instant| now.saturating_duration_since(since);
        let over = self
            .peers
            .links
            .iter()
            .filter(|(_, peer)| age(peer.heard) > SILENCE || (age(peer.used) > UNUSED && !self.is_needed(peer)));
        let over: Vec<PeerId> = over.map(|(id, _)| *id).collect();
        for id in over {
            self.unlinked(id);
        }
        let quiet = self.peers.links.iter_mut().filter(|(_, peer)| age(peer.pinged) > PING_EVERY);
        let quiet: Vec<PeerId> = quiet
            .map(|(id, peer)| {
                peer.pinged = now;
                *id
            })
            .collect();
        for id in quiet {
            self.send(id, PeerMessage::Ping);
        }
    }

    /// Whether either side still lacks pieces of a file on this link.
    fn is_needed(&self, peer: &Peer) -> bool {
        peer.files.iter().any(|(file, joined)| {
            self.transfers.get(file).is_some_and(|transfer| transfer.active.is_some())
                || joined.pieces.as_ref().is_some_and(|theirs| !theirs.is_full())
        })
    }

    /// The group of a file that this device serves or downloads now.
    fn local_group(&self, file: FileId) -> Option<GroupId> {
        let transfer = self.transfers.get(&file).filter(|transfer| transfer.active.is_some());
        let share = || self.shares.get(&file).filter(|share| share.suspended.is_none());
        transfer.map(|transfer| transfer.record.group).or_else(|| share().map(|share| share.record.group))
    }

    /// Bytes in a file that this device serves or downloads, now or soon.
    pub(super) fn local_size(&self, file: FileId) -> Option<u64> {
        let transfer = self.transfers.get(&file).map(|transfer| transfer.record.manifest.size);
        transfer.or_else(|| self.shares.get(&file).map(|share| share.record.manifest.size))
    }

    /// Whether this device can serve a piece now.
    pub(super) fn has_piece(&self, file: FileId, piece: PieceIndex) -> bool {
        match self.transfers.get(&file).and_then(|transfer| transfer.active.as_ref()) {
            Some(active) => active.machine.have().has(piece),
            None => self.shares.get(&file).is_some_and(|share| share.suspended.is_none()),
        }
    }

    /// The pieces of a file that this device serves now.
    pub(super) fn local_pieces(&self, file: FileId) -> Option<Bitfield> {
        let active = self.transfers.get(&file).and_then(|transfer| transfer.active.as_ref());
        let share = || self.shares.get(&file).filter(|share| share.suspended.is_none());
        active
            .map(|active| active.machine.have().clone())
            .or_else(|| share().map(|share| Bitfield::full(share.record.manifest.piece_count())))
    }
}
