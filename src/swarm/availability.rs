//! Who has what: the free pieces, sorted by how many peers hold them.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng as _;

use crate::protocol::bitfield::Bitfield;
use crate::protocol::piece::PieceIndex;

/// Copies of each piece among the connected peers, and the free pieces (neither had nor open) in order of rank.
///
/// The structure is libtorrent's: one array of the free pieces sorted by copies, with an array of the ranks' ends. A piece moves
/// one rank up or down by one swap; it is taken out or put back by one swap a rank. Seeders are counted once, not in every
/// piece, so that they come and go in constant time.
pub(super) struct Availability {
    seeders: u32,
    leechers: u32,
    /// Leechers that have each piece.
    copies: Vec<u16>,
    free: Bitfield,
    /// The free pieces, ascending by copies.
    order: Vec<PieceIndex>,
    /// Where in `order` each free piece is; meaningless for the others.
    place: Vec<u32>,
    /// `ends[n]` is the end in `order` of the pieces with `n` copies.
    ends: Vec<u32>,
    /// No free piece lies before this one.
    lowest: PieceIndex,
    /// How often a piece was put back.
    returns: u64,
}

/// Free pieces looked at in order of rank before any piece that the peer has will do.
const SCAN_LIMIT: usize = 4096;

impl Availability {
    pub(super) fn new(have: &Bitfield) -> Self {
        let count = have.len() as usize;
        let mut free = Bitfield::full(have.len());
        have.present().for_each(|piece| {
            free.remove(piece);
        });
        let order: Vec<PieceIndex> = free.present().collect();
        let mut place = vec![0; count];
        for (at, piece) in order.iter().enumerate() {
            place[piece.0 as usize] = narrow(at);
        }
        let ends = vec![narrow(order.len())];
        Self {
            seeders: 0,
            leechers: 0,
            copies: vec![0; count],
            free,
            order,
            place,
            ends,
            lowest: PieceIndex(0),
            returns: 0,
        }
    }

    /// Peers that have `piece`.
    pub(super) fn copies(&self, piece: PieceIndex) -> u32 {
        self.seeders + self.leechers_with(piece)
    }

    /// Leechers that have `piece`.
    pub(super) fn leechers_with(&self, piece: PieceIndex) -> u32 {
        self.copies.get(piece.0 as usize).map_or(0, |copies| u32::from(*copies))
    }

    /// Whether nobody is there to trade with: every peer has everything.
    pub(super) fn only_seeders(&self) -> bool {
        self.leechers == 0
    }

    pub(super) fn any_free(&self) -> bool {
        !self.order.is_empty()
    }

    /// How often a piece was put back: as long as this stays, a peer that had no free piece has none.
    pub(super) fn returns(&self) -> u64 {
        self.returns
    }

    pub(super) fn any_free_of(&self, wanted: &Bitfield) -> bool {
        self.free.first_shared(wanted, self.lowest).is_some()
    }

    pub(super) fn is_free(&self, piece: PieceIndex) -> bool {
        self.free.has(piece)
    }

    /// A peer came.
    pub(super) fn join(&mut self, bitfield: &Bitfield) {
        if bitfield.is_full() {
            self.seeders += 1;
            return;
        }
        self.leechers += 1;
        bitfield.present().for_each(|piece| self.raise(piece));
    }

    /// A peer went; `bitfield` is what it had.
    pub(super) fn leave(&mut self, bitfield: &Bitfield) {
        if bitfield.is_full() {
            self.seeders -= 1;
            return;
        }
        self.leechers -= 1;
        bitfield.present().for_each(|piece| self.lower(piece));
    }

    /// A leecher has one more piece; `bitfield` includes it already.
    pub(super) fn gained(&mut self, piece: PieceIndex, bitfield: &Bitfield) {
        self.raise(piece);
        if bitfield.is_full() {
            self.leechers -= 1;
            self.seeders += 1;
            bitfield.present().for_each(|piece| self.lower(piece));
        }
    }

    /// Takes a free piece out.
    pub(super) fn take(&mut self, piece: PieceIndex) {
        let was_free = self.free.remove(piece);
        debug_assert!(was_free, "only a free piece is taken");
        for rank in self.rank(piece)..self.ends.len() {
            self.ends[rank] -= 1;
            self.swap(piece, self.ends[rank]);
        }
        self.order.pop();
    }

    /// Puts a piece back among the free ones.
    pub(super) fn put_back(&mut self, piece: PieceIndex) {
        let was_taken = self.free.insert(piece);
        debug_assert!(was_taken, "a free piece is not put back");
        self.lowest = self.lowest.min(piece);
        self.returns += 1;
        self.place[piece.0 as usize] = narrow(self.order.len());
        self.order.push(piece);
        for rank in (self.rank(piece)..self.ends.len()).rev() {
            if rank > self.rank(piece) {
                self.swap(piece, self.ends[rank - 1]);
            }
            self.ends[rank] += 1;
        }
    }

    /// The free piece with the lowest index among those in `wanted`.
    pub(super) fn first(&mut self, wanted: &Bitfield) -> Option<PieceIndex> {
        self.lowest = self.free.first_shared(&self.free, self.lowest)?;
        self.free.first_shared(wanted, self.lowest)
    }

    /// Any free piece among those in `wanted`, at random.
    pub(super) fn random(&self, wanted: &Bitfield, rng: &mut ChaCha12Rng) -> Option<PieceIndex> {
        let start = PieceIndex(draw(rng, wanted.len()));
        self.free.first_shared(wanted, start).or_else(|| self.free.first_shared(wanted, PieceIndex(0)))
    }

    /// The free piece with the fewest copies among those in `wanted`, at random among equals.
    ///
    /// After a bounded search any piece will do: a peer with few pieces in a very large file must not cost a walk over them all.
    pub(super) fn rarest(&self, wanted: &Bitfield, rng: &mut ChaCha12Rng) -> Option<PieceIndex> {
        let mut left = SCAN_LIMIT;
        // A leecher's pieces have a copy at least: its own.
        for rank in usize::from(!wanted.is_full())..self.ends.len() {
            let bucket = self.bucket(rank);
            if bucket.is_empty() {
                continue;
            }
            let start = draw(rng, narrow(bucket.len())) as usize;
            let turned = bucket[start..].iter().chain(&bucket[..start]);
            if let Some(piece) = turned.take(left).find(|piece| wanted.has(**piece)) {
                return Some(*piece);
            }
            left = left.saturating_sub(bucket.len());
            if left == 0 {
                return self.random(wanted, rng);
            }
        }
        None
    }

    fn bucket(&self, rank: usize) -> &[PieceIndex] {
        let begin = rank.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.order[begin as usize..self.ends[rank] as usize]
    }

    fn rank(&self, piece: PieceIndex) -> usize {
        usize::from(self.copies[piece.0 as usize])
    }

    fn raise(&mut self, piece: PieceIndex) {
        let rank = self.rank(piece);
        if rank + 1 == self.ends.len() {
            self.ends.push(narrow(self.order.len()));
        }
        if self.free.has(piece) {
            self.ends[rank] -= 1;
            self.swap(piece, self.ends[rank]);
        }
        self.copies[piece.0 as usize] += 1;
    }

    fn lower(&mut self, piece: PieceIndex) {
        let rank = self.rank(piece);
        if self.free.has(piece) {
            self.swap(piece, self.ends[rank - 1]);
            self.ends[rank - 1] += 1;
        }
        self.copies[piece.0 as usize] -= 1;
    }

    /// Exchanges the places of `piece` and whatever is at `to`.
    fn swap(&mut self, piece: PieceIndex, to: u32) {
        let from = self.place[piece.0 as usize];
        let other = self.order[to as usize];
        self.order.swap(from as usize, to as usize);
        self.place[other.0 as usize] = from;
        self.place[piece.0 as usize] = to;
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.order.len(), self.free.count() as usize);
        assert_eq!(self.ends.last().copied(), Some(narrow(self.order.len())));
        for rank in 0..self.ends.len() {
            assert!(self.bucket(rank).iter().all(|piece| self.rank(*piece) == rank && self.free.has(*piece)));
        }
        assert!(self.order.iter().enumerate().all(|(at, piece)| self.place[piece.0 as usize] == narrow(at)));
        assert!(self.free.first_shared(&self.free, PieceIndex(0)).is_none_or(|first| first >= self.lowest));
    }
}

/// A number below `bound`, which is not 0 unless nothing is to be found; the bias of one in 2³² / `bound` does not matter here.
fn draw(rng: &mut ChaCha12Rng, bound: u32) -> u32 {
    let scaled = u64::from(rng.next_u32()) * u64::from(bound);
    u32::try_from(scaled >> 32).expect("a product of two 32-bit numbers has no more than 64 bits")
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("pieces are counted in 32 bits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    fn field(bits: &[bool]) -> Bitfield {
        let mut field = Bitfield::empty(bits.len() as u32);
        for (index, set) in bits.iter().enumerate() {
            if *set {
                field.insert(PieceIndex(index as u32));
            }
        }
        field
    }

    proptest! {
        #[test]
        fn order_and_counts_hold_through_every_change(
            have in prop::collection::vec(any::<bool>(), 12),
            peers in prop::collection::vec(prop::collection::vec(any::<bool>(), 12), 1..5),
            steps in prop::collection::vec((0usize..4, 0u32..12, 0usize..5), 0..60),
            seed in any::<u64>(),
        ) {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let mut availability = Availability::new(&field(&have));
            let mut there: Vec<Bitfield> = Vec::new();
            for peer in &peers {
                there.push(field(peer));
                availability.join(&field(peer));
                availability.check();
            }
            let mut taken = Vec::new();
            for (step, piece, who) in steps {
                let piece = PieceIndex(piece);
                match step {
                    0 if availability.is_free(piece) => {
                        availability.take(piece);
                        taken.push(piece);
                    }
                    1 if taken.contains(&piece) => {
                        taken.retain(|other| *other != piece);
                        availability.put_back(piece);
                    }
                    2 if who < there.len() && !there[who].is_full() && there[who].insert(piece) => {
                        availability.gained(piece, &there[who]);
                    }
                    3 if who < there.len() => availability.leave(&there.remove(who)),
                    _ => {}
                }
                availability.check();
                for piece in (0..12).map(PieceIndex) {
                    let copies = there.iter().filter(|peer| peer.has(piece)).count() as u32;
                    prop_assert_eq!(availability.copies(piece), copies);
                }
                for peer in &there {
                    let best = (0..12)
                        .map(PieceIndex)
                        .filter(|piece| peer.has(*piece) && availability.is_free(*piece))
                        .map(|piece| availability.copies(piece))
                        .min();
                    let picked = availability.rarest(peer, &mut rng).map(|piece| availability.copies(piece));
                    prop_assert_eq!(picked, best);
                }
            }
        }
    }
}
