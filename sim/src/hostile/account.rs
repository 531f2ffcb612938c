//! The client's side of `p2p-tracker/1` by hand: an account for who needs one to do harm.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use p2p::{
    protocol::{
        client::{Answer, FromTracker, GroupInfo, Password, Presence, Request, Serving, SwarmPeer, ToTracker, VERSION},
        error::{ErrorCode, Failure},
        ids::{FileId, GroupId, Nonce},
        manifest::ManifestHeader,
        name::{FileName, GroupName, UserName},
        ticket::Signed,
        version::VersionVector,
    },
    transport::tls::Protocol,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Acted, Node, background, wire::Wire};

/// How often a sign of life is given.
const PING: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a question is put again.
const AGAIN: Duration = Duration::from_millis(500);

/// A link to a tracker on which somebody is logged in. Cheap to clone; it ends with the last clone.
#[derive(Clone)]
pub(crate) struct Account {
    words: mpsc::Sender<Word>,
    ended: Rc<Cell<bool>>,
    /// The session, as the tracker signed it.
    pub(crate) session: Rc<RefCell<Option<Signed>>>,
}

/// Something to be said.
enum Word {
    Ask(Nonce, Request, oneshot::Sender<Result<Answer, Failure>>),
    Say(ToTracker),
}

impl Account {
    /// Links to a tracker without logging in; `session` is shown if there is one.
    pub(crate) async fn link(node: &Node, tracker: &str, session: Option<Signed>) -> Acted<Self> {
        let mut wire = node.dial(tracker, Protocol::Tracker).await?;
        let hello = ToTracker::Hello { version: VERSION, session, seen: VersionVector::default() };
        wire.writer.say(&hello).await?;
        let answer = timeout(PATIENCE, wire.reader.message::<FromTracker>()).await?;
        let Some(FromTracker::Hello { session, .. }) = answer else { return Err("no hello".into()) };
        if let Some(Err(failure)) = session {
            return Err(failure.to_string().into());
        }
        let (words, waiting) = mpsc::channel(64);
        let ended = Rc::new(Cell::new(false));
        background(speak(wire, waiting, Rc::clone(&ended)));
        Ok(Self { words, ended, session: Rc::default() })
    }

    /// Links, registers unless somebody has, and logs in.
    pub(crate) async fn open(node: &Node, tracker: &str, name: &str) -> Acted<Self> {
        let account = Self::link(node, tracker, None).await?;
        let (user, password) = (UserName::parse(name)?, Password(format!("secret-of-{name}")));
        match account.ask(node, Request::CreateUser { user: user.clone(), password: password.clone() }).await {
            Err(failure) if failure.code != ErrorCode::UserExists => return Err(failure.to_string().into()),
            _ => {}
        }
        match account.ask(node, Request::Login { user, password }).await {
            Ok(Answer::LoggedIn { session, .. }) => *account.session.borrow_mut() = Some(session),
            other => return Err(format!("no login: {other:?}").into()),
        }
        Ok(account)
    }

    /// Puts a question, or a write.
    pub(crate) async fn ask(&self, node: &Node, request: Request) -> Result<Answer, Failure> {
        let nonce = node.rubbish(16).try_into().expect("sixteen bytes");
        self.ask_as(nonce, request).await
    }

    /// Puts a question under a nonce of one's own choice.
    pub(crate) async fn ask_as(&self, nonce: Nonce, request: Request) -> Result<Answer, Failure> {
        let gone = || Failure::new(ErrorCode::NoTracker, "the tracker's link is gone");
        let (reply, answered) = oneshot::channel();
        self.words.send(Word::Ask(nonce, request, reply)).await.map_err(|_| gone())?;
        match timeout(PATIENCE, answered).await {
            Ok(Ok(result)) => result,
            _ => Err(gone()),
        }
    }

    /// Says something that is not answered.
    pub(crate) async fn say(&self, message: ToTracker) {
        let _ = self.words.send(Word::Say(message)).await;
    }

    /// Whether the tracker has hung up.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.get()
    }

    /// Asks to join a group, which must be known here before long.
    pub(crate) async fn ask_to_join(&self, node: &Node, group: &str) -> Acted<()> {
        let request = Request::JoinGroup { group: GroupName::parse(group)? };
        self.until(node, request, |answer| matches!(answer, Answer::Done).then_some(())).await
    }

    /// The group of that name.
    pub(crate) async fn group(&self, node: &Node, name: &str) -> Acted<GroupInfo> {
        let request = Request::FindGroup { group: GroupName::parse(name)? };
        self.until(node, request, |answer| match answer {
            Answer::Group(info) => Some(info),
            _ => None,
        })
        .await
    }

    /// The file of that name, as soon as this user may know of it.
    pub(crate) async fn file(&self, node: &Node, group: &str, file: &str) -> Acted<(FileId, ManifestHeader)> {
        let request = Request::FindFile { group: GroupName::parse(group)?, file: FileName::parse(file)? };
        self.until(node, request, |answer| match answer {
            Answer::File { info, manifest } => Some((info.file, manifest)),
            _ => None,
        })
        .await
    }

    /// A member ticket, as soon as this user is a member.
    pub(crate) async fn ticket(&self, node: &Node, group: GroupId) -> Acted<Signed> {
        self.until(node, Request::GetTicket { group }, |answer| match answer {
            Answer::Ticket(ticket) => Some(ticket),
            _ => None,
        })
        .await
    }

    /// Who serves a file.
    pub(crate) async fn swarm(&self, node: &Node, group: GroupId, file: FileId) -> Vec<SwarmPeer> {
        match self.ask(node, Request::GetSwarm { group, file }).await {
            Ok(Answer::Swarm(peers)) => peers,
            _ => Vec::new(),
        }
    }

    /// Announces that this device serves a file.
    pub(crate) async fn serve(&self, node: &Node, group: GroupId, file: FileId, percent: u8) {
        let serving = vec![Serving { group, file, percent }];
        let presence = Presence { reset: true, address: node.address(), serving, ended: Vec::new() };
        self.say(ToTracker::Presence(presence)).await;
    }

    /// Asks over and over until the answer is as wanted.
    async fn until<T>(&self, node: &Node, request: Request, wanted: impl Fn(Answer) -> Option<T>) -> Acted<T> {
        for _ in 0..240 {
            if let Some(found) = self.ask(node, request.clone()).await.ok().and_then(&wanted) {
                return Ok(found);
            }
            if self.is_over() {
                return Err("the tracker hung up".into());
            }
            sleep(AGAIN).await;
        }
        Err(format!("{request:?} never answered as it should").into())
    }
}

/// Speaks for the account until either side has had enough.
async fn speak(wire: Wire, mut words: mpsc::Receiver<Word>, ended: Rc<Cell<bool>>) {
    let Wire { mut reader, mut writer, .. } = wire;
    let (mut asked, mut seq, mut ping) = (BTreeMap::new(), 0, Instant::now() + PING);
    loop {
        let message = tokio::select! {
            biased;
            said = reader.message::<FromTracker>() => match said {
                Some(FromTracker::Answer { seq, result, .. }) => {
                    if let Some(reply) = asked.remove(&seq) {
                        let _: Result<_, _> = oneshot::Sender::send(reply, result);
                    }
                    continue;
                }
                Some(_) => continue,
                None => break,
            },
            word = words.recv() => match word {
                Some(Word::Ask(nonce, request, reply)) => {
                    seq += 1;
                    asked.insert(seq, reply);
                    ToTracker::Request { seq, nonce, seen: VersionVector::default(), request }
                }
                Some(Word::Say(message)) => message,
                None => break,
            },
            () = sleep_until(ping) => {
                ping = Instant::now() + PING;
                ToTracker::Ping
            }
        };
        if writer.say(&message).await.is_err() {
            break;
        }
    }
    ended.set(true);
}
