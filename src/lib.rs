//! p2p: groups of people move large files among their own machines.
//!
//! Arrows point one way, downward: `roles` wire the seams (`transport`, `store::disk`, clock, randomness) to the pure
//! machines (`replica`, `swarm`), and everything speaks the vocabulary of `protocol`.
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the seams bind the roles, not their tests")
)]

pub mod cli;
pub mod console;
pub mod exit;
pub mod mutant;
pub mod protocol;
pub mod replica;
pub mod roles;
pub mod run;
pub mod store;
pub mod swarm;
pub mod telemetry;
pub mod transport;
#[cfg(test)]
mod trials;
