//! What hashing a piece of 512 KiB costs: SHA-1 and BLAKE3 of it, each alone, together, and with the file's SHA-1 as
//! a download does; and what SHA-1 of sixteen pieces costs one after the other, each beside another, and all side by side.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::{hint::black_box, iter};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use p2p::protocol::{
    hash::{Blake3Hash, FileHash, PieceHash, Sha1Hash, blake3_root},
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
    group.bench_function("both, and the file's SHA-1", |b| {
        let mut whole = FileHash::default();
        let bytes = || iter::once(black_box(data.as_slice()));
        let sum = |whole: &mut FileHash| Sha1Hash::of_each_beside(&[bytes().collect()], whole, bytes());
        b.iter(|| (sum(&mut whole), Blake3Hash::of_piece(PieceIndex(1), 4, bytes())));
    });
    group.finish();
}

fn many_sums(c: &mut Criterion) {
    let data: Vec<u8> = (0..16 * PIECE_SIZE).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let pieces = || data.chunks(PIECE_SIZE as usize);
    let mut group = c.benchmark_group("SHA-1 of sixteen pieces");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("one after the other", |b| {
        b.iter(|| pieces().map(|piece| sha1::Sha1::digest(black_box(piece))).collect::<Vec<_>>());
    });
    group.bench_function("each beside the whole", |b| {
        let mut whole = FileHash::default();
        b.iter(|| {
            let beside = |piece| Sha1Hash::of_each_beside(&[vec![piece]], &mut whole, iter::once(piece));
            pieces().map(black_box).map(beside).collect::<Vec<_>>()
        });
    });
    group.bench_function("side by side", |b| {
        b.iter(|| Sha1Hash::of_each(&pieces().map(|piece| vec![black_box(piece)]).collect::<Vec<_>>()));
    });
    group.bench_function("side by side, and the whole", |b| {
        let mut whole = FileHash::default();
        b.iter(|| {
            Sha1Hash::of_each_beside(
                &pieces().map(|piece| vec![black_box(piece)]).collect::<Vec<_>>(),
                &mut whole,
                pieces(),
            )
        });
    });
    group.finish();
}

fn root(c: &mut Criterion) {
    let pieces: Vec<PieceHash> =
        (0..8192u32).map(|i| PieceHash::of(PieceIndex(i), 8192, [i.to_le_bytes().as_slice()])).collect();
    c.bench_function("root of 4 GiB from its pieces", |b| b.iter(|| blake3_root(black_box(&pieces))));
}

criterion_group!(benches, piece, many_sums, root);
criterion_main!(benches);
