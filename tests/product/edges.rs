//! Files and paths at their edges.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    net::TcpStream,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
    process::Command,
};

use crate::common::{Client, World, noise, quoted, row};

/// Shares `content` as `name` from the first client and fetches it with the second.
fn travels(world: &World, alice: &mut Client, bob: &mut Client, name: &str, content: &[u8]) {
    let source = world.folder("source").join(name);
    fs::write(&source, content).unwrap();
    let uploaded = alice.ok(&format!("upload_file {} g", quoted(&source.to_string_lossy())));
    assert_eq!(uploaded["name"], name);
    assert_eq!(uploaded["size"], content.len());
    assert_eq!(uploaded["pieces"], content.len().div_ceil(512 * 1024));
    bob.until("a seeder", "list_files g", |answer| row(answer, "files", name)["seeders"] == 1);
    let got = bob.fetch("g", name, &world.folder("copies"));
    assert!(got == content, "{name} differs");
    assert!(world.path("copies").join(name).exists());
}

#[test]
fn files_of_every_odd_size_and_name_travel() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    travels(&world, &mut alice, &mut bob, "empty", &[]);
    travels(&world, &mut alice, &mut bob, "one byte", &[7]);
    travels(&world, &mut alice, &mut bob, "one piece.bin", &noise(1, 512 * 1024));
    travels(&world, &mut alice, &mut bob, "one piece and a byte.bin", &noise(2, 512 * 1024 + 1));
    travels(&world, &mut alice, &mut bob, "a byte short.bin", &noise(3, 512 * 1024 - 1));
    travels(&world, &mut alice, &mut bob, "Grüße aus Łódź 🎬 日本語.txt", &noise(4, 1000));
    travels(&world, &mut alice, &mut bob, "it's; a \"test\" & $more #1", &noise(5, 10));
    travels(&world, &mut alice, &mut bob, &"n".repeat(255), &noise(6, 20));
    travels(&world, &mut alice, &mut bob, "-starts-with-a-dash", &noise(7, 20));
}

#[test]
fn a_file_beyond_four_gib_is_described_and_fetched_in_part() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let path = world.path("huge.img");
    let size = (4 << 30) + 3 * 512 * 1024 + 1;
    File::create(&path).unwrap().set_len(size).unwrap();
    let uploaded = alice.ok(&format!("upload_file {} g", path.display()));
    assert_eq!(uploaded["size"], size);
    assert_eq!(uploaded["pieces"], 8192 + 4);
    let info = bob.until("the file", "file_info g huge.img", |answer| answer["ok"] == true);
    assert_eq!(info["hash_string"].as_str().unwrap().len(), (8192 + 4) * 20);
    let zeros = hex(&<sha1::Sha1 as sha1::Digest>::digest(vec![0; 512 * 1024]));
    assert_eq!(info["hash_string"].as_str().unwrap()[..20], zeros[..20]);
    bob.ok("set_limit down 8MiB");
    bob.ok(&format!("download_file g huge.img {}", world.path("copy.img").display()));
    bob.download_until("pieces arrive", "huge.img", |row| row["have"].as_u64().is_some_and(|have| have > 0));
    bob.ok("cancel_download g huge.img");
}

#[test]
fn one_name_in_two_groups_is_two_files() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    alice.ok("create_group h");
    bob.join(&mut alice, "h");
    let (one, two) = (noise(1, 700_000), noise(2, 900_000));
    for (group, content) in [("g", &one), ("h", &two)] {
        let path = world.folder(group).join("same.bin");
        fs::write(&path, content).unwrap();
        alice.ok(&format!("upload_file {} {group}", path.display()));
    }
    assert!(bob.fetch("g", "same.bin", &world.path("from-g")) == one);
    assert!(bob.fetch("h", "same.bin", &world.path("from-h")) == two);
}

#[test]
fn the_same_content_from_two_members_is_one_file_with_two_seeders() {
    let world = World::new(1);
    let [mut alice, mut bob, mut carol] = world.group("g", ["alice", "bob", "carol"]);
    let content = noise(1, 3_000_000);
    for (folder, client) in [("a", &mut alice), ("b", &mut bob)] {
        let path = world.folder(folder).join("same.bin");
        fs::write(&path, &content).unwrap();
        client.ok(&format!("upload_file {} g", path.display()));
    }
    let files = carol.until("two seeders", "list_files g", |a| row(a, "files", "same.bin")["seeders"] == 2);
    assert_eq!(files["files"].as_array().unwrap().len(), 1);
    assert_eq!(row(&files, "files", "same.bin")["shared_by"], serde_json::json!(["alice", "bob"]));
    assert!(carol.fetch("g", "same.bin", &world.path("copy")) == content);
    let path = world.folder("c").join("same.bin");
    fs::write(&path, noise(2, 3_000_000)).unwrap();
    assert_eq!(carol.fails(&format!("upload_file {} g", path.display())), "file_exists");
}

#[test]
fn a_destination_may_be_a_folder_a_new_name_or_an_error() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let content = noise(1, 600_000);
    fs::write(world.path("f.bin"), &content).unwrap();
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    bob.until("a seeder", "list_files g", |a| row(a, "files", "f.bin")["seeders"] == 1);

    let download = |path: &Path| format!("download_file g f.bin '{}'", path.display());
    fs::write(world.path("taken"), "mine").unwrap();
    assert_eq!(bob.fails(&download(&world.path("taken"))), "destination_exists");
    fs::write(world.folder("full").join("f.bin"), "mine").unwrap();
    assert_eq!(bob.fails(&download(&world.path("full"))), "destination_exists");
    assert_eq!(fs::read(world.path("taken")).unwrap(), b"mine");
    let refused = bob.fails(&download(&world.path("taken/below-a-file")));
    assert!(["io", "not_readable"].contains(&refused.as_str()), "{refused}");
    // Nobody, not even root, may make files there: the nearest to a read-only folder that works for every user.
    let refused = bob.fails(&download(Path::new("/proc/f.bin")));
    assert!(["io", "not_readable"].contains(&refused.as_str()), "{refused}");
    assert_eq!(bob.fails("download_file g f.bin ''"), "empty_path");
    let listed = bob.ok("show_downloads");
    assert_eq!(listed["downloads"].as_array().unwrap().len(), 0, "a refused download leaves nothing: {listed}");
    assert!(bob.fetch("g", "f.bin", &world.folder("a folder")) == content);
    assert!(world.path("a folder/f.bin").exists());
}

#[test]
fn what_cannot_be_uploaded_is_refused_with_its_reason() {
    let world = World::new(1);
    let [mut alice] = world.group("g", ["alice"]);
    let upload = |path: &Path| format!("upload_file '{}' g", path.display());
    assert_eq!(alice.fails(&upload(&world.folder("folder"))), "is_directory");
    assert_eq!(alice.fails(&upload(&world.path("nothing"))), "not_readable");
    assert_eq!(alice.fails("upload_file '' g"), "empty_path");
    fs::write(world.path("bad\u{1b}[31mname"), "x").unwrap();
    assert_eq!(alice.fails(&upload(&world.path("bad\u{1b}[31mname"))), "invalid_name");
    assert_eq!(alice.fails(&upload(Path::new("/dev/null"))), "not_readable");
    let pipe = world.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(alice.fails(&upload(&pipe)), "not_readable", "and it does not wait for a writer");
    assert_eq!(alice.fails(&format!("upload_file {} nowhere", world.info())), "no_such_group");
}

#[test]
fn relative_paths_are_those_of_the_client() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    // The client runs where the tests run: in the package's folder.
    alice.ok("upload_file LICENSE g");
    bob.until("a seeder", "list_files g", |a| row(a, "files", "LICENSE")["seeders"] == 1);
    assert!(bob.fetch("g", "LICENSE", &world.folder("copies")) == fs::read("LICENSE").unwrap());
}

#[test]
fn a_folder_whose_name_is_no_text_holds_shares_and_downloads() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let strange = world.path("").join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&strange).unwrap();
    symlink(&strange, world.path("folder")).unwrap();
    let content = noise(4, 600_000);
    fs::write(strange.join("f.bin"), &content).unwrap();
    alice.ok(&format!("upload_file {} g", world.path("folder/f.bin").display()));
    bob.until("a seeder", "list_files g", |a| row(a, "files", "f.bin")["seeders"] == 1);
    bob.ok(&format!("download_file g f.bin {}", world.path("folder/copy").display()));
    bob.ok("wait g f.bin");
    assert!(fs::read(strange.join("copy")).unwrap() == content);
    for client in [&mut alice, &mut bob] {
        client.kill();
        client.restart();
        client.log_in();
        client.until("it is shared again", "show_shares", |a| !row(a, "shares", "f.bin").is_null());
    }
    assert_eq!(bob.download("f.bin")["state"], "C");
}

#[test]
fn rubbish_and_silence_at_any_port_are_survived() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let content = noise(1, 700_000);
    fs::write(world.path("f.bin"), &content).unwrap();
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    let mut silent = Vec::new();
    for address in [world.address(0), alice.address()] {
        for seed in 0..40 {
            let mut stream = TcpStream::connect(address).unwrap();
            // The other side may have hung up already.
            let _ = stream.write_all(&noise(seed, 2000));
            let _ = TcpStream::connect(address).unwrap().write_all(b"\x16\x03\x01\xff\xff\x01");
            let _ = TcpStream::connect(address).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n");
            silent.push(TcpStream::connect(address).unwrap());
        }
    }
    bob.until("a seeder", "list_files g", |a| row(a, "files", "f.bin")["seeders"] == 1);
    assert!(bob.fetch("g", "f.bin", &world.path("copy")) == content);
    assert_eq!(silent.len(), 80);
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
