//! `trackers`.

use super::{Reply, TrackerRow};
use crate::{
    protocol::{
        client::{Answer, Request, TrackerStatus},
        error::Failure,
        tracker_info::TrackerAddress,
    },
    roles::client::{Core, Outcome, tracker_link::unexpected},
};

/// As the tracker in use sees them; without one, or without a login, as far as this client knows by itself.
pub(super) async fn trackers(core: &Core) -> Result<Outcome, Failure> {
    let seen = see_trackers(core).await;
    let current = core.tracker.current().borrow().clone();
    let row = |tracker: &TrackerAddress| {
        let is_current = current.as_ref() == Some(&tracker.address);
        let status = seen.iter().find(|status| status.tracker == tracker.no).cloned();
        let unknown = TrackerStatus { tracker: tracker.no, reachable: is_current, lag: None, lag_ms: 0 };
        TrackerRow { address: tracker.address.clone(), current: is_current, status: status.unwrap_or(unknown) }
    };
    Ok(Outcome::fresh(Reply::Trackers(core.trackers.iter().map(row).collect())))
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
