//! Listings longer than a page, and much at once.

use std::fs;

use crate::common::{World, noise};

#[test]
fn a_group_of_two_hundred_files_is_listed_and_fetched_from() {
    let world = World::new(2);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let folder = world.folder("source");
    let contents: Vec<Vec<u8>> = (0..200).map(|i| noise(i, 1000 + usize::try_from(i).unwrap())).collect();
    for (i, content) in contents.iter().enumerate() {
        fs::write(folder.join(format!("file-{i:03}")), content).unwrap();
        alice.say(&format!("upload_file {}/file-{i:03} g", folder.display()));
    }
    for _ in 0..200 {
        let answer = alice.answer();
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let files =
        bob.until("all of them", "list_files g", |a| a["files"].as_array().is_some_and(|rows| rows.len() == 200));
    let names: Vec<&str> = files["files"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted());
    let copies = world.folder("copies");
    for i in (0..200).step_by(8) {
        bob.ok(&format!("download_file g file-{i:03} {}", copies.display()));
    }
    bob.ok("wait");
    for i in (0..200).step_by(8) {
        assert!(fs::read(copies.join(format!("file-{i:03}"))).unwrap() == contents[i], "file-{i:03}");
    }
}

#[test]
fn a_thousand_groups_are_listed() {
    let world = World::new(2);
    let mut alice = world.user("alice");
    for i in 0..1000 {
        alice.say(&format!("create_group group-{i:04}"));
    }
    for _ in 0..1000 {
        let answer = alice.answer();
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let mut bob = world.user("bob");
    let groups =
        bob.until("all of them", "list_groups", |a| a["groups"].as_array().is_some_and(|rows| rows.len() == 1000));
    let names: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted());
    assert_eq!((names[0], names[999]), ("group-0000", "group-0999"));
}
