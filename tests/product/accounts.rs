//! Accounts and sessions, as their owners see them.

use serde_json::Value;

use crate::common::{World, noise, row};

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
