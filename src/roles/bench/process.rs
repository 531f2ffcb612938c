//! A tracker or client of this very program as a process of its own: commands in by its standard input, JSON lines out.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::BenchError;

/// Longer than any step of a test that still moves; after it the process counts as stuck.
const ANSWER_DEADLINE: Duration = Duration::from_mins(15);

/// A running process. Killed when dropped.
pub(super) struct Process {
    name: String,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Process {
    /// Starts `p2p` with `arguments`; its state and log are folders and files named for it in `dir`.
    pub(super) fn start(name: &str, arguments: &[&str], dir: &Path) -> Result<Self, BenchError> {
        let log = dir.join(format!("{name}.log"));
        let mut child = spawn(name, arguments, dir, &log).map_err(BenchError::io(format!("start {name}")))?;
        let input = child.stdin.take().expect("standard input was piped");
        let output = BufReader::new(child.stdout.take().expect("standard output was piped")).lines();
        Ok(Self { name: name.to_owned(), child, input, output, log })
    }

    /// Gives a command and waits for its answer; one that is no success is an error.
    pub(super) async fn ask(&mut self, command: &str) -> Result<Value, BenchError> {
        let answer = timeout(ANSWER_DEADLINE, self.answer(command)).await;
        let Ok(Ok(Some(answer))) = answer else {
            return Err(BenchError::NoAnswer {
                name: self.name.clone(),
                command: command.to_owned(),
                log_end: self.log_end(),
            });
        };
        if answer["ok"] == true {
            return Ok(answer);
        }
        Err(BenchError::Refused {
            name: self.name.clone(),
            command: command.to_owned(),
            answer: answer["error"]["message"].as_str().unwrap_or("no reason").to_owned(),
        })
    }

    async fn answer(&mut self, command: &str) -> io::Result<Option<Value>> {
        self.input.write_all(format!("{command}\n").as_bytes()).await?;
        self.input.flush().await?;
        while let Some(line) = self.output.next_line().await? {
            let value: Value = serde_json::from_str(&line)?;
            if value.get("command").is_some() {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn log_end(&self) -> String {
        #[expect(
            clippy::disallowed_methods,
            reason = "the log of a process that is watched from outside is no role's file"
        )]
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// What the process has taken so far.
    pub(super) fn usage(&self) -> Usage {
        self.child.id().and_then(Usage::of).unwrap_or_default()
    }
}

fn spawn(name: &str, arguments: &[&str], dir: &Path, log: &Path) -> io::Result<Child> {
    #[expect(clippy::disallowed_types, reason = "the log of a process that is watched from outside is no role's file")]
    let log = fs::File::create(log)?;
    Command::new(std::env::current_exe()?)
        .args(arguments)
        .arg("--data-dir")
        .arg(dir.join(name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
}

/// An address on loopback that nobody listened at a moment ago.
pub(super) fn free_address() -> Result<String, BenchError> {
    #[expect(clippy::disallowed_methods, reason = "for a process that is watched from outside")]
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    address.map(|address| address.to_string()).map_err(BenchError::io("find a free port"))
}

/// What a process has taken since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Seconds of processor time, user and system.
    pub(super) cpu_s: f64,
    /// Most resident memory at any moment, in bytes.
    pub(super) peak_bytes: u64,
    /// Resident memory now, in bytes.
    pub(super) resident_bytes: u64,
}

impl Usage {
    /// Reads Linux's /proc; `None` where there is none.
    pub(super) fn of(process: u32) -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "the system tells about processes in files")]
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        #[expect(clippy::disallowed_methods, reason = "the system tells about processes in files")]
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let bytes = |name| memory_bytes(&status, name);
        Some(Self { cpu_s: cpu_s(&stat)?, peak_bytes: bytes("VmHWM:")?, resident_bytes: bytes("VmRSS:")? })
    }
}

/// Fields 14 and 15 of `proc_pid_stat(5)`, in units of which Linux shows programs 100 a second on every architecture.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / 100.0)
}

fn memory_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_behind_a_name_with_spaces_and_brackets() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 123";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(cpu_s("42 (a"), None);
    }

    #[test]
    fn memory_is_told_by_name() {
        let status = "VmPeak:\t  900 kB\nVmHWM:\t  512 kB\nVmRSS:\t  100 kB\n";
        assert_eq!(memory_bytes(status, "VmHWM:"), Some(512 * 1024));
        assert_eq!(memory_bytes(status, "VmRSS:"), Some(100 * 1024));
        assert_eq!(memory_bytes("VmPeak:\t  900 kB\n", "VmHWM:"), None);
    }
}
