//! The wire as the hostile use it: TLS with a key of their own, and above it whatever bytes they like.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use p2p::{
    protocol::{
        file_names::{self, FileRef},
        ids::FileId,
        peer::PeerMessage,
        piece::{Block, PieceIndex},
    },
    transport::{
        Stream,
        link::LinkError,
        tls::{Identity, Protocol, Secured, secure_accepted, secure_dialled},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

/// Kind byte of a message.
pub(crate) const MESSAGE: u8 = 0;
/// Kind byte of a block.
pub(crate) const BLOCK: u8 = 1;
/// Bytes of a frame before its body: length and kind.
const HEADER: usize = 5;
/// Bytes of a block's body before its payload: file, piece, offset.
const BLOCK_HEADER: usize = 40;

/// Room for each read.
const READ: usize = 32 * 1024;

/// A secured stream, both directions.
pub(crate) struct Wire {
    pub(crate) reader: WireReader,
    pub(crate) writer: WireWriter,
}

impl Wire {
    /// Shakes hands on a stream that was dialled.
    pub(crate) async fn dialled(
        stream: Box<dyn Stream>,
        identity: &Identity,
        protocol: Protocol,
    ) -> Result<Self, LinkError> {
        Ok(Self::new(secure_dialled(stream, identity, protocol).await?))
    }

    /// Shakes hands on a stream that was accepted.
    pub(crate) async fn accepted(stream: Box<dyn Stream>, identity: &Identity) -> Result<(Self, Protocol), LinkError> {
        let secured = secure_accepted(stream, identity).await?;
        let protocol = secured.protocol;
        Ok((Self::new(secured), protocol))
    }

    fn new(secured: Secured) -> Self {
        let (reader, writer) = tokio::io::split(Box::new(secured.stream) as Box<dyn Stream>);
        let names = file_names::Listener::default();
        let reader = WireReader { stream: reader, unread: BytesMut::new(), total: 0, names };
        Self { reader, writer: WireWriter { stream: writer } }
    }
}

/// What arrives. No limit is checked: whoever lies trusts nobody, but has all the memory of the simulation.
pub(crate) struct WireReader {
    stream: ReadHalf<Box<dyn Stream>>,
    unread: BytesMut,
    total: u64,
    names: file_names::Listener,
}

/// A frame as it came.
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) body: Bytes,
}

impl WireReader {
    /// The next frame; `None` at the end of the stream, whatever it was. Cancel-safe.
    pub(crate) async fn frame(&mut self) -> Option<RawFrame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            self.unread.reserve(READ);
            match self.stream.read_buf(&mut self.unread).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.total += count as u64,
            }
        }
    }

    /// The next message of this kind; other frames are passed over.
    pub(crate) async fn message<M: DeserializeOwned>(&mut self) -> Option<M> {
        loop {
            if let Some(message) = self.frame().await?.message() {
                return Some(message);
            }
        }
    }

    /// The peer's message in a frame, if it is one. To be asked of every frame, in order.
    pub(crate) fn peer_message(&mut self, frame: &RawFrame) -> Option<PeerMessage> {
        self.names.read(frame.peer_message()?).ok()
    }

    /// Reads at most `count` bytes and forgets them; whether there were any.
    pub(crate) async fn sip(&mut self, count: usize) -> bool {
        let mut some = vec![0; count];
        matches!(self.stream.read(&mut some).await, Ok(1..))
    }

    /// Bytes that have arrived so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    fn take(&mut self) -> Option<RawFrame> {
        let [a, b, c, d, kind] = *self.unread.first_chunk::<HEADER>()?;
        let length = (u32::from_le_bytes([a, b, c, d]) as usize).saturating_sub(1);
        if self.unread.len() < HEADER + length {
            return None;
        }
        self.unread.advance(HEADER);
        Some(RawFrame { kind, body: self.unread.split_to(length).freeze() })
    }
}

impl RawFrame {
    /// The message in it, if it is one.
    pub(crate) fn message<M: DeserializeOwned>(&self) -> Option<M> {
        (self.kind == MESSAGE).then(|| rmp_serde::from_slice(&self.body).ok())?
    }

    /// The peer's message in it, if it is one, with its file named as it came.
    pub(crate) fn peer_message(&self) -> Option<PeerMessage<FileRef>> {
        self.message()
    }

    /// The block in it, if it is one.
    pub(crate) fn block(&self) -> Option<(FileId, Block, Bytes)> {
        if self.kind != BLOCK || self.body.len() < BLOCK_HEADER {
            return None;
        }
        let mut body = self.body.clone();
        let mut file = [0; 32];
        body.copy_to_slice(&mut file);
        let (piece, offset) = (PieceIndex(body.get_u32_le()), body.get_u32_le());
        let length = u32::try_from(body.len()).ok()?;
        Some((FileId(file), Block { piece, offset, length }, body))
    }
}

/// What is sent.
pub(crate) struct WireWriter {
    stream: WriteHalf<Box<dyn Stream>>,
}

impl WireWriter {
    /// Writes these bytes and nothing else.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Writes a message in a frame of its own.
    pub(crate) async fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.bytes(&message_frame(message)).await
    }

    /// Says farewell.
    pub(crate) async fn close(mut self) {
        let _ = self.stream.shutdown().await;
    }
}

/// A frame around a body.
pub(crate) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, body.len());
    bytes.extend_from_slice(body);
    bytes
}

/// The head of a frame that says its body has `length` bytes.
pub(crate) fn header(kind: u8, length: usize) -> Vec<u8> {
    let claimed = u32::try_from(length + 1).unwrap_or(u32::MAX);
    let mut bytes = claimed.to_le_bytes().to_vec();
    bytes.push(kind);
    bytes
}

/// A message in a frame.
pub(crate) fn message_frame(message: &impl Serialize) -> Vec<u8> {
    frame(MESSAGE, &rmp_serde::to_vec_named(message).expect("messages hold only plain values"))
}

/// A block in a frame: the payload says how long it is.
pub(crate) fn block_frame(file: &FileId, piece: PieceIndex, offset: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(BLOCK, BLOCK_HEADER + payload.len());
    bytes.extend_from_slice(&file.0);
    bytes.extend_from_slice(&piece.0.to_le_bytes());
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
