//! One request of a client: caught up first, then decided or looked up, answered when what it shows is durable.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{connection::Asker, login, node::Writer, question};
use crate::{
    mutant::Mutant,
    protocol::{
        client::{Answer, Request},
        error::{ErrorCode, Failure},
        ids::{GroupId, ManifestId, Nonce, RequestId},
        manifest::ManifestHeader,
        version::VersionVector,
    },
    replica::{
        command::{self, Command},
        permission,
    },
    store::tracker::ManifestPage,
};

/// Longest wait for this tracker to catch up with what the client has seen.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(2);

/// Of a tracker's disk, what no manifest may take: the log and what it becomes when its past is forgotten.
const RESERVED_BYTES: u64 = 64 * 1024 * 1024;

/// An answer with what it shows.
pub(super) struct Answered {
    pub(super) seen: VersionVector,
    pub(super) stale: bool,
    pub(super) result: Result<Answer, Failure>,
}

impl Answered {
    /// No answer, and nothing shown.
    pub(super) fn failed(failure: Failure) -> Self {
        Self { seen: VersionVector::default(), stale: false, result: Err(failure) }
    }
}

/// Answers a question, where nothing has to be waited for; otherwise returns it.
pub(super) fn answer_at_once(asker: &Asker, seen: &VersionVector, request: Request) -> Result<Answered, Box<Request>> {
    let (result, shows) = question::look_up_at_once(asker, seen, request)?;
    Ok(match result {
        Ok(answer) => Answered { seen: shows, stale: false, result: Ok(answer) },
        Err(failure) => Answered::failed(failure),
    })
}

/// Answers a request.
pub(super) async fn answer(asker: &Asker, nonce: Nonce, seen: &VersionVector, request: Request) -> Answered {
    let caught_up = timeout(CATCH_UP_WITHIN, asker.node.until_durable(seen)).await.is_ok();
    let is_write = request.is_write();
    let outcome = match request {
        Request::CreateUser { .. }
        | Request::Login { .. }
        | Request::Logout
        | Request::ChangePassword { .. }
        | Request::CloseAccount { .. } => account(asker, nonce, seen, request).await,
        Request::OfferManifest { group, manifest } => offer(asker, group, manifest).await,
        Request::PutPage { manifest, page, bytes } => put_page(asker, manifest, page, bytes).await,
        request if is_write => write(asker, nonce, seen, request).await,
        request => question::answer(asker, request).await,
    };
    match outcome {
        Ok((answer, shows)) => {
            Answered { seen: shows, stale: !caught_up && !is_write && !Mutant::HideStale.is_on(), result: Ok(answer) }
        }
        Err(failure) => {
            // A mark beside a refusal says nothing to who reads its code: what is missing may be what was not caught up with.
            let failure = if is_write { failure } else { command::or_stale(failure, caught_up) };
            Answered { stale: !caught_up, ..Answered::failed(refusal(asker, failure).await) }
        }
    }
}

/// A refusal tells of what is known here (that a name is taken), as an answer does: not before that is durable.
async fn refusal(asker: &Asker, failure: Failure) -> Failure {
    let known = asker.node.state().catalog.vector().clone();
    asker.node.until_durable(&known).await.err().unwrap_or(failure)
}

async fn account(
    asker: &Asker,
    nonce: Nonce,
    seen: &VersionVector,
    request: Request,
) -> Result<(Answer, VersionVector), Failure> {
    let id = RequestId::draw(&asker.device, &nonce);
    match request {
        Request::CreateUser { user, password } => login::create_user(asker, id, seen, user, password).await,
        Request::Login { user, password } => login::login(asker, id, seen, user, &password).await,
        Request::ChangePassword { old, new } => login::change_password(asker, id, seen, &old, new).await,
        Request::CloseAccount { password } => login::close_account(asker, id, seen, &password).await,
        _ => login::logout(asker, id, seen).await,
    }
}

async fn write(
    asker: &Asker,
    nonce: Nonce,
    seen: &VersionVector,
    request: Request,
) -> Result<(Answer, VersionVector), Failure> {
    let (node, user) = (&asker.node, asker.logged_in()?);
    let id = RequestId::draw(&asker.device, &nonce);
    let command = command_of(request);
    if let Command::Share { manifest, .. } = &command {
        require_pages(asker, &id, manifest).await?;
    }
    let writer = Writer { user: Some(user), device: asker.device, seen };
    let (answer, needed) = node.write(writer, id, &command).await?;
    node.until_acknowledged(&needed).await?;
    let answer = answer.or_else(|| command::answer(&node.state().catalog, &id));
    Ok((answer.unwrap_or(Answer::Done), needed))
}

/// The writes that the catalog decides on; the others were taken out before.
fn command_of(request: Request) -> Command {
    match request {
        Request::CreateGroup { group } => Command::CreateGroup { group },
        Request::JoinGroup { group } => Command::JoinGroup { group },
        Request::LeaveGroup { group } => Command::LeaveGroup { group },
        Request::AcceptRequest { group, user } => Command::AcceptRequest { group, user },
        Request::RejectRequest { group, user } => Command::RejectRequest { group, user },
        Request::RemoveMember { group, user } => Command::RemoveMember { group, user },
        Request::TransferGroup { group, user } => Command::TransferGroup { group, user },
        Request::Share { group, manifest } => Command::Share { group, manifest },
        Request::StopShare { file } => Command::StopShare { file },
        Request::EndSession { session } => Command::EndSession { session },
        other => unreachable!("{other:?} is no write of the catalog's"),
    }
}

/// Which pages of a manifest have yet to be put here.
async fn offer(asker: &Asker, group: GroupId, manifest: ManifestHeader) -> Result<(Answer, VersionVector), Failure> {
    let user = asker.logged_in()?;
    permission::member(&asker.node.state().catalog, &user, &group)?;
    manifest.check().map_err(|error| refused(&error.to_string()))?;
    asker.node.state().forgetting.unshared.offer(user, manifest.id())?;
    let missing = missing_pages(asker, &manifest).await?;
    asker.offer(manifest.id(), manifest);
    Ok((Answer::MissingPages(missing), VersionVector::default()))
}

async fn put_page(
    asker: &Asker,
    manifest: ManifestId,
    page: u32,
    bytes: Vec<u8>,
) -> Result<(Answer, VersionVector), Failure> {
    let user = asker.logged_in()?;
    let offered = asker.offers().get(&manifest).cloned();
    let header = offered.ok_or_else(|| refused("it was not offered on this link"))?;
    asker.node.state().forgetting.unshared.put(user, manifest, bytes.len())?;
    let (node, store) = (Arc::clone(&asker.node), Arc::clone(&asker.node.store));
    let put = move || {
        header.check_page(page, &bytes).map_err(|error| refused(&error.to_string()))?;
        check_room(node.env.disk.free_bytes(&node.folder).ok(), bytes.len())
            .inspect_err(|_| node.warn_of_little_room())?;
        store.put_pages(&[ManifestPage { manifest, page, bytes }]).map_err(|error| disk(&error))
    };
    asker.node.env.offload(put).await?;
    Ok((Answer::Done, VersionVector::default()))
}

/// The log must be able to go on when whoever shares has filled the disk with manifests.
fn check_room(free_bytes: Option<u64>, wanted: usize) -> Result<(), Failure> {
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_add(RESERVED_BYTES);
    if free_bytes.is_none_or(|free| free >= wanted) {
        return Ok(());
    }
    let message = "The tracker's disk is nearly full: it takes no further files until whoever runs it makes room. All else goes on. \
                   Try again later.";
    Err(Failure::new(ErrorCode::NoSpace, message))
}

/// A share names a manifest whose pages are all here, unless it is a repeat of one that is known.
async fn require_pages(asker: &Asker, request: &RequestId, manifest: &ManifestHeader) -> Result<(), Failure> {
    manifest.check().map_err(|error| refused(&error.to_string()))?;
    if command::answer(&asker.node.state().catalog, request).is_some() {
        return Ok(());
    }
    if missing_pages(asker, manifest).await?.is_empty() {
        return Ok(());
    }
    Err(Failure::new(ErrorCode::Stale, "This tracker lacks pages of the file's manifest. Share the file again."))
}

async fn missing_pages(asker: &Asker, manifest: &ManifestHeader) -> Result<Vec<u32>, Failure> {
    let (store, id, count) = (Arc::clone(&asker.node.store), manifest.id(), manifest.page_count());
    asker.node.hold_pages([id]).await;
    let look_up = move || store.missing_pages(&BTreeMap::from([(id, count)]));
    let missing = asker.node.env.offload(look_up).await.map_err(|error| disk(&error))?;
    Ok(missing.into_values().next().unwrap_or_default())
}

fn refused(why: &str) -> Failure {
    Failure::new(ErrorCode::Protocol, format!("The manifest is refused: {why}."))
}

/// The tracker's disk failed under a request.
pub(super) fn disk(error: &crate::store::tracker::StoreError) -> Failure {
    tracing::error!(%error, "the tracker's store failed");
    Failure::new(ErrorCode::Io, format!("The tracker's disk failed: {error}. Try again, or ask whoever runs it."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_leave_the_log_its_room() {
        let code = |free, wanted| check_room(free, wanted).err().map(|failure| failure.code);
        assert_eq!(code(Some(RESERVED_BYTES + 10), 10), None);
        assert_eq!(code(Some(RESERVED_BYTES + 9), 10), Some(ErrorCode::NoSpace));
        assert_eq!(code(Some(0), usize::MAX), Some(ErrorCode::NoSpace));
        assert_eq!(code(None, 10), None, "a disk that does not say is tried");
    }
}
