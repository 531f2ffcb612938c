//! Where text goes: answers to standard output; notices above the prompt, among the JSON lines, or to standard error.

use std::io::{self, Write as _};

use super::{
    super::{
        Outcome,
        command::{DownloadRow, Event, table::Spec},
        prompt::Prompt,
    },
    Asked, Renderer,
    json::Json,
    progress::{Bars, Milestones},
    text::Text,
};
use crate::{console::Terminal, protocol::error::Failure};

/// Who reads the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Somebody at a prompt.
    Person,
    /// A pipe, a file, or a person who gave the commands with `-c`: plain lines.
    Lines,
    /// A script that wants JSON.
    Json,
}

/// Prints answers and notices in the form their reader wants.
pub struct Printer {
    reader: Reader,
    renderer: Box<dyn Renderer>,
    /// Live bars of what the running command does.
    pub bars: Bars,
    milestones: Milestones,
}

impl Printer {
    /// Prints for `reader`.
    pub fn new(reader: Reader, terminal: Terminal) -> Self {
        let text = Text { terminal: reader == Reader::Person, colour: terminal.colour };
        let renderer: Box<dyn Renderer> = if reader == Reader::Json { Box::new(Json) } else { Box::new(text) };
        let bars = Bars::new(terminal.output && terminal.errors && reader != Reader::Json, terminal.errors_colour);
        Self { reader, renderer, bars, milestones: Milestones::default() }
    }

    /// Who reads the answers.
    pub fn reader(&self) -> Reader {
        self.reader
    }

    /// Answers a command.
    pub fn answer(&mut self, asked: &Asked<'_>, outcome: &Result<Outcome, Failure>) -> io::Result<()> {
        self.bars.clear();
        write_answer(&self.renderer.answer(asked, outcome))
    }

    /// Answers `help`.
    pub fn help(&self, asked: &Asked<'_>, topic: Option<&'static Spec>) -> io::Result<()> {
        write_answer(&self.renderer.help(asked, topic))
    }

    /// Answers `quit`.
    pub fn farewell(&self, asked: &Asked<'_>) -> io::Result<()> {
        write_answer(&self.renderer.farewell(asked))
    }

    /// Tells of downloads that stop with this client.
    pub fn stopped(&self, downloads: &[DownloadRow]) -> io::Result<()> {
        self.notice(self.renderer.stopped(downloads), None)
    }

    /// Tells of something that happened, above the prompt while a line is being typed there.
    pub fn event(&mut self, event: &Event, prompt: Option<&Prompt>) -> io::Result<()> {
        if let Event::Hashing { path, done, total } = event {
            if self.reader != Reader::Json {
                if prompt.is_none() {
                    self.bars.hashing(path, *done, *total);
                }
                return Ok(());
            }
            if !self.milestones.passed(&path.to_string_lossy(), *done, *total) {
                return Ok(());
            }
        }
        self.notice(self.renderer.event(event), prompt)
    }

    /// Says something to a person at the prompt; nobody else needs it.
    pub fn say(&self, text: &str) -> io::Result<()> {
        if self.reader == Reader::Person { write_answer(text) } else { Ok(()) }
    }

    fn notice(&self, text: String, prompt: Option<&Prompt>) -> io::Result<()> {
        match (self.reader, prompt) {
            _ if text.is_empty() => Ok(()),
            (Reader::Lines, _) => self.bars.suspend(|| io::stderr().lock().write_all(text.as_bytes())),
            (Reader::Person, Some(prompt)) => {
                prompt.print(text);
                Ok(())
            }
            _ => self.bars.suspend(|| write_answer(&text)),
        }
    }
}

fn write_answer(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
