//! Requests, cancels and interest on their way to peers, as fast as the download limit lets them go.
//!
//! The limit holds back requests and not the reading of answers: a peer that is not read from for half a minute takes us for
//! dead, and at a few KiB a second that is less than a block.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use tokio::time::Instant;

use super::hub::Hub;
use crate::{
    protocol::{ids::FileId, limits::MAX_REQUESTED_BLOCKS, peer::PeerMessage, piece::Block},
    roles::client::command::Rate,
    swarm::{PeerId, rate::TokenBucket},
};

/// What is still to be sent.
pub(super) struct Requests {
    limit: TokenBucket,
    /// Blocks to be asked for, by peer.
    held: BTreeMap<PeerId, VecDeque<(FileId, Block)>>,
    /// Whose turn it was last.
    last: PeerId,
    /// Messages to be sent at the end of the hub's turn.
    ready: BTreeMap<PeerId, Vec<PeerMessage>>,
}

impl Requests {
    pub(super) fn new(limit: TokenBucket) -> Self {
        Self { limit, held: BTreeMap::new(), last: PeerId(0), ready: BTreeMap::new() }
    }

    /// When the next held request may go.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        (!self.held.is_empty()).then(|| now + self.limit.wait(now))
    }

    pub(super) fn request(&mut self, peer: PeerId, file: FileId, block: Block) {
        self.held.entry(peer).or_default().push_back((file, block));
    }

    /// Tells a peer whether a turn would be of use, after what it was asked with earlier ones.
    pub(super) fn interest(&mut self, peer: PeerId, file: FileId, is_interested: bool) {
        let message =
            if is_interested { PeerMessage::Interested { file } } else { PeerMessage::NotInterested { file } };
        self.ready.entry(peer).or_default().push(message);
    }

    /// Takes a request back; tells the peer when it was sent.
    pub(super) fn cancel(&mut self, peer: PeerId, file: FileId, block: Block) {
        if self.withdraw(peer, file, |held| held == block) {
            return;
        }
        let ready = self.ready.entry(peer).or_default();
        match ready.last_mut() {
            Some(PeerMessage::Cancel { file: last, blocks }) if *last == file && has_room(blocks) => blocks.push(block),
            _ => ready.push(PeerMessage::Cancel { file, blocks: vec![block] }),
        }
    }

    /// The block is there, or the peer will not be asked: a request that is still held is not sent. Whether there was one.
    pub(super) fn withdraw(&mut self, peer: PeerId, file: FileId, which: impl Fn(Block) -> bool) -> bool {
        let Some(held) = self.held.get_mut(&peer) else { return false };
        let before = held.len();
        held.retain(|(other, block)| *other != file || !which(*block));
        let is_withdrawn = held.len() < before;
        if held.is_empty() {
            self.held.remove(&peer);
        }
        is_withdrawn
    }

    /// The link is gone.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.held.remove(&peer);
        self.ready.remove(&peer);
    }

    /// What may be sent now: of the held requests as many as the limit lets go, from each peer in turn.
    fn take(&mut self, now: Instant) -> BTreeMap<PeerId, Vec<PeerMessage>> {
        while self.limit.wait(now).is_zero() {
            let Some((peer, file, block)) = self.next() else { break };
            self.limit.take(now, u64::from(block.length));
            let ready = self.ready.entry(peer).or_default();
            match ready.last_mut() {
                Some(PeerMessage::Request { file: last, blocks }) if *last == file && has_room(blocks) => {
                    blocks.push(block);
                }
                _ => ready.push(PeerMessage::Request { file, blocks: vec![block] }),
            }
        }
        std::mem::take(&mut self.ready)
    }

    fn next(&mut self) -> Option<(PeerId, FileId, Block)> {
        let after = self.held.range((Bound::Excluded(self.last), Bound::Unbounded)).next();
        let peer = *after.or_else(|| self.held.first_key_value())?.0;
        self.last = peer;
        let held = self.held.get_mut(&peer)?;
        let next = held.pop_front();
        if held.is_empty() {
            self.held.remove(&peer);
        }
        next.map(|(file, block)| (peer, file, block))
    }
}

/// Whether a message may name one block more.
fn has_room(blocks: &[Block]) -> bool {
    blocks.len() < MAX_REQUESTED_BLOCKS
}

impl Hub {
    pub(super) fn set_download_limit(&mut self, rate: Rate) {
        self.requests.limit.set_limit(self.now, rate.0);
    }

    pub(super) fn send_requests(&mut self) {
        for (id, messages) in self.requests.take(self.now) {
            for message in messages {
                self.send(id, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::piece::{BLOCK_SIZE, PieceIndex};

    const FILE: FileId = FileId([1; 32]);

    fn block(piece: u32) -> Block {
        Block { piece: PieceIndex(piece), offset: 0, length: BLOCK_SIZE }
    }

    fn sent(requests: &mut Requests, now: Instant) -> Vec<(u64, PeerMessage)> {
        let taken = requests.take(now).into_iter();
        taken.flat_map(|(peer, messages)| messages.into_iter().map(move |message| (peer.0, message))).collect()
    }

    fn request(blocks: &[u32]) -> PeerMessage {
        PeerMessage::Request { file: FILE, blocks: blocks.iter().copied().map(block).collect() }
    }

    #[test]
    fn the_limit_lets_one_block_of_each_peer_go_in_turn() {
        let mut now = Instant::now();
        let mut requests = Requests::new(TokenBucket::new(u64::from(BLOCK_SIZE)));
        for (peer, piece) in [(1, 0), (1, 1), (2, 2), (1, 3)] {
            requests.request(PeerId(peer), FILE, block(piece));
        }
        requests.cancel(PeerId(1), FILE, block(3));
        for expected in [(1, request(&[0])), (2, request(&[2])), (1, request(&[1]))] {
            assert_eq!(sent(&mut requests, now), [expected]);
            assert_eq!(sent(&mut requests, now), []);
            now += Duration::from_secs(1);
        }
        assert_eq!(requests.deadline(now), None);
    }

    #[test]
    fn a_change_of_the_limit_counts_for_what_waits() {
        let now = Instant::now();
        let mut requests = Requests::new(TokenBucket::new(1));
        requests.request(PeerId(1), FILE, block(0));
        assert_eq!(sent(&mut requests, now).len(), 1);
        requests.request(PeerId(1), FILE, block(1));
        assert!(requests.deadline(now).unwrap() > now + Duration::from_hours(1));
        requests.limit.set_limit(now, 0);
        assert_eq!(sent(&mut requests, now), [(1, request(&[1]))]);
    }

    #[test]
    fn no_message_names_more_blocks_than_a_peer_takes() {
        let now = Instant::now();
        let mut requests = Requests::new(TokenBucket::new(0));
        let (few, many) = (1, 2 * u32::try_from(MAX_REQUESTED_BLOCKS).unwrap() + 1);
        let lengths = |sent: Vec<(u64, PeerMessage)>| -> Vec<usize> {
            let blocks = |message| match message {
                PeerMessage::Request { blocks, .. } | PeerMessage::Cancel { blocks, .. } => blocks.len(),
                _ => 0,
            };
            sent.into_iter().map(|(_, message)| blocks(message)).collect()
        };
        for (count, expected) in [(few, vec![1]), (many, vec![MAX_REQUESTED_BLOCKS, MAX_REQUESTED_BLOCKS, 1])] {
            (0..count).for_each(|piece| requests.request(PeerId(1), FILE, block(piece)));
            assert_eq!(lengths(sent(&mut requests, now)), expected);
            (0..count).for_each(|piece| requests.cancel(PeerId(1), FILE, block(piece)));
            assert_eq!(lengths(sent(&mut requests, now)), expected);
        }
    }

    #[test]
    fn what_was_sent_is_cancelled_and_what_is_held_only_forgotten() {
        let now = Instant::now();
        let mut requests = Requests::new(TokenBucket::new(0));
        requests.request(PeerId(1), FILE, block(0));
        assert_eq!(sent(&mut requests, now).len(), 1);
        requests.cancel(PeerId(1), FILE, block(0));
        requests.request(PeerId(1), FILE, block(0));
        requests.request(PeerId(1), FILE, block(1));
        requests.withdraw(PeerId(1), FILE, |held| held == block(1));
        let cancel = PeerMessage::Cancel { file: FILE, blocks: vec![block(0)] };
        assert_eq!(sent(&mut requests, now), [(1, cancel), (1, request(&[0]))]);
    }
}
