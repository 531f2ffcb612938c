//! Text that mostly is short, and of which there are millions: names.

use std::{fmt, hash, sync::Arc};

/// Bytes that stand where the text itself does.
const SHORT: usize = 22;

/// A text that never changes: a short one needs no memory of its own and is compared without a look elsewhere, a longer one is
/// shared by its clones.
#[derive(Clone)]
pub(super) enum Text {
    /// A length, and so many bytes of whole characters, then zeros.
    Short(u8, [u8; SHORT]),
    Long(Arc<str>),
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Short(..) => str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(start), Ok(length)) => {
                start.copy_from_slice(text.as_bytes());
                Self::Short(length, bytes)
            }
            _ => Self::Long(text.into()),
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// As of `str`: by bytes. Those of short texts are compared at once, as numbers: of two that only differ by zeros at the end the
/// shorter comes first.
impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Short(length, bytes), Self::Short(other_length, other)) => {
                (numbers(bytes), length).cmp(&(numbers(other), other_length))
            }
            _ => self.as_bytes().cmp(other.as_bytes()),
        }
    }
}

/// Two numbers in the order of the bytes.
fn numbers(bytes: &[u8; SHORT]) -> (u128, u128) {
    let number = |from: usize| std::array::from_fn(|at| bytes[from + at]);
    (u128::from_be_bytes(number(0)), u128::from_be_bytes(number(SHORT - 16)))
}

/// As of `str`, so that it is found by one.
impl hash::Hash for Text {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_a_str_is(one in "(\\PC|\0){0,30}", other in "[ab]{0,2}(\\PC|\0){0,24}") {
            let (text, next) = (Text::from(one.as_str()), Text::from(other.as_str()));
            prop_assert_eq!(text.as_str(), one.as_str());
            prop_assert_eq!(text.cmp(&next), one.cmp(&other));
            prop_assert_eq!(text == next, one == other);
            prop_assert_eq!(text.clone(), text.clone());
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            prop_assert_eq!(hasher.hash_one(&text), hasher.hash_one(one.as_str()));
            prop_assert_eq!(format!("{text:?}"), format!("{one:?}"));
        }
    }

    #[test]
    fn it_takes_no_more_than_a_pointer_longer() {
        assert_eq!(size_of::<Text>(), 24);
    }
}
