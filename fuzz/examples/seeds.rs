//! Writes the corpora that fuzzing begins with: messages and records as the program writes them. Run in `fuzz/`.

use std::{fs, io, path::Path};

use bytes::BytesMut;
use p2p::protocol::{
    bitfield::Bitfield,
    client::{
        Answer, FileInfo, FromTracker, Notice, Password, Presence, Request, Serving, SessionInfo, SwarmPeer, ToTracker,
        TrackerIdentity,
    },
    device::DeviceSecret,
    error::{ErrorCode, Failure},
    frame::put_message,
    hash::{Blake3Hash, PieceHash, Sha1Hash},
    ids::{DeviceKey, FileId, GroupId, ManifestId, MembershipId, RequestId, SessionId, ShareId, TrackerNo, UserId},
    manifest::ManifestHeader,
    name::{FileName, GroupName, UserName},
    peer::{PeerMessage, put_block_header},
    piece::{Block, PieceIndex},
    record::{Change, ChangeBody, Credential, Done, EndReason, Kept, Tombstone, Verdict},
    sync::{Attempts, DevicePresence, SnapshotCursor, SnapshotPage, StableTracker, SyncMessage},
    ticket::{CredentialId, Session, SessionRef, Signed, Ticket},
    version::{Dot, Timestamp, VersionVector},
};
use p2p::store::{
    client::{
        downloads::{DownloadRecord, Progress},
        shares::ShareRecord,
    },
    disk::FileStamp,
};
use serde::Serialize;

const DEVICE: DeviceKey = DeviceKey([1; 32]);
const USER: UserId = UserId([2; 32]);
const GROUP: GroupId = GroupId([3; 32]);
const FILE: FileId = FileId([4; 32]);
const BLOCK: Block = Block { piece: PieceIndex(1), offset: 0, length: 4 };

fn main() -> io::Result<()> {
    each("to_tracker", &to_tracker())?;
    each("from_tracker", &from_tracker())?;
    each("sync_message", &sync_messages())?;
    each("peer_message", &peer_messages())?;
    each("log_record", &changes())?;
    each("version_vector", &[vector()])?;
    each("signed", &[Signed::seal(&ticket(), &DeviceSecret::from_seed([9; 32]))])?;
    put("signed", "ticket", &encode(&ticket()))?;
    put("signed", "session", &encode(&session()))?;
    put("library_record", "share", &encode(&share()))?;
    put("library_record", "download", &encode(&download()))?;
    put("manifest", "whole", &[encode(&header()), page()].concat())?;
    put("block", "short", &block())?;
    put("frame", "messages", &frames())?;
    put("tracker_info", "plain", b"127.0.0.1:5000\n# second\n2 [::1] 5001\ntracker.example,5002\n10.0.0.1\n5003\n")?;
    put(
        "command_line",
        "list",
        "create_user ann 'a b'; login ann \"a b\"\nset_limit up 10MiB;\u{a0}wait\\ \u{200b}".as_bytes(),
    )
}

fn each<T: Serialize>(target: &str, samples: &[T]) -> io::Result<()> {
    samples.iter().enumerate().try_for_each(|(n, sample)| put(target, &format!("{n}"), &encode(sample)))
}

fn put(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = Path::new("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("seed-{name}")), bytes)
}

fn encode(sample: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(sample).expect("samples hold only plain values")
}

fn user() -> UserName {
    UserName::parse("ann").expect("a name")
}

fn group() -> GroupName {
    GroupName::parse("g~2").expect("a name")
}

fn file() -> FileName {
    FileName::parse("a.iso").expect("a name")
}

fn vector() -> VersionVector {
    let mut vector = VersionVector::default();
    vector.insert(Dot { origin: DEVICE, counter: 300 });
    vector.insert(Dot { origin: DeviceKey([7; 32]), counter: 2 });
    vector
}

fn ticket() -> Ticket {
    let membership = MembershipId([5; 32]);
    let session = session_ref();
    let (issued_ms, expires_ms) = (1000, 601_000);
    Ticket { user: USER, name: user(), device: DEVICE, group: GROUP, membership, session, issued_ms, expires_ms }
}

fn session() -> Session {
    let session = session_ref();
    Session { user: USER, name: user(), device: DEVICE, session, issued_ms: 1000, expires_ms: 601_000 }
}

fn session_ref() -> SessionRef {
    let opened_with = CredentialId { at: Timestamp { wall_ms: 900, logical: 1 }, request: None };
    SessionRef { id: SessionId([17; 32]), opened: Dot { origin: DEVICE, counter: 3 }, opened_with }
}

fn pieces() -> Vec<PieceHash> {
    (0..2).map(|index| PieceHash::of(PieceIndex(index), 2, [&b"piece"[..]])).collect()
}

fn header() -> ManifestHeader {
    ManifestHeader::describe(file(), 600_000, Sha1Hash([6; 20]), &pieces()).0
}

fn page() -> Vec<u8> {
    ManifestHeader::describe(file(), 600_000, Sha1Hash([6; 20]), &pieces()).1.concat()
}

fn peer() -> SwarmPeer {
    SwarmPeer { device: DEVICE, user: user(), address: "10.0.0.1:6000".to_owned(), percent: 40 }
}

fn presence() -> Presence {
    let serving = vec![Serving { group: GROUP, file: FILE, percent: 100 }];
    Presence { reset: true, address: "10.0.0.1:6000".to_owned(), serving, ended: vec![FILE] }
}

fn failure() -> Failure {
    Failure::new(ErrorCode::NotAMember, "You are not a member.")
}

fn to_tracker() -> Vec<ToTracker> {
    let password = || Password("secret".to_owned());
    let requests = [
        Request::Login { user: user(), password: password() },
        Request::ChangePassword { old: password(), new: password() },
        Request::ListRequests { group: group(), skip: 500 },
        Request::AcceptRequest { group: group(), user: user() },
        Request::PutPage { manifest: header().id(), page: 0, bytes: page() },
        Request::Share { group: GROUP, manifest: header() },
        Request::CheckMembers {
            group: GROUP,
            memberships: vec![MembershipId([5; 32])],
            sessions: vec![(USER, session_ref())],
        },
        Request::ListSessions,
        Request::CloseAccount { password: password() },
        Request::EndSession { session: SessionId([17; 32]) },
        Request::ListTrackers,
    ];
    let request = |request| ToTracker::Request { seq: 7, nonce: [8; 16], seen: vector(), request };
    let session = Some(Signed::seal(&session(), &DeviceSecret::from_seed([9; 32])));
    let hello = ToTracker::Hello { version: 1, session, seen: vector() };
    requests.map(request).into_iter().chain([hello, ToTracker::Presence(presence()), ToTracker::Ping]).collect()
}

fn from_tracker() -> Vec<FromTracker> {
    let info = FileInfo {
        group: GROUP,
        file: FILE,
        manifest: ManifestId([6; 32]),
        name: file(),
        size: 600_000,
        sha1: Sha1Hash([6; 20]),
        seeders: 1,
        leechers: 2,
        shared_by: vec![user()],
    };
    let answers = [
        Ok(Answer::Files { files: vec![info], more: true }),
        Ok(Answer::Page(page())),
        Ok(Answer::Swarm(vec![peer()])),
        Err(failure()),
    ];
    let answer = |result| FromTracker::Answer { seq: 7, seen: vector(), stale: false, result };
    let identity = TrackerIdentity { tracker: TrackerNo(1), key: DEVICE, clock_offset_ms: -5 };
    let session = Some(Ok(SessionInfo { user: USER, name: user() }));
    let hello =
        FromTracker::Hello { version: 1, tracker: TrackerNo(1), now_ms: 1000, session, trackers: vec![identity] };
    let ended = Notice::MembershipEnded { group: GROUP, user: USER, memberships: vec![MembershipId([5; 32])] };
    let notices = [ended, Notice::DialRequested { group: GROUP, file: FILE, peer: peer() }];
    answers.map(answer).into_iter().chain(notices.map(FromTracker::Notice)).chain([hello]).collect()
}

fn sync_messages() -> Vec<SyncMessage> {
    let said = DevicePresence { device: DEVICE, user: Some(USER), presence: presence() };
    let digest = Blake3Hash([4; 32]);
    vec![
        SyncMessage::Hello { version: 1, tracker: TrackerNo(2), vector: vector(), now_ms: 1000 },
        SyncMessage::Changes(changes()),
        SyncMessage::Confirm(vector()),
        SyncMessage::Digest { vector: vector(), digest, now_ms: 1000 },
        SyncMessage::Page { manifest: header().id(), page: 0, bytes: Some(serde_bytes::ByteBuf::from(page())) },
        SyncMessage::Presence(vec![said]),
        SyncMessage::Attempts(Attempts {
            accounts: vec![(user(), 3)],
            networks: vec![([10, 0, 0, 1].into(), 2), (std::net::Ipv6Addr::LOCALHOST.into(), 1)],
        }),
        SyncMessage::Stable(vec![StableTracker { tracker: DEVICE, confirmed: vector(), folded: vector() }]),
        SyncMessage::SnapshotOffer { folded: vector(), latest: Timestamp { wall_ms: 5, logical: 0 } },
        SyncMessage::GetSnapshot { after: Some(SnapshotCursor::Tombstone(RequestId([8; 32]))) },
        SyncMessage::Snapshot(snapshot_page()),
        SyncMessage::AskToDial { device: DEVICE, group: GROUP, file: FILE, peer: peer() },
    ]
}

fn snapshot_page() -> SnapshotPage {
    let verdict = Some(Verdict { valid: true, effective: true });
    let kept = changes().into_iter().map(|change| Kept { change, verdict }).collect();
    let done = Done::SharedOnce { file: FILE, name: file() };
    SnapshotPage { kept, tombstones: vec![Tombstone { request: RequestId([8; 32]), done }], next: None }
}

/// A history of two trackers: two users, a group, a membership that begins and ends, a share.
fn changes() -> Vec<Change> {
    let (ann, bob) = (UserId([10; 32]), UserId([11; 32]));
    let (team, membership) = (GroupId([12; 32]), MembershipId([13; 32]));
    let credential = || Credential("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".to_owned());
    let rests_on = vec![Dot { origin: DEVICE, counter: 3 }];
    let bodies = [
        ChangeBody::UserCreated { name: user(), credential: credential() },
        ChangeBody::UserCreated { name: user(), credential: credential() },
        ChangeBody::GroupCreated { name: GroupName::parse("g").expect("a name"), owner: ann },
        ChangeBody::MembershipRequested { group: team, user: bob },
        ChangeBody::MembershipAccepted { group: team, membership, by: ann, rests_on: rests_on.clone() },
        ChangeBody::OwnerSet {
            group: team,
            by: ann,
            owner: bob,
            membership,
            past: vector(),
            rests_on: rests_on.clone(),
        },
        ChangeBody::ShareBegun { group: team, user: bob, device: DEVICE, membership, manifest: header() },
        ChangeBody::ShareEnded { shares: vec![ShareId([16; 32])], user: bob },
        ChangeBody::CredentialSet { user: ann, credential: credential(), keeps: Some(SessionId([17; 32])) },
        ChangeBody::UserClosed { user: ann },
        ChangeBody::SessionOpened { user: ann, device: DEVICE, opened_with: session_ref().opened_with },
        ChangeBody::SessionsEnded { user: ann, sessions: vec![(SessionId([17; 32]), session_ref().opened)] },
        ChangeBody::MembershipEnded {
            group: team,
            user: bob,
            by: ann,
            reason: EndReason::Removed,
            past: vector(),
            rests_on,
        },
    ];
    let mut counters = [0u64; 2];
    let dated = |(number, body): (u8, ChangeBody)| {
        let tracker = usize::from(number) % counters.len();
        counters[tracker] += 1;
        Change {
            dot: Dot { origin: DeviceKey([1 + u8::from(tracker == 1); 32]), counter: counters[tracker] },
            at: Timestamp { wall_ms: u64::from(number), logical: 0 },
            taken_by: TrackerNo(if tracker == 1 { 2 } else { 1 }),
            request: RequestId([10 + number; 32]),
            body,
        }
    };
    (0..).zip(bodies).map(dated).collect()
}

fn peer_messages() -> Vec<PeerMessage> {
    let ticket = || Signed::seal(&ticket(), &DeviceSecret::from_seed([9; 32]));
    vec![
        PeerMessage::Hello { version: 1 },
        PeerMessage::Join { group: GROUP, file: FILE, ticket: ticket(), pieces: Some(Bitfield::full(11)) },
        PeerMessage::Pieces { file: FILE, pieces: Bitfield::full(3) },
        PeerMessage::Leave { file: FILE, reason: Some(failure()) },
        PeerMessage::Have { file: FILE, pieces: vec![PieceIndex(1)] },
        PeerMessage::Request { file: FILE, blocks: vec![BLOCK] },
        PeerMessage::Unchoke { file: FILE, suggested: Some(PieceIndex(2)) },
        PeerMessage::Interested { file: FILE },
    ]
}

fn block() -> Vec<u8> {
    let mut wire = BytesMut::new();
    put_block_header(&FILE, BLOCK, &mut wire);
    wire.extend_from_slice(b"data");
    wire[p2p::protocol::frame::HEADER_SIZE..].to_vec()
}

fn frames() -> Vec<u8> {
    let mut wire = BytesMut::from(&[3][..]);
    put_message(&PeerMessage::<FileId>::Ping, &mut wire);
    put_block_header(&FILE, BLOCK, &mut wire);
    wire.extend_from_slice(b"data");
    put_message(&PeerMessage::<FileId>::Hello { version: 1 }, &mut wire);
    wire.to_vec()
}

fn share() -> ShareRecord {
    ShareRecord {
        user: USER,
        group: GROUP,
        group_name: group(),
        file: FILE,
        name: file(),
        path: "/home/ann/a.iso".into(),
        stamp: stamp(),
        manifest: header(),
        uploaded: 5,
        acknowledged: true,
    }
}

fn download() -> DownloadRecord {
    DownloadRecord {
        user: USER,
        group: GROUP,
        group_name: group(),
        file: FILE,
        name: file(),
        destination: "/home/ann/a.iso".into(),
        partial: "/home/ann/.a.iso.p2p-part".into(),
        replaces: None,
        made: Some(stamp()),
        manifest: header(),
        started_ms: 1000,
        progress: Progress::Paused(Some(failure())),
    }
}

fn stamp() -> FileStamp {
    FileStamp { size: 600_000, modified_ns: 1, inode: 2, device: 3 }
}
