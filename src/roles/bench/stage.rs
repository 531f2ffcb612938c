//! What every scenario begins with: a tracker, and clients that are logged in.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    BenchError,
    process::{Process, Usage, free_address},
};
use crate::roles::client::command::words::quote;

/// The group of a scenario.
pub(super) const GROUP: &str = "bench";

/// A folder for all files, and a tracker.
pub(super) struct Stage {
    dir: tempfile::TempDir,
    info: String,
    _tracker: Process,
}

impl Stage {
    /// Starts a tracker, with all files in a new folder in `chosen`.
    pub(super) fn set(chosen: Option<&Path>) -> Result<Self, BenchError> {
        let dir = work_folder(chosen).map_err(BenchError::io("make a folder for the files"))?;
        let info = dir.path().join("tracker_info.txt");
        let address = free_address()?;
        #[expect(clippy::disallowed_methods, reason = "for processes that are watched from outside")]
        fs::write(&info, format!("{address}\n")).map_err(BenchError::io("write the list of trackers"))?;
        let info = info.to_string_lossy().into_owned();
        let tracker = Process::start("tracker", &["tracker", &info, "1"], dir.path())?;
        Ok(Self { dir, info, _tracker: tracker })
    }

    /// Where a file of this name goes.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts clients with these options, one account each, all logged in.
    pub(super) async fn start_peers(
        &self,
        kind: &str,
        count: u32,
        options: &[&str],
    ) -> Result<Vec<Process>, BenchError> {
        let mut peers = Vec::new();
        for index in 0..count {
            let name = format!("{kind}-{index}");
            let address = free_address()?;
            let arguments = [&["client", &address, &self.info, "--json"], options].concat();
            let mut peer = Process::start(&name, &arguments, self.dir.path())?;
            peer.ask(&format!("create_user {name} password")).await?;
            peer.ask(&format!("login {name} password")).await?;
            peers.push(peer);
        }
        Ok(peers)
    }
}

/// A path as a word of a command.
pub(super) fn word(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// Processor time of all together, memory of the largest.
pub(super) fn total<'a>(peers: impl Iterator<Item = &'a Process>) -> Usage {
    peers.map(Process::usage).fold(Usage::default(), |sum, usage| Usage {
        cpu_s: sum.cpu_s + usage.cpu_s,
        peak_bytes: sum.peak_bytes.max(usage.peak_bytes),
        resident_bytes: sum.resident_bytes.max(usage.resident_bytes),
    })
}

/// Memory is the default, so that the program is measured and not a disk.
pub(super) fn work_folder(chosen: Option<&Path>) -> io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    match chosen {
        Some(dir) => tempfile::tempdir_in(dir),
        #[expect(clippy::disallowed_methods, reason = "looked at before the measurement, outside of every role")]
        None if memory.is_dir() => tempfile::tempdir_in(memory),
        None => tempfile::tempdir(),
    }
}
