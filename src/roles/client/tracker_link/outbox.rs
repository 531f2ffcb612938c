//! What is asked and unanswered: kept for its repeats, with the nonce it was first sent under, until its deadline.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::protocol::{client::Request, ids::Nonce};

/// Requests sent and unanswered on one link at most; the others wait their turn.
const MAX_UNDER_WAY: usize = 32;
/// Requests held at most, sent or not.
pub const MAX_HELD: usize = 256;
/// Longest time until an answer, over all trackers tried.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time for one tracker to answer; then another is tried.
const PATIENCE_PER_LINK: Duration = Duration::from_secs(5);
/// What password hashing, done in turn at the tracker, adds to both.
const PATIENCE_FOR_HASHING: Duration = Duration::from_secs(15);
/// Slowest line that we put up with, in bytes per second (1 Mbit/s).
const SLOWEST_LINE: u64 = 128 * 1024;

/// All requests unanswered; `R` is where the answer goes.
#[derive(Debug)]
pub struct Outbox<R> {
    held: BTreeMap<u64, Held<R>>,
    next: u64,
}

/// A request unanswered.
#[derive(Debug)]
pub struct Held<R> {
    /// What is asked.
    pub request: Request,
    /// Names it at every tracker alike.
    pub nonce: Nonce,
    /// Where the answer goes.
    pub reply: R,
    /// Times it was sent.
    pub tries: u32,
    /// When it was sent on the link in use.
    sent: Option<Instant>,
    expires: Instant,
}

impl<R> Held<R> {
    /// A tracker that took the request has the time it needs; where none is reached, nobody waits for longer.
    fn expires(&self) -> Instant {
        if self.tries > 0 { self.expires + extra_patience(&self.request) } else { self.expires }
    }
}

impl<R> Default for Outbox<R> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), next: 1 }
    }
}

impl<R> Outbox<R> {
    /// Holds a request.
    pub fn ask(&mut self, now: Instant, request: Request, nonce: Nonce, reply: R) {
        let expires = now + PATIENCE;
        self.held.insert(self.next, Held { request, nonce, reply, tries: 0, sent: None, expires });
        self.next += 1;
    }

    /// Whether there is room for another.
    pub fn has_room(&self) -> bool {
        self.held.len() < MAX_HELD
    }

    /// Whether something has yet to go out on the link in use.
    pub fn has_unsent(&self) -> bool {
        self.held.values().any(|held| held.sent.is_none())
    }

    /// Whether nothing is unanswered.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The next request to send on the link in use, oldest first, with its number there; `None` when none may go now.
    pub fn send(&mut self, now: Instant) -> Option<(u64, &Held<R>)> {
        if self.held.values().filter(|held| held.sent.is_some()).count() >= MAX_UNDER_WAY {
            return None;
        }
        let (&seq, held) = self.held.iter_mut().find(|(_, held)| held.sent.is_none())?;
        held.sent = Some(now);
        held.tries += 1;
        Some((seq, held))
    }

    /// Takes out the request that an answer names; `None` when it is held no longer.
    pub fn answered(&mut self, seq: u64) -> Option<Held<R>> {
        self.held.remove(&seq)
    }

    /// The link was lost: all that is unanswered goes out again on the next one.
    pub fn unsend(&mut self) {
        self.held.values_mut().for_each(|held| held.sent = None);
    }

    /// Takes out what has waited long enough.
    pub fn expired(&mut self, now: Instant) -> Vec<Held<R>> {
        self.held.extract_if(.., |_, held| held.expires() <= now).map(|(_, held)| held).collect()
    }

    /// Takes out the requests that `matches`.
    pub fn take(&mut self, matches: impl Fn(&Request) -> bool) -> Vec<Held<R>> {
        self.held.extract_if(.., |_, held| matches(&held.request)).map(|(_, held)| held).collect()
    }

    /// Whether a request that `matches` was sent before and is unanswered.
    pub fn has_tried(&self, matches: impl Fn(&Request) -> bool) -> bool {
        self.held.values().any(|held| held.tries > 0 && matches(&held.request))
    }

    /// When the first request expires.
    pub fn deadline(&self) -> Option<Instant> {
        self.held.values().map(Held::expires).min()
    }

    /// When the tracker in use has been silent about a request for too long.
    pub fn answer_deadline(&self) -> Option<Instant> {
        let due = |held: &Held<R>| Some(held.sent? + PATIENCE_PER_LINK + extra_patience(&held.request));
        self.held.values().filter_map(due).min()
    }
}

fn extra_patience(request: &Request) -> Duration {
    match request {
        Request::CreateUser { .. }
        | Request::Login { .. }
        | Request::ChangePassword { .. }
        | Request::CloseAccount { .. } => PATIENCE_FOR_HASHING,
        Request::PutPage { bytes, .. } => time_on_a_slow_line(bytes.len() as u64),
        Request::GetPage { .. } => time_on_a_slow_line(crate::protocol::manifest::MAX_PAGE_BYTES as u64),
        _ => Duration::ZERO,
    }
}

/// How long bytes may be under way on the slowest line that we put up with.
pub fn time_on_a_slow_line(bytes: u64) -> Duration {
    Duration::from_millis(bytes * 1000 / SLOWEST_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(outbox: &mut Outbox<&'static str>, now: Instant) -> Vec<(u64, Nonce, u32)> {
        let mut all = Vec::new();
        while let Some((seq, held)) = outbox.send(now) {
            all.push((seq, held.nonce, held.tries));
        }
        all
    }

    #[test]
    fn a_repeat_bears_the_nonce_of_the_first_try() {
        let (now, mut outbox) = (Instant::now(), Outbox::default());
        outbox.ask(now, Request::ListTrackers, [1; 16], "one");
        outbox.ask(now, Request::Logout, [2; 16], "two");
        assert_eq!(sent(&mut outbox, now), [(1, [1; 16], 1), (2, [2; 16], 1)]);
        assert_eq!(outbox.answered(1).map(|held| held.reply), Some("one"));
        outbox.unsend();
        assert_eq!(sent(&mut outbox, now), [(2, [2; 16], 2)]);
        assert!(outbox.answered(1).is_none());
    }

    #[test]
    fn no_more_than_the_window_is_under_way() {
        let (now, mut outbox) = (Instant::now(), Outbox::default());
        (0..100).for_each(|_| outbox.ask(now, Request::ListTrackers, [1; 16], ""));
        assert_eq!(sent(&mut outbox, now).len(), MAX_UNDER_WAY);
        outbox.answered(1);
        assert_eq!(sent(&mut outbox, now).len(), 1);
    }

    #[test]
    fn a_request_expires_at_its_own_time() {
        let (now, mut outbox) = (Instant::now(), Outbox::default());
        outbox.ask(now, Request::ListTrackers, [1; 16], "quick");
        let page =
            Request::PutPage { manifest: crate::protocol::ids::ManifestId([0; 32]), page: 0, bytes: vec![0; 400_000] };
        outbox.ask(now, page, [2; 16], "slow");
        sent(&mut outbox, now);
        assert_eq!(outbox.deadline(), Some(now + PATIENCE));
        let gone: Vec<_> = outbox.expired(now + PATIENCE).into_iter().map(|held| held.reply).collect();
        assert_eq!(gone, ["quick"]);
        assert!(outbox.deadline().unwrap() > now + PATIENCE + Duration::from_secs(2));
    }
}
