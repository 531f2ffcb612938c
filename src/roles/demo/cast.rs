//! Who takes part in the demo: trackers that can be stopped, and people with a client each.

use std::path::Path;

use tokio::sync::broadcast;

use super::super::{
    client::{
        Client, ClientConfig,
        command::{Command, DownloadRow, Event, Rate, Reply},
    },
    environment::Environment,
    tracker::{Limits, PasswordCost, Tracker, TrackerConfig},
};
use crate::protocol::{
    client::Password,
    error::{ErrorCode, Failure},
    ids::TrackerNo,
    name::UserName,
    tracker_info::{TrackerAddress, TrackerInfo},
};

/// Most peers of one client: more than there are.
const MAX_PEERS: usize = 16;

/// Two trackers.
pub(super) struct Trackers {
    pub(super) info: TrackerInfo,
    running: Vec<(TrackerNo, Tracker)>,
}

impl Trackers {
    pub(super) async fn start(env: &Environment, dir: &Path) -> Result<Self, Failure> {
        let mut trackers = Vec::new();
        for no in [1, 2].map(TrackerNo) {
            trackers.push(TrackerAddress { no, address: free_address(env).await?, key: None });
        }
        let info = TrackerInfo { trackers };
        let mut running = Vec::new();
        for no in info.trackers.iter().map(|tracker| tracker.no) {
            let data_dir = dir.join(format!("tracker-{no}"));
            let (info, password_cost) = (info.clone(), PasswordCost::OWASP);
            let config = TrackerConfig {
                readmit: Vec::new(),
                info,
                no,
                data_dir,
                bind: None,
                metrics: None,
                password_cost,
                limits: Limits::STANDARD,
            };
            running.push((no, Tracker::start(system()?, config).await?));
        }
        Ok(Self { info, running })
    }

    /// Stops one of them.
    pub(super) async fn stop(&mut self, no: TrackerNo) {
        if let Some(index) = self.running.iter().position(|(running, _)| *running == no) {
            self.running.swap_remove(index).1.stop().await;
        }
    }

    /// Stops those that are left.
    pub(super) async fn end(self) {
        for (_, tracker) in self.running {
            tracker.stop().await;
        }
    }
}

fn system() -> Result<Environment, Failure> {
    Environment::system().map_err(|error| super::cannot("start", &error))
}

/// An address on loopback that nobody listened at a moment ago.
async fn free_address(env: &Environment) -> Result<String, Failure> {
    let cannot = |error| super::cannot("find a free port", &error);
    let listener = env.transport.listen("127.0.0.1:0").await.map_err(cannot)?;
    Ok(listener.local_address().map_err(cannot)?.to_string())
}

/// Somebody with a client.
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) user: UserName,
    pub(super) client: Client,
    pub(super) events: broadcast::Receiver<Event>,
}

impl Person {
    pub(super) async fn start(
        name: &'static str,
        trackers: &Trackers,
        dir: &Path,
        upload_limit: Rate,
    ) -> Result<Self, Failure> {
        let config = ClientConfig {
            readmit: Vec::new(),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            trackers: trackers.info.trackers.clone(),
            data_dir: dir.join(format!("client-{name}")),
            download_limit: Rate(0),
            upload_limit,
            max_peers: MAX_PEERS,
        };
        let client = Client::start(system()?, config).await?;
        Ok(Self { name, user: UserName::parse(name)?, events: client.events(), client })
    }

    pub(super) async fn ask(&self, command: Command) -> Result<Reply, Failure> {
        self.client.execute(command).await.map(|outcome| outcome.reply)
    }

    /// Registers and logs in.
    pub(super) async fn enter(&self) -> Result<(), Failure> {
        let password = Password(format!("the password of {}", self.name));
        self.ask(Command::CreateUser { user: self.user.clone(), password: password.clone() }).await?;
        self.ask(Command::Login { user: self.user.clone(), password }).await?;
        Ok(())
    }

    /// The one download there is; a failed one is an error.
    pub(super) async fn download(&self) -> Result<DownloadRow, Failure> {
        let Reply::Downloads { downloads, .. } = self.ask(Command::ShowDownloads { verbose: true }).await? else {
            return Err(unexpected());
        };
        let row = downloads.into_iter().next().ok_or_else(unexpected)?;
        match (row.state, row.error.clone()) {
            (super::DownloadState::Failed, Some(failure)) => Err(failure),
            _ => Ok(row),
        }
    }

    pub(super) async fn tracker_in_use(&self) -> Result<TrackerNo, Failure> {
        let Reply::Trackers(trackers) = self.ask(Command::Trackers).await? else { return Err(unexpected()) };
        let current = trackers.iter().find(|tracker| tracker.current);
        current.map(|tracker| tracker.status.tracker).ok_or_else(unexpected)
    }
}

fn unexpected() -> Failure {
    Failure::new(ErrorCode::Protocol, "A command of the demo was answered in an unexpected way.")
}
