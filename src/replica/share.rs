//! Shares, and the files they make: a file is listed, and claims its name, while a live share of it exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    iter,
};

use super::{
    claim::{Claim, Claims, Renamed},
    few::{FewMap, FewSet},
    fingerprint::Fact,
    stability::Cut,
    table::{FirstBytes, IdTable, Numbers, Row, RowNo, Rows},
};
use crate::protocol::{
    ids::{DeviceKey, FileId, GroupId, ManifestId, MembershipId, RequestId, ShareId, TrackerNo, UserId},
    manifest::ManifestHeader,
    name::FileName,
    record::{Change, ChangeBody},
    version::{Dot, Timestamp},
};

/// One device's sharing of one file: begun < ended.
#[derive(Clone, Debug)]
struct Share {
    id: ShareId,
    begun: Option<Start>,
    /// Begun, not ended, and its membership lives: derived.
    live: bool,
    /// What most shares have not.
    more: Option<Box<More>>,
}

/// How a share began, as it is kept: what it has in common with others stands there.
#[derive(Clone, Copy, Debug)]
struct Start {
    at: Timestamp,
    dot: Dot,
    taken_by: TrackerNo,
    membership: MembershipId,
    file: RowNo,
    stock: RowNo,
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
struct File {
    id: FileId,
    group: GroupId,
    manifest_id: ManifestId,
    manifest: ManifestHeader,
    /// Begins of its shares that are not forgotten.
    begins: u32,
    /// Its live shares, first one first, and where they stand.
    live: FewMap<(Timestamp, ShareId), RowNo>,
}

/// What a user's device shares, as long as that is not forgotten.
#[derive(Clone, Debug)]
struct Stock {
    user: UserId,
    device: DeviceKey,
    /// Number of shares that began there.
    shares: u32,
    live: FewSet<RowNo>,
    /// Pieces of what lives.
    pieces: u64,
}

impl Row for Share {
    type Id = ShareId;

    fn id(&self) -> ShareId {
        self.id
    }
}

impl Row for File {
    type Id = FileId;

    fn id(&self) -> FileId {
        self.id
    }
}

impl Row for Stock {
    type Id = (UserId, DeviceKey);

    fn id(&self) -> (UserId, DeviceKey) {
        (self.user, self.device)
    }
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
    pub(super) id: ShareId,
    /// The name of its file.
    pub(super) name: FileName,
    /// How often it was begun.
    pub(super) begins: u32,
    /// Changes that nothing needs any more, those begins among them.
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

/// The names of each group's files.
pub(super) type Names = IdTable<GroupId, Claims<FileName, FileId>>;

/// All shares and files.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    all: Rows<Share>,
    files: Rows<File>,
    stocks: Rows<Stock>,
    /// Files by their manifest, which may be the same in several groups.
    by_manifest: Numbers<FirstBytes>,
    names: Names,
    /// While a log is merged, whose names are claimed elsewhere meanwhile: files whose claims may have changed.
    unnamed: Option<Vec<RowNo>>,
    endings: BTreeMap<Dot, Ending>,
    /// Stocks by their user.
    by_user: Numbers<FirstBytes>,
}

impl Shares {
    /// Looks for what is about to be put in, and does nothing with it. Of many that are looked for one after the other the processor waits
    /// for several at a time, which it does not while it puts them in; then it has them at hand.
    pub(super) fn look_for(&self, share: &ShareId, file: &FileId, manifest: &ManifestId) {
        black_box((self.all.find(share), self.files.find(file), self.refers_to(manifest)));
    }

    /// Makes room for so many more shares to be found.
    pub(super) fn reserve(&mut self, more: usize) {
        self.all.reserve(more);
        self.files.reserve(more);
        let files = &self.files;
        self.by_manifest.reserve(more, |no| files.at(no).map(|file| file.manifest_id));
    }

    /// Merges a begin; of two tries of one request the lesser (timestamp, dot) counts. Returns where the share stands, and of a
    /// begin that it replaces what that was, and what was turned off with it. Call [`Shares::refresh`] next.
    pub(super) fn begin(
        &mut self,
        id: ShareId,
        begun: &Begun,
        manifest_id: ManifestId,
        manifest: &ManifestHeader,
    ) -> (RowNo, Option<(Begun, Option<Turned>)>) {
        let file = self.put_file(begun, manifest_id, manifest);
        let (no, _) = self.put_share(id);
        let Some(known) = self.begun_at(no) else {
            self.start(no, begun, file);
            return (no, None);
        };
        if (known.at, known.dot) <= (begun.at, begun.dot) {
            if known.dot != begun.dot {
                self.add_try(no, begun.dot, begun.file);
                self.count_begin(file);
            }
            return (no, None);
        }
        let turned = self.refresh(no, false);
        self.add_try(no, known.dot, known.file);
        self.leave_stock(&known);
        self.start(no, begun, file);
        (no, Some((known, turned)))
    }

    /// The place of a file.
    pub(super) fn put_file(&mut self, begun: &Begun, manifest_id: ManifestId, manifest: &ManifestHeader) -> RowNo {
        let (no, is_new) = self.files.find_or_put(&begun.file, || File {
            id: begun.file,
            group: begun.group,
            manifest_id,
            manifest: manifest.clone(),
            begins: 0,
            live: FewMap::default(),
        });
        if is_new {
            let files = &self.files;
            self.by_manifest.put(&manifest_id, no, |no| files.at(no).map(|file| file.manifest_id));
        }
        no
    }

    /// The place of a share, and whether nothing is known of it.
    pub(super) fn put_share(&mut self, id: ShareId) -> (RowNo, bool) {
        self.all.find_or_put(&id, || Share { id, begun: None, live: false, more: None })
    }

    /// Notes how a share began.
    pub(super) fn start(&mut self, no: RowNo, begun: &Begun, file: RowNo) {
        let Begun { at, dot, taken_by, user, device, membership, .. } = *begun;
        let new = || Stock { user, device, shares: 0, live: FewSet::default(), pieces: 0 };
        let (stock, is_new) = self.stocks.find_or_put(&(user, device), new);
        if is_new {
            let stocks = &self.stocks;
            self.by_user.put(&user, stock, |no| stocks.at(no).map(|stock| stock.user));
        }
        if let Some(stock) = self.stocks.at_mut(stock) {
            stock.shares += 1;
        }
        self.count_begin(file);
        if let Some(share) = self.all.at_mut(no) {
            share.begun = Some(Start { at, dot, taken_by, membership, file, stock });
        }
    }

    fn count_begin(&mut self, file: RowNo) {
        if let Some(file) = self.files.at_mut(file) {
            file.begins += 1;
        }
    }

    fn add_try(&mut self, no: RowNo, dot: Dot, file: FileId) {
        if let Some(share) = self.all.at_mut(no) {
            share.more.get_or_insert_default().begins.insert(dot, file);
        }
    }

    fn leave_stock(&mut self, begun: &Begun) {
        let Some(no) = self.stocks.find(&(begun.user, begun.device)) else { return };
        let Some(stock) = self.stocks.at_mut(no) else { return };
        stock.shares -= 1;
        if stock.shares == 0 {
            self.stocks.take(no);
            self.by_user.remove(&begun.user, no);
        }
    }

    /// Merges the end of these shares; returns where they stand. Call [`Shares::refresh`] next.
    pub(super) fn end(&mut self, change: &Change, shares: &[ShareId], user: UserId) -> Vec<RowNo> {
        let ending = Ending { request: change.request, shares: shares.iter().copied().collect() };
        self.endings.insert(change.dot, ending);
        shares.iter().map(|id| self.put_end(*id, change.dot, user)).collect()
    }

    fn put_end(&mut self, id: ShareId, dot: Dot, user: UserId) -> RowNo {
        let (no, _) = self.put_share(id);
        if let Some(share) = self.all.at_mut(no) {
            share.more.get_or_insert_default().ends.insert(dot, user);
        }
        no
    }

    /// The begin of a share, live or not.
    pub(super) fn begun(&self, id: &ShareId) -> Option<Begun> {
        self.begun_at(self.all.find(id)?)
    }

    /// How the share in a row began.
    pub(super) fn begun_at(&self, no: RowNo) -> Option<Begun> {
        let Start { at, dot, taken_by, membership, file, stock } = self.all.at(no)?.begun?;
        let (file, stock) = (self.files.at(file)?, self.stocks.at(stock)?);
        let (group, file, user, device) = (file.group, file.id, stock.user, stock.device);
        Some(Begun { at, dot, taken_by, group, file, user, device, membership })
    }

    /// Whether a share has begun.
    pub(super) fn has_begun(&self, id: &ShareId) -> bool {
        self.all.get(id).is_some_and(|share| share.begun.is_some())
    }

    /// Whether the share in a row lives.
    pub(super) fn is_live(&self, no: RowNo) -> bool {
        self.all.at(no).is_some_and(|share| share.live)
    }

    /// Rows of shares in the order of their identities.
    pub(super) fn in_order(&self, shares: impl IntoIterator<Item = RowNo>) -> Vec<RowNo> {
        let mut shares: Vec<RowNo> = shares.into_iter().collect();
        shares.sort_unstable_by_key(|no| self.all.at(*no).map(|share| share.id));
        shares
    }

    /// Where a share stands.
    pub(super) fn find(&self, id: &ShareId) -> Option<RowNo> {
        self.all.find(id)
    }

    /// Number of begins that are not forgotten.
    #[cfg(test)]
    pub(super) fn begins(&self) -> usize {
        self.files.iter().map(|file| file.begins as usize).sum()
    }

    /// All shares that began.
    #[cfg(test)]
    pub(super) fn all_begun(&self) -> impl Iterator<Item = ShareId> {
        self.all.iter().filter(|share| share.begun.is_some()).map(|share| share.id)
    }

    /// Derives whether a share lives, given whether its membership does.
    pub(super) fn refresh(&mut self, no: RowNo, is_member: bool) -> Option<Turned> {
        let begun = self.begun_at(no)?;
        let share = self.all.at(no)?;
        let id = share.id;
        let live = is_member && !share.is_ended_by(begun.user);
        if live == share.live {
            return None;
        }
        let file = self.turn(no, live)?;
        let renamed = if let Some(unnamed) = &mut self.unnamed {
            unnamed.push(file);
            Vec::new()
        } else {
            self.claim(file).map(|(_, renamed)| renamed).unwrap_or_default()
        };
        Some(Turned { id, live, begun, renamed })
    }

    /// Puts a share among those that live, or takes it from there; returns its file.
    pub(super) fn turn(&mut self, no: RowNo, live: bool) -> Option<RowNo> {
        let share = self.all.at_mut(no)?;
        share.live = live;
        let (start, id) = (share.begun?, share.id);
        let (stock, file) = (self.stocks.at_mut(start.stock)?, self.files.at_mut(start.file)?);
        if live {
            stock.live.insert(no);
            stock.pieces += u64::from(file.manifest.piece_count());
            file.live.insert((start.at, id), no);
        } else {
            stock.live.remove(&no);
            stock.pieces -= u64::from(file.manifest.piece_count());
            file.live.remove(&(start.at, id));
        }
        Some(start.file)
    }

    /// Pieces of all that a user shares: live shares only.
    pub(super) fn user_pieces(&self, user: &UserId) -> u64 {
        let stocks = self.by_user.all(user).filter_map(|no| self.stocks.at(no));
        stocks.filter(|stock| stock.user == *user).map(|stock| stock.pieces).sum()
    }

    /// Lets a file claim its name in its group from the time of its first live share.
    pub(super) fn claim(&mut self, file: RowNo) -> Option<(GroupId, Vec<Renamed<FileName, FileId>>)> {
        let file = self.files.at(file)?;
        let claim = claim(&self.all, file);
        Some((file.group, self.names.entry(file.group).or_default().set(file.id, claim)))
    }

    /// From now on files claim no names: those are made elsewhere, until they are taken over.
    pub(super) fn name_later(&mut self) {
        self.unnamed.get_or_insert_default();
    }

    /// Takes over the names that were made elsewhere; returns files whose claims may have changed meanwhile, which have yet to be
    /// looked at.
    pub(super) fn take_over(&mut self, names: Names) -> Vec<RowNo> {
        self.names = names;
        self.unnamed.take().unwrap_or_default()
    }

    /// The names of a group's files.
    pub(super) fn names(&self, group: &GroupId) -> Option<&Claims<FileName, FileId>> {
        self.names.get(group)
    }

    /// Group, identity of the manifest, and the manifest of a file that a live share lists.
    pub(super) fn listed(&self, file: &FileId) -> Option<(GroupId, ManifestId, &ManifestHeader)> {
        let file = self.files.get(file).filter(|file| !file.live.is_empty())?;
        Some((file.group, file.manifest_id, &file.manifest))
    }

    /// The name a file was first shared under, listed or not.
    pub(super) fn claimed(&self, file: &FileId) -> Option<&FileName> {
        self.files.get(file).map(|file| &file.manifest.name)
    }

    /// Live shares of a file, first one first.
    pub(super) fn of_file(&self, file: &FileId) -> impl Iterator<Item = (ShareId, Begun)> + '_ {
        let live = self.files.get(file).into_iter().flat_map(|file| file.live.iter());
        live.filter_map(|((_, id), no)| Some((*id, self.begun_at(*no)?)))
    }

    /// Live shares of a user's device, by identity.
    pub(super) fn of_device(&self, user: UserId, device: DeviceKey) -> impl Iterator<Item = (ShareId, Begun)> + '_ {
        let live = self.stocks.get(&(user, device)).into_iter().flat_map(|stock| stock.live.iter().copied());
        self.in_order(live).into_iter().filter_map(|no| Some((self.all.at(no)?.id, self.begun_at(no)?)))
    }

    /// Number of live shares of a user's device.
    pub(super) fn device_count(&self, user: UserId, device: DeviceKey) -> usize {
        self.stocks.get(&(user, device)).map_or(0, |stock| stock.live.len())
    }
}

/// What a file claims while a share of it lives.
fn claim(shares: &Rows<Share>, file: &File) -> Option<Claim<FileName>> {
    let (&(at, _), no) = file.live.iter().next()?;
    let taken_by = shares.at(*no)?.begun?.taken_by;
    Some(Claim { name: file.manifest.name.clone(), at, taken_by })
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

impl Share {
    fn is_ended_by(&self, user: UserId) -> bool {
        self.ends().any(|(_, by)| *by == user)
    }

    fn ends(&self) -> impl Iterator<Item = (&Dot, &UserId)> {
        self.more.iter().flat_map(|more| more.ends.iter())
    }

    /// All tries of its begin, of which `begun` is the one that counts.
    fn begins<'a>(&'a self, begun: &'a Begun) -> impl Iterator<Item = (&'a Dot, &'a FileId)> {
        iter::once((&begun.dot, &begun.file)).chain(self.more.iter().flat_map(|more| more.begins.iter()))
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
        let is_of = |no| self.files.at(no).is_some_and(|file| file.manifest_id == *manifest);
        self.by_manifest.find(manifest, is_of).is_some()
    }

    /// Forgets the names of a dissolved group's files: it has none.
    pub(super) fn forget_group(&mut self, group: &GroupId) {
        self.names.remove(group);
    }

    /// Forgets a share when all that was said of it is stable and it is over: by its own end, or by that of its membership.
    pub(super) fn fold(&mut self, no: RowNo, cut: &Cut, is_membership_over: bool) -> Option<Forgotten> {
        let (share, begun) = (self.all.at(no)?, self.begun_at(no)?);
        let said = share.begins(&begun).map(|(dot, _)| dot).chain(share.ends().map(|(dot, _)| dot));
        let is_stable = said.into_iter().all(|dot| cut.covers(dot));
        if share.live || !is_stable || !(is_membership_over || share.is_ended_by(begun.user)) {
            return None;
        }
        let share = self.all.take(no)?;
        let id = share.id;
        self.leave_stock(&begun);
        let mut dropped: Vec<_> = share.begins(&begun).map(|(dot, _)| (*dot, RequestId(id.0))).collect();
        let begins = u32::try_from(dropped.len()).unwrap_or(u32::MAX);
        for (dot, _) in share.ends() {
            dropped.extend(self.forget_ending(id, dot));
        }
        let name = self.claimed(&begun.file)?.clone();
        let manifests = share.begins(&begun).filter_map(|(_, file)| self.take_off(file)).collect();
        Some(Forgotten { id, name, begins, dropped, manifests })
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

    /// Takes a begin off a file; returns its manifest when nothing needs it any more.
    fn take_off(&mut self, file: &FileId) -> Option<ManifestId> {
        let no = self.files.find(file)?;
        let file = self.files.at_mut(no)?;
        file.begins -= 1;
        if file.begins > 0 {
            return None;
        }
        let manifest = file.manifest_id;
        self.files.take(no);
        self.by_manifest.remove(&manifest, no);
        (!self.refers_to(&manifest)).then_some(manifest)
    }
}
