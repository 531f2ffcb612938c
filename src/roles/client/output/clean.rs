//! What others named, made fit for a terminal: no control characters, nothing that changes the direction of text.

use std::borrow::Cow;

/// `text` without control and bidirectional characters, and without line and paragraph separators.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.contains(is_unsafe) { text.replace(is_unsafe, "").into() } else { text.into() }
}

/// Whether a character could move the cursor, end a line, or reorder what is beside it.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_deceive_is_gone_and_the_rest_stays() {
        for (text, shown) in [
            ("größe 文件.bin", "größe 文件.bin"),
            ("a\u{1b}[2Jb\r\nc", "a[2Jbc"),
            ("txt.\u{202e}exe\u{2066}\u{9b}", "txt.exe"),
            ("zero\u{200d}width", "zero\u{200d}width"),
        ] {
            assert_eq!(clean(text), shown);
        }
    }
}
