//! The tracker role: keeps a replica of the catalog, answers clients, and synchronizes with the other trackers.
//!
//! ```text
//! client ── connection ── request ─┐ decide                          ┌─► notices to clients
//!                         login    ├──────► Node ── log writer ──────┤
//! tracker ── sync ─────────────────┘ apply        (one fsync a batch)└─► durable vector ─► answers, sync links
//! ```

mod accept;
mod clients;
mod connection;
mod forgetting;
mod hash_queue;
mod held;
mod limits;
mod log_writer;
mod login;
mod metrics;
mod node;
mod notice;
mod opening;
mod pace;
mod password;
mod presence;
mod pulse;
mod question;
mod request;
mod snapshot;
mod sync;
mod sync_link;
mod throttle;
mod trackers;
mod unshared;
mod witness;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

pub use limits::Limits;
use node::Node;
pub use password::PasswordCost;
use tracing::Instrument as _;
pub use witness::Witness;

use crate::{
    protocol::{
        error::{ErrorCode, Failure},
        ids::{DeviceKey, TrackerNo},
        readmission::Readmission,
        tracker_info::TrackerInfo,
    },
    roles::environment::Environment,
};

/// What a tracker is started with.
#[derive(Clone, Debug)]
pub struct TrackerConfig {
    /// All trackers of the cluster.
    pub info: TrackerInfo,
    /// Which of them this one is.
    pub no: TrackerNo,
    /// Its folder.
    pub data_dir: PathBuf,
    /// Where to listen, when it differs from the listed address.
    pub bind: Option<String>,
    /// Where Prometheus reads, if it should.
    pub metrics: Option<String>,
    /// Listed trackers whose keys are to be known anew.
    pub readmit: Vec<Readmission>,
    /// What each password that is set from now on costs to hash.
    pub password_cost: PasswordCost,
    /// What clients may take.
    pub limits: Limits,
}

/// The public key of the tracker whose folder this is, without running it. Its first run makes the key.
pub async fn public_key(env: &Environment, config: &TrackerConfig) -> Result<DeviceKey, Failure> {
    config.info.tracker(config.no).ok_or_else(|| no_such_tracker(config))?;
    opening::public_key(env, config).await
}

/// A running tracker.
pub struct Tracker {
    node: Arc<Node>,
    address: SocketAddr,
}

impl Tracker {
    /// Opens the folder, replays the log, listens, and dials the other trackers.
    pub async fn start(env: Environment, config: TrackerConfig) -> Result<Self, Failure> {
        let listed = config.info.tracker(config.no).ok_or_else(|| no_such_tracker(&config))?;
        let bind = config.bind.clone().unwrap_or_else(|| listed.address.clone());
        let (node, appends) = Node::open(env.clone(), &config).await?;
        let listener = env.transport.listen(&bind).await.map_err(|error| cannot_listen(&bind, &error))?;
        let address = listener.local_address().map_err(|error| cannot_listen(&bind, &error))?;
        if let Some(metrics) = &config.metrics {
            if metrics.parse().is_ok_and(|address: SocketAddr| !address.ip().is_loopback()) {
                tracing::warn!(%metrics, "whoever reaches this address reads the figures: they bear no names, and ask for no password");
            }
            let page = env.transport.listen(metrics).await.map_err(|error| cannot_listen(metrics, &error))?;
            env.spawn(metrics::run(Arc::clone(&node), page));
        }
        env.spawn(log_writer::run(Arc::clone(&node), appends));
        env.spawn(pulse::run(Arc::clone(&node)));
        env.spawn(forgetting::run(Arc::clone(&node)));
        for tracker in config.info.trackers.iter().filter(|tracker| tracker.no != config.no) {
            let span = tracing::info_span!("dialled", tracker = %tracker.no);
            env.spawn(sync::keep_linked(Arc::clone(&node), tracker.clone()).instrument(span));
        }
        env.spawn(accept::run(Arc::clone(&node), listener));
        Ok(Self { node, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its public key.
    pub fn key(&self) -> DeviceKey {
        self.node.key()
    }

    /// Waits until it has been asked to stop, or must; then why.
    pub async fn ended(&self) -> Result<(), Failure> {
        self.node.env.shutdown.cancelled().await;
        self.node.failure()
    }

    /// Stops: says farewell to every link, finishes what is being written, closes the folder.
    pub async fn stop(self) {
        self.node.env.stop().await;
    }
}

fn no_such_tracker(config: &TrackerConfig) -> Failure {
    let count = config.info.trackers.len();
    let message = format!(
        "There is no tracker {}: the tracker file lists {count}, numbered from 1. Choose a number from 1 to {count}.",
        config.no
    );
    Failure::new(ErrorCode::Usage, message)
}

fn cannot_listen(address: &str, error: &std::io::Error) -> Failure {
    let message = match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "The address {address} is in use. Stop the process that listens there, or list another port for this tracker."
        ),
        std::io::ErrorKind::AddrNotAvailable => {
            format!("The address {address} is not this machine's. Give the one to listen at with --bind IP:PORT.")
        }
        _ => format!("Cannot listen at {address}: {error}. Check the address, or give another with --bind IP:PORT."),
    };
    Failure::new(ErrorCode::Io, message)
}
