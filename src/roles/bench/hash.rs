//! `upload_file` of one file, or of several at once: reading, and all hashes.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use super::{
    BenchError,
    payload::sha1_of,
    process::Process,
    report::{self, Cost, GIB, float, round},
    stage::{GROUP, Stage, total, word},
};

/// What is hashed.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Files to hash; each in a client of its own, all at once
    #[arg(required = true, num_args = 1..=16, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The measurements.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Files hashed at once.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Seconds from the first `upload_file` to the last answer.
    pub wall_s: f64,
    /// GiB hashed in a second: SHA-1 of each piece and of the whole, BLAKE3.
    pub gib_per_s: f64,
    /// What they cost; verified where every SHA-1 is what another implementation finds.
    #[serde(flatten)]
    pub cost: Cost,
}

impl report::Report for Report {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let own = [
            ("files", self.files.to_string()),
            ("hashed", format!("{:.2} GiB", float(self.bytes) / GIB)),
            ("wall", format!("{:.2} s", self.wall_s)),
            ("rate", format!("{:.2} GiB/s", self.gib_per_s)),
        ];
        own.into_iter().chain(self.cost.rows()).collect()
    }

    fn is_verified(&self) -> bool {
        self.cost.verified
    }
}

/// What one client found.
struct Found {
    client: Process,
    bytes: u64,
    is_right: bool,
}

/// Starts a client for each file, shares them all at once, and measures.
pub(super) async fn run(options: &Options) -> Result<Report, BenchError> {
    let paths: Vec<PathBuf> = options
        .files
        .iter()
        .map(|file| std::path::absolute(file).map_err(BenchError::io(format!("find {}", file.display()))))
        .collect::<Result<_, _>>()?;
    let expected: Vec<String> = paths
        .iter()
        .map(|path| sha1_of(path).map_err(BenchError::io(format!("read {}", path.display()))))
        .collect::<Result<_, _>>()?;
    let stage = Stage::set(None)?;
    let count = u32::try_from(paths.len()).unwrap_or(u32::MAX);
    let mut clients = stage.start_peers("client", count, &[]).await?;
    for (index, client) in clients.iter_mut().enumerate() {
        client.ask(&format!("create_group {GROUP}-{index}")).await?;
    }

    let before = total(clients.iter()).cpu_s;
    let start = Instant::now();
    let mut running = JoinSet::new();
    for (index, (client, (path, sha1))) in clients.into_iter().zip(paths.into_iter().zip(expected)).enumerate() {
        running.spawn(async move { share(client, index, &path, &sha1).await });
    }
    let found: Vec<Found> = running.join_all().await.into_iter().collect::<Result<_, _>>()?;
    let wall_s = start.elapsed().as_secs_f64();
    let mut usage = total(found.iter().map(|found| &found.client));
    usage.cpu_s -= before;

    let bytes = found.iter().map(|found| found.bytes).sum();
    Ok(Report {
        files: found.len(),
        bytes,
        wall_s: round(wall_s),
        gib_per_s: round(float(bytes) / GIB / wall_s),
        cost: Cost::new(bytes, usage, found.iter().all(|found| found.is_right)),
    })
}

async fn share(mut client: Process, index: usize, path: &Path, sha1: &str) -> Result<Found, BenchError> {
    let answer = client.ask(&format!("upload_file {} {GROUP}-{index}", word(path))).await?;
    let bytes = answer["size"].as_u64().unwrap_or_default();
    Ok(Found { client, bytes, is_right: answer["sha1"] == sha1 })
}
