//! Whom to serve next, for all files and peers of this process.
//!
//! Serial service decides how fast a swarm is (Mundinger, Weber, Weiss): an uplink that finishes a piece for one peer before it
//! begins the next one's gets pieces into circulation earlier than one that feeds four peers at once. So a piece begun for a peer
//! goes on before anything else, and another is begun only while the blocks on their way to sockets are fewer than the uplink needs to
//! be full (`uplink` finds out how many those are); for another peer, only when nearly all of them are gone. Who may ask for a piece
//! next is told by turns (`turns`); what is asked without one comes after the rest.
//!
//! Order of calls: [`Uploader::distance`] when a stream stands; [`Uploader::interest`], [`Uploader::request`], [`Uploader::cancel`], [`Uploader::leave`] and [`Uploader::withdraw`] as
//! messages and events come; then [`Uploader::next`] and [`Uploader::next_turn`] until they say `None`. Each block it names is *on its way*: read it, write it to the peer's socket, and call
//! [`Uploader::sent`] when the socket has taken all of it (or the block could not be sent), which is the time to call `next` again. Call
//! it too when [`Uploader::deadline`] has come. A rate limit goes in front of `next`: do not call it before the tokens for a block are there.
//! A peer whose socket takes nothing for [`STALL`] does not count any more, so that it holds up nobody else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use tokio::time::Instant;

pub use super::turns::{Swarms, Turn};

use super::download::FAR_LIMIT;
use super::turns::Turns;
use super::uplink::Uplink;
use super::{BLOCKS_PER_PIECE, PeerId};
use crate::protocol::ids::FileId;
use crate::protocol::piece::{Block, PIECE_SIZE, PieceIndex};

/// Requests that one peer may have waiting by default, over all files: a quarter more than a download has on their way. What is turned away has
/// used up a turn that still counts as given here.
pub const QUEUE_LIMIT: usize = FAR_LIMIT * BLOCKS_PER_PIECE * 5 / 4;

/// Blocks on their way to one peer at most, where its link has one stream.
const PEER_WINDOW: usize = 4;
/// So many more for each further stream: one is written while the next waits.
const STREAM_WINDOW: usize = 2;

/// Blocks short of a full uplink from which a piece for another peer may begin.
const OTHERS_MARGIN: usize = 3;

/// How long a socket may take nothing before its peer counts as stalled.
pub const STALL: Duration = Duration::from_secs(1);

/// A block to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Upload {
    /// Whom to send it to.
    pub peer: PeerId,
    /// The file.
    pub file: FileId,
    /// The part of it.
    pub block: Block,
}

/// The machine. See the module's text for its use.
pub struct Uploader {
    queue_limit: usize,
    askers: BTreeMap<PeerId, Asker>,
    /// How often each piece was begun for somebody.
    begun: BTreeMap<FileId, BTreeMap<PieceIndex, u32>>,
    /// Pieces begun so far.
    turn: u64,
    uplink: Uplink,
    turns: Turns,
}

/// A peer that has asked for something.
struct Asker {
    waiting: BTreeMap<(FileId, PieceIndex), BTreeSet<Block>>,
    waiting_count: usize,
    /// The pieces among those that it had a turn for.
    by_turn: BTreeSet<(FileId, PieceIndex)>,
    on_its_way: usize,
    /// Blocks on their way that keep its further streams busy, and nobody else from the uplink.
    spare: usize,
    /// The piece begun for it last, and the bytes of that piece that may still follow.
    current: Option<((FileId, PieceIndex), u32)>,
    /// When its last piece was begun, in turns.
    served_turn: u64,
    /// When its socket last took a block, or was first given one.
    moved: Instant,
}

impl Uploader {
    /// Nobody has asked for anything. A peer may have `queue_limit` requests waiting; `rng` decides between equals.
    pub fn new(queue_limit: usize, rng: ChaCha12Rng) -> Self {
        let (askers, begun) = (BTreeMap::new(), BTreeMap::new());
        Self { queue_limit, askers, begun, turn: 0, uplink: Uplink::new(), turns: Turns::new(queue_limit, rng) }
    }

    /// A peer says whether a turn would be of use to it; or was told of pieces that it may lack, which says the same.
    pub fn interest(&mut self, peer: PeerId, file: FileId, is_interested: bool) {
        self.turns.interest(peer, file, is_interested);
    }

    /// The next turn to tell somebody of.
    pub fn next_turn(&mut self, now: Instant, swarms: &impl Swarms) -> Option<Turn> {
        let taken = self.waiting_by_turn(now);
        let askers = &self.askers;
        let waiting = |peer| askers.get(&peer).map_or(0, |asker| asker.waiting_count);
        let is_sending = askers.values().any(|asker| asker.on_its_way > 0 && !asker.is_stalled(now));
        self.turns.next(now, taken, is_sending, waiting, swarms)
    }

    /// A peer asks for a block; the caller has checked that it may have it and that we do. False: the queue is full, reject it. A
    /// repeated request changes nothing.
    #[must_use]
    pub fn request(&mut self, now: Instant, peer: PeerId, file: FileId, block: Block) -> bool {
        let (turn, key) = (self.turn, (file, block.piece));
        let asker = self.askers.entry(peer).or_insert_with(|| Asker::new(now, turn));
        let is_first = !asker.waiting.contains_key(&key);
        if asker.waiting_count >= self.queue_limit {
            if is_first {
                self.turns.refused(peer, file);
            }
            return false;
        }
        if asker.waiting_count == 0 {
            // Having asked for nothing until now is no claim to be served before those who waited.
            asker.served_turn = asker.served_turn.max(turn.saturating_sub(1));
        }
        asker.waiting_count += usize::from(asker.waiting.entry(key).or_default().insert(block));
        if is_first {
            self.use_turn(now, peer, key);
        }
        true
    }

    /// The first block of a piece is asked for: perhaps with a turn.
    fn use_turn(&mut self, now: Instant, peer: PeerId, key: (FileId, PieceIndex)) {
        let queued = self.waiting_by_turn(now) + self.on_its_way(now);
        if self.turns.answered(now, peer, key.0, key.1, queued)
            && let Some(asker) = self.askers.get_mut(&peer)
        {
            asker.by_turn.insert(key);
        }
    }

    /// The link to a peer has so many streams: each takes blocks for itself.
    pub fn widen(&mut self, now: Instant, peer: PeerId, streams: usize) {
        let turn = self.turn;
        let asker = self.askers.entry(peer).or_insert_with(|| Asker::new(now, turn));
        asker.spare = STREAM_WINDOW * streams.saturating_sub(1);
    }

    /// A stream to a peer took so long to stand: a round trip, or more. It is known until the peer leaves.
    pub fn distance(&mut self, peer: PeerId, round_trip: Duration) {
        self.turns.distance(peer, round_trip);
    }

    /// The peer does not need the block any more; false when it is on its way, was sent or was never asked for.
    pub fn cancel(&mut self, peer: PeerId, file: FileId, block: Block) -> bool {
        self.askers.get_mut(&peer).is_some_and(|asker| asker.remove(file, block))
    }

    /// The link is gone. Blocks on their way to it need no [`Uploader::sent`].
    pub fn leave(&mut self, peer: PeerId) {
        self.askers.remove(&peer);
        self.turns.leave(peer);
    }

    /// The peer may not have the file any more: forgets what it waits for and returns that, to be rejected.
    pub fn refuse(&mut self, peer: PeerId, file: FileId) -> Vec<Block> {
        self.turns.refuse(peer, file);
        self.askers.get_mut(&peer).map_or_else(Vec::new, |asker| asker.remove_file(file))
    }

    /// The file is not served any more: forgets all requests for it and returns them, to be rejected.
    pub fn withdraw(&mut self, file: FileId) -> Vec<(PeerId, Block)> {
        self.begun.remove(&file);
        self.turns.withdraw(file);
        let askers = self.askers.iter_mut();
        askers.flat_map(|(peer, asker)| asker.remove_file(file).into_iter().map(|block| (*peer, block))).collect()
    }

    /// The peer's socket has taken a block of `bytes` that [`Uploader::next`] named, or it will not be sent.
    pub fn sent(&mut self, now: Instant, peer: PeerId, bytes: u32) {
        self.uplink.sent(now, u64::from(bytes));
        if let Some(asker) = self.askers.get_mut(&peer) {
            asker.on_its_way = asker.on_its_way.saturating_sub(1);
            asker.moved = now;
        }
    }

    /// Requests that wait, over all peers.
    pub fn waiting(&self) -> usize {
        self.askers.values().map(|asker| asker.waiting_count).sum()
    }

    /// The next block to send, if one is waiting and there is room for it on the way.
    ///
    /// First come pieces begun, whoever was begun first. Then whoever has been passed over for twice as many turns as there are peers
    /// waiting, then what was asked with a turn, the piece sent least often, the rarest, and the peer that has waited for most turns.
    pub fn next(&mut self, now: Instant, swarms: &impl Swarms) -> Option<Upload> {
        if self.on_its_way(now) >= self.uplink.budget() {
            self.note_shortage(now);
            return None;
        }
        if let Some(peer) = self.peer_to_continue() {
            return self.pop(now, peer);
        }
        let Some((peer, key)) = self.piece_to_begin(|file, piece| swarms.copies(file, piece)) else {
            self.uplink.idle();
            return None;
        };
        if self.is_busy_with_others(now, peer) {
            self.note_shortage(now);
            return None;
        }
        self.begin(peer, key);
        self.pop(now, peer)
    }

    /// When to call [`Uploader::next`] and [`Uploader::next_turn`] again though nothing happens: when a peer that holds up others counts
    /// as stalled, or has not used its turn.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let stalled = if self.waiting() == 0 { None } else { self.stalled_at(now) };
        stalled.into_iter().chain(self.turns.deadline()).min()
    }

    fn stalled_at(&self, now: Instant) -> Option<Instant> {
        self.askers
            .values()
            .filter(|asker| asker.on_its_way > 0 && !asker.is_stalled(now))
            .map(|asker| asker.moved + STALL)
            .min()
    }

    /// Blocks that wait and keep the uplink from others. What was asked without a turn does not, or it could keep everybody from
    /// theirs; nor what waits for a peer that takes nothing now.
    fn waiting_by_turn(&self, now: Instant) -> usize {
        let taking = self.askers.values().filter(|asker| asker.has_room() && !asker.is_stalled(now));
        let pieces = taking.flat_map(|asker| asker.by_turn.iter().filter_map(|key| asker.waiting.get(key)));
        pieces.map(BTreeSet::len).sum()
    }

    fn on_its_way(&self, now: Instant) -> usize {
        self.askers.values().filter(|asker| !asker.is_stalled(now)).map(Asker::share).sum()
    }

    /// Whether more blocks are on their way to peers other than `peer` than it takes to keep the uplink busy: the piece begun for
    /// those arrives later if it has to share the uplink with the next.
    fn is_busy_with_others(&self, now: Instant, peer: PeerId) -> bool {
        let own = self.askers.get(&peer).filter(|asker| !asker.is_stalled(now)).map_or(0, Asker::share);
        let all = self.on_its_way(now);
        all > own && all >= self.uplink.budget().saturating_sub(OTHERS_MARGIN).max(1)
    }

    fn note_shortage(&mut self, now: Instant) {
        if self.askers.values().any(|asker| asker.waiting_count > 0 && asker.has_room()) {
            self.uplink.short(now);
        }
    }

    fn peer_to_continue(&self) -> Option<PeerId> {
        let begun = self.askers.iter().filter(|(_, asker)| asker.has_room() && asker.can_continue());
        begun.min_by_key(|(_, asker)| asker.served_turn).map(|(peer, _)| *peer)
    }

    fn piece_to_begin(&self, copies: impl Fn(FileId, PieceIndex) -> u32) -> Option<(PeerId, (FileId, PieceIndex))> {
        let ready = || self.askers.iter().filter(|(_, asker)| asker.waiting_count > 0 && asker.has_room());
        let patience = 2 * u64::try_from(ready().count()).unwrap_or(u64::MAX) + 2;
        let choices = ready().flat_map(|(peer, asker)| asker.waiting.keys().map(move |key| (peer, asker, key)));
        let rank = |(peer, asker, key): &(&PeerId, &Asker, &(FileId, PieceIndex))| {
            let overdue = self.turn.saturating_sub(asker.served_turn) > patience;
            let waited = Reverse(self.turn - asker.served_turn);
            let order = (!asker.by_turn.contains(*key), self.times_begun(**key), copies(key.0, key.1));
            (Reverse(overdue.then_some(self.turn - asker.served_turn)), order, waited, **peer, **key)
        };
        choices.min_by_key(rank).map(|(peer, _, key)| (*peer, *key))
    }

    fn times_begun(&self, (file, piece): (FileId, PieceIndex)) -> u32 {
        self.begun.get(&file).and_then(|pieces| pieces.get(&piece)).copied().unwrap_or(0)
    }

    fn begin(&mut self, peer: PeerId, key: (FileId, PieceIndex)) {
        self.turn += 1;
        *self.begun.entry(key.0).or_default().entry(key.1).or_default() += 1;
        if let Some(asker) = self.askers.get_mut(&peer) {
            asker.current = Some((key, PIECE_SIZE));
            asker.served_turn = self.turn;
        }
    }

    /// Sends the next block of the piece that was begun for `peer` on its way.
    fn pop(&mut self, now: Instant, peer: PeerId) -> Option<Upload> {
        let asker = self.askers.get_mut(&peer)?;
        let ((file, piece), left) = asker.current?;
        let block = asker.waiting.get(&(file, piece))?.first().copied()?;
        asker.remove(file, block);
        asker.current = Some(((file, piece), left.saturating_sub(block.length)));
        if asker.on_its_way == 0 {
            asker.moved = now;
        }
        asker.on_its_way += 1;
        Some(Upload { peer, file, block })
    }
}

impl Asker {
    fn new(now: Instant, turn: u64) -> Self {
        let (waiting, by_turn) = (BTreeMap::new(), BTreeSet::new());
        Self {
            waiting,
            waiting_count: 0,
            by_turn,
            on_its_way: 0,
            spare: 0,
            current: None,
            served_turn: turn,
            moved: now,
        }
    }

    fn has_room(&self) -> bool {
        self.share() < PEER_WINDOW
    }

    /// Blocks on their way that count for the uplink.
    fn share(&self) -> usize {
        self.on_its_way.saturating_sub(self.spare)
    }

    fn is_stalled(&self, now: Instant) -> bool {
        self.on_its_way > 0 && now.saturating_duration_since(self.moved) >= STALL
    }

    /// Whether a block of the piece begun last waits, and no more of that piece has gone than it has: a peer cannot keep the uplink
    /// by asking for the same bytes over and over.
    fn can_continue(&self) -> bool {
        let first = |key| self.waiting.get(&key).and_then(BTreeSet::first);
        self.current.is_some_and(|(key, left)| first(key).is_some_and(|block| block.length <= left))
    }

    fn remove(&mut self, file: FileId, block: Block) -> bool {
        let key = (file, block.piece);
        let Some(blocks) = self.waiting.get_mut(&key) else { return false };
        let removed = blocks.remove(&block);
        if blocks.is_empty() {
            self.waiting.remove(&key);
            self.by_turn.remove(&key);
        }
        self.waiting_count -= usize::from(removed);
        removed
    }

    fn remove_file(&mut self, file: FileId) -> Vec<Block> {
        self.by_turn.retain(|(other, _)| *other != file);
        let taken = self.waiting.extract_if(.., |(other, _), _| *other == file);
        let blocks: Vec<Block> = taken.flat_map(|(_, blocks)| blocks).collect();
        self.waiting_count -= blocks.len();
        blocks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;
    use crate::protocol::piece::blocks;

    const FILE: FileId = FileId([1; 32]);
    const NONE: Copies = Copies(&[]);

    /// Copies of each piece among the leechers; whoever says that it lacks something does.
    struct Copies<'a>(&'a [u32]);

    impl Swarms for Copies<'_> {
        fn copies(&self, _file: FileId, piece: PieceIndex) -> u32 {
            self.0.get(piece.0 as usize).copied().unwrap_or(0)
        }

        fn lacks(&self, _peer: PeerId, _file: FileId) -> bool {
            true
        }

        fn shuns(&self, _peer: PeerId, _file: FileId) -> bool {
            false
        }

        fn seeds(&self, _file: FileId) -> Option<u32> {
            None
        }
    }

    fn uploader(queue_limit: usize) -> Uploader {
        Uploader::new(queue_limit, ChaCha12Rng::seed_from_u64(1))
    }

    fn ask(uploader: &mut Uploader, now: Instant, peer: u64, piece: u32) {
        for block in blocks(PieceIndex(piece), PIECE_SIZE) {
            assert!(uploader.request(now, PeerId(peer), FILE, block));
        }
    }

    /// The pieces that are sent, in order, when each block is taken at once.
    fn order(uploader: &mut Uploader, now: Instant, copies: &[u32]) -> Vec<(u64, u32)> {
        let mut order = Vec::new();
        while let Some(upload) = uploader.next(now, &Copies(copies)) {
            uploader.sent(now, upload.peer, upload.block.length);
            order.push((upload.peer.0, upload.block.piece.0));
        }
        order.dedup();
        order
    }

    #[test]
    fn a_piece_is_finished_for_one_peer_before_the_next_begins() {
        let now = Instant::now();
        let mut uploader = uploader(QUEUE_LIMIT);
        ask(&mut uploader, now, 1, 0);
        ask(&mut uploader, now, 2, 1);
        ask(&mut uploader, now, 1, 2);
        let order = order(&mut uploader, now, &[]);
        assert_eq!(order.len(), 3, "{order:?}");
    }

    #[test]
    fn the_unsent_come_first_and_then_the_rarest() {
        let now = Instant::now();
        let mut uploader = uploader(QUEUE_LIMIT);
        ask(&mut uploader, now, 1, 0);
        assert_eq!(order(&mut uploader, now, &[]), [(1, 0)]);
        ask(&mut uploader, now, 2, 0);
        ask(&mut uploader, now, 3, 1);
        ask(&mut uploader, now, 4, 2);
        assert_eq!(order(&mut uploader, now, &[0, 5, 3]), [(4, 2), (3, 1), (2, 0)]);
    }

    /// Sends the four blocks of a piece and returns whom the last went to.
    fn next_piece(uploader: &mut Uploader, now: Instant) -> Option<u64> {
        let mut send = || {
            let upload = uploader.next(now, &NONE)?;
            uploader.sent(now, upload.peer, upload.block.length);
            Some(upload.peer.0)
        };
        (0..4).filter_map(|_| send()).last()
    }

    #[test]
    fn who_asks_without_a_turn_keeps_nobody_from_theirs() {
        let now = Instant::now();
        let mut uploader = uploader(QUEUE_LIMIT);
        (0..8).for_each(|piece| ask(&mut uploader, now, 1, piece));
        uploader.interest(PeerId(2), FILE, true);
        assert_eq!(uploader.next_turn(now, &NONE).map(|turn| turn.peer), Some(PeerId(2)));
        ask(&mut uploader, now, 2, 9);
        assert_eq!(next_piece(&mut uploader, now), Some(2));
    }

    #[test]
    fn nobody_starves() {
        let now = Instant::now();
        let mut uploader = uploader(QUEUE_LIMIT);
        ask(&mut uploader, now, 9, 0);
        assert_eq!(order(&mut uploader, now, &[]), [(9, 0)]);
        ask(&mut uploader, now, 2, 0);
        let mut turns = 0;
        for piece in 1.. {
            ask(&mut uploader, now, 1, piece);
            if next_piece(&mut uploader, now) == Some(2) {
                break;
            }
            turns += 1;
        }
        assert!(turns <= 8, "{turns}");
    }

    #[test]
    fn the_queue_is_bounded_and_a_repeat_changes_nothing() {
        let now = Instant::now();
        let mut uploader = uploader(2);
        let all: Vec<Block> = blocks(PieceIndex(0), PIECE_SIZE).collect();
        assert!(uploader.request(now, PeerId(1), FILE, all[0]));
        assert!(uploader.request(now, PeerId(1), FILE, all[0]));
        assert!(uploader.request(now, PeerId(1), FILE, all[1]));
        assert!(!uploader.request(now, PeerId(1), FILE, all[2]));
        assert!(uploader.cancel(PeerId(1), FILE, all[0]));
        assert!(!uploader.cancel(PeerId(1), FILE, all[0]));
        assert_eq!(uploader.withdraw(FILE), [(PeerId(1), all[1])]);
        assert_eq!((uploader.waiting(), uploader.next(now, &NONE)), (0, None));
    }

    #[test]
    fn a_stalled_peer_holds_up_nobody() {
        let now = Instant::now();
        let mut uploader = uploader(QUEUE_LIMIT);
        ask(&mut uploader, now, 1, 0);
        ask(&mut uploader, now, 2, 1);
        while uploader.next(now, &NONE).is_some() {}
        let later = uploader.deadline(now).unwrap();
        assert_eq!(uploader.next(later, &NONE).map(|upload| upload.peer), Some(PeerId(2)));
    }

    #[test]
    fn further_streams_are_kept_busy_and_keep_nobody_else_from_the_uplink() {
        let now = Instant::now();
        let taken = |streams| {
            let mut uploader = uploader(QUEUE_LIMIT);
            uploader.widen(now, PeerId(1), streams);
            (0..8).for_each(|piece| ask(&mut uploader, now, 1, piece));
            std::iter::from_fn(|| uploader.next(now, &NONE)).count()
        };
        assert_eq!((taken(1), taken(4)), (4, 4 + 3 * STREAM_WINDOW));
        let mut uploader = uploader(QUEUE_LIMIT);
        uploader.widen(now, PeerId(1), 4);
        ask(&mut uploader, now, 1, 0);
        assert_eq!((0..4).filter_map(|_| uploader.next(now, &NONE)).count(), 4);
        ask(&mut uploader, now, 2, 1);
        assert_eq!(uploader.next(now, &NONE).map(|upload| upload.peer), Some(PeerId(2)));
    }

    proptest! {
        #[test]
        fn every_request_is_sent_once_or_withdrawn(
            asks in prop::collection::vec((0u64..4, 0u32..5, 0usize..4, 0u32..6), 1..80),
        ) {
            let now = Instant::now();
            let mut uploader = uploader(8);
            let (mut waiting, mut on_its_way) = (BTreeSet::new(), Vec::new());
            for (peer, piece, which, act) in asks {
                let peer = PeerId(peer);
                let block = blocks(PieceIndex(piece), PIECE_SIZE).nth(which).unwrap();
                match act {
                    0 => prop_assert_eq!(uploader.cancel(peer, FILE, block), waiting.remove(&(peer, block))),
                    1 => {
                        uploader.leave(peer);
                        waiting.retain(|(other, _)| *other != peer);
                        on_its_way.retain(|other| *other != peer);
                    }
                    2 => while let Some(peer) = on_its_way.pop() {
                        uploader.sent(now, peer, 1);
                    },
                    3 => while let Some(upload) = uploader.next(now, &Copies(&[0, 1, 2, 3, 4, 5, 6, 7])) {
                        prop_assert!(waiting.remove(&(upload.peer, upload.block)));
                        on_its_way.push(upload.peer);
                    },
                    _ => if uploader.request(now, peer, FILE, block) {
                        waiting.insert((peer, block));
                    },
                }
                prop_assert_eq!(uploader.waiting(), waiting.len());
            }
            for _ in 0..200 {
                on_its_way.drain(..).for_each(|peer| uploader.sent(now, peer, 1));
                while let Some(upload) = uploader.next(now, &NONE) {
                    prop_assert!(waiting.remove(&(upload.peer, upload.block)));
                    on_its_way.push(upload.peer);
                }
            }
            prop_assert!(waiting.is_empty());
        }
    }
}
