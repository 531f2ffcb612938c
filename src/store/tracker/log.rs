//! The log: every change known and not forgotten, by origin and counter.

use std::ops::Bound;

use redb::{ReadableDatabase as _, ReadableTableMetadata as _, TableDefinition};

use super::{StoreError, TrackerStore, fold};
use crate::mutant::Mutant;
use crate::protocol::{
    ids::DeviceKey,
    record::{Change, Kept},
    version::Dot,
};

/// Origin and counter → the change (MessagePack, fields by their places: a new field comes last and has a default).
pub(super) const TABLE: TableDefinition<(&[u8; 32], u64), &[u8]> = TableDefinition::new("changes");

impl TrackerStore {
    /// Appends changes: one transaction and one fsync for them all.
    pub fn append(&self, changes: &[Change]) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for change in changes {
                table.insert((&change.dot.origin.0, change.dot.counter), encode(change).as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Hands every change to `take`, those of one origin in order.
    pub fn read(&self, take: impl FnMut(Kept)) -> Result<(), StoreError> {
        self.read_after(None, usize::MAX, take).map(|_| ())
    }

    /// Number of changes.
    pub fn count(&self) -> Result<usize, StoreError> {
        let count = self.database.begin_read()?.open_table(TABLE)?.len()?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Hands changes after one to `take`, those of one origin in order, at most `most`; returns the last of them.
    pub fn read_after(
        &self,
        after: Option<Dot>,
        most: usize,
        mut take: impl FnMut(Kept),
    ) -> Result<Option<Dot>, StoreError> {
        let transaction = self.database.begin_read()?;
        let verdicts = transaction.open_table(fold::VERDICTS)?;
        let has_verdicts = !verdicts.is_empty()?;
        let after = after.as_ref().map_or(Bound::Unbounded, |dot| Bound::Excluded((&dot.origin.0, dot.counter)));
        let (log, mut last) = (transaction.open_table(TABLE)?, None);
        for entry in log.range::<(&[u8; 32], u64)>((after, Bound::Unbounded))?.take(most) {
            let (dot, change) = entry?;
            let change = decode(change.value())?;
            last = Some(change.dot);
            let bits = if has_verdicts { verdicts.get(dot.value())? } else { None };
            take(Kept { change, verdict: bits.map(|bits| fold::verdict(bits.value())) });
        }
        Ok(last)
    }

    /// Changes of `origin` after one counter and up to another, in order: at least one if there is any, and otherwise no more
    /// than `most_bytes`.
    pub fn changes(
        &self,
        origin: &DeviceKey,
        after: u64,
        up_to: u64,
        most_bytes: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for entry in table.range((&origin.0, after + 1)..=(&origin.0, up_to))? {
            let (_, value) = entry?;
            bytes += value.value().len();
            if bytes > most_bytes && !changes.is_empty() {
                break;
            }
            changes.push(decode(value.value())?);
        }
        if Mutant::WithholdChange.is_on() {
            changes.retain(|change: &Change| !change.dot.counter.is_multiple_of(5));
        }
        Ok(changes)
    }
}

pub(super) fn encode(change: &Change) -> Vec<u8> {
    rmp_serde::to_vec(change).expect("a change holds only plain values")
}

pub(super) fn decode(bytes: &[u8]) -> Result<Change, StoreError> {
    rmp_serde::from_slice(bytes).map_err(|_| StoreError::Damaged("changes"))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::{super::tests::store, *};
    use crate::protocol::{
        ids::{RequestId, TrackerNo, UserId},
        name::GroupName,
        record::ChangeBody,
        version::Timestamp,
    };

    pub(in super::super) fn change(origin: u8, counter: u64) -> Change {
        let name = GroupName::parse(&format!("g{origin}-{counter}")).unwrap();
        Change {
            dot: Dot { origin: DeviceKey([origin; 32]), counter },
            at: Timestamp { wall_ms: counter, logical: 0 },
            taken_by: TrackerNo(1),
            request: RequestId([7; 32]),
            body: ChangeBody::GroupCreated { name, owner: UserId([1; 32]) },
        }
    }

    #[test]
    fn the_log_replays_each_origin_in_order() {
        let store = store();
        store.append(&[change(2, 1), change(1, 1)]).unwrap();
        store.append(&[change(1, 2)]).unwrap();
        let mut seen = Vec::new();
        store.read(|kept| seen.push(kept.change)).unwrap();
        assert_eq!(seen, [change(1, 1), change(1, 2), change(2, 1)]);
    }

    #[test]
    fn what_another_lacks_is_read_in_parts() {
        let store = store();
        let all: Vec<_> = [1, 2].into_iter().flat_map(|o| (1..=5).map(move |c| change(o, c))).collect();
        store.append(&all).unwrap();
        let origin = DeviceKey([1; 32]);
        assert_eq!(store.changes(&origin, 1, 4, 1 << 20).unwrap(), all[1..4]);
        assert_eq!(store.changes(&origin, 1, 4, 1).unwrap(), all[1..2]);
        assert_eq!(store.changes(&origin, 5, 5, 1).unwrap(), []);
    }

    #[test]
    fn the_log_is_read_in_parts() {
        let store = store();
        let all: Vec<_> = [1, 2].into_iter().flat_map(|o| (1..=3).map(move |c| change(o, c))).collect();
        store.append(&all).unwrap();
        let (mut read, mut last) = (Vec::new(), None);
        loop {
            let newest = store.read_after(last, 4, |kept| read.push(kept)).unwrap();
            if newest.is_none() {
                break;
            }
            last = newest;
        }
        assert!(read.iter().map(|kept| &kept.change).eq(&all));
        assert_eq!(store.read_after(Some(all[1].dot), 2, |_| ()).unwrap(), Some(all[3].dot));
    }

    proptest! {
        #[test]
        fn a_damaged_record_is_told_and_not_skipped(bytes in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index) {
            let mut cut = encode(&change(1, 2));
            cut.truncate(at.index(cut.len()));
            for damaged in [bytes, cut] {
                let store = store();
                store.append(&[change(1, 1)]).unwrap();
                let transaction = store.database.begin_write().unwrap();
                transaction.open_table(TABLE).unwrap().insert((&[1; 32], 2), damaged.as_slice()).unwrap();
                transaction.commit().unwrap();
                let told = store.read(|_| {});
                prop_assert!(matches!(told, Err(StoreError::Damaged("changes"))), "{told:?}");
                let read = store.changes(&DeviceKey([1; 32]), 1, 2, 1 << 20);
                prop_assert!(matches!(read, Err(StoreError::Damaged("changes"))));
            }
        }
    }
}
