//! The one table of commands: it feeds the parser, `help`, completion and the README.

use super::{
    Command,
    parse::{Arguments, AskPassword, Line},
};
use crate::protocol::error::Failure;

/// A command as users know it.
#[derive(Debug)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// Another name for it.
    pub alias: Option<&'static str>,
    /// Its arguments, as the usage line shows them.
    pub usage: &'static str,
    /// How many arguments it takes.
    pub counts: &'static [usize],
    /// What each argument is, for completion.
    pub kinds: &'static [Kind],
    /// What it does, in one line.
    pub help: &'static str,
    /// What else is good to know.
    pub details: &'static str,
    /// Makes the command of as many arguments as `counts` allows.
    pub(crate) build: fn(&Arguments) -> Result<Line, Failure>,
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Name of a user.
    User,
    /// Name of a group.
    Group,
    /// Name of a file in the group named before.
    File,
    /// A session of the user's.
    Session,
    /// A path on this machine.
    Path,
    /// A password: neither completed nor kept in the history.
    Password,
    /// A word of a fixed few.
    OneOf(&'static [&'static str]),
    /// A rate.
    Rate,
    /// Name of a command.
    Command,
}

impl Spec {
    /// `name <argument> …`
    pub fn usage_line(&self) -> String {
        format!("{} {}", self.name, self.usage).trim_end().to_owned()
    }

    /// Whether one of its arguments is a password.
    pub fn takes_password(&self) -> bool {
        self.kinds.contains(&Kind::Password)
    }
}

/// The command of this name or alias.
pub fn find(name: &str) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.name == name || spec.alias == Some(name))
}

/// The command whose name is nearest to a mistyped one. Names of quite another length are not compared: a whole text may have
/// been pasted, and a comparison takes memory for every pair of characters.
pub fn nearest(name: &str) -> Option<&'static Spec> {
    let length = name.chars().count();
    let most = |spec: &Spec| spec.name.len().div_ceil(4);
    let candidates = COMMANDS.iter().filter(|spec| spec.name.len().abs_diff(length) <= most(spec));
    let measured = candidates.map(|spec| (strsim::damerau_levenshtein(name, spec.name), spec));
    let (distance, near) = measured.min_by_key(|(distance, _)| *distance)?;
    (distance <= most(near)).then_some(near)
}

/// Every command, in the order in which `help` shows them.
pub static COMMANDS: &[Spec] = &[
    Spec {
        name: "create_user",
        alias: None,
        usage: "<user> [passwd]",
        counts: &[1, 2],
        kinds: &[Kind::User, Kind::Password],
        help: "register a new account",
        details: "Without a password on a terminal, it is asked for and not shown. Names have 1 to 64 letters, digits, '.', '_' or '-'; passwords 1 to 1024 bytes.",
        build: |args| match args.optional_new_password(1)? {
            Some(password) => Ok(Line::Run(Command::CreateUser { user: args.new_user(0)?, password })),
            None => Ok(Line::AskPassword(AskPassword::CreateUser { user: args.new_user(0)? })),
        },
    },
    Spec {
        name: "login",
        alias: None,
        usage: "<user> [passwd]",
        counts: &[1, 2],
        kinds: &[Kind::User, Kind::Password],
        help: "log in; unfinished downloads go on and earlier shares come back",
        details: "Without a password on a terminal, it is asked for and not shown.",
        build: |args| match args.optional_password(1)? {
            Some(password) => Ok(Line::Run(Command::Login { user: args.user(0)?, password })),
            None => Ok(Line::AskPassword(AskPassword::Login { user: args.user(0)? })),
        },
    },
    Spec {
        name: "logout",
        alias: None,
        usage: "",
        counts: &[0],
        kinds: &[],
        help: "log out; nothing is shared until the next login",
        details: "Downloads stop too, and go on at the next login from where they were.",
        build: |_| Ok(Line::Run(Command::Logout)),
    },
    Spec {
        name: "change_password",
        alias: None,
        usage: "[old new]",
        counts: &[0, 2],
        kinds: &[Kind::Password, Kind::Password],
        help: "change your password",
        details: "Without arguments on a terminal, both passwords are asked for and not shown.",
        build: |args| match (args.optional_password(0)?, args.optional_new_password(1)?) {
            (Some(old), Some(new)) => Ok(Line::Run(Command::ChangePassword { old, new })),
            _ => Ok(Line::AskPassword(AskPassword::ChangePassword)),
        },
    },
    Spec {
        name: "list_sessions",
        alias: None,
        usage: "",
        counts: &[0],
        kinds: &[],
        help: "list where you are logged in: session, device, since when, address while online",
        details: "A session lasts 30 days without a login, through restarts of trackers. A login on the same device replaces the one before.",
        build: |_| Ok(Line::Run(Command::ListSessions)),
    },
    Spec {
        name: "end_session",
        alias: None,
        usage: "<session>",
        counts: &[1],
        kinds: &[Kind::Session],
        help: "log out one of your devices, wherever it is",
        details: "The session is named as list_sessions shows it, or by its first digits. Nobody serves that device any more; change_password ends all sessions but this one.",
        build: |args| Ok(Line::Run(Command::EndSession { session: args.session(0)? })),
    },
    Spec {
        name: "close_account",
        alias: None,
        usage: "[passwd]",
        counts: &[0, 1],
        kinds: &[Kind::Password],
        help: "close your account for good, on all devices",
        details: "You leave all groups; those you own pass to their longest-standing members, or are dissolved. Nobody can register under the name again. Files on your disk stay where they are. Without a password on a terminal, it is asked for and not shown.",
        build: |args| match args.optional_password(0)? {
            Some(password) => Ok(Line::Run(Command::CloseAccount { password })),
            None => Ok(Line::AskPassword(AskPassword::CloseAccount)),
        },
    },
    Spec {
        name: "whoami",
        alias: None,
        usage: "",
        counts: &[0],
        kinds: &[],
        help: "show who is logged in, where this client serves, and its device key",
        details: "",
        build: |_| Ok(Line::Run(Command::WhoAmI)),
    },
    Spec {
        name: "create_group",
        alias: None,
        usage: "<group>",
        counts: &[1],
        kinds: &[Kind::Group],
        help: "create a group; you own it",
        details: "",
        build: |args| Ok(Line::Run(Command::CreateGroup { group: args.new_group(0)? })),
    },
    Spec {
        name: "join_group",
        alias: None,
        usage: "<group>",
        counts: &[1],
        kinds: &[Kind::Group],
        help: "ask to join a group",
        details: "Its owner accepts or rejects the request; you are told when that happens.",
        build: |args| Ok(Line::Run(Command::JoinGroup { group: args.group(0)? })),
    },
    Spec {
        name: "leave_group",
        alias: None,
        usage: "<group>",
        counts: &[1],
        kinds: &[Kind::Group],
        help: "leave a group, or withdraw the request to join it",
        details: "When the owner leaves, the longest-standing member owns the group; when the last member leaves, it is dissolved.",
        build: |args| Ok(Line::Run(Command::LeaveGroup { group: args.group(0)? })),
    },
    Spec {
        name: "list_groups",
        alias: None,
        usage: "",
        counts: &[0],
        kinds: &[],
        help: "list every group: owner, members, your own standing",
        details: "",
        build: |_| Ok(Line::Run(Command::ListGroups)),
    },
    Spec {
        name: "list_members",
        alias: None,
        usage: "<group>",
        counts: &[1],
        kinds: &[Kind::Group],
        help: "list a group's members (for members)",
        details: "",
        build: |args| Ok(Line::Run(Command::ListMembers { group: args.group(0)? })),
    },
    Spec {
        name: "list_requests",
        alias: None,
        usage: "<group>",
        counts: &[1],
        kinds: &[Kind::Group],
        help: "list who asks to join, oldest first (for the owner)",
        details: "",
        build: |args| Ok(Line::Run(Command::ListRequests { group: args.group(0)? })),
    },
    Spec {
        name: "accept_request",
        alias: None,
        usage: "<group> <user>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::User],
        help: "let somebody join (for the owner)",
        details: "",
        build: |args| Ok(Line::Run(Command::AcceptRequest { group: args.group(0)?, user: args.user(1)? })),
    },
    Spec {
        name: "reject_request",
        alias: None,
        usage: "<group> <user>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::User],
        help: "refuse a request to join (for the owner)",
        details: "",
        build: |args| Ok(Line::Run(Command::RejectRequest { group: args.group(0)?, user: args.user(1)? })),
    },
    Spec {
        name: "remove_member",
        alias: None,
        usage: "<group> <user>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::User],
        help: "end somebody's membership at once (for the owner)",
        details: "",
        build: |args| Ok(Line::Run(Command::RemoveMember { group: args.group(0)?, user: args.user(1)? })),
    },
    Spec {
        name: "transfer_group",
        alias: None,
        usage: "<group> <user>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::User],
        help: "hand a group to another member (for the owner)",
        details: "",
        build: |args| Ok(Line::Run(Command::TransferGroup { group: args.group(0)?, user: args.user(1)? })),
    },
    Spec {
        name: "upload_file",
        alias: None,
        usage: "<path> <group>",
        counts: &[2],
        kinds: &[Kind::Path, Kind::Group],
        help: "share a file with a group",
        details: "The file is hashed, and what identifies it goes to the trackers; its content stays here and is served to members from here.",
        build: |args| Ok(Line::Run(Command::UploadFile { path: args.path(0)?, group: args.group(1)? })),
    },
    Spec {
        name: "list_files",
        alias: None,
        usage: "<group>",
        counts: &[1],
        kinds: &[Kind::Group],
        help: "list a group's files: size, pieces, seeders, leechers, who shared it",
        details: "",
        build: |args| Ok(Line::Run(Command::ListFiles { group: args.group(0)? })),
    },
    Spec {
        name: "file_info",
        alias: None,
        usage: "<group> <file>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::File],
        help: "show a file's size, hashes, and who has how much of it",
        details: "",
        build: |args| Ok(Line::Run(Command::FileInfo { group: args.group(0)?, file: args.file(1)? })),
    },
    Spec {
        name: "download_file",
        alias: None,
        usage: "<group> <file> <destination>",
        counts: &[3],
        kinds: &[Kind::Group, Kind::File, Kind::Path],
        help: "download a file, in the background, from everybody who has it",
        details: "The destination is a folder, or the path of a file that does not exist yet. `wait` waits for the end; a download cut short goes on at the next login.",
        build: |args| {
            Ok(Line::Run(Command::DownloadFile {
                group: args.group(0)?,
                file: args.file(1)?,
                destination: args.path(2)?,
            }))
        },
    },
    Spec {
        name: "show_downloads",
        alias: None,
        usage: "[-v]",
        counts: &[0, 1],
        kinds: &[Kind::OneOf(&["-v"])],
        help: "list downloads: [D] going on, [C] complete, [P] paused, [F] failed",
        details: "On a terminal, or with -v: percent, rate, peers, time left, and the reason behind the state.",
        build: |args| Ok(Line::Run(Command::ShowDownloads { verbose: args.flag(0, "-v")? })),
    },
    Spec {
        name: "pause_download",
        alias: None,
        usage: "<group> <file>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::File],
        help: "pause a download",
        details: "",
        build: |args| Ok(Line::Run(Command::PauseDownload { group: args.group(0)?, file: args.file(1)? })),
    },
    Spec {
        name: "resume_download",
        alias: None,
        usage: "<group> <file>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::File],
        help: "go on with a paused or failed download",
        details: "",
        build: |args| Ok(Line::Run(Command::ResumeDownload { group: args.group(0)?, file: args.file(1)? })),
    },
    Spec {
        name: "cancel_download",
        alias: None,
        usage: "<group> <file>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::File],
        help: "give up a download and remove what it has",
        details: "",
        build: |args| Ok(Line::Run(Command::CancelDownload { group: args.group(0)?, file: args.file(1)? })),
    },
    Spec {
        name: "wait",
        alias: None,
        usage: "[group file]",
        counts: &[0, 2],
        kinds: &[Kind::Group, Kind::File],
        help: "wait until a download, or every one, has ended",
        details: "Fails when a download fails. Ctrl-C stops the waiting, not the download.",
        build: |args| {
            let download = if args.is_empty() { None } else { Some((args.group(0)?, args.file(1)?)) };
            Ok(Line::Run(Command::Wait { download }))
        },
    },
    Spec {
        name: "show_peers",
        alias: None,
        usage: "<group> <file>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::File],
        help: "show the swarm of a file: address, user, percent, rates, state",
        details: "",
        build: |args| Ok(Line::Run(Command::ShowPeers { group: args.group(0)?, file: args.file(1)? })),
    },
    Spec {
        name: "show_shares",
        alias: None,
        usage: "",
        counts: &[0],
        kinds: &[],
        help: "list what this client shares, with the bytes uploaded",
        details: "",
        build: |_| Ok(Line::Run(Command::ShowShares)),
    },
    Spec {
        name: "stop_share",
        alias: None,
        usage: "<group> <file>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::File],
        help: "stop sharing a file from here",
        details: "The file itself stays; others who have it go on sharing it.",
        build: |args| Ok(Line::Run(Command::StopShare { group: args.group(0)?, file: args.file(1)? })),
    },
    Spec {
        name: "verify_file",
        alias: None,
        usage: "<group> <file>",
        counts: &[2],
        kinds: &[Kind::Group, Kind::File],
        help: "read the local copy again and name damaged pieces",
        details: "Damaged pieces are fetched again from others.",
        build: |args| Ok(Line::Run(Command::VerifyFile { group: args.group(0)?, file: args.file(1)? })),
    },
    Spec {
        name: "set_limit",
        alias: None,
        usage: "up|down <rate>",
        counts: &[2],
        kinds: &[Kind::OneOf(&["up", "down"]), Kind::Rate],
        help: "limit uploads or downloads: 10MiB or 500KB a second, 0 for no limit",
        details: "",
        build: |args| Ok(Line::Run(Command::SetLimit { direction: args.direction(0)?, rate: args.rate(1)? })),
    },
    Spec {
        name: "trackers",
        alias: None,
        usage: "",
        counts: &[0],
        kinds: &[],
        help: "show each tracker: address, reachable, in use, how far it is in sync",
        details: "",
        build: |_| Ok(Line::Run(Command::Trackers)),
    },
    Spec {
        name: "help",
        alias: None,
        usage: "[command]",
        counts: &[0, 1],
        kinds: &[Kind::Command],
        help: "show the commands, or one of them",
        details: "",
        build: |args| args.help(0).map(Line::Help),
    },
    Spec {
        name: "quit",
        alias: Some("exit"),
        usage: "",
        counts: &[0],
        kinds: &[],
        help: "end this client",
        details: "Downloads under way go on at the next login.",
        build: |_| Ok(Line::Quit),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_counts_and_kinds_agree() {
        for spec in COMMANDS {
            let words = spec.usage.split_whitespace().count();
            assert_eq!(spec.counts.iter().max(), Some(&words), "{}", spec.name);
            assert_eq!(spec.kinds.len(), words, "{}", spec.name);
            assert!(spec.help.len() <= 80, "{}", spec.name);
        }
    }

    /// The table that README.md shows.
    fn markdown() -> String {
        let row =
            |spec: &Spec| format!("| `{}` | {} | {} |", spec.name, cell(spec.usage), spec.help.replace('|', "\\|"));
        let rows: Vec<_> = COMMANDS.iter().map(row).collect();
        format!("| command | arguments | what it does |\n|---|---|---|\n{}", rows.join("\n"))
    }

    fn cell(usage: &str) -> String {
        if usage.is_empty() { String::new() } else { format!("`{}`", usage.replace('|', "\\|")) }
    }

    #[test]
    fn the_readme_shows_this_table() {
        insta::assert_snapshot!("commands", markdown());
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(readme).unwrap_or_default();
        if readme.contains("| command | arguments |") {
            assert!(readme.contains(&markdown()), "copy the table from {}", "src/roles/client/command/snapshots");
        }
    }

    #[test]
    fn a_mistyped_name_suggests_the_right_one() {
        let nearest = |name| nearest(name).map(|spec| spec.name);
        assert_eq!(nearest("list_group"), Some("list_groups"));
        assert_eq!(nearest("lgoin"), Some("login"));
        assert_eq!(nearest("downlaod_file"), Some("download_file"));
        assert_eq!(nearest("frobnicate"), None);
        assert_eq!(nearest(&"login".repeat(1 << 22)), None);
    }
}
