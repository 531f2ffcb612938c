//! `p2p bench` measures and verifies.

use serde_json::Value;

use crate::common::run;

/// The report of a scenario, whose members are these.
fn report(arguments: &[&str], members: &[&str]) -> Value {
    let output = run(&[&["bench"], arguments, &["--json"]].concat(), "");
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, members);
    assert_eq!(report["verified"], true);
    report
}

#[test]
fn a_small_transfer_is_measured_and_verified() {
    let members = ["bytes", "cpu_s_per_gib", "leechers", "mib_per_s", "peak_mib", "seeders", "verified", "wall_s"];
    let report = report(&["transfer", "--size", "16MiB", "--seeders", "2", "--leechers", "2"], &members);
    assert_eq!((&report["seeders"], &report["leechers"], &report["bytes"]), (&2.into(), &2.into(), &(32 << 20).into()));
    assert!(report["mib_per_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_small_swarm_is_held_against_the_least_time() {
    let members = [
        "bound_s",
        "bytes",
        "cpu_s_per_gib",
        "leechers",
        "peak_mib",
        "pieces",
        "ratio",
        "seeder_copies",
        "up_limit",
        "verified",
        "wall_s",
    ];
    let report = report(&["swarm", "--size", "16MiB", "--leechers", "3", "--up-limit", "32MiB"], &members);
    assert_eq!(
        (&report["leechers"], &report["pieces"], &report["up_limit"]),
        (&3.into(), &32.into(), &(32 << 20).into())
    );
    let (ratio, copies) = (report["ratio"].as_f64().unwrap(), report["seeder_copies"].as_f64().unwrap());
    assert!(ratio > 0.0 && copies >= 1.0, "{report}");
}

#[test]
fn a_range_is_told_line_by_line_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("plot.svg");
    let arguments = ["bench", "transfer", "--size", "16MiB", "--leechers", "2,1", "--json", "--plot"];
    let output = run(&[&arguments[..], &[plot.to_str().unwrap()]].concat(), "");
    assert!(output.status.success(), "{output:?}");
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    let leechers: Vec<_> = lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["leechers"].clone()).collect();
    assert_eq!(leechers, [2, 1]);
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("leechers"), "{svg}");
    let nowhere = run(&[&arguments[..], &["/no/such/folder/plot.svg"]].concat(), "");
    assert!(
        !nowhere.status.success() && nowhere.stdout.is_empty(),
        "it is said before anything is measured: {nowhere:?}"
    );
}

#[test]
fn a_small_file_is_timed_from_command_to_last_byte() {
    let members = ["first_ms", "first_worst_ms", "runs", "second_ms", "second_worst_ms", "size", "verified"];
    let report = report(&["start", "--size", "16MiB", "--runs", "2"], &members);
    assert_eq!((&report["runs"], &report["size"]), (&2.into(), &(16 << 20).into()));
    let [first, worst] = ["first_ms", "first_worst_ms"].map(|member| report[member].as_f64().unwrap());
    assert!(0.0 < first && first <= worst, "{report}");
}

#[test]
fn files_are_hashed_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [("one 1", 3 << 20), ("empty", 0)].map(|(name, size)| {
        let path = dir.path().join(name);
        std::fs::write(&path, vec![7; size]).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let members = ["bytes", "cpu_s_per_gib", "files", "gib_per_s", "peak_mib", "verified", "wall_s"];
    let report = report(&["hash", &paths[0], &paths[1]], &members);
    assert_eq!((&report["files"], &report["bytes"]), (&2.into(), &(3 << 20).into()));
}

#[test]
fn a_small_crowd_is_served_by_two_trackers() {
    let members = [
        "connection_bytes",
        "connections",
        "crowd_per_s",
        "links",
        "logins",
        "opened_per_s",
        "peak_mib",
        "presence",
        "session_bytes",
        "sessions",
        "verified",
        "writes",
    ];
    let small = ["--sessions", "35", "--seconds", "1", "--links", "3", "--writers", "5", "--connections", "7"];
    let report = report(&[&["tracker"], &small[..]].concat(), &members);
    assert_eq!((&report["sessions"], &report["connections"]), (&40.into(), &7.into()), "whole groups");
    for load in ["presence", "logins", "writes"] {
        assert!(report[load]["per_s"].as_f64().unwrap() > 0.0, "{load}: {report}");
        assert!(report[load]["p99_ms"].as_f64() >= report[load]["p50_ms"].as_f64(), "{load}: {report}");
    }
}

#[test]
fn a_small_catalog_starts_and_comes_to_an_empty_tracker() {
    let members = ["large", "lookup_ratio", "small", "verified", "write_ratio"];
    let report = report(&["catalog", "--shares", "2000", "--seconds", "1"], &members);
    for (size, shares) in [("small", 20), ("large", 2000)] {
        assert_eq!(report[size]["shares"], shares, "{report}");
        for measured in ["start_s", "sync_s", "disk_mib", "resident_mib"] {
            assert!(report[size][measured].as_f64().unwrap() > 0.0, "{measured}: {report}");
        }
    }
}

#[test]
fn wrong_arguments_are_a_usage_error() {
    for size in ["15MiB", "17GiB", "much"] {
        assert_eq!(run(&["bench", "transfer", "--size", size], "").status.code(), Some(2), "{size}");
    }
    for arguments in [
        &["bench", "hash"][..],
        &["bench", "swarm", "--up-limit", "0"],
        &["bench", "swarm", "--leechers", "0"],
        &["bench", "start", "--runs", "0"],
        &["bench", "tracker", "--sessions", "0"],
        &["bench", "catalog", "--shares", "10"],
    ] {
        assert_eq!(run(arguments, "").status.code(), Some(2), "{arguments:?}");
    }
    let missing = run(&["bench", "hash", "/no/such/file"], "");
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/file"), "{missing:?}");
}
