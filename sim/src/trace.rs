//! The trace of a run: each event a line with its number, the simulated time and the host, the same for the same seed.

use std::{
    fmt, io, mem,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, format::Writer, time::FormatTime},
};

/// Every event of ours; of the libraries only what warns. turmoil would print ciphertext, which differs from run to run.
const FULL: &str = "warn,p2p=trace,p2p_sim=trace,turmoil=info";

/// Where a run's trace goes.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    lines: Arc<Mutex<Vec<u8>>>,
    echo: bool,
}

impl Trace {
    /// A trace that is kept, and shown on stderr too when `echo` says so.
    pub(crate) fn new(echo: bool) -> Self {
        Self { lines: Arc::default(), echo }
    }

    /// What turns events into lines. `filter` in the words of `RUST_LOG`; all of it when there is none.
    pub(crate) fn subscriber(&self, filter: Option<&str>) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::fmt()
            .with_env_filter(
                filter.map_or_else(|| EnvFilter::new(FULL), |filter| EnvFilter::new(format!("turmoil=info,{filter}"))),
            )
            .with_ansi(false)
            .with_timer(SimulatedTime)
            .with_writer(self.clone())
            .finish()
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
