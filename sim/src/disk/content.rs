//! The bytes of files: those written, those that would survive, and the changes between.

use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
};

use p2p::store::disk::{FileStamp, Stat};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Every file by its inode number.
#[derive(Default)]
pub(super) struct Contents {
    files: BTreeMap<u64, File>,
    next_inode: u64,
    /// Counts changes: the time of a file's last one.
    changes: i64,
    #[cfg(test)]
    lying: bool,
}

#[derive(Default)]
struct File {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    modified_ns: i64,
    holder: Option<u64>,
    /// An fsync has failed: what is read may be in the cache alone.
    doubtful: bool,
}

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

impl Contents {
    /// A new, empty file.
    pub(super) fn create(&mut self) -> u64 {
        self.next_inode += 1;
        self.files.insert(self.next_inode, File::default());
        self.next_inode
    }

    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.files.retain(|inode, _| keep(*inode));
    }

    pub(super) fn used_bytes(&self, named: &BTreeSet<u64>) -> u64 {
        named.iter().map(|inode| self.size(*inode)).sum()
    }

    pub(super) fn size(&self, inode: u64) -> u64 {
        self.files[&inode].current.len() as u64
    }

    pub(super) fn stat(&self, inode: u64) -> Stat {
        let (size, modified_ns) = (self.size(inode), self.files[&inode].modified_ns);
        Stat { is_dir: false, is_private: true, stamp: FileStamp { size, modified_ns, inode, device: 1 } }
    }

    pub(super) fn all(&self, inode: u64) -> &[u8] {
        &self.files[&inode].current
    }

    pub(super) fn read(&self, inode: u64, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = position(offset);
        let bytes = self.files[&inode].current.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) {
        self.change(inode, Change::Write { offset: position(offset), bytes: bytes.to_vec() });
    }

    pub(super) fn resize(&mut self, inode: u64, size: u64) {
        self.change(inode, Change::Resize(position(size)));
    }

    fn change(&mut self, inode: u64, change: Change) {
        self.changes += 1;
        let now = self.changes;
        let file = self.file(inode);
        change.apply(&mut file.current);
        file.pending.push(change);
        file.modified_ns = now;
    }

    fn file(&mut self, inode: u64) -> &mut File {
        self.files.get_mut(&inode).expect("a file lives as long as its handles do")
    }

    pub(super) fn sync(&mut self, inode: u64) {
        #[cfg(test)]
        if self.lying {
            return;
        }
        let file = self.file(inode);
        for change in mem::take(&mut file.pending) {
            change.apply(&mut file.durable);
        }
    }

    /// As Linux does it: what was to be written is clean now, written or not, and no later fsync tries again. What was not
    /// written is still read from the cache for as long as the process lives, or not even that.
    pub(super) fn fail_to_sync(&mut self, inode: u64, rng: &mut ChaCha20Rng) {
        let file = self.file(inode);
        for change in mem::take(&mut file.pending) {
            if coin(rng) {
                change.apply(&mut file.durable);
            }
        }
        file.doubtful = true;
        if coin(rng) {
            file.forget_the_cache();
        }
    }

    /// The process is over, and what only the cache had with it.
    pub(super) fn forget_the_cache(&mut self) {
        self.files.values_mut().for_each(File::forget_the_cache);
    }

    /// From now on fsync does nothing: a crash then finds a commit half way.
    #[cfg(test)]
    pub(super) fn stop_syncing(&mut self) {
        self.lying = true;
    }

    /// The power fails.
    pub(super) fn lose(&mut self, rng: &mut ChaCha20Rng) {
        #[cfg(test)]
        {
            self.lying = false;
        }
        self.files.values_mut().for_each(|file| file.lose(rng));
    }

    pub(super) fn lock(&mut self, inode: u64, handle: u64) -> bool {
        *self.file(inode).holder.get_or_insert(handle) == handle
    }

    pub(super) fn unlock(&mut self, inode: u64, handle: u64) {
        let file = self.file(inode);
        file.holder = file.holder.filter(|holder| *holder != handle);
    }

    pub(super) fn unlock_all(&mut self) {
        self.files.values_mut().for_each(|file| file.holder = None);
    }
}

impl File {
    fn forget_the_cache(&mut self) {
        if mem::take(&mut self.doubtful) {
            self.current.clone_from(&self.durable);
            for change in &self.pending {
                change.apply(&mut self.current);
            }
        }
    }

    /// Of what was not fsynced nothing stays, or some of it, torn.
    fn lose(&mut self, rng: &mut ChaCha20Rng) {
        let pending = mem::take(&mut self.pending);
        if !pending.is_empty() && coin(rng) {
            for change in pending {
                change.apply_torn(&mut self.durable, rng);
            }
        }
        self.current = self.durable.clone();
        self.doubtful = false;
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Resize(size) => content.resize(*size, 0),
            Self::Write { offset, bytes } => put(content, *offset, bytes),
        }
    }

    fn apply_torn(&self, content: &mut Vec<u8>, rng: &mut ChaCha20Rng) {
        match self {
            Self::Resize(_) if coin(rng) => self.apply(content),
            Self::Resize(_) => {}
            Self::Write { offset, bytes } => {
                for (offset, sector) in sectors(*offset, bytes).filter(|_| coin(rng)) {
                    put(content, offset, sector);
                }
            }
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    content.resize(content.len().max(end), 0);
    content[offset..end].copy_from_slice(bytes);
}

/// The parts of a write that stand or fall together.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - offset % SECTOR).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let rest = rest.chunks(SECTOR).enumerate().map(move |(n, sector)| (offset + first + n * SECTOR, sector));
    std::iter::once((offset, head)).chain(rest)
}

fn coin(rng: &mut ChaCha20Rng) -> bool {
    rng.next_u32() & 1 == 0
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated files fit into memory")
}
