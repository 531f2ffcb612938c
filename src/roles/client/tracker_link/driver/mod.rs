//! The task behind the link: the machines wired to the network, in a loop of one screen.

mod incoming;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Answered, Ask, LinkSetup, Shared,
    dial::{DialError, Greeted, greet},
    failover::{Action, Event as Turn, Failover},
    keeper,
    live::{Live, transfer},
    no_tracker,
    outbox::{Held, Outbox},
    silence::Verdict,
};
use crate::{
    mutant::Mutant,
    protocol::{
        client::{Answer, Notice, Presence, Request, ToTracker, VERSION},
        error::{ErrorCode, Failure},
        ids::DeviceKey,
        ticket::Signed,
        version::VersionVector,
    },
    roles::{client::command::Event, environment::Environment},
    store::client::memory,
    transport::tls::Identity,
};

/// Pause between two messages about presence: changes in between are told together.
const PRESENCE_PAUSE: Duration = Duration::from_millis(200);
/// Results of dials waiting to be taken.
const DIALS: usize = 16;
/// When nothing is due.
const LONG: Duration = Duration::from_hours(1);

type Reply = oneshot::Sender<Result<Answered, Failure>>;

/// A dial that came to an end.
struct Dialled {
    place: usize,
    round: u64,
    result: Result<Greeted, DialError>,
}

struct Driver {
    env: Environment,
    setup: LinkSetup,
    identity: Identity,
    shared: Arc<Shared>,
    failover: Failover,
    outbox: Outbox<Reply>,
    live: Option<Live>,
    session: Option<Signed>,
    seen: watch::Sender<VersionVector>,
    dialled: mpsc::Sender<Dialled>,
    /// Numbers the searches; results of an earlier one are void.
    round: u64,
    dials: CancellationToken,
    /// What became of the last dial of each tracker.
    troubles: Vec<Option<String>>,
    /// The user was told that a tracker, or every one, was lost.
    told_lost: bool,
    last_renamed: Option<Notice>,
    /// The session was refused while a password change that may be the reason is unanswered: its answer decides.
    in_doubt: bool,
}

pub(super) async fn run(env: Environment, setup: LinkSetup, shared: Arc<Shared>, mut asks: mpsc::Receiver<Ask>) {
    let (dialled, mut results) = mpsc::channel(DIALS);
    let mut driver = Driver::new(env.clone(), setup, Arc::clone(&shared), dialled);
    env.spawn(keeper::run(env.clone(), Arc::clone(&driver.setup.dir), driver.seen.subscribe()));
    driver.turn(Turn::Due);
    loop {
        let wake = driver.wake();
        tokio::select! {
            biased;
            () = env.shutdown.cancelled() => break,
            moved = transfer(&mut driver.live) => driver.on_moved(moved),
            Some(dialled) = results.recv() => driver.on_dialled(dialled).await,
            Some(ask) = asks.recv(), if driver.outbox.has_room() => driver.on_ask(ask),
            () = shared.presence_changed.notified() => {}
            () = sleep_until(wake) => driver.on_time(),
        }
        driver.queue_due();
    }
    driver.end().await;
}

impl Driver {
    fn new(env: Environment, setup: LinkSetup, shared: Arc<Shared>, dialled: mpsc::Sender<Dialled>) -> Self {
        let count = setup.trackers.len();
        Self {
            identity: Identity::new(&setup.identity),
            failover: Failover::new(count, Instant::now(), env.rng("tracker failover", 0)),
            outbox: Outbox::default(),
            live: None,
            session: None,
            seen: watch::Sender::new(setup.seen.clone()),
            dialled,
            round: 0,
            dials: env.shutdown.child_token(),
            troubles: vec![None; count],
            told_lost: false,
            last_renamed: None,
            in_doubt: false,
            env,
            setup,
            shared,
        }
    }

    /// Feeds the failover machine and does what it says.
    fn turn(&mut self, event: Turn) {
        let mut actions = Vec::new();
        self.failover.handle(Instant::now(), event, &mut actions);
        for action in actions {
            match action {
                Action::Dial(place) => self.dial(place),
                Action::AbandonDials => self.abandon_dials(),
                Action::Exhausted => self.on_exhausted(),
            }
        }
    }

    fn dial(&self, place: usize) {
        let (env, identity, shared) = (self.env.clone(), self.identity.clone(), Arc::clone(&self.shared));
        let (tracker, dialled, round) = (self.setup.trackers[place].clone(), self.dialled.clone(), self.round);
        let hello =
            ToTracker::Hello { version: VERSION, session: self.session.clone(), seen: self.seen.borrow().clone() };
        let abandoned = self.dials.clone();
        self.env.spawn(async move {
            let greeted = abandoned.run_until_cancelled(greet(&env, &identity, &shared, &tracker, hello)).await;
            if let Some(result) = greeted {
                // The driver is gone only at shutdown.
                let _ = dialled.send(Dialled { place, round, result }).await;
            }
        });
    }

    fn abandon_dials(&mut self) {
        self.round += 1;
        self.dials.cancel();
        self.dials = self.env.shutdown.child_token();
    }

    fn on_exhausted(&mut self) {
        self.told_lost = true;
        tracing::warn!(trackers = ?self.troubles, "no tracker can be reached");
        self.tell(Event::NoTracker);
    }

    async fn on_dialled(&mut self, dialled: Dialled) {
        if dialled.round != self.round || self.live.is_some() {
            return;
        }
        match dialled.result {
            Ok(greeted) => self.on_greeted(dialled.place, greeted).await,
            Err(DialError::Failed(why)) => self.on_dial_failed(dialled.place, why),
            Err(DialError::Refused(failure)) => self.on_dial_refused(dialled.place, failure),
        }
    }

    fn on_dial_failed(&mut self, place: usize, why: String) {
        tracing::debug!(address = %self.setup.trackers[place].address, why, "a tracker cannot be reached");
        self.troubles[place] = Some(why);
        self.turn(Turn::Failed(place));
        self.want();
    }

    fn on_dial_refused(&mut self, place: usize, failure: Failure) {
        if self.troubles[place].replace(failure.message.clone()).as_ref() != Some(&failure.message) {
            tracing::error!(%failure, "a tracker is refused");
            let address = self.setup.trackers[place].address.clone();
            self.tell(Event::TrackerRefused { address, failure });
        }
        self.turn(Turn::Refused(place));
    }

    async fn on_greeted(&mut self, place: usize, mut greeted: Greeted) {
        if self.session.is_none() && greeted.session.is_some() {
            // Logged out while this dial was under way: the link still shows the session.
            return self.turn(Turn::Failed(place));
        }
        self.remember(place, greeted.device).await;
        if let Some(Err(failure)) = &greeted.session
            && failure.code == ErrorCode::Stale
        {
            // It knows the session's signer before long, or another tracker does now.
            return self.on_dial_failed(place, failure.message.clone());
        }
        let now = Instant::now();
        self.shared.trust().hear(now, greeted.device, greeted.now_ms, std::mem::take(&mut greeted.trackers));
        self.set_address(&greeted);
        self.resume_session(greeted.session.take());
        self.live = Some(Live::new(place, now, greeted));
        self.turn(Turn::Linked(place));
        self.troubles[place] = None;
        let address = self.setup.trackers[place].address.clone();
        tracing::info!(%address, "linked to a tracker");
        self.shared.current.send_replace(Some(address.clone()));
        if std::mem::take(&mut self.told_lost) {
            self.tell(Event::TrackerFound { address });
        }
    }

    /// Keeps the first key that an address showed, durably. It may have shown it to a dial before, which came to nothing.
    async fn remember(&mut self, place: usize, key: DeviceKey) {
        let tracker = &self.setup.trackers[place];
        if tracker.key.is_some() || self.setup.known.get(&tracker.address) == Some(&key) {
            return;
        }
        self.setup.known.insert(tracker.address.clone(), key);
        let (disk, dir, known) = (Arc::clone(&self.env.disk), Arc::clone(&self.setup.dir), self.setup.known.clone());
        let remembered = self.env.offload(move || memory::remember_trackers(&*disk, &dir, &known)).await;
        if let Err(error) = remembered {
            tracing::warn!(%error, "cannot remember a tracker's key");
        }
    }

    fn set_address(&self, greeted: &Greeted) {
        if let Some(facing) = greeted.facing {
            self.shared.address.send_replace(SocketAddr::new(facing, self.setup.bound.port()).to_string());
        }
    }

    fn on_ask(&mut self, Ask { request, nonce, reply }: Ask) {
        let linked = self.live.is_some();
        if matches!(request, Request::Logout) {
            self.end_session();
            if !linked {
                // No tracker holds this session open: it dies with its link.
                let _ = reply.send(Ok(Answered { answer: Answer::Done, stale: false }));
                return;
            }
        }
        self.outbox.ask(Instant::now(), request, nonce, reply);
        self.want();
    }

    fn want(&mut self) {
        if self.live.is_none() && !self.outbox.is_empty() {
            self.turn(Turn::Wanted);
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        for held in self.outbox.expired(now) {
            self.give_up(held);
        }
        self.settle_doubt();
        self.turn(Turn::Due);
        if self.live.is_some() && self.outbox.answer_deadline().is_some_and(|deadline| deadline <= now) {
            return self.lose("it did not answer in time");
        }
        match self.live.as_mut().map(|live| live.judge(now)) {
            Some(Verdict::Ping) => self.queue(&ToTracker::Ping),
            Some(Verdict::Gone) => self.lose("it is silent"),
            Some(Verdict::Fine) | None => {}
        }
    }

    fn give_up(&self, held: Held<Reply>) {
        let address = |place: usize| self.setup.trackers[place].address.as_str();
        let in_use = self.live.as_ref().map(|live| address(live.place));
        let tried: Vec<_> = (0..).zip(&self.troubles).map(|(place, why)| (address(place), why.as_deref())).collect();
        let unknown = held.request.is_write() && held.tries > 0;
        // An asker that has gone away wants no answer.
        let _ = held.reply.send(Err(no_tracker(in_use, &tried, unknown)));
    }

    fn lose(&mut self, why: &str) {
        let Some(live) = self.live.take() else { return };
        let address = self.setup.trackers[live.place].address.clone();
        tracing::warn!(%address, why, "the tracker in use was lost");
        self.troubles[live.place] = Some(why.to_owned());
        self.shared.current.send_replace(None);
        self.outbox.unsend();
        for held in self.outbox.take(|request| matches!(request, Request::Logout)) {
            // The session died with its link.
            let _ = held.reply.send(Ok(Answered { answer: Answer::Done, stale: false }));
        }
        self.told_lost = true;
        self.tell(Event::TrackerLost { address });
        self.turn(Turn::Lost(live.place));
        self.want();
    }

    fn queue(&mut self, message: &ToTracker) {
        if let Some(live) = &mut self.live {
            live.queue(Instant::now(), message);
        }
    }

    /// Queues all that may go out now: presence first and without a pause, so that an answer about a swarm knows of it.
    fn queue_due(&mut self) {
        let now = Instant::now();
        self.queue_presence(now);
        let Some(live) = &mut self.live else { return };
        while let Some((seq, held)) = self.outbox.send(now) {
            let (mut nonce, request) = (held.nonce, held.request.clone());
            if Mutant::ForgetRequestId.is_on() {
                nonce[0] = nonce[0].wrapping_add(u8::try_from(held.tries).unwrap_or(0));
            }
            let seen = self.seen.borrow().clone();
            live.queue(now, &ToTracker::Request { seq, nonce, seen, request });
        }
    }

    fn queue_presence(&mut self, now: Instant) {
        let Some(live) = &mut self.live else { return };
        let paused = now < live.presence_at && !live.whole_due && !self.outbox.has_unsent();
        if self.session.is_none() || paused {
            return;
        }
        let address = self.shared.address.borrow().clone();
        let mut map = self.shared.presence();
        let whole = std::mem::take(&mut live.whole_due);
        let messages = if whole { map.whole(&address) } else { map.changes(&address) };
        drop(map);
        if !messages.is_empty() {
            live.presence_at = now + PRESENCE_PAUSE;
        }
        for presence in messages {
            live.queue(now, &ToTracker::Presence(presence));
        }
    }

    /// When the next thing is due by itself.
    fn wake(&self) -> Instant {
        let live = self.live.as_ref();
        let presence = live.filter(|_| self.session.is_some() && self.shared.presence().has_changes());
        let due = [
            self.failover.deadline(),
            self.outbox.deadline(),
            live.and_then(|_| self.outbox.answer_deadline()),
            live.map(|live| live.silence.deadline()),
            presence.map(|live| live.presence_at),
        ];
        due.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + LONG)
    }

    /// Takes the presence back and says farewell.
    async fn end(mut self) {
        let Some(live) = self.live.take() else { return };
        let mut writer = live.writer;
        if self.session.is_some() {
            let address = self.shared.address.borrow().clone();
            writer.queue(&ToTracker::Presence(Presence {
                reset: true,
                address,
                serving: Vec::new(),
                ended: Vec::new(),
            }));
        }
        if let Err(error) = writer.close().await {
            tracing::debug!(%error, "the farewell to the tracker failed");
        }
    }

    fn tell(&self, event: Event) {
        // Without a reader an event concerns nobody.
        let _ = self.setup.events.send(event);
    }
}
