//! The real disk.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the seam that everything else goes through"
)]

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{
        CWD, FallocateFlags, FlockOperation, OFlags, RenameFlags, fallocate, flock, fstatfs, fstatvfs, renameat_with,
        statvfs,
    },
    io::{Errno, retry_on_intr},
    process::geteuid,
};

use super::{Disk, DiskFile, FileStamp, OpenMode, Stat};

/// What a mode lets others than the owner do.
const OTHERS: u32 = 0o077;

/// Ends the name of what is set aside while two files change places.
const ASIDE: &str = ".p2p-aside";

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = options(mode).open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_file() || kind.is_dir() {
            return Ok(Arc::new(file));
        }
        // A pipe or a device has no size and no content that stays.
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file"))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(stat_of(&fs::metadata(path)?))
    }

    fn stat_name(&self, path: &Path) -> io::Result<Stat> {
        Ok(stat_of(&fs::symlink_metadata(path)?))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Names that are no UTF-8 are left out: none of ours are like that.
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => exchange_by_turns(self, one, other),
            result => Ok(result?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or_else(|| Path::new("."));
        let volume = statvfs(existing)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        let whole = std::path::absolute(path)?;
        for existing in whole.ancestors() {
            if let Ok(resolved) = existing.canonicalize() {
                let rest = whole.strip_prefix(existing).expect("an ancestor is a prefix");
                return Ok(if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) });
            }
        }
        Ok(whole)
    }
}

/// Where the file system cannot exchange: by a third name beside the first. Nothing is replaced on the way; a crash between two of
/// the steps leaves what was at `other` under that third name.
fn exchange_by_turns(disk: &dyn Disk, one: &Path, other: &Path) -> io::Result<()> {
    disk.stat_name(one)?;
    let mut aside = one.as_os_str().to_owned();
    aside.push(ASIDE);
    let aside = Path::new(&aside);
    disk.rename_new(other, aside)?;
    if let Err(error) = disk.rename_new(one, other) {
        disk.rename_new(aside, other)?;
        return Err(error);
    }
    disk.rename_new(aside, one)
}

fn options(mode: OpenMode) -> OpenOptions {
    let flag = |flags: OFlags| i32::try_from(flags.bits()).expect("open flags are small");
    let mut options = OpenOptions::new();
    options.read(true).write(mode != OpenMode::Read).mode(0o600);
    match mode {
        // A named pipe must not hold the caller up; for files it means nothing.
        OpenMode::Read => options.custom_flags(flag(OFlags::NONBLOCK)),
        OpenMode::ReadWrite => &mut options,
        OpenMode::Create => options.create(true).custom_flags(flag(OFlags::NOFOLLOW)),
        OpenMode::CreateNew => options.create_new(true),
    };
    options
}

fn stat_of(metadata: &Metadata) -> Stat {
    let stamp = FileStamp {
        size: metadata.size(),
        modified_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        inode: metadata.ino(),
        device: metadata.dev(),
    };
    let is_private = metadata.mode() & OTHERS == 0 && metadata.uid() == geteuid().as_raw();
    Stat { is_dir: metadata.is_dir(), is_private, stamp }
}

impl DiskFile for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let current = self.metadata()?.size();
        if size == 0 {
            return Ok(());
        }
        if is_in_memory(self)? {
            return grow_in_memory(self, current, size);
        }
        match retry_on_intr(|| fallocate(self, FallocateFlags::empty(), 0, size)) {
            // The file system cannot reserve: a full disk shows when it is written, then.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.set_len(size.max(current)),
            result => Ok(result?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(stat_of(&self.metadata()?))
    }

    fn lock(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| flock(self, FlockOperation::NonBlockingLockExclusive))?)
    }
}

/// Magic number of tmpfs (`statfs(2)`).
const TMPFS_MAGIC: u64 = 0x0102_1994;

fn is_in_memory(file: &File) -> io::Result<bool> {
    Ok(u64::try_from(fstatfs(file)?.f_type).is_ok_and(|kind| kind == TMPFS_MAGIC))
}

/// tmpfs reserves by filling every page with zeros, half a second a GiB before the first piece can come. There a look at the
/// room must do.
fn grow_in_memory(file: &File, current: u64, size: u64) -> io::Result<()> {
    let volume = fstatvfs(file)?;
    if size.saturating_sub(current) > volume.f_bavail.saturating_mul(volume.f_frsize) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.set_len(size.max(current))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::{super::private_dir, *};

    fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn files_are_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        SystemDisk.create_dir_all(&inner).unwrap();
        SystemDisk.open(&inner.join("f"), OpenMode::CreateNew).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(inner.join("f")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SystemDisk.list(&inner).unwrap(), ["f"]);
    }

    #[test]
    fn a_folder_that_others_can_look_into_is_for_no_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a");
        private_dir(&SystemDisk, &inner).unwrap();
        private_dir(&SystemDisk, &inner).unwrap();
        for mode in [0o755, 0o701, 0o710, 0o704] {
            fs::set_permissions(&inner, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(kind(private_dir(&SystemDisk, &inner)), Some(io::ErrorKind::PermissionDenied), "{mode:o}");
        }
    }

    #[test]
    fn creating_follows_no_link_and_spares_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        symlink(&target, &link).unwrap();
        assert!(SystemDisk.open(&link, OpenMode::Create).is_err());
        assert_eq!(kind(SystemDisk.open(&link, OpenMode::CreateNew)), Some(io::ErrorKind::AlreadyExists));
        assert_eq!(kind(SystemDisk.stat(&target)), Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn rename_new_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let file = SystemDisk.open(&one, OpenMode::Create).unwrap();
        file.write_at(0, b"one").unwrap();
        SystemDisk.open(&two, OpenMode::Create).unwrap();
        assert_eq!(kind(SystemDisk.rename_new(&one, &two)), Some(io::ErrorKind::AlreadyExists));
        SystemDisk.remove(&two).unwrap();
        SystemDisk.rename_new(&one, &two).unwrap();
        SystemDisk.sync_dir(folder.path()).unwrap();
        assert_eq!(SystemDisk.stat(&two).unwrap().stamp, file.stat().unwrap().stamp);
        assert_eq!(kind(SystemDisk.stat(&one)), Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn two_names_change_places_and_nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two, gone] = ["one", "two", "gone"].map(|name| folder.path().join(name));
        let stamps = [&one, &two].map(|path| SystemDisk.open(path, OpenMode::Create).unwrap().stat().unwrap().stamp);
        let now = || [&one, &two].map(|path| SystemDisk.stat_name(path).unwrap().stamp);
        for exchange in [
            |one: &Path, two: &Path| SystemDisk.exchange(one, two),
            |one: &Path, two: &Path| exchange_by_turns(&SystemDisk, one, two),
        ] {
            exchange(&one, &two).unwrap();
            assert_eq!(now(), [stamps[1], stamps[0]]);
            exchange(&one, &two).unwrap();
            assert_eq!(now(), stamps);
            for (here, there) in [(&one, &gone), (&gone, &one)] {
                assert_eq!(kind(exchange(here, there)), Some(io::ErrorKind::NotFound));
            }
            assert_eq!((now(), SystemDisk.list(folder.path()).unwrap().len()), (stamps, 2));
        }
    }

    #[test]
    fn a_name_is_looked_at_without_following_it() {
        let folder = tempfile::tempdir().unwrap();
        let [link, target] = ["link", "target"].map(|name| folder.path().join(name));
        let target_stamp = SystemDisk.open(&target, OpenMode::Create).unwrap().stat().unwrap().stamp;
        symlink(&target, &link).unwrap();
        assert_eq!(SystemDisk.stat(&link).unwrap().stamp, target_stamp);
        assert!(!SystemDisk.stat_name(&link).unwrap().stamp.is_same_file(&target_stamp));
    }

    #[test]
    fn reads_and_writes_are_positional() {
        let folder = tempfile::tempdir().unwrap();
        let file = SystemDisk.open(&folder.path().join("f"), OpenMode::Create).unwrap();
        file.allocate(10).unwrap();
        file.write_at(8, b"abcd").unwrap();
        file.sync().unwrap();
        let mut bytes = [9; 6];
        file.read_at(6, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0abcd");
        assert_eq!(kind(file.read_at(7, &mut bytes)), Some(io::ErrorKind::UnexpectedEof));
        file.allocate(4).unwrap();
        assert_eq!(file.stat().unwrap().stamp.size, 12);
        assert!(SystemDisk.free_bytes(&folder.path().join("not/there")).unwrap() > 0);
    }

    #[test]
    fn a_lock_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let open = || SystemDisk.open(&folder.path().join("lock"), OpenMode::Create).unwrap();
        let (one, two) = (open(), open());
        one.lock().unwrap();
        assert_eq!(kind(two.lock()), Some(io::ErrorKind::WouldBlock));
        drop(one);
        two.lock().unwrap();
    }

    #[test]
    fn a_path_becomes_absolute_even_where_nothing_is() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        symlink(&real, folder.path().join("link")).unwrap();
        let path = folder.path().join("link/new/file");
        assert_eq!(SystemDisk.absolute(&path).unwrap(), real.join("new/file"));
        assert_eq!(SystemDisk.absolute(&real).unwrap(), real);
        assert!(SystemDisk.absolute(Path::new("relative")).unwrap().is_absolute());
    }
}
