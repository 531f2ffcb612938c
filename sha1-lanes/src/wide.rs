//! Sixteen streams by vectors of 512 bits: word `n` of every vector belongs to stream `n`.

use std::arch::x86_64::{
    __m512i, _mm_extract_epi32, _mm512_add_epi32, _mm512_extracti32x4_epi32, _mm512_rol_epi32, _mm512_set_epi32,
    _mm512_set_epi64, _mm512_set1_epi32, _mm512_set4_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_shuffle_i32x4, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::{BLOCK, LANES, State};

/// The round constants, for twenty rounds each (FIPS 180-4, section 4.2.1).
const CONSTANTS: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];
/// The functions of the rounds (section 4.1.1) as truth tables of three bits.
const CHOOSE: i32 = 0xca;
const PARITY: i32 = 0x96;
const MAJORITY: i32 = 0xe8;

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn compress(states: &mut [State; LANES], lanes: &[&[[u8; BLOCK]]; LANES]) {
    let mut state = gather(states);
    let constants = CONSTANTS.map(|constant| _mm512_set1_epi32(constant.cast_signed()));
    let mut rest = lanes.map(<[_]>::iter);
    for _ in lanes[0] {
        let rows = rest.each_mut().map(|lane| lane.next().map_or(_mm512_setzero_si512(), |block| load(block)));
        let mut rounds = Rounds { state, words: turned(&rows) };
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
        for (sum, new) in state.iter_mut().zip(rounds.state) {
            *sum = _mm512_add_epi32(*sum, new);
        }
    }
    scatter(&state, states);
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
    fn one<const FUNCTION: i32>(&mut self, turn: usize, constant: __m512i) {
        if turn >= 16 {
            let back = |count: usize| self.words[(turn - count) % 16];
            let mixed = _mm512_ternarylogic_epi32::<PARITY>(back(3), back(8), back(14));
            self.words[turn % 16] = _mm512_rol_epi32::<1>(_mm512_xor_si512(mixed, back(16)));
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
    let part = |at: usize| i64::from_le_bytes(parts[at]);
    let bytes = _mm512_set_epi64(part(7), part(6), part(5), part(4), part(3), part(2), part(1), part(0));
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
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|next| pairs[at + next]);
        fours[at] = _mm512_unpacklo_epi64(first, third);
        fours[at + 1] = _mm512_unpackhi_epi64(first, third);
        fours[at + 2] = _mm512_unpacklo_epi64(second, fourth);
        fours[at + 3] = _mm512_unpackhi_epi64(second, fourth);
    }
    let mut columns = fours;
    for at in 0..4 {
        let [first, second, third, fourth] = [0, 4, 8, 12].map(|next| fours[at + next]);
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
        let of = |lane: usize| states[lane][at].cast_signed();
        *word = _mm512_set_epi32(
            of(15),
            of(14),
            of(13),
            of(12),
            of(11),
            of(10),
            of(9),
            of(8),
            of(7),
            of(6),
            of(5),
            of(4),
            of(3),
            of(2),
            of(1),
            of(0),
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
