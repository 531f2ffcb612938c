//! Plain lines. On a terminal with headings, aligned columns and a little colour; piped without headings, columns parted by tabs.

use unicode_width::UnicodeWidthStr as _;

use super::{
    super::{
        Outcome,
        command::{
            Command, Direction, DownloadRow, DownloadState, Event, FileDetail, PeerRow, Reply, ShareRow,
            SuspendedShare, TrackerRow, Uploaded,
            table::{COMMANDS, Spec},
        },
    },
    Asked, Renderer,
    clean::clean,
    json::{letter, renamed_kind, rfc3339, standing},
};
use crate::{
    protocol::{
        client::{LeaveOutcome, Notice},
        error::Failure,
        ids::device_key_text,
        name::UserName,
    },
    roles::units::{format_seconds, format_size, percent},
};

/// The renderer for people, and for simple scripts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text {
    /// Somebody looks at it: headings, alignment, sizes rounded.
    pub terminal: bool,
    /// Colour is wanted.
    pub colour: bool,
}

/// The colours in use, as the numbers of the terminal's "select graphic rendition".
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is what it says")]
pub enum Colour {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

impl Renderer for Text {
    fn answer(&self, asked: &Asked<'_>, outcome: &Result<Outcome, Failure>) -> String {
        match outcome {
            Ok(Outcome { reply, stale }) => {
                let mut text = self.reply(asked, reply);
                if *stale {
                    text += &self.line(Colour::Yellow, "(may be out of date: the tracker has yet to catch up)");
                }
                text
            }
            Err(failure) => self.error(failure),
        }
    }

    fn help(&self, _: &Asked<'_>, topic: Option<&'static Spec>) -> String {
        match topic {
            Some(spec) => self.help_one(spec),
            None => Self::help_all(),
        }
    }

    fn farewell(&self, _: &Asked<'_>) -> String {
        String::new()
    }

    fn stopped(&self, downloads: &[DownloadRow]) -> String {
        let count = downloads.len() as u64;
        let (verb, pronoun) = if count == 1 { ("stops", "goes") } else { ("stop", "go") };
        self.notice(&format!("{count} download{} {verb} here and {pronoun} on at the next login.", plural(count)))
    }

    fn event(&self, event: &Event) -> String {
        event_text(event).map_or_else(String::new, |text| self.notice(&text))
    }
}

impl Text {
    /// `text` in a colour, where colour is wanted.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
    }

    fn line(self, colour: Colour, text: &str) -> String {
        self.paint(colour, text) + "\n"
    }

    fn notice(self, text: &str) -> String {
        format!("{} {}\n", self.paint(Colour::Cyan, "*"), clean(text))
    }

    /// `error[code]: what happened and what to do next`
    fn error(self, failure: &Failure) -> String {
        let head = self.paint(Colour::Red, &format!("error[{}]:", failure.code));
        format!("{head} {}\n", clean(&failure.message))
    }

    fn help_one(self, spec: &Spec) -> String {
        let head = self.line(Colour::Bold, &spec.usage_line());
        let lines = [spec.help, spec.details].into_iter().filter(|line| !line.is_empty());
        lines.fold(head, |text, line| text + "    " + line + "\n")
    }

    fn help_all() -> String {
        let rows = COMMANDS.iter().map(|spec| [spec.usage_line(), spec.help.to_owned()]);
        let mut text = Self::aligned(rows.collect());
        text += "\nNames and paths with spaces stand in quotes. `help <command>` tells more about one.\n";
        text
    }

    fn reply(self, asked: &Asked<'_>, reply: &Reply) -> String {
        match reply {
            Reply::Done => asked.command.map_or_else(String::new, done),
            Reply::LoggedIn { user, resumed, shared, suspended } => {
                logged_in(user.as_str(), *resumed, *shared, suspended)
            }
            Reply::Left(outcome) => left(outcome),
            Reply::Requests(requests) => {
                let rows = requests.iter().map(|request| [request.user.to_string(), rfc3339(request.since_ms)]);
                self.table(["USER", "SINCE"], rows.collect(), "Nobody asks to join.")
            }
            Reply::Groups(groups) => {
                let rows = groups.iter().map(|group| {
                    let standing = standing(group.standing).to_owned();
                    [group.name.to_string(), group.owner.to_string(), group.members.to_string(), standing]
                });
                self.table(
                    ["GROUP", "OWNER", "MEMBERS", "YOU"],
                    rows.collect(),
                    "No groups yet: create_group makes one.",
                )
            }
            Reply::Members(members) => {
                let rows = members.iter().map(|member| {
                    let online = if member.online { "online" } else { "offline" };
                    [member.user.to_string(), standing(member.role).to_owned(), online.to_owned()]
                });
                self.table(["USER", "ROLE", ""], rows.collect(), "No members.")
            }
            Reply::Uploaded(file) => uploaded(file),
            Reply::Files(files) => self.files(files),
            Reply::File(file) => self.file(file),
            Reply::DownloadStarted { group, name, path, waiting } => {
                let note = if *waiting { "; nobody who has it is online, so it waits for somebody" } else { "" };
                format!("Downloading [{group}] {} to {}{note}.\n", clean(name.as_str()), clean(&path.to_string_lossy()))
            }
            Reply::Downloads { verbose, downloads } => self.downloads(*verbose, downloads),
            Reply::Waited(downloads) => self.downloads(false, downloads),
            Reply::Peers(peers) => self.peers(peers),
            Reply::Shares(shares) => self.shares(shares),
            Reply::Verified { pieces, damaged } => verified(*pieces, damaged),
            Reply::WhoAmI { user, address, device } => {
                let user = user.as_ref().map_or("nobody is logged in", |user| user.as_str());
                format!("User:     {user}\nAddress:  {}\nDevice:   {}\n", clean(address), device_key_text(device))
            }
            Reply::Trackers(trackers) => self.trackers(trackers),
        }
    }

    fn size(self, bytes: u64) -> String {
        if self.terminal { format_size(bytes) } else { bytes.to_string() }
    }

    fn files(self, files: &[super::super::command::FileRow]) -> String {
        let rows = files.iter().map(|file| {
            let shared_by: Vec<_> = file.shared_by.iter().map(UserName::as_str).collect();
            [
                file.name.to_string(),
                self.size(file.size),
                file.pieces.to_string(),
                file.seeders.to_string(),
                file.leechers.to_string(),
                shared_by.join(","),
            ]
        });
        let head = ["FILE", "SIZE", "PIECES", "SEEDERS", "LEECHERS", "SHARED BY"];
        self.table(head, rows.collect(), "No files yet: upload_file shares one.")
    }

    fn file(self, file: &FileDetail) -> String {
        let rows = file
            .holders
            .iter()
            .map(|holder| [holder.user.to_string(), holder.address.clone(), format!("{} %", holder.percent)]);
        format!(
            "File:         {}\nSize:         {} bytes ({})\nPieces:       {} of 512 KiB\nSHA-1:        {}\nBLAKE3:       {}\nHash string:  {}\n",
            clean(file.name.as_str()),
            file.size,
            format_size(file.size),
            file.pieces,
            file.sha1,
            file.blake3,
            clean(&file.hash_string),
        ) + &self.table(["WHO HAS IT", "ADDRESS", "PERCENT"], rows.collect(), "Nobody who has it is online.")
    }

    /// `[D] [group] file`, exactly that when piped; with `-v` or on a terminal how far it is.
    fn downloads(self, verbose: bool, downloads: &[DownloadRow]) -> String {
        if downloads.is_empty() && self.terminal {
            return "No downloads.\n".to_owned();
        }
        let detailed = verbose || self.terminal;
        downloads.iter().map(|row| self.download(row, detailed)).collect()
    }

    fn download(self, row: &DownloadRow, detailed: bool) -> String {
        let state = self.paint(state_colour(row.state), &format!("[{}]", letter(row.state)));
        let detail = if detailed { format!("  {}", clean(&progress(row))) } else { String::new() };
        format!("{state} [{}] {}{detail}\n", row.group, clean(row.name.as_str()))
    }

    fn peers(self, peers: &[PeerRow]) -> String {
        let rate = |rate| format!("{}/s", self.size(rate));
        let rows = peers.iter().map(|peer| {
            let percent = format!("{} %", peer.percent);
            let (down, up) = (rate(peer.down_rate), rate(peer.up_rate));
            [peer.user.to_string(), peer.address.clone(), percent, down, up, peer.state.clone()]
        });
        self.table(["USER", "ADDRESS", "HAS", "DOWN", "UP", "STATE"], rows.collect(), "No peers.")
    }

    fn shares(self, shares: &[ShareRow]) -> String {
        let rows = shares.iter().map(|share| {
            [
                format!("[{}]", share.group),
                share.name.to_string(),
                self.size(share.size),
                self.size(share.uploaded),
                share.path.to_string_lossy().into_owned(),
                share.suspended.as_ref().map_or_else(String::new, |reason| format!("suspended: {reason}")),
            ]
        });
        let head = ["GROUP", "FILE", "SIZE", "UPLOADED", "PATH", ""];
        self.table(head, rows.collect(), "Nothing is shared: upload_file shares a file.")
    }

    fn trackers(self, trackers: &[TrackerRow]) -> String {
        let rows = trackers.iter().map(|row| {
            let reachable = if row.status.reachable { "reachable" } else { "unreachable" };
            let current = if row.current { "in use" } else { "-" };
            let lag = row.status.lag.map_or_else(|| "unknown".to_owned(), lag_text);
            [row.status.tracker.to_string(), row.address.clone(), reachable.to_owned(), current.to_owned(), lag]
        });
        self.table(["NO", "ADDRESS", "STATE", "USE", "SYNC"], rows.collect(), "No trackers.")
    }

    /// Rows under a heading; `empty` says on a terminal that there are none.
    fn table<const N: usize>(self, head: [&str; N], rows: Vec<[String; N]>, empty: &str) -> String {
        let clean_row = |row: [String; N]| row.map(|cell| clean(&cell).into_owned());
        let rows: Vec<_> = rows.into_iter().map(clean_row).collect();
        match (self.terminal, rows.is_empty()) {
            (false, _) => rows.iter().map(|row| row.join("\t").trim_end().to_owned() + "\n").collect(),
            (true, true) => format!("{empty}\n"),
            (true, false) => {
                let text = Self::aligned([vec![head.map(str::to_owned)], rows].concat());
                let (head, rows) = text.split_once('\n').expect("the heading is a line");
                self.line(Colour::Dim, head) + rows
            }
        }
    }

    fn aligned<const N: usize>(rows: Vec<[String; N]>) -> String {
        let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        let pad = |(cell, width): (String, usize)| format!("{cell}{}", " ".repeat(width - cell.width()));
        let line = |row: [String; N]| row.into_iter().zip(widths).map(pad).collect::<Vec<_>>().join("  ");
        rows.into_iter().map(|row| line(row).trim_end().to_owned() + "\n").collect()
    }
}

fn state_colour(state: DownloadState) -> Colour {
    match state {
        DownloadState::Downloading => Colour::Cyan,
        DownloadState::Complete => Colour::Green,
        DownloadState::Paused => Colour::Yellow,
        DownloadState::Failed => Colour::Red,
    }
}

/// How far a download is: `43 %  12.0 MiB/s  4 peers  0:32 left  reason`.
pub fn progress(row: &DownloadRow) -> String {
    let mut parts = vec![format!("{} % of {}", percent(row.have, row.size), format_size(row.size))];
    if row.state == DownloadState::Downloading {
        parts.push(format!("{}/s", format_size(row.rate)));
        parts.push(format!("{} peer{}", row.peers, plural(u64::from(row.peers))));
        parts.extend(row.eta_s.map(|seconds| format!("{} left", format_seconds(seconds))));
    }
    parts.extend(row.error.as_ref().map(|failure| failure.message.clone()));
    parts.join("  ")
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn lag_text(lag: u64) -> String {
    match lag {
        0 => "in sync".to_owned(),
        count => format!("{count} change{} behind", plural(count)),
    }
}

/// What was done, for commands whose reply adds nothing to them.
fn done(command: &Command) -> String {
    let text = match command {
        Command::CreateUser { user, .. } => format!("User {user} is registered. Log in with: login {user}"),
        Command::Logout => "Logged out. Nothing is shared until the next login.".to_owned(),
        Command::CreateGroup { group } => format!("Group {group} is created, and you own it."),
        Command::JoinGroup { group } => format!("Asked to join {group}. Its owner decides."),
        Command::AcceptRequest { group, user } => format!("{user} is a member of {group} now."),
        Command::RejectRequest { group, user } => format!("The request of {user} to join {group} is rejected."),
        Command::RemoveMember { group, user } => format!("{user} is no member of {group} any more."),
        Command::TransferGroup { group, user } => format!("{user} owns {group} now."),
        Command::PauseDownload { group, file } => format!("Paused [{group}] {file}."),
        Command::ResumeDownload { group, file } => format!("[{group}] {file} goes on."),
        Command::CancelDownload { group, file } => format!("Cancelled [{group}] {file}."),
        Command::StopShare { group, file } => format!("[{group}] {file} is no longer shared from here."),
        Command::ChangePassword { .. } => "The password is changed.".to_owned(),
        Command::SetLimit { direction, rate } => {
            let what = if *direction == Direction::Up { "Uploads" } else { "Downloads" };
            if rate.0 == 0 { format!("{what} are not limited.") } else { format!("{what} are limited to {rate}.") }
        }
        _ => "Done.".to_owned(),
    };
    clean(&text).into_owned() + "\n"
}

fn logged_in(user: &str, resumed: u32, shared: u32, suspended: &[SuspendedShare]) -> String {
    let mut parts = vec![format!("Logged in as {user}.")];
    if shared > 0 {
        parts.push(format!("{shared} file{} shared again.", plural(shared.into())));
    }
    if resumed > 0 {
        parts.push(format!("{resumed} download{} going on.", plural(resumed.into())));
    }
    let lost = |share: &SuspendedShare| format!("Not shared: [{}] {}: {}", share.group, share.name, share.reason);
    let lost = suspended.iter().map(|share| format!("\n{}", clean(&lost(share))));
    parts.join(" ") + &lost.collect::<String>() + "\n"
}

fn left(outcome: &LeaveOutcome) -> String {
    match outcome {
        LeaveOutcome::Withdrawn => "The request to join is withdrawn.\n".to_owned(),
        LeaveOutcome::Left => "You are no member any more.\n".to_owned(),
        LeaveOutcome::Passed(user) => format!("You are no member any more. {user} owns the group now.\n"),
        LeaveOutcome::Dissolved => "You were the last member. The group is dissolved.\n".to_owned(),
    }
}

fn uploaded(file: &Uploaded) -> String {
    format!(
        "Sharing [{}] {}: {}, {} piece{}, SHA-1 {}\n",
        file.group,
        clean(file.name.as_str()),
        format_size(file.size),
        file.pieces,
        plural(file.pieces.into()),
        file.sha1
    )
}

fn verified(pieces: u32, damaged: &[u32]) -> String {
    if damaged.is_empty() {
        return format!("All {pieces} piece{} are as they should be.\n", plural(pieces.into()));
    }
    let indexes: Vec<_> = damaged.iter().map(u32::to_string).collect();
    format!("Of {pieces} pieces {} are damaged and fetched again: {}\n", damaged.len(), indexes.join(" "))
}

/// An event in a sentence; `None` for those that only the client itself needs.
fn event_text(event: &Event) -> Option<String> {
    Some(match event {
        Event::Notice(notice) => notice_text(notice)?,
        Event::DownloadEnded(row) => match &row.error {
            None => format!("[{}] {} is complete: {}", row.group, row.name, row.path.to_string_lossy()),
            Some(failure) => format!("[{}] {} failed: {}", row.group, row.name, failure.message),
        },
        Event::DownloadStalled(row) => {
            let reason = row.error.as_ref().map_or("nobody online has what is missing", |failure| &failure.message);
            format!("[{}] {} waits: {reason}", row.group, row.name)
        }
        Event::ShareSuspended(share) => format!("[{}] {} is not shared: {}", share.group, share.name, share.reason),
        Event::TrackerFound { address } => format!("Connected to tracker {address}."),
        Event::TrackerLost { address } => format!("Lost tracker {address}; trying the others."),
        Event::TrackerRefused { address, failure } => format!("Tracker {address} is refused: {}", failure.message),
        Event::NoTracker => "No tracker answers. Transfers go on; commands wait for one.".to_owned(),
        Event::Hashing { path, done, total } => {
            format!("Hashing {}: {} %", path.to_string_lossy(), percent(*done, *total))
        }
    })
}

fn notice_text(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::JoinRequested { group, user } => format!("{user} asks to join {group}: accept_request {group} {user}"),
        Notice::RequestAccepted { group } => format!("You are a member of {group} now."),
        Notice::RequestRejected { group } => format!("Your request to join {group} was rejected."),
        Notice::MemberRemoved { group, .. } => format!("You were removed from {group}."),
        Notice::OwnerNow { group } => format!("You own {group} now."),
        Notice::Renamed { kind, from, to } => {
            let kind = renamed_kind(*kind);
            format!("The {kind} {from} is called {to} now: the name was claimed earlier at another tracker.")
        }
        Notice::SessionEnded => "Your session has ended (the password was changed): log in again.".to_owned(),
        Notice::MembershipEnded { .. }
        | Notice::SwarmChanged { .. }
        | Notice::DialRequested { .. }
        | Notice::Trackers(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::{super::samples, *};

    const PIPED: Text = Text { terminal: false, colour: false };
    const TERMINAL: Text = Text { terminal: true, colour: false };

    fn answers(text: Text) -> String {
        let asked = Asked { name: "command", command: None };
        let answer = |reply| text.answer(&asked, &Ok(Outcome { reply, stale: false }));
        samples::replies().into_iter().map(answer).collect()
    }

    #[test]
    fn piped_answers_are_plain_lines() {
        assert_snapshot!(answers(PIPED), @r"
        Logged in as ann. 2 files shared again. 1 download going on.
        Not shared: [music] old.bin: the file has changed; upload it again
        You are no member any more. bob owns the group now.
        bob	2023-11-14T22:13:20.123Z
        music	ann	12	owner
        films	bob	1	none
        ann	owner	online
        Sharing [music] a song.mp3: 1.4 MiB, 3 pieces, SHA-1 abababababababababababababababababababab
        a song.mp3	1500000	3	2	1	ann,bob
        File:         a song.mp3
        Size:         1500000 bytes (1.4 MiB)
        Pieces:       3 of 512 KiB
        SHA-1:        abababababababababababababababababababab
        BLAKE3:       cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
        Hash string:  a9993e364706816aba3ea9993e364706816aba3ea9993e364706816aba3e
        bob	10.0.0.2:6000	100 %
        Downloading [music] a song.mp3 to /tmp/a song.mp3; nobody who has it is online, so it waits for somebody.
        [D] [music] a song.mp3
        [C] [music] 完了.bin
        [P] [music] txt.gpj
        [F] [music] f
        bob	10.0.0.2:6000	43 %	2097152/s	1024/s	dialled back
        [music]	a song.mp3	1073741824	3221225472	/home/ann/a song.mp3
        [music]	old.bin	1073741824	3221225472	/home/ann/old.bin	suspended: the file has changed
        Of 3 pieces 1 are damaged and fetched again: 1
        User:     ann
        Address:  127.0.0.1:6000
        Device:   ed25519:a4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dq
        1	10.0.0.1:5001	reachable	in use	in sync
        2	10.0.0.1:5002	reachable	-	1 change behind
        3	10.0.0.1:5003	unreachable	-	unknown
        ");
    }

    #[test]
    fn a_terminal_gets_headings_and_aligned_columns() {
        assert_snapshot!(answers(TERMINAL), @r"
        Logged in as ann. 2 files shared again. 1 download going on.
        Not shared: [music] old.bin: the file has changed; upload it again
        You are no member any more. bob owns the group now.
        USER  SINCE
        bob   2023-11-14T22:13:20.123Z
        GROUP  OWNER  MEMBERS  YOU
        music  ann    12       owner
        films  bob    1        none
        USER  ROLE
        ann   owner  online
        Sharing [music] a song.mp3: 1.4 MiB, 3 pieces, SHA-1 abababababababababababababababababababab
        FILE        SIZE     PIECES  SEEDERS  LEECHERS  SHARED BY
        a song.mp3  1.4 MiB  3       2        1         ann,bob
        File:         a song.mp3
        Size:         1500000 bytes (1.4 MiB)
        Pieces:       3 of 512 KiB
        SHA-1:        abababababababababababababababababababab
        BLAKE3:       cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
        Hash string:  a9993e364706816aba3ea9993e364706816aba3ea9993e364706816aba3e
        WHO HAS IT  ADDRESS        PERCENT
        bob         10.0.0.2:6000  100 %
        Downloading [music] a song.mp3 to /tmp/a song.mp3; nobody who has it is online, so it waits for somebody.
        [D] [music] a song.mp3  42 % of 10.0 MiB  3.0 MiB/s  4 peers  1:15 left
        [C] [music] 完了.bin  100 % of 10.0 MiB
        [P] [music] txt.gpj  0 % of 10.0 MiB  The disk is full. Make room, then resume_download.
        [F] [music] f  0 % of 10.0 MiB  No peer has a valid piece 3.
        USER  ADDRESS        HAS   DOWN       UP         STATE
        bob   10.0.0.2:6000  43 %  2.0 MiB/s  1.0 KiB/s  dialled back
        GROUP    FILE        SIZE     UPLOADED  PATH
        [music]  a song.mp3  1.0 GiB  3.0 GiB   /home/ann/a song.mp3
        [music]  old.bin     1.0 GiB  3.0 GiB   /home/ann/old.bin     suspended: the file has changed
        Of 3 pieces 1 are damaged and fetched again: 1
        User:     ann
        Address:  127.0.0.1:6000
        Device:   ed25519:a4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dq
        NO  ADDRESS        STATE        USE     SYNC
        1   10.0.0.1:5001  reachable    in use  in sync
        2   10.0.0.1:5002  reachable    -       1 change behind
        3   10.0.0.1:5003  unreachable  -       unknown
        ");
    }

    #[test]
    fn empty_listings_say_so_on_a_terminal_only() {
        let reply = || Ok(Outcome { reply: Reply::Groups(Vec::new()), stale: false });
        let asked = Asked { name: "list_groups", command: None };
        assert_eq!(PIPED.answer(&asked, &reply()), "");
        assert_eq!(TERMINAL.answer(&asked, &reply()), "No groups yet: create_group makes one.\n");
    }

    #[test]
    fn piped_downloads_are_exactly_state_group_and_file() {
        let asked = Asked { name: "show_downloads", command: None };
        let show = |verbose| {
            let reply = Reply::Downloads { verbose, downloads: samples::downloads() };
            PIPED.answer(&asked, &Ok(Outcome { reply, stale: false }))
        };
        assert_snapshot!(show(false), @r"
        [D] [music] a song.mp3
        [C] [music] 完了.bin
        [P] [music] txt.gpj
        [F] [music] f
        ");
        assert_snapshot!(show(true), @r"
        [D] [music] a song.mp3  42 % of 10.0 MiB  3.0 MiB/s  4 peers  1:15 left
        [C] [music] 完了.bin  100 % of 10.0 MiB
        [P] [music] txt.gpj  0 % of 10.0 MiB  The disk is full. Make room, then resume_download.
        [F] [music] f  0 % of 10.0 MiB  No peer has a valid piece 3.
        ");
    }

    #[test]
    fn failures_and_stale_answers_are_marked() {
        let asked = Asked { name: "login", command: None };
        let failed = PIPED.answer(&asked, &Err(samples::failure()));
        let stale = PIPED.answer(&asked, &Ok(Outcome { reply: Reply::Groups(Vec::new()), stale: true }));
        assert_snapshot!(failed + &stale, @r"
        error[bad_credentials]: The user name or the password is wrong. Check both and try again.
        (may be out of date: the tracker has yet to catch up)
        ");
        let coloured = Text { terminal: true, colour: true };
        assert_eq!(
            coloured.answer(&asked, &Err(Failure::new(samples::failure().code, "No."))),
            "\x1b[31merror[bad_credentials]:\x1b[0m No.\n"
        );
    }

    #[test]
    fn events_are_sentences() {
        let text: String = samples::events().iter().map(|event| PIPED.event(event)).collect();
        assert_snapshot!(text, @r"
        * bob asks to join music: accept_request music bob
        * You are a member of music now.
        * You were removed from music.
        * The account ann is called ann~2 now: the name was claimed earlier at another tracker.
        * Your session has ended (the password was changed): log in again.
        * [music] 完了.bin is complete: /home/ann/完了.bin
        * [music] f failed: No peer has a valid piece 3.
        * [music] old.bin is not shared: the file has changed; upload it again
        * Lost tracker 10.0.0.1:5000; trying the others.
        * No tracker answers. Transfers go on; commands wait for one.
        * Hashing /home/ann/a song.mp3: 25 %
        ");
    }

    #[test]
    fn help_shows_all_or_one() {
        let asked = Asked { name: "help", command: None };
        let one = super::super::super::command::table::find("download_file");
        assert_snapshot!(PIPED.help(&asked, None) + &PIPED.help(&asked, one), @r"
        create_user <user> [passwd]                 register a new account
        login <user> [passwd]                       log in; unfinished downloads go on and earlier shares come back
        logout                                      log out; nothing is shared until the next login
        change_password [old new]                   change your password
        whoami                                      show who is logged in, where this client serves, and its device key
        create_group <group>                        create a group; you own it
        join_group <group>                          ask to join a group
        leave_group <group>                         leave a group, or withdraw the request to join it
        list_groups                                 list every group: owner, members, your own standing
        list_members <group>                        list a group's members (for members)
        list_requests <group>                       list who asks to join, oldest first (for the owner)
        accept_request <group> <user>               let somebody join (for the owner)
        reject_request <group> <user>               refuse a request to join (for the owner)
        remove_member <group> <user>                end somebody's membership at once (for the owner)
        transfer_group <group> <user>               hand a group to another member (for the owner)
        upload_file <path> <group>                  share a file with a group
        list_files <group>                          list a group's files: size, pieces, seeders, leechers, who shared it
        file_info <group> <file>                    show a file's size, hashes, and who has how much of it
        download_file <group> <file> <destination>  download a file, in the background, from everybody who has it
        show_downloads [-v]                         list downloads: [D] going on, [C] complete, [P] paused, [F] failed
        pause_download <group> <file>               pause a download
        resume_download <group> <file>              go on with a paused or failed download
        cancel_download <group> <file>              give up a download and remove what it has
        wait [group file]                           wait until a download, or every one, has ended
        show_peers <group> <file>                   show the swarm of a file: address, user, percent, rates, state
        show_shares                                 list what this client shares, with the bytes uploaded
        stop_share <group> <file>                   stop sharing a file from here
        verify_file <group> <file>                  read the local copy again and name damaged pieces
        set_limit up|down <rate>                    limit uploads or downloads: 10MiB or 500KB a second, 0 for no limit
        trackers                                    show each tracker: address, reachable, in use, how far it is in sync
        help [command]                              show the commands, or one of them
        quit                                        end this client

        Names and paths with spaces stand in quotes. `help <command>` tells more about one.
        download_file <group> <file> <destination>
            download a file, in the background, from everybody who has it
            The destination is a folder, or the path of a file that does not exist yet. `wait` waits for the end; a download cut short goes on at the next login.
        ");
    }
}
