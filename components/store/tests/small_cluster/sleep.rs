//! Regions that sleep: what they cost, and that nobody waits for them for long.

use super::{Cluster, config};
use raftstore::WorkerStats;
use std::time::Duration;
use store::{Config, Event};
use types::{Key, Peer, StoreId};
use wire::kv::{KvCommand, KvReply, KvRequest, WriteOp};
use wire::pd::Step;
use wire::store::StoreMessage;

fn sleepy() -> Config {
    let mut config = config();
    config.raftstore.hibernate_after = Duration::from_secs(1);
    config.raftstore.region_heartbeat_interval = Duration::from_secs(10);
    config
}

/// The minimum election timeout.
fn timeout(cluster: &Cluster) -> Duration {
    cluster.config.raftstore.election_timeout_min()
}

fn stats(cluster: &Cluster, id: StoreId) -> WorkerStats {
    let mut sum = WorkerStats::default();
    let workers = cluster.stores.get(&id).map(|store| store.workers()).unwrap_or_default();
    workers.iter().for_each(|worker| sum.add(&worker.stats()));
    sum
}

fn total(cluster: &Cluster) -> WorkerStats {
    let mut sum = WorkerStats::default();
    cluster.stores.keys().for_each(|id| sum.add(&stats(cluster, *id)));
    sum
}

fn key(number: usize) -> Key {
    Key::from(format!("k{number:03}"))
}

/// Three stores with so many regions, all of them asleep, and a leader for each on the store that PD knows.
fn asleep(regions: usize, config: Config) -> Cluster {
    let mut cluster = Cluster::new(3, config);
    cluster.replicate();
    if regions > 1 {
        let keys = (1..regions).map(key).collect();
        assert!(matches!(cluster.call(b"k", KvCommand::Split { keys }), Ok(KvReply::Regions(_))));
    }
    cluster.until("all regions are known", |c| c.regions.len() == regions);
    fall_asleep(&mut cluster);
    cluster
}

fn fall_asleep(cluster: &mut Cluster) {
    cluster.until("all peers sleep", |c| total(c).hibernated == total(c).regions);
}

#[test]
fn idle_regions_sleep_and_only_their_stores_speak() {
    let mut cluster = asleep(50, sleepy());
    let (before, sent) = (total(&cluster), cluster.sent.clone());
    cluster.regions.clear();
    cluster.advance(Duration::from_secs(20));
    let now = total(&cluster);
    assert_eq!((now.regions, now.hibernated, now.leaders, now.leaderless), (150, 150, 50, 0));
    assert_eq!(now.raft, before.raft, "no group did anything");
    // The store that leads the pieces as it led the whole has a word for each of the two others, five times a second; these
    // have one for that store, and none for each other.
    for (id, count) in &cluster.sent {
        let said = count - sent.get(id).copied().unwrap_or(0);
        let words = if stats(&cluster, *id).leaders == 50 { 195..=205 } else { 95..=105 };
        assert!(words.contains(&said), "store {id} said {said}");
    }
    // PD is told as often as of any other region, and of nobody that he is down.
    assert_eq!(cluster.regions.len(), 50);
    assert!(cluster.regions.values().all(|heartbeat| heartbeat.down_peers.is_empty()));
    assert!(now.visits - before.visits <= 50 * 3, "{} visits", now.visits - before.visits);
}

#[test]
fn whoever_comes_to_a_region_that_sleeps_is_served_by_its_leader_at_once() {
    let mut cluster = asleep(3, sleepy());
    let before = total(&cluster);
    assert_eq!(cluster.get("k000"), None);
    cluster.put("k001", "1");
    assert_eq!(cluster.get("k001").as_deref(), Some("1"));
    // The third one has nothing to do with it.
    let now = total(&cluster);
    assert_eq!((now.hibernated, now.raft.elections_won), (3, before.raft.elections_won));
    assert_eq!(now.raft.pre_campaigns, before.raft.pre_campaigns);
    fall_asleep(&mut cluster);
    for engine in cluster.engines.values() {
        use engine::Engine as _;
        assert!(engine.get(engine::Cf::Default, b"k001").expect("readable").is_some());
    }
}

/// tikv#16429: a leader that was cut off while its region slept was missed by nobody, for minutes.
#[test]
fn a_leader_that_is_lost_while_all_sleep_is_replaced_in_time() {
    for cut in [false, true] {
        let mut cluster = asleep(40, sleepy());
        let lost = cluster.leader_of(b"k").store_id;
        let led = stats(&cluster, lost).leaders;
        match cut {
            true => cluster.cut = vec![lost],
            false => cluster.crash(lost),
        }
        let others: Vec<StoreId> = cluster.stores.keys().copied().filter(|id| *id != lost).collect();
        let leaders = |c: &Cluster| others.iter().map(|id| stats(c, *id).leaders).sum::<u64>();
        assert!(led > 0 && leaders(&cluster) < 40);
        let begun = cluster.clock_now();
        cluster.until("others lead", |c| leaders(c) == 40);
        let took = cluster.clock_now().since(begun);
        assert!(took <= timeout(&cluster) * 3, "{took:?}, cut off: {cut}");
        cluster.put("k", "1");
        // tikv#14574: nobody sleeps while a member is missing.
        cluster.advance(Duration::from_secs(5));
        assert!(others.iter().all(|id| stats(&cluster, *id).hibernated == 0));
        match cut {
            true => cluster.cut.clear(),
            false => cluster.start(lost),
        }
        fall_asleep(&mut cluster);
        assert_eq!(cluster.get("k").as_deref(), Some("1"));
    }
}

#[test]
fn a_store_that_restarts_finds_its_leaders_without_an_election() {
    let mut cluster = asleep(20, sleepy());
    let leader = cluster.leader_of(b"k").store_id;
    let restarted = *cluster.stores.keys().find(|id| **id != leader).expect("three stores");
    let kept: u64 = total(&cluster).leaders - stats(&cluster, restarted).leaders;
    cluster.crash(restarted);
    cluster.start(restarted);
    let before = total(&cluster).raft.elections_won;
    cluster.advance(timeout(&cluster) * 4);
    let won = total(&cluster).raft.elections_won - before;
    assert_eq!(won, 20 - kept, "only what it led itself needed new leaders");
    fall_asleep(&mut cluster);
}

#[test]
fn nobody_sleeps_who_was_told_not_to() {
    let mut config = sleepy();
    config.raftstore.hibernate_after = Duration::ZERO;
    let mut cluster = Cluster::new(3, config);
    cluster.replicate();
    cluster.advance(Duration::from_secs(30));
    assert_eq!(total(&cluster).hibernated, 0);
}

/// Reads under a lease pass the worker by, and would have seemed to be silence.
#[test]
fn a_region_that_is_read_does_not_sleep() {
    let mut cluster = asleep(1, sleepy());
    cluster.put("k", "1");
    for _ in 0..20 {
        let rounds = total(&cluster).read_index;
        cluster.advance(Duration::from_millis(400));
        assert_eq!(cluster.get("k").as_deref(), Some("1"));
        assert_eq!(total(&cluster).read_index, rounds, "the lease is there");
    }
    fall_asleep(&mut cluster);
}

#[test]
fn a_region_of_one_peer_sleeps_and_serves() {
    let mut cluster = Cluster::new(1, sleepy());
    cluster.until("a leader", |c| !c.regions.is_empty());
    cluster.put("a", "1");
    fall_asleep(&mut cluster);
    assert_eq!(cluster.get("a").as_deref(), Some("1"));
    assert_eq!(total(&cluster).hibernated, 0);
    fall_asleep(&mut cluster);
    cluster.put("a", "2");
    assert_eq!(cluster.get("a").as_deref(), Some("2"));
}

/// An agreement to sleep that came twice made a leader which slept take its lease up again, and forget that a store on
/// which it relied was about to be missed.
#[test]
fn a_sleeper_is_not_moved_by_what_comes_twice() {
    let mut cluster = asleep(1, sleepy());
    let (region, leader) = cluster.region_of(b"k");
    let others: Vec<types::Peer> = region.peers.iter().copied().filter(|peer| *peer != leader).collect();
    let twice = |cluster: &mut Cluster| {
        for attempt in 0..5 {
            let (region_id, from, to) = (region.id, others[0], leader);
            let message = StoreMessage::SleepAgreed { region_id, from, to, attempt };
            let disk = wire::store::DiskState::Ok;
            let messages = vec![message];
            cluster.event(leader.store_id, Event::Messages { from: from.store_id, disk, messages });
        }
    };
    twice(&mut cluster);
    cluster.settle();
    assert_eq!(total(&cluster).hibernated, 3);
    assert!(cluster.stores[&leader.store_id].meta().delegate(region.id).is_none());
    cluster.crash(others[1].store_id);
    for _ in 0..100 {
        cluster.advance(Duration::from_millis(20));
        twice(&mut cluster);
    }
    assert_eq!(stats(&cluster, leader.store_id).hibernated, 0, "a member is missing");
}

fn to_store(cluster: &mut Cluster, from: StoreId, to: StoreId, message: StoreMessage) {
    let disk = wire::store::DiskState::Ok;
    cluster.event(to, Event::Messages { from, disk, messages: vec![message] });
}

fn ask(cluster: &mut Cluster, at: StoreId, command: KvCommand) {
    let (region, _) = cluster.region_of(b"k");
    cluster.next_token += 1;
    let token = cluster.next_token;
    let request = KvRequest { region_id: region.id, epoch: region.epoch, command };
    let deadline = cluster.clock_now() + Duration::from_secs(5);
    cluster.event(at, Event::Request { token, request, deadline });
}

/// tikv#16368, tikv#16408, tikv#18916: reasons to wake were ignored in some states.
#[test]
fn every_reason_to_wake_wakes_all_and_deposes_nobody() {
    type Reason = fn(&mut Cluster, Peer, Peer);
    let reasons: [(&str, Reason); 6] = [
        ("a read at the leader", |c, leader, _| ask(c, leader.store_id, KvCommand::Get { key: "k".into() })),
        ("a write at the leader", |c, leader, _| {
            let ops = vec![WriteOp::Put { key: "k".into(), value: "v".into() }];
            ask(c, leader.store_id, KvCommand::Write { ops });
        }),
        ("a read at a follower", |c, _, follower| {
            ask(c, follower.store_id, KvCommand::Get { key: "k".into() });
        }),
        ("a request for the leader that there is", |c, leader, _| {
            ask(c, leader.store_id, KvCommand::TransferLeader { to_store: leader.store_id });
        }),
        ("an order of the placement driver", |c, leader, _| c.order(Step::TransferLeader { to: leader })),
        ("a follower that was disturbed", |c, leader, follower| {
            let region_id = c.region_of(b"k").0.id;
            to_store(c, follower.store_id, leader.store_id, StoreMessage::Wake { region_id, to: leader });
        }),
    ];
    let mut cluster = asleep(1, sleepy());
    for (what, reason) in reasons {
        let (region, leader) = cluster.region_of(b"k");
        let follower = *region.peers.iter().find(|peer| **peer != leader).expect("three peers");
        let before = total(&cluster);
        reason(&mut cluster, leader, follower);
        // Orders come with the answer to a report.
        cluster.until(what, |c| total(c).hibernated < 3);
        cluster.advance(Duration::from_millis(300));
        assert_eq!(total(&cluster).hibernated, 0, "{what}");
        fall_asleep(&mut cluster);
        let now = total(&cluster);
        assert_eq!(now.raft.elections_won, before.raft.elections_won, "{what}");
        assert_eq!(now.leaderless, 0, "{what}");
    }
}

/// A leader that was asleep looked healthy while its disk was stuck: nothing was pending.
#[test]
fn a_sleeper_whose_log_is_stuck_is_replaced_once_it_is_needed() {
    let mut cluster = asleep(1, sleepy());
    let stuck = cluster.leader_of(b"k").store_id;
    cluster.held_logs = vec![stuck];
    cluster.advance(Duration::from_secs(5));
    assert_eq!(total(&cluster).hibernated, 3, "nobody wants anything");
    let ops = vec![WriteOp::Put { key: "k".into(), value: "v".into() }];
    ask(&mut cluster, stuck, KvCommand::Write { ops });
    cluster.until("another leads", |c| c.leader_of(b"k").store_id != stuck);
    cluster.put("k", "w");
    cluster.held_logs.clear();
    fall_asleep(&mut cluster);
    assert_eq!(cluster.get("k").as_deref(), Some("w"));
}

/// A store that stops hands over its leaders, which it knows by their leases; those of regions that sleep have none.
#[test]
fn a_store_that_is_about_to_stop_wakes_its_leaders_and_keeps_them_awake() {
    let mut cluster = asleep(20, sleepy());
    let stopping = cluster.leader_of(b"k").store_id;
    cluster.event(stopping, Event::StayAwake);
    cluster.advance(Duration::from_millis(100));
    let store = &cluster.stores[&stopping];
    let leases = store.meta().regions().iter().filter(|r| store.meta().delegate(r.id).is_some()).count();
    assert_eq!(leases as u64, stats(&cluster, stopping).leaders);
    cluster.advance(Duration::from_secs(5));
    assert_eq!(stats(&cluster, stopping).hibernated, 0);
    assert_eq!(stats(&cluster, stopping).leaders, leases as u64, "nobody has missed them");
}
