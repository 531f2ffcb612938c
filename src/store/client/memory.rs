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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{protocol::version::Dot, store::disk::SystemDisk};

    fn vector(dots: &[([u8; 32], u64)]) -> VersionVector {
        let mut vector = VersionVector::default();
        for &(origin, counter) in dots {
            vector.insert(Dot { origin: DeviceKey(origin), counter });
        }
        vector
    }

    proptest! {
        #![proptest_config(crate::trials::trials(40))]

        #[test]
        fn what_was_remembered_is_known_again(
            known in prop::collection::btree_map("[a-z0-9.:\\[\\]]{1,20}", any::<[u8; 32]>().prop_map(DeviceKey), 0..5),
            dots in prop::collection::vec(any::<([u8; 32], u64)>(), 0..5),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let dir = DataDir::open(&SystemDisk, &folder.path().join("data")).unwrap();
            prop_assert!(known_trackers(&SystemDisk, &dir).unwrap().is_empty());
            remember_trackers(&SystemDisk, &dir, &known).unwrap();
            prop_assert_eq!(known_trackers(&SystemDisk, &dir).unwrap(), known);
            remember_seen(&SystemDisk, &dir, &vector(&dots)).unwrap();
            prop_assert_eq!(seen(&SystemDisk, &folder.path().join("data")).unwrap(), vector(&dots));
        }

        #[test]
        fn rubbish_is_nothing_remembered_and_spoils_no_line_beside_it(bytes in prop::collection::vec(any::<u8>(), 0..100), key: [u8; 32]) {
            let folder = tempfile::tempdir().unwrap();
            let dir = DataDir::open(&SystemDisk, &folder.path().join("data")).unwrap();
            let line = format!("\n10.0.0.1:5000 {}\n", device_key_text(&DeviceKey(key)));
            std::fs::write(folder.path().join("data").join(KNOWN_TRACKERS), [&bytes, line.as_bytes()].concat()).unwrap();
            std::fs::write(folder.path().join("data").join(SEEN), &bytes).unwrap();
            let known = known_trackers(&SystemDisk, &dir).unwrap();
            prop_assert_eq!(known.get("10.0.0.1:5000"), Some(&DeviceKey(key)));
            let _ = seen(&SystemDisk, &folder.path().join("data")).unwrap();
        }
    }
}
