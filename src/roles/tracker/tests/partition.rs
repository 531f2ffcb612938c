//! Trackers lost, cut off, restarted: what was acknowledged stays, and all agree again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    client::{group, password, user},
    cluster::Cluster,
};
use crate::protocol::{
    client::{Answer, Notice, RenamedKind, Request},
    error::ErrorCode,
};

#[tokio::test(start_paused = true)]
async fn acknowledged_means_at_both() {
    let mut cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    ann.create_group("films").await;
    // No time passes between the answer and the loss.
    cluster.stop(1).await;
    assert!(ann.dial(&cluster.info, 2).await.unwrap().is_ok());
    assert_eq!(ann.find_group("films").await.owner, user("ann"));
    assert!(!ann.stale);
}

#[tokio::test(start_paused = true)]
async fn trackers_killed_in_turn_lose_nothing() {
    let mut cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    cluster.stop(1).await;
    ann.dial(&cluster.info, 2).await;
    ann.create_group("one").await;
    cluster.start(1).await;
    cluster.settle().await;
    cluster.stop(2).await;
    ann.dial(&cluster.info, 1).await;
    ann.find_group("one").await;
    ann.create_group("two").await;
    cluster.start(2).await;
    cluster.settle().await;
    cluster.stop(1).await;
    ann.dial(&cluster.info, 2).await;
    ann.find_group("two").await;
}

#[tokio::test(start_paused = true)]
async fn writes_on_both_sides_of_a_partition_converge() {
    let cluster = Cluster::new(2).await;
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    cluster.network.cut(1, 2);
    sleep(Duration::from_secs(1)).await;
    ann.register("ann").await;
    ann.create_group("films").await;
    sleep(Duration::from_secs(1)).await;
    bob.register("ann").await;
    bob.create_group("films").await;
    cluster.network.heal(1, 2);
    cluster.settle().await;
    let renamed = bob.notice(|notice| match notice {
        Notice::Renamed { kind: RenamedKind::Account, to, .. } => Some(to.clone()),
        _ => None,
    });
    assert_eq!(renamed.await, "ann~2");
    assert_eq!(ann.find_group("films").await.owner, user("ann"));
    assert_eq!(ann.find_group("films~2").await.owner, user("ann~2"));
    assert_eq!(bob.find_group("films~2").await.owner, user("ann~2"));
    bob.dial(&cluster.info, 1).await.unwrap().unwrap();
    let told = bob.notice(|notice| match notice {
        Notice::Renamed { kind: RenamedKind::Group, from, to } => Some((from.clone(), to.clone())),
        _ => None,
    });
    assert_eq!(told.await, ("films".to_owned(), "films~2".to_owned()), "told again at a hello");
}

#[tokio::test(start_paused = true)]
async fn the_one_who_lost_the_name_logs_in_under_either() {
    let cluster = Cluster::new(2).await;
    let (mut one, mut two) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    cluster.network.cut(1, 2);
    sleep(Duration::from_secs(1)).await;
    one.done(Request::CreateUser { user: user("ann"), password: password("first") }).await;
    sleep(Duration::from_secs(1)).await;
    two.done(Request::CreateUser { user: user("ann"), password: password("second") }).await;
    cluster.network.heal(1, 2);
    cluster.settle().await;
    assert_eq!(two.log_in("ann", "second").await.unwrap().name, user("ann~2"));
    assert_eq!(two.log_in("ann~2", "second").await.unwrap().name, user("ann~2"));
    assert_eq!(two.log_in("ann", "first").await.unwrap().name, user("ann"));
    assert!(two.log_in("ann~2", "first").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_retry_at_a_tracker_that_is_cut_off_makes_one_record() {
    let cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    cluster.settle().await;
    cluster.network.cut(1, 2);
    sleep(Duration::from_secs(1)).await;
    let (nonce, request) = (ann.nonce(), Request::CreateGroup { group: group("films") });
    let seen = ann.seen.clone();
    assert_eq!(ann.repeat(nonce, request.clone()).await, Ok(Answer::Done));
    // The answer is lost, so what it showed is not known.
    ann.seen = seen;
    ann.dial(&cluster.info, 2).await;
    assert_eq!(ann.repeat(nonce, request.clone()).await, Ok(Answer::Done));
    cluster.network.heal(1, 2);
    cluster.settle().await;
    let Ok(Answer::Groups { groups, .. }) = ann.ask(Request::ListGroups { skip: 0 }).await else { panic!("no groups") };
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(ann.repeat(nonce, request).await, Ok(Answer::Done));
}

#[tokio::test(start_paused = true)]
async fn a_read_at_a_tracker_that_cannot_catch_up_is_stale() {
    let cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    cluster.settle().await;
    cluster.network.cut(1, 2);
    sleep(Duration::from_secs(1)).await;
    ann.create_group("films").await;
    ann.dial(&cluster.info, 2).await;
    let Ok(Answer::Groups { groups, .. }) = ann.ask(Request::ListGroups { skip: 0 }).await else { panic!("no groups") };
    assert!(groups.is_empty() && ann.stale);
    let films = || group("films");
    for request in [
        Request::LeaveGroup { group: films() },
        Request::FindGroup { group: films() },
        Request::ListMembers { group: films(), skip: 0 },
    ] {
        assert_eq!(ann.refused(request).await, ErrorCode::Stale);
    }
    cluster.network.heal(1, 2);
    sleep(Duration::from_secs(6)).await;
    ann.dial(&cluster.info, 2).await;
    ann.find_group("films").await;
    assert!(!ann.stale);
}

#[tokio::test(start_paused = true)]
async fn a_tracker_that_has_yet_to_hear_of_an_account_does_not_call_its_password_wrong() {
    let cluster = Cluster::new(2).await;
    cluster.settle().await;
    cluster.network.cut(1, 2);
    sleep(Duration::from_secs(1)).await;
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    ann.register("ann").await;
    ann.dial(&cluster.info, 2).await;
    assert_eq!(ann.log_in("ann", "secret").await.unwrap_err().code, ErrorCode::Stale);
    assert_eq!(bob.log_in("ann", "secret").await.unwrap_err().code, ErrorCode::BadCredentials);
    cluster.network.heal(1, 2);
    cluster.settle().await;
    ann.log_in("ann", "secret").await.unwrap();
    assert_eq!(ann.log_in("ann", "wrong").await.unwrap_err().code, ErrorCode::BadCredentials);
}

#[tokio::test(start_paused = true)]
async fn a_tracker_with_another_key_is_refused() {
    let mut cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    cluster.stop(2).await;
    cluster.lose_disk(2);
    cluster.start(2).await;
    sleep(Duration::from_secs(20)).await;
    let Ok(Answer::Trackers(trackers)) = ({
        ann.dial(&cluster.info, 1).await;
        ann.ask(Request::ListTrackers).await
    }) else {
        panic!("no trackers")
    };
    assert!(!trackers[1].reachable, "{trackers:?}");
}

#[tokio::test(start_paused = true)]
async fn three_trackers_converge_though_two_never_meet() {
    let cluster = Cluster::new(3).await;
    let mut ann = cluster.client(1, 1).await;
    cluster.network.cut(1, 3);
    sleep(Duration::from_secs(1)).await;
    ann.register("ann").await;
    sleep(Duration::from_secs(2)).await;
    let mut bob = cluster.client(2, 3).await;
    assert_eq!(bob.log_in("ann", "secret").await.unwrap().name, user("ann"));
}

#[tokio::test(start_paused = true)]
async fn starting_is_refused_with_a_reason() {
    let mut cluster = Cluster::new(1).await;
    let message = |result: Result<super::super::Tracker, crate::protocol::error::Failure>| match result {
        Err(failure) => failure.message,
        Ok(_) => panic!("it started"),
    };
    let text = message(cluster.try_start(1).await);
    assert!(text.contains("in use"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_was_set_back_takes_no_counter_twice() {
    let mut cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    cluster.stop(1).await;
    let backup = cluster.back_up(1);
    cluster.start(1).await;
    cluster.settle().await;
    ann.dial(&cluster.info, 1).await;
    ann.create_group("one").await;
    cluster.stop(1).await;
    cluster.restore(1, backup);
    cluster.start(1).await;
    cluster.settle().await;
    ann.dial(&cluster.info, 1).await;
    ann.create_group("two").await;
    ann.dial(&cluster.info, 2).await;
    ann.find_group("one").await;
    ann.find_group("two").await;
    cluster.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_partition_holds_a_write_up_for_a_second_and_heals() {
    let cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    cluster.network.silence(1, 2);
    let start = Instant::now();
    ann.create_group("one").await;
    assert!((800..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let start = Instant::now();
    ann.create_group("two").await;
    assert!(start.elapsed() < Duration::from_millis(100), "it is out of touch by now");
    sleep(Duration::from_secs(20)).await;
    cluster.network.heal(1, 2);
    sleep(Duration::from_secs(10)).await;
    let mut bob = cluster.client(2, 2).await;
    bob.log_in("ann", "secret").await.unwrap();
    bob.find_group("two").await;
}

#[tokio::test(start_paused = true)]
async fn writes_go_on_while_a_silent_link_is_given_up_and_made_anew() {
    let cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    cluster.network.silence(1, 2);
    cluster.network.heal(1, 2);
    ann.create_group("one").await;
    cluster.settle().await;
    let mut bob = cluster.client(2, 2).await;
    bob.log_in("ann", "secret").await.unwrap();
    bob.find_group("one").await;
}
