//! Who may begin a piece next: turns, given one at a time and only so many ahead.
//!
//! A leecher asks for a piece when it has a turn, not before, and chooses the piece then. So what it asks for is chosen by what is rare
//! at that moment, nothing waits in the queue of a busy peer that an idle one could send, and the uplink serves piece after
//! piece as if each were the first. A turn that is of no use is given back ([`Turns::interest`]) and costs a round trip, no more,
//! because one is always given while the piece before is being sent. How many are given ahead is found by trial as TCP finds
//! its window: twice as many after the uplink ran dry with turns on their way, slowly fewer while requests pile up.
//!
//! **Super-seeding.** Who has the file whole suggests with each turn a piece that no leecher has, so that none goes out twice before all
//! have gone out once. Whoever was sent such a piece and does not spread it is served after others, and the piece is
//! suggested to another (Hoffman's super-seeding in `BitTornado`, 2003, waits for the first to spread before it trusts it with the next).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng as _;
use tokio::time::Instant;

use super::download::FAR_LIMIT;
use super::{BLOCKS_PER_PIECE, PeerId};
use crate::protocol::ids::FileId;
use crate::protocol::piece::PieceIndex;

/// How long a turn may go unused before another is given in its place. It may still be used.
const TURN_LIFE: Duration = Duration::from_secs(1);
/// Most turns ahead. Fewer than the pieces that a download may have on their way: a turn that finds no room is given back, and all
/// others with it, and the way is empty for a round trip.
const MAX_AHEAD: usize = FAR_LIMIT * 2 / 3;
/// As many turns ahead are enough where they are used sooner than this after they were given (loopback, or a local network): what
/// runs dry there waits for a processor, and more on their way would cost the other side memory.
const SHORT_WAIT: Duration = Duration::from_millis(20);
const ENOUGH_AHEAD: usize = 8;
/// Elsewhere as many for each leecher as keep a line of 1 Gbit/s full over a round trip, and three fifths more, since a turn takes longer where
/// packets are lost. More would wait in the queue before the line, which drops what it cannot hold. What waits there already makes no round
/// trip longer: then a queue would let itself grow.
const TURNS_PER_S: u128 = 380;
/// Turns by which it is known how far away the others are: the quickest counts, the rest waited for a processor.
const WAITS_KEPT: usize = 16;
/// Blocks before a request in the queue from which fewer turns ahead would do.
const DEEP_QUEUE: usize = 2 * BLOCKS_PER_PIECE;
/// Turns for which anybody may be passed over, for each that is interested.
const PATIENCE: u64 = 4;
/// Turns given after one with a suggestion, by which the piece should have spread.
const SPREAD_TURNS: u64 = 8;
/// Pieces looked at for one suggestion.
const SUGGESTION_SEARCH: usize = 1024;

/// What whoever gives turns asks of those who know the swarms.
pub trait Swarms {
    /// Leechers among the connected peers that have a piece.
    fn copies(&self, file: FileId, piece: PieceIndex) -> u32;
    /// Whether a peer lacks a piece that is here, as far as it has told.
    fn lacks(&self, peer: PeerId, file: FileId) -> bool;
    /// Whether a peer was found to send nothing, or rubbish: such ones come after all others.
    fn shuns(&self, peer: PeerId, file: FileId) -> bool;
    /// The number of pieces of a file that is whole here.
    fn seeds(&self, file: FileId) -> Option<u32>;
}

/// A peer may begin one more piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whose turn it is.
    pub peer: PeerId,
    /// The file.
    pub file: FileId,
    /// The piece that had best be asked for.
    pub suggested: Option<PieceIndex>,
}

/// All turns.
pub(super) struct Turns {
    leechers: BTreeMap<(PeerId, FileId), Leecher>,
    given: Vec<Given>,
    /// How many may be given, or waiting as requests, at a time.
    ahead: usize,
    /// Turns given so far.
    count: u64,
    /// Where that count was when `ahead` last changed.
    changed: u64,
    /// How long the last turns that were used took until then.
    waits: VecDeque<Duration>,
    /// The shortest time that a stream to a peer took to stand.
    distances: BTreeMap<PeerId, Duration>,
    seeding: BTreeMap<FileId, Seeding>,
    entrusted: Vec<Entrusted>,
    /// Pieces that have spread so far.
    spread: u64,
    /// Requests of one peer that may wait.
    queue_limit: usize,
    rng: ChaCha12Rng,
}

/// A peer that was told of pieces, or asked for turns.
struct Leecher {
    /// It could use a piece, as far as we know.
    is_interested: bool,
    /// The turn it was given last; 0 before the first.
    last: u64,
    /// Turns given before it came.
    from: u64,
    /// It did not use its last turn in time.
    unused: bool,
    /// Turns that it did not use in time, and may still use.
    late: usize,
    /// It was the first to be sent a piece, and did not spread it while others did.
    kept: bool,
}

/// A turn on its way.
struct Given {
    turn: Turn,
    at: Instant,
    number: u64,
    /// Something else was being sent, or about to be.
    busy: bool,
}

/// What of a file that is whole here was not suggested yet.
struct Seeding {
    count: u32,
    /// The next piece, and how many are left from there on; begun at random, so that two seeders do not suggest the same.
    next: u32,
    left: u32,
    /// Pieces to be suggested again, unless more leechers have them than that.
    again: VecDeque<(PieceIndex, u32)>,
}

/// A piece that one leecher alone was sent.
struct Entrusted {
    file: FileId,
    piece: PieceIndex,
    peer: PeerId,
    /// Turns given until then, and pieces that had spread.
    number: u64,
    spread: u64,
}

impl Leecher {
    /// It uses a turn: whether that may be one that was void already, so that it is not known how long it took.
    fn uses_late(&mut self) -> bool {
        self.unused = false;
        let is_late = self.late > 0;
        self.late -= usize::from(is_late);
        is_late
    }
}

impl Turns {
    pub(super) fn new(queue_limit: usize, rng: ChaCha12Rng) -> Self {
        Self {
            leechers: BTreeMap::new(),
            given: Vec::new(),
            ahead: 1,
            count: 0,
            changed: 0,
            waits: VecDeque::new(),
            distances: BTreeMap::new(),
            seeding: BTreeMap::new(),
            entrusted: Vec::new(),
            spread: 0,
            queue_limit,
            rng,
        }
    }

    /// A peer could use a piece of a file, or has no use for one: then the turns it was given are void.
    pub(super) fn interest(&mut self, peer: PeerId, file: FileId, is_interested: bool) {
        let from = self.count;
        let new = || Leecher { is_interested, last: 0, from, unused: false, late: 0, kept: false };
        let leecher = self.leechers.entry((peer, file)).or_insert_with(new);
        leecher.is_interested = is_interested;
        if !is_interested {
            leecher.late = 0;
            self.void(|given| given.turn.peer == peer && given.turn.file == file);
        }
    }

    /// A stream to the peer took so long to stand. The shortest time is the round trip, the others waited for something.
    pub(super) fn distance(&mut self, peer: PeerId, round_trip: Duration) {
        let known = self.distances.entry(peer).or_insert(round_trip);
        *known = round_trip.min(*known);
    }

    /// The peer may not have the file any more.
    pub(super) fn refuse(&mut self, peer: PeerId, file: FileId) {
        self.leechers.remove(&(peer, file));
        self.void(|given| given.turn.peer == peer && given.turn.file == file);
    }

    /// The link is gone.
    pub(super) fn leave(&mut self, peer: PeerId) {
        self.leechers.retain(|(other, _), _| *other != peer);
        self.distances.remove(&peer);
        self.void(|given| given.turn.peer == peer);
    }

    /// The file is not served any more.
    pub(super) fn withdraw(&mut self, file: FileId) {
        self.leechers.retain(|(_, other), _| *other != file);
        self.given.retain(|given| given.turn.file != file);
        self.entrusted.retain(|entrusted| entrusted.file != file);
        self.seeding.remove(&file);
    }

    /// A peer asks for the first block of a piece, before which `queued` others wait or are on their way. Whether it had a turn.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        peer: PeerId,
        file: FileId,
        piece: PieceIndex,
        queued: usize,
    ) -> bool {
        let Some(Given { turn, at, number, busy }) = self.take_given(peer, file) else { return false };
        if !self.leechers.get_mut(&(peer, file)).is_some_and(Leecher::uses_late) {
            self.waits.push_back(now.saturating_duration_since(at));
            if self.waits.len() > WAITS_KEPT {
                self.waits.pop_front();
            }
        }
        if number > self.changed {
            self.adapt(queued, busy);
        }
        if turn.suggested == Some(piece) {
            let (number, spread) = (self.count, self.spread);
            self.entrusted.push(Entrusted { file, piece, peer, number, spread });
        } else {
            self.take_back(turn);
        }
        true
    }

    /// A peer asks for the first block of a piece, and is refused it: a turn that it had for it is void.
    pub(super) fn refused(&mut self, peer: PeerId, file: FileId) {
        if let Some(given) = self.take_given(peer, file) {
            self.take_back(given.turn);
        }
    }

    fn take_given(&mut self, peer: PeerId, file: FileId) -> Option<Given> {
        let first = self.given.iter().position(|given| given.turn.peer == peer && given.turn.file == file)?;
        Some(self.given.remove(first))
    }

    /// When a turn that was not used makes way for another.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.given.iter().map(|given| given.at + TURN_LIFE).min()
    }

    /// The next turn to give, where `queued` blocks wait, `waiting` of them for each peer, and others may be on their way.
    pub(super) fn next(
        &mut self,
        now: Instant,
        queued: usize,
        is_sending: bool,
        waiting: impl Fn(PeerId) -> usize,
        swarms: &impl Swarms,
    ) -> Option<Turn> {
        self.void_unused(now);
        let open = self.given.len() * BLOCKS_PER_PIECE + queued;
        if open >= self.ahead * BLOCKS_PER_PIECE {
            return None;
        }
        let (peer, file) = self.choose(waiting, swarms)?;
        self.count += 1;
        if let Some(leecher) = self.leechers.get_mut(&(peer, file)) {
            leecher.last = self.count;
        }
        let turn = Turn { peer, file, suggested: self.suggest(file, swarms) };
        self.given.push(Given { turn, at: now, number: self.count, busy: open > 0 || is_sending });
        Some(turn)
    }

    /// Who is served next. First whoever was passed over for too long; then those who take part before those who were shunned, let a
    /// turn lapse or kept a piece to themselves, then who has least in the queue, then who has waited longest; at random among equals.
    /// Nobody whose queue is full, as with many files at once: what it would ask for is rejected.
    fn choose(&mut self, waiting: impl Fn(PeerId) -> usize, swarms: &impl Swarms) -> Option<(PeerId, FileId)> {
        self.reconsider(swarms);
        let mut given: BTreeMap<PeerId, usize> = BTreeMap::new();
        for it in &self.given {
            *given.entry(it.turn.peer).or_default() += BLOCKS_PER_PIECE;
        }
        let interested = self.leechers.iter().filter(|(_, leecher)| leecher.is_interested);
        let count = interested.clone().count();
        let start = usize::try_from(self.rng.next_u32()).unwrap_or_default() % count.max(1);
        let patience = PATIENCE * (u64::try_from(count).unwrap_or(u64::MAX).saturating_add(1));
        let mut ranked: Vec<_> = interested
            .enumerate()
            .map(|(index, (key, leecher))| {
                let passed_over = self.count - leecher.last.max(leecher.from);
                let doubts = (swarms.shuns(key.0, key.1), leecher.unused, leecher.kept);
                let queue = waiting(key.0) + given.get(&key.0).copied().unwrap_or_default();
                let place = (index + count - start) % count;
                ((passed_over <= patience, doubts, queue, leecher.last, place), *key)
            })
            .filter(|((_, _, queue, ..), _)| queue + BLOCKS_PER_PIECE <= self.queue_limit)
            .collect();
        ranked.sort_unstable_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, key)| key).find(|(peer, file)| swarms.lacks(*peer, *file))
    }

    /// Who did not spread a piece while others spread theirs is served after the others; the piece is suggested again.
    fn reconsider(&mut self, swarms: &impl Swarms) {
        let has_spread = |it: &mut Entrusted| swarms.copies(it.file, it.piece) >= 2;
        let spread: Vec<Entrusted> = self.entrusted.extract_if(.., has_spread).collect();
        self.spread += u64::try_from(spread.len()).unwrap_or(u64::MAX);
        for it in spread {
            self.doubt(&it, false);
        }
        let late: Vec<Entrusted> = self.entrusted.extract_if(.., |it| self.count >= it.number + SPREAD_TURNS).collect();
        for it in late {
            self.doubt(&it, self.spread > it.spread);
            if let Some(seeding) = self.seeding.get_mut(&it.file) {
                seeding.again.push_front((it.piece, 1));
            }
        }
    }

    fn doubt(&mut self, entrusted: &Entrusted, kept: bool) {
        if let Some(leecher) = self.leechers.get_mut(&(entrusted.peer, entrusted.file)) {
            leecher.kept = kept;
        }
    }

    fn suggest(&mut self, file: FileId, swarms: &impl Swarms) -> Option<PieceIndex> {
        let count = swarms.seeds(file)?;
        let rng = &mut self.rng;
        let seeding = self.seeding.entry(file).or_insert_with(|| Seeding::new(count, rng.next_u32()));
        seeding.suggest(|piece| swarms.copies(file, piece))
    }

    /// More turns ahead where the uplink ran dry though they were on their way, fewer where requests pile up. A turn was used when
    /// `queued` blocks were before it.
    fn adapt(&mut self, queued: usize, busy: bool) {
        let most = self.most_ahead();
        if queued == 0 && busy && self.ahead < most {
            self.ahead = (self.ahead * 2).min(most);
            self.changed = self.count;
        } else if self.ahead > 1 && (queued >= DEEP_QUEUE || self.ahead > most) {
            self.ahead -= self.ahead.div_ceil(8);
            self.changed = self.count;
        }
    }

    /// As many turns ahead as may be of use over the distance to those who use them.
    fn most_ahead(&self) -> usize {
        let shortest = self.waits.iter().min().copied().unwrap_or_default();
        if shortest < SHORT_WAIT {
            return ENOUGH_AHEAD;
        }
        let interested = self.leechers.iter().filter(|(_, leecher)| leecher.is_interested);
        let distances =
            interested.map(|((peer, _), _)| self.distances.get(peer).map_or(shortest, |it| shortest.min(*it)));
        let turns: u128 = distances.map(|distance| TURNS_PER_S * distance.as_millis() / 1000).sum();
        usize::try_from(turns).unwrap_or(usize::MAX).clamp(ENOUGH_AHEAD, MAX_AHEAD)
    }

    fn void_unused(&mut self, now: Instant) {
        for Given { turn, at, .. } in &self.given {
            if let Some(leecher) = self.leechers.get_mut(&(turn.peer, turn.file)).filter(|_| *at + TURN_LIFE <= now) {
                leecher.unused = true;
                leecher.late += 1;
            }
        }
        self.void(|given| given.at + TURN_LIFE <= now);
    }

    fn void(&mut self, which: impl Fn(&Given) -> bool) {
        let voided: Vec<Given> = self.given.extract_if(.., |given| which(given)).collect();
        for given in voided {
            self.take_back(given.turn);
        }
    }

    /// What was suggested in vain is suggested again.
    fn take_back(&mut self, turn: Turn) {
        if let (Some(seeding), Some(piece)) = (self.seeding.get_mut(&turn.file), turn.suggested) {
            seeding.again.push_back((piece, 0));
        }
    }
}

impl Seeding {
    fn new(count: u32, start: u32) -> Self {
        Self { count, next: start % count.max(1), left: count, again: VecDeque::new() }
    }

    /// A piece that hardly anybody has; after a bounded search none, so that a large file whose pieces all have spread costs little.
    fn suggest(&mut self, copies: impl Fn(PieceIndex) -> u32) -> Option<PieceIndex> {
        for _ in 0..SUGGESTION_SEARCH {
            let (piece, most) = self.again.pop_front().or_else(|| self.advance())?;
            if copies(piece) <= most {
                return Some(piece);
            }
        }
        None
    }

    fn advance(&mut self) -> Option<(PieceIndex, u32)> {
        self.left = self.left.checked_sub(1)?;
        let piece = PieceIndex(self.next);
        self.next = (self.next + 1) % self.count;
        Some((piece, 0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    const FILE: FileId = FileId([1; 32]);
    /// Requests of one peer that may wait: more than any other test has.
    const QUEUE: usize = 64 * BLOCKS_PER_PIECE;

    /// A swarm as a seeder of four pieces knows it: who has which, and who is shunned.
    #[derive(Default)]
    struct Known {
        has: BTreeMap<PeerId, Vec<u32>>,
        shunned: Vec<PeerId>,
    }

    impl Swarms for Known {
        fn copies(&self, _file: FileId, piece: PieceIndex) -> u32 {
            self.has.values().filter(|pieces| pieces.contains(&piece.0)).count() as u32
        }

        fn lacks(&self, peer: PeerId, _file: FileId) -> bool {
            self.has.get(&peer).is_none_or(|pieces| pieces.len() < 4)
        }

        fn shuns(&self, peer: PeerId, _file: FileId) -> bool {
            self.shunned.contains(&peer)
        }

        fn seeds(&self, _file: FileId) -> Option<u32> {
            Some(4)
        }
    }

    fn turns(peers: u64) -> Turns {
        let mut turns = Turns::new(QUEUE, ChaCha12Rng::seed_from_u64(3));
        (1..=peers).for_each(|peer| turns.interest(PeerId(peer), FILE, true));
        turns
    }

    fn give(turns: &mut Turns, now: Instant, known: &Known) -> Option<Turn> {
        turns.next(now, 0, true, |_| 0, known)
    }

    /// Gives the next turn, which is used for what it suggests.
    fn use_next(turns: &mut Turns, now: Instant, known: &mut Known) -> Turn {
        let turn = give(turns, now, known).expect("somebody is interested");
        let piece = turn.suggested.expect("something is to be suggested");
        assert!(turns.answered(now, turn.peer, FILE, piece, 1));
        known.has.entry(turn.peer).or_default().push(piece.0);
        turn
    }

    #[test]
    fn every_piece_goes_out_once_before_any_goes_out_twice() {
        let (now, mut known, mut turns) = (Instant::now(), Known::default(), turns(4));
        let given: Vec<Turn> = (0..4).map(|_| use_next(&mut turns, now, &mut known)).collect();
        let mut pieces: Vec<u32> = given.iter().filter_map(|turn| turn.suggested).map(|piece| piece.0).collect();
        let mut peers: Vec<u64> = given.iter().map(|turn| turn.peer.0).collect();
        pieces.sort_unstable();
        peers.sort_unstable();
        assert_eq!((pieces, peers), (vec![0, 1, 2, 3], vec![1, 2, 3, 4]));
        assert_eq!(give(&mut turns, now, &known).map(|turn| turn.suggested), Some(None));
    }

    #[test]
    fn whose_queue_is_full_is_given_no_turn() {
        let (now, known, mut turns) = (Instant::now(), Known::default(), turns(2));
        let waiting = |peer: PeerId| if peer == PeerId(1) { QUEUE - BLOCKS_PER_PIECE + 1 } else { 0 };
        let given = turns.next(now, 0, true, waiting, &known).unwrap();
        assert_eq!(given.peer, PeerId(2));
        assert_eq!(turns.next(now, 0, true, |_| QUEUE, &known), None);
    }

    #[test]
    fn a_turn_whose_request_is_refused_keeps_nobody_waiting() {
        let (now, known, mut turns) = (Instant::now(), Known::default(), turns(2));
        let refused = give(&mut turns, now, &known).unwrap();
        assert_eq!(give(&mut turns, now, &known), None);
        turns.refused(refused.peer, FILE);
        let next = give(&mut turns, now, &known).unwrap();
        assert_ne!(next.peer, refused.peer);
        turns.refused(next.peer, FILE);
        let suggested: Vec<_> = (0..4)
            .filter_map(|_| {
                let turn = give(&mut turns, now, &known)?;
                turns.answered(now, turn.peer, FILE, turn.suggested?, 1);
                turn.suggested
            })
            .collect();
        assert!(suggested.contains(&refused.suggested.unwrap()), "what was suggested is suggested again");
    }

    #[test]
    fn one_turn_at_a_time_is_given_and_another_in_its_place_when_it_is_of_no_use() {
        let (now, known, mut turns) = (Instant::now(), Known::default(), turns(2));
        let first = give(&mut turns, now, &known).unwrap();
        assert_eq!(give(&mut turns, now, &known), None);
        turns.interest(first.peer, FILE, false);
        let second = give(&mut turns, now, &known).unwrap();
        assert_ne!(second.peer, first.peer);
        assert_ne!(second.suggested, None);
        assert_eq!(turns.deadline(), Some(now + TURN_LIFE));
        assert_eq!(give(&mut turns, now + TURN_LIFE, &known).map(|turn| turn.peer), Some(second.peer));
        turns.leave(second.peer);
        assert_eq!((give(&mut turns, now, &known), turns.deadline()), (None, None));
    }

    #[test]
    fn what_was_suggested_in_vain_is_suggested_again() {
        let (now, mut known, mut turns) = (Instant::now(), Known::default(), turns(4));
        for _ in 0..3 {
            let turn = give(&mut turns, now, &known).unwrap();
            turns.interest(turn.peer, FILE, false);
            turns.interest(turn.peer, FILE, true);
        }
        let mut suggested: Vec<_> =
            (0..4).filter_map(|_| use_next(&mut turns, now, &mut known).suggested).map(|piece| piece.0).collect();
        suggested.sort_unstable();
        assert_eq!(suggested, [0, 1, 2, 3]);
    }

    #[test]
    fn who_keeps_a_piece_comes_after_all_others_and_the_piece_goes_to_another() {
        let (now, mut known, mut turns) = (Instant::now(), Known::default(), turns(3));
        known.has = (2..=3).map(|peer| (PeerId(peer), Vec::new())).collect();
        let Turn { peer: keeper, suggested: kept, .. } = use_next(&mut turns, now, &mut known);
        let kept = kept.unwrap();
        let others: Vec<PeerId> = (1..=3).map(PeerId).filter(|peer| *peer != keeper).collect();
        let mut given = Vec::new();
        for _ in 0..12 {
            let turn = give(&mut turns, now, &known).unwrap();
            turns.answered(now, turn.peer, FILE, turn.suggested.unwrap_or(PieceIndex(9)), 1);
            if let Some(piece) = turn.suggested.filter(|piece| *piece != kept) {
                // What goes to the others spreads at once.
                for peer in &others {
                    known.has.entry(*peer).or_default().push(piece.0);
                }
            }
            given.push(turn);
        }
        let again = given.iter().position(|turn| turn.suggested == Some(kept)).expect("it is suggested again");
        assert!(again as u64 >= SPREAD_TURNS - 1, "{given:?}");
        assert!(given[again..].iter().all(|turn| turn.peer != keeper), "{given:?}");
    }

    #[test]
    fn who_alone_takes_part_is_not_doubted_for_what_nobody_can_take_from_it() {
        let (now, mut known, mut turns) = (Instant::now(), Known::default(), turns(2));
        let mut used = 0;
        for _ in 0..40 {
            let turn = give(&mut turns, now, &known).unwrap();
            let piece = turn.suggested.unwrap_or(PieceIndex(9));
            // The other one asks for something else each time, and tells nobody what it has.
            let asked = if turn.peer == PeerId(1) { piece } else { PieceIndex(9) };
            assert!(turns.answered(now, turn.peer, FILE, asked, 1));
            if turn.peer == PeerId(1) {
                used += 1;
                known.has.insert(PeerId(1), vec![piece.0]);
            }
        }
        assert!((15..=25).contains(&used), "{used}");
    }

    #[test]
    fn nobody_is_passed_over_for_ever() {
        let (now, mut turns) = (Instant::now(), turns(3));
        let known = Known { shunned: vec![PeerId(1), PeerId(2)], ..Known::default() };
        let mut given = Vec::new();
        for _ in 0..60 {
            let turn = give(&mut turns, now, &known).unwrap();
            assert!(turns.answered(now, turn.peer, FILE, PieceIndex(0), 1));
            given.push(turn.peer.0);
        }
        let of = |peer| given.iter().filter(|other| **other == peer).count();
        assert!((2..=8).contains(&of(1)) && (2..=8).contains(&of(2)), "{given:?}");
    }

    #[test]
    fn who_sends_nothing_is_served_when_nobody_else_is_there() {
        let (now, mut turns) = (Instant::now(), turns(2));
        let known = Known { shunned: vec![PeerId(1)], ..Known::default() };
        for _ in 0..5 {
            let turn = give(&mut turns, now, &known).unwrap();
            assert_eq!(turn.peer, PeerId(2));
            assert!(turns.answered(now, turn.peer, FILE, PieceIndex(0), 1));
        }
        assert!(!turns.answered(now, PeerId(2), FILE, PieceIndex(0), 1), "it has no turn");
        turns.interest(PeerId(2), FILE, false);
        assert_eq!(give(&mut turns, now, &known).map(|turn| turn.peer), Some(PeerId(1)));
    }

    #[test]
    fn a_turn_used_too_late_makes_nobody_near() {
        let (now, known, mut turns) = (Instant::now(), Known::default(), turns(1));
        let far = Duration::from_millis(200);
        for _ in 0..WAITS_KEPT {
            assert!(give(&mut turns, now, &known).is_some());
            assert!(turns.answered(now + far, PeerId(1), FILE, PieceIndex(0), 0));
        }
        let before = turns.most_ahead();
        while give(&mut turns, now, &known).is_some() {}
        let late = now + TURN_LIFE;
        assert!(give(&mut turns, late, &known).is_some());
        assert!(turns.answered(late, PeerId(1), FILE, PieceIndex(0), 0));
        assert_eq!((before, turns.most_ahead()), (64, 64));
    }

    /// Turns for peers whose streams took so long to stand, if that is known, and whose turns were used after `wait`.
    fn turns_used_after(wait: Duration, distances: &[Option<Duration>]) -> Turns {
        let (now, known, mut turns) = (Instant::now(), Known::default(), turns(distances.len() as u64));
        for (peer, distance) in (1..).map(PeerId).zip(distances) {
            if let Some(distance) = distance {
                turns.distance(peer, *distance);
            }
        }
        for _ in 0..WAITS_KEPT {
            let turn = give(&mut turns, now, &known).expect("somebody is interested");
            assert!(turns.answered(now + wait, turn.peer, FILE, PieceIndex(0), 1));
        }
        turns
    }

    #[test]
    fn what_waits_before_the_line_makes_nobody_farther() {
        let ms = Duration::from_millis;
        let most = |wait, distances: &[Option<Duration>]| turns_used_after(ms(wait), distances).most_ahead();
        assert_eq!(most(120, &[None]), 45);
        assert_eq!(most(120, &[Some(ms(50))]), 19);
        assert_eq!(most(120, &[Some(ms(50)), Some(ms(60))]), 19 + 22);
        assert_eq!(most(50, &[Some(ms(120))]), 19, "the stream had waited for a processor");
        assert_eq!(most(10, &[Some(ms(120))]), ENOUGH_AHEAD, "near");
        let mut turns = turns_used_after(ms(120), &[Some(ms(90))]);
        turns.distance(PeerId(1), ms(50));
        turns.distance(PeerId(1), ms(70));
        assert_eq!(turns.most_ahead(), 19, "the shortest counts");
        turns.leave(PeerId(1));
        turns.interest(PeerId(1), FILE, true);
        assert_eq!(turns.most_ahead(), 45, "it is another link");
    }

    proptest! {
        #[test]
        fn to_know_how_far_away_they_are_never_lets_more_be_given_ahead(
            wait_ms in 0u64..2_000, distances_ms in prop::collection::vec(prop::option::of(0u64..2_000), 1..8),
        ) {
            let wait = Duration::from_millis(wait_ms);
            let distances: Vec<_> = distances_ms.iter().map(|ms| ms.map(Duration::from_millis)).collect();
            let known = turns_used_after(wait, &distances).most_ahead();
            let unknown = turns_used_after(wait, &vec![None; distances.len()]).most_ahead();
            prop_assert!((ENOUGH_AHEAD..=unknown.min(MAX_AHEAD)).contains(&known));
        }
    }

    #[test]
    fn more_are_given_ahead_while_the_uplink_runs_dry_and_fewer_when_requests_pile_up() {
        let (now, known, mut turns) = (Instant::now(), Known::default(), turns(1));
        let mut round = |queued, wait| {
            let given: Vec<Turn> = std::iter::from_fn(|| give(&mut turns, now, &known)).collect();
            assert!(given.iter().all(|turn| turns.answered(now + wait, turn.peer, FILE, PieceIndex(0), queued)));
            given.len()
        };
        let near: Vec<usize> = (0..6).map(|_| round(0, Duration::from_millis(1))).collect();
        assert_eq!(near, [1, 2, 4, 8, 8, 8]);
        let far: Vec<usize> = (0..8).map(|_| round(0, Duration::from_millis(200))).collect();
        assert_eq!(far, [8, 8, 16, 32, 64, 64, 64, 64]);
        let shrinking: Vec<usize> = (0..40).map(|_| round(DEEP_QUEUE, Duration::from_millis(200))).collect();
        assert!(shrinking.is_sorted_by(|before, after| before >= after), "{shrinking:?}");
        assert_eq!(shrinking.last(), Some(&1));
    }
}
