//! Strangers, forgers, a member of another group, and somebody at a tracker's address, all at the seed's whim while honest
//! people work: the honest are answered and their download completes; the others learn and change nothing.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use p2p::{
    protocol::{
        client::Request,
        ids::{DeviceKey, FileId, GroupId, RequestId, TrackerNo},
        name::{FileName, GroupName, UserName},
        record::{Change, ChangeBody, Credential},
        ticket::Signed,
        tracker_info::TrackerInfo,
        version::{Dot, Timestamp},
    },
    roles::client::command::Reply,
    transport::tls::Protocol,
};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::{Instant, sleep};

use super::Script;
use crate::{
    cluster::{Cluster, Faults, Outcome},
    coverage::reached,
    disk::Crash,
    hostile::{
        Acted, Hostile, Node,
        account::Account,
        hostile,
        stranger::{Claim, Noise, Target, knock, make_noise, pose_as_tracker, replay},
        tracker::{Impostor, Overheard, impersonate},
    },
    oracle::data::Witness,
    role::{Peer, groups, peer, run_tracker, tracker_config},
    steps::Steps,
};

const TRACKERS: [&str; 2] = ["tracker1", "tracker2"];
/// Things that happen.
const EVENTS: u32 = 24;
/// Longest wait for an honest command, whatever the hostile do.
const PROMPT: Duration = Duration::from_secs(8);
/// Groups that only a false tracker or a stranger could have made.
const NEVER: [&str; 2] = ["stolen", "forged"];

struct Town {
    steps: Steps,
    faults: Faults,
    rng: ChaCha20Rng,
    info: TrackerInfo,
    alice: Peer,
    bob: Peer,
    /// Has a key and nothing else.
    eve: Hostile,
    /// Has an account, and is no member.
    mallory: Hostile,
    /// Is a member, and passes on what it holds.
    trudy: Hostile,
    film: Vec<u8>,
    witness: Witness,
    overheard: Overheard,
    /// Who answers at the second tracker's address in its next life.
    impostor: Rc<RefCell<Option<Impostor>>>,
    loot: Option<Loot>,
    made: BTreeSet<String>,
}

/// What a member can pass on.
#[derive(Clone)]
struct Loot {
    group: GroupId,
    file: FileId,
    manifest: p2p::protocol::ids::ManifestId,
    tracker: DeviceKey,
    ticket: Signed,
    session: Signed,
    /// Mallory's, for another group.
    other: Signed,
    other_group: GroupId,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let mut rng = cluster.rng();
    let (impostor, overheard) = (Rc::<RefCell<Option<Impostor>>>::default(), Overheard::default());
    let info = trackers(cluster, &impostor, &overheard);
    let [alice, bob] = [("alice", 0), ("bob", 7_000)].map(|(name, skew_ms)| peer(cluster, name, skew_ms, &info));
    let [eve, mallory, trudy] = ["eve", "mallory", "trudy"].map(|name| hostile(cluster, name));
    let mut film = vec![0; 3_000_000 + usize::try_from(rng.next_u64() % 1_000_000).expect("a few pieces")];
    rng.fill_bytes(&mut film);
    let mut town = Town {
        steps: cluster.steps(),
        faults: cluster.faults(),
        info,
        alice,
        bob,
        eve,
        mallory,
        trudy,
        witness: Witness::of(&film),
        film,
        overheard,
        impostor,
        loot: None,
        made: BTreeSet::new(),
        rng,
    };
    Box::pin(async move {
        town.a_group_forms().await?;
        town.everybody_meets_every_tracker().await;
        town.alice.does("set_limit up 200KiB").await?;
        town.bob.does("download_file films film /home/").await?;
        for number in 0..EVENTS {
            town.event(number).await?;
        }
        town.honest_work_is_done().await
    })
}

/// Two trackers; at the second one's address somebody else may answer after a restart.
fn trackers(cluster: &mut Cluster, impostor: &Rc<RefCell<Option<Impostor>>>, overheard: &Overheard) -> TrackerInfo {
    let hosts = TRACKERS.map(|name| cluster.machine(name, 0));
    let lines = hosts.each_ref().map(|host| format!("{}:5000", host.ip()));
    let info = TrackerInfo::parse(lines.join("\n").as_bytes()).expect("addresses, one a line");
    for (host, no) in hosts.into_iter().zip(1..) {
        let (config, watch) = (tracker_config(&info, no), cluster.watch());
        let (impostor, overheard) = (impostor.clone(), overheard.clone());
        watch.is_for_tracker(host.name());
        cluster.start(host.name(), move |env| {
            let (host, config, watch, overheard) = (host.clone(), config.clone(), watch.clone(), overheard.clone());
            let how = (no == 2).then(|| impostor.borrow().clone()).flatten();
            async move {
                let Some(how) = how else { return run_tracker(env, host, config, watch).await };
                let address = config.info.trackers[1].address.clone();
                impersonate(Node::new(env, host.ip()), &address, how, overheard)
                    .await
                    .map_err(|error| error.to_string().into())
            }
        });
    }
    info
}

impl Town {
    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end
    }

    async fn a_group_forms(&mut self) -> Outcome {
        // The trackers hear of each other first: what one knows, the other is to know.
        sleep(Duration::from_secs(1)).await;
        self.alice.joins_the_users().await?;
        self.alice.does("create_group films").await?;
        self.bob.joins_the_users().await?;
        self.bob.joins(&self.alice, "films").await?;
        self.alice.shares("film", &self.film, "films").await?;
        let tracker = self.info.trackers[0].address.clone();
        let join = tracker.clone();
        self.trudy
            .does(async move |node| Account::open(&node, &join, "trudy").await?.ask_to_join(&node, "films").await)
            .await?;
        self.alice.does("accept_request films trudy").await?;
        let at = tracker.clone();
        let (other, other_group) = self
            .mallory
            .does(async move |node| {
                let account = Account::open(&node, &at, "mallory").await?;
                let group = GroupName::parse("mob")?;
                let made = account.ask(&node, Request::CreateGroup { group }).await;
                made.map_err(|failure| failure.to_string())?;
                let group = account.group(&node, "mob").await?.group;
                Ok((account.ticket(&node, group).await?, group))
            })
            .await?;
        let loot = self.trudy.does(async move |node| plunder(&node, &tracker, other, other_group).await).await?;
        self.loot = Some(loot);
        Ok(())
    }

    /// So that a key seen first is a real one: each loses the tracker in use for a while.
    async fn everybody_meets_every_tracker(&self) {
        for tracker in TRACKERS {
            for peer in [&self.alice, &self.bob] {
                self.faults.partition(peer.name(), tracker).await;
            }
            sleep(Duration::from_secs(6)).await;
            for peer in [&self.alice, &self.bob] {
                self.faults.heal(peer.name(), tracker).await;
            }
            sleep(Duration::from_secs(2)).await;
        }
    }

    async fn event(&mut self, number: u32) -> Outcome {
        let (kind, pause) = (self.below(10), self.below(1500));
        match kind {
            0 | 1 => self.knock().await?,
            2 | 3 => self.noise().await?,
            4 => self.pose().await?,
            5 => self.replay().await?,
            6 => self.pry().await?,
            7 => self.replace_tracker().await?,
            _ => self.honest_command(number).await?,
        }
        sleep(Duration::from_millis(pause)).await;
        Ok(())
    }

    async fn knock(&mut self) -> Outcome {
        let loot = self.loot();
        let (claim, group) = match self.below(6) {
            0 => (Claim::Nothing, loot.group),
            1 => (Claim::OwnSigner, loot.group),
            2 => (Claim::FalseSignature(loot.tracker), loot.group),
            3 => (Claim::Stolen(loot.ticket), loot.group),
            4 => (Claim::OtherGroup(loot.other), loot.group),
            _ => (Claim::OtherGroup(loot.other), loot.other_group),
        };
        let server = if self.below(2) == 0 { &self.alice } else { &self.bob };
        let who = if matches!(claim, Claim::OtherGroup(_)) { &self.mallory } else { &self.eve };
        let target = Target { address: format!("{}:6000", server.ip()), group, file: loot.file };
        if self.steps.take(format_args!("{} knocks at {}: {}", who.name(), server.name(), claim.name())) {
            let witness = self.witness.clone();
            who.begins(async move |node| knock(&node, &target, claim, &witness).await).await?;
        }
        Ok(())
    }

    async fn noise(&mut self) -> Outcome {
        let (noise, place) = (Noise::of(self.below(64)), self.below(4));
        let (address, protocol) = match place {
            0 => (format!("{}:6000", self.alice.ip()), Protocol::Peer),
            1 => (format!("{}:6000", self.bob.ip()), Protocol::Peer),
            2 => (self.info.trackers[0].address.clone(), Protocol::Tracker),
            _ => (self.info.trackers[0].address.clone(), Protocol::Sync),
        };
        if self.steps.take(format_args!("eve makes noise at {address}, {protocol}: {noise:?}")) {
            self.eve.begins(async move |node| make_noise(&node, &address, protocol, noise).await).await?;
        }
        Ok(())
    }

    /// Sends a tracker changes as if from another one.
    async fn pose(&mut self) -> Outcome {
        let (address, witness) = (self.info.trackers[0].address.clone(), self.witness.clone());
        if self.steps.take("eve poses as a tracker") {
            self.eve.begins(async move |node| pose_as_tracker(&node, &address, forged(&node), &witness).await).await?;
        }
        Ok(())
    }

    async fn replay(&mut self) -> Outcome {
        let (loot, tracker, witness) = (self.loot(), self.info.trackers[0].address.clone(), self.witness.clone());
        let stolen = GroupName::parse(NEVER[0])?;
        let requests = vec![
            ([1; 16], Request::CreateGroup { group: stolen }),
            ([2; 16], Request::GetTicket { group: loot.group }),
            ([3; 16], Request::GetSwarm { group: loot.group, file: loot.file }),
            ([4; 16], Request::GetPage { group: loot.group, manifest: loot.manifest, page: 0 }),
            ([5; 16], Request::RemoveMember { group: GroupName::parse("films")?, user: UserName::parse("bob")? }),
            ([6; 16], Request::ListGroups { skip: 0 }),
        ];
        if self.steps.take("eve repeats what trudy said") {
            self.eve.begins(async move |node| replay(&node, &tracker, loot.session, requests, &witness).await).await?;
        }
        Ok(())
    }

    /// An account that is no member asks for all that members may know.
    async fn pry(&mut self) -> Outcome {
        let (loot, tracker, witness) = (self.loot(), self.info.trackers[0].address.clone(), self.witness.clone());
        if self.steps.take("mallory pries") {
            self.mallory.begins(async move |node| pry(&node, &tracker, &loot, &witness).await).await?;
        }
        Ok(())
    }

    /// The second tracker loses its power, and somebody else, or itself again, answers at its address.
    async fn replace_tracker(&mut self) -> Outcome {
        let first = self.info.trackers[0].address.clone();
        let how = match self.below(4) {
            0 => Some(Impostor::OwnKey),
            1 => Some(Impostor::InBetween(first)),
            2 => Some(Impostor::Elsewhere(first)),
            _ => None,
        };
        if self.steps.take(format_args!("at the address of tracker2 answers {how:?}")) {
            self.faults.crash("tracker2", Crash::Power).await;
            *self.impostor.borrow_mut() = how;
            self.faults.restart("tracker2").await;
        }
        Ok(())
    }

    async fn honest_command(&mut self, number: u32) -> Outcome {
        let (who, what) = (self.below(2), self.below(3));
        let peer = if who == 0 { &self.alice } else { &self.bob };
        let name = format!("g{number}");
        let line = match what {
            0 => format!("create_group {name}"),
            1 => "list_files films".to_owned(),
            _ => "list_members films".to_owned(),
        };
        if !self.steps.take(format_args!("{}: {line}", peer.name())) {
            return Ok(());
        }
        let begun = Instant::now();
        peer.does(&line).await?;
        if begun.elapsed() > PROMPT {
            return Err(format!("{}: {line} took {:?}", peer.name(), begun.elapsed()).into());
        }
        if what == 0 {
            self.made.insert(name);
        }
        Ok(())
    }

    async fn honest_work_is_done(&self) -> Outcome {
        self.alice.does("set_limit up 0").await?;
        self.bob.does("wait films film").await?;
        self.bob.must_have("/home/film", &self.film)?;
        // What was begun last has been heard by now.
        sleep(Duration::from_secs(3)).await;
        self.witness.was_told_nothing()?;
        if let Some(said) = self.overheard.first() {
            return Err(format!("a false tracker was told something: {said}").into());
        }
        for peer in [&self.alice, &self.bob] {
            let reply = peer.does("list_groups").await?;
            let known = groups(&reply);
            if let Some(name) = NEVER.iter().find(|name| known.contains(**name)) {
                return Err(format!("{}: the group {name} is there, which a stranger made", peer.name()).into());
            }
            if let Some(name) = self.made.iter().find(|name| !known.contains(name.as_str())) {
                return Err(format!("{}: the group {name} is gone", peer.name()).into());
            }
        }
        self.who_is_listed().await
    }

    /// Whoever is no member is listed nowhere.
    async fn who_is_listed(&self) -> Outcome {
        match self.alice.does("list_members films").await? {
            Reply::Members(members) if members.len() == 3 => {}
            other => return Err(format!("alice: list_members answered {other:?}").into()),
        }
        match self.alice.does("show_peers films film").await? {
            Reply::Peers(rows) if rows.iter().all(|row| row.user.as_str() == "bob") => Ok(()),
            other => Err(format!("alice: show_peers answered {other:?}").into()),
        }
    }

    fn loot(&self) -> Loot {
        self.loot.clone().expect("the group has formed")
    }
}

/// What a member can get and pass on.
async fn plunder(node: &Node, tracker: &str, other: Signed, other_group: GroupId) -> Acted<Loot> {
    let account = Account::open(node, tracker, "trudy").await?;
    let group = account.group(node, "films").await?.group;
    let (file, manifest) = account.file(node, "films", "film").await?;
    let ticket = account.ticket(node, group).await?;
    let session = account.session.borrow().clone().ok_or("no session")?;
    let manifest = manifest.id();
    Ok(Loot { group, file, manifest, tracker: ticket.signer, ticket, session, other, other_group })
}

/// Questions to which only members get an answer, and presence in a group that is not one's own.
async fn pry(node: &Node, tracker: &str, loot: &Loot, witness: &Witness) -> Acted<()> {
    reached("hostile: an account asks for what members may know");
    let account = Account::open(node, tracker, "mallory").await?;
    account.serve(node, loot.group, loot.file, 100).await;
    let (films, film) = (GroupName::parse("films")?, FileName::parse("film")?);
    let requests = [
        Request::ListFiles { group: films.clone(), skip: 0 },
        Request::ListMembers { group: films.clone(), skip: 0 },
        Request::ListRequests { group: films.clone(), skip: 0 },
        Request::FindFile { group: films.clone(), file: film },
        Request::GetPage { group: loot.group, manifest: loot.manifest, page: 0 },
        Request::GetPage { group: loot.other_group, manifest: loot.manifest, page: 0 },
        Request::GetSwarm { group: loot.group, file: loot.file },
        Request::GetTicket { group: loot.group },
        Request::CheckMembers { group: loot.group, memberships: Vec::new(), sessions: Vec::new() },
        Request::AcceptRequest { group: films.clone(), user: UserName::parse("mallory")? },
        Request::TransferGroup { group: films.clone(), user: UserName::parse("mallory")? },
        Request::RemoveMember { group: films, user: UserName::parse("bob")? },
    ];
    for request in requests {
        if let Ok(answer) = account.ask(node, request.clone()).await {
            witness.secret(format!("{answer:?} for {request:?}"));
        }
    }
    let elsewhere = account.swarm(node, loot.other_group, loot.file).await;
    if !elsewhere.is_empty() {
        witness.secret(format!("{elsewhere:?} as the swarm of another group"));
    }
    Ok(())
}

/// Changes that a false tracker would like to be known.
fn forged(node: &Node) -> Vec<Change> {
    let origin = node.secret.key();
    let at = Timestamp { wall_ms: node.env.wall_clock.now_ms(), logical: 0 };
    let (user, group) = (RequestId([8; 32]), RequestId([9; 32]));
    let bodies = [
        ChangeBody::UserCreated {
            name: UserName::parse("nobody").expect("a valid name"),
            credential: Credential("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".into()),
        },
        ChangeBody::GroupCreated { name: GroupName::parse(NEVER[1]).expect("a valid name"), owner: user.into() },
    ];
    let changes = bodies.into_iter().zip([user, group]).zip(1..);
    changes
        .map(|((body, request), counter)| Change {
            dot: Dot { origin, counter },
            at,
            taken_by: TrackerNo(1),
            request,
            body,
        })
        .collect()
}
