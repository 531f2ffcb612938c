//! A line as typed → a command, or the exact error.

use std::path::PathBuf;

use zeroize::Zeroize as _;

use super::{
    Command, Direction, Rate, SessionName,
    table::{self, Spec},
    words,
};
use crate::protocol::{
    client::Password,
    error::{ErrorCode, Failure},
    name::{FileName, GroupName, UserName},
};

/// Most bytes in a password.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// A line that says something.
#[derive(Debug)]
pub struct Parsed {
    /// The command's name, as typed.
    pub name: String,
    /// What it asks for.
    pub line: Result<Line, Failure>,
}

/// What a line asks for.
#[derive(Debug)]
pub enum Line {
    /// A command for the client.
    Run(Command),
    /// A command whose passwords were left out: ask for them.
    AskPassword(AskPassword),
    /// `help [command]`
    Help(Option<&'static Spec>),
    /// `quit`
    Quit,
}

/// A command that lacks its passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskPassword {
    /// `create_user <user>`
    CreateUser {
        /// Its user.
        user: UserName,
    },
    /// `login <user>`
    Login {
        /// Its user.
        user: UserName,
    },
    /// `close_account`
    CloseAccount,
    /// `change_password`
    ChangePassword,
}

/// Parses a line; `None` when it is blank.
pub fn parse(line: &str) -> Option<Parsed> {
    let Ok(mut words) = words::split(line) else {
        let (before, last) = words::split_unfinished(line);
        let name = before.into_iter().next().unwrap_or(last.text);
        return Some(Parsed { name, line: Err(unclosed()) });
    };
    if words.is_empty() {
        return None;
    }
    let arguments = words.split_off(1);
    let typed = words.swap_remove(0);
    let Some(spec) = table::find(&typed) else {
        let line = Err(unknown_command(&typed));
        return Some(Parsed { name: typed, line });
    };
    Some(Parsed { name: typed, line: build(spec, arguments) })
}

fn build(spec: &'static Spec, words: Vec<String>) -> Result<Line, Failure> {
    let arguments = Arguments { spec, words };
    if spec.counts.contains(&arguments.words.len()) {
        (spec.build)(&arguments)
    } else {
        Err(arguments.wrong_usage(&count_error(spec, arguments.words.len())))
    }
}

fn count_error(spec: &Spec, given: usize) -> String {
    let most = spec.counts.iter().max().copied().unwrap_or(0);
    match most {
        0 => format!("{} takes no arguments", spec.name),
        _ if given > most => format!("{} takes at most {most} argument{}", spec.name, if most == 1 { "" } else { "s" }),
        _ => format!("{} lacks an argument", spec.name),
    }
}

fn unclosed() -> Failure {
    Failure::new(ErrorCode::Usage, "The line ends inside a quotation. Close it with the quote that opened it.")
}

fn unknown_command(name: &str) -> Failure {
    let shown: String = name.chars().take(64).collect();
    let hint = table::nearest(name).map_or_else(String::new, |spec| format!(" Did you mean {}?", spec.name));
    Failure::new(ErrorCode::UnknownCommand, format!("There is no command {shown:?}.{hint} `help` lists the commands."))
}

/// Checks a password that somebody chooses.
pub fn check_password(text: String) -> Result<Password, Failure> {
    match text.len() {
        0 => Err(Failure::new(ErrorCode::WeakPassword, "The password is empty. Choose one of 1 to 1024 bytes.")),
        1..=MAX_PASSWORD_BYTES => Ok(Password(text)),
        _ => Err(Failure::new(ErrorCode::WeakPassword, "The password is too long. Choose one of 1 to 1024 bytes.")),
    }
}

/// A password to check against one chosen before: one that nobody can have chosen is wrong.
pub fn known_password(text: String) -> Result<Password, Failure> {
    let wrong = "The user name or the password is wrong. Check both and try again.";
    check_password(text).map_err(|_| Failure::new(ErrorCode::BadCredentials, wrong))
}

/// The words behind a command's name, as many as it takes.
pub(crate) struct Arguments {
    spec: &'static Spec,
    words: Vec<String>,
}

/// One of them may be a password.
impl Drop for Arguments {
    fn drop(&mut self) {
        self.words.zeroize();
    }
}

impl Arguments {
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(crate) fn user(&self, at: usize) -> Result<UserName, Failure> {
        UserName::parse(&self.words[at])
    }

    pub(crate) fn new_user(&self, at: usize) -> Result<UserName, Failure> {
        UserName::parse_new(&self.words[at])
    }

    pub(crate) fn group(&self, at: usize) -> Result<GroupName, Failure> {
        GroupName::parse(&self.words[at])
    }

    pub(crate) fn new_group(&self, at: usize) -> Result<GroupName, Failure> {
        GroupName::parse_new(&self.words[at])
    }

    pub(crate) fn file(&self, at: usize) -> Result<FileName, Failure> {
        FileName::parse(&self.words[at])
    }

    pub(crate) fn session(&self, at: usize) -> Result<SessionName, Failure> {
        let text = &self.words[at];
        SessionName::parse(text).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            let message = format!("There is no session {shown:?}. list_sessions shows those there are.");
            Failure::new(ErrorCode::NoSuchSession, message)
        })
    }

    pub(crate) fn path(&self, at: usize) -> Result<PathBuf, Failure> {
        let text = &self.words[at];
        if text.is_empty() {
            let message = format!("The path is empty. Usage: {}", self.spec.usage_line());
            return Err(Failure::new(ErrorCode::EmptyPath, message));
        }
        Ok(PathBuf::from(text))
    }

    pub(crate) fn optional_password(&self, at: usize) -> Result<Option<Password>, Failure> {
        self.words.get(at).cloned().map(known_password).transpose()
    }

    pub(crate) fn optional_new_password(&self, at: usize) -> Result<Option<Password>, Failure> {
        self.words.get(at).cloned().map(check_password).transpose()
    }

    pub(crate) fn flag(&self, at: usize, flag: &str) -> Result<bool, Failure> {
        match self.words.get(at) {
            None => Ok(false),
            Some(word) if word == flag => Ok(true),
            Some(word) => Err(self.wrong_usage(&format!("{word:?} is no option of {}", self.spec.name))),
        }
    }

    pub(crate) fn direction(&self, at: usize) -> Result<Direction, Failure> {
        match self.words[at].as_str() {
            "up" => Ok(Direction::Up),
            "down" => Ok(Direction::Down),
            other => Err(self.wrong_usage(&format!("{other:?} is neither up nor down"))),
        }
    }

    pub(crate) fn rate(&self, at: usize) -> Result<Rate, Failure> {
        self.words[at].parse().map_err(|reason: String| self.wrong_usage(&reason))
    }

    pub(crate) fn help(&self, at: usize) -> Result<Option<&'static Spec>, Failure> {
        self.words.get(at).map(|name| table::find(name).ok_or_else(|| unknown_command(name))).transpose()
    }

    fn wrong_usage(&self, reason: &str) -> Failure {
        Failure::new(ErrorCode::Usage, format!("{reason}. Usage: {}", self.spec.usage_line()))
    }
}

/// A command lacks its password and there is no terminal to ask on.
pub fn password_missing(name: &str) -> Failure {
    let usage = table::find(name).map(Spec::usage_line).unwrap_or_default();
    Failure::new(
        ErrorCode::Usage,
        format!("The password is missing, and there is no terminal to ask for it. Usage: {usage}"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command(line: &str) -> Command {
        match parse(line).unwrap().line {
            Ok(Line::Run(command)) => command,
            other => panic!("{line:?} is {other:?}"),
        }
    }

    fn check_error(line: &str, expected: &str) {
        let failure = parse(line).unwrap().line.unwrap_err();
        assert_eq!(format!("{}: {}", failure.code, failure.message), expected, "{line:?}");
    }

    #[test]
    fn lines_become_commands() {
        let group = GroupName::parse("g").unwrap();
        let file = FileName::parse("two words.txt").unwrap();
        let destination = PathBuf::from("./out dir/");
        assert_eq!(
            command("download_file g 'two words.txt' \"./out dir/\""),
            Command::DownloadFile { group: group.clone(), file: file.clone(), destination }
        );
        assert_eq!(command("wait"), Command::Wait { download: None });
        assert_eq!(command("wait g two\\ words.txt"), Command::Wait { download: Some((group.clone(), file)) });
        assert_eq!(command("show_downloads -v"), Command::ShowDownloads { verbose: true });
        assert_eq!(command("set_limit up 10MiB"), Command::SetLimit { direction: Direction::Up, rate: Rate(10 << 20) });
        assert_eq!(command("\u{feff}join_group\u{a0}g\u{200b}"), Command::JoinGroup { group });
        let user = UserName::parse("ann").unwrap();
        assert_eq!(command("login ann 'pass word'"), Command::Login { user, password: Password("pass word".into()) });
    }

    #[test]
    fn lines_of_the_shell_itself() {
        assert!(parse(" \u{200b}\t").is_none());
        for line in ["quit", "exit"] {
            let parsed = parse(line).unwrap();
            assert_eq!(parsed.name, line);
            assert!(matches!(parsed.line, Ok(Line::Quit)));
        }
        assert!(matches!(parse("help").unwrap().line, Ok(Line::Help(None))));
        assert!(matches!(parse("help exit").unwrap().line, Ok(Line::Help(Some(spec))) if spec.name == "quit"));
        assert!(matches!(parse("login ann").unwrap().line, Ok(Line::AskPassword(AskPassword::Login { .. }))));
        assert!(matches!(parse("change_password").unwrap().line, Ok(Line::AskPassword(AskPassword::ChangePassword))));
    }

    #[test]
    fn errors_name_the_thing_and_the_next_step() {
        check_error("join_group", "usage: join_group lacks an argument. Usage: join_group <group>");
        check_error("logout now", "usage: logout takes no arguments. Usage: logout");
        check_error("wait g", "usage: wait lacks an argument. Usage: wait [group file]");
        check_error("join_group a b", "usage: join_group takes at most 1 argument. Usage: join_group <group>");
        check_error("show_downloads -x", "usage: \"-x\" is no option of show_downloads. Usage: show_downloads [-v]");
        check_error("set_limit in 1", "usage: \"in\" is neither up nor down. Usage: set_limit up|down <rate>");
        check_error(
            "set_limit up fast",
            "usage: \"fast\" is no rate: write 10MiB or 500KB a second, or 0 for no limit. Usage: set_limit up|down <rate>",
        );
        check_error("login 'ann", "usage: The line ends inside a quotation. Close it with the quote that opened it.");
        check_error(
            "lost_groups",
            "unknown_command: There is no command \"lost_groups\". Did you mean list_groups? `help` lists the commands.",
        );
        check_error("xyz", "unknown_command: There is no command \"xyz\". `help` lists the commands.");
        check_error("upload_file '' g", "empty_path: The path is empty. Usage: upload_file <path> <group>");
        check_error("create_user ann ''", "weak_password: The password is empty. Choose one of 1 to 1024 bytes.");
        check_error(
            "create_user 'a b' x",
            "invalid_name: \"a b\" cannot name a user: use letters, digits, '.', '_' and '-'.",
        );
        check_error(
            "create_group a~2",
            "invalid_name: \"a~2\" cannot name a group: use letters, digits, '.', '_' and '-'.",
        );
    }

    #[test]
    fn long_passwords_are_weak_to_choose_and_wrong_to_show() {
        let code = |line: String| parse(&line).unwrap().line.unwrap_err().code;
        assert_eq!(code(format!("create_user ann {}", "x".repeat(1025))), ErrorCode::WeakPassword);
        assert_eq!(code(format!("login ann {}", "x".repeat(1025))), ErrorCode::BadCredentials);
        assert!(parse(&format!("create_user ann {}", "x".repeat(1024))).unwrap().line.is_ok());
    }

    #[test]
    fn a_password_is_never_shown_by_debug() {
        assert!(!format!("{:?}", parse("create_user ann hunter2")).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(line in any::<String>(), at in 0..table::COMMANDS.len(), rest in "[ -~]{0,40}") {
            let _ = parse(&line);
            let _ = parse(&format!("{} {line}", table::COMMANDS[at].name));
            let _ = parse(&format!("{} {rest}", table::COMMANDS[at].name));
        }
    }
}
