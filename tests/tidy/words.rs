//! Words that do not belong in the repository.

use crate::repository::{Source, expect_none, sources};

/// One word, where it is looked for, and what to do instead.
struct Rule {
    /// Looked for in every line, as it stands.
    word: &'static str,
    /// Endings of the paths of files that the rule is about; empty: every file.
    endings: &'static [&'static str],
    /// True if this line may have the word after all.
    excuses: fn(&str) -> bool,
    instead: &'static str,
}

/// Where the rules themselves stand.
const HERE: &str = "tests/tidy/words.rs";

const CODE: &[&str] = &[".rs", ".toml", ".yml", "Makefile"];

const RULES: &[Rule] = &[
    Rule { word: "[allow(", endings: &[".rs"], excuses: never, instead: EXPECT },
    Rule { word: "[ignore", endings: &[".rs"], excuses: never, instead: "mend the test or delete it" },
    Rule { word: "todo!(", endings: &[".rs"], excuses: never, instead: UNFINISHED },
    Rule { word: "unimplemented!(", endings: &[".rs"], excuses: never, instead: UNFINISHED },
    Rule { word: "TODO", endings: CODE, excuses: names_an_issue, instead: ISSUE },
    Rule { word: "FIXME", endings: CODE, excuses: names_an_issue, instead: ISSUE },
    Rule { word: "XXX", endings: CODE, excuses: names_an_issue, instead: ISSUE },
    Rule { word: "/root/", endings: &[], excuses: never, instead: MACHINE },
    Rule { word: "/home/", endings: &[], excuses: never, instead: MACHINE },
    Rule { word: "/Users/", endings: &[], excuses: never, instead: MACHINE },
    Rule { word: "/work/", endings: &[], excuses: never, instead: MACHINE },
    Rule { word: "<<<<<<<", endings: &[], excuses: never, instead: "finish the merge" },
    Rule { word: ">>>>>>>", endings: &[], excuses: never, instead: "finish the merge" },
];

const EXPECT: &str = "write `#[expect(lint, reason = \"…\")]`, which also tells when it is no longer needed";
const UNFINISHED: &str = "finish it, or leave it out until it can be finished";
const ISSUE: &str = "do it, or name the issue: TODO(#12)";
const MACHINE: &str =
    "paths of one machine mean nothing on another: use $HOME, a relative path or a parameter";

fn never(_: &str) -> bool {
    false
}

/// `(#12)` after the word.
fn names_an_issue(line: &str) -> bool {
    let after = line.split("(#").nth(1).unwrap_or_default();
    after.find(')').is_some_and(|end| end > 0 && after[..end].bytes().all(|byte| byte.is_ascii_digit()))
}

fn violations(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| source.path != HERE) {
        let concerns = |rule: &&Rule| {
            rule.endings.is_empty() || rule.endings.iter().any(|ending| source.path.ends_with(ending))
        };
        let rules: Vec<&Rule> = RULES.iter().filter(concerns).collect();
        for (number, line) in source.lines() {
            for rule in rules.iter().filter(|rule| line.contains(rule.word) && !(rule.excuses)(line)) {
                violations.push(format!("{}:{number}: `{}`: {}", source.path, rule.word, rule.instead));
            }
        }
    }
    violations
}

#[test]
fn words_that_do_not_belong_are_absent() {
    expect_none("words that do not belong", &violations(&sources()));
}

#[test]
fn each_word_is_found_where_it_counts() {
    for rule in RULES {
        let path = format!("components/a/src/file{}", rule.endings.first().unwrap_or(&".md"));
        let found = violations(&[Source::made_up(&path, &format!("fine\nsome {} here", rule.word))]);
        assert!(
            matches!(&found[..], [one] if one.starts_with(&format!("{path}:2:"))),
            "{}: {found:?}",
            rule.word
        );
    }
    let excused = Source::made_up("components/a/src/file.rs", "// TODO(#12): smaller");
    assert_eq!(violations(&[excused]), Vec::<String>::new());
    let page = Source::made_up("docs/STYLE.md", "We never write #[allow(dead_code)].");
    assert_eq!(violations(&[page]), Vec::<String>::new(), "documents may speak about attributes");
}
