//! A tracker's replica: the catalog as a pure function of the set of changes it knows. No clock, socket, file or randomness.
//!
//! ```text
//! request ──► command::decide ──► ChangeBody ──► (the role: stamp, append, fsync) ──► Catalog::apply ──► Effects ──► notices
//!                  ▲ permission                                                            ▲
//!                  └──────────────── Catalog ◄── queries                links ──► anti_entropy, inbox
//! ```

pub mod anti_entropy;
pub mod catalog;
pub mod claim;
pub mod clock;
pub mod command;
pub mod effect;
pub mod few;
mod fingerprint;
pub mod fold;
mod fold_group;
pub mod graves;
pub mod group;
pub mod inbox;
pub mod ledger;
pub mod membership;
mod ownership;
pub mod permission;
pub mod query;
pub mod restore;
pub mod session;
pub mod share;
pub mod stability;
pub mod table;
pub mod user;

pub use catalog::Catalog;
pub use effect::Effect;

#[cfg(test)]
mod tests;
