//! Changes to the catalog as they travel between trackers and rest in their logs.

use serde::{Deserialize, Serialize};

use super::{
    ids::{DeviceKey, FileId, GroupId, ManifestId, MembershipId, RequestId, SessionId, ShareId, UserId},
    manifest::ManifestHeader,
    name::{FileName, GroupName, UserName},
    ticket::CredentialId,
    version::{Dot, Timestamp, VersionVector},
};

/// One change: who took it, when, and what it says. Immutable once it has a dot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Names the change.
    pub dot: Dot,
    /// Hybrid logical time at its origin; orders claims and last-writer fields, nothing else.
    pub at: Timestamp,
    /// The tracker number its origin had when it took the change: marks the names of lost claims.
    pub taken_by: super::ids::TrackerNo,
    /// The write that caused it; the identity of the record it creates.
    pub request: RequestId,
    /// What it says.
    pub body: ChangeBody,
}

/// What a change says. The variant names rest on disk and must never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeBody {
    /// A user registered under a name; the user's identity is the request's.
    UserCreated {
        /// The name claimed.
        name: UserName,
        /// Argon2id string of the password.
        credential: Credential,
    },
    /// A user changed the password.
    CredentialSet {
        /// Whose.
        user: UserId,
        /// Argon2id string of the new password.
        credential: Credential,
        /// The session it was changed in, which goes on; all others end.
        #[serde(default)]
        keeps: Option<SessionId>,
    },
    /// A group was created; its identity, and that of its owner's membership, is the request's.
    GroupCreated {
        /// The name claimed.
        name: GroupName,
        /// The creator, first member and owner.
        owner: UserId,
    },
    /// The owner handed the group to a member.
    OwnerSet {
        /// The group.
        group: GroupId,
        /// The owner who did.
        by: UserId,
        /// The new owner.
        owner: UserId,
        /// The new owner's membership: the ownership ends with it.
        membership: MembershipId,
        /// All that the one who asked had seen: what `by` did as owner beyond it is concurrent, and void.
        past: VersionVector,
        /// The changes the decision rests on: `by`'s ownership and the new owner's membership.
        rests_on: Vec<Dot>,
    },
    /// A user asked to join; the membership's identity is the request's.
    MembershipRequested {
        /// The group.
        group: GroupId,
        /// Who asks.
        user: UserId,
    },
    /// The owner accepted a request.
    MembershipAccepted {
        /// The group.
        group: GroupId,
        /// The instance that becomes a membership.
        membership: MembershipId,
        /// The owner who accepted.
        by: UserId,
        /// The changes the decision rests on: the request, and `by`'s ownership.
        rests_on: Vec<Dot>,
    },
    /// Leave, withdrawal, rejection or removal: ends every instance of this user in the group that lies in `past`.
    MembershipEnded {
        /// The group.
        group: GroupId,
        /// Whose memberships end.
        user: UserId,
        /// Who ended them: the user, or the owner.
        by: UserId,
        /// Why, as told to the user.
        reason: EndReason,
        /// All that the one who asked had seen, also what the tracker that took this had yet to receive.
        past: VersionVector,
        /// The changes the right to do so rests on (the ownership); empty when users act for themselves, unless an owner leaves.
        rests_on: Vec<Dot>,
    },
    /// A device began to share a file; the share's identity is the request's.
    ShareBegun {
        /// The group.
        group: GroupId,
        /// Who shares.
        user: UserId,
        /// On which device.
        device: DeviceKey,
        /// The membership it is shared under: the share ends with it.
        membership: MembershipId,
        /// The file's manifest; the pages travel and rest beside the log.
        manifest: ManifestHeader,
    },
    /// A device stopped sharing.
    ShareEnded {
        /// The shares that end; all of one user.
        shares: Vec<ShareId>,
        /// Whose.
        user: UserId,
    },
    /// A user closed the account, for good; its name stays taken.
    UserClosed {
        /// Whose.
        user: UserId,
    },
    /// A user logged in; the session's identity is the request's.
    SessionOpened {
        /// Who.
        user: UserId,
        /// On which device.
        device: DeviceKey,
        /// With which password.
        opened_with: CredentialId,
    },
    /// Sessions are over: logged out, ended from another device, or replaced by a later login.
    SessionsEnded {
        /// The sessions that end, with the changes that opened them; all of one user.
        sessions: Vec<(SessionId, Dot)>,
        /// Whose.
        user: UserId,
    },
}

/// A change that is kept when its past is forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The change.
    pub change: Change,
    /// What its author's right came to, once the changes that it rests on may be gone.
    pub verdict: Option<Verdict>,
}

/// Whether a change counts, found for good: whatever is yet to arrive cannot alter it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Its author had the right by the changes it rests on.
    pub valid: bool,
    /// Valid, and no revocation is concurrent. Of accepts only.
    pub effective: bool,
}

/// What is left of a request whose changes are forgotten: enough to answer its repeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The request.
    pub request: RequestId,
    /// What it did.
    pub done: Done,
}

/// What a known request did: enough to answer its repeat. The variant names rest on disk and must never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// It is done, and there is no more to say.
    Plain,
    /// It ended the user's own membership or request.
    Left {
        /// Where.
        group: GroupId,
        /// How.
        reason: EndReason,
        /// Whether the user owned the group.
        owned: bool,
    },
    /// It began a share that is in the catalog.
    Shared(ShareId),
    /// It began a share that is forgotten.
    SharedOnce {
        /// The file.
        file: FileId,
        /// The name it was shared under.
        name: FileName,
    },
    /// It set this user's password.
    PasswordSet(UserId),
}

/// Why a membership or a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EndReason {
    /// The member left.
    Left,
    /// The user withdrew the request.
    Withdrawn,
    /// The owner rejected the request.
    Rejected,
    /// The owner removed the member.
    Removed,
}

/// An argon2id string (PHC format). Printed nowhere: its `Debug` hides it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credential(pub String);

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

impl ChangeBody {
    /// The manifest whose pages must be there before this change counts as known.
    pub fn manifest(&self) -> Option<(ManifestId, &ManifestHeader)> {
        match self {
            Self::ShareBegun { manifest, .. } => Some((manifest.id(), manifest)),
            _ => None,
        }
    }
}
