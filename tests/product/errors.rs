//! Each error code of the contract, met at least once from the outside.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
    thread,
};

use p2p::protocol::error::ErrorCode;

use crate::common::{Client, World, noise, row, write_noise};

type Codes = BTreeSet<String>;

/// Codes that an honest build of this program cannot be brought to show on one machine, and why.
const UNREACHABLE: &[(ErrorCode, &str)] = &[(
    ErrorCode::Protocol,
    "both ends are this build, which speaks its own protocol; the simulation's hostile peers do not",
)];

/// Who says what, and the code it is refused with. Alice owns `films` and shares `shared`; Bob is a member, Carol is none.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("carol", "frobnicate", "unknown_command"),
    ("carol", "create_group", "usage"),
    ("carol", "create_group one two", "usage"),
    ("carol", "set_limit sideways 1MiB", "usage"),
    ("carol", "create_group 'unended", "usage"),
    ("carol", "login carol secret-carol", "already_logged_in"),
    ("carol", "create_user alice password", "user_exists"),
    ("carol", "create_user x ''", "weak_password"),
    ("carol", "create_user -x password", "invalid_name"),
    ("carol", "create_group no/slash", "invalid_name"),
    ("carol", "join_group nowhere", "no_such_group"),
    ("carol", "create_group films", "group_exists"),
    ("carol", "list_files films", "not_a_member"),
    ("carol", "list_members films", "not_a_member"),
    ("carol", "upload_file LICENSE films", "not_a_member"),
    ("carol", "leave_group films", "not_a_member"),
    ("bob", "join_group films", "already_member"),
    ("bob", "accept_request films carol", "not_owner"),
    ("bob", "list_requests films", "not_owner"),
    ("alice", "accept_request films carol", "no_such_request"),
    ("alice", "accept_request films ghost", "no_such_user"),
    ("alice", "transfer_group films ghost", "no_such_user"),
    ("alice", "remove_member films carol", "not_a_member"),
    ("bob", "file_info films nothing", "no_such_file"),
    ("bob", "download_file films nothing /tmp", "no_such_file"),
    ("bob", "end_session 0123abcd", "no_such_session"),
    ("bob", "end_session 'no hex'", "no_such_session"),
    ("alice", "upload_file {world}/shared films", "already_shared"),
    ("bob", "upload_file {world}/other/shared films", "file_exists"),
    ("bob", "stop_share films shared", "not_shared"),
    ("bob", "upload_file {world}/nothing films", "not_readable"),
    ("bob", "upload_file '' films", "empty_path"),
    ("bob", "upload_file {world} films", "is_directory"),
    ("bob", "download_file films shared {world}/other/shared", "destination_exists"),
    ("bob", "download_file films shared {world}/shared/below", "io"),
    ("bob", "pause_download films shared", "no_such_download"),
];

#[test]
fn every_code_of_the_contract_is_met() {
    let parts: [fn() -> Codes; 7] =
        [refusals, logins, missing_seeder, spoilt_shares, full_disk, absent_trackers, tracker_behind];
    let seen: Codes = thread::scope(|scope| {
        let threads = parts.map(|part| scope.spawn(part));
        threads.into_iter().flat_map(|thread| thread.join().expect("each part passes")).collect()
    });
    let missing: Vec<ErrorCode> = ErrorCode::ALL
        .iter()
        .copied()
        .filter(|code| !seen.contains(code.as_str()) && !UNREACHABLE.iter().any(|(unreachable, _)| unreachable == code))
        .collect();
    assert!(missing.is_empty(), "never met: {missing:?}");
    let known = |code: &String| ErrorCode::ALL.iter().any(|known| known.as_str() == code);
    assert!(seen.iter().all(known), "all are of the contract: {seen:?}");
}

fn refusals() -> Codes {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("films", ["alice", "bob"]);
    let mut carol = world.user("carol");
    write_noise(&world.path("shared"), 1, 3_000);
    write_noise(&world.path("other/shared"), 2, 3_000);
    alice.ok(&format!("upload_file {} films", world.path("shared").display()));
    let mut seen = Codes::new();
    for &(who, line, code) in REFUSALS {
        let client = [("alice", &mut alice), ("bob", &mut bob), ("carol", &mut carol)];
        let (_, client) = client.into_iter().find(|(name, _)| *name == who).unwrap();
        let found = client.fails(&line.replace("{world}", &world.path("").to_string_lossy()));
        assert_eq!(found, code, "{who}: {line}");
        seen.insert(found);
    }
    carol.ok("join_group films");
    seen.insert(carol.fails("join_group films"));
    bob.ok("set_limit down 1KiB");
    let download = format!("download_file films shared {}", world.path("copy").display());
    bob.ok(&download);
    let again = bob.fails(&download);
    assert!(["already_downloading", "destination_exists"].contains(&again.as_str()), "{again}");
    seen.insert(again);
    seen
}

fn logins() -> Codes {
    let world = World::new(1);
    let mut alice = world.client("alice");
    let mut seen: Codes =
        ["list_groups", "create_group g", "list_files g", "logout"].map(|line| alice.fails(line)).into();
    assert_eq!(seen, ["not_logged_in".to_owned()].into());
    alice.ok("create_user alice password");
    assert_eq!(alice.fails("login alice wrong"), "bad_credentials");
    assert_eq!(alice.fails("login nobody wrong"), "bad_credentials", "an unknown user looks the same");
    alice
        .until("guessing is slowed down", "login alice wrong", |answer| answer["error"]["code"] == "too_many_attempts");
    seen.extend(["bad_credentials", "too_many_attempts"].map(str::to_owned));
    seen
}

fn missing_seeder() -> Codes {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    write_noise(&world.path("f"), 1, 900_000);
    alice.ok(&format!("upload_file {} g", world.path("f").display()));
    alice.ok("logout");
    bob.until("no seeder", "list_files g", |a| row(a, "files", "f")["seeders"] == 0);
    let download = format!("download_file g f {}", world.path("copy").display());
    bob.ok(&download);
    let waiting = bob.download_until("it says why", "f", |row| !row["error"].is_null());
    [code(&waiting), bob.fails(&download)].into()
}

/// The same size, time and inode: only the hashes tell.
fn spoil_unseen(path: &Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(b"spoilt").unwrap();
    file.set_modified(modified).unwrap();
}

fn spoilt_shares() -> Codes {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let (copies, mut seen) = (world.folder("copies"), Codes::new());
    for name in ["seen", "unseen"] {
        write_noise(&world.path(name), 1, 900_000);
        alice.ok(&format!("upload_file {} g", world.path(name).display()));
    }
    spoil_unseen(&world.path("unseen"));
    fs::write(world.path("seen"), noise(2, 900_000)).unwrap();
    for name in ["seen", "unseen"] {
        bob.until("a file", "list_files g", |a| !row(a, "files", name).is_null());
        bob.ok(&format!("download_file g {name} {}", copies.display()));
        let row = bob.download_until("it fails or waits", name, |row| !row["error"].is_null());
        seen.insert(code(&row));
    }
    let mut growing = File::options().create(true).append(true).open(world.path("growing")).unwrap();
    growing.set_len(256 << 20).unwrap();
    alice.say(&format!("upload_file {} g", world.path("growing").display()));
    alice.event("its hashing", |event| event["path"].as_str().is_some_and(|path| path.ends_with("growing")));
    growing.write_all(b"more").unwrap();
    seen.insert(code(&alice.answer()));
    seen
}

/// A volume of 1 MiB needs a mount of its own, which a user namespace gives without privilege where the system has them.
const ON_A_SMALL_VOLUME: &str = "mount -t tmpfs -o size=1m none \"$1\" && shift && exec \"$@\"";

fn full_disk() -> Codes {
    let world = World::new(1);
    let volume = world.folder("volume").to_string_lossy().into_owned();
    let wrapper = ["unshare", "-r", "-m", "sh", "-c", ON_A_SMALL_VOLUME, "sh", &volume];
    let possible = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("no_space is not tested: this system lets nobody mount a small volume");
        return ["no_space".to_owned()].into();
    }
    let mut alice = world.user("alice");
    alice.ok("create_group g");
    write_noise(&world.path("f"), 1, 3_000_000);
    alice.ok(&format!("upload_file {} g", world.path("f").display()));
    let mut bob = Client::start(&world, "bob", &wrapper, &[]);
    bob.register();
    bob.join(&mut alice, "g");
    let answer = bob.ask(&format!("download_file g f {volume}"));
    if answer["ok"] == false {
        return [code(&answer)].into();
    }
    let paused = bob.download_until("it says why", "f", |row| !row["error"].is_null());
    assert_eq!(paused["state"], "P", "{paused}");
    [code(&paused)].into()
}

fn absent_trackers() -> Codes {
    let world = World::without_trackers(2);
    let mut alice = world.client("alice");
    let codes: Codes = ["create_user alice password", "login alice password"].map(|line| alice.fails(line)).into();
    assert_eq!(codes, ["no_tracker".to_owned()].into());
    codes
}

/// An account that one tracker alone has heard of is spoken for at the other.
fn tracker_behind() -> Codes {
    let mut world = World::new(2);
    let mut bob = world.user("bob");
    bob.until("they know each other", "trackers", |a| {
        a["trackers"].as_array().unwrap().iter().all(|row| row["lag"] == 0)
    });
    world.kill_tracker(1);
    let mut alice = world.user("alice");
    world.kill_tracker(0);
    world.start_tracker(1);
    let answer = alice.until("the other tracker is behind", "create_group g", |a| a["error"]["code"] != "no_tracker");
    [code(&answer)].into()
}

fn code(answer: &serde_json::Value) -> String {
    answer["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {answer}")).to_owned()
}
