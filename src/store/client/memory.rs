//! What a client remembers of the trackers: the key each address showed first, and all it has seen.
//!
//! No session rests here: a restarted client begins logged out, so nothing on its disk is worth stealing but the device key.

use std::{collections::BTreeMap, path::Path};

use super::{DataDir, DataDirError, read_small, replace_small};
use crate::{
    protocol::{
        ids::{DeviceKey, device_key_text, parse_device_key},
        version::VersionVector,
    },
    store::disk::Disk,
};

const KNOWN_TRACKERS: &str = "known_trackers";
const SEEN: &str = "seen";

/// Keys of the trackers by address, as first seen. Lines that cannot be read are left out.
pub fn known_trackers(disk: &dyn Disk, dir: &DataDir) -> Result<BTreeMap<String, DeviceKey>, DataDirError> {
    let bytes = read_small(disk, &dir.path.join(KNOWN_TRACKERS))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let known = text.lines().filter_map(|line| {
        let (address, key) = line.split_once(' ')?;
        Some((address.to_owned(), parse_device_key(key.trim())?))
    });
    Ok(known.collect())
}

/// Remembers the keys; durable on return. One line each, `address key`, so that a person can take one out.
pub fn remember_trackers(
    disk: &dyn Disk,
    dir: &DataDir,
    known: &BTreeMap<String, DeviceKey>,
) -> Result<(), DataDirError> {
    let lines: Vec<_> = known.iter().map(|(address, key)| format!("{address} {}", device_key_text(key))).collect();
    replace_small(disk, &dir.path.join(KNOWN_TRACKERS), (lines.join("\n") + "\n").as_bytes())
}

/// All that the client whose folder this is has seen; empty when nothing (readable) rests there, which only weakens
/// read-your-writes.
pub fn seen(disk: &dyn Disk, folder: &Path) -> Result<VersionVector, DataDirError> {
    let bytes = read_small(disk, &folder.join(SEEN))?.unwrap_or_default();
    Ok(rmp_serde::from_slice(&bytes).unwrap_or_default())
}

/// Remembers all that this client has seen.
pub fn remember_seen(disk: &dyn Disk, dir: &DataDir, seen: &VersionVector) -> Result<(), DataDirError> {
    let bytes = rmp_serde::to_vec(seen).expect("a version vector holds only plain values");
    replace_small(disk, &dir.path.join(SEEN), &bytes)
}
