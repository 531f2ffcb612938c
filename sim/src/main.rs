//! The roles of p2p, unchanged, inside a simulated network, disk and clock: from a seed, to an identical trace.
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the seams bind the roles, not their tests")
)]

mod clock;
mod cluster;
#[cfg(test)]
mod contract;
mod coverage;
mod disk;
mod hostile;
mod hunt;
mod memory;
mod meta;
mod model;
mod mutants;
mod net;
mod oracle;
mod panics;
mod regressions;
mod report;
mod role;
mod run;
mod runner;
mod scenario;
mod seeds;
mod shrink;
#[cfg(test)]
mod source;
mod spread;
mod steps;
mod tally;
mod trace;
mod worker;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
#[cfg(test)]
use p2p::protocol;
use p2p::{mutant::Mutant, roles::environment::Environment};
use rand_chacha::rand_core::Rng as _;

use self::{
    runner::Runner,
    scenario::{ALL, Scenario},
    seeds::Seeds,
    steps::Skips,
    worker::Job,
};

/// Runs p2p in a simulated world.
#[derive(Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run scenarios; without arguments, the named regressions and three seeds of each scenario.
    Run(Box<run::Arguments>),
    /// Run a seed twice and compare the traces byte for byte.
    Meta {
        #[command(flatten)]
        what: What,
        /// Which seeds: how many from 1 on, or `A..B` without B.
        #[arg(long, default_value = "1")]
        seeds: Seeds,
    },
    /// Run fresh seeds until interrupted, and shrink what fails to a short schedule.
    Hunt {
        #[command(flatten)]
        what: What,
        /// End after so many minutes.
        #[arg(long)]
        minutes: Option<u64>,
    },
    /// Look for the few steps of a failing run that make it fail.
    Shrink {
        /// The scenario.
        #[arg(long, value_name = "NAME", value_parser = named)]
        scenario: &'static Scenario,
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// Steps that are left out from the beginning.
        #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
        skip: Skips,
    },
    /// Break one promise after the other in role code, and see that some run fails. Builds a program of its own for it.
    Mutants {
        #[command(flatten)]
        what: What,
        /// Only these mutants.
        #[arg(value_parser = mutant)]
        mutants: Vec<Mutant>,
    },
    /// Tables of how long a file takes to spread through a swarm, over the least possible time.
    Spread(spread::Arguments),
    /// List the scenarios and the named regressions.
    List,
    /// Do runs for another process.
    #[command(hide = true)]
    Worker {
        /// What to trace.
        filter: Option<String>,
    },
}

/// What is run.
#[derive(clap::Args)]
struct What {
    /// Only this scenario; may repeat.
    #[arg(long = "scenario", value_name = "NAME", value_parser = named)]
    scenarios: Vec<&'static Scenario>,
}

impl What {
    fn scenarios(&self) -> Vec<&'static Scenario> {
        if self.scenarios.is_empty() { ALL.iter().collect() } else { self.scenarios.clone() }
    }
}

fn named(name: &str) -> Result<&'static Scenario, String> {
    Scenario::named(name).ok_or_else(|| "there is none of this name; `cargo sim list` shows all".into())
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let names = || Mutant::ALL.iter().map(|mutant| mutant.name()).collect::<Vec<_>>().join(", ");
    Mutant::named(name).ok_or_else(|| format!("there is none of this name; there are {}", names()))
}

fn main() -> ExitCode {
    match Arguments::parse().action.execute() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}

impl Action {
    /// Whether all held.
    fn execute(self) -> io::Result<bool> {
        match self {
            Self::List => list().map(|()| true),
            Self::Spread(arguments) => spread::print(&arguments, &mut io::stdout().lock()),
            // Not inside a runtime: each simulated host brings its own.
            Self::Worker { filter } => worker::work(filter.as_deref()).map(|()| true),
            Self::Run(arguments) => wait(run::run(&arguments)),
            Self::Meta { what, seeds: Seeds(seeds) } => {
                let scenarios = what.scenarios();
                wait(async { meta::meta(&Runner::new()?, every(&scenarios, seeds)).await })
            }
            Self::Shrink { scenario, seed, skip } => {
                wait(async { hunt::shrink(&Runner::new()?, &Job::new(scenario, seed, skip)).await })
            }
            Self::Mutants { .. } if !cfg!(feature = "mutants") => {
                let arguments: Vec<_> = std::env::args().skip_while(|argument| argument != "mutants").skip(1).collect();
                Ok(mutants::in_a_build_of_their_own(&arguments)?.success())
            }
            Self::Mutants { what, mutants } => {
                wait(async { mutants::mutants(&mutants, &what.scenarios(), fresh_seed()?).await })
            }
            Self::Hunt { what, minutes } => {
                let length = minutes.map(Duration::from_mins);
                wait(async { hunt::hunt(&Runner::new()?, &what.scenarios(), fresh_seed()?, length).await })
            }
        }
    }
}

fn wait(what: impl Future<Output = io::Result<bool>>) -> io::Result<bool> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(what)
}

/// Every seed with every scenario, scenario by scenario.
fn every(scenarios: &[&'static Scenario], seeds: std::ops::Range<u64>) -> impl Iterator<Item = Job> {
    let of = move |scenario| seeds.clone().map(move |seed| Job::new(scenario, seed, Skips::default()));
    scenarios.iter().copied().flat_map(of)
}

/// A seed from the operating system, short enough to be read aloud.
fn fresh_seed() -> io::Result<u64> {
    Ok(Environment::system()?.rng("fresh seeds", 0).next_u32().into())
}

fn list() -> io::Result<()> {
    let mut out = io::stdout();
    for scenario in ALL {
        writeln!(out, "{:<14}{}", scenario.name, scenario.about)?;
    }
    for regression in regressions::ALL {
        let run = regression.job();
        writeln!(out, "\n{}: {}\n  cargo sim run {}", regression.name, regression.about, run.arguments())?;
    }
    Ok(())
}
