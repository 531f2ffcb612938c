//! States of pieces and blocks, and the only transitions between them.
//!
//! ```text
//!            open                    last block received           verified
//!   free ────────────► open ───────────────────────────────► full ──────────► had
//!    ▲ ▲                 │                                     │               │
//!    │ └─────────────────┘                                     │               │
//!    │   nothing received and nobody asked, or discarded       │               │
//!    └───────────────────────────── corrupt, or lost ──────────┴───────────────┘
//! ```
//! The four states exclude each other. A block of an open piece is received (and remembers its author) or missing; a missing one is
//! asked of any number of peers. An ask of a snubbed peer is not *live*: it may still be answered, but does not keep others away.

use std::collections::{BTreeMap, BTreeSet};

use super::availability::Availability;
use super::{BLOCKS_PER_PIECE, PeerId};
use crate::protocol::bitfield::Bitfield;
use crate::protocol::piece::{BLOCK_SIZE, Block, PieceIndex, blocks, piece_count, piece_length};

/// How many times as many pieces as fill the memory may be open while little of them has arrived: what is on a long way takes none.
pub(super) const FAR: usize = 2;
/// The part of the memory that is little.
const LITTLE: usize = 3;

/// All pieces of one file.
pub(super) struct Pieces {
    size: u64,
    have: Bitfield,
    open_limit: usize,
    /// Blocks of open pieces that are there.
    held: usize,
    pub(super) availability: Availability,
    open: BTreeMap<PieceIndex, OpenPiece>,
    /// Open pieces with a block that is missing and has no live ask.
    partial: BTreeSet<PieceIndex>,
}

/// A piece on its way.
pub(super) struct OpenPiece {
    slots: Vec<Slot>,
    /// The only peer that may send blocks of this piece: it is on parole, and what is wrong will be its fault.
    whole: Option<PeerId>,
    full: bool,
}

struct Slot {
    block: Block,
    author: Option<PeerId>,
    asks: Vec<Ask>,
}

struct Ask {
    peer: PeerId,
    live: bool,
}

impl Slot {
    fn is_open(&self) -> bool {
        self.author.is_none() && !self.asks.iter().any(|ask| ask.live)
    }
}

impl OpenPiece {
    fn new(piece: PieceIndex, length: u32, whole: Option<PeerId>) -> Self {
        let slots = blocks(piece, length).map(|block| Slot { block, author: None, asks: Vec::new() }).collect();
        Self { slots, whole, full: false }
    }

    fn held(&self) -> usize {
        self.slots.iter().filter(|slot| slot.author.is_some()).count()
    }

    fn has_bytes(&self) -> bool {
        self.held() > 0
    }

    fn is_asked(&self) -> bool {
        self.slots.iter().any(|slot| !slot.asks.is_empty())
    }

    fn is_asked_live(&self) -> bool {
        self.slots.iter().any(|slot| slot.asks.iter().any(|ask| ask.live))
    }

    fn asks(&self) -> Vec<(PeerId, Block)> {
        self.slots.iter().flat_map(|slot| slot.asks.iter().map(|ask| (ask.peer, slot.block))).collect()
    }
}

/// What a received block brought about.
pub(super) struct Arrival {
    /// Other peers that were asked for the same block.
    pub(super) others: Vec<PeerId>,
    /// Whether it was the piece's last.
    pub(super) full: bool,
}

impl Pieces {
    /// The pieces of a file of `size` bytes, `have` of which are there; `open_limit` others fill the memory.
    pub(super) fn new(size: u64, have: Bitfield, open_limit: usize) -> Self {
        let have = if have.len() == piece_count(size) { have } else { Bitfield::empty(piece_count(size)) };
        let availability = Availability::new(&have);
        let (open, partial) = (BTreeMap::new(), BTreeSet::new());
        Self { size, have, open_limit, held: 0, availability, open, partial }
    }

    pub(super) fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Changes how many pieces fill the memory.
    pub(super) fn limit(&mut self, open_limit: usize) {
        self.open_limit = open_limit;
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Whether another piece may be opened.
    pub(super) fn has_room(&self) -> bool {
        let open = self.open.len();
        let is_little = self.held < self.open_limit * BLOCKS_PER_PIECE / LITTLE;
        open < self.open_limit || (is_little && open < self.open_limit * FAR)
    }

    /// Whether there is no room, and more are open than fill the memory.
    pub(super) fn is_full_of_far(&self) -> bool {
        !self.has_room() && self.open.len() > self.open_limit
    }

    /// Open pieces with a block that nobody is on the way with, ascending.
    pub(super) fn partial(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.partial.iter().copied()
    }

    pub(super) fn is_partial(&self, piece: PieceIndex) -> bool {
        self.partial.contains(&piece)
    }

    /// Whether every block that is not there is asked of somebody.
    pub(super) fn all_asked(&self) -> bool {
        self.partial.is_empty() && !self.availability.any_free()
    }

    /// The one peer that may send the blocks of an open piece, if it is reserved.
    pub(super) fn reserved_for(&self, piece: PieceIndex) -> Option<PeerId> {
        self.open.get(&piece).and_then(|open| open.whole)
    }

    /// Whether nobody is on the way with any block of this open piece.
    pub(super) fn is_orphan(&self, piece: PieceIndex) -> bool {
        self.open.get(&piece).is_some_and(|open| !open.full && !open.is_asked_live())
    }

    /// Whether a block that is missing is in one of the pieces of `bitfield`.
    pub(super) fn misses_any_of(&self, bitfield: &Bitfield) -> bool {
        let mut open = self.open.iter().filter(|(_, open)| !open.full);
        open.any(|(piece, _)| bitfield.has(*piece)) || self.availability.any_free_of(bitfield)
    }

    /// Whether nobody was asked for any missing block of this open piece, not even a snubbed peer.
    pub(super) fn is_unasked(&self, piece: PieceIndex) -> bool {
        self.open.get(&piece).is_some_and(|open| !open.full && !open.is_asked())
    }

    /// The peers asked for blocks of an open piece.
    pub(super) fn asked_peers(&self, piece: PieceIndex) -> impl Iterator<Item = PeerId> + '_ {
        let slots = self.open.get(&piece).into_iter().flat_map(|open| &open.slots);
        slots.flat_map(|slot| &slot.asks).map(|ask| ask.peer)
    }

    /// Whether a live ask keeps others away from `block`.
    pub(super) fn is_asked_live(&self, block: Block) -> bool {
        self.slot(block).is_some_and(|slot| slot.asks.iter().any(|ask| ask.live))
    }

    /// Whether `block` is one of ours, of an open piece, and missing.
    pub(super) fn wants(&self, block: Block) -> bool {
        self.slot(block).is_some_and(|slot| slot.author.is_none())
    }

    /// How many peers are asked for `block`.
    pub(super) fn ask_count(&self, block: Block) -> usize {
        self.slot(block).map_or(0, |slot| slot.asks.len())
    }

    /// The first block of a partial piece that has no live ask, nor any of `peer`.
    pub(super) fn next_block(&self, piece: PieceIndex, peer: PeerId) -> Option<Block> {
        let slots = &self.open.get(&piece)?.slots;
        slots.iter().find(|slot| slot.is_open() && slot.asks.iter().all(|ask| ask.peer != peer)).map(|slot| slot.block)
    }

    /// Opens a free piece, perhaps for one peer alone.
    pub(super) fn open(&mut self, piece: PieceIndex, whole: Option<PeerId>) {
        self.availability.take(piece);
        self.open.insert(piece, OpenPiece::new(piece, piece_length(self.size, piece), whole));
        self.partial.insert(piece);
    }

    /// Notes that `peer` is asked for `block`; returns the peers whose asks that supersedes (none of them live).
    pub(super) fn ask(&mut self, block: Block, peer: PeerId, live: bool) -> Vec<PeerId> {
        let Some(slot) = self.slot_mut(block) else { return Vec::new() };
        let dead = slot.asks.extract_if(.., |ask| live && !ask.live).map(|ask| ask.peer).collect();
        slot.asks.push(Ask { peer, live });
        self.refresh(block.piece);
        dead
    }

    /// Notes that `peer` is no longer asked for `block`; a piece with no byte and no ask is free again.
    pub(super) fn unask(&mut self, block: Block, peer: PeerId) {
        if let Some(slot) = self.slot_mut(block) {
            slot.asks.retain(|ask| ask.peer != peer);
            self.refresh(block.piece);
            self.close_if_idle(block.piece);
        }
    }

    /// Notes that the ask of `peer` for `block` does, or does not, keep others away.
    pub(super) fn set_live(&mut self, block: Block, peer: PeerId, live: bool) {
        if let Some(slot) = self.slot_mut(block) {
            slot.asks.iter_mut().filter(|ask| ask.peer == peer).for_each(|ask| ask.live = live);
            self.refresh(block.piece);
        }
    }

    /// Notes that a block that [`Pieces::wants`] wants came from `author`.
    pub(super) fn receive(&mut self, block: Block, author: PeerId) -> Arrival {
        let Some(slot) = self.slot_mut(block) else { return Arrival { others: Vec::new(), full: false } };
        slot.author = Some(author);
        let others = slot.asks.drain(..).map(|ask| ask.peer).filter(|peer| *peer != author).collect();
        self.held += 1;
        self.refresh(block.piece);
        let full = self.open.get_mut(&block.piece).is_some_and(|open| {
            open.full = open.slots.iter().all(|slot| slot.author.is_some());
            open.full
        });
        Arrival { others, full }
    }

    /// The piece is there for good; returns the asks that have become pointless.
    pub(super) fn verified(&mut self, piece: PieceIndex) -> Vec<(PeerId, Block)> {
        if self.availability.is_free(piece) {
            self.availability.take(piece);
        }
        self.have.insert(piece);
        self.take(piece).map_or_else(Vec::new, |open| open.asks())
    }

    /// The peers that sent the blocks of a piece that is full.
    pub(super) fn authors(&self, piece: PieceIndex) -> BTreeSet<PeerId> {
        let open = self.open.get(&piece).filter(|open| open.full);
        open.map_or_else(BTreeSet::new, |open| open.slots.iter().filter_map(|slot| slot.author).collect())
    }

    /// Whether a piece that is not verified yet has a block of this peer's.
    pub(super) fn is_author(&self, peer: PeerId) -> bool {
        self.open.values().flat_map(|open| &open.slots).any(|slot| slot.author == Some(peer))
    }

    /// Drops an open or full piece; returns the asks that have become pointless, and whether there were bytes.
    pub(super) fn discard(&mut self, piece: PieceIndex) -> (Vec<(PeerId, Block)>, bool) {
        let Some(open) = self.take(piece) else { return (Vec::new(), false) };
        self.availability.put_back(piece);
        (open.asks(), open.has_bytes())
    }

    /// The piece is open no more.
    fn take(&mut self, piece: PieceIndex) -> Option<OpenPiece> {
        self.partial.remove(&piece);
        self.open.remove(&piece).inspect(|open| self.held -= open.held())
    }

    /// A piece that was there is so no longer.
    pub(super) fn lose(&mut self, piece: PieceIndex) -> bool {
        let had = self.have.remove(piece);
        if had {
            self.availability.put_back(piece);
        }
        had
    }

    /// Counts every block that `author` sent as missing again, unless its piece is full and its hash will tell; returns the
    /// pieces that hold no byte any more.
    pub(super) fn disown(&mut self, author: PeerId) -> Vec<PieceIndex> {
        let mut emptied = Vec::new();
        for (piece, open) in self.open.iter_mut().filter(|(_, open)| !open.full && open.has_bytes()) {
            for slot in open.slots.iter_mut().filter(|slot| slot.author == Some(author)) {
                slot.author = None;
                self.held -= 1;
                self.partial.insert(*piece);
            }
            if !open.has_bytes() {
                emptied.push(*piece);
            }
        }
        for piece in &emptied {
            self.close_if_idle(*piece);
        }
        emptied
    }

    /// Open pieces reserved for `peer`.
    pub(super) fn reserved(&self, peer: PeerId) -> Vec<PieceIndex> {
        let mine = self.open.iter().filter(|(_, open)| open.whole == Some(peer) && !open.full);
        mine.map(|(piece, _)| *piece).collect()
    }

    fn slot(&self, block: Block) -> Option<&Slot> {
        let slot = self.open.get(&block.piece)?.slots.get((block.offset / BLOCK_SIZE) as usize)?;
        (slot.block == block).then_some(slot)
    }

    fn slot_mut(&mut self, block: Block) -> Option<&mut Slot> {
        let slot = self.open.get_mut(&block.piece)?.slots.get_mut((block.offset / BLOCK_SIZE) as usize)?;
        (slot.block == block).then_some(slot)
    }

    fn refresh(&mut self, piece: PieceIndex) {
        if self.open.get(&piece).is_some_and(|open| open.slots.iter().any(Slot::is_open)) {
            self.partial.insert(piece);
        } else {
            self.partial.remove(&piece);
        }
    }

    fn close_if_idle(&mut self, piece: PieceIndex) {
        if self.open.get(&piece).is_some_and(|open| !open.has_bytes() && !open.is_asked()) {
            self.take(piece);
            self.availability.put_back(piece);
        }
    }

    /// Every ask there is, and the invariants that hold between two events.
    #[cfg(test)]
    pub(super) fn check(&self) -> BTreeSet<(PeerId, Block)> {
        self.availability.check();
        for piece in (0..self.have.len()).map(PieceIndex) {
            let states = [self.have.has(piece), self.availability.is_free(piece), self.open.contains_key(&piece)];
            assert_eq!(states.into_iter().filter(|state| *state).count(), 1, "piece {piece} is in one state");
        }
        for (piece, open) in &self.open {
            assert_eq!(open.full, open.slots.iter().all(|slot| slot.author.is_some()));
            assert_eq!(self.partial.contains(piece), open.slots.iter().any(Slot::is_open));
            assert!(open.has_bytes() || open.is_asked(), "piece {piece} is open for a reason");
            assert!(open.slots.iter().all(|slot| slot.author.is_none() || slot.asks.is_empty()));
            let strangers = |slot: &Slot| slot.asks.iter().any(|ask| open.whole.is_some_and(|whole| whole != ask.peer));
            assert!(!open.slots.iter().any(strangers), "a reserved piece is asked of one peer");
        }
        assert!(self.partial.iter().all(|piece| self.open.contains_key(piece)));
        assert_eq!(self.held, self.open.values().map(OpenPiece::held).sum::<usize>());
        assert!(self.open.len() <= self.open_limit * FAR);
        self.open.values().flat_map(OpenPiece::asks).collect()
    }
}
