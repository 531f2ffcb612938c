//! Which block to ask of a peer next, and which to take from another that is too slow.

use std::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng as _;
use tokio::time::Instant;

use super::PeerId;
use super::pieces::Pieces;
use super::remote::Remote;
use crate::protocol::piece::{Block, PieceIndex};

/// Pieces taken at random before the rarest are.
const RANDOM_FIRST: u32 = 4;
/// Seconds that a theft must win beyond the factor of two, so that the noise of a fast network moves nothing.
const STEAL_MARGIN_S: f64 = 0.05;
/// Seconds of silence after which a peer under suspicion may have what another one holds.
const SILENCE_S: f64 = 2.0;
/// Requests up to which a peer counts as idle enough to help out.
const HELPER_DEPTH: usize = 4;
/// Time for a block as long as nobody was measured (1 MiB/s).
const DEFAULT_GAP_S: f64 = 0.125;

/// The next block to ask of `peer` that nobody else is on the way with; opens a piece where none begun will do.
///
/// A piece is best sent by one peer from its first block to its last, since uploaders serve piece by piece. So the order is: the
/// piece last asked of this peer; with a turn, the piece it suggests; the rarest one begun that nobody is on the way with; a new one,
/// while there is room for one; and then the rest of one that another peer is sending. With nobody but seeders around,
/// nothing is there to trade, and neither rarity nor what they suggest means anything: then pieces are taken in file order, begun
/// ones first, so that the hash of the whole file can follow closely.
pub(super) fn next_block(
    pieces: &mut Pieces,
    peer: PeerId,
    remote: &mut Remote,
    rng: &mut ChaCha12Rng,
) -> Option<Block> {
    if let Some(block) = remote.last_piece().and_then(|piece| block_of(pieces, piece, peer, remote)) {
        return remote.is_usable().then_some(block);
    }
    if !remote.may_begin() {
        return None;
    }
    let in_order = pieces.availability.only_seeders();
    let wanted = if in_order { begun(pieces, peer, remote, |_| true) } else { suggested(pieces, peer, remote) };
    wanted
        .or_else(|| orphan(pieces, peer, remote, rng))
        .or_else(|| new_piece(pieces, peer, remote, rng))
        .or_else(|| self::begun(pieces, peer, remote, |_| true))
}

/// What could be begun with `peer` if it gave a turn: the same as in [`next_block`].
pub(super) fn has_work(pieces: &Pieces, peer: PeerId, remote: &Remote) -> bool {
    let is_new = || pieces.has_room() && pieces.availability.any_free_of(&remote.bitfield);
    remote.is_usable() && (is_new() || begun(pieces, peer, remote, |_| true).is_some())
}

fn suggested(pieces: &mut Pieces, peer: PeerId, remote: &Remote) -> Option<Block> {
    let is_open_to = |piece: &PieceIndex| remote.bitfield.has(*piece) && pieces.availability.is_free(*piece);
    let piece = remote.suggested().filter(is_open_to).filter(|_| pieces.has_room())?;
    pieces.open(piece, remote.parole.then_some(peer));
    pieces.next_block(piece, peer)
}

/// A piece begun that nobody is on the way with: not the same one for everybody whom its sender has left.
fn orphan(pieces: &Pieces, peer: PeerId, remote: &Remote, rng: &mut ChaCha12Rng) -> Option<Block> {
    let orphans = pieces.partial().filter(|piece| pieces.is_orphan(*piece));
    let found = orphans.filter_map(|piece| Some((piece, block_of(pieces, piece, peer, remote)?)));
    let ranked = found.map(|(piece, block)| ((pieces.availability.copies(piece), rng.next_u32()), block));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, block)| block)
}

fn begun(pieces: &Pieces, peer: PeerId, remote: &Remote, which: impl Fn(PieceIndex) -> bool) -> Option<Block> {
    pieces.partial().filter(|piece| which(*piece)).find_map(|piece| block_of(pieces, piece, peer, remote))
}

/// A block of a partial piece that this peer has and may be asked for.
fn block_of(pieces: &Pieces, piece: PieceIndex, peer: PeerId, remote: &Remote) -> Option<Block> {
    let reserved = pieces.reserved_for(piece);
    let allowed = if remote.parole { reserved == Some(peer) } else { reserved.is_none_or(|whole| whole == peer) };
    (allowed && pieces.is_partial(piece) && remote.bitfield.has(piece)).then(|| pieces.next_block(piece, peer))?
}

fn new_piece(pieces: &mut Pieces, peer: PeerId, remote: &mut Remote, rng: &mut ChaCha12Rng) -> Option<Block> {
    if remote.exhausted_at == Some(pieces.availability.returns()) || !pieces.has_room() {
        return None;
    }
    let early = pieces.have().count() < RANDOM_FIRST;
    let availability = &mut pieces.availability;
    let found = if availability.only_seeders() {
        availability.first(&remote.bitfield)
    } else if early {
        availability.random(&remote.bitfield, rng)
    } else {
        availability.rarest(&remote.bitfield, rng)
    };
    remote.exhausted_at = found.is_none().then(|| availability.returns());
    let piece = found?;
    pieces.open(piece, remote.parole.then_some(peer));
    pieces.next_block(piece, peer)
}

/// A block to ask of a peer that has a turn and nothing else to do with it, although another is on the way with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rescue {
    /// Ask this peer too and let the first one win: the end of the file is near.
    Duplicate(Block),
    /// Take the block from a peer far slower.
    Steal { from: PeerId, block: Block },
    /// Take a whole piece: one side is on parole, so what was sent of it is dropped.
    TakeOver { piece: PieceIndex },
    /// Nobody is slow enough yet; look again soon.
    Later,
}

/// All requests that are on their way at one moment: made once for all peers that might help.
pub(super) struct Owed {
    /// The one that is probably answered last comes first.
    asks: Vec<OwedBlock>,
    default_gap_s: f64,
}

#[derive(Clone, Copy)]
struct OwedBlock {
    by: PeerId,
    block: Block,
    eta_s: f64,
    silent_s: f64,
}

impl Owed {
    pub(super) fn at(now: Instant, remotes: &BTreeMap<PeerId, Remote>) -> Self {
        let default_gap_s = usual_gap_s(remotes);
        let mut asks: Vec<OwedBlock> =
            remotes.iter().rev().flat_map(|(by, remote)| owed_by(now, *by, remote, default_gap_s)).collect();
        asks.sort_by(|one, next| next.eta_s.total_cmp(&one.eta_s));
        Self { asks, default_gap_s }
    }

    /// What `helper` could answer and is probably answered last, and in how many seconds.
    fn slowest(&self, pieces: &Pieces, peer: PeerId, helper: &Remote) -> Option<(f64, OwedBlock)> {
        let useful = || self.asks.iter().filter(|owed| owed.by != peer && is_useful(pieces, helper, owed.block));
        let rank = |owed: &OwedBlock| {
            if takes_only_from_silent(pieces, helper, owed.block) { owed.silent_s } else { owed.eta_s }
        };
        let ranks_otherwise = is_suspect(helper) || helper.gap_s().is_none();
        let slowest = if ranks_otherwise {
            useful().rev().max_by(|one, next| rank(one).total_cmp(&rank(next)))
        } else {
            useful().next()
        };
        slowest.map(|owed| (rank(owed), *owed))
    }

    /// Every request, and at which peer.
    #[cfg(test)]
    pub(super) fn asks(&self) -> impl Iterator<Item = (PeerId, Block)> {
        self.asks.iter().map(|owed| (owed.by, owed.block))
    }
}

/// The requests that a peer has to answer, the last one first.
fn owed_by(now: Instant, by: PeerId, remote: &Remote, default_gap_s: f64) -> impl Iterator<Item = OwedBlock> {
    let silent_s = remote.silent_s(now);
    remote.outstanding().iter().enumerate().rev().map(move |(index, asked)| OwedBlock {
        by,
        block: asked.block,
        eta_s: remote.eta_s(now, index, default_gap_s),
        silent_s,
    })
}

/// What a peer could do with a turn for the blocks that others are on the way with; `None` when it can do nothing for any of them.
pub(super) fn rescue<'a>(
    now: Instant,
    pieces: &Pieces,
    peer: PeerId,
    helper: &Remote,
    owed: impl FnOnce() -> &'a Owed,
) -> Option<Rescue> {
    let busy = helper.outstanding().len();
    if busy >= HELPER_DEPTH || !helper.is_usable() {
        return None;
    }
    let left_over = || pieces.partial().find(|piece| is_left_over(pieces, *piece, helper));
    if let Some(piece) = (busy == 0).then(left_over).flatten() {
        return Some(Rescue::TakeOver { piece });
    }
    let owed = owed();
    let own_s = helper.eta_s(now, busy, owed.default_gap_s);
    let (eta_s, slowest) = owed.slowest(pieces, peer, helper)?;
    Some(judge(pieces, helper, (eta_s, slowest.by, slowest.block), own_s))
}

fn is_suspect(helper: &Remote) -> bool {
    helper.parole || helper.snubbed
}

/// Those under suspicion take from each other only what has gone silent, or they would do so forever. So does who never sent
/// anything, where it would cost what another has sent of a whole piece: a promise is worth less than bytes.
fn takes_only_from_silent(pieces: &Pieces, helper: &Remote, block: Block) -> bool {
    is_suspect(helper) || (helper.gap_s().is_none() && pieces.reserved_for(block.piece).is_some())
}

/// Whether a piece waits for others to send the rest, and nobody does: one on parole can only send it anew, and so can all others
/// when one on parole has left it.
fn is_left_over(pieces: &Pieces, piece: PieceIndex, helper: &Remote) -> bool {
    let is_whole = helper.parole || pieces.reserved_for(piece).is_some();
    is_whole && helper.bitfield.has(piece) && pieces.is_unasked(piece)
}

fn judge(pieces: &Pieces, helper: &Remote, (eta_s, from, block): (f64, PeerId, Block), own_s: f64) -> Rescue {
    let end_game = pieces.all_asked() && helper.outstanding().is_empty();
    let only_silent = takes_only_from_silent(pieces, helper, block);
    let far_slower = eta_s > if only_silent { SILENCE_S } else { 2.0 * own_s + STEAL_MARGIN_S };
    if helper.parole || pieces.reserved_for(block.piece).is_some() {
        return if far_slower { Rescue::TakeOver { piece: block.piece } } else { Rescue::Later };
    }
    if end_game && eta_s > own_s {
        Rescue::Duplicate(block)
    } else if far_slower {
        Rescue::Steal { from, block }
    } else {
        Rescue::Later
    }
}

/// Whether `helper` could answer a request that nobody else is on the way with.
fn is_useful(pieces: &Pieces, helper: &Remote, block: Block) -> bool {
    let dead = !pieces.is_asked_live(block);
    let reserved = pieces.reserved_for(block.piece).is_some();
    let open_to_helper = !is_suspect(helper) || reserved || (helper.parole && dead);
    open_to_helper && helper.bitfield.has(block.piece) && (dead || pieces.ask_count(block) == 1)
}

fn usual_gap_s(remotes: &BTreeMap<PeerId, Remote>) -> f64 {
    let gaps: Vec<f64> = remotes.values().filter_map(Remote::gap_s).collect();
    let count = u32::try_from(gaps.len()).unwrap_or(u32::MAX);
    if gaps.is_empty() { DEFAULT_GAP_S } else { gaps.iter().sum::<f64>() / f64::from(count) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;
    use crate::protocol::bitfield::Bitfield;
    use crate::protocol::piece::PIECE_SIZE;

    /// A set of pieces as text: a blank is a piece that is not there.
    fn field(text: &str) -> Bitfield {
        let mut field = Bitfield::empty(text.len() as u32);
        for (index, _) in text.match_indices(|mark: char| mark != ' ') {
            field.insert(PieceIndex(index as u32));
        }
        field
    }

    /// The pieces of which a block may be asked of a peer that has `theirs`, where `have` is here, other leechers hold as many copies as
    /// `availability` says, and of the pieces in `begun` one block is asked of somebody else (a capital) or was (a small letter).
    fn check(availability: &str, have: &str, begun: &str, theirs: &str, expected: &[u32]) {
        let found: BTreeSet<u32> = (0..64).filter_map(|seed| pick(availability, have, begun, theirs, seed)).collect();
        assert_eq!(found, expected.iter().copied().collect());
    }

    fn pick(availability: &str, have: &str, begun: &str, theirs: &str, seed: u64) -> Option<u32> {
        let size = have.len() as u64 * u64::from(PIECE_SIZE);
        let mut pieces = Pieces::new(size, field(have), 4);
        for copy in '1'..='9' {
            let held: String = availability.chars().map(|mark| if mark >= copy { 'x' } else { ' ' }).collect();
            if !field(&held).is_empty() {
                pieces.availability.join(&field(&held));
            }
        }
        pieces.availability.join(&field(theirs));
        for (index, mark) in begun.char_indices().filter(|(_, mark)| *mark != ' ') {
            begin(&mut pieces, PieceIndex(index as u32), mark.is_uppercase());
        }
        let mut remote = Remote::new(Instant::now(), field(theirs));
        remote.unchoke(None);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        next_block(&mut pieces, PeerId(1), &mut remote, &mut rng).map(|block| block.piece.0)
    }

    fn begin(pieces: &mut Pieces, piece: PieceIndex, asked: bool) {
        pieces.open(piece, None);
        let block = pieces.next_block(piece, PeerId(2)).unwrap();
        pieces.ask(block, PeerId(2), true);
        if !asked {
            pieces.receive(block, PeerId(2));
        }
    }

    #[test]
    fn the_rarest_comes_first() {
        check("00001231", "xxxx    ", "        ", "xxxxxxxx", &[4, 7]);
        check("00001231", "xxxxx  x", "        ", "xxxxxxxx", &[5]);
        check("00001231", "xxxx    ", "        ", "     xx ", &[5]);
        check("00001231", "xxxx    ", "        ", "xxxx    ", &[]);
    }

    #[test]
    fn the_first_four_are_random() {
        check("1231", "x   ", "    ", "xxxx", &[1, 2, 3]);
    }

    #[test]
    fn an_orphan_comes_before_new_pieces_and_those_before_the_work_of_others() {
        check("00001231", "xxxx    ", "     aB ", "xxxxxxxx", &[5]);
        check("00001231", "xxxx    ", "     AB ", "xxxxxxxx", &[4, 7]);
        check("00001231", "xxxx    ", "     AB ", "     xx ", &[5]);
    }

    #[test]
    fn with_seeders_alone_the_order_is_the_files() {
        check("        ", "xxxx    ", "        ", "xxxxxxxx", &[4]);
        check("        ", "        ", "  B     ", "xxxxxxxx", &[2]);
    }

    #[test]
    fn no_piece_is_begun_beyond_the_limit() {
        check("000000000012", "            ", "    aaaaaa  ", "          xx", &[]);
        check("000000000012", "            ", "AAAAAAAA    ", "          xx", &[]);
    }

    #[test]
    fn more_pieces_are_begun_while_little_has_arrived() {
        check("000000000012", "            ", "    AAAAAA  ", "          xx", &[10, 11]);
    }
}
