//! The ends of the process that a person or script holds: standard input by lines, the terminal, signals.

use std::io::{self, BufRead, IsTerminal as _, Read as _};

use rustix::{
    process::getpgrp,
    termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr},
};
use tokio::{
    signal::unix::{self, SignalKind},
    sync::mpsc,
    time::Duration,
};

/// Most bytes in a line of input; the longest command has two names, a path and quotes.
pub const MAX_LINE: usize = 64 * 1024;

/// Lines read ahead of the command that runs.
const LINES_AHEAD: usize = 16;

/// How often a job in the background looks whether it has come to the foreground.
const FOREGROUND_CHECK: Duration = Duration::from_secs(1);

/// What standard input gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A line, without its end.
    Line(String),
    /// A line of more than [`MAX_LINE`] bytes; it was skipped.
    TooLong,
}

/// The lines of standard input, from a thread of its own: a read that never returns must not hold up the end of the process.
pub fn stdin_lines() -> mpsc::Receiver<Input> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    let read = move || {
        wait_for_foreground();
        let mut stdin = io::stdin().lock();
        while let Ok(Some(input)) = read_line(&mut stdin) {
            if sender.blocking_send(input).is_err() {
                break;
            }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "standard input is outside of what is simulated")]
    std::thread::spawn(read);
    receiver
}

/// A job in the background that reads its terminal is stopped by the system; it reads once it is in the foreground.
fn wait_for_foreground() {
    let is_background = || tcgetpgrp(io::stdin()).is_ok_and(|group| group != getpgrp());
    while is_background() {
        #[expect(clippy::disallowed_methods, reason = "standard input is outside of what is simulated")]
        std::thread::sleep(FOREGROUND_CHECK);
    }
}

/// The next line; `None` at the end. Bytes that are no UTF-8 are replaced.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Input>> {
    let mut bytes = Vec::new();
    reader.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() > MAX_LINE && bytes.last() != Some(&b'\n') {
        skip_line(reader)?;
        return Ok(Some(Input::TooLong));
    }
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    Ok(Some(Input::Line(String::from_utf8_lossy(line).into_owned())))
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let (used, done) = end.map_or((buffer.len(), buffer.is_empty()), |end| (end + 1, true));
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}

/// Which ends are terminals, and whether colour is wanted there.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each end is a terminal or not, on its own")]
pub struct Terminal {
    /// Standard input.
    pub input: bool,
    /// Standard output.
    pub output: bool,
    /// Standard error.
    pub errors: bool,
    /// Colour on standard output.
    pub colour: bool,
    /// Colour on standard error.
    pub errors_colour: bool,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless the environment asks for none
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Terminal {
    /// Looks at the process's own ends.
    pub fn detect(choice: ColorChoice) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = |is_terminal: bool| match choice {
            ColorChoice::Auto => is_terminal && !plain,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        let (output, errors) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let input = io::stdin().is_terminal();
        Self { input, output, errors, colour: colour(output), errors_colour: colour(errors) }
    }
}

/// Gives the terminal its settings back when dropped, whatever a thread that still reads has made of them.
pub struct TerminalSettings(Option<Termios>);

impl TerminalSettings {
    /// Remembers the settings of standard input.
    pub fn remember() -> Self {
        Self(tcgetattr(io::stdin()).ok())
    }
}

impl Drop for TerminalSettings {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            // A terminal that is gone needs no settings.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, settings);
        }
    }
}

/// A signal that asks the process to stop something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, or the terminal is gone.
    Terminate,
}

/// The signals that stop the process.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// Takes the signals over from the system.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hangup.recv() => Signal::Terminate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_line_feeds_and_long_ones_are_skipped() {
        let text = [b"one\r\n\n".as_slice(), &vec![b'x'; MAX_LINE + 5], b"\nlast \xff"].concat();
        let mut reader = text.as_slice();
        let mut read = || read_line(&mut reader).unwrap();
        assert_eq!(read(), Some(Input::Line("one\r".into())));
        assert_eq!(read(), Some(Input::Line(String::new())));
        assert_eq!(read(), Some(Input::TooLong));
        assert_eq!(read(), Some(Input::Line("last \u{fffd}".into())));
        assert_eq!(read(), None);
    }
}
