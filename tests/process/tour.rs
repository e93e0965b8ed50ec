//! The README's tour, run as it stands there.

use crate::support::cluster::Directory;
use crate::support::process::{command, output};
use crate::support::run::Run;
use crate::support::{binary, tree};
use std::path::Path;
use std::time::Duration;

/// Fenced blocks that begin so are the tour: all of them, in their order, are one shell session beside a playground.
const FENCE: &str = "```sh tour";
/// The line that stands for the first terminal.
const START: &str = "flotilla playground";

/// Whoever types what the README's tour says sees it work: each line succeeds, in order, on a fresh cluster.
#[test]
fn tour() {
    let run = Run::begin("tour");
    let readme = std::fs::read_to_string(binary::root().join("README.md")).expect("there is a README");
    let blocks = blocks(&readme);
    let [first, session @ ..] = &blocks[..] else {
        panic!("README.md has no block that begins with {FENCE}")
    };
    assert!(first.starts_with(START), "the tour begins with `{START}`: {first}");
    assert!(!session.is_empty(), "the tour goes on in another terminal");
    let directory = Directory::new();
    // The files that the tour brings in lie where it is taken.
    tree::grow(&directory.path().join("here"), 0, &run.dice("tour"));
    let script = session.join("\n");
    let ended = output(playground(first, &script, directory.path()), Duration::from_secs(120));
    run.say(format!("the tour said:\n{}", ended.stdout));
    assert_eq!(
        ended.code,
        Some(0),
        "the tour stopped at the last line that is shown here:\n{}\n{}",
        ended.stdout,
        ended.stderr
    );
}

/// The first terminal's playground, with the second terminal's lines as its command.
fn playground(first: &str, script: &str, directory: &Path) -> std::process::Command {
    let arguments: Vec<&str> = first.lines().next().expect("a line").split_whitespace().skip(1).collect();
    let mut playground = command(&arguments);
    // Each store would keep room free by a file of half a gibibyte.
    playground.args(["--set", "store.reserve_space=4MiB"]);
    // As typed: each line is shown, and the first that fails is the last.
    playground.arg("--exec").arg(format!("set -ex\n{script}"));
    playground.current_dir(directory.join("here"));
    playground
}

fn blocks(readme: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if line == FENCE {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}
