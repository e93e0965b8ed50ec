//! What the rules look at: the files of this repository, and its crates as Cargo sees them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One text file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Relative to the root of the repository, with forward slashes.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
}

impl Source {
    /// A made-up file, for the negative cases.
    pub(crate) fn made_up(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Its lines with their numbers, counted from one.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// One package of the workspace.
#[derive(Clone, Default, Debug)]
pub(crate) struct Package {
    /// Its directory relative to the root, without `components/`: the name it has in the crates table.
    pub(crate) name: String,
    /// Packages of the workspace that it uses in any way (normal, dev, build), by the same kind of name.
    pub(crate) ours: BTreeSet<String>,
    /// Packages of the workspace that it links into the product (normal dependencies).
    pub(crate) ours_linked: BTreeSet<String>,
    /// Packages from outside among its normal dependencies, by package name.
    pub(crate) outside: BTreeSet<String>,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    // As the test runs, not as it was compiled: checkouts that share a target directory share this binary too.
    let manifest_directory = std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo runs this suite");
    Path::new(&manifest_directory).parent().expect("the suite lies one below the root").to_owned()
}

/// Every text file that is in the repository or would be with the next commit, in order of path.
pub(crate) fn sources() -> Vec<Source> {
    let mut command = Command::new("git");
    // The owner of a checkout may be another user than the one who runs the tests.
    command.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let paths: BTreeSet<String> = output(&mut command).split_terminator('\0').map(str::to_owned).collect();
    // Deleted files are listed until the deletion is committed, and binary ones are no concern of these rules.
    let read =
        |path: String| std::fs::read_to_string(root().join(&path)).ok().map(|text| Source { path, text });
    paths.into_iter().filter_map(read).collect()
}

/// Every package of the workspace, in order of name.
pub(crate) fn packages() -> Vec<Package> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: serde_json::Value =
        serde_json::from_str(&output(&mut command)).expect("cargo metadata is JSON");
    let mut packages: Vec<Package> =
        metadata["packages"].as_array().expect("a list of packages").iter().map(package).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    packages
}

fn package(value: &serde_json::Value) -> Package {
    let manifest = Path::new(value["manifest_path"].as_str().expect("a path"));
    let mut package = Package {
        name: name_of(manifest.parent().expect("a manifest has a directory")),
        ..Package::default()
    };
    for dependency in value["dependencies"].as_array().expect("a list of dependencies") {
        let is_normal = dependency["kind"].is_null();
        if let Some(path) = dependency["path"].as_str() {
            let name = name_of(Path::new(path));
            // A crate may name itself, to turn on a feature for its own tests.
            if name != package.name {
                package.ours.insert(name.clone());
                if is_normal {
                    package.ours_linked.insert(name);
                }
            }
        } else if is_normal {
            package.outside.insert(dependency["name"].as_str().expect("a name").to_owned());
        }
    }
    package
}

fn name_of(directory: &Path) -> String {
    let root = root();
    let relative = directory.strip_prefix(&root).expect("packages lie under the root");
    let relative = relative.to_str().expect("our paths are ASCII");
    relative.strip_prefix("components/").unwrap_or(relative).to_owned()
}

fn output(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().expect("git and cargo are installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("git and cargo speak UTF-8")
}

/// Fails the test with every violation on a line of its own.
#[track_caller]
pub(crate) fn expect_none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}\n  {}\n", violations.join("\n  "));
}
