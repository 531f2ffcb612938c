//! How a tracker begins: its folder is opened, and its log made into a catalog.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use rand_chacha::rand_core::Rng as _;
use redb::Database;
use tokio::sync::mpsc;

use super::TrackerConfig;
use crate::{
    protocol::{
        device::DeviceSecret,
        error::{ErrorCode, Failure},
        ids::{DeviceKey, RequestId, device_key_text},
    },
    replica::{
        Catalog,
        restore::{Intake, Part},
    },
    roles::environment::Environment,
    store::{
        database::{OpenError, open_database},
        disk::{Disk, private_dir},
        tracker::{Past, StoreError, TrackerStore, public_key},
    },
};

/// Changes of the log read at a time, at a start: enough that many of them are of one group.
const PART: usize = 65_536;
/// The same at first, and then twice as many each time, so that merging begins soon.
const FIRST_PART: usize = 8_192;
/// Parts that wait to be merged.
const PARTS: usize = 2;
/// Parts that may be on their way back: those that wait, that which is made, and that which is merged. There are no more.
const BACK: usize = PARTS + 2;

/// What a folder holds.
pub(super) struct Opened {
    pub(super) store: Arc<TrackerStore>,
    pub(super) secret: DeviceSecret,
    /// Keys of the other trackers, by address.
    pub(super) known: BTreeMap<String, DeviceKey>,
}

/// What the log makes.
pub(super) struct Loaded {
    pub(super) catalog: Catalog,
    pub(super) past: Past,
    pub(super) tombstones: Vec<RequestId>,
}

/// Opens the folder, and makes what is missing in it.
pub(super) async fn open(env: &Environment, config: &TrackerConfig) -> Result<Opened, Failure> {
    let (disk, config_here, fresh) = (Arc::clone(&env.disk), config.clone(), fresh_identity(env));
    let opened = env.offload(move || Opened::read(&*disk, &config_here, fresh)).await?;
    check_pinned(config, opened.secret.key())?;
    Ok(opened)
}

/// Reads what was forgotten, the changes that were kept of it, and those since. While one part is merged, the next are read,
/// noted and made ready, and files of those before are named: a start takes two processors.
pub(super) async fn load(env: &Environment, store: &Arc<TrackerStore>) -> Result<Loaded, StoreError> {
    let log = Arc::clone(store);
    let (count, (past, buried)) = env.offload(move || Ok::<_, StoreError>((log.count()?, log.past()?))).await?;
    let ((sender, receiver), (back, merged)) = (mpsc::channel(PARTS), mpsc::channel(BACK));
    let (intake, catalog) =
        tokio::join!(read_parts(env, store, count, sender, merged), merge_parts(env, receiver, back));
    let mut catalog = catalog.with_all_of(intake?);
    let tombstones = buried.iter().map(|tombstone| tombstone.request).collect();
    catalog.forgotten(&past.folded, past.latest, buried);
    Ok(Loaded { catalog, past, tombstones })
}

/// Reads a log of `count` changes, and takes back what was made of it until all is merged.
async fn read_parts(
    env: &Environment,
    store: &Arc<TrackerStore>,
    count: usize,
    parts: mpsc::Sender<Part>,
    mut merged: mpsc::Receiver<Part>,
) -> Result<Intake, StoreError> {
    let (mut intake, mut last, mut left, mut most) = (Intake::new(count), None, count, FIRST_PART);
    loop {
        let (store, back) = (Arc::clone(store), merged.try_recv().ok());
        let read = env.offload(move || {
            if let Some(part) = back {
                intake.take_back(part);
            }
            let last = store.read_after(last, most, |kept| intake.add(kept))?;
            let part = intake.part(left);
            Ok::<_, StoreError>((intake, last, part))
        });
        let part;
        (intake, last, part) = read.await?;
        (left, most) = (part.left(), PART.min(2 * most));
        if last.is_none() || parts.send(part).await.is_err() {
            break;
        }
    }
    drop(parts);
    while let Some(part) = merged.recv().await {
        let take_back = move || {
            intake.take_back(part);
            intake
        };
        intake = env.offload(take_back).await;
    }
    Ok(intake)
}

/// Merges parts, and gives each back.
async fn merge_parts(env: &Environment, mut parts: mpsc::Receiver<Part>, back: mpsc::Sender<Part>) -> Catalog {
    let mut catalog = Catalog::new();
    while let Some(mut part) = parts.recv().await {
        let merge = env.offload(move || {
            catalog.restore_part(&mut part);
            (catalog, part)
        });
        let part;
        (catalog, part) = merge.await;
        let _ = back.send(part).await;
    }
    catalog
}

/// The key in the folder, made if there is none; also of a tracker that is running, which has its database to itself.
pub(super) async fn public_key(env: &Environment, config: &TrackerConfig) -> Result<DeviceKey, Failure> {
    let (disk, config, fresh) = (Arc::clone(&env.disk), config.clone(), fresh_identity(env));
    let read = move || {
        Opened::prepare(&*disk, &config)?;
        match open_database(&*disk, &database_path(&config)) {
            Err(OpenError::InUse(_)) => key_of_running(&*disk, &config),
            database => Opened::from_database(&*disk, database, &config, fresh).map(|opened| opened.secret.key()),
        }
    };
    env.offload(read).await
}

fn key_of_running(disk: &dyn Disk, config: &TrackerConfig) -> Result<DeviceKey, Failure> {
    let published = public_key::published(disk, &config.data_dir).map_err(|error| cannot_open(config, &error))?;
    published.ok_or_else(|| {
        let message = format!(
            "Tracker {} is running, and has written its key into no file: an earlier version does not. It stands in the line that \
             it printed when it started; or stop it and ask again.",
            config.no
        );
        Failure::new(ErrorCode::Io, message)
    })
}

fn database_path(config: &TrackerConfig) -> PathBuf {
    config.data_dir.join("tracker.redb")
}

fn fresh_identity(env: &Environment) -> [u8; 32] {
    let mut fresh = [0; 32];
    env.rng("tracker identity", 0).fill_bytes(&mut fresh);
    fresh
}

/// The others know this tracker by the key that the tracker file pins, and let in no other.
fn check_pinned(config: &TrackerConfig, own: DeviceKey) -> Result<(), Failure> {
    let pinned = config.info.tracker(config.no).and_then(|listed| listed.key);
    let Some(pinned) = pinned.filter(|pinned| *pinned != own) else { return Ok(()) };
    let message = format!(
        "Tracker {} has the key {}, but the tracker file pins {} for it: everybody would refuse it. Give it the folder that it \
         had before (--data-dir); or, if that is lost, write the new key into everybody's tracker file.",
        config.no,
        device_key_text(&own),
        device_key_text(&pinned),
    );
    Err(Failure::new(ErrorCode::Usage, message))
}

impl Opened {
    fn read(disk: &dyn Disk, config: &TrackerConfig, fresh: [u8; 32]) -> Result<Self, Failure> {
        Self::prepare(disk, config)?;
        Self::from_database(disk, open_database(disk, &database_path(config)), config, fresh)
    }

    /// Checks what can be checked before anything is opened.
    fn prepare(disk: &dyn Disk, config: &TrackerConfig) -> Result<(), Failure> {
        for readmitted in &config.readmit {
            readmitted.find(&config.info.trackers)?;
        }
        private_dir(disk, &config.data_dir).map_err(|error| cannot_open(config, &error))
    }

    fn from_database(
        disk: &dyn Disk,
        database: Result<Database, OpenError>,
        config: &TrackerConfig,
        fresh: [u8; 32],
    ) -> Result<Self, Failure> {
        let database = database
            .map_err(|error| Failure::new(ErrorCode::Io, format!("Tracker {} cannot start: {error}.", config.no)))?;
        let opened =
            Self::load(TrackerStore::new(database), config, fresh).map_err(|error| cannot_open(config, &error))?;
        if let Err(error) = public_key::publish(disk, &config.data_dir, &opened.secret.key()) {
            tracing::warn!(%error, "the public key could not be written into its file: --show-key will not find it while this runs");
        }
        Ok(opened)
    }

    fn load(
        store: Result<TrackerStore, StoreError>,
        config: &TrackerConfig,
        fresh: [u8; 32],
    ) -> Result<Self, StoreError> {
        let store = store?;
        let secret = store.secret_or(fresh)?;
        for readmitted in &config.readmit {
            if let Ok(tracker) = readmitted.find(&config.info.trackers) {
                store.readmit(&tracker.address, readmitted.key)?;
                tracing::warn!(tracker = %tracker.no, address = %tracker.address, "readmitted with another key");
            }
        }
        let mut known = BTreeMap::new();
        for tracker in &config.info.trackers {
            if let Some(key) = store.known_key(&tracker.address)? {
                known.insert(tracker.address.clone(), key);
            }
        }
        Ok(Self { store: Arc::new(store), secret, known })
    }
}

pub(super) fn cannot_open(config: &TrackerConfig, error: &dyn std::fmt::Display) -> Failure {
    let message = format!(
        "Tracker {} cannot use its folder {}: {error}. Check its permissions and the space left, or choose another with \
         --data-dir.",
        config.no,
        config.data_dir.display()
    );
    Failure::new(ErrorCode::Io, message)
}
