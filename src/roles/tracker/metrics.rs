//! What Prometheus reads: a page of text over the smallest HTTP that it speaks.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout},
};

use super::node::Node;
use crate::{
    roles::port::{self, Doorkeeper, Place},
    transport::{Listener, Stream},
};

/// Readers at the same time.
const MAX_READERS: usize = 8;
/// Bytes of a request's head.
const MAX_HEAD: usize = 8 * 1024;
/// Longest time for one reader.
const DEADLINE: Duration = Duration::from_secs(5);
/// What is counted as it happens; everything else is read off the state.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Requests answered.
    pub(super) requests: AtomicU64,
    /// Of these, refused.
    pub(super) refusals: AtomicU64,
    /// Transactions of the log: one fsync each.
    pub(super) commits: AtomicU64,
}

impl Counters {
    /// Counts one more.
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}

/// Answers readers until the role stops.
pub(super) async fn run(node: Arc<Node>, listener: Box<dyn Listener>) {
    let serve = |stream, _, place: Place| {
        let node = Arc::clone(&node);
        // A reader that is too slow gets nothing.
        async move { drop(place.end().run_until_cancelled(timeout(DEADLINE, answer(&node, stream))).await) }
    };
    let keeper = Doorkeeper::new(port::for_strangers(MAX_READERS, MAX_READERS));
    port::accept(&node.env, listener, keeper, None, |_| (), serve).await;
}

async fn answer(node: &Node, mut stream: Box<dyn Stream>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = match head.split(|byte| *byte == b'\r').next() {
        Some(line) if line.starts_with(b"GET /metrics ") => ("200 OK", page(node)),
        Some(line) if line.starts_with(b"GET ") => ("404 Not Found", "The metrics are at /metrics.\n".to_owned()),
        _ => ("405 Method Not Allowed", "Only GET is understood.\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn page(node: &Node) -> String {
    let durable = node.durable().borrow().clone();
    let (clients, devices, status) = {
        let state = node.state();
        (state.clients.len(), state.presence.len(), state.trackers.status(&durable, Instant::now()))
    };
    let changes: u64 = durable.iter().map(|dot| dot.counter).sum();
    let counters = &node.counters;
    let mut page = String::new();
    let simple = [
        ("p2p_tracker_clients", "gauge", "Clients linked here.", clients as u64),
        ("p2p_tracker_devices_online", "gauge", "Devices logged in at any tracker.", devices as u64),
        ("p2p_tracker_changes", "counter", "Changes in the log.", changes),
        (
            "p2p_tracker_commits_total",
            "counter",
            "Transactions of the log, one fsync each.",
            counters.commits.load(Relaxed),
        ),
        ("p2p_tracker_requests_total", "counter", "Requests answered.", counters.requests.load(Relaxed)),
        ("p2p_tracker_refusals_total", "counter", "Requests refused.", counters.refusals.load(Relaxed)),
    ];
    for (name, kind, help, value) in simple {
        put(&mut page, name, kind, help, &[(String::new(), value.to_string())]);
    }
    let others: Vec<_> = status.iter().filter(|other| other.tracker != node.no).collect();
    let label = |no| format!("{{tracker=\"{no}\"}}");
    let reachable: Vec<_> =
        others.iter().map(|other| (label(other.tracker), u8::from(other.reachable).to_string())).collect();
    put(&mut page, "p2p_tracker_linked", "gauge", "Whether another tracker is linked.", &reachable);
    let lag: Vec<_> = others.iter().filter_map(|other| Some((label(other.tracker), other.lag?.to_string()))).collect();
    put(&mut page, "p2p_tracker_lag_changes", "gauge", "Changes another tracker has not confirmed.", &lag);
    let waited = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let behind: Vec<_> = others.iter().map(|other| (label(other.tracker), waited(other.lag_ms))).collect();
    put(&mut page, "p2p_tracker_lag_seconds", "gauge", "How long another tracker has been behind.", &behind);
    let waiting: Vec<_> =
        node.unforgettable().into_iter().map(|(no, changes)| (label(no), changes.to_string())).collect();
    let help = "Changes that cannot be forgotten before another tracker has confirmed them.";
    put(&mut page, "p2p_tracker_unforgettable_changes", "gauge", help, &waiting);
    page
}

fn put(page: &mut String, name: &str, kind: &str, help: &str, values: &[(String, String)]) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(page, "{name}{labels} {value}");
    }
}
