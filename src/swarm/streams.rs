//! How many streams a link has, and by which of them a block goes.
//!
//! What a TCP stream has on its way is bound by the buffer of the socket that sends, whatever the line could hold: with 4 MiB, Linux'
//! usual bound, it is some 2.7 MB, and half of that where packets are lost and their place is kept until they have arrived. A line of
//! 1 Gbit/s with a round trip of 200 ms holds 25 MB. So the side that dialled reckons what is on the way (rate × round trip; the round
//! trip is how long a connection took to stand), and opens more streams as long as that is as much as those there are would hold by
//! their buffers. It closes them when less has been on the way for a while. Nearby, no second stream is ever of use.

use std::time::Duration;

use tokio::time::Instant;

/// Streams of a link at most, the first among them.
pub const MOST_STREAMS: usize = 16;
/// Bytes on the way by each stream from which their buffers may be what holds them back.
const NEARLY_FULL: u64 = 1024 * 1024;
/// A shorter round trip is none: a buffer lets several Gbit/s through, and what is measured is how busy the processors are.
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(10);
/// Each reckoning goes over so long at least, and over a round trip.
const LEAST_SPAN: Duration = Duration::from_millis(100);
/// What is on the way grows twofold in each round trip while TCP finds out how much the line holds, and further streams stand after two:
/// so what is growing on a single stream counts so many times.
const AHEAD: u64 = 4;
/// Where one stream will not do, there are at once as many as a line of 1 Gbit/s would need, since each begins slowly. Then as many as
/// have shown to be of use: the more there are, the more they take from each other.
const USUAL_BYTES_PER_S: u64 = 125_000_000;
/// Bytes on the way by each of those.
const USUALLY_HELD: u64 = 2 * NEARLY_FULL;
/// How long fewer streams would have done before some are closed.
const LINGER: Duration = Duration::from_secs(10);
/// How long none is opened after one could not be.
const REST: Duration = Duration::from_mins(1);
/// From so many streams on, the first is left to messages, which then wait behind no blocks.
const FIRST_IS_FREE: usize = 4;

/// What is to be done about the number of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// So many more are needed.
    Open(usize),
    /// So many are needed no more.
    Close(usize),
}

/// The reckoning for one link.
#[derive(Debug)]
pub struct Reckoning {
    round_trip: Duration,
    begun: Instant,
    sent: u64,
    received: u64,
    /// Bytes on the way when that was reckoned last.
    on_the_way: u64,
    /// Most streams that were needed at a time since then.
    needed: usize,
    needed_since: Instant,
    rests_until: Option<Instant>,
}

impl Reckoning {
    /// A link whose connection took so long to stand has come to be.
    pub fn new(now: Instant, round_trip: Duration) -> Self {
        let (sent, received, on_the_way) = (0, 0, 0);
        Self { round_trip, begun: now, sent, received, on_the_way, needed: 1, needed_since: now, rests_until: None }
    }

    /// One more stream stands, and its connection took so long: the shortest time is the round trip, the others waited for a processor.
    pub fn opened(&mut self, round_trip: Duration) {
        self.round_trip = self.round_trip.min(round_trip);
    }

    /// A stream could not be opened.
    pub fn failed(&mut self, now: Instant) {
        self.rests_until = Some(now + REST);
    }

    /// The link's sockets took bytes of blocks.
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The other side sent bytes of blocks.
    pub fn received(&mut self, bytes: u64) {
        self.received += bytes;
    }

    /// What is to be done now that `open` streams are open, or are being opened.
    pub fn review(&mut self, now: Instant, open: usize) -> Option<Change> {
        let span = now.saturating_duration_since(self.begun);
        if span < LEAST_SPAN.max(self.round_trip) {
            return None;
        }
        let moved = self.sent.max(self.received);
        (self.begun, self.sent, self.received) = (now, 0, 0);
        let needed = self.needed_for(moved, span, open);
        self.needed = self.needed.max(needed);
        if needed > open {
            return self.grow(now, open, needed);
        }
        if now.saturating_duration_since(self.needed_since) < LINGER {
            return None;
        }
        let needed = std::mem::replace(&mut self.needed, 1);
        self.needed_since = now;
        (needed <= open / 2).then(|| Change::Close(open - needed))
    }

    /// So many streams that none is nearly full.
    fn needed_for(&mut self, moved: u64, span: Duration, open: usize) -> usize {
        if self.round_trip < LEAST_ROUND_TRIP {
            return 1;
        }
        let on_the_way = u128::from(moved) * self.round_trip.as_nanos() / span.as_nanos();
        let on_the_way = u64::try_from(on_the_way).unwrap_or(u64::MAX);
        let before = std::mem::replace(&mut self.on_the_way, on_the_way);
        let is_growing = before > 0 && on_the_way / 3 > before / 2;
        let expected = on_the_way.saturating_mul(if is_growing && open == 1 { AHEAD } else { 1 });
        streams(expected / NEARLY_FULL)
    }

    /// As many as a usual line would need.
    fn usual(&self) -> usize {
        let on_the_way = u128::from(USUAL_BYTES_PER_S) * self.round_trip.as_millis() / 1000;
        streams(u64::try_from(on_the_way).unwrap_or(u64::MAX) / USUALLY_HELD)
    }

    fn grow(&mut self, now: Instant, open: usize, needed: usize) -> Option<Change> {
        if self.rests_until.is_some_and(|until| until > now) {
            return None;
        }
        let at_once = if open == 1 { self.usual() } else { 1 };
        let more = needed.max(at_once).min(MOST_STREAMS).saturating_sub(open);
        (more > 0).then_some(Change::Open(more))
    }
}

/// One more than are full.
fn streams(full: u64) -> usize {
    usize::try_from(full).unwrap_or(usize::MAX).saturating_add(1)
}

/// The stream by which the next block goes, of those with so many bytes waiting, the first stream first. Where the piece of the block before
/// goes on it is that block's, `last`: each stream waits for what was lost of it, and pieces that waited for several would fill the
/// memory of who puts them together. Else it is the emptiest; in turn among equals.
pub fn choose(waiting: impl ExactSizeIterator<Item = u64>, last: usize, goes_on: bool) -> usize {
    let skipped = usize::from(waiting.len() >= FIRST_IS_FREE);
    if goes_on && (skipped..waiting.len()).contains(&last) {
        return last;
    }
    let emptiest = waiting.enumerate().skip(skipped).min_by_key(|(stream, bytes)| (*bytes, *stream <= last));
    emptiest.map_or(0, |(stream, _)| stream)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Streams that are open after so many seconds on a line, where each stream holds so much.
    struct Line {
        round_trip: Duration,
        bytes_per_s: u64,
        held_by_stream: u64,
    }

    impl Line {
        fn bytes_per_s(&self, open: usize) -> u64 {
            let held = u128::from(self.held_by_stream) * open as u128 * 1_000_000_000;
            (held / self.round_trip.as_nanos()).min(u128::from(self.bytes_per_s)) as u64
        }

        /// Streams after each tenth of a second.
        fn run(&self, reckoning: &mut Reckoning, now: &mut Instant, open: &mut usize, seconds: u64) {
            for _ in 0..10 * seconds {
                *now += 100 * MS;
                reckoning.received(self.bytes_per_s(*open) / 10);
                match reckoning.review(*now, *open) {
                    Some(Change::Open(more)) => *open += more,
                    Some(Change::Close(fewer)) => *open -= fewer,
                    None => {}
                }
                assert!((1..=MOST_STREAMS).contains(open));
            }
        }
    }

    fn settle(line: &Line) -> usize {
        let (mut now, mut open) = (Instant::now(), 1);
        let mut reckoning = Reckoning::new(now, line.round_trip);
        line.run(&mut reckoning, &mut now, &mut open, 60);
        open
    }

    #[test]
    fn a_long_line_is_filled_and_a_short_one_has_one_stream() {
        let gbit = 125_000_000;
        let line = |round_trip_ms: u32, bytes_per_s, held_by_stream| Line {
            round_trip: round_trip_ms * MS,
            bytes_per_s,
            held_by_stream,
        };
        for far in [line(50, gbit, 2_700_000), line(200, gbit, 2_700_000), line(50, gbit, 1_350_000)] {
            assert_eq!(far.bytes_per_s(settle(&far)), gbit);
        }
        assert_eq!(settle(&line(200, gbit, 1_350_000)), MOST_STREAMS);
        for near in [line(1, 10 * gbit, 2_700_000), line(9, 10 * gbit, 2_700_000)] {
            assert_eq!(settle(&near), 1, "near");
        }
        for slow in [line(50, gbit / 8, 2_700_000), line(200, gbit / 25, 2_700_000)] {
            assert_eq!(settle(&slow), 1, "slow");
        }
    }

    #[test]
    fn what_is_needed_no_more_is_closed_and_what_looked_far_and_is_near() {
        let line = Line { round_trip: 100 * MS, bytes_per_s: 125_000_000, held_by_stream: 2_700_000 };
        let (mut now, mut open) = (Instant::now(), 1);
        let mut reckoning = Reckoning::new(now, line.round_trip);
        line.run(&mut reckoning, &mut now, &mut open, 30);
        assert!(open > 4);
        Line { bytes_per_s: 0, ..line }.run(&mut reckoning, &mut now, &mut open, 30);
        assert_eq!(open, 1, "nothing moves");
        line.run(&mut reckoning, &mut now, &mut open, 5);
        assert!(open > 1);
        reckoning.opened(MS);
        line.run(&mut reckoning, &mut now, &mut open, 30);
        assert_eq!(open, 1, "the first connection had only waited for a processor");
    }

    #[test]
    fn who_opens_no_more_is_left_alone_for_a_while() {
        let line = Line { round_trip: 100 * MS, bytes_per_s: 125_000_000, held_by_stream: 2_700_000 };
        let (mut now, mut open) = (Instant::now(), 1);
        let mut reckoning = Reckoning::new(now, line.round_trip);
        reckoning.failed(now);
        line.run(&mut reckoning, &mut now, &mut open, 59);
        assert_eq!(open, 1);
        line.run(&mut reckoning, &mut now, &mut open, 5);
        assert!(open > 1);
    }

    #[test]
    fn pieces_go_by_the_emptiest_stream_and_leave_the_first_to_messages_where_there_are_many() {
        let begin = |waiting: &[u64], last| choose(waiting.iter().copied(), last, false);
        assert_eq!(begin(&[7], 0), 0);
        assert_eq!(begin(&[0, 0, 5], 1), 0);
        assert_eq!(begin(&[0, 0, 5], 0), 1);
        assert_eq!(begin(&[3, 2, 2], 2), 1);
        assert_eq!(begin(&[0, 4, 2, 3], 0), 2);
    }

    #[test]
    fn a_piece_goes_on_by_its_stream_while_there_is_that_and_it_is_no_longer_free_for_messages() {
        let go_on = |waiting: &[u64], last| choose(waiting.iter().copied(), last, true);
        assert_eq!(go_on(&[0, 0, 5], 2), 2);
        assert_eq!(go_on(&[9, 0, 5], 0), 0);
        assert_eq!(go_on(&[0, 3, 2, 4], 0), 2);
        assert_eq!(go_on(&[3, 2], 2), 1);
    }

    proptest! {
        #[test]
        fn no_measure_opens_more_than_the_bound(
            steps in prop::collection::vec((any::<u64>(), 0u64..10_000, 0u64..100_000, any::<bool>()), 1..60),
        ) {
            let (mut now, mut open) = (Instant::now(), 1);
            let mut reckoning = Reckoning::new(now, Duration::from_secs(3));
            for (bytes, wait_ms, round_trip_ms, fails) in steps {
                now += Duration::from_millis(wait_ms);
                reckoning.received(bytes / 64);
                reckoning.opened(Duration::from_millis(round_trip_ms));
                if fails {
                    reckoning.failed(now);
                }
                match reckoning.review(now, open) {
                    Some(Change::Open(more)) => open += more,
                    Some(Change::Close(fewer)) => open -= fewer,
                    None => {}
                }
                prop_assert!((1..=MOST_STREAMS).contains(&open));
            }
        }
    }
}
