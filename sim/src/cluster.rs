//! Hosts that run the roles, and the faults that befall them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display},
    future::Future,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use p2p::roles::environment::{Environment, Offload};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use turmoil::{Builder, Sim};

use crate::{
    clock::{BEGIN_MS, SimClock},
    coverage,
    disk::{Crash, SimDisk},
    net::SimNetwork,
    oracle::Watch,
    panics,
    steps::{Skips, Steps},
};

/// Room on every disk, in bytes.
const DISK_BYTES: u64 = 1 << 30;
/// A run that simulates longer is wedged.
const LONGEST: Duration = Duration::from_mins(20);
/// Time in one step of the simulation: messages arrive between two steps, in which each host runs by itself. Nearly all of
/// a quiet minute's cost is its steps, so most seeds take long ones; timers are exact within a step.
const TICK: Duration = Duration::from_millis(5);
/// One seed in so many takes steps of a millisecond, in which hosts interleave more finely.
const FINE: u64 = 16;
/// Segments under way on one connection and direction.
const SEGMENTS: usize = 64;

/// What a host or a script ends with.
pub(crate) type Outcome = turmoil::Result;

/// A simulation being put together.
pub(crate) struct Cluster {
    sim: Sim<'static>,
    seed: u64,
    hosts: BTreeMap<&'static str, Host>,
    faults: Faults,
    /// Hosts that have crashed.
    down: BTreeSet<&'static str>,
    watch: Watch,
    /// Pairs of hosts that are cut off from each other, the lesser name first.
    cuts: BTreeMap<(&'static str, &'static str), Cut>,
}

/// One machine: what stays of it from life to life.
#[derive(Clone)]
pub(crate) struct Host {
    ip: IpAddr,
    disk: SimDisk,
    skew_ms: i64,
    seed: u64,
    number: u64,
    lives: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl Cluster {
    /// No hosts yet; `seed` decides everything that is left to chance, and the steps in `skips` are left out.
    pub(crate) fn new(seed: u64, skips: Skips) -> Self {
        let sim = Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_millis(BEGIN_MS))
            .simulation_duration(LONGEST)
            .tick_duration(if seed.is_multiple_of(FINE) { Duration::from_millis(1) } else { TICK })
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(40))
            .tcp_capacity(SEGMENTS)
            .enable_random_order()
            .build();
        let faults = Faults { steps: Steps::new(skips), orders: Arc::default() };
        Self {
            sim,
            seed,
            hosts: BTreeMap::new(),
            faults,
            watch: Watch::default(),
            down: BTreeSet::new(),
            cuts: BTreeMap::new(),
        }
    }

    /// Plugs a machine in, its clock `skew_ms` ahead; nothing runs on it yet.
    pub(crate) fn machine(&mut self, name: &'static str, skew_ms: i64) -> Host {
        let number = self.hosts.len() as u64 + 1;
        let disk = SimDisk::new(DISK_BYTES, generator(self.seed, number << 32));
        let ip = self.sim.lookup(name);
        let host = Host { ip, disk, skew_ms, seed: self.seed, number, lives: Arc::default(), received: Arc::default() };
        self.hosts.insert(name, host.clone());
        self.watch.plugged(name, host.disk.clone());
        host
    }

    /// Runs `software` on a machine, now and after every restart.
    pub(crate) fn start<F, Fut>(&mut self, name: &'static str, software: F)
    where
        F: Fn(Environment) -> Fut + 'static,
        Fut: Future<Output = Outcome> + 'static,
    {
        let host = self.hosts[name].clone();
        self.sim.host(name, move || software(host.environment()));
    }

    /// What the script uses to do harm.
    pub(crate) fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// What the oracles look at.
    pub(crate) fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// The randomness of the script.
    pub(crate) fn rng(&self) -> ChaCha20Rng {
        generator(self.seed, 0)
    }

    /// What the script asks before each random piece of work.
    pub(crate) fn steps(&self) -> Steps {
        self.faults.steps.clone()
    }

    /// Simulated time so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Runs everything until the script ends; fails when it, or any host, fails.
    pub(crate) fn run(&mut self, script: impl Future<Output = Outcome> + 'static) -> Outcome {
        self.sim.client("script", script);
        while !self.sim.step()? {
            panics::none()?;
            for order in self.faults.take() {
                self.obey(order);
            }
        }
        Ok(())
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Crash(name, how) => {
                // Before the tasks are dropped: what they write on their way out must not arrive.
                self.hosts[name].disk.crash(how);
                match how {
                    Crash::Process => self.sim.crash(name),
                    Crash::Power => self.silently(name, |sim| sim.crash(name)),
                }
                self.down.insert(name);
            }
            // A crash that was left out leaves nothing to do.
            Order::Restart(name) => {
                if self.down.remove(name) {
                    self.sim.bounce(name);
                }
            }
            Order::Cut(one, two, cut) => self.cut(one, two, cut),
            Order::Heal(one, two) => self.heal(one, two),
        }
    }

    fn cut(&mut self, one: &'static str, two: &'static str, cut: Cut) {
        self.heal(one, two);
        match cut {
            Cut::Lost => self.sim.partition(one, two),
            Cut::Late => self.sim.hold(one, two),
        }
        self.cuts.insert(pair(one, two), cut);
    }

    fn heal(&mut self, one: &'static str, two: &'static str) {
        match self.cuts.remove(&pair(one, two)) {
            Some(Cut::Lost) => self.sim.repair(one, two),
            Some(Cut::Late) => self.sim.release(one, two),
            None => {}
        }
    }

    /// Does something during which the host sends nothing: without power no connection is closed.
    fn silently(&mut self, name: &'static str, act: impl FnOnce(&mut Sim<'static>)) {
        let cuts = &self.cuts;
        let cut_off = |other: &&'static str| cuts.contains_key(&pair(name, other));
        let others = self.hosts.keys().copied().filter(|other| *other != name && !cut_off(other));
        let others: Vec<_> = others.collect();
        for other in &others {
            self.sim.partition(name, *other);
        }
        act(&mut self.sim);
        for other in others {
            self.sim.repair(name, other);
        }
    }
}

impl Host {
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
    fn environment(&self) -> Environment {
        let life = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let mut seed = [0; 32];
        generator(self.seed, (self.number << 32) + life).fill_bytes(&mut seed);
        Environment::new(
            Arc::new(SimNetwork::new(self.ip, self.received.clone())),
            Arc::new(self.disk.clone()),
            Arc::new(SimClock::new(self.skew_ms)),
            Offload::Inline,
            seed,
        )
    }
}

/// A generator of its own for each `stream` of a run.
fn generator(seed: u64, stream: u64) -> ChaCha20Rng {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Harm done to hosts and links; for the script.
///
/// Each harm is a step of the run, which may be left out; what mends it is none, and does nothing where no harm was done: a
/// world left broken would fail for another reason.
#[derive(Clone)]
pub(crate) struct Faults {
    steps: Steps,
    orders: Arc<Mutex<Vec<Order>>>,
}

/// What becomes of that which two hosts send each other while they are cut off.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// It is lost for good: there is no retransmission, and a connection attempt is refused.
    Lost,
    /// It arrives when the cut is healed; until then, silence.
    Late,
}

/// Two hosts, the lesser name first.
fn pair(one: &'static str, two: &'static str) -> (&'static str, &'static str) {
    (one.min(two), one.max(two))
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Crash(&'static str, Crash),
    Restart(&'static str),
    Cut(&'static str, &'static str, Cut),
    Heal(&'static str, &'static str),
}

impl Order {
    /// The coverage point of an order that does harm; none for one that mends.
    fn harm(&self) -> Option<&'static str> {
        match self {
            Self::Crash(_, Crash::Power) => Some("fault: power failure"),
            Self::Crash(_, Crash::Process) => Some("fault: process killed"),
            Self::Cut(_, _, Cut::Lost) => Some("fault: messages lost"),
            Self::Cut(_, _, Cut::Late) => Some("fault: messages late"),
            Self::Restart(_) | Self::Heal(..) => None,
        }
    }
}

impl Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(name, Crash::Power) => write!(f, "power failure at {name}"),
            Self::Crash(name, Crash::Process) => write!(f, "kill {name}"),
            Self::Restart(name) => write!(f, "restart {name}"),
            Self::Cut(one, two, Cut::Lost) => write!(f, "lose all between {one} and {two}"),
            Self::Cut(one, two, Cut::Late) => write!(f, "hold all between {one} and {two}"),
            Self::Heal(one, two) => write!(f, "heal {one} and {two}"),
        }
    }
}

impl Faults {
    /// Ends a host's life at once.
    pub(crate) async fn crash(&self, name: &'static str, how: Crash) {
        self.order(Order::Crash(name, how)).await;
    }

    /// Starts a crashed host again, with the disk it left.
    pub(crate) async fn restart(&self, name: &'static str) {
        self.order(Order::Restart(name)).await;
    }

    /// Cuts two hosts off from each other.
    pub(crate) async fn cut(&self, one: &'static str, two: &'static str, cut: Cut) {
        self.order(Order::Cut(one, two, cut)).await;
    }

    /// Cuts two hosts off from each other; what they send is lost.
    pub(crate) async fn partition(&self, one: &'static str, two: &'static str) {
        self.cut(one, two, Cut::Lost).await;
    }

    /// Lets two hosts hear each other again.
    pub(crate) async fn heal(&self, one: &'static str, two: &'static str) {
        self.order(Order::Heal(one, two)).await;
    }

    /// Orders are obeyed between two steps.
    async fn order(&self, order: Order) {
        match order.harm() {
            Some(_) if !self.steps.take(order) => return tokio::time::sleep(2 * TICK).await,
            Some(harm) => coverage::reached(harm),
            None => tracing::info!("{order}"),
        }
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order);
        tokio::time::sleep(2 * TICK).await;
    }

    fn take(&self) -> Vec<Order> {
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
