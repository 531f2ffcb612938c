//! The tracker file (`tracker_info.txt`): one tracker a line, in the order of their numbers.
//!
//! `IP:PORT`, `IP PORT` or `IP,PORT`, a leading number allowed, or address and port on alternating lines; IPv6 in
//! brackets, host names allowed; then optionally the tracker's key. `#` starts a comment.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    error::{ErrorCode, Failure},
    ids::{DeviceKey, TrackerNo, parse_device_key},
};

/// Most bytes in a tracker file.
pub const MAX_TRACKER_FILE: usize = 64 * 1024;
/// Most trackers in one: every tracker keeps a link to every other.
pub const MAX_TRACKERS: usize = 64;
/// Most bytes in a host name (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// The trackers of a cluster. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerInfo {
    /// In the order of their numbers, from 1 without gaps.
    pub trackers: Vec<TrackerAddress>,
}

/// One listed tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerAddress {
    /// Its number.
    pub no: TrackerNo,
    /// `host:port` to dial, IPv6 in brackets.
    pub address: String,
    /// Its key, where the file pins it.
    pub key: Option<DeviceKey>,
}

/// What is wrong with a tracker file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackerInfoError {
    /// Too many bytes.
    #[error("the file is larger than 64 KiB; list one tracker a line")]
    TooLarge,
    /// The bytes are no UTF-8.
    #[error("line {0} is not UTF-8 text; save the file as UTF-8")]
    NotText(usize),
    /// No tracker at all.
    #[error("it lists no tracker; write at least one line such as 127.0.0.1:5000")]
    Empty,
    /// More than [`MAX_TRACKERS`].
    #[error("line {0}: more than 64 trackers; remove some")]
    TooMany(usize),
    /// A line that fits no form.
    #[error("line {line}: {text:?} is no tracker; write IP:PORT, such as 127.0.0.1:5000")]
    Form {
        /// The line, from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// No host.
    #[error("line {line}: {text:?} is neither an IP address nor a host name; write an IPv6 address in brackets")]
    Host {
        /// The line, from 1.
        line: usize,
        /// What stands for it.
        text: String,
    },
    /// An address that nobody can dial.
    #[error("line {line}: nobody can dial {text}; list the address others use and give --bind the one to listen at")]
    Unspecified {
        /// The line, from 1.
        line: usize,
        /// The address.
        text: String,
    },
    /// No port.
    #[error("line {line}: {text:?} is no port; write a number from 1 to 65535")]
    Port {
        /// The line, from 1.
        line: usize,
        /// What stands for it.
        text: String,
    },
    /// An address at the end of a line, and no port on the next.
    #[error("line {0}: the address has no port; write IP:PORT, or the port on the next line")]
    MissingPort(usize),
    /// A key that cannot be read.
    #[error("line {0}: the key cannot be read; copy `ed25519:` and the 52 characters after it from the tracker's log")]
    Key(usize),
    /// A leading number that is not the tracker's.
    #[error("line {line}: it is numbered {found}, but it is tracker {no} by its place; put the lines in order from 1")]
    Number {
        /// The line, from 1.
        line: usize,
        /// The number it bears.
        found: u64,
        /// The number its place gives it.
        no: u16,
    },
    /// Two trackers with one address or key.
    #[error("line {line}: {what} is that of tracker {no} already; give every tracker its own")]
    Repeated {
        /// The line, from 1.
        line: usize,
        /// `the address` or `the key`.
        what: &'static str,
        /// Who has it.
        no: TrackerNo,
    },
}

impl From<TrackerInfoError> for Failure {
    fn from(error: TrackerInfoError) -> Self {
        Self::new(ErrorCode::Usage, format!("The tracker file cannot be used: {error}."))
    }
}

impl TrackerInfo {
    /// Reads a tracker file.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrackerInfoError> {
        if bytes.len() > MAX_TRACKER_FILE {
            return Err(TrackerInfoError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|error| TrackerInfoError::NotText(line_of(bytes, error)))?;
        let mut reader = Reader::default();
        for (line, text) in (1..).zip(text.lines()) {
            reader.line(line, text)?;
        }
        reader.finish()
    }

    /// The tracker numbered `no`.
    pub fn tracker(&self, no: TrackerNo) -> Option<&TrackerAddress> {
        self.trackers.get(usize::from(no.0).checked_sub(1)?)
    }
}

fn line_of(bytes: &[u8], error: std::str::Utf8Error) -> usize {
    bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count()
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    trackers: Vec<TrackerAddress>,
    /// An address that waits for its port on the next line.
    waiting: Option<(usize, String, Option<DeviceKey>)>,
}

impl Reader {
    fn line(&mut self, line: usize, text: &str) -> Result<(), TrackerInfoError> {
        let content = text.split('#').next().unwrap_or_default();
        let mut words: Vec<&str> = content.split(is_blank).filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            return Ok(());
        }
        let key = take_key(line, &mut words)?;
        if let Some((at, host, first_key)) = self.waiting.take() {
            let [word] = words[..] else { return Err(TrackerInfoError::MissingPort(at)) };
            let port = parse_port(line, word).map_err(|_| TrackerInfoError::MissingPort(at))?;
            return self.add(line, format!("{host}:{port}"), key.or(first_key));
        }
        match words[..] {
            [number, address, port] => {
                self.check_number(line, number)?;
                self.add(line, join(line, address, port)?, key)
            }
            [number, address] if is_number(number) && split_port(address).is_some() => {
                self.check_number(line, number)?;
                self.add(line, one_word(line, address)?, key)
            }
            [address, port] => self.add(line, join(line, address, port)?, key),
            [address] if split_port(address).is_some() => self.add(line, one_word(line, address)?, key),
            [address] => {
                self.waiting = Some((line, parse_host(line, address)?, key));
                Ok(())
            }
            _ => Err(TrackerInfoError::Form { line, text: shortened(content.trim()) }),
        }
    }

    fn check_number(&self, line: usize, number: &str) -> Result<(), TrackerInfoError> {
        let found = number.parse().map_err(|_| TrackerInfoError::Form { line, text: shortened(number) })?;
        let no = self.next().0;
        if found == u64::from(no) { Ok(()) } else { Err(TrackerInfoError::Number { line, found, no }) }
    }

    fn add(&mut self, line: usize, address: String, key: Option<DeviceKey>) -> Result<(), TrackerInfoError> {
        if self.trackers.len() == MAX_TRACKERS {
            return Err(TrackerInfoError::TooMany(line));
        }
        for other in &self.trackers {
            if other.address == address {
                return Err(TrackerInfoError::Repeated { line, what: "the address", no: other.no });
            }
            if key.is_some() && other.key == key {
                return Err(TrackerInfoError::Repeated { line, what: "the key", no: other.no });
            }
        }
        self.trackers.push(TrackerAddress { no: self.next(), address, key });
        Ok(())
    }

    fn next(&self) -> TrackerNo {
        TrackerNo(u16::try_from(self.trackers.len() + 1).expect("there are at most MAX_TRACKERS"))
    }

    fn finish(self) -> Result<TrackerInfo, TrackerInfoError> {
        match self.waiting {
            Some((line, ..)) => Err(TrackerInfoError::MissingPort(line)),
            None if self.trackers.is_empty() => Err(TrackerInfoError::Empty),
            None => Ok(TrackerInfo { trackers: self.trackers }),
        }
    }
}

/// Blanks, commas, and the invisible characters that copied text carries.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, ',' | '\u{200b}' | '\u{feff}')
}

fn is_number(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
}

fn take_key(line: usize, words: &mut Vec<&str>) -> Result<Option<DeviceKey>, TrackerInfoError> {
    if !words.last().is_some_and(|word| word.starts_with("ed25519:")) {
        return Ok(None);
    }
    let key = words.pop().and_then(parse_device_key).ok_or(TrackerInfoError::Key(line))?;
    if words.is_empty() { Err(TrackerInfoError::Key(line)) } else { Ok(Some(key)) }
}

/// Splits `HOST:PORT`; `None` when the word has no port, an IPv6 address without brackets included.
fn split_port(word: &str) -> Option<(&str, &str)> {
    let (host, port) = word.rsplit_once(':')?;
    (host.starts_with('[') == host.ends_with(']') && (host.starts_with('[') || !host.contains(':')))
        .then_some((host, port))
}

fn one_word(line: usize, word: &str) -> Result<String, TrackerInfoError> {
    let (host, port) = split_port(word).ok_or(TrackerInfoError::MissingPort(line))?;
    join(line, host, port)
}

fn join(line: usize, host: &str, port: &str) -> Result<String, TrackerInfoError> {
    Ok(format!("{}:{}", parse_host(line, host)?, parse_port(line, port)?))
}

fn parse_port(line: usize, text: &str) -> Result<u16, TrackerInfoError> {
    let wrong = || TrackerInfoError::Port { line, text: shortened(text) };
    if !is_number(text) {
        return Err(wrong());
    }
    text.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)
}

/// A host in the form it is dialled by.
fn parse_host(line: usize, text: &str) -> Result<String, TrackerInfoError> {
    let wrong = || TrackerInfoError::Host { line, text: shortened(text) };
    let unspecified = || TrackerInfoError::Unspecified { line, text: shortened(text) };
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let ip: Ipv6Addr = inner.parse().map_err(|_| wrong())?;
        return if ip.is_unspecified() { Err(unspecified()) } else { Ok(format!("[{ip}]")) };
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return if ip.is_unspecified() { Err(unspecified()) } else { Ok(ip.to_string()) };
    }
    if is_host_name(text) { Ok(text.to_ascii_lowercase()) } else { Err(wrong()) }
}

/// Letters, digits, `-`, `_` in parts joined by dots; the last part is no number, or it would be a mistyped IP address.
fn is_host_name(text: &str) -> bool {
    let part_ok = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !part.starts_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= MAX_HOST_BYTES && name.split('.').all(part_ok) && !name.rsplit('.').next().is_none_or(is_number)
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::ids::device_key_text;

    fn addresses(text: &str) -> Vec<String> {
        let info = TrackerInfo::parse(text.as_bytes()).unwrap();
        info.trackers.into_iter().map(|tracker| tracker.address).collect()
    }

    fn error(text: &str) -> String {
        TrackerInfo::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn every_form_reads_alike() {
        for text in [
            "127.0.0.1:5000\n127.0.0.1:5001\n",
            "127.0.0.1 5000\r\n127.0.0.1 5001\r\n",
            "127.0.0.1,5000\n127.0.0.1, 5001",
            "1 127.0.0.1 5000\n2 127.0.0.1:5001",
            "1,127.0.0.1,5000\n2\t127.0.0.1\t5001",
            "127.0.0.1\n5000\n\n127.0.0.1\n5001\n",
            "\u{feff}# the trackers\n\n  127.0.0.1:5000 # first\n127.0.0.1\u{a0}5001",
            "127.0.0.1\n# its port\n5000\n127.0.0.1:5001",
        ] {
            assert_eq!(addresses(text), ["127.0.0.1:5000", "127.0.0.1:5001"], "{text:?}");
        }
    }

    #[test]
    fn hosts_of_every_kind() {
        let text = "[2001:db8::1]:5000\n[::1] 5001\n3 Tracker.example.org 5002\nlocalhost\n5003";
        assert_eq!(addresses(text), ["[2001:db8::1]:5000", "[::1]:5001", "tracker.example.org:5002", "localhost:5003"]);
    }

    #[test]
    fn a_key_follows_where_it_is_given() {
        let key = DeviceKey([7; 32]);
        let key_text = device_key_text(&key);
        for text in [
            format!("10.0.0.1:5000 {key_text}\n10.0.0.2:5000"),
            format!("10.0.0.1\n5000, {key_text}\n10.0.0.2:5000"),
            format!("1 10.0.0.1 5000 {key_text} # pinned\n10.0.0.2:5000"),
        ] {
            let info = TrackerInfo::parse(text.as_bytes()).unwrap();
            assert_eq!(info.tracker(TrackerNo(1)).unwrap().key, Some(key), "{text}");
            assert_eq!(info.tracker(TrackerNo(2)).unwrap().key, None);
            assert_eq!(info.tracker(TrackerNo(0)), None);
            assert_eq!(info.tracker(TrackerNo(3)), None);
        }
    }

    #[test]
    fn an_error_names_line_and_remedy() {
        for (text, expected) in [
            ("", "write at least one line"),
            ("# nothing\n", "write at least one line"),
            ("127.0.0.1:0", "line 1: \"0\" is no port"),
            ("127.0.0.1:65536", "no port; write a number from 1 to 65535"),
            ("\n127.0.0.1:+80", "line 2: \"+80\" is no port"),
            ("10.0.0.300:5000", "line 1: \"10.0.0.300\" is neither"),
            ("::1:5000", "in brackets"),
            ("0.0.0.0:5000", "--bind"),
            ("10.0.0.1", "line 1: the address has no port"),
            ("10.0.0.1\n10.0.0.2\n", "line 1: the address has no port"),
            ("1 10.0.0.1:5000\n3 10.0.0.2:5000", "line 2: it is numbered 3, but it is tracker 2"),
            ("0 10.0.0.1 5000", "it is numbered 0, but it is tracker 1"),
            ("10.0.0.1:5000 ed25519:abc", "line 1: the key cannot be read"),
            ("ed25519:abc", "the key cannot be read"),
            ("10.0.0.1:5000\n10.0.0.1 5000", "line 2: the address is that of tracker 1 already"),
            ("1 2 3 4", "line 1: \"1 2 3 4\" is no tracker"),
        ] {
            assert!(error(text).contains(expected), "{text:?}: {}", error(text));
        }
        assert!(matches!(TrackerInfo::parse(b"10.0.0.1:1\n\xff"), Err(TrackerInfoError::NotText(2))));
        assert_eq!(TrackerInfo::parse(&vec![b'\n'; MAX_TRACKER_FILE + 1]), Err(TrackerInfoError::TooLarge));
        let many: Vec<_> = (1..=65).map(|port| format!("10.0.0.1:{port}")).collect();
        assert_eq!(TrackerInfo::parse(many.join("\n").as_bytes()), Err(TrackerInfoError::TooMany(65)));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = TrackerInfo::parse(&bytes);
        }

        #[test]
        fn near_misses_never_panic_and_what_reads_is_numbered_in_order(
            text in r"([0-9]{1,3}[.:, ]|\[|\]|::|#|\n|\r\n|ed25519:|[a-z.]{1,5}|[0-9]{1,6}[ \n]){0,30}"
        ) {
            if let Ok(info) = TrackerInfo::parse(text.as_bytes()) {
                prop_assert!(!info.trackers.is_empty());
                for (no, tracker) in (1..).zip(&info.trackers) {
                    prop_assert_eq!(tracker.no, TrackerNo(no));
                    prop_assert!(split_port(&tracker.address).is_some());
                }
            }
        }

        #[test]
        fn what_is_written_is_read(hosts in prop::collection::btree_set((any::<[u8; 4]>(), 1u16..), 1..10), form in 0usize..4) {
            let hosts: Vec<_> =
                hosts.into_iter().map(|(ip, port)| (Ipv4Addr::from(ip), port)).filter(|(ip, _)| !ip.is_unspecified()).collect();
            prop_assume!(!hosts.is_empty());
            let text: String = (1..).zip(&hosts).map(|(no, (ip, port))| match form {
                0 => format!("{ip}:{port}\n"),
                1 => format!("{ip} {port}\r\n"),
                2 => format!("{no} {ip},{port}\n"),
                _ => format!("{ip}\n{port}\n"),
            }).collect();
            let expected: Vec<_> = hosts.iter().map(|(ip, port)| format!("{ip}:{port}")).collect();
            prop_assert_eq!(addresses(&text), expected);
        }
    }
}
