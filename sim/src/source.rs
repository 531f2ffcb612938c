//! What no lint sees in the source: a `select!` that is not `biased` chooses by tokio's own chance, and a test that SECURITY.md names may
//! be gone.

use std::{fs, path::Path};

/// In two, or this file would not pass.
const OPENS: &str = concat!("select", "! {");

/// Where a `select!` begins in `source` without saying `biased` first.
fn unbiased(source: &str) -> Vec<usize> {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let open = |line: &str| line.contains(OPENS) && !line.starts_with("//");
    let begins = lines.iter().enumerate().filter(|(_, line)| open(line));
    begins.filter(|(at, _)| lines.get(at + 1) != Some(&"biased;")).map(|(at, _)| at + 1).collect()
}

/// Every file below `folder` that is no test.
fn look(folder: &Path, found: &mut Vec<String>) -> usize {
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && name != "tests" {
            seen += look(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let lines = unbiased(&fs::read_to_string(&path).unwrap());
            found.extend(lines.iter().map(|line| format!("{}:{line}", path.display())));
            seen += 1;
        }
    }
    seen
}

#[test]
fn every_select_is_biased() {
    assert_eq!(unbiased(&format!("a\n  tokio::{OPENS}\n  biased;\n")), [0; 0]);
    assert_eq!(unbiased(&format!("let x = {OPENS}\n  x = y => {{}}\n}}\n")), [1]);
    let (root, mut found) = (Path::new(env!("CARGO_MANIFEST_DIR")), Vec::new());
    let seen = look(&root.join("../src"), &mut found) + look(&root.join("src"), &mut found);
    assert!(seen > 100, "only {seen} files");
    assert_eq!(found, [""; 0], "not biased");
}

/// The tests that the table of attacks names, in its last column.
fn named(security: &str) -> Vec<&str> {
    let rows = security.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let last = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// All source below `folder`, in one text.
fn text(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_attack_names_tests_that_exist() {
    assert_eq!(named("| a `x` | b | `one`, `two` |\n|---|\nno `three`"), ["one", "two"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let security = fs::read_to_string(root.join("../SECURITY.md")).unwrap();
    let mut all = String::new();
    for folder in ["../src", "../tests", "src"] {
        text(&root.join(folder), &mut all);
    }
    let is_there =
        |name: &&str| root.join(format!("src/scenario/{name}.rs")).exists() || all.contains(&format!("fn {name}("));
    let (there, gone): (Vec<_>, Vec<_>) = named(&security).into_iter().partition(is_there);
    assert_eq!(gone, [""; 0], "named in SECURITY.md, and no test");
    assert!(there.len() > 40, "only {} tests are named", there.len());
}
