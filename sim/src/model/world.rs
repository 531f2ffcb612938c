//! One way that things may be: everything that has happened, who knows of it, and what the clients hold.

use std::collections::BTreeMap;

use p2p::protocol::error::ErrorCode;

use super::{
    event::{Body, Content, Event, Id, Known},
    said::Said,
    view::View,
};

/// One way that things may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct World {
    pub(super) events: Vec<Event>,
    /// What each tracker knows.
    known: Vec<Known>,
    /// Which trackers are linked: those of one number.
    sides: Vec<usize>,
    /// What has happened, and nobody who is asked knows it: it rests on the disk of a tracker that is down.
    hidden: Known,
    /// A request has a try on each side of a partition: who has seen one of them has seen what the other side lacks.
    pub(super) is_doubled: bool,
    pub(super) clients: Vec<Client>,
    /// Until then nobody needs to agree on who is online.
    pub(super) faded_until: u64,
    /// How often a login failed, by the name that was tried.
    pub(super) failures: BTreeMap<String, u32>,
}

/// What a client holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Client {
    pub(super) session: Option<Session>,
    /// The tracker that it speaks to.
    pub(super) tracker: usize,
    /// What it has seen.
    pub(super) seen: Known,
    /// Its user's files, by path.
    pub(super) disk: BTreeMap<String, Content>,
    /// What it shares, by user, group and content.
    pub(super) shares: BTreeMap<(Id, Id, Content), Local>,
    /// What it has downloaded, oldest first.
    pub(super) downloads: Vec<Download>,
    /// Users whose presence here has just begun or ended, and when all trackers have heard of it.
    pub(super) fading: Vec<(Id, u64)>,
}

/// A login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Session {
    pub(super) user: Id,
    /// The event of the login.
    pub(super) opened: Id,
    /// The event that set the password: the session ends when it is no longer the last, unless the last was set in it.
    pub(super) credential: Id,
}

/// A share as its client remembers it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Local {
    /// What the group was called then.
    pub(super) group: String,
    /// What the file was called then.
    pub(super) name: String,
    pub(super) path: String,
    /// Whether it is certain that the client still remembers it.
    pub(super) sure: bool,
}

/// A download that is complete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Download {
    pub(super) user: Id,
    pub(super) group: Id,
    pub(super) content: Content,
    /// What group and file were called then.
    pub(super) group_name: String,
    pub(super) name: String,
}

/// Who asks whom, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    /// The client.
    pub(crate) client: usize,
    /// The tracker it is linked to, or one of several that know the same.
    pub(crate) tracker: usize,
    /// Simulated milliseconds.
    pub(crate) now: u64,
    /// How far the tracker's clock is ahead.
    pub(crate) skew: i64,
}

/// An answer that may be given, and how things are then.
#[derive(Clone, Debug)]
pub(super) struct Next {
    pub(super) said: Said,
    pub(super) stale: bool,
    pub(super) world: World,
}

/// How long until every tracker has heard who came or went.
const FADE_MS: u64 = 2500;

impl World {
    /// Nothing has happened.
    pub(super) fn new(trackers: usize, clients: usize) -> Self {
        Self {
            events: Vec::new(),
            known: vec![Known::default(); trackers],
            sides: vec![0; trackers],
            hidden: Known::default(),
            is_doubled: false,
            clients: vec![Client::default(); clients],
            faded_until: 0,
            failures: BTreeMap::new(),
        }
    }

    /// What a tracker knows.
    pub(super) fn known(&self, tracker: usize) -> Known {
        self.known[tracker]
    }

    /// How many trackers there are.
    pub(super) fn tracker_count(&self) -> usize {
        self.known.len()
    }

    /// What one who asks a tracker sees.
    pub(super) fn view(&self, tracker: usize) -> View {
        View::of(&self.events, self.known[tracker])
    }

    /// Something happened: the trackers that are linked know it.
    pub(super) fn append(&mut self, who: &Who, body: Body) -> Id {
        let (id, known) = (self.events.len(), self.known[who.tracker]);
        assert!(id < Known::MOST, "a scenario is to have fewer than {} events", Known::MOST);
        let past = match body {
            // An accept rests on what its tracker knows, not on what its author has seen elsewhere.
            Body::Accepted { .. } => known,
            _ => known.or(self.clients[who.client].seen),
        };
        let latest = known.iter().map(|id| self.events[id].at).max().unwrap_or_default();
        let at = who.now.saturating_add_signed(who.skew).max(latest + 1);
        self.events.push(Event { at, taken_by: who.tracker + 1, past, body });
        for (known, _) in self.known.iter_mut().zip(&self.sides).filter(|(_, side)| **side == self.sides[who.tracker]) {
            known.insert(id);
        }
        self.see_own(who);
        id
    }

    /// The answer to a write shows all that its tracker has taken so far.
    pub(super) fn see_own(&mut self, who: &Who) {
        let own = self.known[who.tracker].iter().filter(|id| self.events[*id].taken_by == who.tracker + 1);
        own.for_each(|id| self.clients[who.client].seen.insert(id));
    }

    /// The answer to a question shows all that its tracker knows.
    pub(super) fn see_all(&mut self, who: &Who) {
        let seen = &mut self.clients[who.client].seen;
        *seen = seen.or(self.known[who.tracker]);
    }

    /// Trackers of one number are linked from now on, those of different ones are not.
    pub(super) fn split(&mut self, sides: &[usize], now: u64) {
        (self.sides, self.is_doubled) = (sides.to_vec(), false);
        for side in sides {
            let of_side = || self.sides.iter().zip(&self.known).filter(|(own, _)| *own == side);
            let all = of_side().fold(Known::default(), |all, (_, known)| all.or(*known));
            for (_, known) in self.sides.iter().zip(&mut self.known).filter(|(own, _)| *own == side) {
                *known = all;
            }
        }
        self.end_sessions(now);
    }

    /// What was hidden comes to light.
    pub(super) fn reveal(&mut self, now: u64) {
        let hidden = std::mem::take(&mut self.hidden);
        for known in &mut self.known {
            *known = known.or(hidden);
        }
        self.end_sessions(now);
    }

    /// Whether something is hidden.
    pub(super) fn hides(&self) -> bool {
        self.hidden != Known::default()
    }

    /// What happened since `before` is hidden.
    pub(super) fn hide_since(&mut self, before: &Self) {
        for id in before.events.len()..self.events.len() {
            self.hidden.insert(id);
            self.known.iter_mut().for_each(|known| known.remove(id));
            self.clients.iter_mut().for_each(|client| client.seen.remove(id));
        }
    }

    /// This world with a client as it is in another: it does not know what became of its command.
    pub(super) fn with_client_of(mut self, other: &Self, client: usize) -> Self {
        self.clients[client] = other.clients[client].clone();
        self
    }

    /// What a request did at a second tracker, after it had done `first` at one where it found things as in `before`, is the same
    /// thing: "requests carry an id that becomes the record's identity, so a repeat merges with the first try even across a
    /// partition". The earlier of the two counts; an end covers what either knew.
    pub(super) fn merge_repeat(mut self, before: &Self, first: &Self) -> Self {
        let once = before.events.len();
        let (was_done, was_repeated) = (first.events.len() > once, self.events.len() > first.events.len());
        if !was_done || !was_repeated {
            return self;
        }
        let Some(repeat) = self.events.pop() else { return self };
        self.is_doubled = true;
        let event = &mut self.events[once];
        let past = event.past.or(repeat.past);
        if (repeat.at, repeat.taken_by) < (event.at, event.taken_by) {
            *event = repeat;
        }
        event.past = past;
        let seen = self.clients.iter_mut().map(|client| &mut client.seen);
        for known in self.known.iter_mut().chain(seen).filter(|known| known.has(once + 1)) {
            known.remove(once + 1);
            known.insert(once);
        }
        for client in &mut self.clients {
            let Some(session) = &mut client.session else { continue };
            for event in [&mut session.opened, &mut session.credential] {
                if *event == once + 1 {
                    *event = once;
                }
            }
        }
        self
    }

    /// A client speaks to a tracker from now on.
    pub(super) fn speak_to(&mut self, client: usize, tracker: usize, now: u64) {
        self.clients[client].tracker = tracker;
        self.end_sessions(now);
    }

    /// This world with a client linked to a tracker.
    pub(super) fn with_client_at(&self, who: &Who) -> Self {
        let mut world = self.clone();
        world.speak_to(who.client, who.tracker, who.now);
        world
    }

    /// A session ends where its client speaks to a tracker that knows of a later password, set in another session.
    pub(super) fn end_sessions(&mut self, now: u64) {
        let (events, known) = (&self.events, &self.known);
        let views: Vec<View> = known.iter().map(|known| View::of(events, *known)).collect();
        for client in &mut self.clients {
            let Some(session) = client.session else { continue };
            let Some(user) = views[client.tracker].users.get(&session.user) else { continue };
            let is_replaced = events[user.credential].at > events[session.credential].at;
            if is_replaced && user.kept != Some(session.opened) {
                client.session = None;
                client.fading.push((session.user, now + FADE_MS));
            }
        }
    }

    /// A user begins or ends to be present at a client.
    pub(super) fn fade(&mut self, who: &Who, user: Id) {
        let fading = &mut self.clients[who.client].fading;
        fading.retain(|(_, until)| *until > who.now);
        fading.push((user, who.now + FADE_MS));
    }

    /// Whether a user is seen online by every tracker; `None` when not all need to agree.
    pub(super) fn is_online(&self, user: Id, now: u64) -> Option<bool> {
        let mut fading = self.clients.iter().flat_map(|client| &client.fading);
        if self.faded_until > now || fading.any(|(whose, until)| *whose == user && *until > now) {
            return None;
        }
        Some(self.clients.iter().any(|client| client.session.is_some_and(|session| session.user == user)))
    }

    /// What a client remembers of its shares is not certain where it was cut off before or after it did what `after` says.
    pub(super) fn blur_shares(&mut self, client: usize, after: &Self) {
        let own = &mut self.clients[client].shares;
        let other = &after.clients[client].shares;
        own.iter_mut().filter(|(key, _)| !other.contains_key(key)).for_each(|(_, local)| local.sure = false);
        for (key, local) in other {
            own.entry(key.clone()).or_insert_with(|| Local { sure: false, ..local.clone() });
        }
    }

    /// A client has died: nobody is logged in there.
    pub(super) fn die(&mut self, client: usize, now: u64) {
        if let Some(session) = self.clients[client].session.take() {
            // "Presence of a dead client is gone everywhere within 30 s."
            self.clients[client].fading.push((session.user, now + 30_000));
        }
    }
}

/// What a tracker that lacks something the client has seen says in place of "there is no such thing".
pub(super) fn or_stale(code: ErrorCode, caught_up: bool) -> ErrorCode {
    use ErrorCode::{
        BadCredentials, NoSuchFile, NoSuchGroup, NoSuchRequest, NoSuchUser, NotAMember, NotOwner, NotShared, Stale,
    };
    match code {
        BadCredentials | NoSuchGroup | NoSuchUser | NoSuchRequest | NoSuchFile | NotAMember | NotOwner | NotShared
            if !caught_up =>
        {
            Stale
        }
        code => code,
    }
}
