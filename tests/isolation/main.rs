//! Histories of transactions, judged twice: by our own checker, and by one that others wrote (`adya`, built by
//! `scripts/adya`). They must agree, about what is wrong and what is not.

use isolation::{History, Verdict, judge};
use sim::{RunOptions, Schedule, run};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// The names of what adya finds that a model forbids.
fn adya(history: &History, model: &str) -> BTreeSet<String> {
    let found = Command::new(root().join("scripts/adya")).output().expect("scripts/adya runs");
    let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), history.to_lines()).expect("a temporary file takes it");
    let output = Command::new(path)
        .args(["check", "--model", "list-append", "--consistency-models", model, "--json"])
        .arg(file.path())
        .output()
        .expect("adya runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)));
    let names = report["anomaly_types"].as_array().expect("a list of names");
    let names: BTreeSet<String> = names.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
    let code = output.status.code();
    if report["valid"] == "unknown" {
        // Nobody saw what another did.
        assert_eq!(
            (code, names),
            (Some(2), BTreeSet::from(["empty-transaction-graph".to_owned()])),
            "{said}"
        );
        return BTreeSet::new();
    }
    assert!(matches!(code, Some(0 | 1)) && names.is_empty() == (code == Some(0)), "{code:?}: {said}");
    names
}

fn names(verdict: &Verdict) -> BTreeSet<String> {
    verdict.anomalies.iter().map(|anomaly| anomaly.name.to_owned()).collect()
}

/// Small histories with one anomaly each: both call it by the same name.
#[test]
fn anomalies_have_the_same_names() {
    let histories = [
        ("G0", "0-9 ok +1:1 +2:1\n0-9 ok +1:2 +2:2\n20-29 ok 1=1,2 2=2,1"),
        ("G1a", "0-9 fail +1:1\n0-9 ok 1=1"),
        ("G1b", "0-9 ok +1:1 +1:2\n0-9 ok 1=1\n20-29 ok 1=1,2"),
        ("G1c", "0-9 ok +1:1 2=2\n0-9 ok +2:2 1=1"),
        ("G-single-item", "0-9 ok +1:1 +2:2\n0-9 ok 1=1 2=\n20-29 ok 2=2"),
        ("G-nonadjacent-item", "0-9 ok +1:1\n0-9 ok +2:2\n0-9 ok 1=1 2=\n0-9 ok 1= 2=2"),
        ("G-single-item-realtime", "0-9 ok +1:1\n20-29 ok 1=\n40-49 ok 1=1"),
        ("incompatible-order", "0-9 ok +1:1\n0-9 ok +1:2\n20-29 ok 1=1,2\n20-29 ok 1=2,1"),
        ("internal", "0-9 ok +1:1 1="),
    ];
    for (name, text) in histories {
        let history = History::parse(text).expect("histories in short");
        let (ours, theirs) = (names(&judge(&history)), adya(&history, "strong-snapshot-isolation"));
        assert!(ours.contains(name), "{name}: ours {ours:?}, theirs {theirs:?}");
        assert!(theirs.contains(name), "{name}: ours {ours:?}, theirs {theirs:?}");
    }
    let skew = History::parse("0-9 ok 1= +2:1\n0-9 ok 2= +1:2\n20-29 ok 1=2 2=1").expect("in short");
    assert!(judge(&skew).anomalies.is_empty() && judge(&skew).write_skew.is_some());
    assert_eq!(adya(&skew, "strong-snapshot-isolation"), BTreeSet::new());
    assert_eq!(adya(&skew, "serializable"), BTreeSet::from(["G2-item".to_owned()]));
    let unread = History::parse("0-9 ok 1= +2:1\n0-9 ok 2= +1:2").expect("in short");
    assert!(judge(&unread).write_skew.is_some(), "what nobody has read was appended last");
    assert_eq!(adya(&unread, "serializable"), BTreeSet::from(["G2-item".to_owned()]));
}

/// What authors of lists did in simulated clusters, while everything went wrong: both find nothing that snapshot
/// isolation forbids, and both find the same of what it allows, which serializable authors never do.
#[test]
fn simulated_clusters_are_judged_alike() {
    let options = RunOptions { transactions: true, ..RunOptions::short() };
    let (mut transactions, mut skewed, mut serializable) = (0, 0, 0);
    for seed in 0..16 {
        let report = run(seed, &options).unwrap_or_else(|failure| panic!("{failure}"));
        if report.lists.transactions.is_empty() {
            continue;
        }
        transactions += report.lists.transactions.len();
        let verdict = judge(&report.lists);
        assert_eq!(names(&verdict), BTreeSet::new(), "seed {seed}");
        assert_eq!(adya(&report.lists, "strong-snapshot-isolation"), BTreeSet::new(), "seed {seed}");
        let is_skewed = !adya(&report.lists, "serializable").is_empty();
        assert_eq!(verdict.write_skew.is_some(), is_skewed, "seed {seed}: {:?}", verdict.write_skew);
        skewed += usize::from(is_skewed);
        if Schedule::draw(seed, &options).workload.lists.serializable {
            assert!(!is_skewed, "seed {seed}: serializable transactions are");
            serializable += 1;
        }
    }
    assert!(transactions > 500, "{transactions} transactions prove little");
    assert!(serializable > 1, "{serializable} histories of serializable transactions prove little");
    println!(
        "{transactions} transactions; write skew in {skewed} of the histories, {serializable} of them serial"
    );
}
