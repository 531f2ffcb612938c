//! The names on a disk: those that are, those that would survive, and the steps between.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    File(u64),
}

/// What one call did to the names, all of it or nothing.
type Step = Vec<(PathBuf, Option<Entry>)>;

/// The tree of names, by absolute path.
pub(super) struct Names {
    current: BTreeMap<PathBuf, Entry>,
    durable: BTreeMap<PathBuf, Entry>,
    journal: Vec<Step>,
}

impl Names {
    pub(super) fn new() -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), Entry::Folder)]);
        Self { current: root.clone(), durable: root, journal: Vec::new() }
    }

    pub(super) fn entry(&self, path: &Path) -> Option<Entry> {
        self.current.get(path).copied()
    }

    pub(super) fn check_folder(&self, path: &Path) -> io::Result<()> {
        match self.entry(path) {
            Some(Entry::Folder) => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn change(&mut self, step: Step) {
        apply(&step, &mut self.current);
        self.journal.push(step);
    }

    pub(super) fn rename(&mut self, from: PathBuf, to: PathBuf) -> io::Result<()> {
        self.check_folder(to.parent().unwrap_or_else(|| Path::new("/")))?;
        match (self.entry(&from).ok_or(io::ErrorKind::NotFound)?, self.entry(&to)) {
            (Entry::Folder, _) | (_, Some(Entry::Folder)) => Err(io::ErrorKind::IsADirectory.into()),
            (file, _) => {
                self.change(vec![(from, None), (to, Some(file))]);
                Ok(())
            }
        }
    }

    pub(super) fn exchange(&mut self, one: PathBuf, other: PathBuf) -> io::Result<()> {
        let found = [&one, &other].map(|path| self.entry(path));
        let [Some(from_one), Some(from_other)] = found else { return Err(io::ErrorKind::NotFound.into()) };
        self.change(vec![(one, Some(from_other)), (other, Some(from_one))]);
        Ok(())
    }

    pub(super) fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.check_folder(folder)?;
        let inside = self.current.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    /// Every file that has a name, or would have one after a power failure.
    pub(super) fn inodes(&self) -> BTreeSet<u64> {
        let inode = |entry: &Entry| match entry {
            Entry::File(inode) => Some(*inode),
            Entry::Folder => None,
        };
        self.current.values().chain(self.durable.values()).filter_map(inode).collect()
    }

    /// Makes the names in a folder durable, and the folder's own, as every journal does, with the steps they build on.
    pub(super) fn sync(&mut self, folder: &Path) -> io::Result<()> {
        self.check_folder(folder)?;
        let mut paths: BTreeSet<PathBuf> = folder.ancestors().map(Path::to_path_buf).collect();
        let (mut kept, mut done) = (Vec::new(), Vec::new());
        for step in self.journal.drain(..).rev() {
            if step.iter().any(|(path, _)| path.parent() == Some(folder) || paths.contains(path)) {
                paths.extend(step.iter().map(|(path, _)| path.clone()));
                done.push(step);
            } else {
                kept.push(step);
            }
        }
        done.iter().rev().for_each(|step| apply(step, &mut self.durable));
        self.journal.extend(kept.into_iter().rev());
        Ok(())
    }

    /// The power fails: a beginning of the journal stays.
    pub(super) fn lose(&mut self, rng: &mut ChaCha20Rng) {
        let kept = rng.next_u64() % (self.journal.len() as u64 + 1);
        for step in self.journal.drain(..).take(usize::try_from(kept).expect("at most the journal's length")) {
            apply(&step, &mut self.durable);
        }
        self.current.clone_from(&self.durable);
    }
}

fn apply(step: &Step, names: &mut BTreeMap<PathBuf, Entry>) {
    for (path, entry) in step {
        match entry {
            Some(entry) => names.insert(path.clone(), *entry),
            None => names.remove(path),
        };
    }
}
