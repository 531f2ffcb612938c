//! What happened, as the model remembers it: who did what, when, and what was known where it was decided.

/// Names an event: its place in the order in which they were made up. What an event creates (an account, a group, an
/// instance of a membership, a share) goes by the event's name.
pub(crate) type Id = usize;

/// A set of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known(u128);

impl Known {
    /// Most events that a set can tell apart.
    pub(crate) const MOST: usize = 128;

    /// Adds an event.
    pub(crate) fn insert(&mut self, id: Id) {
        self.0 |= 1 << id;
    }

    /// Takes an event out.
    pub(crate) fn remove(&mut self, id: Id) {
        self.0 &= !(1 << id);
    }

    /// Whether an event is in.
    pub(crate) fn has(self, id: Id) -> bool {
        self.0 & (1 << id) != 0
    }

    /// Those of either.
    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in.
    pub(crate) fn includes(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// All that are in, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = Id> {
        (0..Self::MOST).filter(move |id| self.has(*id))
    }
}

/// A file's content and the name it was shared under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content {
    /// The name it has on the disk it comes from.
    pub(crate) name: String,
    /// Tells one content from another.
    pub(crate) tag: u32,
    /// Bytes.
    pub(crate) size: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    /// When, by the hybrid clock of the tracker that took it.
    pub(crate) at: u64,
    /// The tracker that took it.
    pub(crate) taken_by: usize,
    /// All that this tracker knew, and all that the client had seen.
    pub(crate) past: Known,
    /// What.
    pub(crate) body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Body {
    /// A user registered.
    User { name: String, password: String },
    /// A user changed the password.
    /// Set in the session that `keeps` opened, which goes on under it.
    Password { user: Id, password: String, keeps: Id },
    /// A session began or ended: it changes no answer, and who has not heard of it is behind.
    Session,
    /// A user created a group; its first membership begins with it.
    Group { name: String, owner: Id },
    /// A user asked to join; an instance of a membership begins.
    Asked { group: Id, user: Id },
    /// An owner, by an instance of their own, accepted one.
    Accepted { group: Id, instance: Id, as_instance: Id },
    /// A membership or request ended: all instances of the user in the event's past.
    Ended { group: Id, user: Id },
    /// An owner handed the group to a member, by that member's instance.
    Handed { group: Id, instance: Id },
    /// A device began to share a file, under an instance of a membership.
    Shared { group: Id, user: Id, device: usize, instance: Id, content: Content },
    /// A device stopped sharing.
    Unshared { shares: Vec<Id> },
}
