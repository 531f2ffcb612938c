//! One file from some seeders to some leechers, all on this machine.

use serde::Serialize;

use super::{
    BenchError,
    delivery::{Delivered, Delivery},
    payload::parse_size,
    plot::Axis,
    report::{self, Cost, GIB, MIB, float, round},
    stage::Stage,
    sweep::{self, Curves, Swept},
};

/// What is to be transferred, between how many, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Size of the file, 16MiB to 16GiB
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    pub size: u64,
    /// Peers that have the file from the start
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub seeders: u32,
    /// Peers that fetch it, or several numbers of them: 1,2,4
    #[arg(long, default_value = "1", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=64))]
    pub leechers: Vec<u32>,
    /// Where, and how it is told.
    #[command(flatten)]
    pub told: Swept,
}

/// The measurements of one transfer. The member names are part of the command contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Peers that had the file from the start.
    pub seeders: u32,
    /// Peers that fetched it.
    pub leechers: u32,
    /// Bytes delivered: the file's size times the leechers.
    pub bytes: u64,
    /// Seconds from the first `download_file` until the last leecher had all.
    pub wall_s: f64,
    /// Bytes delivered in a second of wall time, in MiB.
    pub mib_per_s: f64,
    /// What they cost, of all peers; verified where every copy is byte for byte what was shared.
    #[serde(flatten)]
    pub cost: Cost,
}

impl report::Report for Report {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let own = [
            ("seeders", self.seeders.to_string()),
            ("leechers", self.leechers.to_string()),
            ("delivered", format!("{:.2} GiB", float(self.bytes) / GIB)),
            ("wall", format!("{:.2} s", self.wall_s)),
            ("rate", format!("{:.1} MiB/s", self.mib_per_s)),
        ];
        own.into_iter().chain(self.cost.rows()).collect()
    }

    fn is_verified(&self) -> bool {
        self.cost.verified
    }
}

const CURVES: Curves<Report> = Curves {
    title: "One file to many peers on one machine",
    x: "leechers",
    y: Axis { label: "MiB delivered in a second", is_log: false, from: Some(0.0) },
    target: None,
    lines: &[("all together", |it| it.mib_per_s), ("each", |it| it.mib_per_s / f64::from(it.leechers))],
};

/// Measures with each number of leechers.
pub(super) async fn run(options: &Options) -> Result<bool, BenchError> {
    sweep::over(&options.leechers, &options.told, &CURVES, async |leechers| measure(options, leechers).await).await
}

/// Starts every peer, moves the file, and measures.
async fn measure(options: &Options, leechers: u32) -> Result<Report, BenchError> {
    let Options { size, seeders, .. } = *options;
    let stage = Stage::set(options.told.common.dir.as_deref())?;
    let delivery = Delivery { size, seeders, leechers, options: &[] };
    let Delivered { bytes, wall_s, cost, .. } = delivery.run(&stage).await?;
    Ok(Report { seeders, leechers, bytes, wall_s: round(wall_s), mib_per_s: round(float(bytes) / MIB / wall_s), cost })
}

#[cfg(test)]
mod tests {
    use super::{super::process::Usage, report::Report as _, *};

    #[test]
    fn the_json_members_are_those_of_the_contract() {
        let cost = Cost::new(2 << 30, Usage { cpu_s: 5.0, peak_bytes: 100 << 20, resident_bytes: 0 }, true);
        let report = Report { seeders: 4, leechers: 2, bytes: 2 << 30, wall_s: 4.0, mib_per_s: 512.0, cost };
        let mut out = Vec::new();
        report.write(true, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap().trim(), @r#"{"seeders":4,"leechers":2,"bytes":2147483648,"wall_s":4.0,"mib_per_s":512.0,"cpu_s_per_gib":2.5,"peak_mib":100.0,"verified":true}"#);
    }
}
