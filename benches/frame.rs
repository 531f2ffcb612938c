//! What framing costs: a block of 128 KiB taken off a full buffer, and a request written and read.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use p2p::protocol::{
    file_names::FileRef,
    frame::{BLOCK, MESSAGE, put_brief_message, read_message, take_frame},
    ids::FileId,
    limits::{MAX_BLOCK_FRAME, MAX_PEER_MESSAGE},
    peer::{PeerMessage, put_block_header, read_block},
    piece::{BLOCK_SIZE, Block, PIECE_SIZE, PieceIndex, blocks},
};

fn limit(kind: u8) -> Option<usize> {
    match kind {
        MESSAGE => Some(MAX_PEER_MESSAGE),
        BLOCK => Some(MAX_BLOCK_FRAME),
        _ => None,
    }
}

fn block(c: &mut Criterion) {
    let block = Block { piece: PieceIndex(7), offset: 0, length: BLOCK_SIZE };
    let mut wire = BytesMut::new();
    put_block_header(&FileId([1; 32]), block, &mut wire);
    wire.resize(wire.len() + BLOCK_SIZE as usize, 0);
    let mut group = c.benchmark_group("block");
    group.throughput(Throughput::Bytes(u64::from(BLOCK_SIZE)));
    group.bench_function("take and read", |b| {
        b.iter_batched_ref(
            || wire.clone(),
            |wire| {
                let frame = take_frame(wire, limit).expect("it was well formed").expect("it was whole");
                read_block(frame.body)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn request(c: &mut Criterion) {
    let message = PeerMessage::Request { file: FileRef::Short(1), blocks: blocks(PieceIndex(3), PIECE_SIZE).collect() };
    c.bench_function("request of a piece, there and back", |b| {
        let mut wire = BytesMut::new();
        b.iter(|| {
            put_brief_message(black_box(&message), &mut wire);
            let frame = take_frame(&mut wire, limit).expect("it was well formed").expect("it was whole");
            read_message::<PeerMessage<FileRef>>(&frame)
        });
    });
}

criterion_group!(benches, block, request);
criterion_main!(benches);
