//! The link in use: what goes in and out of it, and how long it has been silent.

use tokio::time::Instant;

use super::{
    dial::Greeted,
    silence::{Silence, Verdict},
};
use crate::{
    protocol::{
        client::{FromTracker, ToTracker},
        ids::DeviceKey,
    },
    transport::link::{LinkError, LinkReader, LinkWriter},
};

/// The link in use.
pub(super) struct Live {
    pub(super) place: usize,
    pub(super) device: DeviceKey,
    reader: LinkReader,
    pub(super) writer: LinkWriter,
    /// Something is queued, or written and not flushed.
    pub(super) unflushed: bool,
    pub(super) silence: Silence,
    /// Bytes of an unfinished frame when last looked at.
    partial: usize,
    /// The tracker has yet to hear all that is served.
    pub(super) whole_due: bool,
    pub(super) presence_at: Instant,
}

/// What a link came to.
#[expect(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub(super) enum Moved {
    Flushed(Result<(), LinkError>),
    Message(Result<Option<FromTracker>, LinkError>),
}

/// Writes what is queued and reads what comes; never ends without a link. Cancel-safe, as both are.
pub(super) async fn transfer(live: &mut Option<Live>) -> Moved {
    let Some(live) = live else { return std::future::pending().await };
    if !live.unflushed {
        return Moved::Message(live.reader.message().await);
    }
    tokio::select! {
        biased;
        flushed = live.writer.flush() => Moved::Flushed(flushed),
        message = live.reader.message() => Moved::Message(message),
    }
}

impl Live {
    pub(super) fn new(place: usize, now: Instant, greeted: Greeted) -> Self {
        Self {
            place,
            device: greeted.device,
            reader: greeted.reader,
            writer: greeted.writer,
            unflushed: false,
            silence: Silence::new(now),
            partial: 0,
            whole_due: true,
            presence_at: now,
        }
    }

    pub(super) fn queue(&mut self, now: Instant, message: &ToTracker) {
        let before = self.writer.queued_bytes();
        self.writer.queue(message);
        self.silence.send(now, self.writer.queued_bytes() - before);
        self.unflushed = true;
    }

    /// Measures silence; a frame that grows is no silence.
    pub(super) fn judge(&mut self, now: Instant) -> Verdict {
        let partial = self.reader.buffered_bytes();
        if partial != self.partial {
            self.partial = partial;
            self.silence.hear(now);
        }
        self.silence.judge(now)
    }
}
