//! Whether the suite notices a broken promise: each mutant of `p2p::mutant` must fail some run.

use std::{
    cell::RefCell,
    env, io,
    io::Write as _,
    ops::ControlFlow,
    process::{Command, ExitStatus},
};

use p2p::mutant::{Mutant, VARIABLE};

use crate::{hunt::fresh, runner::Runner, scenario::Scenario, worker::Verdict};

/// Runs over several scenarios, spent on one mutant before it counts as missed.
const RUNS: usize = 400;
/// Characters shown of a failure.
const WIDTH: usize = 90;

/// Where the breaks show: those scenarios are tried first, and all others after them.
fn likely(mutant: Mutant) -> &'static [&'static str] {
    use Mutant as M;
    match mutant {
        M::SkipFsync | M::ReuseCounter | M::WithholdChange | M::GhostPresence => &["storm"],
        M::NameUnsynced | M::TrustMarks => &["disks", "swarm", "resume"],
        M::SyncAgain => &["disks"],
        M::AnswerAlone => &["resume", "storm"],
        M::FetchAgain => &["resume", "swarm"],
        M::AdmitAnyTracker | M::AcceptForgedTicket | M::AcceptStolenTicket => &["stranger"],
        M::ServeFormerMember | M::ServeEndedSession | M::AcceptStaleTicket => &["removal"],
        M::SkipVerify | M::SkipBlake3 | M::NeverBan | M::NeverSnub => &["hostile"],
        M::ForgetEnd | M::FirstPasswordWins | M::OwnerStays => &["model"],
        M::LaterClaimWins | M::HideStale => &["partition"],
        M::ForgetRequestId => &["storm", "disks"],
    }
}

/// Tries these mutants, or all, and prints a table. Whether each was caught.
pub(crate) async fn mutants(only: &[Mutant], scenarios: &[&'static Scenario], base: u64) -> io::Result<bool> {
    let chosen = if only.is_empty() { Mutant::ALL } else { only };
    let mut missed = 0;
    writeln!(io::stdout(), "{:<22} {:>5}  caught by", "mutant", "runs")?;
    for mutant in chosen {
        let (runs, caught) = hunt_down(*mutant, scenarios, base).await?;
        missed += usize::from(caught.is_none());
        let by = caught.unwrap_or_else(|| format!("MISSED: {}", mutant.about()));
        writeln!(io::stdout(), "{:<22} {runs:>5}  {by}", mutant.name())?;
    }
    writeln!(io::stdout(), "{} mutants, {missed} missed", chosen.len())?;
    Ok(missed == 0)
}

/// How many runs it took, and what failed.
async fn hunt_down(mutant: Mutant, all: &[&'static Scenario], base: u64) -> io::Result<(usize, Option<String>)> {
    let is_likely = |scenario: &&&Scenario| likely(mutant).contains(&scenario.name);
    let first: Vec<_> = all.iter().filter(is_likely).copied().collect();
    let runner = Runner::new()?.with(VARIABLE, mutant.name());
    let found = RefCell::new((0, None));
    let early = fresh(&first, base).take(if first.is_empty() { 0 } else { RUNS / 2 });
    let jobs = early.chain(fresh(all, base).take(RUNS / 2));
    let each = |job: &crate::worker::Job, verdict: Verdict| {
        let (runs, caught) = &mut *found.borrow_mut();
        *runs += 1;
        let Some(failure) = verdict.failure else { return Ok(ControlFlow::Continue(())) };
        let line = failure.lines().next().unwrap_or_default();
        caught.get_or_insert_with(|| format!("{}: {}", job.scenario, line.chars().take(WIDTH).collect::<String>()));
        Ok(ControlFlow::Break(()))
    };
    runner.run(jobs, each).await?;
    Ok(found.into_inner())
}

/// Builds a program that can be broken, apart from all other builds, and has it do the work with these arguments.
pub(crate) fn in_a_build_of_their_own(arguments: &[String]) -> io::Result<ExitStatus> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--profile", "sim", "--package", "p2p-sim", "--features", "mutants"]);
    command.args(["--target-dir", "target/mutants", "--", "mutants"]).args(arguments);
    command.status()
}
