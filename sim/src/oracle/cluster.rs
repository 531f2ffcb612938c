//! What must hold of the trackers as they run: invariants 3 and 14.

use std::collections::BTreeSet;

use p2p::{protocol::ids::DeviceKey, roles::tracker::Witness};

use super::{Seat, Verdict, broken};

/// Every tracker is up and in touch with every other.
pub(super) fn all_linked(seats: &[Seat]) -> Verdict {
    for (name, witness) in witnesses(seats)? {
        let others = witness.trackers.len() - 1;
        if witness.in_touch.len() < others {
            let in_touch = &witness.in_touch;
            return Err(broken(3, &format!("{name} is in touch with {in_touch:?} only, of {others}")));
        }
    }
    Ok(())
}

/// Invariant 3: "After a heal with all links up, all version vectors are equal within 10 s of simulated time, and lag reads 0."
pub(super) fn all_agree(seats: &[Seat]) -> Verdict {
    let all = witnesses(seats)?;
    for (name, witness) in &all {
        let (first, other) = &all[0];
        if witness.known != other.known || witness.durable != other.durable {
            return Err(broken(3, &format!("{first} knows {:?}, {name} {:?}", other.durable, witness.durable)));
        }
        if let Some(status) = witness.trackers.iter().find(|status| status.lag != Some(0)) {
            return Err(broken(3, &format!("{name} says that tracker {} lags: {status:?}", status.tracker)));
        }
    }
    Ok(())
}

/// Invariant 14: "Presence […] of a live, linked one it is present everywhere within 2 s."
pub(super) fn all_seen(seats: &[Seat], live: &BTreeSet<DeviceKey>) -> Verdict {
    for (name, online) in online(seats)? {
        if let Some(missed) = live.iter().find(|device| !online.contains(device)) {
            return Err(broken(14, &format!("{name} does not see {missed:?} online, which is")));
        }
    }
    Ok(())
}

/// Invariant 14: "Presence of a dead client is gone everywhere within 30 s."
pub(super) fn all_gone(seats: &[Seat], live: &BTreeSet<DeviceKey>) -> Verdict {
    for (name, online) in online(seats)? {
        if let Some(dead) = online.iter().find(|device| !live.contains(device)) {
            return Err(broken(14, &format!("{name} sees {dead:?} online, which is not")));
        }
    }
    Ok(())
}

/// The devices that each tracker sees.
fn online(seats: &[Seat]) -> Result<Vec<(&'static str, BTreeSet<DeviceKey>)>, String> {
    let devices = |witness: &Witness| witness.online.iter().map(|(device, _)| *device).collect();
    Ok(witnesses(seats)?.iter().map(|(name, witness)| (*name, devices(witness))).collect())
}

fn witnesses(seats: &[Seat]) -> Result<Vec<(&'static str, Witness)>, String> {
    let witness = |seat: &Seat| {
        let tracker = seat.running.as_ref().ok_or_else(|| format!("{} is down", seat.name))?;
        Ok((seat.name, tracker.witness()))
    };
    seats.iter().map(witness).collect()
}
