//! The tracker in use: one link that fails over by itself, repeats what is unanswered, and lets the client read its own writes.
//!
//! [`TrackerLink`] is the handle; behind it one task (`driver`) wires three machines to the network: [`failover`] (which
//! tracker, and when), [`outbox`] (what is asked and unanswered), [`silence`] (whether the tracker is still there),
//! [`presence`] (what this device serves). [`trust`] knows the trackers' keys and clocks.

mod dial;
mod driver;
pub mod failover;
mod keeper;
mod live;
pub mod outbox;
pub mod presence;
pub mod silence;
#[cfg(test)]
mod tests;
mod tickets;
pub mod trust;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::{
    sync::{Notify, broadcast, mpsc, oneshot, watch},
    time::Instant,
};

use self::{presence::PresenceMap, tickets::Tickets, trust::Trust};
use crate::{
    protocol::{
        client::{Answer, Notice, Request, Serving, SessionInfo},
        device::DeviceSecret,
        error::{ErrorCode, Failure},
        ids::{DeviceKey, FileId, GroupId, Nonce},
        ticket::{Signed, Ticket},
        tracker_info::TrackerAddress,
        version::VersionVector,
    },
    roles::{
        client::command::Event,
        environment::{Environment, WallClock},
    },
    store::client::DataDir,
    transport::{
        link::dial,
        tls::{Identity, Protocol},
    },
};

/// Requests waiting for the link's task; more make the caller wait.
const ASKS: usize = 64;
/// Notices kept for a slow subscriber; one that lags further misses the oldest.
const NOTICES: usize = 256;

/// An answer, and whether the tracker had caught up with all that this client has seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The answer.
    pub answer: Answer,
    /// It may be older than what this client has seen before.
    pub stale: bool,
}

/// The link to whichever tracker is in use. Cheap to clone; all clones share the link.
#[derive(Clone)]
pub struct TrackerLink {
    shared: Arc<Shared>,
}

/// What the link is made from.
pub struct LinkSetup {
    /// The trackers of the cluster; never empty.
    pub trackers: Vec<TrackerAddress>,
    /// This device's key.
    pub identity: Arc<DeviceSecret>,
    /// Where the rest is remembered.
    pub dir: Arc<DataDir>,
    /// Keys of trackers seen in earlier runs, by address.
    pub known: BTreeMap<String, DeviceKey>,
    /// All that earlier runs have seen.
    pub seen: VersionVector,
    /// `IP:PORT` told to others, when it differs from the one bound.
    pub advertise: Option<String>,
    /// The address bound; where it is unspecified (`0.0.0.0`), others are told the one that faces the tracker.
    pub bound: SocketAddr,
    /// Where trackers lost and found, and notices for the user, are told.
    pub events: broadcast::Sender<Event>,
}

/// What the handle and the link's task have in common.
struct Shared {
    asks: mpsc::Sender<Ask>,
    address: watch::Sender<String>,
    /// Others are told the address that faces the tracker: the one bound is unspecified, and no other was given.
    told_facing: bool,
    session: watch::Sender<Option<SessionInfo>>,
    current: watch::Sender<Option<String>>,
    notices: broadcast::Sender<Notice>,
    presence: Mutex<PresenceMap>,
    presence_changed: Notify,
    identity: Identity,
    trust: Mutex<Trust>,
    tickets: Tickets,
    wall_clock: Arc<dyn WallClock>,
    nonces: Mutex<ChaCha20Rng>,
}

/// A request on its way to the link's task.
struct Ask {
    request: Request,
    /// Names it at every tracker alike.
    nonce: Nonce,
    reply: oneshot::Sender<Result<Answered, Failure>>,
}

impl TrackerLink {
    /// Starts the link's task, which looks for a tracker at once and goes on until shutdown.
    pub fn start(env: &Environment, setup: LinkSetup) -> Self {
        let (asks, waiting) = mpsc::channel(ASKS);
        let mut trust = Trust::default();
        // A tracker that is listed no longer is trusted no longer.
        for TrackerAddress { address, key, .. } in &setup.trackers {
            match (key, setup.known.get(address)) {
                (Some(pinned), _) => trust.pin(address, *pinned),
                (None, Some(first_seen)) => trust.remember(address, *first_seen),
                (None, None) => {}
            }
        }
        let shared = Arc::new(Shared {
            asks,
            address: watch::Sender::new(setup.advertise.clone().unwrap_or_else(|| setup.bound.to_string())),
            told_facing: setup.advertise.is_none() && setup.bound.ip().is_unspecified(),
            session: watch::Sender::new(None),
            current: watch::Sender::new(None),
            notices: broadcast::Sender::new(NOTICES),
            presence: Mutex::default(),
            presence_changed: Notify::new(),
            identity: Identity::new(&setup.identity),
            trust: Mutex::new(trust),
            tickets: Tickets::default(),
            wall_clock: Arc::clone(&env.wall_clock),
            // The time keeps two lives of one process apart, even where both have one seed.
            nonces: Mutex::new(env.rng("request nonce", env.wall_clock.now_ms())),
        });
        env.spawn(driver::run(env.clone(), setup, Arc::clone(&shared), waiting));
        Self { shared }
    }

    /// Asks the tracker in use, and another one when that is lost. The answer may take 10 s, `no_tracker` included.
    pub async fn request(&self, request: Request) -> Result<Answered, Failure> {
        self.request_as(self.draw_nonce(), request).await
    }

    /// A nonce that no request has had.
    pub fn draw_nonce(&self) -> Nonce {
        let mut nonce = [0; 16];
        self.shared.nonces.lock().expect("drawing a nonce does not panic").fill_bytes(&mut nonce);
        nonce
    }

    /// As [`request`](Self::request), under a nonce of the caller's: for one asked before, which may have taken effect.
    pub async fn request_as(&self, nonce: Nonce, request: Request) -> Result<Answered, Failure> {
        let (reply, answered) = oneshot::channel();
        if self.shared.asks.send(Ask { request, nonce, reply }).await.is_err() {
            return Err(stopping());
        }
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Who is logged in, `None` when nobody is. Stays through a failover.
    pub fn session(&self) -> watch::Receiver<Option<SessionInfo>> {
        self.shared.session.subscribe()
    }

    /// Address of the tracker in use, as listed; `None` while there is none.
    pub fn current(&self) -> watch::Receiver<Option<String>> {
        self.shared.current.subscribe()
    }

    /// Whether there is a tracker in use now.
    pub fn is_linked(&self) -> bool {
        self.shared.current.borrow().is_some()
    }

    /// Dials a tracker, to see whether it is there and shows the key that is known of it: `None` when it is not there.
    pub async fn probe(&self, env: &Environment, address: &str) -> Option<Result<(), Failure>> {
        let link = dial(&*env.transport, &self.shared.identity, address, Protocol::Tracker, None).await.ok()?;
        Some(self.shared.trust().refusal(address, link.device()).map_or(Ok(()), Err))
    }

    /// `IP:PORT` that others are told to dial.
    pub fn address(&self) -> String {
        self.shared.address.borrow().clone()
    }

    /// What trackers tell without being asked, from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.shared.notices.subscribe()
    }

    /// A member ticket of this device for `group`: a kept one up to half of its life, then a fresh one; while no tracker
    /// answers, the kept one as long as it lives.
    pub async fn ticket(&self, group: GroupId) -> Result<Signed, Failure> {
        self.shared.tickets.ticket(self, group).await
    }

    /// Forgets the ticket for `group`: it was refused, or the membership ended.
    pub fn forget_ticket(&self, group: GroupId) {
        self.shared.tickets.forget(group);
    }

    /// Opens a member ticket that `device` (proved by its TLS link) shows for `group`. Needs no tracker.
    pub fn verify_ticket(&self, signed: &Signed, group: GroupId, device: DeviceKey) -> Result<Ticket, Failure> {
        self.shared.trust().verify(signed, group, device, Instant::now(), self.shared.wall_clock.now_ms())
    }

    /// This device serves a file, or more of it than before. Trackers hear of it within 200 ms.
    pub fn serve(&self, serving: Serving) {
        self.shared.presence().serve(serving);
        self.shared.presence_changed.notify_one();
    }

    /// This device no longer serves a file.
    pub fn end_serving(&self, file: FileId) {
        self.shared.presence().end(file);
        self.shared.presence_changed.notify_one();
    }

    /// How much of `file` this device serves now, in percent.
    pub fn serving(&self, file: FileId) -> Option<u8> {
        self.shared.presence().percent(file)
    }
}

impl Shared {
    fn presence(&self) -> MutexGuard<'_, PresenceMap> {
        self.presence.lock().expect("no holder of the presence map panics")
    }

    fn trust(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().expect("no holder of the trackers' keys panics")
    }
}

/// No tracker answered in time. `tried` names every tracker and what became of its last dial.
fn no_tracker(in_use: Option<&str>, tried: &[(&str, Option<&str>)], may_take_effect: bool) -> Failure {
    let mut message = if let Some(address) = in_use {
        format!("The tracker at {address} did not answer in time, nor did another. Try again.")
    } else {
        let tried: Vec<_> =
            tried.iter().map(|(address, why)| format!("{address} ({})", why.unwrap_or("no answer"))).collect();
        format!(
            "No tracker can be reached: {}. Check the network and the tracker file; this client goes on trying.",
            tried.join(", ")
        )
    };
    if may_take_effect {
        message.push_str(
            " The command was sent before the link was lost and may still take effect: look before you repeat it.",
        );
    }
    Failure::new(ErrorCode::NoTracker, message)
}

/// The client is on its way out.
pub(super) fn stopping() -> Failure {
    Failure::new(ErrorCode::NoTracker, "The client is stopping.")
}

/// An answer that does not belong to its request.
pub(super) fn unexpected(answer: &Answer) -> Failure {
    tracing::warn!(?answer, "a tracker's answer does not belong to its request");
    Failure::new(
        ErrorCode::Protocol,
        "The tracker's answer does not belong to the request. Update the older of the two programs.",
    )
}
