//! What is said about a run that failed: why, how to repeat it, what was done to it, and what its hosts did last.

use std::{collections::BTreeMap, fmt::Write as _, io};

use crate::{
    runner::Runner,
    trace,
    worker::{Job, Verdict},
};

/// What is traced of a failing run: decisions, not packets.
const DETAIL: &str = "warn,p2p=debug,p2p_sim=debug";
/// Lines shown of each host.
const LAST: usize = 12;
/// Longer lines are cut.
const WIDTH: usize = 240;

/// Runs a failing job again, with its trace, and says all about it; and how many steps it has.
pub(crate) async fn explain(runner: &Runner, job: &Job, verdict: &Verdict) -> io::Result<(String, u32)> {
    let (again, trace) = runner.traced(job, DETAIL).await?;
    Ok((
        text(job, verdict, &again, &trace),
        trace.lines().filter_map(step).map(|(number, _)| number).max().unwrap_or(0),
    ))
}

fn text(job: &Job, verdict: &Verdict, again: &Verdict, trace: &str) -> String {
    let mut out = String::new();
    let failure = verdict.failure.as_deref().unwrap_or("it held");
    let _ = writeln!(out, "\n{} seed {}: FAILED: {failure}", job.scenario, job.seed);
    if again.failure != verdict.failure {
        let other = again.failure.as_deref().unwrap_or("it held");
        let _ = writeln!(out, "the second time otherwise, so chance comes from elsewhere than the seed: {other}");
    }
    let _ = writeln!(out, "replay: cargo sim run {} --trace info", job.arguments());
    let steps = trace.lines().filter_map(|line| Some((line, step(line)?.1))).filter(|(_, what)| !is_left_out(what));
    let _ = writeln!(out, "steps:");
    for (line, what) in steps {
        let _ = writeln!(out, "  {:>9} s  {what}", line.split_whitespace().next().unwrap_or_default());
    }
    for (host, lines) in last_lines(trace) {
        let _ = writeln!(out, "last of {host}:");
        for line in lines {
            let _ = writeln!(out, "  {}", line.chars().take(WIDTH).collect::<String>());
        }
    }
    out
}

/// The number of the step that a line announces, and the announcement.
fn step(line: &str) -> Option<(u32, &str)> {
    let (_, what) = line.split_once("p2p_sim::steps: step ")?;
    Some((what.split([' ', ':']).next()?.parse().ok()?, what))
}

/// Such a step says nothing about the failure.
fn is_left_out(announced: &str) -> bool {
    announced.split_once(':').is_some_and(|(number, _)| number.ends_with("left out"))
}

/// The last lines of each host; those of no host come from the simulation itself.
fn last_lines(trace: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in trace.lines().rev() {
        let lines = hosts.entry(trace::host(line).unwrap_or("(no host)")).or_default();
        if lines.len() < LAST {
            lines.push(line);
        }
    }
    for lines in hosts.values_mut() {
        lines.reverse();
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_failure_is_told_whole() {
        let job = Job::new(Scenario::named("storm").unwrap(), 7, "2".parse().unwrap());
        let verdict = Verdict { failure: Some("g3 is gone".into()), ..Verdict::default() };
        let trace = "   0.000  INFO turmoil: New nodename=\"tracker1\"
   1.250  INFO node{name=\"script\"}: p2p_sim::steps: step 1: kill tracker1
   1.300  INFO node{name=\"script\"}: p2p_sim::steps: step 2 left out: kill tracker2
   1.400  INFO node{name=\"tracker1\"}:dialled{tracker=2}: p2p::roles: linked
";
        let told = text(&job, &verdict, &verdict, trace);
        assert_eq!(
            told,
            "
storm seed 7: FAILED: g3 is gone
replay: cargo sim run --scenario storm --seed 7 --skip 2 --trace info
steps:
      1.250 s  1: kill tracker1
last of (no host):
     0.000  INFO turmoil: New nodename=\"tracker1\"
last of script:
     1.250  INFO node{name=\"script\"}: p2p_sim::steps: step 1: kill tracker1
     1.300  INFO node{name=\"script\"}: p2p_sim::steps: step 2 left out: kill tracker2
last of tracker1:
     1.400  INFO node{name=\"tracker1\"}:dialled{tracker=2}: p2p::roles: linked
"
        );
        assert!(text(&job, &verdict, &Verdict::default(), trace).contains("the second time otherwise"));
    }

    #[test]
    fn only_the_last_lines_of_a_host_are_shown() {
        let line = |n| format!("{n} INFO node{{name=\"a\"}}: {n}\n");
        let trace: String = (0..50).map(line).collect();
        let last = last_lines(&trace);
        assert_eq!(last["a"].len(), LAST);
        assert!(last["a"][0].starts_with("38 ") && last["a"][LAST - 1].starts_with("49 "));
    }
}
