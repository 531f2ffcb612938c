//! The streams of a link beside the first: opened where one does not fill the line, for blocks alone.
//!
//! The side that dialled opens them, by the protocol `p2p-blocks/1` and with the same two keys, so that the other side knows by the key
//! which link a stream belongs to, and nobody else can add one. It lets one in only while that link has shown a ticket that counts;
//! and a stream ends with its link. Whoever closes one says farewell and reads on until the other has, too: what was on its way
//! still arrives. A stream that is lost with blocks on it takes its link along, since nobody knows which have arrived.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use tokio::time::Instant;

use super::{
    hub::Hub,
    peer_link::{self, Handle, StreamId, first_of},
};
use crate::{
    protocol::{
        ids::FileId,
        piece::{Block, PieceIndex},
    },
    swarm::{
        PeerId,
        streams::{Change, MOST_STREAMS, Reckoning, choose},
    },
    transport::link::Link,
};

/// The streams of one link.
#[derive(Default)]
pub(super) struct Streams {
    /// What opens them, where this side dialled.
    opener: Option<Opener>,
    /// Bytes of blocks that wait for the first.
    waiting: u64,
    /// By which the last block went, counting from the first, and of which piece that was.
    last: usize,
    last_piece: Option<(FileId, PieceIndex)>,
    further: BTreeMap<StreamId, Further>,
}

struct Opener {
    address: String,
    reckoning: Reckoning,
    /// Streams being opened.
    dialling: usize,
}

/// A stream that is not the first.
struct Further {
    handle: Handle,
    /// Bytes of blocks that wait for it.
    waiting: u64,
    /// It was given a block.
    is_used: bool,
}

impl Streams {
    /// Those of a link that this side dialled.
    pub(super) fn of_dialled(now: Instant, address: String, round_trip: std::time::Duration) -> Self {
        let opener = Opener { address, reckoning: Reckoning::new(now, round_trip), dialling: 0 };
        Self { opener: Some(opener), ..Self::default() }
    }

    /// The stream by which a block goes, which is noted; `first` is the link's own.
    pub(super) fn choose<'a>(&'a mut self, first: &'a Handle, file: FileId, block: Block) -> &'a Handle {
        let bytes = u64::from(block.length);
        let goes_on = self.last_piece.replace((file, block.piece)) == Some((file, block.piece));
        let mut open: Vec<&mut Further> = self.further.values_mut().filter(|it| it.handle.is_open()).collect();
        let waiting: Vec<u64> = std::iter::once(self.waiting).chain(open.iter().map(|it| it.waiting)).collect();
        let chosen = choose(waiting.into_iter(), self.last, goes_on);
        self.last = chosen;
        if chosen == 0 {
            self.waiting += bytes;
            return first;
        }
        let further = open.swap_remove(chosen - 1);
        further.waiting += bytes;
        further.is_used = true;
        &further.handle
    }

    /// A stream's socket took blocks.
    fn sent(&mut self, is_first: bool, stream: StreamId, bytes: u64) {
        let waiting =
            if is_first { Some(&mut self.waiting) } else { self.further.get_mut(&stream).map(|it| &mut it.waiting) };
        if let Some(waiting) = waiting {
            *waiting = waiting.saturating_sub(bytes);
        }
        if let Some(opener) = &mut self.opener {
            opener.reckoning.sent(bytes);
        }
    }

    fn count(&self) -> usize {
        1 + self.further.len() + self.opener.as_ref().map_or(0, |opener| opener.dialling)
    }

    /// Further streams that were given blocks.
    #[cfg(test)]
    pub(super) fn used_count(&self) -> usize {
        self.further.values().filter(|it| it.is_used).count()
    }

    /// Those that take blocks.
    pub(super) fn open_count(&self) -> usize {
        1 + self.further.values().filter(|it| it.handle.is_open()).count()
    }
}

impl Hub {
    /// How many streams may be beside the first, over all links: they take no more places than a quarter of those that links have.
    fn room_for_streams(&self) -> usize {
        let taken: usize = self.peers.links.values().map(|peer| peer.streams.count() - 1).sum();
        (self.seams.max_peers / 2).saturating_sub(taken)
    }

    pub(super) fn note_received(&mut self, id: PeerId, bytes: u64) {
        let opener = self.peers.links.get_mut(&id).and_then(|peer| peer.streams.opener.as_mut());
        if let Some(opener) = opener {
            opener.reckoning.received(bytes);
            self.review_streams(id);
        }
    }

    pub(super) fn note_sent(&mut self, id: PeerId, stream: StreamId, bytes: u64) {
        if let Some(peer) = self.peers.links.get_mut(&id) {
            peer.streams.sent(stream == first_of(id), stream, bytes);
            self.review_streams(id);
        }
    }

    /// Looks whether links have the streams that they need.
    pub(super) fn tend_streams(&mut self) {
        let ids: Vec<PeerId> = self.peers.links.keys().copied().collect();
        for id in ids {
            self.review_streams(id);
        }
    }

    fn review_streams(&mut self, id: PeerId) {
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        let count = peer.streams.count();
        let change = peer.streams.opener.as_mut().and_then(|opener| opener.reckoning.review(self.now, count));
        match change {
            Some(Change::Open(more)) => self.open_streams(id, more),
            Some(Change::Close(fewer)) => self.close_streams(id, fewer),
            None => {}
        }
    }

    fn open_streams(&mut self, id: PeerId, more: usize) {
        let more = more.min(self.room_for_streams());
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        let Some(opener) = &mut peer.streams.opener else { return };
        opener.dialling += more;
        for _ in 0..more {
            let (seams, address) = (Arc::clone(&self.seams), opener.address.clone());
            self.seams.env.spawn(peer_link::dial_stream(seams, id, peer.device, address));
        }
    }

    fn close_streams(&mut self, id: PeerId, fewer: usize) {
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        let open = peer.streams.further.values_mut().filter(|it| it.handle.is_open());
        open.take(fewer).for_each(|it| it.handle.retire());
        tracing::trace!(target: "coverage", reached = "streams: closed");
        self.widen(id);
    }

    /// One more stream to a peer stands, or could not be opened.
    pub(super) fn stream_dialled(&mut self, id: PeerId, link: Option<Box<Link>>) {
        // The link may be gone: so is this stream then, and the other side sees that no block went by it.
        let Some(opener) = self.peers.links.get_mut(&id).and_then(|peer| peer.streams.opener.as_mut()) else { return };
        opener.dialling = opener.dialling.saturating_sub(1);
        let Some(link) = link else { return opener.reckoning.failed(self.now) };
        opener.reckoning.opened(link.round_trip());
        let number = self.peers.number();
        self.add_stream(id, StreamId(number), *link);
    }

    /// A peer opened a stream: it belongs to that device's link, if one stands that it dialled and that has shown a ticket.
    pub(super) fn stream_accepted(&mut self, link: Link, from: IpAddr) {
        let id = self.peers.by_device.get(&link.device()).copied().filter(|id| self.takes_stream(*id));
        let Some(id) = id.filter(|_| self.room_for_streams() > 0) else {
            return tracing::trace!(target: "coverage", reached = "streams: refused");
        };
        let number = self.peers.number();
        if self.let_in(number, from) {
            self.peers.doors.recognize(number, true);
            self.add_stream(id, StreamId(number), link);
        }
    }

    fn takes_stream(&self, id: PeerId) -> bool {
        let Some(peer) = self.peers.links.get(&id) else { return false };
        !peer.dialled && peer.greeted && !peer.shown.is_empty() && peer.streams.count() < MOST_STREAMS
    }

    fn add_stream(&mut self, id: PeerId, stream: StreamId, link: Link) {
        let Some(peer) = self.peers.links.get_mut(&id) else { return self.peers.doors.leave(stream.0) };
        tracing::trace!(target: "coverage", reached = "streams: opened");
        self.server.uploader.distance(id, link.round_trip());
        let handle = peer_link::start_stream(&self.seams, id, stream, link);
        handle.trust();
        peer.streams.further.insert(stream, Further { handle, waiting: 0, is_used: false });
        self.widen(id);
    }

    /// Tells the uploader how many streams take blocks.
    fn widen(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.links.get(&id) {
            self.server.uploader.widen(self.now, id, peer.streams.open_count());
        }
    }

    /// The other side sends nothing more by a stream, and so do we.
    pub(super) fn retire_stream(&mut self, id: PeerId, stream: StreamId) {
        let further = self.peers.links.get_mut(&id).and_then(|peer| peer.streams.further.get_mut(&stream));
        if let Some(further) = further {
            further.handle.retire();
            self.widen(id);
        }
    }

    pub(super) fn stream_ended(&mut self, id: PeerId, stream: StreamId, is_lost: bool) {
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        let Some(further) = peer.streams.further.remove(&stream) else { return };
        self.peers.doors.leave(stream.0);
        if is_lost && further.is_used {
            tracing::trace!(target: "coverage", reached = "streams: lost with its link");
            return self.unlinked(id);
        }
        self.widen(id);
    }

    /// Closes all streams of a link but the first.
    pub(super) fn drop_streams(&mut self, id: PeerId) {
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        for stream in std::mem::take(&mut peer.streams.further).into_keys() {
            self.peers.doors.leave(stream.0);
        }
        self.widen(id);
    }
}
