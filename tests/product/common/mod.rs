//! What every test needs: a world of its own (folder, ports, trackers), clients to talk to, and content to share.

mod client;
mod content;
mod gate;
mod process;
pub(crate) mod stranger;
mod world;

pub(crate) use client::{Client, quoted, row};
pub(crate) use content::{noise, write_noise};
pub(crate) use gate::{Cut, Gate, Network};
pub(crate) use process::{P2P, Process, run, run_with};
pub(crate) use world::{World, free_address};

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before it counts as stuck. Generous: a test waits for what happens, never for time to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Asks again and again until there is an answer; panics with `what` when there is none in time.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(30));
    }
}
