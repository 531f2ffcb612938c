//! Two sync machines and a lossy world between them.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::{
    protocol::sync::SyncMessage,
    replica::{
        anti_entropy::{Action, CONFIRM_DEADLINE, DIGEST_INTERVAL, Event, SyncLink},
        inbox::{Inbox, InboxError, Received},
    },
};

/// One end of a link: machine, inbox, and what it was told.
struct End {
    link: SyncLink,
    inbox: Inbox,
    tracker: usize,
    reports: Vec<Action>,
}

impl End {
    fn new(cluster: &Cluster, tracker: usize, now: Instant) -> Self {
        let link = SyncLink::new(cluster.trackers[tracker].catalog.vector().clone(), VersionVector::default(), now);
        Self { link, inbox: Inbox::default(), tracker, reports: Vec::new() }
    }

    /// Handles an event; returns what is sent.
    fn handle(&mut self, cluster: &Cluster, now: Instant, event: Event) -> Vec<SyncMessage> {
        let tracker = &cluster.trackers[self.tracker];
        let (mut events, mut sent) = (vec![event], Vec::new());
        while let Some(event) = events.pop() {
            let mut actions = Vec::new();
            self.link.handle(now, event, &mut actions);
            for action in actions {
                match action {
                    Action::Read { origin, after, up_to, .. } => {
                        let range = usize::try_from(after).unwrap()..usize::try_from(up_to).unwrap();
                        events.push(Event::Read(tracker.log[&origin][range].iter().take(3).cloned().collect()));
                    }
                    Action::Send(message) => sent.push(message),
                    Action::SendDigest => sent.push(SyncMessage::Digest {
                        vector: tracker.catalog.vector().clone(),
                        digest: tracker.catalog.digest(),
                        now_ms: 0,
                    }),
                    report => self.reports.push(report),
                }
            }
        }
        sent
    }

    fn receive(&mut self, cluster: &mut Cluster, now: Instant, message: SyncMessage) -> Vec<SyncMessage> {
        let tracker = &mut cluster.trackers[self.tracker];
        let event = match message {
            SyncMessage::Hello { vector, .. } => Event::Hello(vector),
            SyncMessage::Confirm(vector) => Event::Confirmed(vector),
            SyncMessage::Digest { vector, digest, .. } => Event::Digest {
                vector,
                digest,
                own_vector: tracker.catalog.vector().clone(),
                own_digest: tracker.catalog.digest(),
            },
            SyncMessage::Changes(changes) => {
                let known = tracker.catalog.vector().clone();
                let received = self.inbox.receive(&known, changes, |_| true, |_| Vec::new()).unwrap();
                for change in self.inbox.take_ready(&known) {
                    tracker.take(&change);
                }
                if received.staged == 0 { Event::NothingNew } else { Event::Advanced(tracker.catalog.vector().clone()) }
            }
            _ => return Vec::new(),
        };
        self.handle(cluster, now, event)
    }

    fn hello(&self, cluster: &Cluster) -> SyncMessage {
        let vector = cluster.trackers[self.tracker].catalog.vector().clone();
        SyncMessage::Hello { version: 1, tracker: TrackerNo(1), vector, now_ms: 0 }
    }
}

/// Passes messages to and fro until both are silent; those whose turn is in `lost` vanish.
fn exchange(cluster: &mut Cluster, ends: &mut [End; 2], now: Instant, first: [Vec<SyncMessage>; 2], lost: &[bool]) {
    let mut lost = lost.iter().copied();
    let mut queues = first;
    while queues.iter().any(|queue| !queue.is_empty()) {
        for to in 0..2 {
            for message in std::mem::take(&mut queues[1 - to]) {
                if !lost.next().unwrap_or(false) {
                    queues[to].extend(ends[to].receive(cluster, now, message));
                }
            }
        }
    }
}

fn connected(cluster: &mut Cluster, now: Instant) -> [End; 2] {
    let mut ends = [End::new(cluster, 0, now), End::new(cluster, 1, now)];
    let hellos = [vec![ends[0].hello(cluster)], vec![ends[1].hello(cluster)]];
    exchange(cluster, &mut ends, now, hellos, &[]);
    ends
}

fn populated() -> Cluster {
    let mut cluster = Cluster::new(2);
    for n in 0..20 {
        cluster.register(n % 2, &format!("user{n}"));
    }
    cluster
}

fn tick(cluster: &mut Cluster, ends: &mut [End; 2], now: Instant) {
    let sent = [0, 1].map(|end| ends[end].handle(cluster, now, Event::Timer));
    exchange(cluster, ends, now, sent, &[]);
}

#[test]
fn two_trackers_meet_and_are_in_touch() {
    let now = Instant::now_for_test();
    let mut cluster = populated();
    let ends = connected(&mut cluster, now);
    cluster.assert_converged();
    assert!(ends.iter().all(|end| end.link.is_in_touch() && end.link.lag(now).changes == 0));
    assert!(ends.iter().all(|end| end.reports == [Action::InTouch]));
}

#[test]
fn a_new_change_is_awaited_until_confirmed() {
    let now = Instant::now_for_test();
    let mut cluster = populated();
    let mut ends = connected(&mut cluster, now);
    cluster.register(0, "new");
    let vector = cluster.trackers[0].catalog.vector().clone();
    let dot = Dot { origin: cluster.trackers[0].key, counter: vector.counter(&cluster.trackers[0].key) };
    let sent = ends[0].handle(&cluster, now, Event::Advanced(vector));
    assert!(ends[0].link.awaits(&dot));
    exchange(&mut cluster, &mut ends, now, [sent, Vec::new()], &[]);
    assert!(!ends[0].link.awaits(&dot));
    cluster.assert_converged();
}

#[test]
fn silence_for_a_second_is_out_of_touch_until_caught_up() {
    let now = Instant::now_for_test();
    let mut cluster = populated();
    let mut ends = connected(&mut cluster, now);
    cluster.register(0, "new");
    let vector = cluster.trackers[0].catalog.vector().clone();
    let sent = ends[0].handle(&cluster, now, Event::Advanced(vector));
    assert_eq!(ends[0].link.deadline(), Some(now + CONFIRM_DEADLINE));
    ends[0].handle(&cluster, now + CONFIRM_DEADLINE, Event::Timer);
    assert!(!ends[0].link.is_in_touch());
    assert_eq!(ends[0].link.lag(now + CONFIRM_DEADLINE).waited, CONFIRM_DEADLINE);
    let later = now + 2 * CONFIRM_DEADLINE;
    exchange(&mut cluster, &mut ends, later, [sent, Vec::new()], &[]);
    assert!(ends[0].link.is_in_touch());
    assert_eq!(ends[0].reports, [Action::InTouch, Action::OutOfTouch, Action::InTouch]);
}

#[test]
fn other_catalogs_of_the_same_changes_are_reported() {
    let now = Instant::now_for_test();
    let mut cluster = populated();
    let mut ends = connected(&mut cluster, now);
    let vector = cluster.trackers[0].catalog.vector().clone();
    let own = cluster.trackers[0].catalog.digest();
    let other = Blake3Hash([0; 32]);
    let event = Event::Digest { vector: vector.clone(), digest: other, own_vector: vector, own_digest: own };
    ends[0].handle(&cluster, now, event);
    assert_eq!(ends[0].reports.last(), Some(&Action::Diverged { own, other }));
}

#[test]
fn changes_wait_for_the_pages_of_their_manifest() {
    let mut cluster = Cluster::new(1);
    let ann = cluster.register(0, "ann");
    cluster.write(0, ann, &create("g")).unwrap();
    cluster.write(0, ann, &share(cluster.group(0, "g"), "f", 1)).unwrap();
    cluster.write(0, ann, &leave("g")).unwrap();
    let changes = cluster.trackers[0].log[&cluster.trackers[0].key].clone();
    let (mut inbox, mut known) = (Inbox::default(), VersionVector::default());
    let received = inbox.receive(&known, changes.clone(), |_| true, |_| vec![0, 1]).unwrap();
    assert_eq!(received, Received { staged: 4, gap: false });
    let ready = inbox.take_ready(&known);
    assert_eq!(ready, changes[..2]);
    for change in &ready {
        known.insert(change.dot);
    }
    let id = manifest("f", 1).id();
    assert_eq!(inbox.ask_pages(), [(id, 0), (id, 1)]);
    assert_eq!(inbox.ask_pages(), []);
    assert!(inbox.wants_page(&id, 1) && !inbox.wants_page(&id, 2) && inbox.manifest(&id).is_some());
    inbox.page_stored(id, 0);
    assert_eq!(inbox.take_ready(&known), []);
    inbox.page_stored(id, 1);
    assert_eq!(inbox.take_ready(&known), changes[2..]);
}

#[test]
fn gaps_duplicates_and_strangers_do_not_enter() {
    let mut cluster = Cluster::new(1);
    for n in 0..4 {
        cluster.register(0, &format!("user{n}"));
    }
    let changes = cluster.trackers[0].log[&cluster.trackers[0].key].clone();
    let (mut inbox, mut known) = (Inbox::default(), VersionVector::default());
    let take = |inbox: &mut Inbox, known: &VersionVector, changes: &[Change]| {
        inbox.receive(known, changes.to_vec(), |_| true, |_| Vec::new()).unwrap()
    };
    assert_eq!(take(&mut inbox, &known, &changes[1..]), Received { staged: 0, gap: true });
    assert_eq!(take(&mut inbox, &known, &changes[..2]), Received { staged: 2, gap: false });
    assert_eq!(take(&mut inbox, &known, &changes[..3]), Received { staged: 1, gap: false });
    known.insert(changes[0].dot);
    assert_eq!(inbox.take_ready(&known), changes[1..3]);
    let refused = inbox.receive(&known, changes, |_| false, |_| Vec::new());
    assert_eq!(refused, Err(InboxError::UnknownOrigin(cluster.trackers[0].key)));
}

proptest! {
    #![proptest_config(crate::trials::trials(100))]

    #[test]
    fn whatever_is_lost_comes_again(lost in prop::collection::vec(any::<bool>(), 0..40)) {
        let now = Instant::now_for_test();
        let mut cluster = populated();
        let mut ends = [End::new(&cluster, 0, now), End::new(&cluster, 1, now)];
        let hellos = [vec![ends[0].hello(&cluster)], vec![ends[1].hello(&cluster)]];
        let heard = [&[false, false], lost.as_slice()].concat();
        exchange(&mut cluster, &mut ends, now, hellos, &heard);
        for round in 1..=4 {
            tick(&mut cluster, &mut ends, now + round * (DIGEST_INTERVAL + Duration::from_millis(1)));
        }
        cluster.assert_converged();
        prop_assert!(ends.iter().all(|end| end.link.is_in_touch() && end.link.lag(now).changes == 0));
    }
}

/// Any instant will do as the beginning of a test.
trait TestInstant {
    fn now_for_test() -> Self;
}

impl TestInstant for Instant {
    fn now_for_test() -> Self {
        tokio::time::Instant::now().into_std()
    }
}
