//! A catalog made of a log, many changes at a time.
//!
//! What follows from one change after the other is derived once for all changes of a group, and a share that nothing else was
//! said of goes straight to its places. The same comes of it as of merging one by one: whatever is out of the ordinary is
//! merged so. What can be worked out of the changes alone, an [`Intake`] does, for which no catalog is needed: so one thread
//! reads a log, takes note of it in a [`Ledger`] and makes parts, and another merges them.

use std::collections::hash_map::Entry;

use super::{
    catalog::{Catalog, FILE_NAME},
    claim::Claim,
    fingerprint::Fact,
    ledger::Ledger,
    share::{Begun, File, Share, Shares},
};
use crate::protocol::{
    ids::{GroupId, ManifestId, ShareId},
    name::FileName,
    record::{Change, ChangeBody, Kept},
};

/// Takes a log in, change after change.
#[derive(Debug, Default)]
pub struct Intake {
    ledger: Ledger,
    /// What the next part is made of.
    staged: Vec<Option<Kept>>,
}

/// Changes that were kept of a log, in the order and form in which they are merged: those of one group lie together.
#[derive(Debug, Default)]
pub struct Part {
    /// Of accounts and sessions.
    accounts: Vec<Kept>,
    /// Of groups and memberships, group after group.
    groups: Vec<Kept>,
    /// Begins of shares, group after group.
    shares: Vec<Beginning>,
    /// Ends of shares, which may be of several groups.
    ends: Vec<Kept>,
    /// Changes of the log that come after it.
    left: usize,
}

/// A share begins, and its file perhaps.
#[derive(Debug)]
struct Beginning {
    id: ShareId,
    /// Both until they are in their places.
    share: Option<Box<Share>>,
    file: Option<Box<File>>,
    begun: Begun,
    manifest: ManifestId,
    /// Pieces of the file.
    pieces: u32,
    /// The file's, if it is the first.
    claim: Claim<FileName>,
    /// Whether its membership lives.
    live: bool,
    /// What counts once it lives.
    fact: Fact,
    /// What counts once its file holds its name.
    called: Fact,
}

/// Where a change belongs, and the beginning of its group's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Accounts,
    Group(u64),
    Share(u64),
    Ends,
}

impl Place {
    fn of(change: &Change) -> Self {
        let start = |group: GroupId| u64::from_be_bytes(std::array::from_fn(|at| group.0[at]));
        match (&change.body, group(change)) {
            (ChangeBody::ShareBegun { group, .. }, _) => Self::Share(start(*group)),
            (_, Some(group)) => Self::Group(start(group)),
            (ChangeBody::ShareEnded { .. }, _) => Self::Ends,
            _ => Self::Accounts,
        }
    }
}

/// The group that a change is of, unless it is of a share.
fn group(change: &Change) -> Option<GroupId> {
    match &change.body {
        ChangeBody::GroupCreated { .. } => Some(change.request.into()),
        ChangeBody::OwnerSet { group, .. }
        | ChangeBody::MembershipRequested { group, .. }
        | ChangeBody::MembershipAccepted { group, .. }
        | ChangeBody::MembershipEnded { group, .. } => Some(*group),
        _ => None,
    }
}

impl Intake {
    /// Of a log of so many changes.
    pub fn new(changes: usize) -> Self {
        let mut ledger = Ledger::default();
        ledger.reserve(changes);
        Self { ledger, staged: Vec::new() }
    }

    /// Takes a change, which is of the next part.
    pub fn add(&mut self, kept: Kept) {
        self.staged.push(Some(kept));
    }

    /// Makes ready what was added, of a log of which `left` changes are not in a part before.
    pub fn part(&mut self, left: usize) -> Part {
        let left = left.saturating_sub(self.staged.len());
        self.staged.iter().flatten().for_each(|kept| self.ledger.note(&kept.change));
        let places = self.staged.iter().flatten().map(|kept| Place::of(&kept.change)).zip(0..);
        let mut order: Vec<(Place, usize)> = places.collect();
        order.sort_unstable();
        let count = |is: fn(&Place) -> bool| order.iter().filter(|(place, _)| is(place)).count();
        let mut part = Part {
            groups: Vec::with_capacity(count(|place| matches!(place, Place::Group(_)))),
            shares: Vec::with_capacity(count(|place| matches!(place, Place::Share(_)))),
            left,
            ..Part::default()
        };
        for (place, at) in order {
            let Some(kept) = self.staged[at].take() else { continue };
            match place {
                Place::Accounts => part.accounts.push(kept),
                Place::Group(_) => part.groups.push(kept),
                Place::Share(_) => part.shares.extend(Beginning::new(kept.change)),
                Place::Ends => part.ends.push(kept),
            }
        }
        self.staged.clear();
        part
    }
}

impl Part {
    /// Number of changes of the log that come after it, as far as that is known.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.accounts.len() + self.groups.len() + self.shares.len() + self.ends.len()
    }
}

impl Beginning {
    fn new(change: Change) -> Option<Self> {
        let ChangeBody::ShareBegun { manifest: header, .. } = &change.body else { return None };
        let manifest = header.id();
        let (begun, pieces) = (Begun::new(&change, &manifest)?, header.piece_count());
        let ChangeBody::ShareBegun { manifest: header, .. } = change.body else { return None };
        let id = change.request.into();
        let called = Fact::of(&[FILE_NAME, &begun.file.0, header.name.as_str().as_bytes()]);
        let fact = begun.fact(&id);
        let claim = Claim { name: header.name.clone(), at: begun.at, taken_by: begun.taken_by };
        let (share, file) = (Some(Box::new(Share::new(begun))), Some(Box::new(File::new(begun.group, header))));
        Some(Self { id, share, file, begun, manifest, pieces, claim, live: false, fact, called })
    }

    /// Whether the share is in its place, and lives.
    fn is_placed(&self) -> bool {
        self.live && self.share.is_none()
    }
}

impl Catalog {
    /// Merges a part of a log of which an intake has taken note.
    pub fn restore_part(&mut self, mut part: Part) {
        for kept in &part.accounts {
            self.restore_body(kept);
        }
        for changes in part.groups.chunk_by(|one, next| group(&one.change) == group(&next.change)) {
            self.restore_group(changes);
        }
        self.shares.reserve(part.shares.len(), part.len(), part.left);
        for all in part.shares.chunk_by_mut(|one, next| one.begun.group == next.begun.group) {
            self.restore_shares(all);
        }
        for one in part.shares {
            if let (Some(_), Some(file)) = (one.share, one.file) {
                self.begin_share(one.id, one.begun, &file.manifest, one.manifest, &mut Vec::new());
            }
        }
        for kept in &part.ends {
            self.restore_body(kept);
        }
    }

    /// Takes over what is known of a log all parts of which are merged.
    #[must_use]
    pub fn with_all_of(self, intake: Intake) -> Self {
        Self { ledger: intake.ledger, ..self }
    }

    fn restore_body(&mut self, kept: &Kept) {
        self.merge_body(&kept.change, kept.verdict, &mut Vec::new());
    }

    /// Merges changes of one group: all at once where they are many for it.
    fn restore_group(&mut self, changes: &[Kept]) {
        let Some(id) = changes.first().and_then(|one| group(&one.change)) else { return };
        let group = self.groups.entry(id).or_default();
        if changes.len() == 1 || changes.len() * 4 < group.by_user.len() {
            return changes.iter().for_each(|kept| self.restore_body(kept));
        }
        let before = group.apply_all(id, changes);
        self.follow_group(id, &before, &mut Vec::new());
    }

    /// Merges the begins of shares of one group, but for those of which another begin or an end is known. One table after the
    /// other: the processor then looks for several entries at a time.
    fn restore_shares(&mut self, all: &mut [Beginning]) {
        let Some(group) = all.first().map(|one| self.groups.entry(one.begun.group).or_default()) else { return };
        for one in all.iter_mut() {
            one.live = group.is_member(&one.begun.membership, &one.begun.user);
            self.shares.place_share(one);
        }
        for one in all.iter().filter(|one| one.share.is_none()) {
            group.instance_mut(one.begun.membership).shares.insert(one.id);
        }
        for one in all.iter().filter(|one| one.is_placed()) {
            self.shares.by_device.entry((one.begun.user, one.begun.device)).or_default().insert(one.id);
            self.shares.count_pieces(one.begun.user, one.pieces, true);
            self.fingerprint.add(&one.fact);
        }
        for one in all.iter_mut().filter(|one| one.share.is_none()) {
            self.shares.place_file(one);
        }
        for one in all.iter().filter(|one| one.file.is_none()) {
            *self.shares.manifests.entry(one.manifest).or_default() += 1;
        }
        for one in all.iter().filter(|one| one.is_placed()) {
            self.restore_name(one);
        }
    }

    /// Lets the file of a share that lives claim its name.
    fn restore_name(&mut self, one: &Beginning) {
        let Begun { group, file, .. } = one.begun;
        if one.file.is_none() && self.shares.names.entry(group).or_default().take_free(file, one.claim.clone()) {
            self.fingerprint.add(&one.called);
        } else {
            let renamed = self.shares.claim(file);
            self.note_file_names(group, renamed, &mut Vec::new());
        }
    }
}

impl Shares {
    /// Puts a share in its place, unless something is known of it.
    fn place_share(&mut self, one: &mut Beginning) {
        let Entry::Vacant(place) = self.all.entry(one.id) else { return };
        if let Some(mut share) = one.share.take() {
            share.live = one.live;
            place.insert(share);
        }
    }

    /// Puts the file of a share in its place, or the share into the file that is there.
    fn place_file(&mut self, one: &mut Beginning) {
        let file = match self.files.entry(one.begun.file) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match one.file.take() {
                Some(file) => place.insert(file),
                None => return,
            },
        };
        file.add(one.id, one.live.then_some(one.begun.at));
    }
}
