//! What must hold of the records that follow from a set of changes: invariants 1 and 4 to 8.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::{Discriminant, discriminant},
};

use p2p::{
    protocol::{
        client::Standing,
        ids::{GroupId, MembershipId, RequestId, UserId},
        record::{Change, ChangeBody},
        version::Dot,
    },
    replica::Catalog,
};

use super::{Seat, Verdict, broken};
use crate::coverage;

/// A catalog built anew from a set of changes, beside these.
pub(super) struct Records<'a> {
    changes: BTreeMap<Dot, &'a Change>,
    catalog: Catalog,
}

impl<'a> Records<'a> {
    /// Takes in the changes in another order than the trackers did: origin by origin, the last one first. Invariant 1:
    /// "whatever the order, batching and repetition".
    pub(super) fn of(changes: impl DoubleEndedIterator<Item = &'a Change>) -> Result<Self, String> {
        let changes: BTreeMap<Dot, &Change> = changes.map(|change| (change.dot, change)).collect();
        let catalog = build(changes.values().copied());
        if catalog.vector().iter().map(|dot| dot.counter).sum::<u64>() != changes.len() as u64 {
            return Err(broken(12, "a log that was seen before has a gap"));
        }
        Ok(Self { changes, catalog })
    }

    /// Invariant 1: "Same set of changes → byte-identical catalog digest at every tracker."
    pub(super) fn agree_with(&self, seats: &[Seat]) -> Verdict {
        for seat in seats {
            let Some(witness) = seat.running.as_ref().map(|tracker| tracker.witness()) else { continue };
            // A catalog may be ahead of its log by what nobody was told of yet.
            if !self.catalog.vector().includes(&witness.known) {
                continue;
            }
            let known = self.changes.values().copied().filter(|change| witness.known.contains(&change.dot));
            let (own, anew) = (witness.digest, build(known).digest());
            if own != anew {
                let what =
                    format!("{} derives {own} from {:?}, in another order it is {anew}", seat.name, witness.known);
                return Err(broken(1, &what));
            }
        }
        Ok(())
    }

    /// Invariants 4 to 8; `ended` remembers what was over at an earlier look.
    pub(super) fn check(&self, ended: &mut BTreeSet<(GroupId, MembershipId)>) -> Verdict {
        self.names_are_unique()?;
        self.members_were_let_in()?;
        self.ended_is_ended(ended)?;
        self.groups_have_one_owner()?;
        self.repeats_agree()
    }

    /// Invariant 4: "No two live records hold one name; […] an account can always log in by its current name."
    fn names_are_unique(&self) -> Verdict {
        let catalog = &self.catalog;
        for user in self.users() {
            let name = catalog.user_name(&user).ok_or_else(|| broken(4, &format!("{user:?} has no name")))?;
            if catalog.user_named(name) != Some(user) || catalog.credential(&user).is_none() {
                return Err(broken(4, &format!("{user:?} is called {name}, and cannot log in by it")));
            }
        }
        for (group, name) in self.groups().filter_map(|group| Some((group, catalog.group_name(&group)?))) {
            if name.as_str().contains('~') {
                coverage::reached("oracle: a claim was lost");
            }
            if catalog.group_named(name) != Some(group) {
                return Err(broken(4, &format!("{group:?} is called {name}, and another group holds that name")));
            }
            for file in catalog.list_files(&group, 0).entries {
                if catalog.file_named(&group, &file.name) != Some(file.file) {
                    return Err(broken(4, &format!("two files in {name} are called {}", file.name)));
                }
            }
        }
        Ok(())
    }

    /// Invariant 5: "Nobody is a member without a request by that very user and an accept by one who owned the group in the
    /// accept's past."
    fn members_were_let_in(&self) -> Verdict {
        for group in self.groups() {
            for user in self.catalog.members_of(&group) {
                let id = self.catalog.membership(&group, &user).map(|membership| membership.id);
                if !id.is_some_and(|id| id == group.into() || self.was_let_in(group, user, id)) {
                    return Err(broken(5, &format!("{user:?} is a member of {group:?} by {id:?}, and was not let in")));
                }
            }
        }
        Ok(())
    }

    fn was_let_in(&self, group: GroupId, user: UserId, id: MembershipId) -> bool {
        let asked = self.changes.values().filter(|change| {
            let asks = ChangeBody::MembershipRequested { group, user };
            MembershipId::from(change.request) == id && change.body == asks
        });
        let requests: BTreeSet<Dot> = asked.map(|change| change.dot).collect();
        self.changes.values().any(|change| match &change.body {
            ChangeBody::MembershipAccepted { group: of, membership, by, rests_on } => {
                (*of, *membership) == (group, id)
                    && rests_on.iter().any(|dot| requests.contains(dot))
                    && self.may_have_owned(group, *by, change)
            }
            _ => false,
        })
    }

    /// Whether `user` founded the group, was handed it, or was a member when another's membership had ended, by what is older
    /// than `change`.
    fn may_have_owned(&self, group: GroupId, user: UserId, change: &Change) -> bool {
        let older = self.changes.values().filter(|other| other.at < change.at);
        let mut others_ended = false;
        for other in older {
            match &other.body {
                ChangeBody::GroupCreated { owner, .. } if GroupId::from(other.request) == group && *owner == user => {
                    return true;
                }
                ChangeBody::OwnerSet { group: of, owner, .. } if *of == group && *owner == user => return true,
                ChangeBody::MembershipEnded { group: of, user: gone, .. } if *of == group && *gone != user => {
                    others_ended = true;
                }
                _ => {}
            }
        }
        others_ended
    }

    /// Invariant 6: "Once leave, withdraw, reject or remove of an instance is known to a tracker, no tracker that knows it lists,
    /// tickets or serves by that instance." A user's own end needs no right, so it is checked against every request it covers.
    fn ended_is_ended(&self, ended: &mut BTreeSet<(GroupId, MembershipId)>) -> Verdict {
        for end in self.changes.values() {
            let ChangeBody::MembershipEnded { group, user, by, past, .. } = &end.body else { continue };
            let covered = self.changes.values().filter(|change| {
                by == user
                    && past.contains(&change.dot)
                    && change.body == ChangeBody::MembershipRequested { group: *group, user: *user }
            });
            ended.extend(covered.map(|change| (*group, change.request.into())));
        }
        for (group, membership) in ended.iter() {
            if !self.catalog.has_ended(group, membership) {
                return Err(broken(6, &format!("{membership:?} of {group:?} was over, and lives again")));
            }
        }
        for group in self.groups() {
            for user in self.users() {
                let over = self.catalog.ended_memberships(&group, &user);
                ended.extend(over.into_iter().map(|membership| (group, membership)));
            }
        }
        Ok(())
    }

    /// Invariant 7: "A group that has members has exactly one owner, who is a member; one without is dissolved."
    fn groups_have_one_owner(&self) -> Verdict {
        for group in self.groups() {
            let members: Vec<_> = self.catalog.members_of(&group).collect();
            let standing = |user: &&UserId| self.catalog.standing(&group, user) == Standing::Owner;
            let owners: Vec<_> = members.iter().filter(standing).copied().collect();
            let named = self.catalog.group_name(&group).is_some();
            let right = match self.catalog.owner(&group) {
                Some(owner) => owners == [owner] && named,
                None => members.is_empty() && !named,
            };
            if !right {
                return Err(broken(7, &format!("{group:?}: members {members:?}, owners {owners:?}, named: {named}")));
            }
        }
        Ok(())
    }

    /// Invariant 8: "A retried write takes effect once": all changes of one request say the same kind of thing.
    fn repeats_agree(&self) -> Verdict {
        let mut kinds: BTreeMap<RequestId, (&Change, Discriminant<ChangeBody>)> = BTreeMap::new();
        for change in self.changes.values() {
            let kind = discriminant(&change.body);
            let (first, before) = *kinds.entry(change.request).or_insert((change, kind));
            if first.dot != change.dot {
                coverage::reached("oracle: a request was taken twice");
            }
            if before != kind {
                return Err(broken(8, &format!("one request made two things: {first:?} and {change:?}")));
            }
        }
        Ok(())
    }

    fn users(&self) -> impl Iterator<Item = UserId> + '_ {
        let created = self.changes.values().filter(|change| matches!(change.body, ChangeBody::UserCreated { .. }));
        created.map(|change| change.request.into()).collect::<BTreeSet<_>>().into_iter()
    }

    fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        let created = self.changes.values().filter(|change| matches!(change.body, ChangeBody::GroupCreated { .. }));
        created.map(|change| change.request.into()).collect::<BTreeSet<_>>().into_iter()
    }
}

/// Invariant 1, where something was forgotten: a restart makes the catalog that forgot, also when that is all there is to see.
pub(super) fn agrees_with_its_log(seat: &Seat) -> Verdict {
    let Some(tracker) = &seat.running else { return Ok(()) };
    let (witness, log) = (tracker.witness(), tracker.log());
    let (past, log) = log.map_err(|error| format!("{}: {error}", seat.name))?;
    let mut catalog = Catalog::new();
    for kept in log.iter().filter(|kept| witness.known.contains(&kept.change.dot)) {
        catalog.restore(kept);
    }
    catalog.forgotten(&past.folded, past.latest, []);
    if *catalog.vector() == witness.known && catalog.digest() != witness.digest {
        let what = format!("{} derives {}, its log makes {}", seat.name, witness.digest, catalog.digest());
        return Err(broken(1, &what));
    }
    Ok(())
}

fn build<'a>(changes: impl DoubleEndedIterator<Item = &'a Change>) -> Catalog {
    let mut by_origin: BTreeMap<_, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        by_origin.entry(change.dot.origin).or_default().push(change);
    }
    let mut catalog = Catalog::new();
    for change in by_origin.into_values().rev().flatten() {
        catalog.apply(change);
    }
    catalog
}
