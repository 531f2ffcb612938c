//! Set of pieces that a peer has, in memory and on the wire.

use serde::{Deserialize, Serialize};

use super::piece::PieceIndex;

/// Which of `len` pieces are there. On the wire: the count, then one bit a piece, highest bit first, spare bits zero.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Bitfield {
    len: u32,
    count: u32,
    bits: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Wire(u32, #[serde(with = "serde_bytes")] Vec<u8>);

impl From<Bitfield> for Wire {
    fn from(field: Bitfield) -> Self {
        Self(field.len, field.bits)
    }
}

impl TryFrom<Wire> for Bitfield {
    type Error = &'static str;

    fn try_from(Wire(len, bits): Wire) -> Result<Self, Self::Error> {
        if bits.len() != byte_count(len) {
            return Err("bitfield length does not match its piece count");
        }
        let spare = bits.len() * 8 - len as usize;
        if bits.last().is_some_and(|last| last.trailing_zeros() < u32::try_from(spare).unwrap_or(8)) {
            return Err("bitfield has spare bits set");
        }
        let count = bits.iter().map(|byte| byte.count_ones()).sum();
        Ok(Self { len, count, bits })
    }
}

impl Bitfield {
    /// No piece of `len` is there.
    pub fn empty(len: u32) -> Self {
        Self { len, count: 0, bits: vec![0; byte_count(len)] }
    }

    /// Every piece of `len` is there.
    pub fn full(len: u32) -> Self {
        let mut field = Self { len, count: len, bits: vec![0xff; byte_count(len)] };
        let spare = field.bits.len() * 8 - len as usize;
        if let Some(last) = field.bits.last_mut() {
            *last &= 0xff << spare;
        }
        field
    }

    /// Number of pieces in the file, there or not.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no piece is there.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of pieces that are there.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether every piece is there.
    pub fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// Whether `piece` is there; false past the end.
    pub fn has(&self, piece: PieceIndex) -> bool {
        piece.0 < self.len && self.bits[piece.0 as usize / 8] & mask(piece) != 0
    }

    /// Adds `piece`; returns whether it is new. A piece past the end is not added.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.len || self.has(piece) {
            return false;
        }
        self.bits[piece.0 as usize / 8] |= mask(piece);
        self.count += 1;
        true
    }

    /// Takes `piece` out; returns whether it was there.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        if !self.has(piece) {
            return false;
        }
        self.bits[piece.0 as usize / 8] &= !mask(piece);
        self.count -= 1;
        true
    }

    /// The first piece at or after `from` that is in both sets.
    pub fn first_shared(&self, other: &Self, from: PieceIndex) -> Option<PieceIndex> {
        let start = from.0 / 8;
        let shared = |index: usize| match (self.bits.get(index), other.bits.get(index)) {
            (Some(mine), Some(theirs)) => mine & theirs,
            _ => 0,
        };
        let head = shared(start as usize) & (0xff >> (from.0 % 8));
        if head != 0 {
            return Some(PieceIndex(start * 8 + head.leading_zeros()));
        }
        let rest = start + 1..u32::try_from(self.bits.len()).unwrap_or(u32::MAX);
        let byte = rest.into_iter().find(|index| shared(*index as usize) != 0)?;
        Some(PieceIndex(byte * 8 + shared(byte as usize).leading_zeros()))
    }

    /// Whether a piece is there that is not in `other`.
    pub fn exceeds(&self, other: &Self) -> bool {
        let theirs = other.bits.iter().copied().chain(std::iter::repeat(0));
        self.bits.iter().zip(theirs).any(|(mine, theirs)| mine & !theirs != 0)
    }

    /// The pieces that are there, ascending.
    pub fn present(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        (0..self.len).map(PieceIndex).filter(|piece| self.has(*piece))
    }

    /// The pieces that are not there, ascending.
    pub fn missing(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        (0..self.len).map(PieceIndex).filter(|piece| !self.has(*piece))
    }
}

fn byte_count(len: u32) -> usize {
    (len as usize).div_ceil(8)
}

fn mask(piece: PieceIndex) -> u8 {
    0x80 >> (piece.0 % 8)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn full_and_empty_have_no_spare_bits() {
        for len in 0..40 {
            assert_eq!(Bitfield::full(len).present().count(), len as usize);
            assert_eq!(Bitfield::try_from(Wire::from(Bitfield::full(len))), Ok(Bitfield::full(len)));
            assert_eq!(Bitfield::empty(len).missing().count(), len as usize);
        }
    }

    #[test]
    fn a_wrong_length_or_spare_bit_is_refused() {
        assert!(Bitfield::try_from(Wire(9, vec![0xff])).is_err());
        assert!(Bitfield::try_from(Wire(4, vec![0xf8])).is_err());
        assert!(Bitfield::try_from(Wire(u32::MAX, vec![])).is_err());
        assert!(Bitfield::try_from(Wire(4, vec![0xf0])).is_ok());
    }

    proptest! {
        #[test]
        fn first_shared_finds_what_a_walk_finds(
            mine in prop::collection::btree_set(0u32..70, 0..20),
            theirs in prop::collection::btree_set(0u32..70, 0..20),
            from in 0u32..80,
        ) {
            let field = |set: &BTreeSet<u32>| {
                let mut field = Bitfield::empty(70);
                for piece in set {
                    field.insert(PieceIndex(*piece));
                }
                field
            };
            let walked = mine.intersection(&theirs).find(|piece| **piece >= from).copied().map(PieceIndex);
            prop_assert_eq!(field(&mine).first_shared(&field(&theirs), PieceIndex(from)), walked);
        }

        #[test]
        fn what_travels_is_a_set_of_its_pieces_or_refused(len in 0u32..80, bytes in prop::collection::vec(any::<u8>(), 0..11)) {
            let spare = |bit: u32| bytes[bit as usize / 8] >> (7 - bit % 8) & 1 == 1;
            let bits = u32::try_from(bytes.len() * 8).unwrap();
            let is_sound = bits == len.div_ceil(8) * 8 && !(len..bits).any(spare);
            let read = Bitfield::try_from(Wire(len, bytes.clone()));
            prop_assert_eq!(read.is_ok(), is_sound);
            if let Ok(field) = read {
                prop_assert_eq!(field.present().map(|piece| piece.0).collect::<Vec<_>>(), (0..len).filter(|bit| spare(*bit)).collect::<Vec<_>>());
                prop_assert_eq!(field.present().count(), field.count() as usize);
                prop_assert_eq!(Wire::from(field).1, bytes);
            }
        }

        #[test]
        fn behaves_as_a_set(len in 0u32..100, changes in prop::collection::vec((0u32..110, any::<bool>()), 0..200)) {
            let mut field = Bitfield::empty(len);
            let mut model = BTreeSet::new();
            for (piece, add) in changes {
                if add {
                    prop_assert_eq!(field.insert(PieceIndex(piece)), piece < len && model.insert(piece));
                } else {
                    prop_assert_eq!(field.remove(PieceIndex(piece)), model.remove(&piece));
                }
            }
            prop_assert_eq!(field.count() as usize, model.len());
            prop_assert_eq!(field.present().map(|piece| piece.0).collect::<BTreeSet<_>>(), model);
            let bytes = rmp_serde::to_vec(&field).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<Bitfield>(&bytes).unwrap(), field);
        }
    }
}
