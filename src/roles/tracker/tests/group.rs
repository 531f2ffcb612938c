//! Groups: permissions, notices, tickets.

use super::{
    client::{admit, group, user},
    cluster::Cluster,
};
use crate::protocol::{
    client::{Answer, LeaveOutcome, Notice, Request, Standing},
    error::ErrorCode,
    ticket::Ticket,
};

#[tokio::test(start_paused = true)]
async fn the_life_of_a_group_across_two_trackers() {
    let cluster = Cluster::new(2).await;
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    ann.register("ann").await;
    bob.register("bob").await;
    let id = ann.create_group("films").await;
    bob.seen.merge(&ann.seen);
    assert_eq!(bob.refused(Request::CreateGroup { group: group("films") }).await, ErrorCode::GroupExists);
    assert_eq!(bob.refused(Request::ListMembers { group: group("films"), skip: 0 }).await, ErrorCode::NotAMember);
    assert_eq!(bob.refused(Request::GetTicket { group: id }).await, ErrorCode::NotAMember);

    bob.done(Request::JoinGroup { group: group("films") }).await;
    let asked = ann.notice(|notice| match notice {
        Notice::JoinRequested { user, .. } => Some(user.clone()),
        _ => None,
    });
    assert_eq!(asked.await, user("bob"));
    assert_eq!(bob.refused(Request::JoinGroup { group: group("films") }).await, ErrorCode::AlreadyRequested);
    let accept = Request::AcceptRequest { group: group("films"), user: user("bob") };
    assert_eq!(bob.refused(accept.clone()).await, ErrorCode::NotOwner);
    ann.done(accept).await;
    bob.notice(|notice| matches!(notice, Notice::RequestAccepted { .. }).then_some(())).await;
    assert_eq!(bob.find_group("films").await.standing, Standing::Member);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let Ok(Answer::Members { members, .. }) = bob.ask(Request::ListMembers { group: group("films"), skip: 0 }).await
    else {
        panic!("no members")
    };
    assert!(members.iter().all(|member| member.online) && members.len() == 2, "{members:?}");

    let leave = ann.ask(Request::LeaveGroup { group: group("films") }).await;
    assert_eq!(leave, Ok(Answer::Left { outcome: LeaveOutcome::Passed(user("bob")) }));
    bob.notice(|notice| matches!(notice, Notice::OwnerNow { .. }).then_some(())).await;
    let leave = bob.ask(Request::LeaveGroup { group: group("films") }).await;
    assert_eq!(leave, Ok(Answer::Left { outcome: LeaveOutcome::Dissolved }));
    assert_eq!(bob.refused(Request::FindGroup { group: group("films") }).await, ErrorCode::NoSuchGroup);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_signed_by_a_tracker_that_others_vouch_for_though_its_clock_is_off() {
    let cluster = Cluster::with_clocks(&[0, 3_600_000]).await;
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    ann.register("ann").await;
    bob.register("bob").await;
    let id = ann.create_group("films").await;
    bob.seen.merge(&ann.seen);
    admit(&mut ann, &mut bob, "bob", "films").await;
    let Ok(Answer::Ticket(signed)) = bob.ask(Request::GetTicket { group: id }).await else { panic!("no ticket") };
    assert_eq!(signed.signer, cluster.tracker(2).key());

    ann.dial(&cluster.info, 1).await;
    let vouched = ann.trackers.iter().find(|identity| identity.key == signed.signer).unwrap();
    let signer_now_ms = ann.tracker_now_ms.saturating_add_signed(vouched.clock_offset_ms);
    let ticket: Ticket = signed.open(signer_now_ms).unwrap();
    assert_eq!((ticket.group, ticket.device), (id, bob.device()));
    assert!(signed.open::<Ticket>(ann.tracker_now_ms).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_removed_member_is_told_and_gets_no_ticket() {
    let cluster = Cluster::new(2).await;
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    ann.register("ann").await;
    bob.register("bob").await;
    let id = ann.create_group("films").await;
    bob.seen.merge(&ann.seen);
    admit(&mut ann, &mut bob, "bob", "films").await;
    ann.done(Request::RemoveMember { group: group("films"), user: user("bob") }).await;
    let removed = bob.notice(|notice| match notice {
        Notice::MemberRemoved { id, .. } => Some(*id),
        _ => None,
    });
    assert_eq!(removed.await, id);
    assert_eq!(bob.refused(Request::GetTicket { group: id }).await, ErrorCode::NotAMember);
}
