//! What the fuzz targets do with their bytes: a function each, so that the targets themselves say nothing.
//!
//! A decoder must not panic, must not take memory beyond its limits, and what it accepts must read back as itself. Whoever has shown
//! nothing is told nothing, whatever they say.

mod forger;
mod handshake;
mod hello;
mod merge;
mod network;

use std::fmt::Debug;

pub use forger::handshake_key;
pub use handshake::handshake;
pub use hello::hello;

use bytes::{Bytes, BytesMut};
use p2p::{
    protocol::{
        client::{FromTracker, ToTracker},
        device::DeviceSecret,
        file_names,
        frame::{Frame, FrameError, HEADER_SIZE, MESSAGE, put_message, read_message, take_frame},
        ids::device_key_text,
        manifest::{MAX_PAGE_BYTES, Manifest, ManifestHeader, decode_page},
        peer::{PeerMessage, put_block_header, read_block},
        piece::{PIECE_SIZE, is_valid_block},
        record::Change,
        sync::SyncMessage,
        ticket::{Session, Signed, Statement, Ticket},
        tracker_info::TrackerInfo,
        version::VersionVector,
    },
    roles::client::command::{parse::parse, words},
    store::client::{downloads::DownloadRecord, shares::ShareRecord},
    transport::{link::body_limit, tls::Protocol},
};
use serde::{Serialize, de::DeserializeOwned};

/// Frames of every protocol: the bytes at once and in parts give the same frames and the same end. The first byte says how large
/// the parts are.
pub fn frame(bytes: &[u8]) {
    let Some((&part, wire)) = bytes.split_first() else { return };
    for protocol in [Protocol::Tracker, Protocol::Sync, Protocol::Peer, Protocol::Blocks] {
        let whole = frames(protocol, [wire]);
        let parts = frames(protocol, wire.chunks(usize::from(part) + 1));
        assert_eq!(whole, parts);
    }
}

fn frames<'a>(
    protocol: Protocol,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Result<usize, FrameError>) {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match take_frame(&mut buffer, |kind| body_limit(protocol, kind, true)) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(buffer.len()))
}

/// What a client sends to a tracker.
pub fn to_tracker(bytes: &[u8]) {
    if let Some(ToTracker::Request { request, .. }) = message(bytes) {
        let _ = request.is_write();
    }
}

/// What a tracker sends to a client.
pub fn from_tracker(bytes: &[u8]) {
    let _: Option<FromTracker> = message(bytes);
}

/// What trackers send each other; changes are merged in two orders, and a snapshot is taken in.
pub fn sync_message(bytes: &[u8]) {
    match message(bytes) {
        Some(SyncMessage::Changes(changes)) => merge::in_any_order(&changes),
        Some(SyncMessage::Snapshot(page)) => merge::snapshot(page),
        _ => {}
    }
}

/// What peers send each other.
pub fn peer_message(bytes: &[u8]) {
    let Some(message) = message(bytes) else { return };
    let (mut speaker, mut listener) = (file_names::Speaker::default(), file_names::Listener::default());
    let Ok(message) = listener.read(message) else { return };
    for _ in 0..2 {
        assert_eq!(listener.read(speaker.name(message.clone())).as_ref(), Ok(&message));
    }
    match message {
        PeerMessage::Pieces { pieces, .. } | PeerMessage::Join { pieces: Some(pieces), .. } => {
            assert_eq!(pieces.present().count(), pieces.count() as usize);
            assert_eq!(pieces.missing().count(), (pieces.len() - pieces.count()) as usize);
        }
        PeerMessage::Request { blocks, .. } => {
            for block in blocks {
                let _ = is_valid_block(u64::from(PIECE_SIZE) * 3 + 1, block);
            }
        }
        _ => {}
    }
}

/// The body of a block frame.
pub fn block(bytes: &[u8]) {
    let Some((file, block, payload)) = read_block(Bytes::copy_from_slice(bytes)) else { return };
    let mut wire = BytesMut::new();
    put_block_header(&file, block, &mut wire);
    wire.extend_from_slice(&payload);
    assert_eq!(&wire[HEADER_SIZE..], bytes);
}

/// A signed statement as it travels, and the bytes as what was signed.
pub fn signed(bytes: &[u8]) {
    if let Some(signed) = record::<Signed>(bytes) {
        let _ = signed.open::<Ticket>(0);
        let _ = signed.open::<Session>(0);
    }
    statement::<Ticket>(bytes);
    statement::<Session>(bytes);
}

fn statement<S: Statement + PartialEq + Debug>(bytes: &[u8]) {
    let Some(statement) = record::<S>(bytes) else { return };
    let secret = DeviceSecret::from_seed([7; 32]);
    let signed = Signed::seal(&statement, &secret);
    let (from, until) = statement.validity_ms();
    assert!(signed.open::<S>(until).is_err(), "its time is over");
    if from < until {
        assert_eq!(signed.open::<S>(from).as_ref(), Ok(&statement));
        assert_eq!(signed.open::<S>(until - 1), Ok(statement));
    }
}

/// A manifest header, and pages behind it: as they are, and as a manifest of their own.
pub fn manifest(mut bytes: &[u8]) {
    let Ok(header) = rmp_serde::from_read::<_, ManifestHeader>(&mut bytes) else { return };
    let pages: Vec<Vec<u8>> = bytes.chunks(MAX_PAGE_BYTES).map(<[u8]>::to_vec).collect();
    let _ = (header.check(), header.id());
    for (page, bytes) in (0..).zip(&pages) {
        let _ = header.check_page(page, bytes);
    }
    if let Ok(manifest) = Manifest::assemble(header.clone(), &pages) {
        assert_eq!(manifest.pages(), pages);
    }
    let pieces: Vec<_> = decode_page(bytes).collect();
    let size = pieces.len() as u64 * u64::from(PIECE_SIZE);
    let (header, pages) = ManifestHeader::describe(header.name, size, header.sha1, &pieces);
    let manifest = Manifest::assemble(header, &pages).expect("a manifest assembles from its own pages");
    assert_eq!(manifest.pieces(), pieces);
}

/// A version vector.
pub fn version_vector(bytes: &[u8]) {
    let Some(vector) = record::<VersionVector>(bytes) else { return };
    let mut merged = VersionVector::default();
    merged.merge(&vector);
    assert!(merged.includes(&vector) && vector.includes(&merged));
    assert_eq!(VersionVector::default().ahead_of(&vector), 0);
    assert!(vector.iter().all(|dot| vector.contains(&dot)));
}

/// A tracker file: what is read reads the same when it is written in the plainest form.
pub fn tracker_info(bytes: &[u8]) {
    let Ok(info) = TrackerInfo::parse(bytes) else { return };
    let line = |tracker: &p2p::protocol::tracker_info::TrackerAddress| {
        let key = tracker.key.as_ref().map(device_key_text).unwrap_or_default();
        format!("{} {} {key}\n", tracker.no, tracker.address)
    };
    let text: String = info.trackers.iter().map(line).collect();
    assert_eq!(TrackerInfo::parse(text.as_bytes()), Ok(info), "{text}");
}

/// A command line, and a word that is quoted to be part of one.
pub fn command_line(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parts = words::split_commands(&text, &[';', '\n']);
    assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>() + parts.len() - 1, text.len());
    for part in parts {
        let _ = parse(part);
    }
    assert_eq!(words::split(&words::quote(&text)), Ok(vec![text.into_owned()]));
}

/// A change as it rests in a tracker's log.
pub fn log_record(bytes: &[u8]) {
    if let Some(change) = record::<Change>(bytes) {
        merge::in_any_order(&[change]);
    }
}

/// Shares and downloads as they rest in a client's library.
pub fn library_record(bytes: &[u8]) {
    record::<ShareRecord>(bytes);
    record::<DownloadRecord>(bytes);
}

/// Reads a message as a link does.
fn message<M: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let frame = Frame { kind: MESSAGE, body: Bytes::copy_from_slice(bytes) };
    let message: M = read_message(&frame).ok()?;
    let mut wire = BytesMut::new();
    put_message(&message, &mut wire);
    let frame = take_frame(&mut wire, |_| Some(usize::MAX)).ok().flatten().expect("a message is a frame");
    assert_eq!(read_message::<M>(&frame).as_ref(), Ok(&message));
    Some(message)
}

/// Reads a record as the stores do.
fn record<R: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<R> {
    let record: R = rmp_serde::from_slice(bytes).ok()?;
    let again = rmp_serde::to_vec_named(&record).expect("a record holds only plain values");
    assert_eq!(rmp_serde::from_slice::<R>(&again).ok().as_ref(), Some(&record));
    Some(record)
}
