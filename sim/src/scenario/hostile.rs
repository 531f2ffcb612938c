//! A swarm with one honest seeder and a random selection of liars, stallers and bad listeners: every honest download
//! completes, with the right bytes and in bounded time; who lied alone is banned; nobody honest is; no unverified byte is served.

use std::time::Duration;

use p2p::roles::client::command::{PeerRow, Reply};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::{Instant, sleep};

use super::{Script, below};
use crate::{
    cluster::{Cluster, Outcome},
    hostile::{
        Acted, Hostile,
        account::Account,
        background, hostile,
        leecher::{Habit, Leecher, Pass},
        seeder::{Bait, Catch, SHATTERED, Vice, seed},
    },
    oracle::data::Witness,
    role::{Peer, peer, trackers},
    steps::Steps,
};

/// The user behind every hostile device.
const VILLAIN: &str = "mallory";
/// Hosts of the hostile.
const VILLAINS: [&str; 5] = ["mallory1", "mallory2", "mallory3", "mallory4", "mallory5"];
/// Hosts of honest leechers.
const LEECHERS: [&str; 3] = ["bob", "carol", "dave"];
/// Bytes in a piece.
const PIECE: u64 = 512 * 1024;
/// Longest time in which an honest download may be held up by the hostile.
const WITHIN: Duration = Duration::from_mins(2);
/// Lies that a leecher may take from one liar without finding it out: what is asked at once, and the pieces of others it
/// had a part in.
const UNPUNISHED: u64 = 24 * 128 * 1024;

struct Swarm {
    steps: Steps,
    tracker: String,
    alice: Peer,
    leechers: Vec<Peer>,
    villains: Vec<Villain>,
    film: Vec<u8>,
    witness: Witness,
    rng: ChaCha20Rng,
}

struct Villain {
    host: Hostile,
    role: Role,
    catch: Catch,
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Seeder(Vice),
    Leecher(Habit),
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let mut rng = cluster.rng();
    let info = trackers(cluster, &[("tracker1", 0), ("tracker2", 30_000)]);
    let alice = peer(cluster, "alice", 0, &info);
    let leechers: Vec<_> = LEECHERS[..=below(&mut rng, 3)].iter().map(|name| peer(cluster, name, 0, &info)).collect();
    let count = 2 + below(&mut rng, VILLAINS.len() - 1);
    let seed = cluster.seed();
    let villains = (0..).zip(&VILLAINS[..count]).map(|(place, name)| Villain {
        host: hostile(cluster, name),
        role: Role::of(seed, place, &mut rng),
        catch: Catch::default(),
    });
    let villains = villains.collect();
    let mut film = vec![0; usize::try_from(rng.next_u64() % (10 * PIECE) + 1).expect("a few pieces")];
    rng.fill_bytes(&mut film);
    film.iter_mut().zip(SHATTERED[0]).for_each(|(byte, known)| *byte = *known);
    let tracker = info.trackers[below(&mut rng, 2)].address.clone();
    let witness = Witness::of(&film);
    let mut swarm = Swarm { steps: cluster.steps(), tracker, alice, leechers, villains, film, witness, rng };
    Box::pin(async move {
        swarm.a_group_forms().await?;
        swarm.the_hostile_begin().await?;
        swarm.the_honest_download().await?;
        swarm.the_right_ones_are_banned().await?;
        swarm.witness.saw_right_bytes_only()
    })
}

impl Role {
    /// Two take turns from seed to seed, so that every kind has its turn; the others are as it comes.
    fn of(seed: u64, place: u64, rng: &mut ChaCha20Rng) -> Self {
        let number = rng.next_u64();
        match place {
            0 => Self::Seeder(Vice::of(seed)),
            1 => Self::Leecher(Habit::of(seed)),
            _ if number.is_multiple_of(3) => Self::Leecher(Habit::of(number / 3)),
            // It takes luck that its piece is found out only when it is gone.
            _ if number.is_multiple_of(5) => Self::Seeder(Vice::HitsAndRuns),
            _ => Self::Seeder(Vice::of(number / 3)),
        }
    }
}

impl Swarm {
    async fn a_group_forms(&mut self) -> Outcome {
        // The trackers hear of each other first: what one knows, the other is to know.
        sleep(Duration::from_secs(1)).await;
        self.alice.joins_the_users().await?;
        self.alice.does("create_group films").await?;
        if below(&mut self.rng, 4) > 0 {
            let rate = 500 + below(&mut self.rng, 3000);
            self.alice.does(&format!("set_limit up {rate}KiB")).await?;
        }
        for leecher in &self.leechers {
            leecher.joins_the_users().await?;
            leecher.joins(&self.alice, "films").await?;
        }
        self.alice.shares("film", &self.film, "films").await?;
        let tracker = self.tracker.clone();
        let joins = async move |node| {
            let account = Account::open(&node, &tracker, VILLAIN).await?;
            account.ask_to_join(&node, "films").await
        };
        self.villains[0].host.does(joins).await?;
        self.alice.does(&format!("accept_request films {VILLAIN}")).await?;
        Ok(())
    }

    /// Each logs in and plays its role; they are members by now.
    async fn the_hostile_begin(&self) -> Outcome {
        for villain in &self.villains {
            if !self.steps.take(format_args!("{} is a {:?}", villain.host.name(), villain.role)) {
                continue;
            }
            let (tracker, role, catch) = (self.tracker.clone(), villain.role, villain.catch.clone());
            let witness = self.witness.clone();
            villain.host.begins(move |node| play(node, tracker, role, catch, witness)).await?;
        }
        sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    async fn the_honest_download(&mut self) -> Outcome {
        let begun = Instant::now();
        for leecher in &self.leechers {
            leecher.does("download_file films film /home/").await?;
            sleep(Duration::from_millis(self.rng.next_u64() % 1500)).await;
        }
        for leecher in &self.leechers {
            leecher.does("wait films film").await?;
            leecher.must_have("/home/film", &self.film)?;
        }
        let lasted = begun.elapsed();
        tracing::info!(?lasted, taken = self.witness.payload(), "every download is complete");
        if lasted > WITHIN {
            Err(format!("the downloads took {lasted:?}, not {WITHIN:?} at most").into())
        } else {
            Ok(())
        }
    }

    async fn the_right_ones_are_banned(&self) -> Outcome {
        for leecher in &self.leechers {
            let ip = leecher.ip();
            let Reply::Peers(rows) = leecher.does("show_peers films film").await? else {
                return Err("no peers".into());
            };
            let is_banned = |row: &&PeerRow| row.state == "banned";
            if let Some(row) = rows.iter().filter(is_banned).find(|row| row.user.as_str() != VILLAIN) {
                return Err(format!("{} has banned {}, who is honest", leecher.name(), row.user).into());
            }
            for villain in &self.villains {
                let Role::Seeder(vice) = villain.role else { continue };
                let counts = villain.catch.counts(ip);
                let banned = rows
                    .iter()
                    .filter(is_banned)
                    .any(|row| row.address.starts_with(&format!("{}:", villain.host.ip())));
                tracing::info!(leecher = leecher.name(), ?vice, ?counts, banned, "caught");
                if vice.always_lies() && counts.lies > UNPUNISHED && !banned {
                    return Err(format!(
                        "{} took {} bytes of lies from {}, {vice:?}, and has not banned it",
                        leecher.name(),
                        counts.lies,
                        villain.host.name()
                    )
                    .into());
                }
            }
        }
        Ok(())
    }
}

async fn play(node: crate::hostile::Node, tracker: String, role: Role, catch: Catch, witness: Witness) -> Acted<()> {
    let account = Account::open(&node, &tracker, VILLAIN).await?;
    let group = account.group(&node, "films").await?.group;
    let (file, _) = account.file(&node, "films", "film").await?;
    let ticket = account.ticket(&node, group).await?;
    match role {
        Role::Seeder(vice) => {
            account.serve(&node, group, file, 100).await;
            let bait = Bait { group, file, ticket, content: witness.content() };
            seed(node, bait, vice, catch).await?;
        }
        Role::Leecher(habit) => {
            account.serve(&node, group, file, 0).await;
            let most = 4 * witness.content().len() as u64;
            let leecher = Leecher { node: node.clone(), pass: Pass { group, file, ticket }, habit, witness, most };
            let mut known = std::collections::BTreeSet::new();
            loop {
                for peer in account.swarm(&node, group, file).await {
                    if peer.user.as_str() != VILLAIN && known.insert(peer.device) {
                        let leecher = leecher.clone();
                        background(async move { leecher.ask_on(peer.address).await });
                    }
                }
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
    drop(account);
    Ok(())
}
