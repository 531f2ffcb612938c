//! The prompt: line editing, history, completion, notices and live lines above what is being typed, hidden passwords.
//!
//! The editor blocks, so it runs on a thread of its own, and so does what prints above it (the editor takes one message at
//! a time). Neither decides anything: a line typed is a message to the shell like any other.

use std::{
    borrow::Cow,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::{
    CompletionType, Config, Context, Editor, ExternalPrinter as _, Helper, completion::Completer,
    config::Configurer as _, error::ReadlineError, highlight::Highlighter, hint::Hinter, history::DefaultHistory,
    validate::Validator,
};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::{
    Completions,
    complete::{complete, history_line},
};

/// Lines kept in the history.
const HISTORY_LINES: usize = 1000;

/// Messages above the prompt that wait while the editor is busy; more are dropped.
const MESSAGES: usize = 64;

/// What the prompt gave.
#[derive(Debug)]
pub enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-C: the line is given up.
    Cancelled,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// What is shown around the line being typed. Shared with the editor.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// What may be completed.
    pub completions: Completions,
    /// Live lines above the prompt; all as wide as the ones the prompt was asked with.
    pub live: Vec<String>,
}

/// The prompt's handle.
pub struct Prompt {
    ask: SyncSender<String>,
    typed: mpsc::Receiver<Typed>,
    messages: SyncSender<String>,
    waiting: bool,
    surroundings: Arc<Mutex<Surroundings>>,
    colour: bool,
}

impl Prompt {
    /// Starts the editor. `history` is the file that remembers lines.
    pub fn start(history: PathBuf, colour: bool) -> Result<Self, ReadlineError> {
        let surroundings = Arc::new(Mutex::new(Surroundings::default()));
        let config = Config::builder().max_history_size(HISTORY_LINES)?.completion_type(CompletionType::List).build();
        let mut editor = Editor::<Assistant, DefaultHistory>::with_config(config)?;
        editor.set_color_mode(rustyline::ColorMode::Forced);
        editor.set_helper(Some(Assistant { surroundings: Arc::clone(&surroundings), colour }));
        // A first run has no history yet, and none that is readable is no reason not to start.
        let _ = editor.load_history(&history);
        let messages = print_above(&mut editor);
        let (ask, asked) = sync_channel(1);
        let (typed, receiver) = mpsc::channel(1);
        spawn(move || edit(editor, &history, &asked, &typed));
        Ok(Self { ask, typed: receiver, messages, waiting: false, surroundings, colour })
    }

    /// Whether colour is wanted.
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// Whether a line is being typed.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// What is shown around the line.
    pub fn surroundings(&self) -> std::sync::MutexGuard<'_, Surroundings> {
        self.surroundings.lock().expect("nobody who holds the surroundings panics")
    }

    /// Shows the prompt, with the live lines above it, unless it is shown already.
    pub fn show(&mut self, text: &str) {
        if !self.waiting {
            let above: String = self.surroundings().live.iter().map(|line| blank(line) + "\n").collect();
            // The editor's thread ends only with this handle.
            let _ = self.ask.try_send(above + text);
            self.waiting = true;
        }
    }

    /// What is typed; safe to drop and to call again.
    pub async fn typed(&mut self) -> Typed {
        let typed = self.typed.recv().await.unwrap_or(Typed::End);
        self.waiting = false;
        typed
    }

    /// Prints lines above the prompt.
    pub fn print(&self, text: String) {
        // Whoever sits in a list of candidates misses notices rather than holding up the client.
        let _ = self.messages.try_send(text);
    }

    /// Draws prompt and live lines anew.
    pub fn redraw(&self) {
        // One row up and down again: the editor then repaints the prompt where it was.
        self.print("\x1b[A\n".to_owned());
    }

    /// Leaves the line being typed, which the editor will not do when the process ends under it.
    pub fn abandon(&self) -> io::Result<()> {
        const PASTE_MARKS_OFF: &str = "\x1b[?2004l";
        let mut stdout = io::stdout().lock();
        if self.waiting {
            writeln!(stdout, "{PASTE_MARKS_OFF}")?;
        }
        stdout.flush()
    }

    /// A writer that prints above the prompt.
    pub fn writer(&self) -> impl Write + Send + 'static {
        AbovePrompt(self.messages.clone())
    }
}

fn blank(line: &str) -> String {
    use unicode_width::UnicodeWidthStr as _;
    " ".repeat(line.width())
}

fn spawn(run: impl FnOnce() + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "the prompt is outside of what is simulated, and its editor blocks")]
    thread::spawn(run);
}

struct AbovePrompt(SyncSender<String>);

impl Write for AbovePrompt {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the thread that hands messages to the editor; on a terminal that cannot have them above the line they just follow.
fn print_above(editor: &mut Editor<Assistant, DefaultHistory>) -> SyncSender<String> {
    let (sender, messages) = sync_channel::<String>(MESSAGES);
    let printer = editor.create_external_printer();
    spawn(move || {
        let mut printer = printer.ok();
        for message in messages {
            let is_written = match &mut printer {
                Some(printer) => printer.print(message).is_ok(),
                None => io::stdout().write_all(message.as_bytes()).is_ok(),
            };
            if !is_written {
                break;
            }
        }
    });
    sender
}

fn edit(
    mut editor: Editor<Assistant, DefaultHistory>,
    history: &Path,
    asked: &Receiver<String>,
    typed: &mpsc::Sender<Typed>,
) {
    for prompt in asked {
        let answer = match editor.readline(prompt.as_str()) {
            Ok(line) => {
                remember(&mut editor, history, &line);
                Typed::Line(line)
            }
            Err(ReadlineError::Interrupted) => Typed::Cancelled,
            Err(_) => Typed::End,
        };
        if typed.blocking_send(answer).is_err() {
            break;
        }
    }
}

/// A history that cannot be written is no reason to stop.
fn remember(editor: &mut Editor<Assistant, DefaultHistory>, history: &Path, text: &str) {
    for line in text.lines().filter_map(history_line) {
        let _ = editor.add_history_entry(line);
    }
    let _ = editor.append_history(history);
}

/// What the editor asks while a line is typed.
struct Assistant {
    surroundings: Arc<Mutex<Surroundings>>,
    colour: bool,
}

impl Assistant {
    fn surroundings(&self) -> std::sync::MutexGuard<'_, Surroundings> {
        self.surroundings.lock().expect("nobody who holds the surroundings panics")
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> Result<(usize, Vec<String>), ReadlineError> {
        let (start, mut words) = complete(&line[..at], &self.surroundings().completions, entries);
        if let [only] = words.as_mut_slice()
            && !only.ends_with('/')
            && at == line.len()
        {
            only.push(' ');
        }
        Ok((start, words))
    }
}

/// Names in a folder, with a `/` behind folders; none when it cannot be read.
fn entries(folder: &Path) -> Vec<String> {
    let name = |entry: io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        #[expect(clippy::disallowed_methods, reason = "the prompt is outside of what is simulated")]
        let is_dir = entry.path().is_dir();
        Some(if is_dir { name + "/" } else { name })
    };
    #[expect(clippy::disallowed_methods, reason = "the prompt is outside of what is simulated")]
    let mut names: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().filter_map(name).collect();
    names.sort();
    names
}

impl Highlighter for Assistant {
    /// Puts the live lines where the prompt has blank ones of the same width.
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, default: bool) -> Cow<'b, str> {
        let Some((above, text)) = prompt.rsplit_once('\n').filter(|_| default) else { return self.coloured(prompt) };
        let surroundings = self.surroundings();
        let live = |(at, blank): (usize, &str)| surroundings.live.get(at).cloned().unwrap_or_else(|| blank.to_owned());
        let lines: Vec<_> = above.split('\n').enumerate().map(live).collect();
        format!("{}\n{}", lines.join("\n"), self.coloured(text)).into()
    }
}

impl Assistant {
    fn coloured<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.colour { format!("\x1b[1m{text}\x1b[0m").into() } else { text.into() }
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Validator for Assistant {}

impl Helper for Assistant {}

/// Asks for a password on the terminal without showing it; `None` when it is given up.
pub async fn ask_hidden(label: &str) -> Option<Zeroizing<String>> {
    let (sender, answer) = oneshot::channel();
    let label = label.to_owned();
    spawn(move || {
        let _ = sender.send(read_hidden(&label));
    });
    answer.await.ok()?.ok().flatten()
}

/// Switches off what shows typed characters; on again when dropped.
struct Hidden(Termios);

impl Hidden {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Now, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn read_hidden(label: &str) -> io::Result<Option<Zeroizing<String>>> {
    let hidden = Hidden::start()?;
    write_terminal(label)?;
    let line = typed_line(std::iter::from_fn(|| typed_byte().transpose()));
    write_terminal("\n")?;
    drop(hidden);
    line
}

/// The next byte typed; read past every buffer, so that nothing typed ahead is lost to the editor.
fn typed_byte() -> io::Result<Option<u8>> {
    let mut byte = [0];
    Ok((rustix::io::read(io::stdin(), &mut byte)? == 1).then_some(byte[0]))
}

fn write_terminal(text: &str) -> io::Result<()> {
    let mut errors = io::stderr().lock();
    errors.write_all(text.as_bytes())?;
    errors.flush()
}

/// Reads up to Enter, byte by byte; Ctrl-C and Ctrl-D give up, Backspace and Ctrl-U correct.
fn typed_line(bytes: impl Iterator<Item = io::Result<u8>>) -> io::Result<Option<Zeroizing<String>>> {
    const LONGEST: usize = 4096;
    let mut line = Zeroizing::new(Vec::new());
    for byte in bytes {
        match byte? {
            b'\r' | b'\n' => return Ok(Some(Zeroizing::new(String::from_utf8_lossy(&line).into_owned()))),
            3 | 4 => return Ok(None),
            8 | 127 => erase_character(&mut line),
            21 => line.clear(),
            byte if line.len() < LONGEST => line.push(byte),
            _ => {}
        }
    }
    Ok(None)
}

fn erase_character(line: &mut Vec<u8>) {
    let is_continuation = |byte: &u8| byte & 0xc0 == 0x80;
    while line.pop().as_ref().is_some_and(is_continuation) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, expected: Option<&str>) {
        let line = typed_line(typed.bytes().map(Ok)).unwrap();
        assert_eq!(line.as_ref().map(|line| line.as_str()), expected, "{typed:?}");
    }

    #[test]
    fn hidden_lines_can_be_corrected_and_given_up() {
        check("secret\r", Some("secret"));
        check("sex\u{7f}cret\n", Some("secret"));
        check("größ\u{7f}\u{7f}\n", Some("gr"));
        check("wrong\u{15}right\n", Some("right"));
        check("\u{7f}\n", Some(""));
        check("sec\u{3}", None);
        check("sec\u{4}", None);
        check("sec", None);
    }
}
