//! Questions: looked up in the catalog, completed by presence, answered when what they show is durable.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    connection::Asker,
    node::State,
    presence::{Home, Server},
    request::disk,
    trackers::millis,
};
use crate::{
    protocol::{
        client::{Answer, FileInfo, MemberInfo, Notice, Request, SessionEntry, SwarmPeer},
        error::{ErrorCode, Failure},
        ids::{DeviceKey, FileId, GroupId, ManifestId, UserId},
        limits::{LISTING_PAGE, MAX_CLIENT_FRAME, MAX_SWARM_PEERS},
        name::{FileName, GroupName},
        sync::SyncMessage,
        ticket::{SESSION_LIFE, Signed, TICKET_LIFE, Ticket},
        version::VersionVector,
    },
    replica::{permission, query::Page, session::Opened},
};

/// Users named as sharers of one file in a listing.
const MAX_SHARED_BY: usize = 16;

/// Answers a question.
pub(super) async fn answer(asker: &Asker, request: Request) -> Result<(Answer, VersionVector), Failure> {
    let user = asker.logged_in()?;
    if let Request::GetPage { group, manifest, page } = request {
        return get_page(asker, user, group, manifest, page).await;
    }
    let (answer, shows) = {
        let state = asker.node.state();
        (look_up(asker, &state, user, request), state.catalog.vector().clone())
    };
    asker.node.until_durable(&shows).await?;
    Ok((answer?, shows))
}

/// Answers a question from memory when this tracker knows all that the client has seen, and has on disk all that it knows:
/// by far the most are asked then, and a task for each would cost more than the answer.
pub(super) fn look_up_at_once(
    asker: &Asker,
    seen: &VersionVector,
    request: Request,
) -> Result<(Result<Answer, Failure>, VersionVector), Box<Request>> {
    if !is_lookup(&request) {
        return Err(Box::new(request));
    }
    let state = asker.node.state();
    let session = state.clients.get(asker.link).and_then(|client| client.session);
    let Some(session) =
        session.filter(|_| asker.node.is_durable(seen) && asker.node.is_durable(state.catalog.vector()))
    else {
        return Err(Box::new(request));
    };
    let shows = state.catalog.vector().clone();
    Ok((look_up(asker, &state, session.user, request), shows))
}

/// Whether [`look_up`] answers it.
fn is_lookup(request: &Request) -> bool {
    let other = matches!(
        request,
        Request::Login { .. }
            | Request::Logout
            | Request::OfferManifest { .. }
            | Request::PutPage { .. }
            | Request::GetPage { .. }
    );
    !other && !request.is_write()
}

fn look_up(asker: &Asker, state: &State, user: UserId, request: Request) -> Result<Answer, Failure> {
    let catalog = &state.catalog;
    match request {
        Request::ListRequests { group, skip } => {
            let group = permission::group(catalog, &group)?;
            permission::owner(catalog, &user, &group)?;
            let Page { entries: requests, more } = catalog.list_requests(&group, skip as usize);
            Ok(Answer::Requests { requests, more })
        }
        Request::ListGroups { skip } => {
            let Page { entries: groups, more } = catalog.list_groups(&user, skip as usize);
            Ok(Answer::Groups { groups, more })
        }
        Request::FindGroup { group } => {
            let id = permission::group(catalog, &group)?;
            catalog.group_info(&id, &user).map(Answer::Group).ok_or_else(|| not_yet(&group))
        }
        Request::ListMembers { group, skip } => list_members(state, user, &group, skip),
        Request::ListFiles { group, skip } => list_files(state, user, &group, skip),
        Request::FindFile { group, file } => find_file(state, user, &group, &file),
        Request::GetSwarm { group, file } => {
            permission::member(catalog, &user, &group)?;
            let others = swarm(state, group, file).filter(|server| server.device != asker.device);
            let peers = others.filter_map(|server| swarm_peer(state, &server));
            Ok(Answer::Swarm(peers.take(MAX_SWARM_PEERS).collect()))
        }
        Request::GetTicket { group } => get_ticket(asker, state, user, group),
        Request::CheckMembers { group, mut memberships, mut sessions } => {
            permission::member(catalog, &user, &group)?;
            memberships.truncate(LISTING_PAGE);
            memberships.retain(|membership| catalog.has_ended(&group, membership));
            sessions.truncate(LISTING_PAGE);
            sessions.retain(|(user, session)| catalog.is_session_over(user, session));
            let sessions = sessions.into_iter().map(|(_, session)| session.id).collect();
            Ok(Answer::Ended { memberships, sessions })
        }
        Request::ListSessions => Ok(list_sessions(asker, state, user)),
        Request::AskToDial { group, file, device } => ask_to_dial(asker, state, user, (group, file), device),
        Request::ListTrackers => {
            let durable = asker.node.durable().borrow().clone();
            Ok(Answer::Trackers(state.trackers.status(&durable, Instant::now())))
        }
        other => unreachable!("{other:?} is no question"),
    }
}

fn not_yet(group: &GroupName) -> Failure {
    Failure::new(ErrorCode::Stale, format!("This tracker has yet to hear who owns {group}. Try again in a moment."))
}

fn list_sessions(asker: &Asker, state: &State, user: UserId) -> Answer {
    let own = state.clients.get(asker.link).and_then(|client| client.session).map(|logged_in| logged_in.session.id);
    let still = asker.node.now_ms().saturating_sub(millis(SESSION_LIFE));
    let sessions = state.catalog.sessions_of(&user).into_iter().filter(|(_, opened)| opened.at.wall_ms > still);
    let entry = |(session, Opened { at, device, .. })| {
        let seat = state.presence.seat(&device).filter(|(_, seat)| seat.user == user);
        let address = seat.map(|(_, seat)| seat.address.clone().into());
        SessionEntry { session, device, since_ms: at.wall_ms, address, current: own == Some(session) }
    };
    Answer::Sessions(sessions.map(entry).take(LISTING_PAGE).collect())
}

fn list_members(state: &State, user: UserId, group: &GroupName, skip: u32) -> Result<Answer, Failure> {
    let group = permission::group(&state.catalog, group)?;
    permission::member(&state.catalog, &user, &group)?;
    let Page { entries, more } = state.catalog.list_members(&group, skip as usize);
    let members = entries.into_iter().map(|member| MemberInfo {
        online: state.presence.is_online(&member.user),
        user: member.name,
        role: member.role,
    });
    Ok(Answer::Members { members: members.collect(), more })
}

fn list_files(state: &State, user: UserId, group: &GroupName, skip: u32) -> Result<Answer, Failure> {
    let group = permission::group(&state.catalog, group)?;
    permission::member(&state.catalog, &user, &group)?;
    let Page { entries, mut more } = state.catalog.list_files(&group, skip as usize);
    let (mut files, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        let info = with_presence(state, entry);
        // Keys, identities and numbers take 300 bytes; names what they are long.
        bytes +=
            300 + info.name.as_str().len() + info.shared_by.iter().map(|name| name.as_str().len() + 5).sum::<usize>();
        if bytes > MAX_CLIENT_FRAME / 2 && !files.is_empty() {
            more = true;
            break;
        }
        files.push(info);
    }
    Ok(Answer::Files { files, more })
}

fn find_file(state: &State, user: UserId, group: &GroupName, file: &FileName) -> Result<Answer, Failure> {
    let catalog = &state.catalog;
    let group = permission::group(catalog, group)?;
    permission::member(catalog, &user, &group)?;
    let file = permission::file(catalog, &group, file)?;
    let found = catalog.file_info(&group, &file).zip(catalog.file(&file));
    let (info, (_, manifest)) = found.ok_or_else(|| {
        Failure::new(ErrorCode::NoSuchFile, "Nobody shares this file any more. list_files shows those there are.")
    })?;
    Ok(Answer::File { info: with_presence(state, info), manifest: manifest.clone() })
}

fn with_presence(state: &State, mut info: FileInfo) -> FileInfo {
    for server in swarm(state, info.group, info.file) {
        if server.percent == 100 { info.seeders += 1 } else { info.leechers += 1 }
    }
    info.shared_by.truncate(MAX_SHARED_BY);
    info
}

/// Devices of members that serve a file of a group now.
fn swarm(state: &State, group: GroupId, file: FileId) -> impl Iterator<Item = Server<'_>> {
    let record = state.catalog.group(&group);
    let is_member = move |server: &Server<'_>| record.is_some_and(|record| record.has_member(&server.seat.user));
    state.presence.servers(file).filter(move |server| server.group == group).filter(is_member)
}

fn swarm_peer(state: &State, server: &Server<'_>) -> Option<SwarmPeer> {
    let user = state.catalog.user_name(&server.seat.user)?.clone();
    Some(SwarmPeer {
        device: server.device,
        user,
        address: server.seat.address.clone().into(),
        percent: server.percent,
    })
}

fn get_ticket(asker: &Asker, state: &State, user: UserId, group: GroupId) -> Result<Answer, Failure> {
    let membership = permission::member(&state.catalog, &user, &group)?.id;
    let name = state.catalog.user_name(&user).cloned();
    let name = name.ok_or_else(|| Failure::new(ErrorCode::Stale, "This tracker has yet to hear of your account."))?;
    let issued_ms = asker.node.now_ms();
    let expires_ms = issued_ms.saturating_add(millis(TICKET_LIFE));
    let session = state.clients.get(asker.link).and_then(|client| client.session).map(|logged_in| logged_in.session);
    let session = session.ok_or_else(|| Failure::new(ErrorCode::NotLoggedIn, "Your session has ended."))?;
    let ticket = Ticket { user, name, device: asker.device, group, membership, session, issued_ms, expires_ms };
    Ok(Answer::Ticket(Signed::seal(&ticket, &asker.node.secret)))
}

/// Passes on that this device wants to be dialled by another of the same swarm.
fn ask_to_dial(
    asker: &Asker,
    state: &State,
    user: UserId,
    (group, file): (GroupId, FileId),
    device: DeviceKey,
) -> Result<Answer, Failure> {
    permission::member(&state.catalog, &user, &group)?;
    let gone = || Failure::new(ErrorCode::NoSeeders, "That peer is not online any more. Others are tried.");
    let target = swarm(state, group, file).find(|server| server.device == device).ok_or_else(gone)?;
    let own = state.presence.seat(&asker.device).ok_or_else(gone)?.1;
    let peer = SwarmPeer {
        device: asker.device,
        user: state.catalog.user_name(&user).cloned().ok_or_else(gone)?,
        address: own.address.clone().into(),
        percent: state.presence.percent(&asker.device, &file).unwrap_or(0),
    };
    match target.home {
        Home::Here(link) => state.clients.notify(link, Notice::DialRequested { group, file, peer }),
        Home::At(tracker) => {
            let no = state.trackers.with_key(&tracker).ok_or_else(gone)?;
            state.trackers.send(no, SyncMessage::AskToDial { device, group, file, peer });
        }
    }
    Ok(Answer::Done)
}

async fn get_page(
    asker: &Asker,
    user: UserId,
    group: GroupId,
    manifest: ManifestId,
    page: u32,
) -> Result<(Answer, VersionVector), Failure> {
    {
        let state = asker.node.state();
        permission::member(&state.catalog, &user, &group)?;
        let missing = || Failure::new(ErrorCode::NoSuchFile, "Nobody shares this file in the group any more.");
        state.catalog.manifest(&group, &manifest).ok_or_else(missing)?;
    }
    let store = Arc::clone(&asker.node.store);
    let bytes = asker.node.env.offload(move || store.page(&manifest, page)).await.map_err(|error| disk(&error))?;
    let absent = || Failure::new(ErrorCode::Protocol, "The manifest has no such page.");
    Ok((Answer::Page(bytes.ok_or_else(absent)?), VersionVector::default()))
}
