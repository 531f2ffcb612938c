//! Files, swarms, presence across trackers.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    client::{TestClient, admit, group},
    cluster::Cluster,
};
use crate::protocol::{
    client::{Answer, FileInfo, Notice, Request, Serving, SwarmPeer},
    error::ErrorCode,
    hash::PieceHash,
    ids::{FileId, GroupId},
    manifest::{ManifestHeader, PAGE_PIECES, empty_sha1},
    name::FileName,
    piece::{PIECE_SIZE, PieceIndex},
    ticket::Ticket,
};

fn manifest(name: &str, pieces: u32) -> (ManifestHeader, Vec<Vec<u8>>) {
    let hashes: Vec<_> =
        (0..pieces).map(|n| PieceHash::of(PieceIndex(n), pieces, [n.to_le_bytes().as_slice()])).collect();
    let size = u64::from(pieces) * u64::from(PIECE_SIZE);
    ManifestHeader::describe(FileName::parse(name).unwrap(), size, empty_sha1(), &hashes)
}

async fn share(client: &mut TestClient, group: GroupId, name: &str, pieces: u32) -> FileId {
    let (header, pages) = manifest(name, pieces);
    let offer = Request::OfferManifest { group, manifest: header.clone() };
    let Ok(Answer::MissingPages(missing)) = client.ask(offer).await else { panic!("no answer to an offer") };
    for page in missing {
        let bytes = pages[page as usize].clone();
        client.done(Request::PutPage { manifest: header.id(), page, bytes }).await;
    }
    match client.ask(Request::Share { group, manifest: header }).await {
        Ok(Answer::Shared { file, .. }) => file,
        other => panic!("{other:?}"),
    }
}

async fn swarm(client: &mut TestClient, group: GroupId, file: FileId) -> Vec<SwarmPeer> {
    match client.ask(Request::GetSwarm { group, file }).await {
        Ok(Answer::Swarm(peers)) => peers,
        other => panic!("{other:?}"),
    }
}

async fn files(client: &mut TestClient, name: &str) -> Vec<FileInfo> {
    match client.ask(Request::ListFiles { group: group(name), skip: 0 }).await {
        Ok(Answer::Files { files, .. }) => files,
        other => panic!("{other:?}"),
    }
}

/// Ann, at tracker 1, owns a group; Bob, at tracker 2, is a member.
async fn two_members(cluster: &Cluster) -> (TestClient, TestClient, GroupId) {
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    ann.register("ann").await;
    bob.register("bob").await;
    let id = ann.create_group("films").await;
    bob.seen.merge(&ann.seen);
    admit(&mut ann, &mut bob, "bob", "films").await;
    (ann, bob, id)
}

#[tokio::test(start_paused = true)]
async fn a_shared_file_is_found_with_its_manifest_at_the_other_tracker() {
    let mut cluster = Cluster::new(2).await;
    let (mut ann, mut bob, id) = two_members(&cluster).await;
    let file = share(&mut ann, id, "film.mkv", PAGE_PIECES + 1).await;
    ann.serve(vec![Serving { group: id, file, percent: 100 }]).await;
    sleep(Duration::from_secs(1)).await;
    bob.seen.merge(&ann.seen);
    let listed = files(&mut bob, "films").await;
    assert_eq!((listed.len(), listed[0].seeders, listed[0].leechers), (1, 1, 0));
    // The first tracker is gone: its manifest pages are at the second.
    cluster.stop(1).await;
    let (header, pages) = manifest("film.mkv", PAGE_PIECES + 1);
    for (page, bytes) in (0..).zip(pages) {
        let got = bob.ask(Request::GetPage { group: id, manifest: header.id(), page }).await;
        assert_eq!(got, Ok(Answer::Page(bytes)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_without_its_pages_is_refused() {
    let cluster = Cluster::new(1).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let id = ann.create_group("films").await;
    let (header, _) = manifest("film.mkv", 3);
    assert_eq!(ann.refused(Request::Share { group: id, manifest: header.clone() }).await, ErrorCode::Stale);
    let put = Request::PutPage { manifest: header.id(), page: 0, bytes: vec![1; 156] };
    assert_eq!(ann.refused(put.clone()).await, ErrorCode::Protocol);
    ann.ask(Request::OfferManifest { group: id, manifest: header }).await.unwrap();
    assert_eq!(ann.refused(put).await, ErrorCode::Protocol);
}

#[tokio::test(start_paused = true)]
async fn pages_that_are_never_shared_go_after_an_hour_and_those_that_are_stay() {
    let cluster = Cluster::new(1).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let group = ann.create_group("films").await;
    share(&mut ann, group, "shared", 3).await;
    let (header, pages) = manifest("unshared", 4);
    ann.ask(Request::OfferManifest { group, manifest: header.clone() }).await.unwrap();
    ann.done(Request::PutPage { manifest: header.id(), page: 0, bytes: pages[0].clone() }).await;
    let here = || cluster.tracker(1).node.store.manifests(None, 10).unwrap();
    assert_eq!(here().len(), 2);
    sleep(Duration::from_mins(30)).await;
    assert_eq!(here().len(), 2, "somebody may be about to share it");
    sleep(Duration::from_mins(31)).await;
    assert_eq!(here(), [manifest("shared", 3).0.id()]);
}

#[tokio::test(start_paused = true)]
async fn swarms_are_known_across_trackers_within_two_seconds_and_forgotten() {
    let cluster = Cluster::new(2).await;
    let (mut ann, mut bob, id) = two_members(&cluster).await;
    let file = share(&mut ann, id, "film.mkv", 3).await;
    bob.serve(vec![Serving { group: id, file, percent: 0 }]).await;
    ann.serve(vec![Serving { group: id, file, percent: 100 }]).await;
    bob.notice(|notice| (*notice == Notice::SwarmChanged { file }).then_some(())).await;
    sleep(Duration::from_secs(1)).await;
    let peers = swarm(&mut bob, id, file).await;
    assert_eq!(peers.len(), 1);
    assert_eq!((peers[0].device, peers[0].percent, peers[0].address.as_str()), (ann.device(), 100, "10.0.0.101:701"));
    ann.hang_up();
    sleep(Duration::from_secs(1)).await;
    assert!(swarm(&mut bob, id, file).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_former_member_leaves_the_swarm_at_once_and_the_others_are_told() {
    let cluster = Cluster::new(2).await;
    let (mut ann, mut bob, id) = two_members(&cluster).await;
    let file = share(&mut ann, id, "film.mkv", 3).await;
    ann.serve(vec![Serving { group: id, file, percent: 100 }]).await;
    bob.serve(vec![Serving { group: id, file, percent: 10 }]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(swarm(&mut ann, id, file).await.len(), 1);
    bob.ask(Request::LeaveGroup { group: group("films") }).await.unwrap();
    ann.notice(|notice| matches!(notice, Notice::MembershipEnded { group, .. } if *group == id).then_some(())).await;
    assert!(swarm(&mut ann, id, file).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wish_to_be_dialled_reaches_the_other_tracker() {
    let cluster = Cluster::new(2).await;
    let (mut ann, mut bob, id) = two_members(&cluster).await;
    let file = share(&mut ann, id, "film.mkv", 3).await;
    ann.serve(vec![Serving { group: id, file, percent: 100 }]).await;
    bob.serve(vec![Serving { group: id, file, percent: 5 }]).await;
    sleep(Duration::from_secs(1)).await;
    bob.done(Request::AskToDial { group: id, file, device: ann.device() }).await;
    let asked = ann.notice(|notice| match notice {
        Notice::DialRequested { peer, .. } => Some((peer.device, peer.percent)),
        _ => None,
    });
    assert_eq!(asked.await, (bob.device(), 5));
}

#[tokio::test(start_paused = true)]
async fn presence_at_a_lost_tracker_falls() {
    let cluster = Cluster::new(2).await;
    let (mut ann, mut bob, id) = two_members(&cluster).await;
    let file = share(&mut ann, id, "film.mkv", 3).await;
    ann.serve(vec![Serving { group: id, file, percent: 100 }]).await;
    sleep(Duration::from_secs(1)).await;
    cluster.network.cut(1, 2);
    sleep(Duration::from_secs(5)).await;
    bob.dial(&cluster.info, 2).await;
    assert_eq!(swarm(&mut bob, id, file).await.len(), 1, "a short loss changes nothing");
    sleep(Duration::from_secs(12)).await;
    bob.dial(&cluster.info, 2).await;
    assert!(swarm(&mut bob, id, file).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn thousands_of_swarms_that_change_at_once_cost_nobody_the_link() {
    let cluster = Cluster::new(1).await;
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 1).await);
    ann.register("ann").await;
    bob.register("bob").await;
    let id = ann.create_group("films").await;
    let files = |percent| {
        let file = |n: u16| {
            let mut file = [0; 32];
            file[..2].copy_from_slice(&n.to_le_bytes());
            Serving { group: id, file: FileId(file), percent }
        };
        (0..3000).map(file).collect::<Vec<_>>()
    };
    for part in files(10).chunks(1000) {
        ann.serve_more(part.to_vec()).await;
    }
    for part in files(100).chunks(1000) {
        bob.serve_more(part.to_vec()).await;
    }
    let mut told = std::collections::BTreeSet::new();
    while told.len() < 3000 {
        let file = ann.notice(|notice| match notice {
            Notice::SwarmChanged { file } => Some(*file),
            _ => None,
        });
        told.insert(file.await);
    }
    assert!(ann.ask(Request::ListGroups { skip: 0 }).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_serves_learns_which_sessions_have_ended() {
    let cluster = Cluster::new(2).await;
    let (mut ann, mut bob, id) = two_members(&cluster).await;
    let ticket = bob.ask(Request::GetTicket { group: id }).await;
    let Ok(Answer::Ticket(ticket)) = ticket else { panic!("{ticket:?}") };
    let ticket: Ticket = ticket.open(bob.tracker_now_ms).unwrap();
    let file = share(&mut ann, id, "film.mkv", 3).await;
    ann.serve(vec![Serving { group: id, file, percent: 100 }]).await;
    let check = |ticket: &Ticket| Request::CheckMembers {
        group: id,
        memberships: vec![ticket.membership],
        sessions: vec![(ticket.user, ticket.session)],
    };
    let nothing = Answer::Ended { memberships: Vec::new(), sessions: Vec::new() };
    assert_eq!(ann.ask(check(&ticket)).await, Ok(nothing));
    bob.done(Request::Logout).await;
    ann.notice(|notice| matches!(notice, Notice::SessionsEnded { user } if *user == ticket.user).then_some(())).await;
    let ended = Answer::Ended { memberships: Vec::new(), sessions: vec![ticket.session.id] };
    assert_eq!(ann.ask(check(&ticket)).await, Ok(ended));
}
