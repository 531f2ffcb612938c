//! Changes from a link into a catalog.

use std::cmp::Reverse;

use p2p::{
    protocol::{
        record::Change,
        sync::SnapshotPage,
        version::{Timestamp, VersionVector},
    },
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

/// Takes in a snapshot of one page, that says it tells all up to its own changes.
pub(crate) fn snapshot(page: SnapshotPage) {
    let mut folded = VersionVector::default();
    for kept in &page.kept {
        folded.insert(kept.change.dot);
    }
    let mut inbox = Inbox::default();
    let is_last = page.next.is_none();
    let expected = inbox.expect_snapshot(folded, Timestamp::default());
    if expected.and_then(|()| inbox.receive_snapshot(page, |_| Vec::new())).is_err() {
        return;
    }
    let Some(snapshot) = inbox.take_snapshot() else { return assert!(!is_last) };
    let mut catalog = Catalog::new();
    snapshot.kept.values().for_each(|kept| catalog.restore(kept));
    catalog.forgotten(&snapshot.folded, snapshot.latest, snapshot.tombstones);
    assert_eq!(*catalog.vector(), snapshot.folded);
    let _ = catalog.digest();
}

fn apply(catalog: &mut Catalog, changes: &[Change]) {
    for change in changes {
        catalog.apply(change);
    }
}
