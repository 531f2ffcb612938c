//! Words of a command line: shell quoting, the same at the prompt, in a pipe, in `-c` and for completion.
//!
//! As in a shell, but without `#` comments, variables and other expansion: single quotes keep all, double quotes all but
//! `\`, a backslash keeps the next character.

use std::{iter::Peekable, str::CharIndices};

/// A quote was opened and never closed, or the line ends in a backslash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclosed;

/// A word that the cursor stands at the end of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Byte where it begins, its quote included.
    pub start: usize,
    /// What it says so far.
    pub text: String,
}

/// The words of a line.
pub fn split(line: &str) -> Result<Vec<String>, Unclosed> {
    let mut scanner = Scanner::new(line);
    let mut words = Words::default();
    scanner.by_ref().for_each(|(at, step)| words.take(at, step));
    if scanner.is_open() {
        return Err(Unclosed);
    }
    Ok(words.finished())
}

/// The words before the one that the line ends in, and that one (empty when the line ends in a blank).
pub fn split_unfinished(line: &str) -> (Vec<String>, Unfinished) {
    let mut words = Words::default();
    Scanner::new(line).for_each(|(at, step)| words.take(at, step));
    let last = words.last.take().unwrap_or(Unfinished { start: line.len(), text: String::new() });
    (words.done, last)
}

/// Splits at the characters of `separators` (of `;` and the line feed) that stand outside quotes.
pub fn split_commands<'a>(text: &'a str, separators: &[char]) -> Vec<&'a str> {
    let mut commands = Vec::new();
    let mut start = 0;
    for (at, step) in Scanner::new(text) {
        if let Step::Separator(c) = step
            && separators.contains(&c)
        {
            commands.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    commands.push(&text[start..]);
    commands
}

/// `text` as a word that reads back as itself.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./~:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Blanks that part words, among them three that lists of commands copied from documents carry.
fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || matches!(c, '\u{a0}' | '\u{200b}' | '\u{feff}')
}

/// Words so far, and the one being read.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    last: Option<Unfinished>,
}

impl Words {
    fn take(&mut self, at: usize, step: Step) {
        if matches!(step, Step::Blank | Step::Separator('\n')) {
            self.done.extend(self.last.take().map(|word| word.text));
            return;
        }
        let last = self.last.get_or_insert_with(|| Unfinished { start: at, text: String::new() });
        if let Step::Char(c) | Step::Separator(c) = step {
            last.text.push(c);
        }
    }

    fn finished(mut self) -> Vec<String> {
        self.done.extend(self.last.take().map(|word| word.text));
        self.done
    }
}

/// What a character is, once quoting is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Part of a word.
    Char(char),
    /// A quote or a backslash: belongs to a word, and is no character of it.
    Mark,
    /// Between words.
    Blank,
    /// `;` or a line feed outside quotes.
    Separator(char),
}

/// Reads characters and keeps track of the quoting.
struct Scanner<'a> {
    chars: Peekable<CharIndices<'a>>,
    quote: Option<char>,
    escaped: bool,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { chars: text.char_indices().peekable(), quote: None, escaped: false }
    }

    fn is_open(&self) -> bool {
        self.quote.is_some() || self.escaped
    }

    fn step(&mut self, c: char) -> Step {
        if std::mem::take(&mut self.escaped) {
            return if c == '\n' { Step::Mark } else { Step::Char(c) };
        }
        match (self.quote, c) {
            (None, '\\') => self.escape(),
            (Some('"'), '\\') if self.chars.peek().is_none_or(|&(_, next)| "$`\"\\\n".contains(next)) => self.escape(),
            (None, '\'' | '"') => {
                self.quote = Some(c);
                Step::Mark
            }
            (Some(quote), c) if quote == c => {
                self.quote = None;
                Step::Mark
            }
            (None, ';' | '\n') => Step::Separator(c),
            (None, c) if is_blank(c) => Step::Blank,
            (_, c) => Step::Char(c),
        }
    }

    fn escape(&mut self) -> Step {
        self.escaped = true;
        Step::Mark
    }
}

impl Iterator for Scanner<'_> {
    type Item = (usize, Step);

    fn next(&mut self) -> Option<Self::Item> {
        let (at, c) = self.chars.next()?;
        Some((at, self.step(c)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, words: &[&str]) {
        assert_eq!(split(line).unwrap(), words, "{line:?}");
    }

    #[test]
    fn words_and_quotes() {
        check("", &[]);
        check("  login ann  secret ", &["login", "ann", "secret"]);
        check(r#"a 'b c' "d e" f\ g ''"#, &["a", "b c", "d e", "f g", ""]);
        check(r#"'a'"b"c\d"#, &["abcd"]);
        check(r#""a\"b\n\\" 'c\d'"#, &[r#"a"b\n\"#, r"c\d"]);
        check("#1 a#b ; c;d", &["#1", "a#b", ";", "c;d"]);
        for open in ["'a", "\"a", "a\\", "'a\\'b'"] {
            assert_eq!(split(open), Err(Unclosed), "{open:?}");
        }
    }

    #[test]
    fn blanks_of_copied_lists_count_outside_quotes() {
        check("\u{feff}login\u{a0}ann\u{200b} \u{200b}x\r\n", &["login", "ann", "x"]);
        check("'a\u{a0}b'", &["a\u{a0}b"]);
    }

    #[test]
    fn commands_part_at_separators_outside_quotes() {
        assert_eq!(split_commands("a; b 'c;d'\ne\\;f;", &[';', '\n']), ["a", " b 'c;d'", "e\\;f", ""]);
        assert_eq!(split_commands("a;b\nc", &['\n']), ["a;b", "c"]);
    }

    #[test]
    fn the_word_at_the_cursor() {
        let at = |line| {
            let (words, last) = split_unfinished(line);
            (words.len(), last.start, last.text)
        };
        assert_eq!(at(""), (0, 0, String::new()));
        assert_eq!(at("up"), (0, 0, "up".into()));
        assert_eq!(at("upload_file "), (1, 12, String::new()));
        assert_eq!(at("upload_file 'my fi"), (1, 12, "my fi".into()));
    }

    proptest! {
        #[test]
        fn a_quoted_word_reads_back(text in "\\PC{0,20}") {
            prop_assert_eq!(split(&quote(&text)), Ok(vec![text]));
        }

        #[test]
        fn words_read_back_whatever_blanks_part_them(
            words in prop::collection::vec("\\PC{0,9}", 1..6),
            blanks in prop::collection::vec("[ \t\r\n\u{a0}\u{200b}\u{feff}]{1,3}", 7),
        ) {
            let mut line = blanks[6].clone();
            for (word, blank) in words.iter().zip(&blanks) {
                line.extend([quote(word).as_str(), blank]);
            }
            prop_assert_eq!(split(&line), Ok(words.clone()));
            let (before, last) = split_unfinished(line.trim_end_matches(is_blank));
            prop_assert_eq!([before, vec![last.text]].concat(), words);
        }

        #[test]
        fn agrees_with_shlex(line in r#"[a-c ;'"\\$\t]{0,24}"#) {
            prop_assert_eq!(split(&line).ok(), shlex::split(&line));
        }

        #[test]
        fn splitting_keeps_every_character(text in r#"[a-c ;'"\\\n]{0,24}"#) {
            let parts = split_commands(&text, &[';', '\n']);
            prop_assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>() + parts.len() - 1, text.len());
        }
    }
}
