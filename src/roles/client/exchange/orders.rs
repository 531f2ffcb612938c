//! What commands ask of downloads: to be shown, paused, resumed, cancelled, waited for.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::{hub::Hub, is_over, transfer::Transfer};
use crate::{
    protocol::{
        error::{ErrorCode, Failure},
        ids::FileId,
        name::{FileName, GroupName},
    },
    roles::client::command::{DownloadRow, DownloadState},
    store::client::downloads::DownloadRecord,
};

/// Somebody waits for downloads to end.
pub(super) struct Waiter {
    files: BTreeSet<FileId>,
    reply: oneshot::Sender<Result<Vec<DownloadRow>, Failure>>,
}

impl Hub {
    pub(super) fn download_rows(&self) -> Vec<DownloadRow> {
        let mut transfers: Vec<&Transfer> = self.transfers.values().collect();
        transfers.sort_by_key(|transfer| (transfer.record.started_ms, transfer.record.file));
        transfers.into_iter().map(|transfer| transfer.row(self.now)).collect()
    }

    pub(super) fn download_named(&self, group: &GroupName, name: &FileName) -> Result<FileId, Failure> {
        let named = |it: &&Transfer| it.record.group_name == *group && it.record.name == *name;
        let newest = self.transfers.values().filter(named).max_by_key(|transfer| transfer.record.started_ms);
        newest.map(|transfer| transfer.record.file).ok_or_else(|| {
            let message = format!("{name} of {group} is not among the downloads. See show_downloads.");
            Failure::new(ErrorCode::NoSuchDownload, message)
        })
    }

    pub(super) fn pause_download(&mut self, group: &GroupName, name: &FileName) -> Result<(), Failure> {
        let file = self.download_named(group, name)?;
        if self.transfers.get(&file).is_some_and(|transfer| transfer.state() == DownloadState::Downloading) {
            self.pause(file, None);
        }
        Ok(())
    }

    pub(super) fn resume_download(&mut self, group: &GroupName, name: &FileName) -> Result<(), Failure> {
        let file = self.download_named(group, name)?;
        let Some(transfer) = self.transfers.get_mut(&file) else { return Ok(()) };
        if matches!(transfer.state(), DownloadState::Paused | DownloadState::Failed) {
            transfer.banned.clear();
            self.open(file);
            self.record_download(file);
        }
        Ok(())
    }

    /// Takes a download out; its record, for what is left on disk to be removed.
    pub(super) fn cancel_download(&mut self, group: &GroupName, name: &FileName) -> Result<DownloadRecord, Failure> {
        let file = self.download_named(group, name)?;
        self.end_run(file);
        let transfer = self.transfers.remove(&file);
        self.forget_download(file);
        self.settle_waiters();
        transfer.map(|transfer| transfer.record).ok_or_else(super::stopping)
    }

    /// Registers somebody who waits for one download, or for all.
    pub(super) fn wait(
        &mut self,
        download: Option<(GroupName, FileName)>,
        reply: oneshot::Sender<Result<Vec<DownloadRow>, Failure>>,
    ) -> Result<(), Failure> {
        let files = match download {
            Some((group, name)) => BTreeSet::from([self.download_named(&group, &name)?]),
            None => self.transfers.iter().filter(|(_, it)| !it.told).map(|(file, _)| *file).collect(),
        };
        self.waiters.push(Waiter { files, reply });
        self.settle_waiters();
        Ok(())
    }

    /// Answers those whose downloads have all ended.
    pub(super) fn settle_waiters(&mut self) {
        let over = |file: &FileId| self.transfers.get(file).is_none_or(|transfer| is_over(transfer.state()));
        let done: Vec<Waiter> = self.waiters.extract_if(.., |waiter| waiter.files.iter().all(over)).collect();
        for waiter in done {
            let ended: Vec<&mut Transfer> =
                self.transfers.iter_mut().filter(|(file, _)| waiter.files.contains(file)).map(|(_, it)| it).collect();
            let mut rows = Vec::new();
            for transfer in ended {
                transfer.told = true;
                rows.push(transfer.row(self.now));
            }
            let failed = rows.iter().find_map(|row| row.error.clone());
            let _ = waiter.reply.send(failed.map_or(Ok(rows), Err));
        }
    }
}

impl Waiter {
    pub(super) fn give_up(self, failure: Failure) {
        // Who waited may have gone.
        let _ = self.reply.send(Err(failure));
    }
}
