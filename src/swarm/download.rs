//! One file on its way here: what is asked of whom, what is checked, who is blamed.
//!
//! The machine holds no bytes, knows no clock and does no I/O. Its caller, for every thing that happens, calls
//! [`Download::handle`] with the time and an [`Event`], does what the [`Action`]s say in their order, and calls again with
//! [`Event::Timer`] when [`Download::deadline`] has come. Time must not go back from call to call.
//!
//! **A block arrives.** Ask [`Download::wants`] first; if it says yes, keep the bytes in the piece's buffer (make one if this is
//! the first). Then, in either case, hand in [`Event::Received`]. When the last block is there the machine says
//! [`Action::Verify`]: hash the buffer off the network path, write it, and hand in [`Event::Verified`] (only then is the piece
//! ours to announce) or [`Event::Corrupt`]. A buffer ends with its `Verified` or with [`Action::Discard`], nothing else. No more
//! than `open_limit` pieces are open at a time, so that memory is bounded however slow the disk or the hash is: then nothing
//! more is asked, and that is the backpressure on the sockets ([`Download::limit`] changes it, where several share the memory).
//! Twice as many may be while little of them has arrived: on a long way, most of what was asked for is in nobody's memory.
//!
//! ```text
//!             first Request            last Received               Verified
//!   missing ───────────────► open ───────────────────► verifying ───────────► had
//!    ▲  ▲                     │        (Verify)            │                   │
//!    │  └──── Discard ────────┘                            │                   │
//!    └──────────── Discard (Corrupt, Lost) ────────────────┴────── Lost ───────┘
//! ```
//!
//! **Which piece.** Rarest first, at random among equals, at random altogether for the first four; and in file order while there
//! are none but seeders, because then nobody waits for what we have and the file's own hash, which can only be computed in order, follows
//! close behind the download instead of reading everything again. See `picker`.
//!
//! **Whom.** A piece is begun with a peer that gave a turn for it ([`Event::Unchoked`], see `turns`), and is asked whole of that one while
//! there are others to begin. A turn with nothing left to begin goes to blocks of peers far slower, and, once every missing block is
//! asked for (the end-game), to the slowest ones too; the first answer cancels the other. What is of no use at all is given back. A peer silent for
//! longer than its own rate explains is snubbed: its requests stand but keep nobody else away, and it gets no more until it sends.
//!
//! **Blame.** A corrupt piece whose blocks one peer sent gets that peer banned. Several are put on parole: from then on they send
//! whole pieces, so that the next corrupt piece has one author.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng as _;
use tokio::time::Instant;

pub use super::event::{Action, Event, PeerView};

use super::PeerId;
use super::picker::{self, Owed, Rescue};
use super::pieces::{self, Pieces};
use super::rate::RateMeter;
use super::remote::Remote;
use crate::mutant::Mutant;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::piece::{Block, PieceIndex};

/// Pieces that fill the memory of a download by default: 48 pieces, 24 MiB, so that a client stays below 64 MiB with all else it holds.
pub const OPEN_LIMIT: usize = 48;
/// Pieces on their way by default while little of them has arrived. Half of that is on the way at 1 Gbit/s with a round trip of 200 ms.
pub const FAR_LIMIT: usize = pieces::FAR * OPEN_LIMIT;

/// How soon to look again whether a slow peer's blocks should be asked of an idle one.
const RESCUE_INTERVAL: Duration = Duration::from_millis(250);

/// Seconds of silence after which a piece that only silent peers were to send makes way for one of another silent peer.
const GIVEN_UP_S: f64 = 30.0;

/// Which peers may have room for requests after an event.
enum Scope {
    Nobody,
    One(PeerId),
    All,
}

/// The machine. See the module's text for its use.
pub struct Download {
    pieces: Pieces,
    remotes: BTreeMap<PeerId, Remote>,
    banned: BTreeSet<PeerId>,
    paused: bool,
    rescue_at: Option<Instant>,
    /// Made when it is asked for, and as long as nothing happens and no request is made or taken back.
    owed: OnceCell<Owed>,
    meter: RateMeter,
    rng: ChaCha12Rng,
}

impl Download {
    /// A download of a file of `size` bytes of which the pieces in `have` are verified and written already. With all of them it
    /// is the view of a swarm that a seeder has. `rng` decides between equals.
    pub fn new(size: u64, have: Bitfield, rng: ChaCha12Rng) -> Self {
        Self {
            pieces: Pieces::new(size, have, OPEN_LIMIT),
            remotes: BTreeMap::new(),
            banned: BTreeSet::new(),
            paused: false,
            rescue_at: None,
            owed: OnceCell::new(),
            meter: RateMeter::default(),
            rng,
        }
    }

    /// Changes how many pieces fill the memory (at least one); the default is [`OPEN_LIMIT`]. Those that are open stay so.
    pub fn limit(&mut self, now: Instant, open_limit: usize, out: &mut Vec<Action>) {
        let was_full = !self.pieces.has_room();
        self.pieces.limit(open_limit.max(1));
        self.owed.take();
        if was_full && self.pieces.has_room() {
            self.fill_all(now, out);
        }
    }

    /// Pieces on their way: asked for, in memory, or not yet verified.
    pub fn open_count(&self) -> usize {
        self.pieces.open_count()
    }

    /// Takes in what happened and adds what is to be done to `out`.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        let was_full = !self.pieces.has_room();
        let scope = self.apply(now, event, out);
        self.owed.take();
        match scope {
            _ if was_full && self.pieces.has_room() => self.fill_all(now, out),
            Scope::Nobody => {}
            Scope::One(peer) => self.fill(now, peer, out),
            Scope::All => self.fill_all(now, out),
        }
    }

    /// When to call with [`Event::Timer`] if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        if self.paused || self.is_finished() {
            return None;
        }
        let of_peers =
            self.remotes.values().flat_map(|remote| [remote.snub_at(), remote.resting_until]).flatten().min();
        of_peers.into_iter().chain(self.rescue_at).min()
    }

    /// Whether the bytes of `block`, that `peer` sends, are missing and were asked for: keep them exactly then.
    pub fn wants(&self, peer: PeerId, block: Block) -> bool {
        self.pieces.wants(block) && self.remotes.get(&peer).is_some_and(|remote| self.accepts(peer, remote, block))
    }

    /// Whether `peer`, connected or not, has sent a part of a piece that is not verified yet.
    pub fn is_author(&self, peer: PeerId) -> bool {
        self.pieces.is_author(peer)
    }

    /// The pieces that are there.
    pub fn have(&self) -> &Bitfield {
        self.pieces.have()
    }

    /// Whether every piece is there.
    pub fn is_finished(&self) -> bool {
        self.pieces.have().is_full()
    }

    /// Connected peers that have `piece`.
    pub fn copies(&self, piece: PieceIndex) -> u32 {
        self.pieces.availability.copies(piece)
    }

    /// Connected peers that have `piece` and lack others: its rarity, for the upload.
    pub fn leechers_with(&self, piece: PieceIndex) -> u32 {
        self.pieces.availability.leechers_with(piece)
    }

    /// Whether `peer` lacks a piece that is here, as far as it has told.
    pub fn serves(&self, peer: PeerId) -> bool {
        self.remotes.get(&peer).is_some_and(|remote| self.pieces.have().exceeds(&remote.bitfield))
    }

    /// Whether `peer` was found to send nothing, or what is damaged.
    pub fn shuns(&self, peer: PeerId) -> bool {
        let is_suspect = |remote: &Remote| remote.snubbed || remote.parole || remote.fails_to_answer();
        self.banned.contains(&peer) || self.remotes.get(&peer).is_some_and(is_suspect)
    }

    /// Bytes a second that arrive.
    pub fn bytes_per_s(&self, now: Instant) -> u64 {
        self.meter.bytes_per_s(now)
    }

    /// The connected peers.
    pub fn peers(&self, now: Instant) -> impl Iterator<Item = PeerView> + '_ {
        self.remotes.iter().map(move |(peer, remote)| PeerView {
            peer: *peer,
            pieces: remote.bitfield.count(),
            bytes_per_s: remote.meter.bytes_per_s(now),
            received: remote.meter.total(),
            outstanding: remote.outstanding().len(),
            choked: !remote.has_turn() && remote.outstanding().is_empty(),
            snubbed: remote.snubbed,
            parole: remote.parole,
        })
    }

    fn apply(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) -> Scope {
        match event {
            Event::PeerJoined { peer, bitfield } => self.joined(now, peer, bitfield),
            Event::PeerLeft { peer } => self.left(peer, out),
            Event::Have { peer, pieces } => self.gained(peer, &pieces),
            Event::Unchoked { peer, suggested } => self.unchoked(peer, suggested),
            Event::Received { peer, block } => self.received(now, peer, block, out),
            Event::Rejected { peer, block } => self.rejected(now, peer, block, out),
            Event::Verified { piece } => self.verified(piece, out),
            Event::Corrupt { piece } => self.corrupt(piece, out),
            Event::Lost { piece } => self.lost(piece, out),
            Event::Timer => self.timer(now, out),
            Event::Paused => self.pause(out),
            Event::Resumed => {
                self.paused = false;
                Scope::All
            }
        }
    }

    fn joined(&mut self, now: Instant, peer: PeerId, bitfield: Bitfield) -> Scope {
        if self.banned.contains(&peer) || self.remotes.contains_key(&peer) {
            return Scope::Nobody;
        }
        let count = self.pieces.have().len();
        let bitfield = if bitfield.len() == count { bitfield } else { Bitfield::empty(count) };
        self.pieces.availability.join(&bitfield);
        self.remotes.insert(peer, Remote::new(now, bitfield));
        Scope::One(peer)
    }

    fn left(&mut self, peer: PeerId, out: &mut Vec<Action>) -> Scope {
        if !self.remotes.contains_key(&peer) {
            return Scope::Nobody;
        }
        self.release(peer, out);
        if let Some(remote) = self.remotes.remove(&peer) {
            self.pieces.availability.leave(&remote.bitfield);
        }
        Scope::All
    }

    fn gained(&mut self, peer: PeerId, gained: &[PieceIndex]) -> Scope {
        let Some(remote) = self.remotes.get_mut(&peer) else { return Scope::Nobody };
        for piece in gained {
            if remote.bitfield.insert(*piece) {
                self.pieces.availability.gained(*piece, &remote.bitfield);
                remote.exhausted_at = None;
            }
        }
        Scope::One(peer)
    }

    fn unchoked(&mut self, peer: PeerId, suggested: Option<PieceIndex>) -> Scope {
        let Some(remote) = self.remotes.get_mut(&peer) else { return Scope::Nobody };
        remote.unchoke(suggested);
        // A turn that crosses our word that none is of use does not take it back: that one is void where it was given.
        remote.interested.get_or_insert(true);
        Scope::One(peer)
    }

    fn received(&mut self, now: Instant, peer: PeerId, block: Block, out: &mut Vec<Action>) -> Scope {
        let wanted = self.wants(peer, block);
        let Some(remote) = self.remotes.get_mut(&peer).filter(|remote| remote.was_asked(block)) else {
            return Scope::Nobody;
        };
        let was_snubbed = remote.snubbed;
        remote.receive(now, block);
        self.meter.add(now, u64::from(block.length));
        if was_snubbed {
            self.unsnub(peer);
        }
        if wanted {
            self.accept(peer, block, out)
        } else {
            self.pieces.unask(block, peer);
            Scope::One(peer)
        }
    }

    /// Whether a block that `peer` sends may enter its piece: only what was asked of it, and nothing into another's reserved piece.
    fn accepts(&self, peer: PeerId, remote: &Remote, block: Block) -> bool {
        remote.was_asked(block) && self.pieces.reserved_for(block.piece).is_none_or(|whole| whole == peer)
    }

    fn accept(&mut self, peer: PeerId, block: Block, out: &mut Vec<Action>) -> Scope {
        let arrival = self.pieces.receive(block, peer);
        for other in &arrival.others {
            self.cancel(*other, block, out);
        }
        if arrival.full {
            out.push(Action::Verify { piece: block.piece });
        }
        if arrival.others.is_empty() { Scope::One(peer) } else { Scope::All }
    }

    fn rejected(&mut self, now: Instant, peer: PeerId, block: Block, out: &mut Vec<Action>) -> Scope {
        let Some(remote) = self.remotes.get_mut(&peer) else { return Scope::Nobody };
        if !remote.forget(block) {
            return Scope::Nobody;
        }
        remote.rest(now);
        self.pieces.unask(block, peer);
        self.clear_reserved(peer, out);
        Scope::All
    }

    fn verified(&mut self, piece: PieceIndex, out: &mut Vec<Action>) -> Scope {
        if piece.0 >= self.have().len() || self.have().has(piece) {
            return Scope::Nobody;
        }
        for author in self.pieces.authors(piece) {
            if let Some(remote) = self.remotes.get_mut(&author).filter(|_| self.pieces.reserved_for(piece).is_some()) {
                remote.acquit();
            }
        }
        let pointless = self.pieces.verified(piece);
        self.cancel_all(pointless, out);
        if self.is_finished() {
            out.push(Action::Finished);
        }
        Scope::Nobody
    }

    fn corrupt(&mut self, piece: PieceIndex, out: &mut Vec<Action>) -> Scope {
        let authors = self.pieces.authors(piece);
        if authors.is_empty() {
            return Scope::Nobody;
        }
        self.discard(piece, out);
        if let (1, Some(liar)) = (authors.len(), authors.first()) {
            self.ban(*liar, out);
        } else {
            tracing::trace!(target: "coverage", reached = "peer: on parole");
            let suspects = self.remotes.iter_mut().filter(|(peer, _)| authors.contains(peer));
            suspects.for_each(|(_, remote)| remote.suspect());
        }
        Scope::All
    }

    fn ban(&mut self, peer: PeerId, out: &mut Vec<Action>) {
        if Mutant::NeverBan.is_on() {
            return;
        }
        self.banned.insert(peer);
        self.left(peer, out);
        for emptied in self.pieces.disown(peer) {
            out.push(Action::Discard { piece: emptied });
        }
        out.push(Action::Ban { peer });
    }

    fn lost(&mut self, piece: PieceIndex, out: &mut Vec<Action>) -> Scope {
        if !self.pieces.lose(piece) {
            self.discard(piece, out);
        }
        Scope::All
    }

    fn timer(&mut self, now: Instant, out: &mut Vec<Action>) -> Scope {
        self.rescue_at = self.rescue_at.filter(|at| *at > now);
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let silent: Vec<PeerId> =
            self.remotes.iter().filter(|(_, remote)| due(remote.snub_at())).map(|(peer, _)| *peer).collect();
        for peer in silent {
            self.snub(peer, out);
        }
        for remote in self.remotes.values_mut().filter(|remote| due(remote.resting_until)) {
            remote.resting_until = None;
        }
        Scope::All
    }

    fn pause(&mut self, out: &mut Vec<Action>) -> Scope {
        self.paused = true;
        self.rescue_at = None;
        let peers: Vec<PeerId> = self.remotes.keys().copied().collect();
        for peer in peers {
            self.lose_interest(peer, out);
            let blocks: Vec<Block> = self.remotes[&peer].outstanding().iter().map(|asked| asked.block).collect();
            for block in blocks {
                self.cancel(peer, block, out);
                self.pieces.unask(block, peer);
            }
        }
        Scope::Nobody
    }

    fn snub(&mut self, peer: PeerId, out: &mut Vec<Action>) {
        if Mutant::NeverSnub.is_on() {
            return;
        }
        tracing::trace!(target: "coverage", reached = "peer: snubbed");
        self.clear_reserved(peer, out);
        self.mark(peer, true);
    }

    fn unsnub(&mut self, peer: PeerId) {
        self.mark(peer, false);
    }

    /// Whether requests at `peer` keep others away from their blocks depends on whether it is snubbed.
    fn mark(&mut self, peer: PeerId, snubbed: bool) {
        let Some(remote) = self.remotes.get_mut(&peer) else { return };
        remote.snubbed = snubbed;
        for asked in remote.outstanding() {
            self.pieces.set_live(asked.block, peer, !snubbed);
        }
    }

    /// The requests at `peer` will not be answered: their blocks go back to all.
    fn release(&mut self, peer: PeerId, out: &mut Vec<Action>) {
        let Some(remote) = self.remotes.get_mut(&peer) else { return };
        for block in remote.forget_all() {
            self.pieces.unask(block, peer);
        }
        self.clear_reserved(peer, out);
    }

    /// Drops the pieces begun that only `peer` was to send.
    fn clear_reserved(&mut self, peer: PeerId, out: &mut Vec<Action>) {
        for piece in self.pieces.reserved(peer) {
            self.discard(piece, out);
        }
    }

    /// Drops a piece; returns the peers that were asked for it.
    fn discard(&mut self, piece: PieceIndex, out: &mut Vec<Action>) -> BTreeSet<PeerId> {
        let (pointless, had_bytes) = self.pieces.discard(piece);
        let holders = pointless.iter().map(|(peer, _)| *peer).collect();
        self.cancel_all(pointless, out);
        if had_bytes {
            out.push(Action::Discard { piece });
        }
        holders
    }

    fn let_rest(&mut self, now: Instant, peer: PeerId) {
        if let Some(remote) = self.remotes.get_mut(&peer) {
            remote.rest(now);
        }
    }

    fn cancel_all(&mut self, asks: Vec<(PeerId, Block)>, out: &mut Vec<Action>) {
        for (peer, block) in asks {
            self.cancel(peer, block, out);
        }
    }

    fn cancel(&mut self, peer: PeerId, block: Block, out: &mut Vec<Action>) {
        self.owed.take();
        if self.remotes.get_mut(&peer).is_some_and(|remote| remote.cancel(block)) {
            out.push(Action::Cancel { peer, block });
        }
    }

    /// Asks all peers, from a random one on, so that none is always the last whom the others leave something.
    fn fill_all(&mut self, now: Instant, out: &mut Vec<Action>) {
        let mut peers: Vec<PeerId> = self.remotes.keys().copied().collect();
        let first = usize::try_from(self.rng.next_u32()).unwrap_or_default() % peers.len().max(1);
        peers.rotate_left(first);
        for peer in peers {
            self.fill(now, peer, out);
        }
    }

    /// Asks `peer` for as much as it gave turns for, and tells it whether another would be of use.
    fn fill(&mut self, now: Instant, peer: PeerId, out: &mut Vec<Action>) {
        loop {
            if let Some(block) = self.next_block(now, peer, out) {
                self.ask(now, peer, block, out);
                continue;
            }
            let rescue = if self.may_begin(peer) { self.next_rescue(now, peer) } else { None };
            match rescue {
                Some(Rescue::Later) => break self.look_again(now),
                None if self.is_idle(peer) => break self.look_again(now),
                Some(rescue) => self.rescue(now, peer, rescue, out),
                None => break,
            }
        }
        self.tell_interest(now, peer, out);
    }

    fn may_begin(&self, peer: PeerId) -> bool {
        self.remotes.get(&peer).is_some_and(Remote::may_begin)
    }

    /// Gives back turns that are of no use, or asks for one where it would be.
    fn tell_interest(&mut self, now: Instant, peer: PeerId, out: &mut Vec<Action>) {
        let Some(remote) = self.remotes.get(&peer) else { return };
        if remote.has_turn() {
            if !self.has_use_soon(remote) {
                self.lose_interest(peer, out);
            }
        } else if remote.interested != Some(true) && self.has_work(now, peer) {
            out.push(Action::Interest { peer, interested: true });
            self.remotes.entry(peer).and_modify(|remote| remote.interested = Some(true));
        }
    }

    /// Whether a peer far away sends what makes room for its next piece. If its turns were given back the way would be empty for a
    /// round trip.
    fn has_use_soon(&self, remote: &Remote) -> bool {
        let is_sending = !remote.snubbed && !remote.outstanding().is_empty();
        is_sending && self.pieces.is_full_of_far() && self.pieces.availability.any_free_of(&remote.bitfield)
    }

    fn lose_interest(&mut self, peer: PeerId, out: &mut Vec<Action>) {
        let may_give = |remote: &&mut Remote| remote.interested == Some(true) || remote.has_turn();
        let Some(remote) = self.remotes.get_mut(&peer).filter(may_give) else { return };
        remote.drop_turns();
        remote.interested = Some(false);
        out.push(Action::Interest { peer, interested: false });
    }

    /// Whether a turn of `peer` would be of use now.
    fn has_work(&self, now: Instant, peer: PeerId) -> bool {
        let Some(remote) = self.remotes.get(&peer).filter(|_| !self.paused) else { return false };
        picker::has_work(&self.pieces, peer, remote)
            || self.next_rescue(now, peer).is_some_and(|rescue| rescue != Rescue::Later)
            || (self.is_at_limit(remote) && self.stuck_piece(now, remote).is_some())
    }

    /// Whether a peer is asked for nothing because no more pieces may be in memory.
    fn is_at_limit(&self, remote: &Remote) -> bool {
        remote.outstanding().is_empty() && !self.pieces.has_room()
    }

    /// Whether a peer that may be asked is asked for nothing though it has what is missing.
    fn is_idle(&self, peer: PeerId) -> bool {
        let remote = self.remotes.get(&peer).filter(|remote| !self.paused && remote.is_usable());
        remote.is_some_and(|remote| remote.outstanding().is_empty() && self.pieces.misses_any_of(&remote.bitfield))
    }

    fn look_again(&mut self, now: Instant) {
        self.rescue_at = self.rescue_at.or(Some(now + RESCUE_INTERVAL));
    }

    fn rescue(&mut self, now: Instant, peer: PeerId, rescue: Rescue, out: &mut Vec<Action>) {
        match rescue {
            Rescue::Duplicate(block) => self.ask(now, peer, block, out),
            Rescue::Steal { from, block } => {
                self.cancel(from, block, out);
                self.pieces.unask(block, from);
                self.take_back(now, peer, block, out);
            }
            Rescue::TakeOver { piece } => {
                for holder in self.discard(piece, out) {
                    self.let_rest(now, holder);
                }
                self.take_over(now, peer, piece, out);
            }
            Rescue::Later => {}
        }
    }

    fn next_block(&mut self, now: Instant, peer: PeerId, out: &mut Vec<Action>) -> Option<Block> {
        if self.paused {
            return None;
        }
        let remote = self.remotes.get_mut(&peer).filter(|remote| remote.is_usable())?;
        let block = picker::next_block(&mut self.pieces, peer, remote, &mut self.rng);
        if block.is_some() || !remote.may_begin() {
            return block;
        }
        self.evict(now, peer, out)?;
        let remote = self.remotes.get_mut(&peer)?;
        picker::next_block(&mut self.pieces, peer, remote, &mut self.rng)
    }

    /// Makes room for a piece that `peer` has by dropping those that are stuck.
    fn evict(&mut self, now: Instant, peer: PeerId, out: &mut Vec<Action>) -> Option<()> {
        let stuck = |machine: &Self| {
            let remote = machine.remotes.get(&peer).filter(|remote| machine.is_at_limit(remote))?;
            machine.stuck_piece(now, remote)
        };
        self.discard(stuck(self)?, out);
        while let Some(next) = stuck(self) {
            self.discard(next, out);
        }
        Some(())
    }

    /// A piece begun that nobody is sending and no usable peer has, if `asker` has one to begin in its place. A snubbed peer drops
    /// none that others may still send, unless they have been silent for so long that it is no worse than they.
    fn stuck_piece(&self, now: Instant, asker: &Remote) -> Option<PieceIndex> {
        self.pieces.availability.any_free_of(&asker.bitfield).then_some(())?;
        let usable = |remote: &&Remote| !remote.snubbed;
        let held = |piece| self.remotes.values().filter(usable).any(|remote| remote.bitfield.has(piece));
        let is_silent = |peer| self.remotes.get(&peer).is_none_or(|remote| remote.silent_s(now) >= GIVEN_UP_S);
        let given_up = |piece| self.pieces.asked_peers(piece).all(is_silent);
        let left = |piece| self.pieces.is_orphan(piece) && (!asker.snubbed || given_up(piece));
        self.pieces.partial().find(|piece| left(*piece) && !held(*piece))
    }

    fn next_rescue(&self, now: Instant, peer: PeerId) -> Option<Rescue> {
        let helper = self.remotes.get(&peer).filter(|_| !self.paused)?;
        let owed = || self.owed.get_or_init(|| Owed::at(now, &self.remotes));
        picker::rescue(now, &self.pieces, peer, helper, owed)
    }

    fn ask(&mut self, now: Instant, peer: PeerId, block: Block, out: &mut Vec<Action>) {
        self.owed.take();
        let Some(remote) = self.remotes.get_mut(&peer) else { return };
        remote.ask(now, block);
        let superseded = self.pieces.ask(block, peer, !remote.snubbed);
        out.push(Action::Request { peer, block });
        for other in superseded {
            self.cancel(other, block, out);
        }
    }

    /// Asks for a block whose only ask was just withdrawn, which may have closed its piece.
    fn take_back(&mut self, now: Instant, peer: PeerId, block: Block, out: &mut Vec<Action>) {
        if self.pieces.availability.is_free(block.piece) {
            self.pieces.open(block.piece, None);
        }
        self.ask(now, peer, block, out);
    }

    /// Asks for a piece that was just taken from a suspect.
    fn take_over(&mut self, now: Instant, peer: PeerId, piece: PieceIndex, out: &mut Vec<Action>) {
        let parole = self.remotes.get(&peer).is_some_and(|remote| remote.parole);
        self.pieces.open(piece, parole.then_some(peer));
        if let Some(block) = self.pieces.next_block(piece, peer) {
            self.ask(now, peer, block, out);
        }
    }

    /// The invariants that hold between two events.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let outstanding = self.remotes.iter().flat_map(|(peer, remote)| {
            let blocks = remote.outstanding().iter().map(|asked| asked.block);
            blocks.map(|block| (*peer, block))
        });
        let outstanding: BTreeSet<_> = outstanding.collect();
        assert_eq!(self.pieces.check(), outstanding, "both sides know the same requests");
        assert!(
            self.owed.get().is_none_or(|owed| owed.asks().collect::<BTreeSet<_>>() == outstanding),
            "what is owed is what was asked"
        );
        let idle = |remote: &Remote| remote.outstanding().is_empty();
        assert!(self.remotes.values().all(|remote| idle(remote) || !self.paused));
        let may_keep = |remote: &Remote| !idle(remote) && self.pieces.is_full_of_far();
        let kept = |remote: &Remote| remote.has_turn() && !may_keep(remote);
        assert!(!self.remotes.values().any(kept), "a turn is used, given back, or soon of use");
        assert!(self.remotes.keys().all(|peer| !self.banned.contains(peer)));
    }
}
