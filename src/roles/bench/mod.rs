//! Load tests of local swarms: one file a scenario. Every party is a process of its own, run and measured from the outside.

pub mod catalog;
pub mod hash;
pub mod plot;
pub mod report;
pub mod start;
pub mod swarm;
pub mod tracker;
pub mod transfer;

mod delivery;
mod payload;
mod process;
mod stage;
mod sweep;
pub mod town;

use std::{io, path::PathBuf};

use report::Report;

/// A scenario with its options.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Scenario {
    /// One file from some seeders to some leechers on this machine: rate, CPU, memory, and whether the bytes are right
    Transfer(transfer::Options),
    /// A small file from one seeder to one leecher at a time: how soon it is there
    Start(start::Options),
    /// One file from one seeder to many leechers with equal uplinks: how near the least possible time
    Swarm(swarm::Options),
    /// Files hashed for `upload_file`, all hashes in one pass
    Hash(hash::Options),
    /// A crowd on two synchronized trackers: announces and lookups, logins, durable writes, memory of idle ones
    Tracker(tracker::Options),
    /// A large catalog, and a hundredth of it: how soon a tracker starts with it and another has it, what operations cost
    Catalog(catalog::Options),
}

/// What nearly all scenarios can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Folder for the files [default: /dev/shm, or the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Why a load test could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A process could not be started, spoken to or measured, or a file could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A process ended, or went silent, before it answered.
    #[error("{name} gave no answer to `{command}`; its log ends: {log_end}")]
    NoAnswer {
        /// Which process.
        name: String,
        /// What it was asked.
        command: String,
        /// The last lines of its log.
        log_end: String,
    },
    /// A command was refused.
    #[error("{name} refused `{command}`: {answer}")]
    Refused {
        /// Which process.
        name: String,
        /// What it was asked.
        command: String,
        /// What it answered.
        answer: String,
    },
}

impl BenchError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Runs a scenario and writes its reports to standard output, each a table or one JSON object in a line.
///
/// The answer is whether all bytes and hashes are as they should be.
pub async fn run(scenario: Scenario) -> Result<bool, BenchError> {
    match scenario {
        Scenario::Transfer(options) => transfer::run(&options).await,
        Scenario::Start(options) => tell(&start::run(&options).await?, options.common.json),
        Scenario::Swarm(options) => swarm::run(&options).await,
        Scenario::Hash(options) => tell(&hash::run(&options).await?, options.json),
        Scenario::Tracker(options) => tracker::run(&options).await,
        Scenario::Catalog(options) => catalog::run(&options).await,
    }
}

fn tell(report: &impl Report, json: bool) -> Result<bool, BenchError> {
    report.write(json, &mut io::stdout().lock()).map_err(BenchError::io("write the report"))?;
    Ok(report.is_verified())
}
