//! Scenarios: who is there, what they do, what must be true in the end.

mod disks;
mod first;
mod hostile;
mod model;
mod newcomer;
mod partition;
mod play;
mod removal;
mod resume;
mod seams;
mod storm;
mod stranger;
mod swarm;

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};

use crate::{
    cluster::{Cluster, Outcome},
    coverage::{Counts, Coverage},
    oracle::{self, secrets},
    panics,
    steps::Skips,
    trace::Trace,
};

/// A number below `count`.
fn below(rng: &mut ChaCha20Rng, count: usize) -> usize {
    let count = u64::try_from(count).expect("a small number");
    usize::try_from(rng.next_u64() % count).expect("a smaller number")
}

/// What a scenario does once its hosts are there.
pub(crate) type Script = Pin<Box<dyn Future<Output = Outcome>>>;

/// A story that a seed makes particular.
pub(crate) struct Scenario {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it shows, in a line.
    pub(crate) about: &'static str,
    /// The most memory that the whole world may take: every host with its disk, and the process around them.
    most_mib: u64,
    build: fn(&mut Cluster) -> Script,
}

/// Every scenario.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "seams",
        about: "links and a database through power failures and a partition",
        most_mib: 40,
        build: seams::build,
    },
    Scenario {
        name: "first",
        about: "a group shares a file through a partition and the loss of each tracker",
        most_mib: 120,
        build: first::build,
    },
    Scenario {
        name: "resume",
        about: "a downloader dies over and over; no verified piece is fetched again",
        most_mib: 220,
        build: resume::build,
    },
    Scenario {
        name: "swarm",
        about: "peers of a swarm crash, leave and return; every download completes, nothing durable is fetched again",
        most_mib: 280,
        build: swarm::build,
    },
    Scenario {
        name: "disks",
        about: "disks are full, fail and are slow; nothing acknowledged is lost, downloads go on",
        most_mib: 150,
        build: disks::build,
    },
    Scenario {
        name: "model",
        about: "random commands of many users: every answer is the reference model's, whoever dies meanwhile",
        build: model::build,
        most_mib: 110,
    },
    Scenario {
        name: "partition",
        about: "both sides of a partition write; healed, all answer as the rules of merging say",
        build: partition::build,
        most_mib: 90,
    },
    Scenario {
        name: "storm",
        about: "trackers die and links break at random; what was acknowledged is known everywhere in the end",
        most_mib: 70,
        build: storm::build,
    },
    Scenario {
        name: "newcomer",
        about: "trackers forget; one that lacks it all takes a snapshot, whoever dies meanwhile, and serves alone",
        most_mib: 100,
        build: newcomer::build,
    },
    Scenario {
        name: "hostile",
        about: "liars, stallers and bad listeners in a swarm; every honest download completes with the right bytes",
        most_mib: 200,
        build: hostile::build,
    },
    Scenario {
        name: "stranger",
        about: "strangers, forgers and false trackers among honest people; they learn and change nothing",
        most_mib: 200,
        build: stranger::build,
    },
    Scenario {
        name: "removal",
        about: "who is no member any more keeps asking; nothing is served after two seconds, or the ticket's life",
        most_mib: 200,
        build: removal::build,
    },
];

/// How a run ended, and what happened in it.
pub(crate) struct Run {
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
    /// Simulated time.
    pub(crate) elapsed: Duration,
    /// How many steps there were, those left out included.
    pub(crate) steps: u32,
    /// The coverage points that were met.
    pub(crate) coverage: Counts,
}

impl Scenario {
    /// The scenario of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|scenario| scenario.name == name)
    }

    /// The most memory that the world of this seed may take.
    pub(crate) fn most_mib(&self, seed: u64) -> u64 {
        if self.name == "swarm" && swarm::is_crowd(seed) { swarm::CROWD_MIB } else { self.most_mib }
    }

    /// Runs it with a seed, without the steps in `skips`.
    pub(crate) fn run(&self, seed: u64, skips: Skips, trace: &Trace) -> Run {
        let _alone = alone();
        let coverage = Coverage::default();
        tracing::subscriber::with_default(trace.subscriber(&coverage), || {
            let mut cluster = Cluster::new(seed, skips);
            let steps = cluster.steps();
            let watch = cluster.watch();
            panics::watch();
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
                let script = (self.build)(&mut cluster);
                cluster.run(script).map_err(|error| error.to_string())
            }));
            let outcome = outcome.unwrap_or(Ok(())).and_then(|()| panics::none());
            let outcome = outcome.and_then(|()| oracle::last_look(&watch));
            let outcome = outcome.and_then(|()| secrets::not_on_disk(&watch)).and_then(|()| trace.shows_no_secret());
            Run { failure: outcome.err(), elapsed: cluster.elapsed(), steps: steps.count(), coverage: coverage.take() }
        })
    }
}

/// One run at a time, and each from the same point of tokio's task numbers: they are counted over the whole process, and
/// a runtime that is dropped drops its tasks in an order that depends on them.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    const ROUND: u64 = 64;
    let guard = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let next = || runtime.spawn(async {}).id().to_string().parse::<u64>().unwrap_or_default();
    while next() % ROUND != 0 {}
    guard
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{FULL, first_difference};

    /// Nothing else can be trusted without this.
    #[test]
    fn meta_the_same_seed_is_the_same_run() {
        for scenario in ALL {
            let traced = || {
                let trace = Trace::kept(FULL);
                scenario.run(7, Skips::default(), &trace);
                trace.take()
            };
            let (one, two) = (traced(), traced());
            assert!(one.lines().count() > 100, "{}: the trace is empty", scenario.name);
            assert_eq!(first_difference(&one, &two), None, "{}", scenario.name);
        }
    }

    #[test]
    fn fixed_seeds() {
        for scenario in ALL {
            for seed in 1..=3 {
                let run = scenario.run(seed, Skips::default(), &Trace::off());
                assert_eq!(run.failure, None, "cargo sim run --scenario {} --seed {seed}", scenario.name);
            }
        }
    }

    /// The same random choices are made for what is left.
    #[test]
    fn a_step_left_out_changes_no_other() {
        let storm = Scenario::named("storm").expect("it is in the table");
        let announced = |skips: &str| {
            let trace = Trace::kept("p2p_sim=info");
            let run = storm.run(2, skips.parse().expect("numbers"), &trace);
            let trace = trace.take();
            let steps: Vec<_> = trace.lines().filter_map(|line| Some(line.split_once(" step ")?.1)).collect();
            assert_eq!(steps.len(), usize::try_from(run.steps).expect("a small number"));
            steps.into_iter().map(|step| step.replace(" left out", "")).collect::<Vec<_>>()
        };
        let all = announced("");
        assert!(all.len() > 20);
        assert_eq!(announced("1-5,8,20-30"), all);
    }
}
