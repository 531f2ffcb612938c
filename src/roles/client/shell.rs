//! The command loop: lines from a terminal, a pipe or `-c`, each executed and answered in order, events told in between.

use std::{io, path::PathBuf, pin::pin, vec};

use rustix::termios::tcgetwinsize;
use tokio::{
    sync::{broadcast, mpsc},
    time::{Duration, Interval, MissedTickBehavior, interval},
};
use zeroize::Zeroizing;

use super::{
    Client, Outcome,
    command::{
        Command, DownloadRow, DownloadState, Event, Reply,
        parse::{AskPassword, Line, Parsed, check_password, known_password, parse, password_missing},
        words::split_commands,
    },
    output::{
        Asked,
        printer::{Printer, Reader},
        progress::{REDRAW, bar_line},
    },
    prompt::{Prompt, Typed, ask_hidden},
};
use crate::{
    console::{Input, MAX_LINE, Signal, Signals, Terminal, TerminalSettings, stdin_lines},
    exit::ExitStatus,
    protocol::{
        client::Password,
        error::{ErrorCode, Failure},
        name::{FileName, GroupName, UserName},
    },
    telemetry::LogTarget,
};

/// How often live lines above the prompt are drawn anew.
const LIVE_REDRAW: Duration = Duration::from_millis(500);

/// Most live lines above the prompt; further downloads show with `show_downloads`.
const LIVE_LINES: usize = 4;

/// Most columns of a live line.
const LIVE_WIDTH: usize = 110;

/// How the shell is set up.
#[derive(Clone, Debug)]
pub struct ShellOptions {
    /// Commands given with `-c`; none when they are to be read.
    pub commands: Vec<String>,
    /// Answer in JSON.
    pub json: bool,
    /// Keep sharing after the last command, until a signal.
    pub stay: bool,
    /// Log in first; a password left out is asked for.
    pub login: Option<(UserName, Option<Zeroizing<String>>)>,
    /// Where the prompt remembers lines.
    pub history: PathBuf,
    /// The ends of the process.
    pub terminal: Terminal,
}

impl ShellOptions {
    fn reader(&self) -> Reader {
        let person = self.commands.is_empty() && self.terminal.input && self.terminal.output;
        match (self.json, person) {
            (true, _) => Reader::Json,
            (false, true) => Reader::Person,
            (false, false) => Reader::Lines,
        }
    }
}

/// Runs commands until they end, and says how all went. The client runs on until it is stopped.
pub async fn run(client: &Client, options: ShellOptions, logs: &LogTarget) -> io::Result<ExitStatus> {
    let _settings = (options.reader() == Reader::Person).then(TerminalSettings::remember);
    let stay = options.stay;
    let login = options.login.clone();
    let mut shell = Shell::new(client, options, logs)?;
    shell.welcome()?;
    let mut end = shell.log_in(login).await?;
    if end.is_none() {
        end = Some(shell.run_lines().await?);
    }
    if stay && end == Some(End::Input) {
        shell.stay().await?;
    }
    shell.tell_stopped().await?;
    Ok(match (end, shell.failed) {
        (Some(End::Interrupted), _) => ExitStatus::Interrupted,
        (_, true) => ExitStatus::Failed,
        (_, false) => ExitStatus::Ok,
    })
}

/// Why no more commands are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There are no more.
    Input,
    /// `quit`, or the login asked for on the command line failed.
    Quit,
    /// A signal.
    Interrupted,
}

/// Where lines come from.
enum Source {
    Given(vec::IntoIter<String>),
    Piped(mpsc::Receiver<Input>),
    Typed(Box<Prompt>),
}

/// What the wait for a line came to.
enum Next {
    Line(Input),
    Cancelled,
    End(End),
}

struct Shell<'a> {
    client: &'a Client,
    source: Source,
    terminal: Terminal,
    events: broadcast::Receiver<Event>,
    signals: Signals,
    printer: Printer,
    /// Downloads with a live line above the prompt.
    live: Vec<(GroupName, FileName)>,
    tick: Interval,
    failed: bool,
}

impl<'a> Shell<'a> {
    fn new(client: &'a Client, options: ShellOptions, logs: &LogTarget) -> io::Result<Self> {
        let reader = options.reader();
        let source = match reader {
            Reader::Person => {
                let prompt = Prompt::start(options.history, options.terminal.colour).map_err(io::Error::other)?;
                logs.redirect(prompt.writer());
                Source::Typed(Box::new(prompt))
            }
            _ if !options.commands.is_empty() => Source::Given(given_lines(&options.commands).into_iter()),
            _ => Source::Piped(stdin_lines()),
        };
        let mut tick = interval(LIVE_REDRAW);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            client,
            source,
            terminal: options.terminal,
            events: client.events(),
            signals: Signals::listen()?,
            printer: Printer::new(reader, options.terminal),
            live: Vec::new(),
            tick,
            failed: false,
        })
    }

    fn welcome(&self) -> io::Result<()> {
        let (version, address) = (env!("CARGO_PKG_VERSION"), self.client.address());
        self.printer.say(&format!(
            "p2p {version}, serving at {address}. `help` lists the commands; begin with create_user or login.\n"
        ))
    }

    async fn log_in(&mut self, login: Option<(UserName, Option<Zeroizing<String>>)>) -> io::Result<Option<End>> {
        let Some((user, password)) = login else { return Ok(None) };
        let command = match password {
            Some(text) => known_password(text.to_string()).map(|password| Command::Login { user, password }),
            None => self.ask_password("login", AskPassword::Login { user }).await,
        };
        let outcome = match command {
            Ok(command) => match self.execute(command).await? {
                Ok(outcome) => outcome,
                Err(end) => return Ok(Some(end)),
            },
            Err(failure) => Err(failure),
        };
        let person = self.printer.reader() == Reader::Person;
        let failed = outcome.is_err();
        if failed || person {
            self.answer(&Asked { name: "login", command: None }, &outcome)?;
        }
        Ok((failed && !person).then_some(End::Quit))
    }

    async fn run_lines(&mut self) -> io::Result<End> {
        loop {
            match self.next_line().await? {
                Next::Line(Input::Line(text)) => {
                    let text = Zeroizing::new(text);
                    for line in split_commands(&text, &['\n']) {
                        if let Some(end) = self.run_line(line).await? {
                            return Ok(end);
                        }
                    }
                }
                Next::Line(Input::TooLong) => self.answer(&Asked { name: "", command: None }, &Err(too_long()))?,
                Next::Cancelled => {}
                Next::End(end) => return Ok(end),
            }
        }
    }

    /// Waits for a line; meanwhile tells what happens and keeps the live lines moving.
    async fn next_line(&mut self) -> io::Result<Next> {
        self.show_prompt().await;
        loop {
            tokio::select! {
                biased;
                signal = self.signals.next() => {
                    if signal == Signal::Terminate || !matches!(self.source, Source::Typed(_)) {
                        return Ok(Next::End(End::Interrupted));
                    }
                }
                event = next_event(&mut self.events) => self.tell(&event)?,
                _ = self.tick.tick(), if !self.live.is_empty() => self.draw_live().await,
                next = self.source.next() => return Ok(next),
            }
        }
    }

    async fn run_line(&mut self, text: &str) -> io::Result<Option<End>> {
        let Some(Parsed { name, line }) = parse(text) else { return Ok(None) };
        let asked = Asked { name: &name, command: None };
        let command = match line {
            Ok(Line::Run(command)) => Ok(command),
            Ok(Line::AskPassword(ask)) => self.ask_password(&name, ask).await,
            Ok(Line::Help(topic)) => return self.printer.help(&asked, topic).map(|()| None),
            Ok(Line::Quit) => return self.printer.farewell(&asked).map(|()| Some(End::Quit)),
            Err(failure) => Err(failure),
        };
        let command = match command {
            Ok(command) => command,
            Err(failure) => return self.answer(&asked, &Err(failure)).map(|()| None),
        };
        match self.execute(command.clone()).await? {
            Ok(outcome) => {
                self.answer(&Asked { name: &name, command: Some(&command) }, &outcome)?;
                Ok(None)
            }
            Err(End::Interrupted) if matches!(self.source, Source::Typed(_)) => {
                self.printer.bars.clear();
                self.printer.say("Interrupted.\n").map(|()| None)
            }
            Err(end) => Ok(Some(end)),
        }
    }

    /// Runs one command to its answer, or to the signal that cuts it short; meanwhile tells what happens.
    async fn execute(&mut self, command: Command) -> io::Result<Result<Result<Outcome, Failure>, End>> {
        let waits = matches!(command, Command::Wait { .. }) && self.printer.bars.is_visible();
        let mut execution = pin!(self.client.execute(command));
        let mut redraw = interval(REDRAW);
        loop {
            tokio::select! {
                biased;
                _ = self.signals.next() => return Ok(Err(End::Interrupted)),
                event = next_event(&mut self.events) => self.tell(&event)?,
                _ = redraw.tick(), if waits => {
                    let rows = self.downloads().await;
                    self.printer.bars.downloads(&rows);
                }
                outcome = &mut execution => return Ok(Ok(outcome)),
            }
        }
    }

    fn answer(&mut self, asked: &Asked<'_>, outcome: &Result<Outcome, Failure>) -> io::Result<()> {
        self.failed |= outcome.is_err();
        self.printer.answer(asked, outcome)
    }

    fn tell(&mut self, event: &Event) -> io::Result<()> {
        let prompt = if let Source::Typed(prompt) = &self.source { Some(&**prompt) } else { None };
        self.printer.event(event, prompt.filter(|prompt| prompt.is_waiting()))
    }

    /// Asks for what a command lacks, on the terminal, unseen.
    async fn ask_password(&self, name: &str, ask: AskPassword) -> Result<Command, Failure> {
        if !self.terminal.input || matches!(self.source, Source::Piped(_)) {
            return Err(password_missing(name));
        }
        Ok(match ask {
            AskPassword::Login { user } => {
                let password = known_password(hidden(&format!("Password of {user}: ")).await?)?;
                Command::Login { user, password }
            }
            AskPassword::CreateUser { user } => {
                let password = chosen_password(&format!("Password for {user}: ")).await?;
                Command::CreateUser { user, password }
            }
            AskPassword::CloseAccount => {
                let password = known_password(hidden("Password, to close the account for good: ").await?)?;
                Command::CloseAccount { password }
            }
            AskPassword::ChangePassword => {
                let old = known_password(hidden("Present password: ").await?)?;
                Command::ChangePassword { old, new: chosen_password("New password: ").await? }
            }
        })
    }

    async fn downloads(&self) -> Vec<DownloadRow> {
        match self.client.execute(Command::ShowDownloads { verbose: false }).await {
            Ok(Outcome { reply: Reply::Downloads { downloads, .. }, .. }) => downloads,
            _ => Vec::new(),
        }
    }

    async fn user(&self) -> Option<UserName> {
        match self.client.execute(Command::WhoAmI).await {
            Ok(Outcome { reply: Reply::WhoAmI { user, .. }, .. }) => user,
            _ => None,
        }
    }

    async fn show_prompt(&mut self) {
        let Source::Typed(_) = &self.source else { return };
        let rows = self.downloads().await;
        let going_on = rows.iter().filter(|row| row.state == DownloadState::Downloading).take(LIVE_LINES);
        self.live = going_on.map(|row| (row.group.clone(), row.name.clone())).collect();
        let text = self.user().await.map_or_else(|| "p2p> ".to_owned(), |user| format!("{user}> "));
        let lines = self.live_lines(&rows);
        if let Source::Typed(prompt) = &mut self.source {
            let mut surroundings = prompt.surroundings();
            surroundings.live = lines;
            surroundings.completions = self.client.completions();
            drop(surroundings);
            prompt.show(&text);
        }
    }

    async fn draw_live(&mut self) {
        let lines = self.live_lines(&self.downloads().await);
        if let Source::Typed(prompt) = &self.source {
            let changed = std::mem::replace(&mut prompt.surroundings().live, lines.clone()) != lines;
            if changed {
                prompt.redraw();
            }
        }
    }

    fn live_lines(&self, rows: &[DownloadRow]) -> Vec<String> {
        let columns = tcgetwinsize(io::stdout()).map_or(80, |size| usize::from(size.ws_col));
        let width = columns.saturating_sub(1).clamp(20, LIVE_WIDTH);
        let row =
            |(group, name): &(GroupName, FileName)| rows.iter().find(|row| row.group == *group && row.name == *name);
        let line = |key| row(key).map_or_else(|| " ".repeat(width), |row| bar_line(row, width));
        self.live.iter().map(line).collect()
    }

    /// Keeps sharing until a signal.
    async fn stay(&mut self) -> io::Result<()> {
        self.printer.say("Sharing until Ctrl-C.\n")?;
        loop {
            tokio::select! {
                biased;
                _ = self.signals.next() => return Ok(()),
                event = next_event(&mut self.events) => self.tell(&event)?,
            }
        }
    }

    /// Tells what has happened up to now, and which downloads the end of this client cuts short.
    async fn tell_stopped(&mut self) -> io::Result<()> {
        if let Source::Typed(prompt) = &self.source {
            prompt.abandon()?;
        }
        while let Ok(event) = self.events.try_recv() {
            self.tell(&event)?;
        }
        let mut rows = self.downloads().await;
        rows.retain(|row| row.state == DownloadState::Downloading);
        if rows.is_empty() { Ok(()) } else { self.printer.stopped(&rows) }
    }
}

impl Source {
    /// The next line; safe to drop and to call again.
    async fn next(&mut self) -> Next {
        match self {
            Self::Given(lines) => lines.next().map_or(Next::End(End::Input), |line| Next::Line(Input::Line(line))),
            Self::Piped(lines) => lines.recv().await.map_or(Next::End(End::Input), Next::Line),
            Self::Typed(prompt) => match prompt.typed().await {
                Typed::Line(line) => Next::Line(Input::Line(line)),
                Typed::Cancelled => Next::Cancelled,
                Typed::End => Next::End(End::Input),
            },
        }
    }
}

fn given_lines(commands: &[String]) -> Vec<String> {
    commands.iter().flat_map(|text| split_commands(text, &[';', '\n'])).map(str::to_owned).collect()
}

/// The next event; a reader that fell behind goes on with the oldest that is left.
async fn next_event(events: &mut broadcast::Receiver<Event>) -> Event {
    loop {
        match events.recv().await {
            Ok(event) => return event,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending::<()>().await,
        }
    }
}

fn too_long() -> Failure {
    Failure::new(ErrorCode::Usage, format!("The line is longer than {MAX_LINE} bytes. Shorten it."))
}

async fn hidden(label: &str) -> Result<String, Failure> {
    let text = ask_hidden(label).await;
    text.map(|text| text.to_string()).ok_or_else(|| Failure::new(ErrorCode::Usage, "No password was given."))
}

/// Asks twice for a password that somebody chooses.
async fn chosen_password(label: &str) -> Result<Password, Failure> {
    let password = check_password(hidden(label).await?)?;
    if hidden("Once more: ").await? == password.0 {
        Ok(password)
    } else {
        Err(Failure::new(ErrorCode::Usage, "The two passwords differ. Try again."))
    }
}
