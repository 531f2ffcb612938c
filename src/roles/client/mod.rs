//! The client role: commands in, replies and events out; shares, downloads and peers behind them.

pub mod command;
mod complete;
pub mod exchange;
pub mod output;
pub mod prompt;
pub mod shell;
mod start;
#[cfg(test)]
mod tests;
pub mod tracker_link;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::broadcast;

use self::{
    command::{Command, Event, Rate, Reply},
    exchange::Exchange,
    tracker_link::TrackerLink,
};
use crate::{
    protocol::{
        client::SessionInfo,
        error::{ErrorCode, Failure},
        ids::DeviceKey,
        name::{FileName, GroupName, UserName},
        readmission::Readmission,
        tracker_info::TrackerAddress,
    },
    roles::environment::Environment,
};

/// Events kept for a slow reader; one that lags further misses the oldest.
const EVENTS: usize = 256;

/// How a client is set up.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `IP:PORT` to serve pieces at; port 0 lets the system choose.
    pub listen: String,
    /// `IP:PORT` told to others when it differs from the one bound.
    pub advertise: Option<String>,
    /// The trackers of the cluster; never empty.
    pub trackers: Vec<TrackerAddress>,
    /// Where this client's state rests; one client a folder.
    pub data_dir: PathBuf,
    /// Bytes per second from others, all downloads together.
    pub download_limit: Rate,
    /// Bytes per second to others, all shares together.
    pub upload_limit: Rate,
    /// Listed trackers whose keys are to be known anew.
    pub readmit: Vec<Readmission>,
    /// Most peers linked at once.
    pub max_peers: usize,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The reply.
    pub reply: Reply,
    /// The tracker had not caught up with what this client has seen: the reply may be older than an earlier one.
    pub stale: bool,
}

/// Names known lately, for the prompt to complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completions {
    /// Groups.
    pub groups: BTreeSet<GroupName>,
    /// Users.
    pub users: BTreeSet<UserName>,
    /// Files, by group.
    pub files: BTreeMap<GroupName, BTreeSet<FileName>>,
    /// The user's sessions.
    pub sessions: BTreeSet<command::SessionName>,
}

/// A running client.
pub struct Client {
    core: Arc<Core>,
}

/// What commands work on.
struct Core {
    env: Environment,
    tracker: TrackerLink,
    exchange: Exchange,
    trackers: Vec<TrackerAddress>,
    device: DeviceKey,
    /// Held while a login or logout is under way.
    session_change: tokio::sync::Mutex<()>,
    events: broadcast::Sender<Event>,
    completions: Mutex<Completions>,
}

impl Outcome {
    /// A reply that no tracker had a part in, or an up-to-date one.
    fn fresh(reply: Reply) -> Self {
        Self { reply, stale: false }
    }
}

impl Client {
    /// Starts a client: takes its data directory and port, and begins to look for a tracker, without waiting for one.
    pub async fn start(env: Environment, config: ClientConfig) -> Result<Self, Failure> {
        start::start(env, config).await.map(|core| Self { core: Arc::new(core) })
    }

    /// `IP:PORT` that others are told to dial.
    pub fn address(&self) -> String {
        self.core.tracker.address()
    }

    /// This device's identity.
    pub fn device(&self) -> DeviceKey {
        self.core.device
    }

    /// Executes one command. Several may be under way at once; a call that is dropped is abandoned, not undone.
    pub async fn execute(&self, command: Command) -> Result<Outcome, Failure> {
        command::dispatch::execute(&self.core, command).await
    }

    /// What happens without being asked for, from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.core.events.subscribe()
    }

    /// What the prompt may complete now.
    pub fn completions(&self) -> Completions {
        self.core.completions().clone()
    }

    /// Stops: presence ends, downloads are checkpointed, every task has ended on return.
    pub async fn stop(self) {
        self.core.env.stop().await;
    }
}

impl Core {
    /// Who is logged in.
    fn user(&self) -> Option<SessionInfo> {
        self.tracker.session().borrow().clone()
    }

    /// Who is logged in; `not_logged_in` when nobody is.
    fn require_login(&self) -> Result<SessionInfo, Failure> {
        self.user().ok_or_else(|| {
            Failure::new(ErrorCode::NotLoggedIn, "Nobody is logged in here. Log in first: login <user>.")
        })
    }

    fn completions(&self) -> MutexGuard<'_, Completions> {
        self.completions.lock().expect("no holder of the completions panics")
    }
}
