//! Further streams of a link: when they come to be, who may open them, and how they end.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    MIB, PIECE, peers,
    stranger::{befriend, linger, open_stream, stands},
    town::{Client, Town},
};
use crate::{
    protocol::{
        device::DeviceSecret,
        ids::FileId,
        peer::{PeerMessage, VERSION},
        piece::{Block, PIECE_SIZE, PieceIndex, blocks},
    },
    roles::client::{
        command::{Direction, Rate},
        exchange::streams::Streams,
    },
    swarm::streams::MOST_STREAMS,
};

const ROUND_TRIP: Duration = Duration::from_millis(400);

/// Most streams of a link of a client, and how many of the further ones were given blocks.
async fn streams(client: &Client) -> (usize, usize) {
    let count = client.exchange.turn(|hub| {
        let streams = || hub.peers.links.values().map(|peer| &peer.streams);
        (streams().map(Streams::open_count).max(), streams().map(Streams::used_count).max())
    });
    let (open, used) = count.await.unwrap();
    (open.unwrap_or_default(), used.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_long_link_has_several_streams_as_long_as_they_are_needed() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.far_client("bob", ROUND_TRIP).await);
    let size = 40 * MIB;
    ann.upload(&town.write("file", usize::try_from(size).unwrap())).await;
    ann.exchange.set_limit(Direction::Up, Rate(8 * MIB)).await;
    let watch = async {
        sleep(Duration::from_millis(4500)).await;
        (streams(&ann).await, streams(&bob).await)
    };
    let ((), ((accepted, sent_by), (dialled, _))) =
        tokio::join!(bob.fetch("file", usize::try_from(size).unwrap()), watch);
    assert!(accepted > 2 && accepted == dialled, "{accepted} {dialled}");
    assert!(sent_by > 0, "blocks went by further ones");
    sleep(Duration::from_secs(40)).await;
    assert_eq!((streams(&ann).await.0, streams(&bob).await.0), (1, 1), "and the link still stands");
}

#[tokio::test(start_paused = true)]
async fn a_near_link_has_one_stream_however_fast_it_is() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", 24 << 20)).await;
    ann.exchange.set_limit(Direction::Up, Rate(8 * MIB)).await;
    let watch = async {
        sleep(Duration::from_millis(2500)).await;
        streams(&bob).await
    };
    let ((), open) = tokio::join!(bob.fetch("file", 24 << 20), watch);
    assert_eq!(open, (1, 0));
}

/// A town with a file of 4 pieces that ann shares, and where she is.
async fn town() -> (Town, Client, Client, FileId, String) {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let file = ann.upload(&town.write("file", 4 * PIECE)).await;
    sleep(Duration::from_secs(1)).await;
    let address = peers(&bob, "file").await[0].address.clone();
    (town, ann, bob, file, address)
}

#[tokio::test(start_paused = true)]
async fn a_stream_belongs_to_a_link_that_has_shown_a_ticket_or_is_refused() {
    let (town, ann, _bob, file, address) = town().await;
    let [eve, mallory] = [66, 67].map(|seed| DeviceSecret::from_seed([seed; 32]));
    let (mut early, _early) = open_stream(&town, &eve, &address).await;
    assert!(!stands(&mut early).await, "there is no link");
    let (mut mute, _mute) = linger(&town, &mallory, &address).await;
    let (mut foreign, _foreign) = open_stream(&town, &mallory, &address).await;
    assert!(!stands(&mut foreign).await && stands(&mut mute).await, "the link has shown no ticket");

    let (mut link, _link) = befriend(&town, &eve, &address, file, town.ticket("eve", eve.key())).await;
    let mut open = Vec::new();
    for _ in 1..MOST_STREAMS {
        open.push(open_stream(&town, &eve, &address).await);
    }
    let (mut more, _more) = open_stream(&town, &eve, &address).await;
    assert!(!stands(&mut more).await, "there are as many as there may be");
    let (mut foreign, _foreign) = open_stream(&town, &mallory, &address).await;
    assert!(!stands(&mut foreign).await, "a ticket is good for its own device's streams");
    assert_eq!(streams(&ann).await.0, MOST_STREAMS);

    let (mut reader, mut writer) = open.pop().unwrap();
    writer.send(&PeerMessage::<FileId>::Hello { version: VERSION }).await.unwrap();
    assert!(!stands(&mut reader).await, "messages go by the first stream alone");
    assert_eq!(streams(&ann).await.0, MOST_STREAMS - 1);
    assert!(stands(&mut open[0].0).await && stands(&mut link).await);

    town.cast_out("eve");
    sleep(Duration::from_secs(1)).await;
    for (reader, _) in &mut open {
        assert!(!stands(reader).await, "the ticket counts no more");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_end_with_their_link_and_a_stream_that_is_lost_with_blocks_ends_it() {
    let (town, ann, _bob, file, address) = town().await;
    let eve = DeviceSecret::from_seed([66; 32]);
    let ticket = || town.ticket("eve", eve.key());
    let (link, link_writer) = befriend(&town, &eve, &address, file, ticket()).await;
    let (mut stream, _stream) = open_stream(&town, &eve, &address).await;
    assert!(stands(&mut stream).await);
    drop((link, link_writer));
    assert!(!stands(&mut stream).await, "its link has ended");

    let (mut link, mut writer) = befriend(&town, &eve, &address, file, ticket()).await;
    let unused = open_stream(&town, &eve, &address).await;
    drop(unused);
    assert!(stands(&mut link).await, "no block was lost");
    let used = open_stream(&town, &eve, &address).await;
    sleep(Duration::from_secs(1)).await;
    let pieces = (0..4).flat_map(|piece| blocks(PieceIndex(piece), PIECE_SIZE));
    writer.send(&PeerMessage::Request { file, blocks: pieces.collect::<Vec<Block>>() }).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(streams(&ann).await, (2, 1));
    drop(used);
    assert!(!stands(&mut link).await);
}
