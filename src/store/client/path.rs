//! Paths at rest. A path is bytes to the system: most are text, and rest as that; a folder's name may be anything else.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize as _, Deserializer, Serializer};
use serde_bytes::ByteBuf;

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => serializer.serialize_str(text),
        None => serializer.serialize_bytes(path.as_os_str().as_bytes()),
    }
}

/// Reads text and bytes alike.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Ok(OsString::from_vec(ByteBuf::deserialize(deserializer)?.into_vec()).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record(#[serde(with = "super")] PathBuf);

    #[derive(Serialize, Deserialize)]
    struct Plain(PathBuf);

    proptest! {
        #[test]
        fn any_path_rests(bytes in prop::collection::vec(1u8.., 0..40)) {
            let record = Record(OsString::from_vec(bytes).into());
            let rested = rmp_serde::to_vec_named(&record).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<Record>(&rested).unwrap(), record);
        }

        #[test]
        fn text_rests_as_it_always_did(text in "\\PC{0,40}") {
            let rested = rmp_serde::to_vec_named(&Record(text.clone().into())).unwrap();
            prop_assert_eq!(&rested, &rmp_serde::to_vec_named(&Plain(text.into())).unwrap());
        }
    }
}
