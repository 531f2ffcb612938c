//! The tracker file: which trackers make up the cluster.

use super::ids::{DeviceKey, TrackerNo};

/// One line of the tracker file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerAddress {
    /// Its number: the place in the file, from 1.
    pub no: TrackerNo,
    /// `host:port` to dial, IPv6 in brackets.
    pub address: String,
    /// Its key, where the file pins one.
    pub key: Option<DeviceKey>,
}

/// All trackers of the file, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerInfo {
    /// A line each; never empty.
    pub trackers: Vec<TrackerAddress>,
}
