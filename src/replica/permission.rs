//! Who may do what: found, or refused with the contract's code and a sentence.

use super::{catalog::Catalog, membership::Membership};
use crate::protocol::{
    client::Standing,
    error::{ErrorCode, Failure},
    ids::{FileId, GroupId, UserId},
    name::{FileName, GroupName, UserName},
};

/// The live group called `name`, or `no_such_group`.
pub fn group(catalog: &Catalog, name: &GroupName) -> Result<GroupId, Failure> {
    catalog.group_named(name).ok_or_else(|| {
        Failure::new(ErrorCode::NoSuchGroup, format!("There is no group {name}. list_groups shows those there are."))
    })
}

/// The user called `name`, or `no_such_user`.
pub fn user(catalog: &Catalog, name: &UserName) -> Result<UserId, Failure> {
    catalog.user_named(name).ok_or_else(|| {
        Failure::new(ErrorCode::NoSuchUser, format!("There is no user {name}. Check the spelling; case counts."))
    })
}

/// The caller's membership of a live group, or `no_such_group` or `not_a_member`.
pub fn member(catalog: &Catalog, caller: &UserId, group: &GroupId) -> Result<Membership, Failure> {
    let name = catalog.group_name(group).ok_or_else(|| {
        Failure::new(ErrorCode::NoSuchGroup, "This group no longer exists. list_groups shows those there are.")
    })?;
    catalog.membership(group, caller).ok_or_else(|| {
        let next = match catalog.standing(group, caller) {
            Standing::Requested => "Your request is pending: its owner has to accept it first.".to_owned(),
            _ => format!("Ask to join with: join_group {name}"),
        };
        Failure::new(ErrorCode::NotAMember, format!("You are no member of {name}. {next}"))
    })
}

/// Whether the caller owns a live group; `no_such_group` or `not_owner` otherwise.
pub fn owner(catalog: &Catalog, caller: &UserId, group: &GroupId) -> Result<(), Failure> {
    let name = catalog.group_name(group).ok_or_else(|| {
        Failure::new(ErrorCode::NoSuchGroup, "This group no longer exists. list_groups shows those there are.")
    })?;
    let owner = catalog.owner(group);
    if owner == Some(*caller) {
        return Ok(());
    }
    let who = owner.and_then(|owner| catalog.user_name(&owner)).map_or("another user", UserName::as_str);
    Err(Failure::new(ErrorCode::NotOwner, format!("Only the owner of {name} may do this: ask {who}.")))
}

/// The listed file called `name` in a group, or `no_such_file`.
pub fn file(catalog: &Catalog, group: &GroupId, name: &FileName) -> Result<FileId, Failure> {
    catalog.file_named(group, name).ok_or_else(|| {
        let of = catalog.group_name(group).map_or("the group", GroupName::as_str);
        let message = format!("There is no file {name} in {of}. list_files {of} shows those there are.");
        Failure::new(ErrorCode::NoSuchFile, message)
    })
}
