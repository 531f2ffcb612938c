//! Plain lines. On a terminal with headings, aligned columns and a little colour; piped without headings, columns parted by tabs.

use unicode_width::UnicodeWidthStr as _;

use super::{
    super::{
        Outcome,
        command::{
            DownloadRow, DownloadState, Event, FileDetail, FileRow, PeerRow, Reply, SessionName, ShareRow, TrackerRow,
            table::{COMMANDS, Spec},
        },
    },
    Asked, Renderer,
    clean::clean,
    json::{letter, rfc3339, standing},
    sentences::{done, event_text, left, logged_in, plural, progress, uploaded, verified},
};
use crate::{
    protocol::{error::Failure, ids::device_key_text, name::UserName},
    roles::units::format_size,
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
            Reply::Sessions(sessions) => {
                let rows = sessions.iter().map(|entry| {
                    let address = entry.address.clone().unwrap_or_else(|| "offline".to_owned());
                    let this = if entry.current { "this one" } else { "" };
                    let device = device_key_text(&entry.device);
                    [SessionName::of(&entry.session).0, rfc3339(entry.since_ms), address, device, this.to_owned()]
                });
                self.table(["SESSION", "SINCE", "ADDRESS", "DEVICE", ""], rows.collect(), "No sessions.")
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
            Reply::Waited(downloads) if downloads.is_empty() && self.terminal => {
                "No download is going on.\n".to_owned()
            }
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

    fn files(self, files: &[FileRow]) -> String {
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
            let reachable = match (&row.refused, row.status.reachable) {
                (Some(_), _) => "refused",
                (None, true) => "reachable",
                (None, false) => "unreachable",
            };
            let current = if row.current { "in use" } else { "-" };
            let lag = row.status.lag.map_or_else(|| "unknown".to_owned(), lag_text);
            [row.status.tracker.to_string(), row.address.clone(), reachable.to_owned(), current.to_owned(), lag]
        });
        let table = self.table(["NO", "ADDRESS", "STATE", "USE", "SYNC"], rows.collect(), "No trackers.");
        let refused = trackers.iter().filter_map(|row| row.refused.as_ref()).filter(|_| self.terminal);
        refused.fold(table, |text, failure| text + &self.error(failure))
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

fn lag_text(lag: u64) -> String {
    match lag {
        0 => "in sync".to_owned(),
        count => format!("{count} change{} behind", plural(count)),
    }
}

#[cfg(test)]
mod tests;
