//! Keys of the other trackers, as first seen when dialling their addresses.

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{StoreError, TrackerStore};
use crate::protocol::ids::DeviceKey;

/// Address (`host:port`, as listed) → key.
pub(super) const TABLE: TableDefinition<&str, &[u8; 32]> = TableDefinition::new("known_trackers");

impl TrackerStore {
    /// The key first seen at `address`.
    pub fn known_key(&self, address: &str) -> Result<Option<DeviceKey>, StoreError> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Ok(table.get(address)?.map(|key| DeviceKey(*key.value())))
    }

    /// Remembers `key` for `address` unless another is remembered; returns the one that counts.
    pub fn remember_key(&self, address: &str, key: DeviceKey) -> Result<DeviceKey, StoreError> {
        let transaction = self.database.begin_write()?;
        let counts = {
            let mut table = transaction.open_table(TABLE)?;
            let known = table.get(address)?.map(|known| DeviceKey(*known.value()));
            if known.is_none() {
                table.insert(address, &key.0)?;
            }
            known.unwrap_or(key)
        };
        transaction.commit()?;
        Ok(counts)
    }

    /// An operator says that `address` has another key now: `key`, or the first one that it shows.
    pub fn readmit(&self, address: &str, key: Option<DeviceKey>) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            match key {
                Some(key) => table.insert(address, &key.0)?,
                None => table.remove(address)?,
            };
        }
        Ok(transaction.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::store, *};

    #[test]
    fn the_first_key_of_an_address_stays() {
        let (store, one, two) = (store(), DeviceKey([1; 32]), DeviceKey([2; 32]));
        assert_eq!(store.known_key("a:1").unwrap(), None);
        assert_eq!(store.remember_key("a:1", one).unwrap(), one);
        assert_eq!(store.remember_key("a:1", two).unwrap(), one);
        assert_eq!(store.remember_key("b:1", two).unwrap(), two);
        assert_eq!(store.known_key("a:1").unwrap(), Some(one));
        store.readmit("a:1", Some(two)).unwrap();
        store.readmit("b:1", None).unwrap();
        assert_eq!(store.known_key("a:1").unwrap(), Some(two));
        assert_eq!(store.remember_key("b:1", one).unwrap(), one);
    }
}
