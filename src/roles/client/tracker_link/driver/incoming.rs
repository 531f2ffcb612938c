//! What the tracker in use says, and what it means for the session.

use tokio::time::Instant;

use super::Driver;
use crate::{
    protocol::{
        client::{Answer, FromTracker, Notice, RenamedKind, Request, SessionInfo},
        error::{ErrorCode, Failure},
        limits::MAX_ORIGINS,
        name::UserName,
        version::VersionVector,
    },
    roles::client::{
        command::Event,
        tracker_link::{Answered, live::Moved},
    },
};

impl Driver {
    pub(super) fn resume_session(&mut self, honoured: Option<Result<SessionInfo, Failure>>) {
        match honoured {
            None => {}
            Some(Ok(info)) => {
                self.in_doubt = false;
                self.set_session_info(info);
            }
            Some(Err(failure)) => {
                tracing::warn!(%failure, "the session is not honoured");
                self.on_notice(Notice::SessionEnded);
            }
        }
    }

    fn set_session_info(&self, info: SessionInfo) {
        self.shared.session.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&info);
            *current = Some(info);
            changed
        });
    }

    pub(super) fn end_session(&mut self) {
        (self.session, self.in_doubt) = (None, false);
        self.shared.tickets.forget_all();
        self.shared.session.send_if_modified(|current| current.take().is_some());
    }

    pub(super) fn on_moved(&mut self, moved: Moved) {
        match moved {
            Moved::Flushed(Ok(())) => {
                if let Some(live) = &mut self.live {
                    live.unflushed = false;
                }
            }
            Moved::Message(Ok(Some(message))) => self.on_message(message),
            Moved::Message(Ok(None)) => self.lose("it said farewell"),
            Moved::Flushed(Err(error)) | Moved::Message(Err(error)) => self.lose(&error.to_string()),
        }
    }

    fn on_message(&mut self, message: FromTracker) {
        let now = Instant::now();
        let Some(live) = &mut self.live else { return };
        live.silence.hear(now);
        match message {
            FromTracker::Answer { seq, seen, stale, result } => self.on_answer(seq, &seen, stale, result),
            FromTracker::Notice(notice) => self.on_notice(notice),
            FromTracker::Pong { now_ms } => {
                live.silence.hear_pong(now);
                self.shared.trust().hear_time(now, live.device, now_ms);
            }
            FromTracker::Hello { .. } => self.lose("it said hello twice"),
        }
    }

    fn on_answer(&mut self, seq: u64, seen: &VersionVector, stale: bool, result: Result<Answer, Failure>) {
        self.see(seen);
        if matches!(&result, Err(failure) if failure.code == ErrorCode::NoTracker) {
            // It is stopping and knows no answer: the next one will.
            return self.lose("it is stopping");
        }
        let Some(held) = self.outbox.answered(seq) else { return };
        if let Ok(Answer::LoggedIn { info, session }) = &result {
            (self.session, self.in_doubt) = (Some(session.clone()), false);
            self.shared.tickets.forget_all();
            self.set_session_info(info.clone());
            if let Some(live) = &mut self.live {
                live.whole_due = true;
            }
        }
        // An asker that has gone away wants no answer.
        let _ = held.reply.send(result.map(|answer| Answered { answer, stale }));
        self.settle_doubt();
    }

    /// The session is over after all, when no password change is left to say otherwise.
    pub(super) fn settle_doubt(&mut self) {
        if self.in_doubt && !self.outbox.has_tried(is_password_change) {
            self.on_notice(Notice::SessionEnded);
        }
    }

    fn see(&self, more: &VersionVector) {
        self.seen.send_if_modified(|seen| {
            let mut merged = seen.clone();
            merged.merge(more);
            let changed = merged != *seen && merged.len() <= MAX_ORIGINS;
            if changed {
                *seen = merged;
            }
            changed
        });
    }

    fn on_notice(&mut self, notice: Notice) {
        if notice == Notice::SessionEnded && self.outbox.has_tried(is_password_change) {
            self.in_doubt = true;
            return;
        }
        match &notice {
            Notice::Trackers(vouched) => {
                if let Some(live) = &self.live {
                    self.shared.trust().hear_vouched(live.device, vouched.clone());
                }
            }
            Notice::SessionEnded => self.end_session(),
            Notice::MemberRemoved { id, .. } => self.shared.tickets.forget(*id),
            Notice::Renamed { kind: RenamedKind::Account, to, .. } => self.on_renamed(to),
            _ => {}
        }
        // Trackers say at every hello what an account is called now: once is enough for a person.
        let again = matches!(notice, Notice::Renamed { .. })
            && self.last_renamed.replace(notice.clone()).as_ref() == Some(&notice);
        if is_for_the_user(&notice) && !again {
            self.tell(Event::Notice(notice.clone()));
        }
        // Without a subscriber a notice concerns nobody.
        let _ = self.shared.notices.send(notice);
    }

    fn on_renamed(&self, to: &str) {
        let Ok(name) = UserName::parse(to) else { return };
        self.shared.session.send_if_modified(|current| match current {
            Some(info) if info.name != name => {
                info.name = name;
                true
            }
            _ => false,
        });
    }
}

fn is_password_change(request: &Request) -> bool {
    matches!(request, Request::ChangePassword { .. })
}

/// Whether a notice is meant for a person; the others are for the machines.
fn is_for_the_user(notice: &Notice) -> bool {
    match notice {
        Notice::JoinRequested { .. }
        | Notice::RequestAccepted { .. }
        | Notice::RequestRejected { .. }
        | Notice::MemberRemoved { .. }
        | Notice::OwnerNow { .. }
        | Notice::Renamed { .. }
        | Notice::SessionEnded => true,
        Notice::MembershipEnded { .. }
        | Notice::SessionsEnded { .. }
        | Notice::SwarmChanged { .. }
        | Notice::DialRequested { .. }
        | Notice::Trackers(_) => false,
    }
}
