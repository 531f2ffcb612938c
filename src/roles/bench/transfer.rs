//! One file from some seeders to some leechers, all on this machine.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use tokio::{task::JoinSet, time::Instant};

use super::{
    BenchError, Report,
    process::{Process, Usage, free_address},
};

const MIB: u64 = 1 << 20;
const SMALLEST: u64 = 16 * MIB;
const LARGEST: u64 = 16 << 30;

/// Bytes written or compared at a time: two pieces, so that a stamp every half makes each piece another.
const CHUNK: usize = 1 << 20;

const FILE_NAME: &str = "payload.bin";

/// What is to be transferred, between how many, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Size of the file, 16MiB to 16GiB
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    pub size: u64,
    /// Peers that have the file from the start
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub seeders: u32,
    /// Peers that fetch it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub leechers: u32,
    /// Folder for the files [default: /dev/shm, or the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Reads `1GiB`, `64M`, `16777216`; at least 16 MiB and at most 16 GiB.
pub fn parse_size(text: &str) -> Result<u64, String> {
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

/// Starts a tracker and every peer, moves the file, and measures.
pub async fn run(options: &Options) -> Result<Report, BenchError> {
    let dir = work_folder(options.dir.as_deref()).map_err(BenchError::io("make a folder for the files"))?;
    let payload = dir.path().join(FILE_NAME);
    let hash = generate(&payload, options.size).map_err(BenchError::io("write the file to share"))?;
    let address = free_address()?;
    let info = dir.path().join("tracker_info.txt");
    #[expect(clippy::disallowed_methods, reason = "for processes that are watched from outside")]
    fs::write(&info, format!("{address}\n")).map_err(BenchError::io("write the list of trackers"))?;

    let _tracker = Process::start("tracker", &["tracker", &info.to_string_lossy(), "1"], dir.path())?;
    let mut seeders = start_peers("seeder", options.seeders, &info, dir.path()).await?;
    let mut leechers = start_peers("leecher", options.leechers, &info, dir.path()).await?;
    gather(&mut seeders, &mut leechers).await?;
    for seeder in &mut seeders {
        seeder.ask(&format!("upload_file '{}' bench", payload.display())).await?;
    }

    let before = total(seeders.iter().chain(&leechers)).cpu_s;
    let start = Instant::now();
    let leechers = download(leechers, dir.path()).await?;
    let wall_s = start.elapsed().as_secs_f64();
    let usage = total(seeders.iter().chain(&leechers));

    let verified = (0..leechers.len()).all(|index| {
        let copy = dir.path().join(format!("copy-{index}")).join(FILE_NAME);
        hash_file(&copy).is_ok_and(|found| found == hash)
    });
    let peers = (options.seeders, options.leechers);
    let bytes = options.size * u64::from(options.leechers);
    Ok(Report::new(peers, bytes, wall_s, usage.cpu_s - before, usage.peak_bytes, verified))
}

/// Memory is the default, so that the program is measured and not a disk.
fn work_folder(chosen: Option<&Path>) -> io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    match chosen {
        Some(dir) => tempfile::tempdir_in(dir),
        #[expect(clippy::disallowed_methods, reason = "looked at before the measurement, outside of every role")]
        None if memory.is_dir() => tempfile::tempdir_in(memory),
        None => tempfile::tempdir(),
    }
}

/// Starts peers, one account each, all logged in.
async fn start_peers(kind: &str, count: u32, info: &Path, dir: &Path) -> Result<Vec<Process>, BenchError> {
    let mut peers = Vec::new();
    for index in 0..count {
        let name = format!("{kind}-{index}");
        let mut peer = Process::start(&name, &["client", &free_address()?, &info.to_string_lossy(), "--json"], dir)?;
        peer.ask(&format!("create_user {name} password")).await?;
        peer.ask(&format!("login {name} password")).await?;
        peers.push(peer);
    }
    Ok(peers)
}

/// Brings all peers into one group, which the first seeder owns.
async fn gather(seeders: &mut [Process], leechers: &mut [Process]) -> Result<(), BenchError> {
    let (owner, seeders) = seeders.split_first_mut().expect("there is at least one seeder");
    owner.ask("create_group bench").await?;
    for peer in seeders.iter_mut().chain(leechers) {
        peer.ask("join_group bench").await?;
    }
    let requests = owner.ask("list_requests bench").await?;
    for request in requests["requests"].as_array().into_iter().flatten() {
        let user = request["user"].as_str().unwrap_or_default();
        owner.ask(&format!("accept_request bench {user}")).await?;
    }
    Ok(())
}

/// Lets all leechers fetch the file at the same time; returns them when the last one has it.
async fn download(leechers: Vec<Process>, dir: &Path) -> Result<Vec<Process>, BenchError> {
    let mut running = JoinSet::new();
    for (index, mut leecher) in leechers.into_iter().enumerate() {
        let folder = dir.join(format!("copy-{index}"));
        #[expect(clippy::disallowed_methods, reason = "for processes that are watched from outside")]
        fs::create_dir(&folder).map_err(BenchError::io("make a folder for a copy"))?;
        running.spawn(async move {
            leecher.ask(&format!("download_file bench {FILE_NAME} '{}'", folder.display())).await?;
            leecher.ask(&format!("wait bench {FILE_NAME}")).await?;
            Ok(leecher)
        });
    }
    running.join_all().await.into_iter().collect()
}

/// Processor time of all together, memory of the largest.
fn total<'a>(peers: impl Iterator<Item = &'a Process>) -> Usage {
    peers.map(Process::usage).fold(Usage::default(), |sum, usage| Usage {
        cpu_s: sum.cpu_s + usage.cpu_s,
        peak_bytes: sum.peak_bytes.max(usage.peak_bytes),
    })
}

/// Writes a file of which no two pieces are alike, and returns its hash.
fn generate(path: &Path, size: u64) -> io::Result<blake3::Hash> {
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

fn hash_file(path: &Path) -> io::Result<blake3::Hash> {
    #[expect(clippy::disallowed_types, reason = "read after the measurement, outside of every role")]
    let (mut file, mut hasher) = (fs::File::open(path)?, blake3::Hasher::new());
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            length => hasher.update(&buffer[..length]),
        };
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
        assert_eq!(hash_file(&path).unwrap(), hash);
        let content = fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, size);
        let pieces: std::collections::BTreeSet<&[u8]> = content.chunks(512 * 1024).collect();
        assert_eq!(pieces.len(), 7);
    }
}
