//! What a link costs: blocks of 128 KiB over loopback TCP, encrypted at one end and decrypted at the other.
//!
//! Both ends share one thread and what is measured is its CPU time, system calls included, so that the figure is the CPU
//! seconds of both processes together and others at work beside it disturb it little.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use p2p::{
    protocol::{
        device::DeviceSecret,
        ids::FileId,
        piece::{BLOCK_SIZE, Block, PieceIndex},
    },
    transport::{
        Transport as _,
        link::{LinkReader, LinkWriter, accept, dial},
        tcp::Tcp,
        tls::{Identity, Protocol},
    },
};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;

/// Blocks queued before each flush, as many as a peer's link takes.
const QUEUED: u32 = 2;
/// Flushes in one measurement.
const FLUSHES: u32 = 128;
const FILE: FileId = FileId([1; 32]);

fn blocks_over_tcp(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("the system has a poller to give");
    let (mut writer, mut reader) = runtime.block_on(connected());
    let mut group = c.benchmark_group("link");
    group.throughput(Throughput::Bytes(u64::from(FLUSHES * QUEUED * BLOCK_SIZE)));
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function("blocks over TCP, CPU time of both ends", |b| {
        b.iter_custom(|count| {
            let before = cpu_time();
            for _ in 0..count {
                runtime.block_on(async { tokio::join!(send(&mut writer), receive(&mut reader)) });
            }
            cpu_time().saturating_sub(before)
        });
    });
    group.finish();
}

async fn connected() -> (LinkWriter, LinkReader) {
    let [one, two] = [1, 2].map(|seed| Identity::new(&DeviceSecret::from_seed([seed; 32])));
    let listener = Tcp.listen("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_address().expect("it is bound").to_string();
    let accepted = async { accept(listener.accept().await.expect("somebody dials").0, &two).await };
    let (dialled, accepted) = tokio::join!(dial(&Tcp, &one, &address, Protocol::Peer, None), accepted);
    let reader = accepted.expect("it was dialled").split().0;
    reader.trust().give();
    (dialled.expect("it was accepted").split().1, reader)
}

async fn send(writer: &mut LinkWriter) {
    let block = Block { piece: PieceIndex(0), offset: 0, length: BLOCK_SIZE };
    let payload = Bytes::from(vec![7; BLOCK_SIZE as usize]);
    for _ in 0..FLUSHES {
        (0..QUEUED).for_each(|_| writer.queue_block(&FILE, block, payload.clone()));
        writer.flush().await.expect("the other end reads");
    }
}

async fn receive(reader: &mut LinkReader) {
    for _ in 0..FLUSHES * QUEUED {
        reader.frame().await.expect("the other end sends frames").expect("it does not end");
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("time that passed is not negative")
}

criterion_group!(benches, blocks_over_tcp);
criterion_main!(benches);
