//! From an address to a link on which both hellos are exchanged.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::Shared;
use crate::{
    protocol::{
        client::{FromTracker, SessionInfo, ToTracker, TrackerIdentity, VERSION},
        error::{ErrorCode, Failure},
        ids::DeviceKey,
        tracker_info::TrackerAddress,
    },
    roles::environment::Environment,
    transport::{
        link::{LinkError, LinkReader, LinkWriter, dial},
        tls::{Identity, Protocol},
    },
};

/// Longest time from the dial to the tracker's hello.
const HELLO_WITHIN: Duration = Duration::from_secs(4);

/// A link whose tracker said hello.
pub(super) struct Greeted {
    /// The key that the tracker proved.
    pub device: DeviceKey,
    /// What it says.
    pub reader: LinkReader,
    /// What it is told.
    pub writer: LinkWriter,
    /// Its wall clock.
    pub now_ms: u64,
    /// Whether it honours the session shown.
    pub session: Option<Result<SessionInfo, Failure>>,
    /// Whom it vouches for.
    pub trackers: Vec<TrackerIdentity>,
    /// The address of this machine that faces it, where others are to be told that one.
    pub facing: Option<IpAddr>,
}

/// Why there is no such link.
#[derive(Debug)]
pub(super) enum DialError {
    /// It may go better soon.
    Failed(String),
    /// Somebody else is there, or somebody who does not speak as we do.
    Refused(Failure),
}

impl From<LinkError> for DialError {
    fn from(error: LinkError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) async fn greet(
    env: &Environment,
    identity: &Identity,
    shared: &Arc<Shared>,
    tracker: &TrackerAddress,
    hello: ToTracker,
) -> Result<Greeted, DialError> {
    let greeted = exchange_hellos(env, identity, shared, tracker, hello);
    match timeout(HELLO_WITHIN, greeted).await {
        Ok(result) => result,
        Err(_) => Err(DialError::Failed("no answer".to_owned())),
    }
}

async fn exchange_hellos(
    env: &Environment,
    identity: &Identity,
    shared: &Arc<Shared>,
    tracker: &TrackerAddress,
    hello: ToTracker,
) -> Result<Greeted, DialError> {
    let link = dial(&*env.transport, identity, &tracker.address, Protocol::Tracker, None).await?;
    let device = link.device();
    shared.trust().meet(&tracker.address, device).map_err(DialError::Refused)?;
    let (mut reader, mut writer) = link.split();
    writer.send(&hello).await?;
    let answer = reader.message().await?.ok_or(LinkError::Closed)?;
    let FromTracker::Hello { version, tracker: no, now_ms, session, trackers } = answer else {
        return Err(DialError::Refused(foreign(&tracker.address, "it does not say hello first")));
    };
    if version != VERSION {
        let why = format!("it speaks version {version} of the protocol, this client version {VERSION}");
        return Err(DialError::Refused(foreign(&tracker.address, &why)));
    }
    if no != tracker.no {
        tracing::warn!(address = %tracker.address, listed = %tracker.no, says = %no, "the tracker file numbers this tracker differently");
    }
    let facing = if shared.told_facing { env.transport.facing(&tracker.address).await.ok() } else { None };
    Ok(Greeted { device, reader, writer, now_ms, session, trackers, facing })
}

fn foreign(address: &str, why: &str) -> Failure {
    let message = format!("The tracker at {address} cannot be used: {why}. Update the older of the two programs.");
    Failure::new(ErrorCode::Protocol, message)
}
