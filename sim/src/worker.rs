//! A process that does runs for another one: jobs come in on stdin, a JSON object a line, and verdicts go out on stdout. What
//! is traced goes to stderr.

use std::io::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::{coverage::Counts, memory, scenario::Scenario, steps::Skips, trace::Trace};

/// One seed in so many is traced, which takes longer, to see that no password shows.
const SEARCHED: u64 = 8;

/// One run that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Which scenario.
    pub(crate) scenario: String,
    /// Which seed.
    pub(crate) seed: u64,
    /// Steps left out.
    pub(crate) skips: Skips,
}

/// How a run went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
    /// Simulated milliseconds.
    pub(crate) simulated_ms: u64,
    /// Milliseconds it took; whoever waited measures them.
    #[serde(default)]
    pub(crate) wall_ms: u64,
    /// How many steps there were, those left out included.
    pub(crate) steps: u32,
    /// The most memory the process had during the run, where the system tells.
    pub(crate) peak_mib: Option<u64>,
    /// The coverage points that were met.
    pub(crate) coverage: Counts,
}

impl Job {
    /// A run of this scenario.
    pub(crate) fn new(scenario: &Scenario, seed: u64, skips: Skips) -> Self {
        Self { scenario: scenario.name.into(), seed, skips }
    }

    /// The arguments of `cargo sim run` that make it again.
    pub(crate) fn arguments(&self) -> String {
        let skip = if self.skips.is_empty() { String::new() } else { format!(" --skip {}", self.skips) };
        format!("--scenario {} --seed {}{skip}", self.scenario, self.seed)
    }

    /// Some runs are searched for passwords when nothing is to be shown of them.
    fn trace(&self, filter: Option<&str>) -> Trace {
        match filter {
            Some(filter) => Trace::shown(filter),
            None if self.seed.is_multiple_of(SEARCHED) => Trace::searched(),
            None => Trace::off(),
        }
    }

    fn run(&self, trace: &Trace) -> io::Result<Verdict> {
        let scenario = Scenario::named(&self.scenario).ok_or_else(|| io::Error::other("no such scenario"))?;
        memory::forget_peak();
        let run = scenario.run(self.seed, self.skips.clone(), trace);
        Ok(Verdict {
            failure: run.failure,
            simulated_ms: u64::try_from(run.elapsed.as_millis()).expect("a simulation takes no aeons"),
            wall_ms: 0,
            steps: run.steps,
            peak_mib: memory::peak_mib(),
            coverage: run.coverage,
        })
    }
}

/// Does one job after the other until there are no more; `filter` chooses what is traced.
pub(crate) fn work(filter: Option<&str>) -> io::Result<()> {
    for line in io::stdin().lines() {
        let job: Job = serde_json::from_str(&line?)?;
        let verdict = serde_json::to_string(&job.run(&job.trace(filter))?)?;
        writeln!(io::stdout(), "{verdict}")?;
    }
    Ok(())
}
