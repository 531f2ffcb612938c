//! What clients may take of a tracker, so that no user and no network takes what others need.

use crate::roles::doors::{Capacity, Share};

/// What clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Links, and those without a session.
    pub(super) links: Capacity,
    /// Links with a session of one user.
    pub(super) links_per_user: usize,
}

impl Limits {
    /// What a tracker that serves people allows. A network's share is for the many behind one address.
    pub const STANDARD: Self = Self {
        links: Capacity {
            all: Share { in_all: 16_384, per_network: 4096 },
            strangers: Share { in_all: 4096, per_network: 256 },
        },
        links_per_user: 64,
    };
    /// For load tests, which come from one address and as one user.
    pub const NONE: Self = {
        let share = Share { in_all: usize::MAX, per_network: usize::MAX };
        Self { links: Capacity { all: share, strangers: share }, links_per_user: usize::MAX }
    };
}
