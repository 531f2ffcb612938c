//! What this device serves, as trackers are told: the whole after each hello, then coalesced changes.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{
    client::{Presence, Serving},
    ids::FileId,
    limits::MAX_PRESENCE_FILES,
};

/// Every file served now, and what the tracker in use has yet to hear of it.
#[derive(Debug, Default)]
pub struct PresenceMap {
    serving: BTreeMap<FileId, Serving>,
    changed: BTreeSet<FileId>,
}

impl PresenceMap {
    /// A file is served, or more of it.
    pub fn serve(&mut self, serving: Serving) {
        if self.serving.insert(serving.file, serving) != Some(serving) {
            self.changed.insert(serving.file);
        }
    }

    /// A file is no longer served.
    pub fn end(&mut self, file: FileId) {
        if self.serving.remove(&file).is_some() {
            self.changed.insert(file);
        }
    }

    /// How much of `file` is served, in percent.
    pub fn percent(&self, file: FileId) -> Option<u8> {
        self.serving.get(&file).map(|serving| serving.percent)
    }

    /// Whether the tracker has yet to hear of a change.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// All that is served, for a tracker that knows nothing yet: at least one message, the first one resets.
    pub fn whole(&mut self, address: &str) -> Vec<Presence> {
        self.changed.clear();
        let all: Vec<_> = self.serving.values().copied().collect();
        let mut messages = split(address, &all, &[]);
        if messages.is_empty() {
            messages.push(message(address, &[], &[]));
        }
        messages[0].reset = true;
        messages
    }

    /// What has changed since it was last asked for.
    pub fn changes(&mut self, address: &str) -> Vec<Presence> {
        let changed = std::mem::take(&mut self.changed);
        let (there, gone): (Vec<_>, Vec<_>) = changed.into_iter().partition(|file| self.serving.contains_key(file));
        let there: Vec<_> = there.iter().filter_map(|file| self.serving.get(file).copied()).collect();
        split(address, &there, &gone)
    }
}

fn split(address: &str, serving: &[Serving], ended: &[FileId]) -> Vec<Presence> {
    let begun = serving.chunks(MAX_PRESENCE_FILES).map(|part| message(address, part, &[]));
    let over = ended.chunks(MAX_PRESENCE_FILES).map(|part| message(address, &[], part));
    begun.chain(over).collect()
}

fn message(address: &str, serving: &[Serving], ended: &[FileId]) -> Presence {
    Presence { reset: false, address: address.to_owned(), serving: serving.to_vec(), ended: ended.to_vec() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::ids::GroupId;

    fn file(n: u16) -> FileId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_le_bytes());
        FileId(id)
    }

    fn serving(n: u16, percent: u8) -> Serving {
        Serving { group: GroupId([1; 32]), file: file(n), percent }
    }

    /// What a tracker makes of the messages.
    fn apply(view: &mut BTreeMap<FileId, Serving>, messages: Vec<Presence>) {
        for presence in messages {
            assert!(presence.serving.len() + presence.ended.len() <= MAX_PRESENCE_FILES);
            if presence.reset {
                view.clear();
            }
            view.extend(presence.serving.into_iter().map(|serving| (serving.file, serving)));
            view.retain(|file, _| !presence.ended.contains(file));
        }
    }

    #[test]
    fn an_empty_whole_still_resets() {
        let messages = PresenceMap::default().whole("a:1");
        assert_eq!(messages, [Presence { reset: true, ..message("a:1", &[], &[]) }]);
    }

    #[test]
    fn a_large_whole_is_split_and_resets_once() {
        let mut map = PresenceMap::default();
        (0..2500).for_each(|n| map.serve(serving(n, 100)));
        let messages = map.whole("a:1");
        assert_eq!(messages.iter().map(|presence| presence.reset).collect::<Vec<_>>(), [true, false, false]);
        assert!(!map.has_changes());
    }

    proptest! {
        #[test]
        fn a_tracker_that_hears_every_change_sees_what_is_served(
            steps in prop::collection::vec((0u16..6, prop::option::of(0u8..=100), any::<bool>(), any::<bool>()), 0..60)
        ) {
            let (mut map, mut view) = (PresenceMap::default(), BTreeMap::new());
            apply(&mut view, map.whole("a:1"));
            for (n, percent, flush, hello) in steps {
                match percent {
                    Some(percent) => map.serve(serving(n, percent)),
                    None => map.end(file(n)),
                }
                if hello {
                    apply(&mut view, map.whole("a:1"));
                } else if flush {
                    apply(&mut view, map.changes("a:1"));
                }
            }
            apply(&mut view, map.changes("a:1"));
            prop_assert_eq!(&view, &map.serving);
            prop_assert!(map.changes("a:1").is_empty());
        }
    }
}
