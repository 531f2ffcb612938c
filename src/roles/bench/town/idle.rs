//! Clients that are linked and do nothing: what a tracker keeps for each.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{super::BenchError, cluster::Cluster, line::Line};

/// Handshakes under way at once.
const DIALS: usize = 16;
/// Signs of life of an idle client; a tracker gives up one that says nothing for 10 s.
const PING: Duration = Duration::from_secs(4);
/// Devices of idle clients begin here.
const FIRST_DEVICE: u64 = 1 << 32;

/// What idle connections are measured to cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Idle {
    /// Connections opened in a second: handshake, hello, session.
    pub(in super::super) opened_per_s: f64,
    /// Resident bytes of tracker 1 for each.
    pub(in super::super) bytes: f64,
}

/// Opens `count` encrypted connections to tracker 1, each with a session, and weighs them when all are idle.
pub(in super::super) async fn run(cluster: &Arc<Cluster>, count: u32) -> Result<Idle, BenchError> {
    let (before, begun) = (cluster.settled(1).await, Instant::now());
    let (dials, mut opening) = (Arc::new(Semaphore::new(DIALS)), JoinSet::new());
    for number in 0..u64::from(count) {
        let (cluster, dials) = (Arc::clone(cluster), Arc::clone(&dials));
        opening.spawn(async move {
            let _turn = dials.acquire().await.expect("the semaphore is never closed");
            cluster.line(1, 0, FIRST_DEVICE + number).await
        });
    }
    let mut idle = JoinSet::new();
    while let Some(opened) = opening.join_next().await {
        let line = opened.map_err(|error| BenchError::io("open a connection")(std::io::Error::other(error)))??;
        idle.spawn(stay(line));
    }
    let opened_s = begun.elapsed().as_secs_f64();
    let after = cluster.settled(1).await;
    if let Some(lost) = idle.try_join_next() {
        let why = lost.map_or_else(|error| error.to_string(), |error| error.to_string());
        return Err(BenchError::io("keep a connection open")(std::io::Error::other(why)));
    }
    let bytes = after.saturating_sub(before);
    let count = f64::from(count.max(1));
    Ok(Idle { opened_per_s: count / opened_s, bytes: super::super::report::float(bytes) / count })
}

/// Gives signs of life until the line is lost; then why.
async fn stay(mut line: Line) -> BenchError {
    loop {
        sleep(PING).await;
        if let Err(error) = line.ping().await {
            return error;
        }
    }
}
