//! The device key: made on the first run, kept in a file that only its owner reads.

use zeroize::Zeroizing;

use super::{DataDir, DataDirError, read_small, replace_small};
use crate::{protocol::device::DeviceSecret, store::disk::Disk};

const FILE: &str = "device_key";

/// The device key of this folder; `fresh_seed`, from the operating system's randomness, becomes it on the first run.
pub fn load_or_create(disk: &dyn Disk, dir: &DataDir, fresh_seed: [u8; 32]) -> Result<DeviceSecret, DataDirError> {
    let path = dir.path.join(FILE);
    if let Some(bytes) = read_small(disk, &path)?.map(Zeroizing::new) {
        let seed = <[u8; 32]>::try_from(bytes.as_slice());
        return match seed {
            Ok(seed) => Ok(DeviceSecret::from_seed(seed)),
            Err(_) => Err(DataDirError::Damaged(path, "a new device key is made then, and shares begin anew.")),
        };
    }
    replace_small(disk, &path, &fresh_seed)?;
    Ok(DeviceSecret::from_seed(fresh_seed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::disk::SystemDisk;

    proptest! {
        #![proptest_config(crate::trials::trials(40))]

        #[test]
        fn a_key_stays_what_it_is_and_a_damaged_one_is_told(bytes in prop::collection::vec(any::<u8>(), 0..70), fresh: [u8; 32]) {
            let folder = tempfile::tempdir().unwrap();
            let dir = DataDir::open(&SystemDisk, &folder.path().join("data")).unwrap();
            let made = load_or_create(&SystemDisk, &dir, fresh).unwrap();
            prop_assert_eq!(made.seed(), &fresh);
            let again = load_or_create(&SystemDisk, &dir, [0; 32]).unwrap();
            prop_assert_eq!(again.seed(), &fresh);
            std::fs::write(folder.path().join("data").join(FILE), &bytes).unwrap();
            match (load_or_create(&SystemDisk, &dir, fresh), <[u8; 32]>::try_from(bytes)) {
                (Ok(loaded), Ok(seed)) => prop_assert_eq!(loaded.seed(), &seed),
                (Err(DataDirError::Damaged(path, _)), Err(_)) => prop_assert!(path.ends_with(FILE)),
                _ => prop_assert!(false, "32 bytes are a key, and nothing else is"),
            }
        }
    }
}
