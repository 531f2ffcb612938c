//! What changes did, told to the clients linked here.

use std::collections::BTreeSet;

use super::{node::State, presence::LinkNo};
use crate::{
    protocol::{
        client::{Notice, RenamedKind},
        ids::{GroupId, UserId},
        name::{GroupName, UserName},
    },
    replica::Effect,
};

/// Lost names told at one login; a full queue would cost the link.
const MAX_RENAMED: usize = 100;

/// Tells those concerned. Names are those of now; whoever has none by now is told nothing.
pub(super) fn tell(state: &mut State, effects: &[Effect]) {
    for effect in effects {
        tell_one(state, effect);
    }
}

fn tell_one(state: &mut State, effect: &Effect) {
    match effect {
        Effect::JoinRequested { group, user, owner } => {
            let names = group_name(state, group).zip(user_name(state, user));
            let notice = names.map(|(group, user)| Notice::JoinRequested { group, user });
            notify(state, owner, notice);
        }
        Effect::RequestAccepted { group, user } => {
            let notice = group_name(state, group).map(|group| Notice::RequestAccepted { group });
            notify(state, user, notice);
        }
        Effect::RequestRejected { group, user } => {
            let notice = group_name(state, group).map(|group| Notice::RequestRejected { group });
            notify(state, user, notice);
        }
        Effect::MemberRemoved { group, user } => {
            let notice = group_name(state, group).map(|name| Notice::MemberRemoved { group: name, id: *group });
            notify(state, user, notice);
        }
        Effect::MembershipEnded { group, user } => membership_ended(state, *group, *user),
        Effect::OwnerNow { group, owner } => {
            let notice = group_name(state, group).map(|group| Notice::OwnerNow { group });
            notify(state, owner, notice);
        }
        Effect::UserRenamed { user, from, to } => {
            let notice = renamed(RenamedKind::Account, from.as_str(), to.as_str());
            state.clients.notify_user(user, &notice);
        }
        Effect::GroupRenamed { group, from, to } => {
            let notice = renamed(RenamedKind::Group, from.as_str(), to.as_str());
            if let Some(owner) = state.catalog.owner(group) {
                state.clients.notify_user(&owner, &notice);
            }
        }
        Effect::FileRenamed { file, from, to, .. } => {
            let notice = renamed(RenamedKind::File, from.as_str(), to.as_str());
            let sharers: BTreeSet<_> = state.catalog.shares_of_file(file).map(|share| share.user).collect();
            for user in sharers {
                state.clients.notify_user(&user, &notice);
            }
        }
        Effect::CredentialChanged { user } | Effect::SessionsEnded { user } => sessions_ended(state, *user),
        Effect::ShareBegun { .. } | Effect::ShareEnded { .. } => {}
    }
}

/// What a user, the groups they own and the files they share here go by now, where that is not what was claimed: told at
/// every login and hello.
pub(super) fn tell_renamed(state: &State, link: LinkNo, user: UserId) {
    let catalog = &state.catalog;
    let account = catalog.claimed_name(&user).zip(catalog.user_name(&user)).filter(|(claimed, now)| claimed != now);
    let account = account.map(|(from, to)| renamed(RenamedKind::Account, from.as_str(), to.as_str()));
    let groups = catalog.lost_group_names(user);
    let groups = groups.map(|(from, to)| renamed(RenamedKind::Group, from.as_str(), to.as_str()));
    let device = state.clients.get(link).map(|client| client.device);
    let files = device.into_iter().flat_map(|device| catalog.lost_file_names(user, device));
    let files = files.map(|(from, to)| renamed(RenamedKind::File, from.as_str(), to.as_str()));
    for notice in account.into_iter().chain(groups).chain(files).take(MAX_RENAMED) {
        state.clients.notify(link, notice);
    }
}

fn renamed(kind: RenamedKind, from: &str, to: &str) -> Notice {
    Notice::Renamed { kind, from: from.to_owned(), to: to.to_owned() }
}

fn notify(state: &State, user: &UserId, notice: Option<Notice>) {
    if let Some(notice) = notice {
        state.clients.notify_user(user, &notice);
    }
}

/// Whoever serves in the group stops serving them, and they stop serving there.
fn membership_ended(state: &mut State, group: GroupId, user: UserId) {
    let memberships = state.catalog.ended_memberships(&group, &user);
    for link in state.presence.links_serving(group) {
        state.clients.notify(link, Notice::MembershipEnded { group, user, memberships: memberships.clone() });
    }
    for file in state.presence.files_served(&user, group) {
        state.presence.touch(file);
    }
}

/// What a snapshot brought may have ended sessions.
pub(super) fn end_outdated_sessions(state: &mut State) {
    for user in state.clients.users() {
        end_sessions(state, &user);
    }
}

/// Links lose the sessions that are over, and whoever may serve the user asks which those are.
fn sessions_ended(state: &mut State, user: UserId) {
    end_sessions(state, &user);
    for link in state.presence.links_serving_where(|group| state.catalog.membership(group, &user).is_some()) {
        state.clients.notify(link, Notice::SessionsEnded { user });
    }
}

fn end_sessions(state: &mut State, user: &UserId) {
    for link in state.clients.links_of(user) {
        let Some(client) = state.clients.get(link) else { continue };
        let device = client.device;
        if client.session.is_some_and(|logged_in| state.catalog.is_session_over(user, &logged_in.session)) {
            state.clients.set_session(link, None);
            state.presence.leave(device, super::presence::Home::Here(link));
            state.clients.notify(link, Notice::SessionEnded);
        }
    }
}

fn group_name(state: &State, group: &GroupId) -> Option<GroupName> {
    state.catalog.group_name(group).cloned()
}

fn user_name(state: &State, user: &UserId) -> Option<UserName> {
    state.catalog.user_name(user).cloned()
}
