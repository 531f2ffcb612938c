//! Received pieces on their way through hash and disk, and the whole file's SHA-1 that follows in file order.
//!
//! SHA-1 waits on itself: two of them side by side cost a core little more than one ([`update_both`]). So the job that checks
//! a piece takes the whole file's hash along wherever the next piece in file order is at hand: the checked piece itself,
//! or one checked before. A second job begins only where pieces pile up.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;

use super::{
    downloads::Run,
    hub::{Hub, Input},
};
use crate::{
    protocol::{
        bitfield::Bitfield,
        error::{ErrorCode, Failure},
        hash::{FileHash, PieceHash},
        ids::FileId,
        manifest::Manifest,
        piece::PieceIndex,
    },
    store::content::{ContentError, Partial},
    swarm::download::Event as Happening,
};

/// Verified pieces kept in memory for the whole file's hash, counted from the first it lacks.
const AHEAD: u32 = 48;
/// Pieces read back and hashed into the whole file's hash at once.
const STRIDE: u32 = 16;
/// Pieces that wait for each job under way before another begins.
const PILE: usize = 8;

/// The bytes of a piece, in the blocks they came in.
type Parts = Vec<Bytes>;

/// What became of a received piece.
pub(super) enum Checked {
    /// Right, and written.
    Verified(Parts),
    /// Not what the manifest says.
    Corrupt,
    /// Right, but it could not be written.
    Unwritten(ContentError),
}

/// What a job reports.
pub(super) struct Hashed {
    checked: Option<(PieceIndex, Checked)>,
    followed: Option<io::Result<(FileHash, u32)>>,
}

/// The queue of one download, and how far the whole file's hash has come.
pub(super) struct Hashing {
    /// Received and not yet checked; the first in the file goes first, so that the whole file's hash waits least.
    waiting: BTreeMap<PieceIndex, Parts>,
    running: usize,
    /// `None` while a job has it.
    hash: Option<FileHash>,
    /// First piece it lacks.
    next: u32,
    /// Verified pieces soon to come, so that they need not be read again.
    kept: BTreeMap<u32, Parts>,
}

/// What one job does.
struct Job {
    check: Option<(PieceIndex, Parts)>,
    follow: Option<(FileHash, Follow)>,
}

/// How a job takes the whole file's hash further.
enum Follow {
    /// With the piece it checks, should that be right.
    Own,
    /// With a piece that is in memory.
    Kept(u32, Parts),
    /// With pieces to be read back: the first, and how many.
    Stretch(u32, u32),
}

impl Hashing {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new(), running: 0, hash: Some(FileHash::default()), next: 0, kept: BTreeMap::new() }
    }

    /// The next job, as soon as there is one and room for it; `have` are the pieces verified.
    fn next_job(&mut self, have: &Bitfield) -> Option<Job> {
        if self.waiting.len() < (PILE * self.running).max(1) {
            return self.catch_up(have);
        }
        let (piece, parts) = self.waiting.pop_first()?;
        let own = || Some(Follow::Own).filter(|_| piece.0 == self.next);
        let follow = self.hash.as_ref().and_then(|_| own().or_else(|| self.kept.remove_entry(&self.next).map(kept)));
        self.running += 1;
        Some(Job { check: Some((piece, parts)), follow: follow.and_then(|follow| Some((self.hash.take()?, follow))) })
    }

    /// A job for the whole file's hash alone: where no piece comes to take it along, or its next one must be read.
    fn catch_up(&mut self, have: &Bitfield) -> Option<Job> {
        let is_idle = self.waiting.is_empty() && self.running == 0;
        let is_kept = self.kept.contains_key(&self.next);
        if !have.has(PieceIndex(self.next)) || is_kept && !is_idle {
            return None;
        }
        let hash = self.hash.take()?;
        self.running += 1;
        if let Some(entry) = self.kept.remove_entry(&self.next) {
            return Some(Job { check: None, follow: Some((hash, kept(entry))) });
        }
        let there = |piece: &u32| have.has(PieceIndex(*piece)) && !self.kept.contains_key(piece);
        let count = (self.next..self.next + STRIDE).take_while(there).zip(1..).last().map_or(0, |(_, count)| count);
        Some(Job { check: None, follow: Some((hash, Follow::Stretch(self.next, count))) })
    }

    /// Keeps a verified piece that will soon be its turn.
    fn keep(&mut self, piece: PieceIndex, parts: Parts) {
        if (self.next..self.next + AHEAD).contains(&piece.0) {
            self.kept.insert(piece.0, parts);
        }
    }
}

fn kept((piece, parts): (u32, Parts)) -> Follow {
    Follow::Kept(piece, parts)
}

impl Job {
    /// Does it: hashes, and writes a piece that is right.
    fn run(self, manifest: &Manifest, partial: &Partial) -> Hashed {
        match (self.check, self.follow) {
            (Some((piece, parts)), Some((hash, Follow::Own))) => {
                let mut ahead = hash.clone();
                let found = hash_beside(manifest, piece, &parts, Some((&mut ahead, &parts)));
                let checked = write(manifest, partial, piece, parts, found);
                let followed = match checked {
                    Checked::Verified(_) => (ahead, piece.0 + 1),
                    _ => (hash, piece.0),
                };
                Hashed { checked: Some((piece, checked)), followed: Some(Ok(followed)) }
            }
            (Some((piece, parts)), Some((mut hash, Follow::Kept(next, others)))) => {
                let found = hash_beside(manifest, piece, &parts, Some((&mut hash, &others)));
                let checked = write(manifest, partial, piece, parts, found);
                Hashed { checked: Some((piece, checked)), followed: Some(Ok((hash, next + 1))) }
            }
            (check, follow) => {
                let checked = check.map(|(piece, parts)| {
                    let found = hash_beside(manifest, piece, &parts, None);
                    (piece, write(manifest, partial, piece, parts, found))
                });
                Hashed { checked, followed: follow.map(|(hash, follow)| follow.alone(hash, partial)) }
            }
        }
    }
}

impl Follow {
    fn alone(self, mut hash: FileHash, partial: &Partial) -> io::Result<(FileHash, u32)> {
        match self {
            Self::Own => unreachable!("a job follows its own piece only while it checks it"),
            Self::Kept(piece, parts) => {
                for part in &parts {
                    hash.update(part);
                }
                Ok((hash, piece + 1))
            }
            Self::Stretch(first, count) => {
                for piece in first..first + count {
                    hash.update(&partial.read(PieceIndex(piece))?);
                }
                Ok((hash, first + count))
            }
        }
    }
}

fn hash_beside(
    manifest: &Manifest,
    piece: PieceIndex,
    parts: &[Bytes],
    beside: Option<(&mut FileHash, &[Bytes])>,
) -> PieceHash {
    let count = manifest.header().piece_count();
    let slices = || parts.iter().map(|part| &part[..]);
    match beside {
        Some((hash, others)) => PieceHash::of_beside(piece, count, slices(), hash, others.iter().map(|part| &part[..])),
        None => PieceHash::of(piece, count, slices()),
    }
}

fn write(manifest: &Manifest, partial: &Partial, piece: PieceIndex, parts: Parts, found: PieceHash) -> Checked {
    if manifest.pieces().get(piece.0 as usize) != Some(&found) {
        return Checked::Corrupt;
    }
    match partial.write(piece, parts.iter().map(|part| &part[..])) {
        Ok(()) => Checked::Verified(parts),
        Err(error) => Checked::Unwritten(error),
    }
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
        let seams = Arc::clone(&self.seams);
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        let run = transfer.run(file);
        let Some(active) = transfer.active.as_mut() else { return };
        while let Some(job) = active.hashing.next_job(active.machine.have()) {
            let (seams, manifest, partial) = (Arc::clone(&seams), Arc::clone(&active.manifest), active.partial.clone());
            self.seams.env.spawn(async move {
                let permit = seams.hashes.acquire().await;
                let hashed = seams.env.offload(move || job.run(&manifest, &partial)).await;
                drop(permit);
                seams.report(Input::Hashed { run, hashed }).await;
            });
        }
    }

    pub(super) fn hashed(&mut self, run: Run, hashed: Hashed) {
        let Some(active) = self.running(run) else { return };
        let hashing = &mut active.hashing;
        hashing.running -= 1;
        match hashed.followed {
            Some(Ok((hash, next))) => (hashing.hash, hashing.next) = (Some(hash), next),
            Some(Err(error)) => return self.pause(run.file, Some(error.into())),
            None => {}
        }
        match hashed.checked {
            Some((piece, Checked::Verified(parts))) => {
                hashing.keep(piece, parts);
                active.unsaved = true;
                self.feed(run.file, Happening::Verified { piece });
                self.queue_have(run.file, piece);
                self.progressed(run.file);
            }
            Some((piece, Checked::Corrupt)) => self.feed(run.file, Happening::Corrupt { piece }),
            Some((_, Checked::Unwritten(error))) => return self.pause(run.file, Some(error)),
            None => {}
        }
        self.advance(run.file);
    }

    /// Takes the whole file's hash further; at the end of the file, gives it its name.
    pub(super) fn advance(&mut self, file: FileId) {
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        let (run, expected) = (transfer.run(file), transfer.record.manifest.sha1);
        let Some(active) = transfer.active.as_mut() else { return };
        if active.hashing.next < active.machine.have().len() {
            return self.hash_on(file);
        }
        let Some(hash) = active.hashing.hash.take_if(|_| !active.placing) else { return };
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
    use std::collections::VecDeque;

    use super::*;

    /// Pieces come in `order`, jobs end in the order they began; returns the whole's hash, and how many pieces it took
    /// beside a check.
    fn follow(order: &[u32]) -> (FileHash, usize) {
        let (mut hashing, mut have) = (Hashing::new(), Bitfield::empty(u32::try_from(order.len()).unwrap()));
        let (mut arriving, mut jobs, mut beside) = (order.iter(), VecDeque::new(), 0);
        loop {
            if let Some(piece) = arriving.next() {
                let parts = vec![Bytes::copy_from_slice(&piece.to_le_bytes())];
                hashing.waiting.insert(PieceIndex(*piece), parts);
            }
            while let Some(job) = hashing.next_job(&have) {
                jobs.push_back(job);
            }
            let Some(Job { check, follow }) = jobs.pop_front() else { break };
            hashing.running -= 1;
            beside += usize::from(check.is_some() && follow.is_some());
            if let Some((mut hash, follow)) = follow {
                let (first, count) = match follow {
                    Follow::Own => (check.as_ref().unwrap().0.0, 1),
                    Follow::Kept(piece, _) => (piece, 1),
                    Follow::Stretch(first, count) => (first, count),
                };
                (first..first + count).for_each(|piece| hash.update(&piece.to_le_bytes()));
                (hashing.hash, hashing.next) = (Some(hash), first + count);
            }
            if let Some((piece, parts)) = check {
                hashing.keep(piece, parts);
                have.insert(piece);
            }
        }
        assert_eq!((hashing.next, hashing.running), (have.len(), 0));
        (hashing.hash.unwrap(), beside)
    }

    fn in_order(count: u32) -> FileHash {
        let mut hash = FileHash::default();
        (0..count).for_each(|piece| hash.update(&piece.to_le_bytes()));
        hash
    }

    #[test]
    fn the_whole_is_hashed_in_file_order_whatever_the_pieces_come_in() {
        let orders: [Vec<u32>; 4] =
            [(0..100).collect(), (0..100).rev().collect(), (0..100).map(|i| i ^ 3).collect(), vec![]];
        for order in orders {
            let count = u32::try_from(order.len()).unwrap();
            assert_eq!(follow(&order).0.finish(), in_order(count).finish(), "{order:?}");
        }
    }

    #[test]
    fn pieces_in_order_are_all_hashed_beside_their_check() {
        assert_eq!(follow(&(0..100).collect::<Vec<_>>()).1, 100);
    }
}
