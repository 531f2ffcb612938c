//! Several trackers in one test: writes decided at any of them, changes delivered in any order.

mod forgetting;
mod histories;
mod links;
mod merge;
mod refusals;
mod rules;

use std::collections::BTreeMap;

use super::{
    catalog::Catalog,
    clock::HybridClock,
    command::{Caller, Command, Decision, answer, decide},
    effect::Effect,
    restore::Intake,
};
use crate::protocol::{
    client::{Answer, Standing},
    error::{ErrorCode, Failure},
    hash::{Blake3Hash, Sha1Hash},
    ids::{DeviceKey, FileId, GroupId, Nonce, RequestId, SessionId, TrackerNo, UserId},
    manifest::ManifestHeader,
    name::{FileName, GroupName, UserName},
    record::{Change, ChangeBody, Credential, Kept},
    version::{Dot, VersionVector},
};

/// A tracker without its role: clock, log, catalog.
struct Tracker {
    no: TrackerNo,
    key: DeviceKey,
    clock: HybridClock,
    wall_ms: u64,
    log: BTreeMap<DeviceKey, Vec<Change>>,
    catalog: Catalog,
    memory: forgetting::Memory,
}

impl Tracker {
    fn new(no: u16) -> Self {
        let key = DeviceKey([u8::try_from(no).unwrap(); 32]);
        let (clock, log, catalog) = (HybridClock::default(), BTreeMap::new(), Catalog::new());
        let memory = forgetting::Memory::default();
        Self { no: TrackerNo(no), key, clock, wall_ms: 1_000_000, log, catalog, memory }
    }

    fn take(&mut self, change: &Change) -> Vec<Effect> {
        let log = self.log.entry(change.dot.origin).or_default();
        if change.dot.counter == log.len() as u64 + 1 {
            self.clock.observe(change.at, self.wall_ms);
            log.push(change.clone());
            self.memory.keep(change);
        }
        self.catalog.apply(change)
    }

    fn write(&mut self, caller: &Caller<'_>, request: RequestId, command: &Command) -> Result<Answer, Failure> {
        let (body, after) = match decide(&self.catalog, caller, &request, command)? {
            Decision::AlreadyDone(answer) => return Ok(answer),
            Decision::Append { body, after } => (body, after),
        };
        self.wall_ms += 1;
        let at = self.clock.tick_after(after, self.wall_ms);
        let counter = self.catalog.vector().counter(&self.key) + 1;
        let dot = Dot { origin: self.key, counter };
        self.take(&Change { dot, at, taken_by: self.no, request, body });
        Ok(answer(&self.catalog, &request).expect("a change just applied is known"))
    }
}

/// Some trackers, the clients' memory of what they have seen, and every change ever made.
struct Cluster {
    trackers: Vec<Tracker>,
    users: Vec<UserId>,
    seen: BTreeMap<UserId, VersionVector>,
    nonce: u64,
}

impl Cluster {
    fn new(count: u16) -> Self {
        let trackers = (1..=count).map(Tracker::new).collect();
        Self { trackers, users: Vec::new(), seen: BTreeMap::new(), nonce: 0 }
    }

    fn request(&mut self) -> RequestId {
        self.nonce += 1;
        let mut nonce = Nonce::default();
        nonce[..8].copy_from_slice(&self.nonce.to_le_bytes());
        RequestId::draw(&device(0), &nonce)
    }

    /// Writes with a given request at tracker `t`, as user `who`, and remembers what the client has seen.
    fn write_as(&mut self, t: usize, who: UserId, request: RequestId, command: &Command) -> Result<Answer, Failure> {
        let seen = self.seen.entry(who).or_default();
        let caller = Caller { user: Some(who), device: device(0), seen };
        let result = self.trackers[t].write(&caller, request, command);
        seen.merge(self.trackers[t].catalog.vector());
        result
    }

    fn write(&mut self, t: usize, who: UserId, command: &Command) -> Result<Answer, Failure> {
        let request = self.request();
        self.write_as(t, who, request, command)
    }

    fn register(&mut self, t: usize, name: &str) -> UserId {
        let request = self.request();
        self.register_as(t, name, request).unwrap()
    }

    fn register_as(&mut self, t: usize, name: &str, request: RequestId) -> Result<UserId, Failure> {
        let command = Command::CreateUser { user: user(name), credential: Credential(format!("hash of {name}")) };
        let seen = VersionVector::default();
        let caller = Caller { user: None, device: device(0), seen: &seen };
        self.trackers[t].write(&caller, request, &command)?;
        let id = request.into();
        if !self.users.contains(&id) {
            self.users.push(id);
        }
        Ok(id)
    }

    /// Delivers up to `count` changes of one origin that `to` lacks.
    fn deliver(&mut self, from: usize, to: usize, origin: usize, count: usize) -> Vec<Effect> {
        let key = self.trackers[origin].key;
        let known = usize::try_from(self.trackers[to].catalog.vector().counter(&key)).unwrap();
        let log = self.trackers[from].log.get(&key).map_or(&[][..], Vec::as_slice);
        let missing: Vec<_> = log.iter().skip(known).take(count).cloned().collect();
        let to = &mut self.trackers[to];
        missing.iter().flat_map(|change| to.take(change)).collect()
    }

    /// Delivers everything between two trackers, both ways.
    fn sync(&mut self, a: usize, b: usize) {
        for origin in 0..self.trackers.len() {
            self.deliver(a, b, origin, usize::MAX);
            self.deliver(b, a, origin, usize::MAX);
        }
    }

    fn heal(&mut self) {
        for _ in 0..2 {
            for to in 1..self.trackers.len() {
                self.sync(0, to);
            }
        }
        self.assert_converged();
    }

    fn assert_converged(&self) {
        let first = &self.trackers[0].catalog;
        for tracker in &self.trackers[1..] {
            assert_eq!(tracker.catalog.vector(), first.vector());
            assert_eq!(tracker.catalog.digest(), first.digest());
            assert_eq!(self.answers(&tracker.catalog), self.answers(first));
        }
    }

    /// Every answer to every question, as text.
    fn answers(&self, catalog: &Catalog) -> String {
        let mut out = Vec::new();
        for user in &self.users {
            let count = |wanted| catalog.groups.sum(|group| usize::from(group.standing(user) == wanted));
            assert_eq!(catalog.owned_groups(user), count(Standing::Owner), "what is counted is what there is");
            assert_eq!(catalog.pending_requests_of(user), count(Standing::Requested), "the same of requests");
            out.push(format!("{:?} {:?}", catalog.user_name(user), catalog.credential(user).map(|(at, c)| (at, &c.0))));
            out.push(format!("{:?}", catalog.list_groups(user, 0)));
            let own: Vec<_> = catalog.shares_of_device(*user, device(0)).collect();
            out.push(format!("{own:?} {:?}", catalog.sessions_of(user)));
        }
        for info in catalog.list_groups(&UserId([0; 32]), 0).entries {
            let group = info.group;
            out.push(format!("{:?} {:?}", catalog.list_members(&group, 0), catalog.list_requests(&group, 0)));
            out.push(format!("{:?}", catalog.list_files(&group, 0)));
            let memberships: Vec<_> = self.users.iter().map(|user| catalog.membership(&group, user)).collect();
            out.push(format!("{memberships:?}"));
        }
        out.join("\n")
    }

    fn standing(&self, t: usize, group: GroupId, user: UserId) -> Standing {
        self.trackers[t].catalog.standing(&group, &user)
    }

    fn group(&self, t: usize, name: &str) -> GroupId {
        self.trackers[t].catalog.group_named(&GroupName::parse(name).unwrap()).unwrap()
    }

    fn name(&self, t: usize, user: UserId) -> String {
        self.trackers[t].catalog.user_name(&user).unwrap().to_string()
    }
}

/// The catalog that a start makes of a log, in parts of so many changes. Of what is forgotten it has yet to be told.
fn restored(log: &[Kept], part: usize) -> Catalog {
    let (mut intake, mut catalog, mut left) = (Intake::new(log.len()), Catalog::new(), log.len());
    for kept in log.chunks(part) {
        for one in kept {
            intake.add(one.clone());
        }
        let mut part = intake.part(left);
        left = part.left();
        catalog.restore_part(&mut part);
        intake.take_back(part);
    }
    assert_eq!(left, 0);
    catalog.with_all_of(intake)
}

fn device(n: u8) -> DeviceKey {
    DeviceKey([100 + n; 32])
}

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

fn manifest(name: &str, content: u8) -> ManifestHeader {
    ManifestHeader {
        name: FileName::parse(name).unwrap(),
        size: 0,
        sha1: Sha1Hash([content; 20]),
        blake3: Blake3Hash([content; 32]),
        pages: [].into_iter().collect(),
    }
}

fn create(name: &str) -> Command {
    Command::CreateGroup { group: group(name) }
}

fn join(name: &str) -> Command {
    Command::JoinGroup { group: group(name) }
}

fn leave(name: &str) -> Command {
    Command::LeaveGroup { group: group(name) }
}

fn accept(name: &str, who: &str) -> Command {
    Command::AcceptRequest { group: group(name), user: user(who) }
}

fn reject(name: &str, who: &str) -> Command {
    Command::RejectRequest { group: group(name), user: user(who) }
}

fn remove(name: &str, who: &str) -> Command {
    Command::RemoveMember { group: group(name), user: user(who) }
}

fn transfer(name: &str, who: &str) -> Command {
    Command::TransferGroup { group: group(name), user: user(who) }
}

fn new_password(text: &str) -> Command {
    Command::ChangePassword { credential: Credential(text.to_owned()), keeps: SessionId([0; 32]) }
}

fn share(group: GroupId, name: &str, content: u8) -> Command {
    Command::Share { group, manifest: manifest(name, content) }
}

fn stop(group: GroupId, name: &str, content: u8) -> Command {
    Command::StopShare { file: FileId::of(&group, &manifest(name, content).id()) }
}
