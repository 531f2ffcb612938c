//! Changes from a link into a catalog.

use std::cmp::Reverse;

use p2p::{
    protocol::record::Change,
    replica::{Catalog, inbox::Inbox},
};

/// Takes changes as a link brings them, and merges what may enter the log in two orders and twice: the catalogs agree.
pub(crate) fn in_any_order(changes: &[Change]) {
    let mut inbox = Inbox::default();
    let mut catalog = Catalog::new();
    let received = inbox.receive(catalog.vector(), changes.to_vec(), |_| true, |_| Vec::new());
    let mut ready = inbox.take_ready(catalog.vector());
    assert!(received.is_err() || received.is_ok_and(|received| received.staged == ready.len()));
    apply(&mut catalog, &ready);
    ready.sort_by_key(|change| Reverse(change.dot.origin));
    let mut other = Catalog::new();
    apply(&mut other, &ready);
    apply(&mut other, &ready);
    assert_eq!(catalog.vector(), other.vector());
    assert_eq!(catalog.digest(), other.digest());
}

fn apply(catalog: &mut Catalog, changes: &[Change]) {
    for change in changes {
        catalog.apply(change);
    }
}
