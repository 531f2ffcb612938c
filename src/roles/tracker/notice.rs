//! What changes did, told to the clients linked here.

use std::collections::BTreeSet;

use super::node::State;
use crate::{
    protocol::{
        client::{Notice, RenamedKind},
        ids::{GroupId, UserId},
        name::{GroupName, UserName},
    },
    replica::Effect,
};

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
        Effect::CredentialChanged { user } => end_sessions(state, user),
        Effect::ShareBegun { .. } | Effect::ShareEnded { .. } => {}
    }
}

/// What a user goes by now, where that is not what was claimed: told at every login and hello.
pub(super) fn tell_renamed(state: &State, link: super::presence::LinkNo, user: &UserId) {
    let names = state.catalog.claimed_name(user).zip(state.catalog.user_name(user));
    if let Some((claimed, now)) = names.filter(|(claimed, now)| claimed != now) {
        state.clients.notify(link, renamed(RenamedKind::Account, claimed.as_str(), now.as_str()));
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
    for link in state.presence.links_serving(group) {
        state.clients.notify(link, Notice::MembershipEnded { group, user });
    }
    for file in state.presence.files_served(&user, group) {
        state.presence.touch(file);
    }
}

/// Sessions opened with an earlier password are over.
fn end_sessions(state: &mut State, user: &UserId) {
    let Some((now, _)) = state.catalog.credential(user) else { return };
    for link in state.clients.links_of(user) {
        let Some(client) = state.clients.get(link) else { continue };
        let device = client.device;
        if client.session.is_some_and(|session| session.credential_at < now) {
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
