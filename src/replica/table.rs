//! Maps that are never gone through, only asked: an entry of a million is found in one or two places of memory, where a
//! tree of identities has to be climbed down through a dozen that nobody has looked at for long.
//!
//! Hashes are the same in every process, and no order comes out. Whoever wants many entries in one place has to search for
//! each of them through as many names or requests as there are places, and gains no more than a longer look at those.

use std::{
    borrow::Borrow,
    collections::hash_map::{DefaultHasher, Entry},
    hash::{BuildHasherDefault, Hash, Hasher},
    ops::Index,
};

/// A map by identities, which are hashes themselves.
pub type IdTable<K, V> = Table<K, V, FirstBytes>;
/// A map by names.
pub type NameTable<K, V> = Table<K, V, DefaultHasher>;

/// A map without an order.
#[derive(Clone, Debug)]
pub struct Table<K, V, H>(Hashed<K, V, H>);

#[expect(clippy::disallowed_types, reason = "its order is not to be seen from outside, and there is no chance in it")]
type Hashed<K, V, H> = std::collections::HashMap<K, V, BuildHasherDefault<H>>;

impl<K, V, H> Default for Table<K, V, H> {
    fn default() -> Self {
        Self(Hashed::default())
    }
}

impl<K: Eq + Hash, V, H: Hasher + Default> Table<K, V, H> {
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

    /// Whether there is room for so many more.
    pub fn has_room(&self, more: usize) -> bool {
        self.0.capacity() - self.0.len() >= more
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
impl<K: Ord, V, H> Table<K, V, H> {
    /// All entries, in an order for tests.
    pub(crate) fn sorted(&self) -> std::collections::BTreeMap<&K, &V> {
        self.0.iter().collect()
    }
}

impl<K: Eq + Hash, V, H: Hasher + Default> Index<&K> for Table<K, V, H> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.0[key]
    }
}

impl<K: Eq + Hash, V: PartialEq, H: Hasher + Default> PartialEq for Table<K, V, H> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
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
