//! The `p2p` binary: parse, run, and end with the right status.

use std::process::ExitCode;

use clap::Parser as _;
use p2p::{cli::Cli, run::run};

fn main() -> ExitCode {
    run(Cli::parse()).into()
}
