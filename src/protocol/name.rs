//! Names of users, groups and files: parsed once, valid ever after.

use std::{borrow::Borrow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    error::{ErrorCode, Failure},
    text::Text,
};

/// Most characters in the name of a user or a group.
pub const MAX_NAME_CHARS: usize = 64;
/// Most bytes in the name of a file.
pub const MAX_FILE_NAME_BYTES: usize = 255;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text);

        impl $name {
            /// Parses a name; `invalid_name` says which rule it breaks.
            pub fn parse(text: &str) -> Result<Self, Failure> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(rule) => Err(Failure::new(
                        ErrorCode::InvalidName,
                        format!("{:?} cannot name a {}: {rule}.", shortened(text), $kind),
                    )),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl TryFrom<String> for $name {
            type Error = Failure;

            fn try_from(text: String) -> Result<Self, Failure> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().into()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("the name of a ", $kind))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Visitor)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

name! {
    /// Name of an account: 1 to 64 characters, letters, digits, `.`, `_`, `-`, first a letter or digit, case-sensitive;
    /// then perhaps the mark of a lost claim (`~2`, `~2.1`).
    UserName, "user", check_account_name
}
name! {
    /// Name of a group; same rules as for a user.
    GroupName, "group", check_account_name
}
name! {
    /// Name of a file: 1 to 255 bytes of text, no separator, no control character, not `.` or `..`.
    FileName, "file", check_file_name
}

impl UserName {
    /// Parses a name somebody wants to register: the `~` of a lost claim is not theirs to choose.
    pub fn parse_new(text: &str) -> Result<Self, Failure> {
        refuse_tilde(text, "user").and_then(|()| Self::parse(text))
    }
}

impl GroupName {
    /// Parses a name somebody wants to create a group by: the `~` of a lost claim is not theirs to choose.
    pub fn parse_new(text: &str) -> Result<Self, Failure> {
        refuse_tilde(text, "group").and_then(|()| Self::parse(text))
    }
}

fn refuse_tilde(text: &str, kind: &str) -> Result<(), Failure> {
    if text.contains('~') {
        let message = format!("{:?} cannot name a {kind}: use letters, digits, '.', '_' and '-'.", shortened(text));
        return Err(Failure::new(ErrorCode::InvalidName, message));
    }
    Ok(())
}

fn check_account_name(text: &str) -> Result<(), &'static str> {
    let (base, mark) = text.split_once('~').map_or((text, None), |(base, mark)| (base, Some(mark)));
    if base.is_empty() {
        return Err("it must not be empty");
    }
    if base.chars().count() > MAX_NAME_CHARS {
        return Err("at most 64 characters");
    }
    if !base.starts_with(|c: char| c.is_alphanumeric()) {
        return Err("it must begin with a letter or a digit");
    }
    if !base.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return Err("use letters, digits, '.', '_' and '-'");
    }
    let mark_ok = |mark: &str| {
        mark.len() <= 12 && mark.split('.').count() <= 2 && mark.split('.').all(|part| part.parse::<u32>().is_ok())
    };
    if !mark.is_none_or(mark_ok) {
        return Err("use letters, digits, '.', '_' and '-'");
    }
    Ok(())
}

fn check_file_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it must not be empty");
    }
    if text.len() > MAX_FILE_NAME_BYTES {
        return Err("at most 255 bytes");
    }
    if text == "." || text == ".." {
        return Err("it is a folder's own name");
    }
    if text.contains(['/', '\\']) {
        return Err("it must not hold a separator");
    }
    if text.chars().any(char::is_control) {
        return Err("it must not hold a control character");
    }
    Ok(())
}

/// The beginning of a text that may be long, for an error message.
fn shortened(text: &str) -> String {
    text.chars().take(MAX_NAME_CHARS + 8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_names() {
        for good in ["a", "Ann", "9lives", "a.b_c-d", "größe", &"x".repeat(64), "ann~2", "ann~2.1"] {
            assert!(UserName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a b", "a/b", "a\u{202e}b", &"x".repeat(65), "ann~", "ann~x", "ann~1.2.3", "~1"] {
            assert!(GroupName::parse(bad).is_err(), "{bad}");
        }
        assert!(UserName::parse_new("ann~2").is_err());
        assert!(UserName::parse_new("ann").is_ok());
    }

    #[test]
    fn file_names() {
        for good in ["a", "two words.txt", "größe.bin", "-x", "a~1", &"x".repeat(255)] {
            assert!(FileName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a\\b", "a\nb", "a\u{1b}[2Jb", &"x".repeat(256)] {
            assert!(FileName::parse(bad).is_err(), "{bad}");
        }
    }
}
