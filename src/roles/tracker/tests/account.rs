//! Registering, logging in, sessions, throttling.

use super::{
    client::{admit, group, password, user},
    cluster::Cluster,
};
use crate::protocol::{
    client::{Answer, Notice, Request, SessionEntry},
    device::DeviceSecret,
    error::{ErrorCode, Failure},
    ids::SessionId,
    ticket::{SESSION_LIFE, Session, SessionRef, Signed},
};

#[tokio::test(start_paused = true)]
async fn an_account_is_registered_once_and_logs_in_at_any_tracker() {
    let cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let mut other = cluster.client(2, 2).await;
    let again = Request::CreateUser { user: user("ann"), password: password("other") };
    assert_eq!(other.refused(again).await, ErrorCode::UserExists);
    assert_eq!(other.log_in("ann", "secret").await.unwrap().name, user("ann"));
    assert_eq!(other.log_in("ann", "wrong").await.unwrap_err().code, ErrorCode::BadCredentials);
    assert_eq!(other.log_in("nobody", "secret").await.unwrap_err().code, ErrorCode::BadCredentials);
    let weak = Request::CreateUser { user: user("bob"), password: password("") };
    assert_eq!(other.refused(weak).await, ErrorCode::WeakPassword);
}

#[tokio::test(start_paused = true)]
async fn nothing_but_registering_works_without_a_session() {
    let cluster = Cluster::new(1).await;
    let mut client = cluster.client(1, 1).await;
    assert_eq!(client.refused(Request::ListGroups { skip: 0 }).await, ErrorCode::NotLoggedIn);
    client.register("ann").await;
    assert!(client.ask(Request::ListGroups { skip: 0 }).await.is_ok());
    client.done(Request::Logout).await;
    assert_eq!(client.refused(Request::ListGroups { skip: 0 }).await, ErrorCode::NotLoggedIn);
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_at_another_tracker_but_not_on_another_device() {
    let cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let info = ann.dial(&cluster.info, 2).await.unwrap().unwrap();
    assert_eq!(info.name, user("ann"));
    assert!(ann.ask(Request::ListGroups { skip: 0 }).await.is_ok());
    let mut thief = cluster.client(2, 1).await;
    thief.session.clone_from(&ann.session);
    assert!(thief.dial(&cluster.info, 2).await.unwrap().is_err());
    assert_eq!(thief.refused(Request::ListGroups { skip: 0 }).await, ErrorCode::NotLoggedIn);
}

#[tokio::test(start_paused = true)]
async fn a_new_password_ends_the_sessions_of_other_devices() {
    let cluster = Cluster::with_clocks(&[3_600_000, 0]).await;
    let (mut here, mut there) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    here.register("ann").await;
    there.seen.merge(&here.seen);
    there.log_in("ann", "secret").await.unwrap();
    let change = Request::ChangePassword { old: password("secret"), new: password("better") };
    assert!(matches!(here.ask(change).await, Ok(Answer::LoggedIn { .. })));
    there.notice(|notice| (*notice == Notice::SessionEnded).then_some(())).await;
    assert_eq!(there.refused(Request::ListGroups { skip: 0 }).await, ErrorCode::NotLoggedIn);
    assert!(there.dial(&cluster.info, 1).await.unwrap().is_err());
    assert!(there.log_in("ann", "secret").await.is_err());
    there.log_in("ann", "better").await.unwrap();
    // The device that changed it goes on, here and at the other tracker, whatever the clocks say.
    assert!(here.ask(Request::ListGroups { skip: 0 }).await.is_ok());
    assert!(here.dial(&cluster.info, 2).await.unwrap().is_ok());
    let wrong = Request::ChangePassword { old: password("secret"), new: password("x") };
    assert_eq!(here.refused(wrong).await, ErrorCode::BadCredentials);
}

#[tokio::test(start_paused = true)]
async fn a_password_change_whose_answer_was_lost_is_answered_elsewhere() {
    let cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let (before, nonce) = (ann.session.clone(), ann.nonce());
    let change = || Request::ChangePassword { old: password("secret"), new: password("better") };
    assert!(matches!(ann.repeat(nonce, change()).await, Ok(Answer::LoggedIn { .. })));
    ann.session.clone_from(&before);
    assert!(ann.dial(&cluster.info, 2).await.unwrap().is_ok(), "the session goes on that changed it");
    assert!(matches!(ann.repeat(nonce, change()).await, Ok(Answer::LoggedIn { .. })));
    assert!(ann.ask(Request::ListGroups { skip: 0 }).await.is_ok());
    assert!(ann.dial(&cluster.info, 1).await.unwrap().is_ok(), "the session handed out counts");
    // Another device has no such request, and an old repeat opens nothing once there is a newer password.
    let mut thief = cluster.client(2, 2).await;
    assert_eq!(thief.repeat(nonce, change()).await.unwrap_err().code, ErrorCode::NotLoggedIn);
    let again = Request::ChangePassword { old: password("better"), new: password("best") };
    assert!(ann.ask(again).await.is_ok());
    ann.session = before;
    ann.dial(&cluster.info, 2).await;
    assert_eq!(ann.repeat(nonce, change()).await.unwrap_err().code, ErrorCode::NotLoggedIn);
}

#[tokio::test(start_paused = true)]
async fn a_password_change_made_on_both_sides_of_a_partition_does_not_end_its_own_session() {
    let cluster = Cluster::with_clocks(&[3_600_000, 0]).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    cluster.settle().await;
    cluster.network.cut(1, 2);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let (session, seen, nonce) = (ann.session.clone(), ann.seen.clone(), ann.nonce());
    let change = || Request::ChangePassword { old: password("secret"), new: password("better") };
    assert!(matches!(ann.repeat(nonce, change()).await, Ok(Answer::LoggedIn { .. })));
    // The answer was lost: she asks the other one, whose clock is an hour behind.
    (ann.session, ann.seen) = (session, seen);
    assert!(ann.dial(&cluster.info, 2).await.unwrap().is_ok());
    assert!(matches!(ann.repeat(nonce, change()).await, Ok(Answer::LoggedIn { .. })));
    assert!(ann.dial(&cluster.info, 1).await.unwrap().is_ok(), "the password is the one it was opened with");
    cluster.network.heal(1, 2);
    cluster.settle().await;
    assert!(ann.ask(Request::ListGroups { skip: 0 }).await.is_ok());
    assert!(ann.dial(&cluster.info, 2).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_session_of_a_tracker_not_met_yet_is_not_refused_for_good() {
    let mut cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    cluster.stop(2).await;
    cluster.lose_disk(2);
    cluster.network.cut(1, 2);
    cluster.start(2).await;
    assert_eq!(ann.dial(&cluster.info, 2).await.unwrap().unwrap_err().code, ErrorCode::Stale);
    assert_eq!(ann.refused(Request::ListGroups { skip: 0 }).await, ErrorCode::NotLoggedIn);
    cluster.network.heal(1, 2);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert!(ann.dial(&cluster.info, 2).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_session_outlives_the_key_of_the_tracker_that_signed_it_where_its_record_does() {
    let mut cluster = Cluster::new(2).await;
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 1).await);
    ann.register("ann").await;
    bob.register("bob").await;
    cluster.settle().await;
    cluster.lose_key_of_first().await;
    for no in [1, 2] {
        assert!(ann.dial(&cluster.info, no).await.unwrap().is_ok(), "at tracker {no}");
        assert!(ann.ask(Request::ListGroups { skip: 0 }).await.is_ok());
    }
    // A statement that no tracker signed is worth what the record of that very device is worth.
    let stranger = DeviceSecret::from_seed([66; 32]);
    let own: Session = bob.session.clone().unwrap().open(0).unwrap();
    let hers: Session = ann.session.clone().unwrap().open(0).unwrap();
    let nobodys = SessionRef { id: SessionId([9; 32]), ..own.session };
    let made_up = [
        hers.clone(),
        Session { device: own.device, ..hers.clone() },
        Session { user: hers.user, ..own.clone() },
        Session { session: nobodys, expires_ms: u64::MAX, ..own },
    ];
    for session in made_up {
        bob.session = Some(Signed::seal(&session, &stranger));
        let refused = bob.dial(&cluster.info, 2).await.unwrap().unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotLoggedIn, "{session:?}");
    }
    // It ends like any other.
    let stolen = ann.session.clone();
    ann.done(Request::Logout).await;
    ann.session = stolen;
    for no in [1, 2] {
        assert_eq!(ann.dial(&cluster.info, no).await.unwrap().unwrap_err().code, ErrorCode::NotLoggedIn);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_of_a_lost_key_ends_with_a_new_password_and_with_its_time() {
    let mut cluster = Cluster::new(2).await;
    let (mut ann, mut bob) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    ann.register("ann").await;
    cluster.settle().await;
    bob.log_in("ann", "secret").await.unwrap();
    cluster.lose_key_of_first().await;
    let hers: Session = ann.session.clone().unwrap().open(0).unwrap();
    assert!(ann.dial(&cluster.info, 2).await.unwrap().is_ok());
    bob.dial(&cluster.info, 2).await;
    let change = Request::ChangePassword { old: password("secret"), new: password("better") };
    assert!(matches!(bob.ask(change).await, Ok(Answer::LoggedIn { .. })));
    // It says that it was opened with the new password: the record knows better.
    let bobs: Session = bob.session.clone().unwrap().open(0).unwrap();
    let later = SessionRef { opened_with: bobs.session.opened_with, ..hers.session };
    let stranger = DeviceSecret::from_seed([66; 32]);
    ann.session = Some(Signed::seal(&Session { session: later, ..hers }, &stranger));
    assert_eq!(ann.dial(&cluster.info, 2).await.unwrap().unwrap_err().code, ErrorCode::NotLoggedIn);
    // Thirty days later nobody is logged in by a record alone.
    bob.session = Some(Signed::seal(&Session { expires_ms: u64::MAX, ..bobs }, &stranger));
    assert!(bob.dial(&cluster.info, 2).await.unwrap().is_ok());
    cluster.stop(2).await;
    cluster.set_clock_ahead(2, SESSION_LIFE);
    cluster.start(2).await;
    assert_eq!(bob.dial(&cluster.info, 2).await.unwrap().unwrap_err().code, ErrorCode::NotLoggedIn);
}

#[tokio::test(start_paused = true)]
async fn guessing_gets_slow() {
    let cluster = Cluster::new(1).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let mut guesser = cluster.client(2, 1).await;
    for _ in 0..5 {
        assert_eq!(guesser.log_in("ann", "guess").await.unwrap_err().code, ErrorCode::BadCredentials);
    }
    let failure = guesser.log_in("ann", "secret").await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::TooManyAttempts);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    guesser.dial(&cluster.info, 1).await;
    guesser.log_in("ann", "secret").await.unwrap();
}

fn sessions(answer: Result<Answer, Failure>) -> Vec<SessionEntry> {
    match answer {
        Ok(Answer::Sessions(sessions)) => sessions,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_are_listed_and_ended_from_another_device() {
    let cluster = Cluster::new(2).await;
    let (mut here, mut there) = (cluster.client(1, 1).await, cluster.client(2, 2).await);
    here.register("ann").await;
    there.seen.merge(&here.seen);
    there.log_in("ann", "secret").await.unwrap();
    here.seen.merge(&there.seen);
    let all = sessions(here.ask(Request::ListSessions).await);
    let devices: Vec<_> = all.iter().map(|entry| (entry.device, entry.current)).collect();
    assert_eq!(devices, [(here.device(), true), (there.device(), false)]);
    here.done(Request::EndSession { session: all[1].session }).await;
    there.notice(|notice| (*notice == Notice::SessionEnded).then_some(())).await;
    assert_eq!(there.refused(Request::ListGroups { skip: 0 }).await, ErrorCode::NotLoggedIn);
    for no in [1, 2] {
        assert!(there.dial(&cluster.info, no).await.unwrap().is_err(), "its session counts at no tracker");
    }
    let again = Request::EndSession { session: all[1].session };
    assert_eq!(here.refused(again).await, ErrorCode::NoSuchSession);
    // Nobody ends another user's.
    let mut bob = cluster.client(3, 1).await;
    bob.register("bob").await;
    assert_eq!(bob.refused(Request::EndSession { session: all[0].session }).await, ErrorCode::NoSuchSession);
}

#[tokio::test(start_paused = true)]
async fn a_logout_ends_the_session_at_every_tracker() {
    let cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let stolen = ann.session.clone();
    ann.done(Request::Logout).await;
    ann.done(Request::Logout).await;
    ann.session = stolen;
    for no in [1, 2] {
        assert!(ann.dial(&cluster.info, no).await.unwrap().is_err());
        assert_eq!(ann.refused(Request::ListGroups { skip: 0 }).await, ErrorCode::NotLoggedIn);
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_replaces_the_one_before_on_its_device_and_the_oldest_of_too_many() {
    let cluster = Cluster::new(1).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let first = ann.session.clone();
    ann.dial(&cluster.info, 1).await;
    ann.log_in("ann", "secret").await.unwrap();
    assert_eq!(sessions(ann.ask(Request::ListSessions).await).len(), 1);
    let latest = std::mem::replace(&mut ann.session, first);
    assert!(ann.dial(&cluster.info, 1).await.unwrap().is_err());
    ann.session = latest;
    for number in 10..30 {
        cluster.client(number, 1).await.log_in("ann", "secret").await.unwrap();
    }
    assert!(ann.dial(&cluster.info, 1).await.unwrap().is_err(), "the oldest of too many has ended");
    ann.log_in("ann", "secret").await.unwrap();
    let all = sessions(ann.ask(Request::ListSessions).await);
    assert_eq!(all.len(), 16);
    assert!(all[15].current);
}

#[tokio::test(start_paused = true)]
async fn strangers_lock_nobody_out_who_was_there_before_and_guess_at_all_trackers_together() {
    let cluster = Cluster::new(2).await;
    let mut ann = cluster.client(1, 1).await;
    ann.register("ann").await;
    let mut stranger = cluster.client(2, 1).await;
    for _ in 0..5 {
        assert_eq!(stranger.log_in("ann", "guess").await.unwrap_err().code, ErrorCode::BadCredentials);
    }
    assert_eq!(stranger.log_in("ann", "guess").await.unwrap_err().code, ErrorCode::TooManyAttempts);
    cluster.settle().await;
    let mut another = cluster.client(3, 2).await;
    assert_eq!(another.log_in("ann", "guess").await.unwrap_err().code, ErrorCode::TooManyAttempts);
    // She changes her password, and logs in anew, on the device where she is logged in.
    let change = Request::ChangePassword { old: password("secret"), new: password("better") };
    assert!(matches!(ann.ask(change).await, Ok(Answer::LoggedIn { .. })));
    ann.session = None;
    ann.dial(&cluster.info, 2).await;
    ann.log_in("ann", "better").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_closed_account_leaves_its_groups_and_its_devices() {
    let cluster = Cluster::new(2).await;
    let (mut ann, mut bob, mut cat) =
        (cluster.client(1, 1).await, cluster.client(2, 2).await, cluster.client(3, 1).await);
    ann.register("ann").await;
    bob.register("bob").await;
    ann.create_group("films").await;
    ann.create_group("own").await;
    bob.seen.merge(&ann.seen);
    admit(&mut ann, &mut bob, "bob", "films").await;
    cat.seen.merge(&ann.seen);
    cat.log_in("ann", "secret").await.unwrap();
    let wrong = Request::CloseAccount { password: password("wrong") };
    assert_eq!(ann.refused(wrong).await, ErrorCode::BadCredentials);
    let (nonce, close) = (ann.nonce(), Request::CloseAccount { password: password("secret") });
    assert_eq!(ann.repeat(nonce, close.clone()).await, Ok(Answer::Done));
    bob.seen.merge(&ann.seen);
    bob.notice(|notice| matches!(notice, Notice::OwnerNow { .. }).then_some(())).await;
    assert_eq!(bob.find_group("films").await.members, 1);
    assert_eq!(bob.refused(Request::FindGroup { group: group("own") }).await, ErrorCode::NoSuchGroup);
    cat.notice(|notice| (*notice == Notice::SessionEnded).then_some(())).await;
    // The answer was lost: the repeat finds it done.
    assert!(ann.dial(&cluster.info, 2).await.unwrap().is_err());
    assert_eq!(ann.repeat(nonce, close).await, Ok(Answer::Done));
    assert_eq!(ann.log_in("ann", "secret").await.unwrap_err().code, ErrorCode::BadCredentials);
    let again = Request::CreateUser { user: user("ann"), password: password("secret") };
    assert_eq!(ann.refused(again).await, ErrorCode::UserExists);
}
