//! One user who asks without end: the others do not notice.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{client::TestClient, cluster::Cluster};
use crate::protocol::client::Request;

/// Requests a second that a user may make, and those that may be saved up.
const RATE: u32 = 1000;
const SAVED_UP: u32 = 2000;

/// Asks one thing after the other for some time; how many answers came.
async fn asks(client: &mut TestClient, lasts: Duration) -> u32 {
    let (begun, mut answers) = (Instant::now(), 0);
    while begun.elapsed() < lasts {
        assert!(client.ask(Request::ListTrackers).await.is_ok());
        answers += 1;
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn a_flood_over_several_links_of_one_user_is_held_to_its_rate_and_nobody_else_waits() {
    let cluster = Cluster::new(1).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let mut again = TestClient::new(Arc::clone(&cluster.network), 1);
    again.session.clone_from(&ann.session);
    assert!(again.dial(&cluster.info, 1).await.unwrap().is_ok());
    let mut bob = cluster.client(2, 1).await;
    bob.register("bob").await;
    let lasts = Duration::from_secs(2);
    let flood = async { tokio::join!(asks(&mut ann, lasts), asks(&mut again, lasts)) };
    // When what was saved up is spent.
    let others = async {
        sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        for _ in 0..500 {
            assert!(bob.ask(Request::ListTrackers).await.is_ok());
        }
        begun.elapsed()
    };
    let ((one, two), waited) = tokio::join!(flood, others);
    let most = SAVED_UP + 2 * RATE;
    assert!((most * 9 / 10..=most + 10).contains(&(one + two)), "{one} and {two}");
    assert!(one.abs_diff(two) < most / 4, "the links share it: {one} and {two}");
    assert!(waited < Duration::from_millis(50), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_logged_in_is_held_to_a_rate_too() {
    let cluster = Cluster::new(1).await;
    let mut stranger = cluster.client(1, 1).await;
    let (begun, mut answers) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(1) {
        assert!(stranger.ask(Request::ListTrackers).await.is_err());
        answers += 1;
    }
    assert!(answers <= SAVED_UP + RATE + 10, "{answers}");
}
