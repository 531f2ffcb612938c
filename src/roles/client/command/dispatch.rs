//! Each command to the function that does it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Command, Reply, account, file, group, listing, request, setting};
use crate::{
    protocol::{
        client::{Answer, Request},
        error::Failure,
    },
    roles::client::{
        Core, Outcome,
        tracker_link::{stopping, unexpected},
    },
};

pub(in crate::roles::client) async fn execute(core: &Arc<Core>, command: Command) -> Result<Outcome, Failure> {
    if needs_login(&command) {
        core.require_login()?;
    }
    match command {
        Command::CreateUser { user, password } => account::create_user(core, user, password).await,
        Command::Login { user, password } => to_the_end(core, account::login(Arc::clone(core), user, password)).await,
        Command::Logout => to_the_end(core, account::logout(Arc::clone(core))).await,
        Command::CloseAccount { password } => {
            to_the_end(core, account::close_account(Arc::clone(core), password)).await
        }
        Command::ListSessions => account::list_sessions(core).await,
        Command::EndSession { session } => account::end_session(core, session).await,
        Command::ChangePassword { old, new } => account::change_password(core, old, new).await,
        Command::WhoAmI => Ok(account::who_am_i(core)),
        Command::CreateGroup { group } => group::create_group(core, group).await,
        Command::JoinGroup { group } => group::join_group(core, group).await,
        Command::LeaveGroup { group } => to_the_end(core, group::leave_group(Arc::clone(core), group)).await,
        Command::RemoveMember { group, user } => group::remove_member(core, group, user).await,
        Command::TransferGroup { group, user } => group::transfer_group(core, group, user).await,
        Command::ListGroups => listing::list_groups(core).await,
        Command::ListMembers { group } => listing::list_members(core, group).await,
        Command::ListRequests { group } => listing::list_requests(core, group).await,
        Command::ListFiles { group } => listing::list_files(core, group).await,
        Command::AcceptRequest { group, user } => request::accept_request(core, group, user).await,
        Command::RejectRequest { group, user } => request::reject_request(core, group, user).await,
        Command::FileInfo { group, file } => file::file_info(core, group, file).await,
        Command::Trackers => setting::trackers(core).await,
        Command::UploadFile { path, group } => core.exchange.upload_file(&path, group).await.map(Outcome::fresh),
        Command::DownloadFile { group, file, destination } => {
            core.exchange.download_file(group, file, &destination).await.map(Outcome::fresh)
        }
        Command::ShowDownloads { verbose } => Ok(Outcome::fresh(core.exchange.show_downloads(verbose).await)),
        Command::PauseDownload { group, file } => core.exchange.pause_download(group, file).await.map(Outcome::fresh),
        Command::ResumeDownload { group, file } => core.exchange.resume_download(group, file).await.map(Outcome::fresh),
        Command::CancelDownload { group, file } => core.exchange.cancel_download(group, file).await.map(Outcome::fresh),
        Command::Wait { download } => core.exchange.wait(download).await.map(Outcome::fresh),
        Command::ShowPeers { group, file } => core.exchange.show_peers(group, file).await.map(Outcome::fresh),
        Command::ShowShares => Ok(Outcome::fresh(core.exchange.show_shares().await)),
        Command::StopShare { group, file } => core.exchange.stop_share(group, file).await.map(Outcome::fresh),
        Command::VerifyFile { group, file } => core.exchange.verify_file(group, file).await.map(Outcome::fresh),
        Command::SetLimit { direction, rate } => Ok(Outcome::fresh(core.exchange.set_limit(direction, rate).await)),
    }
}

/// Whether a command needs a login: all but those that make one, and those that concern this client alone.
fn needs_login(command: &Command) -> bool {
    !matches!(
        command,
        Command::CreateUser { .. }
            | Command::Login { .. }
            | Command::ShowDownloads { .. }
            | Command::ShowShares
            | Command::Wait { .. }
            | Command::SetLimit { .. }
            | Command::WhoAmI
            | Command::Trackers
    )
}

/// Asks for something whose only answer is that it is done.
pub(super) async fn order(core: &Core, request: Request) -> Result<Outcome, Failure> {
    let answered = core.tracker.request(request).await?;
    match answered.answer {
        Answer::Done => Ok(Outcome { reply: Reply::Done, stale: answered.stale }),
        other => Err(unexpected(&other)),
    }
}

/// Runs work of several steps to its end, also when its caller goes away in between.
async fn to_the_end(
    core: &Core,
    work: impl Future<Output = Result<Outcome, Failure>> + Send + 'static,
) -> Result<Outcome, Failure> {
    let (reply, done) = oneshot::channel();
    core.env.spawn(async move {
        // A caller that has gone away wants no reply.
        let _ = reply.send(work.await);
    });
    done.await.unwrap_or_else(|_| Err(stopping()))
}
