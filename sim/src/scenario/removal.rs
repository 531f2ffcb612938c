//! Members that were: removed, gone by themselves, or cut off from a share that was stopped; and members whose device is logged
//! out, by itself, from another device or by a new password. They keep asking, on the open
//! link and on new ones, with the tickets they hold. A server in touch with a tracker that knows serves them nothing after
//! two seconds; one in touch with none, nothing after the ticket's life.

use std::{cell::RefCell, rc::Rc, time::Duration};

use p2p::protocol::{
    client::{Answer, Password, Request},
    ids::{FileId, GroupId},
    name::GroupName,
    ticket::{Signed, TICKET_LIFE},
};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::time::sleep;

use super::{Script, below};
use crate::{
    cluster::{Cluster, Faults, Outcome},
    coverage::reached,
    disk::Crash,
    hostile::{
        Acted, Hostile, Node,
        account::Account,
        background, hostile,
        leecher::{Habit, Leecher, Pass},
    },
    oracle::data::Witness,
    role::{Peer, peer, trackers},
    steps::Steps,
};

const VILLAIN: &str = "mallory";
const TRACKERS: [&str; 2] = ["tracker1", "tracker2"];
/// How soon a server in touch must have stopped.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How soon a client whose way to the trackers is clear again must be linked to one.
const LINKED_AGAIN: Duration = Duration::from_secs(12);
/// How often tickets are judged anew.
const GLANCE: Duration = Duration::from_secs(6);
/// How often a fresh ticket is tried for.
const RENEW: Duration = Duration::from_secs(15);

/// How it comes that nothing may be served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The owner removes the member.
    Removed,
    /// The member leaves, and goes on asking.
    Left,
    /// The member logs out, and goes on asking with the tickets of before.
    LeecherLoggedOut,
    /// The member's session is ended from another device.
    SessionEnded,
    /// The member's password is changed on another device.
    PasswordChanged,
    /// The member's account is closed on another device.
    AccountClosed,
    /// The server stops the share.
    Stopped,
    /// The server logs out.
    LoggedOut,
}

/// What the servers know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touch {
    /// Every one is in touch.
    All,
    /// Carol reaches no tracker for so long.
    CarolAlone(Duration),
    /// Carol's tracker and Alice's do not hear each other for so long; Mallory hears Carol's.
    Apart(Duration),
}

/// Each as often as it is listed.
const ENDS: [End; 11] = [
    End::Removed,
    End::Removed,
    End::Left,
    End::Left,
    End::LeecherLoggedOut,
    End::LeecherLoggedOut,
    End::SessionEnded,
    End::PasswordChanged,
    End::AccountClosed,
    End::Stopped,
    End::LoggedOut,
];

impl End {
    /// Whether it ends what Mallory's ticket rests on, so that nobody serves Mallory any more.
    fn is_of_the_ticket(self) -> bool {
        !matches!(self, Self::Stopped | Self::LoggedOut)
    }

    /// Whether Mallory does it, at Carol's tracker.
    fn is_of_mallory(self) -> bool {
        matches!(
            self,
            Self::Left | Self::LeecherLoggedOut | Self::SessionEnded | Self::PasswordChanged | Self::AccountClosed
        )
    }
}

struct Removal {
    steps: Steps,
    faults: Faults,
    rng: ChaCha20Rng,
    tracker: String,
    alice: Peer,
    carol: Peer,
    mallory: Hostile,
    film: Vec<u8>,
    witness: Witness,
    /// Mallory's link to a tracker.
    account: Rc<RefCell<Option<Account>>>,
}

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let mut rng = cluster.rng();
    let info = trackers(cluster, &[(TRACKERS[0], 0), (TRACKERS[1], -90_000)]);
    let [alice, carol] = [("alice", 0), ("carol", 40_000)].map(|(name, skew_ms)| peer(cluster, name, skew_ms, &info));
    let mallory = hostile(cluster, VILLAIN);
    let mut film = vec![0; 600_000 + usize::try_from(rng.next_u64() % 800_000).expect("a few pieces")];
    rng.fill_bytes(&mut film);
    let mut removal = Removal {
        steps: cluster.steps(),
        faults: cluster.faults(),
        tracker: info.trackers[1].address.clone(),
        alice,
        carol,
        mallory,
        witness: Witness::of(&film),
        film,
        account: Rc::default(),
        rng,
    };
    Box::pin(async move {
        let end = ENDS[removal.pick(ENDS.len())];
        let while_out = Duration::from_millis(removal.rng.next_u64() % 40_000);
        let touch = match removal.pick(16) {
            _ if !end.is_of_the_ticket() => Touch::All,
            // Well beyond the ticket's life, so that who still serves is seen to.
            0..2 => Touch::CarolAlone(TICKET_LIFE + 10 * GLANCE),
            2..5 => Touch::CarolAlone(while_out),
            5..9 => Touch::Apart(while_out),
            _ => Touch::All,
        };
        tracing::info!(?end, ?touch, "the story");
        removal.everybody_is_served().await?;
        removal.out_of_touch(touch).await;
        removal.it_ends(end, touch).await?;
        removal.witness.saw_right_bytes_only()
    })
}

impl Removal {
    fn pick(&mut self, count: usize) -> usize {
        below(&mut self.rng, count)
    }

    async fn everybody_is_served(&mut self) -> Outcome {
        // The trackers hear of each other first: what one knows, the other is to know.
        sleep(Duration::from_secs(1)).await;
        self.alice.joins_the_users().await?;
        self.alice.does("create_group films").await?;
        self.carol.joins_the_users().await?;
        self.carol.joins(&self.alice, "films").await?;
        self.alice.shares("film", &self.film, "films").await?;
        self.carol.does("download_file films film /home/").await?;
        self.carol.does("wait films film").await?;
        for server in [&self.alice, &self.carol] {
            server.does("set_limit up 150KiB").await?;
        }
        let (tracker, slot) = (self.tracker.clone(), self.account.clone());
        self.mallory
            .does(async move |node| {
                let account = Account::open(&node, &tracker, VILLAIN).await?;
                account.ask_to_join(&node, "films").await?;
                *slot.borrow_mut() = Some(account);
                Ok(())
            })
            .await?;
        self.alice.does(&format!("accept_request films {VILLAIN}")).await?;
        let (slot, witness) = (self.account.clone(), self.witness.clone());
        let servers = [self.alice.ip(), self.carol.ip()].map(|ip| format!("{ip}:6000"));
        self.mallory.does(async move |node| ask_forever(&node, &slot, servers, witness).await).await?;
        sleep(Duration::from_secs(3)).await;
        for server in [&self.alice, &self.carol] {
            self.witness.last_from(server.ip()).ok_or_else(|| format!("{} served a member nothing", server.name()))?;
        }
        Ok(())
    }

    async fn out_of_touch(&self, touch: Touch) {
        for (one, two) in cuts(touch) {
            self.faults.partition(one, two).await;
        }
        if touch != Touch::All {
            sleep(Duration::from_secs(8)).await;
        }
    }

    async fn it_ends(&mut self, end: End, touch: Touch) -> Outcome {
        self.carry_out(end).await?;
        let over = turmoil::sim_elapsed().unwrap_or_default();
        // Where the trackers are apart, Mallory tells Carol's.
        let [told, other] = match touch {
            Touch::Apart(_) if end.is_of_mallory() => [self.carol.ip(), self.alice.ip()],
            _ => [self.alice.ip(), self.carol.ip()],
        };
        let mut until = over + AT_ONCE;
        match touch {
            Touch::All => {}
            Touch::CarolAlone(out) | Touch::Apart(out) => {
                sleep(out).await;
                for (one, two) in cuts(touch) {
                    self.faults.heal(one, two).await;
                }
                let healed = turmoil::sim_elapsed().unwrap_or_default();
                until = healed + LINKED_AGAIN + AT_ONCE;
                if matches!(touch, Touch::CarolAlone(_)) {
                    // Nobody gives Mallory another ticket.
                    until = until.min(over + TICKET_LIFE + GLANCE);
                }
            }
        }
        sleep(LINKED_AGAIN + Duration::from_secs(5)).await;
        if self.pick(2) == 0 {
            self.servers_come_back(end).await?;
        }
        self.witness.nothing_after(told, over + AT_ONCE)?;
        if end.is_of_the_ticket() {
            self.witness.nothing_after(other, until)?;
        }
        Ok(())
    }

    async fn carry_out(&self, end: End) -> Outcome {
        match end {
            End::Removed => {
                reached("hostile: removed member keeps asking");
                self.alice.does(&format!("remove_member films {VILLAIN}")).await?;
            }
            End::Left => {
                reached("hostile: member that left keeps asking");
                let group = GroupName::parse("films").map_err(|failure| failure.to_string())?;
                self.mallory_asks(Request::LeaveGroup { group }).await?;
            }
            End::LeecherLoggedOut => {
                reached("hostile: member that logged out keeps asking");
                self.mallory_asks(Request::Logout).await?;
            }
            End::SessionEnded => {
                reached("hostile: member whose session was ended keeps asking");
                self.mallory_ends_it_from_elsewhere(async |node, elsewhere| {
                    let Answer::Sessions(sessions) = elsewhere.ask(&node, Request::ListSessions).await? else {
                        return Err("no list of sessions".into());
                    };
                    let session = sessions.iter().find(|entry| !entry.current).ok_or("no other session")?.session;
                    elsewhere.ask(&node, Request::EndSession { session }).await?;
                    Ok(())
                })
                .await?;
            }
            End::PasswordChanged => {
                reached("hostile: member with an old password keeps asking");
                self.mallory_ends_it_from_elsewhere(async |node, elsewhere| {
                    let [old, new] = ["", "-anew"].map(|more| Password(format!("secret-of-{VILLAIN}{more}")));
                    elsewhere.ask(&node, Request::ChangePassword { old, new }).await?;
                    Ok(())
                })
                .await?;
            }
            End::AccountClosed => {
                reached("hostile: member whose account was closed keeps asking");
                self.mallory_ends_it_from_elsewhere(async |node, elsewhere| {
                    let password = Password(format!("secret-of-{VILLAIN}"));
                    elsewhere.ask(&node, Request::CloseAccount { password }).await?;
                    Ok(())
                })
                .await?;
            }
            End::Stopped => drop(self.alice.does("stop_share films film").await?),
            End::LoggedOut => drop(self.alice.does("logout").await?),
        }
        Ok(())
    }

    /// Mallory asks for something on the link that the tickets come from.
    async fn mallory_asks(&self, request: Request) -> Outcome {
        let slot = self.account.clone();
        self.mallory
            .does(async move |node| {
                let account = slot.borrow().clone().ok_or("no account")?;
                account.ask(&node, request).await.map_err(|failure| failure.to_string())?;
                Ok(())
            })
            .await
    }

    /// The owner of Mallory's account logs in on another device, and does something there.
    async fn mallory_ends_it_from_elsewhere(
        &self,
        act: impl AsyncFnOnce(Node, Account) -> Acted<()> + 'static,
    ) -> Outcome {
        let tracker = self.tracker.clone();
        self.mallory
            .does(async move |node| {
                let node = node.disguised();
                let account = Account::open(&node, &tracker, VILLAIN).await?;
                act(node, account).await
            })
            .await
    }

    /// Both servers die and come back; Mallory's ticket has not expired yet.
    async fn servers_come_back(&mut self, end: End) -> Outcome {
        if !self.steps.take("the servers die and come back") {
            return Ok(());
        }
        for server in [&self.alice, &self.carol] {
            self.faults.crash(server.name(), Crash::Process).await;
            self.faults.restart(server.name()).await;
            if end != End::LoggedOut {
                server.does(&format!("login {0} secret-of-{0}", server.name())).await?;
            }
        }
        sleep(Duration::from_secs(8)).await;
        Ok(())
    }
}

/// Pairs that do not hear each other.
fn cuts(touch: Touch) -> Vec<(&'static str, &'static str)> {
    match touch {
        Touch::All => Vec::new(),
        Touch::CarolAlone(_) => TRACKERS.iter().map(|tracker| ("carol", *tracker)).collect(),
        Touch::Apart(_) => {
            vec![("tracker1", "tracker2"), ("alice", "tracker2"), ("carol", "tracker1"), (VILLAIN, "tracker1")]
        }
    }
}

/// Asks the servers over and over, with the freshest ticket there is.
async fn ask_forever(
    node: &Node,
    account: &Rc<RefCell<Option<Account>>>,
    servers: [String; 2],
    witness: Witness,
) -> Acted<()> {
    let account = account.borrow().clone().ok_or("no account")?;
    let group = account.group(node, "films").await?.group;
    let (file, _) = account.file(node, "films", "film").await?;
    let ticket = Rc::new(RefCell::new(account.ticket(node, group).await?));
    account.serve(node, group, file, 0).await;
    for server in servers {
        let (node, ticket, witness) = (node.clone(), ticket.clone(), witness.clone());
        background(async move {
            loop {
                let pass = pass(group, file, &ticket);
                let leecher = Leecher {
                    node: node.clone(),
                    pass,
                    habit: Habit::Curious,
                    witness: witness.clone(),
                    most: u64::MAX,
                };
                let end = leecher.ask(&server).await.map_err(|error| error.to_string());
                tracing::debug!(server, ?end, "a member's link has ended");
                sleep(Duration::from_millis(300 + node.draw(900))).await;
            }
        });
    }
    let node = node.clone();
    background(async move {
        loop {
            sleep(RENEW).await;
            if let Ok(Answer::Ticket(fresh)) = account.ask(&node, Request::GetTicket { group }).await {
                *ticket.borrow_mut() = fresh;
            }
        }
    });
    Ok(())
}

fn pass(group: GroupId, file: FileId, ticket: &RefCell<Signed>) -> Pass {
    Pass { group, file, ticket: ticket.borrow().clone() }
}
