//! `p2p demo`: the guided tour. Two trackers and four clients in one process on loopback; nothing outside a temporary folder.

mod cast;
mod content;

use std::{io, path::PathBuf};

use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

use self::cast::{Person, Trackers};
use super::{
    client::{
        command::{Command, DownloadRow, DownloadState, Event, Rate, Reply},
        output::{
            Asked, Renderer as _,
            progress::{Bars, Milestones, REDRAW},
            sentences::progress,
            text::{Colour, Text},
        },
    },
    environment::Environment,
    units::{format_size, percent},
};
use crate::{
    console::{Signals, Terminal},
    exit::ExitStatus,
    protocol::{
        error::{ErrorCode, Failure},
        name::{FileName, GroupName},
    },
};

/// Size of the file that is made when none is given.
const MADE_SIZE: u64 = 160 << 20;

/// A download takes about this long at the upload limits chosen, so that the middle of it can be watched.
const PLANNED_S: u64 = 10;

/// Longer than any step takes on a slow machine; after it the demo counts as stuck.
const DEADLINE: Duration = Duration::from_mins(4);

/// Why the demo ends early.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Runs the tour; `file` is shared, or one that is made for it.
pub async fn run(file: Option<PathBuf>, terminal: Terminal) -> Result<ExitStatus, Failure> {
    let mut signals = Signals::listen().map_err(|error| cannot("listen for signals", &error))?;
    let tour = tokio::select! {
        biased;
        _ = signals.next() => return Ok(ExitStatus::Interrupted),
        tour = tour(file, terminal) => tour,
    };
    match tour {
        Ok(()) => Ok(ExitStatus::Ok),
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitStatus::Ok),
        Err(Stop::Output(error)) => Err(cannot("write", &error)),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    Failure::new(ErrorCode::Io, format!("The demo cannot {what}: {error}."))
}

/// The steps, in order.
async fn tour(file: Option<PathBuf>, terminal: Terminal) -> Result<(), Stop> {
    let mut tour = Tour::prepare(file, terminal).await?;
    tour.gather().await?;
    tour.share().await?;
    let took = tour.download().await?;
    tour.one_tracker_suffices().await?;
    tour.compare(took).await?;
    tour.end().await;
    Ok(())
}

struct Tour {
    stage: Stage,
    env: Environment,
    dir: TempDir,
    source: PathBuf,
    size: u64,
    name: FileName,
    group: GroupName,
    trackers: Trackers,
    ann: Person,
    others: Vec<Person>,
}

impl Tour {
    async fn prepare(file: Option<PathBuf>, terminal: Terminal) -> Result<Self, Stop> {
        let mut stage = Stage::new(terminal);
        let env = Environment::system()?;
        let dir = tempfile::Builder::new().prefix("p2p-demo-").tempdir()?;
        let (source, size) = content::choose(&env, file, dir.path()).await?;
        stage.say("p2p shares files in groups, directly between the machines of their members.")?;
        stage.say("Here trackers and clients all run in this one process; usually each has a machine of its own.")?;
        stage.step(
            "Two trackers start. They know accounts, groups and who has which file, never a file's content. \
             They keep each other up to date, and any one of them is enough.",
        )?;
        let trackers = Trackers::start(&env, dir.path()).await?;
        for tracker in &trackers.info.trackers {
            stage.say(&format!("   tracker {} at {}", tracker.no, tracker.address))?;
        }
        let name = source.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (name, group) = (FileName::parse(name)?, GroupName::parse("friends")?);
        let rate = Rate((size / PLANNED_S).max(1 << 20));
        let ann = Person::start("ann", &trackers, dir.path(), rate).await?;
        let mut others = Vec::new();
        for name in ["bob", "cara", "dan"] {
            others.push(Person::start(name, &trackers, dir.path(), rate).await?);
        }
        Ok(Self { stage, env, dir, source, size, name, group, trackers, ann, others })
    }

    async fn gather(&mut self) -> Result<(), Stop> {
        self.stage.step("Ann, Bob, Cara and Dan each start a client, register, and log in.")?;
        for person in std::iter::once(&self.ann).chain(&self.others) {
            self.stage.command(person, &format!("create_user {0} ***  and  login {0} ***", person.name))?;
            person.enter().await?;
        }
        self.stage.step(
            "Ann makes a group and owns it. The others ask to join, and she lets them in: only members can see or fetch \
             what a group shares.",
        )?;
        let group = self.group.clone();
        self.stage.command(&self.ann, &format!("create_group {group}"))?;
        self.ann.ask(Command::CreateGroup { group: group.clone() }).await?;
        for person in &self.others {
            self.stage.command(person, &format!("join_group {group}"))?;
            person.ask(Command::JoinGroup { group: group.clone() }).await?;
            self.stage.command(&self.ann, &format!("accept_request {group} {}", person.name))?;
            self.ann.ask(Command::AcceptRequest { group: group.clone(), user: person.user.clone() }).await?;
        }
        Ok(())
    }

    async fn share(&mut self) -> Result<(), Stop> {
        self.stage.step(
            "Ann shares a file. It is cut into pieces of 512 KiB, and the fingerprint of each piece goes to the trackers. \
             The content stays with her.",
        )?;
        self.stage.command(&self.ann, &format!("upload_file {} {}", self.source.display(), self.group))?;
        let command = Command::UploadFile { path: self.source.clone(), group: self.group.clone() };
        let reply = {
            let upload = self.ann.ask(command);
            let mut upload = std::pin::pin!(upload);
            let mut events = self.ann.client.events();
            loop {
                tokio::select! {
                    biased;
                    reply = &mut upload => break reply?,
                    Ok(event) = events.recv() => {
                        if let Event::Hashing { path, done, total } = event {
                            self.stage.bars.hashing(&path, done, total);
                        }
                    }
                }
            }
        };
        self.stage.answer(reply)
    }

    /// Everybody else downloads at the same time; half way the tracker in use is stopped.
    async fn download(&mut self) -> Result<Duration, Stop> {
        self.stage.step(
            "Bob, Cara and Dan download it at the same time. Whoever has a piece passes it on at once, so they fetch from \
             each other as much as from Ann. (Everybody's upload is limited here, or it would be over too soon to watch.)",
        )?;
        for person in &self.others {
            let destination = self.dir.path().join(person.name);
            self.env.disk.create_dir_all(&destination)?;
            self.stage
                .command(person, &format!("download_file {} {} {}", self.group, self.name, destination.display()))?;
            let (group, file) = (self.group.clone(), self.name.clone());
            person.ask(Command::DownloadFile { group, file, destination }).await?;
        }
        let start = Instant::now();
        let mut stopped = false;
        loop {
            let rows = self.progress().await?;
            if !stopped && rows.iter().any(|row| row.have >= self.size / 2) {
                stopped = true;
                self.lose_a_tracker().await?;
            }
            if rows.iter().all(|row| row.state == DownloadState::Complete) {
                return Ok(start.elapsed());
            }
            self.tell_events()?;
            if start.elapsed() > DEADLINE {
                return Err(Failure::new(ErrorCode::Io, "The demo is stuck: the downloads do not end.").into());
            }
            sleep(REDRAW).await;
        }
    }

    async fn progress(&mut self) -> Result<Vec<DownloadRow>, Stop> {
        let mut rows = Vec::new();
        for person in &self.others {
            let row = person.download().await?;
            self.stage.progress(person, &row)?;
            rows.push(row);
        }
        Ok(rows)
    }

    async fn lose_a_tracker(&mut self) -> Result<(), Stop> {
        self.stage.bars.clear();
        self.show_peers().await?;
        self.stage.step(
            "Half way, a tracker is stopped. The clients move to the other one by themselves, without a new login; \
             the downloads do not even notice.",
        )?;
        let no = self.ann.tracker_in_use().await?;
        self.stage.say(&format!("   tracker {no} stops"))?;
        self.trackers.stop(no).await;
        Ok(())
    }

    async fn show_peers(&mut self) -> Result<(), Stop> {
        let Some(bob) = self.others.first() else { return Ok(()) };
        self.stage.command(bob, &format!("show_peers {} {}", self.group, self.name))?;
        let reply = bob.ask(Command::ShowPeers { group: self.group.clone(), file: self.name.clone() }).await?;
        self.stage.answer(reply)
    }

    fn tell_events(&mut self) -> Result<(), Stop> {
        for person in std::iter::once(&mut self.ann).chain(&mut self.others) {
            while let Ok(event) = person.events.try_recv() {
                if matches!(event, Event::TrackerLost { .. } | Event::TrackerFound { .. }) {
                    self.stage.event(person.name, &event)?;
                }
            }
        }
        Ok(())
    }

    async fn one_tracker_suffices(&mut self) -> Result<(), Stop> {
        self.stage.bars.clear();
        self.stage.step("All three have it. Commands work as before, with one tracker left.")?;
        for (text, command) in [
            (format!("list_files {}", self.group), Command::ListFiles { group: self.group.clone() }),
            ("trackers".to_owned(), Command::Trackers),
        ] {
            self.stage.command(&self.ann, &text)?;
            let reply = self.ann.ask(command).await?;
            self.stage.answer(reply)?;
        }
        self.tell_events()
    }

    async fn compare(&mut self, took: Duration) -> Result<(), Stop> {
        self.stage
            .step("Every piece was checked when it arrived. To be sure, the copies are read again and compared.")?;
        let original = content::sha1(&self.env, self.source.clone()).await?;
        self.stage.say(&format!("   ann   SHA-1 {original}"))?;
        for person in &self.others {
            let copy = content::sha1(&self.env, self.dir.path().join(person.name).join(self.name.as_str())).await?;
            self.stage.say(&format!("   {:5} SHA-1 {copy}", person.name))?;
            if copy != original {
                let message = format!("The copy of {} differs from the original.", person.name);
                return Err(Failure::new(ErrorCode::Integrity, message).into());
            }
        }
        let total = self.size * self.others.len() as u64;
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = total.saturating_mul(1000) / took_ms;
        self.stage.done(&format!(
            "{} copies of {} in {:.1} s ({}/s altogether), all identical, with a tracker lost on the way.",
            self.others.len(),
            format_size(self.size),
            took.as_secs_f64(),
            format_size(rate)
        ))
    }

    async fn end(self) {
        for person in std::iter::once(self.ann).chain(self.others) {
            person.client.stop().await;
        }
        self.trackers.end().await;
    }
}

/// Where the tour is told.
struct Stage {
    text: Text,
    bars: Bars,
    milestones: Milestones,
    steps: u32,
}

impl Stage {
    fn new(terminal: Terminal) -> Self {
        let text = Text { terminal: true, colour: terminal.colour };
        let bars = Bars::new(terminal.output && terminal.errors, terminal.errors_colour);
        Self { text, bars, milestones: Milestones::default(), steps: 0 }
    }

    fn say(&mut self, text: &str) -> Result<(), Stop> {
        use io::Write as _;
        let write = || {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{text}")?;
            stdout.flush()
        };
        Ok(self.bars.suspend(write)?)
    }

    fn step(&mut self, text: &str) -> Result<(), Stop> {
        self.steps += 1;
        let text = wrapped(&format!("{}. {text}", self.steps));
        self.say(&format!("\n{}", self.text.paint(Colour::Bold, &text)))
    }

    /// What somebody types.
    fn command(&mut self, person: &Person, command: &str) -> Result<(), Stop> {
        let prompt = self.text.paint(Colour::Cyan, &format!("{}>", person.name));
        self.say(&format!("   {prompt} {command}"))
    }

    fn answer(&mut self, reply: Reply) -> Result<(), Stop> {
        let outcome = Ok(super::client::Outcome { reply, stale: false });
        let text = self.text.answer(&Asked { name: "", command: None }, &outcome);
        text.lines().try_for_each(|line| self.say(&format!("      {line}")))
    }

    fn event(&mut self, name: &str, event: &Event) -> Result<(), Stop> {
        let text = self.text.event(event);
        self.say(&format!("   {name:5} {}", text.trim_end()))
    }

    /// A bar on a terminal, a line at each quarter elsewhere.
    fn progress(&mut self, person: &Person, row: &DownloadRow) -> Result<(), Stop> {
        if self.bars.is_visible() {
            self.bars.show(person.name, person.name, (row.have, row.size), &progress(row));
            return Ok(());
        }
        let is_ending = row.have >= row.size && row.state != DownloadState::Complete;
        if !is_ending && self.milestones.passed(person.name, row.have, row.size) {
            let from = if row.state == DownloadState::Complete {
                "done".to_owned()
            } else {
                format!("from {} peers", row.peers)
            };
            self.say(&format!("   {:5} {:3} %  {from}", person.name, percent(row.have, row.size)))?;
        }
        Ok(())
    }

    fn done(&mut self, text: &str) -> Result<(), Stop> {
        self.bars.clear();
        self.say(&format!("\n{}", self.text.paint(Colour::Green, &wrapped(text))))?;
        self.say("Next: `p2p --help`, and the five-minute guide in README.md.")
    }
}

/// Breaks a paragraph into lines of at most 100 columns, the later ones indented.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        if !last.trim().is_empty() && last.len() + word.len() >= 100 {
            lines.push(format!("   {word}"));
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_wrapped_between_words() {
        let text = wrapped(&"word ".repeat(50));
        assert!(text.lines().all(|line| line.len() <= 100));
        assert_eq!(text.split_whitespace().count(), 50);
    }
}
