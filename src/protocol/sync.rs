//! Tracker and tracker (`p2p-sync/1`): version vectors, changes, manifest pages, presence.
//!
//! Either side opens with [`SyncMessage::Hello`]. Each then streams what the other lacks, in batches of one origin's
//! changes in order, later every new change as it happens, those of third origins included. A receiver that lacks a
//! manifest's pages asks for them before it confirms the change that names it.
//!
//! A receiver that lacks what the sender has forgotten is offered a snapshot first: it fetches that page by page, takes it in
//! as one, and confirms. Then come the changes after it.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    client::{Presence, SwarmPeer},
    hash::Blake3Hash,
    ids::{DeviceKey, FileId, GroupId, ManifestId, RequestId, TrackerNo, UserId},
    name::UserName,
    record::{Change, Kept, Tombstone},
    version::{Dot, Timestamp, VersionVector},
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
    /// Every few seconds, with the digest: what is known of listed trackers, the speaker included.
    Stable(Vec<StableTracker>),
    /// The receiver lacks changes that the speaker has forgotten: a snapshot is ready to be fetched.
    SnapshotOffer {
        /// Up to where it tells all.
        folded: VersionVector,
        /// The latest stamp of all that.
        latest: Timestamp,
    },
    /// Asks for a page of the snapshot offered last.
    GetSnapshot {
        /// The last entry that is there; `None` for the first page.
        after: Option<SnapshotCursor>,
    },
    /// A page of the snapshot.
    Snapshot(SnapshotPage),
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
    /// Logins that failed at the speaker since it told the last time.
    Attempts(Attempts),
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

/// Failed logins, as each tracker counts them to slow down who guesses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempts {
    /// By the name tried.
    pub accounts: Vec<(UserName, u32)>,
    /// By the network they came from.
    pub networks: Vec<(IpAddr, u32)>,
}

/// What is known of one listed tracker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StableTracker {
    /// Its key.
    pub tracker: DeviceKey,
    /// All that it has confirmed, as far as the speaker knows.
    pub confirmed: VersionVector,
    /// Of what it has forgotten all that can be.
    pub folded: VersionVector,
}

/// An entry of a snapshot: first come the changes by their dots, then the tombstones by their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotCursor {
    /// A change.
    Change(Dot),
    /// A tombstone.
    Tombstone(RequestId),
}

/// Entries of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotPage {
    /// Changes that are kept.
    pub kept: Vec<Kept>,
    /// Requests of which nothing else is left.
    pub tombstones: Vec<Tombstone>,
    /// The last entry of this page; `None` when it was the last page.
    pub next: Option<SnapshotCursor>,
}

/// A snapshot, put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Up to where it tells all.
    pub folded: VersionVector,
    /// The latest stamp of all that.
    pub latest: Timestamp,
    /// The changes that are kept of it.
    pub kept: BTreeMap<Dot, Kept>,
    /// Requests of which nothing else is left.
    pub tombstones: Vec<Tombstone>,
}

impl SnapshotPage {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.tombstones.is_empty()
    }
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
