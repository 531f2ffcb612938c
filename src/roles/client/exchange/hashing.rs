//! Received pieces on their way through hash and disk, and the whole file's SHA-1 that follows in file order.
//!
//! ```text
//! waiting ──► summed: SHA-1 of the piece, and beside it of the whole ──► settled: BLAKE3, write ──► verified
//! ```
//!
//! SHA-1 waits on itself: that of the whole file costs a core little more beside others ([`Sha1Hash::of_each_beside`]). So the job
//! that sums pieces takes the whole file's hash along wherever what is next in file order is at hand: those very pieces, some summed
//! before, or verified ones, which it reads again. Where pieces pile up a job takes many, which cost less still. One such job runs at a
//! time, and another only where even more wait; a second core settles what the first has summed, one job at a time too: two writers of
//! one file only wait for each other.

use std::{
    collections::{BTreeMap, VecDeque},
    io, mem,
    sync::Arc,
};

use bytes::BytesMut;

use super::{
    Seams,
    downloads::Run,
    hub::{Hub, Input},
    kept::Parts,
    room::Held,
};
use crate::{
    mutant::Mutant,
    protocol::{
        bitfield::Bitfield,
        error::{ErrorCode, Failure},
        hash::{Blake3Hash, FileHash, PieceSums, Sha1Hash},
        ids::FileId,
        manifest::Manifest,
        piece::PieceIndex,
    },
    store::content::{ContentError, Partial},
    swarm::download::Event as Happening,
};

/// Summed pieces kept in memory for the hashes of whole files: of those summed last, which are the first that these lack.
const AHEAD: u32 = 32;
/// Pieces of the whole file's hash done at once where no piece is summed beside it.
const STRIDE: usize = 16;
/// Pieces that one job takes: handing each over on its own costs more than it gains.
const BATCH: usize = 2;
/// Pieces that wait when a job takes as many as are summed side by side.
const MANY: usize = Sha1Hash::TOGETHER / 2;
/// Pieces that wait for each job under way before another begins.
const PILE: usize = Sha1Hash::TOGETHER * 3 / 2;

/// Pieces in memory.
type Pieces = BTreeMap<PieceIndex, Parts>;

/// What became of a received piece.
pub(super) enum Checked {
    /// Right, and written.
    Verified(Parts),
    /// Not what the manifest says.
    Corrupt,
    /// What the manifest says by SHA-1 only.
    Forged,
    /// Right, but it could not be written.
    Unwritten(ContentError),
}

/// What a job reports.
pub(super) enum Hashed {
    /// Which of its pieces have the SHA-1 they should have, and which do not.
    Summed { right: Pieces, corrupt: Vec<PieceIndex>, follower: Option<Follower> },
    /// What the whole file's hash lacks could not be read again.
    Unread(io::Error),
    /// What became of pieces in the end.
    Settled(Vec<(PieceIndex, Checked)>),
}

/// The queue of one download, and how far the whole file's hash has come.
pub(super) struct Hashing {
    /// Received and not yet summed; the first in the file goes first, so that the whole file's hash waits least.
    waiting: Pieces,
    /// Jobs that sum.
    running: usize,
    /// `None` while a job has it.
    follower: Option<Follower>,
    /// Summed without the follower, while a job had it.
    kept: Pieces,
    /// Those summed last, whether or not they are in memory: where pieces come in no order, the first that it lacks comes late, and
    /// what was kept for it would be for nothing.
    latest: VecDeque<PieceIndex>,
    /// Summed, and to be settled by the next job that does so.
    right: Pieces,
    settling: bool,
    /// A forged piece may be in the whole file's hash, which begins anew.
    spoiled: bool,
    /// Pieces kept here.
    ahead: Held,
}

/// SHA-1 of the whole file as it follows in file order.
pub(super) struct Follower {
    hash: FileHash,
    /// First piece it lacks.
    next: PieceIndex,
    /// Summed pieces soon to come, so that they need not be read again.
    kept: Pieces,
    /// Pieces that were read again; their memory serves for the next ones.
    read: BTreeMap<PieceIndex, BytesMut>,
}

/// What one job does before it reports.
struct Job {
    pieces: Pieces,
    follower: Option<Follower>,
    /// What the follower goes on by: pieces in memory, and verified ones that it reads again.
    coming: Vec<PieceIndex>,
}

impl Hashing {
    pub(super) fn new(ahead: Held) -> Self {
        Self {
            ahead,
            waiting: Pieces::new(),
            running: 0,
            follower: Some(Follower::new()),
            kept: Pieces::new(),
            latest: VecDeque::new(),
            right: Pieces::new(),
            settling: false,
            spoiled: false,
        }
    }

    /// The next job, as soon as there is one and room for it; `have` are the pieces verified.
    fn next_job(&mut self, have: &Bitfield) -> Option<Job> {
        let is_due = self.waiting.len() >= (PILE * self.running).max(1);
        let job = if is_due { Some(self.sum(have)) } else { self.catch_up(have) };
        self.running += usize::from(job.is_some());
        job
    }

    /// A job takes twice as many pieces of the whole along as it sums: others, that go without it, may sum as many meanwhile.
    fn sum(&mut self, have: &Bitfield) -> Job {
        let most = if self.waiting.len() < MANY { BATCH } else { Sha1Hash::TOGETHER };
        let pieces = take(&mut self.waiting, most);
        let coming = self.coming(&pieces, have, 2 * pieces.len());
        let follower = self.follower.take_if(|_| !coming.is_empty());
        Job { pieces, follower, coming }
    }

    /// A job for the whole file's hash alone, where no piece comes to take it along.
    fn catch_up(&mut self, have: &Bitfield) -> Option<Job> {
        if !self.waiting.is_empty() || self.running > 0 {
            return None;
        }
        let pieces = Pieces::new();
        let coming = self.coming(&pieces, have, STRIDE);
        let follower = self.follower.take_if(|_| !coming.is_empty())?;
        Some(Job { pieces, follower: Some(follower), coming })
    }

    fn coming(&self, pieces: &Pieces, have: &Bitfield, most: usize) -> Vec<PieceIndex> {
        self.follower.as_ref().map(|follower| follower.coming(pieces, have, most)).unwrap_or_default()
    }

    /// A job has summed these, which are right.
    fn summed(&mut self, right: Pieces, follower: Option<Follower>) {
        self.running -= 1;
        self.latest.extend(right.keys());
        let most = self.ahead.left_of(AHEAD as usize);
        self.latest.drain(..self.latest.len().saturating_sub(most));
        if follower.is_none() {
            self.kept.extend(right.clone());
            self.kept.retain(|piece, _| self.latest.contains(piece));
        }
        self.right.extend(right);
        if let Some(follower) = follower {
            self.follower = Some(if mem::take(&mut self.spoiled) { Follower::new() } else { follower });
        }
        if let Some(follower) = &mut self.follower {
            follower.kept.append(&mut self.kept);
            follower.forget(&self.latest);
        }
        // What a job has with it is among the latest.
        self.ahead.set(self.follower.as_ref().map_or(self.latest.len(), |follower| follower.kept.len()));
    }

    /// What to settle next, unless a job is at it.
    fn begin_settling(&mut self) -> Option<Pieces> {
        if self.settling || self.right.is_empty() {
            return None;
        }
        self.settling = true;
        Some(take(&mut self.right, MANY))
    }

    /// A piece that was summed is forged.
    fn spoil(&mut self) {
        self.kept.clear();
        match &mut self.follower {
            Some(follower) => *follower = Follower::new(),
            None => self.spoiled = true,
        }
    }

    /// The whole file's hash, once every piece is in it.
    fn whole(&mut self, pieces: u32) -> Option<FileHash> {
        self.follower.take_if(|follower| follower.next.0 == pieces).map(|follower| follower.hash)
    }
}

impl Follower {
    fn new() -> Self {
        Self { hash: FileHash::default(), next: PieceIndex(0), kept: Pieces::new(), read: BTreeMap::new() }
    }

    /// What comes next of the whole, as far as it is in memory, among these or verified.
    fn coming(&self, pieces: &Pieces, have: &Bitfield, most: usize) -> Vec<PieceIndex> {
        let is_there =
            |piece: &PieceIndex| self.kept.contains_key(piece) || pieces.contains_key(piece) || have.has(*piece);
        (self.next.0..).map(PieceIndex).take_while(is_there).take(most).collect()
    }

    /// All before `next` is in the hash, which has become `hash`.
    fn skip_to(&mut self, next: PieceIndex, hash: FileHash) {
        self.kept = self.kept.split_off(&next);
        (self.next, self.hash) = (next, hash);
    }

    /// Keeps those that it lacks.
    fn keep<'a>(&mut self, pieces: impl Iterator<Item = (&'a PieceIndex, &'a Parts)>) {
        let lacking = pieces.filter(|(piece, _)| **piece >= self.next);
        self.kept.extend(lacking.map(|(piece, parts)| (*piece, parts.clone())));
    }

    /// Reads those that are in memory neither here nor among `pieces`, into the memory of those read before.
    fn read(
        &mut self,
        coming: &[PieceIndex],
        pieces: &Pieces,
        read: &mut impl FnMut(PieceIndex, BytesMut) -> io::Result<BytesMut>,
    ) -> io::Result<()> {
        let mut memory = mem::take(&mut self.read).into_values();
        for piece in coming.iter().filter(|piece| !self.kept.contains_key(piece) && !pieces.contains_key(piece)) {
            self.read.insert(*piece, read(*piece, memory.next().unwrap_or_default())?);
        }
        Ok(())
    }

    /// The bytes of a piece that is coming.
    fn bytes<'a>(&'a self, piece: PieceIndex, pieces: &'a Pieces) -> Vec<&'a [u8]> {
        let parts = self.kept.get(&piece).or_else(|| pieces.get(&piece));
        match parts {
            Some(parts) => slices(parts).collect(),
            None => self.read.get(&piece).into_iter().map(|bytes| &bytes[..]).collect(),
        }
    }

    /// Forgets what is behind, or too far ahead to be kept, or was not among the latest.
    fn forget(&mut self, latest: &VecDeque<PieceIndex>) {
        let soon = self.next..PieceIndex(self.next.0.saturating_add(AHEAD));
        self.kept.retain(|piece, _| soon.contains(piece) && latest.contains(piece));
    }
}

impl Job {
    fn sum(mut self, manifest: &Manifest, partial: &Partial) -> Hashed {
        let expected = |piece: PieceIndex| manifest.pieces().get(piece.0 as usize).map(|expected| expected.sha1);
        let checked = match self.check(expected, |piece, memory| partial.read_into(piece, memory)) {
            Ok(checked) => checked,
            Err(error) => return Hashed::Unread(error),
        };
        let (mut right, mut corrupt) = (Pieces::new(), Vec::new());
        for ((piece, parts), is_right) in self.pieces.into_iter().zip(checked) {
            if is_right || Mutant::SkipVerify.is_on() {
                right.insert(piece, parts);
            } else {
                corrupt.push(piece);
            }
        }
        Hashed::Summed { right, corrupt, follower: self.follower }
    }

    /// Whether each piece has the SHA-1 that it should have, in order; takes the follower along.
    fn check(
        &mut self,
        expected: impl Fn(PieceIndex) -> Option<Sha1Hash>,
        mut read: impl FnMut(PieceIndex, BytesMut) -> io::Result<BytesMut>,
    ) -> io::Result<Vec<bool>> {
        let Self { pieces, follower, coming } = self;
        let mut sums = PieceSums::new(pieces.len());
        let mut whole = follower.as_ref().map(|follower| follower.hash.clone()).unwrap_or_default();
        // Block by block, so that little of what is read again is in memory at a time.
        let steps = pieces.values().map(Vec::len).max().unwrap_or(coming.len()).max(1);
        let mut ahead = coming.chunks(coming.len().div_ceil(steps).max(1));
        for step in 0..steps {
            let block = |parts| slices(parts).skip(step).take(1).collect();
            let blocks: Vec<Vec<&[u8]>> = pieces.values().map(block).collect();
            let ahead = ahead.next().unwrap_or_default();
            let mut others = Vec::new();
            if let Some(follower) = follower {
                follower.read(ahead, pieces, &mut read)?;
                others.extend(ahead.iter().flat_map(|piece| follower.bytes(*piece, pieces)));
            }
            sums.update_beside(&blocks, &mut whole, others.into_iter());
        }
        let checked: Vec<bool> =
            pieces.keys().zip(sums.finish()).map(|(piece, found)| Some(found) == expected(*piece)).collect();
        if let Some(follower) = follower {
            let is_spoiled = |(piece, is_right): (&PieceIndex, &bool)| !is_right && coming.contains(piece);
            if let Some(last) = coming.last().filter(|_| !pieces.keys().zip(&checked).any(is_spoiled)) {
                follower.skip_to(after(*last), whole);
            }
            follower.keep(pieces.iter().zip(&checked).filter(|(_, is_right)| **is_right).map(|(piece, _)| piece));
        }
        Ok(checked)
    }
}

/// The first pieces, at most so many.
fn take(pieces: &mut Pieces, most: usize) -> Pieces {
    (0..most).map_while(|_| pieces.pop_first()).collect()
}

/// The rest of the check, and the write.
fn settle(manifest: &Manifest, partial: &Partial, piece: PieceIndex, parts: Parts) -> Checked {
    let found = Blake3Hash::of_piece(piece, manifest.header().piece_count(), slices(&parts));
    let is_right = manifest.pieces().get(piece.0 as usize).is_some_and(|expected| expected.blake3 == found);
    if !is_right && !Mutant::SkipVerify.is_on() && !Mutant::SkipBlake3.is_on() {
        return Checked::Forged;
    }
    match partial.write(piece, slices(&parts)) {
        Ok(()) => Checked::Verified(parts),
        Err(error) => Checked::Unwritten(error),
    }
}

fn settle_all(manifest: &Manifest, partial: &Partial, pieces: Pieces) -> Vec<(PieceIndex, Checked)> {
    pieces.into_iter().map(|(piece, parts)| (piece, settle(manifest, partial, piece, parts))).collect()
}

/// Does a piece of work off the hub, and reports.
fn work(seams: &Arc<Seams>, run: Run, work: impl FnOnce() -> Hashed + Send + 'static) {
    let ours = Arc::clone(seams);
    seams.env.spawn(async move {
        let permit = ours.hashes.acquire().await;
        let hashed = ours.env.offload(work).await;
        drop(permit);
        ours.report(Input::Hashed { run, hashed }).await;
    });
}

fn slices(parts: &Parts) -> impl Iterator<Item = &[u8]> {
    parts.iter().map(|part| &part[..])
}

fn after(piece: PieceIndex) -> PieceIndex {
    PieceIndex(piece.0 + 1)
}

impl Hub {
    /// Hashes and writes a piece, all of whose blocks are there.
    pub(super) fn verify(&mut self, file: FileId, piece: PieceIndex) {
        let Some(active) = self.active(file) else { return };
        let parts = active.buffers.take(piece);
        active.hashing.waiting.insert(piece, parts);
        self.hash_on(file);
    }

    /// Begins as many jobs as there is work and room for.
    fn hash_on(&mut self, file: FileId) {
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        let run = transfer.run(file);
        let Some(active) = transfer.active.as_mut() else { return };
        while let Some(job) = active.hashing.next_job(active.machine.have()) {
            let (manifest, partial) = (Arc::clone(&active.manifest), active.partial.clone());
            work(&self.seams, run, move || job.sum(&manifest, &partial));
        }
        if let Some(pieces) = active.hashing.begin_settling() {
            let (manifest, partial) = (Arc::clone(&active.manifest), active.partial.clone());
            work(&self.seams, run, move || Hashed::Settled(settle_all(&manifest, &partial, pieces)));
        }
    }

    pub(super) fn hashed(&mut self, run: Run, hashed: Hashed) {
        let Some(active) = self.running(run) else { return };
        match hashed {
            Hashed::Summed { right, corrupt, follower } => {
                active.hashing.summed(right, follower);
                for piece in corrupt {
                    self.settled(run, piece, Checked::Corrupt);
                }
            }
            Hashed::Unread(error) => return self.pause(run.file, Some(error.into())),
            Hashed::Settled(settled) => {
                active.hashing.settling = false;
                for (piece, checked) in settled {
                    self.settled(run, piece, checked);
                }
            }
        }
        self.advance(run.file);
    }

    fn settled(&mut self, run: Run, piece: PieceIndex, checked: Checked) {
        let Some(active) = self.running(run) else { return };
        match checked {
            Checked::Verified(parts) => {
                active.unsaved = true;
                self.keep_received(run.file, piece, parts);
                self.feed(run.file, Happening::Verified { piece });
                self.queue_have(run.file, piece);
                self.progressed(run.file);
            }
            Checked::Corrupt => self.feed(run.file, Happening::Corrupt { piece }),
            Checked::Forged => {
                active.hashing.spoil();
                self.feed(run.file, Happening::Corrupt { piece });
            }
            Checked::Unwritten(error) => self.pause(run.file, Some(error)),
        }
    }

    /// Takes the whole file's hash further; at the end of the file, gives it its name.
    pub(super) fn advance(&mut self, file: FileId) {
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        let (run, expected) = (transfer.run(file), transfer.record.manifest.sha1);
        let Some(active) = transfer.active.as_mut() else { return };
        let is_ready = active.machine.have().is_full() && !active.placing;
        let whole = is_ready.then(|| active.hashing.whole(active.machine.have().len())).flatten();
        let Some(hash) = whole else {
            return self.hash_on(file);
        };
        (active.placing, active.unsaved) = (true, false);
        if hash.finish() == expected {
            self.give_name(run);
        } else if std::mem::replace(&mut transfer.doubted, true) {
            let message = "Every piece is what the manifest says, but the whole is not what its SHA-1 says: whoever \
                           shared it described it wrongly. Ask them to share it again.";
            self.fail(file, Failure::new(ErrorCode::Integrity, message));
        } else {
            // Pieces verified earlier were changed on disk since: they are found and fetched again.
            tracing::warn!(?file, "the whole file is not what it should be: its pieces are read again");
            self.end_run(file);
            self.open(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::roles::client::exchange::room::Room;

    fn parts(piece: u32) -> Parts {
        vec![Bytes::copy_from_slice(&piece.to_le_bytes())]
    }

    #[expect(clippy::unnecessary_wraps, reason = "a disk may fail")]
    fn read(piece: PieceIndex, mut memory: BytesMut) -> io::Result<BytesMut> {
        memory.clear();
        memory.extend_from_slice(&piece.0.to_le_bytes());
        Ok(memory)
    }

    fn sha1(piece: u32) -> Sha1Hash {
        Sha1Hash::of([piece.to_le_bytes().as_slice()])
    }

    /// Pieces come in `order`, so many at a time, each settled as soon as it is summed; returns the whole's hash, and how many
    /// pieces were taken along while others were summed.
    fn follow(order: &[u32], at_once: usize, forged: &[u32]) -> (Sha1Hash, usize) {
        let (mut hashing, mut have) =
            (Hashing::new(Room::default().enter()), Bitfield::empty(u32::try_from(order.len()).unwrap()));
        let (mut arriving, mut again, mut beside) = (order.chunks(at_once), forged.chunks(at_once), 0);
        let mut to_forge = forged.to_vec();
        loop {
            let mut fetched_again = || if hashing.waiting.is_empty() { again.next() } else { None };
            let arrived = arriving.next().or_else(&mut fetched_again).unwrap_or_default();
            hashing.waiting.extend(arrived.iter().map(|piece| (PieceIndex(*piece), parts(*piece))));
            let Some(mut job) = hashing.next_job(&have) else { break };
            let checked = job.check(|piece| Some(sha1(piece.0)), read).unwrap();
            assert!(checked.iter().all(|is_right| *is_right));
            let Job { pieces, follower, coming } = job;
            beside += if pieces.is_empty() { 0 } else { coming.len() };
            hashing.summed(pieces.clone(), follower);
            for piece in pieces.into_keys() {
                if let Some(index) = to_forge.iter().position(|forged| *forged == piece.0) {
                    to_forge.remove(index);
                    hashing.spoil();
                } else {
                    have.insert(piece);
                }
            }
        }
        assert_eq!(hashing.running, 0);
        assert!(have.is_full());
        (hashing.whole(have.len()).unwrap().finish(), beside)
    }

    /// One job more.
    fn go_on(follower: &mut Follower, pieces: &Pieces, have: &Bitfield) -> Vec<bool> {
        let it = mem::replace(follower, Follower::new());
        let coming = it.coming(pieces, have, 2 * pieces.len().max(1));
        let mut job = Job { pieces: pieces.clone(), follower: Some(it), coming };
        let checked = job.check(|piece| Some(sha1(piece.0)), read).unwrap();
        *follower = job.follower.unwrap();
        checked
    }

    fn in_order(count: u32) -> Sha1Hash {
        let pieces: Vec<_> = (0..count).map(u32::to_le_bytes).collect();
        Sha1Hash::of(pieces.iter().map(<[u8; 4]>::as_slice))
    }

    #[test]
    fn the_whole_is_hashed_in_file_order_whatever_the_pieces_come_in() {
        let orders: [Vec<u32>; 4] =
            [(0..100).collect(), (0..100).rev().collect(), (0..100).map(|i| i ^ 3).collect(), vec![]];
        for (order, at_once) in orders.iter().flat_map(|order| [1, 3, 40].map(|at_once| (order, at_once))) {
            let count = u32::try_from(order.len()).unwrap();
            assert_eq!(follow(order, at_once, &[]).0, in_order(count), "{order:?}, {at_once} at once");
            if count > 0 {
                let found = follow(order, at_once, &[0, 7, 99]).0;
                assert_eq!(found, in_order(count), "{order:?}, {at_once} at once, some forged at first");
            }
        }
    }

    #[test]
    fn pieces_in_order_are_all_hashed_beside_their_check() {
        let order: Vec<u32> = (0..100).collect();
        assert_eq!([1, 5, 100].map(|at_once| follow(&order, at_once, &[]).1), [100; 3]);
    }

    proptest! {
        #[test]
        fn the_whole_goes_on_by_right_pieces_alone(
            order in Just((0..40).collect::<Vec<u32>>()).prop_shuffle(),
            corrupt in prop::collection::btree_set(0u32..40, 0..4),
            at_once in 1usize..20,
            is_forgetful: bool,
        ) {
            let mut follower = Follower::new();
            let mut have = Bitfield::empty(40);
            let (again, none): (Vec<u32>, _) = (corrupt.iter().copied().collect(), BTreeSet::new());
            let fetched_again = again.chunks(at_once).map(|job| (job, &none));
            for (job, corrupt) in order.chunks(at_once).map(|job| (job, &corrupt)).chain(fetched_again) {
                let sent = |piece: &u32| (PieceIndex(*piece), parts(piece + u32::from(corrupt.contains(piece))));
                let pieces: Pieces = job.iter().map(sent).collect();
                let checked = go_on(&mut follower, &pieces, &have);
                let expected: Vec<bool> = pieces.keys().map(|piece| !corrupt.contains(&piece.0)).collect();
                prop_assert_eq!(checked, expected);
                prop_assert!(follower.kept.keys().all(|piece| *piece >= follower.next));
                prop_assert_eq!(follower.hash.clone().finish(), in_order(follower.next.0));
                if is_forgetful {
                    follower.kept.clear();
                }
                for piece in job.iter().filter(|piece| !corrupt.contains(piece)) {
                    have.insert(PieceIndex(*piece));
                }
            }
            while follower.next.0 < 40 {
                go_on(&mut follower, &Pieces::new(), &have);
            }
            prop_assert_eq!((follower.next, follower.hash.finish()), (PieceIndex(40), in_order(40)));
        }
    }

    #[test]
    fn a_corrupt_piece_leaves_the_whole_as_it_was() {
        let mut follower = Follower::new();
        let mut is_right = |index, sent| {
            let pieces = Pieces::from([(PieceIndex(index), parts(sent))]);
            let checked = go_on(&mut follower, &pieces, &Bitfield::empty(10));
            (checked[0], follower.next.0)
        };
        assert_eq!([is_right(0, 7), is_right(0, 0)], [(false, 0), (true, 1)]);
        assert_eq!([is_right(2, 7), is_right(2, 2)], [(false, 1), (true, 1)]);
        assert_eq!([is_right(1, 1), is_right(9, 9)], [(true, 3), (true, 3)]);
        assert_eq!(follower.hash.finish(), in_order(3));
    }

    #[test]
    fn a_batch_is_taken_at_once_and_a_second_job_begins_where_pieces_pile_up() {
        let (mut hashing, have) = (Hashing::new(Room::default().enter()), Bitfield::empty(100));
        hashing.waiting.extend((0..3).map(|piece| (PieceIndex(piece), parts(piece))));
        let first = hashing.next_job(&have).unwrap();
        assert_eq!((first.pieces.len(), first.follower.is_some()), (BATCH, true));
        hashing.waiting.extend((3..).map(|piece| (PieceIndex(piece), parts(piece))).take(PILE - 2));
        assert!(hashing.next_job(&have).is_none());
        hashing.waiting.insert(PieceIndex(90), parts(90));
        let second = hashing.next_job(&have).unwrap();
        assert_eq!((second.pieces.len(), second.follower.is_some()), (Sha1Hash::TOGETHER, false));
    }
}
