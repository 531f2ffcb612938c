//! How many blocks to have on their way to sockets at once, found by trial.
//!
//! An uplink that is the bottleneck gains nothing from a second piece in service and loses the first one's early arrival; one that
//! is not (loopback, or slow peers) needs several. Nobody knows which it is, so the budget is changed by half and kept where the rate
//! followed: more must bring at least a tenth more bytes, less may cost no more than a thirtieth.

use std::time::Duration;

use tokio::time::Instant;

/// Fewest blocks on their way: one is written while the next is read.
const MIN_BUDGET: usize = 2;
/// Most blocks on their way (32 MiB), so that memory stays bounded.
const MAX_BUDGET: usize = 256;
/// A piece: enough to begin with.
const START_BUDGET: usize = 4;
/// A trial lasts until this many bytes are sent (but at least `MIN_TRIAL`), or for `MAX_TRIAL`.
const TRIAL_BYTES: u64 = 2 * 1024 * 1024;
const MIN_TRIAL: Duration = Duration::from_millis(20);
const MAX_TRIAL: Duration = Duration::from_secs(2);
/// Trials left out at first: a slow uplink is mostly full, and a trial costs the first pieces, which matter most, time.
const FIRST_REST: u32 = 4;
/// Trials left out after a failed one, doubled each time in a row up to this many.
const MAX_PATIENCE: u32 = 32;

/// The budget, and the trial under way.
pub(super) struct Uplink {
    budget: usize,
    begun: Option<Instant>,
    sent: u64,
    /// Somebody had to wait for the budget during this trial.
    short: bool,
    /// The budget and rate before the change on trial.
    before: Option<(usize, f64)>,
    upward: bool,
    rest: u32,
    patience: u32,
}

impl Uplink {
    pub(super) fn new() -> Self {
        Self {
            budget: START_BUDGET,
            begun: None,
            sent: 0,
            short: false,
            before: None,
            upward: true,
            rest: FIRST_REST,
            patience: 1,
        }
    }

    /// Blocks that may be on their way at once.
    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// The budget kept somebody waiting.
    pub(super) fn short(&mut self, now: Instant) {
        self.short = true;
        self.begun.get_or_insert(now);
    }

    /// Nobody waits: what is sent from here on says nothing about the uplink.
    pub(super) fn idle(&mut self) {
        self.begun = None;
        self.sent = 0;
        self.short = false;
    }

    /// A socket took `bytes`.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        let Some(begun) = self.begun else { return };
        self.sent += bytes;
        let lasted = now.saturating_duration_since(begun);
        if self.short && (lasted >= MAX_TRIAL || (lasted >= MIN_TRIAL && self.sent >= TRIAL_BYTES)) {
            let sent = f64::from(u32::try_from(self.sent).unwrap_or(u32::MAX));
            self.conclude(sent / lasted.as_secs_f64().max(1e-3));
            (self.begun, self.sent, self.short) = (Some(now), 0, false);
        }
    }

    fn conclude(&mut self, rate: f64) {
        match self.before.take() {
            Some((budget, before)) => self.judge(rate, budget, before),
            None if self.rest > 0 => self.rest -= 1,
            None => self.begin_trial(rate),
        }
    }

    fn begin_trial(&mut self, rate: f64) {
        self.before = Some((self.budget, rate));
        let changed = if self.upward { self.budget + self.budget.div_ceil(2) } else { self.budget - self.budget / 3 };
        self.budget = changed.clamp(MIN_BUDGET, MAX_BUDGET);
    }

    fn judge(&mut self, rate: f64, budget: usize, before: f64) {
        let worth_it = if self.upward { rate >= before * 1.1 } else { rate >= before * 0.97 };
        if worth_it && self.budget != budget {
            self.patience = 1;
        } else {
            self.budget = budget;
            self.upward = !self.upward;
            self.rest = self.patience;
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends for 60 s where `budget` blocks on their way give `rate(budget)` bytes a second.
    fn settle(uplink: &mut Uplink, rate: impl Fn(usize) -> f64) {
        let begin = Instant::now();
        let mut at_s = 0.0;
        while at_s < 60.0 {
            let now = begin + Duration::from_secs_f64(at_s);
            uplink.short(now);
            uplink.sent(now, 131_072);
            at_s += 131_072.0 / rate(uplink.budget());
        }
    }

    #[test]
    fn a_full_uplink_serves_few_and_an_empty_one_many() {
        let mut full = Uplink::new();
        settle(&mut full, |_| 10e6);
        assert!(full.budget() <= 4, "{}", full.budget());
        let mut slow_peers = Uplink::new();
        settle(&mut slow_peers, |budget| 1e6 * budget.min(40) as f64);
        assert!(slow_peers.budget() >= 24, "{}", slow_peers.budget());
    }
}
