//! Which seeds to try, as written on the command line.

use std::{error::Error, ops::Range, str::FromStr};

/// Seeds one after the other: `50` are the first fifty, `100..200` those from 100 to 199.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seeds(pub(crate) Range<u64>);

impl FromStr for Seeds {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seeds = match text.split_once("..") {
            Some((first, end)) => first.parse()?..end.parse()?,
            None => 1..text.parse::<u64>()?.checked_add(1).ok_or("too many")?,
        };
        if seeds.is_empty() { Err("no seed at all".into()) } else { Ok(Self(seeds)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_or_a_range() {
        assert_eq!("3".parse::<Seeds>().unwrap(), Seeds(1..4));
        assert_eq!("100..102".parse::<Seeds>().unwrap(), Seeds(100..102));
        for wrong in ["", "0", "x", "..", "3..", "..3", "3..3", "4..3", "-1", "18446744073709551615"] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
    }
}
