//! Notices that wait because a client does not read what it is sent: each thing once, as it is now. Pure.

use std::collections::BTreeMap;

use crate::protocol::client::Notice;

/// Notices that wait for one client at most.
const MOST: usize = 1024;

/// What waits for one client.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_subject: BTreeMap<Vec<u8>, (u64, Notice)>,
    order: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl Held {
    /// Lets a notice wait, in place of an earlier one about the same. Where there is no room, one that only tells the user something
    /// is dropped: lists and logins tell it, too. False when there is no room for what the client has to act on.
    pub(super) fn put(&mut self, notice: Notice) -> bool {
        let subject = subject(&notice);
        if let Some((_, before)) = self.by_subject.get_mut(&subject) {
            *before = notice;
            return true;
        }
        if self.order.len() >= MOST {
            return is_for_the_user(&notice);
        }
        self.next += 1;
        self.order.insert(self.next, subject.clone());
        self.by_subject.insert(subject, (self.next, notice));
        true
    }

    /// The one that has waited for longest.
    pub(super) fn take(&mut self) -> Option<Notice> {
        let (_, subject) = self.order.pop_first()?;
        self.by_subject.remove(&subject).map(|(_, notice)| notice)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// What a notice is about: of two about the same, the later says all.
fn subject(notice: &Notice) -> Vec<u8> {
    let subject = match notice {
        Notice::MembershipEnded { group, user, .. } => {
            Notice::MembershipEnded { group: *group, user: *user, memberships: Vec::new() }
        }
        Notice::Trackers(_) => Notice::Trackers(Vec::new()),
        notice => notice.clone(),
    };
    rmp_serde::to_vec(&subject).expect("notices hold only plain values")
}

fn is_for_the_user(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::JoinRequested { .. }
            | Notice::RequestAccepted { .. }
            | Notice::RequestRejected { .. }
            | Notice::OwnerNow { .. }
            | Notice::Renamed { .. }
            | Notice::DialRequested { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        ids::{GroupId, MembershipId, UserId},
        name::{GroupName, UserName},
    };

    fn asks(user: usize) -> Notice {
        let (group, user) = (GroupName::parse("g").unwrap(), UserName::parse(&format!("user{user}")).unwrap());
        Notice::JoinRequested { group, user }
    }

    fn ended(user: u8, memberships: u8) -> Notice {
        let memberships = (0..memberships).map(|n| MembershipId([n; 32])).collect();
        Notice::MembershipEnded { group: GroupId([1; 32]), user: UserId([user; 32]), memberships }
    }

    #[test]
    fn the_same_is_told_once_and_as_it_is_now() {
        let mut held = Held::default();
        for notice in [asks(1), ended(1, 1), asks(1), ended(2, 1), ended(1, 2), asks(1)] {
            assert!(held.put(notice));
        }
        let told: Vec<_> = std::iter::from_fn(|| held.take()).collect();
        assert_eq!(told, [asks(1), ended(1, 2), ended(2, 1)]);
        assert!(held.is_empty() && held.by_subject.is_empty());
    }

    #[test]
    fn spam_is_dropped_and_what_must_be_acted_on_is_not() {
        let mut held = Held::default();
        assert!((0..10 * MOST).all(|user| held.put(asks(user))));
        assert_eq!((held.order.len(), held.by_subject.len()), (MOST, MOST));
        assert!(!held.put(ended(1, 1)), "then the client asks anew over another link");
        assert_eq!(held.take(), Some(asks(0)));
        assert!(held.put(ended(1, 1)) && held.put(ended(1, 2)));
    }
}
