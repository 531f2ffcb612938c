//! What every transport must do, with TLS and frames above it: one suite, run over TCP, in memory and in the simulation.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Listener, Stream, Transport,
    link::{Link, LinkError, LinkReader, LinkWriter, accept, dial},
    tls::{Identity, Protocol},
};
use crate::protocol::{
    device::DeviceSecret,
    frame::{self, Frame, FrameError},
    ids::FileId,
    peer::read_block,
    piece::{BLOCK_SIZE, Block, PieceIndex},
};

/// An address at which a test may listen.
const ANY: &str = "127.0.0.1:0";

/// Runs every contract.
pub(crate) async fn suite(transport: Arc<dyn Transport>) {
    both_ends_know_each_other(&*transport).await;
    another_key_is_refused(&*transport).await;
    frames_arrive_whole_and_in_order(&*transport).await;
    a_farewell_is_a_clean_end(&*transport).await;
    a_lost_connection_is_an_error(&*transport).await;
    a_frame_of_another_protocol_is_refused(&*transport).await;
    rubbish_is_no_handshake(&*transport).await;
    nobody_there_is_an_error(&*transport).await;
    what_was_tampered_with_is_not_read(&transport).await;
    a_recorded_link_cannot_be_played_again(&transport).await;
}

pub(crate) fn identity(n: u8) -> Identity {
    Identity::new(&DeviceSecret::from_seed([n; 32]))
}

/// Two ends of one link: the one that dialled, the one that accepted.
pub(crate) async fn pair(transport: &dyn Transport, protocol: Protocol) -> (Link, Link) {
    let listener = transport.listen(ANY).await.unwrap();
    let address = listener.local_address().unwrap().to_string();
    let (one, two) = (identity(1), identity(2));
    let accepting = async { accept(listener.accept().await.unwrap().0, &two).await };
    let (dialled, accepted) = tokio::join!(dial(transport, &one, &address, protocol, Some(two.device())), accepting);
    (dialled.unwrap(), accepted.unwrap())
}

async fn both_ends_know_each_other(transport: &dyn Transport) {
    for protocol in [Protocol::Tracker, Protocol::Sync, Protocol::Peer] {
        let (dialled, accepted) = pair(transport, protocol).await;
        assert_eq!((dialled.device(), accepted.device()), (identity(2).device(), identity(1).device()));
        assert_eq!((dialled.protocol(), accepted.protocol()), (protocol, protocol));
    }
}

async fn another_key_is_refused(transport: &dyn Transport) {
    let listener = transport.listen(ANY).await.unwrap();
    let address = listener.local_address().unwrap().to_string();
    let (one, two, three) = (identity(1), identity(2), identity(3));
    let accepting = async { accept(listener.accept().await.unwrap().0, &two).await };
    let (dialled, _) = tokio::join!(dial(transport, &one, &address, Protocol::Sync, Some(three.device())), accepting);
    let Err(LinkError::RefusedKey { expected, found }) = dialled else { panic!("another key was let in") };
    assert_eq!((expected, found), (three.device(), two.device()));
}

async fn frames_arrive_whole_and_in_order(transport: &dyn Transport) {
    let (dialled, accepted) = pair(transport, Protocol::Peer).await;
    let ((mut reader, _keep), (_keep_too, mut writer)) = (accepted.split(), dialled.split());
    reader.trust().give();
    let payload = |n: u32| Bytes::from(vec![u8::try_from(n % 251).unwrap(); (1 + n * 7919 % BLOCK_SIZE) as usize]);
    let block = |n: u32| Block { piece: PieceIndex(n), offset: 0, length: u32::try_from(payload(n).len()).unwrap() };
    let sending = async {
        for n in 0..60 {
            writer.queue(&("message", n));
            writer.queue_block(&FileId([9; 32]), block(n), payload(n));
            if n % 7 == 0 {
                writer.flush().await.unwrap();
            }
        }
        writer.flush().await.unwrap();
        assert_eq!(writer.queued_bytes(), 0);
    };
    let receiving = async {
        for n in 0..60 {
            assert_eq!(reader.message::<(String, u32)>().await.unwrap(), Some(("message".to_owned(), n)));
            let Frame { kind, body } = reader.frame().await.unwrap().unwrap();
            assert_eq!(kind, frame::BLOCK);
            assert_eq!(read_block(body), Some((FileId([9; 32]), block(n), payload(n))));
        }
    };
    tokio::join!(sending, receiving);
}

async fn a_farewell_is_a_clean_end(transport: &dyn Transport) {
    let (dialled, accepted) = pair(transport, Protocol::Tracker).await;
    let ((mut reader, _keep), (_keep_too, mut writer)) = (accepted.split(), dialled.split());
    writer.queue(&"last words");
    let (closed, read) = tokio::join!(writer.close(), async {
        assert_eq!(reader.message::<String>().await.unwrap().as_deref(), Some("last words"));
        reader.frame().await
    });
    closed.unwrap();
    assert_eq!(read.unwrap(), None);
}

async fn a_lost_connection_is_an_error(transport: &dyn Transport) {
    let (dialled, accepted) = pair(transport, Protocol::Tracker).await;
    drop(dialled);
    let (mut reader, _keep): (LinkReader, LinkWriter) = accepted.split();
    assert!(matches!(reader.frame().await, Err(LinkError::Closed)));
}

async fn a_frame_of_another_protocol_is_refused(transport: &dyn Transport) {
    let (dialled, accepted) = pair(transport, Protocol::Tracker).await;
    let ((mut reader, _keep), (_keep_too, mut writer)) = (accepted.split(), dialled.split());
    let block = Block { piece: PieceIndex(0), offset: 0, length: 1 };
    writer.queue_block(&FileId([9; 32]), block, Bytes::from_static(b"x"));
    let (written, read) = tokio::join!(writer.flush(), reader.frame());
    written.unwrap();
    assert!(matches!(read, Err(LinkError::Frame(FrameError::Length { kind: frame::BLOCK, .. }))));
}

async fn rubbish_is_no_handshake(transport: &dyn Transport) {
    let listener = transport.listen(ANY).await.unwrap();
    let address = listener.local_address().unwrap().to_string();
    let two = identity(2);
    let accepting = async { accept(listener.accept().await.unwrap().0, &two).await };
    let dialling = async {
        let mut stream = transport.connect(&address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 64]).await;
    };
    let (accepted, ()) = tokio::join!(accepting, dialling);
    assert!(matches!(accepted, Err(LinkError::Protocol(_))));
}

async fn nobody_there_is_an_error(transport: &dyn Transport) {
    let listener = transport.listen(ANY).await.unwrap();
    let address = listener.local_address().unwrap().to_string();
    drop(listener);
    assert!(dial(transport, &identity(1), &address, Protocol::Peer, None).await.is_err());
}

async fn what_was_tampered_with_is_not_read(transport: &Arc<dyn Transport>) {
    let is_at_work = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&is_at_work);
    let tamper = move |part: &mut [u8]| {
        if works.load(Ordering::Relaxed) {
            part[part.len() / 2] ^= 1;
        }
    };
    let (mut reader, mut writer, _) = by_way_of(transport, tamper).await;
    writer.send(&"as it was said").await.unwrap();
    assert_eq!(reader.message::<String>().await.unwrap().as_deref(), Some("as it was said"));
    is_at_work.store(true, Ordering::Relaxed);
    writer.send(&"with one bit changed").await.unwrap();
    assert!(reader.message::<String>().await.is_err());
}

async fn a_recorded_link_cannot_be_played_again(transport: &Arc<dyn Transport>) {
    let record = Arc::new(Mutex::new(Vec::new()));
    let tape = Arc::clone(&record);
    let (mut reader, mut writer, listener) =
        by_way_of(transport, move |part| tape.lock().unwrap().extend_from_slice(part)).await;
    writer.send(&"a password").await.unwrap();
    assert_eq!(reader.message::<String>().await.unwrap().as_deref(), Some("a password"));
    let recorded = record.lock().unwrap().clone();
    let (address, two) = (listener.local_address().unwrap().to_string(), identity(2));
    let accepting = async { accept(listener.accept().await.unwrap().0, &two).await };
    let playing = async {
        let mut stream = transport.connect(&address).await.unwrap();
        stream.write_all(&recorded).await.unwrap();
        let _ = stream.read(&mut [0; 64]).await;
        stream
    };
    let (accepted, _kept) = tokio::join!(accepting, playing);
    assert!(matches!(accepted, Err(LinkError::Protocol(_))), "{:?}", accepted.err());
}

/// A link by way of somebody who sees every part of what the dialler says, and passes it on as `pass` leaves it: where it is read
/// and where it is written, and who accepted it.
async fn by_way_of(
    transport: &Arc<dyn Transport>,
    pass: impl FnMut(&mut [u8]) + Send + 'static,
) -> (LinkReader, LinkWriter, Box<dyn Listener>) {
    let (listener, middle) = (transport.listen(ANY).await.unwrap(), transport.listen(ANY).await.unwrap());
    let [address, by_way] = [&listener, &middle].map(|it| it.local_address().unwrap().to_string());
    let network = Arc::clone(transport);
    tokio::spawn(async move {
        let near = middle.accept().await.unwrap().0;
        relay(near, network.connect(&address).await.unwrap(), pass).await;
    });
    let (one, two) = (identity(1), identity(2));
    let accepting = async { accept(listener.accept().await.unwrap().0, &two).await };
    let dialling = dial(&**transport, &one, &by_way, Protocol::Peer, Some(two.device()));
    let (dialled, accepted) = tokio::join!(dialling, accepting);
    let ((mut kept, writer), (reader, _)) = (dialled.unwrap().split(), accepted.unwrap().split());
    tokio::spawn(async move { while let Ok(Some(_)) = kept.frame().await {} });
    (reader, writer, listener)
}

async fn relay(near: Box<dyn Stream>, far: Box<dyn Stream>, mut pass: impl FnMut(&mut [u8])) {
    let ((mut said, mut heard), (mut answered, mut told)) = (tokio::io::split(near), tokio::io::split(far));
    let there = async {
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = said.read(&mut part).await {
            pass(&mut part[..count]);
            if told.write_all(&part[..count]).await.is_err() {
                break;
            }
        }
    };
    let _ = tokio::join!(there, tokio::io::copy(&mut answered, &mut heard));
}
