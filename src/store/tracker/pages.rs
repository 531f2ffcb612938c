//! Manifest pages: immutable, addressed by their manifest's hash, beside the log and not in memory.

use std::{collections::BTreeSet, ops::Bound};

use redb::{ReadableDatabase as _, ReadableTable as _, Table, TableDefinition};

use super::{StoreError, TrackerStore};
use crate::protocol::ids::ManifestId;

/// Manifest and page → the page's bytes, checked before they came here.
pub(super) const TABLE: TableDefinition<(&[u8; 32], u32), &[u8]> = TableDefinition::new("manifest_pages");

/// A page of a manifest, with what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestPage {
    /// The manifest.
    pub manifest: ManifestId,
    /// The page, from 0.
    pub page: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl TrackerStore {
    /// Writes pages, which the caller has checked against their manifests. One fsync for them all.
    pub fn put_pages(&self, pages: &[ManifestPage]) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for ManifestPage { manifest, page, bytes } in pages {
                table.insert((&manifest.0, *page), bytes.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// A page; `None` when it is not here.
    pub fn page(&self, manifest: &ManifestId, page: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Ok(table.get((&manifest.0, page))?.map(|bytes| bytes.value().to_vec()))
    }

    /// Pages of a manifest of `count` that are not here, ascending.
    pub fn missing_pages(&self, manifest: &ManifestId, count: u32) -> Result<Vec<u32>, StoreError> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut missing: BTreeSet<u32> = (0..count).collect();
        for entry in table.range((&manifest.0, 0)..(&manifest.0, count))? {
            missing.remove(&entry?.0.value().1);
        }
        Ok(missing.into_iter().collect())
    }
}

impl TrackerStore {
    /// Drops the pages of these manifests. One fsync.
    pub fn drop_pages(&self, manifests: &[ManifestId]) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for manifest in manifests {
                drop_of(&mut table, manifest)?;
            }
        }
        Ok(transaction.commit()?)
    }
}

type Pages<'a> = Table<'a, (&'static [u8; 32], u32), &'static [u8]>;

fn drop_of(table: &mut Pages<'_>, manifest: &ManifestId) -> Result<(), StoreError> {
    Ok(table.retain_in((&manifest.0, 0)..=(&manifest.0, u32::MAX), |_, _| false)?)
}

/// Drops the pages of manifests other than these: offered once and never shared. Looks at one page of each manifest.
pub(super) fn retain(table: &mut Pages<'_>, manifests: &BTreeSet<ManifestId>) -> Result<(), StoreError> {
    let mut last: Option<ManifestId> = None;
    loop {
        let after = last.as_ref().map_or(Bound::Unbounded, |last| Bound::Excluded((&last.0, u32::MAX)));
        let next = table.range::<(&[u8; 32], u32)>((after, Bound::Unbounded))?.next().transpose()?;
        let Some(manifest) = next.map(|(key, _)| ManifestId(*key.value().0)) else { return Ok(()) };
        if !manifests.contains(&manifest) {
            drop_of(table, &manifest)?;
        }
        last = Some(manifest);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::store, *};

    fn page(manifest: u8, page: u32, bytes: &[u8]) -> ManifestPage {
        ManifestPage { manifest: ManifestId([manifest; 32]), page, bytes: bytes.to_vec() }
    }

    #[test]
    fn missing_pages_are_those_not_written() {
        let (store, manifest) = (store(), ManifestId([3; 32]));
        store.put_pages(&[page(3, 1, b"one"), page(4, 0, b"other")]).unwrap();
        assert_eq!(store.missing_pages(&manifest, 3).unwrap(), [0, 2]);
        assert_eq!(store.missing_pages(&manifest, 0).unwrap(), [] as [u32; 0]);
        assert_eq!(store.page(&manifest, 1).unwrap().as_deref(), Some(b"one".as_slice()));
        assert_eq!(store.page(&manifest, 0).unwrap(), None);
    }

    #[test]
    fn pages_never_shared_go_at_the_next_start() {
        let store = store();
        store.put_pages(&[page(3, 0, b"page"), page(3, 1, b"page"), page(5, 7, b"page")]).unwrap();
        store.replay(|_| {}).unwrap();
        assert_eq!(store.page(&ManifestId([3; 32]), 0).unwrap(), None);
        assert_eq!(store.page(&ManifestId([3; 32]), 1).unwrap(), None);
        assert_eq!(store.page(&ManifestId([5; 32]), 7).unwrap(), None);
    }

    #[test]
    fn pages_of_other_manifests_stay() {
        let store = store();
        store.put_pages(&[3, 4, 5].map(|manifest| page(manifest, 0, b"page"))).unwrap();
        store.drop_pages(&[ManifestId([4; 32])]).unwrap();
        let has = |manifest| store.page(&ManifestId([manifest; 32]), 0).unwrap().is_some();
        assert_eq!([3, 4, 5].map(has), [true, false, true]);
    }
}
