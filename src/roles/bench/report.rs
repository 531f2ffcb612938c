//! What a transfer cost, as a table or as JSON.

use std::io::{self, Write};

use serde::Serialize;

const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;

/// The measurements of one transfer. The member names are part of the command contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Peers that had the file from the start.
    pub seeders: u32,
    /// Peers that fetched it.
    pub leechers: u32,
    /// Bytes delivered: the file's size times the leechers.
    pub bytes: u64,
    /// Seconds from the first `download_file` until the last leecher had all.
    pub wall_s: f64,
    /// Bytes delivered in a second of wall time, in MiB.
    pub mib_per_s: f64,
    /// Seconds of processor time that all peers together took for each GiB delivered; 0 where the system does not tell.
    pub cpu_s_per_gib: f64,
    /// Most memory that one peer held at any moment (resident), in MiB; 0 where the system does not tell.
    pub peak_mib: f64,
    /// Whether every copy is byte for byte what was shared.
    pub verified: bool,
}

impl Report {
    /// Puts raw measurements into the units of the report.
    pub fn new(peers: (u32, u32), bytes: u64, wall_s: f64, cpu_s: f64, peak_bytes: u64, verified: bool) -> Self {
        Self {
            seeders: peers.0,
            leechers: peers.1,
            bytes,
            wall_s: round(wall_s),
            mib_per_s: round(float(bytes) / MIB / wall_s),
            cpu_s_per_gib: round(cpu_s / (float(bytes) / GIB)),
            peak_mib: round(float(peak_bytes) / MIB),
            verified,
        }
    }

    /// Writes the report as one JSON object, or as a table to read.
    pub fn write(&self, json: bool, out: &mut impl Write) -> io::Result<()> {
        if json {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        writeln!(out, "seeders      {}", self.seeders)?;
        writeln!(out, "leechers     {}", self.leechers)?;
        writeln!(out, "delivered    {:.2} GiB", float(self.bytes) / GIB)?;
        writeln!(out, "wall         {:.2} s", self.wall_s)?;
        writeln!(out, "rate         {:.1} MiB/s", self.mib_per_s)?;
        writeln!(out, "processor    {:.2} s per GiB, all peers together", self.cpu_s_per_gib)?;
        writeln!(out, "peak memory  {:.1} MiB, the largest peer", self.peak_mib)?;
        writeln!(out, "bytes        {}", if self.verified { "verified" } else { "WRONG" })
    }
}

#[expect(clippy::cast_precision_loss, reason = "for display; 2^53 bytes are far beyond any test")]
fn float(value: u64) -> f64 {
    value as f64
}

/// Three digits behind the point are more than such a measurement holds.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new((4, 2), 2 << 30, 4.0, 5.0, 100 << 20, true)
    }

    #[test]
    fn rates_follow_from_what_was_measured() {
        let report = report();
        assert_eq!((report.mib_per_s, report.cpu_s_per_gib, report.peak_mib), (512.0, 2.5, 100.0));
    }

    #[test]
    fn the_json_members_are_those_of_the_contract() {
        let mut out = Vec::new();
        report().write(true, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap().trim(), @r#"{"seeders":4,"leechers":2,"bytes":2147483648,"wall_s":4.0,"mib_per_s":512.0,"cpu_s_per_gib":2.5,"peak_mib":100.0,"verified":true}"#);
    }
}
