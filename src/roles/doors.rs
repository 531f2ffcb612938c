//! Who may be inside at once: guests of a port, counted by network and in all. Pure.
//!
//! Nobody who has shown who they are gives way to somebody who has not. When there is no room, the stranger who has been inside
//! for longest leaves, of the network that holds most strangers: a flood from one place pushes out itself.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

/// How many may be inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Guests, and of them from one network.
    pub(super) all: Share,
    /// Guests who have not shown who they are, and of them from one network.
    pub(super) strangers: Share,
}

/// A bound in all, and one for each network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) in_all: usize,
    pub(super) per_network: usize,
}

/// The guests, each named by a number of the caller's.
#[derive(Debug)]
pub(super) struct Doors {
    capacity: Capacity,
    guests: BTreeMap<u64, Guest>,
    all: Crowd,
    strangers: Crowd,
    arrivals: u64,
}

#[derive(Clone, Copy, Debug)]
struct Guest {
    network: IpAddr,
    arrival: u64,
    is_known: bool,
}

impl Doors {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self { capacity, guests: BTreeMap::new(), all: Crowd::default(), strangers: Crowd::default(), arrivals: 0 }
    }

    /// Lets a stranger in; returns who has left for that, if anybody. `Err`: there is no room, and nobody who would have to leave.
    pub(super) fn enter(&mut self, guest: u64, from: IpAddr) -> Result<Option<u64>, ()> {
        let network = network(from);
        let evicted = self.who_leaves(network)?;
        if let Some(evicted) = evicted {
            self.leave(evicted);
        }
        self.arrivals += 1;
        let new = Guest { network, arrival: self.arrivals, is_known: false };
        self.guests.insert(guest, new);
        self.all.add(network, (new.arrival, guest));
        self.strangers.add(network, (new.arrival, guest));
        Ok(evicted)
    }

    /// A guest has shown who they are, or is a stranger again.
    pub(super) fn recognize(&mut self, guest: u64, is_known: bool) {
        let Some(found) = self.guests.get_mut(&guest).filter(|found| found.is_known != is_known) else { return };
        found.is_known = is_known;
        let (network, place) = (found.network, (found.arrival, guest));
        if is_known { self.strangers.remove(network, place) } else { self.strangers.add(network, place) }
    }

    /// A guest is gone.
    pub(super) fn leave(&mut self, guest: u64) {
        let Some(Guest { network, arrival, is_known }) = self.guests.remove(&guest) else { return };
        self.all.remove(network, (arrival, guest));
        if !is_known {
            self.strangers.remove(network, (arrival, guest));
        }
    }

    /// The stranger who would have to leave now, were there no room.
    pub(super) fn next_to_leave(&self) -> Option<u64> {
        self.strangers.oldest_of_most()
    }

    fn who_leaves(&self, network: IpAddr) -> Result<Option<u64>, ()> {
        let Capacity { all, strangers } = self.capacity;
        let is_network_full =
            self.all.count(network) >= all.per_network || self.strangers.count(network) >= strangers.per_network;
        if is_network_full {
            return self.strangers.oldest_of(network).map(Some).ok_or(());
        }
        if self.all.total() >= all.in_all || self.strangers.total() >= strangers.in_all {
            return self.next_to_leave().map(Some).ok_or(());
        }
        Ok(None)
    }
}

/// Guests of one kind, by network.
#[derive(Debug, Default)]
struct Crowd {
    by_network: BTreeMap<IpAddr, BTreeSet<(u64, u64)>>,
    /// The last network has most guests; of several, the one whose first guest came first.
    order: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
    total: usize,
}

impl Crowd {
    fn add(&mut self, network: IpAddr, place: (u64, u64)) {
        self.change(network, |guests| guests.insert(place));
        self.total += 1;
    }

    fn remove(&mut self, network: IpAddr, place: (u64, u64)) {
        self.change(network, |guests| guests.remove(&place));
        self.total -= 1;
    }

    fn change(&mut self, network: IpAddr, change: impl FnOnce(&mut BTreeSet<(u64, u64)>) -> bool) {
        let guests = self.by_network.entry(network).or_default();
        let standing = |guests: &BTreeSet<(u64, u64)>| {
            guests.first().map(|(arrival, _)| (guests.len(), Reverse(*arrival), network))
        };
        let before = standing(guests);
        let is_changed = change(guests);
        debug_assert!(is_changed, "guests come once and go once");
        let after = standing(guests);
        if let Some(before) = before {
            self.order.remove(&before);
        }
        match after {
            Some(after) => drop(self.order.insert(after)),
            None => drop(self.by_network.remove(&network)),
        }
    }

    fn count(&self, network: IpAddr) -> usize {
        self.by_network.get(&network).map_or(0, BTreeSet::len)
    }

    fn total(&self) -> usize {
        self.total
    }

    fn oldest_of(&self, network: IpAddr) -> Option<u64> {
        self.by_network.get(&network)?.first().map(|(_, guest)| *guest)
    }

    fn oldest_of_most(&self) -> Option<u64> {
        self.oldest_of(self.order.last()?.2)
    }
}

/// Addresses that count as one: a customer of a provider has a whole /64.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: Capacity =
        Capacity { all: Share { in_all: 10, per_network: 6 }, strangers: Share { in_all: 8, per_network: 4 } };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn doors(guests: &[(u64, u8)]) -> Doors {
        let mut doors = Doors::new(CAPACITY);
        for (guest, from) in guests {
            assert_eq!(doors.enter(*guest, address(*from)), Ok(None));
        }
        doors
    }

    #[test]
    fn a_network_that_has_its_share_pushes_out_its_own_oldest_stranger() {
        let mut doors = doors(&[(1, 1), (2, 2), (3, 1), (4, 1), (5, 1)]);
        doors.recognize(1, true);
        assert_eq!(doors.enter(6, address(1)), Ok(None), "who is known is no stranger any more");
        assert_eq!(doors.enter(7, address(1)), Ok(Some(3)));
        assert_eq!(doors.enter(8, address(1)), Ok(Some(4)));
        assert_eq!(doors.enter(9, address(2)), Ok(None));
    }

    #[test]
    fn without_room_the_network_with_most_strangers_gives_way_and_nobody_known_does() {
        let mut doors = doors(&[(1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (6, 4), (7, 4), (8, 5)]);
        assert_eq!(doors.enter(9, address(9)), Ok(Some(3)));
        assert_eq!(doors.enter(10, address(9)), Ok(Some(4)), "of those with equally many, whose first came first");
        for guest in [1, 2, 5, 6, 7, 8, 9, 10] {
            doors.recognize(guest, true);
        }
        assert_eq!((doors.enter(11, address(6)), doors.enter(12, address(7))), (Ok(None), Ok(None)));
        assert_eq!(doors.enter(13, address(8)), Ok(Some(11)));
        doors.recognize(12, true);
        doors.recognize(13, true);
        assert_eq!(doors.enter(14, address(8)), Err(()), "only the known are inside");
        doors.recognize(5, false);
        assert_eq!(doors.enter(14, address(8)), Ok(Some(5)), "whose session has ended is a stranger");
    }

    #[test]
    fn a_network_full_of_the_known_is_full() {
        let mut doors = doors(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
        (1..=4).for_each(|guest| doors.recognize(guest, true));
        assert_eq!((doors.enter(5, address(1)), doors.enter(6, address(1))), (Ok(None), Ok(None)));
        doors.recognize(5, true);
        doors.recognize(6, true);
        assert_eq!(doors.enter(7, address(1)), Err(()));
        assert_eq!(doors.enter(7, address(2)), Ok(None));
        doors.leave(3);
        assert_eq!(doors.enter(8, address(1)), Ok(None));
    }

    #[test]
    fn a_flood_from_one_place_leaves_others_alone() {
        let mut doors = doors(&[(1, 1), (2, 2)]);
        for guest in 100..10_100 {
            let evicted = doors.enter(guest, address(9)).unwrap();
            assert!(evicted.is_none_or(|evicted| evicted >= 100));
        }
        assert_eq!(doors.enter(3, address(3)), Ok(None));
        assert_eq!((doors.guests.len(), doors.all.total(), doors.strangers.total()), (7, 7, 7));
    }

    #[test]
    fn a_whole_network_is_one_address() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::2".parse().unwrap()));
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), address(1));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Enter(u8),
        Recognize(u64, bool),
        Leave(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u8..6).prop_map(Step::Enter),
            1 => (0u64..60, any::<bool>()).prop_map(|(guest, is_known)| Step::Recognize(guest, is_known)),
            1 => (0u64..60).prop_map(Step::Leave),
        ]
    }

    proptest! {
        #[test]
        fn nobody_known_is_pushed_out_and_no_bound_is_passed(steps in prop::collection::vec(step(), 0..80)) {
            let mut doors = Doors::new(CAPACITY);
            for (guest, step) in (0..).zip(steps) {
                match step {
                    Step::Enter(from) => {
                        let before = doors.guests.clone();
                        let network = address(from);
                        match doors.enter(guest, network) {
                            Ok(Some(evicted)) => prop_assert!(!before[&evicted].is_known),
                            Ok(None) => {}
                            Err(()) => {
                                let others = before.values().filter(|guest| guest.network == network || before.len() >= 10);
                                prop_assert!(others.count() > 0);
                                prop_assert_eq!(doors.guests.len(), before.len());
                            }
                        }
                        prop_assert!(doors.guests.len() <= 10 && doors.all.count(network) <= 6);
                    }
                    Step::Recognize(guest, is_known) => doors.recognize(guest, is_known),
                    Step::Leave(guest) => doors.leave(guest),
                }
                prop_assert_eq!(doors.all.total(), doors.guests.len());
                prop_assert_eq!(doors.strangers.total(), doors.guests.values().filter(|guest| !guest.is_known).count());
                prop_assert_eq!(doors.all.order.len(), doors.all.by_network.len());
            }
        }
    }
}
