//! A session on a pseudo-terminal: prompt, completion, hidden password, bars, notices.

use std::{fs, process::Command};

use expectrl::{Expect as _, Regex, session::OsSession};

use crate::common::{P2P, PATIENCE, World, eventually, free_address, write_noise};

const TAB: &str = "\t";

/// What the editor tells the terminal when a new line begins: pasted text is to be marked.
const NEW_LINE: &str = "\u{1b}\\[\\?2004h";

/// A client on a terminal of 100 columns.
fn terminal(world: &World, name: &str) -> OsSession {
    let mut command = Command::new(P2P);
    command.args(["client", &free_address(), &world.info(), "--data-dir"]);
    command.arg(world.path(&format!("data/{name}"))).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    let mut session = OsSession::spawn(command).unwrap();
    session.get_process_mut().set_window_size(100, 30).unwrap();
    session.set_expect_timeout(Some(PATIENCE));
    session
}

/// Waits for a pattern; returns what came before it and the match.
#[track_caller]
fn expect(session: &mut OsSession, pattern: &str) -> String {
    match session.expect(Regex(pattern)) {
        Ok(found) => {
            String::from_utf8_lossy(found.before()).into_owned() + &String::from_utf8_lossy(found.get(0).unwrap())
        }
        Err(error) => {
            let mut rest = vec![0; 1 << 16];
            let length = session.try_read(&mut rest).unwrap_or(0);
            panic!(
                "`{pattern}` does not appear: {error}; on the screen: {:?}",
                String::from_utf8_lossy(&rest[..length])
            )
        }
    }
}

/// Waits for the end of the client. Not for the end of its output: what other tests start may hold the terminal open.
#[track_caller]
fn ends(session: &mut OsSession) {
    let mut rest = [0; 4096];
    eventually("the client ends", || {
        let _ = session.try_read(&mut rest);
        (!session.get_process().is_alive().unwrap()).then_some(())
    });
}

#[track_caller]
fn say(session: &mut OsSession, line: &str) {
    session.send(format!("{line}\r")).unwrap();
}

#[test]
fn a_password_is_asked_for_and_never_shown_or_kept() {
    let world = World::new(1);
    let mut session = terminal(&world, "alice");
    expect(&mut session, "> ");
    say(&mut session, "create_user alice");
    expect(&mut session, "(?i)password.*: ?");
    say(&mut session, "hush-hush");
    let mut shown = expect(&mut session, "(?i)once more: ?");
    say(&mut session, "hush-hush");
    shown += &expect(&mut session, "(?i)registered");
    say(&mut session, "login alice");
    shown += &expect(&mut session, "(?i)password.*: ?");
    say(&mut session, "hush-hush");
    say(&mut session, "change_password hush-hush hush-again");
    say(&mut session, "whoami");
    shown += &expect(&mut session, "127\\.0\\.0\\.1:");
    assert!(!shown.replace("change_password hush-hush", "").contains("hush-hush"), "{shown}");
    say(&mut session, "quit");
    ends(&mut session);
    for entry in walk(&world.path("data/alice")) {
        let bytes = fs::read(&entry).unwrap();
        for secret in [b"hush-hush", b"hush-agai"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "in {}", entry.display());
        }
    }
}

#[test]
fn commands_and_names_are_completed() {
    let world = World::new(1);
    let mut session = terminal(&world, "alice");
    expect(&mut session, "> ");
    session.send(format!("create_u{TAB}")).unwrap();
    expect(&mut session, "create_user ");
    session.send("alice pw\r").unwrap();
    session.send("login alice pw\r").unwrap();
    expect(&mut session, "(?i)logged in");
    say(&mut session, "create_group some-long-name");
    say(&mut session, "list_groups");
    expect(&mut session, "owner");
    session.send(format!("list_mem{TAB}some-l{TAB}")).unwrap();
    expect(&mut session, "list_members some-long-name");
    session.send("\r").unwrap();
    expect(&mut session, "alice");
    fs::create_dir(world.path("a-folder")).unwrap();
    write_noise(&world.path("a-folder/picture.png"), 1, 1000);
    session.send(format!("upload_file {}/a-fo{TAB}pict{TAB}", world.path("").display())).unwrap();
    expect(&mut session, "picture\\.png");
    session.send("\u{3}").unwrap();
    expect(&mut session, NEW_LINE);
    say(&mut session, "quit");
    ends(&mut session);
}

#[test]
fn bars_show_progress_and_notices_appear_above_the_prompt() {
    let world = World::new(1);
    let mut bob = world.user("bob");
    let mut session = terminal(&world, "alice");
    expect(&mut session, "> ");
    say(&mut session, "create_user alice pw");
    say(&mut session, "login alice pw");
    expect(&mut session, "(?i)logged in");
    say(&mut session, "create_group g");
    say(&mut session, "list_groups");
    expect(&mut session, "owner");

    bob.ok("join_group g");
    expect(&mut session, "bob");
    say(&mut session, "accept_request g bob");
    bob.event("accepted", |event| event.to_string().contains("\"g\""));
    write_noise(&world.path("big.bin"), 1, 24 << 20);
    bob.ok(&format!("upload_file {} g", world.path("big.bin").display()));
    bob.ok("set_limit up 8MiB");
    say(&mut session, &format!("download_file g big.bin {}", world.path("copy").display()));
    // A percentage between nothing and all, drawn while the download is under way.
    expect(&mut session, "\\b[1-9][0-9]?(\\.[0-9])? ?%");
    say(&mut session, "wait");
    say(&mut session, "show_downloads");
    expect(&mut session, "\\[C\\]");
    assert!(fs::read(world.path("copy")).unwrap() == fs::read(world.path("big.bin")).unwrap());
    say(&mut session, "quit");
    ends(&mut session);
}

#[test]
fn control_c_clears_the_line_and_control_d_ends() {
    let world = World::new(1);
    let mut session = terminal(&world, "alice");
    expect(&mut session, NEW_LINE);
    session.send("half a comm\u{3}").unwrap();
    expect(&mut session, NEW_LINE);
    say(&mut session, "help");
    expect(&mut session, "download_file");
    expect(&mut session, NEW_LINE);
    session.send("\u{4}").unwrap();
    ends(&mut session);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
