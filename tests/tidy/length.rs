//! A long file asks a question; here are the answers.

use crate::repository::{Source, expect_none, sources};

/// A file of more lines than this needs an answer.
const LINES_MAX: usize = 800;

/// Files that may be longer, each with the reason why splitting it would make it worse.
const EXCEPTIONS: &[(&str, &str)] = &[];

fn violations(sources: &[Source], exceptions: &[(&str, &str)]) -> Vec<String> {
    let mut violations = Vec::new();
    let long: Vec<(&str, usize)> = sources
        .iter()
        .filter(|source| source.path.ends_with(".rs"))
        .map(|source| (source.path.as_str(), source.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    for (path, lines) in &long {
        if !exceptions.iter().any(|(exception, _)| exception == path) {
            violations.push(format!(
                "{path}: {lines} lines; split it by concept, or give the reason in tests/tidy/length.rs"
            ));
        }
    }
    for (exception, reason) in exceptions {
        if !long.iter().any(|(path, _)| path == exception) {
            violations.push(format!("{exception}: no longer over {LINES_MAX} lines; remove its exception"));
        }
        if reason.is_empty() {
            violations.push(format!("{exception}: an exception needs its reason"));
        }
    }
    violations
}

#[test]
fn long_files_have_a_reason() {
    expect_none("long files have a reason", &violations(&sources(), EXCEPTIONS));
}

#[test]
fn a_long_file_and_a_stale_exception_are_found() {
    let long = Source::made_up("components/a/src/long.rs", &"\n".repeat(LINES_MAX + 1));
    let short = Source::made_up("components/a/src/short.rs", &"\n".repeat(LINES_MAX));
    let sources = [long, short];
    assert_eq!(violations(&sources, &[]).len(), 1);
    assert_eq!(violations(&sources, &[("components/a/src/long.rs", "one table")]), Vec::<String>::new());
    assert_eq!(violations(&sources, &[("components/a/src/long.rs", "")]).len(), 1);
    let stale = [("components/a/src/long.rs", "one table"), ("components/a/src/short.rs", "was long once")];
    assert_eq!(violations(&sources, &stale).len(), 1);
}
