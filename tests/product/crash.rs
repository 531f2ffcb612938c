//! kill -9 of a downloader, a seeder and a tracker in the middle of the work, and what a restart finds.

use std::fs;

use crate::common::{Client, World, row, write_noise};

const PIECE: u64 = 512 * 1024;

#[test]
fn a_killed_downloader_goes_on_and_fetches_no_verified_piece_again() {
    let world = World::new(1);
    let [mut alice] = world.group("g", ["alice"]);
    let mut bob = Client::start(&world, "bob", &[], &["--download-limit", "4MiB"]);
    bob.register();
    bob.join(&mut alice, "g");
    let size = 32 << 20;
    let content = write_noise(&world.path("big.bin"), 1, size);
    alice.ok(&format!("upload_file {} g", world.path("big.bin").display()));
    let copy = world.path("copy.bin");
    bob.ok(&format!("download_file g big.bin {}", copy.display()));
    let mut most = 0;
    for round in 1..4 {
        let wanted = round * 4 * PIECE;
        let row =
            bob.download_until("some pieces", "big.bin", |row| row["have"].as_u64().is_some_and(|have| have >= wanted));
        let before = row["have"].as_u64().unwrap();
        bob.kill();
        assert!(!copy.exists(), "a partial file never bears the final name");
        bob.restart();
        bob.log_in();
        // What is there is read again before anything is asked for.
        let row =
            bob.download_until("it is back", "big.bin", |row| row["have"].as_u64().is_some_and(|have| have >= before));
        most = row["have"].as_u64().unwrap();
    }
    assert!(most >= 12 * PIECE);
    bob.ok("set_limit down 0");
    bob.ok("wait g big.bin");
    assert!(fs::read(&copy).unwrap() == content);
    // In flight at each of three crashes: what 4 MiB/s keeps under way, a few pieces at most.
    let sent = alice.uploaded("big.bin");
    assert!(sent <= size as u64 + 3 * 8 * PIECE, "{sent} bytes were sent for {size}");
}

#[test]
fn a_killed_seeder_serves_again_after_its_next_login() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let content = write_noise(&world.path("big.bin"), 2, 16 << 20);
    alice.ok(&format!("upload_file {} g", world.path("big.bin").display()));
    bob.ok("set_limit down 4MiB");
    bob.ok(&format!("download_file g big.bin {}", world.path("copy.bin").display()));
    bob.download_until("it has begun", "big.bin", |row| row["have"].as_u64().is_some_and(|have| have > 0));
    alice.kill();
    bob.until("the seeder is missed", "list_files g", |a| row(a, "files", "big.bin")["seeders"] == 0);
    assert_eq!(bob.download("big.bin")["state"], "D", "it waits");
    bob.ok("set_limit down 0");
    alice.restart();
    alice.log_in();
    bob.ok("wait g big.bin");
    assert!(fs::read(world.path("copy.bin")).unwrap() == content);
}

#[test]
fn a_killed_tracker_has_all_it_acknowledged() {
    let mut world = World::new(1);
    let mut alice = world.user("alice");
    for round in 0..5 {
        alice.ok(&format!("create_group g{round}"));
        world.kill_tracker(0);
        world.start_tracker(0);
    }
    let groups = alice.until("the tracker is back", "list_groups", |answer| answer["ok"] == true);
    assert_eq!(groups["groups"].as_array().unwrap().len(), 5);
    alice.ok("logout");
    alice.log_in();
}

#[test]
fn an_account_a_group_and_a_share_outlive_the_death_of_everybody() {
    let mut world = World::new(2);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let content = write_noise(&world.path("a.bin"), 3, 2_000_000);
    alice.ok(&format!("upload_file {} g", world.path("a.bin").display()));
    world.kill_tracker(0);
    world.kill_tracker(1);
    alice.kill();
    bob.kill();
    world.start_tracker(0);
    world.start_tracker(1);
    alice.restart();
    bob.restart();
    alice.log_in();
    bob.log_in();
    bob.until("the file", "list_files g", |a| a["ok"] == true && row(a, "files", "a.bin")["seeders"] == 1);
    assert!(bob.fetch("g", "a.bin", &world.path("copy")) == content);
}

#[test]
fn a_paused_download_stays_paused_through_a_crash() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let content = write_noise(&world.path("big.bin"), 4, 8 << 20);
    alice.ok(&format!("upload_file {} g", world.path("big.bin").display()));
    bob.ok("set_limit down 2MiB");
    bob.ok(&format!("download_file g big.bin {}", world.path("copy.bin").display()));
    bob.download_until("it has begun", "big.bin", |row| row["have"].as_u64().is_some_and(|have| have > 0));
    bob.ok("pause_download g big.bin");
    assert_eq!(bob.download("big.bin")["state"], "P");
    bob.kill();
    bob.restart();
    bob.log_in();
    assert_eq!(bob.download("big.bin")["state"], "P");
    bob.ok("set_limit down 0");
    bob.ok("resume_download g big.bin");
    bob.ok("wait g big.bin");
    assert!(fs::read(world.path("copy.bin")).unwrap() == content);
    bob.kill();
    bob.restart();
    bob.log_in();
    assert_eq!(bob.download("big.bin")["state"], "C", "what is complete stays complete");
}
