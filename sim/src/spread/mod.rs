//! How long a file takes to spread through a swarm, against the least time there is.
//!
//! The machines of `p2p::swarm` alone, in exact simulated time: no bytes, no encryption, no disk, so that a thousand peers are
//! no matter. What the roles add (have messages in batches, requests of one moment in one message) is done as they do it. Uplinks are
//! the bottleneck, downlinks are free, and a message takes a twentieth of the time of a piece: a round trip takes a tenth.

mod bound;
mod naive;
mod node;
mod table;
mod world;

pub(crate) use table::{Arguments, print};

use std::{collections::BTreeSet, time::Duration};

/// Bytes a second that an ordinary peer sends: a piece takes half a second.
const UPLINK: f64 = 1024.0 * 1024.0;
/// How long a message travels.
const LATENCY: Duration = Duration::from_millis(25);

/// What decides whom a peer asks for what, and whom it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// The machines of this program.
    Ours,
    /// Random pieces of everybody, and four served at a time.
    Naive,
}

/// What else happens in a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twist {
    /// Nothing.
    None,
    /// Uplinks of a half and of one and a half, in turn.
    Mixed,
    /// A quarter of the leechers come late, during the first half.
    Late,
    /// The seeder leaves when it has sent one copy and every piece is with somebody.
    SeederLeaves,
    /// A fifth of the leechers leave at some moment, and return a little later with what they had.
    Churn,
    /// One leecher of eight sends nothing but rubbish.
    Corrupt,
    /// One leecher of eight sends nothing at all.
    Stall,
}

/// One swarm.
#[derive(Clone, Copy, Debug)]
struct Case {
    leechers: u32,
    pieces: u32,
    twist: Twist,
    policy: Policy,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// Seconds until the last honest leecher had all; `None`: it never had.
    took_s: Option<f64>,
    /// The least that can take.
    bound_s: f64,
    /// Times the file's size that the seeder sent.
    copies: f64,
    /// Bytes of messages and of the heads of blocks, in parts of the payload delivered.
    control: f64,
}

impl Outcome {
    fn ratio(&self) -> Option<f64> {
        Some(self.took_s? / self.bound_s)
    }
}

/// What a peer is like, and when it is there.
#[derive(Clone, Debug)]
struct Peer {
    /// Bytes a second.
    up: f64,
    conduct: Conduct,
    /// When it comes, in seconds.
    comes_s: f64,
    /// When it leaves and when it returns.
    away_s: Option<(f64, f64)>,
}

/// What a peer does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Honest,
    Lies,
    Stalls,
}

/// The peers of a case; the first one has the file.
fn peers(case: &Case, draw: &mut impl FnMut() -> f64) -> Vec<Peer> {
    let file_s = f64::from(case.pieces) * f64::from(p2p::protocol::piece::PIECE_SIZE) / UPLINK;
    let seeder = Peer { up: UPLINK, conduct: Conduct::Honest, comes_s: 0.0, away_s: None };
    let leecher = |index: u32| {
        let mut peer = seeder.clone();
        match case.twist {
            Twist::Mixed => peer.up *= if index.is_multiple_of(2) { 0.5 } else { 1.5 },
            Twist::Late if index % 4 == 3 => peer.comes_s = draw() * file_s / 2.0,
            Twist::Churn if index % 5 == 4 => {
                let leaves_s = (0.1 + 0.7 * draw()) * file_s;
                peer.away_s = Some((leaves_s, leaves_s + (0.02 + 0.08 * draw()) * file_s));
            }
            Twist::Corrupt if index % 8 == 7 => peer.conduct = Conduct::Lies,
            Twist::Stall if index % 8 == 7 => peer.conduct = Conduct::Stalls,
            _ => {}
        }
        peer
    };
    std::iter::once(seeder.clone()).chain((0..case.leechers).map(leecher)).collect()
}

/// Whom each peer is linked with: everybody where they are few, otherwise some at random, as many as a client has links.
fn links(count: usize, draw: &mut impl FnMut() -> f64) -> Vec<BTreeSet<usize>> {
    const MOST: usize = 80;
    if count <= MOST {
        return (0..count).map(|own| (0..count).filter(|other| *other != own).collect()).collect();
    }
    let mut links = vec![BTreeSet::new(); count];
    for own in 0..count {
        for _ in 0..4 * MOST {
            if links[own].len() >= MOST / 2 {
                break;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "an index"
            )]
            let other = ((draw() * count as f64) as usize).min(count - 1);
            if other != own && links[other].len() < MOST {
                links[own].insert(other);
                links[other].insert(own);
            }
        }
    }
    links
}
