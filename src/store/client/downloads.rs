//! Table of downloads: what was started and how far it is, so that nothing verified is fetched again.

use std::path::{Path, PathBuf};

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
    #[serde(with = "super::path")]
    pub destination: PathBuf,
    /// Where the partial file is.
    #[serde(with = "super::path")]
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
        records.extend(decode(entry?.1.value()));
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

/// Forgets what was there of a download, whose partial file is lost; false when the download itself is gone: a cancelled one does
/// not come back.
pub fn begin_anew(database: &Database, record: &DownloadRecord) -> TableResult<bool> {
    let transaction = database.begin_write()?;
    let is_kept = is_kept_at(&transaction, &record.file, &record.partial)?;
    if is_kept {
        transaction.open_table(DURABLE)?.remove(&record.file.0)?;
    }
    transaction.commit()?;
    Ok(is_kept)
}

/// Keeps what has changed of a download.
pub fn update(database: &Database, record: &DownloadRecord) -> TableResult<()> {
    let transaction = database.begin_write()?;
    transaction.open_table(DOWNLOADS)?.insert(&record.file.0, encode(record).as_slice())?;
    Ok(transaction.commit()?)
}

/// Records pieces of the partial file at `partial` that an fsync has made durable. Without effect when the download is gone, or
/// another has begun, with another partial file: its pieces are not these.
pub fn record_durable(database: &Database, file: &FileId, partial: &Path, pieces: &Bitfield) -> TableResult<()> {
    let transaction = database.begin_write()?;
    if is_kept_at(&transaction, file, partial)? {
        let bytes = rmp_serde::to_vec(pieces).expect("a bitfield holds only plain values");
        transaction.open_table(DURABLE)?.insert(&file.0, bytes.as_slice())?;
    }
    Ok(transaction.commit()?)
}

/// Forgets which pieces are durable: what is marked in the partial file is to be read again.
pub fn doubt(database: &Database, file: &FileId) -> TableResult<()> {
    let transaction = database.begin_write()?;
    transaction.open_table(DURABLE)?.remove(&file.0)?;
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

fn decode(bytes: &[u8]) -> Option<DownloadRecord> {
    rmp_serde::from_slice(bytes).ok()
}

fn is_kept_at(transaction: &WriteTransaction, file: &FileId, partial: &Path) -> TableResult<bool> {
    let kept = transaction.open_table(DOWNLOADS)?.get(&file.0)?.and_then(|bytes| decode(bytes.value()));
    Ok(kept.is_some_and(|record| record.partial == partial))
}

fn encode(record: &DownloadRecord) -> Vec<u8> {
    rmp_serde::to_vec_named(record).expect("a record holds only plain values")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        protocol::{hash::PieceHash, piece::PieceIndex},
        store::{client::shares, database::open_database, disk::SystemDisk},
    };

    fn open() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(&SystemDisk, &folder.path().join("library")).unwrap();
        shares::list(&database).unwrap();
        list(&database).unwrap();
        (folder, database)
    }

    fn manifest() -> Manifest {
        let hash = PieceHash::of(PieceIndex(0), 1, [&b"abc"[..]]);
        let (header, pages) = ManifestHeader::describe(FileName::parse("file").unwrap(), 3, hash.sha1, &[hash]);
        Manifest::assemble(header, &pages).unwrap()
    }

    fn record(partial: &str) -> DownloadRecord {
        let group = GroupId([1; 32]);
        let manifest = manifest().header().clone();
        DownloadRecord {
            user: UserId([2; 32]),
            group,
            group_name: GroupName::parse("team").unwrap(),
            file: FileId::of(&group, &manifest.id()),
            name: manifest.name.clone(),
            destination: "file".into(),
            partial: partial.into(),
            replaces: None,
            made: None,
            manifest,
            started_ms: 0,
            progress: Progress::Downloading,
        }
    }

    #[test]
    fn what_a_cancelled_download_does_late_is_without_effect() {
        let (_folder, database) = open();
        let (manifest, file) = (manifest(), record("").file);
        let save = |partial: &str| record_durable(&database, &file, Path::new(partial), &Bitfield::full(1)).unwrap();
        let is_durable = || durable(&database, &file, 1).unwrap().is_full();
        put(&database, &record("first"), &manifest).unwrap();
        assert!(begin_anew(&database, &record("first")).unwrap());
        remove(&database, &file).unwrap();
        assert!(!begin_anew(&database, &record("first")).unwrap());
        assert_eq!(list(&database).unwrap(), []);
        save("first");
        put(&database, &record("second"), &manifest).unwrap();
        save("first");
        assert!(!is_durable());
        save("second");
        assert!(is_durable());
        doubt(&database, &file).unwrap();
        assert!(!is_durable());
    }

    proptest! {
        #![proptest_config(crate::trials::trials(40))]

        #[test]
        fn a_record_that_cannot_be_read_hides_no_other(bytes in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index) {
            let (_folder, database) = open();
            let kept = record("partial");
            put(&database, &kept, &manifest()).unwrap();
            let mut cut = encode(&kept);
            cut.truncate(at.index(cut.len()));
            let transaction = database.begin_write().unwrap();
            for (key, value) in [([0; 32], &bytes), ([255; 32], &cut)] {
                transaction.open_table(DOWNLOADS).unwrap().insert(&key, value.as_slice()).unwrap();
                transaction.open_table(DURABLE).unwrap().insert(&key, value.as_slice()).unwrap();
                shares::put_raw(&transaction, &key, value);
            }
            transaction.commit().unwrap();
            prop_assert_eq!(list(&database).unwrap(), [kept]);
            prop_assert_eq!(shares::list(&database).unwrap(), []);
            for key in [[0; 32], [255; 32]] {
                prop_assert!(durable(&database, &FileId(key), 9).unwrap().is_empty());
            }
        }
    }
}
