//! A disk in memory that keeps apart what was written and what was fsynced, and forgets the difference in a crash.
//!
//! Bytes stay after [`DiskFile::sync`], names after [`Disk::sync_dir`]; of all else a power failure keeps what the seed
//! says: file by file, sector by sector, and of the names a beginning of what was done, as a journal would.

mod content;
mod names;
mod trouble;

use std::{
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use p2p::store::disk::{Disk, DiskFile, FileStamp, OpenMode, Stat};
use rand_chacha::ChaCha20Rng;

pub(crate) use self::trouble::{Operation, Trouble};
use self::{
    content::Contents,
    names::{Entry, Names},
    trouble::Troubles,
};

/// How a host's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process is killed: the system still has all that was written.
    Process,
    /// The power fails: what was not fsynced is lost or torn.
    Power,
}

/// A host's disk: cheap to clone, and still there when the host has crashed.
#[derive(Clone)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    names: Names,
    contents: Contents,
    capacity_bytes: u64,
    troubles: Troubles,
    /// Grows with every crash: files opened before it are dead.
    life: u64,
    next_handle: u64,
    rng: ChaCha20Rng,
}

impl SimDisk {
    /// An empty disk; `rng` decides what a power failure keeps.
    pub(crate) fn new(capacity_bytes: u64, rng: ChaCha20Rng) -> Self {
        let state = State {
            names: Names::new(),
            contents: Contents::default(),
            capacity_bytes,
            troubles: Troubles::default(),
            life: 0,
            next_handle: 0,
            rng,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Ends the life of every open file. Call it before the host's tasks are dropped, or their last words reach the disk.
    pub(crate) fn crash(&self, how: Crash) {
        let state = &mut *self.lock();
        state.life += 1;
        state.contents.unlock_all();
        state.contents.forget_the_cache();
        if how == Crash::Power {
            state.names.lose(&mut state.rng);
            state.contents.lose(&mut state.rng);
        }
        let named = state.names.inodes();
        state.contents.retain(|inode| named.contains(&inode));
    }

    /// Puts a file there that survives everything.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        self.create_dir_all(folder)?;
        let file = self.open(path, OpenMode::CreateNew)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        self.sync_dir(folder)
    }

    /// All bytes of a file, whatever trouble the disk has.
    pub(crate) fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.lock();
        match state.names.entry(&plain(path)).ok_or(io::ErrorKind::NotFound)? {
            Entry::File(inode) => Ok(state.contents.all(inode).to_vec()),
            Entry::Folder => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Trouble begins, beside what there is.
    pub(crate) fn befall(&self, trouble: Trouble) {
        let state = &mut *self.lock();
        let used = state.used_bytes();
        state.troubles.befall(trouble, used);
    }

    /// All trouble ends.
    pub(crate) fn mend(&self) {
        self.lock().troubles.mend();
    }

    /// Whether it has trouble now.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.lock().troubles.are_there()
    }

    /// Whether anything failed because of trouble, ever.
    pub(crate) fn was_in_trouble(&self) -> bool {
        self.lock().troubles.were_felt()
    }

    /// How long the disk takes for what comes next: no time, unless it is slow.
    pub(crate) fn delay(&self) -> Duration {
        let state = &mut *self.lock();
        state.troubles.delay(&mut state.rng)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        self.contents.used_bytes(&self.names.inodes())
    }

    fn free_bytes(&self) -> u64 {
        self.troubles.capacity().unwrap_or(self.capacity_bytes).saturating_sub(self.used_bytes())
    }

    /// Fails when the disk cannot hold a file grown from `old` to `new` bytes.
    fn make_room(&mut self, old: u64, new: u64) -> io::Result<()> {
        if new > old && new - old > self.free_bytes() {
            self.troubles.found_full();
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Fails when there is such trouble at `path` now.
    fn attempt(&mut self, what: Operation, path: &Path) -> io::Result<()> {
        self.troubles.attempt(what, path, &mut self.rng)
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let path = plain(path);
        let state = &mut *self.lock();
        let inode = match (state.names.entry(&path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Entry::Folder), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Entry::File(inode)), _) => inode,
            (None, OpenMode::Read | OpenMode::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                state.names.check_folder(path.parent().unwrap_or_else(|| Path::new("/")))?;
                state.attempt(Operation::Write, &path)?;
                let inode = state.contents.create();
                state.names.change(vec![(path.clone(), Some(Entry::File(inode)))]);
                inode
            }
        };
        state.next_handle += 1;
        let (life, handle) = (state.life, state.next_handle);
        Ok(Arc::new(SimFile { disk: self.clone(), path, inode, life, handle, writable: mode != OpenMode::Read }))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.lock();
        match state.names.entry(&plain(path)).ok_or(io::ErrorKind::NotFound)? {
            Entry::File(inode) => Ok(state.contents.stat(inode)),
            Entry::Folder => Ok(Stat {
                is_dir: true,
                is_private: true,
                stamp: FileStamp { size: 0, modified_ns: 0, inode: 0, device: 1 },
            }),
        }
    }

    fn stat_name(&self, path: &Path) -> io::Result<Stat> {
        self.stat(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = plain(path);
        let state = &mut *self.lock();
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for folder in above {
            match state.names.entry(folder) {
                Some(Entry::Folder) => {}
                Some(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    state.attempt(Operation::Write, folder)?;
                    state.names.change(vec![(folder.into(), Some(Entry::Folder))]);
                }
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let path = plain(path);
        let state = &mut *self.lock();
        state.attempt(Operation::Read, &path)?;
        state.names.list(&path)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        if state.names.entry(&plain(to)).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.attempt(Operation::Write, &plain(to))?;
        state.names.rename(plain(from), plain(to))
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        state.attempt(Operation::Write, &plain(to))?;
        state.names.rename(plain(from), plain(to))
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        if [one, other].iter().any(|path| state.names.entry(&plain(path)).is_none()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.attempt(Operation::Write, &plain(other))?;
        state.names.exchange(plain(one), plain(other))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = plain(path);
        let state = &mut *self.lock();
        match state.names.entry(&path).ok_or(io::ErrorKind::NotFound)? {
            Entry::Folder => Err(io::ErrorKind::IsADirectory.into()),
            Entry::File(_) => {
                state.attempt(Operation::Write, &path)?;
                state.names.change(vec![(path, None)]);
                Ok(())
            }
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = plain(path);
        let state = &mut *self.lock();
        state.attempt(Operation::Sync, &path)?;
        state.names.sync(&path)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.lock().free_bytes())
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(plain(path))
    }
}

/// An absolute path without `.` and `..`; there are no links on this disk.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// An open file; dead once the host has crashed.
struct SimFile {
    disk: SimDisk,
    /// Where it was when it was opened.
    path: PathBuf,
    inode: u64,
    life: u64,
    handle: u64,
    writable: bool,
}

impl SimFile {
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        if state.life == self.life { Ok(state) } else { Err(io::Error::other("the host has crashed")) }
    }

    fn to_write(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.writable { self.alive() } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.alive()?;
        state.attempt(Operation::Read, &self.path)?;
        state.contents.read(self.inode, offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.to_write()?;
        let (size, end) = (state.contents.size(self.inode), offset + bytes.len() as u64);
        state.make_room(size, end)?;
        if let Err(error) = state.attempt(Operation::Write, &self.path) {
            // Some of it is there.
            state.contents.write(self.inode, offset, &bytes[..bytes.len() / 2]);
            return Err(error);
        }
        state.contents.write(self.inode, offset, bytes);
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.to_write()?;
        let current = state.contents.size(self.inode);
        state.make_room(current, size)?;
        state.attempt(Operation::Write, &self.path)?;
        state.contents.resize(self.inode, size);
        Ok(())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let current = self.alive()?.contents.size(self.inode);
        if size > current { self.set_size(size) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.alive()?;
        if let Err(error) = state.attempt(Operation::Sync, &self.path) {
            state.contents.fail_to_sync(self.inode, &mut state.rng);
            return Err(error);
        }
        state.contents.sync(self.inode);
        Ok(())
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(self.alive()?.contents.stat(self.inode))
    }

    fn lock(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        if state.contents.lock(self.inode, self.handle) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.alive() {
            state.contents.unlock(self.inode, self.handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p::{
        protocol::piece::PieceIndex,
        store::{
            content::{Partial, take_back},
            database::{OpenError, open_database},
        },
    };
    use rand_chacha::rand_core::SeedableRng as _;
    use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

    use super::*;

    const NUMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("numbers");

    fn disk(seed: u64) -> SimDisk {
        SimDisk::new(1 << 30, ChaCha20Rng::seed_from_u64(seed))
    }

    fn write(database: &Database, n: u64) {
        let write = database.begin_write().unwrap();
        write.open_table(NUMBERS).unwrap().insert(n, vec![n.to_le_bytes()[0]; 3000].as_slice()).unwrap();
        write.commit().unwrap();
    }

    fn numbers(database: &Database) -> Vec<u64> {
        let table = database.begin_read().unwrap().open_table(NUMBERS).unwrap();
        table.iter().unwrap().map(|entry| entry.unwrap().0.value()).collect()
    }

    #[test]
    fn a_power_failure_keeps_what_was_committed() {
        for seed in 0..40 {
            let (disk, path) = (disk(seed), Path::new("/data/db"));
            disk.create_dir_all(Path::new("/data")).unwrap();
            let database = open_database(&disk, path).unwrap();
            (0..seed).for_each(|n| write(&database, n));
            let mut unfinished = database.begin_write().unwrap();
            unfinished.set_durability(redb::Durability::None).unwrap();
            unfinished.open_table(NUMBERS).unwrap().insert(1000, [0; 9000].as_slice()).unwrap();
            unfinished.commit().unwrap();
            write(&database, seed);
            disk.crash(Crash::Power);
            drop(database);
            let database = open_database(&disk, path).unwrap();
            assert_eq!(numbers(&database), (0..=seed).chain([1000]).collect::<Vec<_>>(), "seed {seed}");
        }
    }

    #[test]
    fn a_commit_cut_short_is_there_or_not() {
        for seed in 0..40 {
            let (disk, path) = (disk(seed), Path::new("/data/db"));
            disk.create_dir_all(Path::new("/data")).unwrap();
            let database = open_database(&disk, path).unwrap();
            (0..10).for_each(|n| write(&database, n));
            // The last commit writes, but its fsync never comes.
            disk.lock().contents.stop_syncing();
            write(&database, 10);
            disk.crash(Crash::Power);
            drop(database);
            let found = numbers(&open_database(&disk, path).unwrap());
            assert!(found.len() == 10 || found.len() == 11, "seed {seed}: {found:?}");
        }
    }

    #[test]
    fn a_database_in_use_is_refused_until_its_host_dies() {
        let (disk, path) = (disk(1), Path::new("/db"));
        let held = open_database(&disk, path).unwrap();
        assert!(matches!(open_database(&disk, path), Err(OpenError::InUse(_))));
        disk.crash(Crash::Process);
        open_database(&disk, path).unwrap();
        drop(held);
    }

    #[test]
    fn names_stay_once_their_folder_was_synced() {
        for seed in 0..20 {
            let disk = disk(seed);
            disk.put(Path::new("/data/kept"), b"kept").unwrap();
            disk.open(Path::new("/data/part"), OpenMode::CreateNew).unwrap();
            disk.rename_new(Path::new("/data/part"), Path::new("/data/whole")).unwrap();
            disk.sync_dir(Path::new("/data")).unwrap();
            disk.remove(Path::new("/data/kept")).unwrap();
            disk.crash(Crash::Power);
            let names = disk.list(Path::new("/data")).unwrap();
            assert!(names == ["kept", "whole"] || names == ["whole"], "seed {seed}: {names:?}");
        }
    }

    #[test]
    fn a_repair_cut_short_leaves_the_old_file_or_the_new_one() {
        let (part, whole) = (Path::new("/data/part"), Path::new("/data/whole"));
        for seed in 0..40 {
            let disk = disk(seed);
            disk.put(whole, b"old").unwrap();
            let compared = disk.stat(whole).unwrap().stamp;
            let partial = Partial::create(&disk, part, 3).unwrap();
            partial.write(PieceIndex(0), [&b"new"[..]]).unwrap();
            let made = partial.stamp().unwrap();
            // Of odd seeds it is cut short between the exchange and the removal.
            let is_cut = seed % 2 == 1;
            if is_cut {
                partial.sync().unwrap();
                disk.exchange(part, whole).unwrap();
            } else {
                partial.finish(&disk, part, whole, Some(compared)).unwrap();
            }
            disk.crash(Crash::Power);
            if is_cut {
                take_back(&disk, part, whole, &made).unwrap();
                assert_eq!(disk.contents(whole).unwrap(), b"old", "seed {seed}");
                let (again, _) = Partial::reopen(&disk, part, 3, made).unwrap();
                again.finish(&disk, part, whole, Some(compared)).unwrap();
            }
            assert_eq!(disk.contents(whole).unwrap(), b"new", "seed {seed}");
            assert_eq!(disk.list(Path::new("/data")).unwrap(), ["whole"], "seed {seed}");
        }
    }

    #[test]
    fn a_killed_process_loses_nothing_written() {
        let disk = disk(1);
        let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
        file.write_at(3, b"abc").unwrap();
        disk.crash(Crash::Process);
        assert_eq!(disk.contents(Path::new("/f")).unwrap(), b"\0\0\0abc");
        assert!(file.write_at(0, b"late").is_err());
    }

    #[test]
    fn a_full_disk_says_so() {
        let disk = disk(1);
        disk.befall(Trouble::Full { left: 10 });
        let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
        file.write_at(0, &[1; 10]).unwrap();
        file.write_at(5, &[2; 5]).unwrap();
        assert_eq!(file.write_at(6, &[3; 5]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.allocate(11).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.free_bytes(Path::new("/")).unwrap(), 0);
        disk.mend();
        file.write_at(6, &[3; 5]).unwrap();
    }

    #[test]
    fn errors_come_where_they_should_and_end() {
        let disk = disk(1);
        disk.put(Path::new("/data/a"), b"kept").unwrap();
        let file = disk.open(Path::new("/data/a"), OpenMode::ReadWrite).unwrap();
        for (what, work) in [
            (Operation::Read, (|file| file.read_at(0, &mut [0; 4])) as fn(&dyn DiskFile) -> io::Result<()>),
            (Operation::Write, |file| file.write_at(0, b"ke")),
            (Operation::Sync, |file| file.sync()),
        ] {
            disk.befall(Trouble::Errors { what, one_in: 1, under: "/elsewhere" });
            work(&*file).unwrap();
            disk.befall(Trouble::Errors { what, one_in: 1, under: "/data" });
            assert_eq!(work(&*file).unwrap_err().raw_os_error(), Some(5));
            disk.mend();
            work(&*file).unwrap();
        }
        assert!(disk.was_in_trouble());
    }

    #[test]
    fn after_a_failed_fsync_another_one_helps_nothing() {
        let mut lost = 0;
        for seed in 0..40 {
            let disk = disk(seed);
            disk.put(Path::new("/f"), b"old").unwrap();
            let file = disk.open(Path::new("/f"), OpenMode::ReadWrite).unwrap();
            file.write_at(0, b"new").unwrap();
            disk.befall(Trouble::Errors { what: Operation::Sync, one_in: 1, under: "/" });
            file.sync().unwrap_err();
            disk.mend();
            file.sync().unwrap();
            disk.crash(Crash::Power);
            lost += u32::from(disk.contents(Path::new("/f")).unwrap() == b"old");
        }
        assert!((5..35).contains(&lost), "{lost}");
    }

    #[test]
    fn a_partial_file_that_could_not_be_synced_never_is() {
        let disk = disk(1);
        let partial = Partial::create(&disk, Path::new("/part"), 3).unwrap();
        partial.write(PieceIndex(0), [&b"abc"[..]]).unwrap();
        disk.befall(Trouble::Errors { what: Operation::Sync, one_in: 1, under: "/" });
        partial.sync().unwrap_err();
        disk.mend();
        partial.sync().unwrap_err();
        partial.finish(&disk, Path::new("/part"), Path::new("/whole"), None).unwrap_err();
        let made = partial.stamp().unwrap();
        let (again, _) = Partial::reopen(&disk, Path::new("/part"), 3, made).unwrap();
        again.write(PieceIndex(0), [&b"abc"[..]]).unwrap();
        again.finish(&disk, Path::new("/part"), Path::new("/whole"), None).unwrap();
        disk.crash(Crash::Power);
        assert_eq!(disk.contents(Path::new("/whole")).unwrap(), b"abc");
    }

    #[test]
    fn a_slow_disk_takes_its_time() {
        let disk = disk(1);
        assert_eq!(disk.delay(), Duration::ZERO);
        disk.befall(Trouble::Slow { most: Duration::from_millis(50) });
        let delays: Vec<_> = (0..50).map(|_| disk.delay()).collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(50)));
        assert!(delays.iter().any(|delay| *delay > Duration::from_millis(25)));
    }
}
