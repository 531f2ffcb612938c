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
