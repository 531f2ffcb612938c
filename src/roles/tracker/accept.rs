//! The open port: a deadline on each handshake, then to the protocol that ALPN chose.

use std::{net::SocketAddr, sync::Arc};

use super::{connection, node::Node, sync};
use crate::{
    roles::port,
    transport::{Listener, Stream, link, tls::Protocol},
};

/// Links at the same time, clients and trackers together.
const MAX_LINKS: usize = 16_384;

/// Accepts until the role stops.
pub(super) async fn run(node: Arc<Node>, listener: Box<dyn Listener>) {
    port::accept(&node.env, listener, MAX_LINKS, |stream, from| greet(Arc::clone(&node), stream, from)).await;
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
