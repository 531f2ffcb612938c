//! `accept_request`, `reject_request`.

use super::dispatch::order;
use crate::{
    protocol::{
        client::Request,
        error::Failure,
        name::{GroupName, UserName},
    },
    roles::client::{Core, Outcome},
};

pub(super) async fn accept_request(core: &Core, group: GroupName, user: UserName) -> Result<Outcome, Failure> {
    order(core, Request::AcceptRequest { group, user }).await
}

pub(super) async fn reject_request(core: &Core, group: GroupName, user: UserName) -> Result<Outcome, Failure> {
    order(core, Request::RejectRequest { group, user }).await
}
