//! Who owned a group by the changes that a change rests on, and whether a concurrent revocation makes it void.
//!
//! A *tenure* is rooted in the creation of the group or in a transfer. It belongs to the owner named there, and after that
//! owner's end to the member it passed to. *Valid*: by the changes named in `rests_on` alone, each earlier than the
//! change, its author owned the group. That never changes once those are known, so ends, which need no more than it,
//! never come undone. An accept is *effective* only if no revocation of its author's ownership is concurrent: no
//! valid transfer of a later stamp, and no end of the author's own membership, that had not seen the accept.

use std::collections::BTreeSet;

use super::{
    group::{Group, TransferId},
    membership::{Accept, End},
};
use crate::protocol::{
    ids::{MembershipId, UserId},
    version::{Dot, Timestamp},
};

/// The ownership that a change rests on.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    /// Stamp of its root.
    at: Timestamp,
    /// The author's membership.
    instance: MembershipId,
}

/// A change whose author needs a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Accept(MembershipId, usize),
    Transfer(TransferId, usize),
    End(UserId, usize),
}

impl Group {
    /// Judges again every accept, transfer and end that concerns one of `users`, or all of them, and is not settled.
    pub(super) fn judge(&mut self, users: Option<&BTreeSet<UserId>>) {
        let judged = self.uses(users);
        for &(.., one) in &judged {
            self.judge_validity(one);
        }
        for &(.., one) in &judged {
            if let Use::Accept(id, index) = one {
                let effective = self.is_effective(&self.instances[&id].accepts[index]);
                self.instance_mut(id).accepts[index].effective = effective;
            }
        }
    }

    /// The changes to judge, causes before what rests on them.
    fn uses(&self, users: Option<&BTreeSet<UserId>>) -> Vec<(Timestamp, Dot, Use)> {
        let mut out = Vec::new();
        let ids: BTreeSet<MembershipId> = match users {
            None => self.instances.keys().copied().collect(),
            Some(users) => users.iter().filter_map(|user| self.by_user.get(user)).flatten().copied().collect(),
        };
        for id in ids {
            let accepts = self.instances[&id].accepts.iter().enumerate().filter(|(_, accept)| !accept.settled);
            out.extend(accepts.map(|(index, accept)| (accept.at, accept.dot, Use::Accept(id, index))));
        }
        let ends: Vec<(&UserId, &Vec<End>)> = match users {
            None => self.ends.iter().collect(),
            Some(users) => users.iter().filter_map(|user| self.ends.get_key_value(user)).collect(),
        };
        for (user, ends) in ends {
            let ends = ends.iter().enumerate().filter(|(_, end)| !end.settled);
            out.extend(ends.map(|(index, end)| (end.at, end.dot, Use::End(*user, index))));
        }
        for (id, transfer) in self.transfers.iter().filter(|_| users.is_none()) {
            let tries = transfer.tries.iter().enumerate().filter(|(_, one)| !one.settled);
            out.extend(tries.map(|(index, one)| (one.at, one.dot, Use::Transfer(*id, index))));
        }
        out.sort_unstable();
        out
    }

    fn judge_validity(&mut self, one: Use) {
        match one {
            Use::Accept(id, index) => {
                let instance = &self.instances[&id];
                let accept = &instance.accepts[index];
                let valid = instance.request_dots.iter().any(|dot| accept.rests_on.contains(dot))
                    && self.tenure(accept.by, accept.at, &accept.rests_on).is_some();
                self.instance_mut(id).accepts[index].valid = valid;
            }
            Use::Transfer(id, index) => {
                let valid = self.is_valid_transfer(&id, index);
                if let Some(transfer) = self.transfers.get_mut(&id) {
                    transfer.tries[index].valid = valid;
                }
            }
            Use::End(user, index) => {
                let end = &self.ends[&user][index];
                let valid = end.by == user || self.tenure(end.by, end.at, &end.rests_on).is_some();
                if let Some(end) = self.ends.get_mut(&user).and_then(|ends| ends.get_mut(index)) {
                    end.valid = valid;
                }
            }
        }
    }

    fn is_valid_transfer(&self, id: &TransferId, index: usize) -> bool {
        let one = &self.transfers[id].tries[index];
        let heir = self.instances.get(&id.membership).filter(|heir| heir.user() == Some(id.owner));
        heir.is_some_and(|heir| heir.is_accepted_by(&one.rests_on, one.at))
            && self.tenure(id.by, one.at, &one.rests_on).is_some()
    }

    /// The ownership of `by` at `at` by the changes named in `rests_on` alone: of the root while no named end covers it,
    /// then of a member it passed to.
    fn tenure(&self, by: UserId, at: Timestamp, rests_on: &[Dot]) -> Option<Tenure> {
        let (root_at, root, owner) = self.root_among(at, rests_on)?;
        let mut ends = self.ends.get(&owner).into_iter().flatten();
        let holder = self.instances.get(&root)?;
        let over = ends.any(|end| end.at < at && rests_on.contains(&end.dot) && holder.is_covered(end));
        if !over {
            return (owner == by).then_some(Tenure { at: root_at, instance: root });
        }
        let mut own = self.by_user.get(&by)?.iter().filter(|id| {
            let instance = &self.instances[id];
            **id != root && instance.user() == Some(by) && instance.is_accepted_by(rests_on, at)
        });
        own.next().map(|&instance| Tenure { at: root_at, instance })
    }

    /// The latest creation or valid transfer among `rests_on`: its stamp, and the owner's membership and identity.
    fn root_among(&self, before: Timestamp, rests_on: &[Dot]) -> Option<(Timestamp, MembershipId, UserId)> {
        let created = self.created.as_ref().filter(|_| self.created_dots.iter().any(|dot| rests_on.contains(dot)));
        let transfers = self.transfers.iter().filter(|(_, transfer)| {
            transfer.tries.iter().any(|one| one.valid && one.at < before && rests_on.contains(&one.dot))
        });
        transfers
            .map(|(id, transfer)| (transfer.at(), id.membership, id.owner))
            .chain(created.map(|created| (created.at, created.membership, created.owner)))
            .max()
    }

    /// Whether a valid accept's author was a member in effect, and nothing concurrent revokes the ownership.
    fn is_effective(&self, accept: &Accept) -> bool {
        let tenure = self.tenure(accept.by, accept.at, &accept.rests_on).filter(|_| accept.valid);
        let Some(tenure) = tenure else { return false };
        let author = &self.instances[&tenure.instance];
        let member = author.founder || author.accepts.iter().any(|own| own.effective && own.at < accept.at);
        let transferred = self
            .transfers
            .values()
            .any(|transfer| transfer.is_valid() && transfer.at() > tenure.at && !transfer.had_seen(&accept.dot));
        let mut ends = self.ends.get(&accept.by).into_iter().flatten();
        member && !transferred && !ends.any(|end| author.is_covered(end) && !end.past.contains(&accept.dot))
    }
}
