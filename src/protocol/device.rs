//! A device's secret key: what it signs, and how others check it.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::ids::DeviceKey;

/// The DER bytes that precede an Ed25519 seed in PKCS #8 version 1 (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The DER bytes that precede an Ed25519 public key in a `SubjectPublicKeyInfo` (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 key pair, made from a 32-byte seed on a process's first run.
pub struct DeviceSecret {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl DeviceSecret {
    /// The key pair of `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("every 32-byte seed makes an Ed25519 key pair");
        Self { seed: Zeroizing::new(seed), pair }
    }

    /// The seed, for the private file it rests in.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half: this device's identity.
    pub fn key(&self) -> DeviceKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        DeviceKey(key)
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }

    /// The secret key in PKCS #8, as TLS wants it.
    pub fn pkcs8(&self) -> Vec<u8> {
        [PKCS8_PREFIX.as_slice(), self.seed.as_slice()].concat()
    }
}

/// Whether `signature` is `key`'s over `message`.
pub fn is_signed_by(key: &DeviceKey, message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, &key.0).verify(message, signature).is_ok()
}

/// The public key as a DER `SubjectPublicKeyInfo`: a raw public key in TLS (RFC 7250).
pub fn public_key_info(key: &DeviceKey) -> Vec<u8> {
    [SPKI_PREFIX.as_slice(), &key.0].concat()
}

/// Reads a DER `SubjectPublicKeyInfo`; `None` when it holds no Ed25519 key.
pub fn parse_public_key_info(der: &[u8]) -> Option<DeviceKey> {
    der.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(DeviceKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let (one, two) = (DeviceSecret::from_seed([1; 32]), DeviceSecret::from_seed([2; 32]));
        let signature = one.sign(b"message");
        assert!(is_signed_by(&one.key(), b"message", &signature));
        assert!(!is_signed_by(&one.key(), b"massage", &signature));
        assert!(!is_signed_by(&two.key(), b"message", &signature));
        assert!(!is_signed_by(&one.key(), b"message", &signature[..63]));
    }

    #[test]
    fn public_key_info_round_trips() {
        let key = DeviceSecret::from_seed([3; 32]).key();
        assert_eq!(parse_public_key_info(&public_key_info(&key)), Some(key));
        assert_eq!(parse_public_key_info(&[0; 44]), None);
    }
}
