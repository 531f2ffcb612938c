//! What Prometheus reads.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::cluster::Cluster;

async fn get(cluster: &Cluster, path: &str) -> String {
    let mut stream = cluster.network.host(50).connect("10.0.0.1:9000").await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn the_page_counts_clients_changes_and_lag() {
    let cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let page = get(&cluster, "/metrics").await;
    for line in [
        "p2p_tracker_clients 1",
        "p2p_tracker_changes 2",
        "p2p_tracker_requests_total 2",
        "p2p_tracker_linked{tracker=\"2\"} 1",
        "p2p_tracker_lag_changes{tracker=\"2\"} 0",
        "p2p_tracker_lag_seconds{tracker=\"2\"} 0.000",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    assert!(get(&cluster, "/").await.starts_with("HTTP/1.1 404"));
}
