//! The simulated wall clock: a fixed day, the time simulated so far, and how far this host's clock is off.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use p2p::roles::environment::WallClock;

/// When every simulation begins: 1 January 2026, in milliseconds since the Unix epoch.
pub(crate) const BEGIN_MS: u64 = 1_767_225_600_000;

/// The clock of one host.
pub(crate) struct SimClock {
    /// It may jump.
    skew_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock that is `skew_ms` ahead.
    pub(crate) fn new(skew_ms: Arc<AtomicI64>) -> Self {
        Self { skew_ms }
    }
}

impl WallClock for SimClock {
    fn now_ms(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default().as_millis();
        let elapsed = u64::try_from(elapsed).expect("a simulation takes no aeons");
        BEGIN_MS.saturating_add_signed(self.skew_ms.load(Ordering::Relaxed)) + elapsed
    }
}
