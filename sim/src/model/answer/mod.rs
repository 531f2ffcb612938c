//! What a command may be answered with in one world, and how things are then: the contract of DESIGN section 2, command by
//! command.

mod account;
mod file;
mod group;

use p2p::protocol::error::ErrorCode;

use super::{
    event::{Body, Id},
    said::Said,
    view::{Group, View},
    words,
    world::{Client, Next, Session, Who, World, or_stale},
};

/// The answers that may be given to a line.
pub(super) fn to(world: &World, who: &Who, line: &str) -> Vec<Next> {
    let mut next = in_turn(world, who, line, false);
    if world.is_doubled {
        let in_doubt = in_turn(world, who, line, true);
        next.extend(in_doubt.iter().cloned().map(|next| Next { stale: true, ..next }));
        next.extend(in_doubt);
    }
    next
}

/// The answers of a tracker that knows all that the client has seen, as far as the world says; or, `in_doubt`, of one that lacks
/// one of two tries of a request, of which the world does not say who saw which.
fn in_turn(world: &World, who: &Who, line: &str, in_doubt: bool) -> Vec<Next> {
    let turn = Turn { world, who, view: world.view(who.tracker), in_doubt };
    let words = match words::read(line) {
        Ok(words) => words,
        Err(code) => return turn.says(Said::Refused(code)),
    };
    if words::needs_login(words[0]) && turn.client().session.is_none() {
        return turn.says(Said::Refused(ErrorCode::NotLoggedIn));
    }
    let refused = |code| turn.says(Said::Refused(or_stale(code, turn.is_caught_up())));
    let mut next = turn.answer(&words).unwrap_or_else(refused);
    if turn.looks_first(&words) {
        for next in &mut next {
            next.world.see_all(who);
        }
    }
    next
}

/// The answers to a line that begins with a question, where that is answered by one tracker and the rest by another, which may
/// know neither the group nor its member.
pub(super) fn in_two_places(world: &World, from: &Who, to: &Who, line: &str) -> Vec<Next> {
    let Ok(words) = words::read(line) else { return Vec::new() };
    let turn = Turn { world, who: from, view: world.view(from.tracker), in_doubt: false };
    let is_asked = !words::needs_login(words[0]) || turn.client().session.is_some();
    if !is_asked || !turn.looks_first(&words) {
        return Vec::new();
    }
    let mut world = world.clone();
    world.see_all(from);
    let mut next = self::to(&world.with_client_at(to), to, line);
    if words[0] != "trackers" {
        next.push(Next { said: Said::Refused(ErrorCode::Stale), stale: false, world });
    }
    next
}

/// Answers, or the code of a refusal that depends on what the tracker knows.
type Answers = Result<Vec<Next>, ErrorCode>;

/// One command's turn in one world.
struct Turn<'a> {
    world: &'a World,
    who: &'a Who,
    view: View,
    in_doubt: bool,
}

impl Turn<'_> {
    fn answer(&self, words: &[&str]) -> Answers {
        match *words {
            ["create_user", name, password] => self.create_user(name, password),
            ["login", name, password] => Ok(self.login(name, password)),
            ["logout"] => Ok(self.logout()),
            ["change_password", old, new] => Ok(self.change_password(old, new)),
            ["whoami"] => Ok(self.who_am_i()),
            ["trackers"] => Ok(self.trackers()),
            ["create_group", name] => self.create_group(name),
            ["join_group", group] => self.join_group(group),
            ["leave_group", group] => self.leave_group(group),
            ["accept_request", group, user] => self.accept_request(group, user),
            ["reject_request", group, user] => self.reject_request(group, user),
            ["remove_member", group, user] => self.remove_member(group, user),
            ["transfer_group", group, user] => self.transfer_group(group, user),
            ["list_groups"] => Ok(self.list_groups()),
            ["list_members", group] => self.list_members(group),
            ["list_requests", group] => self.list_requests(group),
            ["upload_file", path, group] => self.upload_file(path, group),
            ["list_files", group] => self.list_files(group),
            ["file_info", group, file] => self.file_info(group, file),
            ["download_file", group, file, to] => self.download_file(group, file, to),
            ["show_downloads", ..] => Ok(self.show_downloads()),
            ["wait", ref download @ ..] => Ok(self.wait(download)),
            ["show_shares"] => Ok(self.show_shares()),
            ["stop_share", group, file] => Ok(self.stop_share(group, file)),
            _ => Ok(self.says(Said::Other("a command that the model does not know".to_owned()))),
        }
    }

    /// Whether a command begins with a question that is answered, whatever comes after.
    fn looks_first(&self, words: &[&str]) -> bool {
        match *words {
            ["trackers"] => self.client().session.is_some(),
            ["leave_group", group] => self.group(group).is_ok(),
            ["upload_file", path, group] => self.client().disk.contains_key(path) && self.group(group).is_ok(),
            ["download_file", group, file, _] => {
                self.own_group(group).is_ok_and(|(_, group, _)| group.file(file).is_some())
            }
            _ => false,
        }
    }

    fn client(&self) -> &Client {
        &self.world.clients[self.who.client]
    }

    /// Who is logged in; commands that need a login come here with one.
    fn session(&self) -> Session {
        self.client().session.expect("a login was required")
    }

    fn user(&self) -> Id {
        self.session().user
    }

    /// Whether the tracker knows all that the client has seen.
    fn is_caught_up(&self) -> bool {
        !self.in_doubt && self.world.known(self.who.tracker).includes(self.client().seen)
    }

    /// An answer that changes nothing and shows nothing.
    fn says(&self, said: Said) -> Vec<Next> {
        vec![Next { said, stale: false, world: self.world.clone() }]
    }

    /// The answer to a question: it shows all that the tracker knows, and is marked where that is less than was seen.
    fn shows(&self, said: Said) -> Vec<Next> {
        let mut world = self.world.clone();
        world.see_all(self.who);
        vec![Next { said, stale: !self.is_caught_up(), world }]
    }

    /// The answer to a write.
    fn writes(&self, said: Said, body: Body) -> Vec<Next> {
        let mut world = self.world.clone();
        world.append(self.who, body);
        vec![Next { said, stale: false, world }]
    }

    /// The group of this name.
    fn group(&self, name: &str) -> Result<(Id, &Group), ErrorCode> {
        self.view.group_named(name).ok_or(ErrorCode::NoSuchGroup)
    }

    /// The group of this name, of which the caller is a member; the caller's instance.
    fn own_group(&self, name: &str) -> Result<(Id, &Group, Id), ErrorCode> {
        let (id, group) = self.group(name)?;
        let instance = group.members.get(&self.user()).ok_or(ErrorCode::NotAMember)?;
        Ok((id, group, *instance))
    }

    /// A write is taken only where the account is known.
    fn require_account(&self) -> Result<(), ErrorCode> {
        if self.view.users.contains_key(&self.user()) { Ok(()) } else { Err(ErrorCode::Stale) }
    }
}
