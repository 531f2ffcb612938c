//! What a load took: how many, how fast, and whose processor time.

use serde::Serialize;
use tokio::time::{Duration, Instant};

use super::{super::process::Usage, super::report::round, cluster::Cluster};

/// Operations of one kind, all of them answered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Operations in a second.
    pub per_s: f64,
    /// Milliseconds from question to answer, of the median.
    pub p50_ms: f64,
    /// Milliseconds within which 99 of 100 were answered.
    pub p99_ms: f64,
    /// Microseconds of the trackers' processor time for each, both trackers together.
    pub trackers_us: f64,
    /// Microseconds of the load generator's processor time for each.
    pub load_us: f64,
}

impl Rate {
    /// For people.
    pub(in super::super) fn told(&self, what: &str) -> String {
        format!(
            "{:.0} {what} a second; p50 {:.2} ms, p99 {:.2} ms; processor {:.1} µs each, the load's {:.1} µs",
            self.per_s, self.p50_ms, self.p99_ms, self.trackers_us, self.load_us
        )
    }
}

/// What one part of a load has done.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Tally {
    /// Operations beside those that were timed.
    pub(in super::super) untimed: u64,
    /// Microseconds that each took.
    pub(in super::super) times_us: Vec<u32>,
    /// Answers that were not what they should be.
    pub(in super::super) wrong: u64,
}

impl Tally {
    /// Counts an operation that was begun at `since`.
    pub(in super::super) fn count(&mut self, since: Instant, is_right: bool) {
        self.times_us.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
        self.wrong += u64::from(!is_right);
    }

    pub(in super::super) fn add(&mut self, other: Self) {
        self.untimed += other.untimed;
        self.times_us.extend(other.times_us);
        self.wrong += other.wrong;
    }

    fn percentile_ms(&self, percent: usize) -> f64 {
        let last = self.times_us.len().saturating_sub(1);
        self.times_us.get(last * percent / 100).map_or(0.0, |us| round(f64::from(*us) / 1000.0))
    }
}

/// Runs from the beginning of a load to its end.
pub(in super::super) struct Meter {
    begun: Instant,
    trackers_s: f64,
    load_s: f64,
}

impl Meter {
    pub(in super::super) fn start(cluster: &Cluster) -> Self {
        Self { trackers_s: cluster.cpu_s(), load_s: own_cpu_s(), begun: Instant::now() }
    }

    pub(in super::super) fn stop(self, cluster: &Cluster, tally: &mut Tally) -> Rate {
        let wall = self.begun.elapsed();
        let (trackers_s, load_s) = (cluster.cpu_s() - self.trackers_s, own_cpu_s() - self.load_s);
        rate(wall, trackers_s, load_s, tally)
    }
}

fn own_cpu_s() -> f64 {
    Usage::of(std::process::id()).unwrap_or_default().cpu_s
}

fn rate(wall: Duration, trackers_s: f64, load_s: f64, tally: &mut Tally) -> Rate {
    tally.times_us.sort_unstable();
    let count = u32::try_from(tally.untimed + tally.times_us.len() as u64).unwrap_or(u32::MAX);
    let count = f64::from(count.max(1));
    Rate {
        per_s: round(count / wall.as_secs_f64().max(1e-9)),
        p50_ms: tally.percentile_ms(50),
        p99_ms: tally.percentile_ms(99),
        trackers_us: round(trackers_s / count * 1e6),
        load_us: round(load_s / count * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_made_of_all_and_its_times_of_those_timed() {
        let mut tally = Tally { untimed: 100, times_us: (1..=100).rev().map(|n| n * 1000).collect(), wrong: 0 };
        let rate = rate(Duration::from_secs(2), 0.002, 0.001, &mut tally);
        let expected = Rate { per_s: 100.0, p50_ms: 50.0, p99_ms: 99.0, trackers_us: 10.0, load_us: 5.0 };
        assert_eq!(rate, expected);
    }

    #[test]
    fn nothing_done_is_no_division_by_nothing() {
        let rate = rate(Duration::from_secs(1), 0.0, 0.0, &mut Tally::default());
        assert_eq!((rate.p50_ms, rate.p99_ms), (0.0, 0.0));
    }
}
