//! Points at which the simulator takes rare branches: each is in the simulator's list, and at one place in the product.

use crate::repository::{Source, expect_none, sources};
use std::collections::BTreeMap;

/// Where the list is.
const LIST: &str = "components/sim/src/points.rs";
/// What a site begins with.
const SITE: &str = "sim_point!(\"";
/// What an entry of the list begins with.
const ENTRY: &str = "point(\"";

/// The names that follow `before` in the sources that are wanted, each with where it stands.
fn names(sources: &[Source], before: &str, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| wanted(&source.path)) {
        for (number, line) in source.lines() {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            for rest in code.split(before).skip(1) {
                let name = rest.split('"').next().unwrap_or_default().to_owned();
                names.entry(name).or_default().push(format!("{}:{number}", source.path));
            }
        }
    }
    names
}

fn violations(sources: &[Source]) -> Vec<String> {
    let is_product = |path: &str| {
        path.starts_with("components/") && path.contains("/src/") && !path.starts_with("components/env/")
    };
    let sites = names(sources, SITE, is_product);
    let listed = names(sources, ENTRY, |path| path == LIST);
    let mut violations = Vec::new();
    for (name, at) in &sites {
        let room = name.split('.').next().unwrap_or_default();
        if !listed.contains_key(name) {
            violations.push(format!("{}: `{name}` is not in {LIST}, so it never fires", at[0]));
        }
        if at.len() > 1 {
            violations.push(format!("`{name}` is at {at:?}: one name, one place"));
        }
        if at.iter().any(|at| !at.starts_with(&format!("components/{room}/"))) {
            violations.push(format!("{at:?}: `{name}` names another room"));
        }
    }
    let lost = listed.keys().filter(|name| !sites.contains_key(*name));
    violations.extend(lost.map(|name| format!("{LIST}: there is no `{name}` in the product")));
    violations
}

#[test]
fn every_point_is_listed_and_stands_at_one_place() {
    expect_none("points are listed, and met at one place", &violations(&sources()));
}

#[test]
fn a_point_that_is_not_listed_or_stands_twice_or_nowhere_is_found() {
    let site = |room: &str, name: &str| {
        let text = format!("fn f() -> bool {{ sim_point!(\"{name}\") }}\n");
        Source::made_up(&format!("components/{room}/src/x.rs"), &text)
    };
    let list = |names: &[&str]| {
        let text: String = names.iter().map(|name| format!("    point(\"{name}\", \"what\"),\n")).collect();
        Source::made_up(LIST, &text)
    };
    let found = |sources: &[Source]| violations(sources).len();
    assert_eq!(found(&[site("pd", "pd.one"), list(&["pd.one"])]), 0);
    assert_eq!(found(&[site("pd", "pd.one"), list(&[])]), 1);
    assert_eq!(found(&[list(&["pd.one"])]), 1);
    assert_eq!(found(&[site("pd", "pd.one"), site("pd", "pd.one"), list(&["pd.one"])]), 1);
    assert_eq!(found(&[site("store", "pd.one"), list(&["pd.one"])]), 1);
}
