//! Each command to the function that does it.

use super::{Command, Reply, account, file, group, listing, request, setting};
use crate::{
    protocol::{
        client::{Answer, Request},
        error::{ErrorCode, Failure},
    },
    roles::client::{Core, Outcome, tracker_link::unexpected},
};

pub(in crate::roles::client) async fn execute(core: &Core, command: Command) -> Result<Outcome, Failure> {
    if needs_login(&command) {
        core.require_login()?;
    }
    match command {
        Command::CreateUser { user, password } => account::create_user(core, user, password).await,
        Command::Login { user, password } => account::login(core, user, password).await,
        Command::Logout => account::logout(core).await,
        Command::ChangePassword { old, new } => account::change_password(core, old, new).await,
        Command::WhoAmI => Ok(account::who_am_i(core)),
        Command::CreateGroup { group } => group::create_group(core, group).await,
        Command::JoinGroup { group } => group::join_group(core, group).await,
        Command::LeaveGroup { group } => group::leave_group(core, group).await,
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
        Command::UploadFile { .. }
        | Command::DownloadFile { .. }
        | Command::ShowDownloads { .. }
        | Command::PauseDownload { .. }
        | Command::ResumeDownload { .. }
        | Command::CancelDownload { .. }
        | Command::Wait { .. }
        | Command::ShowPeers { .. }
        | Command::ShowShares
        | Command::StopShare { .. }
        | Command::SetLimit { .. }
        | Command::VerifyFile { .. } => Err(Failure::new(ErrorCode::Io, "This build has no data plane yet.")),
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
