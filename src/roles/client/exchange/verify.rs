//! `verify_file`: the local copy read again, damaged pieces named and fetched again.
//!
//! A repair is a download beside the damaged file that begins with its good pieces and takes its place at the end. The
//! file is replaced only while it is the one that was read; one that its owner has changed (its stamp is not the shared
//! one) and that was not downloaded by this client is only reported.

use std::sync::Arc;

use super::{Exchange, failure, fetch, hub::Hub};
use crate::{
    protocol::{
        error::{ErrorCode, Failure},
        ids::FileId,
        manifest::Manifest,
        name::{FileName, GroupName},
        piece::PieceIndex,
    },
    roles::client::command::{DownloadState, Reply},
    store::{
        client::{
            downloads::{DownloadRecord, Progress},
            manifests,
            shares::ShareRecord,
        },
        disk::{Disk, FileStamp, OpenMode},
    },
};

/// What reading a local copy again has shown.
struct Finding {
    manifest: Manifest,
    found: FileStamp,
    damaged: Vec<u32>,
}

/// `verify_file`
pub(super) async fn verify(exchange: &Exchange, group: GroupName, name: FileName) -> Result<Reply, Failure> {
    let (record, is_download) = exchange.try_turn(move |hub| hub.local_copy(&group, &name)).await?;
    let seams = &exchange.seams;
    let (disk, database, share) = (Arc::clone(&seams.env.disk), Arc::clone(&seams.database), record.clone());
    let read = move || {
        let manifest = manifests::load(&database, &share.file, &share.manifest);
        let manifest = manifest.map_err(|error| failure::database(&error))?.ok_or_else(lost_manifest)?;
        let (found, damaged) = read_again(&*disk, &share, &manifest)?;
        Ok::<_, Failure>(Finding { manifest, found, damaged })
    };
    let finding = seams.env.offload(read).await?;
    let reply = Reply::Verified { pieces: record.manifest.piece_count(), damaged: finding.damaged.clone() };
    if finding.damaged.is_empty() && finding.found.size == record.manifest.size {
        return Ok(reply);
    }
    let file = record.file;
    exchange.turn(move |hub| hub.suspend_damaged(file)).await;
    if is_download || finding.found == record.stamp {
        repair(exchange, record, finding).await?;
    }
    Ok(reply)
}

/// Fetches what is damaged, beside the file, to take its place.
async fn repair(exchange: &Exchange, share: ShareRecord, finding: Finding) -> Result<(), Failure> {
    let seams = &exchange.seams;
    let record = DownloadRecord {
        user: share.user,
        group: share.group,
        group_name: share.group_name,
        file: share.file,
        name: share.name,
        partial: seams.partial_path(&share.path),
        destination: share.path,
        replaces: Some(finding.found),
        made: None,
        manifest: share.manifest,
        started_ms: seams.env.wall_clock.now_ms(),
        progress: Progress::Downloading,
    };
    fetch::begin(exchange, record, Arc::new(finding.manifest), Vec::new()).await
}

fn read_again(disk: &dyn Disk, share: &ShareRecord, manifest: &Manifest) -> Result<(FileStamp, Vec<u32>), Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("{} cannot be read: {error}. Restore it, or download it again.", share.path.display());
        Failure::new(ErrorCode::NotReadable, message)
    };
    let file = disk.open(&share.path, OpenMode::Read).map_err(failed)?;
    let found = file.stat().map_err(failed)?.stamp;
    let size = share.manifest.size;
    let mut damaged = Vec::new();
    let mut bytes = Vec::new();
    for index in 0..share.manifest.piece_count() {
        let piece = PieceIndex(index);
        bytes.resize(crate::protocol::piece::piece_length(size, piece) as usize, 0);
        let is_read = file.read_at(piece.start(), &mut bytes).is_ok();
        if !is_read || !manifest.is_piece(piece, [bytes.as_slice()]) {
            damaged.push(index);
        }
    }
    Ok((found, damaged))
}

fn lost_manifest() -> Failure {
    Failure::new(
        ErrorCode::Io,
        "The manifest of that file is damaged in the client's database. Download the file again.",
    )
}

impl Hub {
    fn suspend_damaged(&mut self, file: FileId) {
        self.suspend_share(file, "it is damaged");
        if let Some(share) = self.shares.get_mut(&file) {
            share.doubted = true;
        }
    }

    /// The whole local copy of a file, and whether this client downloaded it.
    fn local_copy(&mut self, group: &GroupName, name: &FileName) -> Result<(ShareRecord, bool), Failure> {
        let record = self.share_named(group, name)?;
        let download = self.transfers.get(&record.file).filter(|it| it.state() == DownloadState::Complete);
        let is_download = download.is_some_and(|it| it.record.destination == record.path);
        Ok((record, is_download))
    }
}
