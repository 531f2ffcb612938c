//! The model itself: what it allows, and what it does not.

use p2p::protocol::{client::Standing, error::ErrorCode};

use super::{
    said::{GroupRow, Leaving},
    *,
};

/// A model at work, told answers directly.
struct Stage {
    model: Model,
    now: u64,
}

impl Stage {
    /// Two trackers; ann, ben and cat at clients 0, 1 and 2, and ann's group `g`, of which ben is a member.
    fn set() -> Self {
        let mut stage = Self { model: Model::new(2, 3), now: 0 };
        for (client, name) in ["ann", "ben", "cat"].into_iter().enumerate() {
            stage.hears(client, 0, &format!("create_user {name} secret"), &Said::Done);
            stage.hears(client, 0, &format!("login {name} secret"), &Said::LoggedIn(name.to_owned()));
        }
        stage.hears(0, 0, "create_group g", &Said::Done);
        stage.hears(1, 0, "join_group g", &Said::Done);
        stage.hears(0, 0, "accept_request g ben", &Said::Done);
        stage
    }

    fn who(&mut self, client: usize, tracker: usize) -> Who {
        self.now += 100;
        Who { client, tracker, now: self.now, skew: 0 }
    }

    fn told(&mut self, client: usize, tracker: usize, line: &str, said: &Said, stale: bool) -> Result<(), String> {
        let who = self.who(client, tracker);
        self.model.look_into_hiding(who.now);
        let allowed: Vec<Next> = self.model.worlds.iter().flat_map(|world| answer::to(world, &who, line)).collect();
        self.model.choose_said(&allowed, said, stale)
    }

    fn hears(&mut self, client: usize, tracker: usize, line: &str, said: &Said) {
        assert_eq!(self.told(client, tracker, line, said, false), Ok(()), "{line}");
    }

    fn refused(&mut self, client: usize, tracker: usize, line: &str, code: ErrorCode) {
        self.hears(client, tracker, line, &Said::Refused(code));
    }

    fn cut_off(&mut self, client: usize, line: &str) {
        let who = self.who(client, 0);
        self.model.unheard(&who, line);
    }

    fn speaks_to(&mut self, client: usize, tracker: usize) {
        let who = self.who(client, tracker);
        self.model.speaks_to(&who);
    }

    fn part(&mut self) {
        self.model.split(&[0, 1], self.now);
    }

    fn heal(&mut self) {
        self.model.split(&[0, 0], self.now);
    }

    fn groups(&self) -> Vec<String> {
        self.model.groups()
    }
}

#[test]
fn a_wrong_answer_is_not_allowed() {
    let mut stage = Stage::set();
    assert!(stage.told(2, 0, "list_members g", &Said::Members(Vec::new()), false).is_err());
    stage.refused(2, 0, "list_members g", ErrorCode::NotAMember);
    stage.refused(2, 0, "accept_request g ben", ErrorCode::NotOwner);
    stage.refused(0, 0, "accept_request g ben", ErrorCode::AlreadyMember);
    stage.hears(0, 0, "leave_group g", &Said::Left(Leaving::Passed("ben".to_owned())));
    stage.hears(1, 0, "leave_group g", &Said::Left(Leaving::Dissolved));
    stage.refused(1, 0, "join_group g", ErrorCode::NoSuchGroup);
}

#[test]
fn an_observation_decides_what_became_of_a_command_cut_off() {
    for (happened, code) in [(true, ErrorCode::GroupExists), (false, ErrorCode::NoSuchGroup)] {
        let mut stage = Stage::set();
        stage.cut_off(1, "create_group h");
        assert!(stage.model.worlds.len() > 1);
        stage.model.settled(stage.now);
        if happened {
            stage.refused(2, 0, "create_group h", code);
        } else {
            stage.refused(2, 0, "join_group h", code);
        }
        let exists = |world: &World| world.view(0).group_named("h").is_some();
        assert!(stage.model.worlds.iter().all(|world| exists(world) == happened), "decided");
    }
}

#[test]
fn what_is_hidden_may_come_to_light_later_and_then_the_later_claim_is_renamed() {
    let mut stage = Stage::set();
    stage.cut_off(1, "create_group h");
    stage.hears(2, 0, "create_group h", &Said::Done);
    stage.model.settled(stage.now);
    let row = |name: &str, owner: &str, standing| {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        GroupRow { name, owner, members: 1, standing }
    };
    let own = GroupRow { members: 2, ..row("g", "ann", Standing::None) };
    let groups = vec![own, row("h", "ben", Standing::None), row("h~1", "cat", Standing::Owner)];
    stage.hears(2, 0, "list_groups", &Said::Groups(groups));
}

#[test]
fn two_claims_to_one_name_are_both_kept() {
    let mut stage = Stage::set();
    stage.part();
    stage.hears(1, 1, "create_group h", &Said::Done);
    stage.hears(2, 0, "create_group h", &Said::Done);
    stage.heal();
    let mut groups = stage.groups();
    groups.sort();
    assert_eq!(groups, ["g", "h", "h~1"], "the later one was taken by the first tracker");
}

#[test]
fn an_end_beats_a_concurrent_accept_and_a_new_request_is_a_new_instance() {
    let mut stage = Stage::set();
    stage.hears(2, 0, "join_group g", &Said::Done);
    stage.part();
    stage.hears(0, 0, "accept_request g cat", &Said::Done);
    stage.hears(2, 1, "leave_group g", &Said::Left(Leaving::Withdrawn));
    stage.heal();
    stage.refused(2, 0, "list_files g", ErrorCode::NotAMember);
    stage.hears(2, 0, "join_group g", &Said::Done);
    stage.hears(0, 0, "accept_request g cat", &Said::Done);
    stage.hears(2, 0, "list_files g", &Said::Files(Vec::new()));
}

#[test]
fn revocation_beats_use() {
    let mut stage = Stage::set();
    stage.hears(2, 0, "join_group g", &Said::Done);
    stage.part();
    stage.hears(0, 1, "logout", &Said::Done);
    stage.hears(0, 1, "login ann secret", &Said::LoggedIn("ann".to_owned()));
    stage.hears(0, 1, "accept_request g cat", &Said::Done);
    // The same user, on another device, on the other side.
    stage.hears(2, 0, "logout", &Said::Done);
    stage.hears(2, 0, "login ann secret", &Said::LoggedIn("ann".to_owned()));
    stage.hears(2, 0, "transfer_group g ben", &Said::Done);
    stage.heal();
    stage.hears(1, 0, "list_requests g", &Said::Requests(vec!["cat".to_owned()]));
}

#[test]
fn of_two_hand_overs_the_last_one_counts() {
    let mut stage = Stage::set();
    stage.hears(2, 0, "join_group g", &Said::Done);
    stage.hears(0, 0, "accept_request g cat", &Said::Done);
    stage.hears(1, 1, "logout", &Said::Done);
    stage.hears(1, 1, "login ann secret", &Said::LoggedIn("ann".to_owned()));
    stage.part();
    stage.hears(1, 1, "transfer_group g cat", &Said::Done);
    stage.hears(0, 0, "transfer_group g ben", &Said::Done);
    stage.heal();
    stage.refused(2, 0, "list_requests g", ErrorCode::NotOwner);
    stage.refused(0, 0, "list_requests g", ErrorCode::NotOwner);
}

#[test]
fn an_answer_older_than_what_was_seen_is_marked() {
    let mut stage = Stage::set();
    stage.part();
    stage.hears(1, 0, "create_group h", &Said::Done);
    let groups = |names: &[&str]| {
        let row = |name: &&str| {
            let (members, owner, standing) =
                if *name == "g" { (2, "ann", Standing::Member) } else { (1, "ben", Standing::Owner) };
            GroupRow { name: (*name).to_owned(), owner: owner.to_owned(), members, standing }
        };
        Said::Groups(names.iter().map(row).collect())
    };
    assert!(stage.told(1, 1, "list_groups", &groups(&["g"]), false).is_err(), "not marked");
    assert_eq!(stage.told(1, 1, "list_groups", &groups(&["g"]), true), Ok(()));
    stage.refused(1, 1, "list_files h", ErrorCode::Stale);
    stage.heal();
    assert_eq!(stage.told(1, 1, "list_groups", &groups(&["g", "h"]), false), Ok(()));
}

#[test]
fn a_repeat_at_another_tracker_is_the_same_thing() {
    let mut stage = Stage::set();
    stage.part();
    let (from, to) = (stage.who(1, 0), stage.who(1, 1));
    let done = Ok(Outcome { reply: p2p::roles::client::command::Reply::Done, stale: false });
    assert_eq!(stage.model.heard_at_either(&from, &to, "create_group h", &done), Ok(()));
    stage.heal();
    for world in &stage.model.worlds {
        let mut names: Vec<String> = world.view(0).groups.into_values().map(|group| group.name).collect();
        names.sort();
        assert_eq!(names, ["g", "h"]);
    }
}

#[test]
fn a_changed_password_ends_the_other_sessions() {
    let mut stage = Stage::set();
    stage.hears(2, 0, "logout", &Said::Done);
    stage.hears(2, 0, "login ann secret", &Said::LoggedIn("ann".to_owned()));
    stage.hears(0, 0, "change_password secret other", &Said::Done);
    stage.refused(2, 0, "list_groups", ErrorCode::NotLoggedIn);
    stage.refused(2, 0, "login ann secret", ErrorCode::BadCredentials);
    stage.hears(2, 0, "login ann other", &Said::LoggedIn("ann".to_owned()));
}

#[test]
fn a_session_outlives_the_password_it_set_only_where_it_set_the_one_that_counts() {
    for goes_on in [true, false] {
        let mut stage = Stage::set();
        stage.hears(1, 1, "logout", &Said::Done);
        stage.hears(1, 1, "login ann secret", &Said::LoggedIn("ann".to_owned()));
        stage.speaks_to(1, 1);
        stage.part();
        let ahead = Who { skew: 60_000, ..stage.who(0, 0) };
        let done = Ok(Outcome { reply: p2p::roles::client::command::Reply::Done, stale: false });
        assert_eq!(stage.model.heard(&ahead, "change_password secret other", &done, true), Ok(()));
        // The same session sets another on the other side, or one that was always there does.
        let client = usize::from(!goes_on);
        stage.speaks_to(client, 1);
        stage.hears(client, 1, "change_password secret third", &Said::Done);
        stage.heal();
        stage.hears(client, 1, "logout", &if goes_on { Said::Done } else { Said::Refused(ErrorCode::NotLoggedIn) });
        stage.hears(client, 1, "login ann other", &Said::LoggedIn("ann".to_owned()));
    }
}
