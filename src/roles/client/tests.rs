//! Whole clients and whole trackers in one process: a network in memory, real folders, a clock that stands still.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::{
    protocol::{
        client::{Password, Standing},
        ids::TrackerNo,
        tracker_info::TrackerInfo,
    },
    roles::{
        environment::{Offload, WallClock},
        tracker::{Limits, PasswordCost, Tracker, TrackerConfig},
    },
    store::disk::SystemDisk,
    transport::memory::Memory,
};

/// A clock that runs with tokio's, and is off by some hours.
struct SkewedClock {
    start: Instant,
    at_start_ms: u64,
}

impl WallClock for SkewedClock {
    fn now_ms(&self) -> u64 {
        self.at_start_ms + u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }
}

struct Rig {
    net: Arc<Memory>,
    info: TrackerInfo,
    folder: TempDir,
    start: Instant,
}

impl Rig {
    fn new(trackers: u16) -> Self {
        let listed = |no| TrackerAddress { no: TrackerNo(no), address: format!("127.0.0.1:{no}"), key: None };
        let info = TrackerInfo { trackers: (1..=trackers).map(listed).collect() };
        let (net, folder) = (Arc::default(), tempfile::tempdir().unwrap());
        Self { net, info, folder, start: Instant::now() }
    }

    /// Every process has a clock of its own, hours from the others'.
    fn environment(&self, n: u8) -> Environment {
        let clock = SkewedClock { start: self.start, at_start_ms: (u64::from(n) + 1) * 10_000_000 };
        Environment::new(self.net.clone(), Arc::new(SystemDisk), Arc::new(clock), Offload::Inline, [n; 32])
    }

    async fn tracker(&self, no: u16) -> Tracker {
        let data_dir = self.folder.path().join(format!("tracker-{no}"));
        let (info, password_cost) = (self.info.clone(), PasswordCost::LEAST);
        let config = TrackerConfig {
            readmit: Vec::new(),
            info,
            no: TrackerNo(no),
            data_dir,
            bind: None,
            metrics: None,
            password_cost,
            limits: Limits::STANDARD,
        };
        Tracker::start(self.environment(u8::try_from(no).unwrap()), config).await.unwrap()
    }

    fn config(&self, n: u8) -> ClientConfig {
        ClientConfig {
            readmit: Vec::new(),
            listen: format!("127.0.0.1:{}", 100 + u16::from(n)),
            advertise: None,
            trackers: self.info.trackers.clone(),
            data_dir: self.folder.path().join(format!("client-{n}")),
            download_limit: Rate(0),
            upload_limit: Rate(0),
            max_peers: 20,
        }
    }

    async fn client(&self, n: u8) -> Client {
        Client::start(self.environment(50 + n), self.config(n)).await.unwrap()
    }

    /// A client whose user is registered and logged in; the trackers have met since: before, each takes writes alone.
    async fn user(&self, n: u8, name: &str) -> Client {
        let client = self.client(n).await;
        let (user, password) = (UserName::parse(name).unwrap(), Password("secret".to_owned()));
        run(&client, Command::CreateUser { user: user.clone(), password: password.clone() }).await;
        run(&client, Command::Login { user, password }).await;
        until_in_sync(&client).await;
        client
    }
}

async fn run(client: &Client, command: Command) -> Reply {
    let said = format!("{command:?}");
    let outcome = timeout(Duration::from_mins(1), client.execute(command)).await;
    match outcome.unwrap_or_else(|_| panic!("{said}: no reply")) {
        Ok(outcome) => outcome.reply,
        Err(failure) => panic!("{said}: {} {failure}", failure.code),
    }
}

fn group() -> GroupName {
    GroupName::parse("films").unwrap()
}

async fn standing(client: &Client) -> Standing {
    let Reply::Groups(groups) = run(client, Command::ListGroups).await else { panic!("no groups") };
    groups.iter().find(|info| info.name == group()).unwrap().standing
}

async fn until_in_sync(client: &Client) {
    for _ in 0..100 {
        let Reply::Trackers(rows) = run(client, Command::Trackers).await else { panic!("no trackers") };
        if rows.iter().all(|row| row.status.reachable && row.status.lag == Some(0)) {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("the trackers do not meet");
}

/// Ann's group with bob in it.
async fn ann_and_bob(rig: &Rig) -> (Client, Client) {
    let (ann, bob) = (rig.user(1, "ann").await, rig.user(2, "bob").await);
    run(&ann, Command::CreateGroup { group: group() }).await;
    run(&bob, Command::JoinGroup { group: group() }).await;
    let Reply::Requests(requests) = run(&ann, Command::ListRequests { group: group() }).await else { panic!() };
    assert_eq!(requests.iter().map(|request| request.user.as_str()).collect::<Vec<_>>(), ["bob"]);
    run(&ann, Command::AcceptRequest { group: group(), user: UserName::parse("bob").unwrap() }).await;
    (ann, bob)
}

#[tokio::test(start_paused = true)]
async fn a_group_lives_on_when_its_tracker_stops() {
    let rig = Rig::new(2);
    let mut trackers = vec![rig.tracker(1).await, rig.tracker(2).await];
    let (ann, bob) = ann_and_bob(&rig).await;
    assert_eq!(standing(&bob).await, Standing::Member);

    let Reply::Trackers(rows) = run(&ann, Command::Trackers).await else { panic!("no trackers") };
    let current = rows.iter().position(|row| row.current).unwrap();
    assert!(rows.iter().all(|row| row.status.reachable), "{rows:?}");
    trackers.remove(current).stop().await;

    let lost = Instant::now();
    let Reply::Members(members) = run(&ann, Command::ListMembers { group: group() }).await else { panic!() };
    assert!(lost.elapsed() < Duration::from_secs(3), "{:?}", lost.elapsed());
    assert_eq!(members.len(), 2);
    run(&ann, Command::RemoveMember { group: group(), user: UserName::parse("bob").unwrap() }).await;
    assert_eq!(standing(&bob).await, Standing::None);
    let again = rig.tracker(rows[current].status.tracker.0).await;
    until_in_sync(&ann).await;
    trackers.remove(0).stop().await;
    assert_eq!(standing(&ann).await, Standing::Owner);
    assert_eq!(standing(&bob).await, Standing::None);
    again.stop().await;
    ann.stop().await;
    bob.stop().await;
}

#[tokio::test(start_paused = true)]
async fn writes_under_way_survive_the_loss_of_their_tracker() {
    let rig = Rig::new(2);
    let mut trackers = vec![rig.tracker(1).await, rig.tracker(2).await];
    let ann = Arc::new(rig.user(1, "ann").await);
    let Reply::Trackers(rows) = run(&ann, Command::Trackers).await else { panic!("no trackers") };
    let current = rows.iter().position(|row| row.current).unwrap();
    let mut creations = Vec::new();
    for n in 0..40 {
        let ann = Arc::clone(&ann);
        let group = GroupName::parse(&format!("group-{n}")).unwrap();
        creations.push(tokio::spawn(async move { run(&ann, Command::CreateGroup { group }).await }));
    }
    sleep(Duration::from_millis(1)).await;
    trackers.remove(current).stop().await;
    for creation in creations {
        assert_eq!(creation.await.unwrap(), Reply::Done);
    }
    let Reply::Groups(groups) = run(&ann, Command::ListGroups).await else { panic!("no groups") };
    assert_eq!(groups.len(), 40);
    trackers.remove(0).stop().await;
}

#[tokio::test(start_paused = true)]
async fn uploads_under_way_survive_the_loss_of_their_tracker() {
    let rig = Rig::new(2);
    let mut trackers = vec![rig.tracker(1).await, rig.tracker(2).await];
    let ann = Arc::new(rig.user(1, "ann").await);
    run(&ann, Command::CreateGroup { group: group() }).await;
    let Reply::Trackers(rows) = run(&ann, Command::Trackers).await else { panic!("no trackers") };
    let current = rows.iter().position(|row| row.current).unwrap();
    let mut uploads = Vec::new();
    for n in 0..20 {
        let (ann, path) = (Arc::clone(&ann), rig.folder.path().join(format!("file-{n}")));
        put(&path, &[n; 700]);
        uploads.push(tokio::spawn(async move { run(&ann, Command::UploadFile { path, group: group() }).await }));
    }
    sleep(Duration::from_millis(2)).await;
    trackers.remove(current).stop().await;
    for upload in uploads {
        assert!(matches!(upload.await.unwrap(), Reply::Uploaded(_)));
    }
    let Reply::Files(files) = run(&ann, Command::ListFiles { group: group() }).await else { panic!("no files") };
    assert_eq!(files.len(), 20);
    trackers.remove(0).stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_download_outlives_the_loss_of_every_tracker() {
    let rig = Rig::new(1);
    let tracker = rig.tracker(1).await;
    let (ann, bob) = ann_and_bob(&rig).await;
    run(&ann, Command::SetLimit { direction: command::Direction::Up, rate: Rate(256 * 1024) }).await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 241) as u8).collect();
    let (from, to) = (rig.folder.path().join("film"), rig.folder.path().join("copy"));
    put(&from, &bytes);
    run(&ann, Command::UploadFile { path: from, group: group() }).await;
    let file = FileName::parse("film").unwrap();
    run(&bob, Command::DownloadFile { group: group(), file, destination: to.clone() }).await;
    sleep(Duration::from_secs(3)).await;
    tracker.stop().await;
    run(&bob, Command::Wait { download: None }).await;
    assert!(get(&to) == bytes);
    ann.stop().await;
    bob.stop().await;
}

#[tokio::test(start_paused = true)]
async fn shares_come_back_at_the_next_login() {
    let rig = Rig::new(1);
    let tracker = rig.tracker(1).await;
    let (ann, bob) = ann_and_bob(&rig).await;
    let (from, to) = (rig.folder.path().join("film"), rig.folder.path().join("copy"));
    put(&from, b"short");
    run(&ann, Command::UploadFile { path: from, group: group() }).await;
    ann.stop().await;
    let file = FileName::parse("film").unwrap();
    run(&bob, Command::DownloadFile { group: group(), file, destination: to.clone() }).await;
    sleep(Duration::from_secs(5)).await;
    let ann = rig.client(1).await;
    assert!(matches!(run(&ann, Command::WhoAmI).await, Reply::WhoAmI { user: None, .. }));
    let login = Command::Login { user: UserName::parse("ann").unwrap(), password: Password("secret".to_owned()) };
    assert!(matches!(run(&ann, login).await, Reply::LoggedIn { shared: 1, .. }));
    run(&bob, Command::Wait { download: None }).await;
    assert!(get(&to) == b"short");
    ann.stop().await;
    bob.stop().await;
    tracker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_goes_from_one_member_to_another() {
    let rig = Rig::new(1);
    let tracker = rig.tracker(1).await;
    let (ann, bob) = ann_and_bob(&rig).await;
    let bytes: Vec<u8> = (0..1_300_000_u32).map(|n| (n % 251) as u8).collect();
    let (from, to) = (rig.folder.path().join("film one.bin"), rig.folder.path().join("copy.bin"));
    put(&from, &bytes);

    run(&ann, Command::UploadFile { path: from, group: group() }).await;
    let file = FileName::parse("film one.bin").unwrap();
    sleep(Duration::from_secs(1)).await;
    let Reply::File(detail) = run(&bob, Command::FileInfo { group: group(), file: file.clone() }).await else {
        panic!()
    };
    assert_eq!((detail.pieces, detail.hash_string.len(), detail.holders.len()), (3, 60, 1));
    run(&bob, Command::DownloadFile { group: group(), file: file.clone(), destination: to.clone() }).await;
    run(&bob, Command::Wait { download: None }).await;
    sleep(Duration::from_secs(1)).await;
    assert!(get(&to) == bytes);

    let Reply::File(detail) = run(&ann, Command::FileInfo { group: group(), file }).await else { panic!() };
    let holders: Vec<_> = detail.holders.iter().map(|holder| (holder.user.as_str(), holder.percent)).collect();
    assert_eq!(holders, [("ann", 100), ("bob", 100)]);
    ann.stop().await;
    bob.stop().await;
    tracker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_login_says_so() {
    let rig = Rig::new(1);
    let tracker = rig.tracker(1).await;
    let client = rig.client(1).await;
    let failure = client.execute(Command::ListGroups).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::NotLoggedIn);
    assert!(matches!(run(&client, Command::WhoAmI).await, Reply::WhoAmI { user: None, .. }));
    let ann = rig.user(2, "ann").await;
    let again = Command::Login { user: UserName::parse("ann").unwrap(), password: Password("secret".to_owned()) };
    assert_eq!(ann.execute(again).await.unwrap_err().code, ErrorCode::AlreadyLoggedIn);
    run(&ann, Command::Logout).await;
    assert_eq!(ann.execute(Command::Logout).await.unwrap_err().code, ErrorCode::NotLoggedIn);
    tracker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_folder_and_one_port_serve_one_client() {
    let rig = Rig::new(1);
    let _first = rig.client(1).await;
    let refused = async |config| Client::start(rig.environment(60), config).await.err().unwrap();
    let failure = refused(rig.config(1)).await;
    assert!(failure.message.contains("in use by another client"), "{failure}");
    let failure = refused(ClientConfig { listen: rig.config(1).listen, ..rig.config(2) }).await;
    assert!(failure.message.contains("in use by another program"), "{failure}");
    let failure = refused(ClientConfig { advertise: Some("somewhere".to_owned()), ..rig.config(3) }).await;
    assert!(failure.message.contains("--advertise"), "{failure}");
}

fn put(path: &std::path::Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

fn get(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
