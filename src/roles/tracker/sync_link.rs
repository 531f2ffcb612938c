//! One link between two trackers: wires the two machines of a link (`replica::anti_entropy`, `replica::inbox`) to log and stream.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    node::Node,
    presence::Home,
    pulse,
    trackers::{SILENCE, SyncView},
};
use crate::{
    protocol::{
        client::Notice,
        ids::{DeviceKey, ManifestId, TrackerNo},
        limits::{MAX_BATCH_BYTES, MAX_ORIGINS},
        record::Change,
        sync::{StableTracker, SyncMessage, VERSION},
        version::VersionVector,
    },
    replica::{
        anti_entropy::{Action, Event, SyncLink},
        inbox::{Inbox, InboxError, MAX_PAGES_ASKED},
    },
    store::tracker::{ManifestPage, SnapshotReader, StoreError},
    transport::link::{Link, LinkError, LinkReader, LinkWriter},
};

/// Longest time from the handshake to the other side's hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Something is said at least this often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Bytes queued for one link beyond which messages wait; a link that cannot keep up is ended when too many do.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;
/// Messages about presence and dials that wait for one link at most.
const MAX_OUTGOING: usize = 4096;

/// Why a link between trackers ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Inbox(#[from] InboxError),
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Refused(String),
    #[error("another link to the same tracker is in use")]
    Superseded,
    #[error("it has been silent for too long")]
    Silent,
    #[error("this tracker is stopping")]
    Stopping,
}

/// Synchronizes over `link` until it ends.
pub(super) async fn run(node: Arc<Node>, link: Link, no: TrackerNo, dialled_by: TrackerNo) {
    let key = link.device();
    let (mut reader, mut writer) = link.split();
    reader.trust().give();
    let vector = match greet(&node, no, &mut reader, &mut writer).await {
        Ok(vector) => vector,
        Err(error) => {
            return tracing::debug!(tracker = %no, %error, "no hello");
        }
    };
    let (outgoing, queue) = mpsc::channel(MAX_OUTGOING);
    let end = CancellationToken::new();
    let Some(link_no) = enter(&node, no, key, &vector, dialled_by, outgoing, end.clone()) else {
        return tracing::debug!(tracker = %no, "another link is in use");
    };
    tracing::info!(tracker = %no, "linked");
    let ended = SyncTask::new(&node, no, key, link_no, writer, queue, end).run(&mut reader, vector).await;
    tracing::info!(tracker = %no, error = %ended, "link lost");
    let mut state = node.state();
    state.forgetting.fetching.take_if(|fetching| *fetching == link_no);
    if state.trackers.drop_link(no, link_no) {
        state.presence.doubt(key, Instant::now());
    }
    drop(state);
    node.note_progress();
}

/// Exchanges hellos; returns all that the other side knows.
async fn greet(
    node: &Node,
    no: TrackerNo,
    reader: &mut LinkReader,
    writer: &mut LinkWriter,
) -> Result<VersionVector, SyncError> {
    let vector = node.durable().borrow().clone();
    let hello = SyncMessage::Hello { version: VERSION, tracker: node.no, vector, now_ms: node.now_ms() };
    let exchange = async {
        writer.send(&hello).await?;
        reader.message().await?.ok_or(LinkError::Closed)
    };
    let answer = timeout(HELLO_WITHIN, exchange).await.map_err(|_| LinkError::Timeout("the hello"))??;
    let SyncMessage::Hello { version, tracker, vector, now_ms } = answer else {
        return Err(SyncError::Refused("it does not say hello first".to_owned()));
    };
    if version != VERSION {
        tracing::error!(tracker = %no, version, "speaks another version of the protocol: update the older of the two");
        return Err(SyncError::Refused(format!("version {version}, not {VERSION}")));
    }
    if tracker != no {
        tracing::error!(listed = %no, says = %tracker, "a tracker has another number in its own tracker file");
        return Err(SyncError::Refused("the tracker files differ".to_owned()));
    }
    if vector.len() > MAX_ORIGINS {
        return Err(InboxError::TooManyOrigins.into());
    }
    hear_clock(node, no, now_ms);
    node.hear_own(&vector);
    Ok(vector)
}

fn hear_clock(node: &Node, no: TrackerNo, now_ms: u64) {
    let offset = i128::from(now_ms) - i128::from(node.now_ms());
    let offset = i64::try_from(offset).unwrap_or(0);
    if node.state().trackers.hear_clock(no, offset) {
        node.announce_trackers();
    }
}

/// Puts the link in use, unless another is to be kept. Presence begins with the whole, under the same lock.
fn enter(
    node: &Node,
    no: TrackerNo,
    key: DeviceKey,
    vector: &VersionVector,
    dialled_by: TrackerNo,
    outgoing: mpsc::Sender<SyncMessage>,
    end: CancellationToken,
) -> Option<u64> {
    let (now, mut state) = (Instant::now(), node.state());
    let link_no = state.trackers.next_link();
    state.forgetting.stability.greet(key, vector);
    let view = SyncView { no: link_no, dialled_by, in_touch: false, heard: now, outgoing, end };
    if !state.trackers.take_link(no, view, now) {
        return None;
    }
    state.presence.doubt(key, now);
    for message in pulse::messages(state.presence.whole()) {
        state.trackers.send(no, message);
    }
    drop(state);
    node.note_progress();
    Some(link_no)
}

/// The task of one link.
pub(super) struct SyncTask<'a> {
    pub(super) node: &'a Arc<Node>,
    pub(super) no: TrackerNo,
    key: DeviceKey,
    pub(super) link_no: u64,
    pub(super) machine: SyncLink,
    pub(super) inbox: Inbox,
    /// Pages that the other side has asked for.
    wanted: Vec<(ManifestId, u32)>,
    /// Pages that have come and are not stored yet.
    arrived: Vec<ManifestPage>,
    /// The snapshot on offer.
    pub(super) snapshot: Option<Arc<SnapshotReader>>,
    durable: watch::Receiver<VersionVector>,
    writer: LinkWriter,
    unflushed: bool,
    queue: mpsc::Receiver<SyncMessage>,
    end: CancellationToken,
    said: Instant,
    heard: Instant,
    /// Bytes of an unfinished frame when last looked at.
    partial: usize,
}

impl<'a> SyncTask<'a> {
    fn new(
        node: &'a Arc<Node>,
        no: TrackerNo,
        key: DeviceKey,
        link_no: u64,
        writer: LinkWriter,
        queue: mpsc::Receiver<SyncMessage>,
        end: CancellationToken,
    ) -> Self {
        let (now, mut durable) = (Instant::now(), node.durable());
        let own = durable.borrow_and_update().clone();
        let folded = node.state().forgetting.past.folded.clone();
        let machine = SyncLink::new(own, folded, now.into_std());
        let inbox = Inbox::default();
        Self {
            node,
            no,
            key,
            link_no,
            machine,
            inbox,
            wanted: Vec::new(),
            arrived: Vec::new(),
            snapshot: None,
            durable,
            writer,
            unflushed: false,
            queue,
            end,
            said: now,
            heard: now,
            partial: 0,
        }
    }

    /// The loop. Ends with the reason.
    async fn run(mut self, reader: &mut LinkReader, vector: VersionVector) -> SyncError {
        if let Err(error) = self.handle(Event::Hello(vector)).await {
            return error;
        }
        loop {
            let deadline = self.deadline();
            let step = tokio::select! {
                biased;
                () = self.node.env.shutdown.cancelled() => Err(SyncError::Stopping),
                () = self.end.cancelled() => Err(SyncError::Superseded),
                flushed = self.writer.flush(), if self.unflushed => {
                    self.unflushed = false;
                    flushed.map_err(SyncError::from)
                }
                message = reader.message() => self.receive(message).await,
                // Nothing more has come for now.
                () = std::future::ready(()), if !self.arrived.is_empty() => self.store_pages().await,
                () = std::future::ready(()), if !self.wanted.is_empty() && self.writer.queued_bytes() < MAX_QUEUED_BYTES => {
                    self.send_pages().await
                }
                Ok(()) = self.durable.changed() => {
                    let own = self.durable.borrow_and_update().clone();
                    self.advance(own).await
                }
                Some(message) = self.queue.recv(), if self.writer.queued_bytes() < MAX_QUEUED_BYTES => {
                    self.say(&message);
                    Ok(())
                }
                () = sleep_until(deadline) => self.wake(reader.buffered_bytes()).await,
            };
            if let Err(error) = step {
                if matches!(error, SyncError::Stopping) {
                    let _ = self.writer.close().await;
                }
                if self.inbox.is_fetching() {
                    tracing::trace!(target: "coverage", reached = "replica: snapshot broken off");
                }
                return error;
            }
        }
    }

    async fn advance(&mut self, own: VersionVector) -> Result<(), SyncError> {
        self.handle(Event::Advanced(own)).await?;
        if self.inbox.is_empty() { Ok(()) } else { self.take_ready().await }
    }

    fn deadline(&self) -> Instant {
        let machine = self.machine.deadline().map(Instant::from_std);
        let own = (self.said + HEARTBEAT).min(self.heard + SILENCE);
        machine.map_or(own, |machine| machine.min(own))
    }

    async fn wake(&mut self, partial: usize) -> Result<(), SyncError> {
        let now = Instant::now();
        if partial != self.partial {
            // A long frame on a slow line is no silence.
            (self.partial, self.heard) = (partial, now);
        }
        if now >= self.heard + SILENCE {
            return Err(SyncError::Silent);
        }
        if now >= self.said + HEARTBEAT {
            let own = self.durable.borrow().clone();
            self.say(&SyncMessage::Confirm(own));
        }
        if self.machine.deadline().is_some_and(|deadline| deadline <= now.into_std()) {
            self.handle(Event::Timer).await?;
        }
        Ok(())
    }

    pub(super) fn say(&mut self, message: &SyncMessage) {
        self.writer.queue(message);
        self.unflushed = true;
        self.said = Instant::now();
    }

    async fn receive(&mut self, message: Result<Option<SyncMessage>, LinkError>) -> Result<(), SyncError> {
        let message = message?.ok_or(LinkError::Closed)?;
        self.heard = Instant::now();
        match message {
            SyncMessage::Hello { .. } => Err(SyncError::Refused("a second hello".to_owned())),
            SyncMessage::Changes(changes) => self.take_changes(changes).await,
            SyncMessage::Confirm(vector) => self.handle(Event::Confirmed(vector)).await,
            SyncMessage::Digest { vector, digest, now_ms } => {
                hear_clock(self.node, self.no, now_ms);
                self.inbox.forget_asked();
                self.ask_pages();
                let event = {
                    let state = self.node.state();
                    let own_vector = state.catalog.vector().clone();
                    Event::Digest { vector, digest, own_vector, own_digest: state.catalog.digest() }
                };
                self.handle(event).await
            }
            SyncMessage::Stable(trackers) => self.hear_stable(&trackers),
            SyncMessage::SnapshotOffer { folded, latest } => self.take_offer(folded, latest).await,
            SyncMessage::GetSnapshot { after } => self.send_snapshot(after).await,
            SyncMessage::Snapshot(page) => self.take_snapshot_page(page).await,
            SyncMessage::GetPage { manifest, page } => {
                // What is beyond the limit is asked for again.
                if self.wanted.len() < MAX_PAGES_ASKED {
                    self.wanted.push((manifest, page));
                }
                Ok(())
            }
            SyncMessage::Page { manifest, page, bytes } => match bytes {
                Some(bytes) => self.take_page(manifest, page, bytes.into_vec()).await,
                None => Ok(()),
            },
            SyncMessage::Presence(said) => {
                let mut state = self.node.state();
                for said in &said {
                    state.presence.hear(self.key, said);
                }
                Ok(())
            }
            SyncMessage::Attempts(attempts) => {
                self.node.state().throttle.hear(Instant::now(), attempts);
                Ok(())
            }
            SyncMessage::AskToDial { device, group, file, peer } => {
                let state = self.node.state();
                if let Some((Home::Here(link), _)) = state.presence.seat(&device) {
                    state.clients.notify(link, Notice::DialRequested { group, file, peer });
                }
                Ok(())
            }
        }
    }

    /// Feeds the machine, and performs what it asks for.
    pub(super) async fn handle(&mut self, event: Event) -> Result<(), SyncError> {
        let mut todo = Vec::new();
        let mut next = Some(event);
        while let Some(event) = next.take() {
            self.machine.handle(Instant::now().into_std(), event, &mut todo);
            for action in todo.drain(..) {
                match action {
                    Action::Read { origin, after, up_to, max_bytes } => {
                        let store = Arc::clone(&self.node.store);
                        let read = move || store.changes(&origin, after, up_to, max_bytes);
                        next = Some(Event::Read(self.node.env.offload(read).await?));
                    }
                    Action::Send(message) => self.say(&message),
                    Action::OfferSnapshot => self.offer_snapshot().await?,
                    Action::SendDigest => {
                        self.say_digest();
                        self.say_stable();
                    }
                    Action::InTouch => tracing::info!(tracker = %self.no, "in touch"),
                    Action::OutOfTouch => tracing::warn!(tracker = %self.no, "does not confirm: out of touch"),
                    Action::Diverged { own, other } => {
                        tracing::error!(tracker = %self.no, %own, %other, "the same changes make different catalogs: a bug");
                    }
                }
            }
        }
        self.publish();
        Ok(())
    }

    /// Lets the writers that wait see what is confirmed.
    fn publish(&self) {
        let durable = self.durable.borrow().clone();
        let (now, mut state) = (Instant::now(), self.node.state());
        let machine = &self.machine;
        state.trackers.note(self.no, self.link_no, machine.is_in_touch(), machine.confirmed(), self.heard);
        state.trackers.note_lag(&durable, now);
        state.forgetting.stability.hear(self.key, machine.confirmed());
        drop(state);
        self.node.note_progress();
    }

    fn say_digest(&mut self) {
        let digest = {
            let state = self.node.state();
            let vector = self.durable.borrow().clone();
            (*state.catalog.vector() == vector).then(|| (vector, state.catalog.digest()))
        };
        if let Some((vector, digest)) = digest {
            self.say(&SyncMessage::Digest { vector, digest, now_ms: self.node.now_ms() });
        }
    }

    pub(super) fn durable_includes(&self, vector: &VersionVector) -> bool {
        self.durable.borrow().includes(vector)
    }

    fn say_stable(&mut self) {
        let durable = self.durable.borrow().clone();
        let trackers = self.node.state().forgetting.told(self.node.key(), durable);
        self.say(&SyncMessage::Stable(trackers));
    }

    /// What the other side says of itself and of those that are not linked here; whoever is linked speaks for itself.
    fn hear_stable(&mut self, trackers: &[StableTracker]) -> Result<(), SyncError> {
        if trackers.len() > MAX_ORIGINS || trackers.iter().any(|one| one.confirmed.len() > MAX_ORIGINS) {
            return Err(InboxError::TooManyOrigins.into());
        }
        for StableTracker { tracker, confirmed, folded } in trackers {
            self.node.hear_own(confirmed);
            let mut state = self.node.state();
            if state.trackers.with_key(tracker).is_some() {
                if !state.trackers.speaks_for_itself(tracker) {
                    state.forgetting.stability.hear(*tracker, confirmed);
                }
                state.forgetting.stability.hear_folded(*tracker, folded);
            }
        }
        Ok(())
    }

    async fn take_changes(&mut self, changes: Vec<Change>) -> Result<(), SyncError> {
        let missing = missing_pages(self.node, changes.iter()).await?;
        let received = {
            let state = self.node.state();
            // Every origin is let in: an origin is a device key, and the logs hold those of trackers that have lost their disk
            // or were taken off the list, which nobody can know any more. What keeps strangers out is the link: changes enter
            // a log only where a client writes or from a tracker that is listed and has proved its key, so each origin was a
            // listed tracker when its first change was passed on. The inbox bounds how many there may be.
            self.inbox.receive(
                state.catalog.vector(),
                changes,
                |_| true,
                |manifest| missing.get(&manifest.id()).cloned().unwrap_or_default(),
            )?
        };
        if received.staged == 0 {
            self.handle(Event::NothingNew).await?;
        }
        self.ask_pages();
        self.take_ready().await
    }

    pub(super) fn ask_pages(&mut self) {
        for (manifest, page) in self.inbox.ask_pages() {
            self.say(&SyncMessage::GetPage { manifest, page });
        }
    }

    async fn take_ready(&mut self) -> Result<(), SyncError> {
        let inbox = &mut self.inbox;
        let taken = self.node.ingest(|known| inbox.take_ready(known)).await;
        taken.map(|_| ()).map_err(|_| SyncError::Stopping)
    }

    /// Sends pages that the other side has asked for, as many as make a batch.
    async fn send_pages(&mut self) -> Result<(), SyncError> {
        let (store, wanted) = (Arc::clone(&self.node.store), std::mem::take(&mut self.wanted));
        let read = move || store.pages(&wanted, MAX_BATCH_BYTES).map(|pages| (wanted, pages));
        let (mut wanted, pages) = self.node.env.offload(read).await?;
        self.wanted = wanted.split_off(pages.len());
        for ((manifest, page), bytes) in wanted.into_iter().zip(pages) {
            self.say(&SyncMessage::Page { manifest, page, bytes: bytes.map(serde_bytes::ByteBuf::from) });
        }
        Ok(())
    }

    /// A page has come. It is stored with those that come right behind it.
    async fn take_page(&mut self, manifest: ManifestId, page: u32, bytes: Vec<u8>) -> Result<(), SyncError> {
        if !self.inbox.wants_page(&manifest, page) {
            return Ok(());
        }
        let Some(header) = self.inbox.manifest(&manifest) else { return Ok(()) };
        header.check_page(page, &bytes).map_err(InboxError::from)?;
        self.arrived.push(ManifestPage { manifest, page, bytes });
        let waiting: usize = self.arrived.iter().map(|page| page.bytes.len()).sum();
        if waiting >= MAX_BATCH_BYTES { self.store_pages().await } else { Ok(()) }
    }

    async fn store_pages(&mut self) -> Result<(), SyncError> {
        let (store, pages) = (Arc::clone(&self.node.store), std::mem::take(&mut self.arrived));
        let named: Vec<_> = pages.iter().map(|page| (page.manifest, page.page)).collect();
        self.node.env.offload(move || store.put_pages(&pages)).await?;
        for (manifest, page) in named {
            self.inbox.page_stored(manifest, page);
        }
        self.ask_pages();
        self.install_when_whole().await?;
        self.take_ready().await
    }
}

/// Pages that manifests in these changes lack here.
pub(super) async fn missing_pages<'a>(
    node: &Node,
    changes: impl Iterator<Item = &'a Change>,
) -> Result<BTreeMap<ManifestId, Vec<u32>>, SyncError> {
    let named: BTreeMap<_, _> = changes
        .filter_map(|change| change.body.manifest())
        .filter(|(_, manifest)| manifest.check().is_ok())
        .map(|(id, manifest)| (id, manifest.page_count()))
        .collect();
    if named.is_empty() {
        return Ok(BTreeMap::new());
    }
    node.hold_pages(named.keys().copied()).await;
    let store = Arc::clone(&node.store);
    Ok(node.env.offload(move || store.missing_pages(&named)).await?)
}
