//! Appends, acknowledgements and commits.

use crate::kit::{Peer, append, config, entries, id, peer, storage, stored, to};
use bytes::Bytes;
use raft::{
    Body, Config, Dropped, Entry, EntryId, HardState, MemStorage, Message, ProgressState, Reject, StepError,
};
use types::{LogIndex, PeerId, Term};

fn appends(messages: &[Message], to_peer: u64) -> Vec<(EntryId, usize, u64)> {
    to(messages, to_peer)
        .into_iter()
        .filter_map(|body| match body {
            Body::Append { prev, entries, commit } => Some((*prev, entries.len(), commit.0)),
            _ => None,
        })
        .collect()
}

#[test]
fn what_an_earlier_leader_left_is_not_committed_by_counting() {
    // Figure 8 of the Raft paper, logcabin#44: an entry of an older term on a majority may still be overwritten.
    let mut peer = Peer::leader(&config(1), storage(3, &[1, 2], 3));
    peer.step(2, 4, stored(2));
    assert_eq!(peer.node.status().committed, LogIndex(0));
    peer.step(2, 4, stored(3));
    assert_eq!(peer.node.status().committed, LogIndex(3), "all of it with the first entry of our own term");
}

#[test]
fn a_follower_commits_only_what_the_append_has_proved() {
    // scylladb#9965, copycat#265: entries beyond the append may be another leader's, whatever the commit index says.
    let mut peer = Peer::start(&config(1), storage(3, &[1, 1, 1, 1], 2));
    peer.step(2, 3, append(id(1, 1), entries(2, &[1]), 4));
    assert_eq!(peer.node.status().committed, LogIndex(2));
}

#[test]
fn a_follower_that_lost_acknowledged_entries_stops_itself_alone() {
    // etcd-io/raft#25, etcd#10166: "tocommit out of range" took the whole process down, again after each restart.
    let mut peer = Peer::start(&config(1), storage(3, &[1], 1));
    let lost = peer.try_step(2, 1, Body::Heartbeat { commit: LogIndex(5), round: 1 });
    assert!(matches!(lost, Err(StepError::Poisoned { .. })), "{lost:?}");
    assert!(peer.node.poisoned().is_some() && !peer.node.has_ready());
    let again = peer.try_step(2, 1, Body::Heartbeat { commit: LogIndex(0), round: 2 });
    assert!(matches!(again, Err(StepError::Poisoned { .. })));
    assert!(matches!(peer.node.propose(Bytes::new()), Err(Dropped::Poisoned { .. })));
}

#[test]
fn an_overtaken_append_shortens_nothing() {
    // akka-entity-replication#151: an old, shorter append that fitted cut off newer entries.
    let mut peer = peer(1, 3);
    peer.step(2, 1, append(EntryId::default(), entries(1, &[1, 1, 1]), 0));
    peer.step(2, 1, append(EntryId::default(), entries(1, &[1]), 0));
    let messages = peer.settle();
    assert_eq!(peer.stored_terms(), [1, 1, 1]);
    assert_eq!(
        *to(&messages, 2)[1],
        Body::AppendResp { index: LogIndex(1), commit: LogIndex(0), reject: None }
    );
}

#[test]
fn a_conflict_drops_the_rest_and_nothing_before() {
    // etcd 235a62a: an index out of bounds when the conflict lay before the batch that was sent.
    let mut peer = Peer::start(&config(1), storage(3, &[1, 2, 2, 2], 2));
    peer.step(2, 5, append(id(1, 1), entries(2, &[4, 5]), 0));
    peer.settle();
    assert_eq!(peer.stored_terms(), [1, 4, 5]);
}

#[test]
fn a_conflict_with_what_is_committed_stops_the_peer() {
    // redisraft#53: committed entries were replaced in silence.
    let mut storage = storage(3, &[1, 1], 1);
    storage.set_hard_state(HardState { term: Term(1), commit: LogIndex(2), ..HardState::default() });
    let mut peer = Peer::start(&config(1), storage);
    peer.step(2, 3, append(id(0, 0), entries(1, &[2, 2, 2]), 0));
    assert_eq!(
        peer.settle().len(),
        1,
        "what is committed is not even compared: the answer says where to go on"
    );
    let conflict = peer.try_step(2, 3, append(id(1, 2), Vec::new(), 0));
    assert_eq!(conflict, Ok(()));
    let snapshot = Box::new(crate::kit::snapshot(id(2, 2), 3));
    let conflict = peer.try_step(2, 3, Body::Snapshot { snapshot });
    assert!(matches!(conflict, Err(StepError::Poisoned { .. })), "{conflict:?}");
}

#[test]
fn an_append_before_what_is_committed_deletes_nothing() {
    // openraft 71a290cd: a purged position was taken for a conflict, and the log was deleted.
    let mut storage = storage(3, &[1, 1, 1], 1);
    storage.set_hard_state(HardState { term: Term(1), commit: LogIndex(3), ..HardState::default() });
    storage.compact(LogIndex(2), Bytes::new());
    let mut peer = Peer::start(&Config { applied: LogIndex(2), ..config(1) }, storage);
    peer.step(2, 1, append(id(1, 1), entries(2, &[1]), 0));
    let messages = peer.settle();
    assert_eq!(
        *to(&messages, 2)[0],
        Body::AppendResp { index: LogIndex(3), commit: LogIndex(3), reject: None }
    );
    assert_eq!(peer.stored_terms(), [1]);
}

#[test]
fn stale_refusals_move_nothing() {
    // etcd-io/raft#149, raft-rs#557: next fell to match or below after a refusal that had been overtaken.
    let mut peer = Peer::settled_leader(&config(1), storage(3, &[1, 1, 1], 1));
    let (term, before) = (peer.term(), peer.progress(2));
    assert_eq!((before.matched, before.state), (LogIndex(4), ProgressState::Replicate));
    for rejected in 0..=4 {
        let reject = Some(Reject { rejected: LogIndex(rejected), hint: id(1, rejected) });
        peer.step(2, term, Body::AppendResp { index: LogIndex(0), commit: LogIndex(0), reject });
        assert_eq!(peer.progress(2), before, "after a refusal of {rejected}");
    }
    assert!(matches!(peer.try_step(2, term, stored(99)), Err(StepError::Invalid(_))));
}

#[test]
fn whole_terms_are_skipped_when_logs_differ() {
    // A follower with a long tail of other terms is met in as many rounds as there are terms, not entries.
    let ours: Vec<u64> = std::iter::repeat_n(1, 5).chain(std::iter::repeat_n(6, 200)).collect();
    let theirs: Vec<u64> =
        std::iter::repeat_n(1, 5).chain((2..=5).flat_map(|term| std::iter::repeat_n(term, 50))).collect();
    let mut leader = Peer::leader(&config(1), storage(3, &ours, 6));
    let mut follower = Peer::start(&config(2), storage(3, &theirs, 6));
    let (mut messages, mut rounds) = (Vec::new(), 0);
    leader.node.ping();
    while leader.progress(2).matched != leader.node.status().last.index {
        messages.extend(leader.settle());
        for message in messages.drain(..).filter(|message| message.to == PeerId(2)) {
            follower.step(1, message.term.0, message.body);
        }
        for message in follower.settle() {
            leader.step(2, message.term.0, message.body);
        }
        rounds += 1;
        assert!(rounds < 10, "{:?}", leader.progress(2));
        leader.node.ping();
    }
    assert_eq!(follower.stored_terms(), leader.stored_terms());
}

#[test]
fn lost_appends_are_found_out_by_heartbeats() {
    // etcd#7037, etcd#14633: with every message of a full window lost, a flow stood still for ever.
    let config = Config { max_inflight_messages: 2, ..config(1) };
    let mut peer = Peer::settled_leader(&config, MemStorage::with_voters(3));
    let mut sent = 0;
    for _ in 0..4 {
        peer.node.propose(Bytes::from_static(b"x")).expect("leads");
        sent += appends(&peer.settle(), 2).len();
    }
    assert_eq!((sent, peer.progress(2).inflight_messages), (2, 2), "the window is full");
    let mut asked = Vec::new();
    for _ in 0..4 {
        peer.node.tick();
        asked.extend(appends(&peer.answer_heartbeats(), 2));
        asked.extend(appends(&peer.settle(), 2));
    }
    assert!(
        !asked.is_empty() && asked.iter().all(|&(prev, count, _)| (prev.index.0, count) == (3, 0)),
        "{asked:?}"
    );
    let reject = Some(Reject { rejected: LogIndex(3), hint: id(1, 1) });
    peer.step(2, 1, Body::AppendResp { index: LogIndex(0), commit: LogIndex(0), reject });
    let again = appends(&peer.settle(), 2);
    assert_eq!(again.first().map(|&(prev, count, _)| (prev.index.0, count)), Some((1, 4)), "{again:?}");
}

#[test]
fn an_idle_follower_reported_unreachable_recovers() {
    // etcd-io/raft#52: a caught-up follower stayed in probing for ever, which blocked transfers to it.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    let term = peer.term();
    peer.node.report_unreachable(PeerId(2));
    assert_eq!(peer.progress(2).state, ProgressState::Probe);
    assert_eq!(appends(&peer.settle(), 2).len(), 1, "with nothing to send, an empty append asks");
    peer.step(2, term, Body::HeartbeatResp { commit: LogIndex(1), round: 1 });
    assert!(appends(&peer.settle(), 2).is_empty(), "this answer was on its way before");
    peer.node.ping();
    peer.answer_heartbeats();
    assert_eq!(appends(&peer.settle(), 2).len(), 1, "that was lost, and is said again");
    peer.step(2, term, stored(1));
    assert_eq!(peer.progress(2).state, ProgressState::Replicate);
}

#[test]
fn the_window_counts_bytes_too() {
    // cockroach#90314: counting messages alone let 128 messages of 16 MiB each pile up per follower.
    let config = Config { max_inflight_bytes: 100, ..config(1) };
    let mut peer = Peer::settled_leader(&config, MemStorage::with_voters(3));
    let mut sent = 0;
    for _ in 0..5 {
        peer.node.propose(Bytes::from_static(&[0; 60])).expect("leads");
        sent += appends(&peer.settle(), 2).len();
    }
    assert_eq!(sent, 2, "84 bytes leave room, 168 do not");
    let last = peer.node.status().last.index.0;
    peer.step(2, 1, stored(last - 3));
    assert_eq!(appends(&peer.settle(), 2).len(), 1);
}

#[test]
fn proposals_of_one_turn_leave_as_one_message_at_once() {
    // Appends are built late (thesis §10.2.1): and a leader whose term is durable does not wait for its own disk.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    for _ in 0..10 {
        peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    }
    let ready = peer.ready();
    assert_eq!(appends(&ready.messages, 2).iter().map(|&(_, count, _)| count).collect::<Vec<_>>(), [10]);
    assert!(appends(&ready.messages_after, 2).is_empty());
    assert_eq!(ready.append.map(|append| append.entries.len()), Some(10));
}

#[test]
fn a_large_entry_fits_a_small_message() {
    let config = Config { max_size_per_message: 10, ..config(1) };
    let mut peer = Peer::settled_leader(&config, MemStorage::with_voters(3));
    for _ in 0..2 {
        peer.node.propose(Bytes::from_static(&[0; 1000])).expect("leads");
    }
    let sent = appends(&peer.settle(), 2);
    assert_eq!(sent.iter().map(|&(_, count, _)| count).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn the_last_commit_arrives_without_a_message_of_its_own() {
    // etcd-io/raft#171: with empty appends suppressed, followers lagged one commit behind for ever.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    peer.settle();
    peer.step(2, 1, stored(2));
    peer.step(3, 1, stored(2));
    assert!(peer.settle().is_empty(), "the commit alone is no reason to speak");
    peer.node.tick_n(2);
    let heartbeats = peer.settle();
    assert!(
        matches!(to(&heartbeats, 2)[..], [Body::Heartbeat { commit: LogIndex(2), .. }]),
        "the heartbeat brings it: {heartbeats:?}"
    );
}

#[test]
fn a_heartbeat_commits_no_more_than_is_known_to_agree() {
    // openraft 2bdfae5d: a heartbeat with the leader's commit index hit a follower with other entries there.
    let mut peer = Peer::leader(&config(1), storage(3, &[1, 1], 1));
    peer.step(2, 2, stored(3));
    peer.node.ping();
    let messages = peer.settle();
    let commit_for = |to_peer| {
        to(&messages, to_peer).into_iter().find_map(|body| match body {
            Body::Heartbeat { commit, .. } => Some(commit.0),
            _ => None,
        })
    };
    assert_eq!((commit_for(2), commit_for(3)), (Some(3), Some(0)));
}

#[test]
fn the_uncommitted_are_limited_and_counted_down_to_nothing() {
    // etcd a370b6f: the counter drifted until every proposal was refused.
    let config = Config { max_uncommitted_bytes: 100, ..config(1) };
    let mut peer = Peer::settled_leader(&config, MemStorage::with_voters(3));
    let large = || Bytes::from_static(&[0; 1000]);
    for _ in 0..20 {
        peer.node.propose(large()).expect("something always fits");
        assert_eq!(peer.node.propose(Bytes::from_static(b"x")), Err(Dropped::TooManyUncommitted));
        peer.node.propose(Bytes::new()).expect("nothing always fits");
        peer.settle();
        peer.acknowledge_all();
        for _ in 0..5 {
            peer.node.propose(Bytes::from_static(&[0; 20])).expect("five of twenty fit");
            peer.settle();
        }
        assert_eq!(peer.node.propose(Bytes::from_static(&[0; 20])), Err(Dropped::TooManyUncommitted));
        peer.acknowledge_all();
    }
}

#[test]
fn stale_and_strange_messages_never_panic() {
    // etcd-io/raft#36, raft-rs: a stale append made the follower look at a compacted index and stop the process.
    let mut state = 11_u64;
    let mut draw = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for _ in 0..300 {
        let mut storage = storage(3, &[1, 1, 2, 2, 3], 3);
        storage.set_hard_state(HardState { term: Term(3), commit: LogIndex(3), ..HardState::default() });
        storage.compact(LogIndex(2), Bytes::new());
        let mut peer = Peer::start(&Config { applied: LogIndex(2), ..config(1) }, storage);
        for _ in 0..20 {
            let prev = id(draw(5), draw(9));
            let terms: Vec<u64> = (0..draw(4)).map(|at| prev.term.0 + at / 2).collect();
            let reject =
                (draw(2) == 0).then(|| Reject { rejected: LogIndex(draw(9)), hint: id(draw(5), draw(9)) });
            let body = match draw(6) {
                0 | 1 => append(prev, entries(prev.index.0 + 1, &terms), draw(5)),
                2 => Body::AppendResp { index: LogIndex(draw(9)), commit: LogIndex(draw(9)), reject },
                3 => Body::Heartbeat { commit: LogIndex(draw(4)), round: draw(3) },
                4 => Body::Vote { kind: raft::VoteKind::Real, last: prev, commit: id(draw(4), draw(4)) },
                _ => Body::HeartbeatResp { commit: LogIndex(draw(9)), round: draw(3) },
            };
            let _ = peer.try_step(2 + draw(2), 3 + draw(3), body);
            if peer.node.poisoned().is_some() {
                break;
            }
            peer.settle();
            peer.node.tick_n(draw(8));
        }
    }
}

#[test]
fn malformed_messages_are_refused_at_the_gate() {
    let mut peer = peer(1, 3);
    let gap = vec![Entry { term: Term(1), index: LogIndex(5), ..Entry::default() }];
    let falling = entries(1, &[2, 1]);
    let future = entries(1, &[9]);
    for entries in [gap, falling, future] {
        assert!(matches!(
            peer.try_step(2, 3, append(EntryId::default(), entries, 0)),
            Err(StepError::Invalid(_))
        ));
    }
    let body = || Body::Heartbeat { commit: LogIndex(0), round: 0 };
    assert!(matches!(peer.try_step(2, 0, body()), Err(StepError::Invalid(_))));
    assert!(matches!(peer.try_step(2, u64::MAX, body()), Err(StepError::Invalid(_))));
    assert!(matches!(peer.try_step(1, 3, body()), Err(StepError::Invalid(_))));
    assert_eq!(peer.term(), 0, "none of them had an effect");
}

#[test]
fn a_refusal_of_what_was_compacted_since_asks_for_a_snapshot() {
    // etcd-io/raft#31: the log was compacted while a peer's window was full; then it refused, and the leader stopped because
    // it could not tell the term before what it had to send.
    let config = Config { max_inflight_messages: 2, ..config(1) };
    let mut peer = Peer::settled_leader(&config, MemStorage::with_voters(3));
    for _ in 0..4 {
        peer.node.propose(Bytes::from_static(b"x")).expect("leads");
        peer.settle();
    }
    peer.step(3, 1, stored(5));
    peer.settle();
    peer.node.storage_mut().compact(LogIndex(5), Bytes::new());
    let reject = Some(Reject { rejected: LogIndex(2), hint: id(1, 1) });
    peer.step(2, 1, Body::AppendResp { index: LogIndex(0), commit: LogIndex(0), reject });
    let messages = peer.settle();
    assert!(matches!(to(&messages, 2)[..], [Body::Snapshot { .. }]), "{messages:?}");
    assert_eq!(peer.progress(2).state, ProgressState::Snapshot { index: LogIndex(5) });
}

#[test]
fn a_commit_index_is_told_at_once_and_once_where_the_leader_is_not_lazy() {
    // etcd-io/raft#171: followers stayed one commit behind until the next proposal or heartbeat.
    for lazy_commit in [true, false] {
        let config = Config { lazy_commit, ..config(1) };
        let mut peer = Peer::settled_leader(&config, storage(3, &[], 0));
        peer.node.propose(Bytes::from_static(b"x")).expect("leads");
        peer.settle();
        let term = peer.term();
        peer.step(2, term, stored(2));
        let told = |lazy| if lazy { vec![] } else { vec![(id(term, 2), 0, 2)] };
        let messages = peer.settle();
        assert_eq!(appends(&messages, 2), told(lazy_commit));
        assert_eq!(appends(&messages, 3), told(lazy_commit), "it need not have answered");
        peer.step(2, term, stored(2));
        peer.step(3, term, stored(2));
        assert_eq!(peer.settle(), [], "once is enough");
        for id in [2, 3] {
            let told = peer.progress(id).sent_commit;
            assert_eq!(told, LogIndex(if lazy_commit { 1 } else { 2 }), "what keeps a group awake");
        }
    }
}

#[test]
fn a_commit_index_goes_with_entries_where_there_are_any() {
    // What is proposed in the turn in which the index moves takes it along, and a full window holds both back.
    let config = Config { lazy_commit: false, max_inflight_messages: 1, ..config(1) };
    let mut peer = Peer::settled_leader(&config, storage(3, &[], 0));
    let term = peer.term();
    peer.settle();
    peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    peer.settle();
    peer.step(2, term, stored(2));
    peer.node.propose(Bytes::from_static(b"y")).expect("leads");
    let messages = peer.settle();
    assert_eq!(appends(&messages, 2), [(id(term, 2), 1, 2)]);
    assert_eq!(appends(&messages, 3), [], "its window is full");
    peer.step(3, term, stored(2));
    assert_eq!(appends(&peer.settle(), 3), [(id(term, 2), 1, 2)]);
}

#[test]
fn a_log_that_cannot_be_is_not_sent_around() {
    // Storage gives back what no leader ever wrote: terms that fall. Followers would refuse it for ever.
    let mut peer = Peer::leader(&config(1), storage(3, &[3, 2], 3));
    let reject = Some(Reject { rejected: LogIndex(2), hint: EntryId::default() });
    peer.step(2, 4, Body::AppendResp { index: LogIndex(0), commit: LogIndex(0), reject });
    let ready = peer.ready();
    assert_eq!((ready.messages, ready.append), (vec![], None));
    let reason = peer.node.poisoned().expect("it stops this group, and no other");
    assert!(reason.contains("a term that cannot be there"), "{reason}");
}
