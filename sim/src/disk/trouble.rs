//! What a disk that fails does: it is full, it answers with errors, it is slow.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    io,
    path::Path,
    time::Duration,
};

use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};

use crate::coverage;

/// `EIO`: what the system says when the medium fails.
const EIO: i32 = 5;

/// What the disk is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Bytes or names are read.
    Read,
    /// Bytes, sizes or names change.
    Write,
    /// fsync of a file or a folder.
    Sync,
}

/// What goes wrong with a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// It is full but for so many bytes.
    Full {
        /// Bytes that are left.
        left: u64,
    },
    /// One in so many operations under a path fails.
    Errors {
        /// Which.
        what: Operation,
        /// One in so many, at random.
        one_in: u32,
        /// The folder or file.
        under: &'static str,
    },
    /// Whatever is done takes up to so long, twice.
    Slow {
        /// The longest.
        most: Duration,
    },
}

impl Trouble {
    /// The coverage point.
    pub(crate) fn point(&self) -> &'static str {
        match self {
            Self::Full { .. } => "fault: disk full",
            Self::Errors { what: Operation::Read, .. } => "fault: disk cannot be read",
            Self::Errors { what: Operation::Write, .. } => "fault: disk cannot be written",
            Self::Errors { what: Operation::Sync, .. } => "fault: disk cannot be synced",
            Self::Slow { .. } => "fault: disk slow",
        }
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { left } => write!(f, "disk full but for {left} bytes"),
            Self::Errors { what, one_in, under } => write!(f, "{what:?} error, one in {one_in}, under {under}"),
            Self::Slow { most } => write!(f, "disk slow by {most:?}"),
        }
    }
}

/// The trouble that a disk has now.
#[derive(Default)]
pub(super) struct Troubles {
    capacity: Option<u64>,
    errors: BTreeMap<Operation, (u32, &'static str)>,
    slow: Duration,
    felt: bool,
}

impl Troubles {
    /// `used`: bytes on the disk now.
    pub(super) fn befall(&mut self, trouble: Trouble, used: u64) {
        match trouble {
            Trouble::Full { left } => self.capacity = Some(used + left),
            Trouble::Errors { what, one_in, under } => {
                self.errors.insert(what, (one_in, under));
            }
            Trouble::Slow { most } => self.slow = most,
        }
    }

    pub(super) fn mend(&mut self) {
        *self = Self { felt: self.felt, ..Self::default() };
    }

    pub(super) fn are_there(&self) -> bool {
        self.capacity.is_some() || !self.errors.is_empty() || !self.slow.is_zero()
    }

    /// Whether anything has failed.
    pub(super) fn were_felt(&self) -> bool {
        self.felt
    }

    /// Room for used and unused bytes, when it is less than the disk was bought with.
    pub(super) fn capacity(&self) -> Option<u64> {
        self.capacity
    }

    pub(super) fn found_full(&mut self) {
        self.felt = true;
        coverage::reached("disk: no room");
    }

    /// Fails as the trouble has it.
    pub(super) fn attempt(&mut self, what: Operation, path: &Path, rng: &mut ChaCha20Rng) -> io::Result<()> {
        let Some((one_in, under)) = self.errors.get(&what) else { return Ok(()) };
        if !path.starts_with(under) || !rng.next_u32().is_multiple_of(*one_in) {
            return Ok(());
        }
        self.felt = true;
        tracing::debug!(?what, path = %path.display(), "disk error");
        coverage::reached(match what {
            Operation::Read => "disk: read failed",
            Operation::Write => "disk: write failed",
            Operation::Sync => "disk: fsync failed",
        });
        Err(io::Error::from_raw_os_error(EIO))
    }

    pub(super) fn delay(&self, rng: &mut ChaCha20Rng) -> Duration {
        match u64::try_from(self.slow.as_micros()).expect("a short time") {
            0 => Duration::ZERO,
            most => Duration::from_micros(rng.next_u64() % most),
        }
    }
}
