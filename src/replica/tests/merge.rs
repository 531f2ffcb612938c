//! Any changes at all, sensible or not: whatever a hostile client or a broken tracker writes, all make the same catalog of it.
//!
//! Identities come from a few values shared by all kinds of record, so that repeats of one request at several trackers, two
//! commands under one request, accepts that nobody had the right to and references into the void are the rule here.

use proptest::prelude::*;

use super::{histories::check_invariants, histories::replay, *};
use crate::{
    protocol::{
        ids::{MembershipId, SessionId, ShareId},
        record::EndReason,
        ticket::CredentialId,
        version::Timestamp,
    },
    replica::inbox::Inbox,
};

const ORIGINS: u8 = 3;

fn id() -> impl Strategy<Value = [u8; 32]> {
    (0u8..5).prop_map(|n| [n; 32])
}

/// Few groups, so that most of what is said concerns one that exists.
fn group_id() -> impl Strategy<Value = GroupId> {
    (0u8..2).prop_map(|n| GroupId([n; 32]))
}

/// A founder's membership has its group's identity.
fn request() -> impl Strategy<Value = RequestId> {
    prop_oneof![1 => (0u8..2).prop_map(|n| RequestId([n; 32])), 2 => id().prop_map(RequestId)]
}

fn origin(n: u8) -> DeviceKey {
    DeviceKey([200 + n; 32])
}

fn dot() -> impl Strategy<Value = Dot> {
    (0..ORIGINS, 1u64..8).prop_map(|(n, counter)| Dot { origin: origin(n), counter })
}

fn dots() -> impl Strategy<Value = Vec<Dot>> {
    prop::collection::vec(dot(), 0..8)
}

fn past() -> impl Strategy<Value = VersionVector> {
    dots().prop_map(|dots| {
        let mut vector = VersionVector::default();
        for dot in dots {
            vector.insert(dot);
        }
        vector
    })
}

fn at() -> impl Strategy<Value = Timestamp> {
    let wall_ms = prop_oneof![12 => 0u64..8, 1 => Just(u64::MAX)];
    (wall_ms, 0u32..2).prop_map(|(wall_ms, logical)| Timestamp { wall_ms, logical })
}

/// Names that several claim, and one that looks like what one of them is called then.
fn file_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["f0", "f1", "f0~1"])
}

fn body() -> impl Strategy<Value = ChangeBody> {
    let credential = || (0u8..3).prop_map(|n| Credential(format!("hash {n}")));
    let named = |name: u8| format!("n{}", name % 3);
    let reason =
        prop::sample::select(vec![EndReason::Left, EndReason::Withdrawn, EndReason::Rejected, EndReason::Removed]);
    prop_oneof![
        1 => (any::<u8>(), credential())
            .prop_map(move |(name, credential)| ChangeBody::UserCreated { name: user(&named(name)), credential }),
        1 => (id(), credential())
            .prop_map(|(user, credential)| ChangeBody::CredentialSet { user: UserId(user), credential, keeps: None }),
        1 => (id(), 0u8..2).prop_map(|(user, n)| {
            ChangeBody::SessionOpened { user: UserId(user), device: device(n), opened_with: CredentialId::default() }
        }),
        1 => id().prop_map(|user| ChangeBody::UserClosed { user: UserId(user) }),
        1 => (id(), id(), dot()).prop_map(|(session, user, opened)| {
            ChangeBody::SessionsEnded { sessions: vec![(SessionId(session), opened)], user: UserId(user) }
        }),
        4 => (any::<u8>(), id())
            .prop_map(move |(name, owner)| ChangeBody::GroupCreated { name: group(&named(name)), owner: UserId(owner) }),
        3 => (group_id(), id(), id(), id(), past(), dots()).prop_map(|(group, by, owner, membership, past, rests_on)| {
            let (by, owner, membership) = (UserId(by), UserId(owner), MembershipId(membership));
            ChangeBody::OwnerSet { group, by, owner, membership, past, rests_on }
        }),
        4 => (group_id(), id())
            .prop_map(|(group, user)| ChangeBody::MembershipRequested { group, user: UserId(user) }),
        5 => (group_id(), id(), id(), dots()).prop_map(|(group, membership, by, rests_on)| {
            let (membership, by) = (MembershipId(membership), UserId(by));
            ChangeBody::MembershipAccepted { group, membership, by, rests_on }
        }),
        2 => (group_id(), id(), id(), reason, past(), dots()).prop_map(|(group, user, by, reason, past, rests_on)| {
            let (user, by) = (UserId(user), UserId(by));
            ChangeBody::MembershipEnded { group, user, by, reason, past, rests_on }
        }),
        2 => (group_id(), id(), id(), file_name(), 0u8..2).prop_map(|(group, user, membership, name, content)| {
            let (user, membership, manifest) = (UserId(user), MembershipId(membership), manifest(name, content));
            ChangeBody::ShareBegun { group, user, device: device(0), membership, manifest }
        }),
        1 => (id(), id())
            .prop_map(|(share, user)| ChangeBody::ShareEnded { shares: vec![ShareId(share)], user: UserId(user) }),
    ]
}

/// The log of one tracker; its origin and counters are given later.
fn log() -> impl Strategy<Value = Vec<(Timestamp, RequestId, ChangeBody)>> {
    prop::collection::vec((at(), request(), body()), 0..10)
}

fn logs() -> impl Strategy<Value = BTreeMap<DeviceKey, Vec<Change>>> {
    prop::collection::vec(log(), usize::from(ORIGINS)).prop_map(|logs| {
        let dated = |(n, log): (u8, Vec<(Timestamp, RequestId, ChangeBody)>)| {
            let change = |(counter, (at, request, body))| Change {
                dot: Dot { origin: origin(n), counter },
                at,
                taken_by: TrackerNo(u16::from(n) + 1),
                request,
                body,
            };
            (origin(n), (1..).zip(log).map(change).collect())
        };
        (0..).zip(logs).map(dated).collect()
    })
}

/// A cluster of one tracker that made this catalog.
fn cluster_of(catalog: Catalog) -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.users = (0..5).map(|n| UserId([n; 32])).collect();
    cluster.trackers[0].catalog = catalog;
    cluster
}

/// Some changes of one origin as a link might bring them.
#[derive(Clone, Debug)]
struct Batch {
    origin: u8,
    from: usize,
    count: usize,
    is_taken: bool,
}

fn batch() -> impl Strategy<Value = Batch> {
    (0..ORIGINS, 0usize..10, 1usize..9, any::<bool>()).prop_map(|(origin, from, count, is_taken)| Batch {
        origin,
        from,
        count,
        is_taken,
    })
}

/// Batches in any order, with repeats and gaps, then all there is: what a catalog makes of it behind an inbox.
fn received(logs: &BTreeMap<DeviceKey, Vec<Change>>, batches: &[Batch]) -> Catalog {
    let (mut inbox, mut catalog) = (Inbox::default(), Catalog::new());
    let whole = (0..ORIGINS).map(|origin| Batch { origin, from: 0, count: usize::MAX, is_taken: true });
    for batch in batches.iter().cloned().chain(whole) {
        let changes = logs[&origin(batch.origin)].iter().skip(batch.from).take(batch.count).cloned().collect();
        inbox.receive(catalog.vector(), changes, |_| true, |_| Vec::new()).unwrap();
        if batch.is_taken {
            for change in inbox.take_ready(catalog.vector()) {
                catalog.apply(&change);
            }
        }
    }
    catalog
}

proptest! {
    #![proptest_config(crate::trials::trials(1000))]

    #[test]
    fn any_changes_make_one_catalog_in_any_order(
        logs in logs(),
        picks in prop::collection::vec(0usize..9, 1..40),
        others in prop::collection::vec(0usize..9, 1..40),
        batches in prop::collection::vec(batch(), 0..12),
    ) {
        let catalog = replay(&logs, &picks);
        let cluster = cluster_of(catalog.clone());
        for other in [replay(&logs, &others), received(&logs, &batches)] {
            prop_assert_eq!(other.vector(), catalog.vector());
            prop_assert_eq!(cluster.answers(&other), cluster.answers(&catalog));
            prop_assert_eq!(other.digest(), catalog.digest());
        }
        check_invariants(&cluster);
    }

    #[test]
    fn a_log_makes_in_parts_what_it_makes_one_by_one(
        logs in logs(),
        order in prop::collection::vec(any::<u32>(), 3 * 10),
        part in 1usize..40,
        more in logs(),
    ) {
        let mut log: Vec<_> = logs.into_values().flatten().map(|change| Kept { change, verdict: None }).collect();
        let mut whole = Catalog::new();
        for kept in &log {
            whole.restore(kept);
        }
        for order in [&order[..0], &order] {
            let mut places = order.iter();
            log.sort_by_cached_key(|_| places.next());
            let mut catalog = restored(&log, part);
            catalog.forgotten(&VersionVector::default(), Timestamp::default(), []);
            let (mut catalog, mut whole) = (cluster_of(catalog), cluster_of(whole.clone()));
            // What comes after the start finds the same.
            for change in more.values().flatten() {
                let change = renumbered(&whole.trackers[0].catalog, change);
                let [one, other] = [&mut catalog, &mut whole].map(|cluster| cluster.trackers[0].catalog.apply(&change));
                prop_assert_eq!(one, other);
            }
            let [one, other] = [&catalog, &whole].map(|cluster| &cluster.trackers[0].catalog);
            prop_assert_eq!(one.vector(), other.vector());
            prop_assert_eq!(one.latest(), other.latest());
            prop_assert_eq!(one.size(), other.size());
            for user in (0..=u8::MAX).map(|byte| UserId([byte; 32])) {
                prop_assert_eq!(one.shared_pieces(&user), other.shared_pieces(&user));
            }
            prop_assert_eq!(whole.answers(one), whole.answers(other));
            prop_assert_eq!(one.digest(), other.digest());
            check_invariants(&catalog);
        }
    }
}

/// A change with the counter that comes next.
fn renumbered(catalog: &Catalog, change: &Change) -> Change {
    let dot = Dot { counter: catalog.vector().counter(&change.dot.origin) + 1, ..change.dot };
    Change { dot, ..change.clone() }
}

/// The log of tracker `n`: stamps and requests with what they say.
fn told(n: u8, changes: Vec<(u64, u8, ChangeBody)>) -> (DeviceKey, Vec<Change>) {
    let change = |(counter, (wall_ms, request, body))| Change {
        dot: Dot { origin: origin(n), counter },
        at: Timestamp { wall_ms, logical: 0 },
        taken_by: TrackerNo(u16::from(n) + 1),
        request: RequestId([request; 32]),
        body,
    };
    (origin(n), (1..).zip(changes).map(change).collect())
}

fn assert_order_does_not_matter(logs: &BTreeMap<DeviceKey, Vec<Change>>) {
    let (catalog, other) = (replay(logs, &[0]), replay(logs, &[1]));
    let cluster = cluster_of(catalog.clone());
    assert_eq!(cluster.answers(&other), cluster.answers(&catalog));
    assert_eq!(other.digest(), catalog.digest());
    check_invariants(&cluster);
}

const TEAM: GroupId = GroupId([0; 32]);
const ANN: UserId = UserId([1; 32]);

fn ann_creates_team() -> ChangeBody {
    ChangeBody::GroupCreated { name: group("team"), owner: ANN }
}

#[test]
fn two_hand_overs_under_one_request_are_two() {
    let rests_on: Vec<Dot> = (1..=5).map(|counter| Dot { origin: origin(0), counter }).collect();
    let join = |user| ChangeBody::MembershipRequested { group: TEAM, user: UserId([user; 32]) };
    let accept = |membership| {
        let (membership, rests_on) = (MembershipId([membership; 32]), rests_on.clone());
        ChangeBody::MembershipAccepted { group: TEAM, membership, by: ANN, rests_on }
    };
    let hand_over = |user, membership| {
        let (owner, membership, rests_on) = (UserId([user; 32]), MembershipId([membership; 32]), rests_on.clone());
        let mut past = VersionVector::default();
        for dot in &rests_on {
            past.insert(*dot);
        }
        ChangeBody::OwnerSet { group: TEAM, by: ANN, owner, membership, past, rests_on }
    };
    let changes = vec![
        (1, 0, ann_creates_team()),
        (2, 2, join(2)),
        (3, 8, accept(2)),
        (4, 3, join(3)),
        (5, 9, accept(3)),
        (6, 4, hand_over(2, 2)),
    ];
    let logs = [told(0, changes), told(1, vec![(6, 4, hand_over(3, 3))])].into();
    assert_order_does_not_matter(&logs);
    assert_eq!(replay(&logs, &[0]).owner(&TEAM), Some(UserId([3; 32])), "the last one counts");
}

#[test]
fn a_share_follows_its_membership_to_another_user() {
    let share = ChangeBody::ShareBegun {
        group: TEAM,
        user: ANN,
        device: device(0),
        membership: MembershipId(TEAM.0),
        manifest: manifest("f", 1),
    };
    let by_another = ChangeBody::GroupCreated { name: group("team"), owner: UserId([4; 32]) };
    let logs = [told(0, vec![(1, 2, share), (3, 0, ann_creates_team())]), told(1, vec![(3, 0, by_another)])];
    assert_order_does_not_matter(&logs.into());
}
