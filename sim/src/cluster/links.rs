//! What the links between hosts are like now, and how turmoil is told.

use std::{collections::BTreeMap, time::Duration};

use turmoil::Sim;

use super::{Name, fault::Cut};

/// Two hosts, the lesser name first.
type Pair = (Name, Name);

/// Every link that differs from an ordinary one.
#[derive(Default)]
pub(super) struct Links {
    all: BTreeMap<Pair, Link>,
}

/// What is wrong with a link, by cause; one cause ends while others last.
#[derive(Clone, Copy, Default)]
struct Link {
    cut: Option<Flow>,
    /// An end has no power.
    dark: Option<Flow>,
    /// Messages lost, of a thousand.
    loss: u32,
    /// What turmoil was told.
    told: (Option<Flow>, u32),
}

/// How messages are kept from going through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Lost,
    Late,
    /// Those from the first to the second are lost.
    OneWay(Name, Name),
}

impl Links {
    pub(super) fn cut(&mut self, sim: &mut Sim<'static>, one: Name, two: Name, cut: Cut) {
        let flow = match cut {
            Cut::Lost => Flow::Lost,
            Cut::Late => Flow::Late,
            Cut::OneWay => Flow::OneWay(one, two),
        };
        self.change(sim, pair(one, two), |link| link.cut = Some(flow));
    }

    pub(super) fn lose(&mut self, sim: &mut Sim<'static>, one: Name, two: Name, per_mille: u32) {
        self.change(sim, pair(one, two), |link| link.loss = per_mille);
    }

    pub(super) fn delay(sim: &Sim<'static>, one: Name, two: Name, most: Duration) {
        sim.set_link_max_message_latency(one, two, most);
    }

    pub(super) fn heal(&mut self, sim: &mut Sim<'static>, one: Name, two: Name) {
        self.change(sim, pair(one, two), |link| (link.cut, link.loss) = (None, 0));
    }

    /// Nothing reaches `name` or leaves it, for it has no power; what is on its way is lost.
    pub(super) fn darken(&mut self, sim: &mut Sim<'static>, name: Name, others: &[Name]) {
        for other in others {
            self.change(sim, pair(name, other), |link| link.dark = Some(Flow::Lost));
        }
    }

    /// What is sent to `name` while it is dark is no longer lost but waits, as if it were sent again and again.
    pub(super) fn silence(&mut self, sim: &mut Sim<'static>, name: Name, others: &[Name]) {
        for other in others {
            self.change(sim, pair(name, other), |link| link.dark = link.dark.map(|_| Flow::Late));
        }
    }

    /// It has power again. A link to a host that has none stays dark.
    pub(super) fn lighten(
        &mut self,
        sim: &mut Sim<'static>,
        name: Name,
        others: &[Name],
        is_dark: impl Fn(Name) -> bool,
    ) {
        for other in others.iter().filter(|other| !is_dark(other)) {
            self.change(sim, pair(name, other), |link| link.dark = None);
        }
    }

    fn change(&mut self, sim: &mut Sim<'static>, pair: Pair, change: impl FnOnce(&mut Link)) {
        let link = self.all.entry(pair).or_default();
        change(link);
        link.tell(sim, pair);
    }
}

impl Link {
    /// turmoil mixes one-way cuts with nothing else: random loss would heal them, and so it rests meanwhile.
    fn tell(&mut self, sim: &mut Sim<'static>, (one, two): Pair) {
        let flow = self.dark.or(self.cut);
        let loss = if matches!(flow, Some(Flow::OneWay(..))) { 0 } else { self.loss };
        let (flow_before, loss_before) = std::mem::replace(&mut self.told, (flow, loss));
        if loss != loss_before {
            sim.set_link_fail_rate(one, two, f64::from(loss) / 1000.0);
        }
        if flow == flow_before {
            return;
        }
        match flow_before {
            Some(Flow::Late) => sim.release(one, two),
            _ => sim.repair(one, two),
        }
        match flow {
            Some(Flow::Lost) => sim.partition(one, two),
            Some(Flow::Late) => sim.hold(one, two),
            Some(Flow::OneWay(from, to)) => sim.partition_oneway(from, to),
            None => {}
        }
    }
}

fn pair(one: Name, two: Name) -> Pair {
    (one.min(two), one.max(two))
}
