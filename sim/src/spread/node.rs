//! One peer: its machines, and what is on its way through its uplink.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use p2p::{
    protocol::{
        bitfield::Bitfield,
        ids::FileId,
        piece::{Block, PieceIndex},
    },
    swarm::{
        PeerId,
        download::{Action, Download, Event},
        upload::{QUEUE_LIMIT, Swarms, Turn, Uploader},
    },
};
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use tokio::time::Instant;

use super::{Conduct, Peer, Policy, naive::Naive};

/// The file that is spread.
pub(super) const FILE: FileId = FileId([7; 32]);

/// What decides.
enum Brain {
    Ours { download: Box<Download>, uploader: Box<Uploader> },
    Naive(Box<Naive>),
}

/// A peer.
pub(super) struct Node {
    pub(super) peer: Peer,
    brain: Brain,
    /// Counts its lives: what was sent to or by an earlier one is lost.
    pub(super) life: u64,
    pub(super) present: bool,
    pub(super) done_at: Option<Instant>,
    /// Payload that has left.
    pub(super) sent: u64,
    /// Pieces to be announced, and when.
    pub(super) haves: Vec<PieceIndex>,
    pub(super) haves_due: Option<Instant>,
    pub(super) announced: Option<Instant>,
    /// Pieces in memory of which something is not as it should be.
    spoiled: BTreeSet<PieceIndex>,
    uplink: Uplink,
}

/// An uplink, shared equally by the peers that have blocks on their way through it, as TCP would.
struct Uplink {
    bytes_per_s: f64,
    flows: BTreeMap<PeerId, VecDeque<(Block, f64)>>,
    advanced: Instant,
}

impl Node {
    pub(super) fn new(peer: Peer, policy: Policy, size: u64, have: Bitfield, now: Instant, rng: ChaCha12Rng) -> Self {
        let uplink = Uplink { bytes_per_s: peer.up, flows: BTreeMap::new(), advanced: now };
        Self {
            brain: Brain::new(policy, size, have, rng),
            peer,
            life: 0,
            present: false,
            done_at: None,
            sent: 0,
            haves: Vec::new(),
            haves_due: None,
            announced: None,
            spoiled: BTreeSet::new(),
            uplink,
        }
    }

    /// Begins another life with what it has.
    pub(super) fn restart(&mut self, policy: Policy, size: u64, now: Instant, rng: ChaCha12Rng) {
        self.brain = Brain::new(policy, size, self.have().clone(), rng);
        (self.haves, self.haves_due) = (Vec::new(), None);
        self.spoiled.clear();
        (self.uplink.flows, self.uplink.advanced) = (BTreeMap::new(), now);
    }

    pub(super) fn have(&self) -> &Bitfield {
        match &self.brain {
            Brain::Ours { download, .. } => download.have(),
            Brain::Naive(naive) => naive.have(),
        }
    }

    pub(super) fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match &mut self.brain {
            Brain::Ours { download, .. } => download.handle(now, event, &mut out),
            Brain::Naive(naive) => naive.handle(event, &mut out),
        }
        for action in &out {
            if let Action::Discard { piece } = action {
                self.spoiled.remove(piece);
            }
        }
        out
    }

    /// A block comes, whose bytes are right or not.
    pub(super) fn receive(&mut self, now: Instant, peer: PeerId, block: Block, is_right: bool) -> Vec<Action> {
        let wants = match &self.brain {
            Brain::Ours { download, .. } => download.wants(peer, block),
            Brain::Naive(naive) => naive.wants(peer, block),
        };
        if wants && !is_right {
            self.spoiled.insert(block.piece);
        }
        self.handle(now, Event::Received { peer, block })
    }

    /// What a look at a whole piece finds.
    pub(super) fn verdict(&mut self, piece: PieceIndex) -> Event {
        if self.spoiled.remove(&piece) { Event::Corrupt { piece } } else { Event::Verified { piece } }
    }

    /// Takes a request; false: it is refused.
    pub(super) fn request(&mut self, now: Instant, peer: PeerId, block: Block) -> bool {
        match &mut self.brain {
            Brain::Ours { uploader, .. } => uploader.request(now, peer, FILE, block),
            Brain::Naive(naive) => {
                naive.request(peer, block);
                true
            }
        }
    }

    /// A peer says whether a turn would be of use, or was told of pieces.
    pub(super) fn interest(&mut self, peer: PeerId, is_interested: bool) {
        if let Brain::Ours { uploader, .. } = &mut self.brain {
            uploader.interest(peer, FILE, is_interested);
        }
    }

    /// The next turn to tell somebody of.
    pub(super) fn next_turn(&mut self, now: Instant) -> Option<Turn> {
        match &mut self.brain {
            Brain::Ours { download, uploader } => uploader.next_turn(now, &View(download)),
            Brain::Naive(_) => None,
        }
    }

    pub(super) fn cancel(&mut self, peer: PeerId, block: Block) {
        if let Brain::Ours { uploader, .. } = &mut self.brain {
            uploader.cancel(peer, FILE, block);
        }
    }

    /// A link is gone.
    pub(super) fn unlink(&mut self, now: Instant, peer: PeerId) -> Vec<Action> {
        self.uplink.advance(now);
        self.uplink.flows.remove(&peer);
        match &mut self.brain {
            Brain::Ours { uploader, .. } => uploader.leave(peer),
            Brain::Naive(naive) => naive.leave(peer),
        }
        self.handle(now, Event::PeerLeft { peer })
    }

    /// Lets time pass on the uplink; returns what has left it.
    pub(super) fn transmit(&mut self, now: Instant) -> Vec<(PeerId, Block)> {
        self.uplink.advance(now);
        let left = self.uplink.take_left();
        for (peer, block) in &left {
            self.sent += u64::from(block.length);
            match &mut self.brain {
                Brain::Ours { uploader, .. } => uploader.sent(now, *peer, block.length),
                Brain::Naive(naive) => naive.sent(*peer),
            }
        }
        left
    }

    /// Sends on their way whatever may go now.
    pub(super) fn pump(&mut self, now: Instant) {
        if self.peer.conduct == Conduct::Stalls {
            return;
        }
        self.uplink.advance(now);
        loop {
            let next = match &mut self.brain {
                Brain::Ours { download, uploader } => {
                    uploader.next(now, &View(download)).map(|upload| (upload.peer, upload.block))
                }
                Brain::Naive(naive) => naive.next(),
            };
            let Some((peer, block)) = next else { return };
            self.uplink.flows.entry(peer).or_default().push_back((block, f64::from(block.length)));
        }
    }

    /// When to look at this node again though nothing comes.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let machines = match &self.brain {
            Brain::Ours { download, uploader } => [download.deadline(), uploader.deadline(now)],
            Brain::Naive(_) => [None, None],
        };
        machines.into_iter().chain([self.haves_due, self.uplink.next_at()]).flatten().min()
    }

    /// Whether the download machine's own time has come.
    pub(super) fn is_timer_due(&self, now: Instant) -> bool {
        match &self.brain {
            Brain::Ours { download, .. } => download.deadline().is_some_and(|at| at <= now),
            Brain::Naive(_) => false,
        }
    }
}

impl Brain {
    fn new(policy: Policy, size: u64, have: Bitfield, mut rng: ChaCha12Rng) -> Self {
        match policy {
            Policy::Ours => Self::Ours {
                uploader: Box::new(Uploader::new(QUEUE_LIMIT, ChaCha12Rng::seed_from_u64(rng.next_u64()))),
                download: Box::new(Download::new(size, have, rng)),
            },
            Policy::Naive => Self::Naive(Box::new(Naive::new(size, have, rng))),
        }
    }
}

/// What a download knows of its swarm.
struct View<'a>(&'a Download);

impl Swarms for View<'_> {
    fn copies(&self, _file: FileId, piece: PieceIndex) -> u32 {
        self.0.leechers_with(piece)
    }

    fn lacks(&self, peer: PeerId, _file: FileId) -> bool {
        self.0.serves(peer)
    }

    fn shuns(&self, peer: PeerId, _file: FileId) -> bool {
        self.0.shuns(peer)
    }

    fn seeds(&self, _file: FileId) -> Option<u32> {
        self.0.is_finished().then(|| self.0.have().len())
    }
}

impl Uplink {
    /// Bytes a second of each flow.
    fn share(&self) -> f64 {
        self.bytes_per_s / f64::from(u32::try_from(self.flows.len()).unwrap_or(u32::MAX))
    }

    /// Lets the first block of each flow go on.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.advanced).as_secs_f64();
        self.advanced = now;
        let moved = self.share() * passed;
        for (_, rest) in self.flows.values_mut().filter_map(VecDeque::front_mut) {
            *rest -= moved;
        }
    }

    /// Blocks that have left; no more than the first of each flow, if it is called at every [`Uplink::next_at`].
    fn take_left(&mut self) -> Vec<(PeerId, Block)> {
        let mut left = Vec::new();
        for (peer, flow) in &mut self.flows {
            let Some((block, rest)) = flow.front_mut() else { continue };
            // A nanosecond is the clock's grain.
            if *rest <= 1.0 {
                left.push((*peer, *block));
                flow.pop_front();
            }
        }
        self.flows.retain(|_, flow| !flow.is_empty());
        left
    }

    fn next_at(&self) -> Option<Instant> {
        let least =
            self.flows.values().filter_map(|flow| flow.front()).map(|(_, rest)| *rest).min_by(f64::total_cmp)?;
        Some(self.advanced + Duration::from_secs_f64((least / self.share()).max(0.0)))
    }
}
