//! What is for tests alone stays out of the product: no crate that is linked into it turns on the rules that can be
//! broken.

use crate::repository::{Source, expect_none, sources};

/// The feature behind which rules can be broken on purpose.
const FEATURE: &str = "seeded_bugs";
/// Packages that may pass the feature on; all others of the product must not know it.
const KNOWN_TO: &[&str] = &[
    "components/raft",
    "components/raftstore",
    "components/store",
    "components/pd",
    "components/client_core",
    "components/sim",
    "cmd/flotilla-sim",
];

fn violations(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        let directory = source.path.trim_end_matches("Cargo.toml").trim_end_matches('/');
        let Ok(manifest) = source.text.parse::<toml::Table>() else { continue };
        if directory.starts_with("tests/") || directory.starts_with("fuzz") {
            continue;
        }
        let mut complain = |what: &str| violations.push(format!("{}: {what}", source.path));
        for table in ["dependencies", "build-dependencies"] {
            let dependencies = manifest.get(table).and_then(toml::Value::as_table);
            for (name, value) in dependencies.into_iter().flatten() {
                if names_it(value.get("features")) {
                    complain(&format!("`{name}` is linked with `{FEATURE}`; turn it on for tests alone"));
                }
            }
        }
        let shared = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
        for (name, value) in shared.and_then(toml::Value::as_table).into_iter().flatten() {
            if names_it(value.get("features")) {
                complain(&format!("`{name}` has `{FEATURE}` for everybody"));
            }
        }
        let features = manifest.get("features").and_then(toml::Value::as_table);
        for (name, value) in features.into_iter().flatten() {
            if name != FEATURE && names_it(Some(value)) {
                complain(&format!("the feature `{name}` turns on `{FEATURE}`"));
            }
            if name == FEATURE && !KNOWN_TO.contains(&directory) {
                complain(&format!("it knows `{FEATURE}`, so that the product could be built with it"));
            }
        }
    }
    violations
}

fn names_it(features: Option<&toml::Value>) -> bool {
    let list = features.and_then(toml::Value::as_array);
    let names = list.into_iter().flatten().filter_map(toml::Value::as_str);
    names.into_iter().any(|name| name.rsplit('/').next() == Some(FEATURE))
}

#[test]
fn no_rule_of_the_product_can_be_broken() {
    expect_none("what is for tests stays out of the product", &violations(&sources()));
}

#[test]
fn a_product_with_rules_that_can_be_broken_is_found() {
    let found = |path: &str, text: &str| violations(&[Source::made_up(path, text)]).len();
    let linked = "[dependencies]\nraft = { workspace = true, features = [\"seeded_bugs\"] }\n";
    assert_eq!(found("components/server/Cargo.toml", linked), 1);
    assert_eq!(found("components/raft/Cargo.toml", "[features]\ndefault = [\"seeded_bugs\"]\n"), 1);
    assert_eq!(found("cmd/flotilla/Cargo.toml", "[features]\nseeded_bugs = [\"store/seeded_bugs\"]\n"), 1);
    let shared = "[workspace.dependencies]\nraft = { path = \"x\", features = [\"seeded_bugs\"] }\n";
    assert_eq!(found("Cargo.toml", shared), 1);
    let tests = "[dev-dependencies]\nraft = { workspace = true, features = [\"seeded_bugs\"] }\n";
    assert_eq!(found("components/raft/Cargo.toml", tests), 0);
}
