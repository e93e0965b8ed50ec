//! Things that meet at the wrong moment.

use super::*;

/// Sends a request to a store and lets it run its course; the answer comes later, under the token returned.
fn ask(cluster: &mut Cluster, store_id: StoreId, region: &Region, command: KvCommand, wait: Duration) -> u64 {
    cluster.next_token += 1;
    let token = cluster.next_token;
    let request = KvRequest { region_id: region.id, epoch: region.epoch, command };
    let deadline = cluster.clock.now() + wait;
    cluster.event(store_id, Event::Request { token, request, deadline });
    cluster.settle();
    token
}

fn write(key: &str, value: &str) -> KvCommand {
    let key = Bytes::copy_from_slice(key.as_bytes());
    KvCommand::Write { ops: vec![WriteOp::Put { key, value: value.to_owned().into() }] }
}

/// A leader proposed much that nobody heard, was deposed, and was elected again while those who asked still waited. Its
/// log was cut short meanwhile, so it proposed at the same indexes again; the answers to the new proposals were held back
/// by the old ones, and then told that the writes had not happened, although they had.
#[test]
fn a_leader_that_comes_back_answers_new_writes_at_indexes_of_old_ones() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    let (region, leader) = cluster.region_of(b"a");
    let old = leader.store_id;
    cluster.cut = vec![old];
    let wait = Duration::from_secs(600);
    let lost: Vec<u64> = (0..20)
        .map(|number| ask(&mut cluster, old, &region, write(&format!("lost{number}"), "x"), wait))
        .collect();
    cluster.until("another leader", |c| c.leader_of(b"a").store_id != old);
    cluster.cut.clear();
    cluster.advance(Duration::from_secs(1));
    let (region, _) = cluster.region_of(b"a");
    assert_eq!(cluster.call(b"a", KvCommand::TransferLeader { to_store: old }), Ok(KvReply::Started));
    cluster.until("the old leader leads again", |c| c.leader_of(b"a").store_id == old);
    for number in 0..30 {
        let key = format!("k{number}");
        let token = ask(&mut cluster, old, &region, write(&key, "v"), wait);
        cluster.advance(Duration::from_millis(50));
        assert_eq!(cluster.answers.get(&token), Some(&Ok(KvReply::Written)), "write {number}");
    }
    for token in lost {
        assert_eq!(cluster.answers.get(&token), Some(&Err(KvError::StaleCommand)));
    }
    assert_eq!(cluster.get("lost0"), None);
}

fn add_learner(cluster: &mut Cluster, peer: Peer) {
    cluster.order(Step::AddLearner { peer });
    cluster.until("the learner is a member", |c| c.region_of(b"").0.peer(peer.id).is_some());
}

/// A learner was removed while the files of its snapshot were being ingested. The removal deleted the records and gave
/// the range free; then the ingestion put data and a record back, without which no store could start again.
#[test]
fn a_peer_that_is_removed_amid_an_ingestion_is_cleared_away_after_it() {
    let config = Config { snapshot_batch_bytes_max: 1, ..config() };
    let mut cluster = Cluster::new(2, config);
    cluster.until("a leader", |c| !c.regions.is_empty());
    cluster.put("a", "1");
    let (second, learner) = (StoreId(4), Peer::learner(PeerId(900), StoreId(4)));
    cluster.held = vec![(second, Actor::Background)];
    add_learner(&mut cluster, learner);
    let files = |c: &Cluster| c.engines[&second].list_sst().expect("readable").len();
    cluster.until("the files are there", |c| files(c) > 0);
    cluster.advance(Duration::from_secs(1));
    cluster.order(Step::RemoveLearner { peer_id: learner.id });
    cluster.advance(Duration::from_secs(5));
    cluster.held.clear();
    cluster.advance(Duration::from_secs(5));
    let records = raftstore::all_regions(&cluster.engines[&second]).expect("readable");
    assert_eq!(records[0].0.state, raftstore::PeerState::Tombstone);
    assert_eq!(cluster.engines[&second].get(Cf::Default, b"a").expect("readable"), None);
    assert_eq!((files(&cluster), cluster.stores[&second].meta().region_count()), (0, 0));
    let leader = raftstore::all_regions(&cluster.engines[&StoreId(1)]).expect("readable");
    assert!(leader[0].0.removed.is_empty(), "the removal is confirmed");
    cluster.stores.remove(&second);
    cluster.start(second);
    cluster.advance(Duration::from_secs(1));
    // And the store can be used again.
    add_learner(&mut cluster, Peer::learner(PeerId(901), second));
    let engine = cluster.engines[&second].clone();
    cluster.until("the data is there", |_| engine.get(Cf::Default, b"a").expect("readable").is_some());
}

/// The same snapshot was sent twice, the second time while the files of the first were being ingested. They had the same
/// names, so clearing away the second took the files of the first.
#[test]
fn a_snapshot_that_comes_again_leaves_the_files_of_the_first_alone() {
    let config = Config { snapshot_batch_bytes_max: 1, ..config() };
    let mut cluster = Cluster::new(2, config);
    cluster.until("a leader", |c| !c.regions.is_empty());
    cluster.put("a", "1");
    let (second, learner) = (StoreId(4), Peer::learner(PeerId(900), StoreId(4)));
    cluster.held = vec![(second, Actor::Background)];
    add_learner(&mut cluster, learner);
    cluster.until("a snapshot was sent", |c| c.snapshots > 0);
    cluster.advance(Duration::from_secs(1));
    for piece in cluster.pieces.clone() {
        cluster.event(second, Event::Piece { reply_to: 0, piece });
    }
    cluster.held.clear();
    let engine = cluster.engines[&second].clone();
    cluster.until("the data is there", |_| engine.get(Cf::Default, b"a").expect("readable").is_some());
    cluster.advance(Duration::from_secs(1));
    assert_eq!(engine.list_sst().expect("readable"), Vec::<String>::new());
}

/// Two followers lagged behind the log's beginning at once. There was room for one snapshot, and each took away what
/// had been built for the other.
#[test]
fn two_followers_that_lag_behind_both_get_a_snapshot() {
    let mut config = config();
    config.raftstore.log_gc_entries_max = 10;
    config.raftstore.log_gc_interval = Duration::from_millis(200);
    let mut cluster = Cluster::new(5, config);
    cluster.replicate();
    let leader = cluster.leader_of(b"a").store_id;
    cluster.cut = cluster.stores.keys().copied().filter(|id| *id != leader).take(2).collect();
    for number in 0..40 {
        cluster.put(&format!("k{number}"), "v");
    }
    cluster.advance(Duration::from_secs(1));
    let behind = std::mem::take(&mut cluster.cut);
    cluster.until("both have the last key", |c| {
        behind.iter().all(|id| c.engines[id].get(Cf::Default, b"k39").expect("readable").is_some())
    });
}

/// PD could not be reached when a region had grown too large, and a person's split waited when another one was applied.
#[test]
fn a_split_that_gets_no_ids_is_answered_and_one_by_size_tried_again() {
    let mut config = config();
    config.raftstore.region_split_bytes = 1000;
    let mut cluster = Cluster::new(1, config);
    cluster.until("a leader", |c| !c.regions.is_empty());
    cluster.split_ids_refused = true;
    for number in 0..40 {
        cluster.put(&format!("k{number:03}"), &"x".repeat(100));
    }
    cluster.advance(Duration::from_secs(1));
    let (region, leader) = cluster.region_of(b"");
    let split = KvCommand::Split { keys: vec!["k010".into()] };
    let token = ask(&mut cluster, leader.store_id, &region, split, Duration::from_secs(5));
    cluster.advance(Duration::from_secs(1));
    assert!(matches!(cluster.answers.get(&token), Some(Err(KvError::ServerIsBusy { .. }))));
    assert_eq!(cluster.regions.len(), 1);
    cluster.split_ids_refused = false;
    cluster.until("several regions", |c| c.regions.len() >= 3);
}

/// The followers' disks were faster than the leader's, so that a split was committed long before the leader could hand
/// it out; it went on renewing its lease, while the pieces could elect other leaders.
#[test]
fn a_leader_with_a_slow_disk_does_not_renew_its_lease_over_a_split() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    cluster.put("a", "1");
    cluster.advance(Duration::from_secs(1));
    let (region, leader) = cluster.region_of(b"a");
    let leads = |c: &Cluster| {
        let delegate = c.stores[&leader.store_id].meta().delegate(region.id);
        delegate.is_some_and(|delegate| delegate.covers(c.clock.now()))
    };
    assert!(leads(&cluster));
    cluster.held_logs = vec![leader.store_id];
    let split = KvCommand::Split { keys: vec!["m".into()] };
    let token = ask(&mut cluster, leader.store_id, &region, split, Duration::from_secs(5));
    // Longer than a lease, shorter than what makes the store give up by itself.
    cluster.advance(Duration::from_millis(1200));
    assert!(!leads(&cluster));
    cluster.held_logs.clear();
    cluster.until("the split is answered", |c| c.answers.contains_key(&token));
    assert!(matches!(cluster.answers[&token], Ok(KvReply::Regions(_))));
    assert_eq!(cluster.get("a").as_deref(), Some("1"));
}

/// A peer was removed while its store could not be reached, and then a store took the lead that knew the region from a
/// snapshot only: it asked nobody whether that peer was gone, and so it stayed for ever.
#[test]
fn a_leader_that_came_by_a_snapshot_clears_away_peers_that_were_removed_before() {
    let mut cluster = Cluster::new(3, config());
    let (second, third) = (StoreId(4), StoreId(5));
    cluster.stores.remove(&third);
    cluster.replicate();
    cluster.put("a", "1");
    let (region, _) = cluster.region_of(b"a");
    let leaving = *region.peer_on(second).expect("a peer on each");
    cluster.order(Step::ChangeRoles { promote: Vec::new(), demote: vec![leaving.id] });
    cluster.until("it is a learner", |c| {
        c.region_of(b"a").0.peer(leaving.id).is_some_and(|p| p.role == types::PeerRole::Learner)
    });
    cluster.cut = vec![second];
    cluster.order(Step::RemoveLearner { peer_id: leaving.id });
    cluster.until("it is removed", |c| c.region_of(b"a").0.peer(leaving.id).is_none());
    cluster.start(third);
    cluster.replicate_to(third);
    assert_eq!(cluster.call(b"a", KvCommand::TransferLeader { to_store: third }), Ok(KvReply::Started));
    cluster.until("the newcomer leads", |c| c.leader_of(b"a").store_id == third);
    assert_eq!(cluster.stores[&second].meta().region_count(), 1);
    cluster.cut.clear();
    cluster.until("the peer is gone", |c| c.stores[&second].meta().region_count() == 0);
}

/// A peer was on its way out, and its range was given free before its data was deleted. A piece that had been cut off
/// elsewhere came by snapshot meanwhile, and the deletion took its data, too.
#[test]
fn a_range_stays_taken_until_the_data_of_its_removed_peer_is_deleted() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    cluster.put("a", "1");
    cluster.put("z", "1");
    let (parent, leader) = cluster.region_of(b"z");
    let away = *parent.peers.iter().find(|peer| peer.store_id != leader.store_id).expect("three peers");
    cluster.cut = vec![away.store_id];
    let split = KvCommand::Split { keys: vec!["m".into()] };
    assert!(matches!(cluster.call(b"a", split), Ok(KvReply::Regions(_))));
    cluster.until("PD knows both", |c| c.regions.len() == 2);
    let order = |cluster: &mut Cluster, step: Step| {
        let (region, _) = cluster.region_of(b"z");
        cluster.instructions.push(Instruction { region_id: region.id, epoch: region.epoch, step });
    };
    order(&mut cluster, Step::ChangeRoles { promote: Vec::new(), demote: vec![away.id] });
    cluster.until("it is a learner", |c| {
        c.region_of(b"z").0.peer(away.id).is_some_and(|p| p.role == types::PeerRole::Learner)
    });
    order(&mut cluster, Step::RemoveLearner { peer_id: away.id });
    cluster.until("it is removed", |c| c.region_of(b"z").0.peer(away.id).is_none());
    cluster.held = vec![(away.store_id, Actor::Applier(0))];
    cluster.cut.clear();
    cluster.advance(Duration::from_secs(5));
    cluster.held.clear();
    cluster.until("the piece is there, and the rest is not", |c| {
        let regions = c.stores[&away.store_id].meta().regions();
        regions.len() == 1 && regions[0].id != parent.id
    });
    cluster.advance(Duration::from_secs(1));
    let value = |key: &[u8]| cluster.engines[&away.store_id].get(Cf::Default, key).expect("readable");
    assert_eq!((value(b"a").as_deref(), value(b"z")), (Some(&b"1"[..]), None));
}

/// A peer was removed, and its store got another one of the region, which led before anybody had heard that the first was
/// gone. It asked its own store, and the question went to the network, where a store has no way to itself.
#[test]
fn a_leader_on_the_store_of_a_removed_peer_hears_from_itself_that_it_is_gone() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    cluster.put("a", "1");
    let second = StoreId(4);
    let (region, leader) = cluster.region_of(b"a");
    assert_ne!(leader.store_id, second);
    let leaving = *region.peer_on(second).expect("a peer on each");
    cluster.confirmations_lost = true;
    cluster.order(Step::ChangeRoles { promote: Vec::new(), demote: vec![leaving.id] });
    cluster.until("it is a learner", |c| {
        c.region_of(b"a").0.peer(leaving.id).is_some_and(|p| p.role == types::PeerRole::Learner)
    });
    cluster.order(Step::RemoveLearner { peer_id: leaving.id });
    cluster.until("it is gone", |c| {
        c.stores[&second].meta().region_count() == 0 && c.region_of(b"a").0.peer(leaving.id).is_none()
    });
    cluster.replicate_to(second);
    assert_eq!(cluster.call(b"a", KvCommand::TransferLeader { to_store: second }), Ok(KvReply::Started));
    cluster.until("the newcomer leads", |c| c.leader_of(b"a").store_id == second);
    let record = |c: &Cluster| {
        let records = raftstore::all_regions(&c.engines[&second]).expect("readable");
        records.into_iter().next().expect("one region").0
    };
    cluster.until("the removal is confirmed", |c| record(c).removed.is_empty());
    cluster.put("a", "2");
}

/// A leader's log had lost entries that a follower wanted. It asked for them again and again, at once and without end;
/// now its group stops with a reason, another peer takes over, and the rest of the store goes on.
#[test]
fn a_leader_that_cannot_read_its_log_stops_and_says_why() {
    let mut config = config();
    config.raftstore.entry_cache_bytes = 0;
    let mut cluster = Cluster::new(3, config);
    cluster.replicate();
    let (region, leader) = cluster.region_of(b"a");
    let cut = *cluster.stores.keys().find(|id| **id != leader.store_id).expect("three stores");
    cluster.cut = vec![cut];
    for number in 0..20 {
        cluster.put(&format!("k{number}"), "v");
    }
    cluster.advance(Duration::from_secs(1));
    let engine = cluster.engines[&leader.store_id].clone();
    let range = types::KeyRange::new(
        raft_log::keys::entry(region.id, types::LogIndex(0)).to_vec(),
        raft_log::keys::state(region.id).to_vec(),
    );
    let mut batch = engine::WriteBatch::new();
    batch.delete_range(Cf::Raft, &range.start, &range.end);
    engine.write(&batch).expect("the disk works");
    cluster.cut.clear();
    let poisoned = |c: &Cluster| c.stores[&leader.store_id].workers()[0].poisoned();
    cluster.until("the group stops", |c| !poisoned(c).is_empty());
    let (id, reason) = poisoned(&cluster).remove(0);
    assert!(id == region.id && reason.contains("is missing"), "{reason}");
    cluster.until("another leads", |c| c.leader_of(b"a").store_id != leader.store_id);
    assert_eq!(cluster.stores[&leader.store_id].workers()[0].stats().poisoned, 1);
    cluster.put("k0", "w");
    assert_eq!(cluster.get("k0").as_deref(), Some("w"));
}

/// A sender of a snapshot went silent in the middle of it, and its connection told nobody. What had come kept a place and
/// files, so that in the end no snapshot could come in at all.
#[test]
fn a_snapshot_of_which_nothing_more_comes_gives_its_place_and_files_back() {
    let config = Config {
        snapshot_batch_bytes_max: 1,
        snapshots_receiving_max: 1,
        snapshot_piece_bytes: 1,
        ..config()
    };
    let mut cluster = Cluster::new(2, config);
    cluster.until("a leader", |c| !c.regions.is_empty());
    for key in ["a", "b", "c"] {
        cluster.put(key, "1");
    }
    let (second, learner) = (StoreId(4), Peer::learner(PeerId(900), StoreId(4)));
    add_learner(&mut cluster, learner);
    let count = |c: &Cluster| c.stores[&second].meta().region_count();
    cluster.until("the snapshot is in place", |c| count(c) == 1);
    cluster.order(Step::RemoveLearner { peer_id: learner.id });
    cluster.until("it is gone", |c| count(c) == 0 && c.region_of(b"").0.peer(learner.id).is_none());
    let pieces = cluster.pieces.clone();
    assert!(pieces.len() >= 5, "several chunks: {pieces:?}");
    let taken = |c: &mut Cluster, piece: &SnapshotPiece| {
        let store = c.stores.get_mut(&second).expect("up");
        let before = store.take_effects();
        assert!(before.is_empty(), "it was idle");
        store.on_event(&c.clock, Event::Piece { reply_to: 0, piece: piece.clone() }).expect("the disk works");
        let refused = |effect: &Effect<MemEngine>| {
            matches!(effect, Effect::Verdict { verdict: SnapshotVerdict::Refused { .. }, .. })
        };
        !store.take_effects().iter().any(refused)
    };
    // Slow is not silent.
    for piece in &pieces {
        assert!(taken(&mut cluster, piece));
        cluster.advance(Duration::from_secs(50));
    }
    for piece in &pieces[..3] {
        assert!(taken(&mut cluster, piece));
    }
    cluster.advance(Duration::from_secs(61));
    add_learner(&mut cluster, Peer::learner(PeerId(901), second));
    cluster.until("another snapshot comes in", |c| count(c) == 1);
}

/// What a leader says that wants to know whether a removed peer is gone.
fn removed(region: &Region, peer: Peer, from: Peer) -> StoreMessage {
    let epoch = types::Epoch { conf_ver: region.epoch.conf_ver + 2, ..region.epoch };
    StoreMessage::Removed { region_id: region.id, peer, epoch, from }
}

fn tell(cluster: &mut Cluster, to: StoreId, from: StoreId, message: StoreMessage) {
    let event = Event::Messages { from, disk: wire::store::DiskState::Ok, messages: vec![message] };
    cluster.event(to, event);
    cluster.settle();
}

/// A store lagged behind a split when it was asked whether a piece's peer was gone, which it had never seen. It wrote a
/// tombstone, and before that had reached the disk the split was applied and made the peer.
#[test]
fn a_split_does_not_make_a_peer_whose_tombstone_is_on_its_way() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    for key in ["a", "z"] {
        cluster.put(key, "1");
    }
    cluster.advance(Duration::from_secs(1));
    let second = StoreId(4);
    cluster.held = vec![(second, Actor::Applier(0))];
    let split = KvCommand::Split { keys: vec!["m".into()] };
    assert!(matches!(cluster.call(b"a", split), Ok(KvReply::Regions(_))));
    cluster.until("PD knows both", |c| c.regions.len() == 2);
    cluster.advance(Duration::from_secs(1));
    let (region, leader) = cluster.region_of(b"a");
    let gone = *region.peer_on(second).expect("a peer on each");
    cluster.held_logs = vec![second];
    tell(&mut cluster, second, leader.store_id, removed(&region, gone, leader));
    cluster.held.clear();
    cluster.settle();
    cluster.held_logs.clear();
    cluster.settle();
    let record = raftstore::region_record(&cluster.engines[&second], region.id).expect("readable");
    assert_eq!(record.map(|record| record.state), Some(raftstore::PeerState::Tombstone));
    let regions = cluster.stores[&second].meta().regions();
    assert!(regions.iter().all(|other| other.id != region.id), "it lives: {regions:?}");
    let value = |key: &[u8]| cluster.engines[&second].get(Cf::Default, key).expect("readable");
    assert_eq!((value(b"a"), value(b"z").as_deref()), (None, Some(&b"1"[..])));
}

/// A learner was removed while its first snapshot was on its way. Its store said that the learner had never come, and
/// while the tombstone was being written the snapshot arrived and brought it to life.
#[test]
fn a_snapshot_does_not_make_a_peer_whose_tombstone_is_on_its_way() {
    let mut cluster = Cluster::new(2, config());
    cluster.until("a leader", |c| !c.regions.is_empty());
    cluster.put("a", "1");
    let (second, learner) = (StoreId(4), Peer::learner(PeerId(900), StoreId(4)));
    add_learner(&mut cluster, learner);
    cluster.until("a snapshot was sent", |c| c.snapshots > 0);
    let (region, leader) = cluster.region_of(b"a");
    // The store as it was before any of it, and alone with what comes by hand.
    cluster.cut = vec![second];
    cluster.stores.remove(&second);
    cluster.engines.insert(second, MemEngine::new());
    cluster.start(second);
    cluster.held_logs = vec![second];
    tell(&mut cluster, second, leader.store_id, removed(&region, learner, leader));
    for piece in cluster.pieces.clone() {
        cluster.event(second, Event::Piece { reply_to: 0, piece });
    }
    cluster.settle();
    cluster.held_logs.clear();
    cluster.advance(Duration::from_secs(1));
    let record = raftstore::region_record(&cluster.engines[&second], region.id).expect("readable");
    assert_eq!(record.map(|record| record.state), Some(raftstore::PeerState::Tombstone));
    assert_eq!(cluster.stores[&second].meta().region_count(), 0);
    assert_eq!(cluster.engines[&second].get(Cf::Default, b"a").expect("readable"), None);
}

/// PD heard of a region's size with the next regular heartbeat, ten seconds late: after a restart it was none, and after a
/// split that of the parent, or no keys at all.
#[test]
fn sizes_are_known_soon_after_a_split_and_after_a_restart() {
    let mut config = config();
    config.raftstore.region_heartbeat_interval = Duration::from_secs(600);
    let mut cluster = Cluster::new(1, config);
    cluster.until("a leader", |c| !c.regions.is_empty());
    for number in 0..40 {
        cluster.put(&format!("k{number:02}"), "1234567");
    }
    let split = KvCommand::Split { keys: vec!["k10".into(), "k30".into()] };
    assert!(matches!(cluster.call(b"k00", split), Ok(KvReply::Regions(_))));
    let sizes = |c: &Cluster| -> Vec<(u64, u64)> {
        let mut regions: Vec<_> = c.regions.values().collect();
        regions.sort_by_key(|heartbeat| heartbeat.region.range.start.clone());
        regions.iter().map(|heartbeat| (heartbeat.keys, heartbeat.size_bytes)).collect()
    };
    cluster.advance(Duration::from_millis(500));
    assert_eq!(sizes(&cluster), [(10, 100), (20, 200), (10, 100)]);
    cluster.crash(StoreId(1));
    cluster.regions.clear();
    cluster.start(StoreId(1));
    cluster.advance(Duration::from_millis(500));
    assert_eq!(sizes(&cluster), [(10, 100), (20, 200), (10, 100)]);
}

/// A leader whose log makes no progress must not keep others from taking over by its heartbeats: once a maximum election
/// timeout has passed it says nothing, takes on nothing, and tells PD; when the log goes on, so does the store.
#[test]
fn a_leader_whose_log_is_stuck_falls_silent_and_is_replaced() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    cluster.put("a", "1");
    let (region, leader) = cluster.region_of(b"a");
    let stuck = leader.store_id;
    cluster.held_logs = vec![stuck];
    let wait = Duration::from_secs(600);
    let parting = ask(&mut cluster, stuck, &region, write("a", "2"), wait);
    let stall = cluster.config.raftstore.election_timeout_max();
    cluster.advance(stall - Duration::from_millis(100));
    assert_eq!(cluster.leader_of(b"a").store_id, stuck, "slow is not stuck");
    cluster.advance(Duration::from_millis(200));
    let sent = cluster.sent[&stuck];
    // Until its lease is over it may read what it has.
    cluster.advance(cluster.config.raftstore.lease);
    for command in [write("b", "1"), KvCommand::Get { key: "a".into() }] {
        let token = ask(&mut cluster, stuck, &region, command, wait);
        cluster.advance(Duration::from_millis(20));
        let answer = cluster.answers.get(&token);
        let reason = wire::kv::BusyReason::SlowDisk;
        assert!(
            matches!(answer, Some(Err(KvError::ServerIsBusy { reason: told, .. })) if *told == reason),
            "{answer:?}"
        );
    }
    cluster.until("another leads", |c| c.leader_of(b"a").store_id != stuck);
    assert_eq!(cluster.sent[&stuck], sent, "it said something");
    cluster.put("c", "1");
    assert!(!cluster.answers.contains_key(&parting), "it cannot know");
    cluster.until("PD knows", |c| c.slow.contains(&stuck));
    cluster.held_logs.clear();
    cluster
        .until("it has caught up", |c| c.engines[&stuck].get(Cf::Default, b"c").expect("readable").is_some());
    // It was on a quorum before the leader fell silent, and nobody overwrote it.
    assert_eq!(cluster.answers.get(&parting), Some(&Ok(KvReply::Written)));
    assert_eq!(cluster.get("a").as_deref(), Some("2"));
}

/// Every region was visited at every tick, ten times a second, whether or not anything could be due.
#[test]
fn idle_regions_are_visited_when_something_is_due_and_stay_healthy() {
    let mut config = config();
    config.raftstore.region_heartbeat_interval = Duration::from_secs(10);
    config.raftstore.hibernate_after = Duration::ZERO;
    let mut cluster = Cluster::new(3, config);
    cluster.replicate();
    let keys = (1..50).map(|number| types::Key::from(format!("k{number:02}"))).collect();
    assert!(matches!(cluster.call(b"k50", KvCommand::Split { keys }), Ok(KvReply::Regions(_))));
    cluster.until("all regions are led", |c| c.regions.len() == 50);
    cluster.advance(Duration::from_secs(3));
    let stats = |c: &Cluster, id: StoreId| c.stores[&id].workers()[0].stats();
    let ids: Vec<StoreId> = cluster.stores.keys().copied().collect();
    let before: Vec<_> = ids.iter().map(|id| stats(&cluster, *id)).collect();
    cluster.advance(Duration::from_secs(10));
    for (id, before) in ids.iter().zip(before) {
        let now = stats(&cluster, *id);
        assert_eq!((now.regions, now.leaderless, now.raft.elections_won), (50, 0, before.raft.elections_won));
        // A leader at each of its heartbeats; a follower no more often than it would have to campaign.
        let most = now.leaders * 55 + (50 - now.leaders) * 12;
        let visits = now.visits - before.visits;
        assert!(visits <= most, "store {id} with {} leaders: {visits} visits", now.leaders);
        // What groups do is counted for all of them together: each leader tells both others every 200 ms.
        let heartbeats = now.raft.heartbeats_sent - before.raft.heartbeats_sent;
        let rounds = now.leaders * 49..=now.leaders * 51;
        assert!(rounds.contains(&(heartbeats / 2)), "{heartbeats} heartbeats of {} leaders", now.leaders);
        assert_eq!(now.raft.proposals - before.raft.proposals, now.proposals - before.proposals);
        assert_eq!(now.raft.messages_invalid, 0);
    }
    assert_eq!(ids.iter().map(|id| stats(&cluster, *id).leaders).sum::<u64>(), 50);
}

/// Every region kept its last entries in memory for ever, up to megabytes of them, and most regions are quiet.
#[test]
fn a_region_that_goes_quiet_gives_its_memory_back() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    for number in 0..20 {
        cluster.put(&format!("k{number}"), &"v".repeat(1000));
    }
    let cached = |c: &Cluster| c.stores.values().map(|s| s.workers()[0].cached_bytes()).collect::<Vec<_>>();
    assert!(cached(&cluster).iter().all(|bytes| *bytes > 10_000), "{:?}", cached(&cluster));
    cluster.advance(Duration::from_secs(9));
    assert_eq!(cached(&cluster), [0, 0, 0]);
    cluster.put("k", "v");
    assert!(cached(&cluster).iter().all(|bytes| (1..1000).contains(bytes)), "{:?}", cached(&cluster));
}
