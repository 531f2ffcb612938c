//! The link against scripted trackers that speak the real protocol in memory, on a clock that stands still.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::broadcast,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    protocol::{
        client::{FromTracker, Presence, ToTracker, VERSION},
        ids::{MembershipId, Nonce, TrackerNo, UserId},
        name::{GroupName, UserName},
        ticket::{TICKET_LIFE, any_session},
    },
    roles::environment::Offload,
    store::disk::SystemDisk,
    transport::{
        Listener, Transport,
        link::{LinkReader, LinkWriter, accept},
        memory::Memory,
        tls::Identity,
    },
};

const GROUP: GroupId = GroupId([3; 32]);
/// The trackers' clocks, hours away from the client's.
const TRACKER_MS: u64 = 50_000_000;
const CLIENT_MS: u64 = 7_000_000;

struct StoppedClock;

impl WallClock for StoppedClock {
    fn now_ms(&self) -> u64 {
        CLIENT_MS
    }
}

/// A scripted tracker: answers as an honest one would, from no state at all.
#[derive(Clone)]
struct Fake {
    address: String,
    secret: Arc<DeviceSecret>,
    heard: Arc<Mutex<Vec<ToTracker>>>,
    silent: Arc<AtomicBool>,
    refuses_sessions: Arc<Mutex<Option<ErrorCode>>>,
    /// Whether password changes fail.
    refuses_changes: Arc<AtomicBool>,
    started: Instant,
    stop: CancellationToken,
}

impl Fake {
    async fn start(net: &Arc<Memory>, n: u8) -> Self {
        let listener: Arc<dyn Listener> = Arc::from(net.listen("").await.unwrap());
        let fake = Self {
            address: listener.local_address().unwrap().to_string(),
            secret: Arc::new(DeviceSecret::from_seed([n; 32])),
            heard: Arc::default(),
            silent: Arc::default(),
            refuses_sessions: Arc::default(),
            refuses_changes: Arc::default(),
            started: Instant::now(),
            stop: CancellationToken::new(),
        };
        tokio::spawn(fake.clone().accept_all(listener));
        fake
    }

    async fn accept_all(self, listener: Arc<dyn Listener>) {
        let identity = Identity::new(&self.secret);
        let stop = self.stop.clone();
        let accepting = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(link) = accept(stream, &identity).await else { continue };
                let device = link.device();
                let (reader, writer) = link.split();
                let fake = self.clone();
                tokio::spawn(async move {
                    fake.stop.clone().run_until_cancelled(fake.serve(device, reader, writer)).await;
                });
            }
        };
        stop.run_until_cancelled(accepting).await;
    }

    async fn serve(&self, device: DeviceKey, mut reader: LinkReader, mut writer: LinkWriter) {
        while let Ok(Some(message)) = reader.message::<ToTracker>().await {
            self.heard.lock().unwrap().push(message.clone());
            let answer = self.answer(device, message);
            if let (Some(answer), false) = (answer, self.silent.load(Ordering::Relaxed)) {
                writer.send(&answer).await.unwrap();
            }
        }
    }

    fn now_ms(&self) -> u64 {
        TRACKER_MS + u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    fn answer(&self, device: DeviceKey, message: ToTracker) -> Option<FromTracker> {
        match message {
            ToTracker::Hello { session, .. } => Some(self.hello(session.is_some())),
            ToTracker::Request { seq, request, .. } => {
                let fails =
                    matches!(request, Request::ChangePassword { .. }) && self.refuses_changes.load(Ordering::Relaxed);
                let refusal = || Failure::new(ErrorCode::NotLoggedIn, "Nobody is logged in.");
                let result = if fails { Err(refusal()) } else { Ok(self.result(device, &request)) };
                Some(FromTracker::Answer { seq, seen: VersionVector::default(), stale: false, result })
            }
            ToTracker::Presence(_) => None,
            ToTracker::Ping => Some(FromTracker::Pong { now_ms: self.now_ms() }),
        }
    }

    fn hello(&self, shown: bool) -> FromTracker {
        let refusal = *self.refuses_sessions.lock().unwrap();
        let honoured = refusal.map_or_else(|| Ok(ann()), |code| Err(Failure::new(code, "The session is refused.")));
        let session = shown.then_some(honoured);
        FromTracker::Hello {
            version: VERSION,
            tracker: TrackerNo(1),
            now_ms: self.now_ms(),
            session,
            trackers: Vec::new(),
        }
    }

    fn result(&self, device: DeviceKey, request: &Request) -> Answer {
        match request {
            Request::Login { .. } | Request::ChangePassword { .. } => {
                Answer::LoggedIn { info: ann(), session: self.seal(device) }
            }
            Request::GetTicket { .. } => Answer::Ticket(self.seal(device)),
            _ => Answer::Done,
        }
    }

    /// A ticket; as a session it is opaque to the client anyway.
    fn seal(&self, device: DeviceKey) -> Signed {
        let issued_ms = self.now_ms();
        let ticket = Ticket {
            user: ann().user,
            name: ann().name,
            device,
            group: GROUP,
            membership: MembershipId([4; 32]),
            session: any_session(),
            issued_ms,
            expires_ms: issued_ms + u64::try_from(TICKET_LIFE.as_millis()).unwrap(),
        };
        Signed::seal(&ticket, &self.secret)
    }

    fn listed(&self) -> TrackerAddress {
        TrackerAddress { no: TrackerNo(1), address: self.address.clone(), key: None }
    }

    /// Nonces of the group creations that arrived.
    fn creations(&self) -> Vec<Nonce> {
        self.each(|message| match message {
            ToTracker::Request { nonce, request: Request::CreateGroup { .. }, .. } => Some(*nonce),
            _ => None,
        })
    }

    fn presences(&self) -> Vec<Presence> {
        self.each(|message| if let ToTracker::Presence(presence) = message { Some(presence.clone()) } else { None })
    }

    fn each<T>(&self, pick: impl Fn(&ToTracker) -> Option<T>) -> Vec<T> {
        self.heard.lock().unwrap().iter().filter_map(pick).collect()
    }
}

fn ann() -> SessionInfo {
    SessionInfo { user: UserId([1; 32]), name: UserName::parse("ann").unwrap() }
}

fn login() -> Request {
    let password = crate::protocol::client::Password("secret".to_owned());
    Request::Login { user: ann().name, password }
}

fn create_group() -> Request {
    Request::CreateGroup { group: GroupName::parse("g").unwrap() }
}

/// A client's link to some trackers, with a folder of its own.
struct Rig {
    link: TrackerLink,
    events: broadcast::Receiver<Event>,
    env: Environment,
    folder: tempfile::TempDir,
}

fn rig(net: &Arc<Memory>, trackers: &[&Fake]) -> Rig {
    rig_with(net, trackers, BTreeMap::new())
}

fn rig_with(net: &Arc<Memory>, trackers: &[&Fake], known: BTreeMap<String, DeviceKey>) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let env = Environment::new(net.clone(), Arc::new(SystemDisk), Arc::new(StoppedClock), Offload::Inline, [5; 32]);
    let (sender, events) = broadcast::channel(64);
    let setup = LinkSetup {
        trackers: trackers.iter().map(|fake| fake.listed()).collect(),
        identity: Arc::new(DeviceSecret::from_seed([9; 32])),
        dir: Arc::new(DataDir::open(&SystemDisk, &folder.path().join("data")).unwrap()),
        known,
        seen: VersionVector::default(),
        advertise: None,
        bound: SocketAddr::from(([127, 0, 0, 1], 4000)),
        events: sender,
    };
    Rig { link: TrackerLink::start(&env, setup), events, env, folder }
}

impl Rig {
    async fn event(&mut self) -> Event {
        timeout(Duration::from_mins(1), self.events.recv()).await.unwrap().unwrap()
    }

    fn in_use<'a>(&self, fakes: [&'a Fake; 2]) -> (&'a Fake, &'a Fake) {
        let current = self.link.current().borrow().clone().unwrap();
        let [one, two] = fakes;
        if one.address == current { (one, two) } else { (two, one) }
    }
}

fn serving(n: u8) -> Serving {
    Serving { group: GROUP, file: FileId([n; 32]), percent: 100 }
}

#[tokio::test(start_paused = true)]
async fn a_killed_tracker_is_replaced_without_a_login() {
    let net = Arc::new(Memory::default());
    let (one, two) = (Fake::start(&net, 1).await, Fake::start(&net, 2).await);
    let mut rig = rig(&net, &[&one, &two]);
    rig.link.request(login()).await.unwrap();
    rig.link.serve(serving(1));
    let (first, second) = rig.in_use([&one, &two]);
    sleep(Duration::from_secs(1)).await;

    let lost = Instant::now();
    first.stop.cancel();
    assert_eq!(rig.event().await, Event::TrackerLost { address: first.address.clone() });
    assert_eq!(rig.link.request(create_group()).await.unwrap().answer, Answer::Done);
    assert!(lost.elapsed() < Duration::from_secs(3));
    assert_eq!(rig.link.session().borrow().clone(), Some(ann()));
    assert_eq!(rig.event().await, Event::TrackerFound { address: second.address.clone() });
    let shown = second.each(|message| match message {
        ToTracker::Hello { session, .. } => Some(session.is_some()),
        _ => None,
    });
    assert_eq!(shown.last(), Some(&true));
    assert_eq!(
        second.presences().first().map(|presence| (presence.reset, presence.serving.clone())),
        Some((true, vec![serving(1)]))
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_tracker_is_noticed_and_the_repeat_bears_the_same_nonce() {
    let net = Arc::new(Memory::default());
    let (one, two) = (Fake::start(&net, 1).await, Fake::start(&net, 2).await);
    let rig = rig(&net, &[&one, &two]);
    rig.link.request(login()).await.unwrap();
    let (first, second) = rig.in_use([&one, &two]);
    sleep(Duration::from_millis(1700)).await;

    first.silent.store(true, Ordering::Relaxed);
    let asked = Instant::now();
    assert!(rig.link.request(create_group()).await.is_ok());
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_eq!(first.creations().len(), 1);
    assert_eq!(first.creations(), second.creations());
}

#[tokio::test(start_paused = true)]
async fn without_a_tracker_a_command_ends_and_a_write_may_still_take_effect() {
    let net = Arc::new(Memory::default());
    let only = Fake::start(&net, 1).await;
    let mut rig = rig(&net, &[&only]);
    rig.link.request(login()).await.unwrap();
    only.silent.store(true, Ordering::Relaxed);
    let failure = rig.link.request(create_group()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::NoTracker);
    assert!(failure.message.contains(&only.address) && failure.message.contains("may still take effect"), "{failure}");
    only.stop.cancel();
    let failure = rig.link.request(Request::ListTrackers).await.unwrap_err();
    assert!(!failure.message.contains("may still"), "{failure}");
    assert_eq!(rig.event().await, Event::TrackerLost { address: only.address.clone() });
    assert_eq!(rig.event().await, Event::NoTracker);
    // Logging out needs nobody.
    assert!(rig.link.request(Request::Logout).await.is_ok());
    assert_eq!(*rig.link.session().borrow(), None);
}

#[tokio::test(start_paused = true)]
async fn a_changed_key_is_refused_before_anything_is_said() {
    let net = Arc::new(Memory::default());
    let only = Fake::start(&net, 1).await;
    let known = BTreeMap::from([(only.address.clone(), DeviceSecret::from_seed([77; 32]).key())]);
    let mut rig = rig_with(&net, &[&only], known);
    let failure = rig.link.request(login()).await.unwrap_err();
    assert!(failure.message.contains("shows the key"), "{failure}");
    assert!(matches!(rig.event().await, Event::TrackerRefused { address, .. } if address == only.address));
    assert!(only.heard.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_first_key_seen_is_remembered_durably() {
    let net = Arc::new(Memory::default());
    let only = Fake::start(&net, 1).await;
    let rig = rig(&net, &[&only]);
    rig.link.request(login()).await.unwrap();
    rig.env.stop().await;
    drop(rig.link);
    let dir = DataDir::open(&SystemDisk, &rig.folder.path().join("data")).unwrap();
    let known = crate::store::client::memory::known_trackers(&SystemDisk, &dir).unwrap();
    assert_eq!(known, BTreeMap::from([(only.address.clone(), only.secret.key())]));
}

#[tokio::test(start_paused = true)]
async fn a_key_seen_by_a_dial_that_failed_is_remembered_with_the_next() {
    let net = Arc::new(Memory::default());
    let only = Fake::start(&net, 1).await;
    only.silent.store(true, Ordering::Relaxed);
    let rig = rig(&net, &[&only]);
    sleep(Duration::from_secs(5)).await;
    only.silent.store(false, Ordering::Relaxed);
    rig.link.request(login()).await.unwrap();
    rig.env.stop().await;
    drop(rig.link);
    let dir = DataDir::open(&SystemDisk, &rig.folder.path().join("data")).unwrap();
    let known = crate::store::client::memory::known_trackers(&SystemDisk, &dir).unwrap();
    assert_eq!(known, BTreeMap::from([(only.address.clone(), only.secret.key())]));
}

#[tokio::test(start_paused = true)]
async fn tickets_are_kept_while_fresh_and_judged_by_the_trackers_clock() {
    let net = Arc::new(Memory::default());
    let only = Fake::start(&net, 1).await;
    let rig = rig(&net, &[&only]);
    rig.link.request(login()).await.unwrap();
    let device = DeviceSecret::from_seed([9; 32]).key();
    let first = rig.link.ticket(GROUP).await.unwrap();
    assert_eq!(rig.link.verify_ticket(&first, GROUP, device).unwrap().name, ann().name);
    sleep(TICKET_LIFE * 49 / 100).await;
    assert_eq!(rig.link.ticket(GROUP).await.unwrap(), first);
    sleep(Duration::from_secs(10)).await;
    let second = rig.link.ticket(GROUP).await.unwrap();
    assert_ne!(second, first);
    sleep(TICKET_LIFE / 2).await;
    assert!(rig.link.verify_ticket(&first, GROUP, device).is_err());
    assert!(rig.link.verify_ticket(&second, GROUP, device).is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_a_tracker_a_ticket_is_shown_as_long_as_it_lives() {
    let net = Arc::new(Memory::default());
    let only = Fake::start(&net, 1).await;
    let rig = rig(&net, &[&only]);
    rig.link.request(login()).await.unwrap();
    let ticket = rig.link.ticket(GROUP).await.unwrap();
    only.stop.cancel();
    sleep(TICKET_LIFE * 3 / 4).await;
    assert_eq!(rig.link.ticket(GROUP).await.unwrap(), ticket);
    sleep(TICKET_LIFE / 4).await;
    assert_eq!(rig.link.ticket(GROUP).await.unwrap_err().code, ErrorCode::NoTracker);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_honoured_ends() {
    let net = Arc::new(Memory::default());
    let (one, two) = (Fake::start(&net, 1).await, Fake::start(&net, 2).await);
    let mut rig = rig(&net, &[&one, &two]);
    rig.link.request(login()).await.unwrap();
    let (first, second) = rig.in_use([&one, &two]);
    *second.refuses_sessions.lock().unwrap() = Some(ErrorCode::NotLoggedIn);
    first.stop.cancel();
    assert_eq!(rig.event().await, Event::TrackerLost { address: first.address.clone() });
    assert_eq!(rig.event().await, Event::Notice(Notice::SessionEnded));
    assert_eq!(*rig.link.session().borrow(), None);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_a_tracker_cannot_judge_yet_is_kept() {
    let net = Arc::new(Memory::default());
    let (one, two) = (Fake::start(&net, 1).await, Fake::start(&net, 2).await);
    let mut rig = rig(&net, &[&one, &two]);
    rig.link.request(login()).await.unwrap();
    let (first, second) = rig.in_use([&one, &two]);
    *second.refuses_sessions.lock().unwrap() = Some(ErrorCode::Stale);
    first.stop.cancel();
    assert_eq!(rig.event().await, Event::TrackerLost { address: first.address.clone() });
    assert_eq!(rig.event().await, Event::NoTracker);
    assert_eq!(rig.link.session().borrow().clone(), Some(ann()));
    *second.refuses_sessions.lock().unwrap() = None;
    assert_eq!(rig.event().await, Event::TrackerFound { address: second.address.clone() });
    assert_eq!(rig.link.session().borrow().clone(), Some(ann()));
}

fn change_password() -> Request {
    let password = |text: &str| crate::protocol::client::Password(text.to_owned());
    Request::ChangePassword { old: password("secret"), new: password("better") }
}

#[tokio::test(start_paused = true)]
async fn a_password_change_in_flight_decides_about_the_session_it_ended() {
    let net = Arc::new(Memory::default());
    let (one, two) = (Fake::start(&net, 1).await, Fake::start(&net, 2).await);
    let mut rig = rig(&net, &[&one, &two]);
    rig.link.request(login()).await.unwrap();
    let (first, second) = rig.in_use([&one, &two]);
    *second.refuses_sessions.lock().unwrap() = Some(ErrorCode::NotLoggedIn);
    first.silent.store(true, Ordering::Relaxed);
    let mut session = rig.link.session();
    session.borrow_and_update();
    let answered = rig.link.request(change_password()).await.unwrap();
    assert!(matches!(answered.answer, Answer::LoggedIn { .. }));
    assert!(!session.has_changed().unwrap(), "nobody is logged out meanwhile");
    assert_eq!(rig.event().await, Event::TrackerLost { address: first.address.clone() });
    assert_eq!(rig.event().await, Event::TrackerFound { address: second.address.clone() });
}

#[tokio::test(start_paused = true)]
async fn a_password_change_that_fails_leaves_no_refused_session() {
    let net = Arc::new(Memory::default());
    let (one, two) = (Fake::start(&net, 1).await, Fake::start(&net, 2).await);
    let rig = rig(&net, &[&one, &two]);
    rig.link.request(login()).await.unwrap();
    let (first, second) = rig.in_use([&one, &two]);
    *second.refuses_sessions.lock().unwrap() = Some(ErrorCode::NotLoggedIn);
    first.silent.store(true, Ordering::Relaxed);
    second.refuses_changes.store(true, Ordering::Relaxed);
    assert_eq!(rig.link.request(change_password()).await.unwrap_err().code, ErrorCode::NotLoggedIn);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(*rig.link.session().borrow(), None);
}

#[tokio::test(start_paused = true)]
async fn changes_of_presence_are_told_together() {
    let net = Arc::new(Memory::default());
    let only = Fake::start(&net, 1).await;
    let rig = rig(&net, &[&only]);
    rig.link.request(login()).await.unwrap();
    for n in 0..100 {
        rig.link.serve(serving(n));
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_secs(1)).await;
    let told = only.presences();
    assert!(told.len() <= 7, "{}", told.len());
    assert_eq!(told.iter().map(|presence| presence.serving.len()).sum::<usize>(), 100);
    rig.env.stop().await;
    sleep(Duration::from_secs(1)).await;
    let last = only.presences().pop().unwrap();
    assert!(last.reset && last.serving.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_question_about_a_swarm_comes_after_what_was_served_before_it() {
    let net = Arc::new(Memory::default());
    let only = Fake::start(&net, 1).await;
    let rig = rig(&net, &[&only]);
    rig.link.request(login()).await.unwrap();
    for n in 0..3 {
        rig.link.serve(serving(n));
        rig.link.request(create_group()).await.unwrap();
        assert!(only.presences().iter().any(|presence| presence.serving.contains(&serving(n))));
    }
}
