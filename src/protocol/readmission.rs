//! An operator's word that a listed tracker has another key now: its disk was lost, and it was set up anew.

use std::str::FromStr;

use super::{
    error::{ErrorCode, Failure},
    ids::{DeviceKey, TrackerNo, device_key_text, parse_device_key},
    tracker_info::TrackerAddress,
};

/// Which tracker is readmitted, with which key. Written `2`, or `2=ed25519:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readmission {
    /// Its number.
    pub no: TrackerNo,
    /// Its new key; `None`: the first one that its address shows from now on.
    pub key: Option<DeviceKey>,
}

impl FromStr for Readmission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (no, key) = text.split_once('=').map_or((text, None), |(no, key)| (no, Some(key)));
        let no = no.parse().ok().filter(|no| *no > 0).ok_or("write the tracker's number, such as 2 or 2=ed25519:…")?;
        let parse =
            |key| parse_device_key(key).ok_or("a key looks like ed25519:…, as p2p tracker … --show-key prints it");
        Ok(Self { no: TrackerNo(no), key: key.map(parse).transpose()? })
    }
}

impl Readmission {
    /// The tracker meant. One whose key the tracker file pins is readmitted there.
    pub fn find(self, trackers: &[TrackerAddress]) -> Result<&TrackerAddress, Failure> {
        let no = self.no;
        let listed = trackers.iter().find(|tracker| tracker.no == no);
        let tracker = listed.ok_or_else(|| {
            let message = format!("--readmit {no}: there is no tracker {no} in the tracker file.");
            Failure::new(ErrorCode::Usage, message)
        })?;
        match tracker.key {
            Some(pinned) if self.key != Some(pinned) => {
                let message = format!(
                    "--readmit {no}: the tracker file pins the key {} for this tracker. Write its new key there instead.",
                    device_key_text(&pinned)
                );
                Err(Failure::new(ErrorCode::Usage, message))
            }
            _ => Ok(tracker),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_perhaps_a_key() {
        let key = DeviceKey([7; 32]);
        assert_eq!("2".parse(), Ok(Readmission { no: TrackerNo(2), key: None }));
        let with_key = format!("2={}", device_key_text(&key));
        assert_eq!(with_key.parse(), Ok(Readmission { no: TrackerNo(2), key: Some(key) }));
        for wrong in ["", "0", "two", "2=", "2=rsa:abc", "=ed25519:abc", "70000"] {
            assert!(wrong.parse::<Readmission>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tracker_is_listed_and_not_pinned_otherwise() {
        let key = DeviceKey([7; 32]);
        let tracker = |no, key| TrackerAddress { no: TrackerNo(no), address: format!("a:{no}"), key };
        let trackers = [tracker(1, None), tracker(2, Some(key))];
        let find = |no, key| Readmission { no: TrackerNo(no), key }.find(&trackers).map(|it| it.no.0);
        assert_eq!(find(1, None).unwrap(), 1);
        assert_eq!(find(2, Some(key)).unwrap(), 2);
        assert!(find(2, None).unwrap_err().message.contains("pins"));
        assert!(find(3, None).unwrap_err().message.contains("no tracker 3"));
    }
}
