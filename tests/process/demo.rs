//! The command of the README: a playground, a directory brought in, and the regions that come of it.

use crate::support::cluster::Directory;
use crate::support::process::{command, output};
use crate::support::run::Run;
use crate::support::tree;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const STORES: usize = 3;
const TREE_BYTES: u64 = 32 << 20;
const LIMIT: Duration = Duration::from_secs(120);

/// A directory is imported, verified and exported through a playground that splits it into more than ten regions, replicates
/// each three times and spreads the leaders; then nothing of the playground is left.
#[test]
fn demo() {
    let run = Run::begin("demo");
    let directory = Directory::new();
    let (source, copy) = (directory.path().join("source"), directory.path().join("copy"));
    let made = tree::grow(&source, TREE_BYTES, &run.dice("demo"));
    run.say(format!("made {made:?}"));
    let status_file = directory.path().join("status.json");
    let script = format!(
        "flotilla import dir {source} --verify --json && \
         flotilla ctl wait --replicated --balanced --timeout 60s && \
         flotilla ctl regions --json && \
         flotilla export dir {copy}{unreadable}",
        source = source.display(),
        copy = copy.display(),
        unreadable = unreadable(directory.path()),
    );
    let ended = output(playground(&status_file, &script), LIMIT);
    run.say("the playground has ended");
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);

    let summary = json_line(&ended.stdout, '{');
    assert_eq!(summary["imported"]["files"], made.files, "{summary}");
    assert_eq!(summary["imported"]["bytes"], made.bytes, "{summary}");
    assert_eq!(summary["imported"]["files_cut"], 1, "only the longest is cut: {summary}");
    assert_eq!(summary["left_out"]["links"], made.links, "{summary}");
    assert_eq!(summary["left_out"]["special"], made.special, "{summary}");
    assert_eq!(summary["left_out"]["unreadable"], 0, "{summary}");
    expect_spread(&run, &json_line(&ended.stdout, '['));
    // Not by assert_eq: it would print the contents.
    assert!(
        tree::contents(&source) == tree::contents(&copy),
        "the files that were exported differ from the imported"
    );
    expect_gone(&status_file);
}

fn playground(status_file: &Path, script: &str) -> std::process::Command {
    let stores = STORES.to_string();
    let mut playground =
        command(&["playground", "--ephemeral", "--stores", &stores, "--region-split-size", "2MiB"]);
    // Each store keeps a quarter of the reserve free by a file.
    playground.args(["--set", "store.reserve_space=4MiB", "--exec", script, "--status-file"]);
    playground.arg(status_file);
    playground
}

/// More commands: a directory with a file that may not be read. The others are imported, the exit code is 5 (done in
/// part), and the summary names the file.
fn unreadable(directory: &Path) -> String {
    let secret = directory.join("with a secret");
    std::fs::create_dir_all(&secret).expect("a directory");
    std::fs::write(secret.join("open"), "to all").expect("a file");
    std::fs::write(secret.join("closed"), "to none").expect("a file");
    std::fs::set_permissions(secret.join("closed"), std::fs::Permissions::from_mode(0o000))
        .expect("our file");
    // Root may read everything, unless it gives that up.
    let humbly = match rustix::process::geteuid().is_root() {
        true => "setpriv --bounding-set=-dac_override,-dac_read_search ",
        false => "",
    };
    format!(
        " && {{ {humbly}flotilla import dir '{secret}' --prefix secret/ > '{secret}.txt' 2>&1; test $? -eq 5; }} \
         && grep closed '{secret}.txt' && test \"$(flotilla kv get secret/open)\" = 'to all'",
        secret = secret.display()
    )
}

/// The last line that begins so.
fn json_line(output: &str, first: char) -> Value {
    let line = output.lines().rev().find(|line| line.starts_with(first));
    let line = line.unwrap_or_else(|| panic!("no line begins with {first} in:\n{output}"));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

/// More than ten regions, three replicas each, edge to edge, and leaders everywhere: at most one or a fifth from even.
fn expect_spread(run: &Run, regions: &Value) {
    let regions = regions.as_array().expect("a list of regions");
    let mut leaders: BTreeMap<u64, usize> = BTreeMap::new();
    let mut reached = "";
    for region in regions {
        assert_eq!(region["peers"].as_array().map(Vec::len), Some(STORES), "{region}");
        assert_eq!(region["start_hex"], reached, "{region}");
        reached = region["end_hex"].as_str().expect("text");
        *leaders.entry(region["leader"]["store_id"].as_u64().expect("a leader")).or_default() += 1;
    }
    let sizes: Vec<String> = regions
        .iter()
        .map(|region| format!("{:.1}", region["size_bytes"].as_f64().unwrap_or(0.0) / f64::from(1 << 20)))
        .collect();
    run.say(format!("{} regions of {} MiB; leaders by store: {leaders:?}", regions.len(), sizes.join(", ")));
    assert_eq!(reached, "", "the last region has no end");
    assert!(regions.len() > 10, "only {} regions", regions.len());
    assert_eq!(leaders.len(), STORES, "some store leads nothing: {leaders:?}");
    let even = regions.len() as f64 / STORES as f64;
    let allowed = (even * 0.2).max(1.0);
    for (store, count) in leaders {
        let distance = (count as f64 - even).abs();
        assert!(
            distance <= allowed,
            "store {store} leads {count} regions, where {even:.1} ± {allowed:.1} is even"
        );
    }
}

/// Neither a process nor a file of the playground is left.
fn expect_gone(status_file: &Path) {
    let status = std::fs::read_to_string(status_file).expect("it was written when the playground was ready");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let mut pids = Vec::new();
    let mut paths = Vec::new();
    walk(&status, &mut |key, value| match (key, value) {
        ("pid", Value::Number(pid)) => pids.push(pid.to_string()),
        ("data_dir" | "log" | "log_file", Value::String(path)) => paths.push(PathBuf::from(path)),
        _ => {}
    });
    assert!(pids.len() > STORES, "the status file names all processes: {status}");
    for pid in pids {
        assert!(!Path::new("/proc").join(&pid).exists(), "process {pid} of the playground still runs");
    }
    assert!(!paths.is_empty(), "the status file says where everything is: {status}");
    for path in paths {
        assert!(!path.exists(), "{} was to be removed with the playground", path.display());
    }
}

fn walk(value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            see(key, value);
            walk(value, see);
        }),
        Value::Array(values) => values.iter().for_each(|value| walk(value, see)),
        _ => {}
    }
}
