//! The whole state: changes go in, differences come out.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    claim::{Claims, Renamed},
    effect::Effect,
    fingerprint::{Fact, Fingerprint},
    fold::Touched,
    group::{Before, Group},
    ledger::{Known, Ledger, rank},
    membership::{Instance, State},
    session::{Opened, Sessions},
    share::{Begun, Shares, Turned},
    table::{IdTable, RowNo},
    user::User,
};
use crate::protocol::{
    client::Standing,
    hash::Blake3Hash,
    ids::{DeviceKey, FileId, GroupId, ManifestId, MembershipId, RequestId, SessionId, ShareId, UserId},
    manifest::ManifestHeader,
    name::{FileName, GroupName, UserName},
    record::{Change, ChangeBody, Credential, Done, EndReason, Kept, Tombstone, Verdict},
    ticket::CredentialId,
    version::{Timestamp, VersionVector},
};

/// What a file is called, as a fact.
pub(super) const FILE_NAME: &[u8] = b"file name";

/// A tracker's copy of everything: a pure function of the *set* of changes applied, whatever their order, batching and
/// repetition. Only effects depend on the order: they tell what was news here.
///
/// [`apply`](Self::apply) takes the changes of each origin in order; those of different origins may come in any order,
/// also before those they rest on. [`fold`](Self::fold) forgets what is over, and changes no answer and no digest by it.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub(super) ledger: Ledger,
    pub(super) users: IdTable<UserId, User>,
    pub(super) user_names: Claims<UserName, UserId>,
    pub(super) groups: IdTable<GroupId, Box<Group>>,
    pub(super) group_names: Claims<GroupName, GroupId>,
    pub(super) shares: Shares,
    pub(super) sessions: Sessions,
    /// Groups owned, and requests pending, of each user who has any: derived.
    pub(super) holdings: BTreeMap<UserId, Holdings>,
    /// What could not be forgotten yet though all that touched it is stable.
    pub(super) waiting: BTreeSet<Touched>,
    pub(super) fingerprint: Fingerprint,
}

/// What a user has that is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// Groups owned.
    pub(super) groups: usize,
    /// Requests to join that are pending.
    pub(super) requests: usize,
}

impl Catalog {
    /// A catalog of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// All changes applied.
    pub fn vector(&self) -> &VersionVector {
        &self.ledger.vector
    }

    /// The greatest stamp applied: where a clock goes on after a restart.
    pub fn latest(&self) -> Timestamp {
        self.ledger.latest
    }

    /// Digest of the derived state and the vector; equal at every tracker that knows the same changes. Costs one hash.
    pub fn digest(&self) -> Blake3Hash {
        self.fingerprint.digest(self.vector())
    }

    /// Applies a change and tells what is different now. A change known already, or one that skips its origin's counter,
    /// is ignored.
    pub fn apply(&mut self, change: &Change) -> Vec<Effect> {
        if change.dot.counter != self.vector().counter(&change.dot.origin) + 1 {
            return Vec::new();
        }
        self.merge(change, None)
    }

    /// Applies a change that was kept of a log whose past is forgotten. To be called before any [`apply`](Self::apply), and
    /// followed by [`forgotten`](Self::forgotten).
    pub fn restore(&mut self, kept: &Kept) {
        self.merge(&kept.change, kept.verdict);
    }

    /// Takes note of what is forgotten: all changes of `folded` count as applied, the latest of them stamped `latest`.
    pub fn forgotten(
        &mut self,
        folded: &VersionVector,
        latest: Timestamp,
        tombstones: impl IntoIterator<Item = Tombstone>,
    ) {
        self.ledger.forgotten(folded, latest, tombstones);
    }

    /// What a known request did.
    pub(super) fn done(&self, request: &RequestId) -> Option<Done> {
        let shared = self.shares.has_begun(&(*request).into()).then(|| Done::Shared((*request).into()));
        self.ledger.requests.get(request).map(Known::done).into_iter().chain(shared).max_by_key(rank)
    }

    /// Whether no change of a request is left, which is remembered all the same.
    pub(super) fn is_forgotten(&self, request: &RequestId) -> bool {
        let is_gone = self.ledger.requests.get(request).is_some_and(|known| known.changes == 0);
        is_gone && !self.shares.has_begun(&(*request).into())
    }

    fn merge(&mut self, change: &Change, verdict: Option<Verdict>) -> Vec<Effect> {
        self.ledger.note(change);
        let mut out = Vec::new();
        self.merge_body(change, verdict, &mut out);
        out
    }

    /// Merges a change of which the ledger has taken note.
    pub(super) fn merge_body(&mut self, change: &Change, verdict: Option<Verdict>, out: &mut Vec<Effect>) {
        match &change.body {
            ChangeBody::UserCreated { .. } | ChangeBody::CredentialSet { .. } | ChangeBody::UserClosed { .. } => {
                self.apply_user(change, out);
            }
            ChangeBody::ShareBegun { manifest, .. } => {
                let id = manifest.id();
                if let Some(begun) = Begun::new(change, &id) {
                    self.begin_share(change.request.into(), &begun, id, manifest, out);
                }
            }
            ChangeBody::ShareEnded { shares, user } => {
                for no in self.shares.end(change, shares, *user) {
                    self.refresh_share(no, out);
                }
            }
            ChangeBody::SessionOpened { user, device, opened_with } => {
                let (at, dot) = (change.at, change.dot);
                let (opened, id) =
                    (Opened { at, dot, device: *device, opened_with: *opened_with }, change.request.into());
                self.with_session(*user, &[id], |sessions| sessions.open(*user, id, opened));
            }
            ChangeBody::SessionsEnded { sessions: ended, user } => {
                let ids: Vec<_> = ended.iter().map(|(id, _)| *id).collect();
                self.with_session(*user, &ids, |sessions| sessions.end(change, ended, *user));
                out.push(Effect::SessionsEnded { user: *user });
            }
            ChangeBody::GroupCreated { .. } => self.apply_group(change.request.into(), change, None, out),
            ChangeBody::OwnerSet { group, .. }
            | ChangeBody::MembershipRequested { group, .. }
            | ChangeBody::MembershipAccepted { group, .. }
            | ChangeBody::MembershipEnded { group, .. } => self.apply_group(*group, change, verdict, out),
        }
    }

    fn apply_user(&mut self, change: &Change, out: &mut Vec<Effect>) {
        let id = match &change.body {
            ChangeBody::CredentialSet { user, .. } | ChangeBody::UserClosed { user } => *user,
            _ => change.request.into(),
        };
        let user = self.users.entry(id).or_default();
        let counts = |(of, credential): (CredentialId, &Credential)| {
            (of, Fact::of(&[b"credential", &id.0, credential.0.as_bytes()]))
        };
        let before = user.credential().map(counts);
        match &change.body {
            ChangeBody::UserCreated { name, credential } => user.create(change, name, credential),
            ChangeBody::CredentialSet { credential, keeps, .. } => user.set_password(change, credential, *keeps),
            ChangeBody::UserClosed { .. } => {
                user.close();
                out.push(Effect::SessionsEnded { user: id });
            }
            _ => {}
        }
        let after = user.credential().map(counts);
        let (claim, changed) = (user.claim().cloned(), user.has_changed_password());
        if before != after {
            for (holds, credential) in [(false, before), (true, after)] {
                if let Some((_, fact)) = credential {
                    self.fingerprint.set(holds, fact);
                }
            }
            // A registration may come after a change of its password: sessions may have been opened meanwhile elsewhere.
            if changed {
                out.push(Effect::CredentialChanged { user: id });
            }
        }
        let renamed = self.user_names.set(id, claim);
        self.note_user_names(renamed, out);
    }

    /// Changes some sessions of a user, and counts what that changed.
    fn with_session(&mut self, user: UserId, ids: &[SessionId], change: impl FnOnce(&mut Sessions)) {
        let live = |all: &Sessions| -> BTreeMap<SessionId, DeviceKey> {
            ids.iter().filter_map(|id| Some((*id, all.get(&user, id)?.device))).collect()
        };
        let before = live(&self.sessions);
        change(&mut self.sessions);
        let after = live(&self.sessions);
        for (sign, sessions) in [(false, before), (true, after)] {
            for (id, device) in sessions {
                self.count(sign, &[b"session", &user.0, &id.0, &device.0]);
            }
        }
    }

    fn note_user_names(&mut self, renamed: Vec<Renamed<UserName, UserId>>, out: &mut Vec<Effect>) {
        for Renamed { id, from, to } in renamed {
            self.count_name(
                b"user name",
                &id.0,
                from.as_ref().map(UserName::as_str),
                to.as_ref().map(UserName::as_str),
            );
            let from = from.or_else(|| self.user_names.claimed(&id).cloned());
            if let (Some(from), Some(to)) = (from, to).distinct() {
                out.push(Effect::UserRenamed { user: id, from, to });
            }
        }
    }

    fn apply_group(&mut self, id: GroupId, change: &Change, verdict: Option<Verdict>, out: &mut Vec<Effect>) {
        let before = self.groups.entry(id).or_default().apply(id, change, verdict);
        self.follow_group(id, &before, out);
    }

    /// Makes everything follow what has become of a group.
    pub(super) fn follow_group(&mut self, id: GroupId, before: &Before, out: &mut Vec<Effect>) {
        let claim = self.groups[&id].claim().cloned();
        let renamed = self.group_names.set(id, claim);
        for Renamed { id, from, to } in renamed {
            self.count_name(
                b"group name",
                &id.0,
                from.as_ref().map(GroupName::as_str),
                to.as_ref().map(GroupName::as_str),
            );
            let from = from.or_else(|| self.group_names.claimed(&id).cloned());
            if let (Some(from), Some(to)) = (from, to).distinct() {
                out.push(Effect::GroupRenamed { group: id, from, to });
            }
        }
        let shares = self.count_group(id, before);
        self.note_holdings(id, before);
        self.note_standings(id, before, out);
        for share in shares {
            self.refresh_share(share, out);
        }
    }

    /// Counts what the group's derivation changed; returns the shares under memberships it touched.
    fn count_group(&mut self, id: GroupId, before: &Before) -> Vec<RowNo> {
        let group = &self.groups[&id];
        let owner = group.owner_membership();
        let (was_live, is_live) = (before.owner_membership.is_some(), owner.is_some());
        let state = |id: &MembershipId| group.instances[id].state;
        let stood = |id: &MembershipId| before.states.get(id).copied().unwrap_or_default();
        let users = before.standings.keys();
        let touched: BTreeSet<MembershipId> =
            users.filter_map(|user| group.by_user.get(user)).flatten().chain(before.states.keys()).copied().collect();
        let mut facts: Vec<_> =
            touched.iter().map(|id| (*id, listed(stood(id).0, was_live), listed(state(id), is_live))).collect();
        if was_live != is_live {
            let others = group.instances.keys().filter(|id| !touched.contains(id));
            facts.extend(others.map(|id| (*id, listed(state(id), was_live), listed(state(id), is_live))));
        }
        let turned = touched.iter().filter(|id| stood(id) != group.instances[*id].stands());
        let shares = turned.flat_map(|id| self.shares.in_order(group.instances[id].shares.iter().copied())).collect();
        if before.owner_membership != owner {
            for (sign, owner) in [(false, before.owner_membership), (true, owner)] {
                if let Some(owner) = owner {
                    self.count(sign, &[b"owner", &id.0, &owner.0]);
                }
            }
        }
        for (membership, from, to) in facts.into_iter().filter(|(_, from, to)| from != to) {
            self.count_state(id, membership, false, from);
            self.count_state(id, membership, true, to);
        }
        shares
    }

    fn count_state(&mut self, group: GroupId, membership: MembershipId, sign: bool, state: State) {
        let (kind, since): (&[u8], Timestamp) = match state {
            State::Unknown | State::Ended => return,
            State::Requested => (b"requested", Timestamp::default()),
            State::Member { since } => (b"member", since),
        };
        let since = [since.wall_ms.to_le_bytes().as_slice(), &since.logical.to_le_bytes()].concat();
        self.count(sign, &[kind, &group.0, &membership.0, &since]);
    }

    fn note_holdings(&mut self, id: GroupId, before: &Before) {
        let group = &self.groups[&id];
        let (was_live, is_live) = (before.owner_membership.is_some(), group.owner_membership().is_some());
        let owners = [(before.owner, -1, 0), (group.owner(), 1, 0)];
        let owners = owners.into_iter().filter_map(|(owner, groups, requests)| Some((owner?, groups, requests)));
        let asked = |standing: Standing| isize::from(standing == Standing::Requested);
        let touched =
            before.standings.iter().map(|(user, from)| (*user, 0, asked(group.standing(user)) - asked(*from)));
        let others = group.asking().filter(|user| was_live != is_live && !before.standings.contains_key(user));
        let others = others.map(|user| (*user, 0, if is_live { 1 } else { -1 }));
        let changes: Vec<(UserId, isize, isize)> = owners.chain(touched).chain(others).collect();
        for (user, groups, requests) in changes {
            let holdings = self.holdings.entry(user).or_default();
            holdings.groups = holdings.groups.saturating_add_signed(groups);
            holdings.requests = holdings.requests.saturating_add_signed(requests);
            if *holdings == Holdings::default() {
                self.holdings.remove(&user);
            }
        }
    }

    fn note_standings(&self, id: GroupId, before: &Before, out: &mut Vec<Effect>) {
        let group = &self.groups[&id];
        for (&user, &from) in &before.standings {
            let reason = group.end_reason(&user);
            match (from, group.standing(&user)) {
                (Standing::None, Standing::Requested) => {
                    out.extend(group.owner().map(|owner| Effect::JoinRequested { group: id, user, owner }));
                }
                (Standing::None | Standing::Requested, Standing::Member) => {
                    out.push(Effect::RequestAccepted { group: id, user });
                }
                (Standing::Requested, Standing::None) if reason == Some(EndReason::Rejected) => {
                    out.push(Effect::RequestRejected { group: id, user });
                }
                (Standing::Owner | Standing::Member, Standing::Requested | Standing::None) => {
                    if reason == Some(EndReason::Removed) {
                        out.push(Effect::MemberRemoved { group: id, user });
                    }
                    out.push(Effect::MembershipEnded { group: id, user });
                }
                _ => {}
            }
        }
        if let (Some(_), Some(owner)) = (before.owner, group.owner()).distinct() {
            out.push(Effect::OwnerNow { group: id, owner });
        }
    }

    pub(super) fn begin_share(
        &mut self,
        id: ShareId,
        begun: &Begun,
        manifest_id: ManifestId,
        manifest: &ManifestHeader,
        out: &mut Vec<Effect>,
    ) {
        let (no, replaced) = self.shares.begin(id, begun, manifest_id, manifest);
        if let Some((replaced, turned)) = replaced {
            self.instance(&replaced).shares.remove(&no);
            self.note_share(turned, out);
        }
        let Some(begun) = self.shares.begun_at(no) else { return };
        let instance = self.instance(&begun);
        instance.shares.insert(no);
        let is_member = instance.is_member(&begun.user);
        let turned = self.shares.refresh(no, is_member);
        self.note_share(turned, out);
    }

    /// The membership that a share began under.
    fn instance(&mut self, begun: &Begun) -> &mut Instance {
        self.groups.entry(begun.group).or_default().instance_mut(begun.membership)
    }

    fn refresh_share(&mut self, no: RowNo, out: &mut Vec<Effect>) {
        let Some(begun) = self.shares.begun_at(no) else { return };
        let group = self.groups.get(&begun.group);
        let is_member = group.is_some_and(|group| group.is_member(&begun.membership, &begun.user));
        let turned = self.shares.refresh(no, is_member);
        self.note_share(turned, out);
    }

    fn note_share(&mut self, turned: Option<Turned>, out: &mut Vec<Effect>) {
        let Some(Turned { id, live, begun, renamed }) = turned else { return };
        let Begun { group, file, user, device, .. } = begun;
        self.fingerprint.set(live, begun.fact(&id));
        out.push(if live {
            Effect::ShareBegun { group, file, user, device }
        } else {
            Effect::ShareEnded { group, file, user, device }
        });
        self.note_file_names(group, renamed, out);
    }

    pub(super) fn note_file_names(
        &mut self,
        group: GroupId,
        renamed: Vec<Renamed<FileName, FileId>>,
        out: &mut Vec<Effect>,
    ) {
        for Renamed { id, from, to } in renamed {
            self.count_name(FILE_NAME, &id.0, from.as_ref().map(FileName::as_str), to.as_ref().map(FileName::as_str));
            let from = from.or_else(|| self.shares.names(&group)?.claimed(&id).cloned());
            if let (Some(from), Some(to)) = (from, to).distinct() {
                out.push(Effect::FileRenamed { group, file: id, from, to });
            }
        }
    }

    fn count(&mut self, holds: bool, fact: &[&[u8]]) {
        self.fingerprint.set(holds, Fact::of(fact));
    }

    fn count_name(&mut self, kind: &[u8], id: &[u8], from: Option<&str>, to: Option<&str>) {
        for (holds, name) in [(false, from), (true, to)] {
            if let Some(name) = name {
                self.count(holds, &[kind, id, name.as_bytes()]);
            }
        }
    }
}

/// What counts of a state: what is over does not, since it may be forgotten, and a dissolved group has no requests.
fn listed(state: State, is_live: bool) -> State {
    match state {
        State::Requested if !is_live => State::Unknown,
        State::Ended => State::Unknown,
        state => state,
    }
}

/// A pair that counts only when its parts differ.
trait Distinct<T> {
    fn distinct(self) -> (Option<T>, Option<T>);
}

impl<T: PartialEq> Distinct<T> for (Option<T>, Option<T>) {
    fn distinct(self) -> (Option<T>, Option<T>) {
        if self.0 == self.1 { (None, None) } else { self }
    }
}
