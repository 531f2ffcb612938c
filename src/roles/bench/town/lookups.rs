//! Load of questions that the catalog alone answers.

use std::time::Duration;

use rand_chacha::rand_core::Rng as _;
use tokio::{task::JoinSet, time::Instant};

use super::{
    super::BenchError,
    census::{self, Census},
    cluster::Cluster,
    line::{Line, Told},
    meter::{Meter, Rate, Tally},
};
use crate::protocol::{
    client::{Answer, Request},
    version::VersionVector,
};

/// Looks files up by name for some time, all over the catalog, on `links` links, half of them at each tracker.
pub(in super::super) async fn run(cluster: &Cluster, links: u32, time: Duration) -> Result<(Rate, bool), BenchError> {
    let (mut askers, census) = (Vec::new(), cluster.census);
    for link in 0..links {
        let no = if link.is_multiple_of(2) { 1 } else { 2 };
        askers.push((cluster.line(no, 0, 400 + u64::from(link)).await?, cluster.env.rng("bench lookups", link.into())));
    }
    let meter = Meter::start(cluster);
    let (end, mut running, mut tally) = (Instant::now() + time, JoinSet::new(), Tally::default());
    for (mut line, mut rng) in askers {
        running.spawn(async move {
            let put = |line: &mut Line| {
                let share = rng.next_u32() % census.shares;
                let (group, file) = (census::group_name(census.sharer(share).0), census::file_name(share));
                (line.put(VersionVector::default(), Request::FindFile { group, file }), share)
            };
            line.keep_asking(end, put, |share, told| is_right(&census, share, told)).await
        });
    }
    for done in running.join_all().await {
        tally.add(done?);
    }
    let rate = meter.stop(cluster, &mut tally);
    Ok((rate, tally.wrong == 0))
}

fn is_right(census: &Census, share: u32, told: Told) -> bool {
    let Ok(Answer::File { info, manifest }) = told.result else { return false };
    let (group, k) = census.sharer(share);
    !told.stale
        && info.group == census::group(group)
        && info.name == census::file_name(share)
        && info.shared_by == [census::user_name(census.member(group, k))]
        && manifest.size == census::FILE_SIZE
        && manifest.id() == info.manifest
}
