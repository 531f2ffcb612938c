//! Which piece to ask of whom, whom to serve next, and how fast: pure machines without clock, socket or file.

#![cfg_attr(
    test,
    allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "numbers in tests are small")
)]

mod availability;
pub mod download;
mod event;
mod picker;
mod pieces;
pub mod rate;
mod remote;
pub mod streams;
mod turns;
mod uplink;

#[cfg(test)]
mod far_tests;
#[cfg(test)]
mod tests;
pub mod upload;

/// A link to one other peer, numbered by the caller.
///
/// Numbers are never used again, so that a late event of a lost link cannot be taken for one of its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// New pieces announced at once; fewer wait for others, if any were announced within the last [`HAVE_DELAY`].
pub const HAVE_BATCH: usize = 16;

/// Shortest time between announcements of fewer pieces than [`HAVE_BATCH`].
pub const HAVE_DELAY: std::time::Duration = std::time::Duration::from_millis(50);

/// Blocks in a piece, the last of a file aside.
const BLOCKS_PER_PIECE: usize = (crate::protocol::piece::PIECE_SIZE / crate::protocol::piece::BLOCK_SIZE) as usize;
