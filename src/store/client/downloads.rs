//! Table of downloads: what was started and how far it is, so that nothing verified is fetched again.

use std::path::PathBuf;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::manifests::{self, TableResult};
use crate::{
    protocol::{
        bitfield::Bitfield,
        error::Failure,
        ids::{FileId, GroupId, UserId},
        manifest::{Manifest, ManifestHeader},
        name::{FileName, GroupName},
    },
    store::disk::FileStamp,
};

/// File id → MessagePack of [`DownloadRecord`].
const DOWNLOADS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("downloads");

/// File id → MessagePack of the bitfield of pieces known durable. Apart, for it is what changes all the time.
const DURABLE: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("download_pieces");

/// How a download stands, as it rests. The names reach disk: never to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Goes on at the next login.
    Downloading,
    /// All there, at its destination.
    Complete,
    /// Waits for `resume_download`; with the reason when it was not the user.
    Paused(Option<Failure>),
    /// Ended without the file.
    Failed(Failure),
}

/// A download as it rests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRecord {
    /// Who downloads it.
    pub user: UserId,
    /// The group.
    pub group: GroupId,
    /// What the group was last called.
    pub group_name: GroupName,
    /// The file.
    pub file: FileId,
    /// What the file was last called in the group.
    pub name: FileName,
    /// Where it will be.
    pub destination: PathBuf,
    /// Where the partial file is.
    pub partial: PathBuf,
    /// The damaged file that it replaces at the end; `None`: the destination must be free.
    pub replaces: Option<FileStamp>,
    /// What the partial file was when it was made; `None` before.
    pub made: Option<FileStamp>,
    /// Its manifest's header; the pages rest in their own table.
    pub manifest: ManifestHeader,
    /// When it was started, milliseconds since the Unix epoch: the order in listings.
    pub started_ms: u64,
    /// How it stands.
    pub progress: Progress,
}

/// Every download, oldest first. A record that cannot be read is left out: a newer version wrote it.
pub fn list(database: &Database) -> TableResult<Vec<DownloadRecord>> {
    let transaction = database.begin_write()?;
    transaction.open_table(DOWNLOADS)?;
    transaction.open_table(DURABLE)?;
    transaction.commit()?;
    let table = database.begin_read()?.open_table(DOWNLOADS)?;
    let mut records: Vec<DownloadRecord> = Vec::new();
    for entry in table.iter()? {
        records.extend(rmp_serde::from_slice::<DownloadRecord>(entry?.1.value()));
    }
    records.sort_by_key(|record| record.started_ms);
    Ok(records)
}

/// Keeps a new download with its whole manifest; nothing of it is there yet.
pub fn put(database: &Database, record: &DownloadRecord, manifest: &Manifest) -> TableResult<()> {
    let transaction = database.begin_write()?;
    manifests::put(&transaction, &record.file, manifest)?;
    transaction.open_table(DOWNLOADS)?.insert(&record.file.0, encode(record).as_slice())?;
    transaction.open_table(DURABLE)?.remove(&record.file.0)?;
    Ok(transaction.commit()?)
}

/// Keeps what has changed of a download.
pub fn update(database: &Database, record: &DownloadRecord) -> TableResult<()> {
    let transaction = database.begin_write()?;
    transaction.open_table(DOWNLOADS)?.insert(&record.file.0, encode(record).as_slice())?;
    Ok(transaction.commit()?)
}

/// Records pieces that an fsync has made durable.
pub fn record_durable(database: &Database, file: &FileId, pieces: &Bitfield) -> TableResult<()> {
    let transaction = database.begin_write()?;
    let bytes = rmp_serde::to_vec(pieces).expect("a bitfield holds only plain values");
    transaction.open_table(DURABLE)?.insert(&file.0, bytes.as_slice())?;
    Ok(transaction.commit()?)
}

/// The pieces recorded durable; none when nothing was recorded.
pub fn durable(database: &Database, file: &FileId, piece_count: u32) -> TableResult<Bitfield> {
    let table = database.begin_read()?.open_table(DURABLE)?;
    let recorded = table.get(&file.0)?.and_then(|bytes| rmp_serde::from_slice::<Bitfield>(bytes.value()).ok());
    let fitting = recorded.filter(|pieces| pieces.len() == piece_count);
    Ok(fitting.unwrap_or_else(|| Bitfield::empty(piece_count)))
}

/// Forgets a download.
pub fn remove(database: &Database, file: &FileId) -> TableResult<()> {
    let transaction = database.begin_write()?;
    transaction.open_table(DOWNLOADS)?.remove(&file.0)?;
    transaction.open_table(DURABLE)?.remove(&file.0)?;
    if !super::shares::is_kept(&transaction, file)? {
        manifests::remove(&transaction, file)?;
    }
    Ok(transaction.commit()?)
}

/// Whether a download of `file` is kept.
pub(super) fn is_kept(transaction: &WriteTransaction, file: &FileId) -> TableResult<bool> {
    Ok(transaction.open_table(DOWNLOADS)?.get(&file.0)?.is_some())
}

fn encode(record: &DownloadRecord) -> Vec<u8> {
    rmp_serde::to_vec_named(record).expect("a record holds only plain values")
}
