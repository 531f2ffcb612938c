//! A swarm of 2 to 24 peers, in one run of forty of up to 64, and files of any size: peers crash, leave and come back, links between
//! them break. The seeder stays, and so every download completes with the right bytes, none of which was fetched again once it was
//! durable.

use std::{collections::BTreeSet, path::Path, time::Duration};

use p2p::{protocol::error::ErrorCode, store::disk::Disk as _};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::sleep;

use super::{Script, below};
use crate::{
    cluster::{Cluster, Cut, Faults, Name, Outcome, peer_name, tracker_name},
    disk::Crash,
    role::{Peer, peer, trackers},
    steps::Steps,
};

/// Bytes in a piece.
const PIECE: usize = 512 * 1024;
/// Bytes that all peers together fetch, about: what a run may cost.
const TRAFFIC: u64 = 12 << 20;
/// Bytes of the largest file.
const LARGEST: u64 = 4 << 20;
/// Leechers of a crowd at most.
const CROWD: usize = 63;
/// The most memory that a crowd's world may take.
pub(super) const CROWD_MIB: u64 = 1200;
/// Things that happen.
const EVENTS: u32 = 24;
/// Beside what it lacks, a peer may receive for each life so much: blocks asked of two peers at the end of a file, frames,
/// certificates, what trackers say, in small part bytes a piece in growth lost with the life before.
const BESIDE: u64 = 2 * PIECE as u64;
/// And for each break of a link or session, the blocks that were under way on it, and asked of another meanwhile.
const BREAK: u64 = PIECE as u64;

struct Swarm {
    faults: Faults,
    steps: Steps,
    rng: ChaCha20Rng,
    seeder: Peer,
    leechers: Vec<Leecher>,
    film: Vec<u8>,
    cuts: BTreeSet<(Name, Name)>,
}

struct Leecher {
    peer: Peer,
    standing: Standing,
    /// Bytes per second, up and down.
    limits: (u64, u64),
    /// Bytes that the host had received when this life of it began, and what it lacked of the film then.
    received: u64,
    lacked: u64,
    /// Breaks of its links and sessions in this life.
    breaks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Has not begun yet.
    Outside,
    Downloading,
    LoggedOut,
    Down,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let mut rng = cluster.rng();
    let trackers_up: Vec<_> = (0..=below(&mut rng, 3)).map(|index| (tracker_name(index), 0)).collect();
    let info = trackers(cluster, &trackers_up);
    let most = [3, 8, 23][below(&mut rng, 3)];
    let few = 1 + below(&mut rng, most);
    let count = if is_crowd(cluster.seed()) { few + CROWD - most } else { few };
    let seeder = peer(cluster, peer_name(0), 0, &info);
    let film = film(&mut rng, count);
    let lacked = film.len() as u64;
    let leechers = (1..=count).map(|index| {
        let (peer, limits) = (peer(cluster, peer_name(index), 0, &info), (limit(&mut rng), limit(&mut rng)));
        Leecher { peer, standing: Standing::Outside, limits, received: 0, lacked, breaks: 0 }
    });
    let leechers = leechers.collect();
    let (faults, steps) = (cluster.faults(), cluster.steps());
    let mut swarm = Swarm { faults, steps, rng, seeder, leechers, film, cuts: BTreeSet::new() };
    Box::pin(async move {
        swarm.a_group_forms().await?;
        for _ in 0..EVENTS {
            swarm.event().await?;
        }
        swarm.everybody_returns().await?;
        swarm.everybody_has_the_film().await
    })
}

/// Whether many meet in the run with this seed; seldom, for it costs as much as thirty others.
pub(super) fn is_crowd(seed: u64) -> bool {
    seed % 40 == 33
}

/// Empty, of whole pieces, or of odd size, and smaller where many fetch it.
fn film(rng: &mut ChaCha20Rng, leechers: usize) -> Vec<u8> {
    let most = LARGEST.min(TRAFFIC / leechers as u64);
    let odd = rng.next_u64() % (most + 1);
    let size = match below(rng, 12) {
        0 => 0,
        1 => odd % 3 * PIECE as u64,
        2 => odd % 2000,
        _ => odd,
    };
    let mut film = vec![0; usize::try_from(size).expect("a small file")];
    rng.fill_bytes(&mut film);
    film
}

/// None, or one that makes itself felt.
fn limit(rng: &mut ChaCha20Rng) -> u64 {
    [0, 300_000, 700_000, 2_000_000][below(rng, 4)]
}

impl Swarm {
    async fn a_group_forms(&self) -> Outcome {
        let seeder = &self.seeder;
        seeder.joins_the_users().await?;
        seeder.sees_trackers_agree().await?;
        seeder.does("create_group films").await?;
        for leecher in &self.leechers {
            leecher.peer.joins_the_users().await?;
            leecher.peer.joins(seeder, "films").await?;
            leecher.limit().await?;
        }
        seeder.shares("film", &self.film, "films").await?;
        Ok(())
    }

    async fn event(&mut self) -> Outcome {
        let (what, who) = (below(&mut self.rng, 12), below(&mut self.rng, self.leechers.len()));
        match what {
            0..=3 => self.begin(who).await,
            4 | 5 => self.end_life(who).await,
            6 | 7 => self.come_back(who).await,
            8 => self.leave(who).await,
            9 => self.cut(who).await,
            10 => self.heal().await,
            _ => {
                sleep(Duration::from_millis(self.rng.next_u64() % 2000)).await;
                Ok(())
            }
        }
    }

    async fn begin(&mut self, who: usize) -> Outcome {
        let leecher = &mut self.leechers[who];
        if leecher.standing == Standing::Outside && self.steps.take(format_args!("{} begins", leecher.peer.name())) {
            leecher.begin().await?;
        }
        Ok(())
    }

    /// Without power, killed, or in order.
    async fn end_life(&mut self, who: usize) -> Outcome {
        let how = below(&mut self.rng, 3);
        let leecher = &mut self.leechers[who];
        let name = leecher.peer.name();
        if matches!(leecher.standing, Standing::Down | Standing::Outside) {
            return Ok(());
        }
        match how {
            0 => self.faults.stop(name).await,
            1 => _ = self.faults.crash(name, Crash::Process).await,
            _ => _ = self.faults.crash(name, Crash::Power).await,
        }
        leecher.standing = Standing::Down;
        Ok(())
    }

    async fn come_back(&mut self, who: usize) -> Outcome {
        let leecher = &mut self.leechers[who];
        match leecher.standing {
            Standing::Outside | Standing::Downloading => return Ok(()),
            Standing::LoggedOut => {}
            Standing::Down => {
                leecher.received_no_more_than_it_lacked(&self.film)?;
                self.faults.restart(leecher.peer.name()).await;
                leecher.begin_life(&self.film)?;
            }
        }
        leecher.log_in().await
    }

    async fn leave(&mut self, who: usize) -> Outcome {
        let leecher = &mut self.leechers[who];
        if leecher.standing == Standing::Downloading
            && self.steps.take(format_args!("{} logs out", leecher.peer.name()))
        {
            leecher.peer.does("logout").await?;
            leecher.standing = Standing::LoggedOut;
            leecher.breaks += 1;
        }
        Ok(())
    }

    /// Between two peers, the seeder among them.
    async fn cut(&mut self, who: usize) -> Outcome {
        let other = below(&mut self.rng, self.leechers.len() + 1);
        let how = [Cut::Lost, Cut::Late, Cut::OneWay][below(&mut self.rng, 3)];
        let one = self.leechers[who].peer.name();
        let two = self.leechers.get(other).map_or_else(|| self.seeder.name(), |leecher| leecher.peer.name());
        if one != two {
            self.faults.cut(one, two, how).await;
            self.cuts.insert((one, two));
            for leecher in self.leechers.iter_mut().filter(|it| [one, two].contains(&it.peer.name())) {
                leecher.breaks += 2;
            }
        }
        Ok(())
    }

    async fn heal(&mut self) -> Outcome {
        if let Some((one, two)) = self.cuts.pop_first() {
            self.faults.heal(one, two).await;
        }
        Ok(())
    }

    async fn everybody_returns(&mut self) -> Outcome {
        while !self.cuts.is_empty() {
            self.heal().await?;
        }
        for who in 0..self.leechers.len() {
            self.come_back(who).await?;
            if self.leechers[who].standing == Standing::Outside {
                self.leechers[who].begin().await?;
            }
        }
        Ok(())
    }

    async fn everybody_has_the_film(&self) -> Outcome {
        for leecher in &self.leechers {
            leecher.peer.does("wait films film").await?;
            leecher.peer.must_have("/home/film", &self.film)?;
            leecher.received_no_more_than_it_lacked(&self.film)?;
        }
        Ok(())
    }
}

impl Leecher {
    async fn limit(&self) -> Outcome {
        let (up, down) = self.limits;
        self.peer.does(&format!("set_limit up {up}")).await?;
        self.peer.does(&format!("set_limit down {down}")).await?;
        Ok(())
    }

    async fn begin(&mut self) -> Outcome {
        self.received = self.peer.received_bytes();
        self.peer.does("download_file films film /home/").await?;
        self.standing = Standing::Downloading;
        Ok(())
    }

    async fn log_in(&mut self) -> Outcome {
        let name = self.peer.name();
        self.limit().await?;
        self.standing = Standing::Downloading;
        match self.peer.tries(&format!("login {name} secret-of-{name}")).await? {
            // Its end was left out.
            Err(failure) if failure.code == ErrorCode::AlreadyLoggedIn => Ok(()),
            answer => answer.map(drop).map_err(|failure| format!("{name}: {failure}").into()),
        }
    }

    /// What it has on disk now, it never fetches again.
    fn begin_life(&mut self, film: &[u8]) -> Outcome {
        (self.received, self.breaks) = (self.peer.received_bytes(), 0);
        self.lacked = film.len() as u64 - self.has_bytes(film)?;
        Ok(())
    }

    /// Bytes of pieces that are on disk, right and marked.
    fn has_bytes(&self, film: &[u8]) -> Result<u64, Box<dyn std::error::Error>> {
        let disk = self.peer.disk();
        if disk.contents(Path::new("/home/film")).is_ok() {
            self.peer.must_have("/home/film", film)?;
            return Ok(film.len() as u64);
        }
        let folder = Path::new("/home");
        let names = disk.list(folder)?;
        let Some(partial) = names.iter().find(|name| name.starts_with(".film.")) else { return Ok(0) };
        let bytes = disk.contents(&folder.join(partial))?;
        let (content, marks) = bytes.split_at(film.len().min(bytes.len()));
        let pieces = film.chunks(PIECE).zip(content.chunks(PIECE)).zip(marks);
        let held = pieces.filter(|((wanted, found), mark)| **mark == 1 && wanted == found);
        Ok(held.map(|((wanted, _), _)| wanted.len() as u64).sum())
    }

    /// In this life.
    fn received_no_more_than_it_lacked(&self, film: &[u8]) -> Outcome {
        let (received, lacked) = (self.peer.received_bytes() - self.received, self.lacked);
        let most = lacked + lacked / 50 + BESIDE + self.breaks * BREAK;
        tracing::info!(peer = self.peer.name(), received, lacked, breaks = self.breaks, "a life");
        if received <= most {
            return Ok(());
        }
        let (name, size) = (self.peer.name(), film.len());
        Err(format!("{name} lacked {lacked} of {size} bytes and received {received}, more than {most}").into())
    }
}
