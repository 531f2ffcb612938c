//! Whatever is forgotten when, every answer and every digest is as if nothing ever were; and what is kept is bounded.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    histories::{Step, perform, settled, step},
    *,
};
use crate::{
    protocol::{
        record::{Kept, Tombstone},
        version::Timestamp,
    },
    replica::{
        fold::Folded,
        stability::{Cut, Stability},
    },
};

/// What a tracker that forgets has on its disk, and a catalog that never forgets beside it.
pub(super) struct Memory {
    stability: Stability,
    kept: BTreeMap<Dot, Kept>,
    folded: VersionVector,
    tombstones: Vec<Tombstone>,
    /// Gone where the test is of what is bounded.
    whole: Option<Catalog>,
    latest: Timestamp,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            stability: Stability::default(),
            kept: BTreeMap::new(),
            folded: VersionVector::default(),
            tombstones: Vec::new(),
            whole: Some(Catalog::new()),
            latest: Timestamp::default(),
        }
    }
}

impl Memory {
    pub(super) fn keep(&mut self, change: &Change) {
        self.kept.insert(change.dot, Kept { change: change.clone(), verdict: None });
        self.latest = self.latest.max(change.at);
        if let Some(whole) = &mut self.whole {
            whole.apply(change);
        }
    }

    fn drop(&mut self, cut: &Cut, folded: &Folded) {
        for dot in &folded.dropped {
            assert!(cut.covers(dot) && self.kept.remove(dot).is_some(), "dropped twice, or too early");
        }
        for (dot, verdict) in &folded.settled {
            self.kept.get_mut(dot).unwrap().verdict = Some(*verdict);
        }
        self.folded.merge(cut.stable());
        self.tombstones.extend(folded.forgotten.iter().cloned());
    }

    /// The catalog that a restart makes.
    fn restarted(&self) -> Catalog {
        let mut catalog = restored(&self.kept.values().cloned().collect::<Vec<_>>(), 16);
        catalog.forgotten(&self.folded, self.latest, self.tombstones.iter().cloned());
        catalog
    }
}

impl Tracker {
    /// The catalog of a newcomer that takes this tracker's snapshot, and then the changes after it.
    fn newcomer(&self) -> Catalog {
        let (mut catalog, memory) = (Catalog::new(), &self.memory);
        for kept in memory.kept.values().filter(|kept| memory.folded.contains(&kept.change.dot)) {
            catalog.restore(kept);
        }
        catalog.forgotten(&memory.folded, memory.latest, memory.tombstones.iter().cloned());
        for change in self.log.values().flatten().filter(|change| !memory.folded.contains(&change.dot)) {
            catalog.apply(change);
        }
        catalog
    }
}

impl Cluster {
    /// Tracker `at` hears what `from` has.
    fn hear(&mut self, at: usize, from: usize) {
        let (key, vector) = (self.trackers[from].key, self.trackers[from].catalog.vector().clone());
        self.trackers[at].memory.stability.hear(key, &vector);
    }

    fn hear_all(&mut self) {
        for at in 0..self.trackers.len() {
            for from in (0..self.trackers.len()).filter(|from| *from != at) {
                self.hear(at, from);
            }
        }
    }

    fn cut(&mut self, at: usize) -> Cut {
        let own = self.trackers[at].key;
        let others: BTreeSet<_> = self.trackers.iter().map(|tracker| tracker.key).filter(|key| *key != own).collect();
        let tracker = &mut self.trackers[at];
        tracker.memory.stability.cut(own, tracker.catalog.vector(), &others)
    }

    fn fold(&mut self, at: usize, most: usize) {
        let cut = self.cut(at);
        let tracker = &mut self.trackers[at];
        let folded = tracker.catalog.fold(&cut, most);
        tracker.memory.drop(&cut, &folded);
    }

    fn fold_all(&mut self) {
        for at in 0..self.trackers.len() {
            self.fold(at, usize::MAX);
        }
    }

    /// All trackers hear all, and forget, until there is nothing more to forget.
    pub(super) fn come_to_rest(&mut self) {
        self.heal();
        for _ in 0..3 {
            self.hear_all();
            self.fold_all();
        }
    }

    /// Nobody can tell that anything was forgotten.
    fn assert_whole(&self) {
        for tracker in &self.trackers {
            let Some(whole) = &tracker.memory.whole else { continue };
            assert_eq!(tracker.catalog.vector(), whole.vector());
            assert_eq!(self.answers(&tracker.catalog), self.answers(whole));
            assert_eq!(tracker.catalog.digest(), whole.digest());
        }
    }

    /// A repeat is known as one, whatever is forgotten.
    fn assert_repeats(&self, written: &[(UserId, RequestId, Command)]) {
        for tracker in &self.trackers {
            let Some(whole) = &tracker.memory.whole else { continue };
            for (_, request, _) in written {
                let (now, then) = (answer(&tracker.catalog, request), answer(whole, request));
                assert_eq!(now.map(|it| std::mem::discriminant(&it)), then.map(|it| std::mem::discriminant(&it)));
            }
        }
    }

    /// A restart, and a newcomer, make the same catalog.
    fn assert_restarts(&self) {
        for tracker in &self.trackers {
            for anew in [tracker.memory.restarted(), tracker.newcomer()] {
                assert_eq!(self.answers(&anew), self.answers(&tracker.catalog));
                assert_eq!(anew.digest(), tracker.catalog.digest());
                assert_eq!(anew.size(), tracker.catalog.size());
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    Step(Step),
    Hear { at: usize, from: usize },
    Fold { at: usize, most: usize },
    Restart { at: usize },
}

fn moves() -> impl Strategy<Value = Move> {
    let t = || 0usize..3;
    prop_oneof![
        12 => step().prop_map(Move::Step),
        6 => (t(), t()).prop_map(|(at, from)| Move::Hear { at, from }),
        4 => (t(), prop_oneof![Just(usize::MAX), 1usize..6]).prop_map(|(at, most)| Move::Fold { at, most }),
        1 => t().prop_map(|at| Move::Restart { at }),
    ]
}

fn make(cluster: &mut Cluster, one: &Move, written: &mut Vec<(UserId, RequestId, Command)>) {
    match one {
        Move::Step(step) => perform(cluster, step, written),
        Move::Hear { at, from } => cluster.hear(*at, *from),
        Move::Fold { at, most } => cluster.fold(*at, *most),
        Move::Restart { at } => {
            let tracker = &mut cluster.trackers[*at];
            tracker.catalog = tracker.memory.restarted();
            tracker.memory.stability = Stability::default();
        }
    }
}

proptest! {
    #![proptest_config(crate::trials::trials(120))]

    #[test]
    fn nobody_can_tell_what_is_forgotten(moves in prop::collection::vec(moves(), 0..120)) {
        let mut cluster = settled();
        let mut written = Vec::new();
        for one in &moves {
            make(&mut cluster, one, &mut written);
            cluster.assert_whole();
            if matches!(one, Move::Fold { .. }) {
                cluster.assert_restarts();
                cluster.assert_repeats(&written);
            }
        }
        cluster.come_to_rest();
        cluster.assert_whole();
        cluster.assert_restarts();
        cluster.assert_converged();
        let sizes: BTreeSet<_> = cluster.trackers.iter().map(|tracker| tracker.memory.kept.len()).collect();
        prop_assert_eq!(sizes.len(), 1, "at rest all keep the same");
    }
}

/// The share is known to be stable last of all: nothing else would look at the group again.
#[test]
fn a_dissolved_group_goes_with_its_last_share() {
    let mut cluster = settled();
    let [ann, bob, cat] = [0, 1, 2].map(|n| cluster.users[n]);
    let id = cluster.group(0, "g0");
    cluster.write(0, cat, &share(id, "f", 1)).unwrap();
    for user in [cat, ann, bob] {
        cluster.seen.remove(&user);
        cluster.write(2, user, &leave("g0")).unwrap();
    }
    cluster.hear(0, 2);
    cluster.come_to_rest();
    assert!(cluster.trackers.iter().all(|tracker| tracker.catalog.groups.is_empty()));
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    let mut cluster = settled();
    for tracker in &mut cluster.trackers {
        tracker.memory.whole = None;
    }
    let [ann, bob, cat, dan] = [0, 1, 2, 3].map(|n| cluster.users[n]);
    let id = cluster.group(0, "g0");
    let mut sizes = BTreeSet::new();
    for round in 0..1000 {
        let t = round % 3;
        cluster.write(t, dan, &join("g0")).unwrap();
        cluster.write(t, ann, &accept("g0", "dan")).unwrap();
        cluster.write(t, dan, &share(id, "f", 1)).unwrap();
        cluster.write(t, dan, &stop(id, "f", 1)).unwrap();
        cluster.write(t, dan, &share(id, "f", 2)).unwrap();
        let opened_with = cluster.trackers[t].catalog.credential(&dan).unwrap().0;
        cluster.write(t, dan, &Command::OpenSession { opened_with }).unwrap();
        cluster.write(t, dan, &Command::OpenSession { opened_with }).unwrap();
        let sessions = cluster.trackers[t].catalog.opened_sessions(&dan);
        let sessions = sessions.iter().map(|(id, opened)| (*id, opened.dot)).collect();
        cluster.write(t, dan, &new_password(&format!("hash {round}"))).unwrap();
        cluster.write(t, dan, &Command::EndSessions { sessions }).unwrap();
        cluster.write(t, dan, &leave("g0")).unwrap();
        cluster.write(t, ann, &transfer("g0", "bob")).unwrap();
        cluster.write(t, bob, &transfer("g0", "cat")).unwrap();
        cluster.write(t, cat, &transfer("g0", "ann")).unwrap();
        cluster.write(t, bob, &create("own")).unwrap();
        cluster.write(t, bob, &leave("own")).unwrap();
        cluster.heal();
        cluster.hear_all();
        cluster.fold_all();
        for tracker in &mut cluster.trackers {
            let requests: Vec<_> = tracker.memory.tombstones.drain(..).map(|one| one.request).collect();
            tracker.catalog.forget_requests(&requests);
            sizes.insert((tracker.memory.kept.len(), tracker.catalog.size()));
        }
    }
    assert!(sizes.len() <= 3, "{sizes:?}");
    assert!(sizes.iter().all(|(kept, (changes, requests))| kept == changes && changes == requests && *kept < 20));
    cluster.assert_restarts();
}
