//! Runs in which a bug shows, by name. A seed means what the scenario makes of it, so a change to a scenario may take a run's
//! point away: where it can be had, a test that needs no seed stands beside the fix. A seed that has lost its point is found anew
//! by putting the bug back for a hunt; so were these, after the scenarios they were first seen in had changed.

use crate::{scenario::Scenario, steps::Skips, worker::Job};

/// A run that fails where its bug is put back.
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
pub(crate) const ALL: &[Regression] = &[
    Regression {
        name: "served-before-asking",
        scenario: "removal",
        seed: 43,
        skip: "",
        about: "a former member was served by a ticket that still lived, before the tracker in use was asked about it",
    },
    Regression {
        name: "work-outlived-its-role",
        scenario: "storm",
        seed: 89,
        skip: "",
        about: "a tracker ended while its slow disk still worked for it, and could not start again",
    },
    Regression {
        name: "lagging-login",
        scenario: "newcomer",
        seed: 2,
        skip: "",
        about: "a tracker that had yet to hear of an account called its password wrong",
    },
    Regression {
        name: "refused-unmarked",
        scenario: "partition",
        seed: 3,
        skip: "",
        about: "a question was refused as if a thing did not exist by a tracker that lacked what the client had seen",
    },
    Regression {
        name: "kept-session",
        scenario: "partition",
        seed: 393_427_052,
        skip: "",
        about: "the model ended a session that had set a password on both sides of a partition, and goes on under the later one",
    },
];

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
