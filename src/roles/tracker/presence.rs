//! Who is online where, with how much of which files: soft state of the whole cluster. Pure; time is passed in.
//!
//! A *seat* is one device at one home: a link of ours, or another tracker that speaks for its own links. A device that
//! moves has two seats for a while; the one taken last counts. Seats at a tracker that is lost, or that came back and has
//! not named them again, fall after [`GRACE`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::mutant::Mutant;
use crate::protocol::{
    client::{Presence, Serving},
    ids::{DeviceKey, FileId, GroupId, UserId},
    limits::{MAX_PRESENCE_FILES, MAX_SHARES},
    sync::DevicePresence,
};
use crate::replica::{
    few::{FewMap, FewSet},
    table::IdTable,
};

/// How long the seats at a lost tracker stay.
pub(super) const GRACE: Duration = Duration::from_secs(15);

/// Number of a client's link at this tracker.
pub(super) type LinkNo = u64;

/// Where a device is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Home {
    /// To this tracker.
    Here(LinkNo),
    /// To the tracker with this key.
    At(DeviceKey),
}

/// One device at one home.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// Who is logged in.
    pub(super) user: UserId,
    /// `IP:PORT` to dial.
    pub(super) address: Box<str>,
    serving: FewMap<FileId, (GroupId, u8)>,
    /// Grows with every seat taken.
    turn: u64,
    expires: Option<Instant>,
}

/// A device that serves a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server<'a> {
    /// The device.
    pub(super) device: DeviceKey,
    /// Where it is linked.
    pub(super) home: Home,
    /// Who, at which address.
    pub(super) seat: &'a Seat,
    /// The group it serves the file in.
    pub(super) group: GroupId,
    /// Whole percent.
    pub(super) percent: u8,
}

/// All seats, and what has yet to be told of them.
#[derive(Debug, Default)]
pub(super) struct PresenceMap {
    seats: BTreeMap<DeviceKey, FewMap<Home, Seat>>,
    by_file: IdTable<FileId, FewSet<DeviceKey>>,
    by_user: IdTable<UserId, FewSet<DeviceKey>>,
    /// Files that each link here serves in a group.
    here: BTreeMap<GroupId, FewMap<LinkNo, u32>>,
    turns: u64,
    /// When the first doubtful seat may fall.
    first_expiry: Option<Instant>,
    /// What the other trackers have yet to hear of devices linked here.
    untold: BTreeMap<DeviceKey, Untold>,
    /// Files whose swarm is not what its members know.
    changed: BTreeSet<FileId>,
}

#[derive(Debug)]
enum Untold {
    All,
    Files(BTreeSet<FileId>),
}

/// What goes in.
impl PresenceMap {
    /// `user` is logged in on `device`, linked at `home`.
    pub(super) fn enter(&mut self, device: DeviceKey, home: Home, user: UserId) {
        self.leave(device, home);
        self.turns += 1;
        let (address, serving) = (Box::default(), FewMap::default());
        let seat = Seat { user, address, serving, turn: self.turns, expires: None };
        let before = self.files_of(&device);
        self.seats.entry(device).or_default().insert(home, seat);
        self.by_user.entry(user).or_default().insert(device);
        self.reindex(device, &before, &BTreeMap::new());
        self.tell_all(device, home);
    }

    /// `device` is no longer logged in at `home`.
    pub(super) fn leave(&mut self, device: DeviceKey, home: Home) {
        let before = self.files_of(&device);
        let Some(homes) = self.seats.get_mut(&device) else { return };
        let Some(seat) = homes.remove(&home) else { return };
        if homes.is_empty() {
            self.seats.remove(&device);
        }
        for (_, (group, _)) in &seat.serving {
            self.count_here(home, *group, false);
        }
        self.unlist_user(device, seat.user);
        self.reindex(device, &before, &self.files_of(&device));
        self.tell_all(device, home);
    }

    /// `device`, at `home`, says what it serves. Ignored while nobody is logged in there.
    pub(super) fn update(&mut self, device: DeviceKey, home: Home, presence: &Presence) {
        let counts = self.seat(&device).is_some_and(|(counting, _)| counting == home);
        let touched = if presence.reset { None } else { Some(touched(presence)) };
        let before = if counts { self.served(&device, touched.as_ref()) } else { BTreeMap::new() };
        let Some(seat) = self.seats.get_mut(&device).and_then(|homes| homes.get_mut(&home)) else { return };
        let is_moved = *seat.address != *presence.address;
        seat.expires = None;
        for (group, holds) in seat.merge(presence) {
            self.count_here(home, group, holds);
        }
        if counts {
            let after = self.served(&device, touched.as_ref());
            self.reindex(device, &before, &after);
        }
        if is_moved {
            self.changed.extend(self.files_of(&device).into_keys());
        }
        match touched {
            Some(touched) if !is_moved => self.tell(device, home, touched),
            _ => self.tell_all(device, home),
        }
    }

    /// Another tracker speaks of a device linked to it.
    pub(super) fn hear(&mut self, tracker: DeviceKey, said: &DevicePresence) {
        let home = Home::At(tracker);
        let Some(user) = said.user else { return self.leave(said.device, home) };
        let known = self.seats.get(&said.device).and_then(|homes| homes.get(&home));
        if known.is_none_or(|seat| seat.user != user) {
            self.enter(said.device, home, user);
        }
        self.update(said.device, home, &said.presence);
    }

    /// A tracker is lost, or begins anew: its seats fall after [`GRACE`] unless it names them again.
    pub(super) fn doubt(&mut self, tracker: DeviceKey, now: Instant) {
        let seats = self.seats.values_mut().filter_map(|homes| homes.get_mut(&Home::At(tracker)));
        for seat in seats {
            let expires = *seat.expires.get_or_insert(now + GRACE);
            self.first_expiry = Some(self.first_expiry.map_or(expires, |first| first.min(expires)));
        }
    }

    /// Lets the seats fall whose time has come.
    pub(super) fn expire(&mut self, now: Instant) {
        if Mutant::GhostPresence.is_on() {
            return;
        }
        // A look at every seat, five times a second, would cost more than all announces.
        if self.first_expiry.is_none_or(|first| first > now) {
            return;
        }
        let doubtful = self
            .seats
            .iter()
            .flat_map(|(device, homes)| homes.iter().map(move |(home, seat)| (*device, *home, seat.expires)))
            .filter_map(|(device, home, expires)| Some((device, home, expires?)));
        let (fallen, doubtful): (Vec<_>, Vec<_>) = doubtful.partition(|(_, _, expires)| *expires <= now);
        self.first_expiry = doubtful.iter().map(|(_, _, expires)| *expires).min();
        for (device, home, _) in fallen {
            self.leave(device, home);
        }
    }

    fn tell(&mut self, device: DeviceKey, home: Home, files: BTreeSet<FileId>) {
        if matches!(home, Home::At(_)) || files.is_empty() {
            return;
        }
        match self.untold.entry(device).or_insert_with(|| Untold::Files(BTreeSet::new())) {
            Untold::All => {}
            Untold::Files(known) => known.extend(files),
        }
    }

    fn tell_all(&mut self, device: DeviceKey, home: Home) {
        if matches!(home, Home::Here(_)) {
            self.untold.insert(device, Untold::All);
        }
    }

    /// Files with percent, of the seat that counts.
    fn files_of(&self, device: &DeviceKey) -> BTreeMap<FileId, u8> {
        self.served(device, None)
    }

    /// The same of these files alone, or of all.
    fn served(&self, device: &DeviceKey, files: Option<&BTreeSet<FileId>>) -> BTreeMap<FileId, u8> {
        let Some((_, seat)) = self.seat(device) else { return BTreeMap::new() };
        match files {
            Some(files) => files.iter().filter_map(|file| Some((*file, seat.serving.get(file)?.1))).collect(),
            None => seat.serving.iter().map(|(file, (_, percent))| (*file, *percent)).collect(),
        }
    }

    /// Brings the index of files in line: of some files, or of all, `device` served `before` and serves `after`.
    fn reindex(&mut self, device: DeviceKey, before: &BTreeMap<FileId, u8>, after: &BTreeMap<FileId, u8>) {
        for file in before.keys().filter(|file| !after.contains_key(*file)) {
            if let Some(devices) = self.by_file.get_mut(file) {
                devices.remove(&device);
                if devices.is_empty() {
                    self.by_file.remove(file);
                }
            }
            self.changed.insert(*file);
        }
        for (file, percent) in after {
            let was = before.get(file);
            if was.is_none() {
                self.by_file.entry(*file).or_default().insert(device);
            }
            if was.is_none_or(|was| (*was == 100) != (*percent == 100)) {
                self.changed.insert(*file);
            }
        }
    }

    /// A link here serves one file more in a group, or one less.
    fn count_here(&mut self, home: Home, group: GroupId, more: bool) {
        let Home::Here(link) = home else { return };
        let links = self.here.entry(group).or_default();
        let count = links.get(&link).map_or(0, |count| *count);
        match if more { count + 1 } else { count.saturating_sub(1) } {
            0 => links.remove(&link),
            count => links.insert(link, count),
        };
        if links.is_empty() {
            self.here.remove(&group);
        }
    }

    fn unlist_user(&mut self, device: DeviceKey, user: UserId) {
        let stays = self.seats.get(&device).is_some_and(|homes| homes.iter().any(|(_, seat)| seat.user == user));
        if stays {
            return;
        }
        if let Some(devices) = self.by_user.get_mut(&user) {
            devices.remove(&device);
            if devices.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }
}

/// What it answers.
impl PresenceMap {
    /// The seat of a device that counts.
    pub(super) fn seat(&self, device: &DeviceKey) -> Option<(Home, &Seat)> {
        let homes = self.seats.get(device)?;
        homes.iter().max_by_key(|(_, seat)| seat.turn).map(|(home, seat)| (*home, seat))
    }

    /// Whether any device of theirs is logged in.
    pub(super) fn is_online(&self, user: &UserId) -> bool {
        self.by_user.contains_key(user)
    }

    /// Devices online anywhere, each with who is logged in on it.
    pub(super) fn online(&self) -> impl Iterator<Item = (DeviceKey, UserId)> + '_ {
        self.seats.keys().filter_map(|device| Some((*device, self.seat(device)?.1.user)))
    }

    /// Number of devices online anywhere.
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Devices that serve a file now. Whether they are members is for the catalog to say.
    pub(super) fn servers(&self, file: FileId) -> impl Iterator<Item = Server<'_>> + '_ {
        self.by_file.get(&file).into_iter().flatten().filter_map(move |device| {
            let (home, seat) = self.seat(device)?;
            let (group, percent) = *seat.serving.get(&file)?;
            Some(Server { device: *device, home, seat, group, percent })
        })
    }

    /// How much of `file` a device serves.
    pub(super) fn percent(&self, device: &DeviceKey, file: &FileId) -> Option<u8> {
        self.seat(device)?.1.serving.get(file).map(|(_, percent)| *percent)
    }

    /// Links here that serve anything in `group`.
    pub(super) fn links_serving(&self, group: GroupId) -> Vec<LinkNo> {
        self.here.get(&group).into_iter().flat_map(FewMap::keys).copied().collect()
    }

    /// Links of devices that serve in a group that `matches`.
    pub(super) fn links_serving_where(&self, matches: impl Fn(&GroupId) -> bool) -> BTreeSet<LinkNo> {
        let groups = self.here.iter().filter(|(group, _)| matches(group));
        groups.flat_map(|(_, links)| links.keys()).copied().collect()
    }

    /// Files that `user` serves in `group` from any device.
    pub(super) fn files_served(&self, user: &UserId, group: GroupId) -> BTreeSet<FileId> {
        let devices = self.by_user.get(user).into_iter().flatten();
        let seats = devices.filter_map(|device| self.seat(device)).flat_map(|(_, seat)| seat.serving.iter());
        seats.filter(|(_, (in_group, _))| *in_group == group).map(|(file, _)| *file).collect()
    }

    /// Something outside changed who may serve a file.
    pub(super) fn touch(&mut self, file: FileId) {
        self.changed.insert(file);
    }

    /// Links here that take part in swarms which have changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> Vec<(LinkNo, FileId)> {
        let changed = std::mem::take(&mut self.changed);
        let here = changed.into_iter().flat_map(|file| self.servers(file).map(move |server| (server.home, file)));
        here.filter_map(|(home, file)| match home {
            Home::Here(link) => Some((link, file)),
            Home::At(_) => None,
        })
        .collect()
    }

    /// What the other trackers have yet to hear; each has heard [`whole`](Self::whole) before.
    pub(super) fn take_untold(&mut self) -> Vec<DevicePresence> {
        let untold = std::mem::take(&mut self.untold);
        untold.into_iter().flat_map(|(device, untold)| self.describe(device, &untold)).collect()
    }

    /// All devices linked here, for a tracker that knows nothing yet.
    pub(super) fn whole(&self) -> Vec<DevicePresence> {
        let here = self.seats.keys().filter(|device| self.seat_here(device).is_some());
        here.flat_map(|device| self.describe(*device, &Untold::All)).collect()
    }

    fn seat_here(&self, device: &DeviceKey) -> Option<&Seat> {
        let homes = self.seats.get(device)?;
        let here = homes.iter().filter(|(home, _)| matches!(home, Home::Here(_)));
        here.max_by_key(|(_, seat)| seat.turn).map(|(_, seat)| seat)
    }

    fn describe(&self, device: DeviceKey, untold: &Untold) -> Vec<DevicePresence> {
        let Some(seat) = self.seat_here(&device) else {
            let presence = Presence { reset: true, address: String::new(), serving: Vec::new(), ended: Vec::new() };
            return vec![DevicePresence { device, user: None, presence }];
        };
        let (serving, ended) = seat.say(untold);
        let mut parts = split(&seat.address, &serving, &ended);
        parts[0].reset = matches!(untold, Untold::All);
        parts.into_iter().map(|presence| DevicePresence { device, user: Some(seat.user), presence }).collect()
    }
}

impl Seat {
    /// Returns in which groups it serves a file more, or one less.
    fn merge(&mut self, presence: &Presence) -> Vec<(GroupId, bool)> {
        let mut counts = Vec::new();
        if *self.address != *presence.address {
            self.address = presence.address.as_str().into();
        }
        if presence.reset {
            counts.extend(self.serving.iter().map(|(_, (group, _))| (*group, false)));
            self.serving.clear();
        }
        let ended = presence.ended.iter().filter_map(|file| self.serving.remove(file));
        counts.extend(ended.map(|(group, _)| (group, false)));
        for Serving { group, file, percent } in &presence.serving {
            if self.serving.len() < MAX_SHARES || self.serving.contains_key(file) {
                let before = self.serving.insert(*file, (*group, (*percent).min(100)));
                if before.is_none_or(|(before, _)| before != *group) {
                    counts.extend(before.map(|(before, _)| (before, false)));
                    counts.push((*group, true));
                }
            }
        }
        counts
    }

    fn say(&self, untold: &Untold) -> (Vec<Serving>, Vec<FileId>) {
        let serving = |file: &FileId| {
            let (group, percent) = *self.serving.get(file)?;
            Some(Serving { group, file: *file, percent })
        };
        match untold {
            Untold::All => (self.serving.keys().filter_map(serving).collect(), Vec::new()),
            Untold::Files(files) => (
                files.iter().filter_map(serving).collect(),
                files.iter().filter(|file| !self.serving.contains_key(*file)).copied().collect(),
            ),
        }
    }
}

/// The files that a change is about.
fn touched(presence: &Presence) -> BTreeSet<FileId> {
    presence.ended.iter().copied().chain(presence.serving.iter().map(|serving| serving.file)).collect()
}

/// At least one message, none with more than [`MAX_PRESENCE_FILES`] files of a kind.
fn split(address: &str, serving: &[Serving], ended: &[FileId]) -> Vec<Presence> {
    let count = serving.len().max(ended.len()).div_ceil(MAX_PRESENCE_FILES).max(1);
    let part = |n: usize| Presence {
        reset: false,
        address: address.to_owned(),
        serving: serving.chunks(MAX_PRESENCE_FILES).nth(n).unwrap_or_default().to_vec(),
        ended: ended.chunks(MAX_PRESENCE_FILES).nth(n).unwrap_or_default().to_vec(),
    };
    (0..count).map(part).collect()
}
