//! A running SHA-1, alone or several side by side for less than the cost of each.

use std::{array, iter};

use p2p_sha1_lanes::{BLOCK, LANES, State, compress, compress_lanes, compress_lanes_beside, compress_one, is_wide};

/// The state before the first byte (FIPS 180-4, section 5.3.1).
const FIRST: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
/// Bytes of the last block that its padding leaves, before the length.
const PADDED: usize = BLOCK - 8;
/// Streams that lanes are for.
pub(super) const TOGETHER: usize = LANES;
/// Streams of one length from which on lanes for all of them are cheaper than two at a time.
const MANY: usize = LANES / 2;

/// SHA-1 of bytes as they come.
#[derive(Clone)]
pub(super) struct Sha1Sum {
    state: State,
    /// Bytes fed; those beyond the last whole block are in `rest`.
    length: u64,
    rest: [u8; BLOCK],
}

impl Default for Sha1Sum {
    fn default() -> Self {
        Self { state: FIRST, length: 0, rest: [0; BLOCK] }
    }
}

impl Sha1Sum {
    /// Goes on with some bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let (blocks, rest) = self.fill(bytes).as_chunks();
        compress_one(&mut self.state, blocks);
        self.length += (blocks.len() * BLOCK) as u64;
        self.fill(rest);
    }

    /// The value, when all was fed.
    pub(super) fn finish(mut self) -> [u8; 20] {
        let (bits, held) = (self.length * 8, self.held());
        let padding = if held < PADDED { PADDED - held } else { PADDED + BLOCK - held };
        let mut end = [0; 2 * BLOCK];
        end[0] = 0x80;
        end[padding..padding + 8].copy_from_slice(&bits.to_be_bytes());
        self.update(&end[..padding + 8]);
        let mut value = [0; 20];
        for (bytes, word) in value.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        value
    }

    /// Bytes of a block that has yet to become whole.
    fn held(&self) -> usize {
        usize::try_from(self.length % BLOCK as u64).expect("less than a block")
    }

    /// Takes as many bytes as the block begun lacks, or all of less than a block; returns the others.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let held = self.held();
        let taken = if held == 0 && bytes.len() >= BLOCK { 0 } else { bytes.len().min(BLOCK - held) };
        let (filling, others) = bytes.split_at(taken);
        self.rest[held..held + taken].copy_from_slice(filling);
        self.length += taken as u64;
        if held + taken == BLOCK {
            compress_one(&mut self.state, &[self.rest]);
        }
        others
    }
}

/// The values of several streams, each given in parts.
pub(super) fn of_each(streams: &[Vec<&[u8]>]) -> Vec<[u8; 20]> {
    of_each_beside(streams, &mut Sha1Sum::default(), iter::empty())
}

/// As [`of_each`], and feeds another sum meanwhile: to the end of what there is for it.
pub(super) fn of_each_beside<'a>(
    streams: &[Vec<&[u8]>],
    other: &mut Sha1Sum,
    others: impl Iterator<Item = &'a [u8]>,
) -> Vec<[u8; 20]> {
    let mut sums = vec![Sha1Sum::default(); streams.len()];
    update_each_beside(&mut sums, streams, other, others);
    sums.into_iter().map(Sha1Sum::finish).collect()
}

/// Goes on with several sums, each by its stream, and feeds another meanwhile: to the end of what there is for it.
pub(super) fn update_each_beside<'a>(
    mut sums: &mut [Sha1Sum],
    streams: &[Vec<&[u8]>],
    other: &mut Sha1Sum,
    others: impl Iterator<Item = &'a [u8]>,
) {
    let mut other = Feed { sum: other, part: &[], parts: others };
    let length = |stream: &Vec<&[u8]>| stream.iter().map(|part| part.len()).sum::<usize>();
    let of_one_length = streams.chunk_by(|one, next| length(one) == length(next));
    for group in of_one_length.flat_map(|streams| streams.chunks(LANES)) {
        let (of_group, left) = sums.split_at_mut(group.len());
        sums = left;
        if group.len() >= MANY && is_wide() {
            in_lanes(of_group, group, &mut other);
        } else {
            in_pairs(of_group, group, &mut other);
        }
    }
    other.finish();
}

/// Each beside the other as long as there is something to feed that, and then beside each other.
fn in_pairs<'a>(
    sums: &mut [Sha1Sum],
    streams: &[Vec<&[u8]>],
    other: &mut Feed<'a, '_, impl Iterator<Item = &'a [u8]>>,
) {
    let mut feeds =
        sums.iter_mut().zip(streams).map(|(sum, parts)| Feed { sum, part: &[], parts: parts.iter().copied() });
    while let Some(mut one) = feeds.next() {
        one.go_on_beside(other);
        if let Some(mut next) = one.blocks().and_then(|_| feeds.next()) {
            one.go_on_beside(&mut next);
            next.finish();
        }
        one.finish();
    }
}

/// At most [`LANES`] streams, at least one. Lanes left over go over the last one again.
fn in_lanes<'a>(
    sums: &mut [Sha1Sum],
    streams: &[Vec<&[u8]>],
    other: &mut Feed<'a, '_, impl Iterator<Item = &'a [u8]>>,
) {
    let mut again = vec![sums[sums.len() - 1].clone(); LANES - sums.len()];
    let mut feeds: Vec<_> = sums
        .iter_mut()
        .chain(&mut again)
        .enumerate()
        .map(|(lane, sum)| Feed { sum, part: &[], parts: streams[lane.min(streams.len() - 1)].iter().copied() })
        .collect();
    loop {
        let lanes: [&[[u8; BLOCK]]; LANES] = array::from_fn(|lane| feeds[lane].blocks().unwrap_or_default());
        let most = lanes.iter().map(|blocks| blocks.len()).min().unwrap_or_default();
        if most == 0 {
            break;
        }
        let mut states: [State; LANES] = array::from_fn(|lane| feeds[lane].sum.state);
        let (beside, _) = other.blocks_at_least(LANES).unwrap_or_default().as_chunks::<LANES>();
        let count = if beside.is_empty() { most } else { most.min(beside.len()) };
        let lanes = lanes.map(|blocks| &blocks[..count]);
        if beside.is_empty() {
            compress_lanes(&mut states, &lanes);
        } else {
            compress_lanes_beside(&mut states, &lanes, &mut other.sum.state, beside[..count].as_flattened());
            other.advance(count * LANES);
        }
        for (feed, state) in feeds.iter_mut().zip(states) {
            feed.sum.state = state;
            feed.advance(count);
        }
    }
    feeds.into_iter().take(streams.len()).for_each(Feed::finish);
}

/// A sum, and what is still to be fed to it.
struct Feed<'a, 's, Parts> {
    sum: &'s mut Sha1Sum,
    part: &'a [u8],
    parts: Parts,
}

impl<'a, Parts: Iterator<Item = &'a [u8]>> Feed<'a, '_, Parts> {
    /// Whole blocks that come next, at least one, once all before them was fed; `None` when there are no more.
    fn blocks(&mut self) -> Option<&'a [[u8; BLOCK]]> {
        loop {
            if self.part.is_empty() {
                self.part = self.parts.next()?;
            } else if self.sum.held() == 0 && self.part.len() >= BLOCK {
                return Some(self.part.as_chunks().0);
            } else {
                self.part = self.sum.fill(self.part);
            }
        }
    }

    /// As [`Self::blocks`], but that many at least; those at the end of a part, which are fewer, are fed.
    fn blocks_at_least(&mut self, least: usize) -> Option<&'a [[u8; BLOCK]]> {
        loop {
            let blocks = self.blocks()?;
            if blocks.len() >= least {
                return Some(blocks);
            }
            compress_one(&mut self.sum.state, blocks);
            self.advance(blocks.len());
        }
    }

    /// Feeds this and another, each with its own: together wherever both have whole blocks, until one has no more.
    fn go_on_beside<'b>(&mut self, other: &mut Feed<'b, '_, impl Iterator<Item = &'b [u8]>>) {
        while let (Some(ours), Some(theirs)) = (self.blocks(), other.blocks()) {
            let count = ours.len().min(theirs.len());
            compress(&mut self.sum.state, &ours[..count], &mut other.sum.state, &theirs[..count]);
            self.advance(count);
            other.advance(count);
        }
    }

    /// The first of the blocks that come next are in the sum.
    fn advance(&mut self, count: usize) {
        let bytes = count * BLOCK;
        self.sum.length += bytes as u64;
        self.part = &self.part[bytes..];
    }

    fn finish(self) {
        self.sum.update(self.part);
        self.parts.for_each(|part| self.sum.update(part));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha1::{Digest as _, Sha1};

    use super::*;

    fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let length = prop_oneof![0..3usize, 50..140usize, Just(64), Just(128), 0..1000usize];
        prop::collection::vec(length.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length)), 0..6)
    }

    fn slices(parts: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
        parts.iter().map(Vec::as_slice)
    }

    proptest! {
        #[test]
        fn a_sum_is_that_of_the_crate_however_the_bytes_come(parts in parts()) {
            let mut sum = Sha1Sum::default();
            slices(&parts).for_each(|part| sum.update(part));
            prop_assert_eq!(sum.finish(), <[u8; 20]>::from(Sha1::digest(parts.concat())));
        }

        #[test]
        fn several_side_by_side_are_what_each_is_alone(
            before in parts(),
            streams in prop_oneof![
                prop::collection::vec(parts(), 0..4),
                (parts(), 0..20usize).prop_map(|(stream, count)| vec![stream; count]),
            ],
            others in prop_oneof![parts(), prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20_000), 0..3)],
        ) {
            let mut other = Sha1Sum::default();
            slices(&before).for_each(|part| other.update(part));
            let all: Vec<Vec<&[u8]>> = streams.iter().map(|parts| slices(parts).collect()).collect();
            let found = of_each_beside(&all, &mut other, slices(&others));
            let expected: Vec<[u8; 20]> = streams.iter().map(|parts| Sha1::digest(parts.concat()).into()).collect();
            prop_assert_eq!(&found, &expected);
            let mut sums = vec![Sha1Sum::default(); all.len()];
            let steps = all.iter().map(Vec::len).max().unwrap_or_default();
            for step in 0..steps {
                let parts: Vec<Vec<&[u8]>> = all.iter().map(|parts| parts.get(step).copied().into_iter().collect()).collect();
                update_each_beside(&mut sums, &parts, &mut Sha1Sum::default(), iter::empty());
            }
            prop_assert_eq!(&sums.into_iter().map(Sha1Sum::finish).collect::<Vec<_>>(), &expected);
            prop_assert_eq!(of_each(&all), expected);
            let whole = [before.concat(), others.concat()].concat();
            prop_assert_eq!(other.finish(), <[u8; 20]>::from(Sha1::digest(whole)));
        }

        #[test]
        fn the_same_bytes_may_go_to_both(before in parts(), parts in parts()) {
            let mut other = Sha1Sum::default();
            slices(&before).for_each(|part| other.update(part));
            let found = of_each_beside(&[slices(&parts).collect()], &mut other, slices(&parts));
            prop_assert_eq!(found, [<[u8; 20]>::from(Sha1::digest(parts.concat()))]);
            prop_assert_eq!(other.finish(), <[u8; 20]>::from(Sha1::digest([before.concat(), parts.concat()].concat())));
        }
    }
}
