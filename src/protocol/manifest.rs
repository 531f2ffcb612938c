//! A shared file's manifest: a header that names and sizes it, and the piece hashes in pages.

use std::{fmt, iter, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha1::Digest as _;

use super::{
    hash::{Blake3Hash, PieceHash, Sha1Hash, blake3_root},
    ids::{Context, ManifestId, hash_parts},
    name::FileName,
    piece::{MAX_FILE_SIZE, PieceIndex, piece_count},
};

/// Piece hashes in every page of a manifest but the last: 416 KiB of hashes for 4 GiB of file.
pub const PAGE_PIECES: u32 = 8192;

/// Bytes in the largest page.
pub const MAX_PAGE_BYTES: usize = PAGE_PIECES as usize * PieceHash::ENCODED_SIZE;

/// What identifies a shared file. Immutable, addressed by its hash; the piece hashes hang on it by the hash of each page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHeader {
    /// The name it was shared under.
    pub name: FileName,
    /// Bytes in the file.
    pub size: u64,
    /// SHA-1 of the whole file.
    pub sha1: Sha1Hash,
    /// BLAKE3 of the whole file; follows from the piece hashes.
    pub blake3: Blake3Hash,
    /// BLAKE3 of each page of piece hashes, in order.
    pub pages: PageHashes,
}

/// Hashes of pages. Most files have one, which needs no memory of its own.
#[derive(Clone, Debug)]
pub enum PageHashes {
    /// Of a single page.
    One(Blake3Hash),
    /// Of any number of pages.
    Listed(Box<[Blake3Hash]>),
}

impl PartialEq for PageHashes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for PageHashes {}

impl Deref for PageHashes {
    type Target = [Blake3Hash];

    fn deref(&self) -> &[Blake3Hash] {
        match self {
            Self::One(page) => std::slice::from_ref(page),
            Self::Listed(pages) => pages,
        }
    }
}

impl FromIterator<Blake3Hash> for PageHashes {
    fn from_iter<I: IntoIterator<Item = Blake3Hash>>(pages: I) -> Self {
        let mut pages = pages.into_iter();
        match (pages.next(), pages.next()) {
            (Some(only), None) => Self::One(only),
            (first, second) => Self::Listed(first.into_iter().chain(second).chain(pages).collect()),
        }
    }
}

/// As a list of any length.
impl Serialize for PageHashes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for PageHashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = PageHashes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the hashes of pages")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut pages: A) -> Result<PageHashes, A::Error> {
                iter::from_fn(|| pages.next_element().transpose()).collect()
            }
        }

        deserializer.deserialize_seq(Visitor)
    }
}

/// Why a manifest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The file is larger than any this program handles.
    #[error("the manifest's file is larger than 2 TiB")]
    TooLarge,
    /// The header lists another number of pages than its size needs.
    #[error("the manifest's page count does not match its size")]
    PageCount,
    /// A page has the wrong length, or is not the one the header names.
    #[error("page {0} of the manifest is not the one its header names")]
    Page(u32),
    /// The piece hashes do not add up to the file's BLAKE3.
    #[error("the manifest's piece hashes do not add up to the file's hash")]
    Root,
}

impl ManifestHeader {
    /// Describes a file by its hashes; returns the header and the pages it names.
    pub fn describe(name: FileName, size: u64, sha1: Sha1Hash, pieces: &[PieceHash]) -> (Self, Vec<Vec<u8>>) {
        let pages: Vec<_> = pieces.chunks(PAGE_PIECES as usize).map(encode_page).collect();
        let header = Self {
            name,
            size,
            sha1,
            blake3: blake3_root(pieces),
            pages: pages.iter().map(|page| page_hash(page)).collect(),
        };
        (header, pages)
    }

    /// The manifest's identity: BLAKE3 over all that the header says.
    pub fn id(&self) -> ManifestId {
        static CONTEXT: Context = Context::new("p2p 2026 manifest id");
        let (mut hashing, name) = (CONTEXT.begin(), self.name.as_str().as_bytes());
        for part in [&(name.len() as u64).to_le_bytes(), name, &self.size.to_le_bytes(), &self.sha1.0, &self.blake3.0] {
            hashing.add(part);
        }
        for page in self.pages.iter() {
            hashing.add(&page.0);
        }
        ManifestId(hashing.finish())
    }

    /// Number of pieces.
    pub fn piece_count(&self) -> u32 {
        piece_count(self.size)
    }

    /// Number of pages.
    pub fn page_count(&self) -> u32 {
        page_count(self.size)
    }

    /// Checks what a header from the network must hold by itself.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.size > MAX_FILE_SIZE {
            return Err(ManifestError::TooLarge);
        }
        if self.pages.len() != self.page_count() as usize {
            return Err(ManifestError::PageCount);
        }
        Ok(())
    }

    /// Bytes of a page; 0 for one that it has not.
    pub fn page_bytes(&self, page: u32) -> usize {
        let first = u64::from(page) * u64::from(PAGE_PIECES);
        let pieces = u64::from(self.piece_count()).saturating_sub(first).min(PAGE_PIECES.into());
        usize::try_from(pieces).unwrap_or(usize::MAX) * PieceHash::ENCODED_SIZE
    }

    /// Checks that `bytes` are page `page` of this manifest.
    pub fn check_page(&self, page: u32, bytes: &[u8]) -> Result<(), ManifestError> {
        let named = self.pages.get(page as usize).ok_or(ManifestError::Page(page))?;
        if bytes.len() != self.page_bytes(page) || page_hash(bytes) != *named {
            return Err(ManifestError::Page(page));
        }
        Ok(())
    }
}

/// A whole manifest, checked: every page belongs to the header and the pieces add up to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    header: ManifestHeader,
    pieces: Vec<PieceHash>,
}

impl Manifest {
    /// Joins a header with all its pages, checking both.
    pub fn assemble(header: ManifestHeader, pages: &[Vec<u8>]) -> Result<Self, ManifestError> {
        header.check()?;
        if pages.len() != header.pages.len() {
            return Err(ManifestError::PageCount);
        }
        let mut pieces = Vec::with_capacity(header.piece_count() as usize);
        for (page, bytes) in (0..).zip(pages) {
            header.check_page(page, bytes)?;
            pieces.extend(decode_page(bytes));
        }
        if blake3_root(&pieces) != header.blake3 {
            return Err(ManifestError::Root);
        }
        Ok(Self { header, pieces })
    }

    /// The header.
    pub fn header(&self) -> &ManifestHeader {
        &self.header
    }

    /// The hashes of all pieces, in order.
    pub fn pieces(&self) -> &[PieceHash] {
        &self.pieces
    }

    /// Whether `data` (in parts) is piece `index` of the file.
    pub fn is_piece<'a>(&self, index: PieceIndex, data: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let count = self.header.piece_count();
        self.pieces.get(index.0 as usize).is_some_and(|expected| PieceHash::of(index, count, data) == *expected)
    }

    /// The pages of piece hashes, as they travel and rest.
    pub fn pages(&self) -> Vec<Vec<u8>> {
        self.pieces.chunks(PAGE_PIECES as usize).map(encode_page).collect()
    }
}

/// Number of pages in the manifest of a file of `size` bytes.
pub fn page_count(size: u64) -> u32 {
    piece_count(size).div_ceil(PAGE_PIECES)
}

/// SHA-1 of no bytes: that of an empty file.
pub fn empty_sha1() -> Sha1Hash {
    Sha1Hash(sha1::Sha1::digest([]).into())
}

/// Reads the piece hashes of a page; a remainder that is no whole hash is left out.
pub fn decode_page(bytes: &[u8]) -> impl Iterator<Item = PieceHash> + '_ {
    bytes.chunks_exact(PieceHash::ENCODED_SIZE).map(|entry| {
        let (mut sha1, mut blake3) = ([0; 20], [0; 32]);
        sha1.copy_from_slice(&entry[..20]);
        blake3.copy_from_slice(&entry[20..]);
        PieceHash { sha1: Sha1Hash(sha1), blake3: Blake3Hash(blake3) }
    })
}

fn encode_page(pieces: &[PieceHash]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.sha1.0.into_iter().chain(piece.blake3.0)).collect()
}

fn page_hash(bytes: &[u8]) -> Blake3Hash {
    Blake3Hash(hash_parts("p2p 2026 manifest page", &[bytes]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::piece::PIECE_SIZE;

    fn sample(pieces: u32) -> (ManifestHeader, Vec<Vec<u8>>) {
        let hashes: Vec<_> =
            (0..pieces).map(|i| PieceHash::of(PieceIndex(i), pieces, [i.to_le_bytes().as_slice()])).collect();
        let size = u64::from(pieces) * u64::from(PIECE_SIZE);
        ManifestHeader::describe(FileName::parse("file").unwrap(), size, empty_sha1(), &hashes)
    }

    #[test]
    fn a_manifest_assembles_from_its_own_pages_only() {
        for pieces in [0, 1, 2, PAGE_PIECES, PAGE_PIECES + 1] {
            let (header, mut pages) = sample(pieces);
            let whole = Manifest::assemble(header.clone(), &pages).unwrap();
            assert_eq!(whole.pieces().len(), pieces as usize);
            assert_eq!(whole.pages(), pages);
            if let Some(page) = pages.last_mut() {
                page[7] ^= 1;
                assert!(Manifest::assemble(header, &pages).is_err());
            }
        }
    }

    #[test]
    fn the_identity_covers_every_field() {
        let (header, _) = sample(3);
        let other_name = ManifestHeader { name: FileName::parse("other").unwrap(), ..header.clone() };
        let other_size = ManifestHeader { size: header.size - 1, ..header.clone() };
        assert_ne!(header.id(), other_name.id());
        assert_ne!(header.id(), other_size.id());
    }

    #[test]
    fn hashes_of_pages_travel_as_a_list() {
        for count in 0..4 {
            let list: Vec<_> = (0..count).map(|n| Blake3Hash([n; 32])).collect();
            let (hashes, bytes) = (list.iter().copied().collect::<PageHashes>(), rmp_serde::to_vec(&list).unwrap());
            assert_eq!(*hashes, *list);
            assert_eq!(rmp_serde::to_vec(&hashes).unwrap(), bytes);
            assert_eq!(rmp_serde::from_slice::<PageHashes>(&bytes).unwrap(), hashes);
        }
    }

    #[test]
    fn a_header_whose_pages_do_not_match_its_size_is_refused() {
        let (header, _) = sample(3);
        assert_eq!(ManifestHeader { size: 0, ..header.clone() }.check(), Err(ManifestError::PageCount));
        assert_eq!(ManifestHeader { size: u64::MAX, ..header }.check(), Err(ManifestError::TooLarge));
    }

    /// What may become of pages on their way.
    #[derive(Clone, Debug)]
    enum Damage {
        Flip(prop::sample::Index, prop::sample::Index, u8),
        Cut(prop::sample::Index, usize),
        Grow(prop::sample::Index, usize),
        Swap(prop::sample::Index, prop::sample::Index),
        Drop(prop::sample::Index),
        Repeat(prop::sample::Index),
    }

    fn damage() -> impl Strategy<Value = Damage> {
        let index = any::<prop::sample::Index>;
        prop_oneof![
            (index(), index(), 1u8..).prop_map(|(page, byte, flip)| Damage::Flip(page, byte, flip)),
            (index(), 1usize..200).prop_map(|(page, bytes)| Damage::Cut(page, bytes)),
            (index(), 1usize..200).prop_map(|(page, bytes)| Damage::Grow(page, bytes)),
            (index(), index()).prop_map(|(page, other)| Damage::Swap(page, other)),
            index().prop_map(Damage::Drop),
            index().prop_map(Damage::Repeat),
        ]
    }

    fn damaged(mut pages: Vec<Vec<u8>>, damage: &[Damage]) -> Vec<Vec<u8>> {
        for one in damage {
            let count = pages.len();
            match one {
                _ if count == 0 => return pages,
                Damage::Flip(page, byte, flip) => {
                    let page = &mut pages[page.index(count)];
                    let at = byte.index(page.len().max(1));
                    page.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= flip);
                }
                Damage::Cut(page, bytes) => {
                    let page = &mut pages[page.index(count)];
                    page.truncate(page.len().saturating_sub(*bytes));
                }
                Damage::Grow(page, bytes) => pages[page.index(count)].extend(vec![0; *bytes]),
                Damage::Swap(page, other) => pages.swap(page.index(count), other.index(count)),
                Damage::Drop(page) => drop(pages.remove(page.index(count))),
                Damage::Repeat(page) => pages.insert(page.index(count), pages[page.index(count)].clone()),
            }
        }
        pages
    }

    proptest! {
        #![proptest_config(crate::trials::trials(64))]

        #[test]
        fn no_pages_but_its_own_make_a_manifest(
            pieces in prop_oneof![0u32..4, Just(PAGE_PIECES), PAGE_PIECES..2 * PAGE_PIECES + 3],
            damage in prop::collection::vec(damage(), 0..3),
        ) {
            let (header, pages) = sample(pieces);
            let received = damaged(pages.clone(), &damage);
            let assembled = Manifest::assemble(header, &received);
            prop_assert_eq!(assembled.is_ok(), received == pages);
        }

        #[test]
        fn any_pages_are_checked_without_panic(
            size: u64, named in prop::collection::vec(any::<[u8; 32]>(), 0..4), page: u32,
            pages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..4),
        ) {
            let header = ManifestHeader { size, pages: named.into_iter().map(Blake3Hash).collect(), ..sample(1).0 };
            prop_assert!(pages.is_empty() || Manifest::assemble(header.clone(), &pages).is_err());
            let refused = ManifestError::Page(page);
            prop_assert_eq!(header.check_page(page, pages.first().map_or(&[], Vec::as_slice)), Err(refused));
        }
    }
}
