//! Crowds at the door: who has a session stays, and who has none gives way.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{client::TestClient, cluster::Cluster};
use crate::{protocol::client::Request, transport::Stream};

/// Of one network, those without a session.
const STRANGERS: usize = 256;
/// Links with a session that one user may have.
const LINKS_PER_USER: usize = 64;

async fn is_served(client: &mut TestClient) -> bool {
    client.ask(Request::ListGroups { skip: 0 }).await.is_ok()
}

/// Streams from one host on which nothing is ever said.
async fn silent_streams(cluster: &Cluster, host: u8, count: usize) -> Vec<Box<dyn Stream>> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(cluster.network.host(host).connect("10.0.0.1:5000").await.unwrap());
    }
    streams
}

#[tokio::test(start_paused = true)]
async fn strangers_of_one_address_give_way_to_each_other_and_members_stay() {
    let cluster = Cluster::new(1).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let mut bystander = cluster.client(2, 1).await;
    let mut idle = Vec::new();
    // All of them dial from the address of `ann`: its share of strangers is used up twice.
    for _ in 0..2 * STRANGERS {
        let mut stranger = TestClient::new(std::sync::Arc::clone(&cluster.network), 1);
        stranger.dial(&cluster.info, 1).await;
        idle.push(stranger);
    }
    sleep(Duration::from_secs(1)).await;
    assert!(is_served(&mut ann).await);
    assert!(idle[0].is_hung_up().await, "the first stranger has given way");
    assert!(!idle.last_mut().unwrap().is_hung_up().await, "the last one has not");
    bystander.register("bob").await;
    assert!(is_served(&mut bystander).await);
}

#[tokio::test(start_paused = true)]
async fn silent_streams_by_the_hundred_keep_no_client_and_no_tracker_out() {
    let cluster = Cluster::new(2).await;
    let _silent = silent_streams(&cluster, 60, 600).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    assert!(is_served(&mut ann).await);
    cluster.network.cut(1, 2);
    cluster.network.heal(1, 2);
    cluster.settle().await;
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_too_many_links_of_one_user_ends() {
    let cluster = Cluster::new(1).await;
    let mut first = cluster.client(1, 1).await;
    first.register("ann").await;
    let mut others = Vec::new();
    for _ in 0..LINKS_PER_USER {
        let mut other = TestClient::new(std::sync::Arc::clone(&cluster.network), 1);
        other.session.clone_from(&first.session);
        assert!(other.dial(&cluster.info, 1).await.unwrap().is_ok());
        others.push(other);
    }
    assert!(first.is_hung_up().await);
    assert!(timeout(Duration::from_secs(1), is_served(&mut others[0])).await.unwrap());
}
