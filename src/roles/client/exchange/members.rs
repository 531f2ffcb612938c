//! Who is a member: tickets checked when they are shown, by their time ever after, and with the tracker in use.
//!
//! A ticket proves a membership of up to ten minutes ago. So each one shown is also checked with the tracker in use before
//! anything is served by it, and all of them again at every tracker this client moves to: an end that happened while no
//! tracker was in touch is found then. Where none is in touch the ticket must do.
//! What has ended is remembered by the membership's identity, which no clock and no name can blur.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    hub::{Hub, Input},
    joins::Shown,
};
use crate::{
    mutant::Mutant,
    protocol::{
        client::{Answer, Request},
        error::{ErrorCode, Failure},
        ids::{DeviceKey, FileId, GroupId, MembershipId, SessionId, UserId},
        limits::LISTING_PAGE,
        peer::PeerMessage,
        ticket::{SessionRef, Signed, Ticket},
    },
    swarm::PeerId,
};

/// How long a tracker in use may take to answer before it counts as out of touch.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// What is known of the memberships that peers showed tickets for, and of the sessions those were given in.
#[derive(Default)]
pub(super) struct Standing {
    ended: BTreeSet<MembershipId>,
    ended_sessions: BTreeSet<SessionId>,
    /// Shown, and not yet checked with the tracker in use.
    unchecked: BTreeSet<(GroupId, Claim)>,
}

/// What a ticket rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    user: UserId,
    membership: MembershipId,
    session: SessionRef,
}

/// What has ended of that.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) memberships: Vec<MembershipId>,
    pub(super) sessions: Vec<SessionId>,
}

impl Claim {
    fn of(ticket: &Ticket) -> Self {
        Self { user: ticket.user, membership: ticket.membership, session: ticket.session }
    }
}

impl Hub {
    /// Whether `signed` proves that `device` belongs to a member of `group` now.
    pub(super) fn check_ticket(&self, signed: &Signed, group: GroupId, device: DeviceKey) -> Result<Ticket, Failure> {
        let ticket = self.seams.tracker.verify_ticket(signed, group, device)?;
        if self.standing.ended.contains(&ticket.membership) {
            return Err(over());
        }
        if self.standing.ended_sessions.contains(&ticket.session.id) {
            return Err(Failure::new(ErrorCode::NotAMember, "The session has ended that the ticket was given in."));
        }
        Ok(ticket)
    }

    /// A good ticket was shown on a link.
    pub(super) fn note_ticket(&mut self, id: PeerId, group: GroupId, signed: Signed, ticket: Ticket) {
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        let is_known = |shown: &Shown| {
            Claim::of(&shown.ticket) == Claim::of(&ticket) && shown.ticket.issued_ms >= ticket.issued_ms
        };
        if peer.shown.get(&group).is_some_and(is_known) {
            // Shown again and again it must not cost the tracker a question each time.
            return;
        }
        let before = peer.shown.get(&group).filter(|shown| Claim::of(&shown.ticket) == Claim::of(&ticket));
        let checked = before.is_some_and(|shown| shown.checked) || !self.seams.tracker.is_linked();
        self.standing.unchecked.insert((group, Claim::of(&ticket)));
        peer.shown.insert(group, Shown { signed, ticket, checked });
        self.recognize(id);
    }

    /// Another tracker is in use, or notices were missed: every ticket shown is checked anew.
    pub(super) fn doubt_members(&mut self) {
        let shown = self.peers.links.values().flat_map(|peer| &peer.shown);
        self.standing.unchecked.extend(shown.map(|(group, shown)| (*group, Claim::of(&shown.ticket))));
    }

    /// Sessions of a user have ended: the tickets that this user showed are checked anew.
    pub(super) fn doubt_user(&mut self, user: UserId) {
        let shown = self.peers.links.values().flat_map(|peer| &peer.shown);
        let theirs = shown.filter(|(_, shown)| shown.ticket.user == user);
        self.standing.unchecked.extend(theirs.map(|(group, shown)| (*group, Claim::of(&shown.ticket))));
    }

    /// Asks the tracker in use about the tickets not yet checked.
    pub(super) fn check_members(&mut self) {
        while let Some(&(group, _)) = self.standing.unchecked.first() {
            let of_group = |(other, _): &&(GroupId, Claim)| *other == group;
            let next: Vec<_> =
                self.standing.unchecked.iter().take_while(of_group).take(LISTING_PAGE).copied().collect();
            for asked in &next {
                self.standing.unchecked.remove(asked);
            }
            self.ask_ended(group, next.into_iter().map(|(_, claim)| claim).collect());
        }
    }

    fn ask_ended(&self, group: GroupId, asked: Vec<Claim>) {
        let seams = Arc::clone(&self.seams);
        let memberships = asked.iter().map(|claim| claim.membership).collect();
        let sessions = asked.iter().map(|claim| (claim.user, claim.session)).collect();
        self.seams.env.spawn(async move {
            let request = Request::CheckMembers { group, memberships, sessions };
            let mut answer = pin!(seams.tracker.request(request));
            let answer = if let Ok(answer) = timeout(CHECK_WITHIN, &mut answer).await {
                answer
            } else {
                seams.report(Input::Checked { group, asked: asked.clone(), ended: Ended::default() }).await;
                answer.await
            };
            let ended = match answer.map(|it| it.answer) {
                Ok(Answer::Ended { memberships, sessions }) => Ended { memberships, sessions },
                Ok(_) => Ended::default(),
                // The next tracker in use is asked about all of them.
                Err(failure) => {
                    tracing::debug!(?group, %failure, "memberships could not be checked");
                    Ended::default()
                }
            };
            seams.report(Input::Checked { group, asked, ended }).await;
        });
    }

    /// Memberships were checked with a tracker, or could not be: who waited for that is served unless theirs has ended.
    pub(super) fn members_checked(&mut self, group: GroupId, asked: &[Claim], ended: Ended) {
        if !ended.memberships.is_empty() {
            tracing::trace!(target: "coverage", reached = "ticket: of an ended membership");
            self.memberships_ended(group, ended.memberships);
        }
        if !ended.sessions.is_empty() {
            tracing::trace!(target: "coverage", reached = "ticket: of an ended session");
            self.sessions_ended(ended.sessions);
        }
        let mut admitted = Vec::new();
        for (id, peer) in &mut self.peers.links {
            let shown = peer.shown.get_mut(&group).filter(|shown| asked.contains(&Claim::of(&shown.ticket)));
            if let Some(shown) = shown {
                shown.checked = true;
                admitted.push(*id);
            }
        }
        for id in admitted {
            self.admit(id, group);
        }
    }

    /// Memberships have ended: their tickets count no more, from now on.
    pub(super) fn memberships_ended(&mut self, group: GroupId, memberships: Vec<MembershipId>) {
        if Mutant::ServeFormerMember.is_on() {
            return;
        }
        self.standing.ended.extend(memberships);
        self.recheck_tickets_of(Some(group));
    }

    /// Sessions have ended: tickets given in them count no more, from now on.
    fn sessions_ended(&mut self, sessions: Vec<SessionId>) {
        if Mutant::ServeEndedSession.is_on() {
            return;
        }
        self.standing.ended_sessions.extend(sessions);
        self.recheck_tickets_of(None);
    }

    /// Tickets die by themselves.
    pub(super) fn recheck_tickets(&mut self) {
        self.recheck_tickets_of(None);
    }

    fn recheck_tickets_of(&mut self, only: Option<GroupId>) {
        let mut refused = Vec::new();
        for (id, peer) in &self.peers.links {
            for (group, shown) in peer.shown.iter().filter(|(group, _)| only.is_none_or(|only| only == **group)) {
                if let Err(failure) = self.check_ticket(&shown.signed, *group, peer.device) {
                    refused.push((*id, *group, failure));
                }
            }
        }
        for (id, group, failure) in refused {
            self.exclude(id, group, &failure);
        }
    }

    /// Ends all that a peer takes part in, in a group.
    pub(super) fn exclude(&mut self, id: PeerId, group: GroupId, failure: &Failure) {
        let Some(peer) = self.peers.links.get_mut(&id) else { return };
        tracing::trace!(target: "coverage", reached = "ticket: excluded from open links");
        peer.shown.remove(&group);
        let files = peer.files_of(group).collect::<Vec<FileId>>();
        self.recognize(id);
        for file in files {
            self.send(id, PeerMessage::Leave { file, reason: Some(failure.clone()) });
            self.forget_joined(id, file);
        }
    }
}

fn over() -> Failure {
    Failure::new(ErrorCode::NotAMember, "That membership has ended.")
}
