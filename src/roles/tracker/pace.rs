//! How fast requests are taken, for each user over all links, and for each network as long as nobody is logged in. Pure; time is
//! passed in.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

use crate::protocol::{
    client::{Request, ToTracker},
    ids::UserId,
};

/// Time's worth of requests that may be saved up.
const BURST: Duration = Duration::from_secs(2);
/// Accounts kept before those that owe nothing are looked for.
const FEW: usize = 1024;
/// Files in a message about presence that cost as much as a question.
const FILES_PER_UNIT: usize = 100;

/// Who pays for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Payer {
    User(UserId),
    /// Those in a network who are not logged in.
    Network(IpAddr),
}

/// What everybody has taken lately.
#[derive(Debug)]
pub(super) struct Paces {
    /// Units a second for each payer; 0 is no limit.
    per_s: u32,
    /// Until when what was taken is paid for. Who is not here owes nothing, and has saved up all that can be.
    paid_at: BTreeMap<Payer, Instant>,
    look_at: usize,
}

impl Paces {
    pub(super) fn new(per_s: u32) -> Self {
        Self { per_s, paid_at: BTreeMap::new(), look_at: FEW }
    }

    /// A payer takes `units`; returns how long until it may take more.
    pub(super) fn take(&mut self, now: Instant, payer: Payer, units: u32) -> Duration {
        if self.per_s == 0 {
            return Duration::ZERO;
        }
        self.forget_the_paid(now);
        let saved_from = now.checked_sub(BURST).unwrap_or(now);
        let start = self.paid_at.get(&payer).map_or(saved_from, |paid_at| (*paid_at).max(saved_from));
        let paid_at = start + Duration::from_secs(1) * units / self.per_s;
        self.paid_at.insert(payer, paid_at);
        paid_at.saturating_duration_since(now)
    }

    fn forget_the_paid(&mut self, now: Instant) {
        if self.paid_at.len() >= self.look_at {
            self.paid_at.retain(|_, paid_at| *paid_at + BURST > now);
            self.look_at = FEW.max(2 * self.paid_at.len());
        }
    }
}

/// What a message costs, in questions for one thing.
pub(super) fn cost(message: &ToTracker) -> u32 {
    let files = |count: usize| u32::try_from(count / FILES_PER_UNIT).unwrap_or(u32::MAX);
    match message {
        ToTracker::Hello { .. } | ToTracker::Ping => 1,
        ToTracker::Presence(presence) => 1 + files(presence.serving.len() + presence.ended.len()),
        ToTracker::Request { request, .. } => match request {
            Request::ListGroups { .. }
            | Request::ListFiles { .. }
            | Request::ListMembers { .. }
            | Request::ListRequests { .. }
            | Request::CheckMembers { .. }
            | Request::GetSwarm { .. }
            | Request::GetPage { .. }
            | Request::PutPage { .. }
            | Request::OfferManifest { .. } => 4,
            request if request.is_write() => 2,
            _ => 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANN: Payer = Payer::User(UserId([1; 32]));
    const BOB: Payer = Payer::User(UserId([2; 32]));

    #[test]
    fn so_many_a_second_after_what_was_saved_up_and_nobody_pays_for_others() {
        let (mut paces, now) = (Paces::new(1000), Instant::now());
        let saved_up = (0..9999).take_while(|_| paces.take(now, ANN, 1).is_zero()).count();
        assert_eq!(saved_up, 2000);
        let mut waited = Duration::from_millis(1);
        for _ in 0..5000 {
            assert!(paces.take(now + waited, BOB, 1).is_zero());
            waited += paces.take(now + waited, ANN, 1);
        }
        assert_eq!(waited.as_millis(), 5001);
    }

    #[test]
    fn who_pauses_saves_up_again_and_no_more_than_before() {
        let (mut paces, now) = (Paces::new(1000), Instant::now());
        assert_eq!(paces.take(now, ANN, 3000), Duration::from_secs(1));
        let later = now + Duration::from_secs(2);
        assert_eq!(paces.take(later, ANN, 1000), Duration::ZERO);
        assert_eq!(paces.take(now + Duration::from_hours(1), ANN, 2001), Duration::from_millis(1));
        assert_eq!(Paces::new(0).take(now, ANN, u32::MAX), Duration::ZERO);
    }

    /// With a tracker that answers five times as many as one user may ask, a flood leaves four fifths to others.
    #[test]
    fn a_flood_over_many_links_leaves_others_four_fifths_of_a_tracker() {
        let (mut paces, begin) = (Paces::new(1000), Instant::now());
        let capacity = Duration::from_secs(1) / 5000;
        let (mut free_at, mut others) = (vec![begin; 64], 0u32);
        for slot in 0..50_000 {
            let now = begin + capacity * slot;
            match free_at.iter_mut().find(|at| **at <= now) {
                Some(link) => *link = now + paces.take(now, ANN, 1),
                None => others += 1,
            }
        }
        assert!(others > 50_000 * 4 / 5 - 2000 - 64, "{others}");
    }

    #[test]
    fn what_nobody_owes_is_forgotten() {
        let (mut paces, mut now) = (Paces::new(1000), Instant::now());
        for n in 0..100_000u32 {
            now += Duration::from_millis(1);
            paces.take(now, Payer::Network(IpAddr::from(n.to_be_bytes())), 1);
            assert!(paces.paid_at.len() <= 4 * 2000);
        }
    }

    proptest! {
        #[test]
        fn no_span_sees_more_than_its_rate_and_what_was_saved_up(pauses in prop::collection::vec((0u64..50, 1u32..10), 1..200)) {
            let (mut paces, begin) = (Paces::new(100), Instant::now());
            let (mut now, mut units) = (begin, 0);
            for (pause, cost) in pauses {
                now += Duration::from_millis(pause);
                let wait = paces.take(now, ANN, cost);
                units += cost;
                let allowed = ((now + wait - begin) + BURST).as_secs_f64() * 100.0;
                prop_assert!(f64::from(units) <= allowed + 0.001, "{units} of {allowed}");
                now += wait;
            }
        }
    }
}
