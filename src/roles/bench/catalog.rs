//! A catalog and a hundredth of it, each on two trackers: start, synchronization, memory, and what operations cost.

use serde::Serialize;
use tokio::time::Instant;

use super::{
    BenchError,
    plot::Axis,
    report::{self, MIB, float, round, verdict},
    sweep::{self, Curves, Swept},
    town::{Load, census::Census, cluster::Cluster, lookups, meter::Rate, writes},
};

/// How large, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Shares, each of a file of its own; there is a user for every 10 of them and a group for every 100; or several numbers of them: 10000,100000
    #[arg(long, default_value = "100000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    pub shares: Vec<u32>,
    /// How much of it.
    #[command(flatten)]
    pub load: Load,
    /// Where, and how it is told.
    #[command(flatten)]
    pub told: Swept,
}

/// The measurements. The member names are part of the command contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Of a hundredth.
    pub small: Size,
    /// Of the whole.
    pub large: Size,
    /// How many times as much processor time a lookup takes in the whole.
    pub lookup_ratio: f64,
    /// How many times as much processor time a write takes in the whole.
    pub write_ratio: f64,
    /// Whether every answer was right, and everything written was at both trackers in the end.
    pub verified: bool,
}

/// The measurements of one catalog.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Size {
    /// Accounts.
    pub users: u32,
    /// Groups.
    pub groups: u32,
    /// Shares, each of a file of its own.
    pub shares: u32,
    /// A tracker's log and manifest pages on disk, in MiB.
    pub disk_mib: f64,
    /// Seconds from the start of a tracker that has it all until it answers a client.
    pub start_s: f64,
    /// Seconds of its processor time.
    pub start_cpu_s: f64,
    /// Seconds from the start of an empty tracker until it has confirmed all.
    pub sync_s: f64,
    /// Seconds of processor time of both trackers meanwhile.
    pub sync_cpu_s: f64,
    /// Seconds of processor time that both took after that, until there was nothing left to do: operations are measured then.
    pub rest_cpu_s: f64,
    /// Memory of the tracker that started with it (resident), in MiB.
    pub resident_mib: f64,
    /// Files looked up by name.
    pub lookups: Rate,
    /// Writes to groups: durable at both trackers when they are answered.
    pub writes: Rate,
}

impl report::Report for Report {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let both = |what: fn(&Size) -> String| format!("{}; a hundredth: {}", what(&self.large), what(&self.small));
        vec![
            ("catalog", both(|size| format!("{} users, {} groups, {} shares", size.users, size.groups, size.shares))),
            ("disk", both(|size| format!("{:.1} MiB", size.disk_mib))),
            ("start", both(|size| format!("{:.2} s, {:.2} of a processor", size.start_s, size.start_cpu_s))),
            ("sync", both(|size| format!("{:.2} s, {:.2} of a processor at both", size.sync_s, size.sync_cpu_s))),
            ("until at rest", both(|size| format!("{:.2} s of a processor at both", size.rest_cpu_s))),
            ("memory", both(|size| format!("{:.1} MiB", size.resident_mib))),
            ("lookups", self.large.lookups.told("of a file")),
            ("a hundredth", self.small.lookups.told("of a file")),
            ("writes", self.large.writes.told("durable at both")),
            ("a hundredth", self.small.writes.told("durable at both")),
            ("a lookup costs", format!("{:.3} of what it costs in a hundredth", self.lookup_ratio)),
            ("a write costs", format!("{:.3} of what it costs in a hundredth", self.write_ratio)),
            ("answers", verdict(self.verified)),
        ]
    }

    fn is_verified(&self) -> bool {
        self.verified
    }
}

const CURVES: Curves<Report> = Curves {
    title: "What a catalog costs two trackers",
    x: "shares",
    y: Axis { label: "seconds", is_log: true, from: None },
    target: None,
    lines: &[("start", |it| it.large.start_s), ("sync to an empty tracker", |it| it.large.sync_s)],
};

/// Measures with each number of shares.
pub(super) async fn run(options: &Options) -> Result<bool, BenchError> {
    sweep::over(&options.shares, &options.told, &CURVES, async |shares| compare(options, shares).await).await
}

/// Measures the hundredth, then the whole.
async fn compare(options: &Options, shares: u32) -> Result<Report, BenchError> {
    let (small, is_small_right) = measure(options, shares / 100).await?;
    let (large, is_large_right) = measure(options, shares).await?;
    let ratio = |cost: fn(&Size) -> f64| round(cost(&large) / cost(&small).max(f64::MIN_POSITIVE));
    let lookup_ratio = ratio(|size| size.lookups.trackers_us);
    let write_ratio = ratio(|size| size.writes.trackers_us);
    Ok(Report { lookup_ratio, write_ratio, verified: is_small_right && is_large_right, small, large })
}

async fn measure(options: &Options, shares: u32) -> Result<(Size, bool), BenchError> {
    let (Load { links, writers, .. }, time) = (options.load, options.load.time());
    let census = Census::of_shares(shares);
    let mut cluster = Cluster::found(options.told.common.dir.as_deref(), census, 2)?;
    let start_s = cluster.start(1).await?.as_secs_f64();
    let start_cpu_s = cluster.cpu_s();
    let resident = cluster.settled(1).await;
    let (begun, before_s) = (Instant::now(), cluster.cpu_s());
    cluster.start(2).await?;
    cluster.until_synced().await?;
    let (sync_s, sync_cpu_s) = (begun.elapsed().as_secs_f64(), cluster.cpu_s() - before_s);
    let disk = cluster.disk_bytes(1);
    let rest_cpu_s = cluster.rest().await;
    let (lookups, all_found) = lookups::run(&cluster, links, time).await?;
    let (writes, all_kept) = writes::run(&cluster, links, writers, time).await?;
    let size = Size {
        users: census.residents,
        groups: census.groups,
        shares,
        disk_mib: round(float(disk) / MIB),
        start_s: round(start_s),
        start_cpu_s: round(start_cpu_s),
        sync_s: round(sync_s),
        sync_cpu_s: round(sync_cpu_s),
        rest_cpu_s: round(rest_cpu_s),
        resident_mib: round(float(resident) / MIB),
        lookups,
        writes,
    };
    Ok((size, all_found && all_kept))
}
