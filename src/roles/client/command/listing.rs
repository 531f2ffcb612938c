//! `list_groups`, `list_members`, `list_requests`, `list_files`: every page, and what the prompt learns of them.

use super::{FileRow, Reply};
use crate::{
    protocol::{
        client::{Answer, FileInfo, Request},
        error::{ErrorCode, Failure},
        name::GroupName,
        piece::piece_count,
    },
    roles::client::{Core, Outcome, tracker_link::unexpected},
};

pub(super) async fn list_groups(core: &Core) -> Result<Outcome, Failure> {
    let page = |skip| Request::ListGroups { skip };
    let listing = list(core, page, |answer| match answer {
        Answer::Groups { groups, more } => Ok((groups, more)),
        other => Err(unexpected(&other)),
    });
    let Listing { entries, stale } = listing.await?;
    let mut known = core.completions();
    known.groups = entries.iter().map(|info| info.name.clone()).collect();
    known.users.extend(entries.iter().map(|info| info.owner.clone()));
    Ok(Outcome { reply: Reply::Groups(entries), stale })
}

pub(super) async fn list_members(core: &Core, group: GroupName) -> Result<Outcome, Failure> {
    let page = |skip| Request::ListMembers { group: group.clone(), skip };
    let listing = list(core, page, |answer| match answer {
        Answer::Members { members, more } => Ok((members, more)),
        other => Err(unexpected(&other)),
    });
    let Listing { entries, stale } = listing.await?;
    core.completions().users.extend(entries.iter().map(|member| member.user.clone()));
    Ok(Outcome { reply: Reply::Members(entries), stale })
}

pub(super) async fn list_requests(core: &Core, group: GroupName) -> Result<Outcome, Failure> {
    let page = |skip| Request::ListRequests { group: group.clone(), skip };
    let listing = list(core, page, |answer| match answer {
        Answer::Requests { requests, more } => Ok((requests, more)),
        other => Err(unexpected(&other)),
    });
    let Listing { entries, stale } = listing.await?;
    core.completions().users.extend(entries.iter().map(|request| request.user.clone()));
    Ok(Outcome { reply: Reply::Requests(entries), stale })
}

pub(super) async fn list_files(core: &Core, group: GroupName) -> Result<Outcome, Failure> {
    let page = |skip| Request::ListFiles { group: group.clone(), skip };
    let listing = list(core, page, |answer| match answer {
        Answer::Files { files, more } => Ok((files, more)),
        other => Err(unexpected(&other)),
    });
    let Listing { entries, stale } = listing.await?;
    let names = entries.iter().map(|info| info.name.clone()).collect();
    core.completions().files.insert(group, names);
    Ok(Outcome { reply: Reply::Files(entries.into_iter().map(row).collect()), stale })
}

fn row(info: FileInfo) -> FileRow {
    let FileInfo { name, size, sha1, seeders, leechers, shared_by, .. } = info;
    FileRow { name, size, pieces: piece_count(size), sha1, seeders, leechers, shared_by }
}

/// All pages of a listing.
struct Listing<T> {
    entries: Vec<T>,
    stale: bool,
}

/// Asks for page after page. `read` gives the entries of a page and whether another follows.
async fn list<T>(
    core: &Core,
    page: impl Fn(u32) -> Request,
    read: impl Fn(Answer) -> Result<(Vec<T>, bool), Failure>,
) -> Result<Listing<T>, Failure> {
    let mut listing = Listing { entries: Vec::new(), stale: false };
    loop {
        let skip = u32::try_from(listing.entries.len()).unwrap_or(u32::MAX);
        let answered = core.tracker.request(page(skip)).await?;
        let (entries, more) = read(answered.answer)?;
        listing.stale |= answered.stale;
        let progress = !entries.is_empty();
        listing.entries.extend(entries);
        match (more, progress) {
            (false, _) => return Ok(listing),
            (true, true) => {}
            (true, false) => return Err(endless()),
        }
    }
}

fn endless() -> Failure {
    Failure::new(
        ErrorCode::Protocol,
        "The tracker's listing does not end: it announces more and sends nothing. Try again.",
    )
}
