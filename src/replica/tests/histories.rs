//! Random histories: whatever is written where and delivered when, the trackers converge and the invariants hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    protocol::ids::{MembershipId, SessionId},
    replica::{membership::State, session::Opened},
};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Register { at: usize, name: usize },
    Write { at: usize, who: usize, other_device: bool, kind: u8, group: usize, whom: usize },
    Repeat { at: usize, which: usize },
    Deliver { from: usize, to: usize, origin: usize, count: usize },
    Skew { at: usize, by_ms: u64 },
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let t = || 0usize..3;
    prop_oneof![
        1 => (t(), 0usize..3).prop_map(|(at, name)| Step::Register { at, name }),
        8 => (t(), 0usize..6, any::<bool>(), 0u8..19, 0usize..3, 0usize..6).prop_map(
            |(at, who, other_device, kind, group, whom)| Step::Write { at, who, other_device, kind, group, whom },
        ),
        1 => (t(), 0usize..50).prop_map(|(at, which)| Step::Repeat { at, which }),
        4 => (t(), t(), t(), 1usize..9).prop_map(|(from, to, origin, count)| Step::Deliver { from, to, origin, count }),
        1 => (t(), 1u64..10_000_000).prop_map(|(at, by_ms)| Step::Skew { at, by_ms }),
    ]
}

/// A history: what [`settled`] makes, then steps.
fn run(steps: &[Step], check: impl Fn(&Cluster)) -> Cluster {
    let mut cluster = settled();
    let mut written = Vec::new();
    for step in steps {
        perform(&mut cluster, step, &mut written);
        check(&cluster);
    }
    cluster
}

/// A few users and a group, everywhere.
pub(super) fn settled() -> Cluster {
    let mut cluster = Cluster::new(3);
    for name in ["ann", "bob", "cat", "dan"] {
        cluster.register(0, name);
    }
    let ann = cluster.users[0];
    cluster.write(0, ann, &create("g0")).unwrap();
    for (who, name) in [(1, "bob"), (2, "cat")] {
        let who = cluster.users[who];
        cluster.write(0, who, &join("g0")).unwrap();
        cluster.write(0, ann, &accept("g0", name)).unwrap();
    }
    cluster.heal();
    cluster
}

pub(super) fn perform(cluster: &mut Cluster, step: &Step, written: &mut Vec<(UserId, RequestId, Command)>) {
    match *step {
        Step::Register { at, name } => {
            let request = cluster.request();
            let _ = cluster.register_as(at, &format!("new{name}"), request);
        }
        Step::Write { at, who, other_device, kind, group, whom } => {
            let who = cluster.users[who % cluster.users.len()];
            let Some((who, command)) = command(cluster, at, who, kind, group, whom) else { return };
            if other_device {
                cluster.seen.remove(&who);
            }
            let request = cluster.request();
            let _ = cluster.write_as(at, who, request, &command);
            written.push((who, request, command));
        }
        Step::Repeat { at, which } => {
            let Some((who, request, command)) = written.get(which).cloned() else { return };
            let _ = cluster.write_as(at, who, request, &command);
        }
        Step::Deliver { from, to, origin, count } => drop(cluster.deliver(from, to, origin, count)),
        Step::Skew { at, by_ms } => cluster.trackers[at].wall_ms += by_ms,
    }
}

/// A command, and who gives it: an owner's mostly by the owner, about somebody it can be about.
fn command(
    cluster: &Cluster,
    at: usize,
    who: UserId,
    kind: u8,
    number: usize,
    whom: usize,
) -> Option<(UserId, Command)> {
    let catalog = &cluster.trackers[at].catalog;
    if kind == 0 {
        return Some((who, create(&format!("g{number}"))));
    }
    if kind == 1 {
        return Some((who, new_password(&format!("{number} {whom}"))));
    }
    if let Some(command) = session_command(catalog, who, kind, whom) {
        return Some((who, command));
    }
    let groups = catalog.list_groups(&UserId([0; 32]), 0).entries;
    let info = groups.get(number % groups.len().max(1))?;
    let (id, group) = (info.group, info.name.clone());
    let pick = |users: Vec<UserId>| users.get(whom % users.len().max(1)).copied().unwrap_or(cluster.users[0]);
    let name = |user: UserId| catalog.user_name(&user).cloned();
    let pending = || name(pick(catalog.groups[&id].pending().map(|(user, _)| user).collect()));
    let member = || name(pick(catalog.members_of(&id).collect()));
    let anybody = || name(cluster.users[whom % cluster.users.len()]);
    let owner = catalog.owner(&id)?;
    let file = format!("f{}", whom % 2);
    let content = u8::try_from(whom % 3).unwrap();
    Some(match kind {
        2..=4 => (who, Command::JoinGroup { group }),
        5 => (who, Command::LeaveGroup { group }),
        6..=8 => (owner, Command::AcceptRequest { group, user: pending()? }),
        9 => (owner, Command::RejectRequest { group, user: pending()? }),
        10 => (owner, Command::RemoveMember { group, user: member()? }),
        11 => (owner, Command::TransferGroup { group, user: member()? }),
        12 => (who, Command::AcceptRequest { group, user: anybody()? }),
        13 => (owner, Command::LeaveGroup { group }),
        14 | 18 => (who, share(id, &file, content)),
        _ => (who, stop(id, &file, content)),
    })
}

/// Logins, and the ends of one session and of all.
fn session_command(catalog: &Catalog, who: UserId, kind: u8, which: usize) -> Option<Command> {
    let sessions = catalog.opened_sessions(&who);
    let ended = |(id, opened): &(SessionId, Opened)| (*id, opened.dot);
    Some(match kind {
        16 => Command::OpenSession { opened_with: catalog.credential(&who)?.0 },
        17 => Command::EndSession { session: sessions.get(which % sessions.len().max(1))?.0 },
        18 if !sessions.is_empty() => Command::EndSessions { sessions: sessions.iter().map(ended).collect() },
        _ => return None,
    })
}

/// What must hold at every tracker at every moment.
pub(super) fn check_invariants(cluster: &Cluster) {
    for tracker in &cluster.trackers {
        let catalog = &tracker.catalog;
        let mut names = BTreeSet::new();
        for user in &cluster.users {
            if let Some(name) = catalog.user_name(user) {
                assert!(names.insert(name.clone()), "two users are called {name}");
                assert_eq!(catalog.user_named(name), Some(*user), "an account can log in by its current name");
            }
        }
        for (id, record) in catalog.groups.sorted() {
            let owners = record.members().filter(|user| record.standing(user) == Standing::Owner).count();
            assert_eq!(owners, usize::from(record.is_live()), "one owner, who is a member, or dissolved");
            assert_eq!(record.is_live(), catalog.group_name(id).is_some());
            for user in record.members() {
                assert!(has_request_and_accept(record, user), "a member without request and accept");
            }
            for file in catalog.list_files(id, 0).entries {
                for share in catalog.shares_of_file(&file.file) {
                    assert!(catalog.membership(id, &share.user).is_some(), "a share outlives its membership");
                }
            }
        }
    }
}

fn has_request_and_accept(record: &crate::replica::group::Group, user: UserId) -> bool {
    let membership = record.membership(&user).unwrap();
    let instance = &record.instances[&membership.id];
    let accepted = instance.founder || instance.accepts.iter().any(|accept| accept.effective && accept.valid);
    instance.request.is_some_and(|request| request.user == user) && accepted
}

fn ended(catalog: &Catalog) -> BTreeSet<(GroupId, MembershipId)> {
    let of = |id: &GroupId| {
        let group = &catalog.groups[id];
        let over = group.instances.iter().filter(|(_, instance)| instance.state == State::Ended);
        over.map(|(membership, _)| (*id, *membership)).collect::<Vec<_>>()
    };
    catalog.groups.sorted().into_keys().flat_map(of).collect()
}

/// All changes, each origin's in order, the origins interleaved by `picks`, some repeated.
pub(super) fn replay(logs: &BTreeMap<DeviceKey, Vec<Change>>, picks: &[usize]) -> Catalog {
    let mut catalog = Catalog::new();
    let mut rest: Vec<&[Change]> = logs.values().map(Vec::as_slice).collect();
    let mut picks = picks.iter().copied().cycle();
    while rest.iter().any(|log| !log.is_empty()) {
        rest.retain(|log| !log.is_empty());
        let pick = picks.next().unwrap_or(0);
        let index = pick % rest.len();
        let (first, tail) = rest[index].split_first().unwrap();
        catalog.apply(first);
        if pick % 3 == 0 {
            assert_eq!(catalog.apply(first), Vec::new());
        }
        rest[index] = tail;
    }
    catalog
}

proptest! {
    #![proptest_config(crate::trials::trials(300))]

    #[test]
    fn trackers_converge_and_the_invariants_hold(steps in prop::collection::vec(step(), 0..60)) {
        let mut cluster = run(&steps, check_invariants);
        cluster.heal();
        check_invariants(&cluster);
    }

    #[test]
    fn the_catalog_is_a_function_of_the_set(
        steps in prop::collection::vec(step(), 0..60),
        picks in prop::collection::vec(0usize..9, 1..40),
    ) {
        let mut cluster = run(&steps, |_| ());
        cluster.heal();
        let known = &cluster.trackers[0];
        let replayed = replay(&known.log, &picks);
        prop_assert_eq!(replayed.digest(), known.catalog.digest());
        prop_assert_eq!(cluster.answers(&replayed), cluster.answers(&known.catalog));
    }

    #[test]
    fn what_is_ended_stays_ended(steps in prop::collection::vec(step(), 0..60)) {
        let seen = std::cell::RefCell::new(vec![BTreeSet::new(); 3]);
        run(&steps, |cluster| {
            for (tracker, seen) in cluster.trackers.iter().zip(seen.borrow_mut().iter_mut()) {
                let now = ended(&tracker.catalog);
                assert!(seen.is_subset(&now), "nobody comes back");
                *seen = now;
            }
        });
    }

    #[test]
    fn a_dissolved_group_stays_dissolved(steps in prop::collection::vec(step(), 0..60), more in prop::collection::vec(step(), 0..30)) {
        let mut cluster = run(&steps, |_| ());
        cluster.heal();
        let dissolved: Vec<GroupId> = {
            let groups = &cluster.trackers[0].catalog.groups;
            groups.sorted().into_iter().filter(|(_, group)| !group.is_live()).map(|(id, _)| *id).collect()
        };
        let mut written = Vec::new();
        for step in &more {
            perform(&mut cluster, step, &mut written);
        }
        for group in dissolved {
            for t in 0..3 {
                prop_assert!(cluster.trackers[t].catalog.group_name(&group).is_none());
                prop_assert!(cluster.users.iter().all(|user| cluster.standing(t, group, *user) == Standing::None));
            }
        }
    }
}
