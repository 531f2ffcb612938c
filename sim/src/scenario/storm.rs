//! Three trackers in a storm: links break, hosts die and come back at the seed's whim while peers write. When the storm is
//! over, every tracker knows every write that was acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::sleep;

use super::Script;
use crate::{
    cluster::{Cluster, Cut, Faults, Outcome},
    disk::Crash,
    oracle::Oracle,
    role::{Peer, groups, peer, trackers},
    steps::Steps,
};

const TRACKERS: [&str; 3] = ["tracker1", "tracker2", "tracker3"];
const PEERS: [&str; 3] = ["alice", "bob", "carol"];
/// Things that happen.
const EVENTS: u32 = 60;

struct Storm {
    faults: Faults,
    oracle: Oracle,
    steps: Steps,
    rng: ChaCha20Rng,
    peers: Vec<Peer>,
    /// Pairs that are cut off from each other.
    cuts: BTreeSet<(&'static str, &'static str)>,
    down: BTreeSet<&'static str>,
    /// Groups whose creation was acknowledged.
    created: BTreeSet<String>,
    /// Groups of which nobody knows.
    unknown: BTreeMap<String, String>,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let info = trackers(cluster, &[(TRACKERS[0], 0), (TRACKERS[1], -60_000), (TRACKERS[2], 60_000)]);
    let peers = PEERS.iter().map(|name| peer(cluster, name, 0, &info)).collect();
    let mut storm = Storm {
        faults: cluster.faults(),
        oracle: Oracle::new(cluster),
        steps: cluster.steps(),
        rng: cluster.rng(),
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
        storm.oracle.sees_online(&storm.peers.iter().collect::<Vec<_>>()).await?;
        storm.every_tracker_knows_everything().await
    })
}

impl Storm {
    async fn event(&mut self, number: u32) -> Outcome {
        match self.pick(10) {
            0 => self.cut().await,
            1 => self.heal().await,
            2 => return self.crash().await,
            3 => self.restart().await,
            4 => sleep(Duration::from_millis(self.rng.next_u64() % 3000)).await,
            _ => return self.write(number).await,
        }
        Ok(())
    }

    fn pick(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("a small number");
        usize::try_from(self.rng.next_u64() % count).expect("a smaller number")
    }

    async fn write(&mut self, number: u32) -> Outcome {
        let who = self.pick(self.peers.len());
        let name = format!("g{number}");
        if !self.steps.take(format_args!("{}: create_group {name}", PEERS[who])) {
            return Ok(());
        }
        match self.peers[who].tries(&format!("create_group {name}")).await? {
            Ok(_) => {
                self.created.insert(name);
            }
            Err(failure) => {
                self.unknown.insert(name, failure.to_string());
            }
        }
        Ok(())
    }

    async fn cut(&mut self) {
        let one = TRACKERS[self.pick(TRACKERS.len())];
        let others: Vec<_> = TRACKERS.into_iter().chain(PEERS).filter(|other| *other != one).collect();
        let two = others[self.pick(others.len())];
        let cut = if self.pick(2) == 0 { Cut::Lost } else { Cut::Late };
        self.faults.cut(one, two, cut).await;
        self.cuts.insert((one, two));
    }

    async fn heal(&mut self) {
        if let Some((one, two)) = self.cuts.pop_first() {
            self.faults.heal(one, two).await;
        }
    }

    /// One tracker at least stays up.
    async fn crash(&mut self) -> Outcome {
        let up: Vec<_> = TRACKERS.into_iter().filter(|name| !self.down.contains(name)).collect();
        if up.len() > 1 {
            let name = up[self.pick(up.len())];
            let how = if self.pick(2) == 0 { Crash::Power } else { Crash::Process };
            self.oracle.crash(name, how).await?;
            self.oracle.look()?;
            self.down.insert(name);
        }
        Ok(())
    }

    async fn restart(&mut self) {
        if let Some(name) = self.down.pop_first() {
            self.faults.restart(name).await;
        }
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
        if self.created.is_empty() { Err("nothing was acknowledged in the whole storm".into()) } else { Ok(()) }
    }

    /// Asks each tracker alone.
    async fn every_tracker_knows_everything(&self) -> Outcome {
        let peer = &self.peers[0];
        for tracker in TRACKERS {
            let others = || TRACKERS.into_iter().filter(move |other| *other != tracker);
            for other in others() {
                self.faults.partition(PEERS[0], other).await;
            }
            peer.sees("list_groups", |reply| {
                let known = groups(reply);
                self.created.iter().all(|name| known.contains(name.as_str()))
            })
            .await?;
            for other in others() {
                self.faults.heal(PEERS[0], other).await;
            }
        }
        Ok(())
    }
}
