//! The trace of a run: each event a line with its number, the simulated time and the host, the same for the same seed.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::Targets,
    fmt::{MakeWriter, format::Writer, time::FormatTime},
    layer::{Layer as _, SubscriberExt as _},
};

use crate::{
    coverage::{self, Coverage},
    oracle::{Verdict, secrets},
};

/// Every event of ours; of the libraries only what warns. turmoil would print ciphertext, which differs from run to run.
pub(crate) const FULL: &str = "warn,p2p=trace,p2p_sim=trace,coverage=trace,turmoil=info";

/// What is traced of a run, and where it goes.
#[derive(Clone)]
pub(crate) struct Trace {
    /// In the words of `RUST_LOG`; nothing is traced without one.
    filter: Option<String>,
    lines: Lines,
    /// The first line that shows a password.
    secret: Arc<Mutex<Option<String>>>,
}

/// What becomes of the lines, once they were searched for passwords.
#[derive(Clone)]
enum Lines {
    Forgotten,
    /// Each at once: it is there even when the process dies.
    Shown,
    #[cfg(test)]
    Kept(Arc<Mutex<Vec<u8>>>),
}

impl Trace {
    /// Nothing is traced: the quickest.
    pub(crate) fn off() -> Self {
        Self { filter: None, lines: Lines::Forgotten, secret: Arc::default() }
    }

    /// Everything, only to be searched for passwords.
    pub(crate) fn searched() -> Self {
        Self { filter: Some(FULL.into()), ..Self::off() }
    }

    /// What `filter` chooses, to stderr.
    pub(crate) fn shown(filter: &str) -> Self {
        // turmoil's spans name the host.
        Self { filter: Some(format!("turmoil=info,{filter}")), lines: Lines::Shown, ..Self::off() }
    }

    /// What `filter` chooses, kept in memory.
    #[cfg(test)]
    pub(crate) fn kept(filter: &str) -> Self {
        Self { lines: Lines::Kept(Arc::default()), ..Self::shown(filter) }
    }

    /// What turns events into lines, and counts those that `coverage` wants whatever is traced.
    pub(crate) fn subscriber(&self, coverage: &Coverage) -> impl Subscriber + Send + Sync + use<> {
        let lines = self.filter.as_ref().map(|filter| {
            tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_timer(SimulatedTime)
                .with_writer(self.clone())
                .with_filter(EnvFilter::new(filter))
        });
        let points = Targets::new().with_target(coverage::TARGET, tracing::Level::TRACE);
        Registry::default().with(lines).with(coverage.clone().with_filter(points))
    }

    /// Whether the lines so far are free of passwords.
    pub(crate) fn shows_no_secret(&self) -> Verdict {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map_or(Ok(()), secrets::not_in_trace)
    }

    /// The lines kept so far, taken out.
    #[cfg(test)]
    pub(crate) fn take(&self) -> String {
        let Lines::Kept(kept) = &self.lines else { panic!("these lines are not kept") };
        String::from_utf8(std::mem::take(&mut *kept.lock().unwrap())).unwrap()
    }
}

/// Events come one at a time, each whole.
impl io::Write for &Trace {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        if secrets::not_in_trace(&line).is_err() {
            self.secret.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| line.into_owned());
        }
        match &self.lines {
            Lines::Forgotten => Ok(bytes.len()),
            Lines::Shown => io::stderr().write(bytes),
            #[cfg(test)]
            Lines::Kept(kept) => kept.lock().unwrap().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Trace {
    type Writer = &'a Trace;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        write!(writer, "{:>4}.{:03}", elapsed.as_secs(), elapsed.subsec_millis())
    }
}

/// The host on which a line of the trace was written.
pub(crate) fn host(line: &str) -> Option<&str> {
    Some(line.split_once("node{name=\"")?.1.split_once('"')?.0)
}

/// The first place where two traces part: line number and both lines.
pub(crate) fn first_difference(one: &str, two: &str) -> Option<(usize, String, String)> {
    let (mut left, mut right) = (one.lines(), two.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => return Some((number, a.unwrap_or("(end)").into(), b.unwrap_or("(end)").into())),
        }
    }
    None
}
