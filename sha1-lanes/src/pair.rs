//! Two streams by SHA instructions, a turn of the one and a turn of the other.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x, _mm_sha1msg1_epu32, _mm_sha1msg2_epu32,
    _mm_sha1nexte_epu32, _mm_sha1rnds4_epu32, _mm_shuffle_epi8, _mm_xor_si128,
};

use super::{BLOCK, State};

#[target_feature(enable = "sha,ssse3,sse4.1")]
pub(super) fn compress(one: &mut State, ones: &[[u8; BLOCK]], other: &mut State, others: &[[u8; BLOCK]]) {
    let (mut left, mut right) = (Lane::load(one), Lane::load(other));
    for (ours, theirs) in ones.iter().zip(others) {
        let (mut a, mut b) = (Rounds::begin(left, ours), Rounds::begin(right, theirs));
        for turn in 1..4 {
            a.four::<0>(turn);
            b.four::<0>(turn);
        }
        a.scheduled::<0>(4);
        b.scheduled::<0>(4);
        for turn in 5..10 {
            a.scheduled::<1>(turn);
            b.scheduled::<1>(turn);
        }
        for turn in 10..15 {
            a.scheduled::<2>(turn);
            b.scheduled::<2>(turn);
        }
        for turn in 15..20 {
            a.scheduled::<3>(turn);
            b.scheduled::<3>(turn);
        }
        (left, right) = (a.end(left), b.end(right));
    }
    (*one, *other) = (left.store(), right.store());
}

/// A state as the instructions take it.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    abcd: __m128i,
    e: __m128i,
}

impl Lane {
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn load(state: &State) -> Self {
        let word = |at: usize| state[at].cast_signed();
        Self { abcd: _mm_set_epi32(word(0), word(1), word(2), word(3)), e: _mm_set_epi32(word(4), 0, 0, 0) }
    }

    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn store(self) -> State {
        let Self { abcd, e } = self;
        [
            _mm_extract_epi32::<3>(abcd),
            _mm_extract_epi32::<2>(abcd),
            _mm_extract_epi32::<1>(abcd),
            _mm_extract_epi32::<0>(abcd),
            _mm_extract_epi32::<3>(e),
        ]
        .map(i32::cast_unsigned)
    }
}

/// The eighty rounds of one block, in twenty turns of four.
pub(super) struct Rounds {
    now: __m128i,
    before: __m128i,
    /// The last sixteen words of the message schedule.
    words: [__m128i; 4],
}

impl Rounds {
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn begin(lane: Lane, block: &[u8; BLOCK]) -> Self {
        let (parts, _) = block.as_chunks::<16>();
        let words = [load(&parts[0]), load(&parts[1]), load(&parts[2]), load(&parts[3])];
        let now = _mm_sha1rnds4_epu32::<0>(lane.abcd, _mm_add_epi32(lane.e, words[0]));
        Self { now, before: lane.abcd, words }
    }

    /// Four rounds with words that are there.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn four<const FUNCTION: i32>(&mut self, turn: usize) {
        let mixed = _mm_sha1nexte_epu32(self.before, self.words[turn % 4]);
        (self.now, self.before) = (_mm_sha1rnds4_epu32::<FUNCTION>(self.now, mixed), self.now);
    }

    /// Four rounds with the next words of the schedule.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn scheduled<const FUNCTION: i32>(&mut self, turn: usize) {
        let [fourth, third, second, first] =
            [self.words[turn % 4], self.words[(turn + 1) % 4], self.words[(turn + 2) % 4], self.words[(turn + 3) % 4]];
        let early = _mm_xor_si128(_mm_sha1msg1_epu32(fourth, third), second);
        self.words[turn % 4] = _mm_sha1msg2_epu32(early, first);
        self.four::<FUNCTION>(turn);
    }

    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn end(self, lane: Lane) -> Lane {
        Lane { abcd: _mm_add_epi32(lane.abcd, self.now), e: _mm_sha1nexte_epu32(self.before, lane.e) }
    }
}

/// Four words, the first highest.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load(bytes: &[u8; 16]) -> __m128i {
    let value = u128::from_le_bytes(*bytes).cast_signed();
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let (low, high) = (value as i64, (value >> 64) as i64);
    _mm_shuffle_epi8(_mm_set_epi64x(high, low), _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f))
}
