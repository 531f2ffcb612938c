//! The receiving side of one link between trackers: which changes come next, and what must be there before they count.
//!
//! A change that names a manifest counts as known only when the manifest's pages are durable: until then it is staged here,
//! and what its own origin made after it waits behind it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::protocol::{
    ids::{DeviceKey, ManifestId},
    limits::MAX_ORIGINS,
    manifest::{MAX_PAGE_BYTES, ManifestError, ManifestHeader},
    record::{Change, Kept},
    sync::{Snapshot, SnapshotCursor, SnapshotPage},
    version::{Timestamp, VersionVector},
};

/// Changes staged at most; a sender keeps far below. What is beyond is dropped and comes again.
pub const MAX_STAGED: usize = 65_536;
/// Manifest pages asked for at once: many small ones, so that they share an fsync.
pub const MAX_PAGES_ASKED: usize = 4096;
/// Bytes of these at most: four of the largest.
pub const MAX_BYTES_ASKED: usize = 4 * MAX_PAGE_BYTES;

/// Why a link's sender is not to be believed: close the link and report it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// A change of an origin that no listed tracker vouches for.
    #[error("a change comes from the unknown origin {0}")]
    UnknownOrigin(DeviceKey),
    /// More origins than a cluster can have had.
    #[error("changes come from more than {MAX_ORIGINS} origins")]
    TooManyOrigins,
    /// A change beyond what the snapshot is said to tell.
    #[error("the snapshot holds a change that it should not")]
    BeyondSnapshot,
    /// A manifest that contradicts itself.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Changes staged. None: tell the link `NothingNew`.
    pub staged: usize,
    /// Some came out of order and were dropped; they come again after the next digests.
    pub gap: bool,
}

/// Changes on their way into the log.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    staged: BTreeMap<DeviceKey, VecDeque<Change>>,
    count: usize,
    /// Pages that staged changes wait for.
    missing: BTreeMap<ManifestId, Missing>,
    /// Pages asked for, with their bytes.
    asked: BTreeMap<(ManifestId, u32), usize>,
    snapshot: Option<Arriving>,
}

#[derive(Clone, Debug)]
struct Missing {
    header: ManifestHeader,
    pages: BTreeSet<u32>,
}

/// A snapshot on its way. Nothing of it counts before all of it is there, so one that breaks off leaves nothing behind.
#[derive(Clone, Debug)]
struct Arriving {
    snapshot: Snapshot,
    is_whole: bool,
}

impl Inbox {
    /// Takes a batch. `known` is all that this tracker has in its log; `is_trusted` says whether an origin's changes may enter
    /// it; `missing_pages` which pages of a manifest are not durable here.
    pub fn receive(
        &mut self,
        known: &VersionVector,
        changes: Vec<Change>,
        is_trusted: impl Fn(&DeviceKey) -> bool,
        mut missing_pages: impl FnMut(&ManifestHeader) -> Vec<u32>,
    ) -> Result<Received, InboxError> {
        let mut received = Received::default();
        for change in changes {
            self.check(known, &change, &is_trusted)?;
            let have = self.have(known, &change.dot.origin);
            if change.dot.counter > have + 1 || self.count >= MAX_STAGED {
                received.gap = true;
            } else if change.dot.counter == have + 1 {
                self.stage(change, &mut missing_pages);
                received.staged += 1;
            }
        }
        Ok(received)
    }

    /// The next manifest pages to ask the other side for; those returned count as asked.
    pub fn ask_pages(&mut self) -> Vec<(ManifestId, u32)> {
        let mut bytes: usize = self.asked.values().sum();
        let pages = self.missing.iter().flat_map(|(id, one)| one.pages.iter().map(move |page| (id, one, page)));
        let sized = pages.map(|(id, one, page)| ((*id, *page), one.header.page_bytes(*page)));
        let wanted = sized.filter(|(page, _)| !self.asked.contains_key(page));
        let fits = |(_, size): &(_, usize)| {
            bytes += size;
            bytes <= MAX_BYTES_ASKED
        };
        let open = MAX_PAGES_ASKED.saturating_sub(self.asked.len());
        let next: Vec<_> = wanted.take(open).take_while(fits).collect();
        self.asked.extend(next.iter().copied());
        next.into_iter().map(|(page, _)| page).collect()
    }

    /// Whether a page is waited for: an unasked one is not stored.
    pub fn wants_page(&self, manifest: &ManifestId, page: u32) -> bool {
        self.missing.get(manifest).is_some_and(|one| one.pages.contains(&page))
    }

    /// The header of a manifest whose pages are waited for, to check them against.
    pub fn manifest(&self, manifest: &ManifestId) -> Option<&ManifestHeader> {
        self.missing.get(manifest).map(|one| &one.header)
    }

    /// A page is durable, whichever link or client it came from.
    pub fn page_stored(&mut self, manifest: ManifestId, page: u32) {
        self.asked.remove(&(manifest, page));
        if let Some(one) = self.missing.get_mut(&manifest) {
            one.pages.remove(&page);
            if one.pages.is_empty() {
                self.missing.remove(&manifest);
            }
        }
    }

    /// Pages asked for have not come, or the other side has them not: they may be asked for again. Call it with each digest.
    pub fn forget_asked(&mut self) {
        self.asked.clear();
    }

    /// Takes out the changes that may enter the log now, of each origin in order; those another link brought first are dropped.
    ///
    /// Append them, make them durable, apply them; then tell every link what this tracker knows.
    pub fn take_ready(&mut self, known: &VersionVector) -> Vec<Change> {
        let mut ready = Vec::new();
        for (origin, staged) in &mut self.staged {
            let waits = |change: &Change| change.body.manifest().is_some_and(|(id, _)| self.missing.contains_key(&id));
            while let Some(change) = staged.pop_front_if(|change| known.contains(&change.dot) || !waits(change)) {
                self.count -= 1;
                if change.dot.counter > known.counter(origin) {
                    ready.push(change);
                }
            }
        }
        self.staged.retain(|_, staged| !staged.is_empty());
        ready
    }

    /// Counter up to which an origin's changes are in the log or staged.
    fn have(&self, known: &VersionVector, origin: &DeviceKey) -> u64 {
        let staged = self.staged.get(origin).and_then(VecDeque::back).map_or(0, |change| change.dot.counter);
        staged.max(known.counter(origin))
    }

    fn check(
        &self,
        known: &VersionVector,
        change: &Change,
        is_trusted: impl Fn(&DeviceKey) -> bool,
    ) -> Result<(), InboxError> {
        let origin = change.dot.origin;
        if !is_trusted(&origin) {
            return Err(InboxError::UnknownOrigin(origin));
        }
        let is_new = known.counter(&origin) == 0 && !self.staged.contains_key(&origin);
        if is_new && known.len() + self.staged.len() >= MAX_ORIGINS {
            return Err(InboxError::TooManyOrigins);
        }
        if let Some((_, manifest)) = change.body.manifest() {
            manifest.check()?;
        }
        Ok(())
    }

    fn stage(&mut self, change: Change, missing_pages: &mut impl FnMut(&ManifestHeader) -> Vec<u32>) {
        self.note_missing(&change, missing_pages);
        self.staged.entry(change.dot.origin).or_default().push_back(change);
        self.count += 1;
    }

    fn note_missing(&mut self, change: &Change, missing_pages: &mut impl FnMut(&ManifestHeader) -> Vec<u32>) {
        let Some((id, manifest)) = change.body.manifest() else { return };
        let pages: BTreeSet<u32> = missing_pages(manifest).into_iter().collect();
        if !pages.is_empty() {
            self.missing.insert(id, Missing { header: manifest.clone(), pages });
        }
    }
}

/// A snapshot, for a tracker that is too far behind for the log.
impl Inbox {
    /// Whether nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A snapshot is about to come, in place of one that broke off.
    pub fn expect_snapshot(&mut self, folded: VersionVector, latest: Timestamp) -> Result<(), InboxError> {
        if folded.len() > MAX_ORIGINS {
            return Err(InboxError::TooManyOrigins);
        }
        let snapshot = Snapshot { folded, latest, ..Snapshot::default() };
        self.snapshot = Some(Arriving { snapshot, is_whole: false });
        Ok(())
    }

    /// Takes the next page of it; returns after which entry to ask for more. A page that was not expected is dropped.
    pub fn receive_snapshot(
        &mut self,
        page: SnapshotPage,
        mut missing_pages: impl FnMut(&ManifestHeader) -> Vec<u32>,
    ) -> Result<Option<SnapshotCursor>, InboxError> {
        let Some(mut arriving) = self.snapshot.take() else { return Ok(None) };
        for kept in page.kept {
            let Kept { change, .. } = &kept;
            if !arriving.snapshot.folded.contains(&change.dot) {
                return Err(InboxError::BeyondSnapshot);
            }
            if let Some((_, manifest)) = change.body.manifest() {
                manifest.check()?;
            }
            self.note_missing(change, &mut missing_pages);
            arriving.snapshot.kept.insert(change.dot, kept);
        }
        arriving.snapshot.tombstones.extend(page.tombstones);
        arriving.is_whole = page.next.is_none();
        self.snapshot = Some(arriving);
        Ok(page.next)
    }

    /// Whether a snapshot is on its way.
    pub fn is_fetching(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Takes out the snapshot, once it is whole and every manifest page that it needs is durable.
    pub fn take_snapshot(&mut self) -> Option<Snapshot> {
        let waits = |arriving: &Arriving| {
            let changes = arriving.snapshot.kept.values().map(|kept| &kept.change);
            !self.missing.is_empty()
                && changes.filter_map(|change| change.body.manifest()).any(|(id, _)| self.missing.contains_key(&id))
        };
        let is_ready = self.snapshot.as_ref().is_some_and(|arriving| arriving.is_whole && !waits(arriving));
        if is_ready { self.snapshot.take().map(|arriving| arriving.snapshot) } else { None }
    }
}
