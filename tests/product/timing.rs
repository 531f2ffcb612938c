//! A measurement: what the time of a failed login tells of accounts. `TESTING.md` says how it is run.

use std::{net::Ipv4Addr, time::Duration};

use p2p::protocol::{
    client::{Password, Request},
    name::UserName,
};
use tokio::{runtime::Runtime, time::Instant};

use crate::common::{World, noise, stranger::ByHand};

/// Accounts that are known, and as many that were closed.
const ACCOUNTS: usize = 75;
/// Failed logins for each of them: fewer than are slowed down.
const TRIES: usize = 4;
/// Failed logins from one network: fewer than are slowed down.
const FROM_ONE_NETWORK: usize = 24;
/// A greater distance of two distributions comes by chance once in a thousand times (Kolmogorov and Smirnov).
const CHANCE: f64 = 1.95;

/// Whom somebody tries to log in as.
const KINDS: [&str; 3] = ["known", "unknown", "closed"];

/// An address of loopback for each number.
fn network(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, u8::try_from(number / 250).unwrap(), u8::try_from(number % 250 + 1).unwrap())
}

fn credentials(kind: &str, number: usize, password: &str) -> (UserName, Password) {
    (UserName::parse(&format!("{kind}-{number}")).unwrap(), Password(password.to_owned()))
}

/// Registers who is known, and closes the accounts of others.
async fn settle(address: &str) {
    for number in 0..ACCOUNTS {
        // A device each: the numbers of its requests begin anew with each link.
        let device = u8::try_from(number).unwrap();
        let mut link = ByHand::dial_from(network(1000 + number), address, device).await;
        for kind in ["known", "closed"] {
            let (user, password) = credentials(kind, number, "the right one");
            link.ask(Request::CreateUser { user, password }).await.unwrap();
        }
        let (user, password) = credentials("closed", number, "the right one");
        link.ask(Request::Login { user, password: password.clone() }).await.unwrap();
        link.ask(Request::CloseAccount { password }).await.unwrap();
    }
}

/// Milliseconds of each attempt, by kind. All kinds are tried in turn in an order of chance, so that what the machine does meanwhile
/// meets all of them.
async fn measure(address: &str) -> [Vec<f64>; 3] {
    let mut attempts: Vec<_> = (0..ACCOUNTS * TRIES).flat_map(|number| [0, 1, 2].map(|kind| (kind, number))).collect();
    let chance = noise(1, attempts.len() * 2);
    attempts.sort_by_key(|(kind, number)| {
        let at = 2 * (number * KINDS.len() + kind);
        [chance[at], chance[at + 1]]
    });
    let mut times = [const { Vec::new() }; 3];
    let mut said = Vec::new();
    for (part, attempts) in attempts.chunks(FROM_ONE_NETWORK).enumerate() {
        let mut link = ByHand::dial_from(network(part), address, 200).await;
        for &(kind, number) in attempts {
            // Nobody is tried as two unknown ones; accounts come round again.
            let number = if KINDS[kind] == "unknown" { number } else { number % ACCOUNTS };
            let (user, password) = credentials(KINDS[kind], number, "another one");
            let begun = Instant::now();
            let refused = link.ask(Request::Login { user, password }).await.unwrap_err();
            times[kind].push(begun.elapsed().as_secs_f64() * 1000.0);
            said.push((refused.code, refused.message));
        }
    }
    said.dedup();
    assert_eq!(said.len(), 1, "an answer tells whom there is: {said:?}");
    times.each_mut().map(|times| {
        times.sort_by(f64::total_cmp);
        std::mem::take(times)
    })
}

/// The greatest difference between the shares of two sorted samples that lie below any one value.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    let below = |sample: &[f64], value: f64| share(sample.partition_point(|it| *it <= value), sample.len());
    let values = one.iter().chain(other);
    values.map(|value| (below(one, *value) - below(other, *value)).abs()).fold(0.0, f64::max)
}

fn share(part: usize, whole: usize) -> f64 {
    f64::from(u32::try_from(part).unwrap()) / f64::from(u32::try_from(whole).unwrap())
}

#[test]
#[ignore = "a measurement, best made on a quiet machine"]
fn the_time_of_a_failed_login_tells_nobodys_name() {
    let world = World::new(1);
    let runtime = Runtime::new().unwrap();
    let address = world.address(0).to_owned();
    let times = runtime.block_on(async {
        settle(&address).await;
        // Nothing of what was written is still under way.
        tokio::time::sleep(Duration::from_secs(2)).await;
        measure(&address).await
    });
    eprintln!("account   attempts   5 %    25 %   median   75 %    95 %  (ms)");
    for (kind, times) in KINDS.iter().zip(&times) {
        let [low, lower, median, upper, high] = [5, 25, 50, 75, 95].map(|percent| times[times.len() * percent / 100]);
        eprintln!("{kind:9} {:8} {low:7.2} {lower:7.2} {median:7.2} {upper:7.2} {high:7.2}", times.len());
    }
    let [known, others @ ..] = &times;
    for (kind, other) in KINDS[1..].iter().zip(others) {
        let (distance, count) = (distance(known, other), share(known.len() * other.len(), known.len() + other.len()));
        let chance = CHANCE / count.sqrt();
        eprintln!("known and {kind}: distance {distance:.3}, by chance below {chance:.3}");
        assert!(distance < chance, "{kind} names can be told from known ones");
    }
}
