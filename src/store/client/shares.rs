//! Table of shares: what this device serves whole, so that it comes back at the next login.

use std::path::PathBuf;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

use super::manifests::{self, TableResult};
use crate::{
    protocol::{
        ids::{FileId, GroupId, UserId},
        manifest::{Manifest, ManifestHeader},
        name::{FileName, GroupName},
    },
    store::disk::FileStamp,
};

/// File id → MessagePack of [`ShareRecord`].
const SHARES: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("shares");

/// A share as it rests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRecord {
    /// Who shares it: another account on this device does not.
    pub user: UserId,
    /// The group.
    pub group: GroupId,
    /// What the group was last called.
    pub group_name: GroupName,
    /// The file.
    pub file: FileId,
    /// What the file was last called in the group.
    pub name: FileName,
    /// Where it lies.
    #[serde(with = "super::path")]
    pub path: PathBuf,
    /// What it was when it was hashed: while it is that, it need not be hashed again.
    pub stamp: FileStamp,
    /// Its manifest's header; the pages rest in their own table.
    pub manifest: ManifestHeader,
    /// Bytes served since it was first shared.
    pub uploaded: u64,
    /// Whether a tracker has acknowledged it; if not, it is shared at the next chance.
    pub acknowledged: bool,
}

/// Every share, by file. A record that cannot be read is left out: a newer version wrote it.
pub fn list(database: &Database) -> TableResult<Vec<ShareRecord>> {
    let transaction = database.begin_write()?;
    transaction.open_table(SHARES)?;
    transaction.commit()?;
    let table = database.begin_read()?.open_table(SHARES)?;
    let mut records = Vec::new();
    for entry in table.iter()? {
        records.extend(rmp_serde::from_slice(entry?.1.value()));
    }
    Ok(records)
}

/// Keeps a share with its whole manifest.
pub fn put(database: &Database, record: &ShareRecord, manifest: &Manifest) -> TableResult<()> {
    let transaction = database.begin_write()?;
    manifests::put(&transaction, &record.file, manifest)?;
    transaction.open_table(SHARES)?.insert(&record.file.0, encode(record).as_slice())?;
    Ok(transaction.commit()?)
}

/// Keeps what has changed of shares whose manifests are there.
pub fn update<'a>(database: &Database, records: impl IntoIterator<Item = &'a ShareRecord>) -> TableResult<()> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(SHARES)?;
        for record in records {
            table.insert(&record.file.0, encode(record).as_slice())?;
        }
    }
    Ok(transaction.commit()?)
}

/// Forgets a share.
pub fn remove(database: &Database, file: &FileId) -> TableResult<()> {
    let transaction = database.begin_write()?;
    transaction.open_table(SHARES)?.remove(&file.0)?;
    if !super::downloads::is_kept(&transaction, file)? {
        manifests::remove(&transaction, file)?;
    }
    Ok(transaction.commit()?)
}

/// Whether a share of `file` is kept.
pub(super) fn is_kept(transaction: &redb::WriteTransaction, file: &FileId) -> TableResult<bool> {
    Ok(transaction.open_table(SHARES)?.get(&file.0)?.is_some())
}

fn encode(record: &ShareRecord) -> Vec<u8> {
    rmp_serde::to_vec_named(record).expect("a record holds only plain values")
}

/// Keeps bytes that may be no share.
#[cfg(test)]
pub(super) fn put_raw(transaction: &redb::WriteTransaction, file: &[u8; 32], bytes: &[u8]) {
    transaction.open_table(SHARES).unwrap().insert(file, bytes).unwrap();
}
