//! Two trackers and four peers: both sides of a partition write, everything meets again; a tracker loses its power while
//! a file comes from several seeders; the other one dies when the first is back.

use std::time::Duration;

use p2p::{
    protocol::error::ErrorCode,
    roles::client::command::{DownloadState, Reply},
};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::sleep;

use super::Script;
use crate::{
    cluster::{Cluster, Faults, Outcome},
    disk::Crash,
    oracle::Oracle,
    role::{Peer, groups, peer, trackers, uploaded},
};

/// Several pieces, the last one cut short.
const BOOK_BYTES: usize = 5 * 512 * 1024 + 1000;

struct First {
    faults: Faults,
    oracle: Oracle,
    rng: ChaCha20Rng,
    alice: Peer,
    bob: Peer,
    carol: Peer,
    dave: Peer,
    book: Vec<u8>,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    cluster.lay_even_links();
    let info = trackers(cluster, &[("tracker1", 0), ("tracker2", 3_600_000)]);
    let [alice, bob, carol, dave] = [("alice", 0), ("bob", -20_000), ("carol", 3_600_000), ("dave", 5_000)]
        .map(|(name, skew_ms)| peer(cluster, name, skew_ms, &info));
    let mut rng = cluster.rng();
    let mut book = vec![0; BOOK_BYTES];
    rng.fill_bytes(&mut book);
    let mut first =
        First { faults: cluster.faults(), oracle: Oracle::new(cluster), rng, alice, bob, carol, dave, book };
    Box::pin(async move {
        first.a_group_forms().await?;
        first.a_file_spreads().await?;
        first.both_sides_of_a_partition_write().await?;
        first.oracle.at_rest().await?;
        first.a_tracker_dies_during_a_download().await?;
        first.the_other_tracker_dies().await?;
        Ok(first.oracle.look()?)
    })
}

impl First {
    async fn a_group_forms(&self) -> Outcome {
        for peer in [&self.alice, &self.bob, &self.carol, &self.dave] {
            peer.joins_the_users().await?;
        }
        self.alice.does("create_group books").await?;
        self.bob.is_refused("list_files books", ErrorCode::NotAMember).await?;
        for peer in [&self.bob, &self.carol, &self.dave] {
            peer.joins(&self.alice, "books").await?;
        }
        Ok(())
    }

    async fn a_file_spreads(&self) -> Outcome {
        self.alice.shares("book", &self.book, "books").await?;
        for peer in [&self.bob, &self.carol] {
            peer.does("download_file books book /home/").await?;
            peer.does("wait books book").await?;
            peer.must_have("/home/book", &self.book)?;
        }
        Ok(())
    }

    /// Alice and Bob are left with one tracker, Carol and Dave with the other.
    async fn both_sides_of_a_partition_write(&self) -> Outcome {
        let cuts = [
            ("tracker1", "tracker2"),
            ("alice", "tracker2"),
            ("bob", "tracker2"),
            ("carol", "tracker1"),
            ("dave", "tracker1"),
        ];
        for (one, two) in cuts {
            self.faults.partition(one, two).await;
        }
        sleep(Duration::from_secs(10)).await;
        self.alice.does("create_group left").await?;
        self.carol.does("create_group right").await?;
        self.bob.does("create_group same").await?;
        self.dave.does("create_group same").await?;
        self.bob.does("leave_group books").await?;
        for (one, two) in cuts {
            self.faults.heal(one, two).await;
        }
        let everything = ["books", "left", "right", "same"];
        for peer in [&self.alice, &self.bob, &self.carol, &self.dave] {
            peer.sees("list_groups", |reply| {
                let names = groups(reply);
                everything.iter().all(|name| names.contains(*name)) && names.len() == everything.len() + 1
            })
            .await?;
        }
        let (left, right) = (self.alice.does("list_groups").await?, self.dave.does("list_groups").await?);
        if groups(&left) != groups(&right) {
            return Err(format!("no convergence: {left:?}, {right:?}").into());
        }
        self.dave
            .sees("list_members books", |reply| matches!(reply, Reply::Members(members) if members.len() == 3))
            .await?;
        self.bob.is_refused("list_files books", ErrorCode::NotAMember).await
    }

    /// Dave has two seeders, Alice and Carol.
    async fn a_tracker_dies_during_a_download(&mut self) -> Outcome {
        let before = (uploaded(&self.alice).await?, uploaded(&self.carol).await?);
        // Long enough that whoever may serve has its turn.
        self.dave.does("set_limit down 1MiB").await?;
        self.dave.does("download_file books book /home/").await?;
        sleep(Duration::from_millis(self.rng.next_u64() % 1000)).await;
        self.oracle.crash("tracker1", Crash::Power).await?;
        self.alice.does("create_group meanwhile").await?;
        self.dave.does("wait books book").await?;
        self.dave.must_have("/home/book", &self.book)?;
        let after = (uploaded(&self.alice).await?, uploaded(&self.carol).await?);
        // Alice's tracker is the one that dies: while it does not vouch for Dave's ticket she serves nothing, and Carol may be done
        // by the time she gives it up.
        if after.1 == before.1 {
            return Err(format!("Carol served nothing: {before:?}, {after:?}").into());
        }
        let reply = self.dave.does("show_downloads").await?;
        match &reply {
            Reply::Downloads { downloads, .. } if downloads.iter().all(|row| row.state == DownloadState::Complete) => {
                Ok(())
            }
            _ => Err(format!("dave: {reply:?}").into()),
        }
    }

    /// What was acknowledged while the first tracker was down is there when the second one is.
    async fn the_other_tracker_dies(&mut self) -> Outcome {
        self.faults.restart("tracker1").await;
        sleep(Duration::from_secs(20)).await;
        self.oracle.crash("tracker2", Crash::Process).await?;
        for peer in [&self.alice, &self.bob, &self.carol, &self.dave] {
            peer.sees("list_groups", |reply| groups(reply).contains("meanwhile")).await?;
        }
        self.dave.does("create_group afterwards").await?;
        Ok(())
    }
}
