//! What the contract allows at most is served, and what is beyond is refused with its own code.

use std::fs::{self, File};

use crate::common::{World, row, run, write_noise};

#[test]
fn names_and_passwords_reach_their_limits_and_no_further() {
    let world = World::new(1);
    let mut client = world.client("anyone");
    let (user, password) = ("ü".repeat(64), "p".repeat(1024));
    client.ok(&format!("create_user {user} {password}"));
    assert_eq!(client.fails(&format!("create_user {user}x {password}")), "invalid_name");
    assert_eq!(client.fails(&format!("create_user ann {password}p")), "weak_password");
    assert_eq!(client.fails(&format!("login {user} {password}p")), "bad_credentials");
    let endless = "ü".repeat(30_000);
    assert_eq!(client.fails(&format!("create_user ann {endless}")), "weak_password");
    assert_eq!(client.fails(&format!("login {user} {endless}")), "bad_credentials");
    client.ok(&format!("login {user} {password}"));
    let group = "g".repeat(64);
    client.ok(&format!("create_group {group}"));
    assert_eq!(client.fails(&format!("create_group {group}g")), "invalid_name");
    let name = format!("{}.bin", "ß".repeat(125));
    assert_eq!(name.len(), 254);
    write_noise(&world.path(&name), 1, 1000);
    client.ok(&format!("upload_file {} {group}", world.path(&name).display()));
    assert_eq!(row(&client.ok(&format!("list_files {group}")), "files", &name)["size"], 1000);
}

#[test]
fn a_file_beyond_two_tebibytes_is_refused_at_once() {
    let world = World::new(1);
    let [mut alice] = world.group("g", ["alice"]);
    let path = world.path("huge.bin");
    // A file system that cannot hold it cannot be asked to share it either.
    if File::create(&path).unwrap().set_len((1 << 41) + 1).is_ok() {
        let code = alice.fails(&format!("upload_file {} g", path.display()));
        assert_eq!(code, "not_readable");
    }
}

#[test]
fn a_tracker_file_lists_sixty_four_trackers_at_most() {
    let world = World::without_trackers(0);
    let list = |count: u16| (1..=count).map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join("\n");
    for (count, text) in [(64, list(64)), (65, list(65)), (0, "#".repeat(64 * 1024 + 1))] {
        let path = world.path(&format!("{count}.txt"));
        fs::write(&path, text).unwrap();
        // The number past the end is refused, too; the reason tells which it was.
        let output = run(&["tracker", &path.to_string_lossy(), "65"], "");
        assert_eq!(output.status.code(), Some(2));
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = match count {
            64 => "65",
            65 => "more than 64 trackers",
            _ => "larger than 64 KiB",
        };
        assert!(reason.contains(expected), "{count}: {reason}");
    }
}

#[test]
fn a_line_as_long_as_it_may_be_is_answered_and_a_longer_one_is_refused() {
    let world = World::new(1);
    let mut client = world.user("ann");
    let long = |start: &str, length: usize| format!("{start}{}", "x".repeat(length - start.len()));
    for (line, code) in [
        (long("", 65_536), "unknown_command"),
        (long("create_group ", 65_536), "invalid_name"),
        (long("upload_file /tmp/", 65_534) + " g", "not_readable"),
        (long("create_group ", 65_537), "usage"),
        (long("", 1 << 20), "usage"),
    ] {
        client.say(&line);
        assert_eq!(client.answer()["error"]["code"], code, "{} bytes", line.len());
    }
    assert_eq!(client.ok("whoami")["user"], "ann");
}
