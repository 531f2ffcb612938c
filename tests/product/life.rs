//! The whole life of a group, with three users and two trackers: every command of the contract and its JSON members.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Client, World, noise, row, write_noise};

/// The members of an object, sorted.
fn members(object: &Value) -> Vec<&str> {
    object.as_object().unwrap_or_else(|| panic!("no object: {object}")).keys().map(String::as_str).collect()
}

#[track_caller]
fn assert_members(object: &Value, expected: &[&str]) {
    let found = members(object);
    for member in expected {
        assert!(found.contains(member), "{member} is missing in {object}");
    }
}

fn standing(client: &mut Client, group: &str) -> Value {
    row(&client.ok("list_groups"), "groups", group)["standing"].clone()
}

#[test]
fn a_group_is_founded_grows_and_dissolves() {
    let world = World::new(2);
    let (mut alice, mut bob, mut carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    alice.ok("create_group films");
    let groups = alice.ok("list_groups");
    let films = row(&groups, "groups", "films");
    assert_members(&films, &["name", "owner", "members", "standing"]);
    assert_eq!((&films["owner"], &films["members"], &films["standing"]), (&json!("alice"), &json!(1), &json!("owner")));

    bob.until("sees the group", "list_groups", |answer| !row(answer, "groups", "films").is_null());
    bob.ok("join_group films");
    carol.ok("join_group films");
    assert_eq!(standing(&mut bob, "films"), "requested");
    let requests = alice.until("two requests", "list_requests films", |a| a["requests"].as_array().unwrap().len() == 2);
    let users: Vec<&Value> = requests["requests"].as_array().unwrap().iter().map(|request| &request["user"]).collect();
    assert_eq!(users, ["bob", "carol"], "oldest first");
    let since = requests["requests"][0]["since"].as_str().unwrap();
    assert!(since.parse::<jiff::Timestamp>().is_ok(), "{since} is RFC 3339");

    alice.ok("accept_request films bob");
    alice.ok("reject_request films carol");
    bob.until("is a member", "list_groups", |answer| row(answer, "groups", "films")["standing"] == "member");
    carol.until("is none", "list_groups", |answer| row(answer, "groups", "films")["standing"] == "none");
    carol.ok("join_group films");
    carol.ok("leave_group films");
    assert_eq!(standing(&mut carol, "films"), "none", "a request can be withdrawn");
    carol.join(&mut alice, "films");

    let listed = carol.until("three members online", "list_members films", |answer| {
        answer["members"]
            .as_array()
            .is_some_and(|all| all.len() == 3 && all.iter().all(|member| member["online"] == true))
    });
    for member in listed["members"].as_array().unwrap() {
        assert_members(member, &["user", "role", "online"]);
        assert_eq!(member["role"], if member["user"] == "alice" { "owner" } else { "member" });
    }

    alice.ok("transfer_group films carol");
    assert_eq!(standing(&mut alice, "films"), "member");
    carol.until("owns it", "list_groups", |answer| row(answer, "groups", "films")["standing"] == "owner");
    carol.ok("remove_member films alice");
    alice.until("is out", "list_groups", |answer| row(answer, "groups", "films")["standing"] == "none");
    carol.ok("leave_group films");
    bob.until("inherits it", "list_groups", |answer| row(answer, "groups", "films")["standing"] == "owner");
    bob.ok("leave_group films");
    alice.until("it is gone", "list_groups", |answer| row(answer, "groups", "films").is_null());
    alice.ok("create_group films");
}

#[test]
fn a_file_is_shared_found_fetched_and_served_onward() {
    let world = World::new(2);
    let [mut alice, mut bob, mut carol] = world.group("films", ["alice", "bob", "carol"]);
    let size = 5 * 512 * 1024 + 77;
    let content = write_noise(&world.path("alice/film.mkv"), 1, size);

    let uploaded = alice.ok(&format!("upload_file {} films", world.path("alice/film.mkv").display()));
    assert_eq!((&uploaded["group"], &uploaded["name"]), (&json!("films"), &json!("film.mkv")));
    assert_eq!((&uploaded["size"], &uploaded["pieces"]), (&json!(size), &json!(6)));
    let sha1 = hex(&<sha1::Sha1 as sha1::Digest>::digest(&content));
    assert_eq!(uploaded["sha1"], sha1.as_str());

    let files = bob.until("sees the file", "list_files films", |a| a["files"].as_array().is_some_and(|f| f.len() == 1));
    let file = row(&files, "files", "film.mkv");
    assert_members(&file, &["name", "size", "pieces", "sha1", "seeders", "leechers", "shared_by"]);
    assert_eq!((&file["sha1"], &file["shared_by"]), (&json!(sha1), &json!(["alice"])));

    let info = bob.until("sees the holder", "file_info films film.mkv", |a| {
        a["holders"].as_array().is_some_and(|h| h.len() == 1)
    });
    assert_eq!(info["piece_size"], 512 * 1024);
    assert_eq!(info["blake3"], blake3::hash(&content).to_hex().as_str());
    let hash_string: String = content
        .chunks(512 * 1024)
        .map(|piece| hex(&<sha1::Sha1 as sha1::Digest>::digest(piece))[..20].to_owned())
        .collect();
    assert_eq!(info["hash_string"], hash_string);
    assert_eq!(info["holders"][0], json!({"user": "alice", "address": alice.address(), "percent": 100}));

    let folder = world.folder("bob");
    let started = bob.ok(&format!("download_file films film.mkv {}", folder.display()));
    let path = folder.canonicalize().unwrap().join("film.mkv");
    assert_eq!(started["path"], path.to_str().unwrap());
    bob.ok("wait");
    assert!(fs::read(&path).unwrap() == content);
    let row_of_bob = bob.download("film.mkv");
    assert_members(
        &row_of_bob,
        &["state", "group", "name", "path", "size", "have", "percent", "rate", "peers", "eta", "error"],
    );
    assert_eq!(
        (&row_of_bob["state"], &row_of_bob["have"], &row_of_bob["error"]),
        (&json!("C"), &json!(size), &Value::Null)
    );

    carol.until("bob seeds too", "list_files films", |a| row(a, "files", "film.mkv")["seeders"] == 2);
    alice.ok("stop_share films film.mkv");
    carol.until("only bob seeds", "list_files films", |a| row(a, "files", "film.mkv")["seeders"] == 1);
    assert!(carol.fetch("films", "film.mkv", &world.path("carol.copy")) == content);
    assert_eq!(bob.uploaded("film.mkv"), size as u64);
    let shares = bob.ok("show_shares");
    assert_members(&shares["shares"][0], &["group", "name", "path", "size", "uploaded"]);
}

#[test]
fn an_account_lives_on_any_tracker() {
    let world = World::new(2);
    let mut alice = world.user("alice");
    let me = alice.ok("whoami");
    assert_eq!((&me["user"], &me["address"]), (&json!("alice"), &json!(alice.address())));
    assert!(me["device"].as_str().is_some_and(|key| key.len() > 30), "{me}");
    let trackers = alice.until("both are reachable", "trackers", |answer| {
        answer["trackers"].as_array().is_some_and(|rows| rows.iter().all(|row| row["reachable"] == true))
    });
    let rows = trackers["trackers"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_members(row, &["no", "address", "reachable", "current", "lag"]);
    }
    assert_eq!((&rows[0]["no"], &rows[1]["no"]), (&json!(1), &json!(2)));
    assert_eq!(rows.iter().filter(|row| row["current"] == true).count(), 1);
    assert_eq!(rows[1]["address"], world.address(1));

    alice.ok("change_password secret-alice another");
    alice.ok("logout");
    assert_eq!(alice.fails("login alice secret-alice"), "bad_credentials");
    alice.ok("login alice another");
    alice.ok("set_limit down 10MiB");
    alice.ok("set_limit up 0");
    alice.ok("help");
    alice.ok("help download_file");
}

#[test]
fn shares_come_back_at_the_next_login_and_end_with_logout() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let content = write_noise(&world.path("a.bin"), 3, 600_000);
    alice.ok(&format!("upload_file {} g", world.path("a.bin").display()));
    bob.until("a seeder", "list_files g", |a| row(a, "files", "a.bin")["seeders"] == 1);
    alice.ok("logout");
    bob.until("no seeder", "list_files g", |a| row(a, "files", "a.bin")["seeders"] == 0);
    alice.log_in();
    bob.until("a seeder again", "list_files g", |a| row(a, "files", "a.bin")["seeders"] == 1);
    alice.say("quit");
    assert_eq!(alice.answer()["ok"], true);
    alice.process.status();
    bob.until("no seeder once more", "list_files g", |a| row(a, "files", "a.bin")["seeders"] == 0);
    alice.restart();
    alice.log_in();
    assert!(bob.fetch("g", "a.bin", &world.path("copy")) == content);
}

#[test]
fn leaving_a_group_ends_its_shares_and_downloads_from_it() {
    let world = World::new(1);
    let [mut alice, mut bob, mut carol] = world.group("g", ["alice", "bob", "carol"]);
    write_noise(&world.path("b.bin"), 4, 1_000_000);
    bob.ok(&format!("upload_file {} g", world.path("b.bin").display()));
    carol.until("a seeder", "list_files g", |a| row(a, "files", "b.bin")["seeders"] == 1);
    bob.ok("leave_group g");
    carol.until("no seeder", "list_files g", |a| {
        let file = row(a, "files", "b.bin");
        file.is_null() || file["seeders"] == 0
    });
    assert_eq!(bob.fails("list_files g"), "not_a_member");
    alice.ok("remove_member g carol");
    carol.until("is out", "list_files g", |answer| answer["error"]["code"] == "not_a_member");
}

#[test]
fn members_hear_what_happens_to_them() {
    let world = World::new(2);
    let (mut alice, mut bob) = (world.user("alice"), world.user("bob"));
    alice.ok("create_group g");
    bob.until("the group", "list_groups", |answer| !row(answer, "groups", "g").is_null());
    bob.ok("join_group g");
    alice.event("bob asks", |event| event.to_string().contains("bob"));
    alice.ok("accept_request g bob");
    bob.event("accepted", |event| event.to_string().contains("\"g\""));
    let content = noise(9, 100_000);
    fs::write(world.path("c.bin"), content).unwrap();
    alice.ok(&format!("upload_file {} g", world.path("c.bin").display()));
    bob.until("the file", "list_files g", |a| row(a, "files", "c.bin")["seeders"] == 1);
    bob.ok(&format!("download_file g c.bin {}", world.path("copy").display()));
    bob.event("the end of the download", |event| event.to_string().contains("c.bin"));
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
