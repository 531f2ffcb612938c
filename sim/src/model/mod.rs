//! The reference model: the command contract in plain maps. It is told every command and its answer, and says whether that
//! answer may be given.
//!
//! - [`event`] what happened, with what was known where it was decided; [`view`] what a set of events comes to.
//! - [`world`] one way that things may be; [`answer`] what a command is answered with in it.
//! - [`Model`] all the ways that things may be. Where nothing was ever cut off there is one, and it predicts exactly. A
//!   command that was cut off may have happened, may not, or may have happened where nobody sees it yet: three worlds. An
//!   answer that a world does not give ends that world; when none is left, a promise is broken.
//!
//! Trackers on different sides of a partition know different events; after the heal they know the union.
//!
//! Pure: no clock, network or randomness.

mod answer;
mod event;
mod said;
mod view;
mod words;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use p2p::{
    protocol::error::{ErrorCode, Failure},
    roles::client::Outcome,
};

use self::world::{Next, World};
pub(crate) use self::{event::Content, said::Said, world::Who};

/// More worlds than this say that the scenario cuts too much off before it looks.
const MOST_WORLDS: usize = 2000;

/// All the ways that things may be.
pub(crate) struct Model {
    worlds: BTreeSet<World>,
}

impl Model {
    /// Nothing has happened; clients and trackers are numbered from 0.
    pub(crate) fn new(trackers: usize, clients: usize) -> Self {
        Self { worlds: BTreeSet::from([World::new(trackers, clients)]) }
    }

    /// A client's user has a file at a path.
    pub(crate) fn put(&mut self, client: usize, path: &str, content: &Content) {
        self.change(|world| drop(world.clients[client].disk.insert(path.to_owned(), content.clone())));
    }

    /// The answers that a line may be given, without being told anything.
    pub(crate) fn expected(&self, who: &Who, line: &str) -> Vec<Said> {
        self.worlds.iter().flat_map(|world| answer::to(world, who, line)).map(|next| next.said).collect()
    }

    /// The name that every account goes by, and its password, as one world has them.
    pub(crate) fn accounts(&self) -> Vec<(String, String)> {
        let view = self.worlds.iter().next().map(|world| world.view(0)).unwrap_or_default();
        view.users.into_values().map(|user| (user.name, user.password)).collect()
    }

    /// The name that every group goes by, as one world has them.
    pub(crate) fn groups(&self) -> Vec<String> {
        let view = self.worlds.iter().next().map(|world| world.view(0)).unwrap_or_default();
        view.groups.into_values().map(|group| group.name).collect()
    }

    /// A line was answered: fails when no world gives that answer. `reachable`: the client could reach a tracker all the time.
    pub(crate) fn heard(
        &mut self,
        who: &Who,
        line: &str,
        result: &Result<Outcome, Failure>,
        reachable: bool,
    ) -> Result<(), String> {
        if Said::of(result) == Said::Refused(ErrorCode::NoTracker) && !reachable {
            self.unheard(who, line);
            return Ok(());
        }
        self.look_into_hiding(who.now);
        let allowed: Vec<Next> = self.worlds.iter().flat_map(|world| answer::to(world, who, line)).collect();
        self.choose(&allowed, result)
    }

    /// A line was answered while its client moved from one side of a partition to the other: it was executed at one of two
    /// trackers, or at the first without an answer, and then at the second.
    pub(crate) fn heard_at_either(
        &mut self,
        from: &Who,
        to: &Who,
        line: &str,
        result: &Result<Outcome, Failure>,
    ) -> Result<(), String> {
        let mut allowed = Vec::new();
        for world in &self.worlds {
            allowed.extend(answer::to(world, from, line));
            allowed.extend(answer::to(&world.with_client_at(to), to, line));
            allowed.extend(answer::in_two_places(world, from, to, line));
            for unheard in answer::to(world, from, line) {
                let first = unheard.world.with_client_of(world, from.client).with_client_at(to);
                let repeats = answer::to(&first, to, line).into_iter();
                allowed.extend(repeats.map(|next| Next { world: next.world.merge_repeat(world, &first), ..next }));
            }
        }
        self.choose(&allowed, result)
    }

    /// Keeps the worlds that give this answer.
    fn choose(&mut self, allowed: &[Next], result: &Result<Outcome, Failure>) -> Result<(), String> {
        self.choose_said(allowed, &Said::of(result), result.as_ref().is_ok_and(|outcome| outcome.stale))
    }

    fn choose_said(&mut self, allowed: &[Next], said: &Said, is_stale: bool) -> Result<(), String> {
        let fits = |next: &&Next| next.said.allows(said) && (next.stale == is_stale || !said.is_listing());
        let worlds: BTreeSet<World> = allowed.iter().filter(fits).map(|next| next.world.clone()).collect();
        if worlds.is_empty() {
            let mut expected: Vec<_> =
                allowed.iter().map(|next| format!("{:?} (stale: {})", next.said, next.stale)).collect();
            expected.sort_unstable();
            expected.dedup();
            let expected = expected.join(" or ");
            return Err(format!("answered {said:?} (stale: {is_stale}), where the model has {expected}"));
        }
        self.set(worlds)
    }

    /// Nobody knows what became of a line: its client has died, or reached no tracker.
    pub(crate) fn unheard(&mut self, who: &Who, line: &str) {
        let mut worlds = self.worlds.clone();
        for world in &self.worlds {
            for next in answer::to(world, who, line) {
                let mut done = next.world;
                done.blur_shares(who.client, world);
                let mut hidden = done.clone();
                hidden.hide_since(world);
                worlds.extend([done, hidden]);
            }
        }
        self.worlds = worlds;
    }

    /// A client has died; call it after [`unheard`](Self::unheard).
    pub(crate) fn died(&mut self, client: usize, now: u64) {
        self.change(|world| world.die(client, now));
    }

    /// A client is linked to a tracker from now on.
    pub(crate) fn speaks_to(&mut self, who: &Who) {
        self.change(|world| world.speak_to(who.client, who.tracker, who.now));
    }

    /// Trackers of one number are linked from now on, and agree; those of different ones are not.
    pub(crate) fn split(&mut self, sides: &[usize], now: u64) {
        self.change(|world| world.split(sides, now));
    }

    /// Every tracker is up, linked and agrees with the others: nothing is hidden any more.
    pub(crate) fn settled(&mut self, now: u64) {
        self.change(|world| world.reveal(now));
    }

    /// Nobody needs to agree before `until` on who is online.
    pub(crate) fn fade_all(&mut self, until: u64) {
        self.change(|world| world.faded_until = until);
    }

    /// What is hidden may have come to light before the next answer.
    fn look_into_hiding(&mut self, now: u64) {
        let hiding = self.worlds.iter().filter(|world| world.hides());
        let revealed: Vec<World> = hiding
            .map(|world| {
                let mut world = world.clone();
                world.reveal(now);
                world
            })
            .collect();
        self.worlds.extend(revealed);
    }

    fn change(&mut self, change: impl Fn(&mut World)) {
        let worlds = std::mem::take(&mut self.worlds).into_iter().map(|mut world| {
            change(&mut world);
            world
        });
        self.worlds = worlds.collect();
    }

    fn set(&mut self, worlds: BTreeSet<World>) -> Result<(), String> {
        if worlds.len() > MOST_WORLDS {
            return Err(format!("the model has lost its way: {} worlds", worlds.len()));
        }
        self.worlds = worlds;
        Ok(())
    }
}
