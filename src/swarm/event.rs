//! What may happen to a download, and what its caller is then to do.

use super::PeerId;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::piece::{Block, PieceIndex};

/// What may happen to a download. Events of peers that did not join, have left or are banned are without effect.
#[derive(Clone, Debug)]
pub enum Event {
    /// A link to a peer that shares the file stands, and its bitfield is known. It starts without a turn for us.
    PeerJoined {
        /// The link.
        peer: PeerId,
        /// What the peer has; of another length than the file's it counts as empty.
        bitfield: Bitfield,
    },
    /// The link is gone, or the peer does not share the file any more.
    PeerLeft {
        /// The link.
        peer: PeerId,
    },
    /// The peer has more pieces.
    Have {
        /// The link.
        peer: PeerId,
        /// The new pieces; known and impossible ones are ignored.
        pieces: Vec<PieceIndex>,
    },
    /// The peer gives us a turn: one piece may be begun with it.
    Unchoked {
        /// The link.
        peer: PeerId,
        /// The piece that had best be asked for; another is as good where it is here or on its way.
        suggested: Option<PieceIndex>,
    },
    /// A block came; the caller has kept its bytes if and only if [`super::download::Download::wants`] said so.
    Received {
        /// The link.
        peer: PeerId,
        /// What came.
        block: Block,
    },
    /// The peer will not answer this one request.
    Rejected {
        /// The link.
        peer: PeerId,
        /// What was asked.
        block: Block,
    },
    /// A piece has the right hash and is written.
    Verified {
        /// Which.
        piece: PieceIndex,
    },
    /// A piece that was to be verified has a wrong hash.
    Corrupt {
        /// Which.
        piece: PieceIndex,
    },
    /// A piece could not be written, or one that was there is damaged on disk: fetch it (again); no peer is to blame.
    Lost {
        /// Which.
        piece: PieceIndex,
    },
    /// [`super::download::Download::deadline`] has come.
    Timer,
    /// Nothing is to be asked for now. Pieces begun stay in their buffers.
    Paused,
    /// The end of [`Event::Paused`].
    Resumed,
}

/// What the caller is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the peer for the block.
    Request {
        /// The link.
        peer: PeerId,
        /// What to ask for.
        block: Block,
    },
    /// Tell the peer that the block is not needed any more. It may still come.
    Cancel {
        /// The link.
        peer: PeerId,
        /// What was asked for.
        block: Block,
    },
    /// Tell the peer whether a turn would be of use.
    Interest {
        /// The link.
        peer: PeerId,
        /// No: turns that it gave and that were not used are void.
        interested: bool,
    },
    /// All bytes of the piece are in its buffer: hash and write them, then report `Verified`, `Corrupt` or `Lost`.
    Verify {
        /// Which.
        piece: PieceIndex,
    },
    /// Drop the buffer of the piece.
    Discard {
        /// Which.
        piece: PieceIndex,
    },
    /// The peer alone sent a corrupt piece: never ask it for this file again, under any link. It has left the download (no
    /// [`Event::PeerLeft`] is needed). It may have left before.
    Ban {
        /// The link.
        peer: PeerId,
    },
    /// The last piece is there. Said once each time the file becomes complete, so never for one that was complete from the start.
    Finished,
}

/// What is known of one peer, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// The link.
    pub peer: PeerId,
    /// Pieces it has.
    pub pieces: u32,
    /// Bytes a second it sends us.
    pub bytes_per_s: u64,
    /// Bytes it has sent us.
    pub received: u64,
    /// Requests on their way to it.
    pub outstanding: usize,
    /// It was asked for nothing and has no turn for us.
    pub choked: bool,
    /// It is silent for longer than its rate explains.
    pub snubbed: bool,
    /// It is suspected of a corrupt piece.
    pub parole: bool,
}
