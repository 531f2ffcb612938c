//! The one task that owns the exchange's state: takes inputs in, asks the machines, does what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng as _};
use tokio::{
    sync::{broadcast, mpsc},
    time::{Instant, sleep_until},
};

use super::{
    Seams,
    downloads::{Opened, Run},
    hashing::Hashed,
    ledger::Ledger,
    members::{Claim, Ended, Standing},
    orders::Waiter,
    peer_link::{Origin, Received, StreamId},
    peer_server::{ReadPiece, Server},
    peers::Peers,
    requests::Requests,
    room::Room,
    shares::{Recheck, Share},
    transfer::Transfer,
};
use crate::{
    protocol::{
        client::{Notice, SwarmPeer},
        error::Failure,
        ids::{DeviceKey, FileId, GroupId, UserId},
        piece::PieceIndex,
        ticket::Signed,
    },
    store::{content::ContentError, disk::FileStamp},
    swarm::{PeerId, rate::TokenBucket},
    transport::link::Link,
};

/// Inputs taken in at once.
const BATCH: usize = 64;
/// How often what has no deadline of its own is looked after.
const TICK: Duration = Duration::from_secs(1);

/// All that can wake the hub.
pub(super) enum Input {
    /// A link stands.
    Linked { link: Box<Link>, origin: Origin },
    /// A dial failed.
    DialFailed { device: DeviceKey, reason: String },
    /// A link has ended.
    Unlinked { peer: PeerId },
    /// A peer sent something.
    Received { peer: PeerId, received: Received },
    /// The socket of one of a link's streams took blocks of these lengths.
    Sent { peer: PeerId, stream: StreamId, blocks: Vec<u32> },
    /// The other side opened a stream that is to belong to a link.
    StreamAccepted { link: Box<Link>, from: IpAddr },
    /// A further stream of a link stands, or could not be opened.
    StreamDialled { peer: PeerId, link: Option<Box<Link>> },
    /// Nothing more comes by a further stream.
    StreamEnding { peer: PeerId, stream: StreamId },
    /// A further stream has ended.
    StreamEnded { peer: PeerId, stream: StreamId, is_lost: bool },
    /// A piece to be served was read, or could not be.
    Read { file: FileId, piece: PieceIndex, result: ReadPiece },
    /// Our own ticket for a group is there, or why not.
    Ticket { group: GroupId, result: Result<Signed, Failure> },
    /// Memberships of a group that peers showed tickets for, and those of them that have ended.
    Checked { group: GroupId, asked: Vec<Claim>, ended: Ended },
    /// Who serves a file.
    Swarm { file: FileId, result: Result<Vec<SwarmPeer>, Failure> },
    /// A download's partial file is open, or why not.
    Opened { run: Run, result: Result<Opened, ContentError> },
    /// A received piece was hashed and written, or not; the whole file's hash has come further, or not.
    Hashed { run: Run, hashed: Hashed },
    /// Pieces were recorded durable.
    Saved { run: Run, result: Result<(), ContentError> },
    /// A complete file has its final name, or why not.
    Placed { run: Run, result: Result<FileStamp, ContentError> },
    /// A suspended share was looked at again.
    Rechecked { file: FileId, result: Recheck },
    /// A download that became a share was told to a tracker.
    Acknowledged { file: FileId, is_known: bool },
    /// A batch of changes was recorded.
    Recorded { failed: Option<Failure> },
    /// A command's turn.
    Turn(Box<dyn FnOnce(&mut Hub) + Send>),
}

/// The state of the exchange.
pub(super) struct Hub {
    pub(super) seams: Arc<Seams>,
    /// The time of the batch of inputs in hand.
    pub(super) now: Instant,
    /// Whose shares and downloads these are; `None` while nobody is logged in.
    pub(super) user: Option<UserId>,
    pub(super) peers: Peers,
    pub(super) shares: BTreeMap<FileId, Share>,
    pub(super) transfers: BTreeMap<FileId, Transfer>,
    pub(super) server: Server,
    pub(super) requests: Requests,
    pub(super) waiters: Vec<Waiter>,
    pub(super) ledger: Ledger,
    /// Our own member tickets, as last fetched; those on their way are `None`.
    pub(super) tickets: BTreeMap<GroupId, Option<Signed>>,
    /// When one of them was last thrown away because a peer refused it.
    pub(super) tickets_doubted: BTreeMap<GroupId, Instant>,
    /// What is known of the memberships that peers showed tickets for.
    pub(super) standing: Standing,
    /// Pieces on their way to all downloads.
    pub(super) open: Room,
    /// Pieces that all downloads keep for the hashes of whole files.
    pub(super) ahead: Room,
    /// Runs of downloads begun so far.
    pub(super) runs: u64,
    tick_at: Instant,
    ticks: u64,
}

impl Hub {
    pub(super) fn new(seams: Arc<Seams>, upload_limit: TokenBucket, download_limit: TokenBucket) -> Self {
        let now = Instant::now();
        let rng = ChaCha12Rng::from_rng(&mut seams.env.rng("upload", 0));
        let peers = Peers::new(seams.max_peers);
        Self {
            seams,
            now,
            user: None,
            peers,
            shares: BTreeMap::new(),
            transfers: BTreeMap::new(),
            server: Server::new(upload_limit, rng),
            requests: Requests::new(download_limit),
            waiters: Vec::new(),
            ledger: Ledger::default(),
            tickets: BTreeMap::new(),
            tickets_doubted: BTreeMap::new(),
            standing: Standing::default(),
            open: Room::default(),
            ahead: Room::default(),
            runs: 0,
            tick_at: now + TICK,
            ticks: 0,
        }
    }

    /// Runs until the client stops; downloads are recorded on the way out.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Input>) {
        let mut notices = self.seams.tracker.subscribe();
        let mut tracker = self.seams.tracker.current();
        let shutdown = self.seams.env.shutdown.clone();
        let mut inputs = Vec::with_capacity(BATCH);
        loop {
            let deadline = self.deadline();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                notice = notices.recv() => self.now_do(|hub| hub.notice(notice)),
                // The tracker link closes with the client only.
                Ok(()) = tracker.changed() => self.now_do(Self::doubt_members),
                _ = inbox.recv_many(&mut inputs, BATCH) => {
                    self.now_do(|hub| inputs.drain(..).for_each(|input| hub.take(input)));
                }
                () = sleep_until(deadline) => self.now_do(|_| ()),
            }
        }
        self.record_all().await;
    }

    fn now_do(&mut self, act: impl FnOnce(&mut Self)) {
        self.now = Instant::now();
        act(self);
        self.due_transfers();
        self.find_due();
        self.flush_haves();
        self.check_members();
        if self.now >= self.tick_at {
            self.tick_at = self.now + TICK;
            self.tick();
        }
        self.pump_uploads();
        self.send_requests();
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Linked { link, origin } => self.linked(*link, origin),
            Input::DialFailed { device, reason } => self.dial_failed(device, &reason),
            Input::Unlinked { peer } => self.unlinked(peer),
            Input::Received { peer, received } => self.received(peer, received),
            Input::Sent { peer, stream, blocks } => self.sent(peer, stream, &blocks),
            Input::StreamAccepted { link, from } => self.stream_accepted(*link, from),
            Input::StreamDialled { peer, link } => self.stream_dialled(peer, link),
            Input::StreamEnding { peer, stream } => self.retire_stream(peer, stream),
            Input::StreamEnded { peer, stream, is_lost } => self.stream_ended(peer, stream, is_lost),
            Input::Read { file, piece, result } => self.piece_read(file, piece, result),
            Input::Ticket { group, result } => self.own_ticket(group, result),
            Input::Checked { group, asked, ended } => self.members_checked(group, &asked, ended),
            Input::Swarm { file, result } => self.swarm(file, result),
            Input::Opened { run, result } => self.opened(run, result),
            Input::Hashed { run, hashed } => self.hashed(run, hashed),
            Input::Saved { run, result } => self.saved(run, result),
            Input::Placed { run, result } => self.placed(run, result),
            Input::Rechecked { file, result } => self.rechecked(file, result),
            Input::Acknowledged { file, is_known } => self.acknowledged(file, is_known),
            Input::Recorded { failed } => self.recorded(failed),
            Input::Turn(order) => order(self),
        }
    }

    fn notice(&mut self, notice: Result<Notice, broadcast::error::RecvError>) {
        match notice {
            Ok(Notice::SwarmChanged { file }) => self.find(file),
            Ok(Notice::DialRequested { peer, .. }) => self.dial_requested(&peer),
            Ok(Notice::MembershipEnded { group, memberships, .. }) => {
                self.memberships_ended(group, memberships);
            }
            Ok(Notice::SessionsEnded { user }) => self.doubt_user(user),
            Ok(Notice::MemberRemoved { id, .. }) => self.leave_group(id),
            Ok(Notice::SessionEnded) => self.log_out(),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.find_all();
                self.doubt_members();
            }
            // The rest is for the user; and the tracker link closes with the client only.
            Ok(_) | Err(broadcast::error::RecvError::Closed) => {}
        }
    }

    fn deadline(&self) -> Instant {
        let transfers = self.transfers.values().filter_map(Transfer::deadline);
        let limited = self.server.deadline(self.now).into_iter().chain(self.requests.deadline(self.now));
        transfers.chain(limited).chain(self.haves_due()).fold(self.tick_at, Instant::min)
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.save_progress();
        self.announce_progress();
        self.note_stalled();
        self.tend_links();
        self.tend_streams();
        self.server.tend(self.now);
        if self.ticks.is_multiple_of(5) {
            self.recheck_tickets();
            self.retry_joins();
        }
        if self.ticks.is_multiple_of(30) {
            self.refresh_tickets();
            self.recheck_shares();
            self.save_uploaded();
            self.acknowledge_shares();
        }
    }

    /// Files that this device takes part in, in a group.
    pub(super) fn files_of(&self, group: GroupId) -> BTreeSet<FileId> {
        let shares = self.shares.values().filter(|share| share.record.group == group).map(|share| share.record.file);
        let transfers = self.transfers.values().filter(|transfer| transfer.record.group == group);
        shares.chain(transfers.map(|transfer| transfer.record.file)).collect()
    }
}
