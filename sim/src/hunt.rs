//! Failures are looked for with fresh seeds, and shrunk to short schedules.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io::{self, Write as _},
    ops::ControlFlow,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    report,
    runner::Runner,
    scenario::Scenario,
    shrink::{Shrink, kind},
    steps::Skips,
    tally::Tally,
    worker::{Job, Verdict},
};

/// Runs spent on one failure.
const ATTEMPTS: usize = 300;
/// Time spent on one failure.
const LONGEST: Duration = Duration::from_mins(10);

/// Seeds from `base` on, over all of `scenarios` in turn, for so long or until interrupted. Whether all held.
pub(crate) async fn hunt(
    runner: &Runner,
    scenarios: &[&Scenario],
    base: u64,
    length: Option<Duration>,
) -> io::Result<bool> {
    writeln!(io::stdout(), "seeds from {base} on")?;
    let tally = RefCell::new(Tally::new(None));
    let until = length.map(|length| Instant::now() + length);
    let jobs = fresh(scenarios, base).take_while(|_| until.is_none_or(|until| Instant::now() < until));
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        searched = search(runner, jobs, &tally) => searched?,
    }
    let tally = tally.into_inner();
    tally.print()?;
    Ok(tally.held())
}

/// Each seed from `base` on with every scenario.
pub(crate) fn fresh(scenarios: &[&Scenario], base: u64) -> impl Iterator<Item = Job> {
    (base..).flat_map(move |seed| scenarios.iter().map(move |scenario| Job::new(scenario, seed, Skips::default())))
}

async fn search(runner: &Runner, mut jobs: impl Iterator<Item = Job>, tally: &RefCell<Tally>) -> io::Result<()> {
    let mut known = BTreeSet::new();
    loop {
        let mut failures: Vec<(Job, Verdict)> = Vec::new();
        let each = |job: &Job, verdict: Verdict| {
            tally.borrow_mut().add(job, &verdict);
            let Some(failure) = &verdict.failure else { return Ok(ControlFlow::Continue(())) };
            if !known.insert((job.scenario.clone(), kind(failure))) {
                tally.borrow().say(&format!("{} seed {}: again: {failure}", job.scenario, job.seed))?;
                return Ok(ControlFlow::Continue(()));
            }
            failures.push((job.clone(), verdict));
            Ok(ControlFlow::Break(()))
        };
        runner.run(jobs.by_ref(), each).await?;
        if failures.is_empty() {
            return Ok(());
        }
        for (job, verdict) in failures {
            let (told, steps) = report::explain(runner, &job, &verdict).await?;
            tally.borrow().say(&told)?;
            let short = shorten(runner, &job, &verdict, steps).await?;
            tally.borrow().say(&short)?;
        }
    }
}

/// Shrinks a known failure. Whether it held instead.
pub(crate) async fn shrink(runner: &Runner, job: &Job) -> io::Result<bool> {
    let verdict = runner.once(job).await?;
    if verdict.failure.is_none() {
        writeln!(io::stdout(), "{} seed {}: ok, there is nothing to shrink", job.scenario, job.seed)?;
        return Ok(true);
    }
    let (_, steps) = report::explain(runner, job, &verdict).await?;
    writeln!(io::stdout(), "{}", shorten(runner, job, &verdict, steps).await?)?;
    Ok(false)
}

/// The shortest schedule found that fails alike, explained.
async fn shorten(runner: &Runner, job: &Job, verdict: &Verdict, steps: u32) -> io::Result<String> {
    let wanted = kind(verdict.failure.as_deref().unwrap_or_default());
    let mut shrink = Shrink::new(steps, &job.skips);
    let (mut shortest, mut attempts, until) = (verdict.clone(), 0, Instant::now() + LONGEST);
    while attempts < ATTEMPTS && Instant::now() < until {
        let Some(skips) = shrink.attempt() else { break };
        attempts += 1;
        let attempt = Job { skips, ..job.clone() };
        let verdict = runner.once(&attempt).await?;
        let alike = verdict.failure.as_deref().is_some_and(|failure| kind(failure) == wanted);
        shrink.judge(alike);
        if alike {
            shortest = verdict;
        }
    }
    let short = Job { skips: shrink.best(), ..job.clone() };
    let (told, _) = report::explain(runner, &short, &shortest).await?;
    Ok(format!("\nshrunk to {} of {steps} steps, in {attempts} runs{told}", shrink.left()))
}
