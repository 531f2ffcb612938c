//! What must hold of each log: invariants 2, 11, 12 and 13.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use p2p::{
    protocol::{
        record::{Change, Kept},
        version::{Dot, VersionVector},
    },
    roles::tracker::Witness,
    store::{
        client::memory,
        tracker::{Past, TrackerStore},
    },
};
use redb::{Database, StorageBackend as _, backends::InMemoryBackend};

use super::{Seat, Verdict, broken};
use crate::{disk::SimDisk, role::DATA_DIR};

/// Every change that any log was ever seen to hold.
#[derive(Default)]
pub(super) struct Logs {
    union: BTreeMap<Dot, Change>,
    /// The logs as last read.
    now: BTreeMap<&'static str, VersionVector>,
}

impl Logs {
    /// Reads every log. Invariant 11: "A counter is never reused by an origin, whatever is lost or torn on its disk."
    pub(super) fn read(&mut self, seats: &[Seat]) -> Verdict {
        for seat in seats {
            let log = match &seat.running {
                // What is not synced yet may never be: it counts as held, but nobody is held to it.
                Some(_) if seat.disk.is_in_trouble() => {
                    let (past, log) = read_disk(&seat.disk).map_err(|error| format!("{}: {error}", seat.name))?;
                    let held = self.now.entry(seat.name).or_default();
                    held.merge(&past.folded);
                    for kept in log {
                        held.insert(kept.change.dot);
                    }
                    continue;
                }
                Some(tracker) => tracker.log().map_err(|error| format!("{}: {error}", seat.name))?,
                None => read_disk(&seat.disk).map_err(|error| format!("{}: {error}", seat.name))?,
            };
            self.take(seat.name, log)?;
        }
        Ok(())
    }

    /// Takes in a log. What it lacks must be forgotten: below the vector that it says so of.
    fn take(&mut self, name: &'static str, (past, log): (Past, Vec<Kept>)) -> Verdict {
        let mut vector = VersionVector::default();
        for Kept { change, .. } in log {
            let dot = change.dot;
            let before = vector.counter(&dot.origin).max(past.folded.counter(&dot.origin).min(dot.counter - 1));
            if dot.counter != before + 1 {
                return Err(broken(12, &format!("the log of {name} lacks what comes before {dot:?}")));
            }
            vector.insert(dot);
            match self.union.get(&dot) {
                Some(known) if *known != change => {
                    return Err(broken(11, &format!("{name} has {change:?}, but before it was {known:?}")));
                }
                Some(_) => {}
                None => drop(self.union.insert(dot, change)),
            }
        }
        vector.merge(&past.folded);
        self.now.insert(name, vector);
        Ok(())
    }

    /// Whether every change was seen that any log has held. One that is made and forgotten between two looks is not.
    pub(super) fn are_all_seen(&self) -> bool {
        let mut all = VersionVector::default();
        self.now.values().for_each(|log| all.merge(log));
        self.union.keys().for_each(|dot| all.insert(*dot));
        all.iter().map(|dot| dot.counter).sum::<u64>() == self.union.len() as u64
    }

    /// Every change seen so far, those of one origin in order.
    pub(super) fn union(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.union.values()
    }

    /// Invariant 2: "An acknowledged change is in some live tracker's log, or on the disk of one that is down, always": all
    /// that clients remember to have been told.
    pub(super) fn hold_what_clients_saw(&self, clients: &[(&'static str, SimDisk)]) -> Verdict {
        let mut held = VersionVector::default();
        self.now.values().for_each(|log| held.merge(log));
        for (name, disk) in clients {
            let seen = seen(disk).map_err(|error| format!("{name}: {error}"))?;
            if !held.includes(&seen) {
                return Err(broken(2, &format!("{name} was told {seen:?}, all logs together hold {held:?}")));
            }
        }
        Ok(())
    }

    /// Invariant 2: "after all are up and linked, in every log".
    pub(super) fn are_whole(&self, seats: &[Seat]) -> Verdict {
        let mut all = VersionVector::default();
        self.union.keys().for_each(|dot| all.insert(*dot));
        for seat in seats {
            if self.now.get(seat.name).is_none_or(|log| !log.includes(&all)) {
                return Err(broken(2, &format!("the log of {} does not hold all of {all:?}", seat.name)));
            }
        }
        Ok(())
    }

    /// Invariant 12: "A restart from any prefix of synced writes yields a state the tracker had acknowledged, or newer":
    /// what the disk of a tracker that has just died holds, against what was durable when it lived.
    pub(super) fn survived(&mut self, seat: &Seat, before: &Witness) -> Verdict {
        let log = read_disk(&seat.disk).map_err(|error| broken(12, &format!("{}: {error}", seat.name)))?;
        self.take(seat.name, log)?;
        let after = &self.now[seat.name];
        if after.includes(&before.durable) {
            return Ok(());
        }
        let durable = &before.durable;
        Err(broken(12, &format!("{} had {durable:?} on disk, and after its death {after:?}", seat.name)))
    }

    /// Invariant 13: "A change from a key that no listed tracker owns never enters a log."
    pub(super) fn come_from_listed_trackers(&self, seats: &[Seat]) -> Verdict {
        let listed: BTreeSet<_> = seats.iter().flat_map(|seat| &seat.keys).collect();
        match self.union.values().find(|change| !listed.contains(&change.dot.origin)) {
            Some(change) => Err(broken(13, &format!("no listed tracker is the origin of {change:?}"))),
            None => Ok(()),
        }
    }
}

/// The log of a tracker that is down, from a copy of its database: reading leaves the disk as it is.
fn read_disk(disk: &SimDisk) -> Result<(Past, Vec<Kept>), String> {
    let path = PathBuf::from(DATA_DIR).join("tracker.redb");
    let bytes = match disk.contents(&path) {
        Ok(bytes) if !bytes.is_empty() => bytes,
        Ok(_) => return Ok((Past::default(), Vec::new())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Past::default(), Vec::new())),
        Err(error) => return Err(error.to_string()),
    };
    let copy = InMemoryBackend::new();
    copy.set_len(bytes.len() as u64).and_then(|()| copy.write(0, &bytes)).map_err(|error| error.to_string())?;
    let database = Database::builder().create_with_backend(copy).map_err(|error| error.to_string())?;
    let mut log = Vec::new();
    let store = TrackerStore::new(database).map_err(|error| error.to_string())?;
    store.read(|kept| log.push(kept)).map_err(|error| error.to_string())?;
    Ok((store.past().map_err(|error| error.to_string())?.0, log))
}

/// All that a client remembers to have been told.
fn seen(disk: &SimDisk) -> Result<VersionVector, String> {
    memory::seen(disk, Path::new(DATA_DIR)).map_err(|error| error.to_string())
}
