//! Runs that found a bug once, by name. A seed means what the scenario makes of it, so a change to a scenario may take a
//! run's point away: where it can be had, a test that needs no seed stands beside the fix.

use crate::{scenario::Scenario, steps::Skips, worker::Job};

/// A run that failed once.
pub(crate) struct Regression {
    /// What it is called.
    pub(crate) name: &'static str,
    scenario: &'static str,
    seed: u64,
    /// Steps left out.
    skip: &'static str,
    /// The bug, in a line.
    pub(crate) about: &'static str,
}

/// Every one of them.
pub(crate) const ALL: &[Regression] = &[];

impl Regression {
    /// The run.
    pub(crate) fn job(&self) -> Job {
        let scenario = Scenario::named(self.scenario).expect("a test sees to it");
        Job::new(scenario, self.seed, self.skip.parse::<Skips>().expect("a test sees to it"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_can_be_run() {
        let names: BTreeSet<_> = ALL.iter().map(|regression| regression.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name stands twice");
        for regression in ALL {
            regression.job();
            assert!(!regression.about.is_empty(), "{}", regression.name);
        }
    }
}
