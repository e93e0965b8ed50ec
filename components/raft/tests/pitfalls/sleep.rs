//! Groups that sleep, and how they wake.

use crate::kit::{ELECTION_TICK, Peer, change, config, peer, storage, stored, to, verdict, vote};
use crate::story::Story;
use bytes::Bytes;
use raft::{Body, ConfChangeKind, Config, EntryId, MemStorage, ProgressState, Role, VoteKind, Wake, WhyNot};
use types::{LogIndex, PeerId};

/// A leader of three, with nothing left to do.
fn idle_leader() -> Peer {
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    peer.node.ping();
    peer.answer_heartbeats();
    assert_eq!(peer.node.can_hibernate(), Ok(()));
    peer
}

#[test]
fn a_sleeper_that_is_asked_for_its_vote_counts_the_time_asleep() {
    // tikv#16429: the leader was cut off from a sleeping group, and the only peer that could have elected another stayed
    // idle. Who wakes it says how long it slept; then its promise is over, it votes, and its own timer runs.
    let mut sleeper = peer(1, 3);
    sleeper.step(2, 4, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    sleeper.settle();
    assert_eq!(sleeper.node.can_hibernate(), Ok(()));
    sleeper.node.tick_n(100 * ELECTION_TICK);
    sleeper.node.wake(Wake::Local);
    assert!(
        sleeper.node.next_deadline().is_some_and(|ticks| ticks >= ELECTION_TICK),
        "it does not campaign itself"
    );
    sleeper.step(3, 5, vote(VoteKind::Real, EntryId::default()));
    assert_eq!(verdict(&sleeper.settle()), Some((true, 5)));
    // Left alone from then on, it campaigns.
    sleeper.node.tick_n(2 * ELECTION_TICK);
    sleeper.settle();
    assert_eq!(sleeper.node.status().role, Role::PreCandidate);
}

#[test]
fn every_reason_to_wake_does_its_part_in_every_role() {
    // tikv#16368, tikv#16408, tikv#18916: a message that should have woken a peer was ignored in some of its states.
    let heard = || {
        let mut peer = peer(1, 3);
        peer.step(2, 4, Body::Heartbeat { commit: LogIndex(0), round: 1 });
        peer.settle();
        peer
    };
    let campaigning = |pre_vote| {
        let mut peer = Peer::start(&Config { pre_vote, ..config(1) }, MemStorage::with_voters(3));
        peer.node.campaign().expect("nobody leads");
        peer.settle();
        peer
    };
    type Start<'a> = &'a dyn Fn() -> Peer;
    let starts: [(Role, Start<'_>); 5] = [
        (Role::Follower, &heard),
        (Role::Follower, &|| peer(1, 3)),
        (Role::PreCandidate, &|| campaigning(true)),
        (Role::Candidate, &|| campaigning(false)),
        (Role::Leader, &idle_leader),
    ];
    for (role, start) in starts {
        for wake in [Wake::Local, Wake::Peer(PeerId(2)), Wake::LeaderLost] {
            let mut peer = start();
            let before = peer.node.status();
            assert_eq!(before.role, role);
            peer.node.tick_n(1_000);
            peer.node.wake(wake);
            peer.node.check_invariants().expect("invariants");
            let messages = if role == Role::Leader { peer.settle() } else { Vec::new() };
            let after = peer.node.status();
            assert_eq!((after.role, after.term, after.vote), (role, before.term, before.vote), "{wake:?}");
            match role {
                Role::Leader => {
                    assert_eq!(peer.node.lease(), None, "{wake:?}: a lease is earned anew");
                    let asks =
                        |of| to(&messages, of).iter().any(|body| matches!(body, Body::Heartbeat { .. }));
                    assert!(asks(2) && asks(3), "{wake:?}: everybody is asked: {messages:?}");
                }
                Role::Follower => {
                    let lead = if wake == Wake::LeaderLost { PeerId(0) } else { before.lead };
                    assert_eq!(after.lead, lead, "{wake:?}");
                    assert!(
                        peer.node.next_deadline().is_some_and(|ticks| ticks >= ELECTION_TICK),
                        "{wake:?}"
                    );
                }
                Role::PreCandidate | Role::Candidate => {
                    assert_eq!(peer.node.next_deadline(), Some(0), "{wake:?}: its timeout has long passed");
                }
            }
        }
    }
}

#[test]
fn a_leader_does_not_sleep_beside_a_member_that_it_has_not_heard() {
    // tikv#9022, tikv#10017: the leader slept while a new member did not exist anywhere yet, and never created it.
    let mut peer = idle_leader();
    peer.node.propose_conf_change(change(&[(ConfChangeKind::AddLearner, 4)])).expect("a quorum is near");
    peer.settle();
    for from in [2, 3] {
        peer.step(from, 1, stored(2));
    }
    peer.settle();
    peer.node.ping();
    peer.settle();
    for from in [2, 3] {
        let round = 3;
        drop(peer.try_step(from, 1, Body::HeartbeatResp { commit: LogIndex(2), round }));
    }
    peer.settle();
    assert_eq!(peer.node.can_hibernate(), Err(WhyNot::Behind(PeerId(4))));
}

#[test]
fn a_leader_with_something_uncommitted_does_not_sleep() {
    // cockroach#46699: a group slept while it held back proposals for want of quota, and nothing could wake it.
    let mut peer = idle_leader();
    peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    peer.settle();
    assert_eq!(peer.node.can_hibernate(), Err(WhyNot::Unapplied));
    peer.acknowledge_all();
    assert_eq!(peer.node.can_hibernate(), Ok(()));
}

#[test]
fn a_peer_reported_unreachable_to_a_sleeping_leader_is_found_well_again() {
    // cockroach#103828, cockroach#104212: a report that reached a sleeping group left the peer in probing for good.
    let mut peer = idle_leader();
    peer.node.report_unreachable(PeerId(2));
    assert_eq!(peer.node.can_hibernate(), Err(WhyNot::Effects), "there is a probe to send");
    assert_eq!(to(&peer.settle(), 2).len(), 1, "and it is lost");
    peer.node.tick_n(1_000);
    peer.node.wake(Wake::Peer(PeerId(2)));
    peer.answer_heartbeats();
    let messages = peer.settle();
    assert!(!to(&messages, 2).is_empty(), "{messages:?}");
    peer.step(2, 1, stored(1));
    peer.settle();
    assert_eq!(peer.progress(2).state, ProgressState::Replicate);
    assert_eq!(peer.node.can_hibernate(), Ok(()));
}

#[test]
fn one_that_wakes_alone_does_not_depose_the_leader_of_a_sleeping_group() {
    // cockroach#26257, cockroach#9561: a peer that woke alone, told that its leader was gone, campaigned on and on, and
    // leadership went round. The others' time stands still, and with it what they promised.
    let mut story = Story::new();
    story.goes("add-nodes voters=(1,2,3)");
    story.goes("elect 1");
    story.goes("run n=3");
    for _ in 0..20 {
        story.goes("forget-leader 3");
        for _ in 0..25 {
            story.goes("tick 3");
            story.goes("settle quietly");
        }
        let status = story.goes("status 1 2");
        assert!(status.starts_with("1: leader t1 ") && status.contains("2: follower of 1 t1 "), "{status}");
        // The leader wakes for a moment, and the one is back.
        story.goes("ping 1");
        story.goes("settle quietly");
        let status = story.goes("status 3");
        assert!(status.starts_with("3: follower of 1 t1 "), "{status}");
    }
}

#[test]
fn a_sleeping_sole_voter_needs_nobody_to_wake_it() {
    // Alone there is nobody to hear: it leads on, at any time.
    let mut peer = Peer::settled_leader(&config(1), storage(1, &[], 0));
    peer.settle();
    assert_eq!(peer.node.can_hibernate(), Ok(()));
    peer.node.tick_n(100_000);
    assert!(peer.node.propose(Bytes::from_static(b"x")).is_ok());
    peer.settle();
    assert_eq!(peer.node.status().committed, LogIndex(2));
}
