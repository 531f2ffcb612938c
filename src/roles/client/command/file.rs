//! `file_info`.

use super::{FileDetail, Holder, Reply};
use crate::{
    protocol::{
        client::{Answer, FileInfo, Request, SwarmPeer},
        error::{ErrorCode, Failure},
        hash::hash_string,
        manifest::{ManifestHeader, decode_page},
        name::{FileName, GroupName},
    },
    roles::client::{Core, Outcome, tracker_link::unexpected},
};

pub(super) async fn file_info(core: &Core, group: GroupName, file: FileName) -> Result<Outcome, Failure> {
    let answered = core.tracker.request(Request::FindFile { group, file }).await?;
    let Answer::File { info, manifest } = answered.answer else { return Err(unexpected(&answered.answer)) };
    manifest.check().map_err(|error| damaged(&info, &error.to_string()))?;
    if manifest.id() != info.manifest {
        return Err(damaged(&info, "its header is not the one it is listed by"));
    }
    let hash_string = fetch_hash_string(core, &info, &manifest).await?;
    let holders = find_holders(core, &info).await?;
    let detail = FileDetail {
        name: info.name,
        size: manifest.size,
        pieces: manifest.piece_count(),
        sha1: manifest.sha1,
        blake3: manifest.blake3,
        hash_string,
        holders,
    };
    Ok(Outcome { reply: Reply::File(Box::new(detail)), stale: answered.stale })
}

/// Page by page, so that the largest manifest needs no more memory than its string.
async fn fetch_hash_string(core: &Core, info: &FileInfo, manifest: &ManifestHeader) -> Result<String, Failure> {
    let mut text = String::with_capacity(manifest.piece_count() as usize * 20);
    for page in 0..manifest.page_count() {
        let request = Request::GetPage { group: info.group, manifest: info.manifest, page };
        let answer = core.tracker.request(request).await?.answer;
        let Answer::Page(bytes) = answer else { return Err(unexpected(&answer)) };
        manifest.check_page(page, &bytes).map_err(|error| damaged(info, &error.to_string()))?;
        text.push_str(&hash_string(&decode_page(&bytes).collect::<Vec<_>>()));
    }
    Ok(text)
}

/// Every device online that has some of the file, this one included.
async fn find_holders(core: &Core, info: &FileInfo) -> Result<Vec<Holder>, Failure> {
    let request = Request::GetSwarm { group: info.group, file: info.file };
    let answer = core.tracker.request(request).await?.answer;
    let Answer::Swarm(peers) = answer else { return Err(unexpected(&answer)) };
    let here = core.user().zip(core.tracker.serving(info.file));
    let here = here.map(|(user, percent)| Holder { user: user.name, address: core.tracker.address(), percent });
    let mut holders: Vec<_> = here.into_iter().chain(peers.into_iter().map(holder)).collect();
    holders.sort_by(|a, b| (b.percent, &a.user, &a.address).cmp(&(a.percent, &b.user, &b.address)));
    Ok(holders)
}

fn holder(SwarmPeer { user, address, percent, .. }: SwarmPeer) -> Holder {
    Holder { user, address, percent }
}

fn damaged(info: &FileInfo, why: &str) -> Failure {
    let message = format!(
        "The tracker's manifest of {} is damaged: {why}. Ask another tracker, or share the file again.",
        info.name
    );
    Failure::new(ErrorCode::Integrity, message)
}
