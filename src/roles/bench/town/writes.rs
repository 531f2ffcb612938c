//! Load of writes, and of logins: many who each wait for their own answer.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use super::{
    super::BenchError,
    census::{self, PASSWORD, VISITORS},
    cluster::Cluster,
    line::{Desk, Line},
    meter::{Meter, Rate, Tally},
};
use crate::protocol::{
    client::{Answer, GroupInfo, LeaveOutcome, Password, Request, Standing},
    name::GroupName,
    version::VersionVector,
};

/// The visitor who joins groups at tracker 2; the other logs residents in.
const GUEST: u32 = 1;
const HOST: u32 = 0;
/// Logins under way at one tracker; more would wait for each other there.
const LOGINS: u32 = 4;

/// Founds groups at one tracker, asks to join them at the other, accepts and leaves for some time: `writers` at once, each
/// with one write under way, on `links` links. Then every group must be at both trackers, with its founder alone. Each link founds as
/// a resident of its own, since nobody may own more than some thousand groups.
pub(in super::super) async fn run(
    cluster: &Cluster,
    links: u32,
    writers: u32,
    time: Duration,
) -> Result<(Rate, bool), BenchError> {
    let (mut founders, mut guests, mut serving) = (Vec::new(), Vec::new(), JoinSet::new());
    for pair in 0..links.div_ceil(2) {
        let founder = founder(cluster, pair);
        for (no, account, desks) in [(1, founder, &mut founders), (2, GUEST, &mut guests)] {
            let (desk, serve) = Desk::new(cluster.line(no, account, 200 + u64::from(pair) * 2 + u64::from(no)).await?);
            serving.spawn(serve);
            desks.push((account, desk));
        }
    }
    let meter = Meter::start(cluster);
    let (end, mut running) = (Instant::now() + time, JoinSet::new());
    for (number, (founder, guest)) in (0..writers).zip(founders.iter().zip(&guests).cycle()) {
        running.spawn(Writer::new(number, founder, guest).run(end));
    }
    drop((founders, guests));
    let (mut tally, mut founded) = (Tally::default(), Vec::new());
    for done in running.join_all().await {
        let (groups, part) = done?;
        founded.extend(groups);
        tally.add(part);
    }
    let rate = meter.stop(cluster, &mut tally);
    for served in serving.join_all().await {
        served?;
    }
    let is_kept = are_known(cluster, &founded).await?;
    Ok((rate, tally.wrong == 0 && is_kept))
}

/// Founds one group after the other.
struct Writer {
    number: u32,
    /// Whose groups they are.
    account: u32,
    founder: Desk,
    guest: Desk,
    seen: VersionVector,
    tally: Tally,
}

impl Writer {
    fn new(number: u32, (account, founder): &(u32, Desk), (_, guest): &(u32, Desk)) -> Self {
        let (founder, guest) = (founder.clone(), guest.clone());
        Self { number, account: *account, founder, guest, seen: VersionVector::default(), tally: Tally::default() }
    }

    async fn run(mut self, end: Instant) -> Result<(Vec<(GroupName, u32)>, Tally), BenchError> {
        let mut founded = Vec::new();
        while Instant::now() < end {
            let group = GroupName::parse(&format!("new-{}-{}", self.number, founded.len()));
            let group = group.expect("letters, dashes and digits make a name");
            founded.push((group.clone(), self.account));
            self.live_through(&group).await?;
        }
        Ok((founded, self.tally))
    }

    /// Founded, asked, accepted, left.
    async fn live_through(&mut self, group: &GroupName) -> Result<(), BenchError> {
        let (group, user) = (group.clone(), census::user_name(GUEST));
        self.write(true, Request::CreateGroup { group: group.clone() }, &Answer::Done).await?;
        self.write(false, Request::JoinGroup { group: group.clone() }, &Answer::Done).await?;
        self.write(true, Request::AcceptRequest { group: group.clone(), user }, &Answer::Done).await?;
        self.write(false, Request::LeaveGroup { group }, &Answer::Left { outcome: LeaveOutcome::Left }).await
    }

    async fn write(&mut self, by_founder: bool, request: Request, expected: &Answer) -> Result<(), BenchError> {
        let (desk, since) = (if by_founder { &self.founder } else { &self.guest }, Instant::now());
        let answer = desk.ask(&mut self.seen, request).await?;
        self.tally.count(since, answer == *expected);
        Ok(())
    }
}

/// Whether every group is known at both trackers, as its writes have left it.
async fn are_known(cluster: &Cluster, groups: &[(GroupName, u32)]) -> Result<bool, BenchError> {
    for no in [1, 2] {
        let mut line = cluster.line(no, GUEST, u64::from(no)).await?;
        for (group, founder) in groups {
            let answer = line.ask(Request::FindGroup { group: group.clone() }).await?;
            let is_as_left = matches!(answer, Answer::Group(GroupInfo { owner, members: 1, standing: Standing::None, .. })
                if owner == census::user_name(*founder));
            if !is_as_left {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Who founds groups on a pair of links.
fn founder(cluster: &Cluster, pair: u32) -> u32 {
    VISITORS + pair % cluster.census.residents
}

/// Logs residents in, one after the other on each of a few links, with their passwords.
pub(in super::super) async fn log_in(cluster: &Cluster, time: Duration) -> Result<(Rate, bool), BenchError> {
    let mut lines = Vec::new();
    for link in 0..2 * LOGINS {
        lines.push(cluster.line(if link % 2 == 0 { 1 } else { 2 }, HOST, 300 + u64::from(link)).await?);
    }
    let meter = Meter::start(cluster);
    let (end, mut running) = (Instant::now() + time, JoinSet::new());
    let stride = cluster.census.residents.div_ceil(2 * LOGINS);
    for (link, line) in (0..).zip(lines) {
        let accounts = (0..cluster.census.residents).map(move |n| VISITORS + n).cycle().skip((link * stride) as usize);
        running.spawn(log_in_on(line, accounts, end));
    }
    let mut tally = Tally::default();
    for done in running.join_all().await {
        tally.add(done?);
    }
    let rate = meter.stop(cluster, &mut tally);
    Ok((rate, tally.wrong == 0))
}

async fn log_in_on(mut line: Line, accounts: impl Iterator<Item = u32>, end: Instant) -> Result<Tally, BenchError> {
    let mut tally = Tally::default();
    for account in accounts {
        if Instant::now() >= end {
            break;
        }
        let (user, since) = (census::user_name(account), Instant::now());
        let request = Request::Login { user: user.clone(), password: Password(PASSWORD.to_owned()) };
        let answer = line.ask(request).await?;
        let is_right = matches!(&answer, Answer::LoggedIn { info, .. }
            if info.name == user && info.user == census::user(account));
        tally.count(since, is_right);
    }
    Ok(tally)
}
