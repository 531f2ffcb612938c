//! Forgetting: every few seconds what is over, and known to be so by every listed tracker, leaves memory and disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    node::{Node, State},
    unshared::Unshared,
};
use crate::{
    protocol::{
        ids::{DeviceKey, ManifestId, RequestId, TrackerNo},
        sync::StableTracker,
        version::VersionVector,
    },
    replica::{fold::Folded, graves::Graves, stability::Stability},
    store::tracker::{Forget, Past},
};

/// Time between two folds.
const INTERVAL: Duration = Duration::from_secs(5);
/// Changes looked at under one lock; bounds how long nobody is answered.
const MOST: usize = 1000;
/// Manifest pages stay so long after anybody asked which are here: whoever did is about to share them.
const PAGES_HELD: Duration = Duration::from_hours(1);
/// Time that a tracker may be away before its delaying this is reported, and until it is reported again.
const PATIENCE: Duration = Duration::from_hours(1);

/// What forgetting knows, beside the catalog.
#[derive(Debug)]
pub(super) struct Forgetting {
    pub(super) stability: Stability,
    /// Up to where changes are forgotten in memory, and on disk or about to be.
    pub(super) past: Past,
    /// Of what all that can be is forgotten, durably.
    done: VersionVector,
    graves: Graves,
    /// A snapshot is being taken in.
    pub(super) is_installing: bool,
    /// The link that a snapshot is being fetched over.
    pub(super) fetching: Option<u64>,
    /// Manifests whose pages were asked about, and when.
    held: BTreeMap<ManifestId, Instant>,
    /// Manifests that no share refers to any more and whose pages are here.
    orphans: BTreeSet<ManifestId>,
    /// What was offered and not shared.
    pub(super) unshared: Unshared,
    reported: BTreeMap<TrackerNo, Instant>,
}

impl Forgetting {
    /// After a start.
    pub(super) fn new(past: Past, tombstones: Vec<RequestId>) -> Self {
        let (stability, graves) = (Stability::default(), Graves::default());
        let (held, orphans, reported) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let done = VersionVector::default();
        let mut new = Self {
            stability,
            past,
            done,
            graves,
            is_installing: false,
            fetching: None,
            held,
            orphans,
            unshared: Unshared::default(),
            reported,
        };
        new.graves.dig(Instant::now().into_std(), &new.past.folded, tombstones);
        new
    }

    /// A snapshot was taken in: all tombstones count from now.
    pub(super) fn installed(&mut self, past: Past, tombstones: Vec<RequestId>) {
        self.past = past;
        self.done = VersionVector::default();
        self.graves = Graves::default();
        self.graves.dig(Instant::now().into_std(), &self.past.folded, tombstones);
        self.is_installing = false;
    }

    /// What to tell others: of this tracker, which has `durable`, and of those it has heard of.
    pub(super) fn told(&self, own: DeviceKey, durable: VersionVector) -> Vec<StableTracker> {
        let own = StableTracker { tracker: own, confirmed: durable, folded: self.done.clone() };
        let others = self.stability.told().map(|(tracker, confirmed, folded)| StableTracker {
            tracker,
            confirmed: confirmed.clone(),
            folded: folded.clone(),
        });
        others.chain([own]).collect()
    }
}

/// Runs until the role stops.
pub(super) async fn run(node: Arc<Node>) {
    let shutdown = node.env.shutdown.clone();
    let forget = async {
        sleep(INTERVAL).await;
        find_orphans(&node).await;
        loop {
            while !step(&node).await {}
            drop_pages(&node).await;
            report(&node);
            sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = forget => {}
    }
}

/// Forgets some; returns whether that was all.
async fn step(node: &Arc<Node>) -> bool {
    let _alone = node.rewriting.lock().await;
    let Some((forget, cut, is_complete)) = fold(node) else { return true };
    let is_news = !(forget.dropped.is_empty() && forget.settled.is_empty() && forget.expired.is_empty());
    if is_news {
        tracing::debug!(changes = forget.dropped.len(), tombstones = forget.expired.len(), "forgets");
        tracing::trace!(target: "coverage", reached = "replica: changes forgotten");
        let store = Arc::clone(&node.store);
        if let Err(error) = node.env.offload(move || store.forget(&forget)).await {
            node.fail(&format!("its log could not be shortened: {error}"));
            return true;
        }
    }
    if is_complete {
        node.state().forgetting.done.merge(&cut);
    }
    is_complete
}

/// Forgets some in memory; returns what to write of it, under which cut, and whether that was all.
fn fold(node: &Node) -> Option<(Forget, VersionVector, bool)> {
    let durable = node.durable().borrow().clone();
    let (now, mut state) = (Instant::now().into_std(), node.state());
    let others = state.trackers.keys()?;
    let State { catalog, forgetting, .. } = &mut *state;
    let cut = forgetting.stability.cut(node.key(), &durable, &others);
    let folded = catalog.fold(&cut, MOST);
    let is_complete = folded.is_complete;
    let everywhere = forgetting.stability.folded_everywhere(&forgetting.done, &others);
    let expired = forgetting.graves.level(now, &everywhere);
    catalog.forget_requests(&expired);
    if !folded.is_empty() {
        forgetting.past.folded.merge(cut.stable());
        forgetting.past.latest = catalog.latest();
    }
    forgetting.graves.dig(now, cut.stable(), folded.forgotten.iter().map(|tombstone| tombstone.request));
    let Folded { dropped, settled, forgotten, manifests, .. } = folded;
    forgetting.orphans.extend(manifests);
    let forget = Forget { past: forgetting.past.clone(), dropped, settled, forgotten, expired };
    Some((forget, cut.stable().clone(), is_complete))
}

/// Finds manifests that were offered before the start and never shared.
async fn find_orphans(node: &Arc<Node>) {
    let mut last = None;
    loop {
        let store = Arc::clone(&node.store);
        let part = match node.env.offload(move || store.manifests(last, MOST)).await {
            Ok(part) => part,
            Err(error) => return node.fail(&format!("its manifest pages could not be read: {error}")),
        };
        let Some(newest) = part.last() else { return };
        last = Some(*newest);
        let mut state = node.state();
        let State { catalog, forgetting, .. } = &mut *state;
        forgetting.orphans.extend(part.into_iter().filter(|manifest| !catalog.refers_to(manifest)));
    }
}

/// Drops manifest pages that nobody needs.
async fn drop_pages(node: &Arc<Node>) {
    let _alone = node.pages.write().await;
    let dropped: Vec<_> = {
        let (now, mut state) = (Instant::now(), node.state());
        let State { catalog, forgetting, .. } = &mut *state;
        forgetting.held.retain(|_, at| now.saturating_duration_since(*at) < PAGES_HELD);
        let held = &forgetting.held;
        forgetting.orphans.retain(|manifest| !catalog.refers_to(manifest));
        forgetting.unshared.retain(|manifest| held.contains_key(manifest) && !catalog.refers_to(manifest));
        forgetting.orphans.extract_if(.., |manifest| !held.contains_key(manifest)).collect()
    };
    if dropped.is_empty() {
        return;
    }
    let store = Arc::clone(&node.store);
    if let Err(error) = node.env.offload(move || store.drop_pages(&dropped)).await {
        node.fail(&format!("manifest pages could not be dropped: {error}"));
    }
}

/// Says so when a tracker that is away holds this up.
fn report(node: &Node) {
    let durable = node.durable().borrow().clone();
    let (now, mut state) = (Instant::now(), node.state());
    let away: Vec<_> = state.trackers.away(now, PATIENCE).collect();
    for (no, away) in away {
        let confirmed = state.trackers.key(no).map(|key| state.forgetting.stability.confirmed(&key));
        let waiting = durable.ahead_of(&confirmed.unwrap_or_default());
        let last = state.forgetting.reported.get(&no);
        if waiting == 0 || last.is_some_and(|last| now.saturating_duration_since(*last) < PATIENCE) {
            continue;
        }
        state.forgetting.reported.insert(no, now);
        tracing::warn!(
            tracker = %no, minutes = away.as_secs() / 60, changes = waiting,
            "has been away for long: nothing since is forgotten until it is back. If it is gone for good, take it off the \
             tracker file"
        );
    }
}

impl Node {
    /// Keeps the pages of these manifests, for whoever is about to look which of them are here.
    pub(super) async fn hold_pages(&self, manifests: impl IntoIterator<Item = ManifestId>) {
        let _shared = self.pages.read().await;
        let (now, mut state) = (Instant::now(), self.state());
        for manifest in manifests {
            state.forgetting.held.insert(manifest, now);
            // Until it is shared: then it is one no more.
            state.forgetting.orphans.insert(manifest);
        }
    }

    /// Changes that each other tracker keeps from being forgotten.
    pub(super) fn unforgettable(&self) -> Vec<(TrackerNo, u64)> {
        let (durable, state) = (self.durable().borrow().clone(), self.state());
        let confirmed = |no| state.trackers.key(no).map(|key| state.forgetting.stability.confirmed(&key));
        let others = state.trackers.numbers();
        others.map(|no| (no, durable.ahead_of(&confirmed(no).unwrap_or_default()))).collect()
    }
}
