//! What this device shares whole, and whether each file still is what was shared.

use std::{path::Path, sync::Arc};

use tokio::{sync::oneshot, time::Instant};

use super::{
    Exchange, Resumed, Seams, failure,
    hub::{Hub, Input},
    members::Standing,
    transfer::Transfer,
    upload::{hash_file, share_manifest},
};
use crate::{
    protocol::{
        client::Serving,
        error::{ErrorCode, Failure},
        ids::{FileId, GroupId, UserId},
        manifest::ManifestHeader,
        name::{FileName, GroupName},
    },
    roles::client::command::{Event, ShareRow, SuspendedShare},
    store::{
        client::{
            downloads::{self, DownloadRecord, Progress},
            manifests,
            shares::{self, ShareRecord},
        },
        disk::{Disk, DiskFile, FileStamp},
    },
};

/// A file shared whole.
pub(super) struct Share {
    pub(super) record: ShareRecord,
    /// Why it is not served.
    pub(super) suspended: Option<String>,
    /// The file, open since it was last read.
    pub(super) open: Option<Arc<dyn DiskFile>>,
    read: Option<Instant>,
    uploaded_since: u64,
    /// It was found damaged although its stamp is right: only its hash clears it.
    pub(super) doubted: bool,
    /// What it was when it was last found to be wrong: no need to hash that again.
    found_wrong: Option<FileStamp>,
    /// Being looked at again, or being told to a tracker.
    checking: bool,
    acknowledging: bool,
}

impl Share {
    pub(super) fn new(record: ShareRecord, suspended: Option<String>) -> Self {
        Self {
            record,
            suspended,
            open: None,
            read: None,
            uploaded_since: 0,
            doubted: false,
            found_wrong: None,
            checking: false,
            acknowledging: false,
        }
    }

    /// What a complete download becomes.
    pub(super) fn downloaded(download: &DownloadRecord, stamp: FileStamp) -> Self {
        let record = ShareRecord {
            user: download.user,
            group: download.group,
            group_name: download.group_name.clone(),
            file: download.file,
            name: download.name.clone(),
            path: download.destination.clone(),
            stamp,
            manifest: download.manifest.clone(),
            uploaded: 0,
            acknowledged: false,
        };
        Self::new(record, None)
    }

    /// It was read through this handle.
    pub(super) fn opened(&mut self, open: Option<Arc<dyn DiskFile>>, now: Instant) {
        (self.open, self.read) = (open, Some(now));
    }

    pub(super) fn count_upload(&mut self, bytes: u32) {
        self.uploaded_since += u64::from(bytes);
    }

    fn row(&self) -> ShareRow {
        ShareRow {
            group: self.record.group_name.clone(),
            name: self.record.name.clone(),
            path: self.record.path.clone(),
            size: self.record.manifest.size,
            uploaded: self.record.uploaded + self.uploaded_since,
            suspended: self.suspended.clone(),
        }
    }

    fn suspension(&self, reason: &str) -> SuspendedShare {
        SuspendedShare {
            group: self.record.group_name.clone(),
            name: self.record.name.clone(),
            path: self.record.path.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// What rests of a user's shares and downloads.
struct Resting {
    shares: Vec<Share>,
    downloads: Vec<DownloadRecord>,
}

/// After a login: what rests comes back.
pub(super) async fn resume_all(exchange: &Exchange) -> Result<Resumed, Failure> {
    let seams = &exchange.seams;
    let user = seams.user()?;
    exchange.recorded().await?;
    let (disk, database) = (Arc::clone(&seams.env.disk), Arc::clone(&seams.database));
    let read = move || -> Result<Resting, redb::Error> {
        let mut shares = shares::list(&database)?;
        shares.retain(|record| record.user == user);
        let shares = shares.into_iter().map(|record| look_at(&*disk, record)).collect();
        let mut downloads = downloads::list(&database)?;
        downloads.retain(|record| record.user == user);
        Ok(Resting { shares, downloads })
    };
    let resting = seams.env.offload(read).await.map_err(|error| failure::database(&error))?;
    exchange.turn(move |hub| hub.log_in(user, resting)).await.ok_or_else(super::stopping)
}

/// A share as it comes back: suspended when its file is not what it was.
fn look_at(disk: &dyn Disk, record: ShareRecord) -> Share {
    let suspended = match disk.stat(&record.path) {
        Ok(found) if found.stamp == record.stamp => None,
        Ok(found) if found.stamp.size == record.stamp.size => {
            Some("it was touched, and is being hashed again".to_owned())
        }
        Ok(_) => Some("it has changed on disk".to_owned()),
        Err(error) => Some(format!("it cannot be read: {error}")),
    };
    Share::new(record, suspended)
}

/// What another look at a suspended share has shown.
pub(super) enum Recheck {
    /// It is what was shared.
    Right(FileStamp),
    /// It is not, and why; what it is, when its content was the reason.
    Wrong(String, Option<FileStamp>),
}

/// Whether the file of a share still is what was shared; hashes it again where its stamp does not tell.
async fn recheck(seams: &Arc<Seams>, record: ShareRecord, doubted: bool, known: Option<FileStamp>) -> Recheck {
    let (disk, path) = (Arc::clone(&seams.env.disk), record.path.clone());
    let found = seams.env.offload(move || disk.stat(&path)).await;
    let found = match found {
        Ok(found) => found.stamp,
        Err(error) => return Recheck::Wrong(format!("it cannot be read: {error}"), None),
    };
    if found == record.stamp && !doubted {
        return Recheck::Right(found);
    }
    let changed = || Recheck::Wrong("it has changed on disk".to_owned(), Some(found));
    if found.size != record.stamp.size || known == Some(found) {
        return changed();
    }
    let hashed = match hash_file(seams, &record.path).await {
        Ok(hashed) => hashed,
        Err(failure) => return Recheck::Wrong(failure.message, None),
    };
    let name = record.manifest.name.clone();
    let (header, _) = ManifestHeader::describe(name, hashed.stamp.size, hashed.sha1, &hashed.pieces);
    if header == record.manifest { Recheck::Right(hashed.stamp) } else { changed() }
}

impl Hub {
    fn log_in(&mut self, user: UserId, resting: Resting) -> Resumed {
        self.log_out();
        self.user = Some(user);
        let mut resumed = Resumed::default();
        for share in resting.shares {
            let file = share.record.file;
            match &share.suspended {
                None => resumed.shares += 1,
                Some(reason) => resumed.suspended.push(share.suspension(reason)),
            }
            self.shares.insert(file, share);
            self.announce_share(file);
        }
        for record in resting.downloads {
            let file = record.file;
            let goes_on = record.progress == Progress::Downloading;
            self.transfers.insert(file, Transfer::new(record, self.now));
            if goes_on {
                resumed.downloads += 1;
                self.open(file);
            }
        }
        self.recheck_shares();
        self.acknowledge_shares();
        resumed
    }

    /// Nothing is served or downloaded until the next login.
    pub(super) fn log_out(&mut self) {
        self.save_uploaded();
        let files: Vec<FileId> = self.transfers.keys().copied().collect();
        for file in files {
            self.end_run(file);
        }
        for file in self.shares.keys() {
            self.seams.tracker.end_serving(*file);
        }
        let links: Vec<_> = self.peers.links.keys().copied().collect();
        for id in links {
            self.unlinked(id);
        }
        self.user = None;
        self.transfers.clear();
        self.shares.clear();
        self.tickets.clear();
        self.tickets_doubted.clear();
        self.standing = Standing::default();
        for waiter in self.waiters.drain(..) {
            waiter.give_up(Failure::new(
                ErrorCode::NotLoggedIn,
                "The user has logged out; downloads go on after a login.",
            ));
        }
    }

    /// A membership of our own has ended.
    pub(super) fn leave_group(&mut self, group: GroupId) {
        let in_group = self.files_of(group);
        for file in in_group {
            self.end_share(file);
            self.forget_share(file);
            if self.transfers.get(&file).is_some_and(|transfer| transfer.record.progress != Progress::Complete) {
                let message = "The group was left, or its owner removed this user.";
                self.fail(file, Failure::new(ErrorCode::NotAMember, message));
            }
        }
        self.tickets.remove(&group);
        self.seams.tracker.forget_ticket(group);
    }

    /// A file is shared from now on.
    pub(super) fn add_share(&mut self, record: ShareRecord) {
        let file = record.file;
        self.shares.insert(file, Share::new(record, None));
        self.announce_share(file);
    }

    /// Tells the trackers that a share is served.
    pub(super) fn announce_share(&self, file: FileId) {
        if let Some(share) = self.shares.get(&file).filter(|share| share.suspended.is_none()) {
            self.seams.tracker.serve(Serving { group: share.record.group, file, percent: 100 });
        }
    }

    /// A file is served no more; what rests of it is for the caller to forget.
    pub(super) fn end_share(&mut self, file: FileId) {
        if self.shares.remove(&file).is_some() {
            self.server.forget(file);
            self.part_all(file, None);
            self.seams.tracker.end_serving(file);
        }
    }

    /// A shared file is not what it was: it is served no more until it is again.
    pub(super) fn suspend_share(&mut self, file: FileId, reason: &str) {
        let Some(share) = self.shares.get_mut(&file).filter(|share| share.suspended.is_none()) else { return };
        share.suspended = Some(reason.to_owned());
        share.open = None;
        let suspension = share.suspension(reason);
        self.server.forget(file);
        let failure = Failure::new(ErrorCode::FileChanged, "The file has changed on this device's disk.");
        self.part_all(file, Some(&failure));
        self.seams.tracker.end_serving(file);
        self.seams.tell(Event::ShareSuspended(suspension));
    }

    /// Looks at suspended shares again, and closes files that are not being read.
    pub(super) fn recheck_shares(&mut self) {
        let now = self.now;
        for (file, share) in &mut self.shares {
            let is_idle = share.read.is_none_or(|read| now.saturating_duration_since(read).as_secs() >= 30);
            if is_idle {
                share.open = None;
            }
            if share.suspended.is_none() || share.checking {
                continue;
            }
            share.checking = true;
            let (file, record, seams) = (*file, share.record.clone(), Arc::clone(&self.seams));
            let (doubted, known) = (share.doubted, share.found_wrong);
            self.seams.env.spawn(async move {
                let result = tokio::select! {
                    biased;
                    () = seams.env.shutdown.cancelled() => return,
                    result = recheck(&seams, record, doubted, known) => result,
                };
                seams.report(Input::Rechecked { file, result }).await;
            });
        }
    }

    pub(super) fn rechecked(&mut self, file: FileId, result: Recheck) {
        let Some(share) = self.shares.get_mut(&file) else { return };
        share.checking = false;
        match result {
            Recheck::Right(stamp) => {
                share.record.stamp = stamp;
                (share.suspended, share.doubted, share.found_wrong) = (None, false, None);
                self.record_share(file);
                self.announce_share(file);
            }
            Recheck::Wrong(reason, found) => (share.suspended, share.found_wrong) = (Some(reason), found),
        }
    }

    /// Records how much was served.
    pub(super) fn save_uploaded(&mut self) {
        let served = self.shares.iter_mut().filter(|(_, share)| share.uploaded_since > 0);
        let files: Vec<FileId> = served
            .map(|(file, share)| {
                share.record.uploaded += std::mem::take(&mut share.uploaded_since);
                *file
            })
            .collect();
        for file in files {
            self.record_share(file);
        }
    }

    /// Tells trackers of shares that none has acknowledged yet.
    pub(super) fn acknowledge_shares(&mut self) {
        let new = self.shares.iter().filter(|(_, share)| !share.record.acknowledged && !share.acknowledging);
        let files: Vec<FileId> = new.map(|(file, _)| *file).collect();
        for file in files {
            self.acknowledge(file);
        }
    }

    /// A complete download becomes a share that the trackers know, as soon as one takes it.
    pub(super) fn acknowledge(&mut self, file: FileId) {
        let Some(share) = self.shares.get_mut(&file) else { return };
        share.acknowledging = true;
        let record = share.record.clone();
        let seams = Arc::clone(&self.seams);
        self.seams.env.spawn(async move {
            let is_known = acknowledge(&seams, &record).await;
            seams.report(Input::Acknowledged { file, is_known }).await;
        });
    }

    pub(super) fn acknowledged(&mut self, file: FileId, is_known: bool) {
        let Some(share) = self.shares.get_mut(&file) else { return };
        share.acknowledging = false;
        if is_known {
            share.record.acknowledged = true;
            self.record_share(file);
        }
    }

    pub(super) fn share_rows(&self) -> Vec<ShareRow> {
        let mut rows: Vec<ShareRow> = self.shares.values().map(Share::row).collect();
        rows.sort_by(|a, b| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
        rows
    }

    pub(super) fn share_named(&self, group: &GroupName, name: &FileName) -> Result<ShareRecord, Failure> {
        let named = |share: &&Share| share.record.group_name == *group && share.record.name == *name;
        self.shares.values().find(named).map(|share| share.record.clone()).ok_or_else(|| {
            let message = format!("This client does not share {name} in {group}. See show_shares.");
            Failure::new(ErrorCode::NotShared, message)
        })
    }

    /// The share of a file at `path` in a group, if there is one: whether it is served, and what was hashed.
    pub(super) fn share_at(&self, group: GroupId, path: &Path) -> Option<(ShareRecord, bool)> {
        let there = self.shares.values().find(|share| share.record.group == group && share.record.path == path);
        there.map(|share| (share.record.clone(), share.suspended.is_none()))
    }
}

/// Shares a file with the trackers; whether they know it then.
async fn acknowledge(seams: &Arc<Seams>, record: &ShareRecord) -> bool {
    let (database, file, header) = (Arc::clone(&seams.database), record.file, record.manifest.clone());
    let manifest = seams.env.offload(move || manifests::load(&database, &file, &header)).await;
    let Ok(Some(manifest)) = manifest else { return false };
    match share_manifest(seams, record.group, &manifest).await {
        Ok(_) => true,
        Err(failure) if failure.code == ErrorCode::AlreadyShared => true,
        Err(failure) => {
            tracing::info!(name = %record.name, %failure, "a downloaded file is not shared with the trackers yet");
            false
        }
    }
}

impl Exchange {
    /// Waits until all that was to be recorded is durable; fails when it cannot be.
    pub(super) async fn recorded(&self) -> Result<(), Failure> {
        let (reply, done) = oneshot::channel();
        self.turn(move |hub| hub.tell_recorded(reply)).await;
        done.await.unwrap_or_else(|_| Err(super::stopping()))
    }
}
