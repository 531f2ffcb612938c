//! Random commands against the reference model: trackers that agree predict every answer, while they, their clients and the
//! links between these die and come back.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;

use super::{
    Script, below,
    play::{MOST_TRACKERS, Play, now_ms},
};
use crate::{
    cluster::{Cluster, Cut, Outcome},
    disk::Crash,
};

/// Things that happen.
const EVENTS: usize = 60;

struct Scene {
    play: Play,
    /// Whether hosts die and links break.
    harsh: bool,
    /// The tracker that is down.
    down: Option<usize>,
    /// Clients and trackers that are cut off from each other.
    cuts: BTreeSet<(usize, usize)>,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let mut rng = cluster.rng();
    let (trackers, clients, harsh) =
        (1 + below(&mut rng, MOST_TRACKERS), 2 + below(&mut rng, 5), below(&mut rng, 4) > 0);
    let skews: Vec<i64> = (0..trackers).map(|_| [0, 20_000, 40_000][below(&mut rng, 3)]).collect();
    let play = Play::new(cluster, rng, &skews, clients);
    let mut scene = Scene { play, harsh, down: None, cuts: BTreeSet::new() };
    Box::pin(async move {
        scene.play.begins().await?;
        scene.play.users_come().await?;
        scene.play.groups_form().await?;
        for _ in 0..EVENTS {
            scene.event().await?;
        }
        scene.ends().await
    })
}

impl Scene {
    async fn event(&mut self) -> Outcome {
        let (client, line) = self.play.draws();
        let (kind, tracker, how) = (self.play.pick(30), self.play.pick(self.play.trackers.len()), self.play.pick(2));
        let delay = Duration::from_millis(11 + self.play.pick(90) as u64);
        let cut = if how == 0 { Cut::Lost } else { Cut::Late };
        let how = if how == 0 { Crash::Power } else { Crash::Process };
        if self.harsh {
            match kind {
                0 => return self.tracker_dies_over(tracker, client, &line, delay, how).await,
                1 => return self.tracker_comes_back().await,
                2 => return self.client_dies_over(client, &line, delay, how).await,
                3 => self.cut(client, tracker, cut).await,
                4 => self.heal().await,
                _ => {}
            }
        }
        self.play.plays(true, client, &line).await
    }

    /// A tracker dies while a client is being answered. One alone comes back at once.
    async fn tracker_dies_over(
        &mut self,
        tracker: usize,
        client: usize,
        line: &str,
        delay: Duration,
        how: Crash,
    ) -> Outcome {
        if self.down.is_some() || !self.cuts.is_empty() || self.play.would_wait(client, line) {
            return Ok(());
        }
        let alone = self.play.trackers.len() == 1;
        let (name, faults) = (self.play.trackers[tracker], self.play.faults.clone());
        let (who, peer) = (self.play.who(client), self.play.peers[client].clone());
        let oracle = &mut self.play.oracle;
        let death = async {
            sleep(delay).await;
            oracle.crash(name, how).await?;
            if alone {
                sleep(20 * delay).await;
                faults.restart(name).await;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let (result, death) = tokio::join!(peer.asks(line), death);
        death?;
        self.play.oracle.look()?;
        // A tracker that has just started answers before the others' clients have found it again.
        self.play.blurs_presence();
        let heard = self.play.model.heard(&who, line, &result?, !alone);
        heard.map_err(|error| self.play.blame(client, line, &error))?;
        if alone {
            self.play.oracle.settle().await?;
            self.play.model.settled(now_ms());
        } else {
            self.down = Some(tracker);
        }
        Ok(())
    }

    async fn tracker_comes_back(&mut self) -> Outcome {
        let Some(tracker) = self.down.take() else { return Ok(()) };
        self.play.faults.restart(self.play.trackers[tracker]).await;
        self.play.comes_to_rest().await
    }

    async fn client_dies_over(&mut self, client: usize, line: &str, delay: Duration, how: Crash) -> Outcome {
        if line.starts_with("download_file") {
            return Ok(());
        }
        self.play.dies_over(client, line, delay, how).await
    }

    /// A client that can still reach a tracker loses its link to another.
    async fn cut(&mut self, client: usize, tracker: usize, cut: Cut) {
        let is_left =
            |other: usize| other != tracker && Some(other) != self.down && !self.cuts.contains(&(client, other));
        if (0..self.play.trackers.len()).any(is_left) && self.down.is_none() {
            self.play.faults.cut(self.play.peers[client].name(), self.play.trackers[tracker], cut).await;
            self.cuts.insert((client, tracker));
            self.play.blurs_presence();
        }
    }

    async fn heal(&mut self) {
        if let Some((client, tracker)) = self.cuts.pop_first() {
            self.play.faults.heal(self.play.peers[client].name(), self.play.trackers[tracker]).await;
            self.play.blurs_presence();
        }
    }

    async fn ends(&mut self) -> Outcome {
        while !self.cuts.is_empty() {
            self.heal().await;
        }
        if let Some(tracker) = self.down.take() {
            self.play.faults.restart(self.play.trackers[tracker]).await;
        }
        self.play.comes_to_rest().await?;
        self.play.every_tracker_says_the_same().await
    }
}
