//! A store loses its power after each of its steps, with each part of what was not synced, while a region is cut, moved
//! in, moved out, or caught up by a snapshot. It starts again, and everything comes out as if nothing had happened.

use super::*;

/// What survives of the writes that were not synced, in tenths.
const KEPT: [u64; 3] = [0, 5, 10];
/// Stores in order; their ids are handed out among others.
const FIRST: StoreId = StoreId(1);
const SECOND: StoreId = StoreId(4);
const THIRD: StoreId = StoreId(5);
const FOURTH: StoreId = StoreId(6);
/// More steps than any of these takes.
const STEPS_MAX: usize = 4_000;

/// Runs `scenario` with a crash after the first step of the store, then with one after the second, and so on.
fn at_every_step(store_id: StoreId, scenario: impl Fn(&mut dyn FnMut(&mut Cluster))) {
    for tenths_kept in KEPT {
        for steps_left in 0.. {
            assert!(steps_left < STEPS_MAX, "the scenario comes to an end");
            let mut came = false;
            // Set when the scenario is over: whether the crash was still to come.
            scenario(&mut |cluster| match came {
                false => {
                    came = true;
                    cluster.crash = Some(CrashPoint { store_id, steps_left, tenths_kept });
                }
                true => came = cluster.crash.is_none(),
            });
            if !came {
                break;
            }
        }
    }
}

fn check(cluster: &mut Cluster, keys: &[&str]) {
    for key in keys {
        assert_eq!(cluster.get(key).as_deref(), Some(*key));
        cluster.put(key, "new");
        assert_eq!(cluster.get(key).as_deref(), Some("new"));
    }
}

/// Orders a step again and again, as PD does, until it is done.
fn order_until(cluster: &mut Cluster, step: &Step, what: &str, done: impl Fn(&Cluster) -> bool) {
    for _ in 0..40 {
        if done(cluster) {
            return;
        }
        cluster.order(step.clone());
        cluster.advance(Duration::from_millis(500));
    }
    panic!("never happened: {what}; regions: {:#?}", cluster.regions);
}

fn split_with_crashes(store_id: StoreId) {
    at_every_step(store_id, |mark| {
        let mut cluster = Cluster::new(3, config());
        cluster.replicate();
        for key in ["a", "h", "p"] {
            cluster.put(key, key);
        }
        mark(&mut cluster);
        while cluster.regions.len() < 3 {
            // A crash may swallow the answer, and then the region is cut already.
            drop(cluster.call(b"a", KvCommand::Split { keys: vec!["g".into(), "n".into()] }));
            cluster.advance(Duration::from_secs(1));
        }
        mark(&mut cluster);
        check(&mut cluster, &["a", "h", "p"]);
        cluster.until("each store has the pieces", |c| {
            c.stores.values().all(|store| store.meta().region_count() == 3)
        });
    });
}

#[test]
fn a_split_survives_a_crash_of_the_leader_at_every_step() {
    split_with_crashes(FIRST);
}

#[test]
fn a_split_survives_a_crash_of_a_follower_at_every_step() {
    split_with_crashes(SECOND);
}

fn move_with_crashes(victim: StoreId, snapshot_batch_bytes_max: usize) {
    at_every_step(victim, |mark| {
        let config = Config { snapshot_batch_bytes_max, snapshot_piece_bytes: 8, ..config() };
        let mut cluster = Cluster::new(4, config);
        cluster.stores.remove(&FOURTH);
        cluster.replicate();
        cluster.start(FOURTH);
        for key in ["a", "h", "p"] {
            cluster.put(key, key);
        }
        let (region, leader) = cluster.region_of(b"a");
        assert_eq!(leader.store_id, FIRST);
        let leaving = *region.peer_on(SECOND).expect("a peer on each");
        let coming = Peer::learner(PeerId(900), FOURTH);
        mark(&mut cluster);
        order_until(&mut cluster, &Step::AddLearner { peer: coming }, "the learner has the data", |c| {
            c.region_of(b"a").0.peer(coming.id).is_some() && c.regions[&region.id].pending_peers.is_empty()
        });
        let change = Step::ChangeRoles { promote: vec![coming.id], demote: vec![leaving.id] };
        order_until(&mut cluster, &change, "roles have changed", |c| {
            let (region, _) = c.region_of(b"a");
            !region.is_joint() && region.peer(leaving.id).is_some_and(|p| p.role == types::PeerRole::Learner)
        });
        order_until(&mut cluster, &Step::RemoveLearner { peer_id: leaving.id }, "the peer is gone", |c| {
            c.stores[&SECOND].meta().region_count() == 0
        });
        mark(&mut cluster);
        check(&mut cluster, &["a", "h", "p"]);
        cluster.advance(Duration::from_secs(1));
        for key in [b"a", b"h", b"p"] {
            assert_eq!(cluster.engines[&SECOND].get(Cf::Default, key).expect("readable"), None);
            let copy = cluster.engines[&FOURTH].get(Cf::Default, key).expect("readable");
            assert_eq!(copy.as_deref(), Some(&b"new"[..]));
        }
        let records = |c: &Cluster| raftstore::all_regions(&c.engines[&FIRST]).expect("readable");
        cluster.until("the removal is confirmed", |c| records(c)[0].0.removed.is_empty());
        assert_eq!(cluster.engines[&FOURTH].list_sst().expect("readable"), Vec::<String>::new());
    });
}

#[test]
fn a_small_snapshot_survives_a_crash_of_its_receiver_at_every_step() {
    move_with_crashes(FOURTH, 1 << 20);
}

#[test]
fn a_snapshot_in_files_survives_a_crash_of_its_receiver_at_every_step() {
    move_with_crashes(FOURTH, 1);
}

#[test]
fn a_removal_survives_a_crash_of_the_removed_at_every_step() {
    move_with_crashes(SECOND, 1 << 20);
}

fn catch_up_with_crashes(snapshot_batch_bytes_max: usize) {
    let victim = THIRD;
    at_every_step(victim, |mark| {
        let mut config = Config { snapshot_batch_bytes_max, snapshot_piece_bytes: 8, ..config() };
        config.raftstore.log_gc_entries_max = 10;
        config.raftstore.log_gc_interval = Duration::from_millis(200);
        let mut cluster = Cluster::new(3, config);
        cluster.replicate();
        cluster.put("gone", "gone");
        cluster.advance(Duration::from_millis(500));
        cluster.cut = vec![victim];
        for key in ["a", "h", "p"] {
            cluster.put(key, key);
        }
        let op = WriteOp::Delete { key: "gone".into() };
        assert_eq!(cluster.call(b"gone", KvCommand::Write { ops: vec![op] }), Ok(KvReply::Written));
        for number in 0..30 {
            cluster.put(&format!("k{number}"), "v");
        }
        drop(cluster.call(b"a", KvCommand::Split { keys: vec!["g".into()] }));
        cluster.advance(Duration::from_secs(1));
        let before = cluster.snapshots;
        cluster.cut.clear();
        mark(&mut cluster);
        cluster.until("the store has both regions", |c| c.stores[&victim].meta().region_count() == 2);
        cluster.advance(Duration::from_secs(3));
        mark(&mut cluster);
        assert!(cluster.snapshots > before);
        check(&mut cluster, &["a", "h", "p"]);
        cluster.advance(Duration::from_secs(1));
        assert_eq!(cluster.engines[&victim].get(Cf::Default, b"gone").expect("readable"), None);
        for key in [b"a", b"h", b"p"] {
            let copy = cluster.engines[&victim].get(Cf::Default, key).expect("readable");
            assert_eq!(copy.as_deref(), Some(&b"new"[..]));
        }
    });
}

#[test]
fn a_follower_jumps_over_a_split_by_small_snapshots_with_a_crash_at_every_step() {
    catch_up_with_crashes(1 << 20);
}

#[test]
fn a_follower_jumps_over_a_split_by_snapshots_in_files_with_a_crash_at_every_step() {
    catch_up_with_crashes(1);
}

/// A snapshot's files disappeared from the disk between the record that names them and their ingestion, and the store
/// ended itself at each start. Now that one peer is given up, whatever crashes meanwhile: the store serves its other
/// region, and a new peer takes the place of the lost one, on the same store.
#[test]
fn a_snapshot_whose_files_are_lost_costs_its_peer_and_nothing_else() {
    at_every_step(SECOND, |mark| {
        let mut config = Config { snapshot_batch_bytes_max: 1, snapshot_piece_bytes: 8, ..config() };
        config.raftstore.log_gc_entries_max = 10;
        config.raftstore.log_gc_interval = Duration::from_millis(200);
        let mut cluster = Cluster::new(3, config);
        cluster.replicate();
        for key in ["a", "h", "p"] {
            cluster.put(key, key);
        }
        drop(cluster.call(b"a", KvCommand::Split { keys: vec!["m".into()] }));
        cluster.until("both pieces are there", |c| {
            c.regions.len() == 2 && c.stores.values().all(|store| store.meta().region_count() == 2)
        });
        while cluster.leader_of(b"a").store_id != FIRST {
            drop(cluster.call(b"a", KvCommand::TransferLeader { to_store: FIRST }));
            cluster.advance(Duration::from_secs(1));
        }
        let (region, _) = cluster.region_of(b"a");
        let lost = *region.peer_on(SECOND).expect("a peer on each");
        let (other, _) = cluster.region_of(b"p");
        cluster.cut = vec![SECOND];
        for number in 0..30 {
            cluster.put(&format!("k{number}"), "v");
        }
        cluster.advance(Duration::from_secs(1));
        cluster.held = vec![(SECOND, Actor::Background)];
        cluster.cut.clear();
        let state = |c: &Cluster, id| raftstore::region_record(&c.engines[&SECOND], id).expect("readable");
        cluster.until("the files are named", |c| {
            state(c, region.id).is_some_and(|r| matches!(r.state, raftstore::PeerState::Applying { .. }))
        });
        cluster.held.clear();
        cluster.crash(SECOND);
        let files = cluster.engines[&SECOND].list_sst().expect("readable");
        cluster.engines[&SECOND].remove_sst(&files[0]).expect("it is there");
        cluster.start(SECOND);
        mark(&mut cluster);
        cluster.until("the peer is given up", |c| {
            state(c, region.id).is_some_and(|r| r.state == raftstore::PeerState::Tombstone)
                && c.stores[&SECOND].meta().region_count() == 1
        });
        // Nothing that its leader says brings it back.
        cluster.advance(Duration::from_secs(3));
        assert_eq!(cluster.stores[&SECOND].meta().regions()[0].id, other.id);
        let demote = Step::ChangeRoles { promote: vec![], demote: vec![lost.id] };
        order_until(&mut cluster, &demote, "it is a learner", |c| {
            c.region_of(b"a").0.peer(lost.id).is_some_and(|p| p.role == types::PeerRole::Learner)
        });
        order_until(&mut cluster, &Step::RemoveLearner { peer_id: lost.id }, "it is removed", |c| {
            c.region_of(b"a").0.peer(lost.id).is_none()
        });
        let again = Peer::learner(PeerId(900), SECOND);
        order_until(&mut cluster, &Step::AddLearner { peer: again }, "another has the data", |c| {
            c.stores[&SECOND].meta().region_count() == 2
        });
        mark(&mut cluster);
        check(&mut cluster, &["a", "h", "p"]);
        cluster.advance(Duration::from_secs(1));
        for key in [b"a", b"h", b"p"] {
            let copy = cluster.engines[&SECOND].get(Cf::Default, key).expect("readable");
            assert_eq!(copy.as_deref(), Some(&b"new"[..]));
        }
        assert_eq!(cluster.engines[&SECOND].list_sst().expect("readable"), Vec::<String>::new());
    });
}

/// The same without a restart: the files are lost under the running store.
#[test]
fn a_running_store_gives_up_a_peer_whose_snapshot_files_are_lost() {
    let mut cluster = Cluster::new(2, Config { snapshot_batch_bytes_max: 1, ..config() });
    cluster.until("a leader", |c| !c.regions.is_empty());
    cluster.put("a", "1");
    let learner = Peer::learner(PeerId(900), SECOND);
    cluster.held = vec![(SECOND, Actor::Background)];
    cluster.order(Step::AddLearner { peer: learner });
    cluster.until("the learner is a member", |c| c.region_of(b"").0.peer(learner.id).is_some());
    cluster.advance(Duration::from_secs(1));
    for name in cluster.engines[&SECOND].list_sst().expect("readable") {
        cluster.engines[&SECOND].remove_sst(&name).expect("it is there");
    }
    cluster.held.clear();
    cluster.advance(Duration::from_secs(1));
    let stats = cluster.stores[&SECOND].workers()[0].stats();
    assert_eq!((stats.peers_lost, stats.regions), (1, 0));
    // Its range is free again for the next peer.
    cluster.order(Step::RemoveLearner { peer_id: learner.id });
    cluster.until("it is removed", |c| c.region_of(b"").0.peer(learner.id).is_none());
    cluster.order(Step::AddLearner { peer: Peer::learner(PeerId(901), SECOND) });
    let engine = cluster.engines[&SECOND].clone();
    cluster.until("the data is there", |_| engine.get(Cf::Default, b"a").expect("readable").is_some());
}
