//! Accounts and sessions, as their owners see them.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant},
};

use p2p::{
    protocol::{
        client::{FromTracker, Password, Request, ToTracker, VERSION},
        device::DeviceSecret,
        error::ErrorCode,
        name::UserName,
        version::VersionVector,
    },
    transport::{
        link::dial,
        tcp::Tcp,
        tls::{Identity, Protocol},
    },
};
use serde_json::Value;

use crate::common::{World, noise, row, run};

fn sessions(answer: &Value) -> Vec<(&str, bool, bool)> {
    let all = answer["sessions"].as_array().unwrap();
    let entry = |entry: &'_ Value| (entry["online"].as_bool().unwrap(), entry["current"].as_bool().unwrap());
    all.iter().map(|one| (one["session"].as_str().unwrap(), entry(one).0, entry(one).1)).collect()
}

#[test]
fn a_lost_laptop_is_logged_out_from_the_desktop() {
    let mut world = World::new(2);
    let [mut owner, mut desktop] = world.group("g", ["owner", "desktop"]);
    let file = world.path("film");
    std::fs::write(&file, noise(1, 24 << 20)).unwrap();
    owner.ok(&format!("upload_file {} g", file.display()));
    owner.ok("set_limit up 1MiB");
    let mut laptop = world.client("laptop");
    laptop.until("the account", "login desktop secret-desktop", |answer| answer["ok"] == true);
    laptop.ok(&format!("download_file g film {}", world.folder("copies").display()));
    laptop.download_until("it is served", "film", |row| row["have"].as_u64().unwrap() > 0);

    let listed = desktop.until("both sessions", "list_sessions", |answer| sessions(answer).len() == 2);
    let [(first, true, true), (second, true, false)] = sessions(&listed)[..] else { panic!("{listed}") };
    assert_ne!(first, second);
    desktop.ok(&format!("end_session {}", &second[..6]));
    assert_eq!(sessions(&desktop.ok("list_sessions")).len(), 1);
    laptop.event("the end of its session", |event| event["event"] == "session_ended");
    assert_eq!(laptop.fails("list_groups"), "not_logged_in");
    owner.until("it is served no more", "show_peers g film", |answer| answer["peers"].as_array().unwrap().is_empty());

    // What was ended stays so, also at a tracker that starts again, and a new login is a new session.
    world.kill_tracker(0);
    world.start_tracker(0);
    laptop.ok("login desktop secret-desktop");
    assert_eq!(sessions(&laptop.ok("list_sessions")).len(), 2);
    laptop.kill();
    let is_offline = |answer: &Value| sessions(answer).iter().filter(|(_, online, _)| !online).count() == 1;
    desktop.until("the laptop is offline, and still logged in", "list_sessions", is_offline);
}

#[test]
fn a_session_is_gone_with_the_logout_and_others_with_a_new_password() {
    let world = World::new(1);
    let mut one = world.user("one");
    let mut two = world.client("two");
    two.ok("login one secret-one");
    one.ok("logout");
    assert_eq!(sessions(&two.ok("list_sessions")).len(), 1);
    one.ok("login one secret-one");
    one.ok("change_password secret-one secret-two");
    two.event("the end of its session", |event| event["event"] == "session_ended");
    assert_eq!(two.fails("login one secret-one"), "bad_credentials");
    let listed = one.ok("list_sessions");
    assert!(matches!(sessions(&listed)[..], [(_, true, true)]), "{listed}");
    let group = one.ok("create_group g");
    assert_eq!(row(&one.ok("list_groups"), "groups", "g")["standing"], "owner", "{group}");
}

#[test]
fn a_closed_account_is_gone_with_all_it_had() {
    let world = World::new(2);
    let [mut owner, mut member] = world.group("g", ["owner", "member"]);
    let file = world.path("film");
    std::fs::write(&file, noise(1, 100_000)).unwrap();
    owner.ok(&format!("upload_file {} g", file.display()));
    assert_eq!(owner.fails("close_account wrong"), "bad_credentials");
    owner.ok("close_account secret-owner");
    assert_eq!(owner.fails("list_groups"), "not_logged_in");
    assert_eq!(owner.fails("login owner secret-owner"), "bad_credentials");
    assert_eq!(owner.fails("create_user owner secret-owner"), "user_exists");
    let listed =
        member.until("the group has passed", "list_groups", |answer| row(answer, "groups", "g")["owner"] == "member");
    assert_eq!(row(&listed, "groups", "g")["members"], 1);
    assert!(member.ok("list_files g")["files"].as_array().unwrap().is_empty());
    assert!(file.exists(), "what rests on the disk stays");
}

#[test]
fn no_core_file_is_written_and_open_password_files_are_warned_of() {
    let mut world = World::new(1);
    let ann = world.user("ann");
    for process in [&ann.process, &*world.tracker(0)] {
        let limits = process.system_says("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
    }
    let file = world.path("password");
    std::fs::write(&file, "secret-ann\n").unwrap();
    for (mode, is_warned) in [(0o600, false), (0o644, true)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let data = world.path("data/other").to_string_lossy().into_owned();
        let (info, file) = (world.info(), file.to_string_lossy().into_owned());
        let client = ["client", "127.0.0.1:0", &info, "--data-dir", &data, "-c", "whoami"];
        let output = run(&[&client[..], &["--login", "ann", "--password-file", &file]].concat(), "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(said.contains("chmod 600"), is_warned, "{said}");
    }
}

/// Logs in so many times at once on one link, and counts what that is answered with.
async fn log_in_often(tracker: String, device: u8, name: String, times: u64) -> BTreeMap<Option<ErrorCode>, u64> {
    let identity = Identity::new(&DeviceSecret::from_seed([device; 32]));
    let link = dial(&Tcp, &identity, &tracker, Protocol::Tracker, None).await.unwrap();
    let (mut reader, mut writer) = link.split();
    writer.send(&ToTracker::Hello { version: VERSION, session: None, seen: VersionVector::default() }).await.unwrap();
    for seq in 0..times {
        let (user, password) = (UserName::parse(&name).unwrap(), Password(format!("secret-{name}")));
        let nonce = [device; 16].map(|byte| byte.wrapping_add(u8::try_from(seq).unwrap()));
        let (seen, request) = (VersionVector::default(), Request::Login { user, password });
        writer.send(&ToTracker::Request { seq, nonce, seen, request }).await.unwrap();
    }
    let mut answers = BTreeMap::new();
    while answers.values().sum::<u64>() < times {
        if let FromTracker::Answer { result, .. } = reader.message().await.unwrap().unwrap() {
            *answers.entry(result.err().map(|failure| failure.code)).or_default() += 1;
        }
    }
    answers
}

#[test]
fn a_thousand_logins_at_once_take_neither_the_memory_nor_the_time_of_others() {
    let mut world = World::new(1);
    let (mut ann, _bob) = (world.user("ann"), world.user("bob"));
    let tracker = world.address(0).to_owned();
    let flood = thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let links =
                (1..=50).map(|device| tokio::spawn(log_in_often(tracker.clone(), device, "bob".to_owned(), 20)));
            let mut all: BTreeMap<Option<ErrorCode>, u64> = BTreeMap::new();
            for link in links.collect::<Vec<_>>() {
                for (answer, count) in link.await.unwrap() {
                    *all.entry(answer).or_default() += count;
                }
            }
            all
        })
    });
    let mut slowest = Duration::ZERO;
    while !flood.is_finished() {
        let asked = Instant::now();
        ann.ok("list_groups");
        slowest = slowest.max(asked.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    let answers = flood.join().unwrap();
    assert_eq!(answers.values().sum::<u64>(), 1000, "{answers:?}");
    assert!(answers.get(&None).is_some_and(|count| *count > 0), "some go through: {answers:?}");
    let refused = answers.get(&Some(ErrorCode::TooManyAttempts)).copied().unwrap_or(0);
    assert!(refused > 500, "what cannot wait is refused: {answers:?}");
    assert!(slowest < Duration::from_secs(3), "others are answered meanwhile: {slowest:?}");
    let peak = world.tracker(0).peak_mib();
    assert!(peak < 256, "a thousand hashes side by side would take 19 GiB; it took {peak} MiB");
    ann.ok("create_group still");
}
