//! A download as the hub keeps it: its record, its run when it goes on, and how it is shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{buffers::Buffers, downloads::Run, finding::FIND_SOON, hashing::Hashing, room::Held};
use crate::{
    protocol::{
        bitfield::Bitfield,
        client::SwarmPeer,
        error::Failure,
        ids::{DeviceKey, FileId},
        manifest::Manifest,
        piece::{PIECE_SIZE, PieceIndex, piece_length},
    },
    roles::client::command::{DownloadRow, DownloadState},
    store::{
        client::downloads::{DownloadRecord, Progress},
        content::Partial,
    },
    swarm::{PeerId, download::Download},
};

/// A download, going on or not.
pub(super) struct Transfer {
    pub(super) record: DownloadRecord,
    pub(super) active: Option<Active>,
    /// Its latest run: the one that is opening, or active.
    pub(super) run: u64,
    /// Bytes verified when it was last looked at.
    pub(super) have_bytes: u64,
    /// Who serves it, by the trackers' last word.
    pub(super) candidates: BTreeMap<DeviceKey, SwarmPeer>,
    /// Devices that sent a bad piece of it.
    pub(super) banned: BTreeSet<DeviceKey>,
    pub(super) find_at: Option<Instant>,
    /// How long after this time the trackers are asked again who has it.
    pub(super) find_after: Duration,
    /// Why it waits though it goes on.
    pub(super) waits: Option<Failure>,
    pub(super) began: Instant,
    /// Its end was told to somebody who waited, or happened in an earlier session.
    pub(super) told: bool,
    /// What rests of it is not what it was: every piece is read again before it counts as there.
    pub(super) doubted: bool,
}

/// A download that goes on.
pub(super) struct Active {
    pub(super) manifest: Arc<Manifest>,
    pub(super) machine: Download,
    /// Pieces that the machine has open.
    pub(super) open: Held,
    pub(super) partial: Partial,
    pub(super) buffers: Buffers,
    pub(super) hashing: Hashing,
    /// Pieces were written that no record names yet.
    pub(super) unsaved: bool,
    pub(super) saving: bool,
    pub(super) placing: bool,
    pub(super) announced: Option<u8>,
    /// Whose links those were that it came from.
    pub(super) sources: BTreeMap<PeerId, DeviceKey>,
}

impl Transfer {
    pub(super) fn new(record: DownloadRecord, now: Instant) -> Self {
        let have_bytes = if record.progress == Progress::Complete { record.manifest.size } else { 0 };
        // What ended in an earlier session concerns nobody who waits now.
        let told = record.progress != Progress::Downloading;
        Self {
            record,
            active: None,
            run: 0,
            have_bytes,
            candidates: BTreeMap::new(),
            banned: BTreeSet::new(),
            find_at: None,
            find_after: FIND_SOON,
            waits: None,
            began: now,
            told,
            doubted: false,
        }
    }

    /// The run that is opening, or active.
    pub(super) fn run(&self, file: FileId) -> Run {
        Run { file, number: self.run }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let machine = self.active.as_ref().and_then(|active| active.machine.deadline());
        machine.into_iter().chain(self.find_at).min()
    }

    pub(super) fn state(&self) -> DownloadState {
        match self.record.progress {
            Progress::Downloading => DownloadState::Downloading,
            Progress::Complete => DownloadState::Complete,
            Progress::Paused(_) => DownloadState::Paused,
            Progress::Failed(_) => DownloadState::Failed,
        }
    }

    fn error(&self) -> Option<Failure> {
        match &self.record.progress {
            Progress::Downloading => self.waits.clone(),
            Progress::Complete => None,
            Progress::Paused(reason) => reason.clone(),
            Progress::Failed(failure) => Some(failure.clone()),
        }
    }

    pub(super) fn row(&self, now: Instant) -> DownloadRow {
        let machine = self.active.as_ref().map(|active| &active.machine);
        let size = self.record.manifest.size;
        let have = machine.map_or(self.have_bytes, |machine| bytes_of(machine.have(), size));
        let rate = machine.filter(|machine| !machine.is_finished()).map_or(0, |machine| machine.bytes_per_s(now));
        let peers = machine.map_or(0, |machine| machine.peers(now).count());
        DownloadRow {
            state: self.state(),
            group: self.record.group_name.clone(),
            name: self.record.name.clone(),
            path: self.record.destination.clone(),
            size,
            have,
            rate,
            peers: u32::try_from(peers).unwrap_or(u32::MAX),
            eta_s: (rate > 0).then(|| (size - have).div_ceil(rate)),
            error: self.error(),
        }
    }

    pub(super) fn percent(&self) -> u8 {
        let Some(active) = &self.active else { return 0 };
        let have = active.machine.have();
        if have.is_full() {
            100
        } else {
            u8::try_from(u64::from(have.count()) * 100 / u64::from(have.len())).unwrap_or(99)
        }
    }
}

/// Bytes in the pieces that are there.
pub(super) fn bytes_of(have: &Bitfield, size: u64) -> u64 {
    let Some(last) = have.len().checked_sub(1).map(PieceIndex) else { return 0 };
    let full = u64::from(have.count()) * u64::from(PIECE_SIZE);
    let short = u64::from(PIECE_SIZE - piece_length(size, last));
    if have.has(last) { full - short } else { full }
}
