//! Forgetting within a group. What later decisions may rest on stays: the creation or the hand-over that counts, the
//! membership it names, also when that is over, and the end that let the group pass on.

use std::collections::BTreeSet;

use super::{
    group::{Group, Transfer, TransferId},
    membership::{End, Instance},
    stability::Cut,
    table::RowNo,
};
use crate::protocol::{
    ids::{GroupId, MembershipId, RequestId, UserId},
    record::Verdict,
    version::Dot,
};

/// Changes that nothing needs any more.
type Dropped = Vec<(Dot, RequestId)>;

impl Group {
    /// Whether all that is known of the group is stable.
    pub(super) fn is_quiet(&self) -> bool {
        self.loose.is_empty()
    }

    /// Whether a stable end is over an instance.
    pub(super) fn is_over(&self, id: &MembershipId, cut: &Cut) -> bool {
        let Some(instance) = self.instances.get(id) else { return false };
        let ends = instance.user().and_then(|user| self.ends.get(&user)).into_iter().flatten();
        ends.filter(|end| end.is_final(cut)).any(|end| instance.is_covered(end))
    }

    /// Shares under any instance of a user.
    pub(super) fn shares_of(&self, user: &UserId) -> impl Iterator<Item = RowNo> {
        let ids = self.by_user.get(user).into_iter().flatten();
        ids.flat_map(|id| self.instances[id].shares.iter().copied())
    }

    /// Whether ends of a user are left: they wait for what they rest on, or for what their author had seen.
    pub(super) fn has_ends(&self, user: &UserId) -> bool {
        self.ends.contains_key(user)
    }

    /// Whether ends of those who acted as owners wait for what their author had seen.
    pub(super) fn awaits(&self, cut: &Cut) -> bool {
        let ends = self.authors.iter().filter_map(|user| self.ends.get(user)).flatten();
        ends.into_iter().any(|end| !cut.covers_past(&end.past))
    }

    /// Drops an instance of which nothing was ever heard; returns the user of one that was.
    pub(super) fn forget_blank(&mut self, id: &MembershipId) -> Option<UserId> {
        if self.instances.get(id)?.is_blank() {
            self.instances.remove(id);
            return None;
        }
        self.instances.get(id)?.user()
    }

    /// Drops the instances of a user that are over, but for those `kept`, and the ends that nothing needs.
    pub(super) fn fold_user(&mut self, user: UserId, cut: &Cut, kept: &BTreeSet<MembershipId>) -> Dropped {
        let mut dropped = Dropped::new();
        for &id in &self.by_user.get(&user).cloned().unwrap_or_default() {
            let instance = &self.instances[&id];
            let is_stable = instance.dots().all(|dot| cut.covers(dot));
            let goes = !kept.contains(&id) && instance.user() == Some(user) && instance.shares.is_empty() && is_stable;
            if goes && self.is_over(&id, cut) {
                dropped.extend(self.drop_instance(&id, &user));
            }
        }
        dropped.extend(self.drop_ends(user, cut, kept));
        dropped
    }

    fn drop_instance(&mut self, id: &MembershipId, user: &UserId) -> Dropped {
        let Some(instance) = self.instances.remove(id) else { return Dropped::new() };
        // Tries of one request are of one user, unless its client lies.
        let users = if instance.request_dots.len() == 1 { vec![*user] } else { self.by_user.keys().copied().collect() };
        for user in users {
            let Some(own) = self.by_user.get_mut(&user) else { continue };
            own.remove(id);
            if own.is_empty() {
                self.by_user.remove(&user);
            }
        }
        changes_of(*id, &instance)
    }

    fn drop_ends(&mut self, user: UserId, cut: &Cut, kept: &BTreeSet<MembershipId>) -> Dropped {
        let Some(ends) = self.ends.remove(&user) else { return Dropped::new() };
        let own = || self.by_user.get(&user).into_iter().flatten().map(|id| (id, &self.instances[id]));
        let evidence: BTreeSet<Dot> = own()
            .filter(|(id, _)| kept.contains(id))
            .filter_map(|(_, instance)| first_over(instance, &ends, cut))
            .collect();
        let is_needed = |end: &End| {
            let covers = own().any(|(id, instance)| !kept.contains(id) && instance.is_covered(end));
            let may_cover = covers || !cut.covers_past(&end.past);
            evidence.contains(&end.dot) || (may_cover && !ends.iter().any(|other| other.replaces(end, cut)))
        };
        let (stay, go): (Vec<_>, Vec<_>) =
            ends.iter().cloned().partition(|end| !end.is_final(cut) || (end.valid && is_needed(end)));
        if !stay.is_empty() {
            self.ends.insert(user, stay);
        }
        go.into_iter().map(|end| (end.dot, end.request)).collect()
    }

    /// Drops, of a quiet group, hand-overs that others have replaced and what is over of those who acted as owners. Returns
    /// beside it what was found of the changes that stay.
    pub(super) fn fold_owners(&mut self, cut: &Cut) -> (Dropped, Vec<(Dot, Verdict)>) {
        let Some(created) = &self.created else { return (Dropped::new(), Vec::new()) };
        if !self.can_settle(cut) {
            return (Dropped::new(), Vec::new());
        }
        let (founder, mut authors) = (created.membership, BTreeSet::from([created.owner]));
        let mut kept = BTreeSet::from([founder]);
        let last = self.last_transfer().map(|(id, _)| *id);
        if let Some(transfer) = &last {
            kept.insert(transfer.membership);
            authors.extend([transfer.by, transfer.owner]);
        }
        let replaced = self.transfers.extract_if(.., |id, _| Some(*id) != last);
        let tries = replaced.flat_map(|(id, one)| one.tries.into_iter().map(move |one| (one.dot, id.request)));
        let mut dropped: Dropped = tries.collect();
        for author in self.authors.clone() {
            dropped.extend(self.fold_user(author, cut, &kept));
        }
        if dropped.is_empty() {
            return (dropped, Vec::new());
        }
        self.authors = authors;
        (dropped, self.settle())
    }

    /// Whether all that rights in the group rest on is stable.
    fn can_settle(&self, cut: &Cut) -> bool {
        let accepts = self.instances.values().flat_map(|instance| &instance.accepts);
        let accepts = accepts.filter(|accept| !accept.settled).map(|accept| &accept.rests_on);
        let ends = self.ends.values().flatten().filter(|end| !end.settled).map(|end| &end.rests_on);
        let tries = self.transfers.values().flat_map(|transfer| &transfer.tries);
        let tries = tries.filter(|one| !one.settled).map(|one| &one.rests_on);
        accepts.chain(ends).chain(tries).flatten().all(|dot| cut.covers(dot))
    }

    /// Fixes what was found of every change of the group, since what that follows from is going.
    fn settle(&mut self) -> Vec<(Dot, Verdict)> {
        let mut settled = Vec::new();
        for accept in self.instances.values_mut().flat_map(|one| &mut one.accepts).filter(|one| !one.settled) {
            accept.settled = true;
            settled.push((accept.dot, Verdict { valid: accept.valid, effective: accept.effective }));
        }
        for end in self.ends.values_mut().flatten().filter(|end| !end.settled) {
            end.settled = true;
            settled.push((end.dot, Verdict { valid: end.valid, effective: false }));
        }
        for one in self.transfers.values_mut().flat_map(|one| &mut one.tries).filter(|one| !one.settled) {
            one.settled = true;
            settled.push((one.dot, Verdict { valid: one.valid, effective: false }));
        }
        settled
    }

    /// Whether a quiet group may go as a whole: dissolved, and without shares.
    pub(super) fn is_forgettable(&self) -> bool {
        let over = self.created.is_some() && !self.is_live();
        over && self.instances.values().all(|instance| instance.shares.is_empty())
    }

    /// All changes of the group.
    pub(super) fn all_changes(&self, id: GroupId) -> Dropped {
        let created = self.created_dots.iter().map(|dot| (*dot, RequestId(id.0)));
        let instances = self.instances.iter().flat_map(|(id, instance)| changes_of(*id, instance));
        let instances = instances.filter(|(dot, _)| !self.created_dots.contains(dot));
        let ends = self.ends.values().flatten().map(|end| (end.dot, end.request));
        let tries = |(id, transfer): (&TransferId, &Transfer)| {
            let request = id.request;
            transfer.tries.iter().map(move |one| (one.dot, request)).collect::<Vec<_>>()
        };
        created.chain(instances).chain(ends).chain(self.transfers.iter().flat_map(tries)).collect()
    }
}

impl End {
    /// Stable with all that it rests on: whether it is valid will not change.
    fn is_final(&self, cut: &Cut) -> bool {
        cut.covers(&self.dot) && (self.settled || self.rests_on.iter().all(|dot| cut.covers(dot)))
    }

    /// Whether this end does all that `other` does.
    fn replaces(&self, other: &Self, cut: &Cut) -> bool {
        let is_more = self.past != other.past || self.dot > other.dot;
        self.dot != other.dot && self.valid && self.is_final(cut) && is_more && self.past.includes(&other.past)
    }
}

/// The end that decisions name when they rest on the end of this instance.
fn first_over(instance: &Instance, ends: &[End], cut: &Cut) -> Option<Dot> {
    let over = ends.iter().filter(|end| end.is_final(cut) && instance.is_covered(end));
    over.map(|end| (end.at, end.dot)).min().map(|(_, dot)| dot)
}

/// The changes an instance is made of: the tries of its request, and the accepts.
fn changes_of(id: MembershipId, instance: &Instance) -> Dropped {
    let requests = instance.request_dots.iter().map(|dot| (*dot, RequestId(id.0)));
    requests.chain(instance.accepts.iter().map(|accept| (accept.dot, accept.request))).collect()
}
