//! Short names for the files of a peer link: a file's identity goes over it once, and then a number stands for it.
//!
//! Each direction of a link has its own numbers. An identity that the speaker has not told before, or not lately, gets the next
//! number, at both ends alike; behind the last number comes the first again. So neither end ever has to say which number it
//! means, and who likes can go on to say identities. A *have* of one piece takes 16 bytes on the wire instead of 62, and
//! haves are most of what a swarm says.

use std::{collections::BTreeMap, convert::Infallible, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{ids::FileId, limits::MAX_LINK_FILES, peer::PeerMessage};

/// Numbers of a direction: more than there are files open on a link, so that none of those loses its own.
const NUMBERS: usize = 2 * MAX_LINK_FILES;

/// How a message names its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRef {
    /// By its identity.
    Whole(FileId),
    /// By its number on this link, in this direction.
    Short(u16),
}

impl Serialize for FileRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(file) => file.serialize(serializer),
            Self::Short(number) => number.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FileRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = FileRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the identity or the number of a file")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<FileRef, E> {
        u16::try_from(number).map(FileRef::Short).map_err(E::custom)
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<FileRef, E> {
        let id = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
        Ok(FileRef::Whole(FileId(id)))
    }
}

/// What the speaker knows of one direction.
#[derive(Debug, Default)]
pub struct Speaker {
    told: Told,
    numbers: BTreeMap<FileId, u16>,
}

impl Speaker {
    /// A message as it goes over the link. Messages have to go in the order in which they are named.
    pub fn name(&mut self, message: PeerMessage) -> PeerMessage<FileRef> {
        let Ok(named) = message.try_with_file(|file| Ok::<_, Infallible>(self.name_file(file)));
        named
    }

    fn name_file(&mut self, file: FileId) -> FileRef {
        if let Some(number) = self.numbers.get(&file) {
            return FileRef::Short(*number);
        }
        let (number, replaced) = self.told.tell(file);
        if let Some(replaced) = replaced {
            self.numbers.remove(&replaced);
        }
        self.numbers.insert(file, number);
        FileRef::Whole(file)
    }
}

/// What the listener knows of one direction.
#[derive(Debug, Default)]
pub struct Listener {
    told: Told,
}

/// The other side said a number that stands for nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("number {0} stands for no file")]
pub struct NoSuchNumber(pub u16);

impl Listener {
    /// What a message that came over the link means. Messages have to be read in the order in which they came.
    pub fn read(&mut self, message: PeerMessage<FileRef>) -> Result<PeerMessage, NoSuchNumber> {
        message.try_with_file(|name| match name {
            FileRef::Short(number) => self.told.files.get(usize::from(number)).copied().ok_or(NoSuchNumber(number)),
            FileRef::Whole(file) => {
                if !self.told.files.contains(&file) {
                    self.told.tell(file);
                }
                Ok(file)
            }
        })
    }
}

/// The files that have numbers, by number.
#[derive(Debug, Default)]
struct Told {
    files: Vec<FileId>,
    /// What is told next gets this number.
    next: u16,
}

impl Told {
    /// Gives a file a number; returns it, and the file that had it.
    fn tell(&mut self, file: FileId) -> (u16, Option<FileId>) {
        let number = self.next;
        self.next = if usize::from(number) + 1 == NUMBERS { 0 } else { number + 1 };
        let replaced = self.files.get_mut(usize::from(number)).map(|place| std::mem::replace(place, file));
        if replaced.is_none() {
            self.files.push(file);
        }
        (number, replaced)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{
        frame::{HEADER_SIZE, MESSAGE, put_brief_message, read_message, take_frame},
        piece::PieceIndex,
    };

    fn file(number: u32) -> FileId {
        FileId(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    fn have(number: u32) -> PeerMessage {
        PeerMessage::Have { file: file(number), pieces: vec![PieceIndex(number)] }
    }

    /// The message as it arrives, and its bytes on the wire.
    fn travel(speaker: &mut Speaker, listener: &mut Listener, message: PeerMessage) -> (PeerMessage, usize) {
        let mut wire = BytesMut::new();
        put_brief_message(&speaker.name(message), &mut wire);
        let length = wire.len();
        let frame = take_frame(&mut wire, |kind| (kind == MESSAGE).then_some(1000)).unwrap().unwrap();
        (listener.read(read_message(&frame).unwrap()).unwrap(), length)
    }

    #[test]
    fn an_identity_goes_over_once() {
        let (mut speaker, mut listener) = (Speaker::default(), Listener::default());
        let (first, first_bytes) = travel(&mut speaker, &mut listener, have(100));
        let (second, second_bytes) = travel(&mut speaker, &mut listener, have(100));
        assert_eq!((first, second), (have(100), have(100)));
        assert_eq!((first_bytes, second_bytes), (HEADER_SIZE + 43, HEADER_SIZE + 10));
    }

    #[test]
    fn a_number_that_stands_for_nothing_is_refused() {
        let mut listener = Listener::default();
        let said = |number| PeerMessage::Interested { file: FileRef::Short(number) };
        assert_eq!(listener.read(said(0)), Err(NoSuchNumber(0)));
        listener.read(PeerMessage::Interested { file: FileRef::Whole(file(5)) }).unwrap();
        assert_eq!(listener.read(said(0)), Ok(PeerMessage::Interested { file: file(5) }));
        assert_eq!(listener.read(said(1)), Err(NoSuchNumber(1)));
    }

    #[test]
    fn who_always_says_identities_is_understood() {
        let mut listener = Listener::default();
        for number in 0..3 * u32::try_from(NUMBERS).unwrap() {
            for _ in 0..2 {
                let said = PeerMessage::Interested { file: FileRef::Whole(file(number)) };
                assert_eq!(listener.read(said), Ok(PeerMessage::Interested { file: file(number) }));
            }
        }
        assert_eq!(listener.told.files.len(), NUMBERS, "and takes no more memory than others");
    }

    proptest! {
        #[test]
        fn both_ends_mean_the_same_file(files in prop::collection::vec(0..1500u32, 0..3000)) {
            let (mut speaker, mut listener) = (Speaker::default(), Listener::default());
            for number in files {
                prop_assert_eq!(travel(&mut speaker, &mut listener, have(number)).0, have(number));
            }
        }
    }
}
