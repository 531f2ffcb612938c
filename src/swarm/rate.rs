//! Limits and measures of rates, in bytes a second.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A limit of so many bytes a second; 0 is none.
///
/// Any second sees at most 5 % more than the limit as long as nobody takes more than [`TokenBucket::quantum`] at once: a
/// fortieth of a second's bytes may have been saved up, and a fortieth is the largest bite. More than that may be taken and is
/// paid for in full, but comes in one lump.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    bytes_per_s: u64,
    /// When all that was taken so far is paid for.
    paid_at: Option<Instant>,
}

/// Time's worth of tokens that may be saved up, and that one bite may hold.
const BURST: Duration = Duration::from_millis(25);

impl TokenBucket {
    /// A bucket that lets `bytes_per_s` through; 0 lets everything through.
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, paid_at: None }
    }

    /// The limit in bytes a second; 0 is none.
    pub fn limit(&self) -> u64 {
        self.bytes_per_s
    }

    /// Changes the limit from `now` on; what was taken and not paid for yet is paid at the new rate.
    pub fn set_limit(&mut self, now: Instant, bytes_per_s: u64) {
        let debt = self.paid_at.map_or(Duration::ZERO, |paid_at| paid_at.saturating_duration_since(now));
        let owed = u128::from(self.bytes_per_s) * debt.as_nanos() / 1_000_000_000;
        self.bytes_per_s = bytes_per_s;
        self.paid_at = (!debt.is_zero()).then(|| now + self.price(u64::try_from(owed).unwrap_or(u64::MAX)));
    }

    /// The most bytes to take at once for the limit to hold over every second within 5 %.
    pub fn quantum(&self) -> u64 {
        if self.bytes_per_s == 0 { u64::MAX } else { (self.bytes_per_s / 40).max(1) }
    }

    /// How long until [`TokenBucket::take`] lets something through at once.
    pub fn wait(&self, now: Instant) -> Duration {
        if self.bytes_per_s == 0 {
            return Duration::ZERO;
        }
        self.paid_at.map_or(Duration::ZERO, |paid_at| paid_at.saturating_duration_since(now))
    }

    /// Takes `bytes` and says how long to wait before they may be sent.
    pub fn take(&mut self, now: Instant, bytes: u64) -> Duration {
        if self.bytes_per_s == 0 {
            return Duration::ZERO;
        }
        let saved_from = now.checked_sub(BURST).unwrap_or(now);
        let start = self.paid_at.unwrap_or(now).max(saved_from);
        self.paid_at = Some((start + self.price(bytes)).min(now + LONGEST_DEBT));
        start.saturating_duration_since(now)
    }

    /// Time that `bytes` cost.
    fn price(&self, bytes: u64) -> Duration {
        if self.bytes_per_s == 0 {
            return Duration::ZERO;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(LONGEST_DEBT)
    }
}

/// No debt lasts longer, so that no sum overflows an instant.
const LONGEST_DEBT: Duration = Duration::from_hours(24);

/// A rate measured over the last five seconds.
#[derive(Clone, Debug, Default)]
pub struct RateMeter {
    /// Bytes by slot, oldest first; each slot is named by its begin.
    slots: VecDeque<(Instant, u64)>,
    total: u64,
}

const SLOT: Duration = Duration::from_millis(250);
const WINDOW: Duration = Duration::from_secs(5);

impl RateMeter {
    /// Counts `bytes` that moved at `now`. Instants must not go back.
    pub fn add(&mut self, now: Instant, bytes: u64) {
        self.total = self.total.saturating_add(bytes);
        while self.slots.front().is_some_and(|(begin, _)| now.saturating_duration_since(*begin) >= WINDOW + SLOT) {
            self.slots.pop_front();
        }
        match self.slots.back_mut() {
            Some((begin, sum)) if now.saturating_duration_since(*begin) < SLOT => *sum += bytes,
            _ => self.slots.push_back((now, bytes)),
        }
    }

    /// Bytes a second over the last five seconds, or since the first byte when that is less.
    pub fn bytes_per_s(&self, now: Instant) -> u64 {
        let recent = || self.slots.iter().filter(|(begin, _)| now.saturating_duration_since(*begin) < WINDOW);
        let Some((begin, _)) = recent().next() else { return 0 };
        let span = now.saturating_duration_since(*begin).max(SLOT);
        let sum: u64 = recent().map(|(_, sum)| sum).sum();
        u64::try_from(u128::from(sum) * 1_000_000_000 / span.as_nanos()).unwrap_or(u64::MAX)
    }

    /// All bytes counted so far.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Times and sizes at which a caller that always has more to send gets to send, over `span`.
    fn sends(bucket: &mut TokenBucket, begin: Instant, span: Duration, bite: u64) -> Vec<(Duration, u64)> {
        let mut now = begin;
        let mut sent = Vec::new();
        while now < begin + span {
            now += bucket.take(now, bite);
            sent.push((now - begin, bite));
        }
        sent
    }

    proptest! {
        #[test]
        fn every_second_carries_the_limit_within_five_percent(
            limit in 10_000u64..5_000_000_000, part in 1u64..=8, idle_ms in 0u64..5_000, from_ms in 0u64..2_000,
        ) {
            let mut bucket = TokenBucket::new(limit);
            let begin = Instant::now();
            bucket.take(begin, 1);
            let bite = bucket.quantum() / part;
            let sent = sends(&mut bucket, begin + Duration::from_millis(idle_ms), Duration::from_secs(4), bite);
            let from = Duration::from_millis(from_ms);
            let sum: u64 = sent
                .iter()
                .filter(|(at, _)| *at >= from && *at < from + Duration::from_secs(1))
                .map(|(_, bytes)| bytes)
                .sum();
            prop_assert!(sum as f64 <= limit as f64 * 1.05 + 2.0, "{sum} of {limit}");
            prop_assert!(sum as f64 >= limit as f64 * 0.95 - 2.0, "{sum} of {limit}");
        }
    }

    #[test]
    fn no_limit_never_waits_and_a_change_holds_at_once() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(0);
        assert_eq!(bucket.take(now, u64::MAX), Duration::ZERO);
        bucket.set_limit(now, 1000);
        bucket.take(now, 1000);
        assert_eq!(bucket.take(now, 1000), Duration::from_secs(1));
        bucket.set_limit(now, 4000);
        assert_eq!(bucket.take(now, 1), Duration::from_millis(500));
        bucket.set_limit(now, 0);
        assert_eq!(bucket.take(now, 1 << 40), Duration::ZERO);
    }

    #[test]
    fn the_meter_follows_the_rate_and_forgets() {
        let begin = Instant::now();
        let mut meter = RateMeter::default();
        for step in 0..100 {
            meter.add(begin + Duration::from_millis(100 * step), 10_000);
        }
        let now = begin + Duration::from_secs(10);
        let rate = meter.bytes_per_s(now);
        assert!((90_000..=110_000).contains(&rate), "{rate}");
        assert_eq!(meter.bytes_per_s(now + Duration::from_secs(6)), 0);
        assert_eq!(meter.total(), 1_000_000);
    }
}
