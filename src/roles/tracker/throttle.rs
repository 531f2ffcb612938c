//! Failed logins: delays that grow, per account and per address. Pure; time is passed in.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

use crate::{
    protocol::{
        error::{ErrorCode, Failure},
        name::UserName,
    },
    roles::doors::network,
};

/// Failures that cost nothing, for a mistyped password.
const FREE_PER_ACCOUNT: u32 = 5;
/// Failures that cost nothing, for the many users behind one address.
const FREE_PER_ADDRESS: u32 = 30;
/// The longest delay: a stranger who guesses must not lock the owner out for long.
const LONGEST: Duration = Duration::from_mins(1);
/// Failures are forgotten after this long without another.
const FORGET: Duration = Duration::from_mins(15);
/// Accounts, and addresses, remembered at most; beyond, the one that failed longest ago is forgotten.
const MOST: usize = 10_000;

/// Who failed how often.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    accounts: Failures<UserName>,
    addresses: Failures<IpAddr>,
}

impl Throttle {
    /// Admits an attempt, which [`ended`](Self::ended) then ends; `too_many_attempts` while the delay after the last failure
    /// lasts. `Ok(false)`: as many are under way as may still fail, so that attempts made side by side do not slip through;
    /// ask again when one has ended.
    pub(super) fn attempt(&mut self, now: Instant, user: &UserName, from: IpAddr) -> Result<bool, Failure> {
        let from = network(from);
        let wait = self.accounts.wait(now, user, FREE_PER_ACCOUNT);
        let wait = wait.max(self.addresses.wait(now, &from, FREE_PER_ADDRESS));
        if !wait.is_zero() {
            return Err(too_many(wait));
        }
        let is_free = self.accounts.has_room(now, user, FREE_PER_ACCOUNT)
            && self.addresses.has_room(now, &from, FREE_PER_ADDRESS);
        if is_free {
            self.accounts.begin(now, user.clone());
            self.addresses.begin(now, from);
        }
        Ok(is_free)
    }

    /// An attempt has ended. A right one clears the account, not the address: it may be the guesser's own account.
    pub(super) fn ended(&mut self, now: Instant, user: &UserName, from: IpAddr, is_right: bool) {
        self.accounts.end(now, user, is_right, true);
        self.addresses.end(now, &network(from), is_right, false);
    }
}

fn too_many(wait: Duration) -> Failure {
    let seconds = wait.as_secs() + 1;
    let message = format!("Too many failed logins. Try again in {seconds} s.");
    Failure::new(ErrorCode::TooManyAttempts, message)
}

#[derive(Debug)]
struct Failures<K> {
    by_key: BTreeMap<K, Failed>,
    /// When each was last heard of: the first one is forgotten first.
    order: BTreeMap<(Instant, u64), K>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    count: u32,
    last_failure: Instant,
    under_way: u32,
    place: (Instant, u64),
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), order: BTreeMap::new(), next: 0 }
    }
}

impl<K: Ord + Clone> Failures<K> {
    /// How long the next attempt has to wait: 1 s after the last free failure, doubling with each more.
    fn wait(&self, now: Instant, key: &K, free: u32) -> Duration {
        let Some(failed) = self.by_key.get(key) else { return Duration::ZERO };
        let Some(beyond) = failed.count_at(now).checked_sub(free) else { return Duration::ZERO };
        let delay = LONGEST.min(Duration::from_secs(1 << beyond.min(16)));
        (failed.last_failure + delay).saturating_duration_since(now)
    }

    /// Whether one more may be under way: no more than may fail before a delay.
    fn has_room(&self, now: Instant, key: &K, free: u32) -> bool {
        let Some(failed) = self.by_key.get(key) else { return true };
        failed.under_way < free.saturating_sub(failed.count_at(now)).max(1)
    }

    fn begin(&mut self, now: Instant, key: K) {
        self.make_room(now, &key);
        let failed = self.take(now, &key);
        self.put(now, key, Failed { under_way: failed.under_way + 1, ..failed });
    }

    fn end(&mut self, now: Instant, key: &K, is_right: bool, clears: bool) {
        if !self.by_key.contains_key(key) {
            return;
        }
        let mut failed = self.take(now, key);
        failed.under_way = failed.under_way.saturating_sub(1);
        match (is_right, clears) {
            (false, _) => (failed.count, failed.last_failure) = (failed.count.saturating_add(1), now),
            (true, true) => failed.count = 0,
            (true, false) => {}
        }
        if failed.count > 0 || failed.under_way > 0 {
            self.put(now, key.clone(), failed);
        }
    }

    /// Forgets what was last heard of long ago, and longest ago when there is too much.
    fn make_room(&mut self, now: Instant, key: &K) {
        while let Some((&(last, _), _)) = self.order.first_key_value() {
            let is_old = now.saturating_duration_since(last) >= FORGET;
            if !is_old && (self.by_key.len() < MOST || self.by_key.contains_key(key)) {
                return;
            }
            if let Some((_, oldest)) = self.order.pop_first() {
                self.by_key.remove(&oldest);
            }
        }
    }

    fn take(&mut self, now: Instant, key: &K) -> Failed {
        let Some(failed) = self.by_key.remove(key) else {
            return Failed { count: 0, last_failure: now, under_way: 0, place: (now, 0) };
        };
        self.order.remove(&failed.place);
        Failed { count: failed.count_at(now), ..failed }
    }

    fn put(&mut self, now: Instant, key: K, failed: Failed) {
        let place = (now, self.next);
        self.next += 1;
        self.order.insert(place, key.clone());
        self.by_key.insert(key, Failed { place, ..failed });
    }
}

impl Failed {
    /// Failures that still count.
    fn count_at(&self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.last_failure) >= FORGET { 0 } else { self.count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        UserName::parse(text).unwrap()
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// A whole attempt with the wrong password.
    fn fail(throttle: &mut Throttle, now: Instant, user: &UserName, from: IpAddr) -> Result<(), Failure> {
        assert!(throttle.attempt(now, user, from)?, "no other attempt is under way");
        throttle.ended(now, user, from, false);
        Ok(())
    }

    #[test]
    fn delays_grow_and_end() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        for _ in 0..FREE_PER_ACCOUNT {
            fail(&mut throttle, now, &name("ann"), address(1)).unwrap();
        }
        for delay in [1, 2, 4, 8, 16, 32, 60, 60] {
            let failure = throttle.attempt(now, &name("ann"), address(2)).unwrap_err();
            assert_eq!(failure.code, ErrorCode::TooManyAttempts);
            now += Duration::from_secs(delay);
            fail(&mut throttle, now, &name("ann"), address(2)).unwrap();
        }
        now += FORGET;
        for _ in 0..FREE_PER_ACCOUNT {
            fail(&mut throttle, now, &name("ann"), address(1)).unwrap();
        }
    }

    #[test]
    fn a_success_clears_the_account_but_not_the_address() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..FREE_PER_ADDRESS {
            fail(&mut throttle, now, &name(&format!("user{n}")), address(1)).unwrap();
        }
        assert!(throttle.attempt(now, &name("ann"), address(1)).is_err());
        let later = now + Duration::from_secs(1);
        assert!(throttle.attempt(later, &name("ann"), address(1)).unwrap());
        assert!(!throttle.attempt(later, &name("bob"), address(1)).unwrap(), "one at a time by now");
        throttle.ended(later, &name("ann"), address(1), true);
        fail(&mut throttle, later, &name("bob"), address(1)).unwrap();
        assert!(throttle.attempt(later, &name("ann"), address(1)).is_err());
        assert!(throttle.attempt(later, &name("ann"), address(2)).unwrap());
    }

    #[test]
    fn attempts_side_by_side_wait_for_each_other() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let admitted = (0..100).filter(|_| throttle.attempt(now, &name("ann"), address(1)).unwrap()).count();
        assert_eq!(admitted, FREE_PER_ACCOUNT as usize);
        throttle.ended(now, &name("ann"), address(1), true);
        assert!(throttle.attempt(now, &name("ann"), address(1)).unwrap());
        for _ in 0..FREE_PER_ACCOUNT {
            throttle.ended(now, &name("ann"), address(1), false);
        }
        assert!(throttle.attempt(now, &name("ann"), address(1)).is_err());
    }

    #[test]
    fn many_right_logins_from_one_address_go_through() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..1000 {
            assert!(throttle.attempt(now, &name(&format!("user{n}")), address(1)).unwrap());
            throttle.ended(now, &name(&format!("user{n}")), address(1), true);
        }
        assert!(throttle.accounts.by_key.is_empty() && throttle.addresses.order.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for n in 0..MOST + 10 {
            failures.begin(now, n);
            failures.end(now, &n, false, true);
        }
        assert_eq!((failures.by_key.len(), failures.order.len()), (MOST, MOST));
        assert!(!failures.by_key.contains_key(&0));
        failures.begin(now + FORGET, 0);
        assert_eq!((failures.by_key.len(), failures.order.len()), (1, 1));
    }
}
