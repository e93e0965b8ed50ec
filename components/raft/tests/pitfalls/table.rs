//! `docs/raft-pitfalls.md` says what holds each mistake of others off; here it is held to its word.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How many items each letter has.
const ITEMS: [(char, usize); 7] =
    [('A', 21), ('B', 25), ('C', 18), ('D', 14), ('E', 14), ('F', 12), ('G', 5)];
const STORIES_MIN: usize = 40;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/raft-pitfalls.md")).expect("the page is there")
}

/// One row: its id, and what holds it.
struct Row {
    id: String,
    reported: String,
    held_by: String,
}

fn rows(page: &str) -> Vec<Row> {
    let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let rows = page.lines().filter(|line| line.starts_with("| P-")).map(cells);
    rows.map(|cells| {
        assert_eq!(cells.len(), 6, "a row has four columns: {cells:?}");
        Row { id: cells[1].clone(), reported: cells[3].clone(), held_by: cells[4].clone() }
    })
    .collect()
}

/// What stands in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn read_sources(directory: &Path, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(directory).expect("a directory of the project");
    for path in entries.map(|entry| entry.expect("a directory can be read").path()) {
        if path.is_dir() {
            read_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(std::fs::read_to_string(&path).expect("a source is text"));
        }
    }
}

/// The names of all tests in `sources`.
fn tests(sources: &[String]) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for source in sources {
        let mut lines = source.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line == "#[test]"
                && let Some(rest) = lines.next().and_then(|line| line.strip_prefix("fn "))
            {
                names.extend(rest.split('(').next());
            }
        }
    }
    names
}

/// What is wrong with `page`, given the names of the tests and of the stories that exist.
fn wrong(page: &str, tests: &BTreeSet<&str>, stories: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let rows = rows(page);
    let expected =
        ITEMS.iter().flat_map(|&(letter, count)| (1..=count).map(move |at| format!("P-{letter}{at}")));
    let expected: Vec<String> = expected.collect();
    let found: Vec<&String> = rows.iter().map(|row| &row.id).collect();
    if !expected.iter().eq(found.iter().copied()) {
        wrong.push(format!("rows are {found:?}, expected {expected:?}"));
    }
    for Row { id, reported, held_by } in &rows {
        if reported.is_empty() {
            wrong.push(format!("{id} does not say where it was reported"));
        }
        let named: Vec<&str> = quoted(held_by).collect();
        if let Some(reason) =
            held_by.strip_prefix("does not apply: ").or(held_by.strip_prefix("not the core's: "))
        {
            if reason.len() < 30 {
                wrong.push(format!("{id} does not say why it does not apply"));
            }
            continue;
        }
        if named.is_empty() {
            wrong.push(format!("{id} names no test"));
        }
        for name in named {
            let exists = if name.ends_with(".txt") { stories.contains(name) } else { tests.contains(name) };
            if !exists {
                wrong.push(format!("{id} names `{name}`, which does not exist"));
            }
        }
    }
    wrong
}

fn stories() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = std::fs::read_dir(directory).expect("the stories are there");
    let files = entries.map(|entry| entry.expect("a directory can be read").path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("a story is text"))
        })
        .collect()
}

#[test]
fn every_pitfall_names_tests_that_exist() {
    let mut sources = Vec::new();
    read_sources(&root().join("components"), &mut sources);
    let stories = stories().into_iter().map(|(name, _)| name).collect();
    let wrong = wrong(&page(), &tests(&sources), &stories);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_story_stands_on_the_page() {
    let page = page();
    let cited: BTreeSet<&str> =
        quoted(&page).filter(|name| name.ends_with(".txt") && *name != ".txt").collect();
    let stories = stories();
    let told: BTreeSet<&str> = stories.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(cited.difference(&told).collect::<Vec<_>>(), Vec::<&&str>::new(), "cited, and not told");
    assert_eq!(told.difference(&cited).collect::<Vec<_>>(), Vec::<&&str>::new(), "told, and not cited");
}

#[test]
fn every_story_says_what_it_is_about_and_where_that_comes_from() {
    let stories = stories();
    assert!(stories.len() >= STORIES_MIN, "only {} stories", stories.len());
    for (name, text) in stories {
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        let source = head.iter().position(|line| line.starts_with("# Source: "));
        assert!(source.is_some_and(|at| at > 0), "{name}: a story, then its source, in remarks at the top");
        assert!(head.concat().len() > 80, "{name}: that is no story");
        assert!(text.contains("\n----\n"), "{name}: nothing happens");
        assert!(!text.contains("BROKEN") && !text.contains("not reached"), "{name}: it breaks a rule");
        // The remarks of the blocks are read by people, too.
        assert!(
            text.lines().all(|line| !line.starts_with('#') || line.len() <= 125),
            "{name}: a long remark"
        );
    }
}

#[test]
fn a_missing_row_and_a_test_that_is_gone_are_found() {
    let tests = BTreeSet::from(["there"]);
    let stories = BTreeSet::from(["told.txt".to_owned()]);
    let row = |id: &str, held_by: &str| format!("| {id} | something | somewhere | {held_by} |\n");
    let full = |held_by: &str| -> String {
        ITEMS
            .iter()
            .flat_map(|&(letter, count)| (1..=count).map(move |at| (letter, at)))
            .map(|(letter, at)| row(&format!("P-{letter}{at}"), held_by))
            .collect()
    };
    assert_eq!(wrong(&full("`there`, `told.txt`"), &tests, &stories), Vec::<String>::new());
    let items: usize = ITEMS.iter().map(|(_, count)| count).sum();
    assert_eq!(wrong(&full("`gone`"), &tests, &stories).len(), items);
    assert_eq!(wrong(&full("`untold.txt`"), &tests, &stories).len(), items);
    assert_eq!(wrong(&full("nothing"), &tests, &stories).len(), items);
    assert_eq!(wrong(&full("does not apply: no"), &tests, &stories).len(), items);
    let missing = full("`there`").replacen("P-C7 ", "P-C77 ", 1);
    assert_eq!(wrong(&missing, &tests, &stories).len(), 1);
}
