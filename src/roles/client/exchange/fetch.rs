//! How a download begins: the file is looked up, the destination checked, the partial file made or found again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand_chacha::rand_core::Rng as _;
use redb::Database;

use super::{Exchange, Seams, downloads::Opened, failure, hub::Hub, transfer::Transfer, unexpected};
use crate::{
    mutant::Mutant,
    protocol::{
        bitfield::Bitfield,
        client::{Answer, FileInfo, Request, SwarmPeer},
        error::{ErrorCode, Failure},
        ids::{FileId, GroupId, UserId},
        manifest::{Manifest, ManifestHeader},
        name::{FileName, GroupName},
        piece::{PieceIndex, piece_length},
    },
    roles::client::command::{DownloadState, Reply},
    store::{
        client::{
            downloads::{self, DownloadRecord, Progress},
            manifests,
        },
        content::{ContentError, Partial, discard, partial_path, take_back},
        disk::{Disk, FileStamp, OpenMode},
    },
};

/// `download_file`
pub(super) async fn start_download(
    exchange: &Exchange,
    group: GroupName,
    name: FileName,
    to: &Path,
) -> Result<Reply, Failure> {
    let seams = &exchange.seams;
    let user = seams.user()?;
    let (info, header) = seams.find_file(group.clone(), name).await?;
    let file = info.file;
    exchange.try_turn(move |hub| hub.check_startable(file)).await?;
    let destination = seams.destination(to, &info.name).await?;
    let manifest = seams.fetch_manifest(info.group, header).await?;
    let swarm = seams.swarm_of(info.group, file).await.unwrap_or_default();
    let waiting = !swarm.iter().any(|peer| peer.percent > 0);
    let record = seams.new_record(user, group.clone(), &info, &manifest, destination.clone());
    begin(exchange, record, Arc::new(manifest), swarm).await?;
    Ok(Reply::DownloadStarted { group, name: info.name, path: destination, waiting })
}

/// Keeps a new download, makes its partial file, and hands it to the hub.
pub(super) async fn begin(
    exchange: &Exchange,
    mut record: DownloadRecord,
    manifest: Arc<Manifest>,
    swarm: Vec<SwarmPeer>,
) -> Result<(), Failure> {
    let (disk, database) = (Arc::clone(&exchange.seams.env.disk), Arc::clone(&exchange.seams.database));
    let file = record.file;
    exchange.try_turn(move |hub| hub.check_startable(file)).await?;
    let make = move || {
        downloads::put(&database, &record, &manifest).map_err(|error| failure::database(&error))?;
        let made = Partial::create(&*disk, &record.partial, record.manifest.size)
            .and_then(|partial| Ok(partial.stamp()?))
            .map_err(|error| failure::content(&error, &record.destination));
        if made.is_err() {
            downloads::remove(&database, &record.file).map_err(|error| failure::database(&error))?;
        }
        record.made = Some(made?);
        Ok::<_, Failure>(record)
    };
    let record = exchange.seams.env.offload(make).await?;
    exchange.try_turn(move |hub| hub.begin_download(record, swarm)).await
}

/// Opens the partial file of a download: the one there is, with what is verified in it, or a new one. What it lacks is
/// taken from `local`, a copy on this device, as far as that is right. When it is `doubted`, every piece is read again.
pub(super) fn open_partial(
    disk: &dyn Disk,
    database: &Database,
    record: &DownloadRecord,
    local: Option<&Path>,
    doubted: bool,
) -> Result<Opened, ContentError> {
    if doubted {
        downloads::doubt(database, &record.file).map_err(io::Error::other)?;
    }
    let manifest = manifests::load(database, &record.file, &record.manifest).map_err(io::Error::other)?;
    let manifest = Arc::new(manifest.ok_or(ContentError::Lost)?);
    let (partial, mut have) = match reopen(disk, database, record, &manifest) {
        Err(ContentError::Lost) => {
            if !downloads::begin_anew(database, record).map_err(io::Error::other)? {
                return Err(ContentError::Lost);
            }
            (make_anew(disk, record)?, Bitfield::empty(record.manifest.piece_count()))
        }
        reopened => reopened?,
    };
    if let Some(path) = local {
        copy_pieces(disk, path, &partial, &manifest, &mut have)?;
    }
    let made = partial.stamp()?;
    Ok(Opened { partial, have, made, manifest })
}

fn reopen(
    disk: &dyn Disk,
    database: &Database,
    record: &DownloadRecord,
    manifest: &Manifest,
) -> Result<(Partial, Bitfield), ContentError> {
    let made = record.made.filter(|_| !Mutant::FetchAgain.is_on()).ok_or(ContentError::Lost)?;
    take_back(disk, &record.partial, &record.destination, &made)?;
    let (partial, marks) = Partial::reopen(disk, &record.partial, record.manifest.size, made)?;
    let mut have = downloads::durable(database, &record.file, marks.len()).map_err(io::Error::other)?;
    for piece in marks.present() {
        // Verified before, but perhaps lost from the disk since: read again, so that it need not be fetched again. And written
        // again: what is read may be in the cache alone, since an fsync that failed.
        if !have.has(piece) {
            let bytes = partial.read(piece)?;
            if Mutant::TrustMarks.is_on() || manifest.is_piece(piece, [bytes.as_slice()]) {
                if !Mutant::SyncAgain.is_on() {
                    partial.write(piece, [bytes.as_slice()])?;
                }
                have.insert(piece);
            } else {
                partial.unmark(piece)?;
            }
        }
    }
    Ok((partial, have))
}

fn make_anew(disk: &dyn Disk, record: &DownloadRecord) -> Result<Partial, ContentError> {
    discard(disk, &record.partial, own_partial(record))?;
    Partial::create(disk, &record.partial, record.manifest.size)
}

/// What is to be looked for before a partial file is removed: the name of a repair's may be that of what it was to replace.
fn own_partial(record: &DownloadRecord) -> Option<&FileStamp> {
    record.made.as_ref().filter(|_| record.replaces.is_some())
}

fn copy_pieces(
    disk: &dyn Disk,
    path: &Path,
    partial: &Partial,
    manifest: &Manifest,
    have: &mut Bitfield,
) -> Result<(), ContentError> {
    let Ok(file) = disk.open(path, OpenMode::Read) else { return Ok(()) };
    let missing: Vec<PieceIndex> = have.missing().collect();
    for piece in missing {
        let mut bytes = vec![0; piece_length(manifest.header().size, piece) as usize];
        if file.read_at(piece.start(), &mut bytes).is_ok() && manifest.is_piece(piece, [bytes.as_slice()]) {
            partial.write(piece, [bytes.as_slice()])?;
            have.insert(piece);
        }
    }
    Ok(())
}

/// Removes what is left of a cancelled download.
pub(super) async fn remove_partial(seams: &Seams, record: DownloadRecord) -> Result<(), Failure> {
    let disk = Arc::clone(&seams.env.disk);
    let removed = seams.env.offload(move || {
        let removed = discard(&*disk, &record.partial, own_partial(&record));
        removed.map_err(|error| failure::content(&error.into(), &record.partial))
    });
    removed.await
}

impl Seams {
    /// Who is logged in.
    pub(super) fn user(&self) -> Result<UserId, Failure> {
        let session = self.tracker.session().borrow().as_ref().map(|info| info.user);
        session.ok_or_else(|| Failure::new(ErrorCode::NotLoggedIn, "Nobody is logged in. Use login first."))
    }

    /// A file of a group, with its manifest's header.
    pub(super) async fn find_file(
        &self,
        group: GroupName,
        file: FileName,
    ) -> Result<(FileInfo, ManifestHeader), Failure> {
        match self.tracker.request(Request::FindFile { group, file }).await?.answer {
            Answer::File { info, manifest } => {
                let is_whole = manifest.check().is_ok() && manifest.id() == info.manifest;
                if !is_whole || FileId::of(&info.group, &info.manifest) != info.file {
                    return Err(wrong_manifest());
                }
                Ok((info, manifest))
            }
            answer => Err(unexpected(&answer)),
        }
    }

    async fn fetch_manifest(&self, group: GroupId, header: ManifestHeader) -> Result<Manifest, Failure> {
        let manifest = header.id();
        let mut pages = Vec::new();
        for page in 0..header.page_count() {
            match self.tracker.request(Request::GetPage { group, manifest, page }).await?.answer {
                Answer::Page(bytes) => pages.push(bytes),
                answer => return Err(unexpected(&answer)),
            }
        }
        Manifest::assemble(header, &pages).map_err(|_| wrong_manifest())
    }

    /// Where a file that is downloaded `to` a path will be: under its own name in a folder, else there.
    async fn destination(&self, to: &Path, name: &FileName) -> Result<PathBuf, Failure> {
        if to.as_os_str().is_empty() {
            return Err(Failure::new(ErrorCode::EmptyPath, "The destination is empty. Give a folder or a file path."));
        }
        let (disk, to, name) = (Arc::clone(&self.env.disk), to.to_owned(), name.clone());
        let check = move || resolve(&*disk, &to, &name);
        self.env.offload(check).await
    }

    pub(super) fn new_record(
        &self,
        user: UserId,
        group_name: GroupName,
        info: &FileInfo,
        manifest: &Manifest,
        destination: PathBuf,
    ) -> DownloadRecord {
        let started_ms = self.env.wall_clock.now_ms();
        DownloadRecord {
            user,
            group: info.group,
            group_name,
            file: info.file,
            name: info.name.clone(),
            partial: self.partial_path(&destination),
            destination,
            replaces: None,
            made: None,
            manifest: manifest.header().clone(),
            started_ms,
            progress: Progress::Downloading,
        }
    }

    pub(super) fn partial_path(&self, destination: &Path) -> PathBuf {
        let turn = self.partials.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        partial_path(destination, self.env.rng("partial", turn).next_u32())
    }
}

fn resolve(disk: &dyn Disk, to: &Path, name: &FileName) -> Result<PathBuf, Failure> {
    let ends_as_folder = to.as_os_str().as_encoded_bytes().last() == Some(&b'/');
    let is_folder = |path: &Path| disk.stat(path).is_ok_and(|it| it.is_dir);
    let missing = || failure::content(&ContentError::NoFolder, to);
    if ends_as_folder && !is_folder(to) {
        return Err(missing());
    }
    let path = if is_folder(to) { to.join(name.as_str()) } else { to.to_owned() };
    let file_name = path.file_name().ok_or_else(missing)?.to_owned();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if !is_folder(folder) {
        return Err(missing());
    }
    let failed = |error: io::Error| failure::content(&error.into(), &path);
    let path = disk.absolute(folder).map_err(failed)?.join(file_name);
    match disk.stat(&path) {
        Ok(_) => {
            let message = format!("{} exists already. Choose another destination, or move it away.", path.display());
            Err(Failure::new(ErrorCode::DestinationExists, message))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
        Err(error) => Err(failure::content(&error.into(), &path)),
    }
}

fn wrong_manifest() -> Failure {
    Failure::new(ErrorCode::Protocol, "The tracker's manifest of that file does not fit together. Try another tracker.")
}

impl Hub {
    fn check_startable(&self, file: FileId) -> Result<(), Failure> {
        let Some(transfer) = self.transfers.get(&file) else { return Ok(()) };
        if matches!(transfer.state(), DownloadState::Complete | DownloadState::Failed) {
            return Ok(());
        }
        let (name, path) = (&transfer.record.name, transfer.record.destination.display());
        let message = if transfer.state() == DownloadState::Paused {
            format!("The download of {name} to {path} is paused. Use resume_download or cancel_download.")
        } else {
            format!("{name} is being downloaded to {path} already. See show_downloads.")
        };
        Err(Failure::new(ErrorCode::AlreadyDownloading, message))
    }

    fn begin_download(&mut self, record: DownloadRecord, swarm: Vec<SwarmPeer>) -> Result<(), Failure> {
        let file = record.file;
        self.check_startable(file)?;
        let mut transfer = Transfer::new(record, self.now);
        transfer.candidates = swarm.into_iter().map(|peer| (peer.device, peer)).collect();
        self.transfers.insert(file, transfer);
        self.open(file);
        Ok(())
    }
}
