//! Strangers: they hold a TLS key like everybody, and nothing that lets them in.

use std::{net::IpAddr, time::Duration};

use p2p::{
    protocol::{
        bitfield::Bitfield,
        client::{Answer, Request, ToTracker},
        device::DeviceSecret,
        ids::{DeviceKey, FileId, GroupId, MembershipId, SessionId, TrackerNo, UserId},
        name::UserName,
        peer::{PeerMessage, VERSION},
        piece::{Block, PieceIndex, blocks, piece_count, piece_length},
        sync::{self, SyncMessage},
        ticket::{CredentialId, SessionRef, Signed, Ticket},
        version::{Dot, VersionVector},
    },
    transport::{Stream, tls::Protocol},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::{
    Acted, Node,
    account::Account,
    wire::{MESSAGE, Wire, header, message_frame},
};
use crate::{coverage::reached, oracle::data::Witness};

/// How long a stranger listens for what it is told.
const LISTEN: Duration = Duration::from_secs(2);

/// What strangers know: where a peer or a tracker is, and which file they are after.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) group: GroupId,
    pub(crate) file: FileId,
}

/// What a stranger shows in place of a ticket of its own.
#[derive(Clone, Debug)]
pub(crate) enum Claim {
    /// Nothing: it asks at once.
    Nothing,
    /// A ticket that says the right things and is signed with a key of its own.
    OwnSigner,
    /// A ticket in the name of a tracker, with a signature of rubbish.
    FalseSignature(DeviceKey),
    /// A good ticket of somebody else.
    Stolen(Signed),
    /// A good ticket of its own, for another group.
    OtherGroup(Signed),
}

impl Claim {
    /// What the suite must have seen.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "hostile: asks without a ticket",
            Self::OwnSigner => "hostile: ticket signed with another key",
            Self::FalseSignature(_) => "hostile: ticket with a false signature",
            Self::Stolen(_) => "hostile: ticket of another device",
            Self::OtherGroup(_) => "hostile: ticket of another group",
        }
    }

    fn ticket(self, node: &Node, group: GroupId) -> Option<Signed> {
        match self {
            Self::Nothing => None,
            Self::OwnSigner => Some(forge(node, group, &node.secret)),
            Self::FalseSignature(tracker) => Some(in_the_name_of(tracker, &forge(node, group, &node.secret))),
            Self::Stolen(ticket) | Self::OtherGroup(ticket) => Some(ticket),
        }
    }
}

/// A ticket for this device as a tracker with that key would issue it.
fn forge(node: &Node, group: GroupId, signer: &DeviceSecret) -> Signed {
    let now_ms = node.env.wall_clock.now_ms();
    let opened = Dot { origin: node.secret.key(), counter: 1 };
    let ticket = Ticket {
        user: UserId([7; 32]),
        name: UserName::parse("somebody").expect("a valid name"),
        device: node.secret.key(),
        group,
        membership: MembershipId([7; 32]),
        session: SessionRef { id: SessionId([7; 32]), opened, opened_with: CredentialId::default() },
        issued_ms: now_ms.saturating_sub(1000),
        expires_ms: now_ms + 600_000,
    };
    Signed::seal(&ticket, signer)
}

/// The fields of a signed statement as they travel.
#[derive(Serialize, Deserialize)]
struct Loose {
    signer: DeviceKey,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
}

fn in_the_name_of(signer: DeviceKey, forged: &Signed) -> Signed {
    let bytes = rmp_serde::to_vec_named(forged).expect("plain values");
    let loose: Loose = rmp_serde::from_slice(&bytes).expect("the fields of a signed statement");
    let bytes = rmp_serde::to_vec_named(&Loose { signer, ..loose }).expect("plain values");
    rmp_serde::from_slice(&bytes).expect("the fields of a signed statement")
}

/// Asks a peer for all of a file by a claim, and writes down what it is told.
pub(crate) async fn knock(node: &Node, target: &Target, claim: Claim, witness: &Witness) -> Acted<()> {
    reached(claim.name());
    let from = ip_of(&target.address)?;
    let mut wire = node.dial(&target.address, Protocol::Peer).await?;
    wire.writer.say(&PeerMessage::<FileId>::Hello { version: VERSION }).await?;
    let (group, file, size) = (target.group, target.file, witness.content().len() as u64);
    if let Some(ticket) = claim.ticket(node, group) {
        let pieces = Some(Bitfield::empty(piece_count(size)));
        wire.writer.say(&PeerMessage::Join { group, file, ticket, pieces }).await?;
    }
    let all = (0..piece_count(size)).map(PieceIndex);
    let blocks: Vec<Block> = all.flat_map(|piece| blocks(piece, piece_length(size, piece))).collect();
    wire.writer.say(&PeerMessage::Request { file, blocks }).await?;
    let listen = async {
        while let Some(frame) = wire.reader.frame().await {
            note(from, &frame, witness);
        }
    };
    let _ = timeout(LISTEN, listen).await;
    Ok(())
}

/// Writes down what a peer tells a stranger.
fn note(from: IpAddr, frame: &super::wire::RawFrame, witness: &Witness) {
    if let Some((_, block, bytes)) = frame.block() {
        return witness.block(from, block, &bytes);
    }
    match frame.peer_message() {
        Some(PeerMessage::Join { pieces: Some(pieces), .. } | PeerMessage::Pieces { pieces, .. }) => {
            witness.pieces(from, (0..pieces.len()).map(PieceIndex));
        }
        Some(PeerMessage::Have { pieces, .. }) => witness.pieces(from, pieces),
        Some(PeerMessage::Join { .. }) => witness.secret(format!("a ticket of {from}'s, and that it has the file")),
        _ => {}
    }
}

/// Something that is no protocol of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Noise {
    /// Rubbish in place of a handshake.
    BeforeTls,
    /// Rubbish after it.
    AfterTls,
    /// A frame of 4 GiB.
    Oversized,
    /// A frame that ends in the middle.
    Truncated,
    /// A good handshake, with another protocol than is served there.
    OtherProtocol,
    /// Many connections that never shake hands.
    HalfOpen,
    /// Many links on which nothing is said but hello.
    Idle,
    /// Thousands of small messages.
    Flood,
    /// The longest message there is, over and over.
    Bulky,
}

impl Noise {
    /// One of them, by a random number.
    pub(crate) fn of(number: u64) -> Self {
        const NOISES: [Noise; 9] = [
            Noise::BeforeTls,
            Noise::AfterTls,
            Noise::Oversized,
            Noise::Truncated,
            Noise::OtherProtocol,
            Noise::HalfOpen,
            Noise::Idle,
            Noise::Flood,
            Noise::Bulky,
        ];
        NOISES[usize::try_from(number % NOISES.len() as u64).unwrap_or_default()]
    }

    fn name(self) -> &'static str {
        match self {
            Self::BeforeTls => "hostile: rubbish to a port",
            Self::AfterTls => "hostile: rubbish to a link",
            Self::Oversized => "hostile: oversized frame to a server",
            Self::Truncated => "hostile: truncated frame to a server",
            Self::OtherProtocol => "hostile: another protocol",
            Self::HalfOpen => "hostile: many half-open handshakes",
            Self::Idle => "hostile: many idle links",
            Self::Flood => "hostile: flood by a stranger",
            Self::Bulky => "hostile: longest messages by a stranger",
        }
    }
}

/// Makes noise at a port where `protocol` is spoken.
pub(crate) async fn make_noise(node: &Node, address: &str, protocol: Protocol, noise: Noise) -> Acted<()> {
    reached(noise.name());
    match noise {
        Noise::BeforeTls => {
            let mut stream = node.connect(address).await?;
            stream.write_all(&node.rubbish(3000)).await?;
            drain(stream).await;
        }
        Noise::AfterTls => write(node, address, protocol, &node.rubbish(3000)).await?,
        Noise::Oversized => write(node, address, protocol, &header(MESSAGE, u32::MAX as usize - 1)).await?,
        Noise::Truncated => {
            let hello = message_frame(&hello(protocol));
            write(node, address, protocol, &hello[..hello.len() - 1]).await?;
        }
        Noise::OtherProtocol => {
            for other in [Protocol::Tracker, Protocol::Sync, Protocol::Peer, Protocol::Blocks] {
                if other != protocol {
                    let _ = write(node, address, other, &message_frame(&hello(other))).await;
                }
            }
        }
        Noise::HalfOpen => {
            let mut open = Vec::new();
            for _ in 0..40 {
                open.push(node.connect(address).await?);
            }
            sleep(Duration::from_secs(8)).await;
        }
        Noise::Idle => {
            let mut open = Vec::new();
            for _ in 0..12 {
                let mut wire = node.disguised().dial(address, protocol).await?;
                wire.writer.bytes(&message_frame(&hello(protocol))).await?;
                open.push(wire);
            }
            sleep(Duration::from_secs(8)).await;
        }
        Noise::Flood => {
            let small = message_frame(&hello(protocol)).repeat(500);
            write(node, address, protocol, &small.repeat(4)).await?;
        }
        Noise::Bulky => {
            let mut bytes = message_frame(&hello(protocol));
            let blocks = vec![Block { piece: PieceIndex(0), offset: 0, length: 1 }; 15_000];
            for _ in 0..4 {
                bytes.extend(message_frame(&PeerMessage::Request { file: FileId([7; 32]), blocks: blocks.clone() }));
            }
            write(node, address, protocol, &bytes).await?;
        }
    }
    Ok(())
}

/// A first word of each protocol.
#[derive(Serialize)]
#[serde(untagged)]
enum FirstWord {
    Peer(PeerMessage),
    Tracker(ToTracker),
    Sync(SyncMessage),
}

fn hello(protocol: Protocol) -> FirstWord {
    let seen = VersionVector::default();
    match protocol {
        Protocol::Peer | Protocol::Blocks => FirstWord::Peer(PeerMessage::Hello { version: VERSION }),
        Protocol::Tracker => {
            FirstWord::Tracker(ToTracker::Hello { version: p2p::protocol::client::VERSION, session: None, seen })
        }
        Protocol::Sync => FirstWord::Sync(sync_hello()),
    }
}

fn sync_hello() -> SyncMessage {
    SyncMessage::Hello { version: sync::VERSION, tracker: TrackerNo(1), vector: VersionVector::default(), now_ms: 0 }
}

/// Shakes hands, writes, and waits for the end.
async fn write(node: &Node, address: &str, protocol: Protocol, bytes: &[u8]) -> Acted<()> {
    let Wire { mut reader, mut writer, .. } = node.dial(address, protocol).await?;
    writer.bytes(bytes).await?;
    let _ = timeout(LISTEN, async { while reader.sip(4096).await {} }).await;
    Ok(())
}

async fn drain(mut stream: Box<dyn Stream>) {
    let mut rest = Vec::new();
    let _ = timeout(LISTEN, stream.read_to_end(&mut rest)).await;
}

/// Dials a tracker as if it were one, and sends it changes; writes down what it is told.
pub(crate) async fn pose_as_tracker(
    node: &Node,
    address: &str,
    changes: Vec<p2p::protocol::record::Change>,
    witness: &Witness,
) -> Acted<()> {
    reached("hostile: unlisted tracker");
    let mut wire = node.dial(address, Protocol::Sync).await?;
    wire.writer.say(&sync_hello()).await?;
    wire.writer.say(&SyncMessage::Changes(changes)).await?;
    let listen = async {
        while let Some(frame) = wire.reader.frame().await {
            witness.secret(format!("{} bytes by the tracker at {address}, as if it were one", frame.body.len()));
        }
    };
    let _ = timeout(LISTEN, listen).await;
    Ok(())
}

/// Shows a tracker the session of another device, and repeats that device's requests.
pub(crate) async fn replay(
    node: &Node,
    tracker: &str,
    session: Signed,
    requests: Vec<([u8; 16], Request)>,
    witness: &Witness,
) -> Acted<()> {
    reached("hostile: session of another device");
    if Account::link(node, tracker, Some(session)).await.is_ok() {
        witness.secret("that another device's session is honoured".into());
    }
    reached("hostile: repeats another's requests");
    let stranger = Account::link(node, tracker, None).await?;
    for (nonce, request) in requests {
        match stranger.ask_as(nonce, request.clone()).await {
            Err(_) => {}
            // Everybody may register.
            Ok(Answer::Done) if matches!(request, Request::CreateUser { .. }) => {}
            Ok(answer) => witness.secret(format!("{answer:?} for {request:?}")),
        }
    }
    Ok(())
}

fn ip_of(address: &str) -> Acted<IpAddr> {
    Ok(address.parse::<std::net::SocketAddr>()?.ip())
}
