//! `create_user`, `login`, `logout`, `change_password`, `whoami`, `trackers`.

use p2p::protocol::error::ErrorCode;

use super::{
    super::{
        event::{Body, Id},
        said::Said,
        world::{Next, Session, or_stale},
    },
    Answers, Turn,
};

/// Failed logins that cost nothing.
const FREE_FAILURES: u32 = 5;
/// Accounts of one claimed name that a password is tried on.
const MAX_CLAIMANTS: usize = 4;

impl Turn<'_> {
    pub(super) fn create_user(&self, name: &str, password: &str) -> Answers {
        if self.view.user_named(name).is_some() {
            return Err(ErrorCode::UserExists);
        }
        Ok(self.writes(Said::Done, Body::User { name: name.to_owned(), password: password.to_owned() }))
    }

    pub(super) fn login(&self, name: &str, password: &str) -> Vec<Next> {
        if self.client().session.is_some() {
            return self.says(Said::Refused(ErrorCode::AlreadyLoggedIn));
        }
        let right = self.accounts(name).into_iter().find(|user| self.view.users[user].password == password);
        let Some(user) = right else {
            // The account, or its password of today, may be what the tracker has yet to hear of.
            return self.wrong_password(name, or_stale(ErrorCode::BadCredentials, self.is_caught_up()));
        };
        let mut world = self.world.clone();
        world.fade(self.who, user);
        let opened = world.append(self.who, Body::Session);
        let credential = self.view.users[&user].credential;
        world.clients[self.who.client].session = Some(Session { user, opened, credential });
        world.see_all(self.who);
        let next = Next { said: Said::LoggedIn(self.view.name(user)), stale: false, world };
        [next].into_iter().chain(self.too_many_attempts(name)).collect()
    }

    /// The accounts that a name may mean: the one that is called so now, then those that registered under it.
    fn accounts(&self, name: &str) -> Vec<Id> {
        let mut accounts: Vec<Id> = self.view.user_named(name).into_iter().collect();
        let claimed = self.view.users.iter().filter(|(_, user)| user.claimed == name).map(|(id, _)| *id);
        let mut claimed: Vec<Id> = claimed.filter(|id| !accounts.contains(id)).collect();
        claimed.sort_by_key(|id| self.world.events[*id].at);
        accounts.extend(claimed);
        accounts.truncate(MAX_CLAIMANTS);
        accounts
    }

    fn wrong_password(&self, name: &str, code: ErrorCode) -> Vec<Next> {
        let mut next = self.says(Said::Refused(code));
        *next[0].world.failures.entry(name.to_owned()).or_default() += 1;
        next.extend(self.too_many_attempts(name));
        next
    }

    /// Each tracker counts failures by itself, and a right password clears them there: from the first that may be one too many
    /// on, the model does not know.
    fn too_many_attempts(&self, name: &str) -> Option<Next> {
        let failures = self.world.failures.get(name).copied().unwrap_or_default();
        if failures < FREE_FAILURES {
            return None;
        }
        self.says(Said::Refused(ErrorCode::TooManyAttempts)).pop()
    }

    pub(super) fn logout(&self) -> Vec<Next> {
        let mut next = self.says(Said::Done);
        let user = self.user();
        next[0].world.append(self.who, Body::Session);
        next[0].world.clients[self.who.client].session = None;
        next[0].world.fade(self.who, user);
        next
    }

    /// The sessions of other clients end, this one goes on.
    pub(super) fn change_password(&self, old: &str, new: &str) -> Vec<Next> {
        let Session { user, opened, .. } = self.session();
        let Some(account) = self.view.users.get(&user).filter(|account| account.password == old) else {
            return self.wrong_password(&self.view.name(user), ErrorCode::BadCredentials);
        };
        let mut next = self.writes(Said::Done, Body::Password { user, password: new.to_owned(), keeps: opened });
        let world = &mut next[0].world;
        let credential = world.events.len() - 1;
        world.clients[self.who.client].session = Some(Session { user, opened, credential });
        world.speak_to(self.who.client, self.who.tracker, self.who.now);
        let name = account.name.clone();
        next.extend(self.too_many_attempts(&name));
        next
    }

    pub(super) fn who_am_i(&self) -> Vec<Next> {
        self.says(Said::WhoAmI(self.client().session.map(|session| self.own_name(session.user))))
    }

    /// What a client's user is called, to the client: at a tracker that has yet to hear of the account, as it registered.
    fn own_name(&self, user: Id) -> String {
        match &self.world.events[user].body {
            Body::User { name, .. } if !self.view.users.contains_key(&user) => name.clone(),
            _ => self.view.name(user),
        }
    }

    pub(super) fn trackers(&self) -> Vec<Next> {
        self.says(Said::Trackers(self.world.tracker_count()))
    }
}
