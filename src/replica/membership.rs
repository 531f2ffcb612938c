//! One instance of a membership: requested, then member, then ended; the furthest state wins.
//!
//! ```text
//! MembershipRequested ──► requested ──MembershipAccepted──► member
//!                             └──────── MembershipEnded ──────┴──► ended (stays: a new request is a new instance)
//! ```

use super::{few::FewSet, table::RowNo};
use crate::mutant::Mutant;
use crate::protocol::{
    ids::{MembershipId, RequestId, UserId},
    record::EndReason,
    version::{Dot, Timestamp, VersionVector},
};

/// How far an instance has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Its request has yet to arrive.
    #[default]
    Unknown,
    /// The user asks to join.
    Requested,
    /// The user is a member.
    Member {
        /// When that began: orders succession.
        since: Timestamp,
    },
    /// Over, for good.
    Ended,
}

/// One instance, with all that was said of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Instance {
    /// Whose, since when, by the least try of the request.
    pub(super) request: Option<Request>,
    /// Dots of all tries of the request.
    pub(super) request_dots: FewSet<Dot>,
    /// Whether it began with the creation of its group, and so needs no accept.
    pub(super) founder: bool,
    /// Every accept, with effect or without.
    pub(super) accepts: Vec<Accept>,
    /// How far it has come: derived.
    pub(super) state: State,
    /// Shares begun under it, by where they stand.
    pub(super) shares: FewSet<RowNo>,
}

/// The request an instance began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    /// When.
    pub(super) at: Timestamp,
    /// By which change.
    pub(super) dot: Dot,
    /// Who asks.
    pub(super) user: UserId,
}

/// One accept of an instance.
#[derive(Clone, Debug)]
pub(super) struct Accept {
    pub(super) request: RequestId,
    pub(super) dot: Dot,
    pub(super) at: Timestamp,
    pub(super) by: UserId,
    pub(super) rests_on: Vec<Dot>,
    /// Its author had the right by the changes it rests on: derived.
    pub(super) valid: bool,
    /// Valid, and no revocation is concurrent: derived.
    pub(super) effective: bool,
    /// Both are found for good: what they follow from may be forgotten.
    pub(super) settled: bool,
}

/// One leave, withdrawal, rejection or removal.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) request: RequestId,
    pub(super) dot: Dot,
    pub(super) at: Timestamp,
    pub(super) by: UserId,
    pub(super) reason: EndReason,
    pub(super) past: VersionVector,
    pub(super) rests_on: Vec<Dot>,
    /// Its author had the right by the changes it rests on: derived.
    pub(super) valid: bool,
    /// That is found for good: what it follows from may be forgotten.
    pub(super) settled: bool,
}

impl Instance {
    /// Merges a try of the request.
    pub(super) fn ask(&mut self, request: Request) {
        self.request_dots.insert(request.dot);
        self.request = Some(self.request.map_or(request, |known| known.min(request)));
    }

    /// Dots of all that was said of it, but for ends.
    pub(super) fn dots(&self) -> impl Iterator<Item = &Dot> {
        self.request_dots.iter().chain(self.accepts.iter().map(|accept| &accept.dot))
    }

    /// Whether nothing was said of it: no more is known than that it has, or had, shares.
    pub(super) fn is_blank(&self) -> bool {
        self.request.is_none() && self.accepts.is_empty() && self.shares.is_empty()
    }

    /// Whose instance this is.
    pub(super) fn user(&self) -> Option<UserId> {
        self.request.map(|request| request.user)
    }

    /// Whether it is a live membership of the user.
    pub(super) fn is_member(&self, user: &UserId) -> bool {
        self.user() == Some(*user) && matches!(self.state, State::Member { .. })
    }

    /// How far it has come, and whose it is: of two requests under one identity the lesser tells whose.
    pub(super) fn stands(&self) -> (State, Option<UserId>) {
        (self.state, self.user())
    }

    /// Whether `end` ends it: any of its dots lies in the end's past.
    pub(super) fn is_covered(&self, end: &End) -> bool {
        end.valid && self.dots().any(|dot| end.past.contains(dot))
    }

    /// How far it has come, given all ends of its user.
    pub(super) fn derive(&self, ends: &[End]) -> State {
        let Some(request) = self.request else { return State::Unknown };
        if ends.iter().any(|end| self.is_covered(end)) && !Mutant::ForgetEnd.is_on() {
            return State::Ended;
        }
        let effective = self.accepts.iter().filter(|accept| accept.effective).map(|accept| accept.at);
        let since = if self.founder { Some(request.at) } else { effective.min() };
        since.map_or(State::Requested, |since| State::Member { since })
    }

    /// Whether an accept among `rests_on`, valid and earlier than `before`, made its user a member.
    pub(super) fn is_accepted_by(&self, rests_on: &[Dot], before: Timestamp) -> bool {
        if self.founder {
            return self.request_dots.iter().any(|dot| rests_on.contains(dot));
        }
        self.accepts.iter().any(|accept| accept.valid && accept.at < before && rests_on.contains(&accept.dot))
    }

    /// Dots of what makes it a membership, for changes that rest on it.
    pub(super) fn evidence(&self) -> Option<(Timestamp, Dot)> {
        let accepts = self.accepts.iter().filter(|accept| accept.effective).map(|accept| (accept.at, accept.dot));
        let founded = self.request.filter(|_| self.founder).map(|request| (request.at, request.dot));
        founded.or_else(|| accepts.min())
    }
}

/// A live membership of a user in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The instance.
    pub id: MembershipId,
    /// Since when.
    pub since: Timestamp,
    /// Whether its user owns the group.
    pub owner: bool,
}
