//! Many sessions on few links: the load stands in for a third listed tracker, and speaks for the devices linked to it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, interval},
};

use super::{
    super::BenchError,
    census::{self, MEMBERS, SWARM, VISITORS},
    cluster::{Cluster, STAND_IN},
};
use crate::{
    protocol::{
        client::{Presence, Serving},
        ids::{DeviceKey, FileId, GroupId, TrackerNo},
        sync::{DevicePresence, SyncMessage, VERSION},
        version::VersionVector,
    },
    transport::{
        link::{Link, LinkError, dial},
        tls::{Identity, Protocol},
    },
};

/// Sessions in one message.
const BATCH: usize = 500;
/// Something is said at least this often, or the link counts as silent.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Sessions, each of a resident who serves one file; [`SWARM`] of them serve the same.
pub(in super::super) struct Crowd {
    sessions: u32,
    /// The devices of each file's swarm, in their order.
    swarms: Vec<Vec<DeviceKey>>,
    links: Vec<mpsc::Sender<Arc<SyncMessage>>>,
    _running: JoinSet<Result<(), LinkError>>,
}

impl Crowd {
    /// Links to both trackers. Nobody is online yet.
    pub(in super::super) async fn gather(cluster: &Cluster, sessions: u32) -> Result<Self, BenchError> {
        let failed = |error: LinkError| BenchError::io("link a third tracker")(std::io::Error::other(error));
        let (mut links, mut running) = (Vec::new(), JoinSet::new());
        for no in [1, 2] {
            let (address, key) = cluster.tracker(no);
            let identity = Identity::new(cluster.stand_in());
            let transport = &*cluster.env.transport;
            let link = dial(transport, &identity, address, Protocol::Sync, Some(key)).await.map_err(failed)?;
            let (sender, messages) = mpsc::channel(2);
            running.spawn(speak(link, messages, cluster.env.wall_clock.now_ms()));
            links.push(sender);
        }
        let swarms = (0..sessions / SWARM).map(|file| {
            let mut devices: Vec<_> = (0..SWARM).map(|k| census::device(VISITORS + file * SWARM + k)).collect();
            devices.sort_unstable();
            devices
        });
        Ok(Self { sessions, swarms: swarms.collect(), links, _running: running })
    }

    /// Number of files served.
    pub(in super::super) fn files(&self) -> u32 {
        self.sessions / SWARM
    }

    /// Who serves a file.
    pub(in super::super) fn swarm(&self, file: u32) -> &[DeviceKey] {
        &self.swarms[file as usize]
    }

    /// Every session announces how much it has: whole at the first time, then as a change. Said when both trackers have room
    /// for the last of it, and not before.
    pub(in super::super) async fn announce(&self, percent: u8, is_first: bool) -> Result<(), BenchError> {
        let all: Vec<u32> = (0..self.sessions).collect();
        for part in all.chunks(BATCH) {
            let said = part.iter().map(|session| presence(*session, percent, is_first)).collect();
            let message = Arc::new(SyncMessage::Presence(said));
            for link in &self.links {
                let gone = |_| BenchError::io("announce sessions")(std::io::ErrorKind::BrokenPipe.into());
                link.send(Arc::clone(&message)).await.map_err(gone)?;
            }
        }
        Ok(())
    }
}

fn presence(session: u32, percent: u8, is_first: bool) -> DevicePresence {
    let account = VISITORS + session;
    let (group, file) = file(session / SWARM);
    let address = format!("10.{}.{}.{}:6000", session >> 16, session >> 8 & 255, session & 255);
    let presence =
        Presence { reset: is_first, address, serving: vec![Serving { group, file, percent }], ended: Vec::new() };
    DevicePresence { device: census::device(account), user: Some(census::user(account)), presence }
}

/// A file of a crowd, and the group it is served in.
pub(in super::super) fn file(number: u32) -> (GroupId, FileId) {
    (census::group(number * SWARM / MEMBERS), census::served_file(number))
}

/// One link, as a tracker that has what the other has, and writes nothing.
async fn speak(link: Link, mut messages: mpsc::Receiver<Arc<SyncMessage>>, now_ms: u64) -> Result<(), LinkError> {
    let (mut reader, mut writer) = link.split();
    let Some(SyncMessage::Hello { vector, .. }) = reader.message().await? else { return Err(LinkError::Closed) };
    let tracker = TrackerNo(STAND_IN);
    writer.send(&SyncMessage::Hello { version: VERSION, tracker, vector: vector.clone(), now_ms }).await?;
    let mut known: VersionVector = vector;
    let mut beats = interval(HEARTBEAT);
    beats.reset_at(Instant::now() + HEARTBEAT);
    loop {
        tokio::select! {
            biased;
            // Whoever is silent for long counts as gone, however much there is to say.
            _ = beats.tick() => writer.send(&SyncMessage::Confirm(known.clone())).await?,
            message = reader.message::<SyncMessage>() => match message? {
                Some(SyncMessage::Changes(changes)) => changes.iter().for_each(|change| known.insert(change.dot)),
                Some(_) => {}
                None => return Err(LinkError::Closed),
            },
            message = messages.recv() => match message {
                Some(message) => writer.send(&*message).await?,
                None => return writer.close().await,
            },
        }
    }
}
