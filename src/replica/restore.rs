//! A catalog made of a log, many changes at a time.
//!
//! What follows from one change after the other is derived once for all changes of a group, and a share that nothing else was
//! said of goes straight to its places. The same comes of it as of merging one by one: whatever is out of the ordinary is
//! merged so. What takes no catalog, an [`Intake`] does: so one thread reads a log, takes note of it and makes parts of it, another
//! merges those, and each part comes back to the first, which lets its files claim their names.

use super::{
    catalog::{Catalog, FILE_NAME},
    claim::Claim,
    fingerprint::{Fact, Fingerprint},
    ledger::Ledger,
    share::{Begun, Names},
    table::RowNo,
};
use crate::protocol::{
    ids::{GroupId, ManifestId, ShareId},
    manifest::ManifestHeader,
    name::FileName,
    record::{Change, ChangeBody, Kept},
};

/// Takes a log in, change after change.
#[derive(Debug, Default)]
pub struct Intake {
    /// What is known of the log.
    ledger: Ledger,
    /// What the next part is made of.
    staged: Part,
    /// Room of parts that are merged: fresh memory costs more than what is put in it.
    spare: Vec<Part>,
    /// What files of parts that are merged are called, and what counts of that.
    names: Names,
    named: Fingerprint,
    /// Files whose claims are to be looked at when all is merged.
    unnamed: Vec<RowNo>,
}

/// Changes that were kept of a log, in the form in which they are merged.
#[derive(Debug, Default)]
pub struct Part {
    /// Number of changes that it is made of.
    count: usize,
    /// Of groups and memberships, those of one group together.
    groups: Vec<Kept>,
    /// Begins of shares.
    shares: Vec<Beginning>,
    /// The order in which those of one group are together.
    by_group: Vec<(u64, u32)>,
    /// Shares that live as soon as it is merged, and where their files stand.
    live: Vec<(u32, RowNo)>,
    /// Of accounts and sessions, and ends of shares, which may be of several groups.
    others: Vec<Kept>,
    /// Changes of the log that come after it.
    left: usize,
}

/// A share begins, and its file perhaps.
#[derive(Debug)]
struct Beginning {
    id: ShareId,
    begun: Begun,
    manifest_id: ManifestId,
    manifest: ManifestHeader,
}

/// A share in its place.
struct Placed<'a> {
    at: u32,
    is: &'a Beginning,
    share: RowNo,
    file: RowNo,
    /// Whether its membership lives.
    live: bool,
}

/// The beginning of a group's identity: enough to bring changes of one group together.
fn start(group: GroupId) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|at| group.0[at]))
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
        // Most changes begin shares, which it does not list.
        ledger.reserve(changes / 2);
        Self { ledger, ..Self::default() }
    }

    /// Takes a change, which is of the next part.
    pub fn add(&mut self, kept: Kept) {
        self.ledger.note(&kept.change);
        self.staged.count += 1;
        let staged = &mut self.staged;
        match &kept.change.body {
            ChangeBody::ShareBegun { .. } => staged.shares.extend(Beginning::new(kept.change)),
            _ if group(&kept.change).is_some() => staged.groups.push(kept),
            _ => staged.others.push(kept),
        }
    }

    /// Makes ready what was added, of a log of which `left` changes are not in a part before.
    pub fn part(&mut self, left: usize) -> Part {
        let mut part = std::mem::replace(&mut self.staged, self.spare.pop().unwrap_or_default());
        part.left = left.saturating_sub(part.count);
        part.groups.sort_by_cached_key(|kept| group(&kept.change).map(start));
        part.by_group.extend(part.shares.iter().map(|one| start(one.begun.group)).zip(0..));
        part.by_group.sort_unstable();
        part
    }

    /// Takes a part back that is merged, and lets the files in it take the names that nobody else can bear, as most are. What is in
    /// it is dropped here, where it was made.
    pub fn take_back(&mut self, mut part: Part) {
        let live: Vec<_> =
            part.live.iter().filter_map(|(at, file)| Some((part.shares.get(*at as usize)?, *file))).collect();
        for all in live.chunk_by(|(one, _), (next, _)| one.begun.group == next.begun.group) {
            let Some((first, _)) = all.first() else { continue };
            let names = self.names.entry(first.begun.group).or_default();
            // All claims are read before one is merged: they lie far apart, and the processor waits for several at a time.
            let claims = all.iter().map(|(one, no)| (one.begun.file, one.claim(), *no));
            for (file, claim, no) in claims.collect::<Vec<_>>() {
                let fact = Fact::of(&[FILE_NAME, &file.0, claim.name.as_str().as_bytes()]);
                if names.take_free(file, claim) {
                    self.named.add(fact);
                } else {
                    self.unnamed.push(no);
                }
            }
        }
        drop(live);
        part.clear();
        self.spare.push(part);
    }
}

impl Part {
    /// Number of changes of the log that come after it, as far as that is known.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Takes everything out and keeps the room.
    fn clear(&mut self) {
        self.count = 0;
        self.groups.clear();
        self.shares.clear();
        self.by_group.clear();
        self.live.clear();
        self.others.clear();
    }
}

impl Beginning {
    fn new(change: Change) -> Option<Self> {
        let ChangeBody::ShareBegun { manifest, .. } = &change.body else { return None };
        let manifest_id = manifest.id();
        let (id, begun) = (change.request.into(), Begun::new(&change, &manifest_id)?);
        let ChangeBody::ShareBegun { manifest, .. } = change.body else { return None };
        Some(Self { id, begun, manifest_id, manifest })
    }

    /// What its file claims if no other share of it lives.
    fn claim(&self) -> Claim<FileName> {
        Claim { name: self.manifest.name.clone(), at: self.begun.at, taken_by: self.begun.taken_by }
    }
}

impl Catalog {
    /// Merges a part of a log of which an intake has taken note.
    pub fn restore_part(&mut self, part: &mut Part) {
        self.shares.name_later();
        for changes in part.groups.chunk_by(|one, next| group(&one.change) == group(&next.change)) {
            self.restore_group(changes);
        }
        if !part.shares.is_empty() {
            // All that follow may be shares, and a table of numbers that is too large costs little. One that has to grow is made anew.
            self.shares.reserve(part.shares.len() + part.left);
        }
        let share = |at: u32| Some((at, part.shares.get(at as usize)?));
        let shares: Vec<_> = part.by_group.iter().filter_map(|(_, at)| share(*at)).collect();
        for all in shares.chunk_by(|(_, one), (_, next)| one.begun.group == next.begun.group) {
            self.restore_shares(all, &mut part.live);
        }
        for kept in &part.others {
            self.restore_body(kept);
        }
    }

    /// Takes over what an intake knows of a log all parts of which are merged, and taken back. Only now are names settled that
    /// several claim, or that look as if they were marked: which changes came first makes no difference to them.
    #[must_use]
    pub fn with_all_of(mut self, intake: Intake) -> Self {
        self.ledger = intake.ledger;
        self.fingerprint.join(intake.named);
        let mut unnamed = self.shares.take_over(intake.names);
        unnamed.extend(intake.unnamed);
        unnamed.sort_unstable();
        unnamed.dedup();
        for file in unnamed {
            if let Some((group, renamed)) = self.shares.claim(file) {
                self.note_file_names(group, renamed, &mut Vec::new());
            }
        }
        self
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

    /// Merges the begins of shares of one group. Those of which nothing is known go straight to their places, one table after
    /// the other: the processor then looks for several entries at a time. Tells which of those live.
    fn restore_shares(&mut self, all: &[(u32, &Beginning)], live: &mut Vec<(u32, RowNo)>) {
        for (_, one) in all {
            self.shares.look_for(&one.id, &one.begun.file, &one.manifest_id);
        }
        let (mut placed, mut others) = (Vec::with_capacity(all.len()), Vec::new());
        for &(at, is) in all {
            match self.shares.put_share(is.id) {
                (share, true) => placed.push(Placed { at, is, share, file: 0, live: false }),
                (_, false) => others.push(is),
            }
        }
        for one in &mut placed {
            one.file = self.shares.put_file(&one.is.begun, one.is.manifest_id, &one.is.manifest);
        }
        let Some(group) = all.first().map(|(_, one)| self.groups.entry(one.begun.group).or_default()) else { return };
        for one in &mut placed {
            let instance = group.instance_mut(one.is.begun.membership);
            instance.shares.insert(one.share);
            one.live = instance.is_member(&one.is.begun.user);
        }
        for one in &placed {
            self.shares.start(one.share, &one.is.begun, one.file);
        }
        for one in placed.iter().filter(|one| one.live) {
            self.shares.turn(one.share, true);
            self.fingerprint.add(one.is.begun.fact(&one.is.id));
            live.push((one.at, one.file));
        }
        for one in others {
            self.begin_share(one.id, &one.begun, one.manifest_id, &one.manifest, &mut Vec::new());
        }
    }
}
