//! Writes what a client has seen to its folder, now and then: losing the last seconds of it weakens nothing but
//! read-your-writes across a crash.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use crate::{
    protocol::version::VersionVector,
    roles::environment::Environment,
    store::client::{DataDir, memory},
};

/// Pause between two writes.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn run(env: Environment, dir: Arc<DataDir>, mut seen: watch::Receiver<VersionVector>) {
    while !env.shutdown.is_cancelled() {
        tokio::select! {
            biased;
            () = env.shutdown.cancelled() => {}
            changed = seen.changed() => if changed.is_err() { return },
        }
        let now_seen = seen.borrow_and_update().clone();
        save(&env, &dir, now_seen).await;
        tokio::select! {
            biased;
            () = env.shutdown.cancelled() => {}
            () = sleep(PAUSE) => {}
        }
    }
}

async fn save(env: &Environment, dir: &Arc<DataDir>, seen: VersionVector) {
    let (disk, dir) = (Arc::clone(&env.disk), Arc::clone(dir));
    if let Err(error) = env.offload(move || memory::remember_seen(&*disk, &dir, &seen)).await {
        tracing::warn!(%error, "cannot remember what was seen");
    }
}
