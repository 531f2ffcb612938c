//! Accounts and sessions: registering, logging in, going on at another tracker, changing the password.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    clients::LoggedIn,
    connection::Asker,
    hash_queue::Purpose,
    node::{State, Writer},
    password::Turn,
    throttle::Attempt,
    trackers::millis,
};
use crate::{
    protocol::{
        client::{Answer, Password, SessionInfo},
        error::{ErrorCode, Failure},
        ids::{DeviceKey, RequestId, SessionId, UserId},
        name::UserName,
        record::Credential,
        ticket::{CredentialId, SESSION_LIFE, Session, SessionRef, Signed},
        version::VersionVector,
    },
    replica::{
        command::{self, Command},
        session::Opened,
    },
};

/// Accounts of one claimed name that a password is tried on: the holder, and those who lost the claim.
const MAX_CLAIMANTS: usize = 4;

/// Sessions of one user: a login beyond them ends the oldest.
const MAX_SESSIONS: usize = 16;

/// Pause of an attempt while as many are under way as may be.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(10);

/// What an answer about accounts shows, beside the answer.
pub(super) type Shown = (Answer, VersionVector);

/// Checks the session that a client shows at its hello, and goes on with it.
pub(super) fn resume(asker: &Asker, signed: &Signed) -> Result<SessionInfo, Failure> {
    let session = open(asker, signed)?;
    asker.begin_session(LoggedIn { user: session.user, session: session.session });
    Ok(asker.info(session.user, session.name))
}

fn open(asker: &Asker, signed: &Signed) -> Result<Session, Failure> {
    let node = &asker.node;
    let session = match clock_offset_ms(asker, &signed.signer) {
        Ok(offset_ms) => {
            let signer_now_ms = node.now_ms().saturating_add_signed(offset_ms);
            signed.open(signer_now_ms).map_err(|error| refused(&error.to_string()))?
        }
        Err(unknown) => recorded(asker, signed).ok_or(unknown)?,
    };
    if session.device != asker.device {
        return Err(refused("it is another device's"));
    }
    if node.state().catalog.is_session_over(&session.user, &session.session) {
        return Err(refused("it was ended, or the password was changed since"));
    }
    Ok(session)
}

/// The session that a statement names whose signer is unknown here: a tracker that has lost its key with its disk, or has yet to be
/// met. Its signature proves nothing, and nothing but a name is taken from it: what counts is the catalog's own record that this
/// very device, which the link proves, is logged in. So whoever makes up a statement gains what is theirs without it.
fn recorded(asker: &Asker, signed: &Signed) -> Option<Session> {
    let Session { user, session: named, .. } = signed.open(0).ok()?;
    let state = asker.node.state();
    let record = state.catalog.session_record(&user, &named.id)?;
    let issued_ms = record.at.wall_ms;
    let expires_ms = issued_ms.saturating_add(millis(SESSION_LIFE));
    if record.device != asker.device || expires_ms <= asker.node.now_ms() {
        return None;
    }
    let (session, name) = (record.session(named.id), state.catalog.user_name(&user)?.clone());
    Some(Session { user, name, device: record.device, session, issued_ms, expires_ms })
}

/// How far the clock of a session's signer is ahead. `stale` for an unknown one as long as a listed tracker has yet to be met:
/// the client keeps its session then, and tries again or elsewhere.
fn clock_offset_ms(asker: &Asker, signer: &DeviceKey) -> Result<i64, Failure> {
    let node = &asker.node;
    if *signer == node.key() {
        return Ok(0);
    }
    let state = node.state();
    if let Some(offset_ms) = state.trackers.clock_offset_ms(signer) {
        return Ok(offset_ms);
    }
    if state.trackers.all_known() {
        return Err(refused("no tracker known here has signed it"));
    }
    let message = "This tracker has yet to meet the one that signed your session: try again in a moment, or log out and in \
                   again.";
    Err(Failure::new(ErrorCode::Stale, message))
}

fn refused(why: &str) -> Failure {
    Failure::new(ErrorCode::NotLoggedIn, format!("The session is over: {why}. Log in again with: login <user>"))
}

/// Registers an account.
pub(super) async fn create_user(
    asker: &Asker,
    request: RequestId,
    seen: &VersionVector,
    user: UserName,
    password: Password,
) -> Result<Shown, Failure> {
    let known = {
        let state = asker.node.state();
        let answer = command::answer(&state.catalog, &request);
        if answer.is_none() {
            command::check_new_user(&state.catalog, &user)?;
        }
        answer.map(|answer| (answer, state.catalog.vector().clone()))
    };
    let (answer, needed) = if let Some(known) = known {
        known
    } else {
        asker.node.state().throttle.register(Instant::now(), asker.from)?;
        let turn = asker.node.passwords.turn(Purpose::Registration, asker.from).await?;
        let credential = asker.node.passwords.hash(&turn, password).await?;
        drop(turn);
        let writer = Writer { user: None, device: asker.device, seen };
        let (answer, needed) = asker.node.write(writer, request, &Command::CreateUser { user, credential }).await?;
        (answer.unwrap_or(Answer::Done), needed)
    };
    asker.node.until_acknowledged(&needed).await?;
    Ok((answer, needed))
}

/// Opens a session.
pub(super) async fn login(
    asker: &Asker,
    request: RequestId,
    seen: &VersionVector,
    name: UserName,
    password: &Password,
) -> Result<Shown, Failure> {
    let node = &asker.node;
    let known = is_known_device(asker, &name).then_some(asker.device);
    let attempt = Attempt { user: &name, from: asker.from, known };
    let turn = admit(asker, &attempt).await?;
    let found = find_account(asker, &turn, &name, password).await;
    drop(turn);
    node.state().throttle.ended(Instant::now(), &attempt, found.is_some());
    let (user, opened_with) = found.ok_or_else(bad_credentials)?;
    end_replaced(asker, request, seen, user).await?;
    let writer = Writer { user: Some(user), device: asker.device, seen };
    let (_, mut needed) = node.write(writer, request, &Command::OpenSession { opened_with }).await?;
    let session = begin(asker, user, request.into())?;
    needed.merge(node.state().catalog.vector());
    node.until_acknowledged(&needed).await?;
    Ok((logged_in(asker, user, session, name), needed))
}

/// Begins a session that was opened, unless it is over: the password has changed while it was verified.
fn begin(asker: &Asker, user: UserId, id: SessionId) -> Result<SessionRef, Failure> {
    let session = asker.node.state().catalog.session(&user, &id).ok_or_else(|| refused("it was ended"))?;
    asker.begin_session(LoggedIn { user, session });
    // Whoever ended it in between has not found it on this link.
    if asker.node.state().catalog.is_session_over(&user, &session) {
        asker.end_session();
        return Err(refused("it was ended"));
    }
    Ok(session)
}

/// Ends the sessions that a login makes needless: those of this device, what has expired, and the oldest of too many.
async fn end_replaced(asker: &Asker, login: RequestId, seen: &VersionVector, user: UserId) -> Result<(), Failure> {
    let node = &asker.node;
    let opened = node.state().catalog.opened_sessions(&user);
    let now_ms = node.now_ms();
    let beyond = (opened.len() + 1).saturating_sub(MAX_SESSIONS);
    let is_needless = |place: usize, opened: &Opened, is_over: bool| {
        let expires_ms = opened.at.wall_ms.saturating_add(millis(SESSION_LIFE));
        place < beyond || is_over || opened.device == asker.device || expires_ms <= now_ms
    };
    let replaced: Vec<_> = {
        let state = node.state();
        let others = opened.iter().enumerate().filter(|(_, (id, _))| *id != login.into());
        let needless = others
            .filter(|(place, (id, opened))| is_needless(*place, opened, state.catalog.session(&user, id).is_none()));
        needless.map(|(_, (id, opened))| (*id, opened.dot)).collect()
    };
    if replaced.is_empty() {
        return Ok(());
    }
    let writer = Writer { user: Some(user), device: asker.device, seen };
    node.write(writer, login.beside(), &Command::EndSessions { sessions: replaced }).await.map(|_| ())
}

/// Ends the session on this link, everywhere.
pub(super) async fn logout(asker: &Asker, request: RequestId, seen: &VersionVector) -> Result<Shown, Failure> {
    let node = &asker.node;
    let Some(LoggedIn { user, session }) = asker.session() else {
        return Ok((Answer::Done, VersionVector::default()));
    };
    asker.end_session();
    let writer = Writer { user: Some(user), device: asker.device, seen };
    let sessions = vec![(session.id, session.opened)];
    let (_, needed) = node.write(writer, request, &Command::EndSessions { sessions }).await?;
    node.until_acknowledged(&needed).await?;
    Ok((Answer::Done, needed))
}

/// Waits until an attempt may be made, or says `too_many_attempts`.
async fn admit(asker: &Asker, attempt: &Attempt<'_>) -> Result<Turn, Failure> {
    loop {
        // Who is refused anyhow does not wait for it.
        asker.node.state().throttle.check(Instant::now(), attempt)?;
        let turn = asker.node.passwords.turn(Purpose::Login, asker.from).await?;
        if asker.node.state().throttle.attempt(Instant::now(), attempt)? {
            return Ok(turn);
        }
        drop(turn);
        sleep(ATTEMPT_PAUSE).await;
    }
}

/// Whether a user whom that name may mean is logged in on this device, or was when it was last heard of.
fn is_known_device(asker: &Asker, name: &UserName) -> bool {
    let state = asker.node.state();
    let here =
        |user: UserId| state.catalog.opened_sessions(&user).iter().any(|(_, opened)| opened.device == asker.device);
    accounts(&state, name).into_iter().any(|(user, ..)| here(user))
}

/// Closes the account: its groups pass on or are dissolved, as when their owner leaves; then its sessions end, and with them all
/// that is served by them.
pub(super) async fn close_account(
    asker: &Asker,
    request: RequestId,
    seen: &VersionVector,
    password: &Password,
) -> Result<Shown, Failure> {
    let node = &asker.node;
    let mut needed = VersionVector::default();
    if command::answer(&node.state().catalog, &request).is_none() {
        let session = asker.logged_in_session()?;
        let user = session.user;
        verify_own(asker, user, password).await?;
        let writer = Writer { user: Some(user), device: asker.device, seen };
        let groups = node.state().catalog.groups_of(&user);
        for (id, group) in groups {
            let left = node.write(writer, request.part(&id), &Command::LeaveGroup { group }).await;
            match left {
                Ok((_, more)) => needed.merge(&more),
                // Somebody has ended it meanwhile.
                Err(failure) if matches!(failure.code, ErrorCode::NotAMember | ErrorCode::NoSuchGroup) => {}
                Err(failure) => return Err(failure),
            }
        }
        asker.end_session();
        let closed = node.write(writer, request, &Command::CloseAccount).await;
        let (_, more) = closed.inspect_err(|_| asker.begin_session(session))?;
        needed.merge(&more);
        let opened = node.state().catalog.opened_sessions(&user);
        let sessions = opened.into_iter().map(|(id, opened)| (id, opened.dot)).collect();
        let (_, more) = node.write(writer, request.beside(), &Command::EndSessions { sessions }).await?;
        needed.merge(&more);
    } else {
        needed.merge(node.state().catalog.vector());
    }
    node.until_acknowledged(&needed).await?;
    Ok((Answer::Done, needed))
}

/// The account of that name, and that password. As many are verified whatever the name: it takes as long to find that there is
/// none as that the password is wrong.
async fn find_account(
    asker: &Asker,
    turn: &Turn,
    name: &UserName,
    password: &Password,
) -> Option<(UserId, CredentialId)> {
    let (accounts, count) = {
        let state = asker.node.state();
        (accounts(&state, name), state.catalog.most_claimants().min(MAX_CLAIMANTS))
    };
    let mut candidates = accounts.into_iter();
    let mut found = None;
    for _ in 0..count.max(candidates.len()) {
        let candidate = candidates.next();
        let (whose, credential) = candidate.map(|(user, id, credential)| ((user, id), credential)).unzip();
        if asker.node.passwords.verify(turn, password, credential).await {
            found = found.or(whose);
        }
    }
    found
}

/// The accounts that `name` may mean, the one who is called so now first.
fn accounts(state: &State, name: &UserName) -> Vec<(UserId, CredentialId, Credential)> {
    let mut users: Vec<_> = state.catalog.user_named(name).into_iter().collect();
    for user in state.catalog.claimants(name) {
        if !users.contains(&user) {
            users.push(user);
        }
    }
    let with_credential = |user: UserId| {
        let (id, credential) = state.catalog.credential(&user)?;
        Some((user, id, credential.clone()))
    };
    users.into_iter().take(MAX_CLAIMANTS).filter_map(with_credential).collect()
}

/// Changes the password. The session on this link goes on, under the new one.
pub(super) async fn change_password(
    asker: &Asker,
    request: RequestId,
    seen: &VersionVector,
    old: &Password,
    new: Password,
) -> Result<Shown, Failure> {
    let node = &asker.node;
    let LoggedIn { user, session } = asker.logged_in_session()?;
    let known = command::password_set_by(&node.state().catalog, &request);
    let credential = if known.is_some() {
        regain(asker, known.filter(|known| *known == user), &new).await?;
        Credential(String::new())
    } else {
        let turn = verify_own(asker, user, old).await?;
        node.passwords.hash(&turn, new).await?
    };
    let writer = Writer { user: Some(user), device: asker.device, seen };
    let command = Command::ChangePassword { credential, keeps: session.id };
    let (_, needed) = node.write(writer, request, &command).await?;
    node.until_acknowledged(&needed).await?;
    let over = || refused("it ended meanwhile");
    let (name, opened_with) = {
        let state = node.state();
        let name = state.catalog.user_name(&user).cloned().ok_or_else(|| refused("the account is unknown here"))?;
        (name, state.catalog.credential(&user).map(|(id, _)| id).ok_or_else(over)?)
    };
    if node.state().catalog.is_session_over(&user, &session) {
        return Err(over());
    }
    Ok((logged_in(asker, user, SessionRef { opened_with, ..session }, name), needed))
}

/// A repeat: this very device has changed the password, and lost the answer with its link. It is answered as long as that
/// password counts.
async fn regain(asker: &Asker, user: Option<UserId>, new: &Password) -> Result<(), Failure> {
    let over = || refused("the password was changed since");
    let user = user.ok_or_else(over)?;
    let credential = asker.node.state().catalog.credential(&user).map(|(_, credential)| credential.clone());
    let turn = asker.node.passwords.turn(Purpose::Login, asker.from).await?;
    if asker.node.passwords.verify(&turn, new, credential).await { Ok(()) } else { Err(over()) }
}

async fn verify_own(asker: &Asker, user: UserId, old: &Password) -> Result<Turn, Failure> {
    let node = &asker.node;
    let (name, credential) = {
        let state = node.state();
        let name = state.catalog.user_name(&user).cloned().ok_or_else(bad_credentials)?;
        (name, state.catalog.credential(&user).map(|(_, credential)| credential.clone()))
    };
    let attempt = Attempt { user: &name, from: asker.from, known: Some(asker.device) };
    let turn = admit(asker, &attempt).await?;
    let is_right = node.passwords.verify(&turn, old, credential).await;
    node.state().throttle.ended(Instant::now(), &attempt, is_right);
    if is_right {
        return Ok(turn);
    }
    Err(Failure::new(ErrorCode::BadCredentials, "The old password is wrong. Try again."))
}

fn logged_in(asker: &Asker, user: UserId, session: SessionRef, name: UserName) -> Answer {
    let info = asker.info(user, name);
    let issued_ms = asker.node.now_ms();
    let session = Session {
        user,
        name: info.name.clone(),
        device: asker.device,
        session,
        issued_ms,
        expires_ms: issued_ms.saturating_add(millis(SESSION_LIFE)),
    };
    Answer::LoggedIn { info, session: Signed::seal(&session, &asker.node.secret) }
}

fn bad_credentials() -> Failure {
    Failure::new(
        ErrorCode::BadCredentials,
        "The user name or the password is wrong. Check both, or register with: create_user <user>",
    )
}
