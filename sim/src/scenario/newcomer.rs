//! Trackers forget what is over. Then one comes that lacks it: added to the list, or with an empty disk and a new key, or with a
//! disk set back to a backup. It takes a snapshot and then the tail, whatever dies or breaks meanwhile, and serves alone in the end.

mod scene;
mod town;

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use std::time::Duration;
use tokio::time::sleep;

use self::{
    scene::{Backup, Harm, MET_WITHIN, Moment, Scene},
    town::Town,
};
use super::{Script, below};
use crate::{
    cluster::{Cluster, Cut, Name, Outcome, tracker_name},
    disk::{Crash, Operation, Trouble},
    role::peer_with,
};

/// Why a tracker lacks what others have forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Added,
    LostItsDisk,
    SetBack,
}

struct Newcomer {
    why: Why,
    scene: Scene,
    town: Town,
    rng: ChaCha20Rng,
    /// The one that will lack something.
    taker: Name,
    backup: Backup,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let mut rng = cluster.rng();
    let why = [Why::Added, Why::LostItsDisk, Why::SetBack][below(&mut rng, 3)];
    let names: Vec<Name> = (0..2 + below(&mut rng, 2)).map(tracker_name).collect();
    let (listed, taker) = match why {
        Why::Added => (names.len() - 1, names[names.len() - 1]),
        _ => (names.len(), names[below(&mut rng, names.len())]),
    };
    let scene = Scene::new(cluster, names, listed);
    let people = Town::people().map(|name| peer_with(cluster, name, 0, &scene.list));
    let town = Town::new(people, cluster.steps(), ChaCha20Rng::seed_from_u64(rng.next_u64()));
    let mut story = Newcomer { why, scene, town, rng, taker, backup: Vec::new() };
    Box::pin(async move {
        tracing::info!(?why, taker, "a newcomer is to come");
        story.town.settles().await?;
        story.much_is_over_soon().await?;
        story.all_that_is_forgotten().await?;
        story.the_newcomer_comes().await?;
        story.harm_is_done().await?;
        story.all_is_well_again().await?;
        story.every_tracker_knows_everything().await?;
        story.the_newcomer_serves_alone().await
    })
}

/// Some milliseconds, fewer than `most`.
fn millis(rng: &mut ChaCha20Rng, most: usize) -> Duration {
    Duration::from_millis(below(rng, most) as u64)
}

impl Newcomer {
    async fn much_is_over_soon(&mut self) -> Outcome {
        let rounds = 2 + below(&mut self.rng, 6);
        let backup_at = below(&mut self.rng, rounds);
        for round in 0..rounds {
            if round == backup_at && self.why == Why::SetBack {
                self.backup = self.scene.back_up(self.taker).await?;
            }
            self.town.lives_on().await?;
            self.scene.oracle.glance()?;
        }
        Ok(())
    }

    /// Somebody dies in the middle of it, or has a bad disk; then all goes on.
    async fn all_that_is_forgotten(&mut self) -> Outcome {
        let (present, rng) = (self.scene.present(), &mut self.rng);
        let victim = present[below(rng, present.len())];
        let (is_slow, slow) = (below(rng, 2) == 0, Trouble::Slow { most: Duration::from_millis(400) });
        let harm = match below(rng, 5) {
            0 | 1 => Harm::Crash(victim, Crash::Power),
            2 => Harm::Crash(victim, Crash::Process),
            3 => Harm::Disk(victim, Trouble::Errors { what: Operation::Sync, one_in: 2, under: "/" }),
            _ => Harm::Disk(victim, Trouble::Errors { what: Operation::Write, one_in: 4, under: "/" }),
        };
        let (pause, until) = (millis(rng, 500), millis(rng, 3000));
        let is_owed = self.town.ends_something().await?;
        if is_slow {
            self.scene.faults.disk(victim, slow).await;
        }
        self.scene.until(victim, Moment::Rewriting).await;
        sleep(pause).await;
        self.scene.harm(harm, until).await?;
        if is_owed { self.scene.all_forget().await } else { Ok(()) }
    }

    async fn the_newcomer_comes(&mut self) -> Outcome {
        let rng = &mut self.rng;
        let (is_slow, most) = (below(rng, 3) > 0, millis(rng, 400));
        let slow = [below(rng, 2) == 0, below(rng, 8) > 0];
        for other in self.scene.others(self.taker) {
            if is_slow {
                self.scene.faults.delay(self.taker, other, Duration::from_millis(30) + most).await;
            }
            if slow[0] {
                self.scene.faults.disk(other, Trouble::Slow { most: Duration::from_millis(250) }).await;
            }
        }
        if slow[1] {
            self.scene.faults.disk(self.taker, Trouble::Slow { most: Duration::from_millis(400) }).await;
        }
        match self.why {
            Why::Added => self.one_is_added().await,
            Why::LostItsDisk => self.one_lost_its_disk().await,
            Why::SetBack => self.one_is_set_back().await,
        }
    }

    /// The longer list goes to everybody, one after the other.
    async fn one_is_added(&mut self) -> Outcome {
        self.scene.list.borrow_mut().clone_from(&self.scene.whole);
        self.everybody_reads_the_list().await
    }

    /// It makes a new key at its first start, which then is pinned in the list.
    async fn one_lost_its_disk(&mut self) -> Outcome {
        self.scene.goes_down(self.taker, &mut self.rng).await?;
        self.scene.replace_disk(self.taker, &[])?;
        self.scene.faults.restart(self.taker).await;
        let begun = self.scene.within(MET_WITHIN, || self.scene.running(self.taker).is_some()).await;
        let running = self.scene.running(self.taker).filter(|_| begun).ok_or("the new tracker does not start")?;
        let index = self.scene.names.iter().position(|name| *name == self.taker).expect("it is one of them");
        self.scene.list.borrow_mut().trackers[index].key = Some(running.key());
        drop(running);
        self.everybody_reads_the_list().await
    }

    /// Until it has met another tracker, nobody writes: that it may take counters twice is known.
    async fn one_is_set_back(&mut self) -> Outcome {
        self.scene.goes_down(self.taker, &mut self.rng).await?;
        self.scene.replace_disk(self.taker, &self.backup)?;
        self.scene.faults.restart(self.taker).await;
        self.scene.meets(self.taker).await
    }

    async fn everybody_reads_the_list(&mut self) -> Outcome {
        let mut names = self.scene.names.clone();
        while !names.is_empty() {
            let name = names.remove(below(&mut self.rng, names.len()));
            let pause = millis(&mut self.rng, 1500);
            self.scene.begins_anew(name).await?;
            sleep(pause).await;
        }
        self.scene.meets(self.taker).await
    }

    /// Whoever uses the trackers has the list before all that happens, or only after the first.
    async fn harm_is_done(&mut self) -> Outcome {
        let (rounds, early) = (1 + below(&mut self.rng, 3), below(&mut self.rng, 3) == 0);
        for round in 0..rounds {
            if round == usize::from(!early) {
                self.people_read_the_list().await?;
            }
            self.round(round).await?;
        }
        if rounds == 1 && !early { self.people_read_the_list().await } else { Ok(()) }
    }

    async fn people_read_the_list(&self) -> Outcome {
        if self.why == Why::SetBack {
            return Ok(());
        }
        for (who, name) in Town::people().into_iter().enumerate() {
            self.scene.faults.halt(name).await;
            self.scene.faults.restart(name).await;
            self.town.logs_in(who).await?;
        }
        Ok(())
    }

    /// Something breaks while people work; at first most often the one who came, in the middle of it.
    async fn round(&mut self, round: usize) -> Outcome {
        let rng = &mut self.rng;
        let (is_in_the_middle, is_late) = (round == 0 && below(rng, 3) > 0, below(rng, 2) == 0);
        let how = if below(rng, 3) == 0 { Crash::Process } else { Crash::Power };
        let moment = match below(rng, 3) {
            _ if is_in_the_middle && is_late => Moment::Rewriting,
            0 if !is_in_the_middle => Moment::Any,
            _ => Moment::Fetching,
        };
        let longest = if matches!(moment, Moment::Rewriting) { 60 } else { 400 };
        let (pause, lasting) = (millis(rng, longest), millis(rng, 4000));
        let other = self.plan_harm();
        let harm = if is_in_the_middle { Harm::Crash(self.taker, how) } else { other };
        let works = 1 + below(&mut self.rng, 3);
        let plan = self.town.plans(works);
        self.scene.until(self.taker, moment).await;
        sleep(pause).await;
        let (harmed, tried) = tokio::join!(self.scene.harm(harm, lasting), self.town.tries(plan));
        harmed.and(tried)?;
        Ok(self.scene.oracle.look()?)
    }

    fn plan_harm(&mut self) -> Harm {
        let (taker, others) = (self.taker, self.scene.others(self.taker));
        let rng = &mut self.rng;
        let giver = others[below(rng, others.len())];
        let how = if below(rng, 3) == 0 { Crash::Process } else { Crash::Power };
        let error = [Operation::Write, Operation::Sync, Operation::Read][below(rng, 3)];
        let one_in = [1, 3, 10][below(rng, 3)];
        let left = 20_000 * below(rng, 10) as u64;
        let (from, to) = if below(rng, 2) == 0 { (taker, giver) } else { (giver, taker) };
        let of = [taker, taker, giver][below(rng, 3)];
        match below(rng, 10) {
            0..=2 => Harm::Crash(taker, how),
            3 | 4 => Harm::Crash(giver, how),
            5 => Harm::Cut(from, to, Cut::Lost),
            6 => Harm::Cut(from, to, Cut::Late),
            7 => Harm::Cut(from, to, Cut::OneWay),
            8 => Harm::Disk(of, Trouble::Errors { what: error, one_in, under: "/" }),
            _ => Harm::Disk(of, Trouble::Full { left }),
        }
    }

    async fn all_is_well_again(&mut self) -> Outcome {
        for name in self.scene.names.clone() {
            self.scene.faults.mend_disk(name).await;
            if name != self.taker {
                self.scene.faults.delay(self.taker, name, Duration::from_millis(40)).await;
            }
        }
        self.scene.oracle.at_rest().await?;
        for _ in 0..3 {
            self.town.lives_on().await?;
        }
        self.scene.oracle.at_rest().await
    }

    /// Asks each tracker alone; of carol, the newcomer last.
    async fn every_tracker_knows_everything(&self) -> Outcome {
        let mut names = self.scene.others(self.taker);
        names.push(self.taker);
        for tracker in names {
            let (people, others) = (Town::people(), self.scene.others(tracker));
            for other in &others {
                self.scene.faults.partition(people[2], other).await;
            }
            self.town.sees_all(2).await?;
            for other in &others {
                self.scene.faults.heal(people[2], other).await;
            }
        }
        Ok(())
    }

    async fn the_newcomer_serves_alone(&self) -> Outcome {
        for other in self.scene.others(self.taker) {
            self.scene.faults.stop(other).await;
        }
        for who in 0..Town::people().len() {
            self.town.sees_all(who).await?;
            self.town.logs_out(who).await?;
            self.town.logs_in(who).await?;
            self.town.sees_all(who).await?;
        }
        Ok(())
    }
}
