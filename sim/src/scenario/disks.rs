//! Disks that are full, fail and are slow under trackers and clients while groups are made, files shared and fetched. Nothing
//! that was acknowledged is lost; a download pauses and goes on; what is complete is right, and still is after a power failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::Path,
    time::Duration,
};

use p2p::{
    protocol::error::ErrorCode,
    roles::client::command::{DownloadState, Reply},
};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::sleep;

use super::{Script, below};
use crate::{
    cluster::{Cluster, Faults, Name, Outcome, peer_name, tracker_name},
    coverage,
    disk::{Crash, Operation, Trouble},
    oracle::Oracle,
    role::{Peer, groups, peer, trackers},
    steps::Steps,
};

/// Disks that fail, one after the other.
const ROUNDS: u32 = 8;
/// Bytes of a file at most: a few pieces.
const LARGEST: u64 = 1_500_000;
/// How often a download is resumed before it must be complete.
const RESUMES: u32 = 4;

struct Disks {
    faults: Faults,
    oracle: Oracle,
    steps: Steps,
    rng: ChaCha20Rng,
    trackers: Vec<Name>,
    peers: Vec<Peer>,
    /// All trouble is with fsyncs of downloads: what is then believed is lost much later, and rarely met by chance.
    is_about_fsync: bool,
    /// Groups whose creation was acknowledged.
    created: BTreeSet<String>,
    /// Files whose sharing was acknowledged, and who has them whole.
    shared: BTreeMap<String, Shared>,
    /// Downloads that are not complete yet: who, and what.
    open: BTreeSet<(usize, String)>,
    /// Downloads that were cancelled in this round, and said to be.
    cancelled: BTreeSet<(usize, String)>,
    /// Those whose database failed under a cancel: what was cancelled is gone for now and comes back.
    unsure: BTreeSet<usize>,
}

struct Shared {
    bytes: Vec<u8>,
    holders: BTreeSet<usize>,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let names = [tracker_name(0), tracker_name(1)];
    let info = trackers(cluster, &names.map(|name| (name, 0)));
    let peers = (0..3).map(|index| peer(cluster, peer_name(index), 0, &info)).collect();
    let mut rng = cluster.rng();
    let mut disks = Disks {
        faults: cluster.faults(),
        oracle: Oracle::new(cluster),
        steps: cluster.steps(),
        is_about_fsync: rng.next_u32().is_multiple_of(4),
        rng,
        trackers: names.to_vec(),
        peers,
        created: BTreeSet::new(),
        shared: BTreeMap::new(),
        open: BTreeSet::new(),
        cancelled: BTreeSet::new(),
        unsure: BTreeSet::new(),
    };
    Box::pin(async move {
        disks.a_group_forms().await?;
        for round in 0..ROUNDS {
            disks.round(round).await?;
        }
        disks.the_power_fails_everywhere().await?;
        disks.everything_is_there().await
    })
}

impl Disks {
    fn pick(&mut self, count: usize) -> usize {
        below(&mut self.rng, count)
    }

    async fn a_group_forms(&mut self) -> Outcome {
        // Slow enough that what is there so far is synced now and then.
        let limit = if self.is_about_fsync { "150KiB" } else { ["150KiB", "300KiB", "600KiB"][self.pick(3)] };
        for peer in &self.peers {
            peer.joins_the_users().await?;
            peer.does(&format!("set_limit down {limit}")).await?;
        }
        self.peers[0].sees_trackers_agree().await?;
        self.peers[0].does("create_group team").await?;
        self.created.insert("team".into());
        for peer in &self.peers[1..] {
            peer.joins(&self.peers[0], "team").await?;
        }
        Ok(())
    }

    /// One disk fails, work goes on, the disk is mended, and what was interrupted is taken up again.
    async fn round(&mut self, round: u32) -> Outcome {
        let (name, bytes) = (format!("f{round}"), self.file());
        let uploader = self.pick(self.peers.len());
        self.peers[uploader].disk().put(Path::new(&format!("/home/{name}")), &bytes)?;
        let mut victim = self.pick(self.trackers.len() + self.peers.len());
        if self.is_about_fsync && victim < self.trackers.len() {
            victim += self.trackers.len();
        }
        let (trouble, begins) = (self.trouble(), self.pick(4));
        for part in 0..4 {
            if part == 3 {
                sleep(Duration::from_millis(self.rng.next_u64() % 1000)).await;
            }
            if part == begins {
                self.faults.disk(self.host(victim), trouble).await;
            }
            match part {
                0 => self.make_group(round).await?,
                1 => self.share(uploader, &name, &bytes).await?,
                2 => self.fetch_something().await?,
                _ => sleep(Duration::from_millis(self.rng.next_u64() % 2500)).await,
            }
        }
        self.make_group(100 + round).await?;
        self.cancel_something().await?;
        self.recover(victim).await?;
        for who in std::mem::take(&mut self.unsure) {
            self.begin_anew(who).await?;
        }
        self.finish_downloads().await?;
        self.oracle.look()?;
        Ok(())
    }

    fn file(&mut self) -> Vec<u8> {
        let size = if self.pick(8) == 0 { 0 } else { self.rng.next_u64() % LARGEST };
        let mut bytes = vec![0; usize::try_from(size).expect("a small file")];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    fn host(&self, number: usize) -> Name {
        let peer = |number: usize| self.peers[number - self.trackers.len()].name();
        self.trackers.get(number).copied().unwrap_or_else(|| peer(number))
    }

    fn trouble(&mut self) -> Trouble {
        let one_in = [1, 2, 5, 30][self.pick(4)];
        if self.is_about_fsync {
            return Trouble::Errors { what: Operation::Sync, one_in: one_in.min(2), under: "/home" };
        }
        let under = ["/", "/home", "/data"][self.pick(3)];
        match self.pick(5) {
            0 => Trouble::Errors { what: Operation::Read, one_in, under },
            1 => Trouble::Errors { what: Operation::Write, one_in, under },
            2 => Trouble::Errors { what: Operation::Sync, one_in, under },
            3 => Trouble::Full { left: self.rng.next_u64() % [1, 20_000, LARGEST][self.pick(3)] },
            _ => Trouble::Slow { most: Duration::from_millis(1 + self.rng.next_u64() % 200) },
        }
    }

    async fn make_group(&mut self, number: u32) -> Outcome {
        let (who, name) = (self.pick(self.peers.len()), format!("g{number}"));
        if !self.steps.take(format_args!("{} makes {name}", self.peers[who].name())) {
            return Ok(());
        }
        match self.peers[who].tries(&format!("create_group {name}")).await? {
            Ok(_) => _ = self.created.insert(name),
            // Nobody else makes it: a repeated request was taken for another one.
            Err(failure) if failure.code == ErrorCode::GroupExists => {
                return Err(format!("{}: create_group {name}: {failure}", self.peers[who].name()).into());
            }
            Err(_) => {}
        }
        Ok(())
    }

    async fn share(&mut self, who: usize, name: &str, bytes: &[u8]) -> Outcome {
        let peer = &self.peers[who];
        if !self.steps.take(format_args!("{} shares {name}, {} bytes", peer.name(), bytes.len())) {
            return Ok(());
        }
        match peer.tries(&format!("upload_file /home/{name} team")).await? {
            Ok(_) => {
                self.shared.insert(name.into(), Shared { bytes: bytes.into(), holders: BTreeSet::from([who]) });
                Ok(())
            }
            Err(failure) => self.may_fail(who, failure.code),
        }
    }

    /// Somebody fetches a file that they do not have.
    async fn fetch_something(&mut self) -> Outcome {
        let mut lacking: Vec<(usize, String)> = Vec::new();
        for who in 0..self.peers.len() {
            let lacked = self.shared.iter().filter(|(_, shared)| !shared.holders.contains(&who)).map(|(name, _)| name);
            lacking.extend(lacked.filter(|name| !self.has(who, name)).map(|name| (who, name.clone())));
        }
        for _ in 0..lacking.len().min(2) {
            let (who, name) = lacking.swap_remove(self.pick(lacking.len()));
            if self.steps.take(format_args!("{} fetches {name}", self.peers[who].name())) {
                self.fetch(who, &name).await?;
                self.open.insert((who, name));
            }
        }
        Ok(())
    }

    /// Some change their mind.
    async fn cancel_something(&mut self) -> Outcome {
        for (who, name) in self.open.clone() {
            let peer = &self.peers[who];
            let draw = self.rng.next_u32();
            if !draw.is_multiple_of(4) || !self.steps.take(format_args!("{} cancels {name}", peer.name())) {
                continue;
            }
            if peer.tries(&format!("cancel_download team {name}")).await?.is_err() {
                self.unsure.insert(who);
            } else {
                self.open.remove(&(who, name.clone()));
                self.cancelled.insert((who, name));
            }
        }
        Ok(())
    }

    async fn fetch(&self, who: usize, name: &str) -> Outcome {
        match self.peers[who].tries(&format!("download_file team {name} /home/")).await? {
            Ok(_) => Ok(()),
            // The answer to an earlier try was lost.
            Err(failure) if failure.code == ErrorCode::AlreadyDownloading => Ok(()),
            // A tracker that was out of touch when it was shared.
            Err(failure) if failure.code == ErrorCode::NoSuchFile => Ok(()),
            Err(failure) => self.may_fail(who, failure.code),
        }
    }

    /// A disk that fails is said to fail, by the client with that disk or through a tracker with one.
    fn may_fail(&self, who: usize, code: ErrorCode) -> Outcome {
        let in_trouble = |peer: &Peer| peer.disk().was_in_trouble();
        match code {
            ErrorCode::NoSpace => coverage::reached("disk: no_space was said"),
            ErrorCode::Io | ErrorCode::NotReadable => coverage::reached("disk: an error was said"),
            ErrorCode::NoTracker | ErrorCode::Stale => {}
            other => return Err(format!("{}: {other} for a disk that fails", self.peers[who].name()).into()),
        }
        tracing::info!(who = self.peers[who].name(), %code, own = in_trouble(&self.peers[who]), "refused");
        Ok(())
    }

    /// The disk is mended and its role started again, in one way or another.
    async fn recover(&mut self, victim: usize) -> Outcome {
        let (name, mut way) = (self.host(victim), self.pick(6));
        if self.is_about_fsync {
            // A client that ends has nothing in a cache to believe in.
            way = 5;
        }
        self.faults.mend_disk(name).await;
        match way {
            0 => self.faults.stop(name).await,
            1 => self.oracle.crash(name, Crash::Process).await?,
            2 => self.oracle.crash(name, Crash::Power).await?,
            // A client goes on by itself, unless its own database failed.
            _ if victim >= self.trackers.len() => return Ok(()),
            _ => self.faults.stop(name).await,
        }
        self.faults.restart(name).await;
        match victim.checked_sub(self.trackers.len()) {
            Some(who) => self.log_in(who).await,
            None => Ok(()),
        }
    }

    async fn log_in(&self, who: usize) -> Outcome {
        let peer = &self.peers[who];
        peer.does(&format!("login {} secret-of-{}", peer.name(), peer.name())).await.map(drop)
    }

    /// Every download that was begun becomes complete; one that paused said why.
    async fn finish_downloads(&mut self) -> Outcome {
        for (who, name) in std::mem::take(&mut self.cancelled) {
            if let Some(found) = self.state(who, &name).await? {
                return Err(format!("{}: {name} was cancelled, and is {found:?}", self.peers[who].name()).into());
            }
        }
        for (who, name) in std::mem::take(&mut self.open) {
            self.finish(who, &name).await?;
            let is_listed = self.state(who, &name).await?.is_some();
            let shared = self.shared.get_mut(&name).expect("what is fetched was shared");
            if is_listed {
                shared.holders.insert(who);
            }
            self.peers[who].must_have(&format!("/home/{name}"), &shared.bytes)?;
        }
        Ok(())
    }

    /// Whether a file is there, perhaps of a download that was complete when it was cancelled: then nobody promised that it stays.
    fn has(&self, who: usize, name: &str) -> bool {
        self.peers[who].disk().contents(Path::new(&format!("/home/{name}"))).is_ok()
    }

    async fn finish(&self, who: usize, name: &str) -> Outcome {
        let peer = &self.peers[who];
        for attempt in 0..RESUMES {
            match self.state(who, name).await? {
                Some((DownloadState::Complete, _)) => return Ok(()),
                Some((DownloadState::Paused, Some(ErrorCode::NoSpace | ErrorCode::Io))) => {
                    coverage::reached("disk: a download paused and was resumed");
                    // Where the client's database has failed, this cannot be recorded.
                    if let Err(failure) = peer.tries(&format!("resume_download team {name}")).await? {
                        self.may_fail(who, failure.code)?;
                        self.begin_anew(who).await?;
                    }
                }
                Some((DownloadState::Downloading, None | Some(ErrorCode::NoSeeders))) => {}
                // It was complete when it was cancelled, and the client could not say whether that was recorded.
                None if self.has(who, name) => return Ok(()),
                None => self.fetch(who, name).await?,
                Some(other) => return Err(format!("{}: {name} is {other:?}", peer.name()).into()),
            }
            if peer.tries(&format!("wait team {name}")).await?.is_err() && attempt > 0 {
                self.begin_anew(who).await?;
            }
        }
        match self.state(who, name).await? {
            Some((DownloadState::Complete, _)) => Ok(()),
            other => Err(format!("{}: {name} does not end: {other:?}", peer.name()).into()),
        }
    }

    /// A database that once failed is opened anew.
    async fn begin_anew(&self, who: usize) -> Outcome {
        let name = self.peers[who].name();
        self.faults.stop(name).await;
        self.faults.restart(name).await;
        self.log_in(who).await
    }

    async fn state(
        &self,
        who: usize,
        name: &str,
    ) -> Result<Option<(DownloadState, Option<ErrorCode>)>, Box<dyn Error>> {
        match self.peers[who].does("show_downloads").await? {
            Reply::Downloads { downloads, .. } => {
                let row = downloads.into_iter().rev().find(|row| row.name.as_str() == name);
                Ok(row.map(|row| (row.state, row.error.map(|failure| failure.code))))
            }
            other => Err(format!("show_downloads answered {other:?}").into()),
        }
    }

    async fn the_power_fails_everywhere(&mut self) -> Outcome {
        self.oracle.at_rest().await?;
        let everybody: Vec<Name> =
            (0..self.trackers.len() + self.peers.len()).map(|number| self.host(number)).collect();
        for name in &everybody {
            self.oracle.crash(name, Crash::Power).await?;
        }
        for name in everybody {
            self.faults.restart(name).await;
        }
        Ok(())
    }

    /// Files, groups and shares, as they were acknowledged.
    async fn everything_is_there(&mut self) -> Outcome {
        for (who, peer) in self.peers.iter().enumerate() {
            for (name, shared) in self.shared.iter().filter(|(_, shared)| shared.holders.contains(&who)) {
                peer.must_have(&format!("/home/{name}"), &shared.bytes)?;
            }
            self.log_in(who).await?;
        }
        self.oracle.at_rest().await?;
        for (who, peer) in self.peers.iter().enumerate() {
            peer.sees("list_groups", |reply| self.created.iter().all(|name| groups(reply).contains(name.as_str())))
                .await?;
            let lacked = self.shared.iter().filter(|(_, it)| !it.holders.contains(&who)).map(|(name, _)| name);
            for name in lacked.filter(|name| !self.has(who, name)) {
                self.fetch(who, name).await?;
                self.finish(who, name).await?;
                peer.must_have(&format!("/home/{name}"), &self.shared[name].bytes)?;
            }
        }
        Ok(())
    }
}
