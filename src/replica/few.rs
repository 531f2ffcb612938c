//! Maps and sets that mostly hold one or two entries: a file's shares, a name's claimants, a user's devices.
//!
//! A node of a B-tree has room for eleven entries, so a map of one takes as much memory as a map of eleven. A single entry
//! stands where the map itself does, and up to `FEW` stand in order in one allocation.

use std::{borrow::Borrow, collections::BTreeMap, iter};

/// Entries beyond which a tree takes over.
const FEW: usize = 12;

/// A map in the order of its keys.
#[derive(Clone, Debug)]
pub struct FewMap<K, V>(Entries<K, V>);

/// A set in order.
#[derive(Clone, Debug)]
pub struct FewSet<K>(FewMap<K, ()>);

#[derive(Clone, Debug)]
enum Entries<K, V> {
    /// None or one, where the map itself lies.
    One(Option<(K, V)>),
    Few(Vec<(K, V)>),
    Many(BTreeMap<K, V>),
}

impl<K, V> Default for FewMap<K, V> {
    fn default() -> Self {
        Self(Entries::One(None))
    }
}

impl<K, V> Entries<K, V> {
    /// What stands in order; `None` of a tree.
    fn slice(&self) -> Option<&[(K, V)]> {
        match self {
            Self::One(one) => Some(one.as_slice()),
            Self::Few(few) => Some(few),
            Self::Many(_) => None,
        }
    }

    fn slice_mut(&mut self) -> Result<&mut [(K, V)], &mut BTreeMap<K, V>> {
        match self {
            Self::One(one) => Ok(one.as_mut_slice()),
            Self::Few(few) => Ok(few),
            Self::Many(many) => Err(many),
        }
    }
}

impl<K: Ord, V> FewMap<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match &self.0 {
            Entries::Many(many) => many.get(key),
            few => few.slice().and_then(|few| Some(&few[find(few, key).ok()?].1)),
        }
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match self.0.slice_mut() {
            Ok(few) => find(few, key).ok().map(|at| &mut few[at].1),
            Err(many) => many.get_mut(key),
        }
    }

    /// Whether a key is there.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Puts a value in; returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let few = match self.0.slice_mut() {
            Ok(few) => few,
            Err(many) => return many.insert(key, value),
        };
        match find(few, &key) {
            Ok(at) => return Some(std::mem::replace(&mut few[at].1, value)),
            Err(at) => self.put_in(at, key, value),
        }
        None
    }

    /// Entries that there is room for from the second on: numbers take no less memory when there are fewer.
    const SECOND: usize = if size_of::<(K, V)>() <= 8 { 6 } else { 2 };

    /// Puts a new entry in its place.
    fn put_in(&mut self, at: usize, key: K, value: V) {
        match &mut self.0 {
            Entries::One(one @ None) => *one = Some((key, value)),
            Entries::One(one) => {
                let mut few = Vec::with_capacity(Self::SECOND);
                few.extend(one.take());
                few.insert(at, (key, value));
                self.0 = Entries::Few(few);
            }
            Entries::Few(few) if few.len() < FEW => {
                if few.len() == few.capacity() {
                    few.reserve_exact(few.len().min(FEW - few.len()));
                }
                few.insert(at, (key, value));
            }
            Entries::Few(few) => {
                let all = std::mem::take(few).into_iter().chain(iter::once((key, value)));
                self.0 = Entries::Many(all.collect());
            }
            Entries::Many(many) => drop(many.insert(key, value)),
        }
    }

    /// Takes a value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match &mut self.0 {
            Entries::Many(many) => many.remove(key),
            Entries::One(one) => one.take_if(|(known, _)| (*known).borrow() == key).map(|(_, value)| value),
            Entries::Few(few) => {
                let at = find(few, key).ok()?;
                let (_, value) = few.remove(at);
                if few.len() == 1 {
                    self.0 = Entries::One(few.pop());
                }
                Some(value)
            }
        }
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        match &self.0 {
            Entries::Many(many) => many.len(),
            few => few.slice().map_or(0, <[_]>::len),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entries in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        match &self.0 {
            Entries::Many(many) => Iter::Many(many.iter()),
            few => Iter::Few(few.slice().unwrap_or_default().iter()),
        }
    }

    /// All values in the order of their keys, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let (few, many) = match self.0.slice_mut() {
            Ok(few) => (Some(few), None),
            Err(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(_, value)| value);
        few.chain(many.into_iter().flat_map(BTreeMap::values_mut))
    }

    /// All keys in order.
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(self.iter())
    }
}

/// Entries in order.
#[derive(Debug)]
pub enum Iter<'a, K, V> {
    /// Of a few.
    Few(std::slice::Iter<'a, (K, V)>),
    /// Of many.
    Many(std::collections::btree_map::Iter<'a, K, V>),
}

/// Keys in order.
#[derive(Debug)]
pub struct Keys<'a, K, V>(Iter<'a, K, V>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(few) => few.next().map(|(key, value)| (key, value)),
            Self::Many(many) => many.next(),
        }
    }
}

impl<'a, K, V> Iterator for Keys<'a, K, V> {
    type Item = &'a K;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, _)| key)
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a FewMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K: Ord> IntoIterator for &'a FewSet<K> {
    type Item = &'a K;
    type IntoIter = Keys<'a, K, ()>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord> Extend<K> for FewSet<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, keys: I) {
        for key in keys {
            self.insert(key);
        }
    }
}

fn find<K: Ord + Borrow<Q>, V, Q: Ord + ?Sized>(few: &[(K, V)], key: &Q) -> Result<usize, usize> {
    few.binary_search_by(|(known, _)| known.borrow().cmp(key))
}

impl<K> Default for FewSet<K> {
    fn default() -> Self {
        Self(FewMap::default())
    }
}

impl<K: Ord> FewSet<K> {
    /// Whether it is in the set.
    pub fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Puts it in; returns whether it is new.
    pub fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    /// Takes it out; returns whether it was there.
    pub fn remove(&mut self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    /// The least.
    pub fn first(&self) -> Option<&K> {
        self.iter().next()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All in order.
    pub fn iter(&self) -> Keys<'_, K, ()> {
        self.0.keys()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_map_that_a_tree_is(history in prop::collection::vec((any::<bool>(), 0u8..24, any::<u8>()), 0..80)) {
            let (mut few, mut tree) = (FewMap::default(), BTreeMap::new());
            for (puts, key, value) in history {
                if puts {
                    prop_assert_eq!(few.insert(key, value), tree.insert(key, value));
                } else {
                    prop_assert_eq!(few.remove(&key), tree.remove(&key));
                }
                prop_assert_eq!(few.get(&key), tree.get(&key));
                prop_assert_eq!(few.len(), tree.len());
                prop_assert!(few.iter().eq(tree.iter()));
            }
            few.values_mut().for_each(|value| *value = 0);
            prop_assert!(few.iter().all(|(_, value)| *value == 0));
        }

        #[test]
        fn it_is_the_set_that_a_tree_is(history in prop::collection::vec((any::<bool>(), 0u8..24), 0..80)) {
            let (mut few, mut tree) = (FewSet::default(), std::collections::BTreeSet::new());
            for (puts, key) in history {
                if puts {
                    prop_assert_eq!(few.insert(key), tree.insert(key));
                } else {
                    prop_assert_eq!(few.remove(&key), tree.remove(&key));
                }
                prop_assert_eq!((few.first(), few.is_empty()), (tree.first(), tree.is_empty()));
                prop_assert_eq!(few.contains(&key), tree.contains(&key));
                prop_assert!(few.iter().eq(&tree));
            }
        }
    }
}
