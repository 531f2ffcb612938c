//! What merging a change into a tracker's catalog costs: logs of three trackers, of groups of ten members who share a file each.
//!
//! Requests to join are at another tracker than the answers to them. The cost of a change should be the same in a small catalog
//! and in a large one, and whatever comes first.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use p2p::{
    protocol::{
        hash::{Blake3Hash, Sha1Hash},
        ids::{DeviceKey, GroupId, MembershipId, RequestId, TrackerNo, UserId},
        manifest::{ManifestHeader, PageHashes},
        name::{FileName, GroupName, UserName},
        record::{Change, ChangeBody, Credential},
        version::{Dot, Timestamp},
    },
    replica::Catalog,
};

const TRACKERS: usize = 3;
const MEMBERS: u32 = 10;

/// What each tracker took, in its order.
#[derive(Default)]
struct Logs {
    of: [Vec<Change>; TRACKERS],
    requests: u64,
}

impl Logs {
    fn new(groups: u32) -> Self {
        let mut logs = Self::default();
        (0..groups).for_each(|group| logs.add_group(group));
        logs
    }

    /// A group with its members and what they share; all but the requests to join at one tracker.
    fn add_group(&mut self, number: u32) {
        let home = number as usize % TRACKERS;
        let users: Vec<UserId> = (0..MEMBERS).map(|member| self.add_user(home, number * MEMBERS + member)).collect();
        let name = GroupName::parse(&format!("group{number}")).expect("letters and digits make a name");
        let (created, request) = self.add(home, ChangeBody::GroupCreated { name, owner: users[0] });
        let group = GroupId(request.0);
        self.share(home, group, users[0], MembershipId(request.0));
        for user in &users[1..] {
            let asked = ChangeBody::MembershipRequested { group, user: *user };
            let (asked, request) = self.add((home + 1) % TRACKERS, asked);
            let membership = MembershipId(request.0);
            let rests_on = vec![asked, created];
            self.add(home, ChangeBody::MembershipAccepted { group, membership, by: users[0], rests_on });
            self.share(home, group, *user, membership);
        }
    }

    fn add_user(&mut self, home: usize, number: u32) -> UserId {
        let name = UserName::parse(&format!("user{number}")).expect("letters and digits make a name");
        let credential =
            Credential("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA".to_owned());
        UserId(self.add(home, ChangeBody::UserCreated { name, credential }).1.0)
    }

    fn share(&mut self, home: usize, group: GroupId, user: UserId, membership: MembershipId) {
        let content = self.requests.to_le_bytes();
        let manifest = ManifestHeader {
            name: FileName::parse(&format!("file{}.bin", self.requests)).expect("letters and digits make a name"),
            size: 1 << 30,
            sha1: Sha1Hash::of([content.as_slice()]),
            blake3: Blake3Hash(*blake3::hash(&content).as_bytes()),
            pages: PageHashes::One(Blake3Hash(*blake3::hash(&content).as_bytes())),
        };
        let device = DeviceKey(user.0);
        self.add(home, ChangeBody::ShareBegun { group, user, device, membership, manifest });
    }

    fn add(&mut self, tracker: usize, body: ChangeBody) -> (Dot, RequestId) {
        self.requests += 1;
        let request = RequestId(*blake3::hash(&self.requests.to_le_bytes()).as_bytes());
        let no = u8::try_from(tracker).expect("there are few trackers");
        let dot = Dot { origin: DeviceKey([no; 32]), counter: self.of[tracker].len() as u64 + 1 };
        let at = Timestamp { wall_ms: self.requests, logical: 0 };
        self.of[tracker].push(Change { dot, at, taken_by: TrackerNo(u16::from(no) + 1), request, body });
        (dot, request)
    }

    /// All changes in the order in which they were made.
    fn as_made(&self) -> Vec<&Change> {
        let mut changes: Vec<&Change> = self.of.iter().flatten().collect();
        changes.sort_by_key(|change| change.at);
        changes
    }

    /// One tracker's log after the other, as when they meet after a long time apart: many accepts before their requests.
    fn one_by_one(&self) -> Vec<&Change> {
        self.of.iter().flatten().collect()
    }
}

fn merged(changes: &[&Change]) -> Catalog {
    let mut catalog = Catalog::new();
    for change in changes {
        black_box(catalog.apply(change));
    }
    catalog
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    group.sample_size(10);
    for groups in [25, 2500] {
        let logs = Logs::new(groups);
        let orders = [("as made", logs.as_made()), ("one tracker after the other", logs.one_by_one())];
        let digests = orders.each_ref().map(|(_, changes)| merged(changes).digest());
        assert_eq!(digests[0], digests[1], "the order of arrival does not matter");
        for (order, changes) in &orders {
            group.throughput(Throughput::Elements(changes.len() as u64));
            group.bench_with_input(BenchmarkId::new(*order, changes.len()), changes, |b, changes| {
                b.iter_batched(|| (), |()| merged(changes), BatchSize::PerIteration);
            });
        }
        let changes = &orders[0].1;
        group.bench_function(BenchmarkId::new("known already", changes.len()), |b| {
            b.iter_batched_ref(
                || merged(changes),
                |catalog| changes.iter().for_each(|change| drop(black_box(catalog.apply(change)))),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, merge);
criterion_main!(benches);
