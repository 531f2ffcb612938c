//! A write checked against the catalog and turned into the change that does it.

use super::{catalog::Catalog, permission};
use crate::protocol::{
    client::{Answer, LeaveOutcome, Standing},
    error::{ErrorCode, Failure},
    ids::{DeviceKey, FileId, GroupId, MembershipId, RequestId, SessionId, ShareId, UserId},
    limits::{MAX_GROUP_REQUESTS, MAX_OWN_GROUPS, MAX_OWN_REQUESTS, MAX_SHARED_PIECES, MAX_SHARES},
    manifest::ManifestHeader,
    name::{GroupName, UserName},
    piece::PIECE_SIZE,
    record::{ChangeBody, Credential, Done, EndReason},
    ticket::{CredentialId, SessionRef},
    version::{Dot, Timestamp, VersionVector},
};

/// A write, as the catalog sees it: passwords are checked and hashed by the role beforehand.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Registers an account.
    CreateUser {
        /// Its name.
        user: UserName,
        /// Its password, hashed.
        credential: Credential,
    },
    /// Sets the caller's password; the role has checked the old one.
    ChangePassword {
        /// The new password, hashed.
        credential: Credential,
        /// The session it is changed in.
        keeps: SessionId,
    },
    /// Closes the caller's account; the role has checked the password, and left all groups.
    CloseAccount,
    /// Opens a session on the caller's device; the role has checked the password.
    OpenSession {
        /// Which password.
        opened_with: CredentialId,
    },
    /// Ends sessions of the caller that the role has chosen: its own, or those that a login replaces.
    EndSessions {
        /// Which, with the changes that opened them.
        sessions: Vec<(SessionId, Dot)>,
    },
    /// Ends a session of the caller.
    EndSession {
        /// Which.
        session: SessionId,
    },
    /// Creates a group owned by the caller.
    CreateGroup {
        /// Its name.
        group: GroupName,
    },
    /// Files a join request.
    JoinGroup {
        /// The group.
        group: GroupName,
    },
    /// Leaves, or withdraws the request.
    LeaveGroup {
        /// The group.
        group: GroupName,
    },
    /// Accepts a request (owner).
    AcceptRequest {
        /// The group.
        group: GroupName,
        /// Whose.
        user: UserName,
    },
    /// Rejects a request (owner).
    RejectRequest {
        /// The group.
        group: GroupName,
        /// Whose.
        user: UserName,
    },
    /// Ends a membership (owner).
    RemoveMember {
        /// The group.
        group: GroupName,
        /// Whose.
        user: UserName,
    },
    /// Hands the group to a member (owner).
    TransferGroup {
        /// The group.
        group: GroupName,
        /// To whom.
        user: UserName,
    },
    /// Shares a manifest whose pages are all there (member).
    Share {
        /// The group.
        group: GroupId,
        /// The manifest.
        manifest: ManifestHeader,
    },
    /// Ends this device's share of a file.
    StopShare {
        /// The file.
        file: FileId,
    },
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The user logged in; `None` before a login.
    pub user: Option<UserId>,
    /// The device.
    pub device: DeviceKey,
    /// All that the client has seen.
    pub seen: &'a VersionVector,
}

/// What to do about a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Append this change and apply it; [`answer`] then has the answer.
    Append {
        /// What it says.
        body: ChangeBody,
        /// Its stamp must come after this one (`HybridClock::tick_after`): of what it rests on or replaces.
        after: Timestamp,
    },
    /// The request is known, or nothing has to change.
    AlreadyDone(Answer),
}

/// Checks a write against what this tracker knows. Refusals carry the contract's codes; where the client has seen more than
/// this tracker, "there is no such thing" becomes `stale`.
pub fn decide(
    catalog: &Catalog,
    caller: &Caller<'_>,
    request: &RequestId,
    command: &Command,
) -> Result<Decision, Failure> {
    if let Some(answer) = answer(catalog, request) {
        return Ok(Decision::AlreadyDone(answer));
    }
    if let Command::CreateUser { user, credential } = command {
        return create_user(catalog, user, credential);
    }
    let user = caller
        .user
        .ok_or_else(|| Failure::new(ErrorCode::NotLoggedIn, "You are not logged in. Log in with: login <user>"))?;
    let writer = Writer { catalog, user, device: caller.device, seen: caller.seen };
    writer.decide(command).map_err(|failure| or_stale(failure, writer.is_caught_up()))
}

/// The answer to a write that is known here, from the record it made; `None` for one never heard of.
pub fn answer(catalog: &Catalog, request: &RequestId) -> Option<Answer> {
    Some(match catalog.done(request)? {
        Done::Plain | Done::PasswordSet(_) => Answer::Done,
        Done::Left { reason: EndReason::Withdrawn, .. } => Answer::Left { outcome: LeaveOutcome::Withdrawn },
        Done::Left { group, owned, .. } => Answer::Left { outcome: left(catalog, &group, owned) },
        Done::Shared(share) => shared(catalog, &share)?,
        Done::SharedOnce { file, name } => Answer::Shared { file, name },
    })
}

/// Whose password a request that is known here has set.
pub fn password_set_by(catalog: &Catalog, request: &RequestId) -> Option<UserId> {
    match catalog.done(request)? {
        Done::PasswordSet(user) => Some(user),
        _ => None,
    }
}

/// Whether `user` can be registered: `invalid_name` or `user_exists` otherwise. Cheap, to be asked before a password is hashed.
pub fn check_new_user(catalog: &Catalog, user: &UserName) -> Result<(), Failure> {
    UserName::parse_new(user.as_str())?;
    if catalog.user_named(user).is_some() {
        let message = format!("The user name {user} is taken. Choose another, or log in with: login {user}");
        return Err(Failure::new(ErrorCode::UserExists, message));
    }
    Ok(())
}

fn create_user(catalog: &Catalog, user: &UserName, credential: &Credential) -> Result<Decision, Failure> {
    check_new_user(catalog, user)?;
    Ok(append(ChangeBody::UserCreated { name: user.clone(), credential: credential.clone() }, Timestamp::default()))
}

fn left(catalog: &Catalog, group: &GroupId, owned: bool) -> LeaveOutcome {
    match catalog.owner(group) {
        None if owned => LeaveOutcome::Dissolved,
        Some(heir) if owned => catalog.user_name(&heir).cloned().map_or(LeaveOutcome::Left, LeaveOutcome::Passed),
        _ => LeaveOutcome::Left,
    }
}

fn shared(catalog: &Catalog, share: &ShareId) -> Option<Answer> {
    let begun = catalog.shares.begun(share)?;
    let name = catalog.file_name(&begun.group, &begun.file).or_else(|| catalog.shares.claimed(&begun.file))?;
    Some(Answer::Shared { file: begun.file, name: name.clone() })
}

fn append(body: ChangeBody, after: Timestamp) -> Decision {
    Decision::Append { body, after }
}

/// A logged-in user about to write.
struct Writer<'a> {
    catalog: &'a Catalog,
    user: UserId,
    device: DeviceKey,
    seen: &'a VersionVector,
}

impl Writer<'_> {
    fn decide(&self, command: &Command) -> Result<Decision, Failure> {
        if let Command::EndSessions { sessions } = command {
            return Ok(self.end_sessions(sessions.clone()));
        }
        if self.catalog.is_closed(&self.user) {
            return Err(Failure::new(ErrorCode::NotLoggedIn, "The account is closed."));
        }
        if self.catalog.user_name(&self.user).is_none() {
            return Err(stale("This tracker has yet to hear of your account."));
        }
        match command {
            Command::CreateUser { user, credential } => create_user(self.catalog, user, credential),
            Command::ChangePassword { credential, keeps } => Ok(self.change_password(credential, *keeps)),
            Command::CloseAccount => Ok(append(ChangeBody::UserClosed { user: self.user }, Timestamp::default())),
            Command::OpenSession { opened_with } => {
                let (user, device, opened_with) = (self.user, self.device, *opened_with);
                Ok(append(ChangeBody::SessionOpened { user, device, opened_with }, Timestamp::default()))
            }
            Command::EndSessions { sessions } => Ok(self.end_sessions(sessions.clone())),
            Command::EndSession { session } => self.end_session(*session),
            Command::CreateGroup { group } => self.create_group(group),
            Command::JoinGroup { group } => self.join(group),
            Command::LeaveGroup { group } => self.leave(group),
            Command::AcceptRequest { group, user } => self.accept(group, user),
            Command::RejectRequest { group, user } => self.reject(group, user),
            Command::RemoveMember { group, user } => self.remove(group, user),
            Command::TransferGroup { group, user } => self.transfer(group, user),
            Command::Share { group, manifest } => self.share(group, manifest),
            Command::StopShare { file } => self.stop_share(file),
        }
    }

    /// Whether this tracker knows all that the client has seen.
    fn is_caught_up(&self) -> bool {
        self.catalog.vector().includes(self.seen)
    }

    /// All that the one who asks had seen, and all that this tracker knows.
    fn past(&self) -> VersionVector {
        let mut past = self.catalog.vector().clone();
        past.merge(self.seen);
        past
    }

    fn change_password(&self, credential: &Credential, keeps: SessionId) -> Decision {
        let after = self.catalog.credential(&self.user).map_or_else(Timestamp::default, |(id, _)| id.at);
        let (user, credential) = (self.user, credential.clone());
        append(ChangeBody::CredentialSet { user, credential, keeps: Some(keeps) }, after)
    }

    fn end_session(&self, session: SessionId) -> Result<Decision, Failure> {
        let Some(SessionRef { id, opened, .. }) = self.catalog.session(&self.user, &session) else {
            let message = "You have no such session. list_sessions shows those there are.";
            return Err(Failure::new(ErrorCode::NoSuchSession, message));
        };
        Ok(self.end_sessions(vec![(id, opened)]))
    }

    fn end_sessions(&self, sessions: Vec<(SessionId, Dot)>) -> Decision {
        append(ChangeBody::SessionsEnded { sessions, user: self.user }, Timestamp::default())
    }

    fn create_group(&self, name: &GroupName) -> Result<Decision, Failure> {
        GroupName::parse_new(name.as_str())?;
        if self.catalog.group_named(name).is_some() {
            let message =
                format!("The group {name} exists already. Choose another name, or ask to join: join_group {name}");
            return Err(Failure::new(ErrorCode::GroupExists, message));
        }
        if self.catalog.owned_groups(&self.user) >= MAX_OWN_GROUPS {
            return Err(too_much(&format!(
                "You own {MAX_OWN_GROUPS} groups, the most one user may. Leave one first: leave_group"
            )));
        }
        Ok(append(ChangeBody::GroupCreated { name: name.clone(), owner: self.user }, Timestamp::default()))
    }

    fn join(&self, name: &GroupName) -> Result<Decision, Failure> {
        let group = permission::group(self.catalog, name)?;
        match self.catalog.standing(&group, &self.user) {
            Standing::Owner | Standing::Member => {
                Err(Failure::new(ErrorCode::AlreadyMember, format!("You are a member of {name} already.")))
            }
            Standing::Requested => {
                let message = format!("You have asked to join {name} already: its owner has to accept the request.");
                Err(Failure::new(ErrorCode::AlreadyRequested, message))
            }
            Standing::None if self.catalog.pending_requests_of(&self.user) >= MAX_OWN_REQUESTS => {
                let most = format!("{MAX_OWN_REQUESTS} requests of yours are pending, the most there may be.");
                Err(too_much(&format!("{most} Withdraw one first: leave_group")))
            }
            Standing::None if self.catalog.pending_requests(&group) >= MAX_GROUP_REQUESTS => {
                let most = format!("{MAX_GROUP_REQUESTS} requests to join {name} are pending, the most there may be.");
                Err(too_much(&format!("{most} Try again when its owner has answered some.")))
            }
            Standing::None => {
                let after = self.ownership(&group)?.0;
                Ok(append(ChangeBody::MembershipRequested { group, user: self.user }, after))
            }
        }
    }

    fn leave(&self, name: &GroupName) -> Result<Decision, Failure> {
        let group = permission::group(self.catalog, name)?;
        let (after, rests_on) = self.ownership(&group)?;
        match self.catalog.standing(&group, &self.user) {
            Standing::Owner if self.heir(&group).is_none() && !self.is_caught_up() => {
                Err(stale("You may not be the last member, and leaving now would dissolve the group."))
            }
            Standing::Owner => Ok(self.end(group, self.user, EndReason::Left, rests_on, after)),
            Standing::Requested => Ok(self.end(group, self.user, EndReason::Withdrawn, Vec::new(), after)),
            Standing::None if self.is_caught_up() => {
                let message = format!("You are no member of {name} and have not asked to join it.");
                Err(Failure::new(ErrorCode::NotAMember, message))
            }
            // Seen elsewhere or not: whatever this user had in the group ends.
            Standing::Member | Standing::None => Ok(self.end(group, self.user, EndReason::Left, Vec::new(), after)),
        }
    }

    fn end(&self, group: GroupId, user: UserId, reason: EndReason, rests_on: Vec<Dot>, after: Timestamp) -> Decision {
        let past = self.past();
        append(ChangeBody::MembershipEnded { group, user, by: self.user, reason, past, rests_on }, after)
    }

    fn heir(&self, group: &GroupId) -> Option<UserId> {
        self.catalog.groups.get(group)?.heir(&self.user)
    }

    /// What the present owner's decisions rest on.
    fn ownership(&self, group: &GroupId) -> Result<(Timestamp, Vec<Dot>), Failure> {
        let ownership = self.catalog.groups.get(group).and_then(|group| group.ownership());
        ownership.ok_or_else(|| stale("This tracker has yet to hear how the group began."))
    }

    /// The group called `name`, which the caller owns, and the user called `user`.
    fn owned(&self, name: &GroupName, user: &UserName) -> Result<(GroupId, UserId), Failure> {
        let group = permission::group(self.catalog, name)?;
        permission::owner(self.catalog, &self.user, &group)?;
        Ok((group, permission::user(self.catalog, user)?))
    }

    fn accept(&self, name: &GroupName, user_name: &UserName) -> Result<Decision, Failure> {
        let (group, user) = self.owned(name, user_name)?;
        if self.catalog.membership(&group, &user).is_some() {
            let message = format!("{user_name} is a member of {name} already.");
            return Err(Failure::new(ErrorCode::AlreadyMember, message));
        }
        let (membership, at, dot) = self.request(group, user).ok_or_else(|| no_request(name, user_name))?;
        let (after, mut rests_on) = self.ownership(&group)?;
        rests_on.push(dot);
        let body = ChangeBody::MembershipAccepted { group, membership, by: self.user, rests_on };
        Ok(append(body, after.max(at)))
    }

    fn request(&self, group: GroupId, user: UserId) -> Option<(MembershipId, Timestamp, Dot)> {
        self.catalog.groups.get(&group)?.request(&user)
    }

    fn reject(&self, name: &GroupName, user_name: &UserName) -> Result<Decision, Failure> {
        let (group, user) = self.owned(name, user_name)?;
        if self.catalog.standing(&group, &user) != Standing::Requested {
            return Err(no_request(name, user_name));
        }
        let (after, rests_on) = self.ownership(&group)?;
        Ok(self.end(group, user, EndReason::Rejected, rests_on, after))
    }

    fn remove(&self, name: &GroupName, user_name: &UserName) -> Result<Decision, Failure> {
        let (group, user) = self.owned(name, user_name)?;
        if user == self.user {
            let message =
                format!("You own {name}. Leave it with leave_group {name}: it passes to its longest-standing member.");
            return Err(Failure::new(ErrorCode::Usage, message));
        }
        if self.catalog.membership(&group, &user).is_none() {
            return Err(not_a_member(name, user_name));
        }
        let (after, rests_on) = self.ownership(&group)?;
        Ok(self.end(group, user, EndReason::Removed, rests_on, after))
    }

    fn transfer(&self, name: &GroupName, user_name: &UserName) -> Result<Decision, Failure> {
        let (group, owner) = self.owned(name, user_name)?;
        if owner == self.user {
            return Ok(Decision::AlreadyDone(Answer::Done));
        }
        let member = self.catalog.membership(&group, &owner).ok_or_else(|| not_a_member(name, user_name))?;
        let (after, mut rests_on) = self.ownership(&group)?;
        let evidence = self.catalog.groups.get(&group).and_then(|group| group.evidence(&member.id));
        rests_on.extend(evidence.map(|(_, dot)| dot));
        let past = self.past();
        let body = ChangeBody::OwnerSet { group, by: self.user, owner, membership: member.id, past, rests_on };
        Ok(append(body, after.max(member.since)))
    }

    fn share(&self, group: &GroupId, manifest: &ManifestHeader) -> Result<Decision, Failure> {
        let member = permission::member(self.catalog, &self.user, group)?;
        manifest
            .check()
            .map_err(|error| Failure::new(ErrorCode::Protocol, format!("The manifest is refused: {error}.")))?;
        let file = FileId::of(group, &manifest.id());
        let name = &manifest.name;
        if self.own_shares(&file).next().is_some() {
            let message = format!("This client shares {name} already. show_shares lists what it shares.");
            return Err(Failure::new(ErrorCode::AlreadyShared, message));
        }
        let other = self.catalog.file_named(group, name).filter(|other| *other != file);
        if other.is_some() && self.catalog.file(&file).is_none() {
            let message =
                format!("The group has other content under the name {name}. Rename the file and upload it again.");
            return Err(Failure::new(ErrorCode::FileExists, message));
        }
        if self.catalog.share_count(self.user, self.device) >= MAX_SHARES {
            let message =
                format!("This client shares {MAX_SHARES} files, the most it may. Stop sharing one first: stop_share");
            return Err(too_much(&message));
        }
        if self.catalog.shared_pieces(&self.user).saturating_add(manifest.piece_count().into()) > MAX_SHARED_PIECES {
            let most = MAX_SHARED_PIECES * u64::from(PIECE_SIZE) / (1 << 40);
            let message =
                format!("With {name} you would share more than {most} TiB. Stop sharing something first: stop_share");
            return Err(too_much(&message));
        }
        let (group, user, device, membership) = (*group, self.user, self.device, member.id);
        let body = ChangeBody::ShareBegun { group, user, device, membership, manifest: manifest.clone() };
        Ok(append(body, member.since))
    }

    fn own_shares(&self, file: &FileId) -> impl Iterator<Item = ShareId> {
        let own = self.catalog.shares_of_file(file);
        own.filter(|share| share.user == self.user && share.device == self.device).map(|share| share.share)
    }

    fn stop_share(&self, file: &FileId) -> Result<Decision, Failure> {
        let shares: Vec<_> = self.own_shares(file).collect();
        if shares.is_empty() {
            let message = "This client does not share this file. show_shares lists what it shares.";
            return Err(Failure::new(ErrorCode::NotShared, message));
        }
        Ok(append(ChangeBody::ShareEnded { shares, user: self.user }, Timestamp::default()))
    }
}

/// A refusal, to a write or a question: a thing that is missing here (an account, or the password that it has now) may be one
/// that the client has seen elsewhere, where this tracker is not caught up with it.
pub fn or_stale(failure: Failure, is_caught_up: bool) -> Failure {
    use ErrorCode::{
        BadCredentials, NoSuchFile, NoSuchGroup, NoSuchRequest, NoSuchSession, NoSuchUser, NotAMember, NotOwner,
        NotShared,
    };
    let missing = matches!(
        failure.code,
        BadCredentials
            | NoSuchGroup
            | NoSuchUser
            | NoSuchRequest
            | NoSuchSession
            | NoSuchFile
            | NotAMember
            | NotOwner
            | NotShared
    );
    if missing && !is_caught_up { stale(&failure.message) } else { failure }
}

/// What is asked for would be more than anybody may have.
fn too_much(message: &str) -> Failure {
    Failure::new(ErrorCode::Usage, message)
}

fn stale(what: &str) -> Failure {
    let message = format!("{what} This tracker has yet to catch up with what you have seen: try again in a moment.");
    Failure::new(ErrorCode::Stale, message)
}

fn no_request(group: &GroupName, user: &UserName) -> Failure {
    let message =
        format!("{user} has no pending request to join {group}. list_requests {group} shows those there are.");
    Failure::new(ErrorCode::NoSuchRequest, message)
}

fn not_a_member(group: &GroupName, user: &UserName) -> Failure {
    Failure::new(
        ErrorCode::NotAMember,
        format!("{user} is no member of {group}. list_members {group} shows those there are."),
    )
}
