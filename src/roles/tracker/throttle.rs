//! Failed logins: delays that grow, per account and per address, at all trackers. Pure; time is passed in.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

use crate::{
    protocol::{
        error::{ErrorCode, Failure},
        ids::DeviceKey,
        name::UserName,
        sync::Attempts,
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

/// Registrations that cost nothing, from one network: a class, or an office.
const FREE_REGISTRATIONS: u32 = 200;
/// Entries told to the other trackers at a time; what is beyond waits for the next time.
const TOLD: usize = 1000;

/// Who failed how often.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    accounts: Failures<Account>,
    addresses: Failures<IpAddr>,
    registrations: Failures<IpAddr>,
    /// Failures that the other trackers have not been told of.
    news: BTreeMap<Key, u32>,
}

/// Whose failures count together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Account {
    /// Those of strangers to an account.
    Name(UserName),
    /// Those of a device that has logged in to it before: strangers cannot lock it out, and it cannot guess for ever.
    Known(UserName, DeviceKey),
}

/// What failures are told of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Account(UserName),
    Network(IpAddr),
}

/// Who makes an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    /// The name tried.
    pub(super) user: &'a UserName,
    /// From where.
    pub(super) from: IpAddr,
    /// The device, where it has logged in to that account before.
    pub(super) known: Option<DeviceKey>,
}

impl Attempt<'_> {
    fn account(&self) -> Account {
        match self.known {
            Some(device) => Account::Known(self.user.clone(), device),
            None => Account::Name(self.user.clone()),
        }
    }
}

impl Throttle {
    /// Admits an attempt, which [`ended`](Self::ended) then ends; `too_many_attempts` while the delay after the last failure
    /// lasts. `Ok(false)`: as many are under way as may still fail, so that attempts made side by side do not slip through;
    /// ask again when one has ended.
    pub(super) fn attempt(&mut self, now: Instant, attempt: &Attempt<'_>) -> Result<bool, Failure> {
        let (account, from) = (attempt.account(), network(attempt.from));
        self.check(now, attempt)?;
        let is_free = self.accounts.has_room(now, &account, FREE_PER_ACCOUNT)
            && self.addresses.has_room(now, &from, FREE_PER_ADDRESS);
        if is_free {
            self.accounts.begin(now, account);
            self.addresses.begin(now, from);
        }
        Ok(is_free)
    }

    /// `too_many_attempts` while the delay after the last failure lasts.
    pub(super) fn check(&self, now: Instant, attempt: &Attempt<'_>) -> Result<(), Failure> {
        let wait = self.accounts.wait(now, &attempt.account(), FREE_PER_ACCOUNT);
        let wait = wait.max(self.addresses.wait(now, &network(attempt.from), FREE_PER_ADDRESS));
        if wait.is_zero() { Ok(()) } else { Err(too_many(wait)) }
    }

    /// An attempt has ended. A right one clears the account, not the address: it may be the guesser's own account.
    pub(super) fn ended(&mut self, now: Instant, attempt: &Attempt<'_>, is_right: bool) {
        let from = network(attempt.from);
        self.accounts.end(now, &attempt.account(), is_right, true);
        self.addresses.end(now, &from, is_right, false);
        if is_right {
            return;
        }
        let account = attempt.known.is_none().then(|| Key::Account(attempt.user.clone()));
        for key in account.into_iter().chain([Key::Network(from)]) {
            if self.news.len() < MOST || self.news.contains_key(&key) {
                *self.news.entry(key).or_default() += 1;
            }
        }
    }

    /// An account is about to be registered: `too_many_attempts` when too many were from there lately.
    pub(super) fn register(&mut self, now: Instant, from: IpAddr) -> Result<(), Failure> {
        let from = network(from);
        let wait = self.registrations.wait(now, &from, FREE_REGISTRATIONS);
        if !wait.is_zero() {
            let seconds = wait.as_secs() + 1;
            let message = format!("Too many accounts were registered from your network. Try again in {seconds} s.");
            return Err(Failure::new(ErrorCode::TooManyAttempts, message));
        }
        self.registrations.count(now, from, 1);
        Ok(())
    }

    /// Failures since the last time, for the other trackers.
    pub(super) fn take_news(&mut self) -> Option<Attempts> {
        let mut told = Attempts::default();
        while told.accounts.len() + told.networks.len() < TOLD
            && let Some((key, count)) = self.news.pop_first()
        {
            match key {
                Key::Account(user) => told.accounts.push((user, count)),
                Key::Network(from) => told.networks.push((from, count)),
            }
        }
        (told != Attempts::default()).then_some(told)
    }

    /// Failures at another tracker.
    pub(super) fn hear(&mut self, now: Instant, told: Attempts) {
        for (user, count) in told.accounts.into_iter().take(TOLD) {
            self.accounts.count(now, Account::Name(user), count);
        }
        for (from, count) in told.networks.into_iter().take(TOLD) {
            self.addresses.count(now, network(from), count);
        }
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

    /// So many failures were made elsewhere, or count as such.
    fn count(&mut self, now: Instant, key: K, count: u32) {
        self.make_room(now, &key);
        let failed = self.take(now, &key);
        let count = failed.count.saturating_add(count);
        self.put(now, key, Failed { count, last_failure: now, ..failed });
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

    fn attempt(user: &UserName, from: IpAddr) -> Attempt<'_> {
        Attempt { user, from, known: None }
    }

    /// A whole attempt with the wrong password.
    fn fail(throttle: &mut Throttle, now: Instant, user: &UserName, from: IpAddr) -> Result<(), Failure> {
        assert!(throttle.attempt(now, &attempt(user, from))?, "no other attempt is under way");
        throttle.ended(now, &attempt(user, from), false);
        Ok(())
    }

    #[test]
    fn delays_grow_and_end() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        for _ in 0..FREE_PER_ACCOUNT {
            fail(&mut throttle, now, &name("ann"), address(1)).unwrap();
        }
        for delay in [1, 2, 4, 8, 16, 32, 60, 60] {
            let failure = throttle.attempt(now, &attempt(&name("ann"), address(2))).unwrap_err();
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
        assert!(throttle.attempt(now, &attempt(&name("ann"), address(1))).is_err());
        let later = now + Duration::from_secs(1);
        assert!(throttle.attempt(later, &attempt(&name("ann"), address(1))).unwrap());
        assert!(!throttle.attempt(later, &attempt(&name("bob"), address(1))).unwrap(), "one at a time by now");
        throttle.ended(later, &attempt(&name("ann"), address(1)), true);
        fail(&mut throttle, later, &name("bob"), address(1)).unwrap();
        assert!(throttle.attempt(later, &attempt(&name("ann"), address(1))).is_err());
        assert!(throttle.attempt(later, &attempt(&name("ann"), address(2))).unwrap());
    }

    #[test]
    fn attempts_side_by_side_wait_for_each_other() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let admitted = (0..100).filter(|_| throttle.attempt(now, &attempt(&name("ann"), address(1))).unwrap()).count();
        assert_eq!(admitted, FREE_PER_ACCOUNT as usize);
        throttle.ended(now, &attempt(&name("ann"), address(1)), true);
        assert!(throttle.attempt(now, &attempt(&name("ann"), address(1))).unwrap());
        for _ in 0..FREE_PER_ACCOUNT {
            throttle.ended(now, &attempt(&name("ann"), address(1)), false);
        }
        assert!(throttle.attempt(now, &attempt(&name("ann"), address(1))).is_err());
    }

    #[test]
    fn many_right_logins_from_one_address_go_through() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..1000 {
            assert!(throttle.attempt(now, &attempt(&name(&format!("user{n}")), address(1))).unwrap());
            throttle.ended(now, &attempt(&name(&format!("user{n}")), address(1)), true);
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

    #[test]
    fn strangers_do_not_lock_out_a_device_that_was_there_before() {
        let (mut throttle, now, ann) = (Throttle::default(), Instant::now(), name("ann"));
        for n in 0..FREE_PER_ACCOUNT {
            fail(&mut throttle, now, &ann, address(u8::try_from(n).unwrap())).unwrap();
        }
        assert!(throttle.attempt(now, &attempt(&ann, address(100))).is_err());
        let own = Attempt { known: Some(DeviceKey([1; 32])), ..attempt(&ann, address(100)) };
        for _ in 0..FREE_PER_ACCOUNT {
            assert!(throttle.attempt(now, &own).unwrap());
            throttle.ended(now, &own, false);
        }
        assert!(throttle.attempt(now, &own).is_err(), "nor may it guess for ever");
    }

    #[test]
    fn failures_count_at_every_tracker() {
        let (mut here, mut there, now, ann) = (Throttle::default(), Throttle::default(), Instant::now(), name("ann"));
        for _ in 0..FREE_PER_ACCOUNT {
            fail(&mut here, now, &ann, address(1)).unwrap();
        }
        let news = here.take_news().unwrap();
        assert_eq!(here.take_news(), None);
        there.hear(now, news);
        assert!(there.attempt(now, &attempt(&ann, address(2))).is_err());
        assert_eq!(there.take_news(), None, "what was heard is not told again");
        assert!(there.attempt(now, &attempt(&name("bob"), address(1))).unwrap());
    }

    #[test]
    fn what_is_told_is_bounded() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..TOLD {
            let from = IpAddr::from([10, 1, u8::try_from(n / 200).unwrap(), u8::try_from(n % 200).unwrap()]);
            fail(&mut throttle, now, &name(&format!("user{n}")), from).unwrap();
        }
        let sizes = std::iter::from_fn(|| throttle.take_news()).map(|told| told.accounts.len() + told.networks.len());
        assert_eq!(sizes.collect::<Vec<_>>(), [TOLD, TOLD]);
    }

    #[test]
    fn registrations_from_one_network_are_slowed_down() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..FREE_REGISTRATIONS {
            throttle.register(now, address(1)).unwrap();
        }
        assert_eq!(throttle.register(now, address(1)).unwrap_err().code, ErrorCode::TooManyAttempts);
        throttle.register(now, address(2)).unwrap();
        throttle.register(now + LONGEST, address(1)).unwrap();
    }
}
