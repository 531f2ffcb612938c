//! Shares, and the files they make: a file is listed, and claims its name, while a live share of it exists.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    claim::{Claim, Claims, Renamed},
    few::{FewMap, FewSet},
    fingerprint::Fact,
    stability::Cut,
    table::IdTable,
};
use crate::protocol::{
    ids::{DeviceKey, FileId, GroupId, ManifestId, MembershipId, RequestId, ShareId, TrackerNo, UserId},
    manifest::ManifestHeader,
    name::FileName,
    record::{Change, ChangeBody},
    version::{Dot, Timestamp},
};

/// One device's sharing of one file: begun < ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub(super) begun: Option<Begun>,
    /// Begun, not ended, and its membership lives: derived.
    pub(super) live: bool,
    /// What most shares have not.
    more: Option<Box<More>>,
}

/// What few shares have.
#[derive(Clone, Debug, Default)]
struct More {
    /// Further tries of its begin. An honest client means the same file each time.
    begins: FewMap<Dot, FileId>,
    /// By which changes, and in whose name, it was ended; only the sharer's own counts.
    ends: FewMap<Dot, UserId>,
}

/// How a share began: by the least try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A file of a group, as long as a share of it is not forgotten.
#[derive(Clone, Debug)]
pub(super) struct File {
    group: GroupId,
    pub(super) manifest: ManifestHeader,
    shares: FewSet<ShareId>,
    live: FewSet<(Timestamp, ShareId)>,
}

/// A change that ends shares, as long as one of them is not forgotten.
#[derive(Clone, Debug)]
struct Ending {
    request: RequestId,
    shares: BTreeSet<ShareId>,
}

/// A share that is forgotten.
#[derive(Clone, Debug)]
pub(super) struct Forgotten {
    pub(super) begun: Begun,
    /// The name of its file.
    pub(super) name: FileName,
    /// Changes that nothing needs any more.
    pub(super) dropped: Vec<(Dot, RequestId)>,
    /// Manifests that no share in any group refers to any more.
    pub(super) manifests: Vec<ManifestId>,
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
    pub(super) all: IdTable<ShareId, Box<Share>>,
    pub(super) files: IdTable<FileId, Box<File>>,
    pub(super) names: IdTable<GroupId, Claims<FileName, FileId>>,
    /// How many files have this manifest.
    pub(super) manifests: IdTable<ManifestId, u32>,
    endings: BTreeMap<Dot, Ending>,
    pub(super) by_device: IdTable<(UserId, DeviceKey), FewSet<ShareId>>,
    /// Pieces of all that a user shares: live shares only.
    pieces: IdTable<UserId, u64>,
}

impl Shares {
    /// Makes room for `now` shares that are about to come. Where there is none, so many in `of` changes tell how many more there
    /// may be in the `left` ones after these.
    pub(super) fn reserve(&mut self, now: usize, of: usize, left: usize) {
        if self.all.has_room(now) {
            return;
        }
        let likely = now + left / of.max(1) * now;
        self.all.reserve(likely);
        self.files.reserve(likely);
        self.manifests.reserve(likely);
    }

    /// Merges a begin; of two tries of one request the lesser (timestamp, dot) counts. Returns the begin it replaces, and
    /// what was turned off with it. Call [`Shares::refresh`] next.
    pub(super) fn begin(
        &mut self,
        id: ShareId,
        begun: Begun,
        manifest: &ManifestHeader,
        manifest_id: ManifestId,
    ) -> Option<(Begun, Option<Turned>)> {
        let manifests = &mut self.manifests;
        let file = self.files.entry(begun.file).or_insert_with(|| {
            *manifests.entry(manifest_id).or_default() += 1;
            Box::new(File::new(begun.group, manifest.clone()))
        });
        file.add(id, None);
        let share = self.all.entry(id).or_default();
        let Some(known) = share.begun else {
            share.begun = Some(begun);
            return None;
        };
        if (known.at, known.dot) <= (begun.at, begun.dot) {
            if known.dot != begun.dot {
                share.more.get_or_insert_default().begins.insert(begun.dot, begun.file);
            }
            return None;
        }
        let turned = self.refresh(id, false);
        let share = self.all.entry(id).or_default();
        share.more.get_or_insert_default().begins.insert(known.dot, known.file);
        share.begun = Some(begun);
        Some((known, turned))
    }

    /// Merges the end of these shares.
    pub(super) fn end(&mut self, change: &Change, shares: &[ShareId], user: UserId) {
        for id in shares {
            self.all.entry(*id).or_default().more.get_or_insert_default().ends.insert(change.dot, user);
        }
        let ending = Ending { request: change.request, shares: shares.iter().copied().collect() };
        self.endings.insert(change.dot, ending);
    }

    /// The begin of a share, live or not.
    pub(super) fn begun(&self, id: &ShareId) -> Option<&Begun> {
        self.all.get(id)?.begun.as_ref()
    }

    /// Whether a share lives.
    pub(super) fn is_live(&self, id: &ShareId) -> bool {
        self.all.get(id).is_some_and(|share| share.live)
    }

    /// Derives whether a share lives, given whether its membership does.
    pub(super) fn refresh(&mut self, id: ShareId, is_member: bool) -> Option<Turned> {
        let share = self.all.get_mut(&id)?;
        let begun = share.begun?;
        let live = is_member && !share.is_ended_by(begun.user);
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
        let pieces = file.manifest.piece_count();
        self.count_pieces(begun.user, pieces, live);
        let renamed = self.claim(begun.file);
        Some(Turned { id, live, begun, renamed })
    }

    pub(super) fn count_pieces(&mut self, user: UserId, pieces: u32, live: bool) {
        let before = self.user_pieces(&user);
        let now = if live { before + u64::from(pieces) } else { before.saturating_sub(pieces.into()) };
        if now > 0 {
            self.pieces.insert(user, now)
        } else {
            self.pieces.remove(&user)
        };
    }

    /// Pieces of all that a user shares.
    pub(super) fn user_pieces(&self, user: &UserId) -> u64 {
        self.pieces.get(user).copied().unwrap_or_default()
    }

    /// Lets a file claim its name from the time of its first live share.
    pub(super) fn claim(&mut self, id: FileId) -> Vec<Renamed<FileName, FileId>> {
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
        let live = self.files.get(file).into_iter().flat_map(|file| file.live.iter());
        live.filter_map(|(_, id)| Some((*id, self.begun(id)?)))
    }

    /// Live shares of a user's device.
    pub(super) fn of_device(&self, user: UserId, device: DeviceKey) -> impl Iterator<Item = (ShareId, &Begun)> + '_ {
        let live = self.by_device.get(&(user, device)).into_iter().flat_map(FewSet::iter);
        live.filter_map(|id| Some((*id, self.begun(id)?)))
    }

    /// Number of live shares of a user's device.
    pub(super) fn device_count(&self, user: UserId, device: DeviceKey) -> usize {
        self.by_device.get(&(user, device)).map_or(0, FewSet::len)
    }
}

impl Begun {
    /// How a change began a share; `None` of another change.
    pub(super) fn new(change: &Change, manifest: &ManifestId) -> Option<Self> {
        let ChangeBody::ShareBegun { group, user, device, membership, .. } = change.body else { return None };
        let Change { at, dot, taken_by, .. } = *change;
        Some(Self { at, dot, taken_by, group, file: FileId::of(&group, manifest), user, device, membership })
    }

    /// What counts while this share lives.
    pub(super) fn fact(&self, id: &ShareId) -> Fact {
        Fact::of(&[b"share", &id.0, &self.file.0, &self.user.0, &self.device.0])
    }
}

impl File {
    pub(super) fn new(group: GroupId, manifest: ManifestHeader) -> Self {
        Self { group, manifest, shares: FewSet::default(), live: FewSet::default() }
    }

    /// Adds a share, and when it began if it lives.
    pub(super) fn add(&mut self, id: ShareId, live: Option<Timestamp>) {
        self.shares.insert(id);
        if let Some(at) = live {
            self.live.insert((at, id));
        }
    }
}

impl Share {
    pub(super) fn new(begun: Begun) -> Self {
        Self { begun: Some(begun), live: false, more: None }
    }

    fn is_ended_by(&self, user: UserId) -> bool {
        self.ends().any(|(_, by)| *by == user)
    }

    fn ends(&self) -> impl Iterator<Item = (&Dot, &UserId)> {
        self.more.iter().flat_map(|more| more.ends.iter())
    }

    /// All tries of its begin.
    fn begins(&self) -> impl Iterator<Item = (&Dot, &FileId)> {
        let least = self.begun.iter().map(|begun| (&begun.dot, &begun.file));
        least.chain(self.more.iter().flat_map(|more| more.begins.iter()))
    }
}

/// Forgetting.
impl Shares {
    /// Shares that a change ends.
    pub(super) fn ended_at(&self, dot: &Dot) -> Vec<ShareId> {
        self.endings.get(dot).map(|ending| ending.shares.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether a share that is not forgotten refers to a manifest.
    pub(super) fn refers_to(&self, manifest: &ManifestId) -> bool {
        self.manifests.contains_key(manifest)
    }

    /// Forgets the names of a dissolved group's files: it has none.
    pub(super) fn forget_group(&mut self, group: &GroupId) {
        self.names.remove(group);
    }

    /// Forgets a share when all that was said of it is stable and it is over: by its own end, or by that of its membership.
    pub(super) fn fold(&mut self, id: ShareId, cut: &Cut, is_membership_over: bool) -> Option<Forgotten> {
        let share = self.all.get(&id)?;
        let begun = share.begun?;
        let said = share.begins().map(|(dot, _)| dot).chain(share.ends().map(|(dot, _)| dot));
        let is_stable = said.into_iter().all(|dot| cut.covers(dot));
        if share.live || !is_stable || !(is_membership_over || share.is_ended_by(begun.user)) {
            return None;
        }
        let share = self.all.remove(&id)?;
        let mut dropped: Vec<_> = share.begins().map(|(dot, _)| (*dot, RequestId(id.0))).collect();
        for (dot, _) in share.ends() {
            dropped.extend(self.forget_ending(id, dot));
        }
        let name = self.claimed(&begun.file)?.clone();
        let manifests = share.begins().filter_map(|(_, file)| self.take_off(id, file)).collect();
        Some(Forgotten { begun, name, dropped, manifests })
    }

    fn forget_ending(&mut self, id: ShareId, dot: &Dot) -> Option<(Dot, RequestId)> {
        let ending = self.endings.get_mut(dot)?;
        ending.shares.remove(&id);
        let request = ending.request;
        if !ending.shares.is_empty() {
            return None;
        }
        self.endings.remove(dot);
        Some((*dot, request))
    }

    /// Takes a share off a file; returns its manifest when nothing needs it any more.
    fn take_off(&mut self, id: ShareId, file: &FileId) -> Option<ManifestId> {
        let shares = &mut self.files.get_mut(file)?.shares;
        shares.remove(&id);
        if !shares.is_empty() {
            return None;
        }
        let manifest = self.files.remove(file)?.manifest.id();
        let count = self.manifests.get_mut(&manifest)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.manifests.remove(&manifest);
        Some(manifest)
    }
}
