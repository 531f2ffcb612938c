//! One to five trackers in a storm: links break, clocks jump, disks fail, hosts die and come back at the seed's whim while
//! peers write. When the storm is over, the trackers soon agree, and each knows every write that was acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use p2p::protocol::error::ErrorCode;
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::sleep;

use super::{Script, below};
use crate::{
    cluster::{Cluster, Cut, Faults, Name, Outcome, peer_name, tracker_name},
    disk::{Crash, Operation, Trouble},
    oracle::Oracle,
    role::{Peer, groups, peer, trackers},
    steps::Steps,
};

/// Things that happen.
const EVENTS: u32 = 60;
/// How far a clock is off, or jumps, at most.
const HOUR_MS: u64 = 3_600_000;
struct Storm {
    faults: Faults,
    oracle: Oracle,
    steps: Steps,
    rng: ChaCha20Rng,
    trackers: Vec<Name>,
    peers: Vec<Peer>,
    /// Pairs that are cut off from each other, or nearly.
    cuts: BTreeSet<(Name, Name)>,
    /// Trackers that are down, or may be for what ails their disks.
    down: BTreeSet<Name>,
    /// Groups whose creation was acknowledged.
    created: BTreeSet<String>,
    /// Groups of which nobody knows.
    unknown: BTreeMap<String, String>,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let mut rng = cluster.rng();
    let names: Vec<Name> = (0..=below(&mut rng, 5)).map(tracker_name).collect();
    let machines: Vec<_> = names.iter().map(|name| (*name, time_off(&mut rng))).collect();
    let info = trackers(cluster, &machines);
    let peers = (0..below(&mut rng, 3) + 2).map(|i| peer(cluster, peer_name(i), time_off(&mut rng), &info)).collect();
    let mut storm = Storm {
        faults: cluster.faults(),
        oracle: Oracle::new(cluster),
        steps: cluster.steps(),
        rng,
        trackers: names,
        peers,
        cuts: BTreeSet::new(),
        down: BTreeSet::new(),
        created: BTreeSet::new(),
        unknown: BTreeMap::new(),
    };
    Box::pin(async move {
        for peer in &storm.peers {
            peer.joins_the_users().await?;
        }
        for number in 0..EVENTS {
            storm.event(number).await?;
        }
        storm.calm().await?;
        for peer in &storm.peers {
            // Linked again.
            peer.sees("list_groups", |_| true).await?;
        }
        storm.oracle.sees_online(&storm.peers.iter().collect::<Vec<_>>()).await?;
        storm.every_tracker_knows_everything().await?;
        storm.somebody_is_gone().await
    })
}

/// Most clocks are right, or nearly; some are off by up to an hour.
fn time_off(rng: &mut ChaCha20Rng) -> i64 {
    let most = [0, 2_000, 90_000, HOUR_MS][below(rng, 4)];
    let off = rng.next_u64() % (2 * most + 1);
    i64::try_from(off).expect("an hour") - i64::try_from(most).expect("an hour")
}

impl Storm {
    async fn event(&mut self, number: u32) -> Outcome {
        match self.pick(16) {
            0 | 1 => self.cut().await,
            2 | 3 => self.heal().await,
            4 | 5 => return self.crash().await,
            6 => self.ail().await,
            7 | 8 => self.restart().await,
            9 => self.jump().await,
            10 => sleep(Duration::from_millis(self.rng.next_u64() % 3000)).await,
            _ => return self.write(number).await,
        }
        Ok(())
    }

    fn pick(&mut self, count: usize) -> usize {
        below(&mut self.rng, count)
    }

    async fn write(&mut self, number: u32) -> Outcome {
        let who = self.pick(self.peers.len());
        let name = format!("g{number}");
        if !self.steps.take(format_args!("{}: create_group {name}", self.peers[who].name())) {
            return Ok(());
        }
        match self.peers[who].tries(&format!("create_group {name}")).await? {
            Ok(_) => {
                self.created.insert(name);
            }
            // Nobody else makes it: a repeated request was taken for another one.
            Err(failure) if failure.code == ErrorCode::GroupExists => {
                return Err(format!("{}: create_group {name}: {failure}", self.peers[who].name()).into());
            }
            Err(failure) => {
                self.unknown.insert(name, failure.to_string());
            }
        }
        Ok(())
    }

    fn peer_names(&self) -> impl Iterator<Item = Name> {
        self.peers.iter().map(Peer::name)
    }

    async fn cut(&mut self) {
        let one = below(&mut self.rng, self.trackers.len());
        let one = self.trackers[one];
        let others: Vec<_> = self.trackers.iter().copied().chain(self.peer_names()).filter(|it| *it != one).collect();
        let two = others[self.pick(others.len())];
        match self.pick(6) {
            kind @ 0..=3 => {
                let (cut, from, to) =
                    [(Cut::Lost, one, two), (Cut::Late, one, two), (Cut::OneWay, one, two), (Cut::OneWay, two, one)]
                        [kind];
                self.faults.cut(from, to, cut).await;
            }
            4 => {
                let per_mille = 1 + self.pick(100);
                self.faults.lose(one, two, u32::try_from(per_mille).expect("a small number")).await;
            }
            _ => {
                let most = Duration::from_millis(50 + self.rng.next_u64() % 1000);
                return self.faults.delay(one, two, most).await;
            }
        }
        self.cuts.insert((one, two));
    }

    async fn heal(&mut self) {
        if let Some((one, two)) = self.cuts.pop_first() {
            self.faults.heal(one, two).await;
        }
    }

    /// One tracker at least stays up, or is up again soon.
    async fn crash(&mut self) -> Outcome {
        let name = self.victim();
        match self.pick(4) {
            0 => self.faults.stop(name).await,
            1 => self.oracle.crash(name, Crash::Process).await?,
            _ => self.oracle.crash(name, Crash::Power).await?,
        }
        self.oracle.look()?;
        self.leave_down(name).await;
        Ok(())
    }

    /// A disk that fails, which its tracker may or may not survive.
    async fn ail(&mut self) {
        let name = self.victim();
        let one_in = [1, 3, 20][self.pick(3)];
        let trouble = match self.pick(6) {
            0 => Trouble::Errors { what: Operation::Read, one_in, under: "/" },
            1 => Trouble::Errors { what: Operation::Write, one_in, under: "/" },
            2 => Trouble::Errors { what: Operation::Sync, one_in, under: "/" },
            3 => Trouble::Full { left: self.rng.next_u64() % 20_000 },
            _ => Trouble::Slow { most: Duration::from_millis(1 + self.rng.next_u64() % 300) },
        };
        self.faults.disk(name, trouble).await;
        self.leave_down(name).await;
    }

    fn victim(&mut self) -> Name {
        let up: Vec<_> = self.trackers.iter().copied().filter(|name| !self.down.contains(name)).collect();
        up[self.pick(up.len())]
    }

    async fn leave_down(&mut self, name: Name) {
        self.down.insert(name);
        if self.down.len() == self.trackers.len() {
            sleep(Duration::from_millis(self.rng.next_u64() % 5000)).await;
            self.down.remove(name);
            self.bring_back(name).await;
        }
    }

    async fn restart(&mut self) {
        if let Some(name) = self.down.pop_first() {
            self.bring_back(name).await;
        }
    }

    /// A tracker whose disk failed begins anew, whether or not it noticed.
    async fn bring_back(&self, name: Name) {
        self.faults.mend_disk(name).await;
        self.faults.stop(name).await;
        self.faults.restart(name).await;
    }

    async fn jump(&mut self) {
        let everybody: Vec<_> = self.trackers.iter().copied().chain(self.peer_names()).collect();
        let name = everybody[self.pick(everybody.len())];
        let by_ms = time_off(&mut self.rng);
        self.faults.jump_clock(name, by_ms).await;
    }

    async fn calm(&mut self) -> Outcome {
        while !self.cuts.is_empty() {
            self.heal().await;
        }
        while !self.down.is_empty() {
            self.restart().await;
        }
        self.oracle.at_rest().await?;
        tracing::info!(created = self.created.len(), unknown = ?self.unknown, "calm");
        Ok(())
    }

    /// Asks each tracker alone.
    async fn every_tracker_knows_everything(&self) -> Outcome {
        let peer = &self.peers[0];
        for tracker in &self.trackers {
            let others = || self.trackers.iter().filter(move |other| *other != tracker);
            for other in others() {
                self.faults.partition(peer.name(), other).await;
            }
            peer.sees("list_groups", |reply| {
                let known = groups(reply);
                self.created.iter().all(|name| known.contains(name.as_str()))
            })
            .await?;
            for other in others() {
                self.faults.heal(peer.name(), other).await;
            }
        }
        Ok(())
    }

    /// Who dies is soon seen nowhere, also where a tracker that knew of them dies too.
    async fn somebody_is_gone(&mut self) -> Outcome {
        let (gone, how) = (self.pick(self.peers.len()), [Crash::Process, Crash::Power][self.pick(2)]);
        let tracker = self.pick(2 * self.trackers.len());
        if !self.faults.crash(self.peers[gone].name(), how).await {
            return Ok(());
        }
        if let Some(name) = self.trackers.get(tracker).copied() {
            self.oracle.crash(name, Crash::Power).await?;
            self.faults.restart(name).await;
            self.oracle.settle().await?;
        }
        let rest: Vec<&Peer> = self.peers.iter().filter(|peer| peer.name() != self.peers[gone].name()).collect();
        for peer in &rest {
            // Linked again.
            peer.sees("list_groups", |_| true).await?;
        }
        self.oracle.sees_online(&rest).await
    }
}
