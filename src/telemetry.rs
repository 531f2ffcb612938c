//! The log: what happens inside, for those who run or mend p2p; to standard error or a file, never among the answers.

use std::{
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex},
};

use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, registry::LookupSpan, util::SubscriberInitExt as _,
};

use crate::protocol::error::{ErrorCode, Failure};

/// Which events are logged.
#[derive(Clone, Debug)]
pub struct LogFilter(EnvFilter);

impl FromStr for LogFilter {
    type Err = String;

    /// A level (`off`, `error`, `warn`, `info`, `debug`, `trace`) or a filter (`p2p::transport=debug,warn`).
    fn from_str(text: &str) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let lower = text.to_ascii_lowercase();
        let filter = if LEVELS.contains(&lower.as_str()) { format!("error,p2p={lower}") } else { text.to_owned() };
        let wrong = |_| format!("give a level ({}) or a filter such as p2p::transport=debug,warn", LEVELS.join(", "));
        EnvFilter::builder().parse(filter).map(Self).map_err(wrong)
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A readable line each
    Text,
    /// A JSON object each
    Json,
}

/// Where the log goes. Clones share it.
#[derive(Clone)]
pub struct LogTarget(Arc<Mutex<Box<dyn Write + Send>>>);

impl LogTarget {
    /// Standard error, or the end of a file.
    pub fn open(file: Option<&PathBuf>) -> Result<Self, Failure> {
        let Some(path) = file else { return Ok(Self::new(io::stderr())) };
        #[expect(clippy::disallowed_types, reason = "the log is no role's file")]
        let file = std::fs::File::options().create(true).append(true).mode(0o600).open(path);
        let failed =
            |error| Failure::new(ErrorCode::Io, format!("The log file {} cannot be written: {error}.", path.display()));
        file.map(Self::new).map_err(failed)
    }

    fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(writer))))
    }

    /// Sends what follows elsewhere: above a prompt, so that it does not break the line being typed.
    pub fn redirect(&self, writer: impl Write + Send + 'static) {
        *self.0.lock().expect("no writer of the log panics") = Box::new(writer);
    }
}

impl Write for LogTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer of the log panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().expect("no writer of the log panics").flush()
    }
}

/// Starts the log of this process.
pub fn start(filter: LogFilter, format: LogFormat, target: &LogTarget, colour: bool) {
    let registry = tracing_subscriber::registry().with(filter.0);
    registry.with(layer(format, target, colour)).init();
}

fn layer<S>(format: LogFormat, target: &LogTarget, colour: bool) -> Box<dyn tracing_subscriber::Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let target = target.clone();
    let layer = fmt::layer().with_writer(move || target.clone());
    match format {
        LogFormat::Text => layer.with_ansi(colour).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_read() {
        for good in ["info", "DEBUG", "off", "p2p::transport=debug,warn"] {
            assert!(good.parse::<LogFilter>().is_ok(), "{good}");
        }
        for bad in ["p2p=loud", "[", "a=b=c"] {
            assert!(bad.parse::<LogFilter>().is_err(), "{bad}");
        }
    }
}
