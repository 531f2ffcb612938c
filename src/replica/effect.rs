//! What a change did that somebody should be told of.

use crate::protocol::{
    ids::{DeviceKey, FileId, GroupId, UserId},
    name::{FileName, GroupName, UserName},
};

/// A difference that a change made to the catalog, named by identities: the role looks up present names and links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A user asks to join: the owner is told.
    JoinRequested {
        /// The group.
        group: GroupId,
        /// Who asks.
        user: UserId,
        /// The owner, to be told.
        owner: UserId,
    },
    /// A user became a member: the user is told.
    RequestAccepted {
        /// The group.
        group: GroupId,
        /// Whose request.
        user: UserId,
    },
    /// A pending request ended by the owner's rejection: the user is told.
    RequestRejected {
        /// The group.
        group: GroupId,
        /// Whose request.
        user: UserId,
    },
    /// The owner removed a member: the user is told. `MembershipEnded` comes with it.
    MemberRemoved {
        /// The group.
        group: GroupId,
        /// Whose membership.
        user: UserId,
    },
    /// A user is no longer a member: whoever serves them in this group stops now.
    MembershipEnded {
        /// The group.
        group: GroupId,
        /// Whose membership.
        user: UserId,
    },
    /// A group passed to another owner, who is told.
    OwnerNow {
        /// The group.
        group: GroupId,
        /// The new owner.
        owner: UserId,
    },
    /// An account goes by another name than it did, or than it claimed: the user is told.
    UserRenamed {
        /// The account.
        user: UserId,
        /// What it was called.
        from: UserName,
        /// What it is called now.
        to: UserName,
    },
    /// A group goes by another name than it did, or than it claimed: its owner is told.
    GroupRenamed {
        /// The group.
        group: GroupId,
        /// What it was called.
        from: GroupName,
        /// What it is called now.
        to: GroupName,
    },
    /// A file goes by another name than it did, or than it claimed: those who share it are told.
    FileRenamed {
        /// The group.
        group: GroupId,
        /// The file.
        file: FileId,
        /// What it was called.
        from: FileName,
        /// What it is called now.
        to: FileName,
    },
    /// A device shares a file.
    ShareBegun {
        /// The group.
        group: GroupId,
        /// The file.
        file: FileId,
        /// Who shares it.
        user: UserId,
        /// On which device.
        device: DeviceKey,
    },
    /// A device no longer shares a file.
    ShareEnded {
        /// The group.
        group: GroupId,
        /// The file.
        file: FileId,
        /// Who shared it.
        user: UserId,
        /// On which device.
        device: DeviceKey,
    },
    /// Sessions of a user are over: links on which one is open lose it, and nobody is served by its tickets any more.
    SessionsEnded {
        /// The account.
        user: UserId,
    },
    /// A user's password was changed: sessions opened with the old one end.
    CredentialChanged {
        /// The account.
        user: UserId,
    },
}
