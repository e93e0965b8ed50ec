//! Reads without a log entry, and leases.

use crate::kit::{ELECTION_TICK, Peer, change, config, peer, storage, stored, to};
use bytes::Bytes;
use raft::{Body, ConfChangeKind, ConfState, Config, MemStorage, Message, ReadError, ReadState, Role};
use types::{LogIndex, PeerId};

fn round(messages: &[Message], to_peer: u64) -> u64 {
    to(messages, to_peer)
        .into_iter()
        .find_map(|body| match body {
            Body::Heartbeat { round, .. } => Some(*round),
            _ => None,
        })
        .expect("a heartbeat")
}

fn answer(round: u64) -> Body {
    Body::HeartbeatResp { commit: LogIndex(1), round }
}

#[test]
fn a_read_joins_only_a_round_that_is_still_to_be_sent() {
    // etcd#20418, raft-rs: a second read that reused the name of the first was answered by a delayed response to the
    // first's heartbeat, on a leader that had long been deposed.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    let term = peer.term();
    peer.node.read_index(7).expect("leads");
    let first = round(&peer.settle(), 2);
    peer.step(2, term, answer(first));
    assert_eq!(peer.ready().read_states, [ReadState { token: 7, index: Some(LogIndex(1)) }]);
    peer.node.read_index(7).expect("leads");
    let second = round(&peer.settle(), 2);
    assert!(second > first);
    peer.step(3, term, answer(first));
    assert_eq!(peer.ready().read_states, [], "that was said before the read was asked");
    peer.step(3, term, answer(second));
    assert_eq!(peer.ready().read_states, [ReadState { token: 7, index: Some(LogIndex(1)) }]);
    assert!(peer.try_step(3, term, answer(second + 100)).is_err());
}

#[test]
fn reads_of_one_turn_share_a_round_and_later_rounds_answer_earlier_reads() {
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(5));
    let term = peer.term();
    (0..100).for_each(|token| peer.node.read_index(token).expect("leads"));
    let messages = peer.settle();
    assert_eq!(to(&messages, 2).len(), 1);
    peer.node.read_index(100).expect("leads");
    let later = round(&peer.settle(), 2);
    peer.step(2, term, answer(later));
    peer.step(3, term, answer(later - 1));
    assert_eq!(peer.ready().read_states.len(), 100, "the quorum has only the first round in common");
    peer.step(4, term, answer(later));
    assert_eq!(peer.ready().read_states.len(), 1);
}

#[test]
fn nothing_is_read_before_the_term_has_committed() {
    // etcd#7331, tikv#6340: a new leader answered from a commit index that was older than its predecessor's.
    let mut peer = Peer::leader(&config(1), storage(3, &[1, 1], 1));
    assert_eq!(peer.node.read_index(1), Err(ReadError::NotCommittedInTerm));
    assert_eq!(peer.node.lease(), None);
    let term = peer.term();
    peer.node
        .step(Message {
            from: PeerId(2),
            to: PeerId(1),
            term: types::Term(0),
            body: Body::ReadIndex { token: 5 },
        })
        .expect("a question");
    let messages = peer.settle();
    let refused = Body::ReadIndexResp { index: LogIndex(0), token: 5, reject: true };
    assert!(to(&messages, 2).contains(&&refused), "told, not left waiting: {messages:?}");
    peer.step(2, term, stored(3));
    assert_eq!(peer.node.read_index(1), Ok(()));
}

#[test]
fn every_read_ends() {
    // raft-rs#169, restate#2950: requests that were dropped in silence hung for ever.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    let term = peer.term();
    peer.node.read_index(1).expect("leads");
    peer.settle_reads_pending();
    peer.node.read_index(2).expect("leads");
    peer.step(2, term + 1, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    let refused: Vec<_> = peer.ready().read_states;
    assert_eq!(refused, [ReadState { token: 1, index: None }, ReadState { token: 2, index: None }]);
    // As a follower: the leader changes...
    peer.persist();
    peer.node.read_index(3).expect("a leader is known");
    assert_eq!(to(&peer.ready().messages, 2).len(), 1);
    peer.node.read_index(4).expect("a leader is known");
    peer.step(3, term + 2, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    let refused = peer.ready().read_states;
    assert_eq!(refused, [ReadState { token: 3, index: None }, ReadState { token: 4, index: None }]);
    // ...or is forgotten...
    peer.persist();
    peer.node.read_index(5).expect("a leader is known");
    peer.node.forget_leader();
    assert_eq!(peer.ready().read_states, [ReadState { token: 5, index: None }]);
    assert_eq!(peer.node.read_index(6), Err(ReadError::NoLeader));
    // ...or the question is lost, and the leader lives on.
    peer.step(3, term + 2, Body::Heartbeat { commit: LogIndex(0), round: 2 });
    peer.settle();
    peer.node.read_index(7).expect("a leader is known");
    let _ = peer.ready();
    let mut ended = Vec::new();
    for _ in 0..=ELECTION_TICK {
        peer.node.tick();
        peer.step(3, term + 2, Body::Heartbeat { commit: LogIndex(0), round: 3 });
        ended.extend(peer.ready().read_states);
    }
    assert_eq!(ended, [ReadState { token: 7, index: None }]);
}

#[test]
fn a_followers_read_has_a_name_of_its_own_on_the_way() {
    // The follower's half of etcd#20418: an answer to an earlier read must not serve a later one of the same name.
    let mut peer = peer(1, 3);
    peer.step(2, 1, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    peer.settle();
    let ask = |peer: &mut Peer| {
        peer.node.read_index(7).expect("a leader is known");
        peer.node.read_index(8).expect("a leader is known");
        let messages = peer.settle();
        let asked: Vec<_> = messages
            .iter()
            .filter_map(|message| match message.body {
                Body::ReadIndex { token } => Some((token, message.term.0)),
                _ => None,
            })
            .collect();
        assert_eq!(asked.len(), 1, "one question for both: {messages:?}");
        asked[0]
    };
    let (first, term) = ask(&mut peer);
    assert_eq!(term, 0, "what is forwarded claims no term");
    peer.node.forget_leader();
    peer.settle();
    peer.step(2, 1, Body::Heartbeat { commit: LogIndex(0), round: 2 });
    let (second, _) = ask(&mut peer);
    assert_ne!(first, second);
    let resp = |token| Body::ReadIndexResp { index: LogIndex(9), token, reject: false };
    peer.step(2, 1, resp(first));
    assert_eq!(peer.ready().read_states, []);
    peer.step(2, 1, resp(second));
    peer.step(2, 1, resp(second));
    let served =
        [ReadState { token: 7, index: Some(LogIndex(9)) }, ReadState { token: 8, index: Some(LogIndex(9)) }];
    assert_eq!(peer.ready().read_states, served);
    // Another life, with another seed, uses other names.
    let config = Config { seed: 2, ..config(1) };
    let mut reborn = Peer::start(&config, MemStorage::with_voters(3));
    reborn.step(2, 1, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    reborn.settle();
    let (third, _) = ask(&mut reborn);
    assert!(third != first && third != second);
}

#[test]
fn names_of_reads_are_not_used_again_after_a_sleep() {
    // The same for a group that gave its memory back in between: it named its reads from the beginning again, and the late
    // answer to one that had been given up served the next one, with an index of long ago.
    let mut peer = peer(1, 3);
    let name_of_one = |peer: &mut Peer, token| {
        peer.node.read_index(token).expect("a leader is known");
        let asked = peer.settle().into_iter().find_map(|message| match message.body {
            Body::ReadIndex { token } => Some(token),
            _ => None,
        });
        asked.expect("the leader is asked")
    };
    peer.step(2, 1, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    peer.settle();
    let first = name_of_one(&mut peer, 7);
    peer.node.tick_n(ELECTION_TICK);
    peer.step(2, 1, Body::Heartbeat { commit: LogIndex(0), round: 2 });
    assert_eq!(peer.ready().read_states, [ReadState { token: 7, index: None }], "it has waited for too long");
    peer.node.shrink();
    let second = name_of_one(&mut peer, 8);
    assert_ne!(first, second);
    peer.step(2, 1, Body::ReadIndexResp { index: LogIndex(3), token: first, reject: false });
    assert_eq!(peer.ready().read_states, []);
}

#[test]
fn whoever_asked_is_sent_the_commit_index_too() {
    // A follower that is told to wait for an index must also learn that it is committed, not only at the next heartbeat.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    let term = peer.term();
    peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    peer.settle();
    peer.step(3, term, stored(2));
    peer.node
        .step(Message {
            from: PeerId(2),
            to: PeerId(1),
            term: types::Term(0),
            body: Body::ReadIndex { token: 5 },
        })
        .expect("a question");
    let sent = round(&peer.settle(), 3);
    peer.step(3, term, answer(sent));
    let messages = peer.settle();
    let bodies = to(&messages, 2);
    assert!(
        bodies.contains(&&Body::ReadIndexResp { index: LogIndex(2), token: 5, reject: false }),
        "{bodies:?}"
    );
    assert!(bodies.iter().any(|body| matches!(body, Body::Append { commit: LogIndex(2), .. })), "{bodies:?}");
    assert!(to(&messages, 3).is_empty(), "nobody else");
}

#[test]
fn a_smaller_group_releases_reads_that_wait() {
    // When a change leaves the leader as the only voter, there is nobody left to wait for.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(2));
    let term = peer.term();
    let demote = change(&[(ConfChangeKind::AddLearner, 2)]);
    peer.node.read_index(7).expect("leads");
    peer.step(2, term, Body::HeartbeatResp { commit: LogIndex(1), round: 1 });
    peer.settle_reads_pending();
    // Alone it may not shrink to itself while the other is silent: the other is heard, but its answer to the round is
    // still on the way.
    peer.node.propose_conf_change(demote).expect("the other is heard");
    let _ = peer.ready();
    peer.persist();
    peer.step(2, term, stored(2));
    let committed = peer.ready().committed;
    peer.apply(&committed);
    assert_eq!(peer.node.conf_state().voters, [PeerId(1)]);
    assert_eq!(peer.ready().read_states, [ReadState { token: 7, index: Some(LogIndex(1)) }]);
    assert_eq!(peer.node.lease().map(|lease| lease.start_tick), Some(peer.node.tick_count()));
}

#[test]
fn a_lease_runs_from_when_the_round_was_sent() {
    // tikv#964, sofa-jraft#34: measured from the answer it outlives the promise that it rests on.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    let (term, sent_at) = (peer.term(), peer.node.tick_count());
    peer.node.ping();
    let sent = round(&peer.settle(), 2);
    peer.node.tick_n(1);
    peer.step(2, term, answer(sent));
    let lease = peer.node.lease().expect("a quorum has answered");
    assert_eq!((lease.term.0, lease.start_tick), (term, sent_at));
    // Appends earn nothing: there is no telling when they were sent.
    peer.node.tick_n(1);
    peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    let _ = peer.ready();
    peer.step(2, term, stored(2));
    assert_eq!(peer.node.lease().map(|lease| lease.start_tick), Some(sent_at));
}

#[test]
fn after_a_transfer_that_was_given_up_the_lease_begins_anew() {
    // tikv#4688, openraft#1747: a lease from before a transfer was used after it.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    let term = peer.term();
    peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    peer.node.transfer_leader(PeerId(2)).expect("a voter");
    peer.node.ping();
    let before = round(&peer.settle(), 3);
    for _ in 0..ELECTION_TICK {
        assert_eq!(peer.node.lease(), None);
        peer.node.tick();
        peer.step(3, term, answer(before));
        peer.settle();
    }
    assert_eq!((peer.node.status().role, peer.node.lease()), (Role::Leader, None));
    peer.step(3, term, answer(before));
    assert_eq!(peer.node.lease(), None, "a round from before");
    peer.node.ping();
    let after = round(&peer.settle(), 3);
    peer.step(3, term, answer(after));
    assert!(peer.node.lease().is_some());
}

#[test]
fn a_committed_change_of_members_suspends_the_lease_until_it_is_applied() {
    // Found by our simulation: the leader of {1, 2} had committed its own demotion and not applied it. Peer 1 had, and was
    // restarted: as the sole voter it waited for nobody, and committed while the leader's lease, resting on what peer 1
    // had said before the restart, still ran.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(2));
    peer.answer_heartbeats();
    assert!(peer.node.lease().is_some());
    let term = peer.term();
    peer.node.propose_conf_change(change(&[(ConfChangeKind::AddLearner, 1)])).expect("the other is near");
    let _ = peer.ready();
    peer.persist();
    assert!(peer.node.lease().is_some(), "nobody can have applied it yet");
    peer.step(2, term, stored(2));
    assert_eq!(peer.node.lease(), None, "from the moment it is committed");
    let committed = peer.ready().committed;
    peer.apply(&committed);
    assert_eq!((peer.node.status().role, peer.node.lease()), (Role::Follower, None));
}

#[test]
fn there_is_no_lease_without_check_quorum() {
    // raft-rs#141: nobody owes silence then, so a lease would be worth nothing.
    let config = Config { check_quorum: false, ..config(1) };
    let mut peer = Peer::settled_leader(&config, MemStorage::with_voters(3));
    peer.node.ping();
    let sent = round(&peer.settle(), 2);
    let term = peer.term();
    peer.step(2, term, answer(sent));
    assert_eq!(peer.node.lease(), None);
    peer.node.read_index(1).expect("rounds still work");
}

#[test]
fn while_joint_a_round_needs_both_majorities() {
    // With one majority alone, the other could have elected somebody else.
    let conf = ConfState {
        voters: vec![PeerId(1), PeerId(4), PeerId(5)],
        voters_outgoing: vec![PeerId(1), PeerId(2), PeerId(3)],
        learners_next: vec![PeerId(2), PeerId(3)],
        ..ConfState::default()
    };
    let mut peer = Peer::start(&Config { pre_vote: false, ..config(1) }, MemStorage::with_conf_state(conf));
    peer.node.campaign().expect("a voter");
    for voter in [2, 4] {
        peer.step(voter, 1, Body::VoteResp { pre: false, reject: false, commit: raft::EntryId::default() });
    }
    peer.settle();
    for voter in [2, 4] {
        peer.step(voter, 1, stored(1));
    }
    peer.settle();
    peer.node.read_index(1).expect("leads");
    let sent = round(&peer.settle(), 2);
    peer.step(4, 1, answer(sent));
    peer.step(5, 1, answer(sent));
    assert_eq!((peer.ready().read_states, peer.node.lease()), (Vec::new(), None));
    peer.step(3, 1, answer(sent));
    assert_eq!(peer.ready().read_states.len(), 1);
    assert!(peer.node.lease().is_some());
}
