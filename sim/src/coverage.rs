//! Which faults and rare branches a run has met. Whatever the suite must have seen says so in an event of its own, in the
//! simulation or in role code: `tracing::trace!(target: "coverage", reached = "fault: power failure")`.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// The target of these events.
pub(crate) const TARGET: &str = "coverage";

/// How often each point was reached.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What a run of the whole suite must have met, `<area>: <what>`: a fault that never happened proves nothing.
pub(crate) const MUST: &[&str] = &[
    "fault: power failure",
    "fault: process killed",
    "fault: stopped in order",
    "fault: messages lost",
    "fault: messages late",
    "fault: messages lost one way",
    "fault: messages lost at random",
    "fault: slow link",
    "fault: clock set ahead",
    "fault: clock set back",
    "fault: disk full",
    "fault: disk cannot be read",
    "fault: disk cannot be written",
    "fault: disk cannot be synced",
    "fault: disk slow",
    "disk: no room",
    "disk: read failed",
    "disk: write failed",
    "disk: fsync failed",
    "disk: no_space was said",
    "disk: an error was said",
    "disk: a download paused and was resumed",
    "world: a role gave up for its disk",
    "hostile: a piece of the right SHA-1",
    "hostile: address leads to another tracker",
    "hostile: an account asks for what members may know",
    "hostile: another key than announced",
    "hostile: another protocol",
    "hostile: answers with what was not asked for",
    "hostile: asks and reads a few bytes a second",
    "hostile: asks and reads nothing",
    "hostile: asks for what cannot be",
    "hostile: asks without a ticket",
    "hostile: bitfield of another length",
    "hostile: claims everything and sends nothing",
    "hostile: claims nothing and sends unasked",
    "hostile: corrupts and hangs up",
    "hostile: corrupts every k-th piece",
    "hostile: corrupts every piece",
    "hostile: corrupts one byte of each piece",
    "hostile: corrupts the first piece",
    "hostile: corrupts the last piece",
    "hostile: false tracker with a key of its own",
    "hostile: flood by a stranger",
    "hostile: flood of requests",
    "hostile: flood of small messages",
    "hostile: flood of tiny messages",
    "hostile: gives turns and sends nothing",
    "hostile: half-open handshake",
    "hostile: joins and tells nothing",
    "hostile: longest messages by a stranger",
    "hostile: looks at every byte served",
    "hostile: man in the middle",
    "hostile: many half-open handshakes",
    "hostile: many idle links",
    "hostile: member that left keeps asking",
    "hostile: member that logged out keeps asking",
    "hostile: member whose account was closed keeps asking",
    "hostile: member whose session was ended keeps asking",
    "hostile: member with an old password keeps asking",
    "hostile: oversized frame",
    "hostile: oversized frame to a server",
    "hostile: refuses a good ticket",
    "hostile: rejects every request",
    "hostile: removed member keeps asking",
    "hostile: repeats another's requests",
    "hostile: rubbish after the handshake",
    "hostile: rubbish before the handshake",
    "hostile: rubbish to a link",
    "hostile: rubbish to a port",
    "hostile: sends a byte a second",
    "hostile: sends a piece in place of another",
    "hostile: session of another device",
    "hostile: stalls after some bytes",
    "hostile: streams on which nothing is said",
    "hostile: takes back every request",
    "hostile: thousands of requests in one message",
    "hostile: ticket of another device",
    "hostile: ticket of another group",
    "hostile: ticket signed with another key",
    "hostile: ticket with a false signature",
    "hostile: truncated frame",
    "hostile: truncated frame to a server",
    "hostile: unlisted tracker",
    "hostile: wrong version",
    "newcomer: died while it fetched a snapshot",
    "newcomer: died while it forgot",
    "newcomer: died while it took a snapshot in",
    "peer: banned after corrupt piece",
    "peer: banned after it hung up",
    "peer: expelled",
    "peer: on parole",
    "peer: snubbed",
    "replica: changes forgotten",
    "replica: snapshot broken off",
    "replica: snapshot taken in",
    "ticket: excluded from open links",
    "ticket: of an ended membership",
    "ticket: of an ended session",
    "ticket: refused",
];

/// Says that this point was reached; for the simulation's own code.
pub(crate) fn reached(point: &str) {
    tracing::trace!(target: TARGET, reached = point);
}

/// The points of `must` that are not in `counts`.
pub(crate) fn missing<'a>(must: &[&'a str], counts: &Counts) -> Vec<&'a str> {
    must.iter().copied().filter(|point| !counts.contains_key(*point)).collect()
}

/// Adds the counts of one run to those of many.
pub(crate) fn add(sum: &mut Counts, run: &Counts) {
    for (point, count) in run {
        *sum.entry(point.clone()).or_default() += count;
    }
}

/// Counts during a run. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Coverage {
    counts: Arc<Mutex<Counts>>,
}

impl Coverage {
    /// The counts so far, taken out.
    pub(crate) fn take(&self) -> Counts {
        mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for Coverage {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Points(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

struct Points<'a>(&'a mut Counts);

impl Visit for Points<'_> {
    fn record_str(&mut self, field: &Field, point: &str) {
        if field.name() == "reached" {
            *self.0.entry(point.into()).or_default() += 1;
        }
    }

    fn record_debug(&mut self, field: &Field, point: &dyn Debug) {
        self.record_str(field, &format!("{point:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{FULL, Trace};

    fn counted(trace: &Trace) -> Counts {
        let coverage = Coverage::default();
        tracing::subscriber::with_default(trace.subscriber(&coverage), || {
            reached("fault: one");
            tracing::trace!(target: "coverage", reached = %format_args!("fault: {}", "two"), other = 3);
            reached("fault: one");
            tracing::trace!(target: "elsewhere", reached = "nothing");
        });
        coverage.take()
    }

    #[test]
    fn points_are_counted_whatever_is_traced() {
        let wanted = Counts::from([("fault: one".into(), 2), ("fault: two".into(), 1)]);
        for trace in [Trace::off(), Trace::kept(FULL), Trace::kept("off"), Trace::kept("info")] {
            assert_eq!(counted(&trace), wanted);
        }
    }

    #[test]
    fn what_was_never_met_is_missing() {
        let mut counts = Counts::new();
        assert_eq!(missing(&["a", "b"], &counts), ["a", "b"]);
        add(&mut counts, &Counts::from([("b".into(), 2)]));
        add(&mut counts, &Counts::from([("b".into(), 3), ("c".into(), 1)]));
        assert_eq!(missing(&["a", "b"], &counts), ["a"]);
        assert_eq!(counts["b"], 5);
    }
}
