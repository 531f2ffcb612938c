//! Client and tracker (`p2p-tracker/1`): requests, answers, presence, notices.
//!
//! The client opens with [`ToTracker::Hello`], the tracker answers with [`FromTracker::Hello`]. From then on requests may
//! overlap; an answer names the request's `seq`. A client that lost its link repeats what is unanswered, with the same
//! nonce, at this tracker or another. Presence is soft state: sent whole after every hello, then as changes.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    error::Failure,
    hash::Sha1Hash,
    ids::{DeviceKey, FileId, GroupId, ManifestId, MembershipId, Nonce, SessionId, TrackerNo, UserId},
    manifest::ManifestHeader,
    name::{FileName, GroupName, UserName},
    ticket::{SessionRef, Signed},
    version::VersionVector,
};

/// Version of this protocol; both hellos carry it.
pub const VERSION: u16 = 1;

/// A password on its way. Hidden from `Debug`, wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToTracker {
    /// First on every link.
    Hello {
        /// The client's [`VERSION`].
        version: u16,
        /// The session to go on with, from an earlier login at any tracker.
        session: Option<Signed>,
        /// All that this client has seen.
        seen: VersionVector,
    },
    /// A question or a write.
    Request {
        /// Names the answer on this link.
        seq: u64,
        /// With the device key, the write's identity; kept for its repeats. Questions carry one too.
        nonce: Nonce,
        /// All that this client has seen: the answer shows at least that, or is marked stale.
        seen: VersionVector,
        /// What is asked.
        request: Request,
    },
    /// What this device serves. Not answered.
    Presence(Presence),
    /// Keeps the link alive; answered by [`FromTracker::Pong`].
    Ping,
}

/// What a device serves, in whole or as a change to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    /// Whether this replaces all said before.
    pub reset: bool,
    /// `IP:PORT` to dial this device at.
    pub address: String,
    /// Files served now, with how much of each is there.
    pub serving: Vec<Serving>,
    /// Files no longer served.
    pub ended: Vec<FileId>,
}

/// How much of a file a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The group it is served in.
    pub group: GroupId,
    /// The file.
    pub file: FileId,
    /// Whole percent of its pieces, 100 only when complete.
    pub percent: u8,
}

/// What a client may ask. Every one but `CreateUser` and `Login` needs a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Registers an account. → `Done`
    CreateUser {
        /// Its name.
        user: UserName,
        /// Its password.
        password: Password,
    },
    /// Opens a session for this device. → `LoggedIn`
    Login {
        /// The account.
        user: UserName,
        /// Its password.
        password: Password,
    },
    /// Ends this link's session, at every tracker, and its presence. → `Done`
    Logout,
    /// The caller's sessions on all devices. → `Sessions`
    ListSessions,
    /// Ends one of the caller's sessions at every tracker. → `Done`
    EndSession {
        /// Which.
        session: SessionId,
    },
    /// Ends the caller's memberships and sessions, and the account. → `Done`
    CloseAccount {
        /// Its password.
        password: Password,
    },
    /// → `LoggedIn`: the session goes on under the new password; those on other devices end.
    ChangePassword {
        /// The present password.
        old: Password,
        /// The one to come.
        new: Password,
    },
    /// → `Done`
    CreateGroup {
        /// Its name.
        group: GroupName,
    },
    /// → `Done`
    JoinGroup {
        /// The group.
        group: GroupName,
    },
    /// → `Left`
    LeaveGroup {
        /// The group.
        group: GroupName,
    },
    /// Pending requests, oldest first (owner). → `Requests`
    ListRequests {
        /// The group.
        group: GroupName,
        /// Entries to skip: those of the pages before.
        skip: u32,
    },
    /// (owner) → `Done`
    AcceptRequest {
        /// The group.
        group: GroupName,
        /// Whose request.
        user: UserName,
    },
    /// (owner) → `Done`
    RejectRequest {
        /// The group.
        group: GroupName,
        /// Whose request.
        user: UserName,
    },
    /// (owner) → `Done`
    RemoveMember {
        /// The group.
        group: GroupName,
        /// Whose membership.
        user: UserName,
    },
    /// (owner) → `Done`
    TransferGroup {
        /// The group.
        group: GroupName,
        /// The member who will own it.
        user: UserName,
    },
    /// Every group, by name. → `Groups`
    ListGroups {
        /// Entries to skip.
        skip: u32,
    },
    /// One group. → `Group`
    FindGroup {
        /// The group.
        group: GroupName,
    },
    /// By name (member). → `Members`
    ListMembers {
        /// The group.
        group: GroupName,
        /// Entries to skip.
        skip: u32,
    },
    /// By name (member). → `Files`
    ListFiles {
        /// The group.
        group: GroupName,
        /// Entries to skip.
        skip: u32,
    },
    /// One file (member). → `File`
    FindFile {
        /// The group.
        group: GroupName,
        /// The file.
        file: FileName,
    },
    /// Which pages of a manifest the tracker lacks, before it is shared (member). → `MissingPages`
    OfferManifest {
        /// The group it will be shared in.
        group: GroupId,
        /// The manifest.
        manifest: ManifestHeader,
    },
    /// One page of an offered manifest. → `Done`
    PutPage {
        /// The manifest.
        manifest: ManifestId,
        /// The page, from 0.
        page: u32,
        /// Its bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Shares an offered manifest, all of whose pages are there, from this device (member). → `Shared`
    ///
    /// `file_exists`: other content has the name. `already_shared`: this device shares it.
    Share {
        /// The group.
        group: GroupId,
        /// The manifest.
        manifest: ManifestHeader,
    },
    /// Ends this device's share of a file. → `Done`
    StopShare {
        /// The file.
        file: FileId,
    },
    /// One page of a manifest shared in a group (member). → `Page`
    GetPage {
        /// The group.
        group: GroupId,
        /// The manifest.
        manifest: ManifestId,
        /// The page, from 0.
        page: u32,
    },
    /// Who serves a file now (member). → `Swarm`
    GetSwarm {
        /// The group.
        group: GroupId,
        /// The file.
        file: FileId,
    },
    /// A fresh member ticket for this device (member). → `Ticket`
    GetTicket {
        /// The group.
        group: GroupId,
    },
    /// Which of these memberships and sessions have ended (member); at most `LISTING_PAGE` of each. A client asks for every
    /// ticket it is shown, and again for all of them at each tracker it moves to: an end it was not told of is found that way.
    /// → `Ended`
    CheckMembers {
        /// The group.
        group: GroupId,
        /// The memberships that tickets named.
        memberships: Vec<MembershipId>,
        /// The sessions that they named, and whose.
        sessions: Vec<(UserId, SessionRef)>,
    },
    /// Asks a device of the same swarm to dial this one, which could not dial it. → `Done`
    AskToDial {
        /// The group.
        group: GroupId,
        /// The file.
        file: FileId,
        /// The device that should dial.
        device: DeviceKey,
    },
    /// The state of every listed tracker, as this one sees it. → `Trackers`
    ListTrackers,
}

/// What a tracker sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromTracker {
    /// First on every link.
    Hello {
        /// The tracker's [`VERSION`].
        version: u16,
        /// Its number.
        tracker: TrackerNo,
        /// Its wall clock, milliseconds since the Unix epoch.
        now_ms: u64,
        /// Whether the session shown is honoured; `None` when none was shown.
        session: Option<Result<SessionInfo, Failure>>,
        /// Keys and clocks of the trackers it knows, itself included.
        trackers: Vec<TrackerIdentity>,
    },
    /// Answers a request.
    Answer {
        /// The request's.
        seq: u64,
        /// What this answer shows; the client merges it into all it has seen.
        seen: VersionVector,
        /// The tracker could not catch up with the request's `seen` in time.
        stale: bool,
        /// The answer, or why there is none.
        result: Result<Answer, Failure>,
    },
    /// Something happened that this user should know.
    Notice(Notice),
    /// Answers a ping.
    Pong {
        /// The tracker's wall clock, milliseconds since the Unix epoch.
        now_ms: u64,
    },
}

/// A tracker as another vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerIdentity {
    /// Its number.
    pub tracker: TrackerNo,
    /// Its key: signs sessions and tickets.
    pub key: DeviceKey,
    /// Its wall clock minus the speaker's, in milliseconds.
    pub clock_offset_ms: i64,
}

/// Who is logged in on a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// The user.
    pub user: UserId,
    /// What the user is called now.
    pub name: UserName,
}

/// A session in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// The session.
    pub session: SessionId,
    /// On which device.
    pub device: DeviceKey,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// `IP:PORT` where the device serves; `None` while it is not online.
    pub address: Option<String>,
    /// Whether it is the asker's own.
    pub current: bool,
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done, and durable.
    Done,
    /// A login.
    LoggedIn {
        /// Who.
        info: SessionInfo,
        /// The session, for this device, at any tracker.
        session: Signed,
    },
    /// A leave.
    Left {
        /// What ended.
        outcome: LeaveOutcome,
    },
    /// A page of pending requests.
    Requests {
        /// Oldest first.
        requests: Vec<PendingRequest>,
        /// Whether another page follows.
        more: bool,
    },
    /// A page of groups.
    Groups {
        /// By name.
        groups: Vec<GroupInfo>,
        /// Whether another page follows.
        more: bool,
    },
    /// One group.
    Group(GroupInfo),
    /// A page of members.
    Members {
        /// By name.
        members: Vec<MemberInfo>,
        /// Whether another page follows.
        more: bool,
    },
    /// A page of files.
    Files {
        /// By name.
        files: Vec<FileInfo>,
        /// Whether another page follows.
        more: bool,
    },
    /// One file.
    File {
        /// As listed.
        info: FileInfo,
        /// Its manifest.
        manifest: ManifestHeader,
    },
    /// Pages the tracker lacks.
    MissingPages(Vec<u32>),
    /// A share began.
    Shared {
        /// The file.
        file: FileId,
        /// What it is called in its group now.
        name: FileName,
    },
    /// A page of a manifest.
    Page(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Who serves a file now, the asker's device left out; at most `MAX_SWARM_PEERS`.
    Swarm(Vec<SwarmPeer>),
    /// A member ticket.
    Ticket(Signed),
    /// What has ended of that which was asked for.
    Ended {
        /// Memberships.
        memberships: Vec<MembershipId>,
        /// Sessions.
        sessions: Vec<SessionId>,
    },
    /// The caller's sessions, oldest first.
    Sessions(Vec<SessionEntry>),
    /// Every listed tracker.
    Trackers(Vec<TrackerStatus>),
}

/// What a leave ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaveOutcome {
    /// A pending request was withdrawn.
    Withdrawn,
    /// A membership ended.
    Left,
    /// The owner left; the group passed to this member.
    Passed(UserName),
    /// The last member left; the group is dissolved.
    Dissolved,
}

/// A user's relation to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Owns it.
    Owner,
    /// Is a member.
    Member,
    /// Has asked to join.
    Requested,
    /// None.
    None,
}

/// A group in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// Its identity.
    pub group: GroupId,
    /// What it is called now.
    pub name: GroupName,
    /// What its owner is called now.
    pub owner: UserName,
    /// Number of members, the owner included.
    pub members: u32,
    /// The caller's own.
    pub standing: Standing,
}

/// A request to join in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRequest {
    /// Who asks.
    pub user: UserName,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// A member in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Who.
    pub user: UserName,
    /// `Owner` or `Member`.
    pub role: Standing,
    /// Whether any device of theirs is logged in.
    pub online: bool,
}

/// A file in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// The group's identity.
    pub group: GroupId,
    /// The file's identity.
    pub file: FileId,
    /// Its manifest's identity.
    pub manifest: ManifestId,
    /// What it is called in the group now.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// SHA-1 of the whole.
    pub sha1: Sha1Hash,
    /// Devices online that have all of it.
    pub seeders: u32,
    /// Devices online that have a part.
    pub leechers: u32,
    /// Users who share it, online or not, first one first.
    pub shared_by: Vec<UserName>,
}

/// A device that serves a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmPeer {
    /// Its key, as the TLS link must prove.
    pub device: DeviceKey,
    /// Who is logged in on it.
    pub user: UserName,
    /// `IP:PORT` to dial.
    pub address: String,
    /// Whole percent of the pieces.
    pub percent: u8,
}

/// A listed tracker as the answering tracker sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerStatus {
    /// Its number.
    pub tracker: TrackerNo,
    /// Whether the answering tracker is in touch with it (true for itself).
    pub reachable: bool,
    /// Changes the answering tracker knows that this one has not confirmed; `None` when it was never heard of.
    pub lag: Option<u64>,
    /// How long it has lagged, in milliseconds; 0 when it does not.
    pub lag_ms: u64,
}

/// What a tracker tells without being asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Somebody asks to join a group the user owns.
    JoinRequested {
        /// The group.
        group: GroupName,
        /// Who asks.
        user: UserName,
    },
    /// The user's request was accepted.
    RequestAccepted {
        /// The group.
        group: GroupName,
    },
    /// The user's request was rejected.
    RequestRejected {
        /// The group.
        group: GroupName,
    },
    /// The user was removed from a group.
    MemberRemoved {
        /// The group.
        group: GroupName,
        /// Its identity, so that the client stops serving there.
        id: GroupId,
    },
    /// The user owns a group now.
    OwnerNow {
        /// The group.
        group: GroupName,
    },
    /// The user's own name, or one of a group or file the user made, lost its claim to an earlier one.
    Renamed {
        /// What: `account`, `group` or `file`.
        kind: RenamedKind,
        /// The name claimed.
        from: String,
        /// The name it goes by now.
        to: String,
    },
    /// Memberships of a user ended: whoever serves by them stops now.
    MembershipEnded {
        /// The group.
        group: GroupId,
        /// Whose.
        user: UserId,
        /// All of theirs that have ended there, as tickets name them.
        memberships: Vec<MembershipId>,
    },
    /// Sessions of a user ended: whoever serves by a ticket given in one asks which.
    SessionsEnded {
        /// Whose.
        user: UserId,
    },
    /// Who serves a file that this device takes part in has changed: ask again.
    SwarmChanged {
        /// The file.
        file: FileId,
    },
    /// A peer could not dial this device and asks to be dialled.
    DialRequested {
        /// The group.
        group: GroupId,
        /// The file.
        file: FileId,
        /// Who asks.
        peer: SwarmPeer,
    },
    /// Keys and clocks of the trackers have changed.
    Trackers(Vec<TrackerIdentity>),
    /// The session on this link has ended (ended elsewhere, or the password was changed there): log in again.
    SessionEnded,
}

/// What a lost claim was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenamedKind {
    /// The user's own account.
    Account,
    /// A group.
    Group,
    /// A file.
    File,
}

impl Request {
    /// Whether it changes the catalog: answered only when durable here and at every tracker in touch.
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Self::CreateUser { .. }
                | Self::Logout
                | Self::EndSession { .. }
                | Self::CloseAccount { .. }
                | Self::ChangePassword { .. }
                | Self::CreateGroup { .. }
                | Self::JoinGroup { .. }
                | Self::LeaveGroup { .. }
                | Self::AcceptRequest { .. }
                | Self::RejectRequest { .. }
                | Self::RemoveMember { .. }
                | Self::TransferGroup { .. }
                | Self::Share { .. }
                | Self::StopShare { .. }
        )
    }
}
