//! What changes of shares and downloads, on its way to the database: in order, one batch at a time, off the hub's path.

use std::{mem, sync::Arc};

use redb::Database;
use tokio::sync::oneshot;

use super::hub::{Hub, Input};
use crate::{
    protocol::ids::FileId,
    store::client::{
        downloads::{self, DownloadRecord},
        manifests::TableResult,
        shares::{self, ShareRecord},
    },
};

/// Changes that wait, and whether a batch is being written.
#[derive(Default)]
pub(super) struct Ledger {
    waiting: Vec<Change>,
    writing: bool,
}

enum Change {
    Download(Box<DownloadRecord>),
    ForgetDownload(FileId),
    Share(Box<ShareRecord>),
    ForgetShare(FileId),
    /// All before it is durable.
    Tell(oneshot::Sender<()>),
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

    /// Tells when all that was recorded before is durable.
    pub(super) fn tell_recorded(&mut self, reply: oneshot::Sender<()>) {
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
        let batch = mem::take(&mut self.ledger.waiting);
        let seams = Arc::clone(&self.seams);
        self.seams.env.spawn(async move {
            let database = Arc::clone(&seams.database);
            seams.env.offload(move || apply_all(&database, batch)).await;
            seams.report(Input::Recorded).await;
        });
    }

    pub(super) fn recorded(&mut self) {
        self.ledger.writing = false;
        self.write_batch();
    }

    /// On the way out: writes what waits.
    pub(super) async fn record_rest(&mut self) {
        let batch = mem::take(&mut self.ledger.waiting);
        let database = Arc::clone(&self.seams.database);
        self.seams.env.offload(move || apply_all(&database, batch)).await;
    }
}

fn apply_all(database: &Database, batch: Vec<Change>) {
    for change in batch {
        if let Err(error) = apply(database, change) {
            tracing::error!(%error, "the client's database failed");
        }
    }
}

fn apply(database: &Database, change: Change) -> TableResult<()> {
    match change {
        Change::Download(record) => downloads::update(database, &record),
        Change::ForgetDownload(file) => downloads::remove(database, &file),
        Change::Share(record) => shares::update(database, [&*record]),
        Change::ForgetShare(file) => shares::remove(database, &file),
        Change::Tell(reply) => {
            // Who asked may have gone.
            let _ = reply.send(());
            Ok(())
        }
    }
}
