//! A tracker that holds everything in memory and one group whose members are all who are not outcast, and clients around it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{broadcast, mpsc},
    time::{Instant, sleep, timeout},
};

use super::troubled::Troubled;
use crate::{
    protocol::{
        client::{
            Answer, FileInfo, FromTracker, GroupInfo, Notice, Password, Presence, Request, SessionInfo, Standing,
            SwarmPeer, ToTracker, VERSION,
        },
        device::DeviceSecret,
        error::{ErrorCode, Failure},
        ids::{DeviceKey, FileId, GroupId, ManifestId, MembershipId, SessionId, TrackerNo, UserId},
        manifest::ManifestHeader,
        name::{FileName, GroupName, UserName},
        ticket::{CredentialId, Session, SessionRef, Signed, TICKET_LIFE, Ticket},
        tracker_info::TrackerAddress,
        version::{Dot, VersionVector},
    },
    roles::{
        client::{
            command::{DownloadRow, DownloadState, Event, Rate, Reply},
            exchange::{Exchange, ExchangeSetup, Resumed},
            tracker_link::{LinkSetup, TrackerLink},
        },
        environment::{Environment, Offload, WallClock},
    },
    store::{client::DataDir, database::open_database, disk::SystemDisk},
    transport::{
        BoxFuture, Listener, Stream, Transport,
        link::{Link, accept},
        memory::Memory,
        tls::Identity,
    },
};

const NOW_MS: u64 = 1_700_000_000_000;
pub(super) const GROUP: GroupId = GroupId([3; 32]);

struct StoppedClock;

impl WallClock for StoppedClock {
    fn now_ms(&self) -> u64 {
        NOW_MS
    }
}

pub(super) fn group() -> GroupName {
    GroupName::parse("team").unwrap()
}

pub(super) fn name(text: &str) -> FileName {
    FileName::parse(text).unwrap()
}

/// The network, the tracker on it, and folders for all.
pub(super) struct Town {
    pub(super) net: Arc<Memory>,
    pub(super) folder: tempfile::TempDir,
    tracker: Arc<Tracker>,
}

#[derive(Default)]
struct State {
    /// Users whose membership has ended.
    outcast: BTreeSet<UserId>,
    ended_sessions: BTreeSet<SessionId>,
    manifests: BTreeMap<ManifestId, (ManifestHeader, BTreeMap<u32, Vec<u8>>)>,
    shares: BTreeSet<(FileId, DeviceKey)>,
    files: BTreeMap<FileId, ManifestId>,
    devices: BTreeMap<DeviceKey, Device>,
    tickets_given: u32,
}

#[derive(Default)]
struct Device {
    user: Option<SessionInfo>,
    address: String,
    serving: BTreeMap<FileId, u8>,
    notices: Option<mpsc::Sender<FromTracker>>,
}

impl Device {
    fn notify(&self, notice: FromTracker) {
        if let Some(notices) = &self.notices {
            let _ = notices.try_send(notice);
        }
    }
}

struct Tracker {
    secret: DeviceSecret,
    address: String,
    state: Mutex<State>,
    started: Instant,
}

/// The user's identity by name.
pub(super) fn user(name: &str) -> SessionInfo {
    SessionInfo { user: UserId(*blake3::hash(name.as_bytes()).as_bytes()), name: UserName::parse(name).unwrap() }
}

/// The session of a device.
fn session(device: DeviceKey) -> SessionRef {
    let opened = Dot { origin: device, counter: 1 };
    SessionRef { id: SessionId(device.0), opened, opened_with: CredentialId::default() }
}

impl Town {
    pub(super) async fn start() -> Self {
        let net = Arc::new(Memory::default());
        let listener = net.listen("").await.unwrap();
        let tracker = Arc::new(Tracker {
            secret: DeviceSecret::from_seed([1; 32]),
            address: listener.local_address().unwrap().to_string(),
            state: Mutex::default(),
            started: Instant::now(),
        });
        let serving = Arc::clone(&tracker);
        tokio::spawn(async move {
            let identity = Identity::new(&serving.secret);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(link) = accept(stream, &identity).await else { continue };
                tokio::spawn(Arc::clone(&serving).serve(link));
            }
        });
        Self { net, folder: tempfile::tempdir().unwrap(), tracker }
    }

    /// Ends a user's membership and tells everybody.
    pub(super) fn cast_out(&self, name: &str) {
        let user = user(name).user;
        let mut state = self.tracker.state();
        state.outcast.insert(user);
        for device in state.devices.values() {
            let memberships = vec![MembershipId(user.0)];
            device.notify(FromTracker::Notice(Notice::MembershipEnded { group: GROUP, user, memberships }));
        }
    }

    /// Ends a user's sessions and tells everybody.
    pub(super) fn end_sessions(&self, name: &str) {
        let (user, mut state) = (user(name).user, self.tracker.state());
        let theirs = state.devices.iter().filter(|(_, it)| it.user.as_ref().is_some_and(|info| info.user == user));
        let ended: Vec<_> = theirs.map(|(device, _)| session(*device).id).collect();
        state.ended_sessions.extend(ended);
        for device in state.devices.values() {
            device.notify(FromTracker::Notice(Notice::SessionsEnded { user }));
        }
    }

    /// Ends a membership without telling anybody.
    pub(super) fn cast_out_unheard(&self, name: &str) {
        self.tracker.state().outcast.insert(user(name).user);
    }

    /// What the trackers say about a file.
    pub(super) fn file(&self, file: FileId) -> ManifestHeader {
        let state = self.tracker.state();
        state.manifests[&state.files[&file]].0.clone()
    }

    /// How many tickets devices have asked for.
    pub(super) fn tickets_given(&self) -> u32 {
        self.tracker.state().tickets_given
    }

    /// A ticket for whoever asks.
    pub(super) fn ticket(&self, name: &str, device: DeviceKey) -> Signed {
        self.tracker.ticket(&user(name), device)
    }

    /// Adds somebody to the swarm of a file.
    pub(super) fn announce(&self, name: &str, device: DeviceKey, address: &str, file: FileId) {
        let mut state = self.tracker.state();
        let it = state.devices.entry(device).or_default();
        (it.user, it.address) = (Some(user(name)), address.to_owned());
        it.serving.insert(file, 100);
    }

    /// A client of a user, logged in; its state rests in a folder of that name.
    pub(super) async fn client(&self, name: &str) -> Client {
        Client::start(self, name, Arc::clone(&self.net) as _).await
    }

    /// A client so far away that its connections take a while to stand.
    pub(super) async fn far_client(&self, name: &str, round_trip: Duration) -> Client {
        Client::start(self, name, Arc::new(Far { net: Arc::clone(&self.net), round_trip })).await
    }

    /// Writes a file of `size` bytes that differ from place to place.
    pub(super) fn write(&self, name: &str, size: usize) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content(size)).unwrap();
        path
    }
}

pub(super) fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

impl Tracker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Hours away from the clients' clock.
    fn now_ms(&self) -> u64 {
        NOW_MS + 7_200_000 + u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    async fn serve(self: Arc<Self>, link: Link) {
        let device = link.device();
        let (mut reader, mut writer) = link.split();
        let (notices, mut waiting) = mpsc::channel(64);
        self.state().devices.entry(device).or_default().notices = Some(notices);
        loop {
            tokio::select! {
                biased;
                message = reader.message::<ToTracker>() => {
                    let Ok(Some(message)) = message else { break };
                    let Some(answer) = self.answer(device, message) else { continue };
                    writer.send(&answer).await.unwrap();
                }
                Some(notice) = waiting.recv() => writer.send(&notice).await.unwrap(),
            }
        }
        if let Some(gone) = self.state().devices.get_mut(&device) {
            gone.serving.clear();
        }
    }

    fn answer(&self, device: DeviceKey, message: ToTracker) -> Option<FromTracker> {
        match message {
            ToTracker::Hello { .. } => Some(FromTracker::Hello {
                version: VERSION,
                tracker: TrackerNo(1),
                now_ms: self.now_ms(),
                session: None,
                trackers: Vec::new(),
            }),
            ToTracker::Request { seq, request, .. } => {
                let result = self.result(device, request);
                Some(FromTracker::Answer { seq, seen: VersionVector::default(), stale: false, result })
            }
            ToTracker::Presence(presence) => {
                self.note(device, presence);
                None
            }
            ToTracker::Ping => Some(FromTracker::Pong { now_ms: self.now_ms() }),
        }
    }

    fn note(&self, device: DeviceKey, presence: Presence) {
        let mut state = self.state();
        let it = state.devices.entry(device).or_default();
        if presence.reset {
            it.serving.clear();
        }
        it.address = presence.address;
        let changed: Vec<FileId> = presence.serving.iter().map(|it| it.file).collect();
        it.serving.extend(presence.serving.iter().map(|serving| (serving.file, serving.percent)));
        it.serving.retain(|file, _| !presence.ended.contains(file));
        for file in changed {
            let others = state.devices.iter().filter(|(key, it)| **key != device && it.serving.contains_key(&file));
            for (_, other) in others {
                let notice = FromTracker::Notice(Notice::SwarmChanged { file });
                other.notify(notice);
            }
        }
    }

    fn result(&self, device: DeviceKey, request: Request) -> Result<Answer, Failure> {
        if let Request::Login { user: name, .. } = request {
            let info = user(name.as_str());
            self.state().devices.entry(device).or_default().user = Some(info.clone());
            let session = Session {
                user: info.user,
                name: info.name.clone(),
                device,
                session: session(device),
                issued_ms: NOW_MS,
                expires_ms: u64::MAX,
            };
            return Ok(Answer::LoggedIn { info, session: Signed::seal(&session, &self.secret) });
        }
        let user = self.state().devices[&device].user.clone().unwrap();
        if self.state().outcast.contains(&user.user) {
            return Err(Failure::new(ErrorCode::NotAMember, "outcast"));
        }
        self.member_result(device, &user, request)
    }

    fn member_result(&self, device: DeviceKey, user: &SessionInfo, request: Request) -> Result<Answer, Failure> {
        let mut state = self.state();
        match request {
            Request::FindGroup { group } => Ok(Answer::Group(GroupInfo {
                group: GROUP,
                name: group,
                owner: user.name.clone(),
                members: 1,
                standing: Standing::Member,
            })),
            Request::OfferManifest { manifest, .. } => {
                let pages =
                    &mut state.manifests.entry(manifest.id()).or_insert_with(|| (manifest.clone(), <_>::default())).1;
                Ok(Answer::MissingPages((0..manifest.page_count()).filter(|it| !pages.contains_key(it)).collect()))
            }
            Request::PutPage { manifest, page, bytes } => {
                state.manifests.get_mut(&manifest).unwrap().1.insert(page, bytes);
                Ok(Answer::Done)
            }
            Request::Share { group, manifest } => {
                let file = FileId::of(&group, &manifest.id());
                let is_taken = state.files.iter().any(|(other, id)| {
                    *other != file
                        && state.manifests[id].0.name == manifest.name
                        && state.shares.iter().any(|(shared, _)| shared == other)
                });
                if is_taken {
                    return Err(Failure::new(ErrorCode::FileExists, "taken"));
                }
                state.files.insert(file, manifest.id());
                if !state.shares.insert((file, device)) {
                    return Err(Failure::new(ErrorCode::AlreadyShared, "shared"));
                }
                Ok(Answer::Shared { file, name: manifest.name })
            }
            Request::StopShare { file } => {
                state.shares.remove(&(file, device));
                Ok(Answer::Done)
            }
            Request::FindFile { file: name, .. } => state.find(&name),
            Request::GetPage { manifest, page, .. } => Ok(Answer::Page(state.manifests[&manifest].1[&page].clone())),
            Request::GetSwarm { file, .. } => Ok(Answer::Swarm(state.swarm(device, file))),
            Request::GetTicket { .. } => {
                state.tickets_given += 1;
                Ok(Answer::Ticket(self.ticket(user, device)))
            }
            Request::CheckMembers { mut memberships, sessions, .. } => {
                memberships.retain(|membership| state.outcast.contains(&UserId(membership.0)));
                let ended = sessions.iter().filter(|(_, session)| state.ended_sessions.contains(&session.id));
                Ok(Answer::Ended { memberships, sessions: ended.map(|(_, session)| session.id).collect() })
            }
            _ => Ok(Answer::Done),
        }
    }

    fn ticket(&self, user: &SessionInfo, device: DeviceKey) -> Signed {
        let ticket = Ticket {
            user: user.user,
            name: user.name.clone(),
            device,
            group: GROUP,
            membership: MembershipId(user.user.0),
            session: session(device),
            issued_ms: self.now_ms(),
            expires_ms: self.now_ms() + u64::try_from(TICKET_LIFE.as_millis()).unwrap(),
        };
        Signed::seal(&ticket, &self.secret)
    }
}

impl State {
    fn find(&self, name: &FileName) -> Result<Answer, Failure> {
        let shared = |file: &FileId| self.shares.iter().any(|(shared, _)| shared == file);
        let found = self.files.iter().find(|(file, id)| shared(file) && self.manifests[id].0.name == *name);
        let (file, id) = found.ok_or_else(|| Failure::new(ErrorCode::NoSuchFile, "no such file"))?;
        let manifest = self.manifests[id].0.clone();
        let info = FileInfo {
            group: GROUP,
            file: *file,
            manifest: *id,
            name: manifest.name.clone(),
            size: manifest.size,
            sha1: manifest.sha1,
            seeders: 0,
            leechers: 0,
            shared_by: Vec::new(),
        };
        Ok(Answer::File { info, manifest })
    }

    fn swarm(&self, asker: DeviceKey, file: FileId) -> Vec<SwarmPeer> {
        let others = self.devices.iter().filter(|(device, _)| **device != asker);
        let peers = others.filter_map(|(device, it)| {
            let (percent, user) = (*it.serving.get(&file)?, it.user.clone()?.name);
            Some(SwarmPeer { device: *device, user, address: it.address.clone(), percent })
        });
        peers.collect()
    }
}

/// The network as a client sees it whose connections take a round trip to stand.
struct Far {
    net: Arc<Memory>,
    round_trip: Duration,
}

impl Transport for Far {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            sleep(self.round_trip).await;
            self.net.connect(address).await
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.net.listen(address)
    }
}

/// A client's data plane on a real disk.
pub(super) struct Client {
    pub(super) exchange: Exchange,
    pub(super) env: Environment,
    pub(super) disk: Arc<Troubled>,
    pub(super) events: broadcast::Receiver<Event>,
    pub(super) resumed: Resumed,
    pub(super) folder: PathBuf,
}

impl Client {
    async fn start(town: &Town, name: &str, net: Arc<dyn Transport>) -> Self {
        let folder = town.folder.path().join(name);
        let dir = DataDir::open(&SystemDisk, &folder).unwrap();
        let seed = *blake3::hash(name.as_bytes()).as_bytes();
        let disk = Arc::new(Troubled::default());
        let env = Environment::new(net, Arc::clone(&disk) as _, Arc::new(StoppedClock), Offload::Inline, seed);
        let identity = Arc::new(DeviceSecret::from_seed(seed));
        let listener = town.net.listen("").await.unwrap();
        let (sender, events) = broadcast::channel(1024);
        let setup = LinkSetup {
            trackers: vec![TrackerAddress { no: TrackerNo(1), address: town.tracker.address.clone(), key: None }],
            identity: Arc::clone(&identity),
            dir: Arc::new(dir),
            known: BTreeMap::new(),
            seen: VersionVector::default(),
            advertise: None,
            bound: listener.local_address().unwrap(),
            events: sender.clone(),
        };
        let tracker = TrackerLink::start(&env, setup);
        let setup = ExchangeSetup {
            identity,
            database: Arc::new(open_database(&SystemDisk, &folder.join("library")).unwrap()),
            listener,
            events: sender,
            upload_limit: Rate(0),
            download_limit: Rate(0),
            max_peers: 50,
        };
        let exchange = Exchange::start(&env, tracker.clone(), setup);
        let password = Password("password".to_owned());
        tracker.request(Request::Login { user: UserName::parse(name).unwrap(), password }).await.unwrap();
        let resumed = exchange.logged_in().await.unwrap();
        Self { exchange, env, disk, events, resumed, folder }
    }

    /// Ends the process in an orderly way.
    pub(super) async fn stop(self) {
        self.env.stop().await;
    }

    pub(super) async fn upload(&self, path: &Path) -> FileId {
        let Reply::Uploaded(uploaded) = self.exchange.upload_file(path, group()).await.unwrap() else { panic!() };
        self.exchange.turn(move |hub| hub.share_named(&group(), &uploaded.name).unwrap().file).await.unwrap()
    }

    /// Starts a download into this client's folder.
    pub(super) async fn download(&self, file: &str) -> PathBuf {
        let reply = self.exchange.download_file(group(), name(file), &self.folder).await.unwrap();
        let Reply::DownloadStarted { path, .. } = reply else { panic!("{reply:?}") };
        path
    }

    /// Waits for every download; simulated minutes are the limit.
    pub(super) async fn wait(&self) -> Result<Vec<DownloadRow>, Failure> {
        let waited = timeout(Duration::from_mins(10), self.exchange.wait(None)).await;
        match waited.expect("the downloads end")? {
            Reply::Waited(rows) => Ok(rows),
            reply => panic!("{reply:?}"),
        }
    }

    pub(super) async fn rows(&self) -> Vec<DownloadRow> {
        match self.exchange.show_downloads(true).await {
            Reply::Downloads { downloads, .. } => downloads,
            reply => panic!("{reply:?}"),
        }
    }

    /// Downloads a file to its end and checks its bytes.
    pub(super) async fn fetch(&self, file: &str, size: usize) {
        let path = self.download(file).await;
        let rows = self.wait().await.unwrap();
        assert!(rows.iter().all(|row| row.state == DownloadState::Complete), "{rows:?}");
        assert!(std::fs::read(&path).unwrap() == content(size), "{} differs", path.display());
    }

    /// Names in this client's folder that are left over from downloads.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".p2p-part")).collect()
    }
}
