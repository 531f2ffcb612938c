//! Files to share: how large, what is in them, and whether a copy is right.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
};

const MIB: u64 = 1 << 20;
const SMALLEST: u64 = 16 * MIB;
const LARGEST: u64 = 16 << 30;

/// Bytes written or read at a time: two pieces, so that a stamp every half makes each piece another.
const CHUNK: usize = 1 << 20;

/// Reads `1GiB`, `64M`, `16777216`; at least 16 MiB and at most 16 GiB.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => MIB,
        "G" | "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(format!("`{unit}` is no unit: use KiB, MiB or GiB")),
    };
    let number: u64 = number.parse().map_err(|_| "give a whole number and a unit, such as 64MiB".to_owned())?;
    match number.checked_mul(factor) {
        Some(size @ SMALLEST..=LARGEST) => Ok(size),
        _ => Err("choose from 16MiB to 16GiB".to_owned()),
    }
}

/// Writes a file of which no two pieces are alike, and returns its hash.
pub(super) fn generate(path: &Path, size: u64) -> io::Result<blake3::Hash> {
    let mut noise = vec![0; CHUNK];
    blake3::Hasher::new().update(b"p2p bench transfer").finalize_xof().fill(&mut noise);
    #[expect(clippy::disallowed_types, reason = "made before the measurement, outside of every role")]
    let (mut file, mut hasher) = (fs::File::create_new(path)?, blake3::Hasher::new());
    let mut written = 0;
    while written < size {
        noise[..8].copy_from_slice(&written.to_le_bytes());
        noise[CHUNK / 2..][..8].copy_from_slice(&(written + 1).to_le_bytes());
        let length = usize::try_from(size - written).unwrap_or(CHUNK).min(CHUNK);
        file.write_all(&noise[..length])?;
        hasher.update(&noise[..length]);
        written += length as u64;
    }
    Ok(hasher.finalize())
}

/// BLAKE3 of a file.
pub(super) fn blake3_of(path: &Path) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    read(path, |bytes| {
        hasher.update(bytes);
    })?;
    Ok(hasher.finalize())
}

/// SHA-1 of a file in hexadecimal, by other code than the roles use.
pub(super) fn sha1_of(path: &Path) -> io::Result<String> {
    use sha1::Digest as _;
    let mut hasher = sha1::Sha1::new();
    read(path, |bytes| hasher.update(bytes))?;
    Ok(data_encoding::HEXLOWER.encode(&hasher.finalize()))
}

fn read(path: &Path, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    #[expect(clippy::disallowed_types, reason = "read after the measurement, outside of every role")]
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            length => each(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, size) in
            [("1GiB", 1 << 30), ("16MiB", 16 * MIB), ("64M", 64 * MIB), ("16777216", 16 * MIB), ("20MB", 20_000_000)]
        {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn sizes_out_of_range_or_unreadable_are_refused() {
        for text in ["", "MiB", "-1GiB", "15MiB", "17GiB", "99999999999GiB", "1TiB", "1.5GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_file_made_is_the_file_hashed_and_no_two_pieces_are_alike() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let size = 3 * MIB + 5;
        let hash = generate(&path, size).unwrap();
        assert_eq!(blake3_of(&path).unwrap(), hash);
        let content = fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, size);
        let pieces: std::collections::BTreeSet<&[u8]> = content.chunks(512 * 1024).collect();
        assert_eq!(pieces.len(), 7);
        assert_eq!(sha1_of(&path).unwrap(), crate::protocol::hash::Sha1Hash::of([&content[..]]).to_string());
    }
}
