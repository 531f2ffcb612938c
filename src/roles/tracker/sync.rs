//! Links to the other trackers: who is dialled when, and who is let in.
//!
//! A tracker is known by the key that the tracker file pins, or by the first one seen when dialling its address. An incoming
//! link never teaches a key. Both sides dial; of two links that cross, the one that the lower number dialled stays.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::{Instant, sleep};

use super::{node::Node, sync_link};
use crate::{
    mutant::Mutant,
    protocol::{
        ids::{DeviceKey, device_key_text},
        tracker_info::TrackerAddress,
    },
    transport::{
        link::{Link, LinkError, dial},
        tls::Protocol,
    },
};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A link that lasted this long was a good one: the next dial follows at once. Longer than a dial that fails takes.
const STABLE: Duration = Duration::from_secs(12);

/// Keeps a listed tracker linked until the role stops.
pub(super) async fn keep_linked(node: Arc<Node>, tracker: TrackerAddress) {
    let mut backoff = Backoff { pause: BACKOFF_MIN, rng: node.env.rng("sync backoff", u64::from(tracker.no.0)) };
    let shutdown = node.env.shutdown.clone();
    let keep = async {
        loop {
            until_needed(&node, &tracker).await;
            let dialled = Instant::now();
            reach(&node, &tracker).await;
            if dialled.elapsed() >= STABLE {
                backoff.pause = BACKOFF_MIN;
            }
            sleep(backoff.next()).await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = keep => {}
    }
}

/// Waits while a link is in use. One that the other side dialled may be in use only when its key was known.
async fn until_needed(node: &Node, tracker: &TrackerAddress) {
    let mut progress = node.progress();
    while node.state().trackers.is_linked(tracker.no) {
        if progress.changed().await.is_err() {
            return;
        }
    }
}

/// Dials once and serves the link to its end.
async fn reach(node: &Arc<Node>, tracker: &TrackerAddress) {
    let expected = node.state().trackers.key(tracker.no);
    let link = match dial(&*node.env.transport, &node.identity, &tracker.address, Protocol::Sync, expected).await {
        Ok(link) => link,
        Err(error) => {
            return report(node, tracker, &error);
        }
    };
    if expected.is_some() || learn(node, tracker, link.device()).await {
        sync_link::run(Arc::clone(node), link, tracker.no, node.no).await;
    }
}

fn report(node: &Node, tracker: &TrackerAddress, error: &LinkError) {
    let (no, address) = (tracker.no, &tracker.address);
    if let LinkError::RefusedKey { found, .. } = error
        && node.state().trackers.is_news_of(no, *found)
    {
        let remedy = if tracker.key.is_some() {
            "write its new key into the tracker file".to_owned()
        } else {
            format!("start this tracker once with --readmit {no}={}", device_key_text(found))
        };
        tracing::error!(
            tracker = %no, %address, %error,
            "the tracker's key has changed: another machine answers for it, or somebody is in between. It is refused. If its \
             disk was lost and it was set up anew, {remedy}"
        );
    } else {
        tracing::debug!(tracker = %no, %address, %error, "cannot reach the tracker");
    }
}

/// Remembers the first key seen at an address; false when it cannot be this tracker's.
async fn learn(node: &Arc<Node>, tracker: &TrackerAddress, key: DeviceKey) -> bool {
    if key == node.key() || node.state().trackers.with_key(&key).is_some() {
        tracing::error!(tracker = %tracker.no, address = %tracker.address, "the address leads to another tracker of the file");
        return false;
    }
    let (store, address) = (Arc::clone(&node.store), tracker.address.clone());
    let remembered = node.env.offload(move || store.remember_key(&address, key)).await;
    match remembered {
        Ok(counts) if counts == key => {
            tracing::info!(tracker = %tracker.no, key = %device_key_text(&key), "first contact");
            node.state().trackers.learn_key(tracker.no, key);
            node.announce_trackers();
            true
        }
        Ok(_) => false,
        Err(error) => {
            node.fail(&format!("a tracker's key could not be written: {error}"));
            false
        }
    }
}

/// Serves a link that another tracker dialled, when its key is known.
pub(super) async fn accepted(node: Arc<Node>, link: Link, from: SocketAddr) {
    let known = node.state().trackers.with_key(&link.device());
    if let Some(no) = known {
        sync_link::run(node, link, no, no).await;
    } else if Mutant::AdmitAnyTracker.is_on() {
        sync_link::run(Arc::clone(&node), link, crate::protocol::ids::TrackerNo(node.no.0 % 2 + 1), node.no).await;
    } else if node.state().trackers.all_known() {
        if !node.state().stranger_warning.is_due(Instant::now()) {
            return;
        }
        tracing::warn!(%from, key = %device_key_text(&link.device()), "refused to synchronize with a key of no listed tracker");
    } else {
        tracing::debug!(%from, "not yet: a tracker's key is learned when it is dialled");
    }
}

/// Pauses that double, with jitter.
struct Backoff {
    pause: Duration,
    rng: ChaCha20Rng,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(BACKOFF_MAX);
        let jitter = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        pause.mul_f64(0.5 + jitter / 2.0)
    }
}
