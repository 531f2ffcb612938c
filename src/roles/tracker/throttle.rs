//! Failed logins: delays that grow, per account and per address. Pure; time is passed in.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use tokio::time::Instant;

use crate::protocol::{
    error::{ErrorCode, Failure},
    name::UserName,
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
    /// Admits an attempt and counts it as failed until [`succeeded`](Self::succeeded) says otherwise, so that attempts made
    /// side by side do not slip through; `too_many_attempts` while the delay after the last failure lasts.
    pub(super) fn attempt(&mut self, now: Instant, user: &UserName, from: IpAddr) -> Result<(), Failure> {
        let from = network(from);
        let wait =
            self.accounts.wait(now, user, FREE_PER_ACCOUNT).max(self.addresses.wait(now, &from, FREE_PER_ADDRESS));
        if !wait.is_zero() {
            return Err(too_many(wait));
        }
        self.accounts.count(now, user.clone());
        self.addresses.count(now, from);
        Ok(())
    }

    /// The attempt was right after all.
    pub(super) fn succeeded(&mut self, user: &UserName, from: IpAddr) {
        self.accounts.forget(user);
        self.addresses.take_back(&network(from));
    }
}

fn too_many(wait: Duration) -> Failure {
    let seconds = wait.as_secs() + 1;
    let message = format!("Too many failed logins. Try again in {seconds} s.");
    Failure::new(ErrorCode::TooManyAttempts, message)
}

/// One customer of a provider has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[derive(Debug)]
struct Failures<K> {
    by_key: BTreeMap<K, Failed>,
    /// When each failed last: the first one is forgotten first.
    order: BTreeMap<(Instant, u64), K>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    count: u32,
    last: (Instant, u64),
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
        let Some(beyond) = failed.count.checked_sub(free) else { return Duration::ZERO };
        let delay = LONGEST.min(Duration::from_secs(1 << beyond.min(16)));
        (failed.last.0 + delay).saturating_duration_since(now)
    }

    fn count(&mut self, now: Instant, key: K) {
        while let Some((&(last, _), _)) = self.order.first_key_value() {
            let is_old = now.saturating_duration_since(last) >= FORGET;
            if !is_old && (self.by_key.len() < MOST || self.by_key.contains_key(&key)) {
                break;
            }
            if let Some((_, oldest)) = self.order.pop_first() {
                self.by_key.remove(&oldest);
            }
        }
        let count = self.forget(&key).saturating_add(1);
        let last = (now, self.next);
        self.next += 1;
        self.order.insert(last, key.clone());
        self.by_key.insert(key, Failed { count, last });
    }

    /// Forgets `key`; returns how often it had failed.
    fn forget(&mut self, key: &K) -> u32 {
        let Some(failed) = self.by_key.remove(key) else { return 0 };
        self.order.remove(&failed.last);
        failed.count
    }

    fn take_back(&mut self, key: &K) {
        if let Some(failed) = self.by_key.get_mut(key) {
            failed.count = failed.count.saturating_sub(1);
        }
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

    #[test]
    fn delays_grow_and_end() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        for _ in 0..FREE_PER_ACCOUNT {
            throttle.attempt(now, &name("ann"), address(1)).unwrap();
        }
        for delay in [1, 2, 4, 8, 16, 32, 60, 60] {
            let failure = throttle.attempt(now, &name("ann"), address(2)).unwrap_err();
            assert_eq!(failure.code, ErrorCode::TooManyAttempts);
            now += Duration::from_secs(delay);
            throttle.attempt(now, &name("ann"), address(2)).unwrap();
        }
        now += FORGET;
        for _ in 0..FREE_PER_ACCOUNT {
            throttle.attempt(now, &name("ann"), address(1)).unwrap();
        }
    }

    #[test]
    fn a_success_clears_the_account_but_not_the_address() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..FREE_PER_ADDRESS {
            throttle.attempt(now, &name(&format!("user{n}")), address(1)).unwrap();
        }
        assert!(throttle.attempt(now, &name("ann"), address(1)).is_err());
        let now = now + Duration::from_secs(1);
        throttle.attempt(now, &name("ann"), address(1)).unwrap();
        throttle.succeeded(&name("ann"), address(1));
        assert!(throttle.attempt(now, &name("bob"), address(1)).is_err());
        assert!(throttle.attempt(now, &name("ann"), address(2)).is_ok());
    }

    #[test]
    fn attempts_side_by_side_are_counted() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let admitted = (0..100).filter(|_| throttle.attempt(now, &name("ann"), address(1)).is_ok()).count();
        assert_eq!(admitted, FREE_PER_ACCOUNT as usize);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for n in 0..MOST + 10 {
            failures.count(now, n);
        }
        assert_eq!((failures.by_key.len(), failures.order.len()), (MOST, MOST));
        assert!(!failures.by_key.contains_key(&0));
        failures.count(now + FORGET, 0);
        assert_eq!((failures.by_key.len(), failures.order.len()), (1, 1));
    }

    #[test]
    fn a_whole_network_is_one_address() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::2".parse().unwrap()));
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), address(1));
    }
}
