//! Two trackers, synchronized, with a town of accounts on them: what is loaded in the scenarios about trackers.

pub(super) mod census;
pub(super) mod cluster;
pub(super) mod crowd;
pub(super) mod idle;
pub(super) mod line;
pub(super) mod lookups;
pub(super) mod meter;
pub(super) mod presence;
pub(super) mod writes;

use std::time::Duration;

/// How much is loaded, and for how long.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Load {
    /// Seconds for each of the loads
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Encrypted connections that carry the load
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=256))]
    pub links: u32,
    /// Writes under way at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=2048))]
    pub writers: u32,
}

impl Load {
    /// How long each load lasts.
    pub(super) fn time(self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}
