//! The sending side of one link between trackers: what to send next, and whether the other is in touch.
//!
//! ```text
//!             Hello                   all of it confirmed
//!  (silent) ─────────► catching up ◄──────────────────────► in touch
//!                                    1 s without a confirm
//! ```
//!
//! Both sides run one. The role feeds every event in the order it happens and performs the actions in order: reads the log,
//! sends, reports. A machine lives as long as its link; a new link begins with new hellos. What arrives goes through
//! [`Inbox`](super::inbox::Inbox) first, and comes here as [`Event::Advanced`] once it is durable.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::protocol::{
    hash::Blake3Hash,
    ids::DeviceKey,
    limits::MAX_BATCH_BYTES,
    record::Change,
    sync::SyncMessage,
    version::{Dot, VersionVector},
};

/// How long a tracker in touch may take to confirm before it is out of touch.
pub const CONFIRM_DEADLINE: Duration = Duration::from_secs(1);
/// Time between two digests.
pub const DIGEST_INTERVAL: Duration = Duration::from_secs(5);
/// Batches on their way at once; keeps what the receiver holds before it is durable to a few MiB.
const MAX_BATCHES_IN_FLIGHT: usize = 8;
/// Points in time whose confirmation is watched; beyond it the newest is widened.
const MAX_MARKS: usize = 64;

/// What can happen to a link.
#[derive(Clone, Debug)]
pub enum Event {
    /// More is durable here than before: own writes, or what any link brought.
    Advanced(VersionVector),
    /// The other side's hello: all that it knows, durably.
    Hello(VersionVector),
    /// The other side's confirm.
    Confirmed(VersionVector),
    /// The other side's digest, and this tracker's own catalog at that moment.
    Digest {
        /// All that it knows, durably.
        vector: VersionVector,
        /// Its catalog's digest.
        digest: Blake3Hash,
        /// What the catalog here knows.
        own_vector: VersionVector,
        /// The digest of the catalog here.
        own_digest: Blake3Hash,
    },
    /// A batch came that held nothing new: its sender waits for a confirm.
    NothingNew,
    /// The log's answer to [`Action::Read`]: changes of that origin in order, as many as fit, at least one.
    Read(Vec<Change>),
    /// [`SyncLink::deadline`] has passed.
    Timer,
}

/// What a link asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the log; answer with [`Event::Read`]. One read is outstanding at a time.
    Read {
        /// Whose changes.
        origin: DeviceKey,
        /// From the counter after this one.
        after: u64,
        /// Up to this counter: what lies beyond may not be durable.
        up_to: u64,
        /// Encoded bytes at most, yet one change at least.
        max_bytes: usize,
    },
    /// Send this to the other side.
    Send(SyncMessage),
    /// The other side lacks changes that are forgotten here: offer it a snapshot, unless it is fetching one.
    OfferSnapshot,
    /// Send a [`SyncMessage::Digest`], if all that the catalog knows is durable just now; leave it out otherwise.
    SendDigest,
    /// The other side knows all that this one knows: writes wait for its confirm from now on.
    InTouch,
    /// The other side has not confirmed in time: writes no longer wait for it.
    OutOfTouch,
    /// Both know the same changes and make different catalogs of it: a bug, to be reported loudly.
    Diverged {
        /// This tracker's digest.
        own: Blake3Hash,
        /// The other's.
        other: Blake3Hash,
    },
}

/// How far the other side is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Changes known here that it has not confirmed.
    pub changes: u64,
    /// For how long the oldest of them has waited on this link.
    pub waited: Duration,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct SyncLink {
    own: VersionVector,
    /// What is forgotten here: nothing of it can be read from the log.
    folded: VersionVector,
    confirmed: VersionVector,
    sent: VersionVector,
    heard: bool,
    /// Up to where a read that is outstanding goes.
    reading: Option<Dot>,
    last_read: Option<DeviceKey>,
    in_flight: VecDeque<Dot>,
    /// Vectors that were known at a time and are not confirmed yet, oldest first.
    marks: VecDeque<(Instant, VersionVector)>,
    /// What must be confirmed before the other side is in touch; `None` while it is.
    catching_up: Option<VersionVector>,
    next_digest: Instant,
    /// Confirmed at the last digest: when two digests find the same, what was sent since is lost.
    at_last_digest: VersionVector,
}

impl SyncLink {
    /// A link just opened, at a tracker that knows `own` durably and has forgotten what it could of `folded`. Each side then
    /// sends its hello.
    pub fn new(own: VersionVector, folded: VersionVector, now: Instant) -> Self {
        Self {
            catching_up: Some(own.clone()),
            own,
            folded,
            confirmed: VersionVector::default(),
            sent: VersionVector::default(),
            heard: false,
            reading: None,
            last_read: None,
            in_flight: VecDeque::new(),
            marks: VecDeque::new(),
            next_digest: now + DIGEST_INTERVAL,
            at_last_digest: VersionVector::default(),
        }
    }

    /// Whether writes wait for the other side.
    pub fn is_in_touch(&self) -> bool {
        self.catching_up.is_none()
    }

    /// Whether a write must still wait: the other side is in touch and has not confirmed it.
    pub fn awaits(&self, dot: &Dot) -> bool {
        self.is_in_touch() && !self.confirmed.contains(dot)
    }

    /// All that the other side is known to know, durably.
    pub fn confirmed(&self) -> &VersionVector {
        &self.confirmed
    }

    /// How far the other side is behind.
    pub fn lag(&self, now: Instant) -> Lag {
        let waited = self.marks.front().map_or(Duration::ZERO, |(since, _)| now.saturating_duration_since(*since));
        Lag { changes: self.own.ahead_of(&self.confirmed), waited }
    }

    /// When to wake the machine with [`Event::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        let oldest = self.marks.front().filter(|_| self.is_in_touch());
        let confirm = oldest.map(|(since, _)| *since + CONFIRM_DEADLINE);
        Some(confirm.map_or(self.next_digest, |confirm| confirm.min(self.next_digest)))
    }

    /// Takes an event; adds to `out` what to do about it, in order.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Advanced(vector) => self.advance(now, &vector, out),
            Event::Hello(vector) => {
                self.heard = true;
                self.confirmed.merge(&vector);
                self.sent = self.confirmed.clone();
                self.mark(now);
                self.note_confirmed(now, out);
                if self.lacks_snapshot() {
                    out.push(Action::OfferSnapshot);
                }
            }
            Event::Confirmed(vector) => self.confirm(now, &vector, out),
            Event::Digest { vector, digest, own_vector, own_digest } => {
                if vector == own_vector && digest != own_digest {
                    out.push(Action::Diverged { own: own_digest, other: digest });
                }
                self.confirm(now, &vector, out);
                self.resend_lost();
            }
            Event::NothingNew => out.push(Action::Send(SyncMessage::Confirm(self.own.clone()))),
            Event::Read(changes) => self.send(changes, out),
            Event::Timer => self.tick(now, out),
        }
        self.read_next(out);
    }

    fn advance(&mut self, now: Instant, vector: &VersionVector, out: &mut Vec<Action>) {
        self.own.merge(vector);
        if self.heard {
            self.mark(now);
            out.push(Action::Send(SyncMessage::Confirm(self.own.clone())));
        }
    }

    /// Watches that all known now is confirmed.
    fn mark(&mut self, now: Instant) {
        if self.confirmed.includes(&self.own) {
            return;
        }
        if self.marks.len() < MAX_MARKS {
            self.marks.push_back((now, self.own.clone()));
        } else if let Some((_, newest)) = self.marks.back_mut() {
            newest.clone_from(&self.own);
        }
    }

    fn confirm(&mut self, now: Instant, vector: &VersionVector, out: &mut Vec<Action>) {
        self.confirmed.merge(vector);
        self.note_confirmed(now, out);
    }

    fn note_confirmed(&mut self, now: Instant, out: &mut Vec<Action>) {
        let confirmed = &self.confirmed;
        self.in_flight.retain(|dot| !confirmed.contains(dot));
        while self.marks.front().is_some_and(|(_, vector)| confirmed.includes(vector)) {
            self.marks.pop_front();
        }
        let reached = self.catching_up.as_ref().is_some_and(|target| confirmed.includes(target));
        if self.heard && reached && self.lag(now).waited < CONFIRM_DEADLINE / 2 {
            self.catching_up = None;
            out.push(Action::InTouch);
        }
    }

    /// Two digests in a row that confirm nothing new: what was sent meanwhile did not arrive, or was dropped for a gap.
    fn resend_lost(&mut self) {
        if self.at_last_digest == self.confirmed && !self.confirmed.includes(&self.sent) {
            self.sent = self.confirmed.clone();
            self.in_flight.clear();
        }
        self.at_last_digest.clone_from(&self.confirmed);
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.is_in_touch() && self.lag(now).waited >= CONFIRM_DEADLINE {
            self.catching_up = Some(self.own.clone());
            out.push(Action::OutOfTouch);
        }
        if now >= self.next_digest {
            self.next_digest = now + DIGEST_INTERVAL;
            if self.heard {
                out.push(Action::SendDigest);
            }
            if self.lacks_snapshot() {
                out.push(Action::OfferSnapshot);
            }
        }
    }

    fn send(&mut self, changes: Vec<Change>, out: &mut Vec<Action>) {
        let asked = self.reading.take();
        let Some(last) = changes.last().map(|change| change.dot) else {
            // All of it is forgotten: the other side has confirmed it, if not on this link.
            return asked.into_iter().for_each(|up_to| self.sent.insert(up_to));
        };
        self.sent.insert(last);
        self.in_flight.push_back(last);
        out.push(Action::Send(SyncMessage::Changes(changes)));
    }

    /// Reads on where the other side lacks something, one origin after the other.
    fn read_next(&mut self, out: &mut Vec<Action>) {
        if !self.heard
            || self.lacks_snapshot()
            || self.reading.is_some()
            || self.in_flight.len() >= MAX_BATCHES_IN_FLIGHT
        {
            return;
        }
        let lacking = || self.own.iter().filter(|newest| newest.counter > self.after(&newest.origin));
        let next = lacking().find(|dot| Some(dot.origin) > self.last_read).or_else(|| lacking().next());
        let Some(Dot { origin, counter }) = next else { return };
        out.push(Action::Read { origin, after: self.after(&origin), up_to: counter, max_bytes: MAX_BATCH_BYTES });
        self.last_read = Some(origin);
        self.reading = Some(Dot { origin, counter });
    }

    /// Whether the other side lacks changes that are forgotten here.
    fn lacks_snapshot(&self) -> bool {
        self.heard && !self.confirmed.includes(&self.folded)
    }

    /// Up to which counter of an origin the other side has, or is about to get, everything.
    fn after(&self, origin: &DeviceKey) -> u64 {
        self.sent.counter(origin).max(self.confirmed.counter(origin))
    }
}
