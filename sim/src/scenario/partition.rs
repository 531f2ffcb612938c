//! Writes on both sides of a partition: the same names, memberships granted here and ended there, ownership handed on twice.
//! Each side answers as the reference model says of one who knows that side alone; after the heal all know the union.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Script, below,
    play::{MOST_TRACKERS, Play, now_ms},
};
use crate::cluster::{Cluster, Cut, Outcome};

/// Things that happen before the partition, and during it.
const BEFORE: usize = 8;
const DURING: usize = 28;
/// With clocks this far apart, the order of what happens on two sides is known as long as they are apart for less.
const SKEW_MS: i64 = 50_000;
const APART_MS: u64 = 40_000;

struct Scene {
    play: Play,
    cut: Cut,
    /// When the partition began.
    since: u64,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let mut rng = cluster.rng();
    let (trackers, clients) = (2 + below(&mut rng, MOST_TRACKERS - 1), 2 + below(&mut rng, 4));
    let skews: Vec<i64> = match below(&mut rng, 3) {
        0 => (0..trackers).map(|tracker| if tracker == 0 { SKEW_MS } else { 0 }).collect(),
        _ => vec![0; trackers],
    };
    let cut = if below(&mut rng, 3) == 0 { Cut::Late } else { Cut::Lost };
    let mut scene = Scene { play: Play::new(cluster, rng, &skews, clients), cut, since: 0 };
    Box::pin(async move {
        scene.play.begins().await?;
        scene.play.users_come().await?;
        scene.play.groups_form().await?;
        for _ in 0..BEFORE {
            let (client, line) = scene.play.draws();
            scene.play.plays(!is_download(&line), client, &line).await?;
        }
        if scene.parts().await {
            for _ in 0..DURING {
                scene.event().await?;
            }
        }
        scene.heals().await
    })
}

impl Scene {
    /// The first tracker is cut off from the others; each client speaks to one tracker alone. False where the step is left out.
    async fn parts(&mut self) -> bool {
        let trackers = self.play.trackers.clone();
        let mut pairs: Vec<_> = trackers[1..].iter().map(|other| (trackers[0], *other)).collect();
        let mut own = Vec::new();
        for client in 0..self.play.peers.len() {
            // Both sides have clients, the first and the second.
            let side = if client < 2 { client } else { self.play.pick(trackers.len()) };
            own.push(side);
            let others = trackers.iter().enumerate().filter(|(tracker, _)| *tracker != side);
            pairs.extend(others.map(|(_, other)| (self.play.peers[client].name(), *other)));
        }
        let parted = self.play.faults.cut_all(&pairs, self.cut).await;
        self.since = now_ms();
        if parted {
            for (client, own) in own.into_iter().enumerate() {
                self.play.speaks_to(client, own);
            }
            let sides: Vec<usize> = (0..trackers.len()).map(|tracker| usize::from(tracker > 0)).collect();
            self.play.model.split(&sides, self.since);
            self.play.model.fade_all(u64::MAX);
            // Until every client has found its tracker, and every tracker has given up the others.
            sleep(Duration::from_secs(5)).await;
        }
        parted
    }

    async fn event(&mut self) -> Outcome {
        let (client, line) = self.play.draws();
        let (kind, tracker) = (self.play.pick(12), self.play.pick(self.play.trackers.len()));
        let delay = Duration::from_millis(self.play.pick(80) as u64);
        if now_ms() - self.since > APART_MS {
            return Ok(());
        }
        if is_download(&line) {
            return Ok(());
        }
        if kind == 0 && tracker != self.play.spoken_to[client] {
            return self.moves_over(client, tracker, &line, delay).await;
        }
        self.play.plays(true, client, &line).await
    }

    /// A client loses its tracker while it executes a line, and finds the other one: the line may be executed at either, or at
    /// both, and takes effect once.
    async fn moves_over(&mut self, client: usize, tracker: usize, line: &str, delay: Duration) -> Outcome {
        let (peer, faults) = (self.play.peers[client].clone(), self.play.faults.clone());
        let (old, new) = (self.play.trackers[self.play.spoken_to[client]], self.play.trackers[tracker]);
        let from = self.play.who(client);
        let cut = self.cut;
        let moving = async {
            sleep(delay).await;
            let moved = faults.cut(peer.name(), old, cut).await;
            if moved {
                faults.heal(peer.name(), new).await;
            }
            moved
        };
        let (result, moved) = tokio::join!(peer.asks(line), moving);
        let result = result?;
        let heard = if moved {
            let to = self.play.who_at(client, tracker);
            self.play.model.heard_at_either(&from, &to, line, &result)
        } else {
            self.play.model.heard(&from, line, &result, true)
        };
        heard.map_err(|error| self.play.blame(client, line, &error))?;
        if moved {
            self.play.speaks_to(client, tracker);
            // Until it is linked there.
            sleep(Duration::from_secs(4)).await;
        }
        Ok(())
    }

    async fn heals(&mut self) -> Outcome {
        let trackers = self.play.trackers.clone();
        for (number, one) in trackers.iter().enumerate() {
            for two in &trackers[number + 1..] {
                self.play.faults.heal(one, two).await;
            }
            for peer in &self.play.peers {
                self.play.faults.heal(peer.name(), one).await;
            }
        }
        self.play.comes_to_rest().await?;
        self.play.every_tracker_says_the_same().await
    }
}

/// Peers that serve each other ask trackers at times of their own, and have seen no one knows what.
fn is_download(line: &str) -> bool {
    line.starts_with("download_file")
}
