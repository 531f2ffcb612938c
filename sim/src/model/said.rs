//! What a command is answered with, as far as the model speaks of it.

use std::collections::BTreeSet;

use p2p::{
    protocol::{
        client::{LeaveOutcome, Standing},
        error::{ErrorCode, Failure},
    },
    roles::client::{
        Outcome,
        command::{DownloadState, Reply},
    },
};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is done.
    Done,
    /// It is refused, or failed.
    Refused(ErrorCode),
    /// The user logged in, as called now.
    LoggedIn(String),
    /// A membership, or a request to join, ended by its user's will.
    Left(Leaving),
    /// Users who ask to join, oldest first.
    Requests(Vec<String>),
    /// Groups by name.
    Groups(Vec<GroupRow>),
    /// Members by name.
    Members(Vec<MemberRow>),
    /// Files by name.
    Files(Vec<FileRow>),
    /// One file, with who shares it left out.
    File(FileRow),
    /// A file is shared.
    Uploaded(FileRow),
    /// A download began, under this name; whether it waits for somebody who has the file.
    Started(String, bool),
    /// Downloads, oldest first: letter, group, file.
    Downloads(Vec<(char, String, String)>),
    /// The downloads waited for are complete.
    Waited,
    /// Shares of this device, each a group and a file.
    Shares {
        /// Those that are there.
        sure: BTreeSet<(String, String)>,
        /// Those that may be there besides: the model cannot tell.
        perhaps: BTreeSet<(String, String)>,
    },
    /// Who is logged in.
    WhoAmI(Option<String>),
    /// How many trackers are listed.
    Trackers(usize),
    /// Something the model does not speak of.
    Other(String),
}

/// How a user left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// The request was withdrawn.
    Withdrawn,
    /// The membership ended.
    Left,
    /// The group ended.
    Dissolved,
    /// The group passed on.
    Passed(String),
}

/// A group in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupRow {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) members: u32,
    pub(crate) standing: Standing,
}

/// A member in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberRow {
    pub(crate) name: String,
    pub(crate) owner: bool,
    /// `None`: the model cannot tell.
    pub(crate) online: Option<bool>,
}

/// A file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) pieces: u32,
    pub(crate) shared_by: BTreeSet<String>,
}

impl Said {
    /// What a client said.
    pub(crate) fn of(result: &Result<Outcome, Failure>) -> Self {
        let reply = match result {
            Ok(outcome) => &outcome.reply,
            Err(failure) => return Self::Refused(failure.code),
        };
        match reply {
            Reply::Done => Self::Done,
            Reply::LoggedIn { user, .. } => Self::LoggedIn(user.to_string()),
            Reply::Left(outcome) => Self::Left(match outcome {
                LeaveOutcome::Withdrawn => Leaving::Withdrawn,
                LeaveOutcome::Left => Leaving::Left,
                LeaveOutcome::Dissolved => Leaving::Dissolved,
                LeaveOutcome::Passed(heir) => Leaving::Passed(heir.to_string()),
            }),
            Reply::Requests(requests) => {
                Self::Requests(requests.iter().map(|request| request.user.to_string()).collect())
            }
            Reply::WhoAmI { user, .. } => Self::WhoAmI(user.as_ref().map(ToString::to_string)),
            Reply::Trackers(trackers) => Self::Trackers(trackers.len()),
            Reply::Waited(_) => Self::Waited,
            reply => Self::listing(reply).unwrap_or_else(|| Self::Other(format!("{reply:?}"))),
        }
    }

    fn listing(reply: &Reply) -> Option<Self> {
        Some(match reply {
            Reply::Groups(groups) => Self::Groups(
                groups
                    .iter()
                    .map(|group| GroupRow {
                        name: group.name.to_string(),
                        owner: group.owner.to_string(),
                        members: group.members,
                        standing: group.standing,
                    })
                    .collect(),
            ),
            Reply::Members(members) => Self::Members(
                members
                    .iter()
                    .map(|member| MemberRow {
                        name: member.user.to_string(),
                        owner: member.role == Standing::Owner,
                        online: Some(member.online),
                    })
                    .collect(),
            ),
            Reply::Files(files) => Self::Files(
                files
                    .iter()
                    .map(|file| FileRow {
                        name: file.name.to_string(),
                        size: file.size,
                        pieces: file.pieces,
                        shared_by: file.shared_by.iter().map(ToString::to_string).collect(),
                    })
                    .collect(),
            ),
            Reply::File(file) => Self::File(FileRow::plain(file.name.as_str(), file.size, file.pieces)),
            Reply::Uploaded(file) => Self::Uploaded(FileRow::plain(file.name.as_str(), file.size, file.pieces)),
            Reply::DownloadStarted { name, waiting, .. } => Self::Started(name.to_string(), *waiting),
            Reply::Downloads { downloads, .. } => Self::Downloads(
                downloads.iter().map(|row| (letter(row.state), row.group.to_string(), row.name.to_string())).collect(),
            ),
            Reply::Shares(shares) => Self::Shares {
                sure: shares.iter().map(|share| (share.group.to_string(), share.name.to_string())).collect(),
                perhaps: BTreeSet::new(),
            },
            _ => return None,
        })
    }

    /// Whether it shows what the tracker knows: such an answer is marked where it is older than what was seen.
    pub(crate) fn is_listing(&self) -> bool {
        matches!(self, Self::Requests(_) | Self::Groups(_) | Self::Members(_) | Self::Files(_) | Self::File(_))
    }

    /// Whether a client that may be told this was told `heard`.
    pub(crate) fn allows(&self, heard: &Self) -> bool {
        match (self, heard) {
            (Self::Members(own), Self::Members(heard)) => {
                own.len() == heard.len()
                    && own.iter().zip(heard).all(|(own, heard)| {
                        let online = own.online.or(heard.online);
                        MemberRow { online, ..own.clone() } == *heard
                    })
            }
            (Self::Shares { sure, perhaps }, Self::Shares { sure: heard, .. }) => {
                sure.is_subset(heard) && heard.iter().all(|share| sure.contains(share) || perhaps.contains(share))
            }
            (own, heard) => own == heard,
        }
    }
}

impl FileRow {
    /// A file of which is not said who shares it.
    pub(crate) fn plain(name: &str, size: u64, pieces: u32) -> Self {
        Self { name: name.to_owned(), size, pieces, shared_by: BTreeSet::new() }
    }
}

fn letter(state: DownloadState) -> char {
    match state {
        DownloadState::Downloading => 'D',
        DownloadState::Complete => 'C',
        DownloadState::Paused => 'P',
        DownloadState::Failed => 'F',
    }
}
