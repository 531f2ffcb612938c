//! The TLS handshake, at both ends: with a stranger who knows nothing, with somebody in between, and with whoever shows a key that
//! is not theirs.

use std::sync::LazyLock;

use p2p::{
    protocol::device::DeviceSecret,
    transport::{
        link::{Link, LinkError, accept, dial},
        tls::{Identity, Protocol},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    time::timeout,
};

use crate::network::{BUFFER, Once, ends, hear, runtime, say};

pub(crate) const PROTOCOLS: [Protocol; 4] = [Protocol::Tracker, Protocol::Sync, Protocol::Peer, Protocol::Blocks];

/// Who dials.
pub(crate) static ONE: LazyLock<Identity> = LazyLock::new(|| identity(1));
/// Who accepts.
pub(crate) static TWO: LazyLock<Identity> = LazyLock::new(|| identity(2));

pub(crate) fn identity(number: u8) -> Identity {
    Identity::new(&DeviceSecret::from_seed([number; 32]))
}

/// A handshake. The first byte says which: two bits for the protocol, then whether somebody in between changes an honest one (4) or
/// a stranger says the bytes, whether that stranger stays when all is said (8), and is dialled (16). The second byte is the length of
/// the parts in which they come.
pub fn handshake(bytes: &[u8]) {
    let Some((&[flags, part], script)) = bytes.split_first_chunk() else { return };
    let protocol = PROTOCOLS[usize::from(flags) % 4];
    runtime().block_on(async {
        if flags & 4 == 0 {
            with_a_stranger(flags & 16 != 0, protocol, script, usize::from(part) + 1, flags & 8 != 0).await;
        } else {
            with_one_between(protocol, script, usize::from(part) + 1).await;
        }
    });
}

/// Nobody who knows no key comes to speak.
async fn with_a_stranger(is_dialled: bool, protocol: Protocol, script: &[u8], part: usize, stays: bool) {
    let (near, far) = duplex(BUFFER);
    let (from, to) = split(far);
    let strange = async { tokio::join!(say(to, script, part, stays), hear(from)) };
    let end = ends(async {
        tokio::pin!(strange);
        let ours = ours(is_dialled, near, protocol);
        tokio::pin!(ours);
        tokio::select! {
            biased;
            end = &mut ours => end,
            _ = &mut strange => ours.await,
        }
    });
    assert!(end.await.is_err(), "a stranger has shaken hands");
}

/// Our side of a handshake.
pub(crate) async fn ours(dials: bool, stream: DuplexStream, protocol: Protocol) -> Result<Link, LinkError> {
    if dials { dial(&Once::new(stream), &ONE, "", protocol, None).await } else { accept(Box::new(stream), &TWO).await }
}

/// Whoever stands between two can keep them from each other, and nothing else.
async fn with_one_between(protocol: Protocol, script: &[u8], part: usize) {
    let ((one, near), (far, two)) = (duplex(BUFFER), duplex(BUFFER));
    let ((from_one, to_one), (from_two, to_two)) = (split(near), split(far));
    let [there, back] = harms(script);
    let changes_nothing = there.is_empty() && back.is_empty();
    tokio::spawn(pass(from_one, to_two, there, part));
    tokio::spawn(pass(from_two, to_one, back, part));
    let both = async { tokio::join!(ours(true, one, protocol), ours(false, two, protocol)) };
    let (dialled, accepted) = ends(both).await;
    for (link, other) in [(&dialled, &*TWO), (&accepted, &*ONE)] {
        let Ok(link) = link else { continue };
        assert_eq!((link.device(), link.protocol()), (other.device(), protocol));
    }
    if let (Ok(dialled), Ok(accepted)) = (dialled, accepted) {
        speak(dialled, accepted).await;
    } else {
        assert!(!changes_nothing, "nobody was in the way");
    }
}

/// What is said arrives as it was said, or not.
async fn speak(dialled: Link, accepted: Link) {
    let ((_kept, mut writer), (mut reader, _kept_too)) = (dialled.split(), accepted.split());
    let exchange = async { tokio::join!(writer.send(&"as it was said"), reader.message::<String>()) };
    if let Ok((Ok(()), Ok(Some(said)))) = timeout(std::time::Duration::from_mins(1), exchange).await {
        assert_eq!(said, "as it was said");
    }
}

/// What is done to bytes on their way, and after how many since the last time.
enum Harm {
    Flip(u8),
    Insert(Vec<u8>),
    Lose(u8),
    End,
}

type Harms = Vec<(u16, Harm)>;

/// The harms to what one says and to what the other says.
fn harms(mut script: &[u8]) -> [Harms; 2] {
    let mut harms = [Vec::new(), Vec::new()];
    while let Some((&[kind, low, high, value], rest)) = script.split_first_chunk() {
        script = rest;
        let harm = match kind >> 1 & 3 {
            0 => Harm::Flip(value),
            1 => {
                let (inserted, rest) = script.split_at(script.len().min(value.into()));
                script = rest;
                Harm::Insert(inserted.to_vec())
            }
            2 => Harm::Lose(value),
            _ => Harm::End,
        };
        harms[usize::from(kind & 1)].push((u16::from_le_bytes([low, high]) % 2048, harm));
    }
    harms
}

/// Passes on in parts what one says, with harm done to it.
async fn pass(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, harms: Harms, part: usize) {
    let mut harms = harms.into_iter().peekable();
    let (mut passed, mut to_lose) = (0, 0);
    let mut read = vec![0; part];
    while let Ok(count @ 1..) = from.read(&mut read).await {
        let mut out = Vec::new();
        let mut is_over = false;
        for &byte in &read[..count] {
            let mut byte = byte;
            while let Some((_, harm)) = harms.next_if(|(after, _)| *after <= passed) {
                passed = 0;
                match harm {
                    Harm::Flip(mask) => byte ^= mask,
                    Harm::Insert(bytes) => out.extend(bytes),
                    Harm::Lose(count) => to_lose = count,
                    Harm::End => is_over = true,
                }
            }
            passed = passed.saturating_add(1);
            if to_lose == 0 {
                out.push(byte);
            }
            to_lose = to_lose.saturating_sub(1);
        }
        if to.write_all(&out).await.is_err() || is_over {
            break;
        }
    }
    let _ = to.shutdown().await;
}
