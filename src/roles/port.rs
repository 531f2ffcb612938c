//! An open port of a role: a permit before each accept, a task for each stream.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::sleep};
use tracing::Instrument as _;

use super::environment::Environment;
use crate::transport::{Listener, Stream};

/// Pause after the system refused to accept: it is out of descriptors, or the like.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the role stops and gives each stream to a task of `serve`'s, at most `most` at once. The tasks are told to
/// stop by nobody but themselves.
pub(super) async fn accept<F>(
    env: &Environment,
    listener: Box<dyn Listener>,
    most: usize,
    serve: impl Fn(Box<dyn Stream>, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(most));
    let next = async || {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        (permit, listener.accept().await)
    };
    while let Some((permit, accepted)) = env.shutdown.run_until_cancelled(next()).await {
        match accepted {
            Ok((stream, from)) => {
                let task = serve(stream, from);
                let serving = async move {
                    task.await;
                    drop(permit);
                };
                env.spawn(serving.instrument(tracing::info_span!("accepted", %from)));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                sleep(PAUSE).await;
            }
        }
    }
}
