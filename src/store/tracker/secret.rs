//! The device secret: made on the first run, never changed.

use redb::{ReadableTable as _, TableDefinition};
use zeroize::Zeroizing;

use super::{StoreError, TrackerStore};
use crate::protocol::device::DeviceSecret;

/// One entry: the 32-byte Ed25519 seed.
pub(super) const TABLE: TableDefinition<(), &[u8; 32]> = TableDefinition::new("secret");

impl TrackerStore {
    /// The device secret; `fresh` becomes it on the first run.
    pub fn secret_or(&self, fresh: [u8; 32]) -> Result<DeviceSecret, StoreError> {
        let fresh = Zeroizing::new(fresh);
        let transaction = self.database.begin_write()?;
        let seed = {
            let mut table = transaction.open_table(TABLE)?;
            let known = table.get(())?.map(|seed| Zeroizing::new(*seed.value()));
            if known.is_none() {
                table.insert((), &*fresh)?;
            }
            known.unwrap_or(fresh)
        };
        transaction.commit()?;
        Ok(DeviceSecret::from_seed(*seed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::store;

    #[test]
    fn the_first_secret_stays() {
        let store = store();
        let key = store.secret_or([1; 32]).unwrap().key();
        assert_eq!(store.secret_or([2; 32]).unwrap().key(), key);
    }
}
