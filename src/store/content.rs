//! Content being downloaded: a partial file beside its destination, and how it becomes the file.
//!
//! The order of things, for each piece: hash, then write, then `Partial::mark`; only then it is announced. The mark, a
//! byte behind the content in the same file, outlives the process (kill -9) without an fsync; it does not outlive a
//! power loss for sure. [`Partial::sync`] makes all pieces written before it durable; the caller records them after it,
//! and only in this order. On the way back, recorded pieces are trusted while the file is the same, marked but
//! unrecorded ones are read, hashed and written again, all others are missing.
//!
//! The end: all pieces recorded, marks cut off, fsync, rename to a name that must be free, fsync of the folder. A partial
//! file never bears the final name, and nothing is ever overwritten. A repair takes the place of one file and no other: both
//! change places, and what came out goes only if it is the one that was compared; else they change back.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::BytesMut;

use super::disk::{Disk, DiskFile, FileStamp, OpenMode};
use crate::mutant::Mutant;
use crate::protocol::{
    bitfield::Bitfield,
    piece::{PieceIndex, piece_count, piece_length},
};

/// Most bytes of the final name that appear in the partial file's; leaves room for the rest within 255.
const MAX_STEM: usize = 200;

/// Mark of a piece that was verified and written.
const VERIFIED: u8 = 1;

/// Why content cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Something is at the destination already.
    #[error("something is at the destination already")]
    DestinationExists,
    /// The destination's folder is not there.
    #[error("the destination's folder is not there")]
    NoFolder,
    /// The disk is full.
    #[error("the disk is full")]
    NoSpace,
    /// The partial file is gone, or another file is in its place.
    #[error("the partial file is gone")]
    Lost,
    /// Somebody's file is where the partial file of a repair was.
    #[error("another file is at {}", .0.display())]
    Occupied(PathBuf),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::NoSpace,
            _ => Self::Io(error),
        }
    }
}

/// Where a download's partial file lies: hidden, in the folder of its destination, so that the last rename is atomic.
/// `tag` tells two downloads to the same place apart.
pub fn partial_path(destination: &Path, tag: u32) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    let end = (0..=name.len().min(MAX_STEM)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    destination.with_file_name(format!(".{}.{tag:08x}.p2p-part", &name[..end]))
}

/// The file of a download, open.
#[derive(Clone)]
pub struct Partial {
    file: Arc<dyn DiskFile>,
    size: u64,
    /// An fsync has failed. The system takes for written what it could not write then: no later fsync proves anything of it.
    unsynced: Arc<Mutex<bool>>,
}

impl Partial {
    /// Makes the partial file at `path` for content of `size` bytes, with all its room reserved.
    pub fn create(disk: &dyn Disk, path: &Path, size: u64) -> Result<Self, ContentError> {
        let file = disk.open(path, OpenMode::CreateNew).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ContentError::NoFolder,
            io::ErrorKind::AlreadyExists => ContentError::Occupied(path.into()),
            _ => error.into(),
        })?;
        let reserved = file.allocate(size + u64::from(piece_count(size)));
        if let Err(error) = reserved.and_then(|()| sync_parent(disk, path)) {
            disk.remove(path)?;
            return Err(error.into());
        }
        Ok(Self::new(file, size))
    }

    fn new(file: Arc<dyn DiskFile>, size: u64) -> Self {
        Self { file, size, unsynced: Arc::default() }
    }

    /// Opens the partial file made earlier, whose inode and volume were then those of `made`, and reads its marks.
    pub fn reopen(disk: &dyn Disk, path: &Path, size: u64, made: FileStamp) -> Result<(Self, Bitfield), ContentError> {
        let file = disk.open(path, OpenMode::ReadWrite).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ContentError::Lost,
            _ => error.into(),
        })?;
        let partial = Self::new(file, size);
        let stamp = partial.stamp()?;
        let pieces = piece_count(size);
        if !stamp.is_same_file(&made) || (stamp.size != size && stamp.size != size + u64::from(pieces)) {
            return Err(ContentError::Lost);
        }
        let marks = if stamp.size == size { Bitfield::full(pieces) } else { partial.marks()? };
        if stamp.size == size {
            partial.restore_marks()?;
        }
        Ok((partial, marks))
    }

    /// What the file is now.
    pub fn stamp(&self) -> io::Result<FileStamp> {
        Ok(self.file.stat()?.stamp)
    }

    /// Writes a verified piece, given in parts, and marks it.
    pub fn write<'a>(&self, piece: PieceIndex, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<(), ContentError> {
        let mut offset = piece.start();
        for part in parts {
            self.file.write_at(offset, part)?;
            offset += part.len() as u64;
        }
        self.mark(piece, VERIFIED)
    }

    /// Takes a piece's mark away: it was found damaged.
    pub fn unmark(&self, piece: PieceIndex) -> Result<(), ContentError> {
        self.mark(piece, 0)
    }

    /// Reads a whole piece.
    pub fn read(&self, piece: PieceIndex) -> io::Result<Vec<u8>> {
        Ok(self.read_into(piece, BytesMut::new())?.into())
    }

    /// Reads a whole piece into the memory of an earlier one.
    pub fn read_into(&self, piece: PieceIndex, mut memory: BytesMut) -> io::Result<BytesMut> {
        memory.resize(piece_length(self.size, piece) as usize, 0);
        self.file.read_at(piece.start(), &mut memory)?;
        Ok(memory)
    }

    /// fsync: every piece written before stays. Once it has failed it always does: only what is written again after the file
    /// was opened again can become durable.
    pub fn sync(&self) -> Result<(), ContentError> {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        if *unsynced && !Mutant::SyncAgain.is_on() {
            return Err(ContentError::Io(io::Error::other("an earlier fsync of it failed")));
        }
        let synced = self.file.sync();
        *unsynced = synced.is_err();
        Ok(synced?)
    }

    /// Makes the complete, verified content at `path` the file at `destination`; returns what it is then. Nothing may be
    /// there, but for a file that still is what `replaces` says.
    pub fn finish(
        &self,
        disk: &dyn Disk,
        path: &Path,
        destination: &Path,
        replaces: Option<FileStamp>,
    ) -> Result<FileStamp, ContentError> {
        self.file.set_size(self.size)?;
        if !Mutant::NameUnsynced.is_on() {
            self.sync()?;
        }
        match replaces.filter(|compared| bears(disk, destination, compared)) {
            Some(compared) => self.take_place(disk, path, destination, &compared)?,
            None => self.take_name(disk, path, destination)?,
        }
        sync_parent(disk, destination)?;
        Ok(self.stamp()?)
    }

    /// Gives the content a name that must be free.
    fn take_name(&self, disk: &dyn Disk, path: &Path, destination: &Path) -> Result<(), ContentError> {
        disk.rename_new(path, destination).map_err(unplaced)?;
        if self.is_at(disk, destination) {
            return Ok(());
        }
        // Whoever put something else at `path` has it again.
        disk.rename_new(destination, path)?;
        Err(ContentError::Lost)
    }

    /// Puts the content in the place of the file that was compared. Another may be there by now: so the two change places, and
    /// what came out is looked at before it goes.
    fn take_place(
        &self,
        disk: &dyn Disk,
        path: &Path,
        destination: &Path,
        compared: &FileStamp,
    ) -> Result<(), ContentError> {
        disk.exchange(path, destination).map_err(unplaced)?;
        let (is_ours, is_compared) = (self.is_at(disk, destination), bears(disk, path, compared));
        if !(is_ours && is_compared) {
            tracing::warn!(destination = %destination.display(), "another file came to where a repair goes on: it stays");
            give_back(disk, path, destination)?;
            return Err(if is_compared { ContentError::Lost } else { ContentError::DestinationExists });
        }
        // Only when the new file is sure to have its name may the old one go.
        sync_parent(disk, destination)?;
        Ok(disk.remove(path)?)
    }

    /// Whether a name is that of the very file that is open here.
    fn is_at(&self, disk: &dyn Disk, path: &Path) -> bool {
        let stamps = self.stamp().and_then(|own| Ok((own, disk.stat_name(path)?.stamp)));
        stamps.is_ok_and(|(own, found)| found.is_same_file(&own))
    }

    fn mark(&self, piece: PieceIndex, value: u8) -> Result<(), ContentError> {
        Ok(self.file.write_at(self.size + u64::from(piece.0), &[value])?)
    }

    fn marks(&self) -> io::Result<Bitfield> {
        let pieces = piece_count(self.size);
        let mut bytes = vec![0; pieces as usize];
        self.file.read_at(self.size, &mut bytes)?;
        let mut marks = Bitfield::empty(pieces);
        for (piece, _) in (0..pieces).zip(&bytes).filter(|(_, byte)| **byte == VERIFIED) {
            marks.insert(PieceIndex(piece));
        }
        Ok(marks)
    }

    /// The last step was interrupted after the marks were cut off: all was verified by then.
    fn restore_marks(&self) -> io::Result<()> {
        self.file.write_at(self.size, &vec![VERIFIED; piece_count(self.size) as usize])
    }
}

/// What came out goes back; also where somebody has removed the content that took its place.
fn give_back(disk: &dyn Disk, path: &Path, destination: &Path) -> io::Result<()> {
    match disk.exchange(path, destination) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.rename_new(path, destination),
        exchanged => exchanged,
    }
}

/// Whether a name is that very file's, unchanged.
fn bears(disk: &dyn Disk, path: &Path, file: &FileStamp) -> bool {
    disk.stat_name(path).is_ok_and(|found| found.stamp == *file)
}

fn unplaced(error: io::Error) -> ContentError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => ContentError::DestinationExists,
        io::ErrorKind::NotFound => ContentError::Lost,
        _ => error.into(),
    }
}

/// Takes the last step back that was interrupted after the content got its name: it is partial again, and what it took the
/// place of is there again. Without effect when `destination` is not the content that was `made` at `path`.
pub fn take_back(disk: &dyn Disk, path: &Path, destination: &Path, made: &FileStamp) -> io::Result<()> {
    if !disk.stat_name(destination).is_ok_and(|placed| placed.stamp.is_same_file(made)) {
        return Ok(());
    }
    match disk.exchange(path, destination) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.rename_new(destination, path),
        exchanged => exchanged,
    }
}

/// Removes the partial file at `path`. When it is known to be the one that was `made`, nothing else that bears its name by now.
pub fn discard(disk: &dyn Disk, path: &Path, made: Option<&FileStamp>) -> io::Result<()> {
    match disk.stat_name(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(found) if made.is_some_and(|made| !found.stamp.is_same_file(made)) => Ok(()),
        _ => disk.remove(path),
    }
}

/// fsync of the folder that `path` lies in.
fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| disk.sync_dir(folder))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::disk::SystemDisk, *};

    /// A folder with a file at `whole`, and the new content of it at `part`, complete.
    struct Repair {
        folder: tempfile::TempDir,
        whole: PathBuf,
        part: PathBuf,
        partial: Partial,
        compared: FileStamp,
    }

    impl Repair {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let [whole, part] = ["whole", "part"].map(|name| folder.path().join(name));
            fs::write(&whole, "old").unwrap();
            let compared = SystemDisk.stat(&whole).unwrap().stamp;
            let partial = Partial::create(&SystemDisk, &part, 3).unwrap();
            partial.write(PieceIndex(0), [&b"new"[..]]).unwrap();
            Self { folder, whole, part, partial, compared }
        }

        fn finish(&self) -> Result<FileStamp, ContentError> {
            self.partial.finish(&SystemDisk, &self.part, &self.whole, Some(self.compared))
        }

        fn replace(&self, path: &Path, text: &str) {
            let other = self.folder.path().join("other");
            fs::write(&other, text).unwrap();
            fs::rename(other, path).unwrap();
        }
    }

    #[test]
    fn a_repair_takes_the_place_of_what_was_compared_only() {
        let repair = Repair::new();
        repair.finish().unwrap();
        assert_eq!(fs::read(&repair.whole).unwrap(), b"new");
        assert_eq!(SystemDisk.list(repair.folder.path()).unwrap(), ["whole"]);

        let repair = Repair::new();
        repair.replace(&repair.whole, "other");
        assert!(matches!(repair.finish(), Err(ContentError::DestinationExists)));
        assert_eq!(fs::read(&repair.whole).unwrap(), b"other");

        // A link to the very file that was compared is another thing than that file.
        let repair = Repair::new();
        let moved = repair.folder.path().join("moved");
        fs::rename(&repair.whole, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &repair.whole).unwrap();
        assert!(matches!(repair.finish(), Err(ContentError::DestinationExists)));
        assert_eq!((fs::read(&moved).unwrap(), fs::read_link(&repair.whole).unwrap()), (b"old".to_vec(), moved));
    }

    #[test]
    fn a_file_put_in_the_place_of_the_verified_one_is_not_passed_off_for_it() {
        let repair = Repair::new();
        repair.replace(&repair.part, "other");
        assert!(matches!(repair.finish(), Err(ContentError::Lost)));
        assert_eq!(
            [&repair.whole, &repair.part].map(|path| fs::read(path).unwrap()),
            [b"old".to_vec(), b"other".to_vec()]
        );
        fs::remove_file(&repair.whole).unwrap();
        let placed = repair.partial.finish(&SystemDisk, &repair.part, &repair.whole, None);
        assert!(matches!(placed, Err(ContentError::Lost)));
        assert_eq!(SystemDisk.list(repair.folder.path()).unwrap(), ["part"]);
    }

    #[test]
    fn the_last_step_of_a_repair_is_taken_back_wherever_it_was_cut() {
        let take_back = |repair: &Repair| {
            let made = repair.partial.stamp().unwrap();
            super::take_back(&SystemDisk, &repair.part, &repair.whole, &made).unwrap();
            [&repair.part, &repair.whole].map(|path| fs::read(path).map(|bytes| bytes[..3].to_vec()).ok())
        };
        let [old, new, other] = [b"old", b"new", b"oth"].map(|text| Some(text.to_vec()));
        let repair = Repair::new();
        assert_eq!(take_back(&repair), [new.clone(), old.clone()], "before it");
        SystemDisk.exchange(&repair.part, &repair.whole).unwrap();
        assert_eq!(take_back(&repair), [new.clone(), old], "before the old file was removed");
        repair.replace(&repair.whole, "other");
        SystemDisk.exchange(&repair.part, &repair.whole).unwrap();
        assert_eq!(take_back(&repair), [new.clone(), other], "before another file was put back");
        let repair = Repair::new();
        repair.finish().unwrap();
        assert_eq!(take_back(&repair), [new, None], "before it was recorded");
    }

    #[test]
    fn only_the_partial_file_itself_is_discarded() {
        let repair = Repair::new();
        let made = repair.partial.stamp().unwrap();
        repair.replace(&repair.part, "other");
        discard(&SystemDisk, &repair.part, Some(&made)).unwrap();
        let occupied = Partial::create(&SystemDisk, &repair.part, 3);
        assert!(matches!(occupied, Err(ContentError::Occupied(path)) if path == repair.part));
        assert_eq!(fs::read(&repair.part).unwrap(), b"other");
        for _ in 0..2 {
            discard(&SystemDisk, &repair.part, None).unwrap();
            assert!(!repair.part.exists());
        }
    }
}
