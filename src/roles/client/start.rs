//! Brings a client up: its folder, its port, its link to the trackers.

use std::{io, sync::Arc};

use rand_chacha::rand_core::Rng as _;
use tokio::sync::broadcast;

use super::{
    ClientConfig, Core, EVENTS,
    tracker_link::{LinkSetup, TrackerLink},
};
use crate::{
    protocol::{
        device::DeviceSecret,
        error::{ErrorCode, Failure},
        ids::DeviceKey,
        version::VersionVector,
    },
    roles::environment::Environment,
    store::client::{DataDir, DataDirError, identity, memory},
    transport::Listener,
};

/// What a client's folder holds for its link to the trackers.
struct Resting {
    dir: DataDir,
    identity: DeviceSecret,
    known: std::collections::BTreeMap<String, DeviceKey>,
    seen: VersionVector,
}

pub(super) async fn start(env: Environment, config: ClientConfig) -> Result<Core, Failure> {
    let resting = read_folder(&env, &config).await?;
    let listener = listen(&env, &config.listen).await?;
    let bound = listener.local_address().map_err(|error| port_failure(&config.listen, &error))?;
    let (events, _) = broadcast::channel(EVENTS);
    let device = resting.identity.key();
    let setup = LinkSetup {
        trackers: config.trackers.clone(),
        identity: Arc::new(resting.identity),
        dir: Arc::new(resting.dir),
        known: resting.known,
        seen: resting.seen,
        advertise: config.advertise,
        bound,
        events: events.clone(),
    };
    let tracker = TrackerLink::start(&env, setup);
    Ok(Core {
        env,
        tracker,
        trackers: config.trackers,
        device,
        session_change: <_>::default(),
        events,
        completions: <_>::default(),
    })
}

async fn read_folder(env: &Environment, config: &ClientConfig) -> Result<Resting, Failure> {
    let (disk, path) = (Arc::clone(&env.disk), config.data_dir.clone());
    let mut fresh = [0; 32];
    env.rng("client identity", 0).fill_bytes(&mut fresh);
    let read = move || {
        let dir = DataDir::open(&*disk, &path)?;
        let identity = identity::load_or_create(&*disk, &dir, fresh)?;
        let known = memory::known_trackers(&*disk, &dir)?;
        let seen = memory::seen(&*disk, &dir)?;
        Ok::<_, DataDirError>(Resting { dir, identity, known, seen })
    };
    Ok(env.offload(read).await?)
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
