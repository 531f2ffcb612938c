//! The open port: a permit before each accept, a deadline on each handshake, then to the protocol that ALPN chose.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::sleep};
use tracing::Instrument as _;

use super::{connection, node::Node, sync};
use crate::transport::{Listener, Stream, link, tls::Protocol};

/// Links at the same time, clients and trackers together.
const MAX_LINKS: usize = 4096;
/// Pause after the system refused to accept: it is out of descriptors, or the like.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the role stops.
pub(super) async fn run(node: Arc<Node>, listener: Box<dyn Listener>) {
    let permits = Arc::new(Semaphore::new(MAX_LINKS));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            biased;
            () = node.env.shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let node_here = Arc::clone(&node);
                let serve = async move {
                    greet(node_here, stream, from).await;
                    drop(permit);
                };
                node.env.spawn(serve.instrument(tracing::info_span!("accepted", %from)));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn greet(node: Arc<Node>, stream: Box<dyn Stream>, from: SocketAddr) {
    let link = tokio::select! {
        biased;
        () = node.env.shutdown.cancelled() => return,
        link = link::accept(stream, &node.identity) => link,
    };
    match link {
        Ok(link) if link.protocol() == Protocol::Tracker => connection::serve(node, link, from).await,
        Ok(link) if link.protocol() == Protocol::Sync => sync::accepted(node, link, from).await,
        Ok(_) => tracing::debug!(%from, "a peer dialled a tracker"),
        Err(error) => tracing::debug!(%from, %error, "no handshake"),
    }
}
