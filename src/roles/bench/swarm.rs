//! One seeder and many leechers whose uplinks are equal and the bottleneck: how near the swarm comes to the least time there is.

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
use crate::{protocol::piece::piece_count, roles::client::command::Rate};

/// How many fetch what, and how fast each may send.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Peers that fetch the file from one that has it, and from each other, or several numbers of them: 1,4,16
    #[arg(long, default_value = "16", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=256))]
    pub leechers: Vec<u32>,
    /// Size of the file, 16MiB to 16GiB
    #[arg(long, default_value = "32MiB", value_parser = parse_size)]
    pub size: u64,
    /// Most bytes a second that each peer sends: 4MiB, 500KB
    #[arg(long, default_value = "4MiB", value_name = "RATE", value_parser = parse_limit)]
    pub up_limit: Rate,
    /// Where, and how it is told.
    #[command(flatten)]
    pub told: Swept,
}

fn parse_limit(text: &str) -> Result<Rate, String> {
    match text.parse()? {
        Rate(0) => Err("without a limit there is no least time: give a rate, such as 4MiB".to_owned()),
        rate => Ok(rate),
    }
}

/// The measurements of one swarm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Peers that fetched the file.
    pub leechers: u32,
    /// Its pieces.
    pub pieces: u32,
    /// Bytes a second that each peer may send.
    pub up_limit: u64,
    /// Bytes delivered: the file's size times the leechers.
    pub bytes: u64,
    /// Seconds from the first `download_file` until the last leecher had all.
    pub wall_s: f64,
    /// The least that this can take, in seconds.
    pub bound_s: f64,
    /// How many times that it took.
    pub ratio: f64,
    /// How often the seeder sent the file's size.
    pub seeder_copies: f64,
    /// What they cost, of all peers; verified where every copy is byte for byte what was shared.
    #[serde(flatten)]
    pub cost: Cost,
}

impl report::Report for Report {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let own = [
            ("leechers", self.leechers.to_string()),
            ("pieces", self.pieces.to_string()),
            ("uplinks", format!("{:.2} MiB/s each", float(self.up_limit) / MIB)),
            ("delivered", format!("{:.2} GiB", float(self.bytes) / GIB)),
            ("wall", format!("{:.2} s", self.wall_s)),
            ("least", format!("{:.2} s", self.bound_s)),
            ("ratio", format!("{:.3}", self.ratio)),
            ("seeder sent", format!("{:.3} copies", self.seeder_copies)),
        ];
        own.into_iter().chain(self.cost.rows()).collect()
    }

    fn is_verified(&self) -> bool {
        self.cost.verified
    }
}

/// The least time in which `leechers` can have `pieces` whole pieces where all uplinks, the seeder's too, are equal and the
/// bottleneck, in times that one uplink takes for the file (Mundinger, Weber, Weiss: Optimal scheduling of peer-to-peer file
/// dissemination, 2008).
fn bound(leechers: u32, pieces: u32) -> f64 {
    1.0 + f64::from(leechers.max(1).ilog2()) / f64::from(pieces.max(1))
}

const CURVES: Curves<Report> = Curves {
    title: "How near a swarm comes to the least possible time",
    x: "leechers",
    y: Axis { label: "time over the least possible", is_log: false, from: Some(1.0) },
    target: None,
    lines: &[("last completion", |it| it.ratio), ("copies from the seeder", |it| it.seeder_copies)],
};

/// Measures with each number of leechers.
pub(super) async fn run(options: &Options) -> Result<bool, BenchError> {
    sweep::over(&options.leechers, &options.told, &CURVES, async |leechers| measure(options, leechers).await).await
}

/// Starts every peer, spreads the file, and measures.
async fn measure(options: &Options, leechers: u32) -> Result<Report, BenchError> {
    let limit = options.up_limit.0.to_string();
    let limited = ["--upload-limit", &limit];
    let stage = Stage::set(options.told.common.dir.as_deref())?;
    let delivery = Delivery { size: options.size, seeders: 1, leechers, options: &limited };
    let Delivered { mut seeders, bytes, wall_s, cost } = delivery.run(&stage).await?;
    let uploaded = seeders[0].ask("show_shares").await?["shares"][0]["uploaded"].as_u64().unwrap_or_default();
    let pieces = piece_count(options.size);
    let bound_s = bound(leechers, pieces) * float(options.size) / float(options.up_limit.0);
    Ok(Report {
        leechers,
        pieces,
        up_limit: options.up_limit.0,
        bytes,
        wall_s: round(wall_s),
        bound_s: round(bound_s),
        ratio: round(wall_s / bound_s),
        seeder_copies: round(float(uploaded) / float(options.size)),
        cost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_time_is_that_of_whole_pieces() {
        for (leechers, pieces, times) in [(1, 16, 1.0), (2, 64, 1.015_625), (16, 64, 1.0625), (64, 256, 1.023_437_5)] {
            assert!((bound(leechers, pieces) - times).abs() < 1e-9, "{leechers} {pieces}");
        }
    }

    #[test]
    fn a_swarm_needs_a_limit() {
        assert_eq!(parse_limit("4MiB"), Ok(Rate(4 << 20)));
        assert!(parse_limit("0").is_err() && parse_limit("fast").is_err());
    }
}
