//! What clients may take of a tracker, so that no user and no network takes what others need.

use crate::roles::doors::{Capacity, Share};

/// What clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Links, and those without a session.
    pub(super) links: Capacity,
    /// Links with a session of one user.
    pub(super) links_per_user: usize,
    /// Requests a second of one user, and of those in one network who are not logged in; 0 is no limit. A tracker on one core
    /// answers some 50,000.
    pub(super) requests_per_s: u32,
}

impl Limits {
    /// What a tracker that serves people allows. A network's share is for the many behind one address.
    pub const STANDARD: Self = Self {
        links: Capacity {
            all: Share { in_all: 16_384, per_network: 4096 },
            strangers: Share { in_all: 4096, per_network: 256 },
        },
        links_per_user: 64,
        requests_per_s: 1000,
    };
    /// For load tests, which come from one address and as one user.
    pub const NONE: Self = {
        let share = Share { in_all: usize::MAX, per_network: usize::MAX };
        Self { links: Capacity { all: share, strangers: share }, links_per_user: usize::MAX, requests_per_s: 0 }
    };
}
