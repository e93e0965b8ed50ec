//! What documents point at exists, and what code cites is written down.

use crate::repository::{Source, expect_none, root, sources};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

const INVARIANTS: &str = "docs/INVARIANTS.md";

/// Targets of markdown links in one line: what stands between `](` and `)`.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Relative links that `exists` does not know. Fenced blocks are pictures and examples, not links.
fn link_violations(sources: &[Source], exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        let mut is_fenced = false;
        for (number, line) in source.lines() {
            is_fenced ^= line.trim_start().starts_with("```");
            if is_fenced {
                continue;
            }
            for target in link_targets(line) {
                let path = target.split(['#', ' ']).next().unwrap_or_default();
                if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                    continue;
                }
                let directory = Path::new(&source.path).parent().expect("a file has a directory");
                if !resolve(&directory.join(path)).is_some_and(|path| exists(&path)) {
                    violations
                        .push(format!("{}:{number}: `{target}` does not exist; mend the link", source.path));
                }
            }
        }
    }
    violations
}

/// The path without `.` and `..`; `None` if it leaves the repository.
fn resolve(path: &Path) -> Option<PathBuf> {
    let mut resolved = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => resolved.push(name),
            Component::CurDir => {}
            Component::ParentDir => resolved.pop().then_some(())?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(resolved)
}

/// Names of the form `INV-AREA-7` or `INV-AREA-WORD` in `text`.
fn invariant_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for rest in text.split("INV-").skip(1) {
        let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
        let name = rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())].trim_end_matches('-');
        if name.contains('-') {
            names.insert(format!("INV-{name}"));
        }
    }
    names
}

/// Invariants that code or documents cite and the table does not have, and names that the table has twice.
fn invariant_violations(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    let mut known = BTreeSet::new();
    for source in sources.iter().filter(|source| source.path == INVARIANTS) {
        for (number, line) in source.lines().filter(|(_, line)| line.starts_with("| INV-")) {
            let name = line.split('|').nth(1).unwrap_or_default().trim().to_owned();
            if !known.insert(name.clone()) {
                violations.push(format!(
                    "{INVARIANTS}:{number}: {name} stands there twice; names are never used again"
                ));
            }
        }
    }
    // This file and its like speak about names of invariants as such.
    for source in sources.iter().filter(|source| !source.path.starts_with("tests/tidy/")) {
        for (number, line) in source.lines() {
            for name in invariant_names(line).difference(&known) {
                violations
                    .push(format!("{}:{number}: {name} is not in {INVARIANTS}; add its row", source.path));
            }
        }
    }
    violations
}

/// Where the simulator's checkers are, one a file.
const CHECKERS: &str = "components/sim/src/check/";

/// Files there that are no checkers: what these have in common, or look at.
const NO_CHECKERS: [&str; 7] = [
    "broken.rs",
    "durable_logs.rs",
    "history.rs",
    "linearizable_tests.rs",
    "lines.rs",
    "mod.rs",
    "testing.rs",
];

/// Checkers whose first line does not say which rule they hold a run to, or names one whose row does not say so.
fn checker_violations(sources: &[Source]) -> Vec<String> {
    let table = sources.iter().find(|source| source.path == INVARIANTS);
    let row_of = |name: &str| {
        let start = format!("| {name} |");
        table.and_then(|table| table.lines().find(|(_, line)| line.starts_with(&start))).map(|(_, line)| line)
    };
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with(CHECKERS)) {
        if NO_CHECKERS.contains(&&source.path[CHECKERS.len()..]) {
            continue;
        }
        let names = invariant_names(source.text.lines().next().unwrap_or_default());
        if names.is_empty() {
            violations
                .push(format!("{}:1: a checker's first line names the rule that it checks", source.path));
        }
        for name in names {
            if !row_of(&name).is_some_and(|row| row.contains("`sim`: ")) {
                violations.push(format!(
                    "{INVARIANTS}: the row of {name} does not say that {} checks it",
                    source.path
                ));
            }
        }
    }
    violations
}

#[test]
fn checkers_say_what_they_check() {
    expect_none("checkers say what they check", &checker_violations(&sources()));
}

#[test]
fn a_checker_without_a_rule_and_a_row_without_its_checker_are_found() {
    let table =
        Source::made_up(INVARIANTS, "| INV-RAFT-1 | one | `sim`: it |\n| INV-RAFT-2 | two | nobody |");
    let file = |name: &str, text: &str| Source::made_up(&format!("{CHECKERS}{name}"), text);
    let right = file("right.rs", "//! INV-RAFT-1: one.\n");
    let helper = file("testing.rs", "//! What tests share.\n");
    assert!(checker_violations(&[table.clone(), right, helper]).is_empty());
    let wrong =
        [file("silent.rs", "//! Checks.\n// INV-RAFT-1\n"), file("other.rs", "//! INV-RAFT-2: two.\n")];
    let found = checker_violations(&[&[table][..], &wrong[..]].concat());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("silent.rs:1") && found[1].contains("INV-RAFT-2"), "{found:?}");
}

#[test]
fn links_lead_somewhere() {
    expect_none("links lead somewhere", &link_violations(&sources(), |path| root().join(path).exists()));
}

#[test]
fn cited_invariants_are_written_down() {
    expect_none("cited invariants are written down", &invariant_violations(&sources()));
}

#[test]
fn a_broken_link_is_found() {
    let page = "see [this](../a.md#part) and [that](b.md \"title\"), [out](https://example.org), [here](#there)\n\
                ```\n[in a picture](nowhere)\n```\n[far](../../../etc)";
    let exists = |path: &Path| path == Path::new("a.md");
    let found = link_violations(&[Source::made_up("docs/page.md", page)], exists);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("docs/page.md:1: `b.md"), "{found:?}");
    assert!(found[1].starts_with("docs/page.md:5:"), "{found:?}");
}

#[test]
fn an_unknown_invariant_and_a_doubled_row_are_found() {
    let table =
        Source::made_up(INVARIANTS, "| INV-RAFT-1 | one |\n| INV-RAFT-2 | two |\n| INV-RAFT-1 | again |");
    let code = Source::made_up("components/raft/src/log.rs", "// INV-RAFT-2, then (INV-RAFT-LOG) and INV-x");
    let found = invariant_violations(&[table, code]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].contains("INV-RAFT-LOG is"), "{found:?}");
}
