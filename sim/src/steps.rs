//! The steps of a run, numbered: each harm and each random piece of work, so that a run can be repeated without some of
//! them and a failing one shrunk to the few that matter.
//!
//! A step that is left out has drawn its randomness all the same, and whoever plans the next ones plans as if it had been
//! done: the others keep their numbers and their meaning.

use std::{
    collections::BTreeSet,
    fmt::{self, Display},
    num::ParseIntError,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// Numbers of steps that are left out; written `3,9-14`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Skips(BTreeSet<u32>);

impl Skips {
    /// Whether everything is done.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this step is left out.
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.0.contains(&number)
    }
}

impl FromIterator<u32> for Skips {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl FromStr for Skips {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let mut numbers = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            numbers.extend(first.trim().parse::<u32>()?..=last.trim().parse()?);
        }
        Ok(Self(numbers))
    }
}

impl TryFrom<String> for Skips {
    type Error = ParseIntError;

    fn try_from(text: String) -> Result<Self, ParseIntError> {
        text.parse()
    }
}

impl From<Skips> for String {
    fn from(skips: Skips) -> Self {
        skips.to_string()
    }
}

impl Display for Skips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

/// The count of a run's steps, and which are left out. Cheap to clone: all clones count on.
#[derive(Clone, Default)]
pub(crate) struct Steps {
    skips: Arc<Skips>,
    taken: Arc<Mutex<u32>>,
}

impl Steps {
    /// No step yet.
    pub(crate) fn new(skips: Skips) -> Self {
        Self { skips: Arc::new(skips), taken: Arc::default() }
    }

    /// Numbers the next step, says it in the trace, and tells whether to do it. Draw its randomness before.
    #[must_use]
    pub(crate) fn take(&self, what: impl Display) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        let left_out = self.skips.contains(*taken);
        tracing::info!("step {taken}{}: {what}", if left_out { " left out" } else { "" });
        !left_out
    }

    /// How many there were so far, those left out included.
    pub(crate) fn count(&self) -> u32 {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_are_read_and_written_alike() {
        for text in ["", "3", "3,9-14", "1-2,4"] {
            assert_eq!(text.parse::<Skips>().unwrap().to_string(), text);
        }
        let loose: Skips = " 9 - 10 , 3,4,5 ,,4".parse().unwrap();
        assert_eq!(loose.to_string(), "3-5,9-10");
        assert!("4-2".parse::<Skips>().unwrap().is_empty());
        for wrong in ["x", "-", "1-", "-3", "1-2-3", "1.5"] {
            assert!(wrong.parse::<Skips>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_clone_counts_on_and_a_step_left_out_counts() {
        let steps = Steps::new("2".parse().unwrap());
        let other = steps.clone();
        assert!(steps.take("one"));
        assert!(!other.take("two"));
        assert!(steps.take("three"));
        assert_eq!(other.count(), 3);
    }
}
