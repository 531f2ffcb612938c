//! Random commands of many users, each answer held against the reference model.

use std::{path::Path, time::Duration};

use p2p::{protocol::error::Failure, roles::client::Outcome as Answer};
use rand_chacha::ChaCha20Rng;
use tokio::time::sleep;

use super::below;
use crate::{
    cluster::{Cluster, Faults, Name, Outcome, peer_name, tracker_name},
    coverage,
    disk::Crash,
    model::{Content, Model, Said, Who},
    oracle::Oracle,
    role::{Peer, peer, trackers},
    steps::Steps,
};

/// Trackers at most.
pub(super) const MOST_TRACKERS: usize = 3;
/// Names that are chosen from; few, so that users meet.
const USERS: [&str; 6] = ["ann", "ben", "cat", "dan", "eve", "fay"];
const GROUPS: [&str; 3] = ["films", "books", "songs"];
const FILES: [&str; 3] = ["one", "two", "three"];
/// Bytes in files, by the last digit of what tells their contents apart: one has two pieces.
const SIZES: [u64; 3] = [1000, 600_000, 30_000];
/// How long until every tracker has taken away the seat of a client that is silent, or that a late message took.
const FADE_MS: u64 = 12_000;

/// A play: who takes part, and what the model makes of it.
pub(super) struct Play {
    pub(super) faults: Faults,
    pub(super) steps: Steps,
    pub(super) oracle: Oracle,
    pub(super) rng: ChaCha20Rng,
    pub(super) model: Model,
    pub(super) peers: Vec<Peer>,
    pub(super) trackers: Vec<Name>,
    /// How far each tracker's clock is ahead.
    pub(super) skews: Vec<i64>,
    /// The tracker that each client speaks to, where trackers may know different things.
    pub(super) spoken_to: Vec<usize>,
}

impl Play {
    /// Plugs in trackers with these skews, and clients.
    pub(super) fn new(cluster: &mut Cluster, rng: ChaCha20Rng, skews: &[i64], clients: usize) -> Self {
        let names: Vec<Name> = (0..skews.len()).map(tracker_name).collect();
        let machines: Vec<_> = names.iter().copied().zip(skews.iter().copied()).collect();
        let info = trackers(cluster, &machines);
        let peers = (0..clients).map(|number| peer(cluster, peer_name(number), 0, &info)).collect();
        Self {
            faults: cluster.faults(),
            steps: cluster.steps(),
            oracle: Oracle::new(cluster),
            rng,
            model: Model::new(skews.len(), clients),
            peers,
            trackers: names,
            skews: skews.to_vec(),
            spoken_to: vec![0; clients],
        }
    }

    /// Every client has files of the same names; those of every other one have the same content.
    pub(super) async fn begins(&mut self) -> Outcome {
        for client in 0..self.peers.len() {
            for (file, size) in (0u32..).zip(SIZES) {
                let tag = u32::from(client % 2 == 1) * 10 + file;
                let name = FILES[file as usize];
                let path = format!("/home/{name}");
                let bytes = vec![u8::try_from(tag).expect("a small number"); usize::try_from(size)?];
                self.peers[client].disk().put(Path::new(&path), &bytes)?;
                self.model.put(client, &path, &Content { name: name.to_owned(), tag, size });
            }
        }
        self.oracle.settle().await
    }

    /// Most users register and log in.
    pub(super) async fn users_come(&mut self) -> Outcome {
        for (client, user) in USERS.into_iter().enumerate().take(self.peers.len()) {
            let comes = self.pick(8) > 0;
            for command in ["create_user", "login"] {
                self.plays(comes, client, &format!("{command} {user} {}", secret(client))).await?;
            }
        }
        Ok(())
    }

    /// Some groups are created, and some users let in.
    pub(super) async fn groups_form(&mut self) -> Outcome {
        for (number, group) in GROUPS.into_iter().enumerate().take(2) {
            let owner = number % self.peers.len();
            self.plays(true, owner, &format!("create_group {group}")).await?;
            for (client, user) in USERS.into_iter().enumerate().take(self.peers.len()) {
                let (asks, is_let_in) = (self.pick(3) > 0, self.pick(4) > 0);
                self.plays(asks, client, &format!("join_group {group}")).await?;
                self.plays(is_let_in, owner, &format!("accept_request {group} {user}")).await?;
            }
        }
        Ok(())
    }

    /// A step: a client executes a line, if at all.
    pub(super) async fn plays(&mut self, really: bool, client: usize, line: &str) -> Outcome {
        let shown = crate::oracle::secrets::hidden(line);
        if really && self.steps.take(format_args!("{}: {shown}", self.peers[client].name())) {
            self.hears(client, line).await?;
        }
        Ok(self.oracle.glance()?)
    }

    /// A number below `count`.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        below(&mut self.rng, count)
    }

    /// A random client with a random line, mostly one that may do something.
    pub(super) fn draws(&mut self) -> (usize, String) {
        let number = self.pick(GROUPS.len());
        let (group, other) = (GROUPS[number], USERS[self.pick(self.peers.len())]);
        let (kind, odd, anybody) = (self.pick(38), self.pick(100), self.pick(3 * self.peers.len()));
        let is_for_owners = matches!(kind, 7..=14 | 19);
        // The one who may, for the most part.
        let client = if is_for_owners { anybody.checked_sub(2 * self.peers.len()).unwrap_or(number) } else { anybody };
        let client = client % self.peers.len();
        let (file, own) = (FILES[self.pick(FILES.len())], USERS[client]);
        let line = match kind {
            0..=1 => format!("create_group {group}"),
            2..=5 => format!("join_group {group}"),
            6 => format!("leave_group {group}"),
            7..=10 => format!("accept_request {group} {other}"),
            11 => format!("reject_request {group} {other}"),
            12 => format!("remove_member {group} {other}"),
            13..=14 => format!("transfer_group {group} {other}"),
            15..=16 => "list_groups".to_owned(),
            17..=18 => format!("list_members {group}"),
            19 => format!("list_requests {group}"),
            20..=21 => format!("upload_file /home/{file} {group}"),
            22 => format!("list_files {group}"),
            23 => format!("file_info {group} {file}"),
            24..=25 => format!("download_file {group} {file} /home/from-{odd}"),
            26 => ["show_downloads", "show_downloads -v"][odd % 2].to_owned(),
            27 => ["wait".to_owned(), format!("wait {group} {file}")][odd % 2].clone(),
            28 => "show_shares".to_owned(),
            29 => format!("stop_share {group} {file}"),
            30 => ["whoami", "trackers"][odd % 2].to_owned(),
            31 => "logout".to_owned(),
            32..=33 => format!("login {own} {}", secret(client)),
            34 => format!("create_user {} {}", USERS[odd % USERS.len()], secret(odd % USERS.len())),
            35..=36 => format!("change_password {} {}", self.password(own), secret(client + 10 * (odd % 4))),
            _ => self.draws_odd(client, odd),
        };
        (client, line)
    }

    /// The password that somebody probably has.
    fn password(&self, user: &str) -> String {
        let known = self.model.accounts().into_iter().find(|(name, _)| name == user);
        known.map_or_else(|| secret(99), |(_, password)| password)
    }

    /// What is wrong in itself, or rare.
    fn draws_odd(&mut self, client: usize, odd: usize) -> String {
        let (own, other) = (USERS[client], USERS[self.pick(self.peers.len())]);
        let wrong = secret(99);
        match odd % 24 {
            0 => format!("login {own} {wrong}"),
            1 => format!("login {other} {}", secret(client)),
            2 => format!("change_password {wrong} {}", secret(client)),
            3..=4 => format!("change_password {} {}", secret(client), secret(client + 10)),
            5..=6 => format!("change_password {} {}", secret(client + 10), secret(client)),
            7 => format!("login {own} {}", secret(client + 10)),
            8 => "join_group nowhere".to_owned(),
            9 => "accept_request films nobody".to_owned(),
            10 => format!("create_user {own}~2 {wrong}"),
            11 => "create_user new ''".to_owned(),
            12 => "create_group .films".to_owned(),
            13 => "create_group films books".to_owned(),
            14 => "fly_away".to_owned(),
            15 => "upload_file '' films".to_owned(),
            16 => "upload_file /home/nothing films".to_owned(),
            17 => "upload_file /home/ films".to_owned(),
            18 => "download_file films one /nowhere/".to_owned(),
            19 => "download_file films one /home/two".to_owned(),
            20 => "file_info films a/b".to_owned(),
            21 => format!("login {own} {}", "x".repeat(1025)),
            22 => "wait films".to_owned(),
            _ => "list_members films~2".to_owned(),
        }
    }

    /// Who a client is, to the model.
    pub(super) fn who(&self, client: usize) -> Who {
        self.who_at(client, self.spoken_to[client])
    }

    /// As [`who`](Self::who), at another tracker.
    pub(super) fn who_at(&self, client: usize, tracker: usize) -> Who {
        Who { client, tracker, now: now_ms(), skew: self.skews[tracker] }
    }

    /// A client is linked to a tracker from now on.
    pub(super) fn speaks_to(&mut self, client: usize, tracker: usize) {
        self.spoken_to[client] = tracker;
        self.model.speaks_to(&self.who(client));
    }

    /// A client executes a line, and is answered what the model allows.
    pub(super) async fn hears(&mut self, client: usize, line: &str) -> Outcome {
        self.hears_where(client, line, true).await
    }

    /// As [`hears`](Self::hears), where the client may not reach any tracker.
    pub(super) async fn hears_where(&mut self, client: usize, line: &str, reachable: bool) -> Outcome {
        if self.would_wait(client, line) {
            return Ok(());
        }
        let result = self.peers[client].asks(line).await?;
        let who = self.who(client);
        self.model.heard(&who, line, &result, reachable).map_err(|error| self.blame(client, line, &error))?;
        met(line, &result);
        if matches!(Said::of(&result), Said::Started(..)) {
            self.download_ends(client, line).await?;
        }
        Ok(())
    }

    /// What a failing answer is told with.
    pub(super) fn blame(&self, client: usize, line: &str, error: &str) -> String {
        format!("{}: {}: {error}", self.peers[client].name(), crate::oracle::secrets::hidden(line))
    }

    /// Whether a download might begin that nobody can feed: it would end no one knows when.
    pub(super) fn would_wait(&self, client: usize, line: &str) -> bool {
        let expected = self.model.expected(&self.who(client), line);
        expected.iter().any(|said| matches!(said, Said::Started(_, true)))
    }

    /// Waits until a download that has begun is complete, and its share known.
    async fn download_ends(&mut self, client: usize, line: &str) -> Outcome {
        let words: Vec<&str> = line.split(' ').collect();
        let (peer, group, file) = (&self.peers[client], words[1], words[2]);
        peer.does(&format!("wait {group} {file}")).await?;
        let Said::WhoAmI(Some(user)) = Said::of(&peer.asks("whoami").await?) else {
            return Err("nobody is logged in after a download".into());
        };
        for _ in 0..50 {
            if let Said::Files(files) = Said::of(&peer.asks(&format!("list_files {group}")).await?)
                && files.iter().any(|row| row.name == file && row.shared_by.contains(&user))
            {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(format!("{}: a complete download is not shared: {line}", peer.name()).into())
    }

    /// A client dies while it executes a line, and comes back.
    pub(super) async fn dies_over(&mut self, client: usize, line: &str, after: Duration, how: Crash) -> Outcome {
        let (peer, faults) = (self.peers[client].clone(), self.faults.clone());
        let who = self.who(client);
        let death = async {
            sleep(after).await;
            let died = faults.crash(peer.name(), how).await;
            faults.restart(peer.name()).await;
            died
        };
        let (result, died) = tokio::join!(peer.asks(line), death);
        match result {
            Ok(result) => {
                let heard = self.model.heard(&who, line, &result, false);
                heard.map_err(|error| self.blame(client, line, &error))?;
            }
            Err(_) if died => {
                coverage::reached("model: a command was cut off");
                self.model.unheard(&who, line);
            }
            Err(error) => return Err(error),
        }
        if died {
            self.model.died(client, now_ms());
        }
        // A tracker may have the request in hand for a while.
        sleep(Duration::from_secs(3)).await;
        Ok(())
    }

    /// Everything is up and linked again: trackers agree, and hold what they promised.
    pub(super) async fn comes_to_rest(&mut self) -> Outcome {
        self.oracle.at_rest().await?;
        let now = now_ms();
        self.model.split(&vec![0; self.trackers.len()], now);
        self.model.settled(now);
        self.model.fade_all(now + FADE_MS);
        Ok(())
    }

    /// Nobody needs to agree for a while on who is online.
    pub(super) fn blurs_presence(&mut self) {
        self.model.fade_all(now_ms() + FADE_MS);
    }

    /// Asks each tracker alone, through one client, for everything that its user may know.
    pub(super) async fn every_tracker_says_the_same(&mut self) -> Outcome {
        for tracker in 0..self.trackers.len() {
            let client = tracker % self.peers.len();
            let name = self.peers[client].name();
            let others: Vec<_> = (0..self.trackers.len()).filter(|other| *other != tracker).collect();
            for other in &others {
                self.faults.partition(name, self.trackers[*other]).await;
            }
            self.blurs_presence();
            self.asks_for_everything(client).await?;
            for other in &others {
                self.faults.heal(name, self.trackers[*other]).await;
            }
        }
        Ok(())
    }

    /// Every account logs in by the name that it goes by now, and sees what it should.
    pub(super) async fn asks_for_everything(&mut self, client: usize) -> Outcome {
        self.hears(client, "logout").await?;
        for (user, password) in self.model.accounts() {
            self.hears(client, &format!("login {user} {password}")).await?;
            self.hears(client, "list_groups").await?;
            for group in self.model.groups() {
                for command in ["list_members", "list_requests", "list_files"] {
                    self.hears(client, &format!("{command} {group}")).await?;
                }
            }
            self.hears(client, "logout").await?;
        }
        Ok(())
    }
}

/// Notes which answer of which command was met.
fn met(line: &str, result: &Result<Answer, Failure>) {
    match result {
        Err(failure) => coverage::reached(&format!("model: {} was said", failure.code)),
        Ok(outcome) if outcome.stale => coverage::reached("model: an answer marked stale"),
        Ok(_) => coverage::reached(&format!("model: {} done", line.split(' ').next().unwrap_or_default())),
    }
}

/// Simulated milliseconds.
pub(super) fn now_ms() -> u64 {
    u64::try_from(turmoil::sim_elapsed().unwrap_or_default().as_millis()).expect("a simulation takes no aeons")
}

fn secret(number: usize) -> String {
    format!("secret-{number}")
}
