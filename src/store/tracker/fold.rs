//! What was forgotten: the log without it, and what is left to say of it.
//!
//! The log up to the *folded* vector is the snapshot: the changes that forgetting has kept, with their verdicts, and tombstones.
//! Taking changes out and saying so is one transaction, and its commit one fsync; so is the arrival of a snapshot from another
//! tracker. Whoever loses power in between starts with all of it or with none.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{StoreError, TrackerStore, log};
use crate::protocol::{
    ids::{DeviceKey, RequestId},
    record::{Done, Kept, Tombstone, Verdict},
    sync::{Snapshot, SnapshotCursor, SnapshotPage},
    version::{Dot, Timestamp, VersionVector},
};

/// One entry: up to where changes are forgotten, and the latest stamp of them all (MessagePack).
pub(super) const FOLDED: TableDefinition<(), &[u8]> = TableDefinition::new("folded");
/// Origin and counter → what was found of a change that stays: bit 0 valid, bit 1 effective.
pub(super) const VERDICTS: TableDefinition<(&[u8; 32], u64), u8> = TableDefinition::new("verdicts");
/// Requests whose changes are forgotten → what they did (MessagePack).
pub(super) const TOMBSTONES: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("tombstones");

/// Up to where changes are forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Changes beyond this are all in the log; of these, those that are needed.
    pub folded: VersionVector,
    /// At least the latest stamp of them: where a clock goes on.
    pub latest: Timestamp,
}

/// What is to be forgotten.
#[derive(Clone, Debug, Default)]
pub struct Forget {
    /// Up to where, after this.
    pub past: Past,
    /// Changes that go.
    pub dropped: Vec<Dot>,
    /// Changes that stay, with what was found of them.
    pub settled: Vec<(Dot, Verdict)>,
    /// Requests of which no more is left than this.
    pub forgotten: Vec<Tombstone>,
    /// Requests that are forgotten for good.
    pub expired: Vec<RequestId>,
}

/// The log's snapshot as it was at one moment, whatever is forgotten meanwhile.
pub struct SnapshotReader {
    transaction: ReadTransaction,
    past: Past,
}

impl TrackerStore {
    /// Forgets: one transaction and one fsync.
    pub fn forget(&self, forget: &Forget) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            let (mut log, mut verdicts) = (transaction.open_table(log::TABLE)?, transaction.open_table(VERDICTS)?);
            for dot in &forget.dropped {
                log.remove((&dot.origin.0, dot.counter))?;
                verdicts.remove((&dot.origin.0, dot.counter))?;
            }
            for (dot, verdict) in &forget.settled {
                verdicts.insert((&dot.origin.0, dot.counter), bits(*verdict))?;
            }
            let mut tombstones = transaction.open_table(TOMBSTONES)?;
            for request in &forget.expired {
                tombstones.remove(&request.0)?;
            }
            bury(&mut tombstones, &forget.forgotten)?;
            transaction.open_table(FOLDED)?.insert((), encode(&forget.past).as_slice())?;
        }
        Ok(transaction.commit()?)
    }

    /// Up to where changes are forgotten, and the tombstones.
    pub fn past(&self) -> Result<(Past, Vec<Tombstone>), StoreError> {
        let transaction = self.database.begin_read()?;
        let mut tombstones = Vec::new();
        for entry in transaction.open_table(TOMBSTONES)?.iter()? {
            let (request, done) = entry?;
            tombstones.push(tombstone(*request.value(), done.value())?);
        }
        Ok((read_past(&transaction)?, tombstones))
    }

    /// Takes in another tracker's snapshot, where `known` is in the log: one transaction and one fsync.
    ///
    /// What either side has dropped goes, since each dropped what nobody needs; the rest of both stays.
    pub fn install(&self, snapshot: &Snapshot, known: &VersionVector) -> Result<(), StoreError> {
        let mut past = read_past(&self.database.begin_read()?)?;
        let transaction = self.database.begin_write()?;
        {
            let (mut log, mut verdicts) = (transaction.open_table(log::TABLE)?, transaction.open_table(VERDICTS)?);
            let is_dropped = |(origin, counter): (&[u8; 32], u64)| {
                let dot = Dot { origin: DeviceKey(*origin), counter };
                snapshot.folded.contains(&dot) && !snapshot.kept.contains_key(&dot)
            };
            log.retain(|dot, _| !is_dropped(dot))?;
            verdicts.retain(|dot, _| !is_dropped(dot))?;
            for (dot, kept) in &snapshot.kept {
                let key = (&dot.origin.0, dot.counter);
                if known.contains(dot) && log.get(key)?.is_none() {
                    continue;
                }
                log.insert(key, log::encode(&kept.change).as_slice())?;
                if let Some(verdict) = kept.verdict {
                    verdicts.insert(key, bits(verdict))?;
                }
            }
            bury(&mut transaction.open_table(TOMBSTONES)?, &snapshot.tombstones)?;
            past.folded.merge(&snapshot.folded);
            past.latest = past.latest.max(snapshot.latest);
            transaction.open_table(FOLDED)?.insert((), encode(&past).as_slice())?;
        }
        Ok(transaction.commit()?)
    }

    /// The snapshot as it is now, to be read page by page.
    pub fn snapshot(&self) -> Result<SnapshotReader, StoreError> {
        let transaction = self.database.begin_read()?;
        let past = read_past(&transaction)?;
        Ok(SnapshotReader { transaction, past })
    }
}

impl SnapshotReader {
    /// Up to where it tells all.
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// The entries after `after`: at least one if there is any, and otherwise no more than `most_bytes`.
    pub fn page(&self, after: Option<SnapshotCursor>, most_bytes: usize) -> Result<SnapshotPage, StoreError> {
        let mut page = SnapshotPage::default();
        let mut left = most_bytes;
        if !matches!(after, Some(SnapshotCursor::Tombstone(_))) {
            let after = match after {
                Some(SnapshotCursor::Change(dot)) => Some(dot),
                _ => None,
            };
            if self.put_changes(after, &mut left, &mut page)? {
                return Ok(page);
            }
        }
        let after = match after {
            Some(SnapshotCursor::Tombstone(request)) => Some(request),
            _ => None,
        };
        self.put_tombstones(after, &mut left, &mut page)?;
        Ok(page)
    }

    /// Adds changes; returns whether the page is full.
    fn put_changes(&self, after: Option<Dot>, left: &mut usize, page: &mut SnapshotPage) -> Result<bool, StoreError> {
        let log = self.transaction.open_table(log::TABLE)?;
        let verdicts = self.transaction.open_table(VERDICTS)?;
        for newest in self.past.folded.iter().filter(|newest| after.is_none_or(|after| newest.origin >= after.origin)) {
            let first = after.filter(|after| after.origin == newest.origin).map_or(0, |after| after.counter);
            for entry in log.range((&newest.origin.0, first + 1)..=(&newest.origin.0, newest.counter))? {
                let (key, value) = entry?;
                if !take(left, value.value().len(), !page.is_empty()) {
                    page.next = page.kept.last().map(|kept| SnapshotCursor::Change(kept.change.dot));
                    return Ok(true);
                }
                let verdict = verdicts.get(key.value())?.map(|bits| verdict(bits.value()));
                page.kept.push(Kept { change: log::decode(value.value())?, verdict });
            }
        }
        Ok(false)
    }

    fn put_tombstones(
        &self,
        after: Option<RequestId>,
        left: &mut usize,
        page: &mut SnapshotPage,
    ) -> Result<(), StoreError> {
        let table = self.transaction.open_table(TOMBSTONES)?;
        let from = after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(&after.0));
        for entry in table.range::<&[u8; 32]>((from, Bound::Unbounded))? {
            let (request, done) = entry?;
            if !take(left, done.value().len() + request.value().len(), !page.is_empty()) {
                page.next = match (page.tombstones.last(), page.kept.last()) {
                    (Some(last), _) => Some(SnapshotCursor::Tombstone(last.request)),
                    (None, last) => last.map(|kept| SnapshotCursor::Change(kept.change.dot)),
                };
                return Ok(());
            }
            page.tombstones.push(tombstone(*request.value(), done.value())?);
        }
        Ok(())
    }
}

/// Takes `bytes` off what is left, unless there are too few and something is there already.
fn take(left: &mut usize, bytes: usize, has_any: bool) -> bool {
    if bytes > *left && has_any {
        return false;
    }
    *left = left.saturating_sub(bytes);
    true
}

fn bury(table: &mut Table<'_, &'static [u8; 32], &'static [u8]>, tombstones: &[Tombstone]) -> Result<(), StoreError> {
    for tombstone in tombstones {
        table.insert(&tombstone.request.0, encode(&tombstone.done).as_slice())?;
    }
    Ok(())
}

fn read_past(transaction: &ReadTransaction) -> Result<Past, StoreError> {
    let table = transaction.open_table(FOLDED)?;
    table.get(())?.map_or_else(|| Ok(Past::default()), |bytes| decode("folded", bytes.value()))
}

fn tombstone(request: [u8; 32], done: &[u8]) -> Result<Tombstone, StoreError> {
    let done: Done = decode("tombstones", done)?;
    Ok(Tombstone { request: RequestId(request), done })
}

fn bits(verdict: Verdict) -> u8 {
    u8::from(verdict.valid) | u8::from(verdict.effective) << 1
}

pub(super) fn verdict(bits: u8) -> Verdict {
    Verdict { valid: bits & 1 != 0, effective: bits & 2 != 0 }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("what is forgotten holds only plain values")
}

fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    rmp_serde::from_slice(bytes).map_err(|_| StoreError::Damaged(table))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{
        super::{log::tests::change, tests::store},
        *,
    };
    use crate::protocol::sync::Snapshot;

    const SOUND: Verdict = Verdict { valid: true, effective: false };

    fn vector(counters: &[(u8, u64)]) -> VersionVector {
        let mut vector = VersionVector::default();
        for (origin, counter) in counters {
            vector.insert(Dot { origin: DeviceKey([*origin; 32]), counter: *counter });
        }
        vector
    }

    fn tombstone(number: u8) -> Tombstone {
        Tombstone { request: RequestId([number; 32]), done: Done::Plain }
    }

    fn kept(store: &TrackerStore) -> Vec<(u8, u64, Option<Verdict>)> {
        let mut all = Vec::new();
        let short = |kept: Kept| (kept.change.dot.origin.0[0], kept.change.dot.counter, kept.verdict);
        store.read(|kept| all.push(short(kept))).unwrap();
        all
    }

    /// Changes 1 to 5 of two origins, of which some are forgotten up to (1, 4) and (2, 2).
    fn forgetful() -> TrackerStore {
        let store = store();
        let all: Vec<_> = [1, 2].into_iter().flat_map(|o| (1..=5).map(move |c| change(o, c))).collect();
        store.append(&all).unwrap();
        let past = Past { folded: vector(&[(1, 4), (2, 2)]), latest: Timestamp { wall_ms: 9, logical: 0 } };
        let dropped = vec![all[0].dot, all[2].dot, all[5].dot];
        let settled = vec![(all[1].dot, SOUND)];
        let forgotten = (1..=3).map(tombstone).collect();
        store.forget(&Forget { past, dropped, settled, forgotten, expired: Vec::new() }).unwrap();
        store
    }

    #[test]
    fn what_is_forgotten_is_gone_and_the_rest_is_as_it_was() {
        let store = forgetful();
        let left =
            [(1, 2, Some(SOUND)), (1, 4, None), (1, 5, None), (2, 2, None), (2, 3, None), (2, 4, None), (2, 5, None)];
        assert_eq!(kept(&store), left);
        let (past, tombstones) = store.past().unwrap();
        assert_eq!((past.latest.wall_ms, tombstones), (9, (1..=3).map(self::tombstone).collect()));
        let expired = vec![RequestId([2; 32])];
        let dropped = vec![Dot { origin: DeviceKey([1; 32]), counter: 2 }];
        store.forget(&Forget { past, dropped, expired, ..Forget::default() }).unwrap();
        assert_eq!(kept(&store), left[1..]);
        assert_eq!(store.past().unwrap().1, [self::tombstone(1), self::tombstone(3)]);
    }

    #[test]
    fn a_snapshot_is_read_in_parts_whatever_is_forgotten_meanwhile() {
        let store = forgetful();
        for most_bytes in [1, 200, 500, 1 << 20] {
            let reader = store.snapshot().unwrap();
            let past = store.past().unwrap().0;
            store.forget(&Forget { past, expired: vec![RequestId([7; 32])], ..Forget::default() }).unwrap();
            let (mut after, mut dots, mut requests, mut pages) = (None, Vec::new(), Vec::new(), 0);
            loop {
                let page = reader.page(after, most_bytes).unwrap();
                dots.extend(page.kept.iter().map(|one| (one.change.dot.origin.0[0], one.change.dot.counter)));
                requests.extend(page.tombstones.iter().map(|one| one.request.0[0]));
                (after, pages) = (page.next, pages + 1);
                if after.is_none() {
                    break;
                }
            }
            assert_eq!((dots, requests), (vec![(1, 2), (1, 4), (2, 2)], vec![1, 2, 3]));
            assert_eq!(pages, if most_bytes == 1 { 6 } else { pages.min(5) });
        }
    }

    #[test]
    fn what_either_side_has_dropped_goes() {
        let store = forgetful();
        let known = vector(&[(1, 5), (2, 5)]);
        let of = |o, c, verdict| (change(o, c).dot, Kept { change: change(o, c), verdict });
        // The other side has forgotten more of origin 2, and less of origin 1, and knows a third.
        let kept_there: BTreeMap<_, _> =
            [of(1, 1, None), of(1, 2, None), of(2, 4, Some(SOUND)), of(3, 2, None)].into_iter().collect();
        let snapshot = Snapshot {
            folded: vector(&[(1, 2), (2, 4), (3, 3)]),
            latest: Timestamp { wall_ms: 7, logical: 0 },
            kept: kept_there,
            tombstones: vec![self::tombstone(8)],
        };
        for _ in 0..2 {
            store.install(&snapshot, &known).unwrap();
            let left =
                [(1, 2, Some(SOUND)), (1, 4, None), (1, 5, None), (2, 4, Some(SOUND)), (2, 5, None), (3, 2, None)];
            assert_eq!(kept(&store), left);
            let (past, tombstones) = store.past().unwrap();
            assert_eq!((past.folded, past.latest.wall_ms), (vector(&[(1, 4), (2, 4), (3, 3)]), 9));
            assert_eq!(tombstones.iter().map(|one| one.request.0[0]).collect::<BTreeSet<_>>(), [1, 2, 3, 8].into());
        }
    }
}
