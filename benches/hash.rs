//! What verifying a piece costs: SHA-1 and BLAKE3 of 512 KiB, each alone and as the program does it.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use p2p::protocol::{
    hash::{PieceHash, blake3_root},
    piece::{PIECE_SIZE, PieceIndex},
};
use sha1::Digest as _;

fn piece(c: &mut Criterion) {
    let data: Vec<u8> = (0..PIECE_SIZE).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut group = c.benchmark_group("piece");
    group.throughput(Throughput::Bytes(u64::from(PIECE_SIZE)));
    group.bench_function("sha1", |b| b.iter(|| sha1::Sha1::digest(black_box(&data))));
    group.bench_function("blake3", |b| b.iter(|| blake3::hash(black_box(&data))));
    group.bench_function("both", |b| b.iter(|| PieceHash::of(PieceIndex(1), 4, [black_box(data.as_slice())])));
    group.finish();
}

fn root(c: &mut Criterion) {
    let pieces: Vec<PieceHash> =
        (0..8192u32).map(|i| PieceHash::of(PieceIndex(i), 8192, [i.to_le_bytes().as_slice()])).collect();
    c.bench_function("root of 4 GiB from its pieces", |b| b.iter(|| blake3_root(black_box(&pieces))));
}

criterion_group!(benches, piece, root);
criterion_main!(benches);
