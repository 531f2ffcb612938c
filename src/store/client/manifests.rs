//! Table of manifest pages: the piece hashes of what this device shares or downloads.

use redb::{Database, ReadableDatabase as _, TableDefinition, WriteTransaction};

use crate::protocol::{
    ids::FileId,
    manifest::{Manifest, ManifestHeader},
};

/// File id and page → the page's bytes.
const PAGES: TableDefinition<(&[u8; 32], u32), &[u8]> = TableDefinition::new("manifest_pages");

/// What a table's operation gives, or why it failed.
pub type TableResult<T> = Result<T, redb::Error>;

/// Reads the manifest of a file back; `None` when pages are missing or not the header's.
pub fn load(database: &Database, file: &FileId, header: &ManifestHeader) -> TableResult<Option<Manifest>> {
    let table = database.begin_read()?.open_table(PAGES)?;
    let mut pages = Vec::new();
    for page in 0..header.page_count() {
        pages.extend(table.get((&file.0, page))?.map(|bytes| bytes.value().to_vec()));
    }
    Ok(Manifest::assemble(header.clone(), &pages).ok())
}

/// Keeps the pages of a file's manifest.
pub(super) fn put(transaction: &WriteTransaction, file: &FileId, manifest: &Manifest) -> TableResult<()> {
    let mut table = transaction.open_table(PAGES)?;
    for (page, bytes) in (0..).zip(manifest.pages()) {
        table.insert((&file.0, page), bytes.as_slice())?;
    }
    Ok(())
}

/// Forgets the pages of a file's manifest.
pub(super) fn remove(transaction: &WriteTransaction, file: &FileId) -> TableResult<()> {
    let mut table = transaction.open_table(PAGES)?;
    table.retain_in((&file.0, 0)..=(&file.0, u32::MAX), |_, _| false)?;
    Ok(())
}
