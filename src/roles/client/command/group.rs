//! `create_group`, `join_group`, `leave_group`, `remove_member`, `transfer_group`.

use std::sync::Arc;

use super::{Reply, dispatch::order};
use crate::{
    protocol::{
        client::{Answer, LeaveOutcome, Request},
        error::Failure,
        name::{GroupName, UserName},
    },
    roles::client::{Core, Outcome, tracker_link::unexpected},
};

pub(super) async fn create_group(core: &Core, group: GroupName) -> Result<Outcome, Failure> {
    let done = order(core, Request::CreateGroup { group: group.clone() }).await?;
    core.completions().groups.insert(group);
    Ok(done)
}

pub(super) async fn join_group(core: &Core, group: GroupName) -> Result<Outcome, Failure> {
    order(core, Request::JoinGroup { group }).await
}

/// Leaves, then ends here what rested on the membership: the group's identity is asked for first, for afterwards its
/// name may be nobody's.
pub(super) async fn leave_group(core: Arc<Core>, group: GroupName) -> Result<Outcome, Failure> {
    let found = core.tracker.request(Request::FindGroup { group: group.clone() }).await?;
    let Answer::Group(info) = found.answer else { return Err(unexpected(&found.answer)) };
    let answered = core.tracker.request(Request::LeaveGroup { group }).await?;
    let Answer::Left { outcome } = answered.answer else { return Err(unexpected(&answered.answer)) };
    if outcome != LeaveOutcome::Withdrawn {
        core.tracker.forget_ticket(info.group);
        core.exchange.left_group(info.group).await;
    }
    Ok(Outcome { reply: Reply::Left(outcome), stale: answered.stale })
}

pub(super) async fn remove_member(core: &Core, group: GroupName, user: UserName) -> Result<Outcome, Failure> {
    order(core, Request::RemoveMember { group, user }).await
}

pub(super) async fn transfer_group(core: &Core, group: GroupName, user: UserName) -> Result<Outcome, Failure> {
    order(core, Request::TransferGroup { group, user }).await
}
