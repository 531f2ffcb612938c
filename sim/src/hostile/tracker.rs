//! A false tracker: whoever dials the address of a real one finds another key there.

use std::{cell::RefCell, rc::Rc};

use p2p::{
    protocol::{
        client::{FromTracker, TrackerIdentity, VERSION},
        ids::TrackerNo,
        sync::{self, SyncMessage},
        version::VersionVector,
    },
    transport::{Stream, tls::Protocol},
};
use tokio::io::copy_bidirectional;

use super::{Acted, Node, background, wire::Wire};
use crate::coverage::reached;

/// What somebody at a tracker's address does.
#[derive(Clone, Debug)]
pub(crate) enum Impostor {
    /// Speaks like a tracker, with a key of its own.
    OwnKey,
    /// Stands between: shakes hands with a key of its own and passes on what is said.
    InBetween(String),
    /// Passes bytes on unread, to another tracker.
    Elsewhere(String),
}

/// What was said to it.
#[derive(Clone, Default)]
pub(crate) struct Overheard {
    frames: Rc<RefCell<Vec<String>>>,
}

impl Overheard {
    /// What was said, for the report.
    pub(crate) fn first(&self) -> Option<String> {
        self.frames.borrow().first().cloned()
    }

    fn note(&self, what: String) {
        self.frames.borrow_mut().push(what);
    }
}

/// Answers at a tracker's address until the simulation ends.
pub(crate) async fn impersonate(node: Node, address: &str, how: Impostor, overheard: Overheard) -> Acted<()> {
    let listener = node.env.transport.listen(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (node, how, overheard) = (node.clone(), how.clone(), overheard.clone());
        background(async move {
            let end = answer(&node, stream, how, &overheard).await.map_err(|error| error.to_string());
            tracing::debug!(?end, "a link to a false tracker has ended");
        });
    }
}

async fn answer(node: &Node, mut stream: Box<dyn Stream>, how: Impostor, overheard: &Overheard) -> Acted<()> {
    match how {
        Impostor::OwnKey => {
            reached("hostile: false tracker with a key of its own");
            let (wire, protocol) = Wire::accepted(stream, &node.identity).await?;
            pretend(node, wire, protocol, overheard).await
        }
        Impostor::InBetween(real) => {
            reached("hostile: man in the middle");
            let (wire, protocol) = Wire::accepted(stream, &node.identity).await?;
            relay(node, wire, &real, protocol, overheard).await
        }
        Impostor::Elsewhere(real) => {
            reached("hostile: address leads to another tracker");
            let mut there = node.connect(&real).await?;
            copy_bidirectional(&mut stream, &mut there).await?;
            Ok(())
        }
    }
}

/// Says hello first, as a tracker would second, and vouches for itself.
async fn pretend(node: &Node, wire: Wire, protocol: Protocol, overheard: &Overheard) -> Acted<()> {
    let Wire { mut reader, mut writer, .. } = wire;
    let now_ms = node.env.wall_clock.now_ms();
    if protocol == Protocol::Tracker {
        let vouched = |no| TrackerIdentity { tracker: TrackerNo(no), key: node.secret.key(), clock_offset_ms: 0 };
        let hello = FromTracker::Hello {
            version: VERSION,
            tracker: TrackerNo(2),
            now_ms,
            session: None,
            trackers: vec![vouched(1), vouched(2)],
        };
        writer.say(&hello).await?;
    } else {
        let vector = VersionVector::default();
        writer.say(&SyncMessage::Hello { version: sync::VERSION, tracker: TrackerNo(2), vector, now_ms }).await?;
    }
    while let Some(frame) = reader.frame().await {
        overheard.note(format!("{protocol}: {} bytes", frame.body.len()));
    }
    Ok(())
}

/// Passes frames on, read and unchanged.
async fn relay(node: &Node, wire: Wire, real: &str, protocol: Protocol, overheard: &Overheard) -> Acted<()> {
    let there = node.dial(real, protocol).await?;
    let (mut near, mut far) = (wire, there);
    loop {
        tokio::select! {
            biased;
            frame = near.reader.frame() => {
                let Some(frame) = frame else { return Ok(()) };
                overheard.note(format!("{protocol}: {} bytes", frame.body.len()));
                far.writer.bytes(&super::wire::frame(frame.kind, &frame.body)).await?;
            }
            frame = far.reader.frame() => {
                let Some(frame) = frame else { return Ok(()) };
                near.writer.bytes(&super::wire::frame(frame.kind, &frame.body)).await?;
            }
        }
    }
}
