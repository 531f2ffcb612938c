//! The roles on simulated hosts: trackers that run, and peers that do what the script says.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    error::Error,
    net::IpAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use p2p::{
    protocol::{
        error::{ErrorCode, Failure},
        ids::TrackerNo,
        tracker_info::TrackerInfo,
    },
    roles::{
        client::{
            self, Client, ClientConfig,
            command::{
                Command, Rate, Reply,
                parse::{Line, parse},
            },
        },
        environment::Environment,
        tracker::{Limits, PasswordCost, Tracker, TrackerConfig},
    },
    store::disk::Disk as _,
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};

use crate::{
    cluster::{Cluster, Host, Outcome},
    disk::SimDisk,
    oracle::{Watch, secrets},
};

/// Where every role keeps its state.
pub(crate) const DATA_DIR: &str = "/data";
/// Where users keep their files.
const HOME: &str = "/home";
/// A role that takes longer to stop is stuck.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
/// A command that takes longer than this in simulated time is stuck.
const PATIENCE: Duration = Duration::from_mins(5);

/// Plugs in machines for trackers, each with how far its clock is off in milliseconds, and runs them.
pub(crate) fn trackers(cluster: &mut Cluster, machines: &[(&'static str, i64)]) -> TrackerInfo {
    let hosts: Vec<_> = machines.iter().map(|(name, skew_ms)| cluster.machine(name, *skew_ms)).collect();
    let lines: Vec<_> = hosts.iter().map(|host| format!("{}:5000", host.ip())).collect();
    let info = TrackerInfo::parse(lines.join("\n").as_bytes()).expect("addresses, one a line");
    for (&(name, _), no) in machines.iter().zip(1..) {
        let config = tracker_config(&info, no);
        let (watch, host) = (cluster.watch(), hosts[usize::from(no) - 1].clone());
        watch.is_for_tracker(name);
        cluster.start(name, move |env| run_tracker(env, host.clone(), config.clone(), watch.clone()));
    }
    info
}

/// How the tracker `no` of a list is run.
pub(crate) fn tracker_config(info: &TrackerInfo, no: u16) -> TrackerConfig {
    TrackerConfig {
        readmit: Vec::new(),
        info: info.clone(),
        no: TrackerNo(no),
        data_dir: PathBuf::from(DATA_DIR),
        bind: None,
        metrics: None,
        password_cost: PasswordCost::LEAST,
        limits: Limits::STANDARD,
    }
}

/// A tracker's life on a machine that is meant for one.
pub(crate) async fn run_tracker(env: Environment, host: Host, config: TrackerConfig, watch: Watch) -> Outcome {
    let tracker = match Tracker::start(env.clone(), config).await {
        Ok(tracker) => Arc::new(tracker),
        Err(failure) => return host.gave_up(&failure),
    };
    watch.runs(host.name(), &tracker);
    tracing::info!(address = %tracker.address(), "tracker is up");
    let ended = tracker.ended().await;
    all_tasks_end(&env, &host).await?;
    match ended {
        Ok(()) => {
            host.stopped();
            Ok(())
        }
        Err(failure) => host.gave_up(&failure),
    }
}

/// A role that was asked to stop has soon ended, and all that it started with it.
async fn all_tasks_end(env: &Environment, host: &Host) -> Outcome {
    let stopped = timeout(STOPPED_WITHIN, env.stop()).await;
    stopped.map_err(|_| format!("{}: {} tasks outlive the role", host.name(), env.tasks.len()))?;
    no_task_is_left(host.name())
}

/// Not even one that was started past the environment. The role itself is a local task of its host, and does not count.
fn no_task_is_left(name: &str) -> Outcome {
    match Handle::current().metrics().num_alive_tasks() {
        0 => Ok(()),
        left => Err(format!("{name}: {left} tasks outlive the role, which does not know of them").into()),
    }
}

/// A client on a host of its own, and the line to it.
#[derive(Clone)]
pub(crate) struct Peer {
    name: &'static str,
    host: Host,
    orders: mpsc::Sender<Order>,
}

struct Order {
    command: Command,
    answer: oneshot::Sender<Result<client::Outcome, Failure>>,
}

/// Plugs in a machine for a client and runs it.
pub(crate) fn peer(cluster: &mut Cluster, name: &'static str, skew_ms: i64, info: &TrackerInfo) -> Peer {
    peer_with(cluster, name, skew_ms, &Rc::new(RefCell::new(info.clone())))
}

/// As [`peer`]; each life of it reads the list of trackers anew.
pub(crate) fn peer_with(
    cluster: &mut Cluster,
    name: &'static str,
    skew_ms: i64,
    list: &Rc<RefCell<TrackerInfo>>,
) -> Peer {
    let host = cluster.machine(name, skew_ms);
    let (list, listen) = (list.clone(), format!("{}:6000", host.ip()));
    let config = move || ClientConfig {
        readmit: Vec::new(),
        listen: listen.clone(),
        advertise: None,
        trackers: list.borrow().trackers.clone(),
        data_dir: PathBuf::from(DATA_DIR),
        download_limit: Rate(0),
        upload_limit: Rate(0),
        max_peers: 50,
    };
    let (home, disk) = (Path::new(HOME), host.disk());
    disk.create_dir_all(home).and_then(|()| disk.sync_dir(home)).expect("an empty disk has room for a folder");
    let (orders, incoming) = mpsc::channel(16);
    let incoming = Arc::new(Mutex::new(incoming));
    let machine = host.clone();
    cluster.start(name, move |env| run_client(env, machine.clone(), config(), incoming.clone()));
    Peer { name, host, orders }
}

async fn run_client(
    env: Environment,
    host: Host,
    config: ClientConfig,
    incoming: Arc<Mutex<mpsc::Receiver<Order>>>,
) -> Outcome {
    let client = match Client::start(env.clone(), config).await {
        Ok(client) => Arc::new(client),
        Err(failure) => return host.gave_up(&failure),
    };
    let mut incoming = incoming.lock().await;
    loop {
        let order = tokio::select! {
            biased;
            () = env.shutdown.cancelled() => None,
            order = incoming.recv() => order,
        };
        let Some(Order { command, answer }) = order else {
            all_tasks_end(&env, &host).await?;
            host.stopped();
            return Ok(());
        };
        let client = client.clone();
        env.spawn(async move {
            let result = client.execute(command).await;
            // Nobody waits any more when the script gave up.
            let _ = answer.send(result);
        });
    }
}

impl Peer {
    /// Has the client execute a line of the command contract. The outer error: nobody knows whether it was executed.
    pub(crate) async fn tries(&self, line: &str) -> Result<Result<Reply, Failure>, Box<dyn Error>> {
        Ok(self.asks(line).await?.map(|outcome| outcome.reply))
    }

    /// As [`tries`](Self::tries); a reply comes with whether it is marked stale.
    pub(crate) async fn asks(&self, line: &str) -> Result<Result<client::Outcome, Failure>, Box<dyn Error>> {
        let shown = secrets::hidden(line);
        tracing::info!(peer = self.name, line = shown, "command");
        let command = match parse(line).ok_or("an empty line")?.line {
            Ok(Line::Run(command)) => command,
            Err(failure) => return Ok(Err(failure)),
            Ok(_) => return Err(format!("{shown} is not for the client").into()),
        };
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order { command, answer }).await.map_err(|_| format!("{} is gone", self.name))?;
        let result = timeout(PATIENCE, answered).await.map_err(|_| format!("{}: {shown}: stuck", self.name))?;
        let result = result.map_err(|_| format!("{} crashed before it answered {shown}", self.name))?;
        tracing::info!(peer = self.name, line = shown, ?result, "answer");
        Ok(result)
    }

    /// Has the client execute a line, which must succeed.
    pub(crate) async fn does(&self, line: &str) -> Result<Reply, Box<dyn Error>> {
        let failed = |failure| format!("{}: {}: {failure}", self.name, secrets::hidden(line));
        Ok(self.tries(line).await?.map_err(failed)?)
    }

    /// Has the client execute a line, which must be refused with `code`.
    pub(crate) async fn is_refused(&self, line: &str, code: ErrorCode) -> Outcome {
        match self.tries(line).await? {
            Err(failure) if failure.code == code => Ok(()),
            other => {
                let line = secrets::hidden(line);
                Err(format!("{}: {line}: expected {code}, not {other:?}", self.name).into())
            }
        }
    }

    /// Repeats a line, twice a second, until its reply is as wanted.
    pub(crate) async fn sees(&self, line: &str, wanted: impl Fn(&Reply) -> bool) -> Result<Reply, Box<dyn Error>> {
        for _ in 0..120 {
            if let Ok(reply) = self.tries(line).await?
                && wanted(&reply)
            {
                return Ok(reply);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Err(format!("{}: {line} never answered what it should", self.name).into())
    }

    /// Waits until the trackers are linked and agree, as far as the one in use knows; for one who is logged in. Links that both
    /// sides dialled at once become one soon after, and the trackers are out of touch for that moment: so a second look.
    pub(crate) async fn sees_trackers_agree(&self) -> Outcome {
        let agree = |reply: &Reply| match reply {
            Reply::Trackers(rows) => rows.iter().all(|row| row.status.reachable && row.status.lag == Some(0)),
            _ => false,
        };
        self.sees("trackers", agree).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.sees("trackers", agree).await.map(drop)
    }

    /// Registers, and logs in.
    pub(crate) async fn joins_the_users(&self) -> Outcome {
        self.does(&format!("create_user {} secret-of-{}", self.name, self.name)).await?;
        self.does(&format!("login {} secret-of-{}", self.name, self.name)).await?;
        Ok(())
    }

    /// Asks to join a group, and its owner accepts.
    pub(crate) async fn joins(&self, owner: &Self, group: &str) -> Outcome {
        self.does(&format!("join_group {group}")).await?;
        owner.does(&format!("accept_request {group} {}", self.name)).await.map(drop)
    }

    /// Shares a file of its own with a group.
    pub(crate) async fn shares(&self, name: &str, bytes: &[u8], group: &str) -> Outcome {
        self.disk().put(&Path::new(HOME).join(name), bytes)?;
        self.does(&format!("upload_file {HOME}/{name} {group}")).await.map(drop)
    }

    /// The host's name, and the user's.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The host's address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.host.ip()
    }

    /// The files on this host.
    pub(crate) fn disk(&self) -> &SimDisk {
        self.host.disk()
    }

    /// Bytes that the host has received since the beginning.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.host.received_bytes()
    }

    /// Fails unless the file at `path` has these bytes.
    pub(crate) fn must_have(&self, path: &str, bytes: &[u8]) -> Outcome {
        let found = self.disk().contents(Path::new(path))?;
        if found == bytes { Ok(()) } else { Err(format!("{}: {path} has other bytes", self.name).into()) }
    }
}

/// The names in an answer to `list_groups`.
pub(crate) fn groups(reply: &Reply) -> BTreeSet<&str> {
    match reply {
        Reply::Groups(groups) => groups.iter().map(|group| group.name.as_str()).collect(),
        _ => BTreeSet::new(),
    }
}

/// Bytes that a peer has served, over all its shares.
pub(crate) async fn uploaded(peer: &Peer) -> Result<u64, Box<dyn Error>> {
    match peer.does("show_shares").await? {
        Reply::Shares(shares) => Ok(shares.iter().map(|share| share.uploaded).sum()),
        other => Err(format!("{}: show_shares answered {other:?}", peer.name).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_started_past_the_environment_is_found() {
        let run = |strays: usize| {
            let _alone = crate::scenario::alone();
            let mut sim = turmoil::Builder::new().build();
            sim.client("host", async move {
                for _ in 0..strays {
                    tokio::spawn(std::future::pending::<()>());
                }
                tokio::spawn(async {}).await?;
                no_task_is_left("host")
            });
            sim.run().map_err(|error| error.to_string())
        };
        assert_eq!(run(0), Ok(()));
        assert_eq!(run(2), Err("host: 2 tasks outlive the role, which does not know of them".into()));
    }
}
