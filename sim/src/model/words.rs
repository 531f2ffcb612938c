//! A line as typed → its words, or what is wrong with it before anybody is asked. Written anew from the contract (DESIGN
//! section 2), so that it disagrees with the program's own parser where that is wrong.

use p2p::protocol::error::ErrorCode::{
    self, BadCredentials, EmptyPath, InvalidName, UnknownCommand, Usage, WeakPassword,
};

/// What an argument is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    NewUser,
    User,
    NewGroup,
    Group,
    File,
    Path,
    NewPassword,
    Password,
    Flag,
}

use Kind::{File, Flag, Group, NewGroup, NewPassword, NewUser, Password, Path, User};

/// Commands with their arguments; those of `optional` are given all or not at all.
const COMMANDS: &[(&str, &[Kind], &[Kind])] = &[
    ("create_user", &[NewUser, NewPassword], &[]),
    ("login", &[User, Password], &[]),
    ("logout", &[], &[]),
    ("create_group", &[NewGroup], &[]),
    ("join_group", &[Group], &[]),
    ("leave_group", &[Group], &[]),
    ("list_requests", &[Group], &[]),
    ("accept_request", &[Group, User], &[]),
    ("reject_request", &[Group, User], &[]),
    ("remove_member", &[Group, User], &[]),
    ("transfer_group", &[Group, User], &[]),
    ("list_groups", &[], &[]),
    ("list_members", &[Group], &[]),
    ("upload_file", &[Path, Group], &[]),
    ("list_files", &[Group], &[]),
    ("file_info", &[Group, File], &[]),
    ("download_file", &[Group, File, Path], &[]),
    ("show_downloads", &[], &[Flag]),
    ("wait", &[], &[Group, File]),
    ("show_shares", &[], &[]),
    ("stop_share", &[Group, File], &[]),
    ("change_password", &[Password, NewPassword], &[]),
    ("whoami", &[], &[]),
    ("trackers", &[], &[]),
];

/// Commands that concern this client alone, or make a login: all others need one.
const FREE: &[&str] = &["create_user", "login", "show_downloads", "wait", "show_shares", "whoami", "trackers"];

/// Whether a command needs a login.
pub(super) fn needs_login(command: &str) -> bool {
    !FREE.contains(&command)
}

/// Words of a line, the command's name first; `''` is an empty one. Or the code with which the line is refused.
pub(super) fn read(line: &str) -> Result<Vec<&str>, ErrorCode> {
    let words: Vec<&str> = line.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
    let (_, needed, optional) = COMMANDS.iter().find(|(name, ..)| *name == words[0]).ok_or(UnknownCommand)?;
    let given = words.len() - 1;
    let kinds: &[Kind] = match given {
        _ if given == needed.len() => needed,
        _ if !optional.is_empty() && given == optional.len() => optional,
        _ => return Err(Usage),
    };
    // A password is looked at before the names.
    let by_weight = |password: bool| {
        let is_password = |kind: &Kind| matches!(kind, NewPassword | Password);
        kinds.iter().zip(&words[1..]).filter(move |(kind, _)| is_password(kind) == password)
    };
    for (kind, word) in by_weight(true).chain(by_weight(false)) {
        check(*kind, word)?;
    }
    Ok(words)
}

fn check(kind: Kind, word: &str) -> Result<(), ErrorCode> {
    let length_is_right = (1..=1024).contains(&word.len());
    match kind {
        NewPassword if !length_is_right => Err(WeakPassword),
        // Nobody can have chosen it.
        Password if !length_is_right => Err(BadCredentials),
        NewUser | NewGroup if word.contains('~') || !is_name(word) => Err(InvalidName),
        User | Group if !is_name(word) => Err(InvalidName),
        File if !is_file_name(word) => Err(InvalidName),
        Path if word.is_empty() => Err(EmptyPath),
        Flag if word != "-v" => Err(Usage),
        _ => Ok(()),
    }
}

/// "1 to 64 characters, letters, digits, `.`, `_`, `-`, first a letter or digit"; then perhaps a lost claim's mark.
fn is_name(text: &str) -> bool {
    let (base, mark) = text.split_once('~').unwrap_or((text, "1"));
    let is_number = |part: &str| part.parse::<u32>().is_ok();
    (1..=64).contains(&base.chars().count())
        && base.starts_with(char::is_alphanumeric)
        && base.chars().all(|c| c.is_alphanumeric() || ".-_".contains(c))
        && mark.split('.').count() <= 2
        && mark.split('.').all(is_number)
}

/// "1 to 255 bytes, no separator, no control character, not `.` or `..`".
fn is_file_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.contains(['/', '\\'])
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_refused_as_the_contract_says() {
        assert_eq!(read("join_group g"), Ok(vec!["join_group", "g"]));
        assert_eq!(read("wait g f"), Ok(vec!["wait", "g", "f"]));
        for (line, code) in [
            ("joingroup g", UnknownCommand),
            ("join_group", Usage),
            ("wait g", Usage),
            ("show_downloads -x", Usage),
            ("create_user a~1 p", InvalidName),
            ("create_user a~1 ''", WeakPassword),
            ("login a ''", BadCredentials),
            ("change_password '' ''", BadCredentials),
            ("join_group a~x", InvalidName),
            ("file_info g ..", InvalidName),
            ("upload_file '' g", EmptyPath),
        ] {
            assert_eq!(read(line), Err(code), "{line}");
        }
    }
}
