//! Forgetting: what is over, and known to be so by everybody, leaves the catalog and the log.
//!
//! Below the stable cut (see [`stability`](super::stability)) whoever makes a change yet to arrive knows all there is. Nobody
//! accepts, shares under, ends or hands over what they know to be over, so nothing yet to arrive refers to it:
//!
//! | what goes | when all that was said of it is stable, and |
//! |---|---|
//! | a password | a later one is stable too |
//! | a session | it is ended |
//! | a share | it is ended, or its membership is |
//! | a membership | it is ended, and its shares are gone |
//! | an end | all that it could end is stable and gone, or another end ends it as well |
//! | an owner's past | the group has no change that is not stable; what later decisions may rest on stays |
//! | a group | it is dissolved, and its shares are gone |
//!
//! What stays is the log's own changes, so that a catalog made of them is the one that forgot. Each drop rests on changes under
//! the cut alone: of two trackers that forgot at different cuts, what neither has dropped is right for both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{catalog::Catalog, membership::Instance, stability::Cut, table::RowNo};
use crate::protocol::{
    ids::{DeviceKey, GroupId, ManifestId, MembershipId, RequestId, ShareId, UserId},
    record::{Change, ChangeBody, Tombstone, Verdict},
    version::Dot,
};

/// What a change touched: where to look for something to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    Password(UserId),
    Session(UserId),
    Share(ShareId),
    /// All shares that this change ends.
    Shares(Dot),
    Member(GroupId, UserId),
    Instance(GroupId, MembershipId),
    Group(GroupId),
}

/// What a fold took out of the catalog, to be taken out of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Changes that nothing needs any more.
    pub dropped: Vec<Dot>,
    /// Changes that stay while what they rest on has gone, with what was found of them.
    pub settled: Vec<(Dot, Verdict)>,
    /// Requests of which no change is left.
    pub forgotten: Vec<Tombstone>,
    /// Manifests that no share refers to any more.
    pub manifests: Vec<ManifestId>,
    /// Whether all that could be forgotten of the cut was; otherwise the next fold goes on.
    pub is_complete: bool,
}

impl Folded {
    /// Whether there is nothing to take out of the log.
    pub fn is_empty(&self) -> bool {
        self.dropped.is_empty() && self.settled.is_empty()
    }
}

impl Touched {
    pub(super) fn by(change: &Change) -> Self {
        match &change.body {
            ChangeBody::UserCreated { .. } => Self::Password(change.request.into()),
            ChangeBody::CredentialSet { user, .. } | ChangeBody::UserClosed { user } => Self::Password(*user),
            ChangeBody::GroupCreated { .. } => Self::Group(change.request.into()),
            ChangeBody::OwnerSet { group, .. } => Self::Group(*group),
            ChangeBody::MembershipRequested { group, user } | ChangeBody::MembershipEnded { group, user, .. } => {
                Self::Member(*group, *user)
            }
            ChangeBody::MembershipAccepted { group, membership, .. } => Self::Instance(*group, *membership),
            ChangeBody::ShareBegun { .. } => Self::Share(change.request.into()),
            ChangeBody::ShareEnded { .. } => Self::Shares(change.dot),
            ChangeBody::SessionOpened { user, .. } | ChangeBody::SessionsEnded { user, .. } => Self::Session(*user),
        }
    }

    fn group(&self) -> Option<GroupId> {
        match self {
            Self::Member(group, _) | Self::Instance(group, _) | Self::Group(group) => Some(*group),
            Self::Password(_) | Self::Session(_) | Self::Share(_) | Self::Shares(_) => None,
        }
    }
}

/// What changes touched, of each origin in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(BTreeMap<DeviceKey, Steps>);

/// Counters, and what the changes touched. Most begin a share, and take less room by themselves.
#[derive(Clone, Debug, Default)]
struct Steps {
    shares: Queue<ShareId>,
    others: Queue<Touched>,
}

/// What waits, by its counter.
#[derive(Clone, Debug)]
struct Queue<T> {
    all: VecDeque<(u64, T)>,
    /// A log was read in another order than it was written.
    is_mixed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { all: VecDeque::new(), is_mixed: false }
    }
}

impl<T> Queue<T> {
    fn add(&mut self, counter: u64, what: T) {
        self.is_mixed |= self.all.back().is_some_and(|(last, _)| counter < *last);
        self.all.push_back((counter, what));
    }

    fn sort(&mut self) {
        if std::mem::take(&mut self.is_mixed) {
            self.all.make_contiguous().sort_unstable_by_key(|(counter, _)| *counter);
        }
    }

    /// Takes out the first, if it is not after `newest`.
    fn take(&mut self, newest: u64) -> Option<(u64, T)> {
        let first = self.all.pop_front_if(|(counter, _)| *counter <= newest);
        if self.all.capacity() > 4 * self.all.len() {
            self.all.shrink_to(2 * self.all.len());
        }
        first
    }
}

impl Trail {
    /// Notes what a change touched.
    pub(super) fn add(&mut self, dot: Dot, what: Touched) {
        let steps = self.0.entry(dot.origin).or_default();
        match what {
            Touched::Share(share) => steps.shares.add(dot.counter, share),
            other => steps.others.add(dot.counter, other),
        }
    }

    /// Puts in order what came in another.
    pub(super) fn sort(&mut self) {
        for steps in self.0.values_mut() {
            steps.shares.sort();
            steps.others.sort();
        }
    }

    /// Takes out what was touched up to `newest`, until `out` holds `most`.
    fn take(&mut self, newest: Dot, most: usize, out: &mut Vec<(Dot, Touched)>) {
        let Some(Steps { shares, others }) = self.0.get_mut(&newest.origin) else { return };
        let mut next = || {
            let other = others.take(newest.counter);
            other.or_else(|| shares.take(newest.counter).map(|(counter, share)| (counter, Touched::Share(share))))
        };
        while out.len() < most
            && let Some((counter, what)) = next()
        {
            out.push((Dot { origin: newest.origin, counter }, what));
        }
        if shares.all.is_empty() && others.all.is_empty() {
            self.0.remove(&newest.origin);
        }
    }
}

/// A fold under way.
struct Fold<'a> {
    catalog: &'a mut Catalog,
    cut: &'a Cut,
    dropped: Vec<(Dot, RequestId)>,
    out: Folded,
}

impl Catalog {
    /// Forgets what is over under the cut, looking at `most` changes that became stable. Every question is answered as before,
    /// and the digest is the same.
    pub fn fold(&mut self, cut: &Cut, most: usize) -> Folded {
        let stable = self.take_stable(cut, most);
        let is_complete = stable.len() < most;
        let mut touched = std::mem::take(&mut self.waiting);
        for (dot, what) in stable {
            if let Some(group) = what.group()
                && let Some(record) = self.groups.get_mut(&group)
            {
                record.loose.remove(&dot);
                touched.insert(Touched::Group(group));
            }
            touched.insert(what);
        }
        let (dropped, out) = (Vec::new(), Folded { is_complete, ..Folded::default() });
        let mut fold = Fold { catalog: self, cut, dropped, out };
        for what in touched {
            fold.look_at(what);
        }
        fold.finish()
    }

    /// Forgets requests of which nothing else is left: nobody repeats them any more.
    pub fn forget_requests(&mut self, requests: &[RequestId]) {
        for request in requests {
            if self.is_forgotten(request) {
                self.ledger.requests.remove(request);
            }
        }
    }

    /// Whether a share that is not forgotten refers to a manifest.
    pub fn refers_to(&self, manifest: &ManifestId) -> bool {
        self.shares.refers_to(manifest)
    }

    /// Number of changes known that are not forgotten, and of requests remembered: what memory is bounded by.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        let requests = &self.ledger.requests;
        let shares = self.shares.all_begun().filter(|share| !requests.contains_key(&RequestId(share.0)));
        (requests.sum(|known| known.changes as usize) + self.shares.begins(), requests.len() + shares.count())
    }

    fn take_stable(&mut self, cut: &Cut, most: usize) -> Vec<(Dot, Touched)> {
        let mut stable = Vec::new();
        self.ledger.touched.sort();
        for newest in cut.stable().iter() {
            self.ledger.touched.take(newest, most, &mut stable);
        }
        stable
    }
}

impl Fold<'_> {
    fn look_at(&mut self, what: Touched) {
        match what {
            Touched::Password(user) => {
                if let Some(user) = self.catalog.users.get_mut(&user) {
                    self.dropped.extend(user.fold(self.cut));
                }
            }
            Touched::Session(user) => self.dropped.extend(self.catalog.sessions.fold(&user, self.cut)),
            Touched::Share(share) => self.look_at_share(share),
            Touched::Shares(dot) => {
                for share in self.catalog.shares.ended_at(&dot) {
                    self.look_at_share(share);
                }
            }
            Touched::Member(group, user) => self.look_at_member(group, user),
            Touched::Instance(group, membership) => {
                let record = self.catalog.groups.get(&group);
                let user = record.and_then(|record| record.instances.get(&membership)).and_then(Instance::user);
                if let Some(user) = user {
                    self.look_at_member(group, user);
                }
            }
            Touched::Group(group) => self.look_at_group(group),
        }
    }

    /// A share, and the membership or the dissolved group that may only have waited for it.
    fn look_at_share(&mut self, id: ShareId) {
        let Some(no) = self.catalog.shares.find(&id) else { return };
        // As most are after a start: nothing else is to be looked at.
        if self.catalog.shares.is_live(no) {
            return;
        }
        let Some(begun) = self.catalog.shares.begun_at(no) else { return };
        if !self.fold_share(no) {
            return;
        }
        let Some(record) = self.catalog.groups.get_mut(&begun.group) else { return };
        match record.forget_blank(&begun.membership) {
            Some(user) => self.look_at_member(begun.group, user),
            None if record.is_forgettable() => self.look_at_group(begun.group),
            None => {}
        }
    }

    /// Forgets a share if it may; returns whether it did.
    fn fold_share(&mut self, no: RowNo) -> bool {
        let Some(begun) = self.catalog.shares.begun_at(no) else { return false };
        let group = self.catalog.groups.get(&begun.group);
        let is_over = group.is_some_and(|group| group.is_over(&begun.membership, self.cut));
        let Some(forgotten) = self.catalog.shares.fold(no, self.cut, is_over) else { return false };
        if let Some(instance) =
            self.catalog.groups.get_mut(&begun.group).and_then(|group| group.instances.get_mut(&begun.membership))
        {
            instance.shares.remove(&no);
        }
        self.catalog.ledger.forget_share(RequestId(forgotten.id.0), forgotten.begins, begun.file, forgotten.name);
        self.dropped.extend(forgotten.dropped);
        self.out.manifests.extend(forgotten.manifests);
        true
    }

    /// What is over of a user in a group, shares first.
    fn look_at_member(&mut self, group: GroupId, user: UserId) {
        let shares = self.catalog.groups.get(&group).into_iter().flat_map(|record| record.shares_of(&user));
        for share in self.catalog.shares.in_order(shares) {
            self.fold_share(share);
        }
        let Some(record) = self.catalog.groups.get_mut(&group) else { return };
        if record.authors.contains(&user) || record.is_forgettable() {
            return self.look_at_group(group);
        }
        self.dropped.extend(record.fold_user(user, self.cut, &BTreeSet::new()));
        if record.has_ends(&user) {
            self.catalog.waiting.insert(Touched::Member(group, user));
        }
    }

    /// What is over of the group's owners, and the group itself.
    fn look_at_group(&mut self, id: GroupId) {
        let Some(record) = self.catalog.groups.get(&id) else { return };
        if !record.is_quiet() {
            return;
        }
        let authors: Vec<_> = record.authors.iter().copied().collect();
        for share in self.catalog.shares.in_order(authors.iter().flat_map(|user| record.shares_of(user))) {
            self.fold_share(share);
        }
        let Some(record) = self.catalog.groups.get_mut(&id) else { return };
        if record.is_forgettable() {
            self.dropped.extend(record.all_changes(id));
            self.catalog.groups.remove(&id);
            self.catalog.shares.forget_group(&id);
        } else {
            let (dropped, settled) = record.fold_owners(self.cut);
            if record.awaits(self.cut) {
                self.catalog.waiting.insert(Touched::Group(id));
            }
            self.dropped.extend(dropped);
            self.out.settled.extend(settled);
        }
    }

    /// Buries the requests of which no change is left.
    fn finish(mut self) -> Folded {
        for (dot, request) in self.dropped {
            self.out.dropped.push(dot);
            let Some(known) = self.catalog.ledger.requests.get_mut(&request) else { continue };
            known.changes -= 1;
            let done = known.done();
            if self.catalog.is_forgotten(&request) {
                self.out.forgotten.push(Tombstone { request, done });
            }
        }
        let dropped: BTreeSet<&Dot> = self.out.dropped.iter().collect();
        self.out.settled.retain(|(dot, _)| !dropped.contains(dot));
        self.out
    }
}
