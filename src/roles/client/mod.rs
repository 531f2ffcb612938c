//! The client role: commands in, replies and events out; shares, downloads and peers behind them.

pub mod command;
