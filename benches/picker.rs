//! Cost of one block in the download machine: request, arrival and, every fourth, a verified piece.

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use p2p::protocol::bitfield::Bitfield;
use p2p::protocol::piece::{PIECE_SIZE, PieceIndex};
use p2p::swarm::PeerId;
use p2p::swarm::download::{Action, Download, Event};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tokio::time::Instant;

/// A download of `pieces` pieces from one seeder and `leechers` peers with every third piece, and its first requests.
fn swarm(pieces: u32, leechers: u64) -> (Download, Vec<Action>) {
    let size = u64::from(pieces) * u64::from(PIECE_SIZE);
    let mut download = Download::new(size, Bitfield::empty(pieces), ChaCha12Rng::seed_from_u64(1));
    let mut actions = Vec::new();
    let mut third = Bitfield::empty(pieces);
    (0..pieces).step_by(3).for_each(|piece| {
        third.insert(PieceIndex(piece));
    });
    let now = Instant::now();
    for peer in 1..=leechers {
        download.handle(now, Event::PeerJoined { peer: PeerId(peer), bitfield: third.clone() }, &mut actions);
    }
    let bitfield = Bitfield::full(pieces);
    download.handle(now, Event::PeerJoined { peer: PeerId(0), bitfield }, &mut actions);
    (download, actions)
}

/// Answers the first `count` requests, and gives a turn to whoever asks for one or has used one up.
fn answer((mut download, mut actions): (Download, Vec<Action>), count: usize) -> Download {
    let now = Instant::now();
    let turn = |peer| Event::Unchoked { peer, suggested: None };
    let mut next = 0;
    let mut answered = 0;
    while answered < count && next < actions.len() {
        let action = actions[next];
        next += 1;
        match action {
            Action::Request { peer, block } => {
                answered += 1;
                download.handle(now, Event::Received { peer, block }, &mut actions);
                if block.offset + block.length == PIECE_SIZE {
                    download.handle(now, turn(peer), &mut actions);
                }
            }
            Action::Interest { peer, interested: true } => download.handle(now, turn(peer), &mut actions),
            Action::Verify { piece } => download.handle(now, Event::Verified { piece }, &mut actions),
            _ => {}
        }
    }
    assert_eq!(answered, count, "the download goes on");
    download
}

fn picker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("1000 blocks");
    // To make a large swarm takes far longer than what is measured.
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(200));
    for (name, pieces, leechers) in [
        ("1 seeder, 4096 pieces", 4096, 0),
        ("64 leechers, 4096 pieces", 4096, 64),
        ("16 leechers, 100,000 pieces", 100_000, 16),
        ("1000 leechers, 100,000 pieces", 100_000, 1000),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || swarm(pieces, leechers),
                |swarm| black_box(answer(swarm, 1000)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, picker);
criterion_main!(benches);
