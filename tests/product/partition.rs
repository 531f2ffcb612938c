//! Two trackers on a network that is cut between them, while clients reach both: each side goes on alone, and both agree after.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::common::{Client, Cut, Gate, Network, World, free_address, row, write_noise};

/// Two trackers, each behind a gate at its listed address.
struct Split {
    world: World,
    network: Network,
    gates: [Gate; 2],
}

impl Split {
    fn new() -> Self {
        let mut world = World::without_trackers(2);
        let network = Network::new();
        let gates = [0, 1].map(|index| {
            let bound = free_address();
            let gate = Gate::open(&network, world.address(index), &bound);
            world.start_tracker_at(index, &bound);
            gate
        });
        Self { world, network, gates }
    }

    /// A client that is linked to tracker `index`, and stays there: the tracker in use is preferred to any other.
    fn client(&self, name: &str, index: usize) -> Client {
        self.gates[1 - index].admit_clients(false);
        let mut client = self.world.client(name);
        client.until("it is linked", "trackers", |answer| answer["trackers"][index]["current"] == true);
        self.gates[1 - index].admit_clients(true);
        client
    }

    /// The same, registered and logged in.
    fn user(&self, name: &str, index: usize) -> Client {
        let mut client = self.client(name, index);
        client.register();
        client
    }

    /// Cuts or heals, and waits until the trackers of these clients have noticed.
    fn set(&self, cut: Cut, clients: [&mut Client; 2]) {
        self.world.journal.note("network", &format!("{cut:?}"));
        self.network.set(cut);
        let is_as_wanted = |tracker: &Value| {
            if cut == Cut::Whole {
                tracker["reachable"] == true && tracker["lag"] == 0
            } else {
                tracker["reachable"] == (tracker["current"] == true)
            }
        };
        for client in clients {
            client.until("the trackers notice", "trackers", |answer| {
                answer["trackers"].as_array().is_some_and(|trackers| trackers.iter().all(is_as_wanted))
            });
        }
    }
}

/// What `list_groups` says of each group, but for the caller's own standing.
fn groups(client: &mut Client) -> BTreeSet<(String, String, u64)> {
    let answer = client.ok("list_groups");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let groups = answer["groups"].as_array().unwrap().iter();
    groups.map(|group| (text(&group["name"]), text(&group["owner"]), group["members"].as_u64().unwrap())).collect()
}

fn listed(groups: [(&str, &str, u64); 3]) -> BTreeSet<(String, String, u64)> {
    groups.map(|(name, owner, members)| (name.to_owned(), owner.to_owned(), members)).into()
}

fn requests(client: &mut Client, group: &str) -> Vec<String> {
    let answer = client.ok(&format!("list_requests {group}"));
    answer["requests"].as_array().unwrap().iter().map(|row| row["user"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn names_and_requests_of_both_sides_are_there_after_a_silent_partition() {
    let split = Split::new();
    let (mut ann, mut bob) = (split.user("ann", 0), split.user("bob", 1));
    let (mut carol, mut dave) = (split.user("carol", 0), split.user("dave", 1));
    let (mut first, mut second) = (split.client("first", 0), split.client("second", 1));
    ann.ok("create_group team");
    split.set(Cut::Whole, [&mut ann, &mut bob]);

    split.set(Cut::Silent, [&mut ann, &mut bob]);
    ann.ok("create_group same");
    bob.ok("create_group same");
    first.ok("create_user twin the-first");
    second.ok("create_user twin the-second");
    bob.ok("join_group team");
    carol.ok("join_group same");
    dave.ok("join_group same");
    assert_eq!(row(&ann.ok("list_groups"), "groups", "same")["owner"], "ann");
    assert_eq!(row(&bob.ok("list_groups"), "groups", "same")["owner"], "bob");
    assert!(requests(&mut ann, "team").is_empty(), "what the other side took has not come");

    split.set(Cut::Whole, [&mut ann, &mut bob]);
    let all = listed([("same", "ann", 1), ("same~2", "bob", 1), ("team", "ann", 1)]);
    assert_eq!(groups(&mut ann), all);
    assert_eq!(groups(&mut bob), all);
    assert_eq!(requests(&mut ann, "team"), ["bob"]);
    assert_eq!(requests(&mut ann, "same"), ["carol"]);
    assert_eq!(requests(&mut bob, "same~2"), ["dave"]);
    bob.event("its group is called otherwise", |event| event["event"] == "renamed" && event["to"] == "same~2");

    first.ok("login twin the-first");
    assert_eq!(first.ok("whoami")["user"], "twin");
    assert_eq!(second.fails("login twin neither"), "bad_credentials");
    second.ok("login twin the-second");
    assert_eq!(second.ok("whoami")["user"], "twin~2", "the later account is found by the name it asked for");
}

#[test]
fn what_either_side_ends_stays_ended_and_what_it_shares_arrives() {
    let split = Split::new();
    let (mut ann, mut bob) = (split.user("ann", 0), split.user("bob", 1));
    let mut eve = split.user("eve", 1);
    ann.ok("create_group team");
    bob.join(&mut ann, "team");
    eve.ok("join_group team");
    split.set(Cut::Whole, [&mut ann, &mut bob]);

    split.set(Cut::Reset, [&mut ann, &mut bob]);
    ann.ok("accept_request team eve");
    eve.ok("leave_group team");
    bob.ok("create_group theirs");
    let content = write_noise(&split.world.path("of-bob.bin"), 3, 1_500_000);
    bob.ok(&format!("upload_file {} team", split.world.path("of-bob.bin").display()));
    assert_eq!(ann.ok("list_groups")["groups"].as_array().unwrap().len(), 1);

    split.set(Cut::Whole, [&mut ann, &mut bob]);
    for client in [&mut ann, &mut bob] {
        let team = row(&client.ok("list_groups"), "groups", "team");
        assert_eq!(team["members"], 2, "the withdrawal wins over the accept: {team}");
        assert!(!row(&client.ok("list_groups"), "groups", "theirs").is_null());
        client.until("the seeder", "list_files team", |a| row(a, "files", "of-bob.bin")["seeders"] == 1);
    }
    assert_eq!(eve.fails("list_files team"), "not_a_member");
    assert!(ann.fetch("team", "of-bob.bin", &split.world.path("copy")) == content);
}
