//! Member tickets of this device, kept while they are fresh.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::TrackerLink;
use crate::protocol::{
    client::{Answer, Request},
    error::{ErrorCode, Failure},
    ids::GroupId,
    ticket::{CLOCK_TOLERANCE, Signed, TICKET_LIFE},
};

/// From this age on a fresh ticket is fetched.
const FRESH: Duration = Duration::from_secs(TICKET_LIFE.as_secs() / 2);
/// From this age on a ticket is no longer shown: the clocks of those who check it are known only so well.
const USABLE: Duration = Duration::from_secs(TICKET_LIFE.as_secs() - CLOCK_TOLERANCE.as_secs());

/// One ticket a group. A group's lock is held while its ticket is fetched, so that many askers cause one request.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<BTreeMap<GroupId, Arc<tokio::sync::Mutex<Option<Kept>>>>>);

#[derive(Debug)]
struct Kept {
    signed: Signed,
    fetched: Instant,
}

impl Tickets {
    pub(super) async fn ticket(&self, link: &TrackerLink, group: GroupId) -> Result<Signed, Failure> {
        let slot = Arc::clone(self.slots().entry(group).or_default());
        let mut slot = slot.lock().await;
        let linked = link.shared.current.borrow().is_some();
        if let Some(kept) = &*slot
            && kept.fetched.elapsed() < if linked { FRESH } else { USABLE }
        {
            return Ok(kept.signed.clone());
        }
        let fetched = Instant::now();
        match fetch(link, group).await {
            Ok(signed) => Ok(slot.insert(Kept { signed, fetched }).signed.clone()),
            Err(failure) if failure.code == ErrorCode::NoTracker => match &*slot {
                Some(kept) if kept.fetched.elapsed() < USABLE => Ok(kept.signed.clone()),
                _ => Err(failure),
            },
            Err(failure) => {
                *slot = None;
                Err(failure)
            }
        }
    }

    pub(super) fn forget(&self, group: GroupId) {
        self.slots().remove(&group);
    }

    pub(super) fn forget_all(&self) {
        self.slots().clear();
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, BTreeMap<GroupId, Arc<tokio::sync::Mutex<Option<Kept>>>>> {
        self.0.lock().expect("no holder of the tickets panics")
    }
}

async fn fetch(link: &TrackerLink, group: GroupId) -> Result<Signed, Failure> {
    match link.request(Request::GetTicket { group }).await?.answer {
        Answer::Ticket(signed) => Ok(signed),
        other => Err(super::unexpected(&other)),
    }
}
