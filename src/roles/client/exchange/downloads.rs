//! Downloads under way: the machine's actions to links, hash and disk, and what comes of them back to the machine.
//!
//! A download that goes on has a *run*: an open partial file and a machine. It ends with a pause, a failure, the file's
//! completion or a logout; what a job of an earlier run reports is without effect.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng as _};

use super::{
    buffers::Buffers,
    failure,
    fetch::open_partial,
    finding::FIND_SOON,
    hashing::Hashing,
    hub::{Hub, Input},
    shares::Share,
    transfer::{Active, Transfer, bytes_of},
};
use crate::{
    protocol::{
        bitfield::Bitfield,
        client::Serving,
        error::Failure,
        ids::{DeviceKey, FileId},
        manifest::Manifest,
        piece::Block,
    },
    roles::client::command::Event,
    store::{
        client::downloads::{self, Progress},
        content::{ContentError, Partial},
        disk::FileStamp,
    },
    swarm::{
        PeerId,
        download::{Action, Download, Event as Happening, OPEN_LIMIT},
    },
};

/// Names a run of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) file: FileId,
    pub(super) number: u64,
}

/// A partial file, open.
pub(super) struct Opened {
    pub(super) partial: Partial,
    /// Pieces that are verified and written.
    pub(super) have: Bitfield,
    /// What the file is.
    pub(super) made: FileStamp,
    pub(super) manifest: Arc<Manifest>,
}

impl Hub {
    /// Begins a run with the partial file that is open.
    fn activate(&mut self, file: FileId, opened: Opened) {
        let rng = ChaCha12Rng::from_rng(&mut self.seams.env.rng("download", self.runs));
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        transfer.active = Some(Active {
            manifest: opened.manifest,
            machine: Download::new(transfer.record.manifest.size, opened.have, rng),
            open: self.open.enter(),
            partial: opened.partial,
            buffers: Buffers::default(),
            hashing: Hashing::new(self.ahead.enter()),
            unsaved: false,
            saving: false,
            placing: false,
            announced: None,
            sources: BTreeMap::new(),
        });
        transfer.began = self.now;
        transfer.find_after = FIND_SOON;
        transfer.told = false;
        transfer.record.made = Some(opened.made);
        transfer.record.progress = Progress::Downloading;
        self.record_download(file);
        self.find(file);
        self.announce_progress();
        self.advance(file);
    }

    /// Opens the partial file of a download that is to go on.
    pub(super) fn open(&mut self, file: FileId) {
        self.runs += 1;
        let number = self.runs;
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        transfer.run = number;
        transfer.record.progress = Progress::Downloading;
        transfer.told = false;
        let (record, doubted) = (transfer.record.clone(), transfer.doubted);
        let copy = self.shares.get(&file).map(|share| share.record.path.clone());
        let seams = Arc::clone(&self.seams);
        self.seams.env.spawn(async move {
            let (disk, database) = (Arc::clone(&seams.env.disk), Arc::clone(&seams.database));
            let open = move || open_partial(&*disk, &database, &record, copy.as_deref(), doubted);
            let result = seams.env.offload(open).await;
            seams.report(Input::Opened { run: Run { file, number }, result }).await;
        });
    }

    pub(super) fn opened(&mut self, run: Run, result: Result<Opened, ContentError>) {
        if self.transfers.get(&run.file).is_none_or(|transfer| transfer.run != run.number) {
            return;
        }
        match result {
            Ok(opened) => self.activate(run.file, opened),
            Err(error) => self.pause(run.file, Some(error)),
        }
    }

    /// Hands the machine what happened and does what it says.
    pub(super) fn feed(&mut self, file: FileId, happening: Happening) {
        let now = self.now;
        let Some(active) = self.active(file) else { return };
        let mut actions = Vec::new();
        active.machine.limit(now, active.open.left_of(OPEN_LIMIT), &mut actions);
        active.machine.handle(now, happening, &mut actions);
        active.open.set(active.machine.open_count());
        for action in actions {
            self.perform(file, action);
        }
    }

    fn perform(&mut self, file: FileId, action: Action) {
        match action {
            Action::Request { peer, block } => self.requests.request(peer, file, block),
            Action::Cancel { peer, block } => self.requests.cancel(peer, file, block),
            Action::Interest { peer, interested } => self.requests.interest(peer, file, interested),
            Action::Verify { piece } => self.verify(file, piece),
            Action::Discard { piece } => {
                if let Some(active) = self.active(file) {
                    active.buffers.take(piece);
                }
            }
            Action::Ban { peer } => self.ban(file, peer),
            // The whole file's hash may still be behind: `advance` sees the end.
            Action::Finished => {}
        }
    }

    pub(super) fn due_transfers(&mut self) {
        let now = self.now;
        let is_due = |transfer: &Transfer| {
            let machine = transfer.active.as_ref().and_then(|active| active.machine.deadline());
            machine.is_some_and(|deadline| deadline <= now)
        };
        let due: Vec<FileId> = self.transfers.iter().filter(|(_, it)| is_due(it)).map(|(file, _)| *file).collect();
        for file in due {
            self.feed(file, Happening::Timer);
        }
    }

    pub(super) fn block(&mut self, peer: PeerId, file: FileId, block: Block, bytes: Bytes) {
        self.requests.withdraw(peer, file, |held| held == block);
        let Some(active) = self.active(file) else { return };
        if active.machine.wants(peer, block) {
            active.buffers.keep(block, bytes);
        }
        self.feed(file, Happening::Received { peer, block });
    }

    pub(super) fn progressed(&mut self, file: FileId) {
        if let Some(transfer) = self.transfers.get_mut(&file) {
            transfer.waits = None;
        }
    }

    /// Gives the complete file its name.
    pub(super) fn give_name(&mut self, run: Run) {
        let Some(transfer) = self.transfers.get(&run.file) else { return };
        let Some(active) = &transfer.active else { return };
        let (partial, record, have) = (active.partial.clone(), transfer.record.clone(), active.machine.have().clone());
        let seams = Arc::clone(&self.seams);
        self.seams.env.spawn(async move {
            let (disk, database) = (Arc::clone(&seams.env.disk), Arc::clone(&seams.database));
            let work = move || {
                partial.sync()?;
                downloads::record_durable(&database, &record.file, &record.partial, &have).map_err(io::Error::other)?;
                partial.finish(&*disk, &record.partial, &record.destination, record.replaces)
            };
            let result = seams.env.offload(work).await;
            seams.report(Input::Placed { run, result }).await;
        });
    }

    /// The file bears its name: from now on it is a share.
    pub(super) fn placed(&mut self, run: Run, result: Result<FileStamp, ContentError>) {
        if self.running(run).is_none() {
            return;
        }
        let stamp = match result {
            Ok(stamp) => stamp,
            Err(error) => return self.pause(run.file, Some(error)),
        };
        let Some(transfer) = self.transfers.get_mut(&run.file) else { return };
        (transfer.active, transfer.find_at) = (None, None);
        transfer.candidates.clear();
        transfer.have_bytes = transfer.record.manifest.size;
        transfer.waits = None;
        transfer.record.progress = Progress::Complete;
        let mut share = Share::downloaded(&transfer.record, stamp);
        if let Some(before) = self.shares.get(&run.file) {
            share.record.uploaded = before.record.uploaded;
        }
        self.server.forget(run.file);
        self.shares.insert(run.file, share);
        self.record_share(run.file);
        self.record_download(run.file);
        self.announce_share(run.file);
        self.part_seeders(run.file);
        self.acknowledge(run.file);
        self.tell_ended(run.file);
    }

    /// A peer alone sent a bad piece: it is not asked for this file again.
    fn ban(&mut self, file: FileId, peer: PeerId) {
        self.requests.withdraw(peer, file, |_| true);
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        let device = transfer.active.as_ref().and_then(|active| active.sources.get(&peer)).copied();
        let Some(device) = device else { return };
        tracing::warn!(?device, ?file, "a peer sent a bad piece and is not asked again");
        tracing::trace!(target: "coverage", reached = "peer: banned after corrupt piece");
        transfer.banned.insert(device);
        transfer.find_at = Some(self.now);
        if !self.peers.links.contains_key(&peer) {
            tracing::trace!(target: "coverage", reached = "peer: banned after it hung up");
        }
        // It may have hung up and be back on another link.
        if let Some(current) = self.peers.by_device.get(&device).copied().filter(|current| *current != peer) {
            self.requests.withdraw(current, file, |_| true);
            self.feed(file, Happening::PeerLeft { peer: current });
        }
    }

    /// Remembers whose link a peer's is, until every piece it had a part in is judged: it may have hung up by then.
    pub(super) fn note_source(&mut self, file: FileId, peer: PeerId, device: DeviceKey) {
        let links = &self.peers.links;
        let Some(active) = self.transfers.get_mut(&file).and_then(|it| it.active.as_mut()) else { return };
        let Active { sources, machine, .. } = active;
        sources.retain(|peer, _| links.contains_key(peer) || machine.is_author(*peer));
        sources.insert(peer, device);
    }

    /// Ends the run; it goes on with `resume_download`.
    pub(super) fn pause(&mut self, file: FileId, error: Option<ContentError>) {
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        let reason = error.map(|error| failure::content(&error, &transfer.record.destination));
        let is_told = reason.is_some();
        transfer.record.progress = Progress::Paused(reason);
        self.end_run(file);
        self.record_download(file);
        if is_told {
            self.tell_stalled(file);
        }
        self.settle_waiters();
    }

    /// Ends the download without the file.
    pub(super) fn fail(&mut self, file: FileId, failure: Failure) {
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        transfer.record.progress = Progress::Failed(failure);
        self.end_run(file);
        self.record_download(file);
        self.tell_ended(file);
    }

    /// Ends the run: what is there is recorded, peers hear of it.
    pub(super) fn end_run(&mut self, file: FileId) {
        self.save(file);
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        transfer.run = 0;
        transfer.find_at = None;
        transfer.waits = None;
        transfer.candidates.clear();
        if let Some(active) = transfer.active.take() {
            transfer.have_bytes = bytes_of(active.machine.have(), transfer.record.manifest.size);
            self.server.forget(file);
            self.part_all(file, None);
            self.seams.tracker.end_serving(file);
        }
    }

    fn tell_ended(&mut self, file: FileId) {
        if let Some(transfer) = self.transfers.get(&file) {
            self.seams.tell(Event::DownloadEnded(transfer.row(self.now)));
        }
        self.settle_waiters();
    }

    pub(super) fn tell_stalled(&self, file: FileId) {
        if let Some(transfer) = self.transfers.get(&file) {
            self.seams.tell(Event::DownloadStalled(transfer.row(self.now)));
        }
    }

    /// Makes durable and records what was written since the last time.
    pub(super) fn save_progress(&mut self) {
        let unsaved =
            |transfer: &Transfer| transfer.active.as_ref().is_some_and(|it| it.unsaved && !it.saving && !it.placing);
        let due: Vec<FileId> = self.transfers.iter().filter(|(_, it)| unsaved(it)).map(|(file, _)| *file).collect();
        for file in due {
            self.save(file);
        }
    }

    fn save(&mut self, file: FileId) {
        let Some((run, work)) = self.saving(file) else { return };
        let seams = Arc::clone(&self.seams);
        self.seams.env.spawn(async move {
            let result = seams.env.offload(work).await;
            seams.report(Input::Saved { run, result }).await;
        });
    }

    fn saving(&mut self, file: FileId) -> Option<(Run, impl FnOnce() -> Result<(), ContentError> + Send + 'static)> {
        let transfer = self.transfers.get_mut(&file)?;
        let (number, at) = (transfer.run, transfer.record.partial.clone());
        let active = transfer.active.as_mut().filter(|active| active.unsaved)?;
        (active.unsaved, active.saving) = (false, true);
        let (partial, have) = (active.partial.clone(), active.machine.have().clone());
        let database = Arc::clone(&self.seams.database);
        let work = move || {
            partial.sync()?;
            Ok(downloads::record_durable(&database, &file, &at, &have).map_err(io::Error::other)?)
        };
        Some((Run { file, number }, work))
    }

    /// What could not be made durable is fetched or written again: the download goes on when the disk is mended.
    pub(super) fn saved(&mut self, run: Run, result: Result<(), ContentError>) {
        let Some(active) = self.running(run) else { return };
        active.saving = false;
        if let Err(error) = result {
            tracing::warn!(%error, "the progress of a download could not be recorded");
            self.pause(run.file, Some(error));
        }
    }

    /// On the way out: records what was written.
    pub(super) async fn record_all(&mut self) {
        let files: Vec<FileId> = self.transfers.keys().copied().collect();
        for file in files {
            if let Some((_, work)) = self.saving(file) {
                let _ = self.seams.env.offload(work).await;
            }
        }
        self.record_rest().await;
    }

    /// Tells the trackers how much of each download is there.
    pub(super) fn announce_progress(&mut self) {
        for transfer in self.transfers.values_mut() {
            let percent = transfer.percent();
            let Some(active) = transfer.active.as_mut() else { continue };
            if active.announced != Some(percent) {
                active.announced = Some(percent);
                let (group, file) = (transfer.record.group, transfer.record.file);
                self.seams.tracker.serve(Serving { group, file, percent });
            }
        }
    }

    pub(super) fn active(&mut self, file: FileId) -> Option<&mut Active> {
        self.transfers.get_mut(&file).and_then(|transfer| transfer.active.as_mut())
    }

    /// The download that a job's report belongs to, while that run goes on.
    pub(super) fn running(&mut self, run: Run) -> Option<&mut Active> {
        let transfer = self.transfers.get_mut(&run.file).filter(|transfer| transfer.run == run.number);
        transfer.and_then(|transfer| transfer.active.as_mut())
    }
}
