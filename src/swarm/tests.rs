//! The download driven by events at random, with an honest peer that stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tokio::time::Instant;

use super::PeerId;
use super::download::{Action, Download, Event};
use super::pieces::FAR;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::piece::{Block, PIECE_SIZE, PieceIndex, blocks, piece_count, piece_length};

/// A peer that stays and answers everything truly.
const HONEST: PeerId = PeerId(0);
/// Pieces that fill the memory.
const OPEN_LIMIT: usize = 6;

/// A download, the requests it has on their way, and who has sent what into which buffer.
struct Bench {
    size: u64,
    now: Instant,
    download: Download,
    asked: BTreeSet<(PeerId, Block)>,
    /// Whether each block that is in memory is true.
    buffers: BTreeMap<PieceIndex, BTreeMap<Block, bool>>,
    to_verify: Vec<PieceIndex>,
    banned: BTreeSet<PeerId>,
    finished: u32,
    /// Who was told that its turns are of use.
    wanted: BTreeSet<PeerId>,
}

impl Bench {
    fn new(size: u64, seed: u64) -> Self {
        let have = Bitfield::empty(piece_count(size));
        let now = Instant::now();
        let mut download = Download::new(size, have, ChaCha12Rng::seed_from_u64(seed));
        download.limit(now, OPEN_LIMIT, &mut Vec::new());
        Self {
            size,
            now,
            download,
            asked: BTreeSet::new(),
            buffers: BTreeMap::new(),
            to_verify: Vec::new(),
            banned: BTreeSet::new(),
            finished: 0,
            wanted: BTreeSet::new(),
        }
    }

    fn step(&mut self, event: Event) {
        if let Event::PeerLeft { peer } = &event {
            self.asked.retain(|(asked, _)| asked != peer);
            self.wanted.remove(peer);
        }
        let mut out = Vec::new();
        self.download.handle(self.now, event, &mut out);
        for action in out {
            self.perform(action);
        }
        self.download.check();
        assert!(self.buffers.len() <= FAR * OPEN_LIMIT, "memory is bounded");
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Request { peer, block } => {
                assert!(!self.banned.contains(&peer), "a banned peer is not asked");
                assert!(self.asked.insert((peer, block)), "a peer is asked once for a block");
            }
            Action::Cancel { peer, block } => {
                assert!(self.asked.remove(&(peer, block)), "only what is asked is cancelled");
            }
            Action::Verify { piece } => {
                let whole: Vec<Block> = blocks(piece, piece_length(self.size, piece)).collect();
                assert!(self.buffers[&piece].keys().eq(whole.iter()), "a piece is verified when all of it is there");
                self.to_verify.push(piece);
            }
            Action::Discard { piece } => {
                assert!(self.buffers.remove(&piece).is_some(), "only a buffer that exists is dropped");
                self.to_verify.retain(|other| *other != piece);
            }
            Action::Ban { peer } => {
                assert_ne!(peer, HONEST, "an honest peer is not banned");
                self.banned.insert(peer);
                self.wanted.remove(&peer);
                self.asked.retain(|(asked, _)| *asked != peer);
            }
            Action::Interest { peer, interested: true } => assert!(self.wanted.insert(peer), "said once"),
            Action::Interest { peer, interested: false } => drop(self.wanted.remove(&peer)),
            Action::Finished => self.finished += 1,
        }
    }

    /// A peer gives a turn, and takes us for interested from then on.
    fn unchoke(&mut self, peer: PeerId, suggested: Option<PieceIndex>) {
        if self.download.peers(self.now).any(|view| view.peer == peer) {
            self.wanted.insert(peer);
        }
        self.step(Event::Unchoked { peer, suggested });
    }

    fn receive(&mut self, peer: PeerId, block: Block, truly: bool) {
        if self.download.wants(peer, block) {
            self.buffers.entry(block.piece).or_default().insert(block, truly);
        }
        self.asked.remove(&(peer, block));
        self.step(Event::Received { peer, block });
    }

    fn verify(&mut self, piece: PieceIndex) {
        self.to_verify.retain(|other| *other != piece);
        if self.buffers[&piece].values().all(|truly| *truly) {
            self.buffers.remove(&piece);
            self.step(Event::Verified { piece });
        } else {
            self.step(Event::Corrupt { piece });
        }
    }

    /// Lets the honest peer answer, and time pass, until the file is there.
    fn run_out(&mut self) {
        for round in 0.. {
            assert!(round < 3_000, "the download goes on");
            if let Some(piece) = self.to_verify.first().copied() {
                self.verify(piece);
            } else if let Some((peer, block)) = self.asked.iter().find(|(peer, _)| *peer == HONEST).copied() {
                self.now += Duration::from_millis(3);
                self.receive(peer, block, true);
            } else if self.wanted.contains(&HONEST) && !self.download.is_finished() {
                self.unchoke(HONEST, None);
            } else if self.download.is_finished() {
                return;
            } else {
                let deadline = self.download.deadline().expect("something is still to come");
                self.now = self.now.max(deadline);
                self.step(Event::Timer);
                assert!(self.download.deadline().is_none_or(|next| next > self.now), "a timer goes off once");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(u64, u64),
    Leave(u64),
    Have(u64, u32),
    Unchoke(u64, Option<u32>),
    Answer(usize, bool),
    Reject(usize),
    Verify(usize),
    Lose(u32),
    Wait(u64),
    Pause(bool),
    Rubbish(u64, u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 1u64..6;
    prop_oneof![
        3 => (peer.clone(), any::<u64>()).prop_map(|(peer, bits)| Step::Join(peer, bits)),
        1 => peer.clone().prop_map(Step::Leave),
        2 => (peer.clone(), 0u32..70).prop_map(|(peer, piece)| Step::Have(peer, piece)),
        6 => (peer.clone(), prop::option::of(0u32..70)).prop_map(|(peer, piece)| Step::Unchoke(peer, piece)),
        12 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(which, truly)| Step::Answer(which, truly)),
        1 => any::<usize>().prop_map(Step::Reject),
        4 => any::<usize>().prop_map(Step::Verify),
        1 => (0u32..70).prop_map(Step::Lose),
        2 => (1u64..8000).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => (peer, any::<u32>(), any::<u32>()).prop_map(|(peer, piece, offset)| Step::Rubbish(peer, piece, offset)),
    ]
}

fn apply(bench: &mut Bench, step: &Step) {
    let count = piece_count(bench.size);
    match *step {
        Step::Join(peer, bits) => {
            let mut bitfield = if bits % 3 == 0 { Bitfield::full(count) } else { Bitfield::empty(count) };
            (0..64).filter(|bit| bits >> bit & 1 == 1).for_each(|bit| {
                bitfield.insert(PieceIndex(bit));
            });
            bench.step(Event::PeerJoined { peer: PeerId(peer), bitfield });
        }
        Step::Leave(peer) => bench.step(Event::PeerLeft { peer: PeerId(peer) }),
        Step::Have(peer, piece) => bench.step(Event::Have { peer: PeerId(peer), pieces: vec![PieceIndex(piece)] }),
        Step::Unchoke(peer, piece) => bench.unchoke(PeerId(peer), piece.map(PieceIndex)),
        Step::Answer(which, truly) => {
            if let Some((peer, block)) = nth(&bench.asked, which) {
                bench.receive(peer, block, truly || peer == HONEST);
            }
        }
        Step::Reject(which) => {
            if let Some((peer, block)) = nth(&bench.asked, which) {
                bench.asked.remove(&(peer, block));
                bench.step(Event::Rejected { peer, block });
            }
        }
        Step::Verify(which) => {
            if !bench.to_verify.is_empty() {
                bench.verify(bench.to_verify[which % bench.to_verify.len()]);
            }
        }
        Step::Lose(piece) => {
            // A buffer ends with its `Discard`; a piece that was had has none.
            bench.step(Event::Lost { piece: PieceIndex(piece) });
        }
        Step::Wait(ms) => {
            bench.now += Duration::from_millis(ms);
            if bench.download.deadline().is_some_and(|deadline| deadline <= bench.now) {
                bench.step(Event::Timer);
            }
        }
        Step::Pause(pause) => bench.step(if pause { Event::Paused } else { Event::Resumed }),
        Step::Rubbish(peer, piece, offset) => {
            let block = Block { piece: PieceIndex(piece % 70), offset, length: 1 };
            assert!(!bench.download.wants(PeerId(peer), block));
            bench.step(Event::Received { peer: PeerId(peer), block });
            bench.step(Event::Rejected { peer: PeerId(peer), block });
            if !bench.buffers.contains_key(&block.piece) {
                bench.step(Event::Corrupt { piece: block.piece });
            }
        }
    }
}

fn nth(asked: &BTreeSet<(PeerId, Block)>, which: usize) -> Option<(PeerId, Block)> {
    asked.iter().nth(which % asked.len().max(1)).copied()
}

proptest! {
    #[test]
    fn every_piece_comes_while_one_honest_peer_stays(
        pieces in 1u64..12, tail in 0u64..u64::from(PIECE_SIZE), seed in any::<u64>(), first in 0usize..40,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let size = pieces * u64::from(PIECE_SIZE) - tail;
        let mut bench = Bench::new(size, seed);
        let mut steps = steps.into_iter();
        steps.by_ref().take(first).for_each(|step| apply(&mut bench, &step));
        bench.step(Event::PeerJoined { peer: HONEST, bitfield: Bitfield::full(piece_count(size)) });
        steps.for_each(|step| apply(&mut bench, &step));
        bench.step(Event::Resumed);
        bench.run_out();
        prop_assert!(bench.download.have().is_full());
        prop_assert!(bench.finished >= 1);
        prop_assert!(bench.buffers.is_empty() && bench.asked.is_empty());
    }
}

#[test]
fn buffers_held_by_silent_peers_make_way_for_one_that_was_snubbed_too() {
    let field = |pieces: &[u32]| {
        let mut field = Bitfield::empty(4);
        for piece in pieces {
            field.insert(PieceIndex(*piece));
        }
        field
    };
    let (late, silent) = (PeerId(1), PeerId(2));
    let size = 4 * u64::from(PIECE_SIZE);
    let mut now = Instant::now();
    let mut download = Download::new(size, field(&[]), ChaCha12Rng::seed_from_u64(1));
    download.limit(now, 1, &mut Vec::new());
    let mut handle = |now, event| {
        let mut out = Vec::new();
        download.handle(now, event, &mut out);
        download.check();
        (out, download.deadline())
    };
    let turn = |peer| Event::Unchoked { peer, suggested: None };
    handle(now, Event::PeerJoined { peer: late, bitfield: field(&[2, 3]) });
    handle(now, turn(late));
    let (asked, _) = handle(now, turn(late));
    now += Duration::from_secs(6);
    handle(now, Event::Timer);
    for block in [2, 3].into_iter().flat_map(|piece| blocks(PieceIndex(piece), PIECE_SIZE)) {
        handle(now, Event::Rejected { peer: late, block });
    }
    assert!(!asked.is_empty());
    handle(now, Event::PeerJoined { peer: silent, bitfield: field(&[0, 1]) });
    handle(now, turn(silent));
    handle(now, turn(silent));
    let begin = now;
    loop {
        handle(now, Event::Timer);
        let (out, deadline) = handle(now, turn(late));
        if out.iter().any(|action| matches!(action, Action::Request { peer, .. } if *peer == late)) {
            break;
        }
        now = deadline.expect("it looks again");
        assert!(now < begin + Duration::from_secs(40), "it is asked");
    }
    assert!(now > begin + Duration::from_secs(20), "the others had their time");
}

/// A download of one piece whose only honest peer is on parole, slow, and shares it with who makes promises. How long it takes.
fn among_promisers(seed: u64, mut disturb: impl FnMut(&mut Bench)) -> Duration {
    let size = u64::from(PIECE_SIZE);
    let mut bench = Bench::new(size, seed);
    let liar = PeerId(9);
    for peer in [HONEST, liar] {
        bench.step(Event::PeerJoined { peer, bitfield: Bitfield::full(1) });
        bench.unchoke(peer, None);
    }
    let lie = bench.asked.iter().find(|(peer, _)| *peer == liar).map(|(_, block)| *block);
    let first = blocks(PieceIndex(0), PIECE_SIZE).next().unwrap();
    if let Some(block) = lie {
        bench.receive(liar, block, false);
    } else {
        // Everything was asked of the honest peer: the liar gets a part once that one is found silent.
        bench.now += Duration::from_secs(10);
        bench.step(Event::Timer);
        bench.unchoke(liar, None);
        assert!(bench.asked.contains(&(liar, first)) || bench.asked.iter().any(|(peer, _)| *peer == liar));
        let block = bench.asked.iter().find(|(peer, _)| *peer == liar).unwrap().1;
        bench.receive(liar, block, false);
    }
    while bench.to_verify.is_empty() {
        let block = bench.asked.iter().find(|(peer, _)| *peer == HONEST).expect("the rest is asked of it").1;
        bench.receive(HONEST, block, true);
    }
    bench.verify(PieceIndex(0));
    bench.step(Event::PeerLeft { peer: liar });
    let begun = bench.now;
    let mut next_answer = begun + Duration::from_secs(1);
    while !bench.download.is_finished() {
        bench.now += Duration::from_millis(50);
        assert!(bench.now < begun + Duration::from_mins(5), "the download goes on");
        if bench.download.deadline().is_some_and(|deadline| deadline <= bench.now) {
            bench.step(Event::Timer);
        }
        if bench.now >= next_answer {
            next_answer = bench.now + Duration::from_secs(1);
            if let Some(block) = bench.asked.iter().find(|(peer, _)| *peer == HONEST).map(|(_, block)| *block) {
                bench.receive(HONEST, block, true);
            }
        }
        if let Some(piece) = bench.to_verify.first().copied() {
            bench.verify(piece);
        }
        disturb(&mut bench);
        let wanted: Vec<PeerId> = bench.wanted.iter().copied().collect();
        for peer in wanted {
            bench.unchoke(peer, None);
        }
    }
    bench.now - begun
}

#[test]
fn a_slow_suspect_keeps_its_piece_while_another_rejects_what_it_gave_turns_for() {
    let flapper = PeerId(5);
    for seed in 0..8 {
        let mut is_there = false;
        let took = among_promisers(seed, |bench| {
            if !std::mem::replace(&mut is_there, true) {
                bench.step(Event::PeerJoined { peer: flapper, bitfield: Bitfield::full(1) });
            }
            if bench.asked.iter().any(|(peer, _)| *peer == flapper) {
                let asked = bench.asked.iter().filter(|(peer, _)| *peer == flapper).map(|(_, block)| *block);
                for block in asked.collect::<Vec<Block>>() {
                    bench.asked.remove(&(flapper, block));
                    bench.step(Event::Rejected { peer: flapper, block });
                }
            }
        });
        assert!(took < Duration::from_secs(30), "{took:?}");
    }
}

#[test]
fn a_slow_suspect_keeps_its_piece_while_others_come_and_go() {
    for seed in 0..8 {
        let (mut guest, mut joined) = (PeerId(20), false);
        let took = among_promisers(seed, |bench| {
            if !std::mem::replace(&mut joined, true) {
                bench.step(Event::PeerJoined { peer: guest, bitfield: Bitfield::full(1) });
            }
            if bench.asked.iter().any(|(peer, _)| *peer == guest) {
                bench.step(Event::PeerLeft { peer: guest });
                (guest, joined) = (PeerId(guest.0 + 1), false);
            }
        });
        assert!(took < Duration::from_secs(30), "{took:?}");
    }
}

#[test]
fn a_turn_that_crossed_our_refusal_is_no_sign_that_more_will_come() {
    let (now, seeder) = (Instant::now(), PeerId(1));
    let size = 8 * u64::from(PIECE_SIZE);
    let none = Bitfield::empty(8);
    let mut all = none.clone();
    for piece in 0..8 {
        all.insert(PieceIndex(piece));
    }
    let mut download = Download::new(size, none, ChaCha12Rng::seed_from_u64(1));
    let mut limited = |limit: usize, event: Event| {
        let mut out = Vec::new();
        download.limit(now, limit, &mut out);
        download.handle(now, event, &mut out);
        let said = out.iter().rev().find_map(|action| match action {
            Action::Interest { interested, .. } => Some(*interested),
            _ => None,
        });
        let asked = out.iter().filter(|action| matches!(action, Action::Request { .. })).count();
        (said, asked / 4)
    };
    let turn = || Event::Unchoked { peer: seeder, suggested: None };
    assert_eq!(limited(2, Event::PeerJoined { peer: seeder, bitfield: all }), (Some(true), 0));
    assert_eq!((limited(2, turn()), limited(2, turn())), ((None, 1), (None, 1)));
    let sent = [0, 1].into_iter().flat_map(|piece| blocks(PieceIndex(piece), PIECE_SIZE));
    for block in sent.take(7) {
        assert_eq!(limited(2, Event::Received { peer: seeder, block }), (None, 0));
    }
    assert_eq!(limited(2, turn()), (Some(false), 0), "the memory is full");
    assert_eq!(limited(1, turn()), (None, 0), "others fill it even more, and it is of use soon");
    assert_eq!(limited(1, Event::Verified { piece: PieceIndex(0) }), (None, 0));
    let last = blocks(PieceIndex(1), PIECE_SIZE).last().expect("a piece has blocks");
    assert_eq!(
        limited(3, Event::Received { peer: seeder, block: last }),
        (Some(true), 1),
        "used, and more are asked for"
    );
}
