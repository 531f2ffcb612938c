//! Trackers that are started, killed and cut off.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{
    client::TestClient,
    network::{Network, OffClock},
};
use crate::{
    protocol::{ids::TrackerNo, readmission::Readmission, tracker_info::TrackerInfo, version::VersionVector},
    roles::{
        environment::{Environment, Offload},
        tracker::{Limits, PasswordCost, Tracker, TrackerConfig},
    },
    store::disk::SystemDisk,
};

/// Milliseconds since the Unix epoch when a test begins, by a clock that is right.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// Some trackers: number n is host n.
pub(super) struct Cluster {
    pub(super) network: Arc<Network>,
    pub(super) info: TrackerInfo,
    folders: Vec<TempDir>,
    running: Vec<Option<Tracker>>,
    start: Instant,
    ahead_ms: Vec<u64>,
    starts: u8,
    readmitted: Option<u16>,
}

impl Cluster {
    /// `count` trackers, started and in touch.
    pub(super) async fn new(count: u8) -> Self {
        Self::with_clocks(&vec![0; usize::from(count)]).await
    }

    /// As many trackers as there are clocks, each ahead by so many milliseconds.
    pub(super) async fn with_clocks(ahead_ms: &[u64]) -> Self {
        let lines: Vec<_> = (1..=ahead_ms.len()).map(|no| format!("10.0.0.{no}:5000")).collect();
        let mut cluster = Self {
            network: Arc::default(),
            info: TrackerInfo::parse(lines.join("\n").as_bytes()).unwrap(),
            folders: ahead_ms.iter().map(|_| tempfile::tempdir().unwrap()).collect(),
            running: ahead_ms.iter().map(|_| None).collect(),
            start: Instant::now(),
            ahead_ms: ahead_ms.to_vec(),
            starts: 0,
            readmitted: None,
        };
        for no in 1..=ahead_ms.len() {
            cluster.start(no).await;
        }
        cluster.settle().await;
        cluster
    }

    pub(super) async fn start(&mut self, no: usize) {
        self.running[no - 1] = Some(self.try_start(no).await.unwrap());
    }

    pub(super) async fn try_start(&mut self, no: usize) -> Result<Tracker, crate::protocol::error::Failure> {
        self.starts += 1;
        let clock = OffClock { start: self.start, at_start_ms: EPOCH_MS + self.ahead_ms[no - 1] };
        let host = self.network.host(u8::try_from(no).unwrap());
        let env = Environment::new(host, Arc::new(SystemDisk), Arc::new(clock), Offload::Inline, [self.starts; 32]);
        let config = TrackerConfig {
            readmit: self.readmitted.filter(|other| usize::from(*other) != no).map(readmission).into_iter().collect(),
            info: self.info.clone(),
            no: TrackerNo(u16::try_from(no).unwrap()),
            data_dir: self.folders[no - 1].path().join("data"),
            bind: None,
            metrics: Some(format!("10.0.0.{no}:9000")),
            password_cost: PasswordCost::LEAST,
            limits: Limits::STANDARD,
        };
        Tracker::start(env, config).await
    }

    pub(super) async fn stop(&mut self, no: usize) {
        self.running[no - 1].take().unwrap().stop().await;
    }

    /// Devices that a tracker takes to be online.
    pub(super) fn online(&self, no: usize) -> usize {
        self.tracker(no).node.state().presence.len()
    }

    /// A copy of a stopped tracker's database.
    pub(super) fn back_up(&self, no: usize) -> Vec<u8> {
        std::fs::read(self.folders[no - 1].path().join("data/tracker.redb")).unwrap()
    }

    /// Puts a copy back.
    pub(super) fn restore(&self, no: usize, copy: Vec<u8>) {
        std::fs::write(self.folders[no - 1].path().join("data/tracker.redb"), copy).unwrap();
    }

    /// Lists one more tracker, which is new; the others hear of it when they start again.
    pub(super) fn list_one_more(&mut self) {
        let lines: Vec<_> = (1..=self.running.len() + 1).map(|no| format!("10.0.0.{no}:5000")).collect();
        self.info = TrackerInfo::parse(lines.join("\n").as_bytes()).unwrap();
        self.folders.push(tempfile::tempdir().unwrap());
        self.running.push(None);
        self.ahead_ms.push(0);
    }

    /// Changes of the log that a tracker keeps in memory, and requests that it remembers.
    pub(super) fn size(&self, no: usize) -> (usize, usize) {
        self.tracker(no).node.state().catalog.size()
    }

    /// The folder of a tracker that is stopped is gone.
    pub(super) fn lose_disk(&mut self, no: usize) {
        self.folders[no - 1] = tempfile::tempdir().unwrap();
    }

    /// The first of two trackers loses its key with its disk and is let in again with another.
    pub(super) async fn lose_key_of_first(&mut self) {
        self.stop(1).await;
        self.lose_disk(1);
        self.stop(2).await;
        self.readmitted = Some(1);
        self.start(1).await;
        self.start(2).await;
        self.settle().await;
    }

    /// From its next start on, a tracker's clock is that much ahead.
    pub(super) fn set_clock_ahead(&mut self, no: usize, by: Duration) {
        self.ahead_ms[no - 1] = u64::try_from(by.as_millis()).unwrap();
    }

    pub(super) fn tracker(&self, no: usize) -> &Tracker {
        self.running[no - 1].as_ref().unwrap()
    }

    /// Waits until all that run know the same.
    pub(super) async fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            sleep(Duration::from_millis(100)).await;
            let running: Vec<_> = self.running.iter().flatten().collect();
            let views: Vec<_> = running.iter().map(|tracker| view(tracker)).collect();
            let is_linked = running.iter().all(|tracker| {
                let durable = tracker.node.durable().borrow().clone();
                let status = tracker.node.state().trackers.status(&durable, Instant::now());
                status
                    .iter()
                    .filter(|other| self.running[usize::from(other.tracker.0) - 1].is_some())
                    .all(|other| other.lag == Some(0) && other.reachable)
            });
            if is_linked && views.windows(2).all(|pair| pair[0] == pair[1]) {
                return;
            }
            assert!(Instant::now() < deadline, "the trackers do not converge");
        }
    }

    /// A client on host `100 + device`, linked to tracker `no`.
    pub(super) async fn client(&self, device: u8, no: usize) -> TestClient {
        let mut client = TestClient::new(Arc::clone(&self.network), device);
        client.dial(&self.info, no).await;
        client
    }
}

fn readmission(no: u16) -> Readmission {
    Readmission { no: TrackerNo(no), key: None }
}

fn view(tracker: &Tracker) -> (VersionVector, crate::protocol::hash::Blake3Hash) {
    let state = tracker.node.state();
    (state.catalog.vector().clone(), state.catalog.digest())
}
