//! The two tasks of a link to a peer, and how links come to be: frames in, frames out, nothing decided.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Seams, hub::Input};
use crate::{
    protocol::{
        file_names,
        frame::{BLOCK, Frame, FrameError, read_message},
        ids::{DeviceKey, FileId},
        peer::{PeerMessage, read_block},
        piece::Block,
    },
    roles::port::{self, Doorkeeper, Place},
    swarm::PeerId,
    transport::{
        Listener, Stream,
        link::{self, Link, LinkError, LinkReader, LinkWriter, Trust},
        tls::Protocol,
    },
};

/// What waits for a link's writer. A peer that lets this fill up takes nothing any more.
const OUTGOING: usize = 512;
/// Handshakes of accepted streams under way at once, and from one network.
const HANDSHAKES: (usize, usize) = (256, 64);
/// Of a hundred descriptors, those for handshakes.
const PERCENT: u64 = 25;
/// Most bytes handed to the socket before the hub hears of it: the next blocks are read from disk meanwhile.
const FLUSH_BYTES: usize = 256 * 1024;

/// What a peer sent.
pub(super) enum Received {
    /// A message.
    Message(PeerMessage),
    /// A block of a piece.
    Block { file: FileId, block: Block, bytes: Bytes },
}

/// What a peer is sent.
pub(super) enum Outgoing {
    /// A message.
    Message(PeerMessage),
    /// A block of a piece.
    Block { file: FileId, block: Block, bytes: Bytes },
}

/// The hub's end of a link. Dropping it closes the link.
pub(super) struct Handle {
    outgoing: mpsc::Sender<Outgoing>,
    trust: Trust,
    stop: CancellationToken,
}

impl Handle {
    /// Hands something to the writer; false when the peer has let too much pile up: the link is dead.
    pub(super) fn send(&self, outgoing: Outgoing) -> bool {
        self.outgoing.try_send(outgoing).is_ok()
    }

    /// The other end has shown who it is.
    pub(super) fn trust(&self) {
        self.trust.give();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Accepts streams until the client stops.
pub(super) async fn accept_all(seams: Arc<Seams>, listener: Box<dyn Listener>) {
    let keeper = Doorkeeper::new(port::fitted(&seams.env, PERCENT, port::for_strangers(HANDSHAKES.0, HANDSHAKES.1)));
    let serve = |stream, from, place| accept_one(Arc::clone(&seams), stream, from, place);
    port::accept(&seams.env, listener, keeper, None, serve).await;
}

async fn accept_one(seams: Arc<Seams>, stream: Box<dyn Stream>, from: SocketAddr, place: Place) {
    let accepted = tokio::select! {
        biased;
        () = seams.env.shutdown.cancelled() => return,
        () = place.end().cancelled() => return tracing::debug!(%from, "gave way to others before its handshake was done"),
        accepted = link::accept(stream, &seams.identity) => accepted,
    };
    match accepted {
        Ok(link) if link.protocol() == Protocol::Peer => {
            seams.report(Input::Linked { link: Box::new(link), dialled_us: Some(from.ip()) }).await;
        }
        Ok(_) => tracing::debug!(%from, "somebody dialled with a protocol that a client does not serve"),
        Err(error) => tracing::debug!(%from, %error, "a peer could not be accepted"),
    }
}

/// Dials a peer; the hub hears how it went.
pub(super) async fn dial(seams: Arc<Seams>, device: DeviceKey, address: String) {
    let dialled = tokio::select! {
        biased;
        () = seams.env.shutdown.cancelled() => return,
        dialled = link::dial(&*seams.env.transport, &seams.identity, &address, Protocol::Peer, Some(device)) => dialled,
    };
    let input = match dialled {
        Ok(link) => Input::Linked { link: Box::new(link), dialled_us: None },
        Err(error) => Input::DialFailed { device, reason: error.to_string() },
    };
    seams.report(input).await;
}

/// Starts both tasks of a link.
pub(super) fn start(seams: &Arc<Seams>, peer: PeerId, link: Link) -> Handle {
    let (outgoing, waiting) = mpsc::channel(OUTGOING);
    let stop = seams.env.shutdown.child_token();
    let (reader, writer) = link.split();
    let trust = reader.trust();
    seams.env.spawn(read(Arc::clone(seams), peer, reader, stop.clone()));
    seams.env.spawn(write(Arc::clone(seams), peer, writer, waiting, stop.clone()));
    Handle { outgoing, trust, stop }
}

async fn read(seams: Arc<Seams>, peer: PeerId, mut reader: LinkReader, stop: CancellationToken) {
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        end = read_frames(&seams, peer, &mut reader) => end,
    };
    if let Err(error) = end {
        tracing::debug!(peer = peer.0, %error, "a peer's link has ended");
    }
    stop.cancel();
    seams.report(Input::Unlinked { peer }).await;
}

async fn read_frames(seams: &Seams, peer: PeerId, reader: &mut LinkReader) -> Result<(), LinkError> {
    let mut names = file_names::Listener::default();
    while let Some(frame) = reader.frame().await? {
        let received = decode(frame, &mut names)?;
        seams.report(Input::Received { peer, received }).await;
    }
    Ok(())
}

fn decode(frame: Frame, names: &mut file_names::Listener) -> Result<Received, FrameError> {
    let is_none = |why: &dyn Display| FrameError::Message(why.to_string());
    if frame.kind != BLOCK {
        let message = names.read(read_message(&frame)?);
        return message.map(Received::Message).map_err(|error| is_none(&error));
    }
    let (file, block, bytes) = read_block(frame.body).ok_or_else(|| is_none(&"a block without payload"))?;
    Ok(Received::Block { file, block, bytes })
}

async fn write(
    seams: Arc<Seams>,
    peer: PeerId,
    mut writer: LinkWriter,
    mut outgoing: mpsc::Receiver<Outgoing>,
    stop: CancellationToken,
) {
    let mut names = file_names::Speaker::default();
    loop {
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            next = outgoing.recv() => next,
        };
        let Some(next) = next else { break };
        let blocks = queue(&mut writer, &mut names, next, &mut outgoing);
        let flushed = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            flushed = writer.flush() => flushed,
        };
        if let Err(error) = flushed {
            tracing::debug!(peer = peer.0, %error, "a peer's link takes nothing any more");
            break;
        }
        if !blocks.is_empty() {
            seams.report(Input::Sent { peer, blocks }).await;
        }
    }
    stop.cancel();
    let _ = writer.close().await;
}

/// Queues `next` and what waits behind it, up to a bound; returns the lengths of the blocks among them.
fn queue(
    writer: &mut LinkWriter,
    names: &mut file_names::Speaker,
    next: Outgoing,
    waiting: &mut mpsc::Receiver<Outgoing>,
) -> Vec<u32> {
    let mut blocks = Vec::new();
    let mut next = Some(next);
    while let Some(outgoing) = next {
        match outgoing {
            Outgoing::Message(message) => writer.queue_brief(&names.name(message)),
            Outgoing::Block { file, block, bytes } => {
                blocks.push(block.length);
                writer.queue_block(&file, block, bytes);
            }
        }
        next = (writer.queued_bytes() < FLUSH_BYTES).then(|| waiting.try_recv().ok()).flatten();
    }
    blocks
}
