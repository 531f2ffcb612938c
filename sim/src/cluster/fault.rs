//! Harm done to hosts, links, clocks and disks, and what mends it.

use std::{
    fmt::{self, Display},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Name, TICK};
use crate::{
    coverage,
    disk::{Crash, Trouble},
    steps::Steps,
};

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
    /// What the first sends the second is lost; the other way all is well.
    OneWay,
}

/// What the world is to do between two steps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Crash(Name, Crash),
    Stop(Name),
    Restart(Name),
    Cut(Name, Name, Cut),
    /// Of a thousand messages, so many are lost.
    Lose(Name, Name, u32),
    /// Messages take up to so long.
    Delay(Name, Name, Duration),
    Heal(Name, Name),
    Clock(Name, i64),
    Disk(Name, Trouble),
    Mend(Name),
}

impl Order {
    /// The coverage point of an order that does harm; none for one that mends.
    fn harm(&self) -> Option<&'static str> {
        match self {
            Self::Crash(_, Crash::Power) => Some("fault: power failure"),
            Self::Crash(_, Crash::Process) => Some("fault: process killed"),
            Self::Stop(_) => Some("fault: stopped in order"),
            Self::Cut(_, _, Cut::Lost) => Some("fault: messages lost"),
            Self::Cut(_, _, Cut::Late) => Some("fault: messages late"),
            Self::Cut(_, _, Cut::OneWay) => Some("fault: messages lost one way"),
            Self::Lose(..) => Some("fault: messages lost at random"),
            Self::Delay(..) => Some("fault: slow link"),
            Self::Clock(_, by_ms) if *by_ms < 0 => Some("fault: clock set back"),
            Self::Clock(..) => Some("fault: clock set ahead"),
            Self::Disk(_, trouble) => Some(trouble.point()),
            Self::Restart(_) | Self::Heal(..) | Self::Mend(_) => None,
        }
    }
}

impl Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(name, Crash::Power) => write!(f, "power failure at {name}"),
            Self::Crash(name, Crash::Process) => write!(f, "kill {name}"),
            Self::Stop(name) => write!(f, "stop {name}"),
            Self::Restart(name) => write!(f, "restart {name}"),
            Self::Cut(one, two, Cut::Lost) => write!(f, "lose all between {one} and {two}"),
            Self::Cut(one, two, Cut::Late) => write!(f, "hold all between {one} and {two}"),
            Self::Cut(one, two, Cut::OneWay) => write!(f, "lose all from {one} to {two}"),
            Self::Lose(one, two, per_mille) => write!(f, "lose {per_mille} ‰ between {one} and {two}"),
            Self::Delay(one, two, most) => write!(f, "up to {most:?} between {one} and {two}"),
            Self::Heal(one, two) => write!(f, "heal {one} and {two}"),
            Self::Clock(name, by_ms) => write!(f, "clock of {name} by {by_ms} ms"),
            Self::Disk(name, trouble) => write!(f, "{trouble} at {name}"),
            Self::Mend(name) => write!(f, "mend the disk of {name}"),
        }
    }
}

impl Faults {
    pub(super) fn new(steps: Steps) -> Self {
        Self { steps, orders: Arc::default() }
    }

    pub(super) fn steps(&self) -> &Steps {
        &self.steps
    }

    /// Ends a host's life at once; false where this step is left out.
    pub(crate) async fn crash(&self, name: Name, how: Crash) -> bool {
        self.order(Order::Crash(name, how)).await
    }

    /// Asks the role at a host to stop; it must have ended soon, and all its tasks with it.
    pub(crate) async fn stop(&self, name: Name) {
        self.order(Order::Stop(name)).await;
    }

    /// Starts a host that runs nothing again, with the disk it left.
    pub(crate) async fn restart(&self, name: Name) {
        self.order(Order::Restart(name)).await;
    }

    /// As an operator stops a role to change its set-up: no harm, and no step.
    pub(crate) async fn halt(&self, name: Name) {
        tracing::info!("halt {name}");
        self.give([Order::Stop(name)]).await;
    }

    /// Cuts two hosts off from each other; false where this step is left out.
    pub(crate) async fn cut(&self, one: Name, two: Name, cut: Cut) -> bool {
        self.order(Order::Cut(one, two, cut)).await
    }

    /// Cuts many hosts off from each other in one step; false where it is left out.
    pub(crate) async fn cut_all(&self, pairs: &[(Name, Name)], cut: Cut) -> bool {
        if !self.steps.take(format_args!("{cut:?} is all between each of {pairs:?}")) {
            return false;
        }
        let orders: Vec<_> = pairs.iter().map(|(one, two)| Order::Cut(one, two, cut)).collect();
        orders.first().and_then(Order::harm).into_iter().for_each(coverage::reached);
        self.give(orders).await;
        true
    }

    /// Cuts two hosts off from each other; what they send is lost.
    pub(crate) async fn partition(&self, one: Name, two: Name) {
        self.cut(one, two, Cut::Lost).await;
    }

    /// Loses some messages between two hosts, of a thousand so many. A stream that lost one delivers nothing more.
    pub(crate) async fn lose(&self, one: Name, two: Name, per_mille: u32) {
        self.order(Order::Lose(one, two, per_mille)).await;
    }

    /// Lets messages between two hosts take up to so long, for good.
    pub(crate) async fn delay(&self, one: Name, two: Name, most: Duration) {
        self.order(Order::Delay(one, two, most)).await;
    }

    /// Lets two hosts hear each other again, all of it.
    pub(crate) async fn heal(&self, one: Name, two: Name) {
        self.order(Order::Heal(one, two)).await;
    }

    /// Sets a host's clock ahead, or back.
    pub(crate) async fn jump_clock(&self, name: Name, by_ms: i64) {
        self.order(Order::Clock(name, by_ms)).await;
    }

    /// Gives a host trouble with its disk, beside what it has.
    pub(crate) async fn disk(&self, name: Name, trouble: Trouble) {
        self.order(Order::Disk(name, trouble)).await;
    }

    /// Ends all trouble with a host's disk.
    pub(crate) async fn mend_disk(&self, name: Name) {
        self.order(Order::Mend(name)).await;
    }

    /// Whether it was done: harm may be left out.
    async fn order(&self, order: Order) -> bool {
        match order.harm() {
            Some(_) if !self.steps.take(order) => {
                tokio::time::sleep(2 * TICK).await;
                return false;
            }
            Some(harm) => coverage::reached(harm),
            None => tracing::info!("{order}"),
        }
        self.give([order]).await;
        true
    }

    /// Orders are obeyed between two steps.
    async fn give(&self, orders: impl IntoIterator<Item = Order>) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).extend(orders);
        tokio::time::sleep(2 * TICK).await;
    }

    pub(super) fn take(&self) -> Vec<Order> {
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
