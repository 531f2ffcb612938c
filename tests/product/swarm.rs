//! Downloads whose sources come, go, change and lie.

use std::{
    fs::{self, File},
    io::Write as _,
};

use crate::common::{World, noise, row, write_noise};

#[test]
fn a_download_without_a_seeder_waits_says_so_and_starts_when_one_comes() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let content = write_noise(&world.path("f.bin"), 1, 2_000_000);
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    alice.ok("logout");
    bob.until("no seeder", "list_files g", |a| row(a, "files", "f.bin")["seeders"] == 0);
    bob.ok(&format!("download_file g f.bin {}", world.path("copy").display()));
    let waiting = bob.download_until("it says why it waits", "f.bin", |row| !row["error"].is_null());
    assert_eq!(waiting["state"], "D");
    assert_eq!(waiting["error"]["code"], "no_seeders", "{waiting}");
    alice.log_in();
    bob.ok("wait g f.bin");
    assert!(fs::read(world.path("copy")).unwrap() == content);
    assert!(bob.download("f.bin")["error"].is_null());
}

#[test]
fn the_last_seeder_leaves_half_way_and_another_one_finishes_it() {
    let world = World::new(1);
    let [mut alice, mut bob, mut carol] = world.group("g", ["alice", "bob", "carol"]);
    let content = write_noise(&world.path("f.bin"), 2, 16 << 20);
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    bob.ok("set_limit down 4MiB");
    bob.ok(&format!("download_file g f.bin {}", world.path("copy").display()));
    bob.download_until("it has begun", "f.bin", |row| row["have"].as_u64().is_some_and(|have| have > 0));
    alice.ok("logout");
    bob.ok("set_limit down 0");
    let waiting = bob.download_until("it says why it waits", "f.bin", |row| row["error"]["code"] == "no_seeders");
    let have = waiting["have"].as_u64().unwrap();
    assert!(have > 0 && have < 16 << 20);
    let path = world.folder("carol").join("f.bin");
    fs::write(&path, &content).unwrap();
    carol.ok(&format!("upload_file {} g", path.display()));
    bob.ok("wait g f.bin");
    assert!(fs::read(world.path("copy")).unwrap() == content);
    assert!(carol.uploaded("f.bin") <= (16 << 20) - have + (4 << 20), "only what was missing was fetched");
}

#[test]
fn many_peers_serve_one_file_at_the_same_time() {
    let world = World::new(2);
    let [mut alice, mut bob, mut carol, mut dave] = world.group("g", ["alice", "bob", "carol", "dave"]);
    let size = 24 << 20;
    let content = write_noise(&world.path("f.bin"), 3, size);
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    for seeder in [&mut bob, &mut carol] {
        let name = seeder.ok("whoami")["user"].as_str().unwrap().to_owned();
        assert!(seeder.fetch("g", "f.bin", &world.path(&name)) == content);
    }
    let before = [alice.uploaded("f.bin"), bob.uploaded("f.bin"), carol.uploaded("f.bin")];
    dave.until("three seeders", "list_files g", |a| row(a, "files", "f.bin")["seeders"] == 3);
    for seeder in [&mut alice, &mut bob, &mut carol] {
        seeder.ok("set_limit up 4MiB");
    }
    dave.ok(&format!("download_file g f.bin {}", world.path("dave").display()));
    let peers =
        dave.until("three peers", "show_peers g f.bin", |a| a["peers"].as_array().is_some_and(|rows| rows.len() == 3));
    for peer in peers["peers"].as_array().unwrap() {
        for member in ["user", "address", "percent", "down_rate", "up_rate", "state"] {
            assert!(!peer[member].is_null(), "{member} is missing in {peer}");
        }
    }
    dave.ok("wait g f.bin");
    assert!(fs::read(world.path("dave")).unwrap() == content);
    let after = [alice.uploaded("f.bin"), bob.uploaded("f.bin"), carol.uploaded("f.bin")];
    let served: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert!(served.iter().all(|&bytes| bytes > 1 << 20), "each gave a share: {served:?}");
    assert!(served.iter().sum::<u64>() <= size as u64 + (6 << 20), "little is sent twice: {served:?}");
}

#[test]
fn leechers_serve_what_they_have_to_each_other() {
    let world = World::new(1);
    let [mut alice, mut bob, mut carol] = world.group("g", ["alice", "bob", "carol"]);
    let size = 16 << 20;
    let content = write_noise(&world.path("f.bin"), 4, size);
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    alice.ok("set_limit up 4MiB");
    for (client, copy) in [(&mut bob, "b"), (&mut carol, "c")] {
        client.ok(&format!("download_file g f.bin {}", world.path(copy).display()));
    }
    for (client, copy) in [(&mut bob, "b"), (&mut carol, "c")] {
        client.ok("wait g f.bin");
        assert!(fs::read(world.path(copy)).unwrap() == content);
    }
    let sent = alice.uploaded("f.bin");
    assert!(
        sent < 2 * size as u64 * 9 / 10,
        "{sent} of {} came from the seeder: they did not help each other",
        2 * size
    );
}

#[test]
fn pause_resume_and_cancel() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let content = write_noise(&world.path("f.bin"), 5, 8 << 20);
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    bob.ok("set_limit down 2MiB");
    let download = format!("download_file g f.bin {}", world.path("copy").display());
    bob.ok(&download);
    assert_eq!(bob.fails(&download), "already_downloading");
    bob.ok("pause_download g f.bin");
    assert_eq!(bob.download("f.bin")["state"], "P");
    bob.ok("cancel_download g f.bin");
    assert_eq!(bob.fails("pause_download g f.bin"), "no_such_download");
    let left: Vec<_> = fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("copy")), "nothing is left: {left:?}");
    bob.ok("set_limit down 0");
    bob.ok(&download);
    bob.ok("wait");
    assert!(fs::read(world.path("copy")).unwrap() == content);
}

#[test]
fn a_shared_file_that_changed_is_never_served() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let path = world.path("f.bin");
    let content = write_noise(&path, 6, 3_000_000);
    alice.ok(&format!("upload_file {} g", path.display()));
    bob.until("a seeder", "list_files g", |a| row(a, "files", "f.bin")["seeders"] == 1);
    fs::write(&path, noise(7, 3_000_000)).unwrap();
    bob.ok(&format!("download_file g f.bin {}", world.path("copy").display()));
    alice.event("the owner is told", |event| event.to_string().contains("f.bin"));
    assert_eq!(bob.download("f.bin")["have"], 0);
    fs::remove_file(&path).unwrap();
    fs::write(&path, &content).unwrap();
    alice.ok(&format!("upload_file {} g", path.display()));
    bob.ok("wait g f.bin");
    assert!(fs::read(world.path("copy")).unwrap() == content);
}

#[test]
fn damage_on_the_disk_is_found_and_mended() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let content = write_noise(&world.path("f.bin"), 8, 3_000_000);
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    let copy = world.path("copy");
    bob.fetch("g", "f.bin", &copy);
    let whole = bob.ok("verify_file g f.bin");
    assert_eq!(whole["damaged"], serde_json::json!([]), "{whole}");
    let modified = fs::metadata(&copy).unwrap().modified().unwrap();
    let mut file = File::options().write(true).open(&copy).unwrap();
    file.write_all(b"damage").unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    let found = bob.ok("verify_file g f.bin");
    assert_eq!(found["damaged"], serde_json::json!([0]), "{found}");
    bob.ok("wait g f.bin");
    assert!(fs::read(&copy).unwrap() == content);
}

#[test]
fn a_former_member_is_served_no_more() {
    let world = World::new(2);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    write_noise(&world.path("f.bin"), 9, 32 << 20);
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    bob.ok("set_limit down 1MiB");
    bob.until("a seeder", "list_files g", |a| row(a, "files", "f.bin")["seeders"] == 1);
    bob.ok(&format!("download_file g f.bin {}", world.path("copy").display()));
    bob.download_until("it has begun", "f.bin", |row| row["have"].as_u64().is_some_and(|have| have > 0));
    alice.ok("remove_member g bob");
    bob.ok("set_limit down 0");
    bob.until("is out", "list_files g", |answer| answer["error"]["code"] == "not_a_member");
    bob.download_until("it ends", "f.bin", |row| row["state"] == "F");
    assert!(!world.path("copy").exists());
}

#[test]
fn several_files_come_at_once() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let contents: Vec<Vec<u8>> = (0..5).map(|i| write_noise(&world.path(&format!("f{i}")), i, 1_500_000)).collect();
    for i in 0..5 {
        alice.ok(&format!("upload_file {} g", world.path(&format!("f{i}")).display()));
    }
    let folder = world.folder("copies");
    for i in 0..5 {
        bob.ok(&format!("download_file g f{i} {}", folder.display()));
    }
    bob.ok("wait");
    for (i, content) in contents.iter().enumerate() {
        assert!(&fs::read(folder.join(format!("f{i}"))).unwrap() == content, "f{i}");
    }
}
