//! The data plane of a client: what it shares, what it downloads, and the links to its peers.
//!
//! [`Exchange`] is the handle that commands use. Behind it one task, the `hub`, owns all state and the pure machines
//! ([`crate::swarm`]); links, disk and hashing run beside it and report to it as `hub::Input`s. Nothing is shared but
//! the seams, so that there is one place where things happen and one order in which they do.
//!
//! ```text
//!   commands ──► Exchange ──turn──► hub ◄──Input── links (a reader and a writer each)
//!                                    │  ◄──Input── disk and hashing (offloaded)
//!                                    └─► Download, Uploader, token buckets
//! ```

mod buffers;
mod downloads;
mod failure;
mod fetch;
mod finding;
mod hashing;
mod hub;
mod joins;
mod kept;
mod ledger;
mod members;
mod orders;
mod peer_link;
mod peer_server;
mod peers;
mod pool;
mod requests;
mod room;
mod shares;
mod streams;
mod transfer;
mod upload;
mod verify;

#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use redb::Database;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};

use self::hub::{Hub, Input};
use super::{
    command::{Direction, DownloadState, Event, Rate, Reply, SuspendedShare},
    tracker_link::TrackerLink,
};
use crate::{
    protocol::{
        client::{Answer, Request},
        device::DeviceSecret,
        error::{ErrorCode, Failure},
        ids::{FileId, GroupId},
        name::{FileName, GroupName},
    },
    roles::environment::Environment,
    swarm::rate::TokenBucket,
    transport::{Listener, tls::Identity},
};

/// Inputs waiting for the hub; more make links wait, and so the sockets.
const INBOX: usize = 256;
/// Pieces hashed and written at the same time.
const PARALLEL_HASHES: usize = 3;
/// Manifests offered at the same time: a tracker remembers so many, and forgets the first when there are more.
const PARALLEL_OFFERS: usize = 8;

/// What an exchange is made from.
pub struct ExchangeSetup {
    /// This device's key.
    pub identity: Arc<DeviceSecret>,
    /// Where shares and downloads rest.
    pub database: Arc<Database>,
    /// The port that peers dial.
    pub listener: Box<dyn Listener>,
    /// Where what happens is told.
    pub events: broadcast::Sender<Event>,
    /// Bytes per second to others.
    pub upload_limit: Rate,
    /// Bytes per second from others.
    pub download_limit: Rate,
    /// Most peers linked at once.
    pub max_peers: usize,
}

/// What a login brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Downloads that go on.
    pub downloads: u32,
    /// Shares that are back.
    pub shares: u32,
    /// Shares that are not, with why.
    pub suspended: Vec<SuspendedShare>,
}

/// The handle to the data plane. Cheap to clone.
#[derive(Clone)]
pub struct Exchange {
    seams: Arc<Seams>,
}

/// What all parts of the exchange may use.
struct Seams {
    env: Environment,
    tracker: TrackerLink,
    identity: Identity,
    database: Arc<Database>,
    events: broadcast::Sender<Event>,
    inbox: mpsc::Sender<Input>,
    hashes: Semaphore,
    offers: Semaphore,
    max_peers: usize,
    /// Partial files made so far.
    partials: AtomicU64,
}

/// Links that fit the descriptors of the process, with as many again that others dial.
fn most_links(env: &Environment) -> usize {
    usize::try_from(env.descriptors / 6).unwrap_or(usize::MAX).max(1)
}

impl Exchange {
    /// Starts the exchange: peers may dial from now on; nothing is served before [`Exchange::logged_in`].
    pub fn start(env: &Environment, tracker: TrackerLink, setup: ExchangeSetup) -> Self {
        let (inbox, waiting) = mpsc::channel(INBOX);
        let seams = Arc::new(Seams {
            env: env.clone(),
            tracker,
            identity: Identity::new(&setup.identity),
            database: setup.database,
            events: setup.events,
            inbox,
            hashes: Semaphore::new(PARALLEL_HASHES),
            offers: Semaphore::new(PARALLEL_OFFERS),
            max_peers: setup.max_peers.min(most_links(env)),
            partials: AtomicU64::new(0),
        });
        let [up, down] = [setup.upload_limit, setup.download_limit].map(|rate| TokenBucket::new(rate.0));
        let hub = Hub::new(Arc::clone(&seams), up, down);
        env.spawn(hub.run(waiting));
        env.spawn(peer_link::accept_all(Arc::clone(&seams), setup.listener));
        Self { seams }
    }

    /// After a login: unfinished downloads go on and what was shared is shared again, as far as it is still what it was.
    pub async fn logged_in(&self) -> Result<Resumed, Failure> {
        shares::resume_all(self).await
    }

    /// After a logout: nothing is served or downloaded until the next login.
    pub async fn logged_out(&self) {
        self.turn(Hub::log_out).await;
        // What could not be recorded comes back as it was before: nothing else was promised.
        let _ = self.recorded().await;
    }

    /// After a leave: shares in the group end and are forgotten, downloads fail.
    pub async fn left_group(&self, group: GroupId) {
        self.turn(move |hub| hub.leave_group(group)).await;
        // What could not be forgotten comes back at the next start, and is refused by all as a former member's.
        let _ = self.recorded().await;
    }

    /// `upload_file`: hashes the file (progress as [`Event::Hashing`]) and shares it.
    pub async fn upload_file(&self, path: &Path, group: GroupName) -> Result<Reply, Failure> {
        upload::upload(self, path, group).await.map(Reply::Uploaded)
    }

    /// `download_file`: checks the destination, starts in the background.
    pub async fn download_file(&self, group: GroupName, file: FileName, to: &Path) -> Result<Reply, Failure> {
        fetch::start_download(self, group, file, to).await
    }

    /// `show_downloads`, oldest first.
    pub async fn show_downloads(&self, verbose: bool) -> Reply {
        let downloads = self.turn(|hub| hub.download_rows()).await.unwrap_or_default();
        Reply::Downloads { verbose, downloads }
    }

    /// `pause_download`: paused on return, and after a restart.
    pub async fn pause_download(&self, group: GroupName, file: FileName) -> Result<Reply, Failure> {
        self.try_turn(move |hub| hub.pause_download(&group, &file)).await?;
        self.recorded().await.map(|()| Reply::Done)
    }

    /// `resume_download`: goes on from now on, and after a restart.
    pub async fn resume_download(&self, group: GroupName, file: FileName) -> Result<Reply, Failure> {
        self.try_turn(move |hub| hub.resume_download(&group, &file)).await?;
        self.recorded().await.map(|()| Reply::Done)
    }

    /// `cancel_download`: the download and what was there of it are gone on return.
    pub async fn cancel_download(&self, group: GroupName, file: FileName) -> Result<Reply, Failure> {
        let record = self.try_turn(move |hub| hub.cancel_download(&group, &file)).await?;
        self.recorded().await?;
        fetch::remove_partial(&self.seams, record).await.map(|()| Reply::Done)
    }

    /// `wait`: returns when the download, or every one, is no longer downloading, and that is on disk.
    pub async fn wait(&self, download: Option<(GroupName, FileName)>) -> Result<Reply, Failure> {
        let (reply, ended) = oneshot::channel();
        self.try_turn(move |hub| hub.wait(download, reply)).await?;
        let ended = ended.await.unwrap_or_else(|_| Err(stopping()))?;
        self.recorded().await?;
        Ok(Reply::Waited(ended))
    }

    /// `show_peers`
    pub async fn show_peers(&self, group: GroupName, file: FileName) -> Result<Reply, Failure> {
        finding::show_peers(self, group, file).await.map(Reply::Peers)
    }

    /// `show_shares`
    pub async fn show_shares(&self) -> Reply {
        Reply::Shares(self.turn(|hub| hub.share_rows()).await.unwrap_or_default())
    }

    /// `stop_share`: this device serves the file to nobody any more.
    pub async fn stop_share(&self, group: GroupName, file: FileName) -> Result<Reply, Failure> {
        let id = self.try_turn(move |hub| hub.share_named(&group, &file)).await?.file;
        self.seams.tracker.request(Request::StopShare { file: id }).await.map(drop).or_else(ended_already)?;
        self.end_share(id).await.map(|()| Reply::Done)
    }

    /// `verify_file`: reads the local copy again; damaged pieces are fetched again.
    pub async fn verify_file(&self, group: GroupName, file: FileName) -> Result<Reply, Failure> {
        verify::verify(self, group, file).await
    }

    /// `set_limit`
    pub async fn set_limit(&self, direction: Direction, rate: Rate) -> Reply {
        let set = move |hub: &mut Hub| match direction {
            Direction::Up => hub.set_upload_limit(rate),
            Direction::Down => hub.set_download_limit(rate),
        };
        self.turn(set).await;
        Reply::Done
    }

    async fn end_share(&self, file: FileId) -> Result<(), Failure> {
        let ended = self.turn(move |hub| {
            hub.end_share(file);
            hub.forget_share(file);
        });
        ended.await.ok_or_else(stopping)?;
        self.recorded().await
    }

    /// Gives `order` a turn with the hub's state; `None` when the client is stopping.
    async fn turn<T: Send + 'static>(&self, order: impl FnOnce(&mut Hub) -> T + Send + 'static) -> Option<T> {
        let (reply, answered) = oneshot::channel();
        let order = Input::Turn(Box::new(move |hub| drop(reply.send(order(hub)))));
        self.seams.inbox.send(order).await.ok()?;
        answered.await.ok()
    }

    /// As [`Exchange::turn`], for orders that may fail.
    async fn try_turn<T: Send + 'static>(
        &self,
        order: impl FnOnce(&mut Hub) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.turn(order).await.unwrap_or_else(|| Err(stopping()))
    }
}

impl Seams {
    /// Reports to the hub from a task; lost when the client is stopping.
    async fn report(&self, input: Input) {
        let _ = self.inbox.send(input).await;
    }

    fn tell(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }
}

/// A share that the trackers do not know any more needs no end there.
fn ended_already(failure: Failure) -> Result<(), Failure> {
    match failure.code {
        ErrorCode::NotShared | ErrorCode::NoSuchFile | ErrorCode::NotAMember => Ok(()),
        _ => Err(failure),
    }
}

/// An answer that does not belong to its request.
fn unexpected(answer: &Answer) -> Failure {
    tracing::warn!(?answer, "a tracker's answer does not belong to its request");
    let message = "The tracker's answer does not belong to the request. Update the older of the two programs.";
    Failure::new(ErrorCode::Protocol, message)
}

fn stopping() -> Failure {
    Failure::new(ErrorCode::Io, "The client is stopping.")
}

/// What a download that ended with this state is to those who waited for it.
fn is_over(state: DownloadState) -> bool {
    state != DownloadState::Downloading
}
