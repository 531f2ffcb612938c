//! A crowd on two synchronized trackers: announces and lookups, logins, writes, and the memory that idle ones take.

use std::sync::Arc;

use serde::Serialize;

use super::{
    BenchError,
    plot::Axis,
    report::{self, MIB, float, round, verdict},
    sweep::{self, Curves, Swept},
    town::{
        Load,
        census::{Census, MEMBERS},
        cluster::Cluster,
        crowd::Crowd,
        idle,
        meter::Rate,
        presence, writes,
    },
};

/// How many there are, and for how long they are at it.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Sessions that are online, rounded up to whole groups of 20, or several numbers of them: 100,1000,10000
    #[arg(long, default_value = "1000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: Vec<u32>,
    /// How much of it.
    #[command(flatten)]
    pub load: Load,
    /// Encrypted connections that are opened and left idle, to weigh them
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Where, and how it is told.
    #[command(flatten)]
    pub told: Swept,
}

/// The measurements. The member names are part of the command contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Sessions online.
    pub sessions: u32,
    /// Connections that carried the load.
    pub links: u32,
    /// Announces and lookups on these links, half of each.
    pub presence: Rate,
    /// Announces of the sessions in a second, as another tracker passes them on to both.
    pub crowd_per_s: f64,
    /// Resident bytes that one tracker takes for a session that is online and serves a file.
    pub session_bytes: f64,
    /// Logins with a password.
    pub logins: Rate,
    /// Writes to groups: durable at both trackers when they are answered.
    pub writes: Rate,
    /// Connections that were opened and left idle.
    pub connections: u32,
    /// Of these, opened in a second: handshake, hello and session.
    pub opened_per_s: f64,
    /// Resident bytes that one tracker takes for each.
    pub connection_bytes: f64,
    /// Most memory that one tracker held at any moment (resident), in MiB.
    pub peak_mib: f64,
    /// Whether every answer was right, and everything announced and written was at both trackers in the end.
    pub verified: bool,
}

impl report::Report for Report {
    fn rows(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sessions", self.sessions.to_string()),
            ("links", self.links.to_string()),
            ("presence", self.presence.told("announces and lookups")),
            ("crowd", format!("{:.0} announces a second by way of a third tracker", self.crowd_per_s)),
            ("session", format!("{:.0} bytes each, idle", self.session_bytes)),
            ("logins", self.logins.told("with a password")),
            ("writes", self.writes.told("durable at both")),
            (
                "connections",
                format!(
                    "{} opened, {:.0} a second; {:.1} KiB each, idle",
                    self.connections,
                    self.opened_per_s,
                    self.connection_bytes / 1024.0
                ),
            ),
            ("peak memory", format!("{:.1} MiB, the larger tracker", self.peak_mib)),
            ("answers", verdict(self.verified)),
        ]
    }

    fn is_verified(&self) -> bool {
        self.verified
    }
}

const CURVES: Curves<Report> = Curves {
    title: "What two trackers carry",
    x: "sessions online",
    y: Axis { label: "a second", is_log: true, from: None },
    target: None,
    lines: &[
        ("announces, lookups", |it| it.presence.per_s),
        ("announces passed on", |it| it.crowd_per_s),
        ("durable writes", |it| it.writes.per_s),
        ("logins", |it| it.logins.per_s),
    ],
};

/// Measures with each number of sessions.
pub(super) async fn run(options: &Options) -> Result<bool, BenchError> {
    sweep::over(&options.sessions, &options.told, &CURVES, async |sessions| measure(options, sessions).await).await
}

/// Starts both trackers and measures one load after the other.
async fn measure(options: &Options, sessions: u32) -> Result<Report, BenchError> {
    let sessions = sessions.next_multiple_of(MEMBERS);
    let (Load { links, writers, .. }, time) = (options.load, options.load.time());
    let cluster = Arc::new(Cluster::run(options.told.common.dir.as_deref(), Census::of_sessions(sessions)).await?);

    let (writes, are_kept) = writes::run(&cluster, links, writers, time).await?;
    let (logins, are_in) = writes::log_in(&cluster, time).await?;

    // What was written is looked through for something to forget, which takes memory for itself.
    cluster.rest().await;
    let before = cluster.usage(1).resident_bytes;
    let crowd = Arc::new(Crowd::gather(&cluster, sessions).await?);
    crowd.announce(0, true).await?;
    for no in [1, 2] {
        presence::until_at(&cluster, &crowd, no, 0).await?;
    }
    let session_bytes = float(cluster.settled(1).await.saturating_sub(before)) / f64::from(sessions);
    let (crowd_per_s, all_said) = presence::run_crowd(&cluster, &crowd, time).await?;
    let (presence, all_found) = presence::run(&cluster, &crowd, links, time).await?;
    drop(crowd);

    let idle = idle::run(&cluster, options.connections).await?;
    let peak_bytes = cluster.usage(1).peak_bytes.max(cluster.usage(2).peak_bytes);
    Ok(Report {
        sessions,
        links,
        presence,
        crowd_per_s: round(crowd_per_s),
        session_bytes: round(session_bytes),
        logins,
        writes,
        connections: options.connections,
        opened_per_s: round(idle.opened_per_s),
        connection_bytes: round(idle.bytes),
        peak_mib: round(float(peak_bytes) / MIB),
        verified: are_kept && are_in && all_said && all_found,
    })
}
