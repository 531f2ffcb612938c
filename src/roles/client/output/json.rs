//! One JSON object a line, for scripts: members as the contract names them, sizes in bytes, times in RFC 3339 UTC.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    super::{
        Outcome,
        command::{
            DownloadRow, DownloadState, Event, FileDetail, FileRow, Holder, PeerRow, Reply, SessionName, ShareRow,
            SuspendedShare, TrackerRow,
            table::{COMMANDS, Spec},
        },
    },
    Asked, Renderer,
    clean::is_unsafe,
};
use crate::{
    protocol::{
        client::{GroupInfo, LeaveOutcome, MemberInfo, Notice, PendingRequest, RenamedKind, SessionEntry, Standing},
        error::Failure,
        ids::device_key_text,
        name::{GroupName, UserName},
        piece::PIECE_SIZE,
    },
    roles::units::percent,
};

/// The renderer of `--json`.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Renderer for Json {
    fn answer(&self, asked: &Asked<'_>, outcome: &Result<Outcome, Failure>) -> String {
        let head = json!({ "command": asked.name, "ok": outcome.is_ok() });
        match outcome {
            Ok(Outcome { reply, stale: false }) => line(head, reply_body(reply)),
            Ok(Outcome { reply, stale: true }) => line(head, joined(reply_body(reply), json!({ "stale": true }))),
            Err(failure) => line(head, json!({ "error": error(failure) })),
        }
    }

    fn help(&self, asked: &Asked<'_>, topic: Option<&'static Spec>) -> String {
        let specs = topic.map_or(COMMANDS, std::slice::from_ref);
        let describe = |spec: &Spec| json!({ "name": spec.name, "usage": spec.usage_line(), "help": spec.help });
        let commands: Vec<_> = specs.iter().map(describe).collect();
        line(json!({ "command": asked.name, "ok": true }), json!({ "commands": commands }))
    }

    fn farewell(&self, asked: &Asked<'_>) -> String {
        line(json!({ "command": asked.name, "ok": true }), Value::Null)
    }

    fn stopped(&self, downloads: &[DownloadRow]) -> String {
        line(json!({ "event": "downloads_stopped" }), json!({ "downloads": list(downloads, download) }))
    }

    fn event(&self, event: &Event) -> String {
        event_body(event).map_or_else(String::new, |(name, body)| line(json!({ "event": name }), body))
    }
}

/// One object of both, as a line; characters that could deceive a terminal are written as escapes.
fn line(head: Value, body: Value) -> String {
    let text = joined(head, body).to_string();
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if is_unsafe(c) {
            write!(line, "\\u{:04x}", u32::from(c)).expect("a string takes all");
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

fn joined(head: Value, body: Value) -> Value {
    let members = |value| if let Value::Object(members) = value { members } else { Map::new() };
    Value::Object(members(head).into_iter().chain(members(body)).collect())
}

fn list<T>(rows: &[T], row: impl Fn(&T) -> Value) -> Value {
    rows.iter().map(row).collect()
}

fn reply_body(reply: &Reply) -> Value {
    match reply {
        Reply::Done => Value::Null,
        Reply::LoggedIn { user, resumed, shared, suspended } => json!({
            "user": user.as_str(), "resumed": resumed, "shared": shared, "suspended": list(suspended, suspended_share),
        }),
        Reply::Sessions(sessions) => json!({ "sessions": list(sessions, session) }),
        Reply::Left(outcome) => left(outcome),
        Reply::Requests(requests) => json!({ "requests": list(requests, request) }),
        Reply::Groups(groups) => json!({ "groups": list(groups, group) }),
        Reply::Members(members) => json!({ "members": list(members, member) }),
        Reply::Uploaded(file) => json!({
            "group": file.group.as_str(), "name": file.name.as_str(), "size": file.size, "pieces": file.pieces,
            "sha1": file.sha1.to_string(),
        }),
        Reply::Files(files) => json!({ "files": list(files, file_row) }),
        Reply::File(file) => file_detail(file),
        Reply::DownloadStarted { group, name, path, waiting } => json!({
            "group": group.as_str(), "name": name.as_str(), "path": path.to_string_lossy(), "waiting": waiting,
        }),
        Reply::Downloads { downloads, .. } | Reply::Waited(downloads) => {
            json!({ "downloads": list(downloads, download) })
        }
        Reply::Peers(peers) => json!({ "peers": list(peers, peer) }),
        Reply::Shares(shares) => json!({ "shares": list(shares, share) }),
        Reply::Verified { pieces, damaged } => json!({ "pieces": pieces, "damaged": damaged }),
        Reply::WhoAmI { user, address, device } => json!({
            "user": user.as_ref().map(UserName::as_str), "address": address, "device": device_key_text(device),
        }),
        Reply::Trackers(trackers) => json!({ "trackers": list(trackers, tracker) }),
    }
}

fn left(outcome: &LeaveOutcome) -> Value {
    match outcome {
        LeaveOutcome::Withdrawn => json!({ "outcome": "withdrawn" }),
        LeaveOutcome::Left => json!({ "outcome": "left" }),
        LeaveOutcome::Passed(user) => json!({ "outcome": "passed", "owner": user.as_str() }),
        LeaveOutcome::Dissolved => json!({ "outcome": "dissolved" }),
    }
}

/// A wall-clock time in RFC 3339, UTC.
pub(super) fn rfc3339(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.unwrap_or(Timestamp::MAX).to_string()
}

fn session(entry: &SessionEntry) -> Value {
    json!({
        "session": SessionName::of(&entry.session).0, "device": device_key_text(&entry.device),
        "since": rfc3339(entry.since_ms), "online": entry.address.is_some(), "address": entry.address,
        "current": entry.current,
    })
}

fn request(request: &PendingRequest) -> Value {
    json!({ "user": request.user.as_str(), "since": rfc3339(request.since_ms) })
}

/// A standing in a word.
pub(super) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Owner => "owner",
        Standing::Member => "member",
        Standing::Requested => "requested",
        Standing::None => "none",
    }
}

fn group(group: &GroupInfo) -> Value {
    json!({
        "name": group.name.as_str(), "owner": group.owner.as_str(), "members": group.members,
        "standing": standing(group.standing),
    })
}

fn member(member: &MemberInfo) -> Value {
    json!({ "user": member.user.as_str(), "role": standing(member.role), "online": member.online })
}

fn file_row(file: &FileRow) -> Value {
    let shared_by: Vec<_> = file.shared_by.iter().map(UserName::as_str).collect();
    json!({
        "name": file.name.as_str(), "size": file.size, "pieces": file.pieces, "sha1": file.sha1.to_string(),
        "seeders": file.seeders, "leechers": file.leechers, "shared_by": shared_by,
    })
}

fn file_detail(file: &FileDetail) -> Value {
    let holder =
        |holder: &Holder| json!({ "user": holder.user.as_str(), "address": holder.address, "percent": holder.percent });
    json!({
        "name": file.name.as_str(), "size": file.size, "piece_size": PIECE_SIZE,
        "pieces": file.pieces, "sha1": file.sha1.to_string(), "blake3": file.blake3.to_string(),
        "hash_string": file.hash_string, "holders": list(&file.holders, holder),
    })
}

/// The letter of a download's state.
pub(super) fn letter(state: DownloadState) -> char {
    match state {
        DownloadState::Downloading => 'D',
        DownloadState::Complete => 'C',
        DownloadState::Paused => 'P',
        DownloadState::Failed => 'F',
    }
}

fn download(row: &DownloadRow) -> Value {
    json!({
        "state": letter(row.state), "group": row.group.as_str(), "name": row.name.as_str(),
        "path": row.path.to_string_lossy(), "size": row.size, "have": row.have, "percent": percent(row.have, row.size),
        "rate": row.rate, "peers": row.peers, "eta": row.eta_s, "error": row.error.as_ref().map(error),
    })
}

fn peer(peer: &PeerRow) -> Value {
    json!({
        "user": peer.user.as_str(), "address": peer.address, "percent": peer.percent, "down_rate": peer.down_rate,
        "up_rate": peer.up_rate, "state": peer.state,
    })
}

fn share(share: &ShareRow) -> Value {
    let body = json!({
        "group": share.group.as_str(), "name": share.name.as_str(), "path": share.path.to_string_lossy(),
        "size": share.size, "uploaded": share.uploaded,
    });
    let suspended = share.suspended.as_ref().map_or(Value::Null, |reason| json!({ "suspended": reason }));
    joined(body, suspended)
}

fn tracker(row: &TrackerRow) -> Value {
    let body = json!({
        "no": row.status.tracker.0, "address": row.address, "reachable": row.status.reachable, "current": row.current,
        "lag": row.status.lag,
    });
    let refused = row.refused.as_ref().map_or(Value::Null, |failure| json!({ "refused": error(failure) }));
    joined(body, refused)
}

fn suspended_share(share: &SuspendedShare) -> Value {
    json!({
        "group": share.group.as_str(), "name": share.name.as_str(), "path": share.path.to_string_lossy(),
        "reason": share.reason,
    })
}

fn error(failure: &Failure) -> Value {
    json!({ "code": failure.code.as_str(), "message": failure.message })
}

fn event_body(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::Notice(notice) => notice_body(notice)?,
        Event::DownloadEnded(row) => ("download_ended", download(row)),
        Event::DownloadStalled(row) => ("download_stalled", download(row)),
        Event::ShareSuspended(share) => ("share_suspended", suspended_share(share)),
        Event::TrackerFound { address } => ("tracker_found", json!({ "address": address })),
        Event::TrackerLost { address } => ("tracker_lost", json!({ "address": address })),
        Event::TrackerRefused { address, failure } => {
            ("tracker_refused", json!({ "address": address, "error": error(failure) }))
        }
        Event::NoTracker => ("no_tracker", Value::Null),
        Event::CannotAccept(failure) => ("cannot_accept", json!({ "error": error(failure) })),
        Event::Hashing { path, done, total } => {
            ("hashing", json!({ "path": path.to_string_lossy(), "done": done, "total": total }))
        }
    })
}

/// A notice that concerns people; the others are for the client itself.
fn notice_body(notice: &Notice) -> Option<(&'static str, Value)> {
    let group_only = |group: &GroupName| json!({ "group": group.as_str() });
    Some(match notice {
        Notice::JoinRequested { group, user } => {
            ("join_requested", json!({ "group": group.as_str(), "user": user.as_str() }))
        }
        Notice::RequestAccepted { group } => ("request_accepted", group_only(group)),
        Notice::RequestRejected { group } => ("request_rejected", group_only(group)),
        Notice::MemberRemoved { group, .. } => ("member_removed", group_only(group)),
        Notice::OwnerNow { group } => ("owner_now", group_only(group)),
        Notice::Renamed { kind, from, to } => {
            ("renamed", json!({ "kind": renamed_kind(*kind), "from": from, "to": to }))
        }
        Notice::SessionEnded => ("session_ended", Value::Null),
        Notice::MembershipEnded { .. }
        | Notice::SessionsEnded { .. }
        | Notice::SwarmChanged { .. }
        | Notice::DialRequested { .. }
        | Notice::Trackers(_) => return None,
    })
}

/// What was renamed, in a word.
pub(super) fn renamed_kind(kind: RenamedKind) -> &'static str {
    match kind {
        RenamedKind::Account => "account",
        RenamedKind::Group => "group",
        RenamedKind::File => "file",
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::{super::samples, *};

    fn answer(reply: Reply) -> String {
        let outcome = Ok(Outcome { reply, stale: false });
        Json.answer(&Asked { name: "command", command: None }, &outcome)
    }

    #[test]
    fn answers_have_the_members_of_the_contract() {
        let text: String = samples::replies().into_iter().map(answer).collect();
        assert_snapshot!(text, @r#"
        {"command":"command","ok":true}
        {"command":"command","ok":true,"user":"ann","resumed":1,"shared":2,"suspended":[{"group":"music","name":"old.bin","path":"/home/ann/old.bin","reason":"the file has changed; upload it again"}]}
        {"command":"command","ok":true,"sessions":[{"session":"abababababab","device":"ed25519:vov2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xk5lvovq","since":"2023-11-14T22:13:20.123Z","online":true,"address":"10.0.0.2:6000","current":true},{"session":"cdcdcdcdcdcd","device":"ed25519:zxg43tonzxg43tonzxg43tonzxg43tonzxg43tonzxg43tonzxgq","since":"2023-11-14T22:13:20.123Z","online":false,"address":null,"current":false}]}
        {"command":"command","ok":true,"outcome":"passed","owner":"bob"}
        {"command":"command","ok":true,"requests":[{"user":"bob","since":"2023-11-14T22:13:20.123Z"}]}
        {"command":"command","ok":true,"groups":[{"name":"music","owner":"ann","members":12,"standing":"owner"},{"name":"films","owner":"bob","members":1,"standing":"none"}]}
        {"command":"command","ok":true,"members":[{"user":"ann","role":"owner","online":true}]}
        {"command":"command","ok":true,"group":"music","name":"a song.mp3","size":1500000,"pieces":3,"sha1":"abababababababababababababababababababab"}
        {"command":"command","ok":true,"files":[{"name":"a song.mp3","size":1500000,"pieces":3,"sha1":"abababababababababababababababababababab","seeders":2,"leechers":1,"shared_by":["ann","bob"]}]}
        {"command":"command","ok":true,"name":"a song.mp3","size":1500000,"piece_size":524288,"pieces":3,"sha1":"abababababababababababababababababababab","blake3":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","hash_string":"a9993e364706816aba3ea9993e364706816aba3ea9993e364706816aba3e","holders":[{"user":"bob","address":"10.0.0.2:6000","percent":100}]}
        {"command":"command","ok":true,"group":"music","name":"a song.mp3","path":"/tmp/a song.mp3","waiting":true}
        {"command":"command","ok":true,"downloads":[{"state":"D","group":"music","name":"a song.mp3","path":"/home/ann/a song.mp3","size":10485760,"have":4500000,"percent":42,"rate":3145728,"peers":4,"eta":75,"error":null},{"state":"C","group":"music","name":"完了.bin","path":"/home/ann/完了.bin","size":10485760,"have":10485760,"percent":100,"rate":3145728,"peers":4,"eta":75,"error":null},{"state":"P","group":"music","name":"txt.\u202egpj","path":"/home/ann/txt.\u202egpj","size":10485760,"have":0,"percent":0,"rate":3145728,"peers":4,"eta":75,"error":{"code":"no_space","message":"The disk is full. Make room, then resume_download."}},{"state":"F","group":"music","name":"f","path":"/home/ann/f","size":10485760,"have":1,"percent":0,"rate":3145728,"peers":4,"eta":75,"error":{"code":"integrity","message":"No peer has a valid piece 3."}}]}
        {"command":"command","ok":true,"peers":[{"user":"bob","address":"10.0.0.2:6000","percent":43,"down_rate":2097152,"up_rate":1024,"state":"dialled back"}]}
        {"command":"command","ok":true,"shares":[{"group":"music","name":"a song.mp3","path":"/home/ann/a song.mp3","size":1073741824,"uploaded":3221225472},{"group":"music","name":"old.bin","path":"/home/ann/old.bin","size":1073741824,"uploaded":3221225472,"suspended":"the file has changed"}]}
        {"command":"command","ok":true,"pieces":3,"damaged":[1]}
        {"command":"command","ok":true,"user":"ann","address":"127.0.0.1:6000","device":"ed25519:a4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dq"}
        {"command":"command","ok":true,"trackers":[{"no":1,"address":"10.0.0.1:5001","reachable":true,"current":true,"lag":0},{"no":2,"address":"10.0.0.1:5002","reachable":true,"current":false,"lag":1},{"no":3,"address":"10.0.0.1:5003","reachable":false,"current":false,"lag":null,"refused":{"code":"protocol","message":"The tracker shows another key."}}]}
        "#);
    }

    #[test]
    fn failures_and_stale_answers_are_marked() {
        let asked = Asked { name: "login", command: None };
        let failed = Json.answer(&asked, &Err(samples::failure()));
        let stale = Json.answer(&asked, &Ok(Outcome { reply: Reply::Groups(Vec::new()), stale: true }));
        assert_snapshot!(failed + &stale, @r#"
        {"command":"login","ok":false,"error":{"code":"bad_credentials","message":"The user name or the password is wrong. Check both and try again."}}
        {"command":"login","ok":true,"groups":[],"stale":true}
        "#);
    }

    #[test]
    fn events_name_themselves() {
        let text: String = samples::events().iter().map(|event| Json.event(event)).collect();
        assert_snapshot!(text, @r#"
        {"event":"join_requested","group":"music","user":"bob"}
        {"event":"request_accepted","group":"music"}
        {"event":"member_removed","group":"music"}
        {"event":"renamed","kind":"account","from":"ann","to":"ann~2"}
        {"event":"session_ended"}
        {"event":"download_ended","state":"C","group":"music","name":"完了.bin","path":"/home/ann/完了.bin","size":10485760,"have":10485760,"percent":100,"rate":3145728,"peers":4,"eta":75,"error":null}
        {"event":"download_ended","state":"F","group":"music","name":"f","path":"/home/ann/f","size":10485760,"have":1,"percent":0,"rate":3145728,"peers":4,"eta":75,"error":{"code":"integrity","message":"No peer has a valid piece 3."}}
        {"event":"share_suspended","group":"music","name":"old.bin","path":"/home/ann/old.bin","reason":"the file has changed; upload it again"}
        {"event":"tracker_lost","address":"10.0.0.1:5000"}
        {"event":"no_tracker"}
        {"event":"cannot_accept","error":{"code":"io","message":"Too many open files (os error 24)."}}
        {"event":"hashing","path":"/home/ann/a song.mp3","done":1,"total":4}
        "#);
    }

    #[test]
    fn nothing_reaches_a_terminal_unescaped() {
        let event = Event::TrackerLost { address: "a\u{202e}\u{9b}\u{1b}[2J".to_owned() };
        assert_snapshot!(Json.event(&event), @r#"{"event":"tracker_lost","address":"a\u202e\u009b\u001b[2J"}"#);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_shown_as_its_end() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(u64::MAX), Timestamp::MAX.to_string());
    }
}
