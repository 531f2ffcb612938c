//! The other trackers as this one sees them: keys, clocks, links, and how far each is behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::protocol::{
    client::{TrackerIdentity, TrackerStatus},
    ids::{DeviceKey, TrackerNo},
    sync::SyncMessage,
    tracker_info::TrackerInfo,
    version::VersionVector,
};

/// A link that has said nothing for this long is given up for another. Its other end says something every second.
pub(super) const SILENCE: std::time::Duration = std::time::Duration::from_millis(3500);
/// Clients are told again when a clock is found to differ by more than this from what they were told.
const CLOCK_STEP_MS: u64 = 2000;

/// One other tracker.
#[derive(Debug)]
struct Other {
    /// Pinned, or first seen when dialling.
    key: Option<DeviceKey>,
    /// Another key that its address showed last, and that was refused.
    refused: Option<DeviceKey>,
    /// Its wall clock minus ours, milliseconds.
    clock_offset_ms: i64,
    link: Option<SyncView>,
    /// All it has confirmed; `None` until it was first heard.
    confirmed: Option<VersionVector>,
    /// Since when it lacks something.
    behind_since: Option<Instant>,
    /// Since when it is not linked, while it is not.
    away_since: Instant,
}

impl Other {
    fn is_in_touch(&self) -> bool {
        self.link.as_ref().is_some_and(|view| view.in_touch)
    }
}

/// The link in use with another tracker.
#[derive(Debug)]
pub(super) struct SyncView {
    /// Its number here.
    pub(super) no: u64,
    /// Who dialled it.
    pub(super) dialled_by: TrackerNo,
    /// Whether writes wait for the other side.
    pub(super) in_touch: bool,
    /// When the other side last said anything.
    pub(super) heard: Instant,
    /// What it is to be sent, besides changes.
    pub(super) outgoing: mpsc::Sender<SyncMessage>,
    /// Ends the link.
    pub(super) end: CancellationToken,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Trackers {
    own: TrackerNo,
    others: BTreeMap<TrackerNo, Other>,
    links: u64,
}

impl Trackers {
    /// The listed trackers but for `own`; `known` are the keys remembered by address.
    pub(super) fn new(info: &TrackerInfo, own: TrackerNo, known: &BTreeMap<String, DeviceKey>) -> Self {
        let others = info.trackers.iter().filter(|tracker| tracker.no != own).map(|tracker| {
            let key = tracker.key.or_else(|| known.get(&tracker.address).copied());
            let (clock_offset_ms, away_since) = (0, Instant::now());
            let (link, confirmed, behind_since) = (None, None, None);
            (tracker.no, Other { key, refused: None, clock_offset_ms, link, confirmed, behind_since, away_since })
        });
        Self { own, others: others.collect(), links: 0 }
    }

    /// The key of a tracker, as far as it is known.
    pub(super) fn key(&self, no: TrackerNo) -> Option<DeviceKey> {
        self.others.get(&no)?.key
    }

    /// Numbers of the others.
    pub(super) fn numbers(&self) -> impl Iterator<Item = TrackerNo> {
        self.others.keys().copied()
    }

    /// Keys of the others; `None` as long as one is unknown.
    pub(super) fn keys(&self) -> Option<BTreeSet<DeviceKey>> {
        self.others.values().map(|other| other.key).collect()
    }

    /// Whether the tracker with this key is linked: it speaks for itself.
    pub(super) fn speaks_for_itself(&self, key: &DeviceKey) -> bool {
        self.others.values().any(|other| other.key.as_ref() == Some(key) && other.link.is_some())
    }

    /// Those that have not been linked for `long` (or never), and since when.
    pub(super) fn away(&self, now: Instant, long: Duration) -> impl Iterator<Item = (TrackerNo, Duration)> {
        let away = self.others.iter().filter(|(_, other)| other.link.is_none());
        let since = away.map(move |(no, other)| (*no, now.saturating_duration_since(other.away_since)));
        since.filter(move |(_, away)| *away >= long)
    }

    /// Whether the key of every tracker is known.
    pub(super) fn all_known(&self) -> bool {
        self.others.values().all(|other| other.key.is_some())
    }

    /// Which tracker has this key.
    pub(super) fn with_key(&self, key: &DeviceKey) -> Option<TrackerNo> {
        self.others.iter().find(|(_, other)| other.key.as_ref() == Some(key)).map(|(no, _)| *no)
    }

    /// A tracker was dialled and showed another key than its own: whether that is news.
    pub(super) fn is_news_of(&mut self, no: TrackerNo, refused: DeviceKey) -> bool {
        self.others.get_mut(&no).is_some_and(|other| other.refused.replace(refused) != Some(refused))
    }

    /// A tracker was dialled for the first time and showed this key.
    pub(super) fn learn_key(&mut self, no: TrackerNo, key: DeviceKey) {
        if let Some(other) = self.others.get_mut(&no) {
            other.key = Some(key);
        }
    }

    /// Its wall clock minus ours; `None` for a key that is no tracker's.
    pub(super) fn clock_offset_ms(&self, key: &DeviceKey) -> Option<i64> {
        let no = self.with_key(key)?;
        Some(self.others.get(&no)?.clock_offset_ms)
    }

    /// A tracker said its time; returns whether that is news for the clients.
    pub(super) fn hear_clock(&mut self, no: TrackerNo, offset_ms: i64) -> bool {
        let Some(other) = self.others.get_mut(&no) else { return false };
        let is_news = other.clock_offset_ms.abs_diff(offset_ms) > CLOCK_STEP_MS;
        if is_news || other.confirmed.is_none() {
            other.clock_offset_ms = offset_ms;
        }
        is_news
    }

    /// A number for a new link.
    pub(super) fn next_link(&mut self) -> u64 {
        self.links += 1;
        self.links
    }

    /// Puts a link in use, unless the one there is to be kept: of two that cross, the one that the lower number dialled; of
    /// two that one side dialled, the later. Returns whether it is in use now.
    pub(super) fn take_link(&mut self, no: TrackerNo, view: SyncView, now: Instant) -> bool {
        let Some(other) = self.others.get_mut(&no) else { return false };
        if let Some(old) = &other.link {
            let is_silent = now.saturating_duration_since(old.heard) >= SILENCE;
            let crosses = old.dialled_by != view.dialled_by;
            if crosses && !is_silent && old.dialled_by < view.dialled_by {
                return false;
            }
            old.end.cancel();
        }
        other.link = Some(view);
        true
    }

    /// A link has ended; returns whether it was the one in use.
    pub(super) fn drop_link(&mut self, no: TrackerNo, link: u64) -> bool {
        let Some(other) = self.others.get_mut(&no) else { return false };
        let is_used = other.link.as_ref().is_some_and(|view| view.no == link);
        if is_used {
            other.link = None;
            other.away_since = Instant::now();
        }
        is_used
    }

    /// Whether a tracker is linked.
    pub(super) fn is_linked(&self, no: TrackerNo) -> bool {
        self.others.get(&no).is_some_and(|other| other.link.is_some())
    }

    /// Brings the view of a link up to date.
    pub(super) fn note(&mut self, no: TrackerNo, link: u64, in_touch: bool, confirmed: &VersionVector, now: Instant) {
        let Some(other) = self.others.get_mut(&no) else { return };
        let Some(view) = other.link.as_mut().filter(|view| view.no == link) else { return };
        view.in_touch = in_touch;
        view.heard = now;
        // Not merged: a tracker whose disk was set back has less than it once confirmed.
        other.confirmed = Some(confirmed.clone());
    }

    /// Brings it up to date who lacks something of what is durable here.
    pub(super) fn note_lag(&mut self, durable: &VersionVector, now: Instant) {
        for other in self.others.values_mut() {
            if other.confirmed.as_ref().is_some_and(|confirmed| confirmed.includes(durable)) {
                other.behind_since = None;
            } else {
                other.behind_since.get_or_insert(now);
            }
        }
    }

    /// Whether every tracker in touch has confirmed all of `vector`.
    pub(super) fn have_confirmed(&self, vector: &VersionVector) -> bool {
        self.others.values().all(|other| {
            !other.is_in_touch() || other.confirmed.as_ref().is_some_and(|confirmed| confirmed.includes(vector))
        })
    }

    /// Those that writes wait for.
    pub(super) fn in_touch(&self) -> impl Iterator<Item = TrackerNo> + '_ {
        self.others.iter().filter(|(_, other)| other.is_in_touch()).map(|(no, _)| *no)
    }

    /// Sends a message to one tracker; one that is not linked misses it.
    pub(super) fn send(&self, no: TrackerNo, message: SyncMessage) {
        let Some(view) = self.others.get(&no).and_then(|other| other.link.as_ref()) else { return };
        if view.outgoing.try_send(message).is_err() {
            view.end.cancel();
        }
    }

    /// Sends a message to every tracker linked.
    pub(super) fn send_all(&self, message: &SyncMessage) {
        for no in self.others.keys() {
            self.send(*no, message.clone());
        }
    }

    /// Keys and clocks of those whose key is known.
    pub(super) fn identities(&self) -> Vec<TrackerIdentity> {
        let others = self.others.iter().filter_map(|(no, other)| {
            Some(TrackerIdentity { tracker: *no, key: other.key?, clock_offset_ms: other.clock_offset_ms })
        });
        others.collect()
    }

    /// The state of every listed tracker, this one included.
    pub(super) fn status(&self, durable: &VersionVector, now: Instant) -> Vec<TrackerStatus> {
        let own = TrackerStatus { tracker: self.own, reachable: true, lag: Some(0), lag_ms: 0 };
        let others = self.others.iter().map(|(no, other)| {
            let lag = other.confirmed.as_ref().map(|confirmed| durable.ahead_of(confirmed));
            let behind = other.behind_since.filter(|_| lag != Some(0));
            let lag_ms = behind.map_or(0, |since| millis(now.saturating_duration_since(since)));
            TrackerStatus { tracker: *no, reachable: other.link.is_some(), lag, lag_ms }
        });
        let mut all: Vec<_> = others.chain([own]).collect();
        all.sort_unstable_by_key(|status| status.tracker);
        all
    }
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
