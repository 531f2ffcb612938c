//! What no lint sees in the source: a `select!` that is not `biased` chooses by tokio's own chance.

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
