//! What the prompt offers for the word being typed: commands, groups, users, files, paths.

use std::path::Path;

use super::{
    Completions,
    command::{
        table::{self, COMMANDS, Kind},
        words::{quote, split_unfinished},
    },
};

/// Candidates for the word that `line` ends in, and the byte where that word begins. `entries` names what is in a folder,
/// with a `/` behind folders.
pub(super) fn complete(
    line: &str,
    known: &Completions,
    entries: impl Fn(&Path) -> Vec<String>,
) -> (usize, Vec<String>) {
    let (before, word) = split_unfinished(line);
    let candidates = match before.split_first() {
        None => COMMANDS.iter().map(|spec| spec.name.to_owned()).collect(),
        Some((name, arguments)) => {
            let kind = table::find(name).and_then(|spec| spec.kinds.get(arguments.len()));
            kind.map_or_else(Vec::new, |&kind| candidates(kind, arguments, &word.text, known, entries))
        }
    };
    let fitting = candidates.into_iter().filter(|candidate| candidate.starts_with(&word.text));
    (word.start, fitting.map(|candidate| quote(&candidate)).collect())
}

fn candidates(
    kind: Kind,
    arguments: &[String],
    word: &str,
    known: &Completions,
    entries: impl Fn(&Path) -> Vec<String>,
) -> Vec<String> {
    match kind {
        Kind::User => known.users.iter().map(ToString::to_string).collect(),
        Kind::Group => known.groups.iter().map(ToString::to_string).collect(),
        Kind::File => {
            let group = arguments.last().map_or("", String::as_str);
            known.files.get(group).into_iter().flatten().map(ToString::to_string).collect()
        }
        Kind::Session => known.sessions.iter().map(|session| session.0.clone()).collect(),
        Kind::Path => paths(word, entries),
        Kind::OneOf(words) => words.iter().map(|&word| word.to_owned()).collect(),
        Kind::Command => COMMANDS.iter().map(|spec| spec.name.to_owned()).collect(),
        Kind::Password | Kind::Rate => Vec::new(),
    }
}

fn paths(word: &str, entries: impl Fn(&Path) -> Vec<String>) -> Vec<String> {
    let (folder, begun) = word.split_at(word.rfind('/').map_or(0, |at| at + 1));
    let shown = |name: &String| !name.starts_with('.') || begun.starts_with('.');
    let names = entries(Path::new(if folder.is_empty() { "." } else { folder }));
    names.into_iter().filter(shown).map(|name| format!("{folder}{name}")).collect()
}

/// What of a line may rest in the history: nothing that holds a password, or might by mistake.
pub(super) fn history_line(line: &str) -> Option<String> {
    let (before, last) = split_unfinished(line.trim());
    let words: Vec<&str> = before.iter().map(String::as_str).chain([last.text.as_str()]).collect();
    let spec = table::find(words[0])?;
    if !spec.takes_password() {
        return Some(line.trim().to_owned());
    }
    let open = spec.kinds.iter().position(|&kind| kind == Kind::Password).map_or(0, |at| at + 1);
    let kept: Vec<_> = words.iter().take(open).map(|word| quote(word)).collect();
    Some(kept.join(" "))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::protocol::name::{FileName, GroupName, UserName};
    use crate::roles::client::command::SessionName;

    fn check(line: &str, start: usize, expected: &[&str]) {
        let group = GroupName::parse("music").unwrap();
        let files = BTreeSet::from([FileName::parse("a song.mp3").unwrap(), FileName::parse("b.mp3").unwrap()]);
        let known = Completions {
            groups: BTreeSet::from([group.clone()]),
            users: BTreeSet::from([UserName::parse("ann").unwrap(), UserName::parse("bob").unwrap()]),
            files: BTreeMap::from([(group, files)]),
            sessions: BTreeSet::from([SessionName("0a1b2c3d4e5f".to_owned())]),
        };
        let entries = |folder: &Path| match folder.to_str() {
            Some(".") => vec!["dir/".to_owned(), "file one".to_owned(), ".hidden".to_owned()],
            Some("dir/") => vec!["inner.bin".to_owned()],
            _ => Vec::new(),
        };
        assert_eq!(
            complete(line, &known, entries),
            (start, expected.iter().map(|&text| text.to_owned()).collect()),
            "{line:?}"
        );
    }

    #[test]
    fn each_place_has_its_candidates() {
        check("list_r", 0, &["list_requests"]);
        check("join_group m", 11, &["music"]);
        check("accept_request music ", 21, &["ann", "bob"]);
        check("file_info music ", 16, &["'a song.mp3'", "b.mp3"]);
        check("file_info music 'a s", 16, &["'a song.mp3'"]);
        check("end_session 0a", 12, &["0a1b2c3d4e5f"]);
        check("upload_file ", 12, &["dir/", "'file one'"]);
        check("upload_file .h", 12, &[".hidden"]);
        check("upload_file dir/i", 12, &["dir/inner.bin"]);
        check("set_limit u", 10, &["up"]);
        check("help qu", 5, &["quit"]);
        check("login ann ", 10, &[]);
        check("nonsense ", 9, &[]);
    }

    #[test]
    fn no_password_reaches_the_history() {
        for (line, kept) in [
            ("login ann secret", Some("login ann")),
            ("create_user 'ann' \"sec ret", Some("create_user ann")),
            ("login ann secret secret", Some("login ann")),
            ("change_password old new", Some("change_password")),
            ("lgoin ann secret", None),
            (" upload_file 'my file' g ", Some("upload_file 'my file' g")),
            ("", None),
        ] {
            assert_eq!(history_line(line).as_deref(), kept, "{line:?}");
        }
    }
}
