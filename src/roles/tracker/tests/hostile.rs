//! Strangers, rubbish, and clients that break the rules: their link ends, and nothing else.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::{
    client::{TestClient, group, password, user},
    cluster::Cluster,
};
use crate::{
    protocol::{
        client::{Presence, Request, ToTracker, VERSION},
        device::DeviceSecret,
        ids::{DeviceKey, FileId, GroupId, ManifestId, SessionId, TrackerNo},
        limits::MAX_ORIGINS,
        manifest::{ManifestHeader, empty_sha1},
        name::FileName,
        sync::SyncMessage,
        version::{Dot, VersionVector},
    },
    transport::{
        link::dial,
        tls::{Identity, Protocol},
    },
};

/// Whether a client's link ends after it said this.
async fn ends(cluster: &Cluster, device: u8, message: ToTracker) -> bool {
    let mut client = cluster.client(device, 1).await;
    client.say(&message).await;
    client.is_hung_up().await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_the_rules_loses_its_link_only() {
    let cluster = Cluster::new(1).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let hello = ToTracker::Hello { version: VERSION, session: None, seen: VersionVector::default() };
    assert!(ends(&cluster, 2, hello).await);
    let presence = Presence { reset: true, address: "not an address".into(), serving: Vec::new(), ended: Vec::new() };
    assert!(ends(&cluster, 3, ToTracker::Presence(presence)).await);
    let mut seen = VersionVector::default();
    for n in 0..=u16::try_from(MAX_ORIGINS).unwrap() {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_le_bytes());
        seen.insert(Dot { origin: DeviceKey(key), counter: 1 });
    }
    let request = ToTracker::Request { seq: 1, nonce: [0; 16], seen, request: Request::ListTrackers };
    assert!(ends(&cluster, 4, request).await);
    assert!(ann.ask(Request::ListGroups { skip: 0 }).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_falls_silent_is_no_longer_online() {
    let cluster = Cluster::new(1).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    assert_eq!(cluster.online(1), 1);
    cluster.network.silence(1, 101);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(cluster.online(1), 0);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_outlives_its_link_leaves_nobody_online() {
    let cluster = Cluster::new(1).await;
    cluster.client(1, 1).await.register("ann").await;
    sleep(Duration::from_secs(1)).await;
    let mut ann = cluster.client(1, 1).await;
    // The login waits for what this tracker will never hear of, and the client does not wait for the login.
    ann.seen.insert(Dot { origin: DeviceKey([99; 32]), counter: 1 });
    let nonce = ann.nonce();
    ann.send(nonce, Request::Login { user: user("ann"), password: password("secret") }).await;
    sleep(Duration::from_secs(1)).await;
    ann.hang_up();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.online(1), 0);
}

#[tokio::test(start_paused = true)]
async fn rubbish_before_the_handshake_is_dropped() {
    let cluster = Cluster::new(1).await;
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0x16, 3, 1, 255, 255], &[0; 1000], &[]] {
        let mut stream = cluster.network.host(60).connect("10.0.0.1:5000").await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{bytes:?}");
    }
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_does_not_synchronize() {
    let cluster = Cluster::new(2).await;
    let stranger = Identity::new(&DeviceSecret::from_seed([77; 32]));
    let host = cluster.network.host(60);
    let link = dial(&*host, &stranger, "10.0.0.1:5000", Protocol::Sync, None).await.unwrap();
    let (mut reader, mut writer) = link.split();
    let vector = VersionVector::default();
    let _ = writer.send(&SyncMessage::Hello { version: 1, tracker: TrackerNo(2), vector, now_ms: 0 }).await;
    assert!(!matches!(reader.message::<SyncMessage>().await, Ok(Some(_))), "it is told nothing");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_holds_nobody_up() {
    let cluster = Cluster::new(1).await;
    let (mut ann, mut deaf): (TestClient, TestClient) = (cluster.client(1, 1).await, cluster.client(2, 1).await);
    ann.register("ann").await;
    deaf.register("deaf").await;
    for _ in 0..60 {
        let nonce = deaf.nonce();
        deaf.send(nonce, Request::ListGroups { skip: 0 }).await;
    }
    assert!(ann.ask(Request::ListGroups { skip: 0 }).await.is_ok());
}

/// How many requests there are.
const KINDS: usize = 30;

/// Numbers them: a new one has to be considered here. None may stop the tracker, change how it is run, or read its log.
fn kind(request: &Request) -> usize {
    match request {
        Request::CreateUser { .. } => 0,
        Request::Login { .. } => 1,
        Request::Logout => 2,
        Request::ListSessions => 3,
        Request::EndSession { .. } => 4,
        Request::CloseAccount { .. } => 5,
        Request::ChangePassword { .. } => 6,
        Request::CreateGroup { .. } => 7,
        Request::JoinGroup { .. } => 8,
        Request::LeaveGroup { .. } => 9,
        Request::ListRequests { .. } => 10,
        Request::AcceptRequest { .. } => 11,
        Request::RejectRequest { .. } => 12,
        Request::RemoveMember { .. } => 13,
        Request::TransferGroup { .. } => 14,
        Request::ListGroups { .. } => 15,
        Request::FindGroup { .. } => 16,
        Request::ListMembers { .. } => 17,
        Request::ListFiles { .. } => 18,
        Request::FindFile { .. } => 19,
        Request::OfferManifest { .. } => 20,
        Request::PutPage { .. } => 21,
        Request::Share { .. } => 22,
        Request::StopShare { .. } => 23,
        Request::GetPage { .. } => 24,
        Request::GetSwarm { .. } => 25,
        Request::GetTicket { .. } => 26,
        Request::CheckMembers { .. } => 27,
        Request::AskToDial { .. } => 28,
        Request::ListTrackers => 29,
    }
}

fn one_of_each() -> Vec<Request> {
    let (name, who, secret) = (|| group("g"), || user("ann"), || password("secret"));
    let (id, file, manifest) = (GroupId([1; 32]), FileId([2; 32]), ManifestId([3; 32]));
    let header = || ManifestHeader::describe(FileName::parse("f").unwrap(), 0, empty_sha1(), &[]).0;
    vec![
        Request::CreateUser { user: who(), password: secret() },
        Request::ListSessions,
        Request::EndSession { session: SessionId([4; 32]) },
        Request::ChangePassword { old: secret(), new: secret() },
        Request::CreateGroup { group: name() },
        Request::JoinGroup { group: name() },
        Request::ListRequests { group: name(), skip: 0 },
        Request::AcceptRequest { group: name(), user: who() },
        Request::RejectRequest { group: name(), user: who() },
        Request::RemoveMember { group: name(), user: who() },
        Request::TransferGroup { group: name(), user: who() },
        Request::ListGroups { skip: 0 },
        Request::FindGroup { group: name() },
        Request::ListMembers { group: name(), skip: 0 },
        Request::ListFiles { group: name(), skip: 0 },
        Request::FindFile { group: name(), file: FileName::parse("f").unwrap() },
        Request::OfferManifest { group: id, manifest: header() },
        Request::PutPage { manifest, page: 0, bytes: Vec::new() },
        Request::Share { group: id, manifest: header() },
        Request::StopShare { file },
        Request::GetPage { group: id, manifest, page: 0 },
        Request::GetSwarm { group: id, file },
        Request::GetTicket { group: id },
        Request::CheckMembers { group: id, memberships: Vec::new(), sessions: Vec::new() },
        Request::AskToDial { group: id, file, device: DeviceKey([5; 32]) },
        Request::ListTrackers,
        Request::LeaveGroup { group: name() },
        Request::Logout,
        Request::Login { user: who(), password: secret() },
        Request::CloseAccount { password: secret() },
    ]
}

#[tokio::test(start_paused = true)]
async fn no_request_stops_or_changes_a_tracker_or_reads_its_log() {
    let cluster = Cluster::new(1).await;
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 1).await);
    ann.register("ann").await;
    bob.register("bob").await;
    let requests = one_of_each();
    let kinds: std::collections::BTreeSet<_> = requests.iter().map(kind).collect();
    assert_eq!(kinds, (0..KINDS).collect(), "one of each");
    for request in requests {
        // Only one's own account may be gone by it; nothing of the others, and nothing of the tracker.
        let answer = ann.ask(request.clone()).await;
        assert!(bob.ask(Request::ListTrackers).await.is_ok(), "{request:?}: {answer:?}");
    }
    bob.create_group("still").await;
}
