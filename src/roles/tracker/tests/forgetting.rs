//! What is over leaves memory and disk; who missed it is brought up by a snapshot.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    client::{TestClient, group, user},
    cluster::Cluster,
};
use crate::protocol::{
    client::{Answer, Request},
    error::ErrorCode,
};

/// Longer than two trackers take to tell each other what is stable, and to forget it.
const A_WHILE: Duration = Duration::from_secs(30);

/// Five changes a time, of which nothing is left.
async fn come_and_go(ann: &mut TestClient, bob: &mut TestClient, times: usize) {
    for _ in 0..times {
        bob.done(Request::JoinGroup { group: group("films") }).await;
        ann.done(Request::AcceptRequest { group: group("films"), user: user("bob") }).await;
        leave(bob, "films").await;
        bob.create_group("own").await;
        leave(bob, "own").await;
    }
}

async fn leave(who: &mut TestClient, from: &str) {
    assert!(matches!(who.ask(Request::LeaveGroup { group: group(from) }).await, Ok(Answer::Left { .. })));
}

async fn settled(count: u8) -> (Cluster, TestClient, TestClient) {
    let cluster = Cluster::new(count).await;
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    ann.register("ann").await;
    bob.register("bob").await;
    ann.create_group("films").await;
    (cluster, ann, bob)
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_forgotten_and_stays_so() {
    let (mut cluster, mut ann, mut bob) = settled(2).await;
    come_and_go(&mut ann, &mut bob, 10).await;
    sleep(A_WHILE).await;
    assert_eq!(cluster.size(1), (5, 55), "the requests are remembered for their repeats");
    for no in 1..=2 {
        cluster.stop(no).await;
        cluster.start(no).await;
        cluster.settle().await;
        assert_eq!(cluster.size(no), (5, 55));
    }
    sleep(2 * crate::replica::graves::REPEAT_WINDOW).await;
    assert_eq!(cluster.size(1), (5, 5));
    cluster.stop(2).await;
    cluster.start(2).await;
    assert_eq!(cluster.size(2), (5, 5));
    ann.dial(&cluster.info, 1).await;
    bob.dial(&cluster.info, 2).await;
    come_and_go(&mut ann, &mut bob, 1).await;
    cluster.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_what_is_forgotten_is_known_as_one() {
    let (cluster, mut ann, _) = settled(2).await;
    let (nonce, create) = (ann.nonce(), Request::CreateGroup { group: group("own") });
    let created = ann.repeat(nonce, create.clone()).await;
    leave(&mut ann, "own").await;
    sleep(A_WHILE).await;
    assert_eq!(cluster.size(1).0, 5);
    for no in [1, 2] {
        ann.dial(&cluster.info, no).await;
        assert_eq!(ann.repeat(nonce, create.clone()).await, created);
        assert_eq!(ann.refused(Request::FindGroup { group: group("own") }).await, ErrorCode::NoSuchGroup);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_forgotten_that_an_absent_tracker_lacks() {
    let (mut cluster, mut ann, mut bob) = settled(2).await;
    cluster.settle().await;
    sleep(A_WHILE).await;
    cluster.stop(2).await;
    ann.dial(&cluster.info, 1).await;
    bob.dial(&cluster.info, 1).await;
    come_and_go(&mut ann, &mut bob, 2).await;
    sleep(A_WHILE).await;
    assert_eq!(cluster.size(1), (15, 15));
    assert_eq!(cluster.tracker(1).node.unforgettable(), [(crate::protocol::ids::TrackerNo(2), 10)]);
    cluster.start(2).await;
    cluster.settle().await;
    sleep(A_WHILE).await;
    assert_eq!((cluster.size(1).0, cluster.size(2).0), (5, 5));
    assert_eq!(cluster.tracker(1).node.unforgettable(), [(crate::protocol::ids::TrackerNo(2), 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_takes_a_snapshot_and_then_the_tail() {
    let (mut cluster, mut ann, mut bob) = settled(2).await;
    come_and_go(&mut ann, &mut bob, 10).await;
    sleep(A_WHILE).await;
    for no in [1, 2] {
        cluster.stop(no).await;
    }
    cluster.list_one_more();
    for no in [1, 2] {
        cluster.start(no).await;
    }
    cluster.settle().await;
    ann.dial(&cluster.info, 1).await;
    bob.dial(&cluster.info, 2).await;
    bob.done(Request::JoinGroup { group: group("films") }).await;
    cluster.start(3).await;
    cluster.settle().await;
    assert_eq!(cluster.size(3).1, 56, "with the tombstones");
    bob.dial(&cluster.info, 3).await.unwrap().unwrap();
    bob.find_group("films").await;
    bob.create_group("own").await;
    sleep(A_WHILE).await;
    cluster.settle().await;
    assert_eq!((cluster.size(1).0, cluster.size(3).0), (7, 7));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_was_set_back_is_brought_up_by_a_snapshot() {
    let (mut cluster, mut ann, mut bob) = settled(2).await;
    bob.done(Request::JoinGroup { group: group("films") }).await;
    cluster.settle().await;
    cluster.stop(2).await;
    let backup = cluster.back_up(2);
    cluster.start(2).await;
    cluster.settle().await;
    bob.dial(&cluster.info, 2).await;
    leave(&mut bob, "films").await;
    come_and_go(&mut ann, &mut bob, 3).await;
    sleep(A_WHILE).await;
    cluster.stop(2).await;
    cluster.restore(2, backup);
    cluster.start(2).await;
    cluster.settle().await;
    assert_eq!((cluster.size(1).0, cluster.size(2).0), (5, 5));
    ann.dial(&cluster.info, 1).await;
    bob.dial(&cluster.info, 2).await;
    come_and_go(&mut ann, &mut bob, 1).await;
    cluster.settle().await;
}
