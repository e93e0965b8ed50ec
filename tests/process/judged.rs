//! A benchmark writes down what its clients saw while a store is killed, and the checker judges it.

use crate::support::cluster::{Cluster, replicated};
use crate::support::observed::{Observed, expect_happened};
use crate::support::process::command;
use crate::support::run::{Run, until};
use bytes::Bytes;
use client::KeyRange;
use sim::check::{DEFAULT_STEPS_MAX, Operation, Outcome, Verdict, linearizable, parse_history};
use std::path::Path;
use std::time::Duration;

/// Bytes of a history that say that all keys were filled, and clients are well at work.
const WELL_AT_WORK: u64 = 24 << 10;
/// Bytes that say that they go on.
const MORE: u64 = 16 << 10;

/// Whoever asks `flotilla bench --history` what a cluster does while a store is killed gets a history that the checker
/// takes, every line of it, and that it can explain; a history in which one answer is another cannot be explained.
#[test]
fn judged() {
    let run = Run::begin("judged");
    run.play(Duration::from_secs(180), story(&run));
}

async fn story(run: &Run) {
    let mut cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(Duration::from_secs(20)).await;
    replicated(&client, 3, Duration::from_secs(45)).await;
    let file = cluster.directory.path().join("history.jsonl");
    let path = file.to_str().expect("our paths are text");
    let pd = cluster.pd.address.clone();
    let mut arguments = vec!["bench", "--pd", &pd, "--history", path, "--workload", "register", "--json"];
    arguments.extend(["--keys", "100", "--clients", "16", "--value-size", "16", "--rate", "400"]);
    arguments.extend(["--duration", "20s"]);
    let mut bench = command(&arguments).spawn().expect("the command can be started");

    written(&file, "clients are at work", WELL_AT_WORK).await;
    let routes = client.admin().regions(KeyRange::full(), usize::MAX).await.expect("the cluster is well");
    let leader = routes.iter().find_map(|route| route.leader).expect("somebody serves the clients").store_id;
    let mut victim = None;
    for number in 0..cluster.stores.len() {
        if cluster.store_id(number).await == leader.get() {
            victim = Some(number);
        }
    }
    let victim = victim.expect("it is one of ours");
    let mut observed = Observed::default();
    observed.add(&cluster.stores[victim]).await;
    cluster.stores[victim].kill();
    let size = std::fs::metadata(&file).expect("it is being written").len();
    run.say(format!("store {leader} is killed, after {size} bytes of history"));
    written(&file, "clients go on without it", size + MORE).await;
    cluster.stores[victim].start();
    cluster.stores[victim].ready().await;
    run.say("it is back");
    let status = until("the benchmark ends", Duration::from_secs(60), async || {
        bench.try_wait().expect("our child").ok_or_else(|| "it runs".to_owned())
    })
    .await;
    assert!(status.success(), "the benchmark ended with {status}");
    for store in &cluster.stores {
        observed.add(store).await;
    }

    let text = std::fs::read_to_string(&file).expect("the benchmark wrote it");
    let mut history = parse_history(&text).unwrap_or_else(|error| panic!("{error}"));
    let count = |is: fn(&Outcome) -> bool| history.iter().filter(|op| is(&op.outcome)).count() as u64;
    let failed = count(|outcome| *outcome == Outcome::NotDone);
    let unknown = count(|outcome| *outcome == Outcome::Unknown);
    let ok = history.len() as u64 - failed - unknown;
    let swapped = count(|outcome| matches!(outcome, Outcome::Swapped { succeeded: true, .. }));
    run.say(format!("{ok} operations are ok ({swapped} swapped), {failed} failed, {unknown} are unknown"));
    match linearizable(&history, DEFAULT_STEPS_MAX) {
        Verdict::Linearizable => {}
        Verdict::Violation(violation) => panic!("{violation}"),
        Verdict::Undecided { key } => panic!("the check of {key:?} was given up"),
    }
    expect_happened(&[("operations", ok), ("swaps", swapped), ("elections", observed.elections)]);

    falsify(&mut history);
    let verdict = linearizable(&history, DEFAULT_STEPS_MAX);
    assert!(matches!(verdict, Verdict::Violation(_)), "a false answer was not noticed: {verdict:?}");
}

/// Waits until the history has so many bytes.
async fn written(file: &Path, what: &str, bytes: u64) {
    until(what, Duration::from_secs(60), async || {
        let size = std::fs::metadata(file).map_or(0, |found| found.len());
        if size >= bytes { Ok(()) } else { Err(format!("the history has {size} of {bytes} bytes")) }
    })
    .await;
}

/// Lets the last read find what nobody has written.
fn falsify(history: &mut [Operation]) {
    let mut reads =
        history.iter_mut().rev().filter(|operation| matches!(operation.outcome, Outcome::Value(_)));
    let last = reads.next().expect("a register is read");
    last.outcome = Outcome::Value(Some(Bytes::from_static(b"nobody wrote this")));
}
