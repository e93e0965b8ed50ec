//! Every crate has a sign on its door, and every manifest says the same few things.

use crate::repository::{Source, expect_none, sources};

/// A crate's first lines say what it is for: at least one whole sentence of this many characters.
const DOOR_CHARACTERS_MIN: usize = 20;

/// Roots of crates: libraries, binaries, suites.
fn is_crate_root(path: &str) -> bool {
    path.ends_with("src/lib.rs")
        || path.ends_with("src/main.rs")
        || (path.starts_with("tests/") && path.ends_with("/main.rs"))
}

fn door_violations(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| is_crate_root(&source.path)) {
        let door = source.text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
        let paragraph = door.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        if paragraph.len() < DOOR_CHARACTERS_MIN || !paragraph.ends_with(['.', ':']) {
            violations.push(format!(
                "{}: begin the file with `//!` and a sentence: what this room is for, then what it keeps true, what it \
                 does not know, where to start",
                source.path
            ));
        }
    }
    violations
}

fn manifest_violations(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with("/Cargo.toml")) {
        let mut complain = |what: &str| violations.push(format!("{}: {what}", source.path));
        let manifest: toml::Table = match source.text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                complain(&format!("not TOML: {error}"));
                continue;
            }
        };
        // A manifest outside the package table's shape yields `None` everywhere, hence complaints.
        let package = |key: &str| manifest.get("package").and_then(|package| package.get(key));
        if !package("description").and_then(toml::Value::as_str).is_some_and(|text| text.ends_with('.')) {
            complain("say in `description` what the crate is for, in a sentence");
        }
        if manifest.contains_key("workspace") {
            // A workspace of its own: what measures or torments us, with dependencies that nobody else shall build.
            if package("publish").and_then(toml::Value::as_bool) != Some(false) {
                complain("write `publish = false`");
            }
            continue;
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !is_from_workspace(package(key)) {
                complain(&format!("write `{key}.workspace = true`: the root decides it for all"));
            }
        }
        if !is_from_workspace(manifest.get("lints")) {
            complain("write `[lints] workspace = true`: one set of rules for all");
        }
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in manifest.get(table).and_then(toml::Value::as_table).into_iter().flatten() {
                // A crate may name itself by path, to turn on a feature for its own tests.
                if !is_from_workspace(Some(value)) && value.get("path").is_none() {
                    complain(&format!(
                        "write `{name}.workspace = true`: versions stand in the root Cargo.toml alone"
                    ));
                }
            }
        }
    }
    violations
}

fn is_from_workspace(value: Option<&toml::Value>) -> bool {
    value.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
}

fn root_violations(root: &Source) -> Vec<String> {
    let root: toml::Table = root.text.parse().expect("the root manifest is TOML");
    let publish = root["workspace"]["package"].get("publish").and_then(toml::Value::as_bool);
    if publish == Some(false) {
        Vec::new()
    } else {
        vec!["Cargo.toml: `workspace.package.publish` must be false".into()]
    }
}

#[test]
fn every_crate_says_what_it_is_for() {
    expect_none("every crate says what it is for", &door_violations(&sources()));
}

#[test]
fn manifests_leave_to_the_root_what_is_the_roots() {
    let sources = sources();
    expect_none("manifests are alike", &manifest_violations(&sources));
    let root = sources.iter().find(|source| source.path == "Cargo.toml").expect("the root manifest exists");
    expect_none("nothing is published by accident", &root_violations(root));
}

#[test]
fn a_door_without_a_sentence_is_found() {
    let good = Source::made_up(
        "components/a/src/lib.rs",
        "//! What this room is for, in a sentence\n//! of two lines.\n",
    );
    let bare = Source::made_up("components/b/src/lib.rs", "pub mod a;");
    let short = Source::made_up("tests/process/main.rs", "//! Tests.\n\nmod a;");
    let found = door_violations(&[good, bare, short]);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_workspace_of_its_own_decides_for_itself_but_publishes_nothing() {
    let text = "[package]\nname = \"a\"\ndescription = \"A.\"\nversion = \"1.0.0\"\n[workspace]\n";
    let apart = Source::made_up("fuzz/Cargo.toml", text);
    assert_eq!(manifest_violations(&[apart]).len(), 1, "it does not say `publish = false`");
}

#[test]
fn a_manifest_of_its_own_mind_is_found() {
    let text = "[package]\nname = \"a\"\nversion = \"1.0.0\"\n[dependencies]\nbytes = \"1\"\ntypes.workspace = true\n";
    let found = manifest_violations(&[Source::made_up("components/a/Cargo.toml", text)]);
    // Description, five keys, lints, one version.
    assert_eq!(found.len(), 8, "{found:?}");
    assert_eq!(
        root_violations(&Source::made_up("Cargo.toml", "[workspace.package]\npublish = true")).len(),
        1
    );
}
