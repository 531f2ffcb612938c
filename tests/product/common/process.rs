//! The binary as a process: lines in, lines out, signals, exit status.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use super::{PATIENCE, eventually};

/// A running `p2p`. Killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts a command. Its standard error is appended to `log`.
    pub(crate) fn start(name: &str, command: &[String], log: &Path) -> Self {
        let errors = File::options().create(true).append(true).open(log).unwrap();
        let (program, arguments) = command.split_first().unwrap();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let input = child.stdin.take();
        Self { name: name.to_owned(), child, input, lines, log: log.to_owned() }
    }

    /// Writes a line to its standard input.
    pub(crate) fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("standard input was closed");
        let written = writeln!(input, "{line}").and_then(|()| input.flush());
        assert!(written.is_ok(), "{} no longer reads; asked `{line}`\n{}", self.name, self.log());
    }

    /// The next line of its standard output; `None` when none came in time.
    pub(crate) fn line(&mut self, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                panic!("{} has closed its output ({:?})\n{}", self.name, self.child.try_wait(), self.log())
            }
        }
    }

    /// Closes its standard input.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// kill -9, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM or SIGINT.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.id(), signal).unwrap();
    }

    /// The system's number for it.
    pub(crate) fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended; its exit status.
    pub(crate) fn status(&mut self) -> Option<i32> {
        let what = format!("the end of {}", self.name);
        eventually(&what, || self.child.try_wait().unwrap()).code()
    }

    /// A file about it in /proc.
    pub(crate) fn system_says(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// The most memory that it has had, in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        let status = self.system_says("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary that is tested.
pub(crate) const P2P: &str = env!("CARGO_BIN_EXE_p2p");

/// Runs the binary to its end, with `input` as its standard input.
pub(crate) fn run(arguments: &[&str], input: &str) -> Output {
    run_with(arguments, input, &[])
}

/// The same, with environment variables.
pub(crate) fn run_with(arguments: &[&str], input: &str, settings: &[(&str, &str)]) -> Output {
    let mut child = Command::new(P2P)
        .args(arguments)
        .envs(settings.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = thread::spawn(move || read_all(|bytes| out.read_to_end(bytes)));
    let err = thread::spawn(move || read_all(|bytes| err.read_to_end(bytes)));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let (out, err) = (out.join().unwrap(), err.join().unwrap());
            panic!("{arguments:?} did not end\n{}\n{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
        }
        thread::sleep(Duration::from_millis(10));
    };
    Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn read_all(read: impl FnOnce(&mut Vec<u8>) -> std::io::Result<usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = read(&mut bytes);
    bytes
}
