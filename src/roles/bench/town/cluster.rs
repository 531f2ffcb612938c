//! Two tracker processes on this machine, the first with a town in its log.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rand_chacha::rand_core::Rng as _;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        BenchError,
        process::{Process, Usage, free_address},
        stage::work_folder,
    },
    census::{self, Census, PASSWORD},
    line::Line,
};
use crate::{
    protocol::{
        client::{Answer, Request},
        device::DeviceSecret,
        ids::{DeviceKey, SessionId, TrackerNo, device_key_text},
        ticket::{CredentialId, Session, SessionRef, Signed},
        version::Dot,
    },
    roles::{environment::Environment, tracker::PasswordCost},
    store::{database::open_database, tracker::TrackerStore},
};

/// The number of the tracker that the load stands in for.
pub(in super::super) const STAND_IN: u16 = 3;
/// A day: the town is older than the test.
const AGE_MS: u64 = 24 * 3600 * 1000;
/// How long the load's sessions last.
const SESSION_MS: u64 = 24 * 3600 * 1000;
/// Longer than the largest catalog may take to start or to arrive.
const PATIENCE: Duration = Duration::from_mins(15);
/// Time that memory has to settle in before it is measured.
const SETTLE: Duration = Duration::from_secs(2);
/// For how long trackers must be idle to be at rest, and what part of a processor they may take then.
const RESTING: Duration = Duration::from_secs(6);
const IDLE: f64 = 0.05;
/// Pause between two looks at whether a tracker has come up, or has all.
const PAUSE: Duration = Duration::from_millis(5);

/// The processes, their keys, and where everything of theirs is.
pub(in super::super) struct Cluster {
    pub(in super::super) env: Environment,
    pub(in super::super) census: Census,
    dir: tempfile::TempDir,
    info: String,
    secrets: Vec<DeviceSecret>,
    addresses: Vec<String>,
    base_ms: u64,
    running: BTreeMap<u16, Process>,
}

impl Cluster {
    /// Writes the town into the log of tracker 1, and `listed` trackers into the list: the two, and [`STAND_IN`] if it is
    /// needed. Nothing runs yet.
    pub(in super::super) fn found(chosen: Option<&Path>, census: Census, listed: u16) -> Result<Self, BenchError> {
        let env = Environment::system().map_err(BenchError::io("draw keys"))?;
        let dir = work_folder(chosen).map_err(BenchError::io("make a folder for the trackers"))?;
        let base_ms = env.wall_clock.now_ms().saturating_sub(AGE_MS);
        let addresses = (0..STAND_IN).map(|_| free_address()).collect::<Result<Vec<_>, _>>()?;
        let secrets: Vec<_> = (0..STAND_IN).map(|no| secret(&env, "bench tracker", u64::from(no))).collect();
        let lines = addresses.iter().zip(&secrets).take(usize::from(listed));
        let lines = lines.map(|(address, secret)| format!("{address} {}\n", device_key_text(&secret.key())));
        let list = lines.collect::<Vec<_>>().concat();
        let info = dir.path().join("tracker_info.txt");
        #[expect(clippy::disallowed_methods, reason = "for processes that are watched from outside")]
        std::fs::write(&info, list).map_err(BenchError::io("write the list of trackers"))?;
        let info = info.to_string_lossy().into_owned();
        let cluster = Self { env, census, dir, info, secrets, addresses, base_ms, running: BTreeMap::new() };
        cluster.settle()?;
        Ok(cluster)
    }

    /// Makes both folders: keys, and the town.
    fn settle(&self) -> Result<(), BenchError> {
        let mut salt = [0; 16];
        self.env.rng("bench salt", 0).fill_bytes(&mut salt);
        let credential = PasswordCost::OWASP.hash(PASSWORD.as_bytes(), &salt);
        let credential = credential.map_err(|error| BenchError::io("hash a password")(std::io::Error::other(error)))?;
        for no in [1, 2] {
            let failed = BenchError::io(format!("write the log of tracker {no}"));
            let folder = self.dir.path().join(name(no));
            let write = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
                self.env.disk.create_dir_all(&folder)?;
                let store = TrackerStore::new(open_database(&*self.env.disk, &folder.join("tracker.redb"))?)?;
                let secret = self.secret(no);
                store.secret_or(*secret.seed())?;
                if no == 1 {
                    census::write(&self.census, &store, secret.key(), &credential, self.base_ms)?;
                }
                Ok(())
            };
            write().map_err(|error| failed(std::io::Error::other(error)))?;
        }
        Ok(())
    }

    /// Starts a tracker; returns how long it took to answer a client.
    pub(in super::super) async fn start(&mut self, no: u16) -> Result<Duration, BenchError> {
        let begun = Instant::now();
        let process =
            Process::start(&name(no), &["tracker", &self.info, &no.to_string(), "--no-limits"], self.dir.path())?;
        self.running.insert(no, process);
        loop {
            match self.line(no, 0, u64::from(no)).await {
                Ok(_) => return Ok(begun.elapsed()),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Waits until tracker 2 has confirmed all that tracker 1 knows, and writes wait for it.
    pub(in super::super) async fn until_synced(&self) -> Result<(), BenchError> {
        let begun = Instant::now();
        let mut line = self.line(1, 0, 0).await?;
        loop {
            let Answer::Trackers(all) = line.ask(Request::ListTrackers).await? else {
                return Err(BenchError::io("ask how far the trackers are")(std::io::ErrorKind::InvalidData.into()));
            };
            if all.iter().any(|other| other.tracker == TrackerNo(2) && other.reachable && other.lag == Some(0)) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(BenchError::io("wait until the trackers are in sync")(std::io::ErrorKind::TimedOut.into()));
            }
            sleep(PAUSE).await;
        }
    }

    /// Starts both trackers of a list of three, and waits until they are in sync.
    pub(in super::super) async fn run(chosen: Option<&Path>, census: Census) -> Result<Self, BenchError> {
        let mut cluster = Self::found(chosen, census, STAND_IN)?;
        for no in [1, 2] {
            cluster.start(no).await?;
        }
        cluster.until_synced().await?;
        Ok(cluster)
    }

    /// A link to a tracker from device `device`, on which `account` is logged in by a session of before.
    pub(in super::super) async fn line(&self, no: u16, account: u32, device: u64) -> Result<Line, BenchError> {
        let secret = secret(&self.env, "bench device", device);
        let now_ms = self.env.wall_clock.now_ms();
        let opened_with = CredentialId { at: census::registered(account, self.base_ms), request: None };
        let id = SessionId(blake3::hash(&[secret.key().0.as_slice(), &account.to_le_bytes()].concat()).into());
        // Of before: no tracker has it in its log.
        let opened = Dot { origin: secret.key(), counter: 1 };
        let session = Session {
            user: census::user(account),
            name: census::user_name(account),
            device: secret.key(),
            session: SessionRef { id, opened, opened_with },
            issued_ms: now_ms,
            expires_ms: now_ms + SESSION_MS,
        };
        let session = Signed::seal(&session, self.secret(1));
        Line::open(&*self.env.transport, self.tracker(no), &secret, session).await
    }

    /// Address and key of a tracker.
    pub(in super::super) fn tracker(&self, no: u16) -> (&str, DeviceKey) {
        (&self.addresses[usize::from(no) - 1], self.secret(no).key())
    }

    /// The secret of the tracker that the load stands in for.
    pub(in super::super) fn stand_in(&self) -> &DeviceSecret {
        self.secret(STAND_IN)
    }

    fn secret(&self, no: u16) -> &DeviceSecret {
        &self.secrets[usize::from(no) - 1]
    }

    /// What one tracker has taken.
    pub(in super::super) fn usage(&self, no: u16) -> Usage {
        self.running.get(&no).map(Process::usage).unwrap_or_default()
    }

    /// Bytes of a tracker's log and pages on disk.
    pub(in super::super) fn disk_bytes(&self, no: u16) -> u64 {
        let path = self.dir.path().join(name(no)).join("tracker.redb");
        self.env.disk.stat(&path).map_or(0, |stat| stat.stamp.size)
    }

    /// Resident bytes of a tracker once it has come to rest.
    pub(in super::super) async fn settled(&self, no: u16) -> u64 {
        sleep(SETTLE).await;
        self.usage(no).resident_bytes
    }

    /// Waits until both trackers have nothing left to do of their own: what a start brings with it is looked through for
    /// something to forget. Returns the seconds of processor time that this took.
    pub(in super::super) async fn rest(&self) -> f64 {
        let (begun, before) = (Instant::now(), self.cpu_s());
        // The look begins a few seconds after the trackers are in sync.
        sleep(2 * SETTLE + RESTING).await;
        loop {
            let last = self.cpu_s();
            sleep(RESTING).await;
            let now = self.cpu_s();
            if now - last < IDLE * RESTING.as_secs_f64() || begun.elapsed() > PATIENCE {
                return now - before;
            }
        }
    }

    /// Seconds of processor time that both trackers have taken.
    pub(in super::super) fn cpu_s(&self) -> f64 {
        self.running.values().map(|process| process.usage().cpu_s).sum()
    }
}

fn secret(env: &Environment, purpose: &str, index: u64) -> DeviceSecret {
    let mut seed = [0; 32];
    env.rng(purpose, index).fill_bytes(&mut seed);
    DeviceSecret::from_seed(seed)
}

fn name(no: u16) -> String {
    format!("tracker-{no}")
}
