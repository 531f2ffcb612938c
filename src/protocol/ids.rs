//! Identities: 32-byte values that never change, whatever the name they go by.

use std::{fmt, sync::OnceLock};

use blake3::hazmat::{self, ContextKey, HasherExt as _};

use serde::{Deserialize, Serialize};

/// Declares a 32-byte identity that travels as MessagePack binary and prints as lower-case hex.
macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(#[serde(with = "serde_bytes")] pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), data_encoding::HEXLOWER.encode(&self.0[..4]))
            }
        }
    };
}

identity! {
    /// A device's Ed25519 public key: the identity of one process (client or tracker).
    DeviceKey
}
identity! {
    /// Identity of one write: `hash(device key, nonce)`, so that nobody can take another's.
    ///
    /// A record that a request creates takes the request's identity as its own, which makes a repeat merge with the first try.
    RequestId
}
identity! {
    /// An account.
    UserId
}
identity! {
    /// One login of a user on a device, from begin to end.
    SessionId
}
identity! {
    /// A group.
    GroupId
}
identity! {
    /// One instance of a membership, from request to end. The owner's first one equals the group's identity.
    MembershipId
}
identity! {
    /// One device's sharing of one file in one group, from begin to end.
    ShareId
}
identity! {
    /// A manifest: BLAKE3 over its header, which covers name, size and all hashes.
    ManifestId
}
identity! {
    /// A file of a group: `hash(group, manifest)`. All who share the same content under the same name share this swarm.
    FileId
}

/// Random bytes a client draws for one request and keeps for its repeats.
pub type Nonce = [u8; 16];

impl RequestId {
    /// The identity of the request that `device` numbered `nonce`.
    pub fn draw(device: &DeviceKey, nonce: &Nonce) -> Self {
        Self(hash_parts("p2p 2026 request id", &[&device.0, nonce]))
    }

    /// The identity of what this request does to one group of several.
    #[must_use]
    pub fn part(&self, group: &GroupId) -> Self {
        Self(hash_parts("p2p 2026 request part", &[&self.0, &group.0]))
    }

    /// The identity of what has to be done before this request, as part of it.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self(hash_parts("p2p 2026 request beside", &[&self.0]))
    }
}

impl From<RequestId> for UserId {
    fn from(id: RequestId) -> Self {
        Self(id.0)
    }
}

impl From<RequestId> for SessionId {
    fn from(id: RequestId) -> Self {
        Self(id.0)
    }
}

impl From<RequestId> for GroupId {
    fn from(id: RequestId) -> Self {
        Self(id.0)
    }
}

impl From<RequestId> for MembershipId {
    fn from(id: RequestId) -> Self {
        Self(id.0)
    }
}

impl From<RequestId> for ShareId {
    fn from(id: RequestId) -> Self {
        Self(id.0)
    }
}

impl From<GroupId> for MembershipId {
    /// The membership that begins with the creation of a group: its first owner's.
    fn from(id: GroupId) -> Self {
        Self(id.0)
    }
}

impl FileId {
    /// The file that `manifest` is in `group`.
    pub fn of(group: &GroupId, manifest: &ManifestId) -> Self {
        static CONTEXT: Context = Context::new("p2p 2026 file id");
        Self(CONTEXT.hash(&[&group.0, &manifest.0]))
    }
}

/// Text form of a device key, as in `tracker_info.txt`: `ed25519:<base32>` (lower case, no padding).
pub fn device_key_text(key: &DeviceKey) -> String {
    format!("ed25519:{}", data_encoding::BASE32_NOPAD.encode(&key.0).to_lowercase())
}

/// Reads the text form of a device key; `None` when it is not one.
pub fn parse_device_key(text: &str) -> Option<DeviceKey> {
    let digits = text.strip_prefix("ed25519:")?.to_uppercase();
    let bytes = data_encoding::BASE32_NOPAD.decode(digits.as_bytes()).ok()?;
    Some(DeviceKey(bytes.try_into().ok()?))
}

/// Bytes that are put together before they are hashed.
const JOINED: usize = 256;

/// A context of hashes that are taken by the million: its key is made once.
pub(crate) struct Context {
    name: &'static str,
    key: OnceLock<ContextKey>,
}

impl Context {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, key: OnceLock::new() }
    }

    /// A hash of nothing yet.
    pub(crate) fn begin(&self) -> Hashing<'_> {
        let key = self.key.get_or_init(|| hazmat::hash_derive_key_context(self.name));
        Hashing { key, begun: None, joined: [0; JOINED], length: 0 }
    }

    /// What [`hash_parts`] makes.
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hashing = self.begin();
        for part in parts {
            hashing.add(part);
        }
        hashing.finish()
    }
}

/// A hash of parts under way. Few bytes are put together and hashed at once: a hasher is large, and dear to set up and to move.
pub(crate) struct Hashing<'a> {
    key: &'a ContextKey,
    begun: Option<Box<blake3::Hasher>>,
    joined: [u8; JOINED],
    length: usize,
}

impl Hashing<'_> {
    /// Takes another part.
    pub(crate) fn add(&mut self, part: &[u8]) {
        if let Some(place) = self.joined.get_mut(self.length..self.length + part.len()) {
            place.copy_from_slice(part);
            self.length += part.len();
        } else {
            let hasher = self.begun.get_or_insert_with(|| Box::new(blake3::Hasher::new_from_context_key(self.key)));
            hasher.update(&self.joined[..self.length]).update(part);
            self.length = 0;
        }
    }

    /// The hash of all parts.
    pub(crate) fn finish(self) -> [u8; 32] {
        let rest = &self.joined[..self.length];
        match self.begun {
            Some(mut hasher) => *hasher.update(rest).finalize().as_bytes(),
            None => *blake3::Hasher::new_from_context_key(self.key).update(rest).finalize().as_bytes(),
        }
    }
}

/// BLAKE3 in key-derivation mode, so that hashes made for one purpose never serve another.
pub(crate) fn hash_parts(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Number of a tracker: its 1-based line in `tracker_info.txt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrackerNo(pub u16);

impl fmt::Display for TrackerNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_key_text_round_trips() {
        let key = DeviceKey([7; 32]);
        assert_eq!(parse_device_key(&device_key_text(&key)), Some(key));
        assert_eq!(parse_device_key("ed25519:abc"), None);
        assert_eq!(parse_device_key("rsa:abc"), None);
    }

    #[test]
    fn a_key_made_once_hashes_alike() {
        static CONTEXT: Context = Context::new("p2p bench");
        let long = [7; JOINED + 1];
        for parts in [&[b"one".as_slice(), b"two"][..], &[b"one", &long, b"two"], &[&long[1..], b"", b"two"], &[]] {
            assert_eq!(CONTEXT.hash(parts), hash_parts("p2p bench", parts));
        }
    }

    #[test]
    fn request_ids_of_two_devices_differ() {
        let nonce = [1; 16];
        assert_ne!(RequestId::draw(&DeviceKey([1; 32]), &nonce), RequestId::draw(&DeviceKey([2; 32]), &nonce));
    }
}
