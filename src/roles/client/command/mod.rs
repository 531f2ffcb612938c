//! The commands of the contract as values: what a user may say, and what the client replies. Parsing stands in `parse`,
//! rendering in `output`; in between nothing handles text.

mod account;
pub(super) mod dispatch;
mod file;
mod group;
mod listing;
pub mod parse;
mod request;
mod setting;
pub mod table;
pub mod words;

use std::path::PathBuf;

use crate::protocol::{
    client::{GroupInfo, LeaveOutcome, MemberInfo, Password, PendingRequest, SessionEntry, TrackerStatus},
    error::Failure,
    hash::{Blake3Hash, Sha1Hash},
    ids::{DeviceKey, SessionId},
    name::{FileName, GroupName, UserName},
};

/// A command of the contract with its arguments parsed. `help` and `quit` belong to the shell.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are the arguments that the usage line above them names")]
pub enum Command {
    /// `create_user <user> [passwd]`; the shell has asked for a password left out.
    CreateUser { user: UserName, password: Password },
    /// `login <user> [passwd]`
    Login { user: UserName, password: Password },
    /// `logout`
    Logout,
    /// `close_account [passwd]`
    CloseAccount { password: Password },
    /// `list_sessions`
    ListSessions,
    /// `end_session <session>`
    EndSession { session: SessionName },
    /// `create_group <group>`
    CreateGroup { group: GroupName },
    /// `join_group <group>`
    JoinGroup { group: GroupName },
    /// `leave_group <group>`
    LeaveGroup { group: GroupName },
    /// `list_requests <group>`
    ListRequests { group: GroupName },
    /// `accept_request <group> <user>`
    AcceptRequest { group: GroupName, user: UserName },
    /// `reject_request <group> <user>`
    RejectRequest { group: GroupName, user: UserName },
    /// `remove_member <group> <user>`
    RemoveMember { group: GroupName, user: UserName },
    /// `transfer_group <group> <user>`
    TransferGroup { group: GroupName, user: UserName },
    /// `list_groups`
    ListGroups,
    /// `list_members <group>`
    ListMembers { group: GroupName },
    /// `upload_file <path> <group>`
    UploadFile { path: PathBuf, group: GroupName },
    /// `list_files <group>`
    ListFiles { group: GroupName },
    /// `file_info <group> <file>`
    FileInfo { group: GroupName, file: FileName },
    /// `download_file <group> <file> <destination>`; a destination that ends in a separator, or is a folder, is a folder.
    DownloadFile { group: GroupName, file: FileName, destination: PathBuf },
    /// `show_downloads [-v]`
    ShowDownloads { verbose: bool },
    /// `pause_download <group> <file>`
    PauseDownload { group: GroupName, file: FileName },
    /// `resume_download <group> <file>`
    ResumeDownload { group: GroupName, file: FileName },
    /// `cancel_download <group> <file>`
    CancelDownload { group: GroupName, file: FileName },
    /// `wait [group file]`
    Wait { download: Option<(GroupName, FileName)> },
    /// `show_peers <group> <file>`
    ShowPeers { group: GroupName, file: FileName },
    /// `show_shares`
    ShowShares,
    /// `stop_share <group> <file>`
    StopShare { group: GroupName, file: FileName },
    /// `change_password [old new]`
    ChangePassword { old: Password, new: Password },
    /// `set_limit up|down <rate>`
    SetLimit { direction: Direction, rate: Rate },
    /// `verify_file <group> <file>`
    VerifyFile { group: GroupName, file: FileName },
    /// `whoami`
    WhoAmI,
    /// `trackers`
    Trackers,
}

/// What a session is called in listings and commands: the first digits of its identity, in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionName(pub String);

impl SessionName {
    /// Digits shown.
    const SHOWN: usize = 12;

    /// What a session is called.
    pub fn of(session: &SessionId) -> Self {
        Self(session.to_string()[..Self::SHOWN].to_owned())
    }

    /// Reads digits, at least four; `None` when they are none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = (4..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_name.then(|| Self(text.to_ascii_lowercase()))
    }

    /// Whether this is a name of that session.
    pub fn names(&self, session: &SessionId) -> bool {
        session.to_string().starts_with(&self.0)
    }
}

/// Which way bytes go, as seen from this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To others.
    Up,
    /// From others.
    Down,
}

/// Bytes per second; 0 is no limit. Written `10MiB`, `500KB`, `1048576`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

/// What a command is answered with. Names and numbers only: words are the output's.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Done; nothing to add to the command itself.
    Done,
    /// After a login.
    LoggedIn {
        /// The user, as called now.
        user: UserName,
        /// Downloads that go on.
        resumed: u32,
        /// Shares that are back.
        shared: u32,
        /// Shares that are not, with why.
        suspended: Vec<SuspendedShare>,
    },
    /// The user's sessions, oldest first.
    Sessions(Vec<SessionEntry>),
    /// After a leave.
    Left(LeaveOutcome),
    /// Pending requests, oldest first.
    Requests(Vec<PendingRequest>),
    /// Every group.
    Groups(Vec<GroupInfo>),
    /// Members of a group.
    Members(Vec<MemberInfo>),
    /// A file is shared.
    Uploaded(Uploaded),
    /// Files of a group.
    Files(Vec<FileRow>),
    /// One file.
    File(Box<FileDetail>),
    /// A download has started.
    DownloadStarted {
        /// The group.
        group: GroupName,
        /// The file.
        name: FileName,
        /// Where it will be.
        path: PathBuf,
        /// Nobody who has it is online: it waits.
        waiting: bool,
    },
    /// Downloads, oldest first.
    Downloads {
        /// Percent, rate, peers and reason are wanted even when piped.
        verbose: bool,
        /// A row each.
        downloads: Vec<DownloadRow>,
    },
    /// The downloads waited for have ended, all well.
    Waited(Vec<DownloadRow>),
    /// The swarm of a file.
    Peers(Vec<PeerRow>),
    /// What this client shares.
    Shares(Vec<ShareRow>),
    /// A local copy was read again.
    Verified {
        /// Pieces read.
        pieces: u32,
        /// Pieces that were damaged, by index; they are being fetched again.
        damaged: Vec<u32>,
    },
    /// Who this client is.
    WhoAmI {
        /// The user logged in.
        user: Option<UserName>,
        /// Where this client serves.
        address: String,
        /// This device.
        device: DeviceKey,
    },
    /// Every listed tracker.
    Trackers(Vec<TrackerRow>),
}

/// A share that could not be resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspendedShare {
    /// The group.
    pub group: GroupName,
    /// The file.
    pub name: FileName,
    /// Where it was.
    pub path: PathBuf,
    /// Why it is not served.
    pub reason: String,
}

/// A file just shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// The group.
    pub group: GroupName,
    /// What it is called there.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// Pieces.
    pub pieces: u32,
    /// SHA-1 of the whole.
    pub sha1: Sha1Hash,
}

/// A file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    /// What it is called.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// Pieces.
    pub pieces: u32,
    /// SHA-1 of the whole.
    pub sha1: Sha1Hash,
    /// Devices online with all of it.
    pub seeders: u32,
    /// Devices online with a part.
    pub leechers: u32,
    /// Users who share it.
    pub shared_by: Vec<UserName>,
}

/// All about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDetail {
    /// What it is called.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// Pieces.
    pub pieces: u32,
    /// SHA-1 of the whole.
    pub sha1: Sha1Hash,
    /// BLAKE3 of the whole.
    pub blake3: Blake3Hash,
    /// First 20 hex characters of each piece's SHA-1, joined.
    pub hash_string: String,
    /// Devices online that have some of it.
    pub holders: Vec<Holder>,
}

/// A device that has some of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who is logged in on it.
    pub user: UserName,
    /// Its address.
    pub address: String,
    /// Whole percent.
    pub percent: u8,
}

/// State of a download, by the letters of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadState {
    /// `D`
    Downloading,
    /// `C`
    Complete,
    /// `P`
    Paused,
    /// `F`
    Failed,
}

/// A download in a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct DownloadRow {
    /// Its state.
    pub state: DownloadState,
    /// The group.
    pub group: GroupName,
    /// The file.
    pub name: FileName,
    /// Where it is, or will be.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Bytes verified.
    pub have: u64,
    /// Bytes per second, lately.
    pub rate: u64,
    /// Peers linked.
    pub peers: u32,
    /// Seconds to go, where the rate tells.
    pub eta_s: Option<u64>,
    /// Why it waits, is paused or has failed.
    pub error: Option<Failure>,
}

/// A peer of a swarm in a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerRow {
    /// Who.
    pub user: UserName,
    /// Where.
    pub address: String,
    /// Whole percent of the file's pieces.
    pub percent: u8,
    /// Bytes per second from it.
    pub down_rate: u64,
    /// Bytes per second to it.
    pub up_rate: u64,
    /// State in a word or a few: `connected`, `connecting`, `snubbed`, `banned`, `dialled back`, `unreachable`, …
    pub state: String,
}

/// A share in a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct ShareRow {
    /// The group.
    pub group: GroupName,
    /// The file.
    pub name: FileName,
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Bytes served since it was first shared.
    pub uploaded: u64,
    /// Why it is suspended, when it is.
    pub suspended: Option<String>,
}

/// A tracker in a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackerRow {
    /// Its address.
    pub address: String,
    /// Whether it is in use now.
    pub current: bool,
    /// Its state; `lag` is `None` when nothing is known.
    pub status: TrackerStatus,
    /// Why this client refuses it: it shows another key than the one known.
    pub refused: Option<Failure>,
}

/// What happens without being asked for: notices above the prompt, `event` objects in JSON.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are named by the sentence above them")]
pub enum Event {
    /// From the tracker, about groups and accounts.
    Notice(crate::protocol::client::Notice),
    /// A download ended: complete, or failed with a reason.
    DownloadEnded(DownloadRow),
    /// A download cannot go on for now: nobody online has what is missing, the disk is full, …
    DownloadStalled(DownloadRow),
    /// A share was suspended or restored.
    ShareSuspended(SuspendedShare),
    /// The client moved to this tracker.
    TrackerFound { address: String },
    /// The tracker in use was lost; another is being tried.
    TrackerLost { address: String },
    /// A tracker shows another key than it should: nothing was sent to it; the failure says what to do.
    TrackerRefused { address: String, failure: crate::protocol::error::Failure },
    /// No tracker answers; transfers go on, commands wait.
    NoTracker,
    /// The system refuses to accept peers that connect; the failure says why.
    CannotAccept(crate::protocol::error::Failure),
    /// Hashing of a file that is being uploaded or verified; `done == total` ends it.
    Hashing { path: PathBuf, done: u64, total: u64 },
}
