//! Whether the other end is still there: a partition says nothing, so silence must be measured.

use std::time::Duration;

use tokio::time::Instant;

use super::outbox::time_on_a_slow_line;

/// Silence after which the tracker is asked for a sign of life.
const PING_AFTER: Duration = Duration::from_secs(1);
/// Time for that sign. With the ping's own second and a dial, a client is at another tracker within 3 s.
const PONG_WITHIN: Duration = Duration::from_millis(1200);

/// Our own silence after which the tracker is pinged however much it says: it gives up clients that say nothing.
const SPEAK_AFTER: Duration = Duration::from_secs(4);

/// What silence comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The tracker is there.
    Fine,
    /// Ask for a sign of life.
    Ping,
    /// It is gone.
    Gone,
}

/// Silence on one link.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    heard: Instant,
    spoke: Instant,
    pinged: Option<Instant>,
    /// When all that was sent has arrived, on the slowest line that we put up with: a ping waits behind it.
    through: Instant,
}

impl Silence {
    /// A link that was just made.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, spoke: now, pinged: None, through: now }
    }

    /// Bytes arrived.
    pub fn hear(&mut self, now: Instant) {
        (self.heard, self.pinged) = (now, None);
    }

    /// A ping was answered: all that was sent before it has arrived.
    pub fn hear_pong(&mut self, now: Instant) {
        self.through = now;
        self.hear(now);
    }

    /// Bytes were sent.
    pub fn send(&mut self, now: Instant, bytes: usize) {
        self.spoke = now;
        self.through = self.through.max(now) + time_on_a_slow_line(bytes as u64);
    }

    /// What to do now; `Ping` is said once and then waited for.
    pub fn judge(&mut self, now: Instant) -> Verdict {
        if now < self.deadline() {
            return Verdict::Fine;
        }
        if self.pinged.is_some() {
            return Verdict::Gone;
        }
        self.pinged = Some(now);
        Verdict::Ping
    }

    /// When to judge.
    pub fn deadline(&self) -> Instant {
        match self.pinged {
            None => (self.heard + PING_AFTER).min(self.spoke + SPEAK_AFTER),
            Some(pinged) => pinged.max(self.through) + PONG_WITHIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_end_is_gone_soon_enough_to_move_within_three_seconds() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        assert_eq!(silence.judge(start + PING_AFTER / 2), Verdict::Fine);
        let pinged = silence.deadline();
        assert_eq!(silence.judge(pinged), Verdict::Ping);
        assert_eq!(silence.judge(pinged), Verdict::Fine);
        let gone = silence.deadline();
        assert_eq!(silence.judge(gone), Verdict::Gone);
        assert!(gone - start < Duration::from_millis(2500));
    }

    #[test]
    fn a_talkative_tracker_hears_from_us_too() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        let mut now = start;
        while silence.judge(now) == Verdict::Fine {
            now += PING_AFTER / 2;
            silence.hear(now);
        }
        assert_eq!(now - start, SPEAK_AFTER);
    }

    #[test]
    fn any_byte_is_a_sign_of_life_and_a_slow_line_is_waited_for() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        silence.send(start, 400_000);
        let pinged = silence.deadline();
        assert_eq!(silence.judge(pinged), Verdict::Ping);
        assert!(silence.deadline() > start + Duration::from_secs(3));
        silence.hear(pinged + PONG_WITHIN);
        assert_eq!(silence.judge(pinged + PONG_WITHIN + PING_AFTER / 2), Verdict::Fine);
    }
}
