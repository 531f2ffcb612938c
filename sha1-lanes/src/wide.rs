//! Sixteen streams by vectors of 512 bits: word `n` of every vector belongs to stream `n`.
//!
//! Loops and no closures: a closure has the instructions of the function around it, but what calls it has not, so that neither becomes
//! part of the function, and vectors go through memory. That took a third of the time.

use std::arch::x86_64::{
    __m512i, _mm_extract_epi32, _mm512_add_epi32, _mm512_extracti32x4_epi32, _mm512_rol_epi32, _mm512_set_epi32,
    _mm512_set_epi64, _mm512_set1_epi32, _mm512_set4_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_shuffle_i32x4, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::{
    BLOCK, LANES, State,
    pair::{self, Lane},
};

/// The round constants, for twenty rounds each (FIPS 180-4, section 4.2.1).
const CONSTANTS: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];
/// The functions of the rounds (section 4.1.1) as truth tables of three bits.
const CHOOSE: i32 = 0xca;
const PARITY: i32 = 0x96;
const MAJORITY: i32 = 0xe8;

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn compress(states: &mut [State; LANES], lanes: &[&[[u8; BLOCK]]; LANES]) {
    let mut state = gather(states);
    let constants = constants();
    for at in 0..lanes[0].len() {
        let mut rounds = Rounds::begin(&state, &rows(lanes, at));
        for turn in 0..20 {
            rounds.one::<CHOOSE>(turn, constants[0]);
        }
        for turn in 20..40 {
            rounds.one::<PARITY>(turn, constants[1]);
        }
        for turn in 40..60 {
            rounds.one::<MAJORITY>(turn, constants[2]);
        }
        for turn in 60..80 {
            rounds.one::<PARITY>(turn, constants[3]);
        }
        state = rounds.end(&state);
    }
    scatter(&state, states);
}

/// As [`compress`], and takes another stream further meanwhile by sixteen times as many blocks: five rounds of the lanes, which keep the
/// processor busy, for the eighty of a block by SHA instructions, which wait on each other.
#[target_feature(enable = "avx512f,avx512bw,sha,ssse3,sse4.1")]
pub(super) fn compress_beside(
    states: &mut [State; LANES],
    lanes: &[&[[u8; BLOCK]]; LANES],
    one: &mut State,
    ones: &[[u8; BLOCK]],
) {
    let mut state = gather(states);
    let mut lane = Lane::load(one);
    let [choose, first, majority, second] = constants();
    for (at, ones) in ones.as_chunks::<LANES>().0.iter().enumerate() {
        let mut rounds = Rounds::begin(&state, &rows(lanes, at));
        lane = five_beside::<CHOOSE, 0>(&mut rounds, choose, lane, &ones[0]);
        lane = five_beside::<CHOOSE, 5>(&mut rounds, choose, lane, &ones[1]);
        lane = five_beside::<CHOOSE, 10>(&mut rounds, choose, lane, &ones[2]);
        lane = five_beside::<CHOOSE, 15>(&mut rounds, choose, lane, &ones[3]);
        lane = five_beside::<PARITY, 20>(&mut rounds, first, lane, &ones[4]);
        lane = five_beside::<PARITY, 25>(&mut rounds, first, lane, &ones[5]);
        lane = five_beside::<PARITY, 30>(&mut rounds, first, lane, &ones[6]);
        lane = five_beside::<PARITY, 35>(&mut rounds, first, lane, &ones[7]);
        lane = five_beside::<MAJORITY, 40>(&mut rounds, majority, lane, &ones[8]);
        lane = five_beside::<MAJORITY, 45>(&mut rounds, majority, lane, &ones[9]);
        lane = five_beside::<MAJORITY, 50>(&mut rounds, majority, lane, &ones[10]);
        lane = five_beside::<MAJORITY, 55>(&mut rounds, majority, lane, &ones[11]);
        lane = five_beside::<PARITY, 60>(&mut rounds, second, lane, &ones[12]);
        lane = five_beside::<PARITY, 65>(&mut rounds, second, lane, &ones[13]);
        lane = five_beside::<PARITY, 70>(&mut rounds, second, lane, &ones[14]);
        lane = five_beside::<PARITY, 75>(&mut rounds, second, lane, &ones[15]);
        state = rounds.end(&state);
    }
    scatter(&state, states);
    *one = lane.store();
}

/// Five rounds of the lanes, and all of the one block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,sha,ssse3,sse4.1")]
fn five_beside<const FUNCTION: i32, const TURN: usize>(
    lanes: &mut Rounds,
    constant: __m512i,
    lane: Lane,
    block: &[u8; BLOCK],
) -> Lane {
    let mut one = pair::Rounds::begin(lane, block);
    lanes.one::<FUNCTION>(TURN, constant);
    one.four::<0>(1);
    one.four::<0>(2);
    one.four::<0>(3);
    one.scheduled::<0>(4);
    lanes.one::<FUNCTION>(TURN + 1, constant);
    one.scheduled::<1>(5);
    one.scheduled::<1>(6);
    one.scheduled::<1>(7);
    one.scheduled::<1>(8);
    lanes.one::<FUNCTION>(TURN + 2, constant);
    one.scheduled::<1>(9);
    one.scheduled::<2>(10);
    one.scheduled::<2>(11);
    one.scheduled::<2>(12);
    lanes.one::<FUNCTION>(TURN + 3, constant);
    one.scheduled::<2>(13);
    one.scheduled::<2>(14);
    one.scheduled::<3>(15);
    one.scheduled::<3>(16);
    lanes.one::<FUNCTION>(TURN + 4, constant);
    one.scheduled::<3>(17);
    one.scheduled::<3>(18);
    one.scheduled::<3>(19);
    one.end(lane)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn constants() -> [__m512i; 4] {
    let mut all = [_mm512_setzero_si512(); 4];
    for (vector, constant) in all.iter_mut().zip(CONSTANTS) {
        *vector = _mm512_set1_epi32(constant.cast_signed());
    }
    all
}

/// Block `at` of each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rows(lanes: &[&[[u8; BLOCK]]; LANES], at: usize) -> [__m512i; LANES] {
    let mut rows = [_mm512_setzero_si512(); LANES];
    for (row, lane) in rows.iter_mut().zip(lanes) {
        *row = load(&lane[at]);
    }
    rows
}

/// The eighty rounds of one block of each stream.
struct Rounds {
    state: [__m512i; 5],
    /// The last sixteen words of the message schedule.
    words: [__m512i; 16],
}

impl Rounds {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn begin(state: &[__m512i; 5], rows: &[__m512i; LANES]) -> Self {
        Self { state: *state, words: turned(rows) }
    }

    /// The state behind the block, which began with `before`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn end(self, before: &[__m512i; 5]) -> [__m512i; 5] {
        let mut state = *before;
        for (sum, new) in state.iter_mut().zip(self.state) {
            *sum = _mm512_add_epi32(*sum, new);
        }
        state
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn one<const FUNCTION: i32>(&mut self, turn: usize, constant: __m512i) {
        if turn >= 16 {
            let [third, eighth, fourteenth, sixteenth] = [
                self.words[(turn - 3) % 16],
                self.words[(turn - 8) % 16],
                self.words[(turn - 14) % 16],
                self.words[turn % 16],
            ];
            let mixed = _mm512_ternarylogic_epi32::<PARITY>(third, eighth, fourteenth);
            self.words[turn % 16] = _mm512_rol_epi32::<1>(_mm512_xor_si512(mixed, sixteenth));
        }
        let [first, second, third, fourth, fifth] = self.state;
        let early = _mm512_add_epi32(_mm512_add_epi32(fifth, constant), self.words[turn % 16]);
        let mixed = _mm512_ternarylogic_epi32::<FUNCTION>(second, third, fourth);
        let late = _mm512_add_epi32(mixed, _mm512_rol_epi32::<5>(first));
        self.state = [_mm512_add_epi32(early, late), first, _mm512_rol_epi32::<30>(second), third, fourth];
    }
}

/// The sixteen words of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(block: &[u8; BLOCK]) -> __m512i {
    let (parts, _) = block.as_chunks();
    let mut words = [0; 8];
    for (word, part) in words.iter_mut().zip(parts) {
        *word = i64::from_le_bytes(*part);
    }
    let [first, second, third, fourth, fifth, sixth, seventh, eighth] = words;
    let bytes = _mm512_set_epi64(eighth, seventh, sixth, fifth, fourth, third, second, first);
    _mm512_shuffle_epi8(bytes, _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203))
}

/// Rows to columns: from a vector for each stream to one for each word.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn turned(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = *rows;
    for at in (0..16).step_by(2) {
        let (upper, lower) = (rows[at], rows[at + 1]);
        pairs[at] = _mm512_unpacklo_epi32(upper, lower);
        pairs[at + 1] = _mm512_unpackhi_epi32(upper, lower);
    }
    let mut fours = pairs;
    for at in (0..16).step_by(4) {
        let [first, second, third, fourth] = [pairs[at], pairs[at + 1], pairs[at + 2], pairs[at + 3]];
        fours[at] = _mm512_unpacklo_epi64(first, third);
        fours[at + 1] = _mm512_unpackhi_epi64(first, third);
        fours[at + 2] = _mm512_unpacklo_epi64(second, fourth);
        fours[at + 3] = _mm512_unpackhi_epi64(second, fourth);
    }
    let mut columns = fours;
    for at in 0..4 {
        let [first, second, third, fourth] = [fours[at], fours[at + 4], fours[at + 8], fours[at + 12]];
        let evens = [even_quarters(first, second), even_quarters(third, fourth)];
        let odds = [odd_quarters(first, second), odd_quarters(third, fourth)];
        columns[at] = even_quarters(evens[0], evens[1]);
        columns[at + 4] = even_quarters(odds[0], odds[1]);
        columns[at + 8] = odd_quarters(evens[0], evens[1]);
        columns[at + 12] = odd_quarters(odds[0], odds[1]);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn even_quarters(one: __m512i, other: __m512i) -> __m512i {
    _mm512_shuffle_i32x4::<0b10_00_10_00>(one, other)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn odd_quarters(one: __m512i, other: __m512i) -> __m512i {
    _mm512_shuffle_i32x4::<0b11_01_11_01>(one, other)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn gather(states: &[State; LANES]) -> [__m512i; 5] {
    let mut all = [_mm512_setzero_si512(); 5];
    for (at, word) in all.iter_mut().enumerate() {
        let mut of = [0; LANES];
        for (of, state) in of.iter_mut().zip(states) {
            *of = state[at].cast_signed();
        }
        *word = _mm512_set_epi32(
            of[15], of[14], of[13], of[12], of[11], of[10], of[9], of[8], of[7], of[6], of[5], of[4], of[3], of[2],
            of[1], of[0],
        );
    }
    all
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn scatter(all: &[__m512i; 5], states: &mut [State; LANES]) {
    for (at, word) in all.iter().copied().enumerate() {
        let quarters = [
            _mm512_extracti32x4_epi32::<0>(word),
            _mm512_extracti32x4_epi32::<1>(word),
            _mm512_extracti32x4_epi32::<2>(word),
            _mm512_extracti32x4_epi32::<3>(word),
        ];
        for (lanes, quarter) in states.as_chunks_mut::<4>().0.iter_mut().zip(quarters) {
            lanes[0][at] = _mm_extract_epi32::<0>(quarter).cast_unsigned();
            lanes[1][at] = _mm_extract_epi32::<1>(quarter).cast_unsigned();
            lanes[2][at] = _mm_extract_epi32::<2>(quarter).cast_unsigned();
            lanes[3][at] = _mm_extract_epi32::<3>(quarter).cast_unsigned();
        }
    }
}
