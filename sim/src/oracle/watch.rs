//! Every host of a run as the oracles see it: its disk, and the tracker that runs on it, while one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use p2p::{protocol::ids::DeviceKey, roles::tracker::Tracker, store::disk::Disk as _};

use crate::{disk::SimDisk, role::DATA_DIR};

/// All hosts; a handle that is cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    hosts: Arc<Mutex<BTreeMap<&'static str, Watched>>>,
}

struct Watched {
    disk: SimDisk,
    /// Where a tracker runs, or does not just now.
    tracker: Option<Weak<Tracker>>,
    /// Keys of the trackers that ever ran there.
    keys: BTreeSet<DeviceKey>,
}

/// A tracker's host.
pub(crate) struct Seat {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its disk.
    pub(crate) disk: SimDisk,
    /// The tracker, unless it is down.
    pub(crate) running: Option<Arc<Tracker>>,
    /// The keys it ever had: another one after the loss of its disk.
    pub(crate) keys: BTreeSet<DeviceKey>,
}

impl Watch {
    /// A machine was plugged in.
    pub(crate) fn plugged(&self, name: &'static str, disk: SimDisk) {
        self.hosts().insert(name, Watched { disk, tracker: None, keys: BTreeSet::new() });
    }

    /// A machine is meant for a tracker.
    pub(crate) fn is_for_tracker(&self, name: &'static str) {
        if let Some(host) = self.hosts().get_mut(name) {
            host.tracker = Some(Weak::new());
        }
    }

    /// A tracker runs on a host, until it is dropped.
    pub(crate) fn runs(&self, name: &'static str, tracker: &Arc<Tracker>) {
        if let Some(host) = self.hosts().get_mut(name) {
            host.tracker = Some(Arc::downgrade(tracker));
            host.keys.insert(tracker.key());
        }
    }

    /// All hosts of trackers, by name.
    pub(crate) fn trackers(&self) -> Vec<Seat> {
        let hosts = self.hosts();
        let seat = |(name, host): (&&'static str, &Watched)| {
            let (disk, keys) = (host.disk.clone(), host.keys.clone());
            Some(Seat { name, disk, running: host.tracker.as_ref()?.upgrade(), keys })
        };
        hosts.iter().filter_map(seat).collect()
    }

    /// The disks of all other hosts, by name.
    pub(crate) fn clients(&self) -> Vec<(&'static str, SimDisk)> {
        let hosts = self.hosts();
        let clients = hosts.iter().filter(|(_, host)| host.tracker.is_none());
        clients.map(|(name, host)| (*name, host.disk.clone())).collect()
    }

    /// Every file that a role keeps for itself, on every disk, with its bytes.
    pub(crate) fn files(&self) -> Vec<(&'static str, PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        for (name, host) in self.hosts().iter() {
            let mut paths = vec![PathBuf::from(DATA_DIR)];
            while let Some(path) = paths.pop() {
                match host.disk.list(&path) {
                    Ok(inside) => paths.extend(inside.into_iter().map(|entry| path.join(entry))),
                    Err(_) => files.extend(host.disk.contents(&path).map(|bytes| (*name, path, bytes))),
                }
            }
        }
        files
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<&'static str, Watched>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
