//! The roles of p2p, unchanged, inside a simulated network, disk and clock: from a seed, to an identical trace.

mod clock;
mod cluster;
#[cfg(test)]
mod contract;
mod coverage;
mod disk;
mod net;
mod oracle;
mod role;
mod scenario;
mod steps;
mod trace;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
#[cfg(test)]
use p2p::protocol;

use self::{
    coverage::Counts,
    scenario::{ALL, Run, Scenario},
    steps::Skips,
    trace::Trace,
};

/// Lines of the trace shown when a run fails.
const LAST_LINES: usize = 40;

/// Runs p2p in a simulated world.
#[derive(Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run scenarios.
    Run {
        #[command(flatten)]
        what: What,
        /// Seeds to try, one after the other.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// Show events as they happen, chosen as in `RUST_LOG` (`info`, `p2p=debug`).
        #[arg(long, value_name = "FILTER")]
        trace: Option<String>,
        /// Leave out these steps, such as `3,9-14`: the numbers are those in the trace.
        #[arg(long, value_name = "LIST", default_value = "")]
        skip: Skips,
        /// Keep the whole trace in a file.
        #[arg(long, value_name = "FILE")]
        keep: Option<PathBuf>,
    },
    /// Run a seed twice and compare the traces byte for byte.
    Meta(What),
    /// List the scenarios.
    List,
}

#[derive(clap::Args)]
struct What {
    /// One scenario; all of them when left out.
    #[arg(long)]
    scenario: Option<String>,
    /// The seed, or the first of several.
    #[arg(long, env = "SIM_SEED", default_value_t = 1)]
    seed: u64,
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
    /// Whether all went well.
    fn execute(self) -> io::Result<bool> {
        match self {
            Self::List => list(),
            Self::Meta(what) => what.scenarios()?.into_iter().map(|scenario| meta(scenario, what.seed)).all_well(),
            Self::Run { what, seeds, skip, trace, keep } => {
                let wanted = || match &trace {
                    Some(filter) => Trace::filtered(filter).echoed(),
                    None => Trace::full(),
                };
                let mut met = Counts::new();
                let each = what.scenarios()?.into_iter().flat_map(|scenario| {
                    (what.seed..what.seed.saturating_add(seeds)).map(move |seed| (scenario, seed))
                });
                let well = each
                    .map(|(scenario, seed)| {
                        let traced = wanted();
                        let run = scenario.run(seed, skip.clone(), &traced);
                        let lines = traced.take();
                        keep.as_ref().map_or(Ok(()), |path| std::fs::write(path, &lines))?;
                        coverage::add(&mut met, &run.coverage);
                        report(scenario, seed, &skip, &run, if trace.is_some() { "" } else { &lines })
                    })
                    .all_well()?;
                cover(&met)?;
                Ok(well)
            }
        }
    }
}

impl What {
    fn scenarios(&self) -> io::Result<Vec<&'static Scenario>> {
        let Some(name) = &self.scenario else { return Ok(ALL.iter().collect()) };
        let unknown = || io::Error::other(format!("there is no scenario {name}; `cargo sim list` shows all"));
        Ok(vec![Scenario::named(name).ok_or_else(unknown)?])
    }
}

/// Everything is tried, even after a failure.
trait AllWell: Iterator<Item = io::Result<bool>> + Sized {
    fn all_well(mut self) -> io::Result<bool> {
        self.try_fold(true, |well, next| Ok(next? && well))
    }
}

impl<I: Iterator<Item = io::Result<bool>>> AllWell for I {}

fn list() -> io::Result<bool> {
    for scenario in ALL {
        writeln!(io::stdout(), "{:<12}{}", scenario.name, scenario.about)?;
    }
    Ok(true)
}

/// What was met and what was not.
fn cover(met: &Counts) -> io::Result<()> {
    for (point, count) in met {
        writeln!(io::stdout(), "{count:>8}  {point}")?;
    }
    for point in coverage::missing(coverage::MUST, met) {
        writeln!(io::stdout(), "{:>8}  {point}", "never")?;
    }
    Ok(())
}

/// `lines`: of the trace, the last of which are shown.
fn report(scenario: &Scenario, seed: u64, skips: &Skips, run: &Run, lines: &str) -> io::Result<bool> {
    let mut out = io::stdout();
    let Some(failure) = &run.failure else {
        let (steps, elapsed) = (run.steps, run.elapsed.as_secs());
        writeln!(out, "{} seed {seed}: ok, {steps} steps in {elapsed} s", scenario.name)?;
        return Ok(true);
    };
    let lines: Vec<&str> = lines.lines().collect();
    for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{} seed {seed}: FAILED: {failure}", scenario.name)?;
    let skip = if skips.is_empty() { String::new() } else { format!(" --skip {skips}") };
    writeln!(out, "replay: cargo sim run --scenario {} --seed {seed}{skip} --trace info", scenario.name)?;
    Ok(false)
}

fn meta(scenario: &Scenario, seed: u64) -> io::Result<bool> {
    let traced = || {
        let trace = Trace::full();
        scenario.run(seed, Skips::default(), &trace);
        trace.take()
    };
    let (one, two) = (traced(), traced());
    let Some((line, one, two)) = trace::first_difference(&one, &two) else {
        writeln!(io::stdout(), "{} seed {seed}: same trace twice, {} events", scenario.name, one.lines().count())?;
        return Ok(true);
    };
    writeln!(io::stdout(), "{} seed {seed}: FAILED: the traces part at event {line}\n  {one}\n  {two}", scenario.name)?;
    Ok(false)
}
