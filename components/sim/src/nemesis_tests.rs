//! Each kind of trouble, alone, does what it is there for, and the cluster comes through.

use super::*;
use crate::faults::{Action, Shape};
use crate::run::{Report, RunOptions, run_and_tell};
use crate::schedule::Schedule;
use crate::setup::Setup;
use crate::time::SimTime;
use crate::trace::{Trace, TraceMode};
use crate::workload::Change;
use env::SplitMix;
use types::{Epoch, KeyRange, Peer, PeerId, RegionId};
use wire::pd::StoreMode;

/// A cluster in which nothing goes wrong but what is said, as (at which millisecond, what): on each of a few seeds it comes
/// through, and of what was said enough takes effect in all of them together.
fn come_through(faults: &[(u64, Fault)]) -> Vec<(Report, String)> {
    let run = |seed| {
        let mut schedule = calm(seed);
        schedule.plan.actions = faults
            .iter()
            .map(|(at, fault)| Action { at: SimTime::from_millis(*at), fault: fault.clone() })
            .collect();
        let trace = Trace::new(TraceMode::Tail(1 << 16), Some("stops".to_owned()));
        let mut told = Vec::new();
        let result =
            run_and_tell(&schedule, trace, &mut |trace| told.extend(trace.tail().map(str::to_owned)));
        (result.unwrap_or_else(|failure| panic!("{failure}")), told.join("\n"))
    };
    (0..4).map(run).collect()
}

fn calm(seed: u64) -> Schedule {
    let mut schedule =
        Schedule::draw(seed, &RunOptions { safety: Duration::from_secs(40), ..RunOptions::default() });
    let mut setup = Setup::draw(&mut SplitMix::new(seed));
    (setup.stores, setup.late_stores, setup.pd_members, setup.pd.replicas) = (4, 1, 3, 3);
    setup.links.stall_one_in = 0;
    // Every region snapshot is ingested.
    setup.store.snapshot_batch_bytes_max = 1;
    setup.store.raftstore.log_gc_entries_max = 5;
    setup.store.raftstore.log_gc_entries_min = 1;
    setup.store.raftstore.log_gc_interval = Duration::from_millis(200);
    setup.pd.disconnected_after = Duration::from_secs(3);
    setup.pd.down_after = Duration::from_secs(5);
    setup.store.raftstore.down_after = Duration::from_secs(5);
    schedule.setup = setup;
    schedule.plan = Plan::calm();
    schedule
}

/// How often all of them together did something.
fn effects(runs: &[(Report, String)], name: &str) -> u64 {
    runs.iter().filter_map(|(report, _)| report.faults.get(name)).map(|count| count.took_effect).sum()
}

const STORE: NodeId = NodeId(1);
const MEMBER: NodeId = NodeId(51);

#[test]
fn a_failed_write_or_sync_ends_the_process_which_is_started_again() {
    for what in [DiskFailure::Write, DiskFailure::Sync] {
        let runs = come_through(&[
            (5_000, Fault::FailDisk { node: STORE, what }),
            (9_000, Fault::FailDisk { node: MEMBER, what }),
        ]);
        for (report, told) in &runs {
            let name = Fault::FailDisk { node: STORE, what }.name();
            assert_eq!(report.faults[name], FaultCount { begun: 2, took_effect: 2 }, "{told}");
            assert!(told.contains("n1 stops: ") && told.contains("n51 stops: "), "{told}");
        }
    }
}

#[test]
fn an_ingestion_that_fails_ends_the_store() {
    // A store that has been away while others wrote, and cut their logs, takes the region over as a snapshot.
    let (node, down) = (NodeId(2), Duration::from_secs(10));
    let runs = come_through(&[
        (5_000, Fault::Crash { node, kind: CrashKind::Process, in_sync: false, down }),
        (15_010, Fault::FailDisk { node, what: DiskFailure::Ingest }),
    ]);
    assert!(effects(&runs, "failed-ingest") > 1, "{runs:?}");
}

#[test]
fn a_full_disk_ends_the_store_again_and_again_until_there_is_room() {
    let runs = come_through(&[(5_000, Fault::FullDisk { node: STORE, duration: Duration::from_secs(12) })]);
    let mut stops = 0;
    for (report, told) in &runs {
        assert_eq!(report.faults["full-disk"].took_effect, 1);
        stops += told.lines().filter(|line| line.contains("n1 stops: engine I/O: no space left")).count();
    }
    assert!(stops > 12, "it is tried again while the disk is full: {runs:?}");
}

#[test]
fn a_store_that_lost_its_disk_is_replaced_and_its_old_disk_is_refused() {
    let away = Duration::from_millis(500);
    let runs = come_through(&[
        (15_000, Fault::LoseDisk { node: STORE, down: away }),
        (32_000, Fault::OldDisk { node: STORE, down: away }),
    ]);
    assert!(effects(&runs, "lost-disk") >= 3, "{runs:?}");
    assert!(effects(&runs, "old-disk") >= 1, "{runs:?}");
    let refused = |why: &str| runs.iter().any(|(_, told)| told.contains(why));
    assert!(refused("may not join: address"), "the new one waits until the old one is silent: {runs:?}");
    let members: u64 = runs.iter().map(|(report, _)| report.depths.member_changes).sum();
    assert!(members > 10, "others have taken the place of the lost peers: {members}");
}

#[test]
fn no_disk_is_lost_that_a_majority_needs() {
    let away = Duration::from_millis(500);
    // All stores at once: the first may go, no other.
    let all =
        (1..=3).map(|node| (15_000, Fault::LoseDisk { node: NodeId(node), down: away })).collect::<Vec<_>>();
    let runs = come_through(&all);
    for (report, _) in &runs {
        assert!(report.faults["lost-disk"].took_effect <= 1, "{report}");
    }
    assert!(effects(&runs, "lost-disk") >= 2, "{runs:?}");

    let region = |stores: &[(u64, PeerRole)]| Region {
        id: RegionId(1),
        range: KeyRange::full(),
        epoch: Epoch { conf_ver: 1, version: 1 },
        peers: stores
            .iter()
            .map(|(store, role)| Peer { id: PeerId(10 + store), store_id: StoreId(*store), role: *role })
            .collect(),
    };
    let voter = PeerRole::Voter;
    let lost = |stores: &[u64]| stores.iter().copied().map(StoreId).collect::<BTreeSet<_>>();
    let three = region(&[(1, voter), (2, voter), (3, voter), (4, PeerRole::Learner)]);
    assert!(keeps_majority(&three, &lost(&[3, 9]), 0) && keeps_majority(&three, &lost(&[4]), 0));
    // Seed 6 of the long ones: one voter's disk was lost, then that of a learner, which took the place of another voter a
    // moment later, and two of three were gone.
    assert!(!keeps_majority(&three, &lost(&[3, 4]), 0));
    assert!(!keeps_majority(&three, &lost(&[2, 3]), 0));
    assert!(!keeps_majority(&region(&[(1, voter)]), &lost(&[1]), 0));
    // While an operator has a peer removed, two voters may be all that is left.
    assert!(!keeps_majority(&three, &lost(&[3]), 1) && keeps_majority(&three, &lost(&[9]), 1));
    // Both the members before and those after a change must keep a majority.
    let joint = region(&[(1, voter), (2, voter), (3, PeerRole::DemotingVoter), (4, PeerRole::IncomingVoter)]);
    assert!(keeps_majority(&joint, &lost(&[3]), 0) && !keeps_majority(&joint, &lost(&[2, 3]), 0));
}

#[test]
fn a_store_that_runs_out_of_room_and_one_that_comes_late_do_no_harm() {
    let low = |state| Fault::LowDisk { node: STORE, state, duration: Duration::from_secs(6) };
    let runs = come_through(&[
        (3_000, Fault::Start { node: NodeId(4) }),
        (6_000, low(DiskState::Low)),
        (20_000, low(DiskState::Full)),
    ]);
    for (report, _) in &runs {
        assert_eq!((report.faults["low-disk"].took_effect, report.faults["start"].took_effect), (2, 1));
    }
    let members: u64 = runs.iter().map(|(report, _)| report.depths.member_changes).sum();
    assert!(members > 0, "regions have moved to the new store");
}

#[test]
fn a_cut_counts_if_it_has_stopped_something() {
    let cut = |directions| Fault::Cut { shape: Shape::Pair, directions, duration: Duration::from_secs(4) };
    // Clients never speak to each other.
    let runs = come_through(&[
        (5_000, cut(vec![(NodeId(2), NodeId(1)), (NodeId(1), NodeId(2))])),
        (6_000, Fault::Reset { node: STORE }),
    ]);
    assert!(effects(&runs, "cut-pair") >= 3 && effects(&runs, "reset") == 4, "{runs:?}");
    let runs = come_through(&[(5_000, cut(vec![(NodeId(101), NodeId(102))]))]);
    assert_eq!(effects(&runs, "cut-pair"), 0, "{runs:?}");
}

#[test]
fn what_operators_ask_for_is_done() {
    let client = NodeId(101);
    let mut faults = Vec::new();
    for second in 5..20 {
        faults.push((second * 1_000, Fault::Split { client, key: second }));
        faults.push((second * 1_000, Fault::Transfer { client, region: second, peer: second / 2 }));
    }
    let runs = come_through(&faults);
    assert!(effects(&runs, "split") > 4 && effects(&runs, "transfer") > 10, "{runs:?}");
    assert!(runs.iter().all(|(report, _)| report.depths.regions > 1));
}

#[test]
fn members_change_and_logs_are_cut_because_operators_want_it() {
    let client = NodeId(101);
    let mut faults = vec![(3_000, Fault::Start { node: NodeId(4) })];
    for number in 0..24 {
        let change = Change::ALL[number as usize % 3];
        let (peer, store) = (number / 2, 1 + number);
        let at = 8_000 + number * 1_000;
        faults.push((at, Fault::Members { change, client, region: number, peer, store }));
        faults.push((at + 20, Fault::Cancel { client, region: number + number % 2 }));
        faults.push((at + 500, Fault::CompactLog { client, region: number }));
    }
    let runs = come_through(&faults);
    for name in ["add-peer", "remove-peer", "transfer-peer", "cancel-operator"] {
        assert!(
            effects(&runs, name) >= 2,
            "{name}: {:?}",
            runs.iter().map(|run| &run.0.faults).collect::<Vec<_>>()
        );
    }
    assert!(effects(&runs, "compact-log") > 40, "{runs:?}");
    let members: u64 = runs.iter().map(|(report, _)| report.depths.member_changes).sum();
    assert!(members > 15, "{members}");
}

#[test]
fn a_store_that_is_drained_ends_and_its_machine_comes_back_as_another() {
    let (client, away) = (NodeId(101), Duration::from_millis(500));
    let mode = |mode, store| Fault::Mode { mode, client, store };
    let mut faults = vec![
        (2_000, Fault::Start { node: NodeId(4) }),
        (8_000, mode(StoreMode::LeadingNone, 1)),
        (11_000, mode(StoreMode::Serving, 1)),
        (12_000, mode(StoreMode::Draining, 0)),
    ];
    for node in 1..=4 {
        let crash = Fault::Crash { node: NodeId(node), kind: CrashKind::Process, in_sync: false, down: away };
        faults.push((30_000 + u64::from(node) * 1_500, crash));
    }
    let runs = come_through(&faults);
    assert!(effects(&runs, "drain-leaders") >= 3 && effects(&runs, "undrain") >= 3, "{runs:?}");
    assert!(effects(&runs, "drain") >= 3, "{runs:?}");
    let retired: u64 = runs.iter().map(|(report, _)| report.depths.stores_retired).sum();
    assert!(retired >= 3, "{retired}");
    assert!(runs.iter().any(|(_, told)| told.contains("is retired: it was drained")), "{runs:?}");
}

#[test]
fn an_image_of_a_disk_that_is_written_back_is_refused_and_the_store_begins_anew() {
    let away = Duration::from_millis(500);
    let runs = come_through(&[
        (12_000, Fault::Image { node: STORE }),
        // Nothing was forgotten yet but what the store has written since; it says so every few seconds.
        (25_000, Fault::RestoreDisk { node: STORE, down: away }),
        (26_000, Fault::RestoreDisk { node: STORE, down: away }),
    ]);
    assert_eq!(effects(&runs, "disk-image"), 4, "{runs:?}");
    assert!(effects(&runs, "restored-disk") >= 2, "{runs:?}");
    let refused = |run: &&(Report, String)| run.1.contains("may not join: the data directory of store");
    assert!(runs.iter().filter(refused).count() >= 2, "{runs:?}");
}
