//! How often a property is tried.

use proptest::test_runner::Config;

/// Tries a property `usually` times. `PROPTEST_CASES`, 256 unless set, counts for it as for every other: ten times as many there
/// are ten times as many here.
pub(crate) fn trials(usually: u32) -> Config {
    let asked = Config::default();
    let cases = u64::from(usually) * u64::from(asked.cases) / 256;
    Config { cases: u32::try_from(cases).unwrap_or(u32::MAX).max(1), failure_persistence: None, ..asked }
}
