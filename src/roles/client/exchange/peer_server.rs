//! Serving pieces: requests to the uploader, its choices to the disk, blocks to the links.
//!
//! A file is compared with its stamp after each read and before any of the bytes go out: what was changed on disk is never
//! served, the share is suspended instead.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha12Rng;
use tokio::time::{Instant, sleep};

use super::{
    Seams,
    hub::{Hub, Input},
    kept::{Kept, Parts},
    peer_link::StreamId,
    peers::Peers,
    pool::Pool,
    shares::Share,
    transfer::Transfer,
};
use crate::{
    protocol::{
        bitfield::Bitfield,
        ids::FileId,
        peer::PeerMessage,
        piece::{Block, PieceIndex, is_valid_block, piece_length},
    },
    roles::client::command::Rate,
    store::{
        content::Partial,
        disk::{Disk, DiskFile, FileStamp, OpenMode, is_passing},
    },
    swarm::{
        PeerId,
        download::Download,
        rate::TokenBucket,
        upload::{QUEUE_LIMIT, Swarms, Turn, Upload, Uploader},
    },
};

/// Pause before a piece is read again that could not be read because descriptors or memory ran out, and how often that is done.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(300);
const SHORTAGE_TRIES: u32 = 5;

/// What became of a read.
pub(super) type ReadPiece = Result<(Option<Arc<dyn DiskFile>>, Bytes), ReadFailure>;

/// Why a piece could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFailure {
    /// The file is not what was shared.
    #[error("it has changed on disk")]
    Changed,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl ReadFailure {
    /// Whether it says nothing about the file.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Io(error) if is_passing(error))
    }
}

/// What is being served.
pub(super) struct Server {
    pub(super) uploader: Uploader,
    limit: TokenBucket,
    /// Pieces being read, and the blocks that wait for them.
    reading: BTreeMap<(FileId, PieceIndex), Vec<Upload>>,
    kept: Kept,
    memory: Pool,
}

/// Where a file's bytes are.
#[derive(Clone)]
enum Place {
    Partial(Partial),
    File { path: PathBuf, stamp: FileStamp, size: u64, open: Option<Arc<dyn DiskFile>> },
}

impl Server {
    pub(super) fn new(limit: TokenBucket, rng: ChaCha12Rng) -> Self {
        let (reading, kept, memory) = (BTreeMap::new(), Kept::default(), Pool::default());
        Self { uploader: Uploader::new(QUEUE_LIMIT, rng), limit, reading, kept, memory }
    }

    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let wait = self.limit.wait(now);
        let limited = (!wait.is_zero() && self.uploader.waiting() > 0).then(|| now + wait);
        limited.into_iter().chain(self.uploader.deadline(now).filter(|at| *at > now)).min()
    }

    /// The next block that may go now.
    fn next(&mut self, now: Instant, swarms: &impl Swarms) -> Option<Upload> {
        if !self.limit.wait(now).is_zero() {
            return None;
        }
        let upload = self.uploader.next(now, swarms)?;
        self.limit.take(now, u64::from(upload.block.length));
        Some(upload)
    }

    /// Drops what was kept for peers who did not come.
    pub(super) fn tend(&mut self, now: Instant) {
        self.kept.drop_old(now);
    }

    /// Forgets what is in memory of a file.
    pub(super) fn forget(&mut self, file: FileId) {
        self.kept.forget(file);
        self.memory.clear();
    }
}

impl Hub {
    pub(super) fn set_upload_limit(&mut self, rate: Rate) {
        self.server.limit.set_limit(self.now, rate.0);
    }

    /// Takes a peer's requests; returns those that will not be served.
    pub(super) fn accept_requests(&mut self, id: PeerId, file: FileId, blocks: &[Block]) -> Vec<Block> {
        let peer = self.peers.links.get(&id);
        let is_served = peer.and_then(|peer| peer.files.get(&file)).is_some_and(super::joins::Joined::is_served);
        let Some(size) = self.local_size(file).filter(|_| is_served) else { return blocks.to_vec() };
        let now = self.now;
        let mut refused = Vec::new();
        for block in blocks {
            let is_there = is_valid_block(size, *block) && self.has_piece(file, block.piece);
            if !is_there || !self.server.uploader.request(now, id, file, *block) {
                refused.push(*block);
            }
        }
        refused
    }

    /// Sends on their way as many blocks as the uploader and the limit let go now, and tells whose turn is next.
    pub(super) fn pump_uploads(&mut self) {
        while let Some(upload) = self.with_swarms(|server, now, swarms| server.next(now, swarms)) {
            self.serve(upload);
        }
        while let Some(turn) = self.with_swarms(|server, now, swarms| server.uploader.next_turn(now, swarms)) {
            let Turn { peer, file, suggested } = turn;
            self.send(peer, PeerMessage::Unchoke { file, suggested });
        }
    }

    fn with_swarms<T>(&mut self, ask: impl FnOnce(&mut Server, Instant, &Known<'_>) -> T) -> T {
        let known = Known { peers: &self.peers, shares: &self.shares, transfers: &self.transfers };
        ask(&mut self.server, self.now, &known)
    }

    fn serve(&mut self, upload: Upload) {
        if let Some(bytes) = self.server.kept.block(self.now, upload.file, upload.block) {
            return self.send_block(upload, bytes);
        }
        let waiting = self.server.reading.entry((upload.file, upload.block.piece)).or_default();
        waiting.push(upload);
        if waiting.len() == 1 {
            self.read_piece(upload.file, upload.block.piece);
        }
    }

    fn read_piece(&mut self, file: FileId, piece: PieceIndex) {
        let place = self.place(file);
        let memory = self.server.memory.take();
        let seams = Arc::clone(&self.seams);
        self.seams.env.spawn(async move {
            let mut result = seams.read_piece(place.clone(), piece, memory).await;
            for _ in 1..SHORTAGE_TRIES {
                if !result.as_ref().is_err_and(ReadFailure::is_passing) {
                    break;
                }
                tracing::trace!(target: "coverage", reached = "share: short of descriptors");
                if seams.env.shutdown.run_until_cancelled(sleep(SHORTAGE_PAUSE)).await.is_none() {
                    return;
                }
                result = seams.read_piece(place.clone(), piece, BytesMut::new()).await;
            }
            seams.report(Input::Read { file, piece, result }).await;
        });
    }

    fn place(&self, file: FileId) -> Option<Place> {
        if let Some(active) = self.transfers.get(&file).and_then(|transfer| transfer.active.as_ref()) {
            return Some(Place::Partial(active.partial.clone()));
        }
        let share = self.shares.get(&file).filter(|share| share.suspended.is_none())?;
        let record = &share.record;
        let (path, open) = (record.path.clone(), share.open.clone());
        Some(Place::File { path, stamp: record.stamp, size: record.manifest.size, open })
    }

    pub(super) fn piece_read(&mut self, file: FileId, piece: PieceIndex, result: ReadPiece) {
        let waiting = self.server.reading.remove(&(file, piece)).unwrap_or_default();
        match result {
            Ok((open, bytes)) => {
                if let Some(share) = self.shares.get_mut(&file) {
                    share.opened(open, self.now);
                }
                self.server.memory.lend(&bytes);
                for upload in waiting {
                    let begin = upload.block.offset as usize;
                    self.send_block(upload, bytes.slice(begin..begin + upload.block.length as usize));
                }
                self.server.kept.read(self.now, (file, piece), bytes);
            }
            Err(failure) => {
                for upload in waiting {
                    self.not_sent(upload);
                    self.send(upload.peer, PeerMessage::Reject { file, blocks: vec![upload.block] });
                }
                if failure.is_passing() {
                    tracing::warn!(%failure, "a piece cannot be served: this process is short of something");
                } else {
                    self.suspend_share(file, &failure.to_string());
                }
            }
        }
    }

    fn send_block(&mut self, upload: Upload, bytes: Bytes) {
        let Upload { peer: id, file, block } = upload;
        let now = self.now;
        let joined = self.peers.links.get_mut(&id).and_then(|peer| peer.files.get_mut(&file));
        let Some(joined) = joined.filter(|joined| joined.is_served()) else { return self.not_sent(upload) };
        joined.up.add(now, u64::from(block.length));
        if let Some(share) = self.shares.get_mut(&file) {
            share.count_upload(block.length);
        }
        self.hand_over_block(id, file, block, bytes);
    }

    /// Keeps a piece that was just verified, if anybody who is linked lacks it.
    pub(super) fn keep_received(&mut self, file: FileId, piece: PieceIndex, parts: Parts) {
        let lacks = |theirs: &Bitfield| !theirs.has(piece);
        let mut told = self.peers.links.values().filter_map(|peer| peer.files.get(&file)?.pieces.as_ref());
        if told.any(lacks) {
            self.server.kept.received(self.now, (file, piece), parts);
        }
    }

    fn not_sent(&mut self, upload: Upload) {
        self.server.uploader.sent(self.now, upload.peer, upload.block.length);
    }

    pub(super) fn sent(&mut self, id: PeerId, stream: StreamId, blocks: &[u32]) {
        for bytes in blocks {
            self.server.uploader.sent(self.now, id, *bytes);
        }
        self.note_sent(id, stream, blocks.iter().map(|bytes| u64::from(*bytes)).sum());
    }
}

/// What the hub knows of the swarms it is in.
struct Known<'a> {
    peers: &'a Peers,
    shares: &'a BTreeMap<FileId, Share>,
    transfers: &'a BTreeMap<FileId, Transfer>,
}

impl Known<'_> {
    fn machine(&self, file: FileId) -> Option<&Download> {
        self.transfers.get(&file).and_then(|transfer| transfer.active.as_ref()).map(|active| &active.machine)
    }
}

impl Swarms for Known<'_> {
    fn copies(&self, file: FileId, piece: PieceIndex) -> u32 {
        if let Some(machine) = self.machine(file) {
            return machine.leechers_with(piece);
        }
        let has = |theirs: &&Bitfield| theirs.has(piece) && !theirs.is_full();
        let told = self.peers.links.values().filter_map(|peer| peer.files.get(&file)?.pieces.as_ref());
        u32::try_from(told.filter(has).count()).unwrap_or(u32::MAX)
    }

    fn lacks(&self, peer: PeerId, file: FileId) -> bool {
        let joined = self.peers.links.get(&peer).and_then(|peer| peer.files.get(&file));
        let Some(theirs) = joined.filter(|it| it.is_served()).and_then(|it| it.pieces.as_ref()) else { return false };
        self.machine(file).map_or_else(|| !theirs.is_full(), |machine| machine.have().exceeds(theirs))
    }

    fn shuns(&self, peer: PeerId, file: FileId) -> bool {
        self.machine(file).is_some_and(|machine| machine.shuns(peer))
    }

    fn seeds(&self, file: FileId) -> Option<u32> {
        match self.machine(file) {
            Some(machine) => machine.is_finished().then(|| machine.have().len()),
            None => self.shares.get(&file).map(|share| share.record.manifest.piece_count()),
        }
    }
}

impl Seams {
    async fn read_piece(&self, place: Option<Place>, piece: PieceIndex, memory: BytesMut) -> ReadPiece {
        let disk = Arc::clone(&self.env.disk);
        let read = move || place.map_or(Err(ReadFailure::Changed), |place| place.read(&*disk, piece, memory));
        self.env.offload(read).await
    }
}

impl Place {
    fn read(self, disk: &dyn Disk, piece: PieceIndex, mut memory: BytesMut) -> ReadPiece {
        match self {
            Self::Partial(partial) => Ok((None, partial.read_into(piece, memory)?.freeze())),
            Self::File { path, stamp, size, open } => {
                let file = open.map_or_else(|| disk.open(&path, OpenMode::Read), Ok)?;
                memory.resize(piece_length(size, piece) as usize, 0);
                file.read_at(piece.start(), &mut memory).map_err(cut_short)?;
                if disk.stat(&path)?.stamp != stamp || file.stat()?.stamp != stamp {
                    return Err(ReadFailure::Changed);
                }
                Ok((Some(file), memory.freeze()))
            }
        }
    }
}

/// A file that ends before its size was made shorter.
fn cut_short(error: io::Error) -> ReadFailure {
    if error.kind() == io::ErrorKind::UnexpectedEof { ReadFailure::Changed } else { error.into() }
}
