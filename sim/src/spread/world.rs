//! Peers, links and time.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use bytes::BytesMut;
use p2p::{
    protocol::{
        bitfield::Bitfield,
        file_names::Speaker,
        frame::put_brief_message,
        peer::{PeerMessage, put_block_header},
        piece::{Block, PIECE_SIZE, PieceIndex},
    },
    swarm::{
        HAVE_BATCH, HAVE_DELAY, PeerId,
        download::{Action, Event},
    },
};
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use tokio::time::Instant;

use super::{
    Case, Conduct, LATENCY, Outcome, Twist, bound, links,
    node::{FILE, Node},
    peers,
};

/// Times the bound after which a swarm counts as stuck.
const PATIENCE: f64 = 20.0;

/// What is on the wire.
#[derive(Clone)]
enum Message {
    Pieces(Bitfield),
    Have(Rc<[PieceIndex]>),
    Request(Vec<Block>),
    Cancel(Block),
    Unchoke(Option<PieceIndex>),
    Interest(bool),
    Reject(Vec<Block>),
    Block { block: Block, is_right: bool },
}

/// What comes next.
enum Coming {
    Arrives,
    Leaves,
    Wakes,
    Message { from: usize, lives: (u64, u64), message: Message },
}

/// A swarm under way.
struct World {
    case: Case,
    size: u64,
    begin: Instant,
    now: Instant,
    nodes: Vec<Node>,
    links: Vec<BTreeSet<usize>>,
    coming: BTreeMap<(Instant, u64), (usize, Coming)>,
    counter: u64,
    /// When each node is woken next.
    wakes: Vec<Option<(Instant, u64)>>,
    /// Peers but the seeder that have each piece.
    spread: BTreeSet<PieceIndex>,
    /// Honest leechers that lack something.
    unfinished: usize,
    control: u64,
    /// What each direction of a link has been told of files.
    names: BTreeMap<(usize, usize), Speaker>,
    rng: ChaCha12Rng,
}

/// Spreads a file.
pub(super) fn run(case: &Case, seed: u64) -> Outcome {
    let mut world = World::new(case, seed);
    let peers: Vec<_> = world.nodes.iter().map(|node| node.peer.clone()).collect();
    let bound_s = bound::seconds(case, &peers);
    let took_s = world.run(world.begin + Duration::from_secs_f64(PATIENCE * bound_s));
    let payload: u64 = world.nodes.iter().map(|node| node.sent).sum();
    Outcome {
        took_s,
        bound_s,
        copies: float(world.nodes[0].sent) / float(world.size),
        control: float(world.control) / float(payload.max(1)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

/// A number from 0 to 1.
fn uniform(rng: &mut ChaCha12Rng) -> f64 {
    f64::from(rng.next_u32()) / f64::from(u32::MAX)
}

impl World {
    fn new(case: &Case, seed: u64) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let (now, size) = (Instant::now(), u64::from(case.pieces) * u64::from(PIECE_SIZE));
        let peers = peers(case, &mut || uniform(&mut rng));
        let links = links(peers.len(), &mut || uniform(&mut rng));
        let have = |index| if index == 0 { Bitfield::full(case.pieces) } else { Bitfield::empty(case.pieces) };
        let node = |(index, peer)| {
            Node::new(peer, case.policy, size, have(index), now, ChaCha12Rng::seed_from_u64(rng.next_u64()))
        };
        let nodes: Vec<Node> = peers.into_iter().enumerate().map(node).collect();
        let unfinished = nodes.iter().skip(1).filter(|node| node.peer.conduct == Conduct::Honest).count();
        let mut world = Self {
            case: *case,
            size,
            begin: now,
            now,
            links,
            coming: BTreeMap::new(),
            counter: 0,
            wakes: vec![None; nodes.len()],
            nodes,
            spread: BTreeSet::new(),
            unfinished,
            control: 0,
            names: BTreeMap::new(),
            rng,
        };
        for index in 0..world.nodes.len() {
            let peer = world.nodes[index].peer.clone();
            world.expect(world.at(peer.comes_s), index, Coming::Arrives);
            if let Some((leaves_s, returns_s)) = peer.away_s {
                world.expect(world.at(leaves_s), index, Coming::Leaves);
                world.expect(world.at(returns_s), index, Coming::Arrives);
            }
        }
        world
    }

    fn at(&self, seconds: f64) -> Instant {
        self.begin + Duration::from_secs_f64(seconds)
    }

    fn expect(&mut self, at: Instant, node: usize, coming: Coming) -> (Instant, u64) {
        self.counter += 1;
        self.coming.insert((at, self.counter), (node, coming));
        (at, self.counter)
    }

    /// Until the last honest leecher has all; seconds that took.
    fn run(&mut self, patience: Instant) -> Option<f64> {
        while let Some(((at, number), (node, coming))) = self.coming.pop_first() {
            if at > patience {
                return None;
            }
            self.now = at;
            match coming {
                Coming::Arrives => self.arrive(node),
                Coming::Leaves => self.leave(node),
                Coming::Wakes if self.wakes[node] != Some((at, number)) => continue,
                Coming::Wakes => self.wakes[node] = None,
                Coming::Message { from, lives, message } => self.deliver(from, node, lives, message),
            }
            self.go_on(node);
            if self.unfinished == 0 {
                return Some((self.now - self.begin).as_secs_f64());
            }
        }
        None
    }

    /// How others know a node: another link, another number.
    fn id(&self, node: usize) -> PeerId {
        PeerId(self.nodes[node].life * 100_000 + node as u64)
    }

    fn node_of(peer: PeerId) -> usize {
        usize::try_from(peer.0 % 100_000).unwrap_or_default()
    }

    fn arrive(&mut self, index: usize) {
        let rng = ChaCha12Rng::seed_from_u64(self.rng.next_u64());
        let node = &mut self.nodes[index];
        node.life += 1;
        node.present = true;
        node.restart(self.case.policy, self.size, self.now, rng);
        for other in self.present_links(index) {
            for (from, to) in [(index, other), (other, index)] {
                let have = self.nodes[from].have().clone();
                self.send(from, to, Message::Pieces(have));
            }
        }
    }

    fn leave(&mut self, index: usize) {
        let peer = self.id(index);
        self.nodes[index].present = false;
        for other in self.present_links(index) {
            let actions = self.nodes[other].unlink(self.now, peer);
            self.act(other, actions);
            self.go_on(other);
        }
    }

    fn present_links(&self, index: usize) -> Vec<usize> {
        self.links[index].iter().copied().filter(|other| self.nodes[*other].present).collect()
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if !self.nodes[to].present {
            return;
        }
        self.control += overhead(self.names.entry((from, to)).or_default(), &message);
        let lives = (self.nodes[from].life, self.nodes[to].life);
        self.expect(self.now + LATENCY, to, Coming::Message { from, lives, message });
    }

    fn deliver(&mut self, from: usize, to: usize, lives: (u64, u64), message: Message) {
        let is_current = |node: usize, life| self.nodes[node].present && self.nodes[node].life == life;
        if !is_current(from, lives.0) || !is_current(to, lives.1) {
            return;
        }
        let (peer, now) = (self.id(from), self.now);
        let node = &mut self.nodes[to];
        let actions = match message {
            Message::Pieces(bitfield) => {
                node.interest(peer, true);
                node.handle(now, Event::PeerJoined { peer, bitfield })
            }
            Message::Have(pieces) => node.handle(now, Event::Have { peer, pieces: pieces.to_vec() }),
            Message::Request(blocks) => {
                let refused: Vec<Block> = blocks.into_iter().filter(|block| !node.request(now, peer, *block)).collect();
                if !refused.is_empty() {
                    self.send(to, from, Message::Reject(refused));
                }
                return;
            }
            Message::Cancel(block) => return node.cancel(peer, block),
            Message::Unchoke(suggested) => node.handle(now, Event::Unchoked { peer, suggested }),
            Message::Interest(is_interested) => return node.interest(peer, is_interested),
            Message::Reject(blocks) => {
                blocks.into_iter().flat_map(|block| node.handle(now, Event::Rejected { peer, block })).collect()
            }
            Message::Block { block, is_right } => node.receive(now, peer, block, is_right),
        };
        self.act(to, actions);
    }

    /// Does what a node's machine wants; requests of one moment to one peer go in one message.
    fn act(&mut self, index: usize, actions: Vec<Action>) {
        let mut requests: BTreeMap<PeerId, Vec<Block>> = BTreeMap::new();
        for action in actions {
            match action {
                Action::Request { peer, block } => requests.entry(peer).or_default().push(block),
                Action::Cancel { peer, block } => {
                    let asked = requests.get_mut(&peer);
                    if let Some(at) = asked.as_ref().and_then(|asked| asked.iter().position(|other| *other == block)) {
                        asked.expect("it was just found").remove(at);
                    } else {
                        self.send(index, Self::node_of(peer), Message::Cancel(block));
                    }
                }
                Action::Interest { peer, interested } => {
                    self.send(index, Self::node_of(peer), Message::Interest(interested));
                }
                Action::Verify { piece } => self.verify(index, piece),
                Action::Finished => self.finished(index),
                Action::Discard { .. } | Action::Ban { .. } => {}
            }
        }
        for (peer, blocks) in requests.into_iter().filter(|(_, blocks)| !blocks.is_empty()) {
            self.send(index, Self::node_of(peer), Message::Request(blocks));
        }
    }

    fn finished(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.done_at.replace(self.now).is_none() && node.peer.conduct == Conduct::Honest {
            self.unfinished -= 1;
        }
    }

    fn verify(&mut self, index: usize, piece: PieceIndex) {
        let node = &mut self.nodes[index];
        let verdict = node.verdict(piece);
        if matches!(verdict, Event::Verified { .. }) {
            node.haves.push(piece);
            let next = node.announced.map_or(self.now, |at| at + HAVE_DELAY);
            let due = node.haves_due.get_or_insert(next);
            if node.haves.len() >= HAVE_BATCH {
                *due = self.now;
            }
            self.spread.insert(piece);
        }
        let actions = node.handle(self.now, verdict);
        self.act(index, actions);
    }

    /// Timers, announcements, and the uplink.
    fn go_on(&mut self, index: usize) {
        if !self.nodes[index].present {
            return;
        }
        if self.nodes[index].is_timer_due(self.now) {
            let actions = self.nodes[index].handle(self.now, Event::Timer);
            self.act(index, actions);
        }
        self.announce(index);
        let is_right = self.nodes[index].peer.conduct != Conduct::Lies;
        for (peer, block) in self.nodes[index].transmit(self.now) {
            self.send(index, Self::node_of(peer), Message::Block { block, is_right });
        }
        self.nodes[index].pump(self.now);
        while let Some(turn) = self.nodes[index].next_turn(self.now) {
            self.send(index, Self::node_of(turn.peer), Message::Unchoke(turn.suggested));
        }
        if index == 0 && self.may_seeder_leave() {
            return self.leave(0);
        }
        self.wake(index);
    }

    fn may_seeder_leave(&self) -> bool {
        let is_out = self.spread.len() == self.case.pieces as usize && self.nodes[0].sent >= self.size;
        self.case.twist == Twist::SeederLeaves && is_out
    }

    fn announce(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.haves_due.is_none_or(|due| due > self.now) {
            return;
        }
        (node.haves_due, node.announced) = (None, Some(self.now));
        let pieces: Rc<[PieceIndex]> = std::mem::take(&mut node.haves).into();
        for other in self.present_links(index) {
            self.send(index, other, Message::Have(Rc::clone(&pieces)));
            let peer = self.id(other);
            self.nodes[index].interest(peer, true);
            if self.nodes[index].peer.conduct == Conduct::Stalls {
                // It promises to all what it will not keep.
                self.send(index, other, Message::Unchoke(None));
            }
        }
    }

    fn wake(&mut self, index: usize) {
        let Some(at) = self.nodes[index].deadline(self.now) else { return };
        let at = at.max(self.now + Duration::from_nanos(1));
        if self.wakes[index].is_none_or(|(before, _)| before != at) {
            self.wakes[index] = Some(self.expect(at, index, Coming::Wakes));
        }
    }
}

/// Bytes of a message on the wire, but for payload and encryption.
fn overhead(names: &mut Speaker, message: &Message) -> u64 {
    let mut wire = BytesMut::new();
    let said = match message {
        Message::Pieces(pieces) => PeerMessage::Pieces { file: FILE, pieces: pieces.clone() },
        Message::Have(pieces) => PeerMessage::Have { file: FILE, pieces: pieces.to_vec() },
        Message::Request(blocks) => PeerMessage::Request { file: FILE, blocks: blocks.clone() },
        Message::Cancel(block) => PeerMessage::Cancel { file: FILE, blocks: vec![*block] },
        Message::Unchoke(suggested) => PeerMessage::Unchoke { file: FILE, suggested: *suggested },
        Message::Interest(true) => PeerMessage::Interested { file: FILE },
        Message::Interest(false) => PeerMessage::NotInterested { file: FILE },
        Message::Reject(blocks) => PeerMessage::Reject { file: FILE, blocks: blocks.clone() },
        Message::Block { block, .. } => {
            put_block_header(&FILE, *block, &mut wire);
            return wire.len() as u64;
        }
    };
    put_brief_message(&names.name(said), &mut wire);
    wire.len() as u64
}
