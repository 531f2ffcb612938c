//! Two trackers and four peers: both sides of a partition write, everything meets again; a tracker loses its power,
//! and the other one dies when the first is back.

use std::time::Duration;

use p2p::{protocol::error::ErrorCode, roles::client::command::Reply};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::sleep;

use super::Script;
use crate::{
    cluster::{Cluster, Faults, Outcome},
    disk::Crash,
    role::{Peer, groups, peer, trackers},
};

struct First {
    faults: Faults,
    rng: ChaCha20Rng,
    alice: Peer,
    bob: Peer,
    carol: Peer,
    dave: Peer,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let info = trackers(cluster, &[("tracker1", 0), ("tracker2", 3_600_000)]);
    let [alice, bob, carol, dave] = [("alice", 0), ("bob", -20_000), ("carol", 3_600_000), ("dave", 5_000)]
        .map(|(name, skew_ms)| peer(cluster, name, skew_ms, &info));
    let rng = cluster.rng();
    let mut first = First { faults: cluster.faults(), rng, alice, bob, carol, dave };
    Box::pin(async move {
        first.a_group_forms().await?;
        first.both_sides_of_a_partition_write().await?;
        first.a_tracker_loses_its_power().await?;
        first.the_other_tracker_dies().await
    })
}

impl First {
    async fn a_group_forms(&self) -> Outcome {
        for peer in [&self.alice, &self.bob, &self.carol, &self.dave] {
            peer.joins_the_users().await?;
        }
        self.alice.does("create_group books").await?;
        self.bob.is_refused("list_files books", ErrorCode::NotAMember).await?;
        for (peer, name) in [(&self.bob, "bob"), (&self.carol, "carol"), (&self.dave, "dave")] {
            peer.does("join_group books").await?;
            self.alice.does(&format!("accept_request books {name}")).await?;
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

    async fn a_tracker_loses_its_power(&mut self) -> Outcome {
        sleep(Duration::from_millis(self.rng.next_u64() % 1000)).await;
        self.faults.crash("tracker1", Crash::Power).await;
        self.alice.does("create_group meanwhile").await?;
        Ok(())
    }

    /// What was acknowledged while the first tracker was down is there when the second one is.
    async fn the_other_tracker_dies(&self) -> Outcome {
        self.faults.restart("tracker1").await;
        sleep(Duration::from_secs(20)).await;
        self.faults.crash("tracker2", Crash::Process).await;
        for peer in [&self.alice, &self.bob, &self.carol, &self.dave] {
            peer.sees("list_groups", |reply| groups(reply).contains("meanwhile")).await?;
        }
        self.dave.does("create_group afterwards").await?;
        Ok(())
    }
}
