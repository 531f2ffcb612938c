//! One new file from some peers to some others, measured: what moves in every scenario about transfers.

use std::path::PathBuf;

use tokio::{task::JoinSet, time::Instant};

use super::{
    BenchError,
    payload::{blake3_of, generate},
    process::Process,
    report::Cost,
    stage::{GROUP, Stage, total, word},
};

const FILE_NAME: &str = "payload.bin";

/// A file, how large it is, and between how many it moves.
pub(super) struct Delivery<'a> {
    pub(super) size: u64,
    pub(super) seeders: u32,
    pub(super) leechers: u32,
    /// Options of every client.
    pub(super) options: &'a [&'a str],
}

/// A file that has been delivered to all.
pub(super) struct Delivered {
    /// Those who had it from the start.
    pub(super) seeders: Vec<Process>,
    /// Bytes delivered: the file's size times the leechers.
    pub(super) bytes: u64,
    /// Seconds from the first `download_file` until the last leecher had all.
    pub(super) wall_s: f64,
    /// What that cost; verified where every copy is byte for byte what was shared.
    pub(super) cost: Cost,
}

impl Delivery<'_> {
    /// Starts every peer, moves the file, and measures.
    pub(super) async fn run(&self, stage: &Stage) -> Result<Delivered, BenchError> {
        let payload = stage.path(FILE_NAME);
        let hash = generate(&payload, self.size).map_err(BenchError::io("write the file to share"))?;
        let mut seeders = stage.start_peers("seeder", self.seeders, self.options).await?;
        let mut leechers = stage.start_peers("leecher", self.leechers, self.options).await?;
        let (owner, others) = seeders.split_first_mut().expect("there is at least one seeder");
        gather(owner, others.iter_mut().chain(&mut leechers)).await?;
        for seeder in &mut seeders {
            seeder.ask(&format!("upload_file {} {GROUP}", word(&payload))).await?;
        }

        let before = total(seeders.iter().chain(&leechers)).cpu_s;
        let start = Instant::now();
        let (leechers, copies) = download(stage, leechers).await?;
        let wall_s = start.elapsed().as_secs_f64();
        let mut usage = total(seeders.iter().chain(&leechers));
        usage.cpu_s -= before;

        let verified = copies.iter().all(|copy| blake3_of(copy).is_ok_and(|found| found == hash));
        let bytes = self.size * u64::from(self.leechers);
        Ok(Delivered { seeders, bytes, wall_s, cost: Cost::new(bytes, usage, verified) })
    }
}

/// Brings all peers into one group, which the first one owns.
pub(super) async fn gather(owner: &mut Process, others: impl Iterator<Item = &mut Process>) -> Result<(), BenchError> {
    owner.ask(&format!("create_group {GROUP}")).await?;
    for peer in others {
        peer.ask(&format!("join_group {GROUP}")).await?;
    }
    let requests = owner.ask(&format!("list_requests {GROUP}")).await?;
    for request in requests["requests"].as_array().into_iter().flatten() {
        let user = request["user"].as_str().unwrap_or_default();
        owner.ask(&format!("accept_request {GROUP} {user}")).await?;
    }
    Ok(())
}

/// Lets all `peers` fetch the file at the same time, each into a folder of its own; returns them, and where their copies are,
/// when the last one has it.
async fn download(stage: &Stage, peers: Vec<Process>) -> Result<(Vec<Process>, Vec<PathBuf>), BenchError> {
    let (mut running, mut copies) = (JoinSet::new(), Vec::new());
    for (index, mut peer) in (0..).zip(peers) {
        let folder = make_folder(stage, index)?;
        copies.push(folder.join(FILE_NAME));
        let commands =
            [format!("download_file {GROUP} {FILE_NAME} {}", word(&folder)), format!("wait {GROUP} {FILE_NAME}")];
        running.spawn(async move {
            for command in commands {
                peer.ask(&command).await?;
            }
            Ok(peer)
        });
    }
    let peers: Result<_, BenchError> = running.join_all().await.into_iter().collect();
    Ok((peers?, copies))
}

/// A new folder for the copies of one leecher.
pub(super) fn make_folder(stage: &Stage, leecher: u32) -> Result<PathBuf, BenchError> {
    let folder = stage.path(&format!("copy-{leecher}"));
    #[expect(clippy::disallowed_methods, reason = "for processes that are watched from outside")]
    std::fs::create_dir(&folder).map_err(BenchError::io("make a folder for a copy"))?;
    Ok(folder)
}
