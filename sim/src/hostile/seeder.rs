//! Seeders that lie, stall or send rubbish. To be asked at all each is a member with a good ticket, and announces the whole file.

use std::{cell::RefCell, collections::BTreeMap, net::IpAddr, rc::Rc, time::Duration};

use p2p::{
    protocol::{
        bitfield::Bitfield,
        ids::{FileId, GroupId},
        peer::{PeerMessage, VERSION},
        piece::{Block, PieceIndex, piece_count},
        ticket::Signed,
    },
    transport::{Stream, tls::Protocol},
};
use tokio::time::sleep;

use super::{
    Acted, Node, background,
    wire::{MESSAGE, Wire, WireWriter, block_frame, header, message_frame},
};
use crate::coverage::reached;

/// How a bad seeder is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vice {
    /// Wrong bytes in these pieces, the right ones in all others.
    Corrupts(Which),
    /// One wrong byte in the last block of each piece, so that others may have sent the rest of it.
    Taints,
    /// Sends the bytes of the next piece in place of the one asked for.
    Swaps,
    /// Answers with blocks of another piece than was asked for.
    Mislabels,
    /// Wrong bytes, then hangs up before anybody can have found out.
    HitsAndRuns,
    /// Says it has nothing, sends wrong bytes unasked, then says it has everything and corrupts it.
    ClaimsNothing,
    /// Nothing more after so many bytes.
    Stalls(u64),
    /// A byte a second.
    Trickles,
    /// Takes no request.
    Rejects,
    /// Gives turns by the hundred, for pieces that do not exist too, and keeps none of what it promises.
    Promises,
    /// Never says which pieces it has.
    Mute,
    /// A bitfield of another length.
    Misfit,
    /// Announces a frame of 4 GiB.
    Oversized,
    /// Hangs up in the middle of a block.
    Truncates,
    /// Speaks another version.
    OldFashioned,
    /// Rubbish after the handshake.
    Babbles,
    /// Rubbish in place of the handshake.
    Mumbles,
    /// Takes connections and never shakes hands.
    HalfOpen,
    /// Shows another key than the one it announced.
    Disguised,
    /// Many small messages, without end.
    Floods,
}

/// The first bytes of two files that have one SHA-1, whatever follows (Stevens and others: The first collision for full SHA-1).
pub(crate) const SHATTERED: [&[u8]; 2] =
    [include_bytes!("../../../tests/data/shattered-1.bin"), include_bytes!("../../../tests/data/shattered-2.bin")];

/// Which pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    First,
    Last,
    Every(u32),
}

impl Vice {
    /// One of them, by a random number.
    pub(crate) fn of(number: u64) -> Self {
        const VICES: [Vice; 24] = [
            Vice::Corrupts(Which::All),
            Vice::Corrupts(Which::First),
            Vice::Corrupts(Which::Last),
            Vice::Corrupts(Which::Every(3)),
            Vice::Taints,
            Vice::Swaps,
            Vice::Mislabels,
            Vice::HitsAndRuns,
            Vice::ClaimsNothing,
            Vice::Stalls(0),
            Vice::Stalls(200_000),
            Vice::Stalls(1_500_000),
            Vice::Trickles,
            Vice::Rejects,
            Vice::Promises,
            Vice::Mute,
            Vice::Misfit,
            Vice::Oversized,
            Vice::Truncates,
            Vice::OldFashioned,
            Vice::Babbles,
            Vice::Mumbles,
            Vice::Disguised,
            Vice::Floods,
        ];
        let place = usize::try_from(number % (VICES.len() as u64 + 1)).unwrap_or_default();
        VICES.get(place).copied().unwrap_or(Vice::HalfOpen)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Corrupts(Which::All) => "hostile: corrupts every piece",
            Self::Corrupts(Which::First) => "hostile: corrupts the first piece",
            Self::Corrupts(Which::Last) => "hostile: corrupts the last piece",
            Self::Corrupts(Which::Every(_)) => "hostile: corrupts every k-th piece",
            Self::Taints => "hostile: corrupts one byte of each piece",
            Self::Swaps => "hostile: sends a piece in place of another",
            Self::Mislabels => "hostile: answers with what was not asked for",
            Self::HitsAndRuns => "hostile: corrupts and hangs up",
            Self::ClaimsNothing => "hostile: claims nothing and sends unasked",
            Self::Stalls(0) => "hostile: claims everything and sends nothing",
            Self::Stalls(_) => "hostile: stalls after some bytes",
            Self::Trickles => "hostile: sends a byte a second",
            Self::Rejects => "hostile: rejects every request",
            Self::Promises => "hostile: gives turns and sends nothing",
            Self::Mute => "hostile: joins and tells nothing",
            Self::Misfit => "hostile: bitfield of another length",
            Self::Oversized => "hostile: oversized frame",
            Self::Truncates => "hostile: truncated frame",
            Self::OldFashioned => "hostile: wrong version",
            Self::Babbles => "hostile: rubbish after the handshake",
            Self::Mumbles => "hostile: rubbish before the handshake",
            Self::HalfOpen => "hostile: half-open handshake",
            Self::Disguised => "hostile: another key than announced",
            Self::Floods => "hostile: flood of small messages",
        }
    }

    /// Whether every piece that it sends alone is bad, so that it must be found out by whoever got several.
    pub(crate) fn always_lies(self) -> bool {
        matches!(self, Self::Corrupts(Which::All) | Self::Swaps | Self::HitsAndRuns)
    }
}

/// A file that is pretended to be served.
#[derive(Clone)]
pub(crate) struct Bait {
    pub(crate) group: GroupId,
    pub(crate) file: FileId,
    pub(crate) ticket: Signed,
    pub(crate) content: Rc<[u8]>,
}

/// What came of it, by the address of who was served.
#[derive(Clone, Default)]
pub(crate) struct Catch {
    counts: Rc<RefCell<BTreeMap<IpAddr, Counts>>>,
}

#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    /// Links on which the file was joined.
    pub(crate) joined: u64,
    /// Blocks asked for.
    pub(crate) asked: u64,
    /// Bytes sent that were not the file's.
    pub(crate) lies: u64,
}

impl Catch {
    pub(crate) fn counts(&self, of: IpAddr) -> Counts {
        self.counts.borrow().get(&of).copied().unwrap_or_default()
    }
}

impl Bait {
    fn piece_count(&self) -> u32 {
        piece_count(self.content.len() as u64)
    }

    /// The right bytes of a block; shorter where the file ends.
    fn bytes(&self, block: Block) -> Vec<u8> {
        let begin = usize::try_from(block.piece.start() + u64::from(block.offset)).unwrap_or(usize::MAX);
        let end = begin.saturating_add(block.length as usize).min(self.content.len());
        self.content.get(begin..end).unwrap_or_default().to_vec()
    }
}

/// Serves a file badly until the simulation ends. The announcement is the caller's.
pub(crate) async fn seed(node: Node, bait: Bait, vice: Vice, catch: Catch) -> Acted<()> {
    let listener = node.listen().await?;
    let node = if vice == Vice::Disguised { node.disguised() } else { node };
    loop {
        let (stream, from) = listener.accept().await?;
        let (node, bait, catch) = (node.clone(), bait.clone(), catch.clone());
        let server = Server { node, bait, vice, catch, to: from.ip(), sent: 0 };
        background(async move {
            let end = server.serve(stream).await.map_err(|error| error.to_string());
            tracing::debug!(?vice, ?end, "a bad seeder's link has ended");
        });
    }
}

/// One link.
struct Server {
    node: Node,
    bait: Bait,
    vice: Vice,
    catch: Catch,
    /// Who is served.
    to: IpAddr,
    /// Bytes of payload sent so far.
    sent: u64,
}

impl Server {
    fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(self.catch.counts.borrow_mut().entry(self.to).or_default());
    }

    async fn serve(mut self, mut stream: Box<dyn Stream>) -> Acted<()> {
        match self.vice {
            Vice::HalfOpen => {
                reached(self.vice.name());
                sleep(Duration::from_mins(1)).await;
                drop(stream);
                return Ok(());
            }
            Vice::Mumbles => {
                reached(self.vice.name());
                let rubbish = self.node.rubbish(700);
                return Ok(tokio::io::AsyncWriteExt::write_all(&mut stream, &rubbish).await?);
            }
            _ => {}
        }
        let (wire, protocol) = Wire::accepted(stream, &self.node.identity).await?;
        if protocol != Protocol::Peer {
            return Err("not a peer".into());
        }
        self.speak(wire).await
    }

    async fn speak(&mut self, wire: Wire) -> Acted<()> {
        let Wire { mut reader, mut writer, .. } = wire;
        if self.greet(&mut writer).await? {
            return Ok(());
        }
        while let Some(frame) = reader.frame().await {
            match reader.peer_message(&frame) {
                Some(PeerMessage::Join { file, .. }) if file == self.bait.file => self.join(&mut writer).await?,
                Some(PeerMessage::Interested { file }) if file == self.bait.file => {
                    writer.say(&PeerMessage::Unchoke { file, suggested: None }).await?;
                }
                Some(PeerMessage::Request { file, blocks }) if file == self.bait.file => {
                    writer.say(&PeerMessage::Unchoke { file, suggested: None }).await?;
                    for block in blocks {
                        self.count(|counts| counts.asked += 1);
                        if self.answer(&mut writer, block).await? {
                            writer.close().await;
                            return Ok(());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The first words; whether they were the last ones.
    async fn greet(&mut self, writer: &mut WireWriter) -> Acted<bool> {
        let version = if self.vice == Vice::OldFashioned { VERSION + 1 } else { VERSION };
        match self.vice {
            Vice::Babbles => writer.bytes(&self.node.rubbish(5000)).await?,
            Vice::Oversized => writer.bytes(&header(MESSAGE, u32::MAX as usize - 1)).await?,
            _ => writer.say(&PeerMessage::<FileId>::Hello { version }).await?,
        }
        if matches!(self.vice, Vice::OldFashioned | Vice::Babbles | Vice::Oversized | Vice::Disguised) {
            reached(self.vice.name());
        }
        Ok(self.vice == Vice::Babbles)
    }

    /// The other side takes part in the file: claims what the vice says.
    async fn join(&mut self, writer: &mut WireWriter) -> Acted<()> {
        let Bait { group, file, ticket, .. } = self.bait.clone();
        let count = self.bait.piece_count();
        self.count(|counts| counts.joined += 1);
        let pieces = match self.vice {
            Vice::Mute => None,
            Vice::Misfit => Some(Bitfield::full(count + 9)),
            Vice::ClaimsNothing => Some(Bitfield::empty(count)),
            _ => Some(Bitfield::full(count)),
        };
        writer.say(&PeerMessage::Join { group, file, ticket, pieces }).await?;
        match self.vice {
            Vice::Mute | Vice::Misfit => reached(self.vice.name()),
            Vice::ClaimsNothing => {
                reached(self.vice.name());
                for index in 0..count {
                    let unasked = Block { piece: PieceIndex(index), offset: 0, length: 1000 };
                    self.lie(writer, unasked).await?;
                }
                let everything = (0..count + 5).map(PieceIndex).collect();
                writer.say(&PeerMessage::Have { file, pieces: everything }).await?;
            }
            Vice::Floods => {
                reached(self.vice.name());
                let small: Vec<u8> = [
                    PeerMessage::Ping,
                    PeerMessage::Unchoke { file, suggested: None },
                    PeerMessage::Cancel { file, blocks: Vec::new() },
                ]
                .iter()
                .flat_map(message_frame)
                .collect();
                let many = small.repeat(100);
                for _ in 0..10 {
                    writer.bytes(&many).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A block was asked for; whether that was the last that anybody hears.
    async fn answer(&mut self, writer: &mut WireWriter, block: Block) -> Acted<bool> {
        let file = self.bait.file;
        match self.vice {
            Vice::Corrupts(Which::First | Which::Every(_)) if self.may_collide(block.piece) => {
                self.collide(writer, block).await?;
            }
            Vice::Corrupts(which) if self.is_one_of(which, block.piece) => self.lie(writer, block).await?,
            Vice::Taints if block.offset + block.length == self.piece_length(block.piece) => {
                self.taint(writer, block).await?;
            }
            Vice::ClaimsNothing => self.lie(writer, block).await?,
            Vice::Swaps => {
                reached(self.vice.name());
                let other = PieceIndex((block.piece.0 + 1) % self.bait.piece_count());
                let mut bytes = self.bait.bytes(Block { piece: other, ..block });
                bytes.resize(block.length as usize, 0);
                self.count(|counts| counts.lies += bytes.len() as u64);
                writer.bytes(&block_frame(&file, block.piece, block.offset, &bytes)).await?;
            }
            Vice::Mislabels => {
                reached(self.vice.name());
                let other = PieceIndex((block.piece.0 + 1) % self.bait.piece_count());
                let bytes = self.bait.bytes(block);
                writer.bytes(&block_frame(&file, other, block.offset, &bytes)).await?;
            }
            Vice::HitsAndRuns => {
                self.lie(writer, block).await?;
                return Ok(block.offset + block.length == self.piece_length(block.piece));
            }
            Vice::Stalls(after) if self.sent >= after => reached(self.vice.name()),
            Vice::Trickles => self.trickle(writer, block).await?,
            Vice::Rejects => {
                reached(self.vice.name());
                writer.say(&PeerMessage::Reject { file, blocks: vec![block] }).await?;
            }
            Vice::Promises => {
                reached(self.vice.name());
                for index in (0..100).map(|turn| turn * 7 % (2 * self.bait.piece_count())) {
                    writer.say(&PeerMessage::Unchoke { file, suggested: Some(PieceIndex(index)) }).await?;
                }
            }
            Vice::Truncates => {
                reached(self.vice.name());
                let whole = block_frame(&file, block.piece, block.offset, &self.bait.bytes(block));
                writer.bytes(&whole[..whole.len() / 2]).await?;
                return Ok(true);
            }
            _ => writer.bytes(&block_frame(&file, block.piece, block.offset, &self.bait.bytes(block))).await?,
        }
        self.sent += u64::from(block.length);
        Ok(false)
    }

    async fn lie(&self, writer: &mut WireWriter, block: Block) -> Acted<()> {
        reached(self.vice.name());
        let mut bytes = self.bait.bytes(block);
        for byte in &mut bytes {
            *byte ^= 0x55;
        }
        self.count(|counts| counts.lies += bytes.len() as u64);
        Ok(writer.bytes(&block_frame(&self.bait.file, block.piece, block.offset, &bytes)).await?)
    }

    /// Whether a piece can be another one under the same SHA-1.
    fn may_collide(&self, piece: PieceIndex) -> bool {
        piece.0 == 0 && self.bait.content.starts_with(SHATTERED[0])
    }

    /// Sends a part of a piece that is not the right one and has its SHA-1: only the first block differs.
    async fn collide(&self, writer: &mut WireWriter, block: Block) -> Acted<()> {
        let mut bytes = self.bait.bytes(block);
        if block.offset == 0 {
            reached(self.vice.name());
            reached("hostile: a piece of the right SHA-1");
            bytes.splice(..SHATTERED[1].len(), SHATTERED[1].iter().copied());
            self.count(|counts| counts.lies += SHATTERED[1].len() as u64);
        }
        Ok(writer.bytes(&block_frame(&self.bait.file, block.piece, block.offset, &bytes)).await?)
    }

    async fn taint(&self, writer: &mut WireWriter, block: Block) -> Acted<()> {
        reached(self.vice.name());
        let mut bytes = self.bait.bytes(block);
        bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        self.count(|counts| counts.lies += 1);
        Ok(writer.bytes(&block_frame(&self.bait.file, block.piece, block.offset, &bytes)).await?)
    }

    /// As slow as can be while the other side waits; half a minute, then it has long been given up.
    async fn trickle(&self, writer: &mut WireWriter, block: Block) -> Acted<()> {
        reached(self.vice.name());
        let whole = block_frame(&self.bait.file, block.piece, block.offset, &self.bait.bytes(block));
        for byte in whole.chunks(1).take(90) {
            writer.bytes(byte).await?;
            sleep(Duration::from_secs(1)).await;
        }
        Err("nobody waits for the rest".into())
    }

    fn piece_length(&self, piece: PieceIndex) -> u32 {
        p2p::protocol::piece::piece_length(self.bait.content.len() as u64, piece)
    }

    fn is_one_of(&self, which: Which, piece: PieceIndex) -> bool {
        match which {
            Which::All => true,
            Which::First => piece.0 == 0,
            Which::Last => piece.0 + 1 == self.bait.piece_count(),
            Which::Every(k) => piece.0.is_multiple_of(k),
        }
    }
}
