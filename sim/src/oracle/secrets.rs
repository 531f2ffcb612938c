//! Invariant 10: no password is ever seen where it does not belong.

use super::{Verdict, Watch, broken};

/// Every password of a simulation has this in it, so that one is known wherever it turns up.
pub(crate) const MARK: &str = "secret-";

/// A command line as it may be traced: without its passwords.
pub(crate) fn hidden(line: &str) -> String {
    let word = |word: &str| if word.contains(MARK) { "***".to_owned() } else { word.to_owned() };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// "Passwords never appear in a log, a snapshot, a trace or an answer": not in the trace, which shows every answer.
pub(crate) fn not_in_trace(trace: &str) -> Verdict {
    match trace.lines().find(|line| line.contains(MARK)) {
        Some(line) => Err(broken(10, &format!("the trace shows a password: {line}"))),
        None => Ok(()),
    }
}

/// "Passwords never appear in a log, a snapshot, a trace or an answer": not in any file of any host.
pub(crate) fn not_on_disk(watch: &Watch) -> Verdict {
    let mark = MARK.as_bytes();
    for (host, path, bytes) in watch.files() {
        let begins = |at: usize| bytes[at] == mark[0] && bytes[at..].starts_with(mark);
        if (0..bytes.len()).any(begins) {
            return Err(broken(10, &format!("{host}: a password rests in {}", path.display())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_found() {
        let shown = hidden("change_password 'secret-1' secret-2");
        assert_eq!(shown, "change_password *** ***");
        assert_eq!(not_in_trace(&shown), Ok(()));
        assert!(not_in_trace("a\nlogin ann secret-1\n").unwrap_err().contains("invariant 10"));
    }
}
