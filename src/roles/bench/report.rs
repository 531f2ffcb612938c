//! What a scenario measured, as a table or as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::process::Usage;

pub(super) const MIB: f64 = 1024.0 * 1024.0;
pub(super) const GIB: f64 = 1024.0 * MIB;

/// Measurements: serialized, the JSON object that scripts read.
pub trait Report: Serialize {
    /// The table that people read: what, and how much of it.
    fn rows(&self) -> Vec<(&'static str, String)>;

    /// Whether all bytes and hashes are as they should be.
    fn is_verified(&self) -> bool;

    /// Writes one JSON object, or the table.
    fn write(&self, json: bool, out: &mut impl Write) -> io::Result<()> {
        if json {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        let rows = self.rows();
        let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
        rows.into_iter().try_for_each(|(what, value)| writeln!(out, "{what:width$}  {value}"))
    }
}

/// What some bytes cost. Members of every report that has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Seconds of processor time that all peers together took for each GiB; 0 where the system does not tell.
    pub cpu_s_per_gib: f64,
    /// Most memory that one peer held at any moment (resident), in MiB; 0 where the system does not tell.
    pub peak_mib: f64,
    /// Whether all bytes and hashes are as they should be.
    pub verified: bool,
}

impl Cost {
    pub(super) fn new(bytes: u64, usage: Usage, verified: bool) -> Self {
        let cpu_s_per_gib = round(usage.cpu_s / (float(bytes.max(1)) / GIB));
        Self { cpu_s_per_gib, peak_mib: round(float(usage.peak_bytes) / MIB), verified }
    }

    pub(super) fn rows(&self) -> [(&'static str, String); 3] {
        [
            ("processor", format!("{:.2} s per GiB, all peers together", self.cpu_s_per_gib)),
            ("peak memory", format!("{:.1} MiB, the largest peer", self.peak_mib)),
            ("bytes", verdict(self.verified)),
        ]
    }
}

/// How a table says whether all was right.
pub(super) fn verdict(verified: bool) -> String {
    if verified { "verified" } else { "WRONG" }.to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "for display; 2^53 bytes are far beyond any test")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

/// Three digits behind the point are more than such a measurement holds.
pub(super) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
