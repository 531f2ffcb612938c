//! Files to share.

use std::{fs, path::Path};

/// `size` bytes that no other `seed` gives.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Writes such bytes to a file and returns them.
pub(crate) fn write_noise(path: &Path, seed: u64, size: usize) -> Vec<u8> {
    let bytes = noise(seed, size);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, &bytes).unwrap();
    bytes
}
