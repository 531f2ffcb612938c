//! What the processes may do on their machine: nothing that another user of it may not.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use rustix::process::getuid;

use crate::common::{Client, P2P, Process, World, quoted, write_noise};

/// A user with no rights of any kind.
const NOBODY: u32 = 65_534;

/// Gives something in the world's folder to who runs the processes.
fn give(path: &Path) {
    if getuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// What the binary is run by, so that it has no rights: root gives its own up, and everybody else has none.
fn without_rights(world: &World) -> Vec<String> {
    if !getuid().is_root() {
        return Vec::new();
    }
    // Where it was built, others may have no way to.
    let program = world.path("p2p");
    fs::copy(P2P, &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    give(&world.path(""));
    let run = format!(
        "shift; exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs {} \"$@\"",
        quoted(program.to_str().unwrap())
    );
    ["sh", "-c", &run, "sh"].map(str::to_owned).to_vec()
}

/// Neither the user is root nor is there any right of root's left.
fn assert_without_rights(process: &Process) {
    let status = process.system_says("status");
    let told = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells it").to_owned();
    let (users, rights) = (told("Uid:"), told("CapEff:"));
    assert!(users.split_whitespace().all(|user| user != "0"), "{users}");
    assert_eq!(rights.trim().trim_start_matches('0'), "", "{status}");
}

#[test]
fn no_process_needs_root() {
    let mut world = World::without_trackers(1);
    let wrapper = without_rights(&world);
    let address = world.address(0).to_owned();
    world.launch(0, &[wrapper.clone(), world.tracker_command(0)].concat(), &address);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| Client::start(&world, name, &wrapper, &[]));
    alice.register();
    bob.register();
    for process in [world.tracker(0), &mut alice.process, &mut bob.process] {
        assert_without_rights(process);
    }
    alice.ok("create_group films");
    bob.join(&mut alice, "films");
    let (film, copies) = (world.path("film"), world.folder("copies"));
    let content = write_noise(&film, 1, 2 << 20);
    give(&film);
    give(&copies);
    alice.ok(&format!("upload_file {} films", quoted(film.to_str().unwrap())));
    assert!(bob.fetch("films", "film", &copies) == content);
}
