//! Arguments, pipes, signals and exit statuses.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, process::Output};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Client, P2P, Process, World, free_address, run, run_with};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A client that runs `options` in a world to its end.
fn client(world: &World, options: &[&str], input: &str) -> Output {
    let (address, info, data) = (free_address(), world.info(), world.path("data/one-shot"));
    run(&[&["client", &address, &info, "--data-dir", &data.to_string_lossy()], options].concat(), input)
}

#[track_caller]
fn refused(arguments: &[&str], status: i32, says: &[&str]) {
    let output = run(arguments, "");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    for word in says {
        assert!(said.contains(word), "{arguments:?} should name {word}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let world = World::without_trackers(2);
    let info = world.info();
    refused(&[], 2, &["Usage"]);
    refused(&["frobnicate"], 2, &["frobnicate"]);
    refused(&["tracker"], 2, &["TRACKER_INFO"]);
    refused(&["tracker", &info, "0"], 2, &["1"]);
    refused(&["tracker", &info, "3"], 2, &["2"]);
    refused(&["tracker", &info, "one"], 2, &["one"]);
    refused(&["client", "nonsense", &info], 2, &["nonsense"]);
    refused(&["client", "127.0.0.1:99999", &info], 2, &["99999"]);
    refused(&["client", "127.0.0.1:4000", &info, "--download-limit", "fast"], 2, &["fast"]);
    assert_eq!(run(&["--help"], "").status.code(), Some(0));
    assert!(text(&run(&["--version"], "").stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_list_of_trackers_that_cannot_be_used_says_why() {
    let world = World::without_trackers(1);
    let bad = world.path("bad.txt");
    fs::write(&bad, "127.0.0.1:5000\nnot an address at all\n").unwrap();
    refused(&["tracker", &bad.to_string_lossy(), "1"], 2, &["bad.txt", "2"]);
    refused(&["client", "127.0.0.1:4000", &bad.to_string_lossy()], 2, &["bad.txt"]);
    refused(&["tracker", "/no/such/file", "1"], 2, &["/no/such/file"]);
    fs::write(&bad, "# nobody\n").unwrap();
    refused(&["tracker", &bad.to_string_lossy(), "1"], 2, &["bad.txt"]);
}

#[test]
fn trackers_are_listed_in_every_form_of_the_contract() {
    let (one, two) = (free_address(), free_address());
    let port = |address: &str| address.rsplit_once(':').unwrap().1.to_owned();
    let forms = [
        format!("{one}\n{two}\n"),
        format!("127.0.0.1 {}\n127.0.0.1,{}\n", port(&one), port(&two)),
        format!("# two trackers\n1 127.0.0.1 {}\n\n2 {two} # the second\n", port(&one)),
        format!("127.0.0.1\n{}\n127.0.0.1\n{}\n", port(&one), port(&two)),
        format!("localhost:{}\r\nlocalhost:{}\r\n", port(&one), port(&two)),
    ];
    for form in forms {
        let world = World::without_trackers(0);
        fs::write(world.info(), &form).unwrap();
        let mut trackers: Vec<Process> = (0..2)
            .map(|index| Process::start("tracker", &world.tracker_command(index), &world.log("tracker")))
            .collect();
        let mut alice = world.client("alice");
        alice.until("a tracker answers", "create_user alice password", |answer| answer["ok"] == true);
        assert!(trackers.iter_mut().all(Process::is_running), "{form}");
    }
}

#[test]
fn commands_from_the_command_line_end_with_the_right_status() {
    let world = World::new(1);
    let good = client(&world, &["-c", "create_user alice pw; login alice pw", "-c", "create_group g", "--json"], "");
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let answers: Vec<Value> = text(&good.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let commands: Vec<&Value> =
        answers.iter().map(|answer| &answer["command"]).filter(|name| !name.is_null()).collect();
    assert_eq!(commands, ["create_user", "login", "create_group"], "in order");

    let bad = client(&world, &["-c", "create_user alice pw; create_user zoe pw", "--json"], "");
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    assert!(text(&bad.stdout).contains("user_exists"));
    assert_eq!(text(&bad.stdout).lines().count(), 2, "the second command is run all the same");
}

#[test]
fn words_are_split_as_a_shell_does() {
    let world = World::new(1);
    fs::write(world.path("a; b 'c.txt"), "x").unwrap();
    let path = world.path("a; b 'c.txt").to_string_lossy().into_owned();
    let line =
        format!("create_user al \"p;w\"; login al 'p;w'; create_group g; upload_file \"{path}\" g; list_files g");
    let output = client(&world, &["-c", &line, "--json"], "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("a; b 'c.txt"), "{output:?}");
    let copied = client(&world, &["--json"], "login\u{a0}al\u{200b} 'p;w'\n\u{feff}list_groups\n");
    assert_eq!(copied.status.code(), Some(0), "blanks of copied lists count as blanks: {copied:?}");
}

#[test]
fn piped_answers_are_plain_lines() {
    let world = World::new(1);
    fs::write(world.path("f.bin"), "hello").unwrap();
    let upload = format!("upload_file {} g", world.path("f.bin").display());
    let input = format!(
        "create_user al pw\nlogin al pw\ncreate_group g\n{upload}\nlist_files g\nlist_groups\nshow_downloads\n"
    );
    let output = client(&world, &[], &input);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let out = text(&output.stdout);
    assert!(out.contains("f.bin") && out.contains('g'), "{out}");
    assert!(!out.contains('\u{1b}'), "no colours in a pipe: {out}");
    let failed = client(&world, &[], "login al wrong\n");
    assert_eq!(failed.status.code(), Some(1));
}

#[test]
fn downloads_are_shown_exactly_as_the_mission_says() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    fs::write(world.path("f.bin"), "hello").unwrap();
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    bob.fetch("g", "f.bin", &world.path("copy"));
    bob.say("quit");
    bob.process.status();
    let data = world.path("data/bob");
    let arguments =
        ["client", &free_address(), &world.info(), "--data-dir", &data.to_string_lossy()].map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = run(&arguments, "login bob secret-bob\nshow_downloads\n");
    assert!(text(&output.stdout).lines().any(|line| line == "[C] [g] f.bin"), "{output:?}");
}

#[test]
fn a_login_can_come_from_options_and_the_environment() {
    let world = World::new(1);
    client(&world, &["-c", "create_user alice pw"], "");
    let (info, data) = (world.info(), world.path("data/one-shot").to_string_lossy().into_owned());
    let address = free_address();
    let base = ["client", &address, &info, "--data-dir", &data, "--login", "alice", "-c", "whoami", "--json"];
    let output = run_with(&base, "", &[("P2P_PASSWORD", "pw")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("\"user\":\"alice\""), "{output:?}");
    fs::write(world.path("password"), "pw\n").unwrap();
    let file = world.path("password").to_string_lossy().into_owned();
    let output = run(&[base.as_slice(), &["--password-file", &file]].concat(), "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_port_or_a_data_folder_in_use_is_refused_clearly() {
    let mut world = World::new(1);
    let alice = world.user("alice");
    let info = world.info();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (other, data) = (world.path("data/other").to_string_lossy().into_owned(), world.path("data/alice"));
    refused(&["client", &address, &info, "--data-dir", &other], 1, &[&address, "use"]);
    let data = data.to_string_lossy().into_owned();
    refused(&["client", &free_address(), &info, "--data-dir", &data], 1, &[&data, "use"]);
    let tracker_data = world.path("data/tracker-1").to_string_lossy().into_owned();
    refused(&["tracker", &info, "1", "--data-dir", &other], 1, &[world.address(0), "use"]);
    refused(&["tracker", &info, "1", "--data-dir", &tracker_data], 1, &["use"]);
    assert!(world.tracker(0).is_running());
    drop(alice);
}

#[test]
fn a_data_folder_that_others_can_look_into_is_refused_until_it_is_private() {
    let world = World::new(1);
    let (info, data) = (world.info(), world.path("data/open"));
    let folder = data.to_string_lossy().into_owned();
    fs::create_dir_all(&data).unwrap();
    let set = |mode| fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
    set(0o755);
    refused(&["client", &free_address(), &info, "--data-dir", &folder], 1, &[&folder, "chmod 700"]);
    refused(&["tracker", &info, "1", "--data-dir", &folder], 1, &[&folder, "chmod 700"]);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "nothing was put there");
    set(0o700);
    let output = run(&["client", &free_address(), &info, "--data-dir", &folder, "-c", "help"], "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_tracker_ends_by_quit_and_signals_but_not_by_the_end_of_its_input() {
    let mut world = World::without_trackers(1);
    for end in [None, Some(Signal::TERM), Some(Signal::INT)] {
        world.start_tracker(0);
        match end {
            None => world.tracker(0).say("quit"),
            Some(signal) => {
                world.tracker(0).end_input();
                let mut alice = world.client("alice");
                assert_eq!(alice.fails("login nobody password"), "bad_credentials", "it still serves");
                world.tracker(0).signal(signal);
            }
        }
        let status = world.tracker(0).status();
        assert!(status == Some(0) || (end == Some(Signal::INT) && status == Some(130)), "{end:?}: {status:?}");
    }
}

#[test]
fn a_client_ends_by_quit_by_the_end_of_its_input_and_by_signals() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.say("quit");
    assert_eq!(client.process.status(), Some(0));
    let mut client = world.client("b");
    client.ok("create_user b password");
    client.process.end_input();
    assert_eq!(client.process.status(), Some(0));
    for signal in [Signal::INT, Signal::TERM] {
        let mut client = world.client("c");
        client.ok("help");
        client.process.signal(signal);
        assert_eq!(client.process.status(), Some(130), "{signal:?}");
    }
}

#[test]
fn a_client_told_to_stay_shares_until_a_signal() {
    let world = World::new(1);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    fs::write(world.path("f.bin"), "hello").unwrap();
    alice.ok(&format!("upload_file {} g", world.path("f.bin").display()));
    alice.say("quit");
    alice.process.status();
    let mut staying = Client::start(&world, "alice", &[], &["--stay", "-c", "login alice secret-alice"]);
    assert_eq!(staying.answer()["ok"], true);
    staying.process.end_input();
    assert_eq!(bob.fetch("g", "f.bin", &world.path("copy")), b"hello");
    assert!(staying.process.is_running());
    staying.process.signal(Signal::TERM);
    let status = staying.process.status();
    assert!(matches!(status, Some(0 | 130)), "{status:?}");
}

#[test]
fn a_closed_output_is_a_quiet_end() {
    let world = World::new(1);
    let script = format!(
        "printf 'create_user z pw\\nhelp\\nhelp\\nhelp\\nlist_groups\\n' | {P2P} client {} {} --data-dir {} | head -n 1",
        free_address(),
        world.info(),
        world.path("data/z").display()
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(!text(&output.stderr).contains("panicked"), "{output:?}");
}

#[test]
fn completions_and_the_man_page_are_printed() {
    for arguments in [["completions", "bash"], ["completions", "zsh"], ["completions", "fish"]] {
        assert!(text(&run(&arguments, "").stdout).contains("p2p"), "{arguments:?}");
    }
    assert!(text(&run(&["man"], "").stdout).contains(".TH"));
}
