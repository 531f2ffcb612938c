//! One client: hello, then a loop of one screen. Requests run beside it, answers and notices come back through one queue.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    clients::{LoggedIn, Outgoing},
    login,
    metrics::Counters,
    node::Node,
    notice,
    pace::{self, Payer},
    presence::{Home, LinkNo},
    request,
};
use crate::{
    protocol::{
        client::{FromTracker, Presence, Request, SessionInfo, ToTracker, VERSION},
        error::{ErrorCode, Failure},
        ids::{DeviceKey, ManifestId, Nonce, UserId},
        limits::{MAX_ORIGINS, MAX_PRESENCE_FILES},
        manifest::ManifestHeader,
        ticket::Signed,
        version::VersionVector,
    },
    roles::{doors::network, port::Place},
    transport::link::{Link, LinkError, LinkReader, LinkWriter},
};

/// Longest time from the handshake to the client's hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// A client that says nothing for this long is gone; it pings every second.
const IDLE: Duration = Duration::from_secs(10);
/// Requests of one client at the same time; what it sends beyond waits in the stream.
const MAX_UNDER_WAY: usize = 32;
/// Answers and notices that wait for one client at most.
const MAX_OUTGOING: usize = 1024;
/// Bytes queued for one client beyond which nothing is added: two pages of a manifest.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;
/// Messages taken in a row before anything is written: what is said to them goes out together.
const MAX_BURST: usize = 64;
/// Manifests offered on one link and not yet shared.
const MAX_OFFERS: usize = 16;

/// One client's link, as its requests see it.
pub(super) struct Asker {
    pub(super) node: Arc<Node>,
    pub(super) link: LinkNo,
    /// The key that the client proved.
    pub(super) device: DeviceKey,
    /// Where it dialled from.
    pub(super) from: IpAddr,
    offers: Mutex<BTreeMap<ManifestId, ManifestHeader>>,
}

/// Speaks with a client until either end stops.
pub(super) async fn serve(node: Arc<Node>, link: Link, from: SocketAddr, place: Place) {
    let device = link.device();
    let (mut reader, mut writer) = link.split();
    let hello = match place.end().run_until_cancelled(timeout(HELLO_WITHIN, reader.message())).await {
        Some(Ok(Ok(Some(ToTracker::Hello { version, session, seen })))) => (version, session, seen),
        _ => return tracing::debug!(%from, "no hello"),
    };
    let (outgoing, queue) = mpsc::channel(MAX_OUTGOING);
    let end = place.end().clone();
    let no = node.state().clients.add(device, outgoing.clone(), place, reader.trust());
    let asker = Asker { node, link: no, device, from: from.ip(), offers: Mutex::default() };
    let connection = Connection { asker: Arc::new(asker), outgoing, queue, end };
    let ended = match connection.greet(&mut writer, hello).await {
        Ok(()) => connection.run(&mut reader, &mut writer).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "a client's link ended");
    }
    let _ = writer.close().await;
}

struct Connection {
    asker: Arc<Asker>,
    outgoing: mpsc::Sender<Outgoing>,
    queue: mpsc::Receiver<Outgoing>,
    end: CancellationToken,
}

impl Connection {
    async fn greet(
        &self,
        writer: &mut LinkWriter,
        (version, session, _seen): (u16, Option<Signed>, VersionVector),
    ) -> Result<(), LinkError> {
        let session = match session {
            Some(session) if version == VERSION => Some(login::resume(&self.asker, &session)),
            _ => None,
        };
        let node = &self.asker.node;
        let hello = FromTracker::Hello {
            version: VERSION,
            tracker: node.no,
            now_ms: node.now_ms(),
            session,
            trackers: node.identities(),
        };
        writer.send(&hello).await?;
        if version != VERSION {
            return Err(LinkError::Protocol(format!("version {version}, not {VERSION}")));
        }
        Ok(())
    }

    /// The loop. What goes out comes first: a client that floods us still gets its answers.
    async fn run(mut self, reader: &mut LinkReader, writer: &mut LinkWriter) -> Result<(), LinkError> {
        let slots = Arc::new(Semaphore::new(MAX_UNDER_WAY));
        let (mut idle, mut unflushed) = (Instant::now() + IDLE, false);
        // Until then nothing is read: this user has taken as much as is due.
        let mut paused_until = None;
        loop {
            tokio::select! {
                biased;
                () = self.asker.node.env.shutdown.cancelled() => return Ok(()),
                () = self.end.cancelled() => return Err(LinkError::GaveWay),
                Some(Outgoing { message, slot }) = self.queue.recv(), if writer.queued_bytes() < MAX_QUEUED_BYTES => {
                    writer.queue(&*message);
                    drop(slot);
                    unflushed = true;
                }
                flushed = writer.flush(), if unflushed => {
                    flushed?;
                    unflushed = false;
                }
                () = wait_until(paused_until), if paused_until.is_some() => paused_until = None,
                message = reader.message(), if paused_until.is_none() && has_room(&slots, writer) => {
                    idle = Instant::now() + IDLE;
                    let mut next = Some(message);
                    for _ in 0..MAX_BURST {
                        let Some(message) = next else { break };
                        let Some(message) = message? else { return Ok(()) };
                        paused_until = self.asker.pay(&message);
                        if let Some(answer) = self.take(message, &slots)? {
                            writer.queue(&answer);
                            unflushed = true;
                        }
                        let goes_on = paused_until.is_none() && has_room(&slots, writer);
                        next = if goes_on { reader.message_at_hand().await } else { None };
                    }
                }
                () = sleep_until(idle) => {
                    // A frame that comes slowly has a deadline of its own, as long as it is read.
                    let is_silent = reader.buffered_bytes() == 0 && paused_until.is_none();
                    if is_silent || !has_room(&slots, writer) {
                        return Err(LinkError::Timeout("a sign of life"));
                    }
                    idle = Instant::now() + IDLE;
                }
            }
        }
    }

    /// Takes a message; returns what can be said to it at once.
    fn take(&self, message: ToTracker, slots: &Arc<Semaphore>) -> Result<Option<FromTracker>, LinkError> {
        match message {
            ToTracker::Hello { .. } => Err(LinkError::Protocol("a second hello".to_owned())),
            ToTracker::Ping => Ok(Some(FromTracker::Pong { now_ms: self.asker.node.now_ms() })),
            ToTracker::Presence(presence) => self.asker.serve(presence).map(|()| None),
            ToTracker::Request { seen, .. } if seen.len() > MAX_ORIGINS => {
                Err(LinkError::Protocol("a vector of too many origins".to_owned()))
            }
            ToTracker::Request { seq, nonce, seen, request } => {
                match request::answer_at_once(&self.asker, &seen, request) {
                    Ok(answered) => Ok(Some(self.asker.told(seq, answered))),
                    Err(request) => {
                        self.begin(slots, (seq, nonce, seen, *request));
                        Ok(None)
                    }
                }
            }
        }
    }

    /// Answers a request beside the loop.
    fn begin(&self, slots: &Arc<Semaphore>, (seq, nonce, seen, request): (u64, Nonce, VersionVector, Request)) {
        let slot = Arc::clone(slots).try_acquire_owned().expect("nothing is read while no slot is free");
        let (asker, outgoing) = (Arc::clone(&self.asker), self.outgoing.clone());
        self.asker.node.env.spawn(async move {
            let message = Box::new(asker.answer(seq, nonce, seen, request).await);
            let _ = outgoing.send(Outgoing { message, slot: Some(slot) }).await;
        });
    }
}

async fn wait_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Whether another message may be taken: a request may need a slot, and an answer room to wait in.
fn has_room(slots: &Semaphore, writer: &LinkWriter) -> bool {
    slots.available_permits() > 0 && writer.queued_bytes() < MAX_QUEUED_BYTES
}

impl Asker {
    async fn answer(&self, seq: u64, nonce: Nonce, seen: VersionVector, request: Request) -> FromTracker {
        let answered = tokio::select! {
            biased;
            answered = request::answer(self, nonce, &seen, request) => answered,
            () = self.node.env.shutdown.cancelled() => request::Answered::failed(super::node::stopping()),
        };
        self.told(seq, answered)
    }

    fn told(&self, seq: u64, answered: request::Answered) -> FromTracker {
        Counters::count(&self.node.counters.requests);
        if answered.result.is_err() {
            Counters::count(&self.node.counters.refusals);
        }
        FromTracker::Answer { seq, seen: answered.seen, stale: answered.stale, result: answered.result }
    }

    /// Counts what a message costs; returns until when the next one has to wait, if it does.
    fn pay(&self, message: &ToTracker) -> Option<Instant> {
        let (now, mut state) = (Instant::now(), self.node.state());
        let session = state.clients.get(self.link).and_then(|client| client.session);
        let payer = session.map_or_else(|| Payer::Network(network(self.from)), |session| Payer::User(session.user));
        let wait = state.paces.take(now, payer, pace::cost(message));
        (!wait.is_zero()).then(|| {
            tracing::trace!(target: "coverage", reached = "tracker: a user was slowed down");
            now + wait
        })
    }

    /// The session on this link.
    pub(super) fn session(&self) -> Option<LoggedIn> {
        self.node.state().clients.get(self.link)?.session
    }

    /// Who is logged in on this link, or `not_logged_in`.
    pub(super) fn logged_in(&self) -> Result<UserId, Failure> {
        self.logged_in_session().map(|session| session.user)
    }

    /// The session on this link, or `not_logged_in`.
    pub(super) fn logged_in_session(&self) -> Result<LoggedIn, Failure> {
        self.session()
            .ok_or_else(|| Failure::new(ErrorCode::NotLoggedIn, "You are not logged in. Log in with: login <user>"))
    }

    /// Begins a session on this link. A request may outlive its link: then nobody would take the seat away again.
    pub(super) fn begin_session(&self, session: LoggedIn) {
        let mut state = self.node.state();
        if state.clients.get(self.link).is_none() {
            return;
        }
        state.clients.set_session(self.link, Some(session));
        state.presence.enter(self.device, Home::Here(self.link), session.user);
        notice::tell_renamed(&state, self.link, session.user);
    }

    /// Ends the session on this link, if there is one.
    pub(super) fn end_session(&self) {
        let mut state = self.node.state();
        state.clients.set_session(self.link, None);
        state.presence.leave(self.device, Home::Here(self.link));
    }

    /// What a user is called now; what the session says as long as the account has yet to arrive.
    pub(super) fn info(&self, user: UserId, name: crate::protocol::name::UserName) -> SessionInfo {
        let name = self.node.state().catalog.user_name(&user).cloned().unwrap_or(name);
        SessionInfo { user, name }
    }

    /// Manifests offered on this link.
    pub(super) fn offers(&self) -> MutexGuard<'_, BTreeMap<ManifestId, ManifestHeader>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an offered manifest; the first one goes when there are too many.
    pub(super) fn offer(&self, id: ManifestId, manifest: ManifestHeader) {
        let mut offers = self.offers();
        if offers.len() >= MAX_OFFERS && !offers.contains_key(&id) {
            offers.pop_first();
        }
        offers.insert(id, manifest);
    }

    fn serve(&self, mut presence: Presence) -> Result<(), LinkError> {
        if presence.serving.len() > MAX_PRESENCE_FILES || presence.ended.len() > MAX_PRESENCE_FILES {
            return Err(LinkError::Protocol("too many files in one presence message".to_owned()));
        }
        presence.address = self.reachable(&presence.address)?;
        self.node.state().presence.update(self.device, Home::Here(self.link), &presence);
        Ok(())
    }

    /// The address others dial: one that names no machine is completed by where the client dialled from.
    fn reachable(&self, address: &str) -> Result<String, LinkError> {
        let parsed: SocketAddr =
            address.parse().map_err(|_| LinkError::Protocol("a presence without IP:PORT".to_owned()))?;
        let ip = if parsed.ip().is_unspecified() { self.from.to_canonical() } else { parsed.ip() };
        Ok(SocketAddr::new(ip, parsed.port()).to_string())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.asker.end_session();
        self.asker.node.state().clients.remove(self.asker.link);
    }
}
