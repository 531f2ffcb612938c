//! Trackers are who they were: keys pinned, remembered, changed, readmitted.

use std::fs;

use crate::common::{Client, World, eventually, run};

impl World {
    /// What `--show-key` says of tracker `index`.
    fn key(&self, index: usize) -> String {
        let command = self.tracker_command(index);
        let arguments: Vec<&str> = command[1..].iter().map(String::as_str).chain(["--show-key"]).collect();
        let output = run(&arguments, "");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Lists the trackers with these keys.
    fn pin(&self, keys: &[&str]) {
        let line = |(index, key): (usize, &&str)| format!("{} {key}\n", self.address(index));
        let text: String = keys.iter().enumerate().map(line).collect();
        fs::write(self.info(), text).unwrap();
    }

    /// The disk of tracker `index` is lost.
    fn lose_disk(&self, index: usize) {
        fs::remove_dir_all(self.path(&format!("data/tracker-{}", index + 1))).unwrap();
    }
}

fn refused(answer: &serde_json::Value, index: usize) -> Option<String> {
    answer["trackers"][index]["refused"]["message"].as_str().map(str::to_owned)
}

#[test]
fn a_key_is_shown_without_listening_and_can_be_pinned() {
    let mut world = World::without_trackers(2);
    let keys = [0, 1].map(|index| world.key(index));
    assert!(keys.iter().all(|key| key.starts_with("ed25519:")), "{keys:?}");
    assert_eq!(world.key(0), keys[0], "the first run makes the key");
    world.pin(&[&keys[0], &keys[1]]);
    (0..2).for_each(|index| world.start_tracker(index));
    assert_eq!([0, 1].map(|index| world.key(index)), keys, "while they run, too");
    let mut ann = world.user("ann");
    ann.until("both are in sync", "trackers", |answer| answer["trackers"][1]["lag"] == 0);
    assert_eq!(refused(&ann.ok("trackers"), 0), None);
}

#[test]
fn whoever_shows_another_key_than_the_pinned_one_is_refused() {
    let mut world = World::without_trackers(2);
    let keys = [0, 1].map(|index| world.key(index));
    (0..2).for_each(|index| world.start_tracker(index));
    world.pin(&[&keys[1], &keys[0]]);
    // A tracker whose own key is pinned otherwise does not start: nobody would let it in.
    let command = world.tracker_command(1);
    world.kill_tracker(1);
    let arguments: Vec<&str> = command[1..].iter().map(String::as_str).collect();
    let output = run(&arguments, "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(&keys[1]) && said.contains("--data-dir"), "{said}");
    // A client tells nothing to an address that shows another key.
    let mut ann = world.client("ann");
    let told = ann.event("a refusal", |event| event["event"] == "tracker_refused");
    let message = told["error"]["message"].as_str().unwrap();
    assert!(message.contains(&keys[0]) && message.contains(&keys[1]) && message.contains("nothing was sent"), "{told}");
    assert_eq!(ann.fails("create_user ann secret-ann"), "no_tracker");
    assert!(refused(&ann.ok("trackers"), 0).is_some());
}

#[test]
fn a_tracker_that_lost_its_disk_is_refused_until_it_is_readmitted() {
    let mut world = World::new(2);
    let mut ann = world.user("ann");
    ann.until("both are in sync", "trackers", |answer| answer["trackers"][1]["lag"] == 0);
    // Ann meets both.
    world.kill_tracker(0);
    ann.until("the second one serves", "create_group here", |answer| answer["ok"] == true);
    world.start_tracker(0);
    // Else the disk that is lost would be the only one with that group.
    ann.until("the first one knows of it", "trackers", |answer| answer["trackers"][0]["lag"] == 0);
    world.kill_tracker(1);
    ann.until("the first one serves", "create_group there", |answer| answer["ok"] == true);
    world.lose_disk(1);
    let key = world.key(1);
    world.start_tracker(1);

    // Loud, once, with what to do.
    let hint = format!("--readmit 2={key}");
    let said =
        eventually("tracker 1 refuses the new key", || Some(world.tracker(0).log()).filter(|log| log.contains(&hint)));
    assert!(said.contains("key has changed"), "{said}");
    let message = eventually("the client refuses it, too", || refused(&ann.ok("trackers"), 1));
    assert!(message.contains(&key) && message.contains("--readmit"), "{message}");
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(world.tracker(0).log().matches(&hint).count(), 1, "said once");

    world.kill_tracker(0);
    world.start_tracker_with(0, &["--readmit", &format!("2={key}")]);
    let data = world.path("data/ann").to_string_lossy().into_owned();
    ann.kill();
    let mut ann = Client::start(&world, "ann", &[], &["--readmit", "2"]);
    ann.until("the login", "login ann secret-ann", |answer| answer["ok"] == true);
    ann.until("it has all again", "trackers", |answer| answer["trackers"][1]["lag"] == 0);
    assert_eq!(refused(&ann.ok("trackers"), 1), None);
    world.kill_tracker(0);
    ann.until("it serves", "create_group anew", |answer| answer["ok"] == true);
    let listed = ann.ok("list_groups");
    assert_eq!(listed["groups"].as_array().unwrap().len(), 3, "nothing is lost: {listed}");
    // What was readmitted is remembered.
    let known = fs::read_to_string(format!("{data}/known_trackers")).unwrap();
    assert!(known.contains(&key), "{known}");
    world.start_tracker(0);
    ann.until("they are in sync again", "trackers", |answer| answer["trackers"][0]["lag"] == 0);
}

#[test]
fn only_a_listed_tracker_that_is_not_pinned_is_readmitted() {
    let world = World::without_trackers(2);
    world.pin(&["", &world.key(1)]);
    for (readmitted, why) in [("3", "no tracker 3"), ("2", "pins")] {
        let command = world.tracker_command(0);
        let arguments: Vec<&str> = command[1..].iter().map(String::as_str).chain(["--readmit", readmitted]).collect();
        let output = run(&arguments, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(why), "{said}");
    }
}
