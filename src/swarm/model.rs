//! A swarm of machines in simulated time, to measure how near they come to the bound.
//!
//! Each uplink is shared equally by the peers that have blocks on their way through it, as TCP would; downlinks are free.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tokio::time::Instant;

use super::PeerId;
use super::download::{Action, Download, Event};
use super::upload::{QUEUE_LIMIT, Upload, Uploader};
use crate::protocol::bitfield::Bitfield;
use crate::protocol::ids::FileId;
use crate::protocol::piece::{Block, PIECE_SIZE, PieceIndex};

const FILE: FileId = FileId([7; 32]);
const LATENCY: Duration = Duration::from_millis(10);
/// Bytes a second up, of each: a piece takes half a second.
const UPLINK: f64 = 1024.0 * 1024.0;
const STEP: Duration = Duration::from_millis(2);

struct Node {
    download: Download,
    uploader: Uploader,
    /// Bytes still to go of the blocks on their way, by receiver.
    flows: BTreeMap<PeerId, Vec<(Block, f64)>>,
    sent: u64,
    done_at: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Message {
    Request(Block),
    Cancel(Block),
    Reject(Block),
    Piece(Block),
    Have(PieceIndex),
}

struct Swarm {
    now: Instant,
    nodes: Vec<Node>,
    /// Messages by arrival and order of sending: from, to.
    wire: BTreeMap<(Instant, u64), (usize, usize, Message)>,
    counter: u64,
}

impl Swarm {
    /// Node 0 has the file; everybody knows everybody.
    fn new(leechers: usize, pieces: u32, seed: u64) -> Self {
        let now = Instant::now();
        let size = u64::from(pieces) * u64::from(PIECE_SIZE);
        let have = |node: usize| if node == 0 { Bitfield::full(pieces) } else { Bitfield::empty(pieces) };
        let node = |index: usize| Node {
            download: Download::new(size, have(index), ChaCha12Rng::seed_from_u64(seed * 1000 + index as u64)),
            uploader: Uploader::new(QUEUE_LIMIT),
            flows: BTreeMap::new(),
            sent: 0,
            done_at: None,
        };
        let nodes = (0..=leechers).map(node).collect();
        let mut swarm = Self { now, nodes, wire: BTreeMap::new(), counter: 0 };
        for left in 0..=leechers {
            for right in (0..=leechers).filter(|right| *right != left) {
                let event = Event::PeerJoined { peer: PeerId(right as u64), bitfield: have(right) };
                swarm.step(left, event);
            }
        }
        swarm
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        self.counter += 1;
        self.wire.insert((self.now + LATENCY, self.counter), (from, to, message));
    }

    fn step(&mut self, node: usize, event: Event) {
        let mut out = Vec::new();
        self.nodes[node].download.handle(self.now, event, &mut out);
        for action in out {
            match action {
                Action::Request { peer, block } => self.send(node, peer.0 as usize, Message::Request(block)),
                Action::Cancel { peer, block } => self.send(node, peer.0 as usize, Message::Cancel(block)),
                Action::Verify { piece } => self.verified(node, piece),
                Action::Finished => self.nodes[node].done_at = Some(self.now),
                Action::Discard { .. } | Action::Ban { .. } => panic!("everybody is honest here"),
            }
        }
    }

    fn verified(&mut self, node: usize, piece: PieceIndex) {
        self.step(node, Event::Verified { piece });
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.send(node, other, Message::Have(piece));
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        let peer = PeerId(from as u64);
        match message {
            Message::Request(block) => {
                if !self.nodes[to].uploader.request(self.now, peer, FILE, block) {
                    self.send(to, from, Message::Reject(block));
                }
            }
            Message::Cancel(block) => {
                self.nodes[to].uploader.cancel(peer, FILE, block);
            }
            Message::Reject(block) => self.step(to, Event::Rejected { peer, block }),
            Message::Piece(block) => self.step(to, Event::Received { peer, block }),
            Message::Have(piece) => self.step(to, Event::Have { peer, pieces: vec![piece] }),
        }
    }

    fn transmit(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while let Some(Upload { peer, block, .. }) =
            node.uploader.next(self.now, |_, piece| node.download.copies(piece))
        {
            node.flows.entry(peer).or_default().push((block, f64::from(block.length)));
        }
        let share = UPLINK * STEP.as_secs_f64() / node.flows.len().max(1) as f64;
        let mut arrived = Vec::new();
        for (peer, flow) in &mut node.flows {
            let mut left = share;
            while left > 0.0 && !flow.is_empty() {
                let used = left.min(flow[0].1);
                flow[0].1 -= used;
                left -= used;
                if flow[0].1 <= 0.0 {
                    arrived.push((*peer, flow.remove(0).0));
                }
            }
        }
        node.flows.retain(|_, flow| !flow.is_empty());
        for (peer, block) in arrived {
            self.nodes[index].sent += u64::from(block.length);
            self.nodes[index].uploader.sent(self.now, peer, block.length);
            self.send(index, peer.0 as usize, Message::Piece(block));
        }
    }

    /// Runs until all have the file; returns the seconds that took.
    fn run(&mut self) -> f64 {
        let begin = self.now;
        while !self.nodes.iter().all(|node| node.download.is_finished()) {
            self.now += STEP;
            assert!(self.now - begin < Duration::from_hours(1), "the swarm finishes");
            while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (from, to, message) = entry.remove();
                self.deliver(from, to, message);
            }
            for node in 0..self.nodes.len() {
                if self.nodes[node].download.deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.step(node, Event::Timer);
                }
                self.transmit(node);
            }
        }
        (self.now - begin).as_secs_f64()
    }
}

/// Last completion over the optimum for whole pieces and equal uplinks (Mundinger, Weber, Weiss), and copies that the seeder sent.
fn measure(leechers: usize, pieces: u32, seed: u64) -> (f64, f64) {
    let mut swarm = Swarm::new(leechers, pieces, seed);
    let took_s = swarm.run();
    let file = f64::from(pieces) * f64::from(PIECE_SIZE);
    let optimum_s = file / UPLINK * (1.0 + f64::from(leechers.ilog2()) / f64::from(pieces));
    assert!(swarm.nodes.iter().skip(1).all(|node| node.done_at.is_some()), "everybody was told");
    (took_s / optimum_s, swarm.nodes[0].sent as f64 / file)
}

#[test]
fn sixteen_leechers_finish_near_the_optimum() {
    for seed in 1..=2 {
        let (ratio, copies) = measure(16, 64, seed);
        assert!(ratio <= 1.15, "last completion / optimum {ratio:.3}");
        assert!(copies <= 1.3, "copies sent by the seeder {copies:.2}");
    }
}
