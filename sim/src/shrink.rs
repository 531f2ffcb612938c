//! The search for a short schedule: leaves out ever smaller parts of a failing run as long as it still fails alike.

use crate::steps::Skips;

/// One search. Ask for the next attempt, run it, say how it went.
pub(crate) struct Shrink {
    /// Steps that are still done.
    kept: Vec<u32>,
    /// Steps left out.
    dropped: Vec<u32>,
    /// How many are left out at once.
    chunk: usize,
    /// End of the chunk that is tried, counted in `kept`: late steps are left out first.
    end: usize,
    /// Whether anything was left out since chunks have had this size.
    progress: bool,
}

impl Shrink {
    /// Of a run with `steps` steps, without those in `skips`.
    pub(crate) fn new(steps: u32, skips: &Skips) -> Self {
        let (dropped, kept): (Vec<_>, Vec<_>) = (1..=steps).partition(|step| skips.contains(*step));
        Self { chunk: kept.len(), end: kept.len(), kept, dropped, progress: false }
    }

    /// What to leave out next; nothing when every single step that is left is needed.
    pub(crate) fn attempt(&self) -> Option<Skips> {
        let tried = self.kept.get(self.end.saturating_sub(self.chunk)..self.end)?;
        (!tried.is_empty()).then(|| self.dropped.iter().chain(tried).copied().collect())
    }

    /// How the last attempt went.
    pub(crate) fn judge(&mut self, failed_alike: bool) {
        let begin = self.end.saturating_sub(self.chunk);
        if failed_alike {
            self.dropped.extend(self.kept.drain(begin..self.end));
            self.progress = true;
        }
        self.end = begin;
        if self.end == 0 {
            self.next_pass();
        }
    }

    /// The shortest schedule so far, as what is left out.
    pub(crate) fn best(&self) -> Skips {
        self.dropped.iter().copied().collect()
    }

    /// How many steps that schedule has.
    pub(crate) fn left(&self) -> usize {
        self.kept.len()
    }

    /// Single steps are tried again and again, until none can go: without one, another may no longer be needed.
    fn next_pass(&mut self) {
        let again = self.chunk == 1 && self.progress;
        self.chunk = if again { 1 } else { self.chunk.min(self.kept.len()) / 2 };
        self.end = if self.chunk == 0 { 0 } else { self.kept.len() };
        self.progress = false;
    }
}

/// What kind of failure it is: its first line without the numbers and names that differ from seed to seed.
pub(crate) fn kind(failure: &str) -> String {
    let first = failure.lines().next().unwrap_or_default();
    let word = |word: &str| if word.contains(|c: char| c.is_ascii_digit()) { "#".into() } else { word.to_owned() };
    first.split(|c: char| !c.is_alphanumeric()).map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Shrinks a run that fails when `fails` says so of the steps that are done; gives what is left and how many runs it took.
    fn shrunk(steps: u32, skips: &str, fails: impl Fn(&BTreeSet<u32>) -> bool) -> (Vec<u32>, usize) {
        let mut shrink = Shrink::new(steps, &skips.parse().unwrap());
        let mut runs = 0;
        while let Some(skips) = shrink.attempt() {
            let done = (1..=steps).filter(|step| !skips.contains(*step)).collect();
            shrink.judge(fails(&done));
            runs += 1;
            assert!(runs < 1000, "no end");
        }
        let best = shrink.best();
        let left: Vec<_> = (1..=steps).filter(|step| !best.contains(*step)).collect();
        assert_eq!(left.len(), shrink.left());
        (left, runs)
    }

    #[test]
    fn exactly_the_steps_that_matter_are_left() {
        let (left, runs) = shrunk(100, "", |done| [7, 40, 41].iter().all(|step| done.contains(step)));
        assert_eq!(left, [7, 40, 41]);
        assert!(runs < 60, "{runs} runs");
        assert_eq!(shrunk(100, "", |done| done.contains(&100)).0, [100]);
        assert_eq!(shrunk(3, "", |done| done.len() == 3).0, [1, 2, 3]);
        assert_eq!(shrunk(1, "", |done| done.contains(&1)).0, [1]);
    }

    #[test]
    fn a_run_that_fails_without_any_step_has_none() {
        assert_eq!(shrunk(50, "", |_| true), (vec![], 1));
        assert_eq!(shrunk(0, "", |_| true), (vec![], 0));
    }

    #[test]
    fn one_step_that_only_undoes_another_goes_with_it() {
        // 3 breaks, 9 mends, 20 breaks again: without 9, 20 is not needed.
        let fails = |done: &BTreeSet<u32>| done.contains(&20) || (done.contains(&3) && !done.contains(&9));
        assert_eq!(shrunk(30, "", fails).0.len(), 1);
    }

    #[test]
    fn steps_left_out_before_stay_out() {
        let (left, _) = shrunk(10, "1-4", |done| !done.contains(&2) && done.contains(&6));
        assert_eq!(left, [6]);
    }

    #[test]
    fn failures_are_alike_up_to_numbers() {
        assert_eq!(kind("alice: g17 lost after 3 s\nmore"), kind("alice: g4 lost after 21 s"));
        assert_ne!(kind("alice: stuck"), kind("alice: lost"));
        assert_eq!(kind(""), "");
    }
}
