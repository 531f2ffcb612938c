//! The built binary as people and scripts use it: processes, pipes, signals, terminals, files on a real disk.
//!
//! One test binary, so that it is linked once and its tests run side by side.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the seams bind the roles; these tests stand outside of the program"
)]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed step is a failed test, and says what went on")]

mod abuse;
mod common;

mod accounts;
mod bench;
mod cli;
mod crash;
mod edges;
mod errors;
mod failover;
mod keys;
mod life;
mod limits;
mod many;
mod partition;
mod rights;
mod swarm;
mod terminal;
mod timing;
