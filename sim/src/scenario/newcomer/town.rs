//! People of whose doings much is soon over, and what must be left of it in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use p2p::{
    protocol::{client::Standing, error::ErrorCode},
    roles::client::command::Reply,
};
use rand_chacha::ChaCha20Rng;

use crate::scenario::below;
use crate::{
    cluster::Outcome,
    coverage::reached,
    role::{Peer, groups},
    steps::Steps,
};

/// Who founds the group, who comes and goes, and who will speak to the newcomer alone.
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// Attempts to log in, of more than two seconds each where the tracker is not caught up.
const LOGINS: u32 = 10;

/// What was said to be done with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    There,
    Gone,
    /// Somebody was not told.
    Unknown,
}

pub(super) struct Town {
    people: [Peer; 3],
    steps: Steps,
    rng: ChaCha20Rng,
    groups: BTreeMap<String, Fate>,
    files: BTreeMap<String, Fate>,
    passwords: [u32; 3],
    number: u32,
}

/// Something that somebody does in one or two commands, and is to be done.
pub(super) enum Work {
    Found(String),
    FoundAndLeave(String),
    Share(String),
    ShareAndStop(String),
}

impl Town {
    pub(super) fn new(people: [Peer; 3], steps: Steps, rng: ChaCha20Rng) -> Self {
        let (groups, files) = (BTreeMap::from([("films".to_owned(), Fate::There)]), BTreeMap::new());
        Self { people, steps, rng, groups, files, passwords: [0; 3], number: 0 }
    }

    pub(super) fn people() -> [&'static str; 3] {
        PEOPLE
    }

    pub(super) async fn settles(&mut self) -> Outcome {
        for peer in &self.people {
            peer.joins_the_users().await?;
        }
        let [alice, bob, carol] = &self.people;
        alice.sees_trackers_agree().await?;
        alice.does("create_group films").await?;
        for peer in [bob, carol] {
            peer.joins(alice, "films").await?;
        }
        for _ in 0..2 + below(&mut self.rng, 6) {
            let file = self.next('f');
            self.carry_out(Work::Share(file)).await?;
        }
        Ok(())
    }

    /// One thing that is soon over, or another; nobody is in its way.
    pub(super) async fn lives_on(&mut self) -> Outcome {
        let what = below(&mut self.rng, 9);
        let (who, name) = (1 + below(&mut self.rng, 2), self.next(if what < 3 { 'g' } else { 'f' }));
        if !self.steps.take(format_args!("{}: something of kind {what} with {name}", PEOPLE[who])) {
            return Ok(());
        }
        match what {
            0 | 1 => self.carry_out(Work::FoundAndLeave(name)).await,
            2 => self.carry_out(Work::Found(name)).await,
            3 => self.carry_out(Work::Share(name)).await,
            4 => self.carry_out(Work::ShareAndStop(name)).await,
            5 => self.changes_password(who).await,
            6 => self.owner_changes_twice(who).await,
            _ => self.comes_and_goes(who, what == 7).await,
        }
    }

    /// Work whose changes are all forgotten once it is known everywhere.
    pub(super) async fn ends_something(&mut self) -> Result<bool, Box<dyn std::error::Error>> {
        let name = self.next('g');
        let is_done = self.steps.take(format_args!("bob makes and leaves {name}"));
        if is_done {
            self.carry_out(Work::FoundAndLeave(name)).await?;
        }
        Ok(is_done)
    }

    async fn comes_and_goes(&self, who: usize, is_removed: bool) -> Outcome {
        let (alice, peer) = (&self.people[0], &self.people[who]);
        if is_removed {
            alice.does(&format!("remove_member films {}", peer.name())).await?;
            peer.does("join_group films").await?;
            alice.does(&format!("reject_request films {}", peer.name())).await?;
        } else {
            peer.does("leave_group films").await?;
        }
        peer.joins(alice, "films").await
    }

    async fn owner_changes_twice(&self, who: usize) -> Outcome {
        let (alice, peer) = (&self.people[0], &self.people[who]);
        alice.does(&format!("transfer_group films {}", peer.name())).await?;
        peer.does("transfer_group films alice").await.map(drop)
    }

    async fn changes_password(&mut self, who: usize) -> Outcome {
        let old = self.password(who);
        self.passwords[who] += 1;
        let new = self.password(who);
        self.people[who].does(&format!("change_password {old} {new}")).await.map(drop)
    }

    fn password(&self, who: usize) -> String {
        match self.passwords[who] {
            0 => format!("secret-of-{}", PEOPLE[who]),
            number => format!("secret-{number}-of-{}", PEOPLE[who]),
        }
    }

    fn next(&mut self, kind: char) -> String {
        self.number += 1;
        format!("{kind}{}", self.number)
    }

    /// Work for a time when anything may be in its way; its steps are taken here.
    pub(super) fn plans(&mut self, count: usize) -> Vec<Work> {
        let mut plan = Vec::new();
        for _ in 0..count {
            let (what, number) = (below(&mut self.rng, 4), self.number + 1);
            let work = match what {
                0 => Work::Found(self.next('g')),
                1 => Work::FoundAndLeave(self.next('g')),
                2 => Work::Share(self.next('f')),
                _ => Work::ShareAndStop(self.next('f')),
            };
            if self.steps.take(format_args!("work of kind {what} as number {number}")) {
                plan.push(work);
            }
        }
        plan
    }

    /// Does what it can of this.
    pub(super) async fn tries(&mut self, plan: Vec<Work>) -> Outcome {
        for work in plan {
            let all = matches!(self.attempt(&work).await?, Ok(()));
            self.note(work, all);
        }
        Ok(())
    }

    async fn carry_out(&mut self, work: Work) -> Outcome {
        if let Err(line) = self.attempt(&work).await? {
            return Err(format!("refused, though nothing was in its way: {line}").into());
        }
        self.note(work, true);
        Ok(())
    }

    /// The inner error: what failed first.
    async fn attempt(&self, work: &Work) -> Result<Result<(), String>, Box<dyn std::error::Error>> {
        let (who, lines) = match work {
            Work::Found(name) => (1, vec![format!("create_group {name}")]),
            Work::FoundAndLeave(name) => (1, vec![format!("create_group {name}"), format!("leave_group {name}")]),
            Work::Share(name) => (0, vec![format!("upload_file /home/{name} films")]),
            Work::ShareAndStop(name) => {
                (0, vec![format!("upload_file /home/{name} films"), format!("stop_share films {name}")])
            }
        };
        if let Work::Share(name) | Work::ShareAndStop(name) = work {
            self.people[who].disk().put(Path::new(&format!("/home/{name}")), name.as_bytes())?;
        }
        for line in lines {
            if let Err(failure) = self.people[who].tries(&line).await? {
                return Ok(Err(format!("{line}: {failure}")));
            }
        }
        Ok(Ok(()))
    }

    fn note(&mut self, work: Work, is_done: bool) {
        let (names, name, fate) = match work {
            Work::Found(name) => (&mut self.groups, name, Fate::There),
            Work::FoundAndLeave(name) => (&mut self.groups, name, Fate::Gone),
            Work::Share(name) => (&mut self.files, name, Fate::There),
            Work::ShareAndStop(name) => (&mut self.files, name, Fate::Gone),
        };
        names.insert(name, if is_done { fate } else { Fate::Unknown });
    }
}

/// What must be seen, and by whom.
impl Town {
    /// Logs in with the password of today; somebody may be logged in. A tracker that has yet to hear of the account says so.
    pub(super) async fn logs_in(&self, who: usize) -> Outcome {
        let line = format!("login {} {}", PEOPLE[who], self.password(who));
        for _ in 0..LOGINS {
            match self.people[who].tries(&line).await? {
                Err(failure) if failure.code == ErrorCode::Stale => reached("newcomer: had yet to hear of an account"),
                Err(failure) if failure.code != ErrorCode::AlreadyLoggedIn => {
                    return Err(format!("{} cannot log in: {failure}", PEOPLE[who]).into());
                }
                _ => return Ok(()),
            }
        }
        Err(format!("{} cannot log in for long", PEOPLE[who]).into())
    }

    pub(super) async fn logs_out(&self, who: usize) -> Outcome {
        self.people[who].does("logout").await.map(drop)
    }

    /// All that is there and nothing that is gone, wherever this one is linked.
    pub(super) async fn sees_all(&self, who: usize) -> Outcome {
        let peer = &self.people[who];
        let reply = peer.sees("list_groups", |_| true).await?;
        check(peer, "groups", &groups(&reply), &self.groups)?;
        match peer.does("list_files films").await? {
            Reply::Files(files) => {
                let names = files.iter().map(|file| file.name.as_str()).collect();
                check(peer, "files", &names, &self.files)?;
            }
            other => return Err(format!("{}: list_files answered {other:?}", peer.name()).into()),
        }
        match peer.does("list_members films").await? {
            Reply::Members(members) if are_all(&members) => Ok(()),
            other => Err(format!("{}: list_members answered {other:?}", peer.name()).into()),
        }
    }
}

fn are_all(members: &[p2p::protocol::client::MemberInfo]) -> bool {
    let standing = |name: &str| if name == PEOPLE[0] { Standing::Owner } else { Standing::Member };
    let right = |name: &&str| members.iter().any(|one| one.user.as_str() == *name && one.role == standing(name));
    members.len() == PEOPLE.len() && PEOPLE.iter().all(right)
}

fn check(peer: &Peer, what: &str, seen: &BTreeSet<&str>, fates: &BTreeMap<String, Fate>) -> Outcome {
    let is_wrong = |name: &str, fate: Fate| match fate {
        Fate::There => !seen.contains(name),
        Fate::Gone => seen.contains(name),
        Fate::Unknown => false,
    };
    let unheard_of = seen.iter().find(|name| !fates.contains_key(**name)).map(|name| (*name).to_owned());
    let wrong = fates.iter().find(|(name, fate)| is_wrong(name, **fate));
    match (wrong, unheard_of) {
        (None, None) => Ok(()),
        (wrong, unheard_of) => {
            let name = peer.name();
            Err(format!("{name}: {what} are {seen:?}, but {wrong:?} should be, and {unheard_of:?} not").into())
        }
    }
}
