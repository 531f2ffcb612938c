//! Errors as people and scripts see them: a stable code and a sentence.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The stable name of what went wrong; part of the command contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as scripts see it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    /// The command's words do not fit its usage.
    Usage = "usage",
    /// No command has this name.
    UnknownCommand = "unknown_command",
    /// The command needs a login.
    NotLoggedIn = "not_logged_in",
    /// A login while logged in.
    AlreadyLoggedIn = "already_logged_in",
    /// The user name is taken.
    UserExists = "user_exists",
    /// Unknown user or wrong password; which of the two is not told.
    BadCredentials = "bad_credentials",
    /// Too many failed logins; wait.
    TooManyAttempts = "too_many_attempts",
    /// A name breaks the rules for names.
    InvalidName = "invalid_name",
    /// The password is empty or too long.
    WeakPassword = "weak_password",
    /// No group has this name.
    NoSuchGroup = "no_such_group",
    /// The group name is taken.
    GroupExists = "group_exists",
    /// The caller, or the user named, is no member of the group.
    NotAMember = "not_a_member",
    /// Already a member of the group.
    AlreadyMember = "already_member",
    /// A request to join is pending already.
    AlreadyRequested = "already_requested",
    /// The user named has no pending request.
    NoSuchRequest = "no_such_request",
    /// Only the group's owner may do this.
    NotOwner = "not_owner",
    /// The caller has no such session.
    NoSuchSession = "no_such_session",
    /// No user has this name.
    NoSuchUser = "no_such_user",
    /// The group has no file of this name.
    NoSuchFile = "no_such_file",
    /// The group has other content under this name.
    FileExists = "file_exists",
    /// This client shares the file already.
    AlreadyShared = "already_shared",
    /// This client does not share the file.
    NotShared = "not_shared",
    /// A local file cannot be read.
    NotReadable = "not_readable",
    /// A path is empty.
    EmptyPath = "empty_path",
    /// A path names a folder where a file is needed.
    IsDirectory = "is_directory",
    /// The destination exists already.
    DestinationExists = "destination_exists",
    /// The disk is full.
    NoSpace = "no_space",
    /// Nobody who has the file is online.
    NoSeeders = "no_seeders",
    /// The file is being downloaded already.
    AlreadyDownloading = "already_downloading",
    /// No such download.
    NoSuchDownload = "no_such_download",
    /// No peer could give a valid piece.
    Integrity = "integrity",
    /// The shared file is no longer what was shared.
    FileChanged = "file_changed",
    /// No tracker can be reached.
    NoTracker = "no_tracker",
    /// The tracker has yet to catch up with what this client has seen.
    Stale = "stale",
    /// Reading or writing failed.
    Io = "io",
    /// The other side broke the protocol, or speaks another version.
    Protocol = "protocol",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    /// A code that a newer version added reads as `protocol`.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self::ALL.iter().copied().find(|code| code.as_str() == text).unwrap_or(Self::Protocol))
    }
}

/// A refusal or failure that may be told to the other side and to the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What scripts act on.
    pub code: ErrorCode,
    /// What happened and what to do next, in one or two sentences.
    pub message: String,
}

impl Failure {
    /// A failure with `code` and a sentence that names the thing and the next step.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_unknown_ones_read_as_protocol() {
        for &code in ErrorCode::ALL {
            let bytes = rmp_serde::to_vec(&code).unwrap();
            assert_eq!(rmp_serde::from_slice::<ErrorCode>(&bytes).unwrap(), code);
        }
        let newer = rmp_serde::to_vec("from_the_future").unwrap();
        assert_eq!(rmp_serde::from_slice::<ErrorCode>(&newer).unwrap(), ErrorCode::Protocol);
    }
}
