//! Leechers that look hard at what they are sent, ask for more than is good for others, or do not listen.

use std::{net::IpAddr, time::Duration};

use p2p::{
    protocol::{
        bitfield::Bitfield,
        error::{ErrorCode, Failure},
        ids::{FileId, GroupId},
        peer::{PeerMessage, VERSION},
        piece::{Block, PieceIndex, blocks, piece_count, piece_length},
        ticket::Signed,
    },
    transport::tls::Protocol,
};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{
    Acted, Node,
    wire::{RawFrame, Wire, WireReader, WireWriter, message_frame},
};
use crate::{coverage::reached, oracle::data::Witness};

/// What a leecher is like, beside looking at every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Asks for whatever it is told of, over and over.
    Curious,
    /// Asks for every block five times at once.
    Greedy,
    /// Asks for thousands of blocks in one message.
    Gluttonous,
    /// Asks for everything and reads nothing.
    Deaf,
    /// Asks for everything and reads a few bytes a second.
    Sips,
    /// Sends thousands of small messages first.
    Pesters,
    /// Asks for what cannot be.
    Absurd,
    /// Takes back every request it makes, and asks again.
    Wavers,
    /// Refuses the ticket it is shown, and joins again.
    Rude,
    /// Opens streams, and says nothing on any.
    Loiters,
}

impl Habit {
    /// One of them, by a random number.
    pub(crate) fn of(number: u64) -> Self {
        const HABITS: [Habit; 10] = [
            Habit::Curious,
            Habit::Greedy,
            Habit::Gluttonous,
            Habit::Deaf,
            Habit::Sips,
            Habit::Pesters,
            Habit::Absurd,
            Habit::Wavers,
            Habit::Rude,
            Habit::Loiters,
        ];
        HABITS[usize::try_from(number % HABITS.len() as u64).unwrap_or_default()]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Curious => "hostile: looks at every byte served",
            Self::Greedy => "hostile: flood of requests",
            Self::Gluttonous => "hostile: thousands of requests in one message",
            Self::Deaf => "hostile: asks and reads nothing",
            Self::Sips => "hostile: asks and reads a few bytes a second",
            Self::Pesters => "hostile: flood of tiny messages",
            Self::Absurd => "hostile: asks for what cannot be",
            Self::Wavers => "hostile: takes back every request",
            Self::Rude => "hostile: refuses a good ticket",
            Self::Loiters => "hostile: streams on which nothing is said",
        }
    }
}

/// What lets a leecher in.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) group: GroupId,
    pub(crate) file: FileId,
    pub(crate) ticket: Signed,
}

/// A leecher.
#[derive(Clone)]
pub(crate) struct Leecher {
    pub(crate) node: Node,
    pub(crate) pass: Pass,
    pub(crate) habit: Habit,
    pub(crate) witness: Witness,
    /// Bytes of payload seen by all, after which it asks for nothing more.
    pub(crate) most: u64,
}

impl Leecher {
    /// Asks a peer, on one link after the other.
    pub(crate) async fn ask_on(self, address: String) {
        loop {
            let end = self.ask(&address).await.map_err(|error| error.to_string());
            tracing::debug!(habit = ?self.habit, address, ?end, "a leecher's link has ended");
            if self.habit != Habit::Loiters {
                sleep(Duration::from_millis(500 + self.node.draw(1000))).await;
            }
        }
    }

    /// Asks a peer, on one link.
    pub(crate) async fn ask(&self, address: &str) -> Acted<()> {
        if self.habit == Habit::Loiters {
            reached(self.habit.name());
            return self.loiter(address).await;
        }
        let from = address.parse::<std::net::SocketAddr>()?.ip();
        let Wire { mut reader, mut writer, .. } = self.node.dial(address, Protocol::Peer).await?;
        reached(self.habit.name());
        writer.say(&PeerMessage::<FileId>::Hello { version: VERSION }).await?;
        if self.habit == Habit::Absurd {
            self.say_absurdities(&mut writer).await?;
        }
        self.join(&mut writer).await?;
        if self.habit == Habit::Pesters {
            self.pester(&mut writer).await?;
        }
        while let Some(frame) = self.read(&mut reader).await {
            self.hear(from, &frame, &mut writer).await?;
        }
        Ok(())
    }

    async fn join(&self, writer: &mut WireWriter) -> Acted<()> {
        let Pass { group, file, ticket } = self.pass.clone();
        let pieces = Some(Bitfield::empty(self.piece_count()));
        Ok(writer.say(&PeerMessage::Join { group, file, ticket, pieces }).await?)
    }

    async fn read(&self, reader: &mut WireReader) -> Option<RawFrame> {
        match self.habit {
            Habit::Deaf if reader.total() > 0 => {
                // Longer than a writer waits for one that takes nothing.
                sleep(Duration::from_secs(40)).await;
                None
            }
            Habit::Sips if reader.total() > 1000 => {
                for _ in 0..60 {
                    sleep(Duration::from_secs(1)).await;
                    if !reader.sip(500).await {
                        break;
                    }
                }
                None
            }
            _ => reader.frame().await,
        }
    }

    async fn hear(&self, from: IpAddr, frame: &RawFrame, writer: &mut WireWriter) -> Acted<()> {
        let file = self.pass.file;
        if let Some((named, block, bytes)) = frame.block() {
            if named != file {
                self.witness.secret(format!("a block of a file that was not asked for, by {from}"));
            }
            self.witness.block(from, block, &bytes);
            let is_last = block.offset + block.length == self.piece_length(block.piece);
            if is_last && self.habit != Habit::Wavers && self.witness.payload() < self.most {
                // Whatever was sent may be sent again.
                return self.request(writer, &[block.piece]).await;
            }
            return Ok(());
        }
        let told: Vec<PieceIndex> = match frame.peer_message() {
            Some(PeerMessage::Join { pieces: Some(pieces), .. } | PeerMessage::Pieces { pieces, .. }) => {
                (0..pieces.len()).map(PieceIndex).filter(|piece| pieces.has(*piece)).collect()
            }
            Some(PeerMessage::Have { pieces, .. }) => pieces,
            _ => return Ok(()),
        };
        self.witness.pieces(from, told.iter().copied());
        if self.habit == Habit::Rude {
            let reason = Some(Failure::new(ErrorCode::NotAMember, "Not today."));
            writer.say(&PeerMessage::Leave { file, reason }).await?;
            sleep(Duration::from_millis(50)).await;
            return self.join(writer).await;
        }
        self.request(writer, &told).await
    }

    async fn request(&self, writer: &mut WireWriter, pieces: &[PieceIndex]) -> Acted<()> {
        let file = self.pass.file;
        let blocks: Vec<Block> = pieces.iter().flat_map(|piece| blocks(*piece, self.piece_length(*piece))).collect();
        for blocks in blocks.chunks(32).map(<[Block]>::to_vec) {
            let request = PeerMessage::Request { file, blocks: blocks.clone() };
            match self.habit {
                Habit::Greedy => writer.bytes(&message_frame(&request).repeat(5)).await?,
                Habit::Gluttonous => {
                    let blocks = blocks.repeat(400);
                    writer.say(&PeerMessage::Request { file, blocks }).await?;
                }
                Habit::Wavers => {
                    let cancel = PeerMessage::Cancel { file, blocks };
                    writer.bytes(&[message_frame(&request), message_frame(&cancel)].concat().repeat(3)).await?;
                }
                _ => writer.say(&request).await?,
            }
        }
        Ok(())
    }

    /// As many streams as are let in, for almost as long as a handshake may take.
    async fn loiter(&self, address: &str) -> Acted<()> {
        let mut open = Vec::new();
        let end = Instant::now() + Duration::from_secs(4);
        while open.len() < 40 && Instant::now() < end {
            if let Ok(Ok(stream)) = timeout_at(end, self.node.env.transport.connect(address)).await {
                open.push(stream);
            }
        }
        sleep_until(end).await;
        Ok(())
    }

    async fn pester(&self, writer: &mut WireWriter) -> Acted<()> {
        let file = self.pass.file;
        let all: Vec<PieceIndex> = (0..self.piece_count()).map(PieceIndex).collect();
        let block = Block { piece: PieceIndex(0), offset: 0, length: 1 };
        let round = [
            PeerMessage::Ping,
            PeerMessage::Have { file, pieces: all },
            PeerMessage::Unchoke { file, suggested: Some(PieceIndex(0)) },
            PeerMessage::NotInterested { file },
            PeerMessage::Interested { file },
            PeerMessage::Reject { file, blocks: vec![block; 10] },
            PeerMessage::Cancel { file, blocks: vec![block; 10] },
            PeerMessage::Renew { group: self.pass.group, ticket: self.pass.ticket.clone() },
        ];
        let bytes = round.iter().flat_map(message_frame).collect::<Vec<u8>>().repeat(20);
        for _ in 0..10 {
            writer.bytes(&bytes).await?;
        }
        Ok(())
    }

    async fn say_absurdities(&self, writer: &mut WireWriter) -> Acted<()> {
        let (file, elsewhere) = (self.pass.file, FileId([7; 32]));
        let far = PieceIndex(u32::MAX);
        let blocks = vec![
            Block { piece: far, offset: 0, length: 1 },
            Block { piece: PieceIndex(0), offset: u32::MAX, length: u32::MAX },
            Block { piece: PieceIndex(0), offset: 0, length: 0 },
            Block { piece: PieceIndex(0), offset: 1, length: 512 * 1024 },
        ];
        for file in [file, elsewhere] {
            for message in [
                PeerMessage::Request { file, blocks: blocks.clone() },
                PeerMessage::Cancel { file, blocks: blocks.clone() },
                PeerMessage::Reject { file, blocks: blocks.clone() },
                PeerMessage::Have { file, pieces: vec![far; 10] },
                PeerMessage::Unchoke { file, suggested: Some(far) },
                PeerMessage::Interested { file },
                PeerMessage::Leave { file, reason: None },
                PeerMessage::Pieces { file, pieces: Bitfield::full(3) },
            ] {
                writer.say(&message).await?;
            }
        }
        Ok(())
    }

    fn piece_count(&self) -> u32 {
        piece_count(self.witness.content().len() as u64)
    }

    fn piece_length(&self, piece: PieceIndex) -> u32 {
        piece_length(self.witness.content().len() as u64, piece)
    }
}
