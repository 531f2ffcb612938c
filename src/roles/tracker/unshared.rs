//! Manifests offered and not shared yet: how much of them each user may leave on the disk. Pure.

use std::collections::BTreeMap;

use crate::protocol::{
    error::{ErrorCode, Failure},
    ids::{ManifestId, UserId},
};

/// Bytes of pages that one user may have put and not shared: more than the manifest of the largest file has.
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// Manifests that one user may have offered and not shared.
const MOST_MANIFESTS: usize = 10_000;

/// What each user has put here and not shared.
#[derive(Debug, Default)]
pub(super) struct Unshared(BTreeMap<UserId, BTreeMap<ManifestId, u64>>);

impl Unshared {
    /// A user is about to share a manifest.
    pub(super) fn offer(&mut self, user: UserId, manifest: ManifestId) -> Result<(), Failure> {
        let offered = self.0.entry(user).or_default();
        if offered.len() >= MOST_MANIFESTS && !offered.contains_key(&manifest) {
            return Err(too_much());
        }
        offered.entry(manifest).or_default();
        Ok(())
    }

    /// A user puts so many bytes of an offered manifest.
    pub(super) fn put(&mut self, user: UserId, manifest: ManifestId, bytes: usize) -> Result<(), Failure> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let offered = self.0.entry(user).or_default();
        if offered.values().sum::<u64>().saturating_add(bytes) > MOST_BYTES {
            return Err(too_much());
        }
        *offered.entry(manifest).or_default() += bytes;
        Ok(())
    }

    /// Forgets manifests that are shared by now, or whose pages are gone.
    pub(super) fn retain(&mut self, is_unshared: impl Fn(&ManifestId) -> bool) {
        self.0.retain(|_, offered| {
            offered.retain(|manifest, _| is_unshared(manifest));
            !offered.is_empty()
        });
    }
}

fn too_much() -> Failure {
    let message = "Too much was offered here and never shared. What is not shared goes after an hour: try again then.";
    Failure::new(ErrorCode::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: UserId = UserId([1; 32]);
    const BOB: UserId = UserId([2; 32]);

    fn manifest(n: usize) -> ManifestId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        ManifestId(id)
    }

    #[test]
    fn a_user_leaves_so_many_bytes_unshared_and_no_more() {
        let (mut unshared, page) = (Unshared::default(), 512 * 1024);
        for n in 0..512 {
            unshared.put(ANN, manifest(n % 3), page).unwrap();
        }
        assert_eq!(unshared.put(ANN, manifest(0), 1).unwrap_err().code, ErrorCode::Usage);
        unshared.put(BOB, manifest(0), page).unwrap();
        unshared.retain(|id| *id != manifest(0));
        unshared.put(ANN, manifest(1), page).unwrap();
        unshared.retain(|_| false);
        assert!(unshared.0.is_empty());
    }

    #[test]
    fn a_user_offers_so_many_manifests_and_no_more() {
        let mut unshared = Unshared::default();
        for n in 0..MOST_MANIFESTS {
            unshared.offer(ANN, manifest(n)).unwrap();
        }
        assert!(unshared.offer(ANN, manifest(MOST_MANIFESTS)).is_err());
        assert!(unshared.offer(ANN, manifest(0)).is_ok() && unshared.offer(BOB, manifest(MOST_MANIFESTS)).is_ok());
    }
}
