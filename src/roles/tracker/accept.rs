//! The open port: a deadline on each handshake, then to the protocol that ALPN chose.
//!
//! Who shakes hands has a place of its own; only a client needs another one after that. So no crowd of clients, and no flood of
//! strangers, takes the place of a listed tracker.

use std::{net::SocketAddr, sync::Arc};

use super::{connection, node::Node, sync};
use crate::{
    roles::port::{self, Doorkeeper, Place},
    transport::{Listener, Stream, link, tls::Protocol},
};

/// Handshakes under way at the same time, and from one network: each takes some 25 KiB.
const HANDSHAKES: (usize, usize) = (1024, 256);
/// Of a hundred descriptors, those for handshakes.
const PERCENT: u64 = 25;

/// Accepts until the role stops.
pub(super) async fn run(node: Arc<Node>, listener: Box<dyn Listener>) {
    let capacity = port::fitted(&node.env, PERCENT, port::for_strangers(HANDSHAKES.0, HANDSHAKES.1));
    let (keeper, clients) = (Doorkeeper::new(capacity), Arc::clone(&node.doors));
    let serve = |stream, from, place| greet(Arc::clone(&node), stream, from, place);
    port::accept(&node.env, listener, keeper, Some(clients), |_| (), serve).await;
}

async fn greet(node: Arc<Node>, stream: Box<dyn Stream>, from: SocketAddr, place: Place) {
    let link = tokio::select! {
        biased;
        () = node.env.shutdown.cancelled() => return,
        () = place.end().cancelled() => return tracing::debug!(%from, "gave way to others before its handshake was done"),
        link = link::accept(stream, &node.identity) => link,
    };
    drop(place);
    match link {
        Ok(link) if link.protocol() == Protocol::Tracker => {
            if let Some(place) = node.doors.enter(from.ip()) {
                connection::serve(node, link, from, place).await;
            } else {
                tracing::debug!(%from, "there is no room for another client");
            }
        }
        Ok(link) if link.protocol() == Protocol::Sync => sync::accepted(node, link, from).await,
        Ok(_) => tracing::debug!(%from, "a peer dialled a tracker"),
        Err(error) => tracing::debug!(%from, %error, "no handshake"),
    }
}
