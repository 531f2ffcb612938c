//! A tracker's durable state: its secret, the log of changes and what is forgotten of it, manifest pages, known trackers.
//!
//! Every write is one redb transaction, and its commit is the fsync: what a function here says it wrote stays. The device
//! secret rests beside the log it numbers, so that whoever loses the log loses the origin with it: no counter is ever reused.

mod fold;
mod known;
mod log;
mod pages;
pub mod public_key;
mod secret;

pub use fold::{Forget, Past, SnapshotReader};
pub use pages::ManifestPage;
use redb::Database;

/// A tracker's durable state. All calls block: they belong in `Environment::offload`.
pub struct TrackerStore {
    database: Database,
}

/// Why the durable state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database or the disk below it failed.
    #[error(transparent)]
    Database(Box<redb::Error>),
    /// A record is not what this program wrote.
    #[error("the {0} table holds a damaged record")]
    Damaged(&'static str),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

impl TrackerStore {
    /// The state in `database`, which may be new.
    pub fn new(database: Database) -> Result<Self, StoreError> {
        let transaction = database.begin_write()?;
        transaction.open_table(secret::TABLE)?;
        transaction.open_table(log::TABLE)?;
        transaction.open_table(pages::TABLE)?;
        transaction.open_table(known::TABLE)?;
        transaction.open_table(fold::FOLDED)?;
        transaction.open_table(fold::VERDICTS)?;
        transaction.open_table(fold::TOMBSTONES)?;
        transaction.commit()?;
        Ok(Self { database })
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// An empty store that is gone with the test.
    pub(super) fn store() -> TrackerStore {
        TrackerStore::new(Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()).unwrap()
    }
}
