//! One remote peer as a source of blocks: what it has, what it was asked, how fast it answers, what it is blamed for.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::download::FAR_LIMIT;
use super::rate::RateMeter;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::piece::{Block, PieceIndex};

/// Turns of one peer that are kept.
const TURN_LIMIT: usize = FAR_LIMIT;
/// Silence allowed to a peer that never sent anything.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
/// Bounds of the silence allowed to one that did.
const MIN_PATIENCE: Duration = Duration::from_secs(2);
const MAX_PATIENCE: Duration = Duration::from_secs(30);
/// Bounds of the pause after a rejected request, or a piece that had to be taken away.
const MIN_REST: Duration = Duration::from_millis(100);
const MAX_REST: Duration = Duration::from_mins(1);
/// Seconds added to what is expected of a peer from which its requests were taken once.
const DOUBT_S: f64 = 0.05;
/// Bad pieces shared with others after which a peer never leaves parole.
const MAX_STRIKES: u32 = 3;
/// Blocks that a peer never measured is taken to send before it comes to ours: a piece.
const PIECE_GAPS: f64 = 4.0;
/// Cancelled requests whose answer may still come.
const CANCELLED_LIMIT: usize = 64;

/// A request that is on its way.
pub(super) struct Asked {
    pub(super) block: Block,
    at: Instant,
    /// It was the first for its piece, which waits for its turn in the peer's queue.
    begins: bool,
}

/// Everything known of one peer.
pub(super) struct Remote {
    pub(super) bitfield: Bitfield,
    /// Whether its turns are of use, as it was told last. Where it was told nothing, a turn shows that it takes them to be.
    pub(super) interested: Option<bool>,
    pub(super) snubbed: bool,
    pub(super) parole: bool,
    /// Nothing free was found at this peer when pieces had been put back so often.
    pub(super) exhausted_at: Option<u64>,
    pub(super) resting_until: Option<Instant>,
    pub(super) meter: RateMeter,
    /// Pieces that may be begun, each with what the peer suggests.
    turns: VecDeque<Option<PieceIndex>>,
    outstanding: Vec<Asked>,
    cancelled: VecDeque<Block>,
    last_piece: Option<PieceIndex>,
    strikes: u32,
    rest: Duration,
    answered: usize,
    /// How often all its requests were withdrawn since it last answered one.
    withdrawn: i32,
    /// Seconds between two blocks while the peer has requests to answer: mean and mean deviation (Jacobson).
    gap_s: f64,
    gap_deviation_s: f64,
    /// Seconds from the first request for a piece to its first block: mean.
    wait_s: Option<f64>,
    /// When a block last arrived or, after idleness, when the first was asked for.
    heard: Instant,
}

impl Remote {
    pub(super) fn new(now: Instant, bitfield: Bitfield) -> Self {
        Self {
            bitfield,
            interested: None,
            snubbed: false,
            parole: false,
            exhausted_at: None,
            resting_until: None,
            meter: RateMeter::default(),
            turns: VecDeque::new(),
            outstanding: Vec::new(),
            cancelled: VecDeque::new(),
            last_piece: None,
            strikes: 0,
            rest: MIN_REST,
            answered: 0,
            withdrawn: 0,
            gap_s: 0.0,
            gap_deviation_s: 0.0,
            wait_s: None,
            heard: now,
        }
    }

    pub(super) fn outstanding(&self) -> &[Asked] {
        &self.outstanding
    }

    /// The piece asked for last: its other blocks had better come from the same peer.
    pub(super) fn last_piece(&self) -> Option<PieceIndex> {
        self.last_piece
    }

    /// Whether any request could go to this peer now.
    pub(super) fn is_usable(&self) -> bool {
        self.resting_until.is_none() && (!self.snubbed || self.outstanding.is_empty())
    }

    /// Whether a piece may be begun with this peer now.
    pub(super) fn may_begin(&self) -> bool {
        self.is_usable() && self.has_turn()
    }

    pub(super) fn has_turn(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The piece that goes best with the next turn, if the peer said so.
    pub(super) fn suggested(&self) -> Option<PieceIndex> {
        self.turns.front().copied().flatten()
    }

    /// The peer gives a turn; more of them than pieces fit into memory are of no use.
    pub(super) fn unchoke(&mut self, suggested: Option<PieceIndex>) {
        if self.turns.len() < TURN_LIMIT {
            self.turns.push_back(suggested);
        }
    }

    pub(super) fn drop_turns(&mut self) {
        self.turns.clear();
    }

    /// Whether it let requests be withdrawn again and again and answered none.
    pub(super) fn fails_to_answer(&self) -> bool {
        self.withdrawn >= 2
    }

    pub(super) fn ask(&mut self, now: Instant, block: Block) {
        if self.outstanding.is_empty() {
            self.heard = now;
        }
        let begins = self.last_piece != Some(block.piece);
        if begins {
            self.turns.pop_front();
        }
        self.outstanding.push(Asked { block, at: now, begins });
        self.cancelled.retain(|other| *other != block);
        self.last_piece = Some(block.piece);
    }

    /// Forgets a request that will not be answered; false when there is none.
    pub(super) fn forget(&mut self, block: Block) -> bool {
        let before = self.outstanding.len();
        self.outstanding.retain(|asked| asked.block != block);
        self.outstanding.len() < before
    }

    /// Forgets a request, whose answer may be on its way already.
    pub(super) fn cancel(&mut self, block: Block) -> bool {
        let cancelled = self.forget(block);
        if cancelled {
            self.withdrawn += i32::from(self.outstanding.is_empty());
            if self.cancelled.len() == CANCELLED_LIMIT {
                self.cancelled.pop_front();
            }
            self.cancelled.push_back(block);
        }
        cancelled
    }

    /// Forgets all requests and returns them.
    pub(super) fn forget_all(&mut self) -> Vec<Block> {
        self.outstanding.drain(..).map(|asked| asked.block).collect()
    }

    /// Whether this peer was asked for `block`, and be it in vain.
    pub(super) fn was_asked(&self, block: Block) -> bool {
        self.outstanding.iter().any(|asked| asked.block == block) || self.cancelled.contains(&block)
    }

    /// A block that was asked for arrived: measures the peer by it.
    pub(super) fn receive(&mut self, now: Instant, block: Block) {
        self.meter.add(now, u64::from(block.length));
        self.rest = MIN_REST;
        self.snubbed = false;
        self.withdrawn = 0;
        self.cancelled.retain(|other| *other != block);
        if let Some(index) = self.outstanding.iter().position(|asked| asked.block == block) {
            let asked = self.outstanding.remove(index);
            self.measure_gap(now.saturating_duration_since(self.heard.max(asked.at)).as_secs_f64());
            if asked.begins {
                let wait_s = now.saturating_duration_since(asked.at).as_secs_f64();
                self.wait_s = Some(self.wait_s.map_or(wait_s, |mean| mean + (wait_s - mean) / 4.0));
            }
        }
        self.heard = now;
    }

    fn measure_gap(&mut self, gap_s: f64) {
        if self.answered == 0 {
            (self.gap_s, self.gap_deviation_s) = (gap_s, gap_s / 2.0);
        } else {
            self.gap_deviation_s += ((gap_s - self.gap_s).abs() - self.gap_deviation_s) / 4.0;
            self.gap_s += (gap_s - self.gap_s) / 8.0;
        }
        self.answered += 1;
    }

    /// Time from one block to the next, once some were measured.
    pub(super) fn gap_s(&self) -> Option<f64> {
        (self.answered > 0).then_some(self.gap_s)
    }

    /// Seconds until a request in position `index` is probably answered, with `default_gap_s` for a peer never measured: what the
    /// peer's rate says, and at least as long again as it has been silent. The first block of a piece waits until the peer comes to it.
    /// Doubt doubles each time that all requests had to be taken from the peer, so that blocks do not move back and forth
    /// between two peers that never answer.
    pub(super) fn eta_s(&self, now: Instant, index: usize, default_gap_s: f64) -> f64 {
        let before = f64::from(u32::try_from(index).unwrap_or(u32::MAX));
        let gap_s = self.gap_s().unwrap_or(default_gap_s);
        let wait_s = self.wait_s.unwrap_or(PIECE_GAPS * default_gap_s);
        let first_s = match self.outstanding.first() {
            Some(asked) if asked.begins => (wait_s - self.silent_s(now)).max(gap_s),
            Some(_) => gap_s,
            None => wait_s,
        };
        let doubt_s = if self.withdrawn == 0 { 0.0 } else { DOUBT_S * 2f64.powi(self.withdrawn.min(12)) };
        (first_s + before * gap_s + doubt_s).max(self.silent_s(now))
    }

    /// Seconds for which the peer has owed an answer and sent nothing.
    pub(super) fn silent_s(&self, now: Instant) -> f64 {
        if self.outstanding.is_empty() { 0.0 } else { now.saturating_duration_since(self.heard).as_secs_f64() }
    }

    /// When this peer, if it stays silent, has been so for longer than its own rate explains.
    pub(super) fn snub_at(&self) -> Option<Instant> {
        if self.snubbed || self.outstanding.is_empty() {
            return None;
        }
        let patience = if self.answered == 0 {
            FIRST_PATIENCE
        } else {
            let usual_s = 1.5 * (self.gap_s + 4.0 * self.gap_deviation_s);
            Duration::from_secs_f64(usual_s.min(MAX_PATIENCE.as_secs_f64())).max(MIN_PATIENCE)
        };
        Some(self.heard + patience)
    }

    /// The peer rejected a request, or let a piece wait that it alone was to send: it gets a pause, longer each time in a row;
    /// requests rejected together count once.
    pub(super) fn rest(&mut self, now: Instant) {
        if self.resting_until.is_some_and(|until| until > now) {
            return;
        }
        self.resting_until = Some(now + self.rest);
        self.rest = (self.rest * 2).min(MAX_REST);
    }

    /// The peer had a part in a bad piece.
    pub(super) fn suspect(&mut self) {
        self.parole = true;
        self.strikes += 1;
    }

    /// A piece that this peer sent alone is good.
    pub(super) fn acquit(&mut self) {
        self.parole = self.strikes >= MAX_STRIKES;
    }
}
