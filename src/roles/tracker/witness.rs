//! What a tracker can be seen to know: the state behind its answers and its metrics, for whoever watches over a cluster.

use tokio::time::Instant;

use super::{Tracker, node::Node};
use crate::{
    protocol::{
        client::TrackerStatus,
        hash::Blake3Hash,
        ids::{DeviceKey, TrackerNo, UserId},
        record::Kept,
        version::VersionVector,
    },
    store::tracker::{Past, StoreError},
};

/// A tracker's state at one moment.
#[derive(Clone, Debug)]
pub struct Witness {
    /// Its public key: the origin of its changes.
    pub key: DeviceKey,
    /// All changes that its catalog rests on. May run ahead of `durable`; nothing of that is told to anybody.
    pub known: VersionVector,
    /// Digest of that catalog.
    pub digest: Blake3Hash,
    /// All changes that its log holds.
    pub durable: VersionVector,
    /// Every listed tracker as `trackers` shows it, this one included.
    pub trackers: Vec<TrackerStatus>,
    /// The other trackers that writes here wait for.
    pub in_touch: Vec<TrackerNo>,
    /// Devices that it believes to be online anywhere, each with its user.
    pub online: Vec<(DeviceKey, UserId)>,
}

impl Tracker {
    /// What this tracker knows now.
    pub fn witness(&self) -> Witness {
        let node: &Node = &self.node;
        let durable = node.durable().borrow().clone();
        let state = node.state();
        Witness {
            key: node.key(),
            known: state.catalog.vector().clone(),
            digest: state.catalog.digest(),
            trackers: state.trackers.status(&durable, Instant::now()),
            in_touch: state.trackers.in_touch().collect(),
            online: state.presence.online().collect(),
            durable,
        }
    }

    /// Whether another tracker's snapshot is on its way here, or being taken in.
    pub fn is_fetching_snapshot(&self) -> bool {
        self.node.state().forgetting.fetching.is_some()
    }

    /// Whether the past of its log is being rewritten: something is being forgotten, or a snapshot taken in.
    pub fn is_rewriting_log(&self) -> bool {
        self.node.rewriting.try_lock().is_err()
    }

    /// Every change in this tracker's log, those of one origin in order, and up to where others are forgotten.
    pub fn log(&self) -> Result<(Past, Vec<Kept>), StoreError> {
        let mut log = Vec::new();
        self.node.store.read(|kept| log.push(kept))?;
        Ok((self.node.store.past()?.0, log))
    }
}
