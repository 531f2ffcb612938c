//! The one owner of a tracker's state, and the only ways to change it.
//!
//! The catalog runs ahead of the disk: a write is applied when it is decided, so that the next decision sees it, and goes to
//! the log writer in the same order. Nothing of it leaves this process before it is durable: every answer, read or write,
//! waits until the log holds all that it shows, and links send from the log only. So a counter that was lost with the
//! power was never seen by anybody, and may be drawn again.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

use super::{
    TrackerConfig,
    clients::Clients,
    forgetting::Forgetting,
    log_writer::{Append, QUEUE},
    metrics::Counters,
    notice,
    opening::{self, Loaded},
    pace::Paces,
    password::Passwords,
    presence::PresenceMap,
    throttle::Throttle,
    trackers::Trackers,
};
use crate::{
    mutant::Mutant,
    protocol::{
        client::{Answer, Notice, TrackerIdentity},
        device::DeviceSecret,
        error::{ErrorCode, Failure},
        ids::{DeviceKey, RequestId, TrackerNo, UserId},
        record::{Change, ChangeBody},
        sync::Snapshot,
        version::{Dot, VersionVector},
    },
    replica::{
        Catalog, Effect,
        clock::{HybridClock, Observed},
        command::{self, Caller, Command, Decision},
    },
    roles::{
        environment::Environment,
        port::{self, Doorkeeper},
    },
    store::tracker::TrackerStore,
    transport::tls::Identity,
};

/// Longest wait for a tracker in touch to confirm; its link calls it out of touch before.
const CONFIRM_WITHIN: Duration = Duration::from_millis(1500);

/// Of a hundred descriptors, those for clients.
const PERCENT_FOR_CLIENTS: u64 = 50;
/// Pause between two warnings of one kind, which every change may cause.
const WARNING_PAUSE: Duration = Duration::from_mins(1);

/// Everything the tasks of a tracker share.
pub(super) struct Node {
    pub(super) env: Environment,
    pub(super) folder: PathBuf,
    pub(super) no: TrackerNo,
    pub(super) secret: DeviceSecret,
    pub(super) identity: Identity,
    pub(super) store: Arc<TrackerStore>,
    pub(super) passwords: Passwords,
    pub(super) counters: Counters,
    /// The places of clients.
    pub(super) doors: Arc<Doorkeeper>,
    state: Mutex<State>,
    appends: mpsc::Sender<Append>,
    durable: watch::Sender<VersionVector>,
    /// Counts what becomes known of the other trackers' links.
    progress: watch::Sender<u64>,
    failure: OnceLock<Failure>,
    /// Held while the log's past is rewritten.
    pub(super) rewriting: tokio::sync::Mutex<()>,
    /// Held alone while manifest pages are dropped; see [`Forgetting`].
    pub(super) pages: tokio::sync::RwLock<()>,
}

/// What is locked together, never across an await.
pub(super) struct State {
    pub(super) catalog: Catalog,
    pub(super) presence: PresenceMap,
    pub(super) clients: Clients,
    pub(super) trackers: Trackers,
    pub(super) throttle: Throttle,
    pub(super) paces: Paces,
    clock: HybridClock,
    clock_warning: Seldom,
    room_warning: Seldom,
    /// Warns of strangers that would synchronize.
    pub(super) stranger_warning: Seldom,
    /// What must be known here before anything is written: all that a tracker knows that knows more of this origin's changes
    /// than the log holds, because the disk was set back.
    owed: VersionVector,
    pub(super) forgetting: Forgetting,
}

/// Who writes: a client's link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer<'a> {
    pub(super) user: Option<UserId>,
    pub(super) device: DeviceKey,
    pub(super) seen: &'a VersionVector,
}

impl Node {
    /// Opens the folder and replays the log. The log writer is to be run with what is returned beside.
    pub(super) async fn open(
        env: Environment,
        config: &TrackerConfig,
    ) -> Result<(Arc<Self>, mpsc::Receiver<Append>), Failure> {
        let opened = opening::open(&env, config).await?;
        let loaded = opening::load(&env, &opened.store).await;
        let Loaded { catalog, past, tombstones } = loaded.map_err(|error| opening::cannot_open(config, &error))?;
        let mut clock = HybridClock::default();
        clock.observe(catalog.latest(), env.wall_clock.now_ms());
        let durable = catalog.vector().clone();
        let state = State {
            catalog,
            presence: PresenceMap::default(),
            clients: Clients::new(config.limits),
            trackers: Trackers::new(&config.info, config.no, &opened.known),
            throttle: Throttle::default(),
            paces: Paces::new(config.limits.requests_per_s),
            clock,
            clock_warning: Seldom::default(),
            room_warning: Seldom::default(),
            stranger_warning: Seldom::default(),
            owed: VersionVector::default(),
            forgetting: Forgetting::new(past, tombstones),
        };
        let (appends, receiver) = mpsc::channel(QUEUE);
        let node = Self {
            folder: config.data_dir.clone(),
            no: config.no,
            identity: Identity::new(&opened.secret),
            secret: opened.secret,
            store: opened.store,
            passwords: Passwords::new(&env, config.password_cost),
            counters: Counters::default(),
            doors: Doorkeeper::new(port::fitted(&env, PERCENT_FOR_CLIENTS, config.limits.links)),
            state: Mutex::new(state),
            appends,
            durable: watch::Sender::new(durable),
            progress: watch::Sender::new(0),
            failure: OnceLock::new(),
            rewriting: tokio::sync::Mutex::new(()),
            pages: tokio::sync::RwLock::new(()),
            env,
        };
        Ok((Arc::new(node), receiver))
    }

    /// This tracker's public key: the origin of its changes.
    pub(super) fn key(&self) -> DeviceKey {
        self.identity.device()
    }

    /// This machine's wall clock, milliseconds since the Unix epoch.
    pub(super) fn now_ms(&self) -> u64 {
        self.env.wall_clock.now_ms()
    }

    /// The state, locked.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is durable here, and when that grows.
    pub(super) fn durable(&self) -> watch::Receiver<VersionVector> {
        self.durable.subscribe()
    }

    /// Whether all of `vector` is durable here.
    pub(super) fn is_durable(&self, vector: &VersionVector) -> bool {
        self.durable.borrow().includes(vector)
    }

    /// Counts up whenever something becomes known of the other trackers.
    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Something became known of the other trackers.
    pub(super) fn note_progress(&self) {
        self.progress.send_modify(|count| *count += 1);
    }

    /// The trackers that this one vouches for, itself first.
    pub(super) fn identities(&self) -> Vec<TrackerIdentity> {
        let own = TrackerIdentity { tracker: self.no, key: self.key(), clock_offset_ms: 0 };
        let mut all = vec![own];
        all.extend(self.state().trackers.identities());
        all
    }

    /// Tells the clients that keys or clocks of the trackers have changed.
    pub(super) fn announce_trackers(&self) {
        let identities = self.identities();
        self.state().clients.notify_all(&Notice::Trackers(identities));
    }

    /// Clients are refused what would leave the log too little room.
    pub(super) fn warn_of_little_room(&self) {
        if self.state().room_warning.is_due(Instant::now()) {
            tracing::warn!(folder = %self.folder.display(), "the disk is nearly full: no further files are taken until there is room on it");
        }
    }

    /// The disk has failed, or the like: what is in memory is no longer what rests. Everything stops.
    pub(super) fn fail(&self, why: &str) {
        let message =
            format!("Tracker {} stops: {why}. What was acknowledged is safe; restart it when this is mended.", self.no);
        tracing::error!("{message}");
        let _ = self.failure.set(Failure::new(ErrorCode::Io, message));
        self.env.shutdown.cancel();
    }

    /// Why it stopped by itself, if it did.
    pub(super) fn failure(&self) -> Result<(), Failure> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }
}

/// Writing.
impl Node {
    /// Decides on a write and applies it. Returns the answer, if there is nothing to do, and what must be durable and confirmed
    /// before anything is answered.
    pub(super) async fn write(
        &self,
        writer: Writer<'_>,
        request: RequestId,
        command: &Command,
    ) -> Result<(Option<Answer>, VersionVector), Failure> {
        let permit = self.appends.reserve().await.map_err(|_| stopping())?;
        let now_ms = self.now_ms();
        let mut state = self.state();
        if state.forgetting.is_installing || !state.catalog.vector().includes(&state.owed) {
            let message = "This tracker is fetching back what its disk has lost. Try again in a moment.";
            return Err(Failure::new(ErrorCode::Stale, message));
        }
        let caller = Caller { user: writer.user, device: writer.device, seen: writer.seen };
        let (body, after) = match command::decide(&state.catalog, &caller, &request, command)? {
            Decision::AlreadyDone(answer) => return Ok((Some(answer), state.catalog.vector().clone())),
            Decision::Append { body, after } => (body, after),
        };
        let change = self.stamp(&mut state, request, body, after, now_ms);
        let effects = state.catalog.apply(&change);
        let mut needed = VersionVector::default();
        needed.insert(change.dot);
        permit.send(Append { changes: vec![change], effects });
        Ok((None, needed))
    }

    fn stamp(
        &self,
        state: &mut State,
        request: RequestId,
        body: ChangeBody,
        after: crate::protocol::version::Timestamp,
        now_ms: u64,
    ) -> Change {
        let origin = self.key();
        let last = state.catalog.vector().counter(&origin);
        let counter = if Mutant::ReuseCounter.is_on() { last.max(1) } else { last + 1 };
        let at = state.clock.tick_after(after, now_ms);
        Change { dot: Dot { origin, counter }, at, taken_by: self.no, request, body }
    }

    /// Applies what a link's inbox has ready, given all that the catalog knows.
    pub(super) async fn ingest(&self, ready: impl FnOnce(&VersionVector) -> Vec<Change>) -> Result<usize, Failure> {
        let permit = self.appends.reserve().await.map_err(|_| stopping())?;
        let now_ms = self.now_ms();
        let mut state = self.state();
        // What is staged stays so, and is taken once the snapshot is in.
        let changes = if state.forgetting.is_installing { Vec::new() } else { ready(state.catalog.vector()) };
        if changes.is_empty() {
            return Ok(0);
        }
        let (mut effects, mut ahead) = (Vec::new(), None);
        for change in &changes {
            if let Observed::Clamped { lead_ms } = state.clock.observe(change.at, now_ms) {
                ahead = ahead.max(Some((lead_ms, change.dot.origin)));
            }
            effects.extend(state.catalog.apply(change));
        }
        if let Some((lead_ms, origin)) = ahead
            && state.clock_warning.is_due(Instant::now())
        {
            tracing::warn!(%origin, lead_ms, "changes are stamped ahead of this machine's clock: set the clocks of the trackers");
        }
        let count = changes.len();
        permit.send(Append { changes, effects });
        Ok(count)
    }

    /// Another tracker knows all of `vector`. If that is more of this origin than is known here, then this disk was set back:
    /// the counters that are missing are taken, and what was decided under them may concern all that the other knows.
    pub(super) fn hear_own(&self, vector: &VersionVector) {
        let (own, mut state) = (self.key(), self.state());
        if vector.counter(&own) > state.catalog.vector().counter(&own) {
            state.owed.merge(vector);
        }
    }

    /// Takes in another tracker's snapshot. Writes are refused and changes held back until it is in; a crash leaves all or none.
    pub(super) async fn install(&self, snapshot: Snapshot) -> Result<(), Failure> {
        let _alone = self.rewriting.lock().await;
        let known = {
            let mut state = self.state();
            if state.catalog.vector().includes(&snapshot.folded) {
                return Ok(());
            }
            state.forgetting.is_installing = true;
            state.catalog.vector().clone()
        };
        self.until_durable(&known).await?;
        let store = Arc::clone(&self.store);
        let installed = self.env.offload(move || store.install(&snapshot, &known)).await;
        let loaded = match installed {
            Ok(()) => opening::load(&self.env, &self.store).await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok(loaded) => self.go_on_with(loaded),
            Err(error) => self.fail(&format!("a snapshot could not be written: {error}")),
        }
        Ok(())
    }

    fn go_on_with(&self, Loaded { catalog, past, tombstones }: Loaded) {
        let vector = catalog.vector().clone();
        let mut state = self.state();
        state.clock.observe(catalog.latest(), self.now_ms());
        state.catalog = catalog;
        state.forgetting.installed(past, tombstones);
        notice::end_outdated_sessions(&mut state);
        drop(state);
        tracing::info!(changes = vector.iter().map(|dot| dot.counter).sum::<u64>(), "took in a snapshot");
        self.durable.send_replace(vector);
        self.note_progress();
    }

    /// The log writer has these on disk.
    pub(super) fn durable_now(&self, dots: &[Dot]) {
        self.durable.send_modify(|durable| dots.iter().for_each(|dot| durable.insert(*dot)));
        self.state().trackers.note_lag(&self.durable.borrow(), Instant::now());
    }

    /// Tells clients what changes did, now that they are durable.
    pub(super) fn tell(&self, effects: &[Effect]) {
        notice::tell(&mut self.state(), effects);
    }
}

/// Waiting.
impl Node {
    /// Waits until all of `vector` is durable here.
    pub(super) async fn until_durable(&self, vector: &VersionVector) -> Result<(), Failure> {
        let mut durable = self.durable();
        tokio::select! {
            biased;
            known = durable.wait_for(|durable| durable.includes(vector)) => known.map(|_| ()).map_err(|_| stopping()),
            () = self.env.shutdown.cancelled() => Err(stopping()),
        }
    }

    /// Waits until all of `vector` is durable here and at every tracker in touch.
    pub(super) async fn until_acknowledged(&self, vector: &VersionVector) -> Result<(), Failure> {
        self.until_durable(vector).await?;
        if Mutant::AnswerAlone.is_on() {
            return Ok(());
        }
        let mut progress = self.progress();
        let confirmed = async {
            while !self.state().trackers.have_confirmed(vector) {
                if progress.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(CONFIRM_WITHIN, confirmed).await;
        Ok(())
    }
}

/// Lets one warning through a [`WARNING_PAUSE`].
#[derive(Debug, Default)]
pub(super) struct Seldom(Option<Instant>);

impl Seldom {
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        port::is_due(&mut self.0, now, WARNING_PAUSE)
    }
}

pub(super) fn stopping() -> Failure {
    Failure::new(ErrorCode::NoTracker, "This tracker is stopping. Another one takes over.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_given_once_a_pause() {
        let (mut seldom, now) = (Seldom::default(), Instant::now());
        assert!(seldom.is_due(now));
        assert!(!seldom.is_due(now + WARNING_PAUSE / 2));
        assert!(seldom.is_due(now + WARNING_PAUSE));
    }
}
