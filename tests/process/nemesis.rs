//! Two workloads that know what must hold, while everything is done to the cluster: `make nemesis` for ten minutes, and for
//! less than half a minute among the other tests.

use crate::support::cluster::{Cluster, replicated};
use crate::support::network::{Cut, Network, Place};
use crate::support::observed::{Observed, expect_happened};
use crate::support::process::command;
use crate::support::run::{Run, until};
use env::Dice as _;
use rustix::process::Signal;
use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long, where nobody says.
const SHORT: Duration = Duration::from_secs(18);
/// From the last fault to the end of the workloads.
const CALM: Duration = Duration::from_secs(8);
/// How long a store is away, stands still or is cut off, at most: longer than a lease, and than elections take.
const AWAY_MAX: Duration = Duration::from_millis(4_000);
const REST_MAX: Duration = Duration::from_millis(1_500);
const KEEP_ALIVE_SETTINGS: [&str; 2] =
    ["transport.keep_alive_interval = \"500ms\"", "transport.keep_alive_timeout = \"2s\""];

fn duration() -> Duration {
    let minutes = std::env::var("FLOTILLA_NEMESIS_MINUTES").ok();
    let minutes = minutes.map(|text| text.parse::<f64>().expect("FLOTILLA_NEMESIS_MINUTES is a number"));
    minutes.map_or(SHORT, |minutes| Duration::from_secs_f64(minutes * 60.0))
}

/// Stores are killed, frozen and cut off, one at a time, while money moves between accounts and lists are written by
/// processes of their own. All of the money is there at a hundred moments, and what was seen of the lists was possible.
#[test]
fn nemesis() {
    let run = Run::begin("nemesis");
    run.play(duration() + Duration::from_secs(180), story(&run));
}

async fn story(run: &Run) {
    let mut dice = run.dice("faults");
    let network = Network::new();
    let mut cluster = Cluster::start_apart(3, &KEEP_ALIVE_SETTINGS, &network).await;
    let client = cluster.client(Duration::from_secs(30)).await;
    replicated(&client, 3, Duration::from_secs(45)).await;
    let pd = cluster.pd.address.clone();
    let seconds = format!("{}s", (duration() + CALM).as_secs());
    let bench = |workload: &str, more: &[&str]| -> Child {
        let mut arguments = vec!["bench", "--pd", &pd, "--workload", workload, "--duration", &seconds];
        arguments.extend(["--json", "--warm-up", "0s", "--deadline", "30s"]);
        arguments.extend(more);
        command(&arguments).stdout(Stdio::piped()).spawn().expect("the command can be started")
    };
    let workloads = [
        ("bank", bench("bank", &["--keys", "20", "--clients", "8"])),
        ("list-append", bench("list-append", &["--keys", "6", "--clients", "8"])),
    ];

    let (ends_at, mut observed) = (Instant::now() + duration(), Observed::default());
    let (mut kills, mut freezes, mut cuts) = (0, 0, 0);
    while Instant::now() < ends_at || kills * freezes * cuts == 0 {
        tokio::time::sleep(dice.duration(Duration::ZERO, REST_MAX)).await;
        let victim = usize::try_from(dice.below(3)).expect("below 3");
        let away = dice.duration(AWAY_MAX / 8, AWAY_MAX);
        // Each of them once, then any.
        let kind = if kills == 0 {
            0
        } else if freezes == 0 {
            1
        } else if cuts == 0 {
            2
        } else {
            dice.below(3)
        };
        match kind {
            0 => {
                observed.add(&cluster.stores[victim]).await;
                cluster.stores[victim].kill();
                kills += 1;
                run.say(format!("store-{} is killed, for {away:?}", victim + 1));
                tokio::time::sleep(away).await;
                cluster.stores[victim].start();
                cluster.stores[victim].ready().await;
            }
            1 => {
                cluster.stores[victim].process().signal(Signal::STOP);
                freezes += 1;
                run.say(format!("store-{} stands still, for {away:?}", victim + 1));
                tokio::time::sleep(away).await;
                cluster.stores[victim].process().signal(Signal::CONT);
            }
            _ => {
                let how = if dice.chance(1, 2) { Cut::Silent } else { Cut::Reset };
                let mut others: Vec<Place> =
                    (0..3).filter(|number| *number != victim).map(Place::Store).collect();
                // Now and then the placement driver is on its side.
                others.extend(dice.chance(2, 3).then_some(Place::Pd));
                network.cut(how, &[Place::Store(victim)], &others);
                cuts += 1;
                run.say(format!("store-{} is cut off ({how:?}), for {away:?}", victim + 1));
                tokio::time::sleep(away).await;
                network.heal();
            }
        }
    }
    for store in &cluster.stores {
        observed.add(store).await;
    }
    run.say("all is well from here on");
    for (name, child) in workloads {
        let report = ended(name, child).await;
        run.say(format!("{name}: {report}"));
        assert_eq!(report["violations"], 0, "{name}: {report}");
        let operations = report["operations"].as_u64().expect("a number");
        assert!(operations > 100, "{name}: {operations} transactions prove little");
    }
    replicated(&client, 3, Duration::from_secs(60)).await;
    cluster.expect_alive();
    let (_, _, held_back) = network.effect();
    run.say(format!("{kills} kills, {freezes} freezes, {cuts} cuts; {observed:?}"));
    expect_happened(&[
        ("kills", kills),
        ("freezes", freezes),
        ("cuts", cuts),
        ("elections", observed.elections),
        ("bytes held back, or connections refused", held_back + network.effect().1),
    ]);
}

/// What a benchmark printed.
async fn ended(name: &str, mut child: Child) -> serde_json::Value {
    let status = until(&format!("{name} ends"), Duration::from_secs(120), async || {
        child.try_wait().expect("our child").ok_or_else(|| "it runs".to_owned())
    })
    .await;
    let mut printed = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut printed).expect("it prints text");
    assert!(status.success(), "{name} ended with {status}: {printed}");
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{name}: {error}: {printed}"))
}
