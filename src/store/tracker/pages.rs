//! Manifest pages: immutable, addressed by their manifest's hash, beside the log and not in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use redb::{ReadableDatabase as _, Table, TableDefinition};

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

    /// These pages, in their order, as long as they have no more than `most_bytes` together, yet the first at least; `None`
    /// for one that is not here.
    pub fn pages(&self, wanted: &[(ManifestId, u32)], most_bytes: usize) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let (mut pages, mut bytes) = (Vec::new(), 0);
        for (manifest, page) in wanted {
            let found = table.get((&manifest.0, *page))?.map(|found| found.value().to_vec());
            bytes += found.as_ref().map_or(0, Vec::len);
            if bytes > most_bytes && !pages.is_empty() {
                break;
            }
            pages.push(found);
        }
        Ok(pages)
    }

    /// A page; `None` when it is not here.
    pub fn page(&self, manifest: &ManifestId, page: u32) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.pages(&[(*manifest, page)], usize::MAX)?.pop().flatten())
    }

    /// Pages that are not here, ascending, of each manifest that lacks any; `counts` says how many each has.
    pub fn missing_pages(
        &self,
        counts: &BTreeMap<ManifestId, u32>,
    ) -> Result<BTreeMap<ManifestId, Vec<u32>>, StoreError> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut all = BTreeMap::new();
        for (manifest, count) in counts {
            let mut missing: BTreeSet<u32> = (0..*count).collect();
            for entry in table.range((&manifest.0, 0)..(&manifest.0, *count))? {
                missing.remove(&entry?.0.value().1);
            }
            if !missing.is_empty() {
                all.insert(*manifest, missing.into_iter().collect());
            }
        }
        Ok(all)
    }

    /// Manifests after one of which pages are here, ascending, at most `most`. Looks at one page of each.
    pub fn manifests(&self, after: Option<ManifestId>, most: usize) -> Result<Vec<ManifestId>, StoreError> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let (mut manifests, mut last) = (Vec::new(), after);
        while manifests.len() < most {
            let after = last.as_ref().map_or(Bound::Unbounded, |last| Bound::Excluded((&last.0, u32::MAX)));
            let next = table.range::<(&[u8; 32], u32)>((after, Bound::Unbounded))?.next().transpose()?;
            let Some(manifest) = next.map(|(key, _)| ManifestId(*key.value().0)) else { break };
            manifests.push(manifest);
            last = Some(manifest);
        }
        Ok(manifests)
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
        let counts = BTreeMap::from([(manifest, 3), (ManifestId([4; 32]), 1), (ManifestId([5; 32]), 0)]);
        assert_eq!(store.missing_pages(&counts).unwrap(), BTreeMap::from([(manifest, vec![0, 2])]));
        assert_eq!(store.page(&manifest, 1).unwrap().as_deref(), Some(b"one".as_slice()));
        assert_eq!(store.page(&manifest, 0).unwrap(), None);
    }

    #[test]
    fn pages_are_read_in_their_order_as_far_as_they_fit() {
        let store = store();
        store.put_pages(&[page(3, 0, b"page"), page(3, 1, b"gape"), page(5, 7, b"last")]).unwrap();
        let wanted = [(3, 1), (4, 0), (3, 0), (5, 7)].map(|(manifest, page)| (ManifestId([manifest; 32]), page));
        let all = [Some(b"gape".to_vec()), None, Some(b"page".to_vec()), Some(b"last".to_vec())];
        assert_eq!(store.pages(&wanted, 12).unwrap(), all);
        assert_eq!(store.pages(&wanted, 11).unwrap(), all[..3]);
        assert_eq!(store.pages(&wanted, 0).unwrap(), all[..1]);
        assert_eq!(store.pages(&[], 0).unwrap(), []);
    }

    #[test]
    fn manifests_are_told_in_parts() {
        let store = store();
        store.put_pages(&[page(3, 0, b"page"), page(3, 1, b"page"), page(5, 7, b"page"), page(6, 0, b"page")]).unwrap();
        let manifest = |number| ManifestId([number; 32]);
        assert_eq!(store.manifests(None, 2).unwrap(), [manifest(3), manifest(5)]);
        assert_eq!(store.manifests(Some(manifest(5)), 2).unwrap(), [manifest(6)]);
        assert_eq!(store.manifests(Some(manifest(6)), 2).unwrap(), []);
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
