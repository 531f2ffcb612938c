//! `upload_file`: hashing on both cores, then the manifest to the trackers.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{Exchange, Seams, failure, unexpected};
use crate::{
    protocol::{
        client::{Answer, GroupInfo, Request, Standing},
        error::{ErrorCode, Failure},
        hash::{FileHash, PieceHash, Sha1Hash},
        ids::{FileId, GroupId, Nonce},
        manifest::{Manifest, ManifestHeader},
        name::{FileName, GroupName},
        piece::PieceIndex,
    },
    roles::client::command::{Event, Uploaded},
    store::{
        client::shares::{self, ShareRecord},
        disk::FileStamp,
        hasher::{Batch, HashError, Source},
    },
};

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Times a manifest is offered, each time to another tracker.
const OFFERS: u32 = 3;

/// A file, hashed.
pub(super) struct Hashed {
    pub(super) stamp: FileStamp,
    pub(super) sha1: Sha1Hash,
    pub(super) pieces: Vec<PieceHash>,
}

/// `upload_file`
pub(super) async fn upload(exchange: &Exchange, path: &Path, group: GroupName) -> Result<Uploaded, Failure> {
    let seams = &exchange.seams;
    let user = seams.user()?;
    let (path, stamp) = seams.source(path).await?;
    let name = file_name(&path)?;
    let group = seams.membership(group).await?;
    let (id, at) = (group.group, path.clone());
    let earlier = exchange.turn(move |hub| hub.share_at(id, &at)).await.flatten();
    if earlier.as_ref().is_some_and(|(share, is_served)| *is_served && share.stamp == stamp) {
        let message = format!("{} is shared in {} already. See show_shares.", path.display(), group.name);
        return Err(Failure::new(ErrorCode::AlreadyShared, message));
    }
    let hashed = hash_file(seams, &path).await?;
    let (header, pages) = ManifestHeader::describe(name, hashed.stamp.size, hashed.sha1, &hashed.pieces);
    let manifest = Manifest::assemble(header, &pages).expect("a manifest assembles from its own pages");
    let (file, name) = share(exchange, group.group, &manifest, earlier).await?;
    let header = manifest.header().clone();
    let answer = Uploaded {
        group: group.name.clone(),
        name: name.clone(),
        size: header.size,
        pieces: header.piece_count(),
        sha1: header.sha1,
    };
    let record = ShareRecord {
        user,
        group: group.group,
        group_name: group.name,
        file,
        name,
        path,
        stamp: hashed.stamp,
        manifest: header,
        uploaded: 0,
        acknowledged: true,
    };
    keep(exchange, record, manifest).await?;
    Ok(answer)
}

/// Shares a manifest with the trackers. What is served already is refused; what was suspended, or is known to the trackers
/// only, is taken up again; what the file at this path was before makes way for what it is now.
async fn share(
    exchange: &Exchange,
    group: GroupId,
    manifest: &Manifest,
    earlier: Option<(ShareRecord, bool)>,
) -> Result<(FileId, FileName), Failure> {
    let seams = &exchange.seams;
    let file = FileId::of(&group, &manifest.header().id());
    let served = exchange.turn(move |hub| hub.shares.get(&file).is_some_and(|it| it.suspended.is_none())).await;
    match share_manifest(seams, group, manifest).await {
        Err(failure) if failure.code == ErrorCode::AlreadyShared && served == Some(false) => {
            Ok((file, manifest.header().name.clone()))
        }
        Err(failure) if failure.code == ErrorCode::FileExists => {
            let Some((old, _)) = earlier.filter(|(old, is_served)| !is_served && old.file != file) else {
                return Err(failure);
            };
            seams.tracker.request(Request::StopShare { file: old.file }).await?;
            exchange.end_share(old.file).await?;
            share_manifest(seams, group, manifest).await
        }
        result => result,
    }
}

async fn keep(exchange: &Exchange, record: ShareRecord, manifest: Manifest) -> Result<(), Failure> {
    let database = Arc::clone(&exchange.seams.database);
    let kept = record.clone();
    let put = exchange.seams.env.offload(move || shares::put(&database, &kept, &manifest)).await;
    put.map_err(|error| failure::database(&error))?;
    exchange.turn(move |hub| hub.add_share(record)).await.ok_or_else(super::stopping)
}

/// Shares a manifest; returns what the file is called there. An offer counts at the tracker it was made to: where another
/// took over in between, it is made again. The share is one request all the same: it may have taken effect at the first.
pub(super) async fn share_manifest(
    seams: &Seams,
    group: GroupId,
    manifest: &Manifest,
) -> Result<(FileId, FileName), Failure> {
    let _turn = seams.offers.acquire().await;
    let (nonce, mut attempts) = (seams.tracker.draw_nonce(), 0);
    loop {
        attempts += 1;
        let tracker = seams.tracker.current();
        match offer_and_share(seams, group, manifest, nonce).await {
            Err(failure)
                if matches!(failure.code, ErrorCode::Protocol | ErrorCode::Stale)
                    && attempts < OFFERS
                    && tracker.has_changed().unwrap_or(false) =>
            {
                tracing::debug!(%failure, "the manifest is offered again to another tracker");
            }
            ended => return ended,
        }
    }
}

/// Offers a manifest, sends the pages that the tracker lacks, and shares it.
async fn offer_and_share(
    seams: &Seams,
    group: GroupId,
    manifest: &Manifest,
    nonce: Nonce,
) -> Result<(FileId, FileName), Failure> {
    let header = manifest.header();
    let offer = Request::OfferManifest { group, manifest: header.clone() };
    let missing = match seams.tracker.request(offer).await?.answer {
        Answer::MissingPages(missing) => missing,
        answer => return Err(unexpected(&answer)),
    };
    let mut pages = if missing.is_empty() { Vec::new() } else { manifest.pages() };
    for page in missing {
        let Some(bytes) = pages.get_mut(page as usize).map(std::mem::take) else { continue };
        seams.tracker.request(Request::PutPage { manifest: header.id(), page, bytes }).await?;
    }
    let share = Request::Share { group, manifest: header.clone() };
    match seams.tracker.request_as(nonce, share).await?.answer {
        Answer::Shared { file, name } => Ok((file, name)),
        answer => Err(unexpected(&answer)),
    }
}

/// Hashes a file on both cores, telling its progress.
pub(super) async fn hash_file(seams: &Arc<Seams>, path: &Path) -> Result<Hashed, Failure> {
    let failed = |error: HashError| failure::hashing(&error, path);
    let (disk, at) = (Arc::clone(&seams.env.disk), path.to_owned());
    let open = move || {
        let source = Source::open(&*disk, &at)?;
        let first = source.read(PieceIndex(0), Vec::new())?;
        Ok((source, first))
    };
    let (source, mut batch) = seams.env.offload(open).await.map_err(failed)?;
    let stamp = source.stamp();
    let mut whole = FileHash::default();
    let mut pieces = Vec::with_capacity(source.piece_count() as usize);
    let mut memory = Vec::new();
    let mut progress = Progress { seams, path, total: stamp.size, done: 0, told: None };
    while let Some(current) = batch.take().map(Arc::new) {
        let (source, ahead, behind) = (source.clone(), Arc::clone(&current), Arc::clone(&current));
        let summing = seams.env.offload(move || {
            let sums = ahead.sums(&mut whole);
            (whole, sums)
        });
        let reading = seams.env.offload(move || {
            let next = source.read(behind.next(), memory)?;
            Ok((next, behind.trees()))
        });
        let ((followed, sums), read) = tokio::join!(summing, reading);
        let (next, trees) = read.map_err(failed)?;
        (whole, batch) = (followed, next);
        pieces.extend(sums.into_iter().zip(trees).map(|(sha1, blake3)| PieceHash { sha1, blake3 }));
        progress.add(current.size());
        memory = Arc::into_inner(current).map(Batch::into_memory).unwrap_or_default();
    }
    seams.env.offload(move || source.check_unchanged()).await.map_err(failed)?;
    progress.end();
    Ok(Hashed { stamp, sha1: whole.finish(), pieces })
}

/// Tells how far hashing is, now and then and at the end.
struct Progress<'a> {
    seams: &'a Seams,
    path: &'a Path,
    total: u64,
    done: u64,
    told: Option<Instant>,
}

impl Progress<'_> {
    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        let now = Instant::now();
        let is_due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= PROGRESS_EVERY);
        if is_due && self.done < self.total {
            self.told = Some(now);
            self.tell();
        }
    }

    fn end(&self) {
        self.tell();
    }

    fn tell(&self) {
        self.seams.tell(Event::Hashing { path: self.path.to_owned(), done: self.done, total: self.total });
    }
}

impl Seams {
    /// The group, of which the user must be a member.
    pub(super) async fn membership(&self, name: GroupName) -> Result<GroupInfo, Failure> {
        let found = self.tracker.request(Request::FindGroup { group: name }).await?;
        let group = match found.answer {
            Answer::Group(group) => group,
            answer => return Err(unexpected(&answer)),
        };
        if matches!(group.standing, Standing::Owner | Standing::Member) {
            return Ok(group);
        }
        if found.stale {
            let message = format!(
                "The tracker has yet to catch up with what you have seen, and does not know you as a member of {}. Try \
                 again in a moment.",
                group.name
            );
            return Err(Failure::new(ErrorCode::Stale, message));
        }
        let message = format!("You are no member of {}. Use join_group and wait to be accepted.", group.name);
        Err(Failure::new(ErrorCode::NotAMember, message))
    }

    /// The absolute path of a file to share, and what it is now.
    async fn source(&self, path: &Path) -> Result<(PathBuf, FileStamp), Failure> {
        if path.as_os_str().is_empty() {
            return Err(Failure::new(ErrorCode::EmptyPath, "The path is empty. Give the file to share."));
        }
        let (disk, at) = (Arc::clone(&self.env.disk), path.to_owned());
        let look = move || {
            let path = disk.absolute(&at)?;
            let found = disk.stat(&path)?;
            if found.is_dir { Err(HashError::Directory) } else { Ok((path, found.stamp)) }
        };
        self.env.offload(look).await.map_err(|error| failure::hashing(&error, path))
    }
}

fn file_name(path: &Path) -> Result<FileName, Failure> {
    let name = path.file_name().unwrap_or_default();
    let name = name.to_str().ok_or_else(|| {
        let message = format!("The name of {} is no valid text. Rename the file first.", path.display());
        Failure::new(ErrorCode::InvalidName, message)
    })?;
    FileName::parse(name)
}
