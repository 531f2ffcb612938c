//! Brings a client up: its folder, its port, its link to the trackers.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use rand_chacha::rand_core::Rng as _;
use redb::Database;
use tokio::sync::broadcast;

use super::{
    ClientConfig, Core, EVENTS,
    exchange::{Exchange, ExchangeSetup},
    tracker_link::{LinkSetup, TrackerLink},
};
use crate::{
    protocol::{
        device::DeviceSecret,
        error::{ErrorCode, Failure},
        ids::DeviceKey,
        readmission::Readmission,
        version::VersionVector,
    },
    roles::environment::Environment,
    store::{
        client::{DataDir, identity, memory},
        database::{OpenError, open_database},
        disk::Disk,
    },
    transport::Listener,
};

/// The database of shares and downloads, in the client's folder.
const LIBRARY: &str = "library.redb";

/// What a client's folder holds.
struct Resting {
    dir: DataDir,
    identity: Arc<DeviceSecret>,
    known: BTreeMap<String, DeviceKey>,
    seen: VersionVector,
    library: Database,
}

pub(super) async fn start(env: Environment, config: ClientConfig) -> Result<Core, Failure> {
    check_advertised(config.advertise.as_deref())?;
    let resting = read_folder(&env, &config).await?;
    let listener = listen(&env, &config.listen).await?;
    let bound = listener.local_address().map_err(|error| port_failure(&config.listen, &error))?;
    let (events, _) = broadcast::channel(EVENTS);
    let device = resting.identity.key();
    let link = LinkSetup {
        trackers: config.trackers.clone(),
        identity: Arc::clone(&resting.identity),
        dir: Arc::new(resting.dir),
        known: resting.known,
        seen: resting.seen,
        advertise: config.advertise,
        bound,
        events: events.clone(),
    };
    let tracker = TrackerLink::start(&env, link);
    let exchange = ExchangeSetup {
        identity: resting.identity,
        database: Arc::new(resting.library),
        listener,
        events: events.clone(),
        upload_limit: config.upload_limit,
        download_limit: config.download_limit,
        max_peers: config.max_peers,
    };
    let exchange = Exchange::start(&env, tracker.clone(), exchange);
    Ok(Core {
        env,
        tracker,
        exchange,
        trackers: config.trackers,
        device,
        session_change: <_>::default(),
        events,
        completions: <_>::default(),
    })
}

async fn read_folder(env: &Environment, config: &ClientConfig) -> Result<Resting, Failure> {
    let (disk, path) = (Arc::clone(&env.disk), config.data_dir.clone());
    let readmitted = readmitted(config)?;
    let mut fresh = [0; 32];
    env.rng("client identity", 0).fill_bytes(&mut fresh);
    let read = move || {
        let dir = DataDir::open(&*disk, &path)?;
        let identity = Arc::new(identity::load_or_create(&*disk, &dir, fresh)?);
        let known = known_trackers(&*disk, &dir, &readmitted)?;
        let seen = memory::seen(&*disk, &dir.path)?;
        let library = open_database(&*disk, &path.join(LIBRARY)).map_err(|error| library_failure(&error))?;
        Ok(Resting { dir, identity, known, seen, library })
    };
    env.offload(read).await
}

/// Addresses whose keys are to be known anew.
fn readmitted(config: &ClientConfig) -> Result<Vec<(String, Option<DeviceKey>)>, Failure> {
    let find = |one: &Readmission| Ok((one.find(&config.trackers)?.address.clone(), one.key));
    config.readmit.iter().map(find).collect()
}

/// The keys that this client remembers, those of readmitted trackers as the user says.
fn known_trackers(
    disk: &dyn Disk,
    dir: &DataDir,
    readmitted: &[(String, Option<DeviceKey>)],
) -> Result<BTreeMap<String, DeviceKey>, Failure> {
    let mut known = memory::known_trackers(disk, dir)?;
    for (address, key) in readmitted {
        match key {
            Some(key) => known.insert(address.clone(), *key),
            None => known.remove(address),
        };
    }
    if !readmitted.is_empty() {
        memory::remember_trackers(disk, dir, &known)?;
    }
    Ok(known)
}

fn library_failure(error: &OpenError) -> Failure {
    Failure::new(ErrorCode::Io, format!("{error}. Nothing was changed."))
}

/// Others dial what they are told without asking a name server.
fn check_advertised(address: Option<&str>) -> Result<(), Failure> {
    let Some(address) = address.filter(|address| address.parse::<SocketAddr>().is_err()) else { return Ok(()) };
    let message = format!("--advertise {address} is no IP:PORT. Give the address and port that others dial.");
    Err(Failure::new(ErrorCode::Usage, message))
}

async fn listen(env: &Environment, address: &str) -> Result<Box<dyn Listener>, Failure> {
    env.transport.listen(address).await.map_err(|error| port_failure(address, &error))
}

fn port_failure(address: &str, error: &io::Error) -> Failure {
    let message = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is in use by another program. Choose another port, or stop that program.")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "{address} is no address of this machine. Listen at one that is, and name the other with --advertise."
            )
        }
        _ => format!("Cannot listen at {address}: {error}. Give an IP:PORT of this machine."),
    };
    Failure::new(ErrorCode::Io, message)
}
