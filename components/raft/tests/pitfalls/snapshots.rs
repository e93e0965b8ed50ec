//! Snapshots: when they are sent, when they are taken, and how to get out of waiting for one.

use crate::kit::{
    ELECTION_TICK, Peer, append, change, change_entry, config, entries, id, peer, snapshot, storage, stored,
    to,
};
use bytes::Bytes;
use raft::{
    Body, ConfChangeKind, ConfState, Config, EntryId, HardState, MemStorage, ProgressState, Reject, StepError,
};
use types::{LogIndex, PeerId, Term};

/// A leader in term 2 whose log begins at index 4, with an empty peer 2 that has answered.
fn leader_of_a_newcomer() -> Peer {
    let mut storage = storage(3, &[1, 1, 1, 1], 1);
    storage.set_hard_state(HardState { term: Term(1), commit: LogIndex(4), ..HardState::default() });
    storage.compact(LogIndex(4), Bytes::from_static(b"all four"));
    let config = Config { applied: LogIndex(4), ..config(1) };
    let mut peer = Peer::leader(&config, storage);
    let reject = Some(Reject { rejected: LogIndex(4), hint: EntryId::default() });
    peer.step(2, 2, Body::AppendResp { index: LogIndex(0), commit: LogIndex(0), reject });
    peer
}

fn snapshots(messages: &[raft::Message], to_peer: u64) -> usize {
    to(messages, to_peer).iter().filter(|body| matches!(body, Body::Snapshot { .. })).count()
}

#[test]
fn an_empty_peer_gets_a_snapshot_from_a_purged_log() {
    // openraft afd6508b: with nothing left in its log, a leader probed an empty follower for ever.
    let mut peer = leader_of_a_newcomer();
    peer.node.count_into(Box::default());
    assert_eq!(snapshots(&peer.settle(), 2), 1);
    let counted = peer.node.take_counters().expect("was lent");
    assert_eq!((counted.snapshots_asked, counted.snapshots_sent), (1, 1));
    assert_eq!(peer.progress(2).state, ProgressState::Snapshot { index: LogIndex(4) });
    assert!(to(&peer.settle(), 2).is_empty(), "nothing else is sent meanwhile");
    peer.step(2, 2, stored(4));
    assert_eq!(peer.progress(2).state, ProgressState::Replicate);
    let messages = peer.settle();
    assert!(matches!(to(&messages, 2)[..], [Body::Append { prev, .. }] if *prev == id(1, 4)), "{messages:?}");
}

#[test]
fn nobody_builds_snapshots_for_the_dead() {
    // etcd#3778, etcd#3292: a snapshot was built every second for a peer that did not answer.
    let mut peer = leader_of_a_newcomer();
    peer.node.storage_mut().set_snapshot_unavailable(true);
    assert_eq!(snapshots(&peer.settle(), 2), 0);
    peer.node.storage_mut().set_snapshot_unavailable(false);
    // Its answer to a heartbeat is what makes us try again...
    peer.step(2, 2, Body::HeartbeatResp { commit: LogIndex(0), round: 1 });
    assert_eq!(snapshots(&peer.settle(), 2), 1);
    peer.node.report_snapshot(PeerId(2), false);
    // ...and without one there is none.
    for _ in 0..3 * ELECTION_TICK {
        peer.node.tick();
        peer.step(3, 2, Body::HeartbeatResp { commit: LogIndex(0), round: 1 });
        assert_eq!(snapshots(&peer.settle(), 2), 0);
    }
}

#[test]
fn every_way_out_of_waiting_for_a_snapshot_works() {
    // etcd#10225, dgraph#2707, tikv#14267: the receiver died or its word was lost, and the leader waited for ever.
    let waiting = || {
        let mut peer = leader_of_a_newcomer();
        peer.settle();
        assert!(matches!(peer.progress(2).state, ProgressState::Snapshot { .. }));
        peer
    };
    let heartbeat = |commit| Body::HeartbeatResp { commit: LogIndex(commit), round: 1 };

    let mut peer = waiting();
    peer.node.report_snapshot(PeerId(2), true);
    assert_eq!((peer.progress(2).state, peer.progress(2).next), (ProgressState::Probe, LogIndex(5)));
    assert!(to(&peer.settle(), 2).is_empty(), "its acknowledgement is on the way");
    peer.step(2, 2, heartbeat(4));
    assert_eq!(to(&peer.settle(), 2).len(), 1);

    let mut peer = waiting();
    peer.node.report_snapshot(PeerId(2), false);
    assert_eq!(snapshots(&peer.settle(), 2), 0, "not in the same breath");
    peer.step(2, 2, heartbeat(0));
    assert_eq!(snapshots(&peer.settle(), 2), 1);

    let mut peer = waiting();
    peer.node.report_unreachable(PeerId(2));
    peer.step(2, 2, heartbeat(0));
    assert_eq!(snapshots(&peer.settle(), 2), 1);

    // Its acknowledgement was lost, but it speaks of what it has committed.
    let mut peer = waiting();
    peer.step(2, 2, heartbeat(4));
    assert_eq!(peer.progress(2).state, ProgressState::Probe);

    // Nobody reports anything: after a very long time we try again.
    let mut peer = waiting();
    let mut again = 0;
    for _ in 0..31 * ELECTION_TICK {
        peer.node.tick();
        peer.step(2, 2, heartbeat(0));
        again += snapshots(&peer.settle(), 2);
    }
    assert_eq!(again, 1);
}

#[test]
fn a_snapshot_overtaken_by_compaction_is_followed_by_another() {
    // Found by our simulation: the peer took the snapshot it was sent, but the log had moved beyond it, and the leader
    // went on waiting for the snapshot that had long arrived.
    let mut peer = leader_of_a_newcomer();
    peer.settle();
    peer.step(3, 2, stored(5));
    peer.settle();
    peer.node.storage_mut().compact(LogIndex(5), Bytes::from_static(b"all five"));
    peer.step(2, 2, stored(4));
    assert_eq!(snapshots(&peer.settle(), 2), 1);
    assert_eq!(peer.progress(2).state, ProgressState::Snapshot { index: LogIndex(5) });
}

#[test]
fn a_snapshot_from_before_the_peer_was_a_member_is_not_sent() {
    // Found by our simulation: the receiver ignores a snapshot that does not name it, so it was sent again and again.
    let mut peer = leader_of_a_newcomer();
    let before = peer.node.storage().base().clone();
    let conf = ConfState { learners: vec![PeerId(9)], ..ConfState::of_voters((1..=3).map(PeerId)) };
    peer.settle();
    peer.step(3, 2, stored(5));
    peer.settle();
    peer.node.propose_conf_change(change(&[(ConfChangeKind::AddLearner, 9)])).expect("a quorum is near");
    peer.settle();
    peer.step(3, 2, stored(6));
    peer.settle();
    assert_eq!(peer.node.conf_state(), &conf);
    let reject = Some(Reject { rejected: LogIndex(6), hint: EntryId::default() });
    peer.step(9, 2, Body::AppendResp { index: LogIndex(0), commit: LogIndex(0), reject });
    let messages = peer.settle();
    assert_eq!((snapshots(&messages, 9), peer.node.storage().base()), (0, &before));
    peer.node.storage_mut().set_conf_state(conf);
    peer.node.storage_mut().compact(LogIndex(6), Bytes::from_static(b"with the ninth"));
    peer.step(9, 2, Body::HeartbeatResp { commit: LogIndex(0), round: 1 });
    assert_eq!(snapshots(&peer.settle(), 9), 1);
}

#[test]
fn a_snapshot_that_brings_nothing_is_answered_and_dropped() {
    // RedisLabs/raft#49, figure 13 of the Raft paper: an old snapshot threw away a longer log.
    let mut storage = storage(3, &[1, 1, 1, 1], 1);
    storage.set_hard_state(HardState { term: Term(1), commit: LogIndex(2), ..HardState::default() });
    let mut peer = Peer::start(&config(1), storage);
    for (index, committed) in [(2, 2), (3, 3)] {
        peer.step(2, 1, Body::Snapshot { snapshot: Box::new(snapshot(id(1, index), 3)) });
        let ready = peer.ready();
        assert!(ready.append.is_none_or(|append| append.snapshot.is_none()), "at {index}");
        let answer =
            Body::AppendResp { index: LogIndex(committed), commit: LogIndex(committed), reject: None };
        assert_eq!(*to(&ready.messages_after, 2)[0], answer);
        assert_eq!(peer.node.status().last, id(1, 4), "the entries behind it stay");
        peer.persist();
    }
    // openraft#1892: the same index with another term is damage, here or there.
    let other = peer.try_step(2, 3, Body::Snapshot { snapshot: Box::new(snapshot(id(2, 2), 3)) });
    assert!(matches!(other, Err(StepError::Poisoned { .. })), "{other:?}");
}

#[test]
fn a_snapshot_for_others_is_ignored() {
    let mut peer = peer(9, 3);
    peer.step(1, 2, Body::Snapshot { snapshot: Box::new(snapshot(id(2, 7), 3)) });
    assert!(peer.settle().is_empty());
    assert_eq!((peer.node.status().last, peer.term()), (EntryId::default(), 2));
}

#[test]
fn a_snapshot_replaces_members_that_were_never_committed() {
    // openraft#1808: an uncommitted change with a higher index survived the snapshot; quorums no longer met.
    let mut peer = peer(1, 3);
    let learner = change_entry(id(1, 1), &change(&[(ConfChangeKind::AddLearner, 8)]));
    peer.step(2, 1, append(EntryId::default(), [vec![learner], entries(2, &[1, 1])].concat(), 0));
    peer.settle();
    peer.step(3, 4, Body::Snapshot { snapshot: Box::new(snapshot(id(3, 2), 4)) });
    peer.settle();
    assert_eq!(peer.node.conf_state(), &ConfState::of_voters((1..=4).map(PeerId)));
    assert_eq!(peer.node.status().last, id(3, 2));
    assert_eq!(peer.stored_terms(), Vec::<u64>::new());
}

#[test]
fn members_of_a_snapshot_count_from_when_it_is_installed() {
    // tikv#6344, etcd#11510, and our simulation: a change from before the snapshot, applied late, was applied to the
    // snapshot's members. Until the snapshot is installed, ours are those of what is applied.
    let mut peer = peer(1, 3);
    let learner = change(&[(ConfChangeKind::AddLearner, 4)]);
    peer.step(2, 1, append(EntryId::default(), vec![change_entry(id(1, 1), &learner)], 1));
    let _ = peer.ready();
    peer.persist();
    let committed = peer.ready().committed;
    assert_eq!(committed.len(), 1);
    let mut later = snapshot(id(1, 5), 3);
    later.meta.conf_state.learners = vec![PeerId(4), PeerId(5)];
    let conf = later.meta.conf_state.clone();
    peer.step(2, 1, Body::Snapshot { snapshot: Box::new(later) });
    let _ = peer.ready();
    peer.persist();
    assert!(!peer.node.promotable());
    assert!(peer.node.apply_conf_change(&learner).is_ok(), "on the members from before");
    peer.node.on_applied(LogIndex(1));
    assert_eq!(peer.node.conf_state().learners, [PeerId(4)]);
    peer.node.on_applied(LogIndex(5));
    assert_eq!(peer.node.conf_state(), &conf);
    assert!(peer.node.promotable());
}

#[test]
fn a_leader_of_another_snapshot_takes_what_reconnects() {
    // etcd-io/raft#110: the follower had caught up by another snapshot than the one that was waited for.
    let mut peer = leader_of_a_newcomer();
    peer.settle();
    peer.step(3, 2, stored(5));
    peer.settle();
    peer.step(2, 2, stored(5));
    assert_eq!((peer.progress(2).state, peer.progress(2).matched), (ProgressState::Replicate, LogIndex(5)));
}

#[test]
fn a_fresh_peer_lives_through_its_snapshot() {
    let mut peer = Peer::start(&config(3), MemStorage::default());
    peer.step(1, 2, append(id(2, 9), entries(10, &[2]), 10));
    let messages = peer.settle();
    let Body::AppendResp { reject: Some(reject), .. } = to(&messages, 1)[0] else { panic!("{messages:?}") };
    assert_eq!((reject.rejected, reject.hint), (LogIndex(9), EntryId::default()));
    peer.step(1, 2, Body::Snapshot { snapshot: Box::new(snapshot(id(2, 9), 3)) });
    peer.settle();
    peer.step(1, 2, append(id(2, 9), entries(10, &[2]), 10));
    peer.settle();
    let status = peer.node.status();
    assert_eq!((status.applied, status.persisted, status.last), (LogIndex(10), LogIndex(10), id(2, 10)));
    assert!(peer.node.promotable());
}

#[test]
fn a_snapshot_speaks_for_the_leader_of_its_term_alone() {
    // cockroach#127348: whoever sent a snapshot was taken for the leader. Here it is the leader's own message, with the bulk
    // of the data elsewhere; from anybody else in the term it breaks the protocol.
    let from_another = |role: &str, peer: &mut Peer, term| {
        let body = Body::Snapshot { snapshot: Box::new(snapshot(id(1, 9), 3)) };
        let before = peer.node.status();
        assert!(matches!(peer.try_step(3, term, body), Err(StepError::Invalid(_))), "as {role}");
        assert_eq!(peer.node.status(), before, "as {role}");
    };
    let mut follower = peer(1, 3);
    follower.step(2, 4, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    follower.settle();
    from_another("follower", &mut follower, 4);
    let mut leader = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    from_another("leader", &mut leader, 1);
    // A candidate learns that its term has a leader, and takes it.
    let mut candidate = Peer::start(&Config { pre_vote: false, ..config(1) }, MemStorage::with_voters(3));
    candidate.node.campaign().expect("nobody leads");
    candidate.step(3, 1, Body::Snapshot { snapshot: Box::new(snapshot(id(1, 9), 3)) });
    candidate.settle();
    let status = candidate.node.status();
    assert_eq!((status.role, status.lead, status.applied), (raft::Role::Follower, PeerId(3), LogIndex(9)));
}
