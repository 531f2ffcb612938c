//! Shares, and the files they make: a file is listed, and claims its name, while a live share of it exists.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::{Claim, Claims, Renamed};
use crate::protocol::{
    ids::{DeviceKey, FileId, GroupId, MembershipId, ShareId, TrackerNo, UserId},
    manifest::ManifestHeader,
    name::FileName,
    version::{Dot, Timestamp},
};

/// One device's sharing of one file: begun < ended.
#[derive(Clone, Debug, Default)]
struct Share {
    begun: Option<Begun>,
    /// Users in whose name it was ended; only the sharer's own counts.
    ended_by: BTreeSet<UserId>,
    /// Begun, not ended, and its membership lives: derived.
    live: bool,
}

/// How a share began: by the least try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// When.
    pub at: Timestamp,
    /// By which change.
    pub dot: Dot,
    /// The tracker that took it.
    pub taken_by: TrackerNo,
    /// The group.
    pub group: GroupId,
    /// The file.
    pub file: FileId,
    /// Who shares.
    pub user: UserId,
    /// On which device.
    pub device: DeviceKey,
    /// Under which membership.
    pub membership: MembershipId,
}

/// A file of a group, as long as anybody ever shared it.
#[derive(Clone, Debug)]
struct File {
    group: GroupId,
    manifest: ManifestHeader,
    live: BTreeSet<(Timestamp, ShareId)>,
}

/// A share became live, or no longer is.
#[derive(Clone, Debug)]
pub(super) struct Turned {
    pub(super) id: ShareId,
    pub(super) live: bool,
    pub(super) begun: Begun,
    pub(super) renamed: Vec<Renamed<FileName, FileId>>,
}

/// All shares and files.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    all: BTreeMap<ShareId, Share>,
    files: BTreeMap<FileId, File>,
    names: BTreeMap<GroupId, Claims<FileName, FileId>>,
    by_device: BTreeMap<(UserId, DeviceKey), BTreeSet<ShareId>>,
}

impl Shares {
    /// Merges a begin; of two tries of one request the lesser (timestamp, dot) counts. Returns the begin it replaces, and
    /// what was turned off with it. Call [`Shares::refresh`] next.
    pub(super) fn begin(
        &mut self,
        id: ShareId,
        begun: Begun,
        manifest: &ManifestHeader,
    ) -> Option<(Begun, Option<Turned>)> {
        let file = File { group: begun.group, manifest: manifest.clone(), live: BTreeSet::new() };
        self.files.entry(begun.file).or_insert(file);
        let known = self.all.entry(id).or_default().begun.clone();
        if known.as_ref().is_some_and(|known| (known.at, known.dot) <= (begun.at, begun.dot)) {
            return None;
        }
        let turned = self.refresh(id, false);
        self.all.entry(id).or_default().begun = Some(begun);
        known.map(|known| (known, turned))
    }

    /// Merges an end.
    pub(super) fn end(&mut self, id: ShareId, user: UserId) {
        self.all.entry(id).or_default().ended_by.insert(user);
    }

    /// The begin of a share, live or not.
    pub(super) fn begun(&self, id: &ShareId) -> Option<&Begun> {
        self.all.get(id)?.begun.as_ref()
    }

    /// Derives whether a share lives, given whether its membership does.
    pub(super) fn refresh(&mut self, id: ShareId, is_member: bool) -> Option<Turned> {
        let share = self.all.get_mut(&id)?;
        let begun = share.begun.clone()?;
        let live = is_member && !share.ended_by.contains(&begun.user);
        if live == share.live {
            return None;
        }
        share.live = live;
        let own = self.by_device.entry((begun.user, begun.device)).or_default();
        if live {
            own.insert(id)
        } else {
            own.remove(&id)
        };
        if own.is_empty() {
            self.by_device.remove(&(begun.user, begun.device));
        }
        let file = self.files.get_mut(&begun.file)?;
        if live {
            file.live.insert((begun.at, id))
        } else {
            file.live.remove(&(begun.at, id))
        };
        let renamed = self.claim(begun.file);
        Some(Turned { id, live, begun, renamed })
    }

    /// Lets a file claim its name from the time of its first live share.
    fn claim(&mut self, id: FileId) -> Vec<Renamed<FileName, FileId>> {
        let Some(file) = self.files.get(&id) else { return Vec::new() };
        let first = file.live.first().and_then(|&(at, share)| {
            let taken_by = self.all.get(&share)?.begun.as_ref()?.taken_by;
            Some(Claim { name: file.manifest.name.clone(), at, taken_by })
        });
        self.names.entry(file.group).or_default().set(id, first)
    }

    /// The names of a group's files.
    pub(super) fn names(&self, group: &GroupId) -> Option<&Claims<FileName, FileId>> {
        self.names.get(group)
    }

    /// Group and manifest of a file that a live share lists.
    pub(super) fn listed(&self, file: &FileId) -> Option<(GroupId, &ManifestHeader)> {
        self.files.get(file).filter(|file| !file.live.is_empty()).map(|file| (file.group, &file.manifest))
    }

    /// The name a file was first shared under, listed or not.
    pub(super) fn claimed(&self, file: &FileId) -> Option<&FileName> {
        self.files.get(file).map(|file| &file.manifest.name)
    }

    /// Live shares of a file, first one first.
    pub(super) fn of_file(&self, file: &FileId) -> impl Iterator<Item = (ShareId, &Begun)> + '_ {
        let live = self.files.get(file).into_iter().flat_map(|file| &file.live);
        live.filter_map(|(_, id)| Some((*id, self.begun(id)?)))
    }

    /// Live shares of a user's device.
    pub(super) fn of_device(&self, user: UserId, device: DeviceKey) -> impl Iterator<Item = (ShareId, &Begun)> + '_ {
        let live = self.by_device.get(&(user, device)).into_iter().flatten();
        live.filter_map(|id| Some((*id, self.begun(id)?)))
    }

    /// Number of live shares of a user's device.
    pub(super) fn device_count(&self, user: UserId, device: DeviceKey) -> usize {
        self.by_device.get(&(user, device)).map_or(0, BTreeSet::len)
    }
}
