//! What changes of shares and downloads, on its way to the database: in order, one batch at a time, off the hub's path.

use std::{mem, sync::Arc};

use redb::Database;
use tokio::sync::oneshot;

use super::{
    failure,
    hub::{Hub, Input},
};
use crate::{
    protocol::{error::Failure, ids::FileId},
    store::client::{
        downloads::{self, DownloadRecord},
        shares::{self, ShareRecord},
    },
};

/// Changes that wait, and whether a batch is being written.
#[derive(Default)]
pub(super) struct Ledger {
    waiting: Vec<Change>,
    writing: bool,
    /// What the database failed of first. It writes nothing after that, until it is opened again.
    failed: Option<Failure>,
}

enum Change {
    Download(Box<DownloadRecord>),
    ForgetDownload(FileId),
    Share(Box<ShareRecord>),
    ForgetShare(FileId),
    /// All before it is durable, or is not.
    Tell(oneshot::Sender<Result<(), Failure>>),
}

impl Hub {
    /// Records a download as it is now.
    pub(super) fn record_download(&mut self, file: FileId) {
        if let Some(transfer) = self.transfers.get(&file) {
            self.write(Change::Download(Box::new(transfer.record.clone())));
        }
    }

    pub(super) fn forget_download(&mut self, file: FileId) {
        self.write(Change::ForgetDownload(file));
    }

    /// Records a share as it is now.
    pub(super) fn record_share(&mut self, file: FileId) {
        if let Some(share) = self.shares.get(&file) {
            self.write(Change::Share(Box::new(share.record.clone())));
        }
    }

    pub(super) fn forget_share(&mut self, file: FileId) {
        self.write(Change::ForgetShare(file));
    }

    /// Tells when all that was recorded before is durable, or that it never will be.
    pub(super) fn tell_recorded(&mut self, reply: oneshot::Sender<Result<(), Failure>>) {
        self.write(Change::Tell(reply));
    }

    fn write(&mut self, change: Change) {
        self.ledger.waiting.push(change);
        self.write_batch();
    }

    fn write_batch(&mut self) {
        if self.ledger.writing || self.ledger.waiting.is_empty() {
            return;
        }
        self.ledger.writing = true;
        let (batch, failed) = (mem::take(&mut self.ledger.waiting), self.ledger.failed.clone());
        let seams = Arc::clone(&self.seams);
        self.seams.env.spawn(async move {
            let database = Arc::clone(&seams.database);
            let failed = seams.env.offload(move || apply_all(&database, batch, failed)).await;
            seams.report(Input::Recorded { failed }).await;
        });
    }

    pub(super) fn recorded(&mut self, failed: Option<Failure>) {
        (self.ledger.writing, self.ledger.failed) = (false, failed);
        self.write_batch();
    }

    /// On the way out: writes what waits.
    pub(super) async fn record_rest(&mut self) {
        let (batch, failed) = (mem::take(&mut self.ledger.waiting), self.ledger.failed.clone());
        let database = Arc::clone(&self.seams.database);
        self.seams.env.offload(move || apply_all(&database, batch, failed)).await;
    }
}

/// Returns the first failure, that of an earlier batch included.
fn apply_all(database: &Database, batch: Vec<Change>, mut failed: Option<Failure>) -> Option<Failure> {
    for change in batch {
        let result = match change {
            Change::Tell(reply) => {
                // Who asked may have gone.
                let _ = reply.send(failed.clone().map_or(Ok(()), Err));
                continue;
            }
            Change::Download(record) => downloads::update(database, &record),
            Change::ForgetDownload(file) => downloads::remove(database, &file),
            Change::Share(record) => shares::update(database, [&*record]),
            Change::ForgetShare(file) => shares::remove(database, &file),
        };
        if let Err(error) = result {
            tracing::error!(%error, "the client's database failed");
            failed.get_or_insert_with(|| failure::database(&error));
        }
    }
    failed
}
