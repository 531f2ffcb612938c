//! `trackers`.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::{Reply, TrackerRow};
use crate::{
    protocol::{
        client::{Answer, Request, TrackerStatus},
        error::Failure,
        ids::TrackerNo,
        tracker_info::TrackerAddress,
    },
    roles::client::{Core, Outcome, tracker_link::unexpected},
};

/// Longest time for a tracker to answer.
const PROBE_WITHIN: Duration = Duration::from_secs(1);

/// As the tracker in use sees them; without one, or without a login, as far as this client can tell by itself.
pub(super) async fn trackers(core: &Core) -> Result<Outcome, Failure> {
    let seen = see_trackers(core).await;
    let current = core.tracker.current().borrow().clone();
    let is_current = |tracker: &TrackerAddress| current.as_ref() == Some(&tracker.address);
    let unseen = |tracker: &&TrackerAddress| {
        !is_current(tracker) && !seen.iter().any(|it| it.tracker == tracker.no && it.reachable)
    };
    let probed = probe(core, core.trackers.iter().filter(unseen)).await;
    let row = |tracker: &TrackerAddress| {
        let seen = seen.iter().find(|status| status.tracker == tracker.no).cloned();
        let found = probed.get(&tracker.no);
        let reachable = is_current(tracker) || found.is_some_and(Result::is_ok);
        let unseen = TrackerStatus { tracker: tracker.no, reachable, lag: None, lag_ms: 0 };
        TrackerRow {
            address: tracker.address.clone(),
            current: is_current(tracker),
            status: seen.unwrap_or(unseen),
            refused: found.and_then(|found| found.clone().err()),
        }
    };
    Ok(Outcome::fresh(Reply::Trackers(core.trackers.iter().map(row).collect())))
}

/// Those that answer, all tried at the same time, and why one is refused.
async fn probe(
    core: &Core,
    trackers: impl Iterator<Item = &TrackerAddress>,
) -> BTreeMap<TrackerNo, Result<(), Failure>> {
    let (there, mut answers) = mpsc::channel(core.trackers.len());
    for tracker in trackers {
        let (env, link, tracker, there) = (core.env.clone(), core.tracker.clone(), tracker.clone(), there.clone());
        core.env.spawn(async move {
            if let Ok(Some(found)) = timeout(PROBE_WITHIN, link.probe(&env, &tracker.address)).await {
                // A caller that has gone away wants no answer.
                let _ = there.send((tracker.no, found)).await;
            }
        });
    }
    drop(there);
    let mut found = BTreeMap::new();
    while let Some((no, answer)) = answers.recv().await {
        found.insert(no, answer);
    }
    found
}

async fn see_trackers(core: &Core) -> Vec<TrackerStatus> {
    if core.tracker.current().borrow().is_none() {
        return Vec::new();
    }
    match core.tracker.request(Request::ListTrackers).await.map(|answered| answered.answer) {
        Ok(Answer::Trackers(seen)) => seen,
        Ok(other) => {
            unexpected(&other);
            Vec::new()
        }
        Err(failure) => {
            tracing::debug!(%failure, "the trackers are not listed");
            Vec::new()
        }
    }
}
