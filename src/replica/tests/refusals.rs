//! Each refusal of a write, by its code.

use super::*;
use crate::protocol::{
    hash::Blake3Hash,
    limits::{LISTING_PAGE, MAX_GROUP_REQUESTS, MAX_OWN_GROUPS, MAX_OWN_REQUESTS, MAX_SHARED_PIECES},
    manifest::PAGE_PIECES,
    piece::{MAX_FILE_SIZE, PIECE_SIZE},
};

fn settled() -> (Cluster, UserId, UserId, UserId, GroupId) {
    let mut cluster = Cluster::new(2);
    let [ann, bob, cat] = ["ann", "bob", "cat"].map(|name| cluster.register(0, name));
    cluster.write(0, ann, &create("g")).unwrap();
    cluster.write(0, bob, &join("g")).unwrap();
    cluster.write(0, ann, &accept("g", "bob")).unwrap();
    cluster.write(0, ann, &share(cluster.group(0, "g"), "f", 1)).unwrap();
    let id = cluster.group(0, "g");
    (cluster, ann, bob, cat, id)
}

#[test]
fn every_refusal_has_its_code() {
    use ErrorCode as E;
    let (mut cluster, ann, bob, cat, id) = settled();
    let nowhere = GroupId([9; 32]);
    let cases = [
        (ann, create("g"), E::GroupExists),
        (ann, create("a~1"), E::InvalidName),
        (ann, join("none"), E::NoSuchGroup),
        (bob, join("g"), E::AlreadyMember),
        (ann, join("g"), E::AlreadyMember),
        (cat, leave("g"), E::NotAMember),
        (cat, leave("none"), E::NoSuchGroup),
        (bob, accept("g", "cat"), E::NotOwner),
        (ann, accept("none", "cat"), E::NoSuchGroup),
        (ann, accept("g", "eve"), E::NoSuchUser),
        (ann, accept("g", "cat"), E::NoSuchRequest),
        (ann, accept("g", "bob"), E::AlreadyMember),
        (cat, reject("g", "bob"), E::NotOwner),
        (ann, reject("g", "cat"), E::NoSuchRequest),
        (ann, reject("g", "bob"), E::NoSuchRequest),
        (bob, remove("g", "ann"), E::NotOwner),
        (ann, remove("g", "cat"), E::NotAMember),
        (ann, remove("g", "ann"), E::Usage),
        (bob, transfer("g", "bob"), E::NotOwner),
        (ann, transfer("g", "cat"), E::NotAMember),
        (ann, share(id, "f", 1), E::AlreadyShared),
        (bob, share(id, "f", 2), E::FileExists),
        (cat, share(id, "f", 1), E::NotAMember),
        (cat, share(nowhere, "f", 1), E::NoSuchGroup),
        (bob, stop(id, "f", 1), E::NotShared),
        (UserId([9; 32]), create("h"), E::Stale),
    ];
    for (who, command, code) in cases {
        let refused = cluster.write(0, who, &command).unwrap_err();
        assert_eq!(refused.code, code, "{command:?}: {}", refused.message);
    }
}

#[test]
fn a_pending_request_is_not_repeated() {
    let (mut cluster, _, _, cat, _) = settled();
    cluster.write(0, cat, &join("g")).unwrap();
    assert_eq!(cluster.write(0, cat, &join("g")).unwrap_err().code, ErrorCode::AlreadyRequested);
}

#[test]
fn a_taken_user_name_is_refused_and_a_writer_must_be_logged_in() {
    let (mut cluster, ..) = settled();
    let request = cluster.request();
    assert_eq!(cluster.register_as(0, "ann", request).unwrap_err().code, ErrorCode::UserExists);
    assert_eq!(cluster.register_as(0, "eve~2", request).unwrap_err().code, ErrorCode::InvalidName);
    let seen = VersionVector::default();
    let caller = Caller { user: None, device: device(0), seen: &seen };
    let refused = cluster.trackers[0].write(&caller, request, &create("h")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotLoggedIn);
}

#[test]
fn a_tracker_that_is_behind_the_client_says_so() {
    let (mut cluster, ann, _, cat, _) = settled();
    cluster.deliver(0, 1, 0, 4);
    assert_eq!(cluster.write(0, cat, &join("g")), Ok(Answer::Done));
    assert_eq!(cluster.write(1, ann, &accept("g", "cat")).unwrap_err().code, ErrorCode::Stale);
    assert_eq!(cluster.write(1, ann, &leave("g")).unwrap_err().code, ErrorCode::Stale);
    cluster.heal();
    assert_eq!(cluster.write(1, ann, &accept("g", "cat")), Ok(Answer::Done));
}

#[test]
fn listings_come_in_pages() {
    let mut cluster = Cluster::new(1);
    let ann = cluster.register(0, "ann");
    for n in 0..=LISTING_PAGE {
        cluster.write(0, ann, &create(&format!("g{n:04}"))).unwrap();
    }
    let catalog = &cluster.trackers[0].catalog;
    let first = catalog.list_groups(&ann, 0);
    assert_eq!((first.entries.len(), first.more), (LISTING_PAGE, true));
    let last = catalog.list_groups(&ann, LISTING_PAGE);
    assert_eq!((last.entries.len(), last.more), (1, false));
    assert_eq!(last.entries[0].name, group("g0500"));
}

#[test]
fn nobody_owns_more_groups_or_asks_more_often_than_anybody_may() {
    let mut cluster = Cluster::new(1);
    let [ann, bob] = ["ann", "bob"].map(|name| cluster.register(0, name));
    for n in 0..MAX_OWN_GROUPS {
        cluster.write(0, ann, &create(&format!("g{n}"))).unwrap();
    }
    assert_eq!(cluster.write(0, ann, &create("more")).unwrap_err().code, ErrorCode::Usage);
    cluster.write(0, bob, &create("more")).unwrap();
    cluster.write(0, ann, &leave("g0")).unwrap();
    cluster.write(0, ann, &create("again")).unwrap();
    for n in 1..=MAX_OWN_REQUESTS {
        cluster.write(0, bob, &join(&format!("g{n}"))).unwrap();
    }
    assert_eq!(cluster.write(0, bob, &join("again")).unwrap_err().code, ErrorCode::Usage);
    cluster.write(0, bob, &leave("g1")).unwrap();
    cluster.write(0, ann, &accept("g2", "bob")).unwrap();
    cluster.write(0, bob, &join("again")).unwrap();
    cluster.write(0, bob, &join("g1")).unwrap();
    assert_eq!(cluster.write(0, bob, &join("g2000")).unwrap_err().code, ErrorCode::Usage);
}

#[test]
fn a_group_has_so_many_pending_requests_and_no_more() {
    let mut cluster = Cluster::new(1);
    let [ann, zoe] = ["ann", "zoe"].map(|name| cluster.register(0, name));
    cluster.write(0, ann, &create("g")).unwrap();
    for n in 0..MAX_GROUP_REQUESTS {
        let user = cluster.register(0, &format!("user{n}"));
        cluster.write(0, user, &join("g")).unwrap();
    }
    assert_eq!(cluster.write(0, zoe, &join("g")).unwrap_err().code, ErrorCode::Usage);
    cluster.write(0, ann, &reject("g", "user7")).unwrap();
    cluster.write(0, zoe, &join("g")).unwrap();
}

/// The manifest of a file as large as may be.
fn largest(n: u64) -> ManifestHeader {
    let pages = usize::try_from(MAX_FILE_SIZE / (u64::from(PIECE_SIZE) * u64::from(PAGE_PIECES))).unwrap();
    ManifestHeader {
        size: MAX_FILE_SIZE,
        pages: vec![Blake3Hash([0; 32]); pages].into_iter().collect(),
        ..manifest(&format!("file{n}"), 0)
    }
}

#[test]
fn nobody_fills_the_trackers_with_manifests() {
    let mut cluster = Cluster::new(1);
    let [ann, bob] = ["ann", "bob"].map(|name| cluster.register(0, name));
    for (user, name) in [(ann, "hers"), (bob, "his")] {
        cluster.write(0, user, &create(name)).unwrap();
    }
    let [hers, his] = ["hers", "his"].map(|name| cluster.group(0, name));
    let share = |group, n| Command::Share { group, manifest: largest(n) };
    let most = MAX_SHARED_PIECES * u64::from(PIECE_SIZE) / MAX_FILE_SIZE;
    for n in 0..most {
        cluster.write(0, ann, &share(hers, n)).unwrap();
    }
    assert_eq!(cluster.write(0, ann, &share(hers, most)).unwrap_err().code, ErrorCode::Usage);
    cluster.write(0, bob, &share(his, most)).unwrap();
    cluster.write(0, ann, &Command::StopShare { file: FileId::of(&hers, &largest(0).id()) }).unwrap();
    cluster.write(0, ann, &share(hers, most)).unwrap();
    // What ends with a membership counts no more.
    cluster.write(0, ann, &leave("hers")).unwrap();
    assert_eq!(cluster.trackers[0].catalog.shared_pieces(&ann), 0);
    assert_eq!(cluster.trackers[0].catalog.shared_pieces(&bob), MAX_FILE_SIZE / u64::from(PIECE_SIZE));
}
