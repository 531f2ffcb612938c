//! A download from one peer over a long line: how much of the line is used.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tokio::time::Instant;

use super::PeerId;
use super::download::{Action, Download, Event};
use super::upload::{QUEUE_LIMIT, Swarms, Upload, Uploader};
use crate::protocol::bitfield::Bitfield;
use crate::protocol::ids::FileId;
use crate::protocol::piece::{Block, PIECE_SIZE, PieceIndex};

const FILE: FileId = FileId([1; 32]);
const SEEDER: PeerId = PeerId(1);
const LEECHER: PeerId = PeerId(2);
const BYTES_PER_S: u64 = 125_000_000;
const PIECES: u32 = 20_000;

/// A seeder with one leecher.
struct Alone;

impl Swarms for Alone {
    fn copies(&self, _file: FileId, _piece: PieceIndex) -> u32 {
        0
    }

    fn lacks(&self, _peer: PeerId, _file: FileId) -> bool {
        true
    }

    fn shuns(&self, _peer: PeerId, _file: FileId) -> bool {
        false
    }

    fn seeds(&self, _file: FileId) -> Option<u32> {
        Some(PIECES)
    }
}

enum Happening {
    Turn(Option<PieceIndex>),
    Interest(bool),
    Requests(Vec<Block>),
    /// The leecher has a block, and the seeder's sockets lose it when that is acknowledged.
    Block(Block),
    Acknowledged(u64),
}

/// A seeder and a leecher, and what is on the way between them.
struct Line {
    begin: Instant,
    now: Instant,
    delay: Duration,
    /// Bytes that the seeder's sockets hold, until they are acknowledged.
    buffers: u64,
    buffered: u64,
    /// Blocks that wait for room in the buffers.
    writing: VecDeque<Upload>,
    /// When all has left that waits before the line.
    free_at: Instant,
    /// The longest time for which something had to wait there.
    longest_wait: Duration,
    coming: BTreeMap<(Instant, u64), Happening>,
    number: u64,
    uploader: Uploader,
    download: Download,
}

impl Line {
    fn new(round_trip: Duration, buffers: u64, streams: usize) -> Self {
        let now = Instant::now();
        let mut uploader = Uploader::new(QUEUE_LIMIT, ChaCha12Rng::seed_from_u64(1));
        uploader.interest(LEECHER, FILE, true);
        uploader.distance(LEECHER, round_trip);
        uploader.widen(now, LEECHER, streams);
        let size = u64::from(PIECES) * u64::from(PIECE_SIZE);
        let download = Download::new(size, Bitfield::empty(PIECES), ChaCha12Rng::seed_from_u64(1));
        let (delay, writing, coming) = (round_trip / 2, VecDeque::new(), BTreeMap::new());
        Self {
            begin: now,
            now,
            delay,
            buffers,
            buffered: 0,
            writing,
            free_at: now,
            longest_wait: Duration::ZERO,
            coming,
            number: 0,
            uploader,
            download,
        }
    }

    fn plan(&mut self, at: Instant, happening: Happening) {
        self.number += 1;
        self.coming.insert((at, self.number), happening);
    }

    fn feed(&mut self, event: Event) {
        let mut out = Vec::new();
        self.download.handle(self.now, event, &mut out);
        let at = self.now + self.delay;
        let mut asked = Vec::new();
        for action in out {
            match action {
                Action::Request { block, .. } => asked.push(block),
                Action::Interest { interested, .. } => self.plan(at, Happening::Interest(interested)),
                Action::Verify { piece } => self.feed(Event::Verified { piece }),
                _ => {}
            }
        }
        if !asked.is_empty() {
            self.plan(at, Happening::Requests(asked));
        }
    }

    fn pump(&mut self) {
        while let Some(upload) = self.uploader.next(self.now, &Alone) {
            self.writing.push_back(upload);
        }
        while let Some(turn) = self.uploader.next_turn(self.now, &Alone) {
            // Messages wait before the line like all else.
            self.plan(self.free_at.max(self.now) + self.delay, Happening::Turn(turn.suggested));
        }
    }

    fn write(&mut self) {
        while let Some(upload) = self.writing.front().filter(|_| self.buffered < self.buffers).copied() {
            self.writing.pop_front();
            let bytes = u64::from(upload.block.length);
            self.buffered += bytes;
            self.free_at = self.free_at.max(self.now) + Duration::from_nanos(bytes * 1_000_000_000 / BYTES_PER_S);
            self.longest_wait = self.longest_wait.max(self.free_at - self.now);
            self.plan(self.free_at + self.delay, Happening::Block(upload.block));
            self.plan(self.free_at + 2 * self.delay, Happening::Acknowledged(bytes));
            self.uploader.sent(self.now, LEECHER, upload.block.length);
            self.pump();
        }
    }

    fn step(&mut self, happening: Happening) {
        match happening {
            Happening::Turn(suggested) => self.feed(Event::Unchoked { peer: SEEDER, suggested }),
            Happening::Interest(interested) => self.uploader.interest(LEECHER, FILE, interested),
            Happening::Requests(blocks) => {
                for block in blocks {
                    assert!(self.uploader.request(self.now, LEECHER, FILE, block), "there is room for what is asked");
                }
            }
            Happening::Block(block) => self.feed(Event::Received { peer: SEEDER, block }),
            Happening::Acknowledged(bytes) => self.buffered -= bytes,
        }
        self.pump();
        self.write();
    }

    /// The share of the line that is used from the third second on, and the longest time for which anything waited before the line.
    fn use_after_start(mut self) -> (f64, Duration) {
        self.feed(Event::PeerJoined { peer: SEEDER, bitfield: Bitfield::full(PIECES) });
        self.pump();
        let (from, span) = (Duration::from_secs(3), Duration::from_secs(5));
        let mut had = None;
        while let Some(((at, _), happening)) = self.coming.pop_first() {
            self.now = at;
            if at >= self.begin + from {
                had.get_or_insert_with(|| self.download.have().count());
            }
            if at >= self.begin + from + span {
                break;
            }
            self.step(happening);
        }
        let pieces = self.download.have().count() - had.unwrap_or_default();
        (f64::from(pieces) * f64::from(PIECE_SIZE) / (BYTES_PER_S as f64 * span.as_secs_f64()), self.longest_wait)
    }
}

/// The share of a line that is used, with so many MiB in the buffers of so many streams, and the longest wait before it.
fn used(round_trip_ms: u64, buffers_mib: u64, streams: usize) -> (f64, Duration) {
    Line::new(Duration::from_millis(round_trip_ms), buffers_mib << 20, streams).use_after_start()
}

#[test]
fn a_long_line_is_kept_full() {
    for (round_trip_ms, buffers_mib, streams) in [(20, 3, 1), (50, 10, 4), (50, 40, 16), (200, 40, 16)] {
        let (used, _) = used(round_trip_ms, buffers_mib, streams);
        assert!(used > 0.98, "{round_trip_ms} ms, {buffers_mib} MiB, {streams} streams: {used}");
    }
}

#[test]
fn what_the_buffers_hold_is_used_where_it_is_less() {
    let (used, _) = used(200, 10, 4);
    assert!((0.4..0.43).contains(&used), "{used}");
}

#[test]
fn no_more_is_asked_for_than_the_queue_before_a_line_holds() {
    for round_trip_ms in [50, 100, 200] {
        let (used, wait) = used(round_trip_ms, 100, 16);
        assert!(used > 0.98 && wait < Duration::from_millis(round_trip_ms), "{round_trip_ms} ms: {used}, {wait:?}");
    }
}
