//! `p2p bench transfer` measures and verifies.

use serde_json::Value;

use crate::common::run;

#[test]
fn a_small_transfer_is_measured_and_verified() {
    let arguments = ["bench", "transfer", "--size", "16MiB", "--seeders", "2", "--leechers", "2", "--json"];
    let output = run(&arguments, "");
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut members: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    let expected = ["bytes", "cpu_s_per_gib", "leechers", "mib_per_s", "peak_mib", "seeders", "verified", "wall_s"];
    assert_eq!(members, expected);
    assert_eq!((&report["seeders"], &report["leechers"], &report["bytes"]), (&2.into(), &2.into(), &(32 << 20).into()));
    assert_eq!(report["verified"], true);
    assert!(report["mib_per_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn sizes_out_of_range_are_a_usage_error() {
    for size in ["15MiB", "17GiB", "much"] {
        assert_eq!(run(&["bench", "transfer", "--size", size], "").status.code(), Some(2), "{size}");
    }
}
