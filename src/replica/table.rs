//! Maps that are never gone through, only asked: an entry of a million is found in one or two places of memory, where a
//! tree of identities has to be climbed down through a dozen that nobody has looked at for long.
//!
//! Records that others refer to stand in rows, and are referred to by numbers.
//!
//! Hashes are the same in every process, and no order comes out. Whoever wants many entries in one place has to search for
//! each of them through as many names or requests as there are places, and gains no more than a longer look at those.

use std::{
    borrow::Borrow,
    collections::hash_map::Entry,
    hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher},
    ops::Index,
};

use hashbrown::{HashTable, hash_table};

/// A map by identities, which are hashes themselves.
#[derive(Clone, Debug)]
pub struct IdTable<K, V>(Hashed<K, V>);

#[expect(clippy::disallowed_types, reason = "its order is not to be seen from outside, and there is no chance in it")]
type Hashed<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FirstBytes>>;

impl<K, V> Default for IdTable<K, V> {
    fn default() -> Self {
        Self(Hashed::default())
    }
}

impl<K: Eq + Hash, V> IdTable<K, V> {
    /// The value of a key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key)
    }

    /// Whether a key is there.
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// Puts a value in; returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    /// Takes a value out.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key)
    }

    /// The place of a key.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        self.0.entry(key)
    }

    /// Makes room for so many more.
    pub fn reserve(&mut self, more: usize) {
        self.0.reserve(more);
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What all values come to.
    pub fn sum(&self, of: impl Fn(&V) -> usize) -> usize {
        self.0.values().map(of).sum()
    }
}

#[cfg(test)]
impl<K: Ord, V> IdTable<K, V> {
    /// All entries, in an order for tests.
    pub(crate) fn sorted(&self) -> std::collections::BTreeMap<&K, &V> {
        self.0.iter().collect()
    }
}

impl<K: Eq + Hash, V> Index<&K> for IdTable<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.0[key]
    }
}

impl<K: Eq + Hash, V: PartialEq> PartialEq for IdTable<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// Where a record stands among its like.
pub type RowNo = u32;

/// A record that says what it is found by.
pub trait Row {
    /// Its identity.
    type Id: Eq + Hash;

    /// What it is found by.
    fn id(&self) -> Self::Id;
}

/// Records by their identities. Each stands in a row of its own and is known to others by the number of that row: a number takes
/// an eighth of an identity, and is followed without a search. Numbers depend on the order of arrival, so nothing may depend on
/// theirs.
#[derive(Clone, Debug)]
pub struct Rows<R> {
    records: Vec<Option<R>>,
    free: Vec<RowNo>,
    numbers: Numbers<FirstBytes>,
}

impl<R> Default for Rows<R> {
    fn default() -> Self {
        Self { records: Vec::new(), free: Vec::new(), numbers: Numbers::default() }
    }
}

impl<R: Row> Rows<R> {
    /// Where a record stands.
    pub fn find(&self, id: &R::Id) -> Option<RowNo> {
        self.numbers.find(id, |no| self.at(no).is_some_and(|row| row.id() == *id))
    }

    /// A record by its identity.
    pub fn get(&self, id: &R::Id) -> Option<&R> {
        self.find(id).and_then(|no| self.at(no))
    }

    /// The record in a row.
    pub fn at(&self, no: RowNo) -> Option<&R> {
        self.records.get(no as usize)?.as_ref()
    }

    /// The record in a row, to be changed.
    pub fn at_mut(&mut self, no: RowNo) -> Option<&mut R> {
        self.records.get_mut(no as usize)?.as_mut()
    }

    /// Where a record stands, which is made if there is none; and whether it was.
    pub fn find_or_put(&mut self, id: &R::Id, make: impl FnOnce() -> R) -> (RowNo, bool) {
        let next = self.free.last().copied();
        let next = next.unwrap_or_else(|| RowNo::try_from(self.records.len()).expect("memory ends before numbers do"));
        let records = &self.records;
        let row = |no: RowNo| records.get(no as usize).and_then(Option::as_ref);
        let known = self.numbers.find_or_put(
            id,
            next,
            |no| row(no).is_some_and(|row| row.id() == *id),
            |no| row(no).map(R::id),
        );
        if let Some(no) = known {
            return (no, false);
        }
        match self.free.pop().and_then(|no| self.records.get_mut(no as usize)) {
            Some(row) => *row = Some(make()),
            None => self.records.push(Some(make())),
        }
        (next, true)
    }

    /// Takes a record out.
    pub fn take(&mut self, no: RowNo) -> Option<R> {
        let row = self.records.get_mut(no as usize)?.take()?;
        self.numbers.remove(&row.id(), no);
        self.free.push(no);
        Some(row)
    }

    /// Makes room for so many more to be found: the records themselves are moved by the page when they need more.
    pub fn reserve(&mut self, more: usize) {
        let records = &self.records;
        self.numbers.reserve(more, |no| records.get(no as usize).and_then(Option::as_ref).map(R::id));
    }

    /// Where all records stand.
    pub fn numbers(&self) -> impl Iterator<Item = RowNo> {
        let standing = (0..).zip(&self.records).filter(|(_, record)| record.is_some());
        standing.map(|(no, _)| no)
    }

    /// All records, in no order that means anything.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = &R> {
        self.records.iter().flatten()
    }
}

/// Numbers of rows by something that the rows hold, which several may share.
#[derive(Clone, Debug)]
pub struct Numbers<H> {
    table: HashTable<RowNo>,
    hasher: BuildHasherDefault<H>,
}

impl<H> Default for Numbers<H> {
    fn default() -> Self {
        Self { table: HashTable::new(), hasher: BuildHasherDefault::default() }
    }
}

impl<H: Hasher + Default> Numbers<H> {
    /// The number of a row that has this key and is the one.
    pub fn find(&self, key: &impl Hash, mut is: impl FnMut(RowNo) -> bool) -> Option<RowNo> {
        self.table.find(self.hasher.hash_one(key), |no| is(*no)).copied()
    }

    /// All numbers that may be of rows that have this key.
    pub fn all(&self, key: &impl Hash) -> impl Iterator<Item = RowNo> {
        self.table.iter_hash(self.hasher.hash_one(key)).copied()
    }

    /// Puts a number in, unless there is one that is of the same; `key_of` tells what others were put in by.
    pub fn find_or_put<K: Hash>(
        &mut self,
        key: &K,
        no: RowNo,
        mut is: impl FnMut(RowNo) -> bool,
        key_of: impl Fn(RowNo) -> Option<K>,
    ) -> Option<RowNo> {
        let hasher = &self.hasher;
        let hash_of = |no: &RowNo| key_of(*no).map_or(0, |key| hasher.hash_one(key));
        match self.table.entry(hasher.hash_one(key), |no| is(*no), hash_of) {
            hash_table::Entry::Occupied(known) => Some(*known.get()),
            hash_table::Entry::Vacant(place) => {
                place.insert(no);
                None
            }
        }
    }

    /// Puts a number in beside those that are there; `key_of` tells what those were put in by.
    pub fn put<K: Hash>(&mut self, key: &K, no: RowNo, key_of: impl Fn(RowNo) -> Option<K>) {
        let hasher = &self.hasher;
        let hash_of = |no: &RowNo| key_of(*no).map_or(0, |key| hasher.hash_one(key));
        self.table.insert_unique(hasher.hash_one(key), no, hash_of);
    }

    /// Takes a number out.
    pub fn remove(&mut self, key: &impl Hash, no: RowNo) {
        if let Ok(known) = self.table.find_entry(self.hasher.hash_one(key), |known| *known == no) {
            known.remove();
        }
    }

    /// Makes room for so many more.
    pub fn reserve<K: Hash>(&mut self, more: usize, key_of: impl Fn(RowNo) -> Option<K>) {
        let hasher = &self.hasher;
        self.table.reserve(more, |no| key_of(*no).map_or(0, |key| hasher.hash_one(key)));
    }
}

/// The first bytes of each part of a key that is made of hashes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = self.0.rotate_left(23) ^ u64::from_le_bytes(*first);
        }
    }

    /// Lengths say nothing: identities are of one length.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::ids::{DeviceKey, UserId};

    proptest! {
        #[test]
        fn it_knows_what_a_tree_knows(history in prop::collection::vec((any::<bool>(), 0u8..16, any::<u8>()), 0..80)) {
            let (mut table, mut tree) = (IdTable::default(), BTreeMap::new());
            for (puts, id, value) in history {
                let id = UserId([id; 32]);
                if puts {
                    prop_assert_eq!(table.insert(id, value), tree.insert(id, value));
                } else {
                    prop_assert_eq!(table.remove(&id), tree.remove(&id));
                }
                prop_assert_eq!((table.get(&id), table.len()), (tree.get(&id), tree.len()));
            }
            prop_assert_eq!(table.sum(|value| usize::from(*value)), tree.values().map(|value| usize::from(*value)).sum::<usize>());
        }
    }

    /// A record whose group is shared.
    #[derive(Clone, Debug, PartialEq)]
    struct Record(UserId, u8);

    impl Row for Record {
        type Id = UserId;

        fn id(&self) -> UserId {
            self.0
        }
    }

    proptest! {
        #[test]
        fn rows_hold_what_a_tree_holds(history in prop::collection::vec((any::<bool>(), 0u8..16), 0..80), room in 0usize..40) {
            let (mut rows, mut groups, mut tree) = (Rows::default(), Numbers::<FirstBytes>::default(), BTreeMap::new());
            for (at, (puts, key)) in history.into_iter().enumerate() {
                // Some begin with the same bytes, all that the hash looks at.
                let mut id = UserId([key / 4; 32]);
                id.0[31] = key;
                let group = |rows: &Rows<Record>, no| rows.at(no).map(|row| row.1);
                if puts {
                    let (no, is_new) = rows.find_or_put(&id, || Record(id, key % 3));
                    prop_assert_eq!(is_new, tree.insert(id, no).is_none());
                    if is_new {
                        groups.put(&(key % 3), no, |no| group(&rows, no));
                    }
                } else if let Some(no) = rows.find(&id) {
                    prop_assert_eq!(tree.remove(&id), Some(no));
                    prop_assert_eq!(rows.take(no), Some(Record(id, key % 3)));
                    groups.remove(&(key % 3), no);
                }
                if at == room {
                    rows.reserve(room);
                    groups.reserve(room, |no| group(&rows, no));
                }
                prop_assert_eq!(rows.iter().count(), tree.len());
                prop_assert!(tree.iter().all(|(id, no)| rows.find(id) == Some(*no) && rows.at(*no) == rows.get(id)));
                let of = |which| groups.all(&which).filter(|no| group(&rows, *no) == Some(which)).count();
                prop_assert!((0..3).all(|which| of(which) == rows.iter().filter(|row| row.1 == which).count()));
            }
        }
    }

    #[test]
    fn both_parts_of_a_key_count() {
        let hash = |user, device| {
            let mut hasher = FirstBytes::default();
            (UserId([user; 32]), DeviceKey([device; 32])).hash(&mut hasher);
            hasher.finish()
        };
        assert_ne!(hash(1, 2), hash(1, 3));
        assert_ne!(hash(1, 2), hash(2, 1));
        assert_ne!(hash(1, 1), hash(2, 2));
    }
}
