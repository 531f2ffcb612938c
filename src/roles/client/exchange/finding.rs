//! Who has what we want: asking the trackers, dialling, being dialled back.

use std::{sync::Arc, time::Duration};

use super::{
    Exchange, Seams,
    hub::{Hub, Input},
    peer_link,
    peers::Unreachable,
    transfer::Transfer,
};
use crate::{
    protocol::{
        client::{Answer, Request, SwarmPeer},
        error::{ErrorCode, Failure},
        ids::{DeviceKey, FileId, GroupId},
        name::{FileName, GroupName},
    },
    roles::client::command::PeerRow,
    swarm::download::{Download, PeerView},
};

/// How soon the trackers are asked again who has a file, at first: who came in between is heard of that way only.
pub(super) const FIND_SOON: Duration = Duration::from_millis(100);
/// How often they are asked in the long run; in between they tell of changes.
const FIND_EVERY: Duration = Duration::from_secs(15);
/// How soon to ask again when no tracker answered.
const FIND_AGAIN: Duration = Duration::from_secs(2);
/// How long a device that could not be dialled is left alone, at first; doubled up to eight times that.
const REDIAL_AFTER: Duration = Duration::from_secs(10);
/// How long a download may lack a source before its user is told.
const PATIENCE: Duration = Duration::from_secs(3);

impl Hub {
    /// Asks who has a file that is being downloaded.
    pub(super) fn find(&mut self, file: FileId) {
        let Some(transfer) = self.transfers.get_mut(&file) else { return };
        transfer.find_at = transfer.active.as_ref().map(|_| self.now + transfer.find_after);
        transfer.find_after = (transfer.find_after * 2).min(FIND_EVERY);
        if transfer.active.is_none() {
            return;
        }
        let group = transfer.record.group;
        let seams = Arc::clone(&self.seams);
        self.seams.env.spawn(async move {
            let result = seams.swarm_of(group, file).await;
            seams.report(Input::Swarm { file, result }).await;
        });
    }

    pub(super) fn find_all(&mut self) {
        let files: Vec<FileId> = self.transfers.keys().copied().collect();
        for file in files {
            self.find(file);
        }
    }

    pub(super) fn find_due(&mut self) {
        let now = self.now;
        let due = |transfer: &Transfer| transfer.find_at.is_some_and(|at| at <= now);
        let files: Vec<FileId> = self.transfers.iter().filter(|(_, it)| due(it)).map(|(file, _)| *file).collect();
        for file in files {
            self.find(file);
        }
    }

    pub(super) fn swarm(&mut self, file: FileId, result: Result<Vec<SwarmPeer>, Failure>) {
        let now = self.now;
        let Some(transfer) = self.transfers.get_mut(&file).filter(|transfer| transfer.active.is_some()) else { return };
        let peers = match result {
            Ok(peers) => peers,
            Err(failure) => {
                tracing::debug!(?file, %failure, "the trackers do not say who has a file");
                transfer.find_at = Some(now + FIND_AGAIN);
                return;
            }
        };
        let fresh = peers.into_iter().map(|peer| (peer.device, peer)).collect();
        let before = std::mem::replace(&mut transfer.candidates, fresh);
        for device in transfer.candidates.keys().filter(|device| !before.contains_key(device)) {
            // Who has come (back) may be dialled, whatever was tried while it was away.
            self.peers.unreachable.remove(device);
        }
        let wanted = transfer.candidates.values().filter(|peer| !transfer.banned.contains(&peer.device));
        let wanted: Vec<SwarmPeer> = wanted.cloned().collect();
        for peer in wanted {
            self.reach(file, &peer);
        }
    }

    /// A peer that had a part in a download is lost: it may be back soon.
    pub(super) fn find_again(&mut self, file: FileId) {
        let soon = self.now + FIND_AGAIN;
        if let Some(at) = self.transfers.get_mut(&file).and_then(|transfer| transfer.find_at.as_mut()) {
            *at = soon.min(*at);
        }
    }

    /// Joins a peer for a file, over the link that stands or one to be dialled.
    fn reach(&mut self, file: FileId, peer: &SwarmPeer) {
        match self.peers.by_device.get(&peer.device) {
            Some(id) => self.join(*id, file),
            None => self.dial(peer.device, &peer.address),
        }
    }

    fn dial(&mut self, device: DeviceKey, address: &str) {
        let peers = &mut self.peers;
        let is_resting = peers.unreachable.get(&device).is_some_and(|it| it.retry_at > self.now);
        let is_full = peers.links.len() + peers.dialling.len() >= self.seams.max_peers;
        if is_resting || is_full || device == self.seams.identity.device() || peers.dialling.contains_key(&device) {
            return;
        }
        peers.dialling.insert(device, address.to_owned());
        self.seams.env.spawn(peer_link::dial(Arc::clone(&self.seams), device, address.to_owned()));
    }

    /// A peer cannot be dialled: the trackers ask it to dial us.
    pub(super) fn dial_failed(&mut self, device: DeviceKey, reason: &str) {
        tracing::debug!(?device, reason, "a peer cannot be dialled");
        self.peers.dialling.remove(&device);
        if self.peers.by_device.contains_key(&device) {
            return;
        }
        let failures = self.peers.unreachable.get(&device).map_or(0, |it| it.failures) + 1;
        let retry_at = self.now + REDIAL_AFTER * (1 << (failures - 1).min(3));
        self.peers.unreachable.insert(device, Unreachable { retry_at, failures, reason: reason.to_owned() });
        let wanting = self.transfers.values().find(|transfer| transfer.candidates.contains_key(&device));
        let Some((group, file)) = wanting.map(|transfer| (transfer.record.group, transfer.record.file)) else { return };
        let seams = Arc::clone(&self.seams);
        self.seams.env.spawn(async move {
            if let Err(failure) = seams.tracker.request(Request::AskToDial { group, file, device }).await {
                tracing::debug!(?device, %failure, "a peer cannot be asked to dial");
            }
        });
    }

    /// A peer that cannot dial us asks to be dialled.
    pub(super) fn dial_requested(&mut self, peer: &SwarmPeer) {
        if self.user.is_some() && !self.peers.by_device.contains_key(&peer.device) {
            self.peers.unreachable.remove(&peer.device);
            self.dial(peer.device, &peer.address);
        }
    }

    /// A link to a device stands: takes part in all that it has and we want.
    pub(super) fn join_candidate(&mut self, device: DeviceKey) {
        let Some(id) = self.peers.by_device.get(&device).copied() else { return };
        let wanted = |transfer: &Transfer| {
            transfer.active.is_some() && transfer.candidates.contains_key(&device) && !transfer.banned.contains(&device)
        };
        let files: Vec<FileId> = self.transfers.iter().filter(|(_, it)| wanted(it)).map(|(file, _)| *file).collect();
        for file in files {
            self.join(id, file);
        }
    }

    /// Tells, once, that a download finds nobody who has what it lacks; ends it when nobody is left but peers that sent bad pieces.
    pub(super) fn note_stalled(&mut self) {
        let now = self.now;
        let (mut stalled, mut deceived) = (Vec::new(), Vec::new());
        for (file, transfer) in &mut self.transfers {
            let Some(active) = &transfer.active else { continue };
            if is_fed(&active.machine) {
                transfer.waits = None;
                transfer.began = now;
                continue;
            }
            if now.saturating_duration_since(transfer.began) < PATIENCE {
                continue;
            }
            if transfer.has_only_liars() {
                deceived.push(*file);
            } else if transfer.waits.is_none() {
                transfer.waits = Some(no_seeders(&transfer.record.name));
                stalled.push(*file);
            }
        }
        for file in stalled {
            self.tell_stalled(file);
        }
        for file in deceived {
            let message = "Every peer that has the file sent damaged pieces. resume_download tries them again.";
            self.fail(file, Failure::new(ErrorCode::Integrity, message));
        }
    }

    fn peer_rows(&self, file: FileId, swarm: &[SwarmPeer]) -> Vec<PeerRow> {
        let views: Vec<PeerView> = self
            .transfers
            .get(&file)
            .and_then(|transfer| transfer.active.as_ref())
            .map(|active| active.machine.peers(self.now).collect())
            .unwrap_or_default();
        swarm.iter().map(|peer| self.peer_row(file, peer, &views)).collect()
    }

    fn peer_row(&self, file: FileId, peer: &SwarmPeer, views: &[PeerView]) -> PeerRow {
        let id = self.peers.by_device.get(&peer.device);
        let link = id.and_then(|id| self.peers.links.get(id));
        let view = id.and_then(|id| views.iter().find(|view| view.peer == *id));
        let joined = link.and_then(|link| link.files.get(&file));
        let told = joined.and_then(|joined| joined.pieces.as_ref());
        let banned = self.transfers.get(&file).is_some_and(|transfer| transfer.banned.contains(&peer.device));
        let state = match (banned, link, view) {
            (true, ..) => "banned".to_owned(),
            (_, _, Some(view)) if view.snubbed => "snubbed".to_owned(),
            (_, _, Some(view)) if view.choked => "choked".to_owned(),
            (_, Some(link), _) if joined.is_some() && link.dialled => "connected".to_owned(),
            (_, Some(_), _) if joined.is_some() => "connected, dialled by it".to_owned(),
            (_, Some(_), _) => "linked".to_owned(),
            (_, None, _) => self.unlinked_state(peer.device),
        };
        PeerRow {
            user: peer.user.clone(),
            address: peer.address.clone(),
            percent: told.map_or(peer.percent, percent_of),
            down_rate: view.map_or(0, |view| view.bytes_per_s),
            up_rate: joined.map_or(0, |joined| joined.up.bytes_per_s(self.now)),
            state,
        }
    }

    fn unlinked_state(&self, device: DeviceKey) -> String {
        if self.peers.dialling.contains_key(&device) {
            return "connecting".to_owned();
        }
        let unreachable = self.peers.unreachable.get(&device);
        unreachable.map_or_else(|| "known".to_owned(), |it| format!("unreachable ({}), asked to dial us", it.reason))
    }
}

impl Transfer {
    fn has_only_liars(&self) -> bool {
        !self.candidates.is_empty() && self.candidates.keys().all(|device| self.banned.contains(device))
    }
}

impl Seams {
    /// Who serves a file now, this device left out.
    pub(super) async fn swarm_of(&self, group: GroupId, file: FileId) -> Result<Vec<SwarmPeer>, Failure> {
        match self.tracker.request(Request::GetSwarm { group, file }).await?.answer {
            Answer::Swarm(peers) => Ok(peers),
            answer => Err(super::unexpected(&answer)),
        }
    }
}

/// `show_peers`: the swarm as the trackers and our links know it.
pub(super) async fn show_peers(exchange: &Exchange, group: GroupName, name: FileName) -> Result<Vec<PeerRow>, Failure> {
    let (info, _) = exchange.seams.find_file(group, name).await?;
    let (group, file) = (info.group, info.file);
    let swarm = exchange.seams.swarm_of(group, file).await?;
    Ok(exchange.turn(move |hub| hub.peer_rows(file, &swarm)).await.unwrap_or_default())
}

/// Whether some linked peer has a piece that is missing, or none is missing.
fn is_fed(machine: &Download) -> bool {
    machine.is_finished() || machine.have().missing().any(|piece| machine.copies(piece) > 0)
}

/// Why a download waits.
pub(super) fn no_seeders(name: &FileName) -> Failure {
    let message = format!("Nobody who has what is missing of {name} is online. It waits, and goes on when one comes.");
    Failure::new(ErrorCode::NoSeeders, message)
}

fn percent_of(pieces: &crate::protocol::bitfield::Bitfield) -> u8 {
    if pieces.is_full() {
        return 100;
    }
    u8::try_from(u64::from(pieces.count()) * 100 / u64::from(pieces.len())).unwrap_or(99)
}
