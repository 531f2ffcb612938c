//! Trackers in one process, on a network in memory, spoken to as clients speak to them.

mod account;
mod client;
mod cluster;
mod doors;
mod flood;
mod forgetting;
mod group;
mod hostile;
mod metrics;
mod network;
mod partition;
mod presence;
mod swarm;

use std::sync::Arc;

use network::{Network, OffClock};
use tokio::time::Instant;

use crate::{
    roles::environment::{Environment, Offload},
    store::disk::SystemDisk,
};

/// An environment of its own, for parts that need no network.
pub(super) fn environment(seed: u8) -> Environment {
    let clock = OffClock { start: Instant::now(), at_start_ms: 1_000_000_000_000 };
    let network = Arc::new(Network::default());
    Environment::new(network.host(0), Arc::new(SystemDisk), Arc::new(clock), Offload::Inline, [seed; 32])
}
