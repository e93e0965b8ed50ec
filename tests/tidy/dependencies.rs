//! The one direction of travel: who may use whom.
//!
//! The table under "Code map" in `docs/ARCHITECTURE.md` is the law for dependencies between our crates, those of tests
//! included. What crates may not link from outside is here, in [`LIMITS`].

use crate::repository::{Package, Source, expect_none, packages, root, sources};
use std::collections::{BTreeMap, BTreeSet};

const MAP: &str = "docs/ARCHITECTURE.md";
/// How the table begins.
const HEADER: &str = "| layer | crate |";
/// What a row says that may use everything.
const ANYTHING: &str = "anything";
/// Those that every crate of layer 1 and above may use without saying so.
const EVERYWHERE: [&str; 3] = ["types", "codec", "env"];

/// What a crate may not link from outside, however far down. Normal dependencies only: a test may use what it likes.
struct Limit {
    /// Crates that it binds, and through them everything they link.
    crates: &'static [&'static str],
    /// Packages from outside that must not be reachable.
    never: &'static [&'static str],
    reason: &'static str,
}

const LIMITS: &[Limit] = &[
    Limit {
        crates: &[
            "types",
            "codec",
            "env",
            "raft",
            "engine",
            "raft_log",
            "mvcc",
            "wire",
            "txn",
            "raftstore",
            "pd",
            "client_core",
            "store",
            "sim",
            "cmd/flotilla-sim",
        ],
        never: &["tokio", "mio", "rustls", "openssl-sys", "rocksdb", "librocksdb-sys"],
        reason: "logic does no I/O: runtimes, sockets, TLS and RocksDB belong to the drivers and their adapters",
    },
    Limit {
        crates: &["transport", "client"],
        never: &["rocksdb", "librocksdb-sys"],
        reason: "a client must not need the storage engine",
    },
];

/// Packages from outside that only the named crates may depend on directly.
const OWNERS: &[(&str, &[&str], &str)] = &[
    ("rocksdb", &["engine_rocks"], "use the traits of `engine`; RocksDB stays behind `engine_rocks`"),
    ("librocksdb-sys", &["engine_rocks"], "use the traits of `engine`; RocksDB stays behind `engine_rocks`"),
    (
        "anyhow",
        &["cmd/flotilla", "cmd/flotilla-sim"],
        "give the crate an error enum: callers decide by its variants",
    ),
];

/// Crates with a closed list of direct dependencies from outside.
const ALONE: &[(&str, &[&str])] = &[("types", &["bytes"]), ("raft", &["bytes"])];

/// One row of the crates table.
#[derive(Clone, PartialEq, Debug)]
struct Row {
    name: String,
    layer: u8,
    /// `None`: anything.
    may_use: Option<BTreeSet<String>>,
}

/// Reads the table; lines that are no row of it are an error, so that a typing mistake cannot loosen the rule.
fn rows(map: &str) -> Result<Vec<Row>, String> {
    let mut lines = map.lines().skip_while(|line| !line.starts_with(HEADER)).skip(2).peekable();
    if lines.peek().is_none() {
        return Err(format!("{MAP}: no table that begins with `{HEADER}`"));
    }
    lines.take_while(|line| line.starts_with('|')).map(row).collect()
}

fn row(line: &str) -> Result<Row, String> {
    let wrong = || format!("{MAP}: expected `| layer | crate | sentence | may also use |`, found: {line}");
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [layer, name, sentence, may_use] = cells[..] else { return Err(wrong()) };
    let unquote = |cell: &str| cell.strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
    let may_use = match may_use {
        ANYTHING => None,
        "–" => Some(BTreeSet::new()),
        names => Some(names.split(' ').map(unquote).collect::<Option<_>>().ok_or_else(wrong)?),
    };
    if sentence.is_empty() {
        return Err(wrong());
    }
    Ok(Row { name: unquote(name).ok_or_else(wrong)?, layer: layer.parse().map_err(|_| wrong())?, may_use })
}

/// The table itself must go one way: a row names rows of lower layers, or earlier rows of its own.
fn table_violations(rows: &[Row]) -> Vec<String> {
    let mut violations = Vec::new();
    for (position, row) in rows.iter().enumerate() {
        if rows[..position].iter().any(|earlier| earlier.name == row.name) {
            violations.push(format!("{MAP}: `{}` has two rows; keep one", row.name));
        }
        for used in row.may_use.iter().flatten() {
            match rows.iter().position(|other| other.name == *used) {
                None => violations.push(format!("{MAP}: `{}` names `{used}`, which has no row", row.name)),
                Some(other)
                    if rows[other].layer > row.layer
                        || (rows[other].layer == row.layer && other >= position) =>
                {
                    violations.push(format!(
                        "{MAP}: `{}` (layer {}) names `{used}` (layer {}); arrows go down: move a row or drop the arrow",
                        row.name, row.layer, rows[other].layer
                    ));
                }
                Some(_) => {}
            }
        }
    }
    violations
}

/// Crates against the table.
fn arrow_violations(rows: &[Row], packages: &[Package]) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages {
        let Some(row) = rows.iter().find(|row| row.name == package.name) else {
            violations.push(format!("{MAP}: no row for `{}`; add one to the crates table", package.name));
            continue;
        };
        let Some(may_use) = &row.may_use else { continue };
        for used in &package.ours {
            let is_free = row.layer >= 1 && EVERYWHERE.contains(&used.as_str());
            if !is_free && !may_use.contains(used) {
                violations.push(format!(
                    "`{}` uses `{used}`, which its row in {MAP} does not allow; remove the dependency (of tests too), or \
                     write a page in docs/decisions/ and change the row",
                    package.name
                ));
            }
        }
    }
    violations
}

/// Crates against what they may take from outside. `lock` says what the packages from outside take themselves.
fn outside_violations(packages: &[Package], lock: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages {
        for (outside, owners, instead) in OWNERS {
            let is_ours = owners.contains(&package.name.as_str()) || package.name.starts_with("tests");
            if package.outside.contains(*outside) && !is_ours {
                violations.push(format!("`{}` depends on `{outside}`: {instead}", package.name));
            }
        }
        for (_, allowed) in ALONE.iter().filter(|(name, _)| *name == package.name) {
            for outside in package.outside.iter().filter(|outside| !allowed.contains(&outside.as_str())) {
                violations
                    .push(format!("`{}` depends on `{outside}`; it may use {allowed:?} alone", package.name));
            }
        }
        for limit in LIMITS.iter().filter(|limit| limit.crates.contains(&package.name.as_str())) {
            let reached = reachable(package, packages, lock);
            for outside in limit.never.iter().filter(|outside| reached.contains(**outside)) {
                violations.push(format!("`{}` links `{outside}`; {}", package.name, limit.reason));
            }
        }
    }
    violations
}

/// Every package from outside that `package` links, through ours and through others.
fn reachable(
    package: &Package,
    packages: &[Package],
    lock: &BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<String> {
    let mut ours = BTreeSet::from([package.name.clone()]);
    let mut open = vec![package];
    let mut outside_open = Vec::new();
    while let Some(next) = open.pop() {
        outside_open.extend(next.outside.iter().cloned());
        let linked = packages.iter().filter(|other| next.ours_linked.contains(&other.name));
        open.extend(linked.filter(|other| ours.insert(other.name.clone())));
    }
    let mut reached = BTreeSet::new();
    while let Some(next) = outside_open.pop() {
        let below = lock.get(&next).into_iter().flatten().cloned();
        if reached.insert(next) {
            outside_open.extend(below);
        }
    }
    reached
}

/// What `Cargo.lock` says each package uses. Versions of one package are taken together: more than is true, never less.
fn lock(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lock: toml::Table = text.parse().expect("Cargo.lock is TOML");
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock["package"].as_array().expect("a list of packages") {
        let name = package["name"].as_str().expect("a name").to_owned();
        let below = package.get("dependencies").and_then(toml::Value::as_array);
        // "name", or "name version" where there are several.
        let names = below.into_iter().flatten().filter_map(|value| value.as_str()?.split(' ').next());
        uses.entry(name).or_default().extend(names.map(str::to_owned));
    }
    uses
}

#[test]
fn dependencies_follow_the_crates_table() {
    let map = sources().into_iter().find(|source| source.path == MAP).expect("the map exists");
    let rows = rows(&map.text).expect("the table is readable");
    expect_none("the crates table goes one way", &table_violations(&rows));
    expect_none("crates use what their row allows", &arrow_violations(&rows, &packages()));
}

#[test]
fn logic_links_no_runtime_and_no_engine() {
    let lock = lock(&std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is committed"));
    expect_none("crates take from outside what they may", &outside_violations(&packages(), &lock));
}

/// Every directory under `components/` and `cmd/` with a manifest belongs to the workspace, so no rule can miss it;
/// what stands elsewhere may be a workspace of its own.
#[test]
fn every_manifest_belongs_to_the_workspace() {
    let known: BTreeSet<String> = packages().into_iter().map(|package| package.name).collect();
    let stray = |source: &Source| {
        let directory = source.path.strip_suffix("/Cargo.toml")?;
        let name = directory.strip_prefix("components/").unwrap_or(directory);
        let product = directory.starts_with("components/") || directory.starts_with("cmd/");
        if !product && source.text.lines().any(|line| line == "[workspace]") {
            return None;
        }
        (!known.contains(name)).then(|| format!("{directory}: add it to `members` of the root Cargo.toml"))
    };
    let violations: Vec<String> = sources().iter().filter_map(stray).collect();
    expect_none("every manifest belongs to the workspace", &violations);
}

#[cfg(test)]
mod made_up {
    use super::*;

    const TABLE: &str = "\
text
| layer | crate | one sentence | may also use |
|--:|---|---|---|
| 0 | `types` | Words. | – |
| 1 | `raft` | One group. | – |
| 2 | `wire` | Messages. | `raft` |
| 7 | `tests` | Suites. | anything |

text";

    fn package(name: &str, ours: &[&str], outside: &[&str]) -> Package {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        Package { name: name.to_owned(), ours: set(ours), ours_linked: set(ours), outside: set(outside) }
    }

    #[test]
    fn a_reversed_arrow_is_found() {
        let rows = rows(TABLE).expect("readable");
        assert_eq!(table_violations(&rows), Vec::<String>::new());
        let good = [package("wire", &["raft", "types"], &[]), package("tests", &["wire"], &[])];
        assert_eq!(arrow_violations(&rows, &good), Vec::<String>::new());
        let found = arrow_violations(&rows, &[package("raft", &["wire"], &[])]);
        assert!(matches!(&found[..], [one] if one.contains("`raft` uses `wire`")), "{found:?}");
        let found = arrow_violations(&rows, &[package("types", &["codec"], &[])]);
        assert_eq!(found.len(), 1, "layer 0 has no free arrows: {found:?}");
    }

    #[test]
    fn a_table_that_turns_back_is_found() {
        let back = TABLE.replace("One group. | – |", "One group. | `wire` |");
        assert_eq!(table_violations(&rows(&back).expect("readable")).len(), 1);
        let unknown = TABLE.replace("`raft` |\n| 7", "`raft` `nobody` |\n| 7");
        assert_eq!(table_violations(&rows(&unknown).expect("readable")).len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_that_cannot_be_read_are_found() {
        let rows_read = rows(TABLE).expect("readable");
        assert_eq!(arrow_violations(&rows_read, &[package("stranger", &[], &[])]).len(), 1);
        assert!(rows(&TABLE.replace("`raft` |\n| 7", "raft |\n| 7")).is_err(), "a name without quotes");
        assert!(rows("no table").is_err());
    }

    #[test]
    fn a_runtime_below_the_logic_is_found() {
        let lock =
            lock("[[package]]\nname = \"helper\"\nversion = \"1.0.0\"\ndependencies = [\"tokio 1.0.0\"]\n");
        let packages = [package("raftstore", &["wire"], &[]), package("wire", &[], &["helper"])];
        let found = outside_violations(&packages, &lock);
        assert_eq!(found.len(), 2, "both crates link it, one through the other: {found:?}");
        let simulator = [package("cmd/flotilla-sim", &[], &["clap", "helper"])];
        assert_eq!(
            outside_violations(&simulator, &lock).len(),
            1,
            "nor is there one in the simulator's binary"
        );
    }

    #[test]
    fn raft_with_more_than_bytes_and_a_second_owner_of_rocksdb_are_found() {
        let none = BTreeMap::new();
        assert_eq!(outside_violations(&[package("raft", &[], &["bytes", "serde"])], &none).len(), 1);
        assert_eq!(outside_violations(&[package("server", &[], &["rocksdb"])], &none).len(), 1);
        assert_eq!(
            outside_violations(&[package("engine_rocks", &[], &["rocksdb"])], &none),
            Vec::<String>::new()
        );
    }
}
