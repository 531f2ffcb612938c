//! A client spoken to by its standard input, answering in JSON.

use std::{borrow::Cow, collections::VecDeque, path::PathBuf, time::Instant};

use serde_json::Value;

use super::{P2P, PATIENCE, Process, World, eventually, world::Journal};

/// A client process of one user.
pub(crate) struct Client {
    name: String,
    address: String,
    command: Vec<String>,
    log: PathBuf,
    journal: Journal,
    /// The process.
    pub(crate) process: Process,
    events: VecDeque<Value>,
}

impl Client {
    /// Starts a client; its data folder and address are its own and stay through restarts.
    /// `wrapper` is what the binary is run by: nothing, or a command that takes it as its last arguments.
    pub(crate) fn start(world: &World, name: &str, wrapper: &[&str], options: &[&str]) -> Self {
        let address = super::world::free_address();
        let (data, info) = (world.path(&format!("data/{name}")).to_string_lossy().into_owned(), world.info());
        let p2p = [P2P, "client", &address, &info, "--json", "--data-dir", &data];
        let command: Vec<String> = [wrapper, &p2p, options].concat().into_iter().map(str::to_owned).collect();
        let (log, journal) = (world.log(name), world.journal.clone());
        let process = Process::start(name, &command, &log);
        Self { name: name.to_owned(), address, command, log, journal, process, events: VecDeque::new() }
    }

    /// The address it serves at.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.journal.note(&self.name, "is killed");
        self.process.kill();
    }

    /// Starts it again after its end, with the same data, address and options.
    pub(crate) fn restart(&mut self) {
        self.journal.note(&self.name, "starts again");
        self.process = Process::start(&self.name, &self.command, &self.log);
        self.events.clear();
    }

    /// Registers its user and logs in.
    pub(crate) fn register(&mut self) {
        let line = format!("create_user {0} secret-{0}", self.name);
        self.ok(&line);
        self.log_in();
    }

    /// Logs in with the password of [`Client::register`].
    pub(crate) fn log_in(&mut self) -> Value {
        let line = format!("login {0} secret-{0}", self.name);
        self.ok(&line)
    }

    /// Becomes a member of a group with its owner's consent.
    pub(crate) fn join(&mut self, owner: &mut Self, group: &str) {
        self.ok(&format!("join_group {group}"));
        let accept = format!("accept_request {group} {}", self.name);
        owner.until("the request arrives", &accept, |answer| answer["ok"] == true);
    }

    /// Gives a command without waiting for its answer.
    pub(crate) fn say(&mut self, line: &str) {
        self.journal.note(&self.name, &format!("> {line}"));
        self.process.say(line);
    }

    /// The answer to the oldest command not yet answered.
    pub(crate) fn answer(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.next(deadline).unwrap_or_else(|| panic!("{} does not answer", self.name));
            if value.get("command").is_some() {
                return value;
            }
            self.events.push_back(value);
        }
    }

    /// Gives a command and returns its answer.
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.say(line);
        let answer = self.answer();
        let command = line.split_whitespace().next().unwrap();
        assert_eq!(answer["command"], command, "an answer names its command: {answer}");
        answer
    }

    /// Gives a command that must succeed.
    #[track_caller]
    pub(crate) fn ok(&mut self, line: &str) -> Value {
        let answer = self.ask(line);
        assert_eq!(answer["ok"], true, "{} `{line}`: {answer}", self.name);
        answer
    }

    /// Gives a command that must fail; returns the error's code.
    #[track_caller]
    pub(crate) fn fails(&mut self, line: &str) -> String {
        let answer = self.ask(line);
        assert_eq!(answer["ok"], false, "{} `{line}`: {answer}", self.name);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.len() > 5, "an error says what happened: {answer}");
        answer["error"]["code"].as_str().unwrap().to_owned()
    }

    /// Gives a command again and again until its answer is as wanted.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, line: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{}: {what} (`{line}`)", self.name), || {
            Some(self.ask(line)).filter(|answer| wanted(answer))
        })
    }

    /// The next event that is as wanted, of those not yet taken.
    #[track_caller]
    pub(crate) fn event(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.events.iter().position(&wanted) {
            return self.events.remove(index).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.next(deadline).unwrap_or_else(|| panic!("{} does not tell: {what}", self.name));
            assert!(value.get("event").is_some(), "an answer nobody asked for: {value}");
            if wanted(&value) {
                return value;
            }
            self.events.push_back(value);
        }
    }

    /// Downloads a file to its end and returns what was downloaded.
    #[track_caller]
    pub(crate) fn fetch(&mut self, group: &str, file: &str, destination: &std::path::Path) -> Vec<u8> {
        let (file, destination) = (quoted(file), quoted(destination.to_str().unwrap()));
        let started = self.ok(&format!("download_file {group} {file} {destination}"));
        self.ok(&format!("wait {group} {file}"));
        std::fs::read(started["path"].as_str().unwrap()).unwrap()
    }

    /// The row of one download.
    #[track_caller]
    pub(crate) fn download(&mut self, file: &str) -> Value {
        row(&self.ok("show_downloads"), "downloads", file)
    }

    /// Waits until the row of one download is as wanted.
    #[track_caller]
    pub(crate) fn download_until(&mut self, what: &str, file: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let answer = self.until(what, "show_downloads", |answer| wanted(&row(answer, "downloads", file)));
        row(&answer, "downloads", file)
    }

    /// Bytes this client has served of one of its shares.
    #[track_caller]
    pub(crate) fn uploaded(&mut self, file: &str) -> u64 {
        row(&self.ok("show_shares"), "shares", file)["uploaded"].as_u64().unwrap()
    }

    fn next(&mut self, deadline: Instant) -> Option<Value> {
        let line = self.process.line(deadline.saturating_duration_since(Instant::now()))?;
        self.journal.note(&self.name, &format!("< {line}"));
        let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {error}: {line}", self.name));
        Some(value)
    }
}

/// The row named `name` of a listing in an answer; null when there is none.
pub(crate) fn row(answer: &Value, listing: &str, name: &str) -> Value {
    let rows = answer[listing].as_array().unwrap_or_else(|| panic!("no {listing} in {answer}"));
    rows.iter().find(|row| row["name"] == name).cloned().unwrap_or_default()
}

/// A word as a shell would have it written.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    shlex::try_quote(word).unwrap()
}
