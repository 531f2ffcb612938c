//! Names claimed on both sides of a partition: who is called what, derived from the set of live claims alone.
//!
//! Among the live claims to a name the least (timestamp, id) holds it. The others are called `name~<no>`, after the number
//! of the tracker that took the claim first, and `name~<no>.<k>` where that is taken too. A marked name yields to whoever
//! claims it literally. Text before the last `~` tells which claim a marked name comes from, so two claims to
//! different names never derive the same one.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::Hash,
    sync::OnceLock,
};

use super::table::{Numbers, Row, RowNo, Rows};
use crate::mutant::Mutant;
use crate::protocol::{
    ids::TrackerNo,
    name::{FileName, GroupName, MAX_FILE_NAME_BYTES, UserName},
    version::Timestamp,
};

/// A name that can be claimed and marked.
pub trait ClaimedName: Clone + Ord + Hash {
    /// The name that this one would be a marked form of: all before the last `~`.
    fn unmarked(&self) -> Option<Self>;

    /// This name with the mark of a lost claim, `~<no>` or `~<no>.<k>`. `id` tells claims apart where the name must be cut.
    #[must_use]
    fn marked(&self, mark: &str, id: &[u8]) -> Self;
}

impl ClaimedName for UserName {
    fn unmarked(&self) -> Option<Self> {
        Self::parse(self.as_str().rsplit_once('~')?.0).ok()
    }

    fn marked(&self, mark: &str, _id: &[u8]) -> Self {
        Self::parse(&format!("{self}{mark}")).unwrap_or_else(|_| self.clone())
    }
}

impl ClaimedName for GroupName {
    fn unmarked(&self) -> Option<Self> {
        Self::parse(self.as_str().rsplit_once('~')?.0).ok()
    }

    fn marked(&self, mark: &str, _id: &[u8]) -> Self {
        Self::parse(&format!("{self}{mark}")).unwrap_or_else(|_| self.clone())
    }
}

impl ClaimedName for FileName {
    fn unmarked(&self) -> Option<Self> {
        Self::parse(self.as_str().rsplit_once('~')?.0).ok()
    }

    /// A name too long to be marked is cut, and part of the identity stands in for what was lost.
    fn marked(&self, mark: &str, id: &[u8]) -> Self {
        Self::parse(&format!("{self}{mark}")).unwrap_or_else(|_| {
            let tail = format!("~{}{mark}", data_encoding::HEXLOWER.encode(&id[..id.len().min(8)]));
            let mut end = MAX_FILE_NAME_BYTES.saturating_sub(tail.len()).min(self.as_str().len());
            while !self.as_str().is_char_boundary(end) {
                end -= 1;
            }
            Self::parse(&format!("{}{tail}", &self.as_str()[..end])).unwrap_or_else(|_| self.clone())
        })
    }
}

/// A name taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim<N> {
    /// The name.
    pub name: N,
    /// When it was taken, at first.
    pub at: Timestamp,
    /// By which tracker, at first.
    pub taken_by: TrackerNo,
}

/// Something is called otherwise now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed<N, Id> {
    /// What.
    pub id: Id,
    /// What it was called; `None` when it had no name.
    pub from: Option<N>,
    /// What it is called; `None` when it has no name.
    pub to: Option<N>,
}

/// All live claims of one kind, and the names that follow from them.
#[derive(Clone, Debug)]
pub struct Claims<N, Id> {
    live: Rows<Live<N, Id>>,
    by_name: Numbers<DefaultHasher>,
    /// What those are called who lost the name they claim. All others are called by it.
    marked: BTreeMap<Id, N>,
    /// Those same by what they are called.
    bearers: BTreeMap<N, RowNo>,
    /// All in the order of what they are called: made for whoever lists them, and kept until a name changes.
    in_order: OnceLock<Vec<RowNo>>,
}

/// A live claim, and whose it is.
#[derive(Clone, Debug)]
struct Live<N, Id> {
    id: Id,
    claim: Claim<N>,
}

impl<N, Id: Copy + Eq + Hash> Row for Live<N, Id> {
    type Id = Id;

    fn id(&self) -> Id {
        self.id
    }
}

impl<N, Id> Default for Claims<N, Id> {
    fn default() -> Self {
        let (live, by_name, in_order) = (Rows::default(), Numbers::default(), OnceLock::new());
        Self { live, by_name, marked: BTreeMap::new(), bearers: BTreeMap::new(), in_order }
    }
}

impl<N: ClaimedName, Id: Copy + Ord + Hash + AsRef<[u8]>> Claims<N, Id> {
    /// What `id` is called now.
    pub fn name(&self, id: &Id) -> Option<&N> {
        self.live.get(id).map(|live| self.name_of(live))
    }

    fn name_of<'a>(&'a self, live: &'a Live<N, Id>) -> &'a N {
        let marked = if self.marked.is_empty() { None } else { self.marked.get(&live.id) };
        marked.unwrap_or(&live.claim.name)
    }

    /// The name `id` claims, whether or not it holds it.
    pub fn claimed(&self, id: &Id) -> Option<&N> {
        self.live.get(id).map(|live| &live.claim.name)
    }

    /// Who is called `name` now.
    pub fn holder(&self, name: &N) -> Option<Id> {
        let claimant = self.claims_to(name).map(|live| live.id).find(|id| !self.marked.contains_key(id));
        // Whoever bears a mark has another name than it claims.
        let marked = || self.live.at(*self.bearers.get(name)?).map(|live| live.id);
        claimant.or_else(|| name.unmarked().and_then(|_| marked()))
    }

    /// All who claim `name`, the one who holds it first.
    pub fn claimants(&self, name: &N) -> impl Iterator<Item = Id> + use<N, Id> {
        let mut claimants: Vec<_> = self.claims_to(name).map(|live| (live.claim.at, live.id)).collect();
        claimants.sort_unstable();
        claimants.into_iter().map(|(_, id)| id)
    }

    fn claims_to<'a>(&'a self, name: &'a N) -> impl Iterator<Item = &'a Live<N, Id>> {
        self.by_name.all(name).filter_map(|no| self.live.at(no)).filter(|live| live.claim.name == *name)
    }

    /// All by name.
    pub fn iter(&self) -> impl Iterator<Item = (&N, Id)> + '_ {
        let called = |no| self.live.at(no).map(|live| (self.name_of(live), live.id));
        let in_order = self.in_order.get_or_init(|| {
            let mut all: Vec<RowNo> = self.live.numbers().collect();
            all.sort_by_cached_key(|no| called(*no));
            all
        });
        in_order.iter().filter_map(move |no| called(*no))
    }

    /// Those who lost the name they claim.
    pub fn losers(&self) -> impl Iterator<Item = Id> + '_ {
        self.marked.keys().copied()
    }

    /// Sets or withdraws the claim of `id`; returns who is called otherwise now.
    pub fn set(&mut self, id: Id, claim: Option<Claim<N>>) -> Vec<Renamed<N, Id>> {
        let before = self.live.get(&id).map(|live| &live.claim);
        if before == claim.as_ref() {
            return Vec::new();
        }
        self.in_order.take();
        let called = self.name(&id).cloned();
        let mut touched: BTreeSet<N> = self.withdraw(&id).map(|before| before.name).into_iter().collect();
        if let Some(claim) = claim {
            let name = claim.name.clone();
            let is_first = self.claims_to(&name).next().is_none();
            let (no, _) = self.live.find_or_put(&id, || Live { id, claim });
            let live = &self.live;
            self.by_name.put(&&name, no, |no| live.at(no).map(|live| &live.claim.name));
            // Nobody else can bear it: most names are taken so.
            if called.is_none() && is_first && name.unmarked().is_none() {
                return vec![Renamed { id, from: None, to: Some(name) }];
            }
            touched.insert(name);
        }
        self.rename(&Self::with_bases(&touched), (id, called))
    }

    /// Lets `id`, which has no claim, take a name that nobody claims and nobody else can bear, as most names are taken; tells
    /// whether it could.
    pub fn take_free(&mut self, id: Id, claim: Claim<N>) -> bool {
        if claim.name.unmarked().is_some() {
            return false;
        }
        let (no, is_new) = self.live.find_or_put(&id, || Live { id, claim });
        let name_of = |no| self.live.at(no).map(|live| &live.claim.name);
        let Some(name) = name_of(no).filter(|_| is_new) else { return false };
        let known = self.by_name.find_or_put(&name, no, |known| name_of(known) == Some(name), name_of);
        if known.is_some() {
            self.live.take(no);
            return false;
        }
        self.in_order.take();
        true
    }

    fn withdraw(&mut self, id: &Id) -> Option<Claim<N>> {
        let no = self.live.find(id)?;
        let claim = self.live.take(no)?.claim;
        self.by_name.remove(&claim.name, no);
        Some(claim)
    }

    /// Adds the names whose marked forms the touched ones may be.
    fn with_bases(touched: &BTreeSet<N>) -> BTreeSet<N> {
        touched.iter().filter_map(ClaimedName::unmarked).collect::<BTreeSet<_>>().union(touched).cloned().collect()
    }

    /// Derives the names of all who claim one of `touched`, and of one who was called otherwise.
    fn rename(&mut self, touched: &BTreeSet<N>, (id, called): (Id, Option<N>)) -> Vec<Renamed<N, Id>> {
        let mut before: BTreeMap<Id, Option<N>> =
            touched.iter().flat_map(|name| self.claimants(name)).map(|id| (id, self.name(&id).cloned())).collect();
        before.insert(id, called);
        for (id, name) in &before {
            self.marked.remove(id);
            if let Some(name) = name {
                self.bearers.remove(name);
            }
        }
        for claimed in touched {
            for (id, name) in self.derive(claimed) {
                if name != *claimed {
                    self.marked.insert(id, name.clone());
                    self.bearers.extend(self.live.find(&id).map(|no| (name, no)));
                }
            }
        }
        let renamed = |(id, from): (Id, Option<N>)| {
            let to = self.name(&id).cloned();
            (from != to).then_some(Renamed { id, from, to })
        };
        before.into_iter().filter_map(renamed).collect()
    }

    /// What each of those who claim `name` is called.
    fn derive(&self, name: &N) -> Vec<(Id, N)> {
        let mut named: Vec<(Id, N)> = Vec::new();
        let mut claimants: Vec<_> = self.claimants(name).collect();
        if Mutant::LaterClaimWins.is_on() {
            claimants.reverse();
        }
        for id in claimants {
            let free = |candidate: &N| {
                self.claims_to(candidate).next().is_none() && named.iter().all(|(_, taken)| taken != candidate)
            };
            let own = if named.is_empty() { name.clone() } else { self.marked(name, id, free) };
            named.push((id, own));
        }
        named
    }

    fn marked(&self, name: &N, id: Id, free: impl Fn(&N) -> bool) -> N {
        let Some(no) = self.live.get(&id).map(|live| live.claim.taken_by) else { return name.clone() };
        let marks = std::iter::once(format!("~{no}")).chain((1u32..1_000_000).map(|k| format!("~{no}.{k}")));
        let mut candidates = marks.map(|mark| name.marked(&mark, id.as_ref()));
        candidates.find(free).unwrap_or_else(|| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{
        ids::{FileId, UserId},
        name::{FileName, UserName},
    };

    const NAMES: [&str; 5] = ["a", "a~1", "a~1.1", "a~1~1", "b"];

    fn claim() -> impl Strategy<Value = Option<Claim<FileName>>> {
        let long = prop_oneof![4 => Just(None), 1 => (253usize..=255).prop_map(Some)];
        let claim = (0usize..NAMES.len(), long, 0u64..4, 1u16..3).prop_map(|(name, long, wall_ms, no)| {
            let name = long.map_or_else(|| NAMES[name].to_owned(), |length| "x".repeat(length));
            let at = Timestamp { wall_ms, logical: 0 };
            Claim { name: FileName::parse(&name).unwrap(), at, taken_by: TrackerNo(no) }
        });
        prop::option::weighted(0.8, claim)
    }

    /// Claims to account names, as they are made: without marks.
    fn account_claim() -> impl Strategy<Value = Option<Claim<UserName>>> {
        let claim = (0usize..3, 0u64..4, 1u16..3).prop_map(|(name, wall_ms, no)| Claim {
            name: UserName::parse(["ann", "bob", &"x".repeat(64)][name]).unwrap(),
            at: Timestamp { wall_ms, logical: 0 },
            taken_by: TrackerNo(no),
        });
        prop::option::weighted(0.8, claim)
    }

    proptest! {
        #[test]
        fn the_earliest_claim_has_the_name_and_the_others_bear_a_mark_of_their_tracker(
            history in prop::collection::vec((0u8..8, account_claim()), 0..40)
        ) {
            let mut claims = Claims::default();
            for (id, claim) in &history {
                claims.set(UserId([*id; 32]), claim.clone());
            }
            let last: BTreeMap<_, _> = history.into_iter().map(|(id, claim)| (UserId([id; 32]), claim)).collect();
            for (id, claim) in &last {
                let Some(claim) = claim else {
                    prop_assert_eq!(claims.name(id), None);
                    continue;
                };
                let rivals = last.iter().filter(|(_, other)| other.as_ref().is_some_and(|other| other.name == claim.name));
                let first = rivals.filter_map(|(id, other)| Some((other.as_ref()?.at, *id))).min();
                let called = claims.name(id).unwrap().as_str();
                prop_assert!(UserName::parse(called).is_ok());
                if first == Some((claim.at, *id)) {
                    prop_assert_eq!(called, claim.name.as_str());
                } else {
                    let marked = format!("{}~{}", claim.name, claim.taken_by);
                    prop_assert!(called == marked || called.starts_with(&format!("{marked}.")), "{}", called);
                }
            }
        }

        #[test]
        fn a_later_claim_changes_no_name(
            history in prop::collection::vec((0u8..8, account_claim()), 0..20), name in 0usize..3, no in 1u16..3
        ) {
            let mut claims = Claims::default();
            for (id, claim) in history {
                claims.set(UserId([id; 32]), claim);
            }
            let before: Vec<_> = claims.iter().map(|(name, id)| (name.clone(), id)).collect();
            let name = UserName::parse(["ann", "bob", "cat"][name]).unwrap();
            let late = Claim { name, at: Timestamp { wall_ms: 9, logical: 0 }, taken_by: TrackerNo(no) };
            let newcomer = UserId([9; 32]);
            for renamed in claims.set(newcomer, Some(late)) {
                prop_assert_eq!(renamed.id, newcomer);
            }
            claims.set(newcomer, None);
            prop_assert!(claims.iter().eq(before.iter().map(|(name, id)| (name, *id))));
        }

        #[test]
        fn names_follow_from_the_live_claims_alone(history in prop::collection::vec((0u8..8, claim()), 0..40)) {
            let mut claims = Claims::default();
            let mut called = BTreeMap::new();
            for (id, claim) in &history {
                for renamed in claims.set(FileId([*id; 32]), claim.clone()) {
                    prop_assert_eq!(called.remove(&renamed.id), renamed.from);
                    called.extend(renamed.to.map(|to| (renamed.id, to)));
                }
            }
            let last: BTreeMap<_, _> = history.into_iter().collect();
            let mut fresh = Claims::default();
            for (id, claim) in last.iter().rev() {
                fresh.set(FileId([*id; 32]), claim.clone());
            }
            prop_assert!(claims.iter().eq(fresh.iter()));
            prop_assert_eq!(claims.iter().count(), called.len());
            prop_assert!(called.iter().all(|(id, name)| claims.name(id) == Some(name) && claims.holder(name) == Some(*id)));
            prop_assert_eq!(claims.iter().count(), last.values().flatten().count());
            prop_assert!(claims.iter().all(|(name, id)| claims.name(&id) == Some(name)));
            let lost = called.iter().filter(|(id, name)| claims.claimed(id) != Some(*name)).map(|(id, _)| *id);
            prop_assert!(claims.losers().eq(lost));
        }
    }
}
