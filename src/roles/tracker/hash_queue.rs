//! Whose password is hashed next: few at a time, and each network in its turn. Pure.
//!
//! One hash takes 19 MiB and some 20 ms of a core, so what waits is bounded, for each network and in all: beyond that an attempt
//! is refused, and where all is taken the network that has the most waiting gives way. Logins go before registrations, which
//! anybody may send without an account; but of so many turns in a row one is a registration's.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

/// Attempts of one network that wait at most.
const PER_NETWORK: usize = 64;
/// Attempts of one kind that wait at most, all networks together.
const MOST: usize = 1024;
/// Logins in a row while a registration waits.
const LOGINS_IN_A_ROW: u32 = 4;

/// What a password is hashed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To compare it, or to set a new one in a session.
    Login,
    /// To register an account.
    Registration,
}

/// What becomes of who wants to hash.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered<T> {
    /// It may begin at once.
    Admitted(T),
    /// It waits; somebody else does no longer.
    Waits {
        /// Refused in its place.
        displaced: Option<T>,
    },
    /// Too much waits already.
    Refused,
}

/// All who hash or wait.
#[derive(Debug)]
pub(super) struct HashQueue<T> {
    parallel: usize,
    running: usize,
    logins: Line<T>,
    registrations: Line<T>,
    logins_in_a_row: u32,
}

/// Those of one kind who wait, by network.
#[derive(Debug)]
struct Line<T> {
    by_network: BTreeMap<IpAddr, VecDeque<T>>,
    /// Networks in the order of their turns; each once.
    order: VecDeque<IpAddr>,
    count: usize,
}

impl<T> HashQueue<T> {
    /// `parallel` are hashed at the same time.
    pub(super) fn new(parallel: usize) -> Self {
        Self { parallel, running: 0, logins: Line::new(), registrations: Line::new(), logins_in_a_row: 0 }
    }

    /// Somebody wants to hash.
    pub(super) fn enter(&mut self, purpose: Purpose, network: IpAddr, who: T) -> Entered<T> {
        if self.running < self.parallel {
            self.running += 1;
            return Entered::Admitted(who);
        }
        match purpose {
            Purpose::Login => self.logins.push(network, who),
            Purpose::Registration => self.registrations.push(network, who),
        }
    }

    /// Somebody has hashed; returns who may begin.
    pub(super) fn leave(&mut self) -> Option<T> {
        let is_registration_due = self.logins_in_a_row >= LOGINS_IN_A_ROW || self.logins.count == 0;
        let next = if is_registration_due { self.registrations.pop() } else { None };
        if let Some(next) = next {
            self.logins_in_a_row = 0;
            return Some(next);
        }
        let next = self.logins.pop();
        match next {
            Some(_) => self.logins_in_a_row = LOGINS_IN_A_ROW.min(self.logins_in_a_row + 1),
            None => self.running -= 1,
        }
        next
    }
}

impl<T> Line<T> {
    fn new() -> Self {
        Self { by_network: BTreeMap::new(), order: VecDeque::new(), count: 0 }
    }

    fn waiting(&self, network: &IpAddr) -> usize {
        self.by_network.get(network).map_or(0, VecDeque::len)
    }

    fn push(&mut self, network: IpAddr, who: T) -> Entered<T> {
        let own = self.waiting(&network);
        if own >= PER_NETWORK {
            return Entered::Refused;
        }
        let displaced = if self.count >= MOST {
            let Some(displaced) = self.displace(own) else { return Entered::Refused };
            Some(displaced)
        } else {
            None
        };
        if own == 0 {
            self.order.push_back(network);
        }
        self.by_network.entry(network).or_default().push_back(who);
        self.count += 1;
        Entered::Waits { displaced }
    }

    /// Takes out the last one of the network that has the most waiting, if that is more than one beyond `own`.
    fn displace(&mut self, own: usize) -> Option<T> {
        let (_, waiting) = self.by_network.iter_mut().max_by_key(|(_, waiting)| waiting.len())?;
        if waiting.len() <= own + 1 {
            return None;
        }
        self.count -= 1;
        waiting.pop_back()
    }

    fn pop(&mut self) -> Option<T> {
        let network = self.order.pop_front()?;
        let waiting = self.by_network.get_mut(&network)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.by_network.remove(&network);
        } else {
            self.order.push_back(network);
        }
        self.count -= usize::from(next.is_some());
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn waits(queue: &mut HashQueue<u32>, purpose: Purpose, from: u8, who: u32) {
        assert_eq!(queue.enter(purpose, network(from), who), Entered::Waits { displaced: None });
    }

    #[test]
    fn a_flood_from_one_network_costs_another_one_turn() {
        let mut queue = HashQueue::new(1);
        assert_eq!(queue.enter(Purpose::Login, network(1), 0), Entered::Admitted(0));
        let taken = (1..=1000).filter(|n| queue.enter(Purpose::Login, network(1), *n) != Entered::Refused).count();
        assert_eq!(taken, PER_NETWORK);
        waits(&mut queue, Purpose::Login, 2, 2000);
        waits(&mut queue, Purpose::Login, 2, 2001);
        let served: Vec<_> = std::iter::from_fn(|| queue.leave()).take(4).collect();
        assert_eq!(served, [1, 2000, 2, 2001]);
    }

    #[test]
    fn registrations_wait_for_logins_but_not_for_ever() {
        let mut queue = HashQueue::new(1);
        assert_eq!(queue.enter(Purpose::Registration, network(1), 0), Entered::Admitted(0));
        (100..103).for_each(|n| waits(&mut queue, Purpose::Registration, 1, n));
        (1..7).for_each(|n| waits(&mut queue, Purpose::Login, 2, n));
        let served: Vec<_> = std::iter::from_fn(|| queue.leave()).collect();
        assert_eq!(served, [1, 2, 3, 4, 100, 5, 6, 101, 102]);
        assert_eq!(queue.enter(Purpose::Login, network(1), 9), Entered::Admitted(9), "nobody hashes any more");
    }

    #[test]
    fn where_all_is_taken_the_network_with_the_most_gives_way() {
        let mut queue = HashQueue::new(0);
        for n in 0..MOST {
            waits(&mut queue, Purpose::Login, u8::try_from(n / PER_NETWORK).unwrap(), u32::try_from(n).unwrap());
        }
        let newcomer = queue.enter(Purpose::Login, network(200), 9999);
        assert!(matches!(newcomer, Entered::Waits { displaced: Some(_) }), "{newcomer:?}");
        assert_eq!(queue.logins.count, MOST);
        assert_eq!(queue.enter(Purpose::Login, network(0), 1), Entered::Refused);
    }

    proptest! {
        #[test]
        fn everybody_who_waits_has_a_turn_or_is_told(
            moves in prop::collection::vec((any::<bool>(), any::<bool>(), 0u8..5), 0..400), parallel in 1usize..4
        ) {
            let (mut queue, mut running, mut waiting) = (HashQueue::new(parallel), 0, std::collections::BTreeSet::new());
            for (n, (enters, registers, from)) in (0u32..).zip(moves) {
                if enters {
                    let purpose = if registers { Purpose::Registration } else { Purpose::Login };
                    match queue.enter(purpose, network(from), n) {
                        Entered::Admitted(_) => running += 1,
                        Entered::Waits { displaced } => {
                            waiting.insert(n);
                            prop_assert!(displaced.is_none_or(|who| waiting.remove(&who)));
                        }
                        Entered::Refused => prop_assert!(waiting.len() >= PER_NETWORK),
                    }
                } else if running > 0 {
                    match queue.leave() {
                        Some(who) => prop_assert!(waiting.remove(&who)),
                        None => running -= 1,
                    }
                }
                prop_assert!(running <= parallel && (waiting.is_empty() || running == parallel));
                prop_assert_eq!(queue.logins.count + queue.registrations.count, waiting.len());
            }
        }
    }
}
