//! A downloader that dies over and over, and a seeder that dies once: after each login the download goes on where it was,
//! no verified piece is fetched again, and the file is right in the end.

use std::time::Duration;

use rand_chacha::rand_core::Rng as _;
use tokio::time::sleep;

use super::Script;
use crate::{
    cluster::{Cluster, Outcome},
    disk::Crash,
    role::{Peer, peer, trackers},
};

/// Bytes in a piece.
const PIECE: usize = 512 * 1024;
/// Many pieces, the last one cut short.
const FILM_BYTES: usize = 24 * PIECE + 77;
/// Deaths of the downloader.
const DEATHS: u64 = 3;
/// Bytes that may travel again for each death: those of the pieces in flight.
const LOST_BYTES: u64 = 4 * PIECE as u64;

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let info = trackers(cluster, &[("tracker1", 0), ("tracker2", 2_000)]);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| peer(cluster, name, 0, &info));
    let (faults, mut rng) = (cluster.faults(), cluster.rng());
    let mut film = vec![0; FILM_BYTES];
    rng.fill_bytes(&mut film);
    Box::pin(async move {
        group_with_film(&alice, &[&bob, &carol], &film).await?;
        carol.does("download_file films film /home/").await?;
        carol.does("wait films film").await?;
        let before = bob.received_bytes();
        bob.does("set_limit down 2MiB").await?;
        bob.does("download_file films film /home/").await?;
        for death in 0..DEATHS {
            sleep(Duration::from_millis(500 + rng.next_u64() % 1200)).await;
            let how = if rng.next_u32() & 1 == 0 { Crash::Power } else { Crash::Process };
            faults.crash("bob", how).await;
            if death == 1 {
                faults.crash("carol", Crash::Process).await;
            }
            faults.restart("bob").await;
            bob.does("login bob secret-of-bob").await?;
            bob.does("set_limit down 2MiB").await?;
        }
        bob.does("wait films film").await?;
        bob.must_have("/home/film", &film)?;
        let received = bob.received_bytes() - before;
        tracing::info!(received, "bytes received by bob");
        let most = FILM_BYTES as u64 + DEATHS * LOST_BYTES;
        if received > most { Err(format!("{received} bytes were received, more than {most}").into()) } else { Ok(()) }
    })
}

/// Alice shares the film with the others.
async fn group_with_film(alice: &Peer, others: &[&Peer], film: &[u8]) -> Outcome {
    alice.joins_the_users().await?;
    alice.sees_trackers_agree().await?;
    alice.does("create_group films").await?;
    for peer in others {
        peer.joins_the_users().await?;
        peer.joins(alice, "films").await?;
    }
    alice.shares("film", film, "films").await?;
    Ok(())
}
