//! The public key in a file beside the database: readable while a running tracker has that to itself.

use std::{io, path::Path};

use crate::{
    protocol::ids::{DeviceKey, device_key_text, parse_device_key},
    store::{disk::Disk, small_file},
};

const FILE: &str = "public_key";

/// Puts `key` into the folder's file, unless it says so already.
pub fn publish(disk: &dyn Disk, folder: &Path, key: &DeviceKey) -> io::Result<()> {
    let is_there = published(disk, folder).is_ok_and(|known| known == Some(*key));
    if is_there {
        return Ok(());
    }
    small_file::replace(disk, &folder.join(FILE), format!("{}\n", device_key_text(key)).as_bytes())
}

/// The key that the folder's file says; `None` when it says none.
pub fn published(disk: &dyn Disk, folder: &Path) -> io::Result<Option<DeviceKey>> {
    let bytes = small_file::read(disk, &folder.join(FILE))?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| parse_device_key(text.trim_end())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::SystemDisk;

    #[test]
    fn the_file_says_the_key_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let said = || published(&SystemDisk, folder.path()).unwrap();
        assert_eq!(said(), None);
        for key in [1, 1, 2].map(|byte| DeviceKey([byte; 32])) {
            publish(&SystemDisk, folder.path(), &key).unwrap();
            assert_eq!(said(), Some(key));
        }
        for rubbish in [&b""[..], b"ed25519:", &[255; 9]] {
            std::fs::write(folder.path().join(FILE), rubbish).unwrap();
            assert_eq!(said(), None);
        }
    }
}
