//! The roles: async shells that wire the machines to network, disk and clock. They decide nothing themselves.

pub mod bench;
pub mod client;
pub mod demo;
mod doors;
pub mod environment;
mod port;
pub mod tracker;
pub mod units;
