//! A snapshot between two trackers: offered by the one that has forgotten what the other lacks, fetched by that one.

use std::{collections::BTreeMap, sync::Arc};

use super::sync_link::{SyncError, SyncTask, missing_pages};
use crate::{
    protocol::{
        ids::ManifestId,
        limits::MAX_BATCH_BYTES,
        sync::{SnapshotCursor, SnapshotPage, SyncMessage},
        version::{Timestamp, VersionVector},
    },
    replica::anti_entropy::Event,
};

/// The side that has it.
impl SyncTask<'_> {
    /// Offers what is forgotten here as it is now; one that is still to be fetched stays on offer.
    pub(super) async fn offer_snapshot(&mut self) -> Result<(), SyncError> {
        let is_fetched = |folded| self.machine.confirmed().includes(folded);
        if self.snapshot.as_ref().is_none_or(|reader| is_fetched(&reader.past().folded)) {
            let store = Arc::clone(&self.node.store);
            self.snapshot = Some(Arc::new(self.node.env.offload(move || store.snapshot()).await?));
            tracing::info!(tracker = %self.no, "lacks what is forgotten here: a snapshot is offered");
        }
        if let Some(past) = self.snapshot.as_ref().map(|reader| reader.past().clone()) {
            self.say(&SyncMessage::SnapshotOffer { folded: past.folded, latest: past.latest });
        }
        Ok(())
    }

    pub(super) async fn send_snapshot(&mut self, after: Option<SnapshotCursor>) -> Result<(), SyncError> {
        let Some(reader) = self.snapshot.clone() else { return Ok(()) };
        let page = self.node.env.offload(move || reader.page(after, MAX_BATCH_BYTES)).await?;
        self.say(&SyncMessage::Snapshot(page));
        Ok(())
    }
}

/// The side that lacks it.
impl SyncTask<'_> {
    /// Fetches the snapshot, unless one is being fetched; then the offer comes again.
    pub(super) async fn take_offer(&mut self, folded: VersionVector, latest: Timestamp) -> Result<(), SyncError> {
        if self.durable_includes(&folded) {
            return self.handle(Event::NothingNew).await;
        }
        let fetching = *self.node.state().forgetting.fetching.get_or_insert(self.link_no);
        if fetching == self.link_no && !self.inbox.is_fetching() {
            self.inbox.expect_snapshot(folded, latest)?;
            self.say(&SyncMessage::GetSnapshot { after: None });
        }
        Ok(())
    }

    pub(super) async fn take_snapshot_page(&mut self, page: SnapshotPage) -> Result<(), SyncError> {
        let missing: BTreeMap<ManifestId, Vec<u32>> =
            missing_pages(self.node, page.kept.iter().map(|kept| &kept.change)).await?;
        let missing_of = |id: ManifestId| missing.get(&id).cloned().unwrap_or_default();
        let next = self.inbox.receive_snapshot(page, |manifest| missing_of(manifest.id()))?;
        self.ask_pages();
        if let Some(after) = next {
            self.say(&SyncMessage::GetSnapshot { after: Some(after) });
        }
        self.install_when_whole().await
    }

    /// Takes the snapshot in, once it and the manifest pages that it needs are there.
    pub(super) async fn install_when_whole(&mut self) -> Result<(), SyncError> {
        let Some(snapshot) = self.inbox.take_snapshot() else { return Ok(()) };
        tracing::trace!(target: "coverage", reached = "replica: snapshot taken in");
        let installed = self.node.install(snapshot).await;
        self.node.state().forgetting.fetching = None;
        installed.map_err(|_| SyncError::Stopping)
    }
}
