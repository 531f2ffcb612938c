//! What the catalog answers. Names are those of now; presence is filled in by the role.

use super::{
    catalog::Catalog, claim::Claims, group::Group, membership::Membership, session::Opened, share::Begun, user::User,
};
use crate::protocol::{
    client::{FileInfo, GroupInfo, PendingRequest, Standing},
    ids::{DeviceKey, FileId, GroupId, ManifestId, MembershipId, RequestId, SessionId, ShareId, UserId},
    limits::LISTING_PAGE,
    manifest::ManifestHeader,
    name::{FileName, GroupName, UserName},
    record::Credential,
    ticket::{CredentialId, SessionRef},
};

/// One page of a listing: at most [`LISTING_PAGE`] entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Whether another page follows.
    pub more: bool,
}

/// A member; whether they are online is for the role to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What they are called now.
    pub name: UserName,
    /// `Owner` or `Member`.
    pub role: Standing,
}

/// A live share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFile {
    /// The share.
    pub share: ShareId,
    /// The group.
    pub group: GroupId,
    /// The file.
    pub file: FileId,
    /// Who shares it.
    pub user: UserId,
    /// On which device.
    pub device: DeviceKey,
}

/// Users.
impl Catalog {
    /// Who is called `name` now.
    pub fn user_named(&self, name: &UserName) -> Option<UserId> {
        self.user_names.holder(name)
    }

    /// All who registered under `name`, the one who holds it first: what the others are called now, login tells them.
    pub fn claimants(&self, name: &UserName) -> impl Iterator<Item = UserId> + '_ {
        self.user_names.claimants(name)
    }

    /// How many registered under one name, where most did.
    pub fn most_claimants(&self) -> usize {
        let contested = self.user_names.losers().filter_map(|loser| self.user_names.claimed(&loser));
        contested.map(|name| self.claimants(name).count()).max().unwrap_or(1)
    }

    /// What a user is called now; `None` while the registration has yet to arrive.
    pub fn user_name(&self, user: &UserId) -> Option<&UserName> {
        self.user_names.name(user)
    }

    /// The name a user registered under, held or lost.
    pub fn claimed_name(&self, user: &UserId) -> Option<&UserName> {
        self.user_names.claimed(user)
    }

    /// A user's argon2id string, and which password it is: sessions opened with an earlier one are over.
    pub fn credential(&self, user: &UserId) -> Option<(CredentialId, &Credential)> {
        self.users.get(user)?.credential()
    }
}

/// Sessions.
impl Catalog {
    /// Whether an account is closed.
    pub fn is_closed(&self, user: &UserId) -> bool {
        self.users.get(user).is_some_and(User::is_closed)
    }

    /// Whether a session is known to be over: ended, or opened with a password that another session has replaced.
    pub fn is_session_over(&self, user: &UserId, session: &SessionRef) -> bool {
        self.is_outdated(user, session.id, &session.opened_with)
            || self.sessions.is_ended(user, session, |dot| self.vector().contains(dot))
    }

    /// A user's session, as tickets name it; `None` when it is over, or has yet to arrive.
    pub fn session(&self, user: &UserId, id: &SessionId) -> Option<SessionRef> {
        self.session_record(user, id).map(|opened| opened.session(*id))
    }

    /// What is known of a user's session that is not over.
    pub fn session_record(&self, user: &UserId, id: &SessionId) -> Option<Opened> {
        let opened = *self.sessions.get(user, id)?;
        (!self.is_outdated(user, *id, &opened.opened_with)).then_some(opened)
    }

    /// A user's sessions that are not over, oldest first.
    pub fn sessions_of(&self, user: &UserId) -> Vec<(SessionId, Opened)> {
        let mut all = self.opened_sessions(user);
        all.retain(|(id, opened)| !self.is_outdated(user, *id, &opened.opened_with));
        all
    }

    /// A user's sessions that nobody has ended, oldest first, also those of replaced passwords.
    pub fn opened_sessions(&self, user: &UserId) -> Vec<(SessionId, Opened)> {
        let mut all: Vec<_> = self.sessions.of_user(user).map(|(id, opened)| (id, *opened)).collect();
        all.sort_by_key(|(id, opened)| (opened.at, *id));
        all
    }

    fn is_outdated(&self, user: &UserId, id: SessionId, opened_with: &CredentialId) -> bool {
        let Some(record) = self.users.get(user) else { return false };
        if record.is_closed() {
            return true;
        }
        let is_replaced = record.credential().is_some_and(|(now, _)| opened_with.is_replaced_by(&now));
        is_replaced && record.kept_session() != Some(id)
    }
}

/// Groups.
impl Catalog {
    /// The live group called `name` now.
    pub fn group_named(&self, name: &GroupName) -> Option<GroupId> {
        self.group_names.holder(name)
    }

    /// What a live group is called now.
    pub fn group_name(&self, group: &GroupId) -> Option<&GroupName> {
        self.group_names.name(group)
    }

    /// Groups in which a user is a member or has asked to be.
    pub fn groups_of(&self, user: &UserId) -> Vec<(GroupId, GroupName)> {
        let theirs = self.group_names.iter().filter(|(_, group)| self.standing(group, user) != Standing::None);
        theirs.map(|(name, group)| (group, name.clone())).collect()
    }

    /// Groups of `owner` that lost the name they claim: that name, and the present one.
    pub fn lost_group_names(&self, owner: UserId) -> impl Iterator<Item = (&GroupName, &GroupName)> {
        let losers = self.group_names.losers().filter(move |group| self.owner(group) == Some(owner));
        losers.filter_map(|group| self.group_names.claimed(&group).zip(self.group_names.name(&group)))
    }

    /// All that is known of a group.
    pub fn group(&self, group: &GroupId) -> Option<&Group> {
        self.groups.get(group).map(|group| &**group)
    }

    /// The owner of a live group.
    pub fn owner(&self, group: &GroupId) -> Option<UserId> {
        self.groups.get(group)?.owner()
    }

    /// How a user stands in a group.
    pub fn standing(&self, group: &GroupId, user: &UserId) -> Standing {
        self.groups.get(group).map_or(Standing::None, |group| group.standing(user))
    }

    /// The live membership of a user in a group: what tickets name and shares rest on.
    pub fn membership(&self, group: &GroupId, user: &UserId) -> Option<Membership> {
        self.groups.get(group)?.membership(user)
    }

    /// Whether that very membership of the user lives.
    pub fn is_member(&self, group: &GroupId, membership: &MembershipId, user: &UserId) -> bool {
        self.groups.get(group).is_some_and(|group| group.is_member(membership, user))
    }

    /// Whether that very membership is known to be over. One that has yet to arrive is not.
    pub fn has_ended(&self, group: &GroupId, membership: &MembershipId) -> bool {
        let is_over = self.groups.get(group).is_some_and(|group| group.has_ended(membership));
        is_over || self.is_forgotten(&RequestId(membership.0))
    }

    /// The memberships of a user in a group that are known to be over.
    pub fn ended_memberships(&self, group: &GroupId, user: &UserId) -> Vec<MembershipId> {
        self.groups.get(group).map(|group| group.ended_memberships(user).collect()).unwrap_or_default()
    }

    /// Members of a group, the owner included: whom to tell of its swarms.
    pub fn members_of(&self, group: &GroupId) -> impl Iterator<Item = UserId> + '_ {
        self.groups.get(group).into_iter().flat_map(|group| group.members())
    }

    /// Groups that a user owns.
    pub fn owned_groups(&self, user: &UserId) -> usize {
        self.holdings.get(user).map_or(0, |holdings| holdings.groups)
    }

    /// Requests of a user that are pending.
    pub fn pending_requests_of(&self, user: &UserId) -> usize {
        self.holdings.get(user).map_or(0, |holdings| holdings.requests)
    }

    /// Requests to join a group that are pending.
    pub fn pending_requests(&self, group: &GroupId) -> usize {
        self.groups.get(group).map_or(0, |group| group.pending_count())
    }

    /// A live group, with the standing of `caller`.
    pub fn group_info(&self, group: &GroupId, caller: &UserId) -> Option<GroupInfo> {
        let record = self.groups.get(group)?;
        Some(GroupInfo {
            group: *group,
            name: self.group_name(group)?.clone(),
            owner: self.user_name(&record.owner()?)?.clone(),
            members: record.member_count(),
            standing: record.standing(caller),
        })
    }

    /// Live groups by name.
    pub fn list_groups(&self, caller: &UserId, skip: usize) -> Page<GroupInfo> {
        let is_listed = |group: &GroupId| self.owner(group).is_some_and(|owner| self.user_name(&owner).is_some());
        let groups = self.group_names.iter().map(|(_, group)| group).filter(is_listed);
        page(groups, skip, |group| self.group_info(&group, caller))
    }

    /// Pending requests, oldest first.
    pub fn list_requests(&self, group: &GroupId, skip: usize) -> Page<PendingRequest> {
        let pending = self.groups.get(group).into_iter().flat_map(|group| group.pending());
        let mut pending: Vec<_> =
            pending.filter_map(|(user, since)| Some((since, user, self.user_name(&user)?))).collect();
        pending.sort_unstable();
        page(pending.into_iter(), skip, |(since, _, user)| {
            Some(PendingRequest { user: user.clone(), since_ms: since.wall_ms })
        })
    }

    /// Members by name.
    pub fn list_members(&self, group: &GroupId, skip: usize) -> Page<Member> {
        let mut members: Vec<_> =
            self.members_of(group).filter_map(|user| Some((self.user_name(&user)?, user))).collect();
        members.sort_unstable();
        page(members.into_iter(), skip, |(name, user)| {
            Some(Member { user, name: name.clone(), role: self.standing(group, &user) })
        })
    }
}

/// Files and shares.
impl Catalog {
    /// The listed file called `name` now in a group.
    pub fn file_named(&self, group: &GroupId, name: &FileName) -> Option<FileId> {
        self.shares.names(group)?.holder(name)
    }

    /// What a listed file is called now in its group.
    pub fn file_name(&self, group: &GroupId, file: &FileId) -> Option<&FileName> {
        self.shares.names(group)?.name(file)
    }

    /// Group and manifest of a listed file.
    pub fn file(&self, file: &FileId) -> Option<(GroupId, &ManifestHeader)> {
        self.shares.listed(file).map(|(group, _, manifest)| (group, manifest))
    }

    /// A listed file; seeders and leechers read 0, they are presence.
    pub fn file_info(&self, group: &GroupId, file: &FileId) -> Option<FileInfo> {
        let (of, id, manifest) = self.shares.listed(file).filter(|(of, ..)| of == group)?;
        let mut shared_by = Vec::new();
        for share in self.shares_of_file(file) {
            if let Some(name) = self.user_name(&share.user).filter(|name| !shared_by.contains(*name)) {
                shared_by.push(name.clone());
            }
        }
        Some(FileInfo {
            group: of,
            file: *file,
            manifest: id,
            name: self.file_name(group, file)?.clone(),
            size: manifest.size,
            sha1: manifest.sha1,
            seeders: 0,
            leechers: 0,
            shared_by,
        })
    }

    /// Listed files of a group by name.
    pub fn list_files(&self, group: &GroupId, skip: usize) -> Page<FileInfo> {
        let files = self.shares.names(group).into_iter().flat_map(Claims::iter);
        page(files, skip, |(_, file)| self.file_info(group, &file))
    }

    /// Live shares of a file, first one first: who is told when it is renamed.
    pub fn shares_of_file(&self, file: &FileId) -> impl Iterator<Item = SharedFile> + '_ {
        self.shares.of_file(file).map(|(share, begun)| begun.shared(share))
    }

    /// Live shares of a user's device.
    pub fn shares_of_device(&self, user: UserId, device: DeviceKey) -> impl Iterator<Item = SharedFile> + '_ {
        self.shares.of_device(user, device).map(|(share, begun)| begun.shared(share))
    }

    /// Files that a user's device shares and that lost the name they claim: that name, and the present one.
    pub fn lost_file_names(&self, user: UserId, device: DeviceKey) -> impl Iterator<Item = (&FileName, &FileName)> {
        let shared = self.shares_of_device(user, device);
        let names =
            shared.filter_map(|share| self.shares.claimed(&share.file).zip(self.file_name(&share.group, &share.file)));
        names.filter(|(claimed, now)| claimed != now)
    }

    /// Number of live shares of a user's device.
    pub fn share_count(&self, user: UserId, device: DeviceKey) -> usize {
        self.shares.device_count(user, device)
    }

    /// Pieces of all that a user shares, on whatever device.
    pub fn shared_pieces(&self, user: &UserId) -> u64 {
        self.shares.user_pieces(user)
    }

    /// The manifest, when a live share in the group refers to it: its pages may be read there.
    pub fn manifest(&self, group: &GroupId, manifest: &ManifestId) -> Option<&ManifestHeader> {
        self.file(&FileId::of(group, manifest)).map(|(_, header)| header)
    }
}

impl Begun {
    fn shared(&self, share: ShareId) -> SharedFile {
        SharedFile { share, group: self.group, file: self.file, user: self.user, device: self.device }
    }
}

/// Makes entries only of what is on the page: a listing of many pages passes over the others cheaply. Each makes an entry.
fn page<S, T>(all: impl Iterator<Item = S>, skip: usize, entry: impl FnMut(S) -> Option<T>) -> Page<T> {
    let mut rest = all.skip(skip);
    let entries = rest.by_ref().take(LISTING_PAGE).filter_map(entry).collect();
    Page { entries, more: rest.next().is_some() }
}
