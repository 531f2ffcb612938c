//! What many runs came to, and how far they are.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    coverage::{self, Counts},
    scenario::ALL,
    worker::{Job, Verdict},
};

/// From so many runs of every scenario on, whatever was not met by any is a failure.
const ENOUGH: u64 = 25;
/// Time between two lines where no bar can be shown.
const PAUSE: Duration = Duration::from_secs(20);

/// Sums over runs.
pub(crate) struct Tally {
    begun: Instant,
    scenarios: BTreeMap<String, Sums>,
    coverage: Counts,
    progress: Progress,
}

#[derive(Clone, Default)]
struct Sums {
    runs: u64,
    failures: u64,
    simulated_ms: u64,
    wall_ms: u64,
    peak_mib: u64,
}

impl Tally {
    /// No run yet of `expected`.
    pub(crate) fn new(expected: Option<u64>) -> Self {
        let (scenarios, coverage) = (BTreeMap::new(), Counts::new());
        Self { begun: Instant::now(), scenarios, coverage, progress: Progress::new(expected) }
    }

    /// Adds a run.
    pub(crate) fn add(&mut self, job: &Job, verdict: &Verdict) {
        let sums = self.scenarios.entry(job.scenario.clone()).or_default();
        sums.runs += 1;
        sums.failures += u64::from(verdict.failure.is_some());
        sums.simulated_ms += verdict.simulated_ms;
        sums.wall_ms += verdict.wall_ms;
        sums.peak_mib = sums.peak_mib.max(verdict.peak_mib.unwrap_or_default());
        coverage::add(&mut self.coverage, &verdict.coverage);
        let all = self.all();
        self.progress.step(all.runs, all.failures);
    }

    /// Writes a line without tearing the bar.
    pub(crate) fn say(&self, line: &str) -> io::Result<()> {
        self.progress.bar.suspend(|| writeln!(io::stdout(), "{line}"))
    }

    /// Whether every run held, and where they were enough of all scenarios, every point of coverage was met.
    pub(crate) fn held(&self) -> bool {
        self.all().failures == 0 && self.missing().is_empty()
    }

    /// The points that should have been met.
    fn missing(&self) -> Vec<&'static str> {
        let enough = |name| self.scenarios.get(name).is_some_and(|sums| sums.runs >= ENOUGH);
        if ALL.iter().all(|scenario| enough(scenario.name)) {
            coverage::missing(coverage::MUST, &self.coverage)
        } else {
            Vec::new()
        }
    }

    fn all(&self) -> Sums {
        self.scenarios.values().fold(Sums::default(), |all, sums| Sums {
            runs: all.runs + sums.runs,
            failures: all.failures + sums.failures,
            simulated_ms: all.simulated_ms + sums.simulated_ms,
            wall_ms: all.wall_ms + sums.wall_ms,
            peak_mib: all.peak_mib.max(sums.peak_mib),
        })
    }

    /// The tables.
    pub(crate) fn print(&self) -> io::Result<()> {
        self.progress.bar.finish_and_clear();
        let (mut out, all, wall) = (io::stdout(), self.all(), self.begun.elapsed().as_secs_f64());
        writeln!(
            out,
            "\n{:<14}{:>8}{:>10}{:>14}{:>12}{:>10}",
            "scenario", "runs", "failures", "simulated", "each", "peak"
        )?;
        for (name, sums) in &self.scenarios {
            line(&mut out, name, sums)?;
        }
        line(&mut out, "all", &all)?;
        let rate = seconds(all.simulated_ms) / wall.max(0.001);
        writeln!(out, "{wall:.1} s of wall time, {rate:.0} simulated seconds in each\n")?;
        for (point, count) in &self.coverage {
            writeln!(out, "{count:>10}  {point}")?;
        }
        for point in self.missing() {
            writeln!(out, "{:>10}  {point}: FAILED, a suite that never met it proves nothing of it", "never")?;
        }
        Ok(())
    }

    /// The same as one JSON object.
    pub(crate) fn print_json(&self) -> io::Result<()> {
        self.progress.bar.finish_and_clear();
        let all = self.all();
        let summary = json!({
            "summary": true,
            "ok": self.held(),
            "runs": all.runs,
            "failures": all.failures,
            "simulated_ms": all.simulated_ms,
            "wall_ms": u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "peak_mib": all.peak_mib,
            "coverage": self.coverage,
            "never": self.missing(),
        });
        writeln!(io::stdout(), "{summary}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to three digits")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn line(out: &mut io::Stdout, name: &str, sums: &Sums) -> io::Result<()> {
    let each = sums.wall_ms / sums.runs.max(1);
    let (runs, failures, simulated) = (sums.runs, sums.failures, sums.simulated_ms / 1000);
    writeln!(out, "{name:<14}{runs:>8}{failures:>10}{simulated:>12} s{each:>9} ms{:>6} MiB", sums.peak_mib)
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    said: Instant,
}

impl Progress {
    fn new(expected: Option<u64>) -> Self {
        let bar = expected.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let template =
            if expected.is_some() { "{wide_bar} {pos}/{len} {msg} {eta}" } else { "{spinner} {pos} runs {msg}" };
        bar.set_style(ProgressStyle::with_template(template).expect("a template without mistakes"));
        Self { bar, said: Instant::now() }
    }

    fn step(&mut self, runs: u64, failures: u64) {
        self.bar.set_position(runs);
        self.bar.set_message(format!("{failures} failed"));
        if self.said.elapsed() >= PAUSE && !io::stderr().is_terminal() {
            self.said = Instant::now();
            // Whoever does not read it misses nothing.
            let _ = writeln!(io::stderr(), "{runs} runs, {failures} failed");
        }
    }
}
