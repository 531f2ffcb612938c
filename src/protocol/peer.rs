//! Peer and peer (`p2p-peer/1`): tickets, bitfields, haves, turns, requests, blocks.
//!
//! One link a pair of devices, whoever dialled, for all the files both take part in; it serves both ways. Each side sends
//! [`PeerMessage::Hello`], then [`PeerMessage::Join`] for each file with its member ticket. Nothing about a file, not even
//! its bitfield, is told before the other's ticket for its group is verified. Both may join in any order; a side that
//! receives a join for a file it serves and has not joined itself answers with its own join.
//!
//! Not goals: peer exchange (trackers name the peers), tit-for-tat (members are on one side), encryption of its own (TLS below).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{
    bitfield::Bitfield,
    error::Failure,
    frame::{BLOCK, put_header},
    ids::{FileId, GroupId},
    piece::{Block, PieceIndex},
    ticket::Signed,
};

/// Version of this protocol; both hellos carry it.
pub const VERSION: u16 = 1;

/// What peers send each other, but for blocks. On the wire a file may go by a number; see [`super::file_names`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerMessage<F = FileId> {
    /// First on every link, both ways.
    Hello {
        /// The speaker's [`VERSION`].
        version: u16,
    },
    /// Takes part in a file's swarm on this link.
    Join {
        /// The group.
        group: GroupId,
        /// The file.
        file: F,
        /// The speaker's member ticket for the group.
        ticket: Signed,
        /// The pieces the speaker has; withheld (`None`) until the other side's ticket was verified, then sent by [`PeerMessage::Pieces`].
        pieces: Option<Bitfield>,
    },
    /// The pieces the speaker has, once the other side's ticket is verified.
    Pieces {
        /// The file.
        file: F,
        /// The pieces.
        pieces: Bitfield,
    },
    /// A fresh ticket in place of the one shown.
    Renew {
        /// The group.
        group: GroupId,
        /// The ticket.
        ticket: Signed,
    },
    /// The speaker does not, or no longer, take part in a file with this peer.
    Leave {
        /// The file.
        file: F,
        /// Why, when the other's join was refused.
        reason: Option<Failure>,
    },
    /// More pieces the speaker has; at most `MAX_HAVE`.
    Have {
        /// The file.
        file: F,
        /// The pieces.
        pieces: Vec<PieceIndex>,
    },
    /// Asks for blocks.
    Request {
        /// The file.
        file: F,
        /// The blocks, in the order they are wanted.
        blocks: Vec<Block>,
    },
    /// Takes requests back.
    Cancel {
        /// The file.
        file: F,
        /// The blocks.
        blocks: Vec<Block>,
    },
    /// Requests that will not be served: ask elsewhere, or again later.
    Reject {
        /// The file.
        file: F,
        /// The blocks.
        blocks: Vec<Block>,
    },
    /// A turn: the other side may begin one more piece with the speaker.
    Unchoke {
        /// The file.
        file: F,
        /// The piece that had best be asked for.
        suggested: Option<PieceIndex>,
    },
    /// A turn would be of use to the speaker. Who is told of pieces it lacks is taken to be interested without saying so.
    Interested {
        /// The file.
        file: F,
    },
    /// No turn is of use now, nor are those given and not used.
    NotInterested {
        /// The file.
        file: F,
    },
    /// Keeps the link alive.
    Ping,
}

impl<F> PeerMessage<F> {
    /// The same message with its file named in another way.
    pub(super) fn try_with_file<G, E>(self, rename: impl FnOnce(F) -> Result<G, E>) -> Result<PeerMessage<G>, E> {
        Ok(match self {
            Self::Hello { version } => PeerMessage::Hello { version },
            Self::Join { group, file, ticket, pieces } => {
                PeerMessage::Join { group, file: rename(file)?, ticket, pieces }
            }
            Self::Pieces { file, pieces } => PeerMessage::Pieces { file: rename(file)?, pieces },
            Self::Renew { group, ticket } => PeerMessage::Renew { group, ticket },
            Self::Leave { file, reason } => PeerMessage::Leave { file: rename(file)?, reason },
            Self::Have { file, pieces } => PeerMessage::Have { file: rename(file)?, pieces },
            Self::Request { file, blocks } => PeerMessage::Request { file: rename(file)?, blocks },
            Self::Cancel { file, blocks } => PeerMessage::Cancel { file: rename(file)?, blocks },
            Self::Reject { file, blocks } => PeerMessage::Reject { file: rename(file)?, blocks },
            Self::Unchoke { file, suggested } => PeerMessage::Unchoke { file: rename(file)?, suggested },
            Self::Interested { file } => PeerMessage::Interested { file: rename(file)? },
            Self::NotInterested { file } => PeerMessage::NotInterested { file: rename(file)? },
            Self::Ping => PeerMessage::Ping,
        })
    }
}

/// Bytes of a block frame before its payload: file, piece, offset.
pub const BLOCK_HEADER_SIZE: usize = 32 + 4 + 4;

/// Appends the head of a block frame (frame header and block header); the payload of `block.length` bytes follows it on the wire.
pub fn put_block_header(file: &FileId, block: Block, buffer: &mut BytesMut) {
    put_header(BLOCK, BLOCK_HEADER_SIZE + block.length as usize, buffer);
    buffer.put_slice(&file.0);
    buffer.put_u32_le(block.piece.0);
    buffer.put_u32_le(block.offset);
}

/// Splits the body of a block frame into what it is and its payload, without copying; `None` when it is too short to be one.
pub fn read_block(mut body: Bytes) -> Option<(FileId, Block, Bytes)> {
    if body.len() <= BLOCK_HEADER_SIZE {
        return None;
    }
    let mut file = [0; 32];
    body.copy_to_slice(&mut file);
    let piece = PieceIndex(body.get_u32_le());
    let offset = body.get_u32_le();
    let length = u32::try_from(body.len()).ok()?;
    Some((FileId(file), Block { piece, offset, length }, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{frame::take_frame, limits::MAX_BLOCK_FRAME};

    #[test]
    fn a_block_travels_whole() {
        let block = Block { piece: PieceIndex(5), offset: 1024, length: 3 };
        let mut wire = BytesMut::new();
        put_block_header(&FileId([6; 32]), block, &mut wire);
        wire.extend_from_slice(b"abc");
        let frame = take_frame(&mut wire, |kind| (kind == BLOCK).then_some(MAX_BLOCK_FRAME)).unwrap().unwrap();
        assert_eq!(read_block(frame.body), Some((FileId([6; 32]), block, Bytes::from_static(b"abc"))));
    }

    #[test]
    fn a_block_without_payload_is_none() {
        assert_eq!(read_block(Bytes::from(vec![0; BLOCK_HEADER_SIZE])), None);
        assert_eq!(read_block(Bytes::new()), None);
    }
}
