//! Length-delimited frames: synchronous, with the limit checked on the length before anything is allocated.
//!
//! A frame is a 4-byte little-endian length, a kind byte, and the body; the length counts kind and body. The bodies of
//! kind [`MESSAGE`] are MessagePack; the other kinds belong to the protocol that uses them.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut, buf::Writer};
use serde::{Serialize, de::DeserializeOwned};

/// Kind of a frame whose body is one MessagePack message.
pub const MESSAGE: u8 = 0;
/// Kind of a frame whose body is a block of a piece behind its header; see [`super::peer`].
pub const BLOCK: u8 = 1;

/// Bytes before the body: length and kind.
pub const HEADER_SIZE: usize = 5;

/// Values inside values at most; no message of ours comes near.
const MAX_NESTING: usize = 64;

/// A frame as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: u8,
    /// The body.
    pub body: Bytes,
}

/// Why bytes are no frame, or a frame is no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is empty or longer than its kind allows.
    #[error("a frame of kind {kind} with {length} bytes is not allowed")]
    Length {
        /// Kind of the frame.
        kind: u8,
        /// Bytes it claims.
        length: usize,
    },
    /// The body is not the message it should be.
    #[error("the frame holds no such message: {0}")]
    Message(String),
}

/// Takes the next frame off the front of `buffer`. `Ok(None)`: more bytes are needed.
///
/// `limit` gives the most body bytes a kind may have; `None` refuses the kind.
pub fn take_frame(buffer: &mut BytesMut, limit: impl Fn(u8) -> Option<usize>) -> Result<Option<Frame>, FrameError> {
    let Some((kind, length)) = peek_header(buffer, limit)? else { return Ok(None) };
    if buffer.len() < HEADER_SIZE + length {
        buffer.reserve(HEADER_SIZE + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEADER_SIZE);
    Ok(Some(Frame { kind, body: buffer.split_to(length).freeze() }))
}

fn peek_header(buffer: &BytesMut, limit: impl Fn(u8) -> Option<usize>) -> Result<Option<(u8, usize)>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER_SIZE>() else { return Ok(None) };
    let [a, b, c, d, kind] = *header;
    let claimed = u32::from_le_bytes([a, b, c, d]) as usize;
    let length = claimed.checked_sub(1).ok_or(FrameError::Length { kind, length: 0 })?;
    if limit(kind).is_none_or(|limit| length > limit) {
        return Err(FrameError::Length { kind, length });
    }
    Ok(Some((kind, length)))
}

/// Appends the header of a frame whose body of `length` bytes follows.
pub fn put_header(kind: u8, length: usize, buffer: &mut BytesMut) {
    let claimed = u32::try_from(length + 1).expect("frames are far smaller than 4 GiB");
    buffer.put_u32_le(claimed);
    buffer.put_u8(kind);
}

/// Appends a message as one frame, its fields by name.
pub fn put_message<M: Serialize>(message: &M, buffer: &mut BytesMut) {
    put_body(buffer, |body| rmp_serde::encode::write_named(body, message));
}

/// Appends a message as one frame, its fields by position: for what is said so often that names weigh.
pub fn put_brief_message<M: Serialize>(message: &M, buffer: &mut BytesMut) {
    put_body(buffer, |body| rmp_serde::encode::write(body, message));
}

fn put_body(
    buffer: &mut BytesMut,
    write: impl FnOnce(&mut Writer<&mut BytesMut>) -> Result<(), rmp_serde::encode::Error>,
) {
    let start = buffer.len();
    put_header(MESSAGE, 0, buffer);
    write(&mut buffer.writer()).expect("messages hold only plain values");
    let claimed = u32::try_from(buffer.len() - start - HEADER_SIZE + 1).expect("frames are far smaller than 4 GiB");
    buffer[start..start + 4].copy_from_slice(&claimed.to_le_bytes());
}

/// Reads the message in a frame, whichever way its fields are given.
pub fn read_message<M: DeserializeOwned>(frame: &Frame) -> Result<M, FrameError> {
    if frame.kind != MESSAGE {
        return Err(FrameError::Message(format!("kind {}", frame.kind)));
    }
    decode(&frame.body).map_err(|error| FrameError::Message(error.to_string()))
}

/// Reads MessagePack from the network. Values nested deeper than any message are refused: what lies in a field nobody knows is
/// skipped by recursion, and the stack of a thread holds a few hundred turns of it.
pub(super) fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, rmp_serde::decode::Error> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(MAX_NESTING);
    M::deserialize(&mut decoder)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(kind: u8) -> Option<usize> {
        (kind == MESSAGE).then_some(100)
    }

    #[test]
    fn the_format_is_pinned() {
        let mut buffer = BytesMut::new();
        put_message(&("hi", 7), &mut buffer);
        assert_eq!(buffer.as_ref(), [6, 0, 0, 0, 0, 0x92, 0xa2, b'h', b'i', 7]);
    }

    #[test]
    fn a_long_or_unknown_frame_is_refused_on_its_header() {
        let mut long = BytesMut::from([102, 0, 0, 0, MESSAGE].as_slice());
        assert_eq!(take_frame(&mut long, limit), Err(FrameError::Length { kind: MESSAGE, length: 101 }));
        let mut unknown = BytesMut::from([1, 0, 0, 0, 9].as_slice());
        assert!(take_frame(&mut unknown, limit).is_err());
        let mut empty = BytesMut::from([0, 0, 0, 0, MESSAGE].as_slice());
        assert!(take_frame(&mut empty, limit).is_err());
    }

    #[test]
    fn deep_nesting_is_refused_within_the_stack_of_a_thread() {
        for nesting in [&[0x91][..], &[0x81, 0xa0], &[0xdd, 0, 0, 0, 1]] {
            let frame = Frame { kind: MESSAGE, body: nesting.repeat(100_000).into() };
            assert!(matches!(read_message::<serde::de::IgnoredAny>(&frame), Err(FrameError::Message(_))));
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_cut(texts in prop::collection::vec(".{0,20}", 0..8), cut in 1usize..9) {
            let mut wire = BytesMut::new();
            for text in &texts {
                put_message(text, &mut wire);
            }
            let mut buffer = BytesMut::new();
            let mut received = Vec::new();
            for part in wire.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(frame) = take_frame(&mut buffer, limit).unwrap() {
                    received.push(read_message::<String>(&frame).unwrap());
                }
            }
            prop_assert_eq!(received, texts);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn a_frame_is_whole_at_its_last_byte_and_not_before(body in prop::collection::vec(any::<u8>(), 0..40), cut in 0usize..45) {
            let mut wire = BytesMut::new();
            put_header(MESSAGE, body.len(), &mut wire);
            wire.extend_from_slice(&body);
            let cut = cut.min(wire.len() - 1);
            let rest = wire.split_off(cut);
            prop_assert_eq!(take_frame(&mut wire, limit), Ok(None));
            wire.extend_from_slice(&rest);
            prop_assert_eq!(take_frame(&mut wire, limit), Ok(Some(Frame { kind: MESSAGE, body: body.into() })));
            prop_assert!(wire.is_empty());
        }

        #[test]
        fn a_header_is_judged_by_its_kind_and_length_alone(claimed: u32, kind in 0u8..3) {
            let mut wire = BytesMut::new();
            wire.put_u32_le(claimed);
            wire.put_u8(kind);
            let allowed = kind == MESSAGE && (1..=101).contains(&claimed);
            prop_assert_eq!(take_frame(&mut wire, limit).is_ok(), allowed);
            prop_assert!(wire.capacity() <= 256);
        }

        #[test]
        fn rubbish_neither_panics_nor_allocates(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            while let Ok(Some(frame)) = take_frame(&mut buffer, limit) {
                let _ = read_message::<(u8, String)>(&frame);
            }
            prop_assert!(buffer.capacity() <= 256);
        }
    }
}
