//! Which tracker to dial, and when. Knows no network and reads no clock.
//!
//! ```text
//!             Linked(i)                        Lost(i)
//! searching ───────────► linked to i ───────────────────────► searching, i last
//!     ▲ │ Failed, Refused: that tracker waits; the others go on
//!     └─┘
//! ```
//! Searching dials the tracker at the head of the queue, and every `STAGGER` one more beside it, until one is linked
//! (after RFC 8305, "happy eyeballs"): a silent tracker costs no more than the stagger. Linked, it rests: the tracker in
//! use is preferred to any other.

use std::time::Duration;

use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::Instant;

/// Pause before another tracker is dialled beside the ones that have yet to answer.
const STAGGER: Duration = Duration::from_millis(250);
/// Pause after the first failure; doubles with every further one.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Longest pause while somebody waits for an answer.
const BACKOFF_WANTED: Duration = Duration::from_millis(500);
/// A link that lasted this long clears its tracker of earlier failures.
const STABLE: Duration = Duration::from_secs(5);

/// What happened. Trackers go by their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time that [`Failover::deadline`] named has come; also the beginning.
    Due,
    /// Somebody waits for an answer while nothing is linked.
    Wanted,
    /// A dial did not succeed.
    Failed(usize),
    /// A dial reached somebody who is not the tracker, or does not speak as we do: trying again soon is no use.
    Refused(usize),
    /// A dial succeeded.
    Linked(usize),
    /// The link in use was lost.
    Lost(usize),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial this tracker, beside the dials under way.
    Dial(usize),
    /// Give up all dials under way: one is linked.
    AbandonDials,
    /// Every tracker has failed since one was last linked. Said once a search.
    Exhausted,
}

/// The machine. Feed events, then wait until [`Failover::deadline`] at most.
#[derive(Debug)]
pub struct Failover {
    trackers: Vec<Candidate>,
    /// Places in `trackers`, the one to try first at the front.
    queue: Vec<usize>,
    state: State,
    rng: ChaCha20Rng,
}

#[derive(Clone, Debug)]
struct Candidate {
    dialling: bool,
    failures: u32,
    /// Has failed in this search.
    tried: bool,
    refused: bool,
    not_before: Instant,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Searching { next_dial: Instant, exhausted: bool },
    Linked { since: Instant },
}

impl Failover {
    /// A search among `count` trackers, in an order drawn from `rng`, so that clients spread.
    pub fn new(count: usize, now: Instant, mut rng: ChaCha20Rng) -> Self {
        let fresh = Candidate { dialling: false, failures: 0, tried: false, refused: false, not_before: now };
        let mut queue: Vec<_> = (0..count).map(|place| (rng.next_u64(), place)).collect();
        queue.sort_unstable();
        Self {
            trackers: vec![fresh; count],
            queue: queue.into_iter().map(|(_, place)| place).collect(),
            state: State::Searching { next_dial: now, exhausted: false },
            rng,
        }
    }

    /// Takes in an event; appends what to do.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Due => {}
            Event::Wanted => self.hurry(now),
            Event::Failed(place) => self.fail(place, now, false),
            Event::Refused(place) => self.fail(place, now, true),
            Event::Linked(place) => self.link(place, now, out),
            Event::Lost(place) => self.lose(place, now),
        }
        self.search(now, out);
    }

    /// When [`Event::Due`] is wanted; `None` while an event from outside must come first.
    pub fn deadline(&self) -> Option<Instant> {
        let State::Searching { next_dial, .. } = self.state else { return None };
        self.resting().map(|place| self.trackers[place].not_before).min().map(|soonest| soonest.max(next_dial))
    }

    fn resting(&self) -> impl Iterator<Item = usize> + '_ {
        self.queue.iter().copied().filter(|&place| !self.trackers[place].dialling)
    }

    fn hurry(&mut self, now: Instant) {
        for tracker in self.trackers.iter_mut().filter(|tracker| !tracker.refused) {
            tracker.not_before = tracker.not_before.min(now + BACKOFF_WANTED);
        }
    }

    fn fail(&mut self, place: usize, now: Instant, refused: bool) {
        let pause = if refused { BACKOFF_MAX } else { self.backoff(self.trackers[place].failures) };
        let tracker = &mut self.trackers[place];
        *tracker = Candidate {
            dialling: false,
            failures: tracker.failures.saturating_add(1),
            tried: true,
            refused,
            not_before: now + pause,
        };
        if let State::Searching { next_dial, .. } = &mut self.state {
            *next_dial = now;
        }
    }

    /// Doubling pauses with jitter: between half and all of the nominal one.
    fn backoff(&mut self, failures: u32) -> Duration {
        let nominal = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
        let jitter = self.rng.next_u32() % 1000;
        nominal / 2 + nominal / 2 * jitter / 1000
    }

    fn link(&mut self, place: usize, now: Instant, out: &mut Vec<Action>) {
        self.trackers.iter_mut().for_each(|tracker| (tracker.dialling, tracker.tried) = (false, false));
        self.trackers[place].refused = false;
        self.state = State::Linked { since: now };
        out.push(Action::AbandonDials);
    }

    fn lose(&mut self, place: usize, now: Instant) {
        if let State::Linked { since } = self.state
            && now.duration_since(since) >= STABLE
        {
            self.trackers[place].failures = 0;
        }
        for tracker in self.trackers.iter_mut().filter(|tracker| !tracker.refused) {
            tracker.not_before = now;
        }
        self.queue.retain(|&other| other != place);
        self.queue.push(place);
        self.state = State::Searching { next_dial: now, exhausted: false };
        self.fail(place, now, false);
    }

    fn search(&mut self, now: Instant, out: &mut Vec<Action>) {
        let State::Searching { next_dial, exhausted } = self.state else { return };
        if !exhausted && self.trackers.iter().all(|tracker| tracker.tried) {
            self.state = State::Searching { next_dial, exhausted: true };
            out.push(Action::Exhausted);
        }
        if now < next_dial {
            return;
        }
        let ready = self.resting().find(|&place| self.trackers[place].not_before <= now);
        if let (Some(place), State::Searching { next_dial, .. }) = (ready, &mut self.state) {
            self.trackers[place].dialling = true;
            *next_dial = now + STAGGER;
            out.push(Action::Dial(place));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    fn machine(count: usize, seed: u64, now: Instant) -> Failover {
        Failover::new(count, now, ChaCha20Rng::seed_from_u64(seed))
    }

    fn step(machine: &mut Failover, now: Instant, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        machine.handle(now, event, &mut out);
        out
    }

    fn dialled(actions: &[Action]) -> Option<usize> {
        actions.iter().find_map(|action| if let Action::Dial(place) = action { Some(*place) } else { None })
    }

    #[test]
    fn clients_spread_over_the_trackers() {
        let now = Instant::now();
        let first = (0..60).map(|seed| dialled(&step(&mut machine(3, seed, now), now, Event::Due)).unwrap());
        let counts = first.fold([0; 3], |mut counts, place| {
            counts[place] += 1;
            counts
        });
        assert!(counts.iter().all(|&count| count > 8), "{counts:?}");
    }

    #[test]
    fn another_tracker_is_dialled_at_once_when_the_one_in_use_is_lost() {
        let now = Instant::now();
        let mut machine = machine(2, 1, now);
        let first = dialled(&step(&mut machine, now, Event::Due)).unwrap();
        assert_eq!(step(&mut machine, now, Event::Linked(first)), [Action::AbandonDials]);
        assert_eq!(machine.deadline(), None);
        let later = now + Duration::from_mins(1);
        assert_eq!(step(&mut machine, later, Event::Lost(first)), [Action::Dial(1 - first)]);
    }

    #[test]
    fn a_silent_tracker_costs_the_stagger_only() {
        let now = Instant::now();
        let mut machine = machine(2, 1, now);
        let first = dialled(&step(&mut machine, now, Event::Due)).unwrap();
        assert_eq!(machine.deadline(), Some(now + STAGGER));
        assert_eq!(step(&mut machine, now + STAGGER, Event::Due), [Action::Dial(1 - first)]);
        assert_eq!(machine.deadline(), None);
    }

    #[test]
    fn pauses_grow_but_not_while_somebody_waits() {
        let mut now = Instant::now();
        let mut machine = machine(1, 1, now);
        step(&mut machine, now, Event::Due);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            step(&mut machine, now, Event::Failed(0));
            let due = machine.deadline().unwrap();
            pauses.push(due - now);
            now = due;
            assert_eq!(dialled(&step(&mut machine, now, Event::Due)), Some(0));
        }
        assert!(pauses[0] >= BACKOFF_MIN / 2 && pauses[0] <= BACKOFF_MIN);
        assert!(pauses[9] >= BACKOFF_MAX / 2 && pauses[9] <= BACKOFF_MAX);
        step(&mut machine, now, Event::Failed(0));
        step(&mut machine, now, Event::Wanted);
        assert!(machine.deadline().unwrap() <= now + BACKOFF_WANTED);
    }

    #[test]
    fn exhaustion_is_said_once_a_search() {
        let now = Instant::now();
        let mut machine = machine(2, 1, now);
        step(&mut machine, now, Event::Due);
        let said = |actions: Vec<Action>| actions.contains(&Action::Exhausted);
        assert!(!said(step(&mut machine, now, Event::Failed(0))));
        assert!(said(step(&mut machine, now, Event::Refused(1))));
        assert!(!said(step(&mut machine, now, Event::Failed(0))));
    }

    #[test]
    fn a_refused_tracker_is_left_alone_for_a_while() {
        let now = Instant::now();
        let mut machine = machine(1, 1, now);
        step(&mut machine, now, Event::Due);
        step(&mut machine, now, Event::Refused(0));
        step(&mut machine, now, Event::Wanted);
        assert_eq!(machine.deadline(), Some(now + BACKOFF_MAX));
    }

    proptest! {
        #[test]
        fn searching_never_stalls_and_never_dials_twice(seed: u64, events in prop::collection::vec((0u8..4, 0usize..3, 0u64..900), 1..80)) {
            let mut now = Instant::now();
            let mut machine = machine(3, seed, now);
            let (mut dialling, mut linked) = ([false; 3], None);
            for (kind, place, wait_ms) in events {
                now += Duration::from_millis(wait_ms);
                let event = match (kind, linked) {
                    (0, Some(place)) => { linked = None; Event::Lost(place) }
                    (1, None) if dialling[place] => { linked = Some(place); Event::Linked(place) }
                    (2, None) if dialling[place] => { dialling[place] = false; Event::Failed(place) }
                    (3, None) => Event::Wanted,
                    _ => Event::Due,
                };
                for action in step(&mut machine, now, event) {
                    match action {
                        Action::Dial(place) => {
                            prop_assert!(linked.is_none() && !dialling[place]);
                            dialling[place] = true;
                        }
                        Action::AbandonDials => dialling = [false; 3],
                        Action::Exhausted => {}
                    }
                }
                prop_assert!(linked.is_some() || dialling.contains(&true) || machine.deadline().is_some());
            }
        }
    }
}
