//! Key spaces, as people use them: every tool with `--keyspace`, side by side on one cluster.

use crate::support::cluster::{Cluster, replicated};
use crate::support::process::{Ended, command, output};
use crate::support::run::Run;
use crate::support::tree;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How commands end, as `flotilla --help` says.
const DONE: i32 = 0;
const NO: i32 = 1;
const WRONG: i32 = 2;
const IN_PART: i32 = 5;

/// Runs the tool against one cluster.
struct Tool {
    pd: String,
}

impl Tool {
    /// Runs a line, which must end so.
    #[track_caller]
    fn run(&self, line: &str, code: i32) -> Ended {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = command(&words);
        command.env("FLOTILLA_PD", &self.pd);
        let ended = output(command, Duration::from_secs(30));
        assert_eq!(ended.code, Some(code), "{line}: {}{}", ended.stdout, ended.stderr);
        ended
    }

    /// The same, of a line that does what it says: what it prints.
    #[track_caller]
    fn says(&self, line: &str) -> String {
        self.run(line, DONE).stdout
    }
}

/// Two key spaces and the one that is always there hold the same keys, and nobody meets another's: neither with single keys, nor
/// with directories, nor under load, nor when one is cleared.
#[test]
fn key_spaces_are_apart() {
    let run = Run::begin("key_spaces_are_apart");
    run.play(Duration::from_secs(90), story(&run));
}

async fn story(run: &Run) {
    let cluster = Cluster::start(1, &[]).await;
    replicated(&cluster.client(Duration::from_secs(20)).await, 1, Duration::from_secs(30)).await;
    let tool = Tool { pd: cluster.pd.address.clone() };
    let path = |name: &str| cluster.directory.path().join(name);

    for name in ["shop", "archive"] {
        assert!(tool.says(&format!("ctl keyspace create {name}")).contains(name));
    }
    single_keys(&tool);
    run.say("single keys are apart");
    directories(&tool, &path("source"), &path, run);
    run.say("directories are apart");
    load(&tool);
    run.say("loads are apart");
    unknown(&tool, &path("source"), &path("never"));
    run.say("who names one that is not there is told how to make it");

    tool.says("kv --keyspace shop delete-range --all");
    assert_eq!(tool.says("kv --keyspace shop scan"), "");
    assert_eq!(tool.says("kv scan"), "greeting\tdefault\n");
    assert_eq!(tool.says("kv --keyspace archive get greeting"), "archive\n");
}

fn single_keys(tool: &Tool) {
    tool.says("kv put greeting default");
    tool.says("kv put --keyspace shop greeting shop");
    let missing = tool.run("kv get --keyspace archive greeting", NO);
    assert!(missing.stderr.contains("not found: greeting"), "{}", missing.stderr);
    tool.says("kv put --keyspace archive greeting archive");
    assert_eq!(tool.says("kv get greeting"), "default\n");
    assert_eq!(tool.says("kv get --keyspace shop greeting"), "shop\n");

    tool.says("kv put --keyspace shop offer today --ttl 1h");
    assert_eq!(tool.says("kv get --keyspace shop offer"), "today\n");
    let left = tool.says("kv ttl --keyspace shop offer");
    let left_ms: u64 = left.trim().parse().unwrap_or_else(|_| panic!("{left:?} is no number"));
    assert!((1..=3_600_000).contains(&left_ms), "{left_ms} ms");
    assert_eq!(tool.says("kv ttl --keyspace shop greeting"), "unlimited\n");
    tool.run("kv ttl offer", NO);
}

fn directories(tool: &Tool, source: &Path, path: &impl Fn(&str) -> std::path::PathBuf, run: &Run) {
    let made = tree::grow(source, 0, &run.dice("key spaces"));
    let line = format!("import dir {} --keyspace archive --prefix files/ --verify --json", source.display());
    let imported: Value = serde_json::from_str(&tool.says(&line)).expect("JSON");
    assert_eq!(imported["imported"]["files"], made.files, "{imported}");
    let copy = path("copy");
    tool.says(&format!("export dir {} --keyspace archive --prefix files/", copy.display()));
    // Not by assert_eq: it would print the contents.
    assert!(
        tree::contents(source) == tree::contents(&copy),
        "what was exported differs from what was imported"
    );
    let verify = format!("import dir {} --prefix files/ --verify-only --json", source.display());
    assert!(tool.run(&verify, NO).stdout.contains("missing"), "they are not in the default key space");

    // All of a key space as files: what ends cannot be one, and is named.
    let of_shop = path("of-shop");
    let export = tool.run(&format!("export dir {} --keyspace shop", of_shop.display()), IN_PART);
    assert!(export.stdout.contains("offer: its value ends in "), "{}", export.stdout);
    assert_eq!(tree::contents(&of_shop).len(), 1, "{}", export.stdout);
    assert_eq!(std::fs::read_to_string(of_shop.join("greeting")).expect("a file"), "shop");
}

fn load(tool: &Tool) {
    let few = "--clients 4 --keys 20 --duration 200ms --warm-up 0s --json";
    for (workload, space) in [("put", "shop"), ("txn-put", "archive")] {
        let ran = tool.says(&format!("bench --workload {workload} --keyspace {space} {few}"));
        let ran: Value = serde_json::from_str(&ran).expect("JSON");
        assert!(ran["operations"].as_u64() > Some(0), "{ran}");
    }
    let raw = |space: &str| tool.says(&format!("kv scan --prefix bench/ --keys-only {space}"));
    assert!(raw("--keyspace shop").starts_with("bench/"));
    assert_eq!((raw(""), raw("--keyspace archive")), (String::new(), String::new()));
    let of_transactions = |space: &str| {
        let mut shell = command(&["shell", "-e", "prefix bench/"]);
        shell.args(space.split_whitespace()).env("FLOTILLA_PD", &tool.pd);
        let ended = output(shell, Duration::from_secs(30));
        assert_eq!(ended.code, Some(DONE), "{}", ended.stderr);
        ended.stdout
    };
    assert_eq!(of_transactions("--keyspace archive").lines().count(), 20);
    assert_eq!((of_transactions(""), of_transactions("--keyspace shop")), (String::new(), String::new()));
}

fn unknown(tool: &Tool, source: &Path, target: &Path) {
    let (source, never) = (source.display(), target.display());
    for line in [
        "kv get greeting".to_owned(),
        "kv put greeting lost".to_owned(),
        "kv ttl greeting".to_owned(),
        format!("import dir {source}"),
        format!("export dir {never}"),
        "bench --workload put --duration 200ms".to_owned(),
        "bench --workload txn-put --duration 200ms".to_owned(),
        "shell".to_owned(),
    ] {
        let refused = tool.run(&format!("{line} --keyspace nowhere"), WRONG);
        let said = refused.stderr;
        assert!(said.contains("there is no key space `nowhere`"), "{line}: {said}");
        assert!(said.contains("flotilla ctl keyspace create nowhere"), "{line}: {said}");
    }
    assert!(!target.exists(), "a directory was made for what is not there");
}
