//! The command line: definitions only. Arguments become domain types here, so that nobody validates them again.
#![expect(clippy::doc_markdown, reason = "clap shows these comments as they are written")]

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{
    console::ColorChoice,
    protocol::{
        ids::TrackerNo,
        name::UserName,
        readmission::Readmission,
        tracker_info::{MAX_TRACKER_FILE, TrackerInfo, TrackerInfoError},
    },
    roles::{bench::Scenario, client::command::Rate},
    telemetry::{LogFilter, LogFormat},
};

/// What `p2p` is asked to do.
#[derive(Debug, Parser)]
#[command(
    name = "p2p",
    version,
    about = "Share files in groups, directly between your machines",
    long_about = "Share files in groups, directly between your machines.\n\n\
        A few trackers keep accounts, groups and who has which file, in agreement with each other; any one of them is enough. \
        Clients share and fetch the files themselves, in pieces from many others at once, encrypted and verified.",
    after_help = "Try it without setting anything up:  p2p demo",
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// What to run.
    #[command(subcommand)]
    pub role: Role,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Where this tracker or client keeps its state [default: a folder of its own among the user's state files]
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// What to log: off, error, warn, info, debug, trace, or a filter such as p2p::transport=debug
    #[arg(long, value_name = "LEVEL|FILTER", global = true)]
    pub log: Option<LogFilter>,
    /// How log lines look
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT", global = true)]
    pub log_format: LogFormat,
    /// Write the log to a file instead of standard error
    #[arg(long, value_name = "FILE", global = true)]
    pub log_file: Option<PathBuf>,
    /// When to use colour
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN", global = true)]
    pub color: ColorChoice,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Run a tracker: it keeps accounts, groups and who has which file
    Tracker(TrackerArgs),
    /// Run a client: share files, and fetch those of others
    Client(Box<ClientArgs>),
    /// Measure transfers between trackers and clients started on this machine
    Bench {
        /// What to measure.
        #[command(subcommand)]
        scenario: Scenario,
    },
    /// See it work: trackers, clients and a download on this machine, explained step by step
    Demo(DemoArgs),
    /// Print the completions of a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man,
}

/// Arguments of `p2p tracker`.
#[derive(Clone, Debug, Args)]
pub struct TrackerArgs {
    /// The file that lists the trackers, one IP:PORT a line
    #[arg(value_name = "TRACKER_INFO", value_parser = read_tracker_info)]
    pub trackers: TrackerInfo,
    /// Which line of the file this tracker is, from 1
    #[arg(value_name = "TRACKER_NO", value_parser = parse_tracker_no)]
    pub no: TrackerNo,
    /// Listen here when it differs from the listed address
    #[arg(long, value_name = "IP:PORT")]
    pub bind: Option<SocketAddr>,
    /// Print this tracker's public key, as tracker_info.txt may pin it behind the address, and do not run
    #[arg(long)]
    pub show_key: bool,
    /// Accept another key of tracker NO, whose disk was lost: KEY, or the first one it shows. Say it once, to every other tracker
    #[arg(long, value_name = "NO[=KEY]")]
    pub readmit: Vec<Readmission>,
    /// Serve figures for Prometheus here, at /metrics
    #[arg(long, value_name = "IP:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Let any client take any share of this tracker: for load tests
    #[arg(long, hide = true)]
    pub no_limits: bool,
}

/// Arguments of `p2p client`.
#[derive(Clone, Debug, Args)]
pub struct ClientArgs {
    /// Serve pieces to others at this address; port 0 lets the system choose one
    #[arg(value_name = "IP:PORT")]
    pub address: SocketAddr,
    /// The file that lists the trackers, one IP:PORT a line
    #[arg(value_name = "TRACKER_INFO", value_parser = read_tracker_info)]
    pub trackers: TrackerInfo,
    /// Run these commands instead of reading them; `;` parts them. May repeat
    #[arg(short = 'c', long = "command", value_name = "CMDS")]
    pub commands: Vec<String>,
    /// Answer in JSON: one object a command, in order
    #[arg(long)]
    pub json: bool,
    /// Keep sharing after the last command, until a signal
    #[arg(long)]
    pub stay: bool,
    /// Log in first; the password comes from --password-file, the variable P2P_PASSWORD, or the terminal
    #[arg(long, value_name = "USER", value_parser = parse_user)]
    pub login: Option<UserName>,
    /// File whose first line is the password for --login
    #[arg(long, value_name = "FILE", requires = "login")]
    pub password_file: Option<PathBuf>,
    /// Most bytes a second from others: 10MiB, 500KB, or 0 for no limit
    #[arg(long, value_name = "RATE", default_value = "0")]
    pub download_limit: Rate,
    /// Most bytes a second to others: 10MiB, 500KB, or 0 for no limit
    #[arg(long, value_name = "RATE", default_value = "0")]
    pub upload_limit: Rate,
    /// Most peers linked at once
    #[arg(long, value_name = "N", default_value = "80", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_peers: u16,
    /// Accept another key of tracker NO, which was set up anew: KEY, or the first one it shows. Say it once
    #[arg(long, value_name = "NO[=KEY]")]
    pub readmit: Vec<Readmission>,
    /// The address others are told to dial, when it differs from the one bound
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Option<SocketAddr>,
}

/// Arguments of `p2p demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// The file to share [default: one that is made for the demo]
    pub file: Option<PathBuf>,
}

fn read_tracker_info(path: &str) -> Result<TrackerInfo, String> {
    #[expect(clippy::disallowed_methods, reason = "arguments are read before any role runs")]
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.len() > MAX_TRACKER_FILE as u64 {
        return Err(TrackerInfoError::TooLarge.to_string());
    }
    #[expect(clippy::disallowed_methods, reason = "arguments are read before any role runs")]
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    TrackerInfo::parse(&bytes).map_err(|error| error.to_string())
}

fn parse_tracker_no(text: &str) -> Result<TrackerNo, String> {
    match text.parse() {
        Ok(no @ 1..) => Ok(TrackerNo(no)),
        _ => Err("tracker numbers are lines of the file and start at 1".to_owned()),
    }
}

fn parse_user(text: &str) -> Result<UserName, String> {
    UserName::parse(text).map_err(|failure| failure.message)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    fn help(command: &str) -> String {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        cli.find_subcommand_mut(command).unwrap().render_long_help().to_string()
    }

    #[test]
    fn help_is_for_newcomers() {
        insta::assert_snapshot!("help", Cli::command().term_width(100).render_help().to_string());
        insta::assert_snapshot!("help_tracker", help("tracker"));
        insta::assert_snapshot!("help_client", help("client"));
        insta::assert_snapshot!("help_demo", help("demo"));
    }

    #[test]
    fn trackers_are_numbered_from_one() {
        assert_eq!(parse_tracker_no("1"), Ok(TrackerNo(1)));
        for wrong in ["0", "-1", "x", "70000"] {
            assert!(parse_tracker_no(wrong).is_err(), "{wrong}");
        }
    }
}
