//! A world of its own for each test: a folder, free ports, trackers, and a journal that is shown when the test fails.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::Instant,
};

use tempfile::TempDir;

use super::{Client, P2P, Process, eventually};

/// What was said and answered, in order.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Mutex<Vec<String>>>, Instant);

impl Journal {
    /// Adds a line.
    pub(crate) fn note(&self, who: &str, what: &str) {
        let shown: String = what.chars().take(2000).collect();
        self.0.lock().unwrap().push(format!("{:8.3} {who} {shown}", self.1.elapsed().as_secs_f64()));
    }
}

/// Folder, ports, trackers.
pub(crate) struct World {
    dir: TempDir,
    addresses: Vec<String>,
    trackers: Vec<Option<Process>>,
    /// Where what happens is noted.
    pub(crate) journal: Journal,
}

impl World {
    /// A world with `count` trackers, all up.
    pub(crate) fn new(count: usize) -> Self {
        let mut world = Self::without_trackers(count);
        (0..count).for_each(|index| world.start_tracker(index));
        world
    }

    /// A world that lists `count` trackers, none of them up.
    pub(crate) fn without_trackers(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let addresses: Vec<String> = (0..count).map(|_| free_address()).collect();
        let journal = Journal(Arc::new(Mutex::new(Vec::new())), Instant::now());
        fs::write(dir.path().join("tracker_info.txt"), addresses.join("\n") + "\n").unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        Self { dir, addresses, trackers: (0..count).map(|_| None).collect(), journal }
    }

    /// Starts tracker `index` (from 0), and waits until it listens.
    pub(crate) fn start_tracker(&mut self, index: usize) {
        let command = self.tracker_command(index);
        self.launch(index, &command, &self.addresses[index].clone());
    }

    /// Starts tracker `index` bound to another address than the listed one, and waits until it listens there.
    pub(crate) fn start_tracker_at(&mut self, index: usize, bound: &str) {
        let bind = ["--bind", bound].map(str::to_owned);
        let command = [self.tracker_command(index), bind.to_vec()].concat();
        self.launch(index, &command, bound);
    }

    /// Starts tracker `index` with more options, and waits until it listens.
    pub(crate) fn start_tracker_with(&mut self, index: usize, options: &[&str]) {
        let options = options.iter().map(|it| (*it).to_owned()).collect();
        let command = [self.tracker_command(index), options].concat();
        self.launch(index, &command, &self.addresses[index].clone());
    }

    /// Starts tracker `index` with a command, and waits until it listens at `address`.
    pub(crate) fn launch(&mut self, index: usize, command: &[String], address: &str) {
        let name = format!("tracker-{}", index + 1);
        let log = self.log(&name);
        self.journal.note(&name, "starts");
        let mut process = Process::start(&name, command, &log);
        eventually(&format!("{name} listens"), || {
            assert!(process.is_running(), "{name} has ended\n{}", process.log());
            TcpStream::connect(address).ok()
        });
        self.trackers[index] = Some(process);
    }

    /// The command that tracker `index` is started with.
    pub(crate) fn tracker_command(&self, index: usize) -> Vec<String> {
        let number = (index + 1).to_string();
        let data = self.path(&format!("data/tracker-{number}"));
        [P2P, "tracker", &self.info(), &number, "--data-dir", &data.to_string_lossy()].map(str::to_owned).to_vec()
    }

    /// kill -9 of tracker `index`.
    pub(crate) fn kill_tracker(&mut self, index: usize) {
        self.journal.note(&format!("tracker-{}", index + 1), "is killed");
        self.trackers[index].take().expect("it was up").kill();
    }

    /// The process of tracker `index`.
    pub(crate) fn tracker(&mut self, index: usize) -> &mut Process {
        self.trackers[index].as_mut().expect("it is up")
    }

    /// Where tracker `index` listens.
    pub(crate) fn address(&self, index: usize) -> &str {
        &self.addresses[index]
    }

    /// Starts a client, not logged in.
    pub(crate) fn client(&self, name: &str) -> Client {
        Client::start(self, name, &[], &[])
    }

    /// Starts a client whose user is registered and logged in.
    pub(crate) fn user(&self, name: &str) -> Client {
        let mut client = self.client(name);
        client.register();
        client
    }

    /// Starts clients with a user each, all in a group that the first one owns.
    pub(crate) fn group<const N: usize>(&self, group: &str, names: [&str; N]) -> [Client; N] {
        let mut clients = names.map(|name| self.user(name));
        let (owner, others) = clients.split_first_mut().expect("a group has an owner");
        owner.ok(&format!("create_group {group}"));
        for other in others {
            other.join(owner, group);
        }
        clients
    }

    /// The tracker file.
    pub(crate) fn info(&self) -> String {
        self.path("tracker_info.txt").to_string_lossy().into_owned()
    }

    /// A path in the world's folder.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// A new folder in the world's folder.
    pub(crate) fn folder(&self, relative: &str) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Where a process's standard error goes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path("logs").join(format!("{name}.log"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            self.journal.0.lock().unwrap().iter().for_each(|line| eprintln!("{line}"));
            show_logs(&self.path("logs"));
        }
    }
}

fn show_logs(folder: &Path) {
    let mut logs: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.sort();
    for log in logs {
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("--- {} (last of {} lines)", log.display(), lines.len());
        lines[lines.len().saturating_sub(60)..].iter().for_each(|line| eprintln!("{line}"));
    }
}

/// An address on loopback that nobody uses.
///
/// A process must know the ports of others before they start, so they cannot be left to the system. They are taken below the
/// range from which the system serves outgoing links, in turn, and each is tried.
pub(crate) fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(process::id() % 199).unwrap() * 100;
    loop {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("127.0.0.1:{port}");
        }
    }
}
