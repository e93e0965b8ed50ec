//! What is for tests and for the simulator alone stays out of the product: no crate that is linked into it turns on the
//! rules that can be broken, or the points at which the simulator takes rare branches; and none links the simulator.

use crate::repository::{Source, expect_none, sources};

/// A feature that no product is built with.
struct Kept {
    feature: &'static str,
    /// Packages that may have it, and pass it on; all others must not know it.
    known_to: &'static [&'static str],
    /// Packages that are no part of the product, and may link others with it.
    linked_by: &'static [&'static str],
}

const KEPT: &[Kept] = &[
    Kept {
        feature: "seeded_bugs",
        known_to: &[
            "components/raft",
            "components/raftstore",
            "components/store",
            "components/pd",
            "components/client_core",
            "components/mvcc",
            "components/sim",
            "cmd/flotilla-sim",
        ],
        linked_by: &[],
    },
    Kept { feature: "sim_points", known_to: &["components/env"], linked_by: &["components/sim"] },
];

/// The simulator, and the one package that may link it.
const SIMULATOR: (&str, &str) = ("sim", "cmd/flotilla-sim");

fn violations(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        let directory = source.path.trim_end_matches("Cargo.toml").trim_end_matches('/');
        let Ok(manifest) = source.text.parse::<toml::Table>() else { continue };
        if directory.starts_with("tests/") || directory.starts_with("fuzz") {
            continue;
        }
        let linked = || {
            let tables = ["dependencies", "build-dependencies"].map(|table| manifest.get(table));
            tables.into_iter().flatten().filter_map(toml::Value::as_table).flatten()
        };
        let mut complain = |what: &str| violations.push(format!("{}: {what}", source.path));
        if linked().any(|(name, _)| name == SIMULATOR.0) && directory != SIMULATOR.1 {
            complain("it links the simulator, and with it all that is for the simulator alone");
        }
        for Kept { feature, known_to, linked_by } in KEPT {
            for (name, value) in linked() {
                if names_it(feature, value.get("features")) && !linked_by.contains(&directory) {
                    complain(&format!("`{name}` is linked with `{feature}`; turn it on for tests alone"));
                }
            }
            let shared = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
            for (name, value) in shared.and_then(toml::Value::as_table).into_iter().flatten() {
                if names_it(feature, value.get("features")) {
                    complain(&format!("`{name}` has `{feature}` for everybody"));
                }
            }
            let features = manifest.get("features").and_then(toml::Value::as_table);
            for (name, value) in features.into_iter().flatten() {
                if name != feature && names_it(feature, Some(value)) {
                    complain(&format!("the feature `{name}` turns on `{feature}`"));
                }
                if name == feature && !known_to.contains(&directory) {
                    complain(&format!("it knows `{feature}`, so that the product could be built with it"));
                }
            }
        }
    }
    violations
}

fn names_it(feature: &str, features: Option<&toml::Value>) -> bool {
    let list = features.and_then(toml::Value::as_array);
    let mut names = list.into_iter().flatten().filter_map(toml::Value::as_str);
    names.any(|name| name.rsplit('/').next() == Some(feature))
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
    let points = "[dependencies]\nenv = { workspace = true, features = [\"sim_points\"] }\n";
    assert_eq!(found("components/store/Cargo.toml", points), 1);
    assert_eq!(found("components/sim/Cargo.toml", points), 0);
    assert_eq!(found("components/store/Cargo.toml", "[features]\nsim_points = [\"env/sim_points\"]\n"), 1);
    assert_eq!(found("cmd/flotilla/Cargo.toml", "[dependencies]\nsim.workspace = true\n"), 1);
}
