//! `cargo sim run`: which runs, and what is said about them.

use std::{
    collections::BTreeSet,
    env,
    io::{self, Write as _},
    ops::ControlFlow,
    path::PathBuf,
};

use serde_json::json;

use crate::{
    What, every, fresh_seed, hunt, regressions, report,
    runner::Runner,
    seeds::Seeds,
    shrink::kind,
    steps::Skips,
    tally::Tally,
    trace::FULL,
    worker::{Job, Verdict},
};

/// Seeds of each scenario that are run when nothing is said.
const USUAL: u64 = 3;
/// Kinds of failure that are told whole; of others, a line.
const TOLD: usize = 8;

/// What may be said on the command line.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    which: Which,
    /// Leave out these steps, such as `3,9-14`: the numbers are those in the trace.
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    skip: Skips,
    /// A JSON object for each run, and one for all.
    #[arg(long)]
    json: bool,
    /// Show events as they happen, chosen as in `RUST_LOG` (`info`, `p2p=debug`).
    #[arg(long, value_name = "FILTER")]
    trace: Option<String>,
    /// Keep the whole trace of a run in a file.
    #[arg(long, value_name = "FILE", requires = "seed")]
    keep: Option<PathBuf>,
    /// How many runs go at once; one for each core when left out.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

#[derive(clap::Args)]
#[group(multiple = false)]
struct Which {
    /// Seeds of each scenario: how many from 1 on, or `A..B` without B.
    #[arg(long, value_name = "N|A..B")]
    seeds: Option<Seeds>,
    /// One seed. `SIM_SEED` in the environment does the same and shows the trace.
    #[arg(long)]
    seed: Option<u64>,
    /// This many runs with seeds that nobody has tried, the first of which is told.
    #[arg(long, value_name = "RUNS")]
    fresh: Option<usize>,
    /// The named regressions alone.
    #[arg(long)]
    regressions: bool,
}

/// Whether all held.
pub(crate) async fn run(arguments: &Arguments) -> io::Result<bool> {
    let replayed = replayed()?.filter(|_| arguments.which.is_open());
    let jobs = jobs(arguments, replayed)?;
    let mut runner = Runner::new()?;
    if let Some(jobs) = arguments.jobs {
        runner = runner.parallel(jobs.max(1));
    }
    if let Some(path) = &arguments.keep {
        return keep(&runner, &jobs, path).await;
    }
    if let Some(filter) = arguments.trace.as_deref().or_else(|| replayed.map(|_| "info")) {
        runner = runner.showing(filter);
    }
    let (tally, failures) = judge(&runner, jobs, arguments.json).await?;
    if arguments.json {
        tally.print_json()?;
    } else {
        explain(&runner, &tally, &failures).await?;
        tally.print()?;
    }
    Ok(tally.held())
}

impl Which {
    /// Nothing is said.
    fn is_open(&self) -> bool {
        self.seeds.is_none() && self.seed.is_none() && self.fresh.is_none() && !self.regressions
    }
}

/// The seed in the environment.
fn replayed() -> io::Result<Option<u64>> {
    let Some(text) = env::var_os("SIM_SEED") else { return Ok(None) };
    let seed = text.to_str().and_then(|text| text.parse().ok());
    seed.map(Some).ok_or_else(|| io::Error::other("SIM_SEED is no number"))
}

fn jobs(arguments: &Arguments, replayed: Option<u64>) -> io::Result<Vec<Job>> {
    let (scenarios, which) = (arguments.what.scenarios(), &arguments.which);
    if let Some(runs) = which.fresh {
        let base = fresh_seed()?;
        writeln!(io::stdout(), "seeds from {base} on")?;
        return Ok(hunt::fresh(&scenarios, base).take(runs).collect());
    }
    let regressions = || regressions::ALL.iter().map(regressions::Regression::job);
    if which.regressions {
        return Ok(regressions().collect());
    }
    let seeds = match (&which.seeds, which.seed.or(replayed)) {
        (Some(Seeds(seeds)), _) => seeds.clone(),
        (None, Some(seed)) => seed..seed.saturating_add(1),
        (None, None) => 1..USUAL + 1,
    };
    let usual = which.is_open() && replayed.is_none() && arguments.what.scenarios.is_empty();
    let mut jobs: Vec<_> = if usual { regressions().collect() } else { Vec::new() };
    jobs.extend(every(&scenarios, seeds).map(|job| Job { skips: arguments.skip.clone(), ..job }));
    Ok(jobs)
}

/// Does all of them, and gives those that failed.
async fn judge(runner: &Runner, jobs: Vec<Job>, json: bool) -> io::Result<(Tally, Vec<(Job, Verdict)>)> {
    let mut tally = Tally::new(Some(jobs.len() as u64));
    let mut failures = Vec::new();
    let each = |job: &Job, verdict: Verdict| {
        tally.add(job, &verdict);
        if json {
            tally.say(&object(job, &verdict).to_string())?;
        }
        if let Some(failure) = &verdict.failure {
            if !json {
                tally.say(&format!("{} seed {}: FAILED: {failure}", job.scenario, job.seed))?;
            }
            failures.push((job.clone(), verdict));
        }
        Ok(ControlFlow::Continue(()))
    };
    runner.run(jobs.into_iter(), each).await?;
    Ok((tally, failures))
}

fn object(job: &Job, verdict: &Verdict) -> serde_json::Value {
    json!({
        "scenario": job.scenario,
        "seed": job.seed,
        "skip": job.skips,
        "ok": verdict.failure.is_none(),
        "failure": verdict.failure,
        "steps": verdict.steps,
        "simulated_ms": verdict.simulated_ms,
        "wall_ms": verdict.wall_ms,
        "peak_mib": verdict.peak_mib,
    })
}

/// Tells one failure of each kind.
async fn explain(runner: &Runner, tally: &Tally, failures: &[(Job, Verdict)]) -> io::Result<()> {
    let mut known = BTreeSet::new();
    for (job, verdict) in failures {
        let kind = kind(verdict.failure.as_deref().unwrap_or_default());
        if known.len() < TOLD && known.insert((&job.scenario, kind)) {
            tally.say(&report::explain(runner, job, verdict).await?.0)?;
        }
    }
    Ok(())
}

/// Writes the trace of the one run into a file.
async fn keep(runner: &Runner, jobs: &[Job], path: &std::path::Path) -> io::Result<bool> {
    let [job] = jobs else { return Err(io::Error::other("--keep is for one run: name its scenario")) };
    let (verdict, trace) = runner.traced(job, FULL).await?;
    #[expect(clippy::disallowed_methods, reason = "the file is for whoever runs the simulation")]
    std::fs::write(path, trace)?;
    let ended = verdict.failure.as_deref().map_or_else(|| "ok".into(), |failure| format!("FAILED: {failure}"));
    writeln!(io::stdout(), "{} seed {}: {ended}", job.scenario, job.seed)?;
    Ok(verdict.failure.is_none())
}
