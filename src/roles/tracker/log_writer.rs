//! Makes changes durable: whatever waits goes into one transaction and one fsync, and only then is anybody told.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{metrics::Counters, node::Node};
use crate::{protocol::record::Change, replica::Effect};

/// Appends that wait at most; writers beyond that wait themselves.
pub(super) const QUEUE: usize = 1024;
/// Changes in one transaction, about: bounds how long the first of them waits.
const MAX_BATCH: usize = 4096;

/// Changes applied to the catalog already, in this order, and what they did.
pub(super) struct Append {
    /// Of each origin in order.
    pub(super) changes: Vec<Change>,
    /// To be told once they are durable.
    pub(super) effects: Vec<Effect>,
}

/// Writes until the role stops, and then what is left.
pub(super) async fn run(node: Arc<Node>, mut appends: mpsc::Receiver<Append>) {
    loop {
        let first = tokio::select! {
            biased;
            first = appends.recv() => first,
            () = node.env.shutdown.cancelled() => {
                appends.close();
                appends.recv().await
            }
        };
        let Some(first) = first else { return };
        if let Err(error) = write(&node, first, &mut appends).await {
            return node.fail(&format!("its log could not be written: {error}"));
        }
    }
}

async fn write(
    node: &Arc<Node>,
    first: Append,
    appends: &mut mpsc::Receiver<Append>,
) -> Result<(), crate::store::tracker::StoreError> {
    let Append { mut changes, mut effects } = first;
    while changes.len() < MAX_BATCH
        && let Ok(next) = appends.try_recv()
    {
        changes.extend(next.changes);
        effects.extend(next.effects);
    }
    let dots: Vec<_> = changes.iter().map(|change| change.dot).collect();
    let store = Arc::clone(&node.store);
    node.env.offload(move || store.append(&changes)).await?;
    Counters::count(&node.counters.commits);
    node.durable_now(&dots);
    node.tell(&effects);
    Ok(())
}
