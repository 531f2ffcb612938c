//! How soon a small file is there: from the command to the last byte in place, on a swarm where nothing else moves.

use serde::Serialize;
use tokio::time::Instant;

use super::{
    BenchError, Common,
    delivery::{gather, make_folder},
    payload::{blake3_of, generate, parse_size},
    process::Process,
    report::{self, MIB, float, round, verdict},
    stage::{GROUP, Stage, word},
};

/// Files that each leecher fetches: one that it must connect for, one when the link stands.
const FILES: [&str; 2] = ["first.bin", "second.bin"];

/// What is to be fetched, how often, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Size of each file, 16MiB to 16GiB
    #[arg(long, default_value = "16MiB", value_parser = parse_size)]
    pub size: u64,
    /// Leechers, one after the other
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Where, and how it is told.
    #[command(flatten)]
    pub common: Common,
}

/// The measurements. Times are in milliseconds, each from `download_file` until `wait` says that the file is in place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Bytes of each file.
    pub size: u64,
    /// Leechers that fetched it.
    pub runs: u32,
    /// Median of downloads by a client that is logged in and linked to nobody.
    pub first_ms: f64,
    /// The slowest of them.
    pub first_worst_ms: f64,
    /// Median of downloads by a client that is linked to the seeder already.
    pub second_ms: f64,
    /// The slowest of them.
    pub second_worst_ms: f64,
    /// Whether every copy is byte for byte what was shared.
    pub verified: bool,
}

impl report::Report for Report {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let times = |median: f64, worst: f64| format!("{median:.1} ms, the slowest {worst:.1} ms");
        vec![
            ("file", format!("{:.0} MiB", float(self.size) / MIB)),
            ("leechers", self.runs.to_string()),
            ("not linked", times(self.first_ms, self.first_worst_ms)),
            ("linked", times(self.second_ms, self.second_worst_ms)),
            ("bytes", verdict(self.verified)),
        ]
    }

    fn is_verified(&self) -> bool {
        self.verified
    }
}

/// Starts a seeder and one leecher after the other, and measures.
pub(super) async fn run(options: &Options) -> Result<Report, BenchError> {
    let stage = Stage::set(options.common.dir.as_deref())?;
    let mut seeder = stage.start_peers("seeder", 1, &[]).await?.pop().expect("one was started");
    gather(&mut seeder, [].iter_mut()).await?;
    let mut expected = None;
    for name in FILES {
        let path = stage.path(name);
        expected = Some(generate(&path, options.size).map_err(BenchError::io("write a file to share"))?);
        seeder.ask(&format!("upload_file {} {GROUP}", word(&path))).await?;
    }

    let (mut times, mut verified) = ([Vec::new(), Vec::new()], true);
    for run in 0..options.runs {
        let mut leecher = stage.start_peers(&format!("leecher-{run}"), 1, &[]).await?.pop().expect("one was started");
        join(&mut seeder, &mut leecher).await?;
        let folder = make_folder(&stage, run)?;
        for (name, times) in FILES.iter().zip(&mut times) {
            times.push(download(&mut leecher, name, &word(&folder)).await?);
            verified &= blake3_of(&folder.join(name)).ok() == expected;
        }
        leecher.ask("logout").await?;
    }
    let [first, second] = times.map(median_and_worst);
    Ok(Report {
        size: options.size,
        runs: options.runs,
        first_ms: first.0,
        first_worst_ms: first.1,
        second_ms: second.0,
        second_worst_ms: second.1,
        verified,
    })
}

async fn join(owner: &mut Process, peer: &mut Process) -> Result<(), BenchError> {
    peer.ask(&format!("join_group {GROUP}")).await?;
    let user = peer.ask("whoami").await?["user"].as_str().unwrap_or_default().to_owned();
    owner.ask(&format!("accept_request {GROUP} {user}")).await.map(drop)
}

/// Milliseconds that one download takes.
async fn download(peer: &mut Process, name: &str, folder: &str) -> Result<f64, BenchError> {
    let start = Instant::now();
    peer.ask(&format!("download_file {GROUP} {name} {folder}")).await?;
    peer.ask(&format!("wait {GROUP} {name}")).await?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

fn median_and_worst(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (round(times[times.len() / 2]), round(times[times.len() - 1]))
}
