//! A policy to compare with: every peer is asked for a random piece, and serves four at a time, first come first served.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use p2p::{
    protocol::{
        bitfield::Bitfield,
        piece::{Block, PieceIndex, blocks, piece_length},
    },
    swarm::{
        PeerId,
        download::{Action, Event},
    },
};
use rand_chacha::{ChaCha12Rng, rand_core::Rng as _};

/// Peers served at a time.
const AT_A_TIME: usize = 4;

/// The state of one peer.
pub(super) struct Naive {
    size: u64,
    have: Bitfield,
    others: BTreeMap<PeerId, Bitfield>,
    /// Pieces asked for, of whom, and the blocks still to come.
    asked: BTreeMap<PieceIndex, (PeerId, BTreeSet<Block>)>,
    queue: VecDeque<(PeerId, Block)>,
    serving: BTreeSet<PeerId>,
    rng: ChaCha12Rng,
}

impl Naive {
    pub(super) fn new(size: u64, have: Bitfield, rng: ChaCha12Rng) -> Self {
        let (others, asked) = (BTreeMap::new(), BTreeMap::new());
        Self { size, have, others, asked, queue: VecDeque::new(), serving: BTreeSet::new(), rng }
    }

    pub(super) fn have(&self) -> &Bitfield {
        &self.have
    }

    pub(super) fn wants(&self, peer: PeerId, block: Block) -> bool {
        self.asked.get(&block.piece).is_some_and(|(of, left)| *of == peer && left.contains(&block))
    }

    pub(super) fn handle(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::PeerJoined { peer, bitfield } => drop(self.others.insert(peer, bitfield)),
            Event::PeerLeft { peer } => {
                self.others.remove(&peer);
                self.asked.retain(|_, (of, _)| *of != peer);
            }
            Event::Have { peer, pieces } => {
                let Some(theirs) = self.others.get_mut(&peer) else { return };
                for piece in pieces {
                    theirs.insert(piece);
                }
            }
            Event::Received { peer, block } => {
                let Some((of, left)) = self.asked.get_mut(&block.piece) else { return };
                if *of == peer && left.remove(&block) && left.is_empty() {
                    out.push(Action::Verify { piece: block.piece });
                }
                return;
            }
            Event::Verified { piece } => {
                self.asked.remove(&piece);
                if self.have.insert(piece) && self.have.is_full() {
                    out.push(Action::Finished);
                }
            }
            Event::Rejected { block, .. } => drop(self.asked.remove(&block.piece)),
            Event::Corrupt { piece } | Event::Lost { piece } => drop(self.asked.remove(&piece)),
            Event::Unchoked { .. } | Event::Timer | Event::Paused | Event::Resumed => {}
        }
        self.ask(out);
    }

    /// Asks each peer that has something for one piece, at random among those that nobody was asked for.
    fn ask(&mut self, out: &mut Vec<Action>) {
        let busy: BTreeSet<PeerId> = self.asked.values().map(|(peer, _)| *peer).collect();
        for (peer, theirs) in self.others.iter().filter(|(peer, _)| !busy.contains(peer)) {
            let lacking = |piece: &PieceIndex| !self.have.has(*piece) && !self.asked.contains_key(piece);
            let pieces: Vec<PieceIndex> = theirs.present().filter(lacking).collect();
            if pieces.is_empty() {
                continue;
            }
            let piece = pieces[self.rng.next_u32() as usize % pieces.len()];
            let wanted: BTreeSet<Block> = blocks(piece, piece_length(self.size, piece)).collect();
            out.extend(wanted.iter().map(|block| Action::Request { peer: *peer, block: *block }));
            self.asked.insert(piece, (*peer, wanted));
        }
    }

    pub(super) fn request(&mut self, peer: PeerId, block: Block) {
        self.queue.push_back((peer, block));
    }

    pub(super) fn next(&mut self) -> Option<(PeerId, Block)> {
        if self.serving.len() >= AT_A_TIME {
            return None;
        }
        let at = self.queue.iter().position(|(peer, _)| !self.serving.contains(peer))?;
        let next = self.queue.remove(at)?;
        self.serving.insert(next.0);
        Some(next)
    }

    pub(super) fn sent(&mut self, peer: PeerId) {
        self.serving.remove(&peer);
    }

    pub(super) fn leave(&mut self, peer: PeerId) {
        self.serving.remove(&peer);
        self.queue.retain(|(other, _)| *other != peer);
    }
}
