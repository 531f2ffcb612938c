//! Load of announces and lookups: half of each, on a few links whose windows are kept full.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    super::BenchError,
    census,
    cluster::Cluster,
    crowd::{self, Crowd},
    line::{Line, Told},
    meter::{Meter, Rate, Tally},
};
use crate::protocol::{
    client::{Answer, Presence, Request, Serving, SwarmPeer},
    ids::{FileId, GroupId},
    version::VersionVector,
};

/// Files that each link announces, in turn.
const OWN_FILES: u32 = 16;
/// The first of them: beyond what any crowd serves.
const FIRST_OWN_FILE: u32 = 1 << 24;
/// What an announce at one tracker may take until the other knows it.
const SPREAD_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
const ADDRESS: &str = "127.0.0.1:6000";

/// Announces and looks up for some time on `links` links, half of them at each tracker. Then every announce must have come to
/// both trackers.
pub(in super::super) async fn run(
    cluster: &Cluster,
    crowd: &Arc<Crowd>,
    links: u32,
    time: Duration,
) -> Result<(Rate, bool), BenchError> {
    let mut members = Vec::new();
    for link in 0..links {
        members.push(Member::join(cluster, crowd, link).await?);
    }
    let meter = Meter::start(cluster);
    let (end, mut running, mut tally) = (Instant::now() + time, JoinSet::new(), Tally::default());
    for member in members {
        running.spawn(member.run(end));
    }
    let mut members = running.join_all().await.into_iter().collect::<Result<Vec<_>, BenchError>>()?;
    for member in &mut members {
        tally.add(std::mem::take(&mut member.tally));
    }
    let rate = meter.stop(cluster, &mut tally);
    let is_spread = is_spread(cluster, &members).await?;
    Ok((rate, tally.wrong == 0 && is_spread))
}

/// Announces of the whole crowd, over and over for some time, each round answered by a lookup of the last session at each
/// tracker. Returns announces a second, and whether every session stands at the last of its own then.
pub(in super::super) async fn run_crowd(
    cluster: &Cluster,
    crowd: &Crowd,
    time: Duration,
) -> Result<(f64, bool), BenchError> {
    let (begun, mut rounds) = (Instant::now(), 0u32);
    while rounds == 0 || begun.elapsed() < time {
        let percent = u8::try_from(1 + rounds % 99).unwrap_or(1);
        crowd.announce(percent, false).await?;
        rounds += 1;
        for no in [1, 2] {
            until_at(cluster, crowd, no, percent).await?;
        }
    }
    let per_s = f64::from(rounds) * f64::from(crowd.files() * census::SWARM) / begun.elapsed().as_secs_f64();
    let percent = u8::try_from(1 + (rounds - 1) % 99).unwrap_or(1);
    Ok((per_s, all_at(cluster, crowd, percent).await?))
}

/// Waits until the session that announced last stands at `percent`.
pub(in super::super) async fn until_at(
    cluster: &Cluster,
    crowd: &Crowd,
    no: u16,
    percent: u8,
) -> Result<(), BenchError> {
    let mut line = cluster.line(no, 0, u64::from(no)).await?;
    let (group, file) = crowd::file(crowd.files() - 1);
    loop {
        let peers = swarm(line.ask(Request::GetSwarm { group, file }).await?);
        if peers.len() == census::SWARM as usize && peers.iter().all(|peer| peer.percent == percent) {
            return Ok(());
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Whether every session of the crowd stands at `percent`, at both trackers.
async fn all_at(cluster: &Cluster, crowd: &Crowd, percent: u8) -> Result<bool, BenchError> {
    for no in [1, 2] {
        let mut line = cluster.line(no, 0, u64::from(no)).await?;
        for number in 0..crowd.files() {
            let (group, file) = crowd::file(number);
            let peers = swarm(line.ask(Request::GetSwarm { group, file }).await?);
            let is_right = is_swarm(crowd, number, &peers) && peers.iter().all(|peer| peer.percent == percent);
            if !is_right {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn swarm(answer: Answer) -> Vec<SwarmPeer> {
    match answer {
        Answer::Swarm(peers) => peers,
        _ => Vec::new(),
    }
}

fn is_swarm(crowd: &Crowd, number: u32, peers: &[SwarmPeer]) -> bool {
    peers.iter().map(|peer| &peer.device).eq(crowd.swarm(number))
}

/// One link of the load: a session that announces files of its own, and looks up the crowd's.
struct Member {
    line: Line,
    crowd: Arc<Crowd>,
    first_file: u32,
    rng: ChaCha20Rng,
    /// What it has announced last.
    said: BTreeMap<FileId, u8>,
    tally: Tally,
}

impl Member {
    async fn join(cluster: &Cluster, crowd: &Arc<Crowd>, link: u32) -> Result<Self, BenchError> {
        let no = if link.is_multiple_of(2) { 1 } else { 2 };
        Ok(Self {
            line: cluster.line(no, 0, 100 + u64::from(link)).await?,
            crowd: Arc::clone(crowd),
            first_file: FIRST_OWN_FILE + link * OWN_FILES,
            rng: cluster.env.rng("bench lookups", u64::from(link)),
            said: BTreeMap::new(),
            tally: Tally::default(),
        })
    }

    async fn run(mut self, end: Instant) -> Result<Self, BenchError> {
        let Self { line, crowd, first_file, rng, said, .. } = &mut self;
        let mut turn = 0;
        let put = |line: &mut Line| {
            line.say(announce(*first_file, turn, said));
            turn += 1;
            let number = rng.next_u32() % crowd.files();
            let (group, file) = crowd::file(number);
            (line.put(VersionVector::default(), Request::GetSwarm { group, file }), number)
        };
        let is_right =
            |number, told: Told| !told.stale && told.result.is_ok_and(|answer| is_swarm(crowd, number, &swarm(answer)));
        self.tally = line.keep_asking(end, put, is_right).await?;
        // Each answer says that the announce before it has been taken.
        self.tally.untimed = self.tally.times_us.len() as u64;
        Ok(self)
    }
}

/// The announce of one of a link's own files, which it notes in `said`.
fn announce(first_file: u32, turn: u32, said: &mut BTreeMap<FileId, u8>) -> Presence {
    let file = census::served_file(first_file + turn % OWN_FILES);
    let percent = u8::try_from(turn / OWN_FILES % 101).unwrap_or(100);
    said.insert(file, percent);
    let serving = vec![Serving { group: own_group(), file, percent }];
    Presence { reset: false, address: ADDRESS.to_owned(), serving, ended: Vec::new() }
}

/// Every visitor is a member of every group.
fn own_group() -> GroupId {
    census::group(0)
}

/// Whether both trackers know all that was announced, within [`SPREAD_WITHIN`].
async fn is_spread(cluster: &Cluster, members: &[Member]) -> Result<bool, BenchError> {
    let end = Instant::now() + SPREAD_WITHIN;
    for no in [1, 2] {
        let mut line = cluster.line(no, 0, u64::from(no)).await?;
        for member in members {
            for (file, percent) in &member.said {
                while !stands_at(&mut line, member, *file, *percent).await? {
                    if Instant::now() > end {
                        return Ok(false);
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }
    Ok(true)
}

async fn stands_at(line: &mut Line, member: &Member, file: FileId, percent: u8) -> Result<bool, BenchError> {
    let peers = swarm(line.ask(Request::GetSwarm { group: own_group(), file }).await?);
    Ok(matches!(&peers[..], [peer] if peer.device == member.line.device() && peer.percent == percent))
}
