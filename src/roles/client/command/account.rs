//! `create_user`, `login`, `logout`, `list_sessions`, `end_session`, `close_account`, `change_password`, `whoami`.

use std::sync::Arc;

use super::{Reply, SessionName, dispatch::order};
use crate::{
    protocol::{
        client::{Answer, Password, Request, SessionEntry},
        error::{ErrorCode, Failure},
        limits::MAX_PASSWORD_BYTES,
        name::UserName,
    },
    roles::client::{Core, Outcome, exchange::Resumed, tracker_link::unexpected},
};

pub(super) async fn create_user(core: &Core, user: UserName, password: Password) -> Result<Outcome, Failure> {
    let password = cut(password);
    order(core, Request::CreateUser { user, password }).await
}

pub(super) async fn login(core: Arc<Core>, user: UserName, password: Password) -> Result<Outcome, Failure> {
    let _change = core.session_change.lock().await;
    if let Some(present) = core.user() {
        let message = format!("{} is logged in here. Log out first: logout.", present.name);
        return Err(Failure::new(ErrorCode::AlreadyLoggedIn, message));
    }
    let password = cut(password);
    let answered = core.tracker.request(Request::Login { user, password }).await?;
    let Answer::LoggedIn { info, .. } = answered.answer else { return Err(unexpected(&answered.answer)) };
    let resumed = match core.exchange.logged_in().await {
        Ok(resumed) => resumed,
        Err(failure) => {
            // What rests cannot be read, and a database that failed once stays failed: a login that says "nothing to resume"
            // would hide it.
            if let Err(left) = order(&core, Request::Logout).await {
                tracing::debug!(failure = %left, "the session dies with its link");
            }
            return Err(failure);
        }
    };
    let Resumed { downloads, shares, suspended } = resumed;
    let reply = Reply::LoggedIn { user: info.name, resumed: downloads, shared: shares, suspended };
    Ok(Outcome { reply, stale: answered.stale })
}

/// Who is not logged in may send short messages only. Of a password that is too long, just that is left.
fn cut(mut password: Password) -> Password {
    if let Some(end) = (MAX_PASSWORD_BYTES + 1..password.0.len()).find(|end| password.0.is_char_boundary(*end)) {
        password.0.truncate(end);
    }
    password
}

pub(super) async fn logout(core: Arc<Core>) -> Result<Outcome, Failure> {
    let _change = core.session_change.lock().await;
    core.require_login()?;
    core.exchange.logged_out().await;
    order(&core, Request::Logout).await
}

pub(super) async fn close_account(core: Arc<Core>, password: Password) -> Result<Outcome, Failure> {
    let _change = core.session_change.lock().await;
    core.require_login()?;
    let closed = order(&core, Request::CloseAccount { password }).await?;
    core.exchange.logged_out().await;
    // The tracker has no session any more; this forgets it here.
    order(&core, Request::Logout).await?;
    Ok(closed)
}

pub(super) async fn list_sessions(core: &Core) -> Result<Outcome, Failure> {
    let (sessions, stale) = sessions(core).await?;
    core.completions().sessions = sessions.iter().map(|entry| SessionName::of(&entry.session)).collect();
    Ok(Outcome { reply: Reply::Sessions(sessions), stale })
}

async fn sessions(core: &Core) -> Result<(Vec<SessionEntry>, bool), Failure> {
    let answered = core.tracker.request(Request::ListSessions).await?;
    match answered.answer {
        Answer::Sessions(sessions) => Ok((sessions, answered.stale)),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn end_session(core: &Core, name: SessionName) -> Result<Outcome, Failure> {
    let mut named = sessions(core).await?.0;
    named.retain(|entry| name.names(&entry.session));
    let why = match named[..] {
        [SessionEntry { session, .. }] => return order(core, Request::EndSession { session }).await,
        [] => "There is no session",
        _ => "There is more than one session",
    };
    let message = format!("{why} {}. list_sessions shows those there are.", name.0);
    Err(Failure::new(ErrorCode::NoSuchSession, message))
}

pub(super) async fn change_password(core: &Core, old: Password, new: Password) -> Result<Outcome, Failure> {
    let answered = core.tracker.request(Request::ChangePassword { old, new }).await?;
    match answered.answer {
        // The session goes on under the new password.
        Answer::LoggedIn { .. } => Ok(Outcome { reply: Reply::Done, stale: answered.stale }),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn who_am_i(core: &Core) -> Outcome {
    let user = core.user().map(|info| info.name);
    Outcome::fresh(Reply::WhoAmI { user, address: core.tracker.address(), device: core.device })
}
