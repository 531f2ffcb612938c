//! Hosts that run the roles, and the world between them.

mod fault;
mod host;
mod links;
mod names;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::{Duration, SystemTime},
};

use p2p::roles::environment::Environment;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use turmoil::{Builder, Sim};

use self::{fault::Order, links::Links};
pub(crate) use self::{
    fault::{Cut, Faults},
    host::Host,
    names::{Name, peer_name, tracker_name},
};
use crate::{
    clock::BEGIN_MS,
    disk::Crash,
    oracle::Watch,
    panics,
    steps::{Skips, Steps},
};

/// A run that simulates longer is wedged.
const LONGEST: Duration = Duration::from_mins(20);
/// Time in one step of the simulation: messages arrive between two steps, in which each host runs by itself. Nearly all of
/// a quiet minute's cost is its steps, so most seeds take long ones; timers are exact within a step.
const TICK: Duration = Duration::from_millis(5);
/// One seed in so many takes steps of a millisecond, in which hosts interleave more finely.
const FINE: u64 = 16;
/// The longest that a message takes on links that are alike, in milliseconds; the seed chooses for each link.
const LATENCIES_MS: [u64; 4] = [2, 40, 40, 120];
/// Segments under way on one connection and direction.
const SEGMENTS: usize = 64;

/// What a host or a script ends with.
pub(crate) type Outcome = turmoil::Result;

/// A simulation being put together.
pub(crate) struct Cluster {
    sim: Sim<'static>,
    seed: u64,
    hosts: BTreeMap<Name, Host>,
    faults: Faults,
    watch: Watch,
    links: Links,
    /// Hosts without power.
    dark: BTreeSet<Name>,
    /// Hosts that start again as soon as they have stopped.
    restarting: BTreeSet<Name>,
    even_links: bool,
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
        let faults = Faults::new(Steps::new(skips));
        Self {
            sim,
            seed,
            hosts: BTreeMap::new(),
            faults,
            watch: Watch::default(),
            links: Links::default(),
            dark: BTreeSet::new(),
            restarting: BTreeSet::new(),
            even_links: false,
        }
    }

    /// Plugs a machine in, its clock `skew_ms` ahead; nothing runs on it yet.
    pub(crate) fn machine(&mut self, name: Name, skew_ms: i64) -> Host {
        let number = self.hosts.len() as u64 + 1;
        let host = Host::new(name, self.sim.lookup(name), skew_ms, self.seed, number);
        self.hosts.insert(name, host.clone());
        self.watch.plugged(name, host.disk().clone());
        host
    }

    /// Runs `software` on a machine, now and after every restart.
    pub(crate) fn start<F, Fut>(&mut self, name: Name, software: F)
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

    /// What the run is called: for a scenario that takes turns from seed to seed.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The randomness of the script.
    pub(crate) fn rng(&self) -> ChaCha20Rng {
        generator(self.seed, 0)
    }

    /// What the script asks before each random piece of work.
    pub(crate) fn steps(&self) -> Steps {
        self.faults.steps().clone()
    }

    /// Simulated time so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Every link is as long as every other: for scenarios that measure who serves how much.
    pub(crate) fn lay_even_links(&mut self) {
        self.even_links = true;
    }

    /// Runs everything until the script ends; fails when it, or any host, fails.
    pub(crate) fn run(&mut self, script: impl Future<Output = Outcome> + 'static) -> Outcome {
        if !self.even_links {
            self.lay_links();
        }
        self.sim.client("script", script);
        while !self.sim.step()? {
            panics::none()?;
            for order in self.faults.take() {
                self.obey(order);
            }
            self.start_those_that_stopped();
        }
        Ok(())
    }

    /// Gives each link a length.
    fn lay_links(&mut self) {
        let mut rng = generator(self.seed, 1);
        let names: Vec<Name> = self.hosts.keys().copied().collect();
        for (index, one) in names.iter().enumerate() {
            for two in &names[index + 1..] {
                let longest = LATENCIES_MS[rng.next_u32() as usize % LATENCIES_MS.len()];
                Links::delay(&self.sim, one, two, Duration::from_millis(longest));
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Crash(name, Crash::Power) => self.lose_power(name),
            Order::Crash(name, Crash::Process) => {
                // Before the tasks are dropped: what they write on their way out must not arrive.
                self.hosts[name].disk().crash(Crash::Process);
                self.sim.crash(name);
            }
            Order::Stop(name) => self.hosts[name].ask_to_stop(),
            Order::Restart(name) => self.restart(name),
            Order::Cut(one, two, cut) => self.links.cut(&mut self.sim, one, two, cut),
            Order::Lose(one, two, per_mille) => self.links.lose(&mut self.sim, one, two, per_mille),
            Order::Delay(one, two, most) => Links::delay(&self.sim, one, two, most),
            Order::Heal(one, two) => self.links.heal(&mut self.sim, one, two),
            Order::Clock(name, by_ms) => self.hosts[name].jump_clock(by_ms),
            Order::Disk(name, trouble) => self.hosts[name].disk().befall(trouble),
            Order::Mend(name) => self.hosts[name].disk().mend(),
        }
    }

    /// Nobody hears of it: without power no connection is closed.
    fn lose_power(&mut self, name: Name) {
        let others = self.others(name);
        self.hosts[name].disk().crash(Crash::Power);
        self.dark.insert(name);
        self.links.darken(&mut self.sim, name, &others);
        self.sim.crash(name);
        if !self.hosts[name].is_refused_in_the_dark() {
            self.links.silence(&mut self.sim, name, &others);
        }
    }

    fn start_those_that_stopped(&mut self) {
        for name in std::mem::take(&mut self.restarting) {
            self.restart(name);
        }
    }

    /// Without effect on a host that runs: its crash was left out. One that is stopping starts when it has stopped.
    fn restart(&mut self, name: Name) {
        if self.dark.remove(name) {
            let (others, dark) = (self.others(name), &self.dark);
            self.links.lighten(&mut self.sim, name, &others, |other| dark.contains(other));
        }
        if !self.sim.is_host_running(name) {
            self.sim.bounce(name);
        } else if self.hosts[name].is_stopping() {
            self.restarting.insert(name);
        }
    }

    fn others(&self, name: Name) -> Vec<Name> {
        self.hosts.keys().copied().filter(|other| *other != name).collect()
    }
}

/// A generator of its own for each `stream` of a run.
fn generator(seed: u64, stream: u64) -> ChaCha20Rng {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}
