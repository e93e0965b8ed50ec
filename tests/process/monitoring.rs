//! What operators watch a cluster by: the rules and the board under `etc/`, against a cluster that runs.

use crate::support::binary;
use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::run::{Run, until};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a histogram is stored as.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_count", "_sum"];

/// An alert or a board that asks for a metric which nobody exports stays silent for ever, and looks well. So each name that
/// they mention is looked for in what a cluster says that was just written to; and each metric is well formed.
#[test]
fn what_is_watched_is_there() {
    let run = Run::begin("what_is_watched_is_there");
    let scraped = run.play(Duration::from_secs(120), scrape());
    run.say(format!("{} metrics, {} of them watched", scraped.len(), watched().len()));
}

/// What a cluster exports, once all that is watched is among it.
async fn scrape() -> BTreeSet<String> {
    let cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(Duration::from_secs(30)).await;
    client.raw().put("a", "1").await.expect("a cluster that is well takes a write");
    // The engine's numbers are taken every few seconds.
    until("all that is watched is exported", Duration::from_secs(60), async || {
        let mut scraped = BTreeSet::new();
        for node in cluster.stores.iter().chain([&cluster.pd]) {
            let text = http::page(&node.status_address, "/metrics").await?;
            promtool(&["check", "metrics"], Some(&text))?;
            scraped.extend(families(&text));
        }
        let missing: Vec<String> = watched().into_iter().filter(|name| !scraped.contains(name)).collect();
        if missing.is_empty() { Ok(scraped) } else { Err(format!("missing: {missing:?}")) }
    })
    .await
}

/// Each alert is raised by the trouble that it is for, and none by a cluster that is well; the configuration that operators
/// copy is one that Prometheus takes.
#[test]
fn alerts_are_raised_when_they_should_be() {
    let rules = directory().join("prometheus");
    let file = |name: &str| rules.join(name).to_str().expect("our paths are text").to_owned();
    promtool(&["check", "config", &file("prometheus.yml")], None).expect("the configuration is sound");
    promtool(&["test", "rules", &file("flotilla.rules.test.yml")], None).expect("alerts do as they should");
}

/// Each alert has its case in the tests and its paragraph for whoever is called.
#[test]
fn each_alert_is_tested_and_explained() {
    let read =
        |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let rules = read(directory().join("prometheus/flotilla.rules.yml"));
    let tests = read(directory().join("prometheus/flotilla.rules.test.yml"));
    let runbook = read(binary::root().join("docs/operations.md"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("- alertname: {alert}\n")), "no test raises {alert}");
        assert!(tests.contains(&format!("alertname: {alert}, ")), "no test keeps {alert} silent");
        assert!(runbook.contains(&format!("\n### {alert}\n")), "docs/operations.md has no `### {alert}`");
        let link = format!("runbook: docs/operations.md#{}", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} does not name its paragraph: {link}");
    }
}

fn directory() -> PathBuf {
    binary::root().join("etc")
}

/// The metrics in a scrape, by the names in its comments.
fn families(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned)
}

/// The metrics that rules and board mention.
fn watched() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in ["prometheus/flotilla.rules.yml", "grafana/flotilla.json"] {
        let text = std::fs::read_to_string(directory().join(file)).expect("it is there");
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for word in text.split(|c: char| !is_part(c)) {
            // The rest are labels, functions and prose.
            if word.starts_with("flotilla_") || word.starts_with("process_") {
                let family = OF_HISTOGRAMS.iter().find_map(|end| word.strip_suffix(end));
                names.insert(family.unwrap_or(word).to_owned());
            }
        }
    }
    assert!(names.len() >= 40, "{names:?}");
    names
}

/// Runs promtool; an error with what it said if it refuses.
fn promtool(arguments: &[&str], input: Option<&str>) -> Result<(), String> {
    let found =
        Command::new(binary::root().join("scripts/promtool")).output().expect("scripts/promtool runs");
    let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let mut child = Command::new(Path::new(&path))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.unwrap_or_default().as_bytes()).expect("promtool reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    if output.status.success() { Ok(()) } else { Err(format!("promtool {arguments:?}: {said}")) }
}
