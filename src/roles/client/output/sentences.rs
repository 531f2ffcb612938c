//! Sentences: what was done, what happened, how far something is.

use super::{
    super::command::{Command, Direction, DownloadRow, DownloadState, Event, SuspendedShare, Uploaded},
    clean::clean,
    json::renamed_kind,
};
use crate::{
    protocol::client::{LeaveOutcome, Notice},
    roles::units::{format_seconds, format_size, percent},
};

/// How far a download is: `43 %  12.0 MiB/s  4 peers  0:32 left  reason`.
pub fn progress(row: &DownloadRow) -> String {
    let mut parts = vec![format!("{} % of {}", percent(row.have, row.size), format_size(row.size))];
    if row.state == DownloadState::Downloading {
        parts.push(format!("{}/s", format_size(row.rate)));
        parts.push(format!("{} peer{}", row.peers, plural(u64::from(row.peers))));
        parts.extend(row.eta_s.map(|seconds| format!("{} left", format_seconds(seconds))));
    }
    parts.extend(row.error.as_ref().map(|failure| failure.message.clone()));
    parts.join("  ")
}

/// What was done, for commands whose reply adds nothing to them.
pub(super) fn done(command: &Command) -> String {
    let text = match command {
        Command::CreateUser { user, .. } => format!("User {user} is registered. Log in with: login {user}"),
        Command::EndSession { session } => format!("The session {} has ended.", session.0),
        Command::CloseAccount { .. } => "The account is closed, and its groups are left.".to_owned(),
        Command::Logout => "Logged out. Nothing is shared until the next login.".to_owned(),
        Command::CreateGroup { group } => format!("Group {group} is created, and you own it."),
        Command::JoinGroup { group } => format!("Asked to join {group}. Its owner decides."),
        Command::AcceptRequest { group, user } => format!("{user} is a member of {group} now."),
        Command::RejectRequest { group, user } => format!("The request of {user} to join {group} is rejected."),
        Command::RemoveMember { group, user } => format!("{user} is no member of {group} any more."),
        Command::TransferGroup { group, user } => format!("{user} owns {group} now."),
        Command::PauseDownload { group, file } => format!("Paused [{group}] {file}."),
        Command::ResumeDownload { group, file } => format!("[{group}] {file} goes on."),
        Command::CancelDownload { group, file } => format!("Cancelled [{group}] {file}."),
        Command::StopShare { group, file } => format!("[{group}] {file} is no longer shared from here."),
        Command::ChangePassword { .. } => "The password is changed.".to_owned(),
        Command::SetLimit { direction, rate } => {
            let what = if *direction == Direction::Up { "Uploads" } else { "Downloads" };
            if rate.0 == 0 { format!("{what} are not limited.") } else { format!("{what} are limited to {rate}.") }
        }
        _ => "Done.".to_owned(),
    };
    clean(&text).into_owned() + "\n"
}

pub(super) fn logged_in(user: &str, resumed: u32, shared: u32, suspended: &[SuspendedShare]) -> String {
    let mut parts = vec![format!("Logged in as {user}.")];
    if shared > 0 {
        parts.push(format!("{shared} file{} shared again.", plural(shared.into())));
    }
    if resumed > 0 {
        parts.push(format!("{resumed} download{} going on.", plural(resumed.into())));
    }
    let lost = |share: &SuspendedShare| format!("Not shared: [{}] {}: {}", share.group, share.name, share.reason);
    let lost = suspended.iter().map(|share| format!("\n{}", clean(&lost(share))));
    parts.join(" ") + &lost.collect::<String>() + "\n"
}

pub(super) fn left(outcome: &LeaveOutcome) -> String {
    match outcome {
        LeaveOutcome::Withdrawn => "The request to join is withdrawn.\n".to_owned(),
        LeaveOutcome::Left => "You are no member any more.\n".to_owned(),
        LeaveOutcome::Passed(user) => format!("You are no member any more. {user} owns the group now.\n"),
        LeaveOutcome::Dissolved => "You were the last member. The group is dissolved.\n".to_owned(),
    }
}

pub(super) fn uploaded(file: &Uploaded) -> String {
    format!(
        "Sharing [{}] {}: {}, {} piece{}, SHA-1 {}\n",
        file.group,
        clean(file.name.as_str()),
        format_size(file.size),
        file.pieces,
        plural(file.pieces.into()),
        file.sha1
    )
}

pub(super) fn verified(pieces: u32, damaged: &[u32]) -> String {
    if damaged.is_empty() {
        return format!("All {pieces} piece{} are as they should be.\n", plural(pieces.into()));
    }
    let indexes: Vec<_> = damaged.iter().map(u32::to_string).collect();
    format!("Of {pieces} pieces {} are damaged and fetched again: {}\n", damaged.len(), indexes.join(" "))
}

/// An event in a sentence; `None` for those that only the client itself needs.
pub(super) fn event_text(event: &Event) -> Option<String> {
    Some(match event {
        Event::Notice(notice) => notice_text(notice)?,
        Event::DownloadEnded(row) => match &row.error {
            None => format!("[{}] {} is complete: {}", row.group, row.name, row.path.to_string_lossy()),
            Some(failure) => format!("[{}] {} failed: {}", row.group, row.name, failure.message),
        },
        Event::DownloadStalled(row) => {
            let reason = row.error.as_ref().map_or("nobody online has what is missing", |failure| &failure.message);
            format!("[{}] {} waits: {reason}", row.group, row.name)
        }
        Event::ShareSuspended(share) => format!("[{}] {} is not shared: {}", share.group, share.name, share.reason),
        Event::TrackerFound { address } => format!("Connected to tracker {address}."),
        Event::TrackerLost { address } => format!("Lost tracker {address}; trying the others."),
        Event::TrackerRefused { address, failure } => format!("Tracker {address} is refused: {}", failure.message),
        Event::CannotAccept(failure) => format!("No peer can connect for now: {}", failure.message),
        Event::NoTracker => "No tracker answers. Transfers go on; commands wait for one.".to_owned(),
        Event::Hashing { path, done, total } => {
            format!("Hashing {}: {} %", path.to_string_lossy(), percent(*done, *total))
        }
    })
}

fn notice_text(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::JoinRequested { group, user } => format!("{user} asks to join {group}: accept_request {group} {user}"),
        Notice::RequestAccepted { group } => format!("You are a member of {group} now."),
        Notice::RequestRejected { group } => format!("Your request to join {group} was rejected."),
        Notice::MemberRemoved { group, .. } => format!("You were removed from {group}."),
        Notice::OwnerNow { group } => format!("You own {group} now."),
        Notice::Renamed { kind, from, to } => {
            let kind = renamed_kind(*kind);
            format!("The {kind} {from} is called {to} now: the name was claimed earlier at another tracker.")
        }
        Notice::SessionEnded => {
            "Your session has ended, from another device or by a new password: log in again.".to_owned()
        }
        Notice::MembershipEnded { .. }
        | Notice::SessionsEnded { .. }
        | Notice::SwarmChanged { .. }
        | Notice::DialRequested { .. }
        | Notice::Trackers(_) => return None,
    })
}

/// The ending of a word for `count` things.
pub(super) fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
