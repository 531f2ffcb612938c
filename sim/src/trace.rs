//! The trace of a run: each event a line with its number, the simulated time and the host, the same for the same seed.

use std::{
    fmt, io, mem,
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
const FULL: &str = "warn,p2p=trace,p2p_sim=trace,coverage=trace,turmoil=info";

/// What is traced of a run, and where it goes.
#[derive(Clone)]
pub(crate) struct Trace {
    /// Nothing is traced without one.
    filter: Option<String>,
    lines: Arc<Mutex<Vec<u8>>>,
    echo: bool,
}

impl Trace {
    /// Nothing is traced: the quickest.
    pub(crate) fn off() -> Self {
        Self { filter: None, lines: Arc::default(), echo: false }
    }

    /// Everything, kept in memory.
    pub(crate) fn full() -> Self {
        Self::filtered(FULL)
    }

    /// What `filter` says in the words of `RUST_LOG`, kept in memory.
    pub(crate) fn filtered(filter: &str) -> Self {
        // turmoil's spans name the host.
        Self { filter: Some(format!("turmoil=info,{filter}")), ..Self::off() }
    }

    /// Is shown on stderr too, as it goes.
    pub(crate) fn echoed(self) -> Self {
        Self { echo: true, ..self }
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
        secrets::not_in_trace(&String::from_utf8_lossy(&self.lines.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The lines so far, taken out.
    pub(crate) fn take(&self) -> String {
        let lines = mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&lines).into_owned()
    }
}

impl io::Write for &Trace {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        if self.echo {
            io::stderr().write_all(bytes)?;
        }
        Ok(bytes.len())
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
