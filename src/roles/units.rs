//! Sizes, rates and durations as people write and read them.

use std::{fmt, str::FromStr};

use super::client::command::Rate;

/// Units by their letter: the power of 1024 (`MiB`, `M`) or of 1000 (`MB`).
const LETTERS: [char; 4] = ['k', 'm', 'g', 't'];

/// Reads a size in bytes: `1048576`, `500KB`, `10MiB`, `1.5G`. A letter alone, or with `iB`, counts in 1024s, with `B` in 1000s.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: write a number of bytes, or 500KB, 10MiB, 2GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = unit_factor(unit.trim()).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let fraction = fraction_of(fraction, factor).ok_or_else(wrong)?;
    whole.checked_mul(factor).and_then(|bytes| bytes.checked_add(fraction)).ok_or_else(wrong)
}

fn unit_factor(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let Some(letter) = unit.chars().next().filter(|&letter| letter != 'b') else {
        return matches!(unit.as_str(), "" | "b").then_some(1);
    };
    let power = u32::try_from(LETTERS.iter().position(|&known| known == letter)?).ok()? + 1;
    match &unit[1..] {
        "" | "ib" => Some(1024_u64.pow(power)),
        "b" => Some(1000_u64.pow(power)),
        _ => None,
    }
}

/// The digits behind the point as bytes; at most six of them.
fn fraction_of(digits: &str, factor: u64) -> Option<u64> {
    if digits.is_empty() {
        return Some(0);
    }
    let count = u32::try_from(digits.len()).ok().filter(|&count| count <= 6)?;
    Some(digits.parse::<u64>().ok()? * factor / 10_u64.pow(count))
}

/// A size for reading: `512 B`, `1.5 MiB`. Exact bytes belong in JSON.
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = ((bytes.ilog2() / 10) as usize).min(UNITS.len());
    let unit = 1_u64 << (10 * power);
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power - 1])
}

/// A time span for reading: `0:07`, `12:34`, `3:25:45`.
pub fn format_seconds(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Whole percent, rounded down: 100 only when all is there.
pub fn percent(part: u64, whole: u64) -> u64 {
    if part >= whole { 100 } else { u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(100) }
}

impl FromStr for Rate {
    type Err = String;

    /// Bytes per second as a size, `/s` allowed behind it; `0` is no limit.
    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.strip_suffix("/s").unwrap_or(text);
        parse_size(size)
            .map(Self)
            .map_err(|_| format!("{text:?} is no rate: write 10MiB or 500KB a second, or 0 for no limit"))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", format_size(self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512B", 512),
            ("500KB", 500_000),
            ("10MiB", 10 << 20),
            ("10 mib", 10 << 20),
            ("10M", 10 << 20),
            ("1.5GiB", 3 << 29),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.2.3", "1x", "1KiBB", "1bb", "99999999999T", "1.1234567K", ".", "1e3"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!("3MiB/s".parse(), Ok(Rate(3 << 20)));
    }

    #[test]
    fn sizes_and_spans_are_written() {
        let sizes = [0, 1023, 1024, 1536, (1 << 20) - 1, 10 << 20, 5 << 30, u64::MAX].map(format_size);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "10.0 MiB", "5.0 GiB", "16777215.9 TiB"]
        );
        assert_eq!([7, 754, 12345].map(format_seconds), ["0:07", "12:34", "3:25:45"]);
    }

    #[test]
    fn a_hundred_percent_means_all() {
        assert_eq!([percent(0, 10), percent(999, 1000), percent(10, 10), percent(0, 0)], [0, 99, 100, 100]);
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,12}", number in "[0-9.]{0,24}[kKmMtTiIbB]{0,3}") {
            let _ = parse_size(&text);
            let _ = parse_size(&number);
        }
    }
}
