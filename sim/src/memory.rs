//! The most memory that this process has had, as Linux counts it.

use std::fs;

/// Begins to count anew.
pub(crate) fn forget_peak() {
    // Elsewhere there is no such file, and no peak to be had.
    #[expect(clippy::disallowed_methods, reason = "the counter is a file of the real system")]
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The most since then.
pub(crate) fn peak_mib() -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "the counter is a file of the real system")]
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.div_ceil(1024))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_and_forgotten() {
        let _alone = crate::scenario::alone();
        let large = std::hint::black_box(vec![1_u8; 200 << 20]);
        let with = peak_mib().unwrap();
        drop(large);
        assert!(peak_mib().unwrap() >= with);
        forget_peak();
        assert!(peak_mib().unwrap() + 150 < with);
    }
}
