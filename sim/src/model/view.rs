//! What a set of events comes to, by the rules of DESIGN section 3, the plain way: nothing is kept between two looks.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Body, Content, Event, Id, Known};

/// Everything, as one who knows these events sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) users: BTreeMap<Id, User>,
    /// Groups that live.
    pub(crate) groups: BTreeMap<Id, Group>,
}

/// An account.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// What it registered as.
    pub(crate) claimed: String,
    /// What it is called now.
    pub(crate) name: String,
    pub(crate) password: String,
    /// The event that set the password.
    pub(crate) credential: Id,
    /// The login in whose session it was set.
    pub(crate) kept: Option<Id>,
}

/// A group that lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// What it is called now.
    pub(crate) name: String,
    pub(crate) owner: Id,
    /// The owner's instance.
    pub(crate) owner_instance: Id,
    /// Members, each with the instance that began first.
    pub(crate) members: BTreeMap<Id, Id>,
    /// Users who ask and are no members, oldest first, each with the first instance.
    pub(crate) requests: Vec<(Id, Id)>,
    /// Files that somebody shares.
    pub(crate) files: Vec<File>,
}

/// A listed file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// What it is called now.
    pub(crate) name: String,
    pub(crate) content: Content,
    /// Live shares, the first one first: event, user, device.
    pub(crate) shares: Vec<(Id, Id, usize)>,
}

/// How far an instance of a membership has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Requested,
    Member { since: u64 },
    Ended,
}

/// A share that counts: when, event, user, device.
type LiveShare = (u64, Id, Id, usize);

/// A claim to a name.
struct Claim<'a> {
    name: &'a str,
    at: u64,
    taken_by: usize,
}

impl View {
    /// What one who knows `known` of `events` sees.
    pub(crate) fn of(events: &[Event], known: Known) -> Self {
        let facts = Facts { events, known };
        let users = facts.users();
        let mut groups: BTreeMap<Id, Group> = BTreeMap::new();
        let mut claims = BTreeMap::new();
        for (id, event) in facts.iter() {
            if let Body::Group { name, .. } = &event.body
                && let Some(group) = facts.group(id)
            {
                groups.insert(id, group);
                claims.insert(id, Claim { name, at: event.at, taken_by: event.taken_by });
            }
        }
        for (id, name) in names(&claims) {
            groups.entry(id).or_default().name = name;
        }
        Self { users, groups }
    }

    /// Who is called so now.
    pub(crate) fn user_named(&self, name: &str) -> Option<Id> {
        self.users.iter().find(|(_, user)| user.name == name).map(|(id, _)| *id)
    }

    /// The group that is called so now.
    pub(crate) fn group_named(&self, name: &str) -> Option<(Id, &Group)> {
        self.groups.iter().find(|(_, group)| group.name == name).map(|(id, group)| (*id, group))
    }

    /// The name of a user.
    pub(crate) fn name(&self, user: Id) -> String {
        self.users.get(&user).map(|user| user.name.clone()).unwrap_or_default()
    }
}

impl Group {
    /// The instance by which a user asks to join, unless a member.
    pub(crate) fn request(&self, user: Id) -> Option<Id> {
        self.requests.iter().find(|(asks, _)| *asks == user).map(|(_, instance)| *instance)
    }

    /// The listed file of this name.
    pub(crate) fn file(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|file| file.name == name)
    }
}

/// Events that are known.
struct Facts<'a> {
    events: &'a [Event],
    known: Known,
}

impl<'a> Facts<'a> {
    fn iter(&self) -> impl Iterator<Item = (Id, &'a Event)> + use<'a> {
        let known = self.known;
        self.events.iter().enumerate().filter(move |(id, _)| known.has(*id))
    }

    fn users(&self) -> BTreeMap<Id, User> {
        let mut users = BTreeMap::new();
        let mut claims = BTreeMap::new();
        for (id, event) in self.iter() {
            if let Body::User { name, password } = &event.body {
                claims.insert(id, Claim { name, at: event.at, taken_by: event.taken_by });
                // The last one counts.
                let later = self.iter().filter_map(|(set, event)| match &event.body {
                    Body::Password { user, password, keeps } if *user == id => {
                        Some((event.at, set, password, Some(*keeps)))
                    }
                    _ => None,
                });
                let (_, credential, password, kept) = later.max().unwrap_or((event.at, id, password, None));
                let (claimed, password) = (name.clone(), password.clone());
                users.insert(id, User { claimed, name: String::new(), password, credential, kept });
            }
        }
        for (id, name) in names(&claims) {
            users.entry(id).and_modify(|user| user.name = name);
        }
        users
    }

    /// A group, unless it is dissolved.
    fn group(&self, id: Id) -> Option<Group> {
        let states = self.states(id);
        let mut line: Vec<(u64, Id)> = Vec::new();
        let mut asking: Vec<(u64, Id, Id)> = Vec::new();
        for (&instance, state) in &states {
            match state {
                State::Member { since } => line.push((*since, instance)),
                State::Requested => asking.push((self.events[instance].at, self.user_of(instance), instance)),
                State::Ended => {}
            }
        }
        line.sort_unstable();
        asking.sort_unstable();
        let handed = self.iter().filter_map(|(hand, event)| match event.body {
            Body::Handed { group, instance } if group == id => Some((event.at, hand, instance)),
            _ => None,
        });
        let named = handed.max().map_or(id, |(_, _, instance)| instance);
        let lives = matches!(states.get(&named), Some(State::Member { .. }));
        // Ownership passes to the longest-standing member; the last one dissolves the group.
        let owner_instance = if lives { named } else { line.first()?.1 };
        let mut members = BTreeMap::new();
        for (_, instance) in line {
            members.entry(self.user_of(instance)).or_insert(instance);
        }
        let mut requests: Vec<(Id, Id)> = Vec::new();
        for (_, user, instance) in asking {
            if !members.contains_key(&user) && requests.iter().all(|(asks, _)| *asks != user) {
                requests.push((user, instance));
            }
        }
        let (owner, files) = (self.user_of(owner_instance), self.files(id, &states));
        Some(Group { name: String::new(), owner, owner_instance, members, requests, files })
    }

    fn user_of(&self, instance: Id) -> Id {
        match self.events[instance].body {
            Body::Asked { user, .. } | Body::Group { owner: user, .. } => user,
            _ => unreachable!("an instance begins with a request or a group"),
        }
    }

    /// Every instance in a group. "Merging takes the furthest state, so leave, withdraw, reject and remove win over a
    /// concurrent accept."
    fn states(&self, group: Id) -> BTreeMap<Id, State> {
        let effective = self.effective_accepts(group);
        let begins = self
            .iter()
            .filter(|(id, event)| *id == group || matches!(event.body, Body::Asked { group: of, .. } if of == group));
        let state = |(id, event): (Id, &Event)| {
            let accepted = effective.iter().filter(|(instance, _)| *instance == id).map(|(_, at)| *at).min();
            let since = if id == group { Some(event.at) } else { accepted };
            match since {
                _ if self.ended(group, id).next().is_some() => (id, State::Ended),
                Some(since) => (id, State::Member { since }),
                None => (id, State::Requested),
            }
        };
        begins.map(state).collect()
    }

    /// The ends that cover an instance: it, or its accept, lies in their past.
    fn ended(&self, group: Id, instance: Id) -> impl Iterator<Item = &'a Event> {
        let user = self.user_of(instance);
        let accepts = self.iter().filter(
            move |(_, event)| matches!(event.body, Body::Accepted { instance: accepted, .. } if accepted == instance),
        );
        let mut dots: Vec<Id> = accepts.map(|(id, _)| id).collect();
        dots.push(instance);
        self.iter().map(|(_, event)| event).filter(move |event| {
            matches!(event.body, Body::Ended { group: of, user: whose } if of == group && whose == user)
                && dots.iter().any(|dot| event.past.has(*dot))
        })
    }

    /// Accepts that count, each with its instance and time. "Revocation beats use": one that is concurrent with a hand-over of
    /// the group, or with the end of the membership by which its author owned it, has no effect.
    fn effective_accepts(&self, group: Id) -> Vec<(Id, u64)> {
        let mut accepts: Vec<(u64, Id)> = self
            .iter()
            .filter(|(_, event)| matches!(event.body, Body::Accepted { group: of, .. } if of == group))
            .map(|(id, event)| (event.at, id))
            .collect();
        accepts.sort_unstable();
        let mut effective: Vec<(Id, u64)> = Vec::new();
        for (at, id) in accepts {
            let accept = &self.events[id];
            let Body::Accepted { instance, as_instance, .. } = accept.body else { continue };
            let is_member = as_instance == group || effective.iter().any(|(member, _)| *member == as_instance);
            let mut ends = self.ended(group, as_instance);
            if is_member && !self.was_handed_away(group, id) && ends.all(|end| end.past.has(id)) {
                effective.push((instance, at));
            }
        }
        effective
    }

    /// Whether the group was handed on by one who had not seen this accept, later than its author came to own the group.
    fn was_handed_away(&self, group: Id, accept: Id) -> bool {
        let hands =
            || self.iter().filter(|(_, event)| matches!(event.body, Body::Handed { group: of, .. } if of == group));
        let before = hands().filter(|(id, _)| self.events[accept].past.has(*id)).map(|(_, event)| event.at).max();
        let since = before.unwrap_or(self.events[group].at);
        hands().any(|(_, hand)| hand.at > since && !hand.past.has(accept))
    }

    /// Files that live shares list. A file claims its name from its first live share on.
    fn files(&self, group: Id, states: &BTreeMap<Id, State>) -> Vec<File> {
        let over: BTreeSet<Id> = self
            .iter()
            .filter_map(|(_, event)| if let Body::Unshared { shares } = &event.body { Some(shares) } else { None })
            .flatten()
            .copied()
            .collect();
        let mut live: BTreeMap<&Content, Vec<LiveShare>> = BTreeMap::new();
        for (id, event) in self.iter() {
            if let Body::Shared { group: of, user, device, instance, content } = &event.body
                && *of == group
                && !over.contains(&id)
                && matches!(states.get(instance), Some(State::Member { .. }))
            {
                live.entry(content).or_default().push((event.at, id, *user, *device));
            }
        }
        let claims = live.iter_mut().enumerate().map(|(number, (content, shares))| {
            shares.sort_unstable();
            let (at, first, ..) = shares[0];
            (number, Claim { name: &content.name, at, taken_by: self.events[first].taken_by })
        });
        let mut called = names(&claims.collect());
        let mut files = Vec::new();
        for (number, (content, shares)) in live.into_iter().enumerate() {
            let shares = shares.into_iter().map(|(_, id, user, device)| (id, user, device)).collect();
            let name = called.remove(&number).unwrap_or_default();
            files.push(File { name, content: content.clone(), shares });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }
}

/// What each claimant is called: "The earlier claim keeps the name, the later one becomes `name~<tracker no>`."
fn names(claims: &BTreeMap<Id, Claim<'_>>) -> BTreeMap<Id, String> {
    let mut by_time: Vec<(&Id, &Claim<'_>)> = claims.iter().collect();
    by_time.sort_by_key(|(id, claim)| (claim.at, **id));
    let mut taken: BTreeSet<String> = by_time.iter().map(|(_, claim)| claim.name.to_owned()).collect();
    let (mut held, mut out) = (BTreeSet::new(), BTreeMap::new());
    for (id, claim) in by_time {
        let name = if held.insert(claim.name) {
            claim.name.to_owned()
        } else {
            let first = format!("{}~{}", claim.name, claim.taken_by);
            let more = (1..).map(|k| format!("{first}.{k}"));
            let free = std::iter::once(first.clone()).chain(more).find(|name| !taken.contains(name));
            free.unwrap_or(first)
        };
        taken.insert(name.clone());
        out.insert(*id, name);
    }
    out
}
