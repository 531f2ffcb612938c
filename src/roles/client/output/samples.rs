//! One of everything that can be shown, with names that try to deceive.

use std::path::PathBuf;

use super::super::command::{
    DownloadRow, DownloadState, Event, FileDetail, FileRow, Holder, PeerRow, Reply, ShareRow, SuspendedShare,
    TrackerRow, Uploaded,
};
use crate::protocol::{
    client::{
        GroupInfo, LeaveOutcome, MemberInfo, Notice, PendingRequest, RenamedKind, SessionEntry, Standing, TrackerStatus,
    },
    error::{ErrorCode, Failure},
    hash::{Blake3Hash, Sha1Hash},
    ids::{DeviceKey, GroupId, SessionId, TrackerNo},
    name::{FileName, GroupName, UserName},
};

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn group() -> GroupName {
    GroupName::parse("music").unwrap()
}

fn file(name: &str) -> FileName {
    FileName::parse(name).unwrap()
}

pub(super) fn failure() -> Failure {
    Failure::new(ErrorCode::BadCredentials, "The user name or the password is wrong. Check both and try again.")
}

pub(super) fn downloads() -> Vec<DownloadRow> {
    let row = |state, name: &str, have, error| DownloadRow {
        state,
        group: group(),
        name: file(name),
        path: PathBuf::from("/home/ann").join(name),
        size: 10 << 20,
        have,
        rate: 3 << 20,
        peers: 4,
        eta_s: Some(75),
        error,
    };
    let full = Failure::new(ErrorCode::NoSpace, "The disk is full. Make room, then resume_download.");
    vec![
        row(DownloadState::Downloading, "a song.mp3", 4_500_000, None),
        row(DownloadState::Complete, "完了.bin", 10 << 20, None),
        row(DownloadState::Paused, "txt.\u{202e}gpj", 0, Some(full)),
        row(DownloadState::Failed, "f", 1, Some(Failure::new(ErrorCode::Integrity, "No peer has a valid piece 3."))),
    ]
}

fn suspended() -> SuspendedShare {
    let reason = "the file has changed; upload it again".to_owned();
    SuspendedShare { group: group(), name: file("old.bin"), path: PathBuf::from("/home/ann/old.bin"), reason }
}

fn groups() -> Reply {
    let info = |name: &str, owner, members, standing| GroupInfo {
        group: GroupId([1; 32]),
        name: GroupName::parse(name).unwrap(),
        owner: user(owner),
        members,
        standing,
    };
    Reply::Groups(vec![info("music", "ann", 12, Standing::Owner), info("films", "bob", 1, Standing::None)])
}

fn files() -> Reply {
    Reply::Files(vec![FileRow {
        name: file("a song.mp3"),
        size: 1_500_000,
        pieces: 3,
        sha1: Sha1Hash([0xab; 20]),
        seeders: 2,
        leechers: 1,
        shared_by: vec![user("ann"), user("bob")],
    }])
}

fn detail() -> Reply {
    Reply::File(Box::new(FileDetail {
        name: file("a song.mp3"),
        size: 1_500_000,
        pieces: 3,
        sha1: Sha1Hash([0xab; 20]),
        blake3: Blake3Hash([0xcd; 32]),
        hash_string: "a9993e364706816aba3e".repeat(3),
        holders: vec![Holder { user: user("bob"), address: "10.0.0.2:6000".into(), percent: 100 }],
    }))
}

fn peers() -> Reply {
    Reply::Peers(vec![PeerRow {
        user: user("bob"),
        address: "10.0.0.2:6000".into(),
        percent: 43,
        down_rate: 2 << 20,
        up_rate: 1024,
        state: "dialled back".into(),
    }])
}

fn shares() -> Reply {
    let share = |name: &str, suspended| ShareRow {
        group: group(),
        name: file(name),
        path: PathBuf::from("/home/ann").join(name),
        size: 1 << 30,
        uploaded: 3 << 30,
        suspended,
    };
    Reply::Shares(vec![share("a song.mp3", None), share("old.bin", Some("the file has changed".into()))])
}

fn trackers() -> Reply {
    let key = || Failure::new(ErrorCode::Protocol, "The tracker shows another key.");
    let row = |no, current, reachable, lag| TrackerRow {
        refused: (no == 3).then(key),
        address: format!("10.0.0.1:500{no}"),
        current,
        status: TrackerStatus { tracker: TrackerNo(no), reachable, lag, lag_ms: 0 },
    };
    Reply::Trackers(vec![row(1, true, true, Some(0)), row(2, false, true, Some(1)), row(3, false, false, None)])
}

fn sessions() -> Reply {
    let entry = |n, address: Option<&str>, current| SessionEntry {
        session: SessionId([n; 32]),
        device: DeviceKey([n; 32]),
        since_ms: 1_700_000_000_123,
        address: address.map(str::to_owned),
        current,
    };
    Reply::Sessions(vec![entry(0xab, Some("10.0.0.2:6000"), true), entry(0xcd, None, false)])
}

pub(super) fn replies() -> Vec<Reply> {
    let pending = PendingRequest { user: user("bob"), since_ms: 1_700_000_000_123 };
    let member = MemberInfo { user: user("ann"), role: Standing::Owner, online: true };
    let uploaded =
        Uploaded { group: group(), name: file("a song.mp3"), size: 1_500_000, pieces: 3, sha1: Sha1Hash([0xab; 20]) };
    vec![
        Reply::Done,
        Reply::LoggedIn { user: user("ann"), resumed: 1, shared: 2, suspended: vec![suspended()] },
        sessions(),
        Reply::Left(LeaveOutcome::Passed(user("bob"))),
        Reply::Requests(vec![pending]),
        groups(),
        Reply::Members(vec![member]),
        Reply::Uploaded(uploaded),
        files(),
        detail(),
        Reply::DownloadStarted {
            group: group(),
            name: file("a song.mp3"),
            path: "/tmp/a song.mp3".into(),
            waiting: true,
        },
        Reply::Downloads { verbose: false, downloads: downloads() },
        peers(),
        shares(),
        Reply::Verified { pieces: 3, damaged: vec![1] },
        Reply::WhoAmI { user: Some(user("ann")), address: "127.0.0.1:6000".into(), device: DeviceKey([7; 32]) },
        trackers(),
    ]
}

pub(super) fn events() -> Vec<Event> {
    let mut rows = downloads();
    let (failed, complete) = (rows.remove(3), rows.remove(1));
    vec![
        Event::Notice(Notice::JoinRequested { group: group(), user: user("bob") }),
        Event::Notice(Notice::RequestAccepted { group: group() }),
        Event::Notice(Notice::MemberRemoved { group: group(), id: GroupId([1; 32]) }),
        Event::Notice(Notice::Renamed { kind: RenamedKind::Account, from: "ann".into(), to: "ann~2".into() }),
        Event::Notice(Notice::SessionEnded),
        Event::Notice(Notice::Trackers(Vec::new())),
        Event::DownloadEnded(complete),
        Event::DownloadEnded(failed),
        Event::ShareSuspended(suspended()),
        Event::TrackerLost { address: "10.0.0.1:5000".into() },
        Event::NoTracker,
        Event::CannotAccept(Failure::new(ErrorCode::Io, "Too many open files (os error 24).")),
        Event::Hashing { path: "/home/ann/a song.mp3".into(), done: 1, total: 4 },
    ]
}
