//! SHA-1 of several streams at once.
//!
//! SHA-1 waits on itself: each step needs the one before it, but only that of its own stream. There are three ways around:
//!
//! - [`compress`]: two streams by SHA instructions, in turns. A processor works on one while it waits for the other. How much that
//!   saves is the processor's: both take 1.2 times as long as one on some, 1.8 times on others.
//! - [`compress_lanes`]: sixteen streams by ordinary instructions, each word of a vector from another stream. With vectors of
//!   512 bits they take as long as eight do alone by SHA instructions, or less.
//! - [`compress_lanes_beside`]: both at once. While the one stream waits for its SHA instructions, the processor has sixteen others to go on
//!   with: all of it takes a tenth longer than the one stream alone.
//!
//! A package of its own because it has unsafe code, and so that builds for tests can optimise it. What is
//! unsafe are three calls: of functions made for processors with certain instructions, from code made for any. They are sound because
//! the processor is asked first. All else, the loads included, is safe: the instructions take values and not pointers.
//! Elsewhere, and as the oracle of the tests, the `sha1` crate does it.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls code for certain instructions after the processor said that it has them")
)]

#[cfg(target_arch = "x86_64")]
mod pair;
#[cfg(target_arch = "x86_64")]
mod wide;

use sha1::block_api;

/// Bytes of one compression.
pub const BLOCK: usize = 64;
/// Streams that [`compress_lanes`] takes.
pub const LANES: usize = 16;

/// A running SHA-1 between two compressions.
pub type State = [u32; 5];

/// Takes one state further by some blocks.
pub use block_api::compress as compress_one;

/// Takes both states further, each by as many blocks.
///
/// # Panics
/// When there are more blocks for one than for the other.
pub fn compress(one: &mut State, ones: &[[u8; BLOCK]], other: &mut State, others: &[[u8; BLOCK]]) {
    assert_eq!(ones.len(), others.len(), "both streams go on by as many blocks");
    #[cfg(target_arch = "x86_64")]
    if has_sha() {
        // SAFETY: the processor has all that the function is made for: it was just asked.
        return unsafe { pair::compress(one, ones, other, others) };
    }
    compress_portably(one, ones, other, others);
}

/// A block of each in turn: where the crate has instructions for the processor, it overlaps some of the one with the other.
fn compress_portably(one: &mut State, ones: &[[u8; BLOCK]], other: &mut State, others: &[[u8; BLOCK]]) {
    for (left, right) in ones.chunks(1).zip(others.chunks(1)) {
        block_api::compress(one, left);
        block_api::compress(other, right);
    }
}

/// Whether this processor has vectors of 512 bits, so that many lanes cost less than as many streams.
#[must_use]
pub fn is_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Takes every state further by the blocks of its lane, each by as many.
///
/// # Panics
/// When there are more blocks in one lane than in another.
pub fn compress_lanes(states: &mut [State; LANES], lanes: &[&[[u8; BLOCK]]; LANES]) {
    assert!(lanes.iter().all(|lane| lane.len() == lanes[0].len()), "all streams go on by as many blocks");
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        // SAFETY: the processor has all that the function is made for: it was just asked.
        return unsafe { wide::compress(states, lanes) };
    }
    for (state, lane) in states.iter_mut().zip(lanes) {
        block_api::compress(state, lane);
    }
}

/// As [`compress_lanes`], and takes another state further meanwhile, by [`LANES`] times as many blocks: for little more than the cost of
/// those alone.
///
/// # Panics
/// When there are more blocks in one lane than in another, or not [`LANES`] times as many for the other state.
pub fn compress_lanes_beside(
    states: &mut [State; LANES],
    lanes: &[&[[u8; BLOCK]]; LANES],
    one: &mut State,
    ones: &[[u8; BLOCK]],
) {
    assert!(lanes.iter().all(|lane| lane.len() * LANES == ones.len()), "as many blocks beside as in all lanes");
    #[cfg(target_arch = "x86_64")]
    if is_wide() && has_sha() {
        // SAFETY: the processor has all that the function is made for: it was just asked.
        return unsafe { wide::compress_beside(states, lanes, one, ones) };
    }
    compress_lanes(states, lanes);
    block_api::compress(one, ones);
}

#[cfg(target_arch = "x86_64")]
fn has_sha() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(most: usize) -> impl Strategy<Value = Vec<[u8; BLOCK]>> {
        prop::collection::vec(prop::array::uniform(any::<u8>()), 0..=most)
    }

    proptest! {
        #[test]
        fn both_states_become_what_the_crate_makes_of_each(one: State, other: State, ones in blocks(8), others in blocks(8)) {
            let count = ones.len().min(others.len());
            let (ones, others) = (&ones[..count], &others[..count]);
            let (mut left, mut right) = (one, other);
            block_api::compress(&mut left, ones);
            block_api::compress(&mut right, others);
            for pair in [compress, compress_portably] {
                let (mut a, mut b) = (one, other);
                pair(&mut a, ones, &mut b, others);
                prop_assert_eq!((a, b), (left, right));
            }
        }

        #[test]
        fn every_lane_becomes_what_the_crate_makes_of_it(states: [State; LANES], one: State, content in blocks(3 * LANES)) {
            let count = content.len() / LANES;
            let lanes: [&[[u8; BLOCK]]; LANES] = std::array::from_fn(|lane| &content[lane * count..][..count]);
            let mut expected = states;
            expected.iter_mut().zip(lanes).for_each(|(state, lane)| block_api::compress(state, lane));
            let mut found = states;
            compress_lanes(&mut found, &lanes);
            prop_assert_eq!(found, expected);

            let (mut found, mut other) = (states, one);
            compress_lanes_beside(&mut found, &lanes, &mut other, &content[..count * LANES]);
            let mut expected_other = one;
            block_api::compress(&mut expected_other, &content[..count * LANES]);
            prop_assert_eq!((found, other), (expected, expected_other));
        }
    }
}
