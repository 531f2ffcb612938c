//! Links to peers: made, greeted, kept alive, ended.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    hub::Hub,
    joins::{Joined, Shown},
    peer_link::{self, Handle, Origin, Outgoing, Received},
    streams::Streams,
};
use crate::{
    protocol::{
        bitfield::Bitfield,
        ids::{DeviceKey, FileId, GroupId},
        limits::{MAX_HAVE, MAX_REQUESTED_BLOCKS},
        peer::{PeerMessage, VERSION},
        piece::{Block, PieceIndex},
    },
    roles::doors::{Capacity, Doors, Share},
    swarm::{HAVE_BATCH, HAVE_DELAY, PeerId, download},
    transport::link::Link,
};

/// Longest time from the handshake to the other side's hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// A link without a word for this long is dead.
const SILENCE: Duration = Duration::from_mins(1);
/// A link that stands in a new one's way is given up after this long without a word.
const DOUBT: Duration = Duration::from_secs(10);
/// How often an idle link is kept alive.
const PING_EVERY: Duration = Duration::from_secs(20);
/// An unused link is closed after this long.
const UNUSED: Duration = Duration::from_mins(2);

/// All links.
pub(super) struct Peers {
    pub(super) links: BTreeMap<PeerId, Peer>,
    pub(super) by_device: BTreeMap<DeviceKey, PeerId>,
    /// The places of those who dialled us.
    pub(super) doors: Doors,
    /// Dials under way.
    pub(super) dialling: BTreeMap<DeviceKey, String>,
    /// Devices that could not be dialled lately.
    pub(super) unreachable: BTreeMap<DeviceKey, Unreachable>,
    /// Pieces to be announced.
    haves: BTreeMap<FileId, Vec<PieceIndex>>,
    haves_due: Option<Instant>,
    /// When pieces were last announced.
    announced: Option<Instant>,
    /// Links and further streams.
    streams_made: u64,
}

impl Peers {
    /// No links yet. Those who dial us may be as many again as those whom we dial; of them, three in four that have shown no
    /// ticket may come from one network.
    pub(super) fn new(most: usize) -> Self {
        let all = Share { in_all: 2 * most, per_network: 2 * most };
        let strangers = Share { in_all: most, per_network: (3 * most / 4).max(1) };
        Self {
            links: BTreeMap::new(),
            by_device: BTreeMap::new(),
            doors: Doors::new(Capacity { all, strangers }),
            dialling: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            haves: BTreeMap::new(),
            haves_due: None,
            announced: None,
            streams_made: 0,
        }
    }
}

impl Peers {
    /// A number for a link or stream.
    pub(super) fn number(&mut self) -> u64 {
        self.streams_made += 1;
        self.streams_made
    }
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
    pub(super) streams: Streams,
    handle: Handle,
    pub(super) greeted: bool,
    pub(super) files: BTreeMap<FileId, Joined>,
    pub(super) shown: BTreeMap<GroupId, Shown>,
    heard: Instant,
    pinged: Instant,
    pub(super) used: Instant,
}

impl Peer {
    /// Files this link takes part in, in a group.
    pub(super) fn files_of(&self, group: GroupId) -> impl Iterator<Item = FileId> + '_ {
        self.files.iter().filter(move |(_, joined)| joined.group == group).map(|(file, _)| *file)
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
    pub(super) fn linked(&mut self, link: Link, origin: Origin) {
        let (device, dialled) = (link.device(), matches!(origin, Origin::Ours(_)));
        self.peers.dialling.remove(&device);
        self.peers.unreachable.remove(&device);
        let own = self.seams.identity.device();
        let is_welcome = self.user.is_some() && device != own;
        if !is_welcome || !self.make_way(device, dialled == (own < device), dialled) {
            return;
        }
        let id = PeerId(self.peers.number());
        let now = self.now;
        let streams = match origin {
            Origin::Ours(address) => Streams::of_dialled(now, address, link.round_trip()),
            Origin::Theirs(from) if self.let_in(id.0, from) => Streams::default(),
            Origin::Theirs(_) => return,
        };
        self.server.uploader.distance(id, link.round_trip());
        let handle = peer_link::start(&self.seams, id, link);
        let peer = Peer {
            device,
            dialled,
            streams,
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

    /// Gives up a link that dialled us and has shown no ticket, so that who is no member cannot keep members out.
    fn drop_stranger(&mut self) -> bool {
        let Some(stranger) = self.peers.doors.next_to_leave() else { return false };
        self.unlinked(PeerId(stranger));
        true
    }

    /// Gives a place to a link or stream that dialled us; false when there is none.
    pub(super) fn let_in(&mut self, number: u64, from: IpAddr) -> bool {
        let entered = self.peers.doors.enter(number, from);
        if let Ok(Some(evicted)) = entered {
            tracing::debug!(peer = evicted, "gave way to others: it has shown no ticket");
            self.unlinked(PeerId(evicted));
        }
        entered.is_ok()
    }

    /// Notes whether a peer has shown a ticket that counts.
    pub(super) fn recognize(&mut self, id: PeerId) {
        let Some(peer) = self.peers.links.get(&id) else { return };
        let is_known = !peer.shown.is_empty();
        if is_known {
            peer.handle.trust();
        }
        self.peers.doors.recognize(id.0, is_known);
        if !is_known {
            self.drop_streams(id);
        }
    }

    /// A link has ended, or is given up.
    pub(super) fn unlinked(&mut self, id: PeerId) {
        self.drop_streams(id);
        let Some(peer) = self.peers.links.remove(&id) else { return };
        self.peers.doors.leave(id.0);
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
    pub(super) fn expel(&mut self, id: PeerId, reason: &str) {
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
                self.note_received(id, u64::from(block.length));
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
            PeerMessage::Unchoke { file, suggested } => self.feed(file, Event::Unchoked { peer: id, suggested }),
            PeerMessage::Interested { file } => self.they_want(id, file, true),
            PeerMessage::NotInterested { file } => self.they_want(id, file, false),
        }
    }

    pub(super) fn send(&mut self, id: PeerId, message: PeerMessage) {
        self.hand_over(id, Outgoing::Message(message));
    }

    /// Hands something to the writer of a link's first stream.
    fn hand_over(&mut self, id: PeerId, outgoing: Outgoing) {
        let taken = self.peers.links.get(&id).is_none_or(|peer| peer.handle.send(outgoing));
        self.note_handed_over(id, taken);
    }

    /// Hands a block to the writer of one of a link's streams.
    pub(super) fn hand_over_block(&mut self, id: PeerId, file: FileId, block: Block, bytes: Bytes) {
        let outgoing = Outgoing::Block { file, block, bytes };
        let send = |peer: &mut Peer| peer.streams.choose(&peer.handle, file, block).send(outgoing);
        let taken = self.peers.links.get_mut(&id).is_none_or(send);
        self.note_handed_over(id, taken);
    }

    /// A link that takes nothing any more is given up.
    fn note_handed_over(&mut self, id: PeerId, taken: bool) {
        if !taken {
            tracing::debug!(peer = id.0, "a peer takes nothing any more");
            self.unlinked(id);
        }
    }

    /// A piece is there: it is announced soon.
    pub(super) fn queue_have(&mut self, file: FileId, piece: PieceIndex) {
        self.peers.haves.entry(file).or_default().push(piece);
        let next = self.peers.announced.map_or(self.now, |at| at + HAVE_DELAY);
        let due = self.peers.haves_due.get_or_insert(next);
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
        (self.peers.haves_due, self.peers.announced) = (None, Some(self.now));
        for (file, pieces) in std::mem::take(&mut self.peers.haves) {
            // Who has all is told, too: a seeder suggests what nobody has, and looks whether that spreads.
            let links = self.peers.links.iter();
            let listeners = links.filter(|(_, peer)| peer.files.get(&file).is_some_and(Joined::is_served));
            let ids: Vec<PeerId> = listeners.map(|(id, _)| *id).collect();
            for (id, pieces) in ids.iter().flat_map(|id| pieces.chunks(MAX_HAVE).map(move |chunk| (*id, chunk))) {
                self.send(id, PeerMessage::Have { file, pieces: pieces.to_vec() });
                self.server.uploader.interest(id, file, true);
            }
        }
    }

    /// Keeps links alive, and gives up dead and unused ones.
    pub(super) fn tend_links(&mut self) {
        let now = self.now;
        let age = |since: Instant| now.saturating_duration_since(since);
        let is_over = |peer: &Peer| {
            let is_mute = !peer.greeted && age(peer.used) > HELLO_WITHIN;
            is_mute || age(peer.heard) > SILENCE || (age(peer.used) > UNUSED && !self.is_needed(peer))
        };
        let over = self.peers.links.iter().filter(|(_, peer)| is_over(peer));
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
