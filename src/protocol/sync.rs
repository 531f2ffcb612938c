//! Tracker and tracker (`p2p-sync/1`): version vectors, changes, manifest pages, presence.
//!
//! Either side opens with [`SyncMessage::Hello`]. Each then streams what the other lacks, in batches of one origin's
//! changes in order, later every new change as it happens, those of third origins included. A receiver that lacks a
//! manifest's pages asks for them before it confirms the change that names it.

use serde::{Deserialize, Serialize};

use super::{
    client::{Presence, SwarmPeer},
    hash::Blake3Hash,
    ids::{DeviceKey, FileId, GroupId, ManifestId, TrackerNo, UserId},
    record::Change,
    version::VersionVector,
};

/// Version of this protocol; both hellos carry it.
pub const VERSION: u16 = 1;

/// What trackers send each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SyncMessage {
    /// First on every link, both ways.
    Hello {
        /// The speaker's [`VERSION`].
        version: u16,
        /// Its number.
        tracker: TrackerNo,
        /// All that it knows, durably.
        vector: VersionVector,
        /// Its wall clock, milliseconds since the Unix epoch.
        now_ms: u64,
    },
    /// Changes the receiver lacks; of each origin in order, without gaps from what it is known to have.
    Changes(Vec<Change>),
    /// All that the speaker knows, durably. Sent after every batch.
    Confirm(VersionVector),
    /// Every few seconds: what the speaker knows, and the catalog it makes of it.
    Digest {
        /// All that it knows, durably.
        vector: VersionVector,
        /// Its catalog's digest; equal wherever the vectors are equal.
        digest: Blake3Hash,
        /// Its wall clock, milliseconds since the Unix epoch.
        now_ms: u64,
    },
    /// Asks for a page of a manifest.
    GetPage {
        /// The manifest.
        manifest: ManifestId,
        /// The page, from 0.
        page: u32,
    },
    /// A page of a manifest; `None` when the speaker has it not.
    Page {
        /// The manifest.
        manifest: ManifestId,
        /// The page, from 0.
        page: u32,
        /// Its bytes.
        bytes: Option<serde_bytes::ByteBuf>,
    },
    /// What clients linked to the speaker serve, coalesced.
    Presence(Vec<DevicePresence>),
    /// Passes a client's wish to be dialled to the tracker that the other device is linked to.
    AskToDial {
        /// The device that should dial.
        device: DeviceKey,
        /// The group.
        group: GroupId,
        /// The file.
        file: FileId,
        /// Who wants to be dialled.
        peer: SwarmPeer,
    },
}

/// Soft state of one device that is linked to the speaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevicePresence {
    /// The device.
    pub device: DeviceKey,
    /// Who is logged in on it; `None` when it has gone.
    pub user: Option<UserId>,
    /// What it serves, in whole or as a change.
    pub presence: Presence,
}
