//! One machine: what stays of it from life to life.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use p2p::roles::environment::{Environment, Offload};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};

use super::{Name, generator};
use crate::{
    clock::SimClock,
    coverage,
    disk::{Crash, SimDisk},
    net::SimNetwork,
};

/// Room on every disk, in bytes.
const DISK_BYTES: u64 = 1 << 30;

/// A machine; clones are the same one.
#[derive(Clone)]
pub(crate) struct Host {
    name: Name,
    ip: IpAddr,
    disk: SimDisk,
    skew_ms: Arc<AtomicI64>,
    seed: u64,
    number: u64,
    lives: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    running: Arc<Mutex<Option<Environment>>>,
}

impl Host {
    /// The `number`-th machine of a run, its clock `skew_ms` ahead.
    pub(super) fn new(name: Name, ip: IpAddr, skew_ms: i64, seed: u64, number: u64) -> Self {
        Self {
            name,
            ip,
            disk: SimDisk::new(DISK_BYTES, generator(seed, number << 32)),
            skew_ms: Arc::new(AtomicI64::new(skew_ms)),
            seed,
            number,
            lives: Arc::default(),
            received: Arc::default(),
            running: Arc::default(),
        }
    }

    /// The host's name.
    pub(crate) fn name(&self) -> Name {
        self.name
    }

    /// The host's address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The host's disk.
    pub(crate) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Bytes that the host has received since the beginning, over all its lives.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The seams for the next life of this host, with fresh randomness.
    pub(super) fn environment(&self) -> Environment {
        let life = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let mut seed = [0; 32];
        generator(self.seed, (self.number << 32) + life).fill_bytes(&mut seed);
        let disk = self.disk.clone();
        let env = Environment::new(
            Arc::new(SimNetwork::new(self.ip, self.received.clone())),
            Arc::new(self.disk.clone()),
            Arc::new(SimClock::new(self.skew_ms.clone())),
            Offload::Paced(Arc::new(move || disk.delay())),
            seed,
        );
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(env.clone());
        env
    }

    /// Asks the role that runs here to stop in good order.
    pub(super) fn ask_to_stop(&self) {
        if let Some(env) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            env.shutdown.cancel();
        }
    }

    /// Whether the role that runs here was asked to stop.
    pub(super) fn is_stopping(&self) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().is_some_and(|env| env.shutdown.is_cancelled())
    }

    /// Sets the clock further ahead, or back.
    pub(super) fn jump_clock(&self, by_ms: i64) {
        self.skew_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Whether those who dial it while it has no power are told at once; else they hear nothing.
    pub(super) fn is_refused_in_the_dark(&self) -> bool {
        let life = self.lives.load(Ordering::Relaxed);
        let mut rng: ChaCha20Rng = generator(self.seed, (self.number << 32) + (1 << 31) + life);
        rng.next_u32() & 1 == 0
    }

    /// The role has stopped in order, and its process with it.
    pub(crate) fn stopped(&self) {
        self.disk.crash(Crash::Process);
    }

    /// The role gave up by itself, which only trouble with its disk allows.
    pub(crate) fn gave_up(&self, why: &dyn std::fmt::Display) -> super::Outcome {
        if !self.disk.was_in_trouble() {
            return Err(format!("{} gave up: {why}", self.name).into());
        }
        tracing::info!("gave up: {why}");
        coverage::reached("world: a role gave up for its disk");
        self.stopped();
        Ok(())
    }
}
