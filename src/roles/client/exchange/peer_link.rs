//! The two tasks of a link to a peer, and how links come to be: frames in, frames out, nothing decided.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Seams, failure, hub::Input};
use crate::{
    protocol::{
        file_names,
        frame::{BLOCK, Frame, FrameError, read_message},
        ids::{DeviceKey, FileId},
        peer::{PeerMessage, read_block},
        piece::Block,
    },
    roles::{
        client::command::Event,
        port::{self, Doorkeeper, Place},
    },
    swarm::PeerId,
    transport::{
        Listener, Stream,
        link::{self, Link, LinkError, LinkReader, LinkWriter, Trust},
        tls::Protocol,
    },
};

/// What waits for a stream's writer. A peer that lets this fill up takes nothing any more.
const OUTGOING: usize = 512;
/// Handshakes of accepted streams under way at once, and from one network.
const HANDSHAKES: (usize, usize) = (256, 64);
/// Of a hundred descriptors, those for handshakes.
const PERCENT: u64 = 25;
/// Most bytes handed to the socket before the hub hears of it: the next blocks are read from disk meanwhile.
const FLUSH_BYTES: usize = 256 * 1024;

/// A stream of a link, by a number that no other stream or link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(pub(super) u64);

/// The stream that is the link's own.
pub(super) fn first_of(peer: PeerId) -> StreamId {
    StreamId(peer.0)
}

/// Who made a link.
pub(super) enum Origin {
    /// This side dialled an address.
    Ours(String),
    /// The other side did, from there.
    Theirs(IpAddr),
}

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

/// The hub's end of a stream. Dropping it closes the stream.
pub(super) struct Handle {
    outgoing: Option<mpsc::Sender<Outgoing>>,
    trust: Trust,
    stop: CancellationToken,
}

impl Handle {
    /// Hands something to the writer; false when the peer has let too much pile up: the link is dead.
    pub(super) fn send(&self, outgoing: Outgoing) -> bool {
        self.outgoing.as_ref().is_some_and(|waiting| waiting.try_send(outgoing).is_ok())
    }

    /// Nothing more will be sent: says farewell after what waits.
    pub(super) fn retire(&mut self) {
        self.outgoing = None;
    }

    /// Whether more may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.outgoing.is_some()
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
    let tell = |error: &io::Error| seams.tell(Event::CannotAccept(failure::accepting(error)));
    port::accept(&seams.env, listener, keeper, None, tell, serve).await;
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
            seams.report(Input::Linked { link: Box::new(link), origin: Origin::Theirs(from.ip()) }).await;
        }
        Ok(link) if link.protocol() == Protocol::Blocks => {
            seams.report(Input::StreamAccepted { link: Box::new(link), from: from.ip() }).await;
        }
        Ok(_) => tracing::debug!(%from, "somebody dialled with a protocol that a client does not serve"),
        Err(error) => tracing::debug!(%from, %error, "a peer could not be accepted"),
    }
}

/// Dials a peer; the hub hears how it went.
pub(super) async fn dial(seams: Arc<Seams>, device: DeviceKey, address: String) {
    let Some(dialled) = seams.dial(Protocol::Peer, device, &address).await else { return };
    let input = match dialled {
        Ok(link) => Input::Linked { link: Box::new(link), origin: Origin::Ours(address) },
        Err(error) => Input::DialFailed { device, reason: error.to_string() },
    };
    seams.report(input).await;
}

/// Dials a peer to which a link stands, for one more stream; the hub hears how it went.
pub(super) async fn dial_stream(seams: Arc<Seams>, peer: PeerId, device: DeviceKey, address: String) {
    let Some(dialled) = seams.dial(Protocol::Blocks, device, &address).await else { return };
    let link = dialled.inspect_err(|error| tracing::debug!(peer = peer.0, %error, "no further stream")).ok();
    seams.report(Input::StreamDialled { peer, link: link.map(Box::new) }).await;
}

impl Seams {
    /// Dials a device; `None` when the client is stopping.
    async fn dial(&self, protocol: Protocol, device: DeviceKey, address: &str) -> Option<Result<Link, LinkError>> {
        let dial = link::dial(&*self.env.transport, &self.identity, address, protocol, Some(device));
        self.env.shutdown.run_until_cancelled(dial).await
    }
}

/// Starts both tasks of a link.
pub(super) fn start(seams: &Arc<Seams>, peer: PeerId, link: Link) -> Handle {
    let (outgoing, waiting) = mpsc::channel(OUTGOING);
    let stop = seams.env.shutdown.child_token();
    let (reader, writer) = link.split();
    let trust = reader.trust();
    seams.env.spawn(read(Arc::clone(seams), peer, reader, stop.clone()));
    seams.env.spawn(write(Arc::clone(seams), peer, writer, waiting, stop.clone()));
    Handle { outgoing: Some(outgoing), trust, stop }
}

/// Starts the task of a further stream of a link.
pub(super) fn start_stream(seams: &Arc<Seams>, peer: PeerId, stream: StreamId, link: Link) -> Handle {
    let (outgoing, waiting) = mpsc::channel(OUTGOING);
    let stop = seams.env.shutdown.child_token();
    let (reader, writer) = link.split();
    let trust = reader.trust();
    seams.env.spawn(carry(Arc::clone(seams), (peer, stream), reader, writer, waiting, stop.clone()));
    Handle { outgoing: Some(outgoing), trust, stop }
}

/// Blocks of a further stream, both ways, until both ends have said farewell or it is lost.
async fn carry(
    seams: Arc<Seams>,
    (peer, stream): (PeerId, StreamId),
    mut reader: LinkReader,
    mut writer: LinkWriter,
    mut outgoing: mpsc::Receiver<Outgoing>,
    stop: CancellationToken,
) {
    let reading = async {
        read_frames(&seams, peer, &mut reader).await?;
        seams.report(Input::StreamEnding { peer, stream }).await;
        Ok(())
    };
    let writing = async {
        write_all(&seams, (peer, stream), &mut writer, &mut outgoing).await?;
        writer.close().await
    };
    let both = async { tokio::try_join!(reading, writing) };
    let Some(ended) = stop.run_until_cancelled(both).await else { return };
    if let Err(error) = &ended {
        tracing::debug!(peer = peer.0, %error, "a stream was lost");
    }
    seams.report(Input::StreamEnded { peer, stream, is_lost: ended.is_err() }).await;
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
    let written = stop.run_until_cancelled(write_all(&seams, (peer, first_of(peer)), &mut writer, &mut outgoing)).await;
    if let Some(Err(error)) = written {
        tracing::debug!(peer = peer.0, %error, "a peer's link takes nothing any more");
    }
    stop.cancel();
    let _ = writer.close().await;
}

/// Writes what the hub hands over, until it hands over nothing more.
async fn write_all(
    seams: &Seams,
    (peer, stream): (PeerId, StreamId),
    writer: &mut LinkWriter,
    outgoing: &mut mpsc::Receiver<Outgoing>,
) -> Result<(), LinkError> {
    let mut names = file_names::Speaker::default();
    while let Some(next) = outgoing.recv().await {
        let blocks = queue(writer, &mut names, next, outgoing);
        writer.flush().await?;
        if !blocks.is_empty() {
            seams.report(Input::Sent { peer, stream, blocks }).await;
        }
    }
    Ok(())
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
