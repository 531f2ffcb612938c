//! One test a rule of the replication table.

use super::*;
use crate::protocol::{client::LeaveOutcome, ticket::SessionRef};

/// Two trackers in sync: ann owns `g`; bob and cat are members, in this order; dan is registered.
fn settled() -> (Cluster, [UserId; 4], GroupId) {
    let mut cluster = Cluster::new(2);
    let [ann, bob, cat, dan] = ["ann", "bob", "cat", "dan"].map(|name| cluster.register(0, name));
    cluster.write(0, ann, &create("g")).unwrap();
    for (who, name) in [(bob, "bob"), (cat, "cat")] {
        cluster.write(0, who, &join("g")).unwrap();
        cluster.write(0, ann, &accept("g", name)).unwrap();
    }
    cluster.heal();
    let id = cluster.group(0, "g");
    (cluster, [ann, bob, cat, dan], id)
}

#[test]
fn one_name_on_both_sides_stays_with_the_earlier_claim() {
    let mut cluster = Cluster::new(2);
    let first = cluster.register(0, "ann");
    cluster.trackers[1].wall_ms += 1_000;
    let second = cluster.register(1, "ann");
    cluster.sync(0, 1);
    assert_eq!((cluster.name(0, first), cluster.name(0, second)), ("ann".into(), "ann~2".into()));
    assert_eq!(cluster.trackers[0].catalog.claimants(&user("ann")).collect::<Vec<_>>(), [first, second]);
    assert_eq!(cluster.trackers[1].catalog.user_named(&user("ann~2")), Some(second));
    cluster.assert_converged();
}

#[test]
fn a_lost_claim_is_told_where_the_name_changes() {
    let mut cluster = Cluster::new(2);
    cluster.register(0, "ann");
    cluster.trackers[1].wall_ms += 1_000;
    let second = cluster.register(1, "ann");
    let renamed = Effect::UserRenamed { user: second, from: user("ann"), to: user("ann~2") };
    assert_eq!(cluster.deliver(0, 1, 0, 1), std::slice::from_ref(&renamed));
    assert_eq!(cluster.deliver(1, 0, 1, 1), [renamed]);
}

#[test]
fn three_claims_two_of_one_number() {
    let mut cluster = Cluster::new(3);
    cluster.trackers[2].no = TrackerNo(2);
    let ids: Vec<_> = (0..3)
        .map(|t| {
            cluster.trackers[t].wall_ms += 1_000 * t as u64;
            cluster.register(t, "ann")
        })
        .collect();
    cluster.heal();
    assert_eq!(ids.iter().map(|id| cluster.name(0, *id)).collect::<Vec<_>>(), ["ann", "ann~2", "ann~2.1"]);
}

#[test]
fn groups_of_one_name_keep_their_members_apart() {
    let mut cluster = Cluster::new(2);
    let [ann, bob] = ["ann", "bob"].map(|name| cluster.register(0, name));
    cluster.heal();
    cluster.write(0, ann, &create("g")).unwrap();
    cluster.trackers[1].wall_ms += 1_000;
    cluster.write(1, bob, &create("g")).unwrap();
    cluster.heal();
    let (first, second) = (cluster.group(0, "g"), cluster.group(0, "g~2"));
    assert_eq!(cluster.standing(1, first, ann), Standing::Owner);
    assert_eq!(cluster.standing(1, first, bob), Standing::None);
    assert_eq!(cluster.standing(0, second, bob), Standing::Owner);
    cluster.write(0, ann, &leave("g")).unwrap();
    assert_eq!(cluster.group(0, "g"), second);
}

#[test]
fn files_of_one_name_and_other_content_are_both_kept() {
    let (mut cluster, [ann, bob, ..], id) = settled();
    cluster.write(0, ann, &share(id, "f", 1)).unwrap();
    cluster.trackers[1].wall_ms += 1_000;
    cluster.write(1, bob, &share(id, "f", 2)).unwrap();
    cluster.write(1, ann, &share(id, "f~2", 3)).unwrap();
    cluster.heal();
    let names = |cluster: &Cluster| {
        let files = cluster.trackers[1].catalog.list_files(&id, 0).entries;
        files.into_iter().map(|file| (file.name.to_string(), file.sha1.0[0])).collect::<Vec<_>>()
    };
    assert_eq!(names(&cluster), [("f".into(), 1), ("f~2".into(), 3), ("f~2.1".into(), 2)]);
    cluster.write(1, ann, &stop(id, "f", 1)).unwrap();
    assert_eq!(names(&cluster), [("f".into(), 2), ("f~2".into(), 3)]);
}

#[test]
fn leaving_beats_a_concurrent_accept() {
    let (mut cluster, [ann, .., dan], id) = settled();
    cluster.write(0, dan, &join("g")).unwrap();
    cluster.heal();
    cluster.write(0, ann, &accept("g", "dan")).unwrap();
    let outcome = LeaveOutcome::Withdrawn;
    assert_eq!(cluster.write(1, dan, &leave("g")), Ok(Answer::Left { outcome }));
    cluster.heal();
    assert_eq!(cluster.standing(0, id, dan), Standing::None);
}

#[test]
fn leaving_ends_what_the_client_had_seen_elsewhere() {
    let (mut cluster, [ann, .., dan], id) = settled();
    cluster.write(0, dan, &join("g")).unwrap();
    cluster.write(0, ann, &accept("g", "dan")).unwrap();
    let seen = cluster.trackers[0].catalog.vector().clone();
    cluster.seen.insert(dan, seen);
    assert!(cluster.write(1, dan, &leave("g")).is_ok(), "the tracker has yet to hear of the membership");
    cluster.heal();
    assert_eq!(cluster.standing(1, id, dan), Standing::None);
}

#[test]
fn two_requests_read_as_one_and_end_as_one() {
    let (mut cluster, [ann, .., dan], id) = settled();
    cluster.write(0, dan, &join("g")).unwrap();
    cluster.write(1, dan, &join("g")).unwrap();
    cluster.heal();
    assert_eq!(cluster.trackers[0].catalog.list_requests(&id, 0).entries.len(), 1);
    cluster.write(0, ann, &accept("g", "dan")).unwrap();
    assert_eq!(cluster.standing(0, id, dan), Standing::Member);
    assert_eq!(cluster.trackers[0].catalog.list_requests(&id, 0).entries, []);
    cluster.write(0, dan, &leave("g")).unwrap();
    cluster.heal();
    assert_eq!(cluster.standing(1, id, dan), Standing::None);
    cluster.write(1, dan, &join("g")).unwrap();
    assert_eq!(cluster.standing(1, id, dan), Standing::Requested);
}

#[test]
fn a_group_passes_in_the_order_of_acceptance_and_dissolves_with_the_last() {
    let (mut cluster, [ann, bob, cat, _], id) = settled();
    let passed = |name| Ok(Answer::Left { outcome: LeaveOutcome::Passed(user(name)) });
    assert_eq!(cluster.write(0, ann, &leave("g")), passed("bob"));
    assert_eq!(cluster.standing(0, id, bob), Standing::Owner);
    assert_eq!(cluster.write(0, ann, &join("g")), Ok(Answer::Done));
    assert_eq!(cluster.write(0, bob, &accept("g", "ann")), Ok(Answer::Done));
    assert_eq!(cluster.standing(0, id, bob), Standing::Owner, "ownership does not come back with its first holder");
    assert_eq!(cluster.write(0, bob, &leave("g")), passed("cat"));
    assert_eq!(cluster.write(0, cat, &leave("g")), passed("ann"));
    assert_eq!(cluster.write(0, ann, &leave("g")), Ok(Answer::Left { outcome: LeaveOutcome::Dissolved }));
    cluster.heal();
    assert!(cluster.trackers[1].catalog.group_named(&group("g")).is_none());
    cluster.write(1, cat, &create("g")).unwrap();
    assert_ne!(cluster.group(1, "g"), id);
}

#[test]
fn those_who_owned_a_group_by_succession_may_accept() {
    let (mut cluster, [ann, bob, cat, dan], id) = settled();
    cluster.write(0, ann, &leave("g")).unwrap();
    cluster.write(0, bob, &transfer("g", "cat")).unwrap();
    cluster.write(0, cat, &leave("g")).unwrap();
    cluster.write(0, dan, &join("g")).unwrap();
    cluster.write(0, bob, &accept("g", "dan")).unwrap();
    cluster.heal();
    assert_eq!(cluster.standing(1, id, dan), Standing::Member);
}

#[test]
fn the_last_hand_over_wins() {
    let (mut cluster, [ann, bob, cat, _], id) = settled();
    cluster.write(0, ann, &transfer("g", "bob")).unwrap();
    cluster.trackers[1].wall_ms += 1_000;
    cluster.write(1, ann, &transfer("g", "cat")).unwrap();
    cluster.heal();
    assert_eq!(cluster.standing(0, id, cat), Standing::Owner);
    assert_eq!(cluster.standing(0, id, bob), Standing::Member);
    assert_eq!(cluster.standing(0, id, ann), Standing::Member);
}

#[test]
fn an_accept_concurrent_with_the_loss_of_ownership_is_void() {
    let (mut cluster, [ann, bob, _, dan], id) = settled();
    cluster.write(0, dan, &join("g")).unwrap();
    cluster.heal();
    cluster.write(0, ann, &transfer("g", "bob")).unwrap();
    cluster.write(0, bob, &remove("g", "ann")).unwrap();
    cluster.write(1, ann, &accept("g", "dan")).unwrap();
    assert_eq!(cluster.standing(1, id, dan), Standing::Member);
    cluster.heal();
    assert_eq!(cluster.standing(1, id, dan), Standing::Requested);
    cluster.write(1, bob, &accept("g", "dan")).unwrap();
    cluster.heal();
    assert_eq!(cluster.standing(0, id, dan), Standing::Member);
}

#[test]
fn an_accept_before_the_loss_of_ownership_stays() {
    let (mut cluster, [ann, .., dan], id) = settled();
    cluster.write(0, dan, &join("g")).unwrap();
    cluster.write(0, ann, &accept("g", "dan")).unwrap();
    cluster.write(0, ann, &leave("g")).unwrap();
    cluster.heal();
    assert_eq!(cluster.standing(1, id, dan), Standing::Member);
}

#[test]
fn a_change_whose_author_had_no_right_has_no_effect() {
    let (mut cluster, [_, bob, cat, dan], id) = settled();
    cluster.write(0, dan, &join("g")).unwrap();
    let made = |tracker: &Tracker, counter| Dot { origin: tracker.key, counter };
    let every_dot: Vec<_> = (1..20).map(|counter| made(&cluster.trackers[0], counter)).collect();
    let past = cluster.trackers[0].catalog.vector().clone();
    let (membership, ..) = cluster.trackers[0].catalog.groups[&id].request(&dan).unwrap();
    let heir = cluster.trackers[0].catalog.membership(&id, &bob).unwrap().id;
    let rests_on = every_dot;
    let reason = crate::protocol::record::EndReason::Removed;
    let bodies = [
        ChangeBody::MembershipAccepted { group: id, membership, by: bob, rests_on: rests_on.clone() },
        ChangeBody::MembershipEnded {
            group: id,
            user: cat,
            by: bob,
            reason,
            past: past.clone(),
            rests_on: rests_on.clone(),
        },
        ChangeBody::OwnerSet { group: id, by: bob, owner: bob, membership: heir, past, rests_on },
    ];
    let before = cluster.answers(&cluster.trackers[0].catalog);
    for (body, counter) in bodies.into_iter().zip(1..) {
        let request = cluster.request();
        let tracker = &mut cluster.trackers[1];
        let (dot, at) = (made(tracker, counter), tracker.clock.tick(tracker.wall_ms));
        let change = Change { dot, at, taken_by: tracker.no, request, body };
        assert_eq!(cluster.trackers[0].take(&change), []);
    }
    assert_eq!(cluster.answers(&cluster.trackers[0].catalog), before);
}

#[test]
fn shares_end_with_their_membership_and_not_with_another() {
    let (mut cluster, [ann, bob, ..], id) = settled();
    cluster.write(0, bob, &share(id, "f", 1)).unwrap();
    cluster.write(0, ann, &remove("g", "bob")).unwrap();
    assert_eq!(cluster.trackers[0].catalog.list_files(&id, 0).entries, []);
    cluster.write(0, bob, &join("g")).unwrap();
    cluster.write(0, ann, &accept("g", "bob")).unwrap();
    cluster.heal();
    assert_eq!(cluster.trackers[1].catalog.list_files(&id, 0).entries, []);
    cluster.write(1, bob, &share(id, "f", 1)).unwrap();
    assert_eq!(cluster.trackers[1].catalog.list_files(&id, 0).entries.len(), 1);
}

#[test]
fn the_same_content_is_one_file_of_two_users() {
    let (mut cluster, [ann, bob, ..], id) = settled();
    cluster.write(0, bob, &share(id, "f", 1)).unwrap();
    cluster.write(1, ann, &share(id, "f", 1)).unwrap();
    cluster.heal();
    let files = cluster.trackers[0].catalog.list_files(&id, 0).entries;
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].shared_by.len(), 2);
    assert!(cluster.trackers[0].catalog.manifest(&id, &manifest("f", 1).id()).is_some());
    assert!(cluster.trackers[0].catalog.manifest(&id, &manifest("f", 2).id()).is_none());
}

#[test]
fn the_last_password_counts_whatever_the_clocks_say() {
    let (mut cluster, [ann, ..], _) = settled();
    let set = new_password;
    cluster.trackers[0].wall_ms += 3_600_000;
    cluster.write(0, ann, &set("first")).unwrap();
    cluster.heal();
    cluster.write(1, ann, &set("second")).unwrap();
    cluster.heal();
    assert_eq!(cluster.trackers[0].catalog.credential(&ann).unwrap().1.0, "second");
}

#[test]
fn a_hand_over_counts_whatever_the_clocks_say() {
    let (mut cluster, [ann, bob, cat, _], id) = settled();
    cluster.trackers[0].wall_ms += 3_600_000;
    cluster.write(0, ann, &transfer("g", "bob")).unwrap();
    cluster.heal();
    cluster.write(1, bob, &transfer("g", "cat")).unwrap();
    cluster.heal();
    assert_eq!(cluster.standing(0, id, cat), Standing::Owner);
}

#[test]
fn a_write_repeated_at_the_other_side_takes_effect_once() {
    let mut cluster = Cluster::new(2);
    let request = cluster.request();
    let ann = cluster.register_as(0, "ann", request).unwrap();
    assert_eq!(cluster.register_as(1, "ann", request), Ok(ann));
    let request = cluster.request();
    let first = cluster.write_as(0, ann, request, &create("g"));
    assert_eq!(cluster.write_as(1, ann, request, &create("g")), first);
    cluster.heal();
    assert_eq!(cluster.name(1, ann), "ann");
    assert_eq!(cluster.trackers[0].catalog.list_groups(&ann, 0).entries.len(), 1);
    assert_eq!(cluster.write_as(1, ann, request, &create("g")), first);
    let id = cluster.group(0, "g");
    let request = cluster.request();
    let shared = cluster.write_as(0, ann, request, &share(id, "f", 1));
    assert_eq!(cluster.write_as(1, ann, request, &share(id, "f", 1)), shared);
    cluster.heal();
    assert_eq!(cluster.trackers[0].catalog.shares_of_device(ann, device(0)).count(), 1);
}

#[test]
fn a_repeated_hand_over_does_not_undo_the_next() {
    let (mut cluster, [ann, bob, cat, _], id) = settled();
    let request = cluster.request();
    cluster.write_as(0, ann, request, &transfer("g", "bob")).unwrap();
    cluster.write(0, bob, &transfer("g", "cat")).unwrap();
    cluster.trackers[1].wall_ms += 1_000;
    cluster.seen.clear();
    cluster.write_as(1, ann, request, &transfer("g", "bob")).unwrap();
    cluster.heal();
    assert_eq!(cluster.standing(0, id, cat), Standing::Owner);
}

#[test]
fn effects_tell_whom_it_concerns() {
    let (mut cluster, [ann, bob, _, dan], id) = settled();
    cluster.write(0, dan, &join("g")).unwrap();
    let asked = Effect::JoinRequested { group: id, user: dan, owner: ann };
    assert_eq!(cluster.deliver(0, 1, 0, 1), [asked]);
    cluster.write(0, ann, &reject("g", "dan")).unwrap();
    assert_eq!(cluster.deliver(0, 1, 0, 1), [Effect::RequestRejected { group: id, user: dan }]);
    cluster.write(0, ann, &share(id, "f", 1)).unwrap();
    let file = FileId::of(&id, &manifest("f", 1).id());
    let (group, device) = (id, device(0));
    assert_eq!(cluster.deliver(0, 1, 0, 1), [Effect::ShareBegun { group, file, user: ann, device }]);
    cluster.write(0, ann, &leave("g")).unwrap();
    let expected = [
        Effect::MembershipEnded { group, user: ann },
        Effect::OwnerNow { group, owner: bob },
        Effect::ShareEnded { group, file, user: ann, device },
    ];
    assert_eq!(cluster.deliver(0, 1, 0, 1), expected);
    cluster.write(0, bob, &remove("g", "cat")).unwrap();
    let cat = cluster.users[2];
    let expected = [Effect::MemberRemoved { group, user: cat }, Effect::MembershipEnded { group, user: cat }];
    assert_eq!(cluster.deliver(0, 1, 0, 1), expected);
    cluster.write(0, dan, &join("g")).unwrap();
    cluster.write(0, bob, &accept("g", "dan")).unwrap();
    assert_eq!(cluster.deliver(0, 1, 0, 2)[1], Effect::RequestAccepted { group, user: dan });
    cluster.write(0, dan, &new_password("new")).unwrap();
    assert_eq!(cluster.deliver(0, 1, 0, 1), [Effect::CredentialChanged { user: dan }]);
}

#[test]
fn a_password_change_that_comes_before_its_registration_is_told_too() {
    let mut cluster = Cluster::new(3);
    let ann = cluster.register(0, "ann");
    cluster.deliver(0, 1, 0, 1);
    cluster.write(1, ann, &new_password("new")).unwrap();
    assert_eq!(cluster.deliver(1, 2, 1, 1), []);
    assert_eq!(cluster.deliver(0, 2, 0, 1), [Effect::CredentialChanged { user: ann }]);
}

#[test]
fn an_owner_by_succession_who_came_back_may_accept() {
    let (mut cluster, [ann, bob, cat, dan], id) = settled();
    cluster.write(0, ann, &leave("g")).unwrap();
    cluster.write(0, ann, &join("g")).unwrap();
    cluster.write(0, bob, &accept("g", "ann")).unwrap();
    cluster.write(0, bob, &leave("g")).unwrap();
    cluster.write(0, cat, &leave("g")).unwrap();
    assert_eq!(cluster.standing(0, id, ann), Standing::Owner);
    cluster.write(0, dan, &join("g")).unwrap();
    cluster.write(0, ann, &accept("g", "dan")).unwrap();
    assert_eq!(cluster.standing(0, id, dan), Standing::Member);
    cluster.write(0, ann, &transfer("g", "dan")).unwrap();
    cluster.heal();
    assert_eq!(cluster.standing(1, id, dan), Standing::Owner);
}

/// A user with two sessions, known everywhere: on `device(0)` both, as where one was opened on each side of a partition.
fn logged_in() -> (Cluster, UserId, [SessionRef; 2]) {
    let mut cluster = Cluster::new(3);
    let ann = cluster.register(0, "ann");
    cluster.heal();
    let opened_with = cluster.trackers[0].catalog.credential(&ann).unwrap().0;
    let sessions = [0, 1].map(|t| {
        let request = cluster.request();
        cluster.write_as(t, ann, request, &Command::OpenSession { opened_with }).unwrap();
        cluster.trackers[t].catalog.session(&ann, &request.into()).unwrap()
    });
    cluster.heal();
    (cluster, ann, sessions)
}

#[test]
fn a_session_is_ended_once_and_by_its_user_alone() {
    let (mut cluster, ann, [one, two]) = logged_in();
    let end = Command::EndSession { session: one.id };
    let bob = cluster.register(0, "bob");
    assert_eq!(cluster.write(0, bob, &end).unwrap_err().code, ErrorCode::NoSuchSession);
    cluster.write(1, ann, &end).unwrap();
    assert_eq!(cluster.write(1, ann, &end).unwrap_err().code, ErrorCode::NoSuchSession);
    // Seen to be ended elsewhere, or opened there: this tracker does not know yet.
    assert!(!cluster.trackers[2].catalog.is_session_over(&ann, &one));
    assert_eq!(cluster.deliver(1, 2, 1, 9), [Effect::SessionsEnded { user: ann }]);
    cluster.heal();
    for tracker in &cluster.trackers {
        let is_over = [one, two].map(|session| tracker.catalog.is_session_over(&ann, &session));
        assert_eq!(is_over, [true, false]);
    }
}

#[test]
fn a_session_counts_where_its_record_has_yet_to_arrive_and_no_longer_once_it_was_forgotten() {
    let (mut cluster, ann, [one, two]) = logged_in();
    assert!(!Catalog::new().is_session_over(&ann, &one));
    cluster.write(0, ann, &Command::EndSession { session: one.id }).unwrap();
    cluster.come_to_rest();
    for tracker in &cluster.trackers {
        assert_eq!(tracker.catalog.opened_sessions(&ann).len(), 1);
        assert!(tracker.catalog.is_session_over(&ann, &one) && !tracker.catalog.is_session_over(&ann, &two));
    }
}

#[test]
fn a_new_password_ends_all_sessions_but_the_one_it_was_set_in() {
    let (mut cluster, ann, [one, two]) = logged_in();
    let change = |keeps| Command::ChangePassword { credential: Credential("new".to_owned()), keeps };
    cluster.write(0, ann, &change(one.id)).unwrap();
    let is_over = |cluster: &Cluster| [one, two].map(|it| cluster.trackers[0].catalog.is_session_over(&ann, &it));
    assert_eq!(is_over(&cluster), [false, true]);
    cluster.write(0, ann, &change(SessionId([9; 32]))).unwrap();
    assert_eq!(is_over(&cluster), [true, true]);
}

#[test]
fn a_closed_account_stays_closed_and_keeps_its_name() {
    let (mut cluster, ann, [one, _]) = logged_in();
    cluster.write(0, ann, &Command::CloseAccount).unwrap();
    // Elsewhere she has set another password meanwhile.
    cluster.write(1, ann, &new_password("new")).unwrap();
    cluster.heal();
    cluster.come_to_rest();
    for t in 0..3 {
        let catalog = &cluster.trackers[t].catalog;
        assert_eq!(catalog.credential(&ann), None);
        assert!(catalog.is_session_over(&ann, &one) && catalog.sessions_of(&ann).is_empty());
        assert_eq!(cluster.write(t, ann, &create("g")).unwrap_err().code, ErrorCode::NotLoggedIn);
        let request = cluster.request();
        assert_eq!(cluster.register_as(t, "ann", request).unwrap_err().code, ErrorCode::UserExists);
    }
}
