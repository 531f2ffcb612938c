//! Frames over an authenticated stream: the one way in which our processes speak to each other.

use std::{
    collections::VecDeque,
    io,
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    time::{Instant, timeout},
};
use tokio_rustls::TlsStream;

use super::{
    Stream, Transport,
    read_ahead::ReadAhead,
    tls::{Identity, Protocol, Secured, secure_accepted, secure_dialled},
};
use crate::protocol::{
    frame::{self, Frame, FrameError, HEADER_SIZE, put_brief_message, put_message, read_message, take_frame},
    ids::{DeviceKey, FileId, device_key_text},
    limits::{MAX_BLOCK_FRAME, MAX_CLIENT_FRAME, MAX_PEER_MESSAGE, MAX_STRANGER_FRAME, MAX_SYNC_FRAME},
    peer::put_block_header,
    piece::Block,
};

/// Longest time for a dial: name, connection and handshake together.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(5);
/// Longest time for the handshake of an accepted stream.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// A peer that takes nothing for this long is dead.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// A frame that was begun has to grow by [`FRAME_STEP`] in so long, or be whole. A slow line that works does that: it is 400 bytes a
/// second for a stranger, and 140 for others.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(30);
/// The same for who has not shown who they are.
pub const STRANGER_FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes by which a frame has to grow meanwhile.
pub const FRAME_STEP: usize = 4 * 1024;
/// Longest time for the farewell.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Bytes made free in the read buffer at least, between frames.
const READ_CHUNK: usize = 16 * 1024;
/// The same between client and tracker: it stays while the link waits.
const SMALL_READ_CHUNK: usize = 1024;
/// Buffers handed to one vectored write.
const WRITE_SLICES: usize = 32;

/// Why a link could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Somebody else answers at the address.
    #[error("the device key there is {}, not {}", device_key_text(found), device_key_text(expected))]
    RefusedKey {
        /// The key that should be there.
        expected: DeviceKey,
        /// The key that is.
        found: DeviceKey,
    },
    /// A deadline passed.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// Others need what it takes, or it does not read what it is sent.
    #[error("it had to give way")]
    GaveWay,
    /// The other end is gone, without a farewell or in the middle of a frame.
    #[error("the connection was lost")]
    Closed,
    /// The other end sent what is no frame or no message here.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The network failed.
    #[error(transparent)]
    Io(io::Error),
    /// The other end speaks TLS or our protocols differently.
    #[error("the other side does not speak as we do: {0}")]
    Protocol(String),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::WriteZero => Self::Closed,
            io::ErrorKind::TimedOut => Self::Timeout("the connection"),
            io::ErrorKind::InvalidData => Self::Protocol(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

/// An authenticated stream of frames.
pub struct Link {
    device: DeviceKey,
    protocol: Protocol,
    round_trip: Duration,
    reader: LinkReader,
    writer: LinkWriter,
}

/// Dials `address` (`host:port`) and proves who both ends are, within [`DIAL_DEADLINE`]. With `expected`, any other key is refused.
pub async fn dial(
    transport: &dyn Transport,
    identity: &Identity,
    address: &str,
    protocol: Protocol,
    expected: Option<DeviceKey>,
) -> Result<Link, LinkError> {
    let secured = async {
        let begun = Instant::now();
        let stream = transport.connect(address).await?;
        let round_trip = begun.elapsed();
        Ok::<_, LinkError>((secure_dialled(stream, identity, protocol).await?, round_trip))
    };
    let (secured, round_trip) = timeout(DIAL_DEADLINE, secured).await.map_err(|_| LinkError::Timeout("the dial"))??;
    match expected {
        Some(expected) if expected != secured.device => Err(LinkError::RefusedKey { expected, found: secured.device }),
        _ => Ok(Link { round_trip, ..Link::new(secured, true) }),
    }
}

/// Makes a link of a stream that the other side dialled, within [`HANDSHAKE_DEADLINE`].
pub async fn accept(stream: Box<dyn Stream>, identity: &Identity) -> Result<Link, LinkError> {
    let begun = Instant::now();
    let secured = timeout(HANDSHAKE_DEADLINE, secure_accepted(stream, identity)).await;
    let secured = secured.map_err(|_| LinkError::Timeout("the handshake"))??;
    Ok(Link { round_trip: begun.elapsed(), ..Link::new(secured, false) })
}

impl Link {
    fn new(Secured { stream, device, protocol }: Secured, is_trusted: bool) -> Self {
        let (read, write) = tokio::io::split(stream);
        let reader = LinkReader {
            stream: read,
            buffer: BytesMut::new(),
            chunk: least_chunk(protocol),
            protocol,
            trust: Trust(Arc::new(AtomicBool::new(is_trusted))),
            waited: Duration::ZERO,
            grown_to: 0,
        };
        let writer = LinkWriter { stream: write, pending: BytesMut::new(), ready: VecDeque::new(), queued_bytes: 0 };
        Self { device, protocol, round_trip: Duration::ZERO, reader, writer }
    }

    /// The key that the other end proved.
    pub fn device(&self) -> DeviceKey {
        self.device
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// How long the connection took to stand, where this side dialled, and else the handshake: a round trip, or more. Nothing of
    /// ours was on the way then.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// The two directions, for two tasks or two arms of a loop. The stream closes when both are dropped.
    pub fn split(self) -> (LinkReader, LinkWriter) {
        (self.reader, self.writer)
    }
}

type SecureStream = TlsStream<ReadAhead>;

/// Whether the other end has shown who it is, and may send frames as long as they come. Whoever was dialled may at once.
#[derive(Clone, Debug, Default)]
pub struct Trust(Arc<AtomicBool>);

impl Trust {
    /// It has, by a session or a ticket, or as a listed tracker. For good: an end of that ends the link, or is waited for.
    pub fn give(&self) {
        self.0.store(true, Relaxed);
    }

    fn is_given(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The frames that the other end sends. How long silence between them may last is the protocol's to say; a frame that was begun
/// has to grow.
pub struct LinkReader {
    stream: ReadHalf<SecureStream>,
    buffer: BytesMut,
    /// Room made between frames: as much as the last one took, so that a block is read to where it stays.
    chunk: usize,
    protocol: Protocol,
    trust: Trust,
    /// Time that was waited for the frame that has begun, since it had `grown_to` bytes.
    waited: Duration,
    grown_to: usize,
}

/// Adds the time until it is dropped.
struct Stopwatch<'a> {
    total: &'a mut Duration,
    since: Instant,
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        *self.total += self.since.elapsed();
    }
}

impl LinkReader {
    /// The next frame; `None` after the other end's farewell. Cancel-safe: may stand in a `select!`.
    pub async fn frame(&mut self) -> Result<Option<Frame>, LinkError> {
        loop {
            let (protocol, is_trusted) = (self.protocol, self.trust.is_given());
            if let Some(frame) = take_frame(&mut self.buffer, |kind| body_limit(protocol, kind, is_trusted))? {
                self.chunk = least_chunk(protocol).max(HEADER_SIZE + frame.body.len());
                (self.waited, self.grown_to) = (Duration::ZERO, 0);
                return Ok(Some(frame));
            }
            if self.buffer.len() < HEADER_SIZE {
                self.buffer.reserve(self.chunk - self.buffer.len());
            }
            if self.read().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(LinkError::Closed) };
            }
        }
    }

    /// Reads what there is. Time during which nobody reads does not count.
    async fn read(&mut self) -> Result<usize, LinkError> {
        if self.buffer.is_empty() {
            return Ok(self.stream.read_buf(&mut self.buffer).await?);
        }
        if self.buffer.len() >= self.grown_to + FRAME_STEP {
            (self.waited, self.grown_to) = (Duration::ZERO, self.buffer.len());
        }
        let most = if self.trust.is_given() { FRAME_DEADLINE } else { STRANGER_FRAME_DEADLINE };
        let left = most.saturating_sub(self.waited);
        let _waits = Stopwatch { total: &mut self.waited, since: Instant::now() };
        let read = timeout(left, self.stream.read_buf(&mut self.buffer)).await;
        Ok(read.map_err(|_| LinkError::Timeout("the rest of a frame"))??)
    }

    /// What says whether the other end has shown who it is.
    pub fn trust(&self) -> Trust {
        self.trust.clone()
    }

    /// Bytes of a frame that has yet to arrive whole: while they grow, the other end is there.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next message, in protocols that have no other frames; `None` after the other end's farewell. Cancel-safe.
    pub async fn message<M: DeserializeOwned>(&mut self) -> Result<Option<M>, LinkError> {
        let Some(frame) = self.frame().await? else { return Ok(None) };
        Ok(Some(read_message(&frame)?))
    }

    /// What [`message`](Self::message) returns, if that has arrived already; otherwise `None`.
    pub async fn message_at_hand<M: DeserializeOwned>(&mut self) -> Option<Result<Option<M>, LinkError>> {
        tokio::select! {
            biased;
            message = self.message() => Some(message),
            () = std::future::ready(()) => None,
        }
    }
}

fn least_chunk(protocol: Protocol) -> usize {
    if protocol == Protocol::Tracker { SMALL_READ_CHUNK } else { READ_CHUNK }
}

/// Most bytes in the body of a frame of `kind`; `None` refuses the kind.
pub fn body_limit(protocol: Protocol, kind: u8, is_trusted: bool) -> Option<usize> {
    let most = match (protocol, kind) {
        (Protocol::Tracker, frame::MESSAGE) => MAX_CLIENT_FRAME,
        (Protocol::Sync, frame::MESSAGE) => MAX_SYNC_FRAME,
        (Protocol::Peer, frame::MESSAGE) => MAX_PEER_MESSAGE,
        (Protocol::Peer | Protocol::Blocks, frame::BLOCK) => MAX_BLOCK_FRAME,
        _ => return None,
    };
    Some(if is_trusted { most } else { most.min(MAX_STRANGER_FRAME) })
}

/// The frames for the other end, in order: first queued, then flushed together.
pub struct LinkWriter {
    stream: WriteHalf<SecureStream>,
    /// Small frames and heads of blocks, that no block has followed yet.
    pending: BytesMut,
    /// Bytes in order, before `pending`; payloads of blocks among them as they came.
    ready: VecDeque<Bytes>,
    queued_bytes: usize,
}

impl LinkWriter {
    /// Puts a message behind what is queued, its fields by name.
    pub fn queue<M: Serialize>(&mut self, message: &M) {
        self.put(|pending| put_message(message, pending));
    }

    /// Puts a message behind what is queued, its fields by position.
    pub fn queue_brief<M: Serialize>(&mut self, message: &M) {
        self.put(|pending| put_brief_message(message, pending));
    }

    fn put(&mut self, frame: impl FnOnce(&mut BytesMut)) {
        let before = self.pending.len();
        frame(&mut self.pending);
        self.queued_bytes += self.pending.len() - before;
    }

    /// Puts a block behind what is queued, without copying it. `payload` has `block.length` bytes.
    pub fn queue_block(&mut self, file: &FileId, block: Block, payload: Bytes) {
        assert_eq!(payload.len(), block.length as usize, "a block frame announces its payload's length");
        self.put(|pending| put_block_header(file, block, pending));
        self.queued_bytes += payload.len();
        self.ready.push_back(self.pending.split().freeze());
        self.ready.push_back(payload);
    }

    /// Bytes queued and not yet written.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Writes all that is queued. Cancel-safe: what was not written stays queued.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        if !self.pending.is_empty() {
            self.ready.push_back(self.pending.split().freeze());
        }
        while !self.ready.is_empty() {
            let written = self.write_some().await?;
            self.advance(written);
        }
        deadline(self.stream.flush()).await
    }

    async fn write_some(&mut self) -> Result<usize, LinkError> {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        for (slice, bytes) in slices.iter_mut().zip(&self.ready) {
            *slice = IoSlice::new(bytes);
        }
        let count = self.ready.len().min(WRITE_SLICES);
        match deadline(self.stream.write_vectored(&slices[..count])).await? {
            0 => Err(LinkError::Closed),
            written => Ok(written),
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.queued_bytes -= written;
        while let Some(first) = self.ready.front_mut() {
            let step = written.min(first.len());
            first.advance(step);
            written -= step;
            if !first.is_empty() {
                return;
            }
            self.ready.pop_front();
        }
    }

    /// Queues a message and writes all that is queued.
    pub async fn send<M: Serialize>(&mut self, message: &M) -> Result<(), LinkError> {
        self.queue(message);
        self.flush().await
    }

    /// Writes what is queued and says farewell, within [`CLOSE_DEADLINE`]. The other end reads a clean end.
    pub async fn close(mut self) -> Result<(), LinkError> {
        let farewell = async {
            self.flush().await?;
            Ok(self.stream.shutdown().await?)
        };
        timeout(CLOSE_DEADLINE, farewell).await.map_err(|_| LinkError::Timeout("the farewell"))?
    }
}

/// One write, within [`WRITE_DEADLINE`].
async fn deadline<T>(write: impl Future<Output = io::Result<T>>) -> Result<T, LinkError> {
    Ok(timeout(WRITE_DEADLINE, write).await.map_err(|_| LinkError::Timeout("a write"))??)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::{
        super::{contract::pair, memory::Memory},
        *,
    };

    async fn link(protocol: Protocol) -> (LinkWriter, LinkReader) {
        let (dialled, accepted) = pair(&Memory::default(), protocol).await;
        // The halves that are not returned would say farewell.
        let ((reader, writer), (theirs, kept)) = (dialled.split(), accepted.split());
        std::mem::forget((reader, kept));
        (writer, theirs)
    }

    /// Writes what is no whole frame.
    async fn write(writer: &mut LinkWriter, bytes: &[u8]) {
        writer.pending.extend_from_slice(bytes);
        writer.queued_bytes += bytes.len();
        writer.flush().await.unwrap();
    }

    fn long_frame(length: usize) -> Vec<u8> {
        let mut frame = BytesMut::new();
        put_message(&"x".repeat(length), &mut frame);
        frame.to_vec()
    }

    /// What comes of a frame of which so many bytes are sent each second.
    async fn trickle(
        protocol: Protocol,
        is_trusted: bool,
        bytes_per_s: usize,
    ) -> (Result<Option<Frame>, LinkError>, u64) {
        let (mut writer, mut reader) = link(protocol).await;
        if is_trusted {
            reader.trust().give();
        }
        let begun = Instant::now();
        let sending = async {
            for part in long_frame(30_000).chunks(bytes_per_s) {
                write(&mut writer, part).await;
                sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        };
        let frame = tokio::select! {
            biased;
            frame = reader.frame() => frame,
            () = sending => unreachable!("it sends on"),
        };
        (frame, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_a_byte_a_second_is_cut_off_on_every_protocol_and_a_slow_line_is_not() {
        for protocol in [Protocol::Tracker, Protocol::Sync, Protocol::Peer] {
            for (is_trusted, most) in [(false, STRANGER_FRAME_DEADLINE), (true, FRAME_DEADLINE)] {
                let (frame, seconds) = trickle(protocol, is_trusted, 1).await;
                assert!(matches!(frame, Err(LinkError::Timeout(_))), "{protocol}: {frame:?}");
                assert!(seconds <= most.as_secs(), "{protocol}: after {seconds} s");
                let slow = FRAME_STEP / usize::try_from(most.as_secs() - 2).unwrap() + 1;
                let (frame, seconds) = trickle(protocol, is_trusted, slow).await;
                assert!(frame.unwrap().is_some(), "{protocol}: after {seconds} s");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_reads_does_not_count() {
        let (mut writer, mut reader) = link(Protocol::Tracker).await;
        let frame = long_frame(100);
        write(&mut writer, &frame[..50]).await;
        for _ in 0..20 {
            let some = timeout(STRANGER_FRAME_DEADLINE / 25, reader.frame()).await;
            assert!(some.is_err(), "it is not whole");
            sleep(STRANGER_FRAME_DEADLINE).await;
        }
        assert!(matches!(reader.frame().await, Err(LinkError::Timeout(_))), "four fifths were waited for before");
        let (mut writer, mut reader) = link(Protocol::Tracker).await;
        for part in frame.chunks(50) {
            write(&mut writer, part).await;
            sleep(2 * FRAME_DEADLINE).await;
        }
        assert!(reader.frame().await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_sends_short_frames_only() {
        for protocol in [Protocol::Tracker, Protocol::Sync, Protocol::Peer] {
            let frame = long_frame(MAX_STRANGER_FRAME + 1);
            for is_trusted in [false, true] {
                let (mut writer, mut reader) = link(protocol).await;
                if is_trusted {
                    reader.trust().give();
                }
                let (frame, ()) = tokio::join!(reader.frame(), write(&mut writer, &frame));
                assert_eq!(frame.is_ok(), is_trusted, "{protocol}: {frame:?}");
            }
        }
    }
}
