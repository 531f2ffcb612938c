//! A client's end of the protocol, as plain as can be.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::network::Network;
use crate::{
    protocol::{
        client::{Answer, FromTracker, Notice, Password, Presence, Request, Serving, SessionInfo, ToTracker, VERSION},
        device::DeviceSecret,
        error::{ErrorCode, Failure},
        ids::{DeviceKey, GroupId, Nonce},
        name::{GroupName, UserName},
        ticket::Signed,
        tracker_info::TrackerInfo,
        version::VersionVector,
    },
    transport::{
        link::{LinkReader, LinkWriter, dial},
        tls::{Identity, Protocol},
    },
};

pub(super) struct TestClient {
    network: Arc<Network>,
    number: u8,
    identity: Identity,
    link: Option<(LinkReader, LinkWriter)>,
    pub(super) session: Option<Signed>,
    pub(super) seen: VersionVector,
    pub(super) notices: VecDeque<Notice>,
    pub(super) trackers: Vec<crate::protocol::client::TrackerIdentity>,
    pub(super) tracker_now_ms: u64,
    pub(super) stale: bool,
    next: u64,
}

impl TestClient {
    pub(super) fn new(network: Arc<Network>, number: u8) -> Self {
        let identity = Identity::new(&DeviceSecret::from_seed([number; 32]));
        Self {
            network,
            number,
            identity,
            link: None,
            session: None,
            seen: VersionVector::default(),
            notices: VecDeque::new(),
            trackers: Vec::new(),
            tracker_now_ms: 0,
            stale: false,
            next: 0,
        }
    }

    pub(super) fn device(&self) -> DeviceKey {
        self.identity.device()
    }

    /// Links to a tracker, with the session and all that was seen.
    pub(super) async fn dial(&mut self, info: &TrackerInfo, no: usize) -> Option<Result<SessionInfo, Failure>> {
        let host = self.network.host(100 + self.number);
        let address = &info.trackers[no - 1].address;
        let link = dial(&*host, &self.identity, address, Protocol::Tracker, None).await.unwrap();
        let (mut reader, mut writer) = link.split();
        let hello = ToTracker::Hello { version: VERSION, session: self.session.clone(), seen: self.seen.clone() };
        writer.send(&hello).await.unwrap();
        let answer = reader.message::<FromTracker>().await.unwrap().unwrap();
        let FromTracker::Hello { session, trackers, now_ms, .. } = answer else { panic!("{answer:?}") };
        (self.trackers, self.tracker_now_ms) = (trackers, now_ms);
        self.link = Some((reader, writer));
        session
    }

    pub(super) fn hang_up(&mut self) {
        self.link = None;
    }

    /// Whether the tracker ends the link, whatever it still says before.
    pub(super) async fn is_hung_up(&mut self) -> bool {
        let reader = &mut self.link.as_mut().unwrap().0;
        let end = async { while let Ok(Some(_)) = reader.message::<FromTracker>().await {} };
        timeout(Duration::from_secs(5), end).await.is_ok()
    }

    /// A number no other request of this client has.
    pub(super) fn nonce(&mut self) -> Nonce {
        self.next += 1;
        let mut nonce = [self.number; 16];
        nonce[..8].copy_from_slice(&self.next.to_le_bytes());
        nonce
    }

    pub(super) async fn ask(&mut self, request: Request) -> Result<Answer, Failure> {
        let nonce = self.nonce();
        self.repeat(nonce, request).await
    }

    pub(super) async fn repeat(&mut self, nonce: Nonce, request: Request) -> Result<Answer, Failure> {
        let seq = self.send(nonce, request).await;
        loop {
            match self.receive().await {
                FromTracker::Answer { seq: answered, seen, stale, result } if answered == seq => {
                    self.seen.merge(&seen);
                    self.stale = stale;
                    if let Ok(Answer::LoggedIn { session, .. }) = &result {
                        self.session = Some(session.clone());
                    }
                    return result;
                }
                FromTracker::Notice(notice) => self.notices.push_back(notice),
                _ => {}
            }
        }
    }

    pub(super) async fn send(&mut self, nonce: Nonce, request: Request) -> u64 {
        self.next += 1;
        let (seq, seen) = (self.next, self.seen.clone());
        self.say(&ToTracker::Request { seq, nonce, seen, request }).await;
        seq
    }

    pub(super) async fn say(&mut self, message: &ToTracker) {
        self.link.as_mut().unwrap().1.send(message).await.unwrap();
    }

    async fn receive(&mut self) -> FromTracker {
        let reader = &mut self.link.as_mut().unwrap().0;
        timeout(Duration::from_secs(20), reader.message()).await.expect("an answer in time").unwrap().unwrap()
    }

    /// Waits for a notice that `wanted` picks; others are dropped.
    pub(super) async fn notice<T>(&mut self, wanted: impl Fn(&Notice) -> Option<T>) -> T {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                if let Some(found) = wanted(&notice) {
                    return found;
                }
                continue;
            }
            // Time passes only while everybody waits.
            sleep(Duration::from_millis(50)).await;
            self.say(&ToTracker::Ping).await;
            loop {
                match self.receive().await {
                    FromTracker::Notice(notice) => self.notices.push_back(notice),
                    FromTracker::Pong { .. } => break,
                    _ => {}
                }
            }
        }
    }

    pub(super) async fn done(&mut self, request: Request) {
        let answer = self.ask(request.clone()).await;
        assert_eq!(answer, Ok(Answer::Done), "{request:?}");
    }

    pub(super) async fn refused(&mut self, request: Request) -> ErrorCode {
        match self.ask(request.clone()).await {
            Err(failure) => failure.code,
            Ok(answer) => panic!("{request:?}: {answer:?}"),
        }
    }

    /// Registers, and logs in.
    pub(super) async fn register(&mut self, name: &str) {
        self.done(Request::CreateUser { user: user(name), password: password("secret") }).await;
        self.log_in(name, "secret").await.unwrap();
    }

    pub(super) async fn log_in(&mut self, name: &str, with: &str) -> Result<SessionInfo, Failure> {
        match self.ask(Request::Login { user: user(name), password: password(with) }).await? {
            Answer::LoggedIn { info, .. } => Ok(info),
            other => panic!("{other:?}"),
        }
    }

    /// Creates a group; returns its identity.
    pub(super) async fn create_group(&mut self, name: &str) -> GroupId {
        self.done(Request::CreateGroup { group: group(name) }).await;
        self.find_group(name).await.group
    }

    pub(super) async fn find_group(&mut self, name: &str) -> crate::protocol::client::GroupInfo {
        match self.ask(Request::FindGroup { group: group(name) }).await {
            Ok(Answer::Group(info)) => info,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn serve(&mut self, serving: Vec<Serving>) {
        self.present(true, serving).await;
    }

    pub(super) async fn serve_more(&mut self, serving: Vec<Serving>) {
        self.present(false, serving).await;
    }

    async fn present(&mut self, reset: bool, serving: Vec<Serving>) {
        let presence = Presence { reset, address: format!("0.0.0.0:70{}", self.number), serving, ended: Vec::new() };
        self.say(&ToTracker::Presence(presence)).await;
    }
}

pub(super) fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

pub(super) fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

pub(super) fn password(text: &str) -> Password {
    Password(text.to_owned())
}

/// Lets `joiner` in: asks, and has the owner accept.
pub(super) async fn admit(owner: &mut TestClient, joiner: &mut TestClient, name: &str, into: &str) {
    joiner.done(Request::JoinGroup { group: group(into) }).await;
    owner.seen.merge(&joiner.seen);
    owner.done(Request::AcceptRequest { group: group(into), user: user(name) }).await;
    joiner.seen.merge(&owner.seen);
}
