//! One group: its creation, its owners, and everybody's memberships.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    claim::Claim,
    few::FewSet,
    membership::{Accept, End, Instance, Membership, Request, State},
};
use crate::mutant::Mutant;
use crate::protocol::{
    client::Standing,
    ids::{GroupId, MembershipId, RequestId, UserId},
    name::GroupName,
    record::{Change, ChangeBody, EndReason, Kept, Verdict},
    version::{Dot, Timestamp, VersionVector},
};

/// A group record: all that was said of it, and what follows.
///
/// A change derives again only the user it concerns, unless others' rights may rest on that user.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub(super) created: Option<Created>,
    pub(super) created_dots: BTreeSet<Dot>,
    pub(super) transfers: BTreeMap<TransferId, Transfer>,
    pub(super) instances: BTreeMap<MembershipId, Instance>,
    pub(super) by_user: BTreeMap<UserId, FewSet<MembershipId>>,
    pub(super) ends: BTreeMap<UserId, Vec<End>>,
    /// Who founded the group, was handed it, or acted as its owner: others' rights may rest on them.
    pub(super) authors: BTreeSet<UserId>,
    /// Changes of this group that are not known to be stable.
    pub(super) loose: BTreeSet<Dot>,
    /// Live memberships in the order of succession: derived.
    line: BTreeSet<(Timestamp, MembershipId)>,
    /// The live membership of each member that began first: derived.
    members: BTreeMap<UserId, (Timestamp, MembershipId)>,
    /// Users who ask and are no members, with the time of the first live request: derived.
    pending: BTreeMap<UserId, Timestamp>,
    /// The owner's membership, and whose it is: derived.
    owner: Option<(MembershipId, Option<UserId>)>,
}

/// The creation of a group, by its least try.
#[derive(Clone, Debug)]
pub(super) struct Created {
    pub(super) at: Timestamp,
    pub(super) dot: Dot,
    pub(super) claim: Claim<GroupName>,
    pub(super) owner: UserId,
    pub(super) membership: MembershipId,
}

/// What makes a hand-over one. Its request alone does not: a repeat at another tracker may have found another membership of the
/// new owner, and nothing keeps a client from giving two orders under one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TransferId {
    pub(super) request: RequestId,
    pub(super) by: UserId,
    pub(super) owner: UserId,
    pub(super) membership: MembershipId,
}

/// A hand-over of ownership, with every try of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfer {
    pub(super) tries: Vec<Try>,
}

/// One try of a hand-over.
#[derive(Clone, Debug)]
pub(super) struct Try {
    pub(super) dot: Dot,
    pub(super) at: Timestamp,
    pub(super) past: VersionVector,
    pub(super) rests_on: Vec<Dot>,
    /// Its author had the right by the changes it rests on: derived.
    pub(super) valid: bool,
    /// That is found for good: what it follows from may be forgotten.
    pub(super) settled: bool,
}

impl Transfer {
    /// When it happened: the least stamp of its tries.
    pub(super) fn at(&self) -> Timestamp {
        self.tries.iter().map(|one| one.at).min().unwrap_or_default()
    }

    pub(super) fn is_valid(&self) -> bool {
        self.tries.iter().any(|one| one.valid)
    }

    /// Whether any try came after `dot`.
    pub(super) fn had_seen(&self, dot: &Dot) -> bool {
        self.tries.iter().any(|one| one.past.contains(dot))
    }
}

/// Whom a change of a group touched, and how they stood before.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) owner: Option<UserId>,
    pub(super) owner_membership: Option<MembershipId>,
    pub(super) standings: BTreeMap<UserId, Standing>,
    /// How far each membership had come, and whose it was.
    pub(super) states: BTreeMap<MembershipId, (State, Option<UserId>)>,
}

impl Group {
    /// Merges a change that concerns this group's members, or one kept with a verdict; returns how those it touched stood before.
    pub(super) fn apply(&mut self, id: GroupId, change: &Change, verdict: Option<Verdict>) -> Before {
        self.loose.insert(change.dot);
        let (mut touched, all) = self.concerned(change);
        if all {
            touched.extend(self.by_user.keys());
        }
        let before = self.before(&touched);
        self.merge(id, change, verdict);
        self.judge((!all).then_some(&touched));
        for user in touched {
            self.derive_user(user);
        }
        self.owner = self.derive_owner();
        before
    }

    /// Merges changes that concern this group's members, all at once; returns how all who have to do with it stood before.
    pub(super) fn apply_all(&mut self, id: GroupId, changes: &[Kept]) -> Before {
        let mut before = self.before(&self.by_user.keys().copied().collect());
        for Kept { change, verdict } in changes {
            self.loose.insert(change.dot);
            self.merge(id, change, *verdict);
        }
        self.judge(None);
        let users: Vec<UserId> = self.by_user.keys().copied().collect();
        for user in &users {
            self.derive_user(*user);
        }
        self.owner = self.derive_owner();
        let stood = |user| before.standings.get(&user).copied().unwrap_or(Standing::None);
        before.standings = users.into_iter().map(|user| (user, stood(user))).collect();
        before
    }

    /// Users whose memberships a change concerns, and whether others' rights may depend on it.
    fn concerned(&self, change: &Change) -> (BTreeSet<UserId>, bool) {
        let of = |id: &MembershipId| self.instances.get(id).and_then(Instance::user);
        let users: BTreeSet<UserId> = match &change.body {
            ChangeBody::MembershipRequested { user, .. } => {
                [*user].into_iter().chain(of(&change.request.into())).collect()
            }
            ChangeBody::MembershipAccepted { membership, .. } => of(membership).into_iter().collect(),
            ChangeBody::MembershipEnded { user, .. } => BTreeSet::from([*user]),
            ChangeBody::GroupCreated { owner, .. } => return (BTreeSet::from([*owner]), true),
            _ => return (BTreeSet::new(), true),
        };
        let all = !users.is_disjoint(&self.authors);
        (users, all)
    }

    fn before(&self, users: &BTreeSet<UserId>) -> Before {
        let ids = users.iter().filter_map(|user| self.by_user.get(user)).flatten();
        Before {
            owner: self.owner(),
            owner_membership: self.owner_membership(),
            states: ids.map(|id| (*id, self.instances[id].stands())).collect(),
            standings: users.iter().map(|user| (*user, self.standing(user))).collect(),
        }
    }

    fn merge(&mut self, id: GroupId, change: &Change, verdict: Option<Verdict>) {
        let (request, dot, at, settled) = (change.request, change.dot, change.at, verdict.is_some());
        let Verdict { valid, effective } = verdict.unwrap_or(Verdict { valid: false, effective: false });
        match &change.body {
            ChangeBody::GroupCreated { name, owner } => self.create(id, change, name, *owner),
            ChangeBody::OwnerSet { by, owner, membership, past, rests_on, .. } => {
                self.authors.extend([*by, *owner]);
                let id = TransferId { request, by: *by, owner: *owner, membership: *membership };
                let one = Try { dot, at, past: past.clone(), rests_on: rests_on.clone(), valid, settled };
                self.transfers.entry(id).or_default().tries.push(one);
            }
            ChangeBody::MembershipRequested { user, .. } => {
                self.by_user.entry(*user).or_default().insert(change.request.into());
                self.instance_mut(change.request.into()).ask(Request { at, dot, user: *user });
            }
            ChangeBody::MembershipAccepted { membership, by, rests_on, .. } => {
                if !settled {
                    self.authors.insert(*by);
                }
                let (by, rests_on) = (*by, rests_on.clone());
                let accept = Accept { request, dot, at, by, rests_on, valid, effective, settled };
                let accepts = &mut self.instance_mut(*membership).accepts;
                if accepts.is_empty() {
                    // Mostly there is but this one, and an accept is large.
                    accepts.reserve_exact(1);
                }
                accepts.push(accept);
            }
            ChangeBody::MembershipEnded { user, by, reason, past, rests_on, .. } => {
                if by != user && !settled {
                    self.authors.insert(*by);
                }
                let (past, rests_on) = (past.clone(), rests_on.clone());
                let end = End { request, dot, at, by: *by, reason: *reason, past, rests_on, valid, settled };
                self.ends.entry(*user).or_default().push(end);
            }
            _ => {}
        }
    }

    fn create(&mut self, id: GroupId, change: &Change, name: &GroupName, owner: UserId) {
        let (dot, at) = (change.dot, change.at);
        let membership = MembershipId::from(id);
        self.created_dots.insert(dot);
        self.authors.insert(owner);
        self.by_user.entry(owner).or_default().insert(membership);
        let instance = self.instance_mut(membership);
        instance.founder = true;
        instance.ask(Request { at, dot, user: owner });
        if self.created.as_ref().is_none_or(|known| (at, dot) < (known.at, known.dot)) {
            let claim = Claim { name: name.clone(), at, taken_by: change.taken_by };
            self.created = Some(Created { at, dot, claim, owner, membership });
        }
    }

    pub(super) fn instance_mut(&mut self, id: MembershipId) -> &mut Instance {
        self.instances.entry(id).or_default()
    }

    /// Derives the states of one user's instances, and what the group keeps of them.
    fn derive_user(&mut self, user: UserId) {
        let ends = self.ends.get(&user).map_or(&[][..], Vec::as_slice);
        let (mut first_membership, mut first_request) = (None, None);
        for id in self.by_user.get(&user).into_iter().flatten() {
            let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.user() == Some(user)) else {
                continue;
            };
            if let State::Member { since } = instance.state {
                self.line.remove(&(since, *id));
            }
            instance.state = instance.derive(ends);
            match (instance.state, instance.request) {
                (State::Member { since }, _) => {
                    first_membership = Some(first_membership.map_or((since, *id), |first| (since, *id).min(first)));
                    self.line.insert((since, *id));
                }
                (State::Requested, Some(request)) => {
                    first_request = Some(first_request.map_or(request.at, |first: Timestamp| first.min(request.at)));
                }
                _ => {}
            }
        }
        set_or_remove(&mut self.members, user, first_membership);
        set_or_remove(&mut self.pending, user, first_request.filter(|_| first_membership.is_none()));
    }

    /// The hand-over that counts.
    pub(super) fn last_transfer(&self) -> Option<(&TransferId, &Transfer)> {
        let valid = self.transfers.iter().filter(|(_, transfer)| transfer.is_valid());
        valid.max_by_key(|(id, transfer)| (transfer.at(), **id))
    }

    /// The owner's membership: of the last hand-over while it lives, then the first in the line of succession.
    fn derive_owner(&self) -> Option<(MembershipId, Option<UserId>)> {
        let created = self.created.as_ref()?;
        let named = self.last_transfer().map_or(created.membership, |(id, _)| id.membership);
        let lives = matches!(self.instances.get(&named)?.state, State::Member { .. });
        let stays = lives || Mutant::OwnerStays.is_on();
        let id = if stays { named } else { self.line.first()?.1 };
        Some((id, self.instances.get(&id)?.user()))
    }
}

fn set_or_remove<V>(map: &mut BTreeMap<UserId, V>, user: UserId, value: Option<V>) {
    match value {
        Some(value) => map.insert(user, value),
        None => map.remove(&user),
    };
}

/// What the catalog asks a group.
impl Group {
    /// Whether the group exists: created, and not dissolved by the end of its last member.
    pub fn is_live(&self) -> bool {
        self.owner.is_some()
    }

    /// The name it claims while it lives.
    pub(super) fn claim(&self) -> Option<&Claim<GroupName>> {
        self.created.as_ref().filter(|_| self.is_live()).map(|created| &created.claim)
    }

    /// The owner; `None` when the group is dissolved.
    pub fn owner(&self) -> Option<UserId> {
        self.owner?.1
    }

    /// The owner's membership.
    pub(super) fn owner_membership(&self) -> Option<MembershipId> {
        Some(self.owner?.0)
    }

    /// How a user stands, by the furthest live instance.
    pub fn standing(&self, user: &UserId) -> Standing {
        if !self.is_live() {
            Standing::None
        } else if self.owner() == Some(*user) {
            Standing::Owner
        } else if self.members.contains_key(user) {
            Standing::Member
        } else if self.pending.contains_key(user) {
            Standing::Requested
        } else {
            Standing::None
        }
    }

    /// Members, the owner included, by identity.
    pub fn members(&self) -> impl Iterator<Item = UserId> + '_ {
        self.members.keys().copied()
    }

    /// Whether a membership of the user lives.
    pub fn has_member(&self, user: &UserId) -> bool {
        self.members.contains_key(user)
    }

    /// Number of members, the owner included.
    pub fn member_count(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// Users who ask to join, or would if the group were live.
    pub(super) fn asking(&self) -> impl Iterator<Item = &UserId> + '_ {
        self.pending.keys()
    }

    /// Number of users who ask to join.
    pub fn pending_count(&self) -> usize {
        if self.is_live() { self.pending.len() } else { 0 }
    }

    /// Users who ask to join, with the time of their request.
    pub fn pending(&self) -> impl Iterator<Item = (UserId, Timestamp)> + '_ {
        self.pending.iter().filter(|_| self.is_live()).map(|(&user, &since)| (user, since))
    }

    /// The membership of a user that began first among those that live.
    pub fn membership(&self, user: &UserId) -> Option<Membership> {
        let (since, id) = *self.members.get(user)?;
        Some(Membership { id, since, owner: self.owner() == Some(*user) })
    }

    /// The pending instance of a user that began first, with the stamp and dot of its request.
    pub(super) fn request(&self, user: &UserId) -> Option<(MembershipId, Timestamp, Dot)> {
        let own = self.by_user.get(user)?.iter().filter_map(|id| {
            let instance = &self.instances[id];
            let request = instance.request.filter(|one| instance.state == State::Requested && one.user == *user)?;
            Some((request.at, request.dot, *id))
        });
        own.min().map(|(at, dot, id)| (id, at, dot))
    }

    /// Whether the instance is a live membership of the user.
    pub(super) fn is_member(&self, id: &MembershipId, user: &UserId) -> bool {
        self.instances.get(id).is_some_and(|instance| instance.is_member(user))
    }

    /// Whether the instance is known to be over.
    pub(super) fn has_ended(&self, id: &MembershipId) -> bool {
        self.instances.get(id).is_some_and(|instance| instance.state == State::Ended)
    }

    /// The user's instances that are known to be over.
    pub(super) fn ended_memberships(&self, user: &UserId) -> impl Iterator<Item = MembershipId> + '_ {
        self.by_user.get(user).into_iter().flatten().filter(|id| self.has_ended(id)).copied()
    }

    /// Who would own the group were the owner to leave.
    pub(super) fn heir(&self, leaving: &UserId) -> Option<UserId> {
        self.line.iter().filter_map(|(_, id)| self.instances[id].user()).find(|user| user != leaving)
    }

    /// Why the user's last membership or request ended.
    pub(super) fn end_reason(&self, user: &UserId) -> Option<EndReason> {
        let valid = self.ends.get(user)?.iter().filter(|end| end.valid);
        valid.max_by_key(|end| (end.at, end.dot)).map(|end| end.reason)
    }

    /// The changes that a decision of the present owner rests on, and the latest stamp among them.
    pub(super) fn ownership(&self) -> Option<(Timestamp, Vec<Dot>)> {
        let created = self.created.as_ref()?;
        let instance = &self.instances[&self.owner_membership()?];
        let last = self.last_transfer();
        let mut evidence = Vec::from_iter(instance.evidence());
        let (named, user) = if let Some((id, transfer)) = last {
            evidence.extend(transfer.tries.iter().filter(|one| one.valid).map(|one| (one.at, one.dot)).min());
            (id.membership, id.owner)
        } else {
            evidence.push((created.at, created.dot));
            (created.membership, created.owner)
        };
        let ended = &self.instances[&named];
        let ends = self.ends.get(&user).into_iter().flatten().filter(|end| ended.is_covered(end));
        evidence.extend(ends.map(|end| (end.at, end.dot)).min());
        evidence.sort_unstable();
        evidence.dedup();
        let (last, _) = *evidence.last()?;
        Some((last, evidence.into_iter().map(|(_, dot)| dot).collect()))
    }

    /// What makes a user's membership one, for changes that rest on it.
    pub(super) fn evidence(&self, membership: &MembershipId) -> Option<(Timestamp, Dot)> {
        self.instances.get(membership)?.evidence()
    }
}
