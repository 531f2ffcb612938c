//! The invariants of REPLICATION.md, each a function that finds where it is broken.
//!
//! [`Oracle`] is for scenarios: it looks during a run ([`Oracle::look`], at any moment), at a host's death
//! ([`Oracle::crash`]), and when everything is up and linked ([`Oracle::at_rest`]). What it has seen before it remembers:
//! a promise about the past (a counter, an end) is held against every later look.
//!
//! | invariant | where |
//! |---|---|
//! | 1, 4, 5, 6, 7, 8 | `records`: of the union of all logs |
//! | 2, 11, 12, 13 | `logs`: of each log and disk |
//! | 3, 14 | `cluster`: of the trackers as they run |
//! | 9 | `model`: an answer is what a client that has seen so much may be told, or marked stale |
//! | 10 | `secrets`: of every run's trace and disks |
//!
//! Promises about shared bytes are checked in [`data`], where hostile receivers write down what they are told.

mod cluster;
pub(crate) mod data;
mod logs;
mod records;
pub(crate) mod secrets;
mod watch;

use std::{collections::BTreeSet, time::Duration};

use p2p::{
    protocol::ids::{GroupId, MembershipId},
    roles::client::command::Reply,
};
use tokio::time::{Instant, sleep};

pub(crate) use self::watch::{Seat, Watch};
use self::{logs::Logs, records::Records};
use crate::{
    cluster::{Cluster, Faults, Outcome},
    coverage,
    disk::Crash,
    role::Peer,
};

/// What an invariant's check finds: nothing, or where it is broken.
pub(crate) type Verdict = Result<(), String>;

/// How soon trackers that are linked again must agree.
const CONVERGE_WITHIN: Duration = Duration::from_secs(10);
/// How soon trackers are linked and in touch again once nothing is in the way: back-off and a dial that was under way.
const LINK_WITHIN: Duration = Duration::from_secs(12);
/// How soon every tracker sees a client that is linked to any.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// How soon no tracker sees a client that is dead.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// How often a condition that must come true is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// Watches over a run.
pub(crate) struct Oracle {
    watch: Watch,
    faults: Faults,
    memory: Memory,
}

/// What was seen so far.
#[derive(Default)]
struct Memory {
    logs: Logs,
    /// Memberships known to be over.
    ended: BTreeSet<(GroupId, MembershipId)>,
}

/// What must hold at the end of every run, as far as one look can tell.
pub(crate) fn last_look(watch: &Watch) -> Verdict {
    Memory::default().look(watch)
}

impl Oracle {
    /// Watches over the trackers and clients of `cluster`, also those plugged in later.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self { watch: cluster.watch(), faults: cluster.faults(), memory: Memory::default() }
    }

    /// Reads every log. What is made and forgotten between two glances is never seen, and then the records that should follow
    /// from all changes cannot be told: glance every few seconds.
    pub(crate) fn glance(&mut self) -> Verdict {
        self.memory.logs.read(&self.watch.trackers())
    }

    /// Checks what must hold at any moment.
    pub(crate) fn look(&mut self) -> Verdict {
        self.memory.look(&self.watch)
    }

    /// Ends a host's life at once, and checks what it leaves.
    pub(crate) async fn crash(&mut self, name: &'static str, how: Crash) -> Outcome {
        let seats = self.watch.trackers();
        let before = seats.iter().find(|seat| seat.name == name).and_then(|seat| seat.running.as_ref());
        let before = before.map(|tracker| tracker.witness());
        drop(seats);
        self.faults.crash(name, how).await;
        let Some(before) = before else { return Ok(()) };
        let seats = self.watch.trackers();
        let seat = seats.iter().find(|seat| seat.name == name).expect("a tracker's host stays one");
        Ok(self.memory.logs.survived(seat, &before)?)
    }

    /// Checks what must hold when every tracker is up and nothing is cut: waits until they are linked, and no longer than
    /// they may take to agree.
    pub(crate) async fn at_rest(&mut self) -> Outcome {
        self.settle().await?;
        self.look()?;
        Ok(self.memory.logs.are_whole(&self.watch.trackers())?)
    }

    /// Waits until every tracker is in touch with every other, and then until they agree.
    pub(crate) async fn settle(&self) -> Outcome {
        self.within(LINK_WITHIN, cluster::all_linked).await?;
        self.within(CONVERGE_WITHIN, cluster::all_agree).await
    }

    /// Checks that every tracker sees these peers online and no other client, at the latest when a dead one must be gone.
    pub(crate) async fn sees_online(&self, peers: &[&Peer]) -> Outcome {
        let mut live = BTreeSet::new();
        for peer in peers {
            // Answered by a tracker: a client still on its way to one is not linked, and nobody need see it.
            peer.does("list_groups").await?;
            match peer.does("whoami").await? {
                Reply::WhoAmI { device, .. } => live.insert(device),
                other => return Err(format!("{}: whoami answered {other:?}", peer.name()).into()),
            };
        }
        self.within_of(cluster::all_linked, SEEN_WITHIN, |seats| cluster::all_seen(seats, &live)).await?;
        self.within(GONE_WITHIN, |seats| cluster::all_gone(seats, &live)).await
    }

    /// Waits until `check` is content, for `limit` at most.
    async fn within(&self, limit: Duration, check: impl Fn(&[Seat]) -> Verdict) -> Outcome {
        self.within_of(|_| Ok(()), limit, check).await
    }

    /// As [`within`](Self::within), with a time that counts from when `ready` last did not hold: links may still be lost and made anew
    /// after a crash, for as long as that may take.
    async fn within_of(
        &self,
        ready: impl Fn(&[Seat]) -> Verdict,
        limit: Duration,
        check: impl Fn(&[Seat]) -> Verdict,
    ) -> Outcome {
        let patience = Instant::now() + LINK_WITHIN;
        let mut deadline = Instant::now() + limit;
        loop {
            let (seats, now) = (self.watch.trackers(), Instant::now());
            let verdict = check(&seats);
            if now < patience && ready(&seats).is_err() {
                deadline = now + limit;
            }
            if verdict.is_ok() || now >= deadline {
                return Ok(verdict?);
            }
            sleep(GLANCE).await;
        }
    }
}

impl Memory {
    fn look(&mut self, watch: &Watch) -> Verdict {
        let seats = watch.trackers();
        self.logs.read(&seats)?;
        self.logs.hold_what_clients_saw(&watch.clients())?;
        self.logs.come_from_listed_trackers(&seats)?;
        for seat in &seats {
            records::agrees_with_its_log(seat)?;
        }
        if !self.logs.are_all_seen() {
            return Ok(());
        }
        coverage::reached("oracle: records follow from all changes");
        let records = Records::of(self.logs.union())?;
        records.agree_with(&seats)?;
        records.check(&mut self.ended)
    }
}

/// What is said of an invariant that does not hold.
fn broken(invariant: u8, what: &str) -> String {
    format!("invariant {invariant} is broken: {what}")
}
