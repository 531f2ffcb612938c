//! Peers written from the protocol, not from our client: they lie, stall, or have no business there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::town::{GROUP, Town, content};
use crate::{
    protocol::{
        bitfield::Bitfield,
        device::DeviceSecret,
        error::{ErrorCode, Failure},
        file_names::FileRef,
        frame::{MESSAGE, read_message},
        ids::{DeviceKey, FileId},
        peer::{PeerMessage, VERSION},
        piece::{Block, PIECE_SIZE},
        ticket::Signed,
    },
    transport::{
        Listener, Transport,
        link::{Link, LinkReader, LinkWriter, accept, dial},
        tls::{Identity, Protocol},
    },
};

/// What a client says, its file named as it came.
pub(super) type Heard = PeerMessage<FileRef>;

/// What a bad seeder does with requests.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Vice {
    /// Sends bytes that are not the file's.
    Lies,
    /// The same, and hangs up at once.
    LiesAndHangsUp,
    /// The same, and says what it has in a message of its own, before its ticket can have been checked.
    LiesInTwoWords,
    /// Sends bytes that are not the file's and have the same SHA-1.
    Collides,
    /// Never answers.
    Stalls,
}

/// The first bytes of two files that have one SHA-1 (Stevens and others: The first collision for full SHA-1, 2017). Whatever
/// follows, it is still one.
pub(super) const SHATTERED: [&[u8]; 2] = [
    include_bytes!("../../../../../tests/data/shattered-1.bin"),
    include_bytes!("../../../../../tests/data/shattered-2.bin"),
];

/// Announces itself as a seeder of a file, and is a bad one.
pub(super) async fn seed_badly(town: &Town, name: &str, file: FileId, vice: Vice) -> DeviceKey {
    let secret = DeviceSecret::from_seed(*blake3::hash(name.as_bytes()).as_bytes());
    let listener: Arc<dyn Listener> = Arc::from(town.net.listen("").await.unwrap());
    let device = secret.key();
    town.announce(name, device, &listener.local_address().unwrap().to_string(), file);
    let (ticket, pieces) = (town.ticket(name, device), Bitfield::full(town.file(file).piece_count()));
    tokio::spawn(async move {
        let identity = Identity::new(&secret);
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(link) = accept(stream, &identity).await else { continue };
            tokio::spawn(serve_badly(link, file, ticket.clone(), pieces.clone(), vice));
        }
    });
    device
}

async fn serve_badly(link: Link, file: FileId, ticket: Signed, pieces: Bitfield, vice: Vice) {
    let (mut reader, mut writer) = link.split();
    writer.queue(&PeerMessage::<FileId>::Hello { version: VERSION });
    while let Ok(Some(frame)) = reader.frame().await {
        if frame.kind != MESSAGE {
            continue;
        }
        match read_message::<Heard>(&frame).unwrap() {
            PeerMessage::Join { .. } => {
                let (ticket, pieces) = (ticket.clone(), pieces.clone());
                if vice == Vice::LiesInTwoWords {
                    writer.queue(&PeerMessage::Join { group: GROUP, file, ticket, pieces: None });
                    writer.queue(&PeerMessage::Pieces { file, pieces });
                } else {
                    writer.queue(&PeerMessage::Join { group: GROUP, file, ticket, pieces: Some(pieces) });
                }
            }
            PeerMessage::Interested { .. } => writer.queue(&PeerMessage::Unchoke { file, suggested: None }),
            PeerMessage::Request { blocks, .. } if vice != Vice::Stalls => {
                writer.queue(&PeerMessage::Unchoke { file, suggested: None });
                for block in blocks {
                    writer.queue_block(&file, block, Bytes::from(lie(block, vice)));
                }
            }
            _ => {}
        }
        let has_lied = writer.queued_bytes() > PIECE_SIZE as usize;
        if writer.flush().await.is_err() || (has_lied && vice == Vice::LiesAndHangsUp) {
            return;
        }
    }
}

fn lie(block: Block, vice: Vice) -> Vec<u8> {
    if vice != Vice::Collides {
        return vec![7; block.length as usize];
    }
    let whole = shattered(1, 3 * PIECE_SIZE as usize);
    let begin = usize::try_from(block.piece.start()).unwrap() + block.offset as usize;
    whole[begin..begin + block.length as usize].to_vec()
}

/// One of two files of a size that have one SHA-1.
pub(super) fn shattered(which: usize, size: usize) -> Vec<u8> {
    [SHATTERED[which], &content(size)[SHATTERED[which].len()..]].concat()
}

/// Dials a client and asks to take part in a file with a ticket of one's own choice; returns what it says until it has nothing to
/// say any more. Once its bitfield is told, asks for `block`.
pub(super) async fn knock(
    town: &Town,
    secret: &DeviceSecret,
    address: &str,
    file: FileId,
    ticket: Signed,
    block: Block,
) -> Vec<Heard> {
    let link = dial(&*town.net, &Identity::new(secret), address, Protocol::Peer, None).await.unwrap();
    let (mut reader, mut writer) = link.split();
    writer.queue(&PeerMessage::<FileId>::Hello { version: VERSION });
    let pieces = Some(Bitfield::empty(town.file(file).piece_count()));
    writer.send(&PeerMessage::Join { group: GROUP, file, ticket, pieces }).await.unwrap();
    let mut heard = Vec::new();
    let patience = Duration::from_secs(5);
    while let Ok(Ok(Some(frame))) = tokio::time::timeout(patience, reader.frame()).await {
        if frame.kind != MESSAGE {
            break;
        }
        let message: Heard = read_message(&frame).unwrap();
        if matches!(message, PeerMessage::Join { .. }) {
            writer.send(&PeerMessage::Request { file, blocks: vec![block] }).await.unwrap();
        }
        heard.push(message);
    }
    heard
}

/// Dials a client and says nothing; returns how long the link lasts.
pub(super) async fn say_nothing(town: &Town, secret: &DeviceSecret, address: &str) -> Duration {
    let link = dial(&*town.net, &Identity::new(secret), address, Protocol::Peer, None).await.unwrap();
    let ((mut reader, _writer), begun) = (link.split(), Instant::now());
    while let Ok(Some(_)) = reader.frame().await {}
    begun.elapsed()
}

/// Dials a client and says hello, and nothing more.
pub(super) async fn linger(town: &Town, secret: &DeviceSecret, address: &str) -> (LinkReader, LinkWriter) {
    let link = dial(&*town.net, &Identity::new(secret), address, Protocol::Peer, None).await.unwrap();
    let (reader, mut writer) = link.split();
    writer.send(&PeerMessage::<FileId>::Hello { version: VERSION }).await.unwrap();
    (reader, writer)
}

/// Joins a file with a ticket; returns when the client has joined too.
pub(super) async fn befriend(
    town: &Town,
    secret: &DeviceSecret,
    address: &str,
    file: FileId,
    ticket: Signed,
) -> (LinkReader, LinkWriter) {
    let (mut reader, mut writer) = linger(town, secret, address).await;
    let pieces = Some(Bitfield::empty(town.file(file).piece_count()));
    writer.send(&PeerMessage::Join { group: GROUP, file, ticket, pieces }).await.unwrap();
    while !matches!(reader.message::<Heard>().await, Ok(Some(PeerMessage::Join { .. }))) {}
    (reader, writer)
}

/// Opens a further stream to a client.
pub(super) async fn open_stream(town: &Town, secret: &DeviceSecret, address: &str) -> (LinkReader, LinkWriter) {
    dial(&*town.net, &Identity::new(secret), address, Protocol::Blocks, None).await.unwrap().split()
}

/// Whether a link or stream stands for a second more, whatever comes by it.
pub(super) async fn stands(reader: &mut LinkReader) -> bool {
    let end = async { while let Ok(Some(_)) = reader.frame().await {} };
    timeout(Duration::from_secs(1), end).await.is_err()
}

/// Joins a file with one ticket after the other, each with a second to be checked; returns what is said.
pub(super) async fn rejoin(
    town: &Town,
    secret: &DeviceSecret,
    address: &str,
    file: FileId,
    tickets: [Signed; 3],
) -> Vec<Heard> {
    let link = dial(&*town.net, &Identity::new(secret), address, Protocol::Peer, None).await.unwrap();
    let (mut reader, mut writer) = link.split();
    writer.queue(&PeerMessage::<FileId>::Hello { version: VERSION });
    for ticket in tickets {
        let pieces = Some(Bitfield::empty(town.file(file).piece_count()));
        writer.send(&PeerMessage::Join { group: GROUP, file, ticket, pieces }).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    let mut heard = Vec::new();
    let patience = Duration::from_secs(5);
    while let Ok(Ok(Some(frame))) = tokio::time::timeout(patience, reader.frame()).await {
        if frame.kind != MESSAGE {
            break;
        }
        heard.push(read_message(&frame).unwrap());
    }
    heard
}

/// Joins a file, refuses the ticket it is shown, and joins again, for some seconds; returns how often.
pub(super) async fn refuse(town: &Town, secret: &DeviceSecret, address: &str, file: FileId, ticket: Signed) -> u32 {
    let (mut reader, mut writer) = linger(town, secret, address).await;
    let pieces = Some(Bitfield::empty(town.file(file).piece_count()));
    let join = PeerMessage::Join { group: GROUP, file, ticket, pieces };
    writer.send(&join).await.unwrap();
    let (end, mut refused) = (Instant::now() + Duration::from_secs(12), 0);
    while let Ok(Ok(Some(message))) = timeout_at(end, reader.message::<Heard>()).await {
        if matches!(message, PeerMessage::Join { .. }) {
            let reason = Some(Failure::new(ErrorCode::NotAMember, "Not today."));
            writer.queue(&PeerMessage::Leave { file, reason });
            sleep(Duration::from_millis(50)).await;
            writer.send(&join).await.unwrap();
            refused += 1;
        }
    }
    refused
}
