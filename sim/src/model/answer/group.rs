//! Groups, requests to join, members.

use p2p::protocol::{client::Standing, error::ErrorCode};

use super::{
    super::{
        event::{Body, Id},
        said::{GroupRow, Leaving, MemberRow, Said},
        view::Group,
        world::Next,
    },
    Answers, Turn,
};

impl Turn<'_> {
    pub(super) fn create_group(&self, name: &str) -> Answers {
        self.require_account()?;
        if self.view.group_named(name).is_some() {
            return Err(ErrorCode::GroupExists);
        }
        Ok(self.writes(Said::Done, Body::Group { name: name.to_owned(), owner: self.user() }))
    }

    pub(super) fn join_group(&self, name: &str) -> Answers {
        self.require_account()?;
        let (id, group) = self.group(name)?;
        let user = self.user();
        match standing(group, user) {
            Standing::Owner | Standing::Member => Err(ErrorCode::AlreadyMember),
            Standing::Requested => Err(ErrorCode::AlreadyRequested),
            Standing::None => Ok(self.writes(Said::Done, Body::Asked { group: id, user })),
        }
    }

    /// "Leaves (or withdraws the request); an owner's group passes to its longest-standing member, the last one dissolves it."
    pub(super) fn leave_group(&self, name: &str) -> Answers {
        let (id, group) = self.group(name)?;
        self.require_account()?;
        let user = self.user();
        let how = standing(group, user);
        let is_last = group.members.len() == 1;
        if how == Standing::Owner && is_last && !self.is_caught_up() {
            return Err(ErrorCode::Stale);
        }
        if how == Standing::None && self.is_caught_up() {
            return Err(ErrorCode::NotAMember);
        }
        let mut next = self.writes(Said::Done, Body::Ended { group: id, user });
        let after = next[0].world.view(self.who.tracker);
        next[0].said = Said::Left(match (how, after.groups.get(&id)) {
            (Standing::Requested, _) => Leaving::Withdrawn,
            (Standing::Owner, None) => Leaving::Dissolved,
            (Standing::Owner, Some(group)) => Leaving::Passed(after.name(group.owner)),
            _ => Leaving::Left,
        });
        if how != Standing::Requested {
            blur_shares(&mut next[0], id, user);
            next[0].world.clients[self.who.client].shares.retain(|key, _| (key.0, key.1) != (user, id));
        }
        Ok(next)
    }

    /// The group, which the caller owns, and the user.
    fn owned(&self, name: &str, user: &str) -> Result<(Id, &Group, Id), ErrorCode> {
        self.require_account()?;
        let (id, group) = self.group(name)?;
        if group.owner != self.user() {
            return Err(ErrorCode::NotOwner);
        }
        Ok((id, group, self.view.user_named(user).ok_or(ErrorCode::NoSuchUser)?))
    }

    pub(super) fn accept_request(&self, name: &str, user: &str) -> Answers {
        let (id, group, user) = self.owned(name, user)?;
        if group.members.contains_key(&user) {
            return Err(ErrorCode::AlreadyMember);
        }
        let instance = group.request(user).ok_or(ErrorCode::NoSuchRequest)?;
        let as_instance = group.owner_instance;
        Ok(self.writes(Said::Done, Body::Accepted { group: id, instance, as_instance }))
    }

    pub(super) fn reject_request(&self, name: &str, user: &str) -> Answers {
        let (id, group, user) = self.owned(name, user)?;
        group.request(user).ok_or(ErrorCode::NoSuchRequest)?;
        Ok(self.writes(Said::Done, Body::Ended { group: id, user }))
    }

    pub(super) fn remove_member(&self, name: &str, user: &str) -> Answers {
        let (id, group, user) = self.owned(name, user)?;
        if user == self.user() {
            return Err(ErrorCode::Usage);
        }
        if !group.members.contains_key(&user) {
            return Err(ErrorCode::NotAMember);
        }
        let mut next = self.writes(Said::Done, Body::Ended { group: id, user });
        blur_shares(&mut next[0], id, user);
        Ok(next)
    }

    pub(super) fn transfer_group(&self, name: &str, user: &str) -> Answers {
        let (id, group, user) = self.owned(name, user)?;
        if user == self.user() {
            // Nothing to do, for all that the tracker knows: that is shown.
            return Ok(self.shows(Said::Done));
        }
        let instance = *group.members.get(&user).ok_or(ErrorCode::NotAMember)?;
        Ok(self.writes(Said::Done, Body::Handed { group: id, instance }))
    }

    pub(super) fn list_groups(&self) -> Vec<Next> {
        let row = |group: &Group| GroupRow {
            name: group.name.clone(),
            owner: self.view.name(group.owner),
            members: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
            standing: standing(group, self.user()),
        };
        let mut rows: Vec<GroupRow> = self.view.groups.values().map(row).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        self.shows(Said::Groups(rows))
    }

    pub(super) fn list_members(&self, name: &str) -> Answers {
        let (_, group, _) = self.own_group(name)?;
        let row = |user: &Id| MemberRow {
            name: self.view.name(*user),
            owner: *user == group.owner,
            online: self.world.is_online(*user, self.who.now),
        };
        let mut rows: Vec<MemberRow> = group.members.keys().map(row).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(self.shows(Said::Members(rows)))
    }

    pub(super) fn list_requests(&self, name: &str) -> Answers {
        let (_, group) = self.group(name)?;
        if group.owner != self.user() {
            return Err(ErrorCode::NotOwner);
        }
        let asking = group.requests.iter().map(|(user, _)| self.view.name(*user)).collect();
        Ok(self.shows(Said::Requests(asking)))
    }
}

/// How a user stands in a group.
fn standing(group: &Group, user: Id) -> Standing {
    if group.owner == user {
        Standing::Owner
    } else if group.members.contains_key(&user) {
        Standing::Member
    } else if group.request(user).is_some() {
        Standing::Requested
    } else {
        Standing::None
    }
}

/// Clients that hear of the end of a membership forget what they shared under it; others remember it for a while.
fn blur_shares(next: &mut Next, group: Id, user: Id) {
    let shares = next.world.clients.iter_mut().flat_map(|client| &mut client.shares);
    shares.filter(|(key, _)| (key.0, key.1) == (user, group)).for_each(|(_, local)| local.sure = false);
}
