//! Every limit on what the network may ask for, with its reason. Checked before anything is allocated.

use super::{manifest::MAX_PAGE_BYTES, piece::BLOCK_SIZE};

/// Bytes of a frame between client and tracker: a manifest page with its envelope, or a page of a listing.
pub const MAX_CLIENT_FRAME: usize = MAX_PAGE_BYTES + 96 * 1024;
/// Bytes of a frame between trackers: a manifest page, or a batch of changes.
pub const MAX_SYNC_FRAME: usize = 1024 * 1024;
/// Bytes of a message between peers: the bitfield of the largest file (512 KiB) with its ticket.
pub const MAX_PEER_MESSAGE: usize = 512 * 1024 + 8 * 1024;
/// Bytes of any frame from somebody who dialled and has not shown who they are, by a session or a ticket: the longest is a request
/// with passwords and all that its client has seen.
pub const MAX_STRANGER_FRAME: usize = 32 * 1024;
/// Pieces in a bitfield that may come with the first ticket; a longer one comes when that ticket was found good.
pub const MAX_EARLY_PIECES: u32 = if cfg!(test) { 4 } else { 8 * 24 * 1024 };
/// Bytes of a block frame between peers: its header and its payload.
pub const MAX_BLOCK_FRAME: usize = 64 + BLOCK_SIZE as usize;
/// Entries in one page of a listing (groups, files, members, requests): a page stays well under a frame.
pub const LISTING_PAGE: usize = 500;
/// Bytes of changes in one batch between trackers; leaves room for the envelope and one large change.
pub const MAX_BATCH_BYTES: usize = 512 * 1024;
/// Blocks that one request, cancel or reject may name: more than a peer keeps waiting for another.
pub const MAX_REQUESTED_BLOCKS: usize = 512;
/// Pieces in one `have` message.
pub const MAX_HAVE: usize = 4096;
/// Files open on one peer link.
pub const MAX_LINK_FILES: usize = 256;
/// Files in one presence message; a client with more sends several.
pub const MAX_PRESENCE_FILES: usize = 1000;
/// Peers in one answer about a swarm.
pub const MAX_SWARM_PEERS: usize = 200;
/// Shares a client may have in all.
pub const MAX_SHARES: usize = 100_000;
/// Pieces in all that a user shares, on all devices: 64 TiB. Each takes 52 bytes of every tracker's disk.
pub const MAX_SHARED_PIECES: u64 = 1 << 27;
/// Groups that a user may own.
pub const MAX_OWN_GROUPS: usize = 10_000;
/// Requests to join that a user may have pending.
pub const MAX_OWN_REQUESTS: usize = 1000;
/// Requests to join a group that may be pending.
pub const MAX_GROUP_REQUESTS: usize = 2000;
/// Origins in a version vector: listed trackers and the lost disks of their past.
pub const MAX_ORIGINS: usize = 256;
/// Bytes in a password.
pub const MAX_PASSWORD_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        bitfield::Bitfield,
        client::{Password, Request, ToTracker},
        frame::put_message,
        ids::DeviceKey,
        name::UserName,
        version::{Dot, VersionVector},
    };

    fn size<M: serde::Serialize>(message: &M) -> usize {
        let mut frame = bytes::BytesMut::new();
        put_message(message, &mut frame);
        frame.len()
    }

    #[test]
    fn what_strangers_have_to_say_fits_their_frames() {
        let mut seen = VersionVector::default();
        for n in 0..u16::try_from(MAX_ORIGINS).unwrap() {
            let mut key = [255; 32];
            key[..2].copy_from_slice(&n.to_le_bytes());
            seen.insert(Dot { origin: DeviceKey(key), counter: u64::MAX });
        }
        let (user, password) = (UserName::parse(&"ü".repeat(64)).unwrap(), Password("x".repeat(MAX_PASSWORD_BYTES)));
        for request in [
            Request::CreateUser { user, password: password.clone() },
            Request::ChangePassword { old: password.clone(), new: password },
        ] {
            let longest = size(&ToTracker::Request { seq: u64::MAX, nonce: [255; 16], seen: seen.clone(), request });
            assert!(longest < MAX_STRANGER_FRAME, "{longest} bytes");
        }
        // A ticket with its signature takes less than the rest.
        assert!(size(&Bitfield::full(8 * 24 * 1024)) < MAX_STRANGER_FRAME - 4096);
    }
}
