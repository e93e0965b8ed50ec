//! Votes, timeouts and transfers.

use crate::kit::{
    ELECTION_TICK, Peer, append, change, change_entry, config, entries, granted, id, peer, storage, stored,
    to, verdict, vote,
};
use raft::{
    Body, CampaignError, ConfChangeKind, ConfState, Config, Dropped, EntryId, HardState, MemStorage, Role,
    StepError, TransferError, VoteKind,
};
use types::{LogIndex, PeerId, Term};

#[test]
fn a_vote_is_durable_before_it_is_answered() {
    // camunda#5356: the vote was answered first; after a crash the peer voted for another in the same term.
    let mut peer = peer(1, 3);
    peer.step(2, 5, vote(VoteKind::Real, EntryId::default()));
    let ready = peer.ready();
    assert_eq!(verdict(&ready.messages), None);
    assert_eq!(verdict(&ready.messages_after), Some((true, 5)));
    let append = ready.append.expect("the vote is written");
    assert_eq!(append.hard_state.map(|state| (state.term, state.vote)), Some((Term(5), PeerId(2))));
    peer.step(3, 5, vote(VoteKind::Real, id(4, 9)));
    assert_eq!(verdict(&peer.settle()), Some((false, 5)));
}

#[test]
fn votes_are_asked_for_after_ones_own_is_durable() {
    // openraft 558e1b94: an election went on while the candidate's vote for itself was still being written.
    let mut peer = Peer::start(&Config { pre_vote: false, ..config(1) }, MemStorage::with_voters(3));
    peer.node.campaign().expect("nobody leads");
    let ready = peer.ready();
    assert!(ready.messages.is_empty());
    assert_eq!(ready.messages_after.len(), 2);
}

#[test]
fn a_higher_term_in_an_answer_grants_nothing() {
    // openraft b06cbb37: a higher vote seen in an answer was copied as if it had been granted.
    let mut peer = Peer::start(&Config { pre_vote: false, ..config(1) }, MemStorage::with_voters(3));
    peer.node.campaign().expect("nobody leads");
    peer.step(2, 9, Body::VoteResp { pre: false, reject: true, commit: EntryId::default() });
    let status = peer.node.status();
    assert_eq!((status.term, status.vote, status.role), (Term(9), PeerId(0), Role::Follower));
}

#[test]
fn stepping_down_within_a_term_keeps_the_vote() {
    // CCF#8094: a leader that stepped down in its term forgot its vote for itself, and the term got a second leader.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    peer.node.tick_n(ELECTION_TICK);
    peer.settle();
    assert_eq!((peer.node.status().role, peer.node.status().vote), (Role::Follower, PeerId(1)));
    let term = peer.term();
    peer.step(2, term, vote(VoteKind::Real, id(term, 99)));
    assert_eq!(verdict(&peer.settle()), Some((false, term)));
}

#[test]
fn a_learner_votes_and_only_votes_of_voters_count() {
    // raft-rs#57, etcd#10998: a learner that did not know of its promotion refused to vote, and the group stood still.
    let conf = ConfState { learners: vec![PeerId(4)], ..ConfState::of_voters((1..=3).map(PeerId)) };
    let mut learner = Peer::start(&config(4), MemStorage::with_conf_state(conf.clone()));
    learner.step(1, 3, vote(VoteKind::Real, EntryId::default()));
    assert_eq!(verdict(&learner.settle()), Some((true, 3)));
    assert_eq!(learner.node.campaign(), Err(CampaignError::NotPromotable));

    let mut candidate =
        Peer::start(&Config { pre_vote: false, ..config(1) }, MemStorage::with_conf_state(conf));
    candidate.node.campaign().expect("nobody leads");
    candidate.settle();
    candidate.step(4, 1, granted());
    candidate.step(7, 1, granted());
    assert_eq!(candidate.node.status().role, Role::Candidate);
    candidate.step(3, 1, granted());
    assert_eq!(candidate.node.status().role, Role::Leader);
}

#[test]
fn a_granted_pre_vote_speaks_of_the_term_that_was_asked_about() {
    // etcd#8243: voters behind in term answered with their own, which the candidate took for an old answer.
    let mut voter = peer(1, 3);
    voter.step(2, 8, vote(VoteKind::Pre, EntryId::default()));
    assert_eq!(verdict(&voter.settle()), Some((true, 8)));
    assert_eq!(voter.term(), 0, "a pre-vote changes nothing");
}

#[test]
fn whoever_lags_behind_in_term_is_told() {
    // etcd#8501, openraft#1796: requests of a lower term were dropped in silence, and both sides waited for ever.
    let mut voter = Peer::start(&config(1), storage(3, &[1, 7], 7));
    voter.node.tick_n(ELECTION_TICK + 1);
    for kind in [VoteKind::Pre, VoteKind::Real] {
        voter.step(2, 3, vote(kind, id(3, 9)));
        assert_eq!(verdict(&voter.settle()), Some((false, 7)), "of {kind:?}");
    }
    let mut candidate = peer(2, 3);
    candidate.node.campaign().expect("nobody leads");
    candidate.step(1, 7, Body::VoteResp { pre: true, reject: true, commit: EntryId::default() });
    assert_eq!((candidate.term(), candidate.node.status().role), (7, Role::Follower));
}

#[test]
fn late_answers_to_a_pre_vote_start_nothing() {
    // openraft 511f33c7: a late answer started another campaign after the peer had already won.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    let term = peer.term();
    peer.step(3, term + 1, Body::VoteResp { pre: true, reject: false, commit: EntryId::default() });
    assert_eq!((peer.node.status().role, peer.term()), (Role::Leader, term));
    peer.node.campaign().expect("nothing happens on a leader");
    assert_eq!((peer.node.status().role, peer.term()), (Role::Leader, term));
}

#[test]
fn a_refused_append_is_still_a_word_of_the_leader() {
    // redpanda#31547: the timer was not reset by an append that did not fit, so the follower campaigned on and on.
    let mut peer = peer(1, 3);
    for _ in 0..5 * ELECTION_TICK {
        peer.node.tick();
        peer.step(2, 4, append(id(3, 50), Vec::new(), 0));
        peer.settle();
        assert_eq!(peer.node.status().role, Role::Follower);
    }
}

#[test]
fn missed_ticks_do_not_count_against_a_message_of_the_same_turn() {
    // After a pause a peer that counts ticks first would campaign although the leader's word waits in its inbox.
    let mut peer = peer(1, 3);
    peer.step(2, 4, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    peer.settle();
    peer.node.tick_n(100 * ELECTION_TICK);
    assert!(peer.node.has_ready(), "the timeout is due");
    peer.step(2, 4, Body::Heartbeat { commit: LogIndex(0), round: 2 });
    peer.settle();
    assert_eq!((peer.node.status().role, peer.node.status().lead), (Role::Follower, PeerId(2)));
    assert!(peer.node.next_deadline().is_some_and(|ticks| ticks >= ELECTION_TICK));
}

#[test]
fn nobody_votes_while_a_leader_counts_on_silence() {
    // cockroach#104042: a dead leader is forgotten so that others can be elected; what is owed to it is not.
    let mut peer = peer(1, 3);
    peer.step(2, 4, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    peer.settle();
    peer.node.forget_leader();
    assert_eq!(peer.node.status().lead, PeerId(0));
    for tick in 0..ELECTION_TICK {
        for kind in [VoteKind::Pre, VoteKind::Real] {
            peer.step(3, 9, vote(kind, id(4, 9)));
            assert_eq!(verdict(&peer.settle()), None, "at tick {tick}");
        }
        assert_eq!(peer.node.campaign(), Err(CampaignError::LeaderHeard), "at tick {tick}");
        assert_eq!(peer.term(), 4, "at tick {tick}");
        peer.node.tick();
    }
    peer.step(3, 9, vote(VoteKind::Real, id(4, 9)));
    assert_eq!(verdict(&peer.settle()), Some((true, 9)));
}

#[test]
fn a_restarted_voter_keeps_silent_for_an_election_timeout_and_a_tick() {
    // tikv#15035: a restarted voter forgot that it had heard its leader, and voted inside the leader's lease.
    let mut peer = Peer::start(&config(1), storage(3, &[4], 4));
    for tick in 0..=ELECTION_TICK {
        for kind in [VoteKind::Pre, VoteKind::Real, VoteKind::Transfer { leader_term: Term(3) }] {
            peer.step(3, 9, vote(kind, id(4, 9)));
            assert_eq!(verdict(&peer.settle()), None, "{kind:?} at tick {tick}");
        }
        assert_eq!(peer.node.campaign(), Err(CampaignError::LeaderHeard), "at tick {tick}");
        peer.node.tick();
    }
    peer.step(3, 9, vote(VoteKind::Real, id(4, 9)));
    assert_eq!(verdict(&peer.settle()), Some((true, 9)));

    let mut newborn = Peer::start(&Config { newborn: true, ..config(1) }, storage(3, &[4], 4));
    newborn.step(3, 9, vote(VoteKind::Real, id(4, 9)));
    assert_eq!(verdict(&newborn.settle()), Some((true, 9)), "nobody counts on who has never answered");
}

#[test]
fn a_restarted_sole_voter_waits_for_nobody() {
    // openraft#1246: a restarted singleton did not commit what it had. It leads at its first tick and does.
    let mut peer = Peer::start(&config(1), storage(1, &[4, 4], 4));
    peer.tick();
    assert_eq!((peer.node.status().role, peer.term()), (Role::Leader, 5));
    assert_eq!(peer.node.status().applied, LogIndex(3), "the tail is committed with the new entry");

    // With a change of members in its log it may not be alone.
    let mut storage = storage(1, &[4], 4);
    storage.append(&[change_entry(id(4, 2), &change(&[(ConfChangeKind::AddLearner, 2)]))]);
    let mut peer = Peer::start(&config(1), storage);
    peer.tick();
    assert_eq!(peer.node.status().role, Role::Follower);
}

#[test]
fn a_transfer_vote_needs_the_word_of_the_leader_that_was_heard() {
    // An old transfer vote that comes late finds voters that another leader counts on: it must not be granted.
    let heard = || {
        let mut peer = peer(1, 3);
        peer.step(2, 4, Body::Heartbeat { commit: LogIndex(0), round: 1 });
        peer.settle();
        peer
    };
    let ask = |peer: &mut Peer, leader_term| {
        peer.step(3, 5, vote(VoteKind::Transfer { leader_term: Term(leader_term) }, id(4, 9)));
        verdict(&peer.settle())
    };
    assert_eq!(ask(&mut heard(), 4), Some((true, 5)), "inside the lease that was given up");
    assert_eq!(ask(&mut heard(), 3), None);
    let mut later = heard();
    later.node.tick_n(ELECTION_TICK);
    later.step(3, 5, vote(VoteKind::Transfer { leader_term: Term(3) }, id(4, 9)));
    assert_eq!(verdict(&later.settle()), Some((false, 5)), "also when nobody counts on silence any more");
    // After a restart our own term stands for the leader's.
    let mut restarted = Peer::start(&config(1), storage(3, &[4], 4));
    assert_eq!(ask(&mut restarted, 4), Some((true, 5)));
}

#[test]
fn a_transfer_ends_the_leaders_term_with_the_message() {
    // etcd-io/raft#99, tikv#4680: a leader that had sent TimeoutNow went on serving reads from its lease.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    peer.answer_heartbeats();
    assert!(peer.node.lease().is_some());
    let term = peer.term();
    let proposed = peer.node.propose(b"x".as_slice().into()).expect("leads");
    assert_eq!(peer.node.transfer_leader(PeerId(4)), Err(TransferError::NotVoter));
    peer.node.transfer_leader(PeerId(2)).expect("a voter");
    assert_eq!(peer.node.lease(), None, "from the first moment");
    assert_eq!(peer.node.propose(b"y".as_slice().into()), Err(Dropped::Transferring { to: PeerId(2) }));
    assert_eq!(peer.node.transfer_leader(PeerId(3)), Err(TransferError::InProgress { to: PeerId(2) }));
    assert!(!to(&peer.settle(), 2).contains(&&Body::TimeoutNow), "the target lacks {proposed:?}");
    peer.step(2, term, stored(proposed.index.0));
    assert!(to(&peer.settle(), 2).contains(&&Body::TimeoutNow));
    assert_eq!(
        (peer.node.status().role, peer.term(), peer.node.status().lead),
        (Role::Follower, term, PeerId(0))
    );
    assert!(matches!(peer.node.propose(b"z".as_slice().into()), Err(Dropped::NotLeader { .. })));
    peer.step(2, term + 1, vote(VoteKind::Transfer { leader_term: Term(term) }, proposed));
    assert_eq!(verdict(&peer.settle()), Some((true, term + 1)), "the old leader votes for the new one");
}

#[test]
fn a_transfer_campaign_is_one_attempt_with_the_leaders_term() {
    // openraft#1805: the target of a transfer campaigned when it could not win; cockroach#9561: and then again.
    let mut target = peer(2, 3);
    target.step(1, 4, append(EntryId::default(), entries(1, &[4]), 1));
    target.settle();
    target.step(1, 4, Body::TimeoutNow);
    let messages = target.settle();
    let Some(Body::Vote { kind, .. }) = to(&messages, 3).first() else { panic!("no vote in {messages:?}") };
    assert_eq!((*kind, target.term()), (VoteKind::Transfer { leader_term: Term(4) }, 5));
    // Nobody answers: the next attempt asks first, like any other.
    let mut retries = Vec::new();
    for _ in 0..2 * ELECTION_TICK {
        retries.extend(target.tick());
    }
    assert!(matches!(to(&retries, 3).first(), Some(Body::Vote { kind: VoteKind::Pre, .. })), "{retries:?}");
    // A learner is no target.
    let conf = ConfState { learners: vec![PeerId(4)], ..ConfState::of_voters((1..=3).map(PeerId)) };
    let mut learner = Peer::start(&config(4), MemStorage::with_conf_state(conf));
    learner.step(1, 4, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    learner.step(1, 4, Body::TimeoutNow);
    assert_eq!(learner.node.status().role, Role::Follower);
}

#[test]
fn a_transfer_that_waits_too_long_is_given_up() {
    // A dead target must not block proposals for longer than an election timeout.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    peer.node.propose(b"x".as_slice().into()).expect("leads");
    peer.node.transfer_leader(PeerId(2)).expect("a voter");
    for _ in 0..ELECTION_TICK {
        peer.node.tick();
        peer.answer_heartbeats();
        peer.settle();
    }
    assert_eq!(peer.node.status().role, Role::Leader);
    assert!(peer.node.propose(b"y".as_slice().into()).is_ok());
}

#[test]
fn nobody_campaigns_over_a_change_that_it_has_not_applied() {
    // raft-rs#530, etcd-io/raft#32: members that are committed but not applied would elect by the old majority.
    let mut peer = peer(1, 3);
    let learner = change(&[(ConfChangeKind::AddLearner, 4)]);
    peer.step(2, 4, append(EntryId::default(), vec![change_entry(id(4, 1), &learner)], 1));
    let ready = peer.ready();
    peer.persist();
    assert!(ready.committed.is_empty());
    let committed = peer.ready().committed;
    assert_eq!(committed.len(), 1);
    peer.node.tick_n(3 * ELECTION_TICK);
    assert_eq!(peer.node.campaign(), Err(CampaignError::ConfChangeUnapplied));
    let _ = peer.ready();
    assert_eq!(peer.node.status().role, Role::Follower);
    peer.apply(&committed);
    peer.node.tick_n(3 * ELECTION_TICK);
    let _ = peer.ready();
    assert_eq!(peer.node.status().role, Role::PreCandidate);
}

#[test]
fn votes_spread_what_is_committed() {
    // etcd#12359: members 1 to 3 became 1 to 4; the one that could win did not know the change to be committed, and
    // whoever knew could not win. The commit index in votes gets it out: the candidate learns and applies first.
    let mut storage = storage(3, &[4], 4);
    storage.append(&[change_entry(id(4, 2), &change(&[(ConfChangeKind::AddLearner, 4)]))]);
    let mut candidate = Peer::start(&config(1), storage);
    candidate.node.tick_n(3 * ELECTION_TICK);
    let _ = candidate.ready();
    assert_eq!(candidate.node.status().role, Role::PreCandidate);
    candidate.step(2, 5, Body::VoteResp { pre: true, reject: false, commit: id(4, 2) });
    assert_eq!(candidate.node.status().role, Role::Follower);
    assert_eq!(candidate.node.status().committed, LogIndex(2));
    candidate.settle();
    assert_eq!(candidate.node.conf_state().learners, [PeerId(4)]);
    // Another entry at that position proves nothing.
    candidate.step(2, 5, vote(VoteKind::Pre, id(4, 9)));
    assert_eq!(candidate.node.status().committed, LogIndex(2));
}

#[test]
fn the_removed_neither_campaign_nor_count() {
    // etcd#3404: a removed peer became leader and found no progress for itself.
    let mut peer = Peer::start(&config(9), storage(3, &[4], 4));
    peer.node.tick_n(10 * ELECTION_TICK);
    assert_eq!(peer.node.next_deadline(), None);
    assert!(!peer.node.has_ready());
    assert_eq!(peer.node.campaign(), Err(CampaignError::NotPromotable));
    assert!(matches!(peer.node.propose(b"x".as_slice().into()), Err(Dropped::NotLeader { .. })));
}

#[test]
fn an_isolated_peer_comes_back_and_disturbs_nobody() {
    // etcd#5468, etcd#9333: a peer that had raised its term in isolation ignored the leader for ever. With pre-vote it
    // does not raise it; without, its answer at the higher term tells the leader.
    let mut peer = peer(1, 3);
    for _ in 0..20 * ELECTION_TICK {
        peer.tick();
    }
    assert_eq!((peer.term(), peer.node.status().role), (0, Role::PreCandidate));
    let mut stuck = Peer::start(&Config { pre_vote: false, ..config(1) }, MemStorage::with_voters(3));
    for _ in 0..20 * ELECTION_TICK {
        stuck.tick();
    }
    let term = stuck.term();
    assert!(term > 5);
    stuck.step(2, 3, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    let messages = stuck.settle();
    assert!(messages.iter().any(|message| message.term.0 == term && message.to == PeerId(2)), "{messages:?}");
}

#[test]
fn a_leader_without_a_quorum_refuses_and_steps_down() {
    // openraft: proposals are refused as soon as the quorum is stale, before the leader has found time to step down.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    peer.node.tick_n(ELECTION_TICK);
    assert_eq!(peer.node.propose(b"x".as_slice().into()), Err(Dropped::QuorumStale));
    peer.settle();
    assert_eq!((peer.node.status().role, peer.node.status().lead), (Role::Follower, PeerId(0)));
}

#[test]
fn two_leaders_in_a_term_are_reported() {
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    let (term, body) = (peer.term(), Body::Heartbeat { commit: LogIndex(0), round: 1 });
    assert!(matches!(peer.try_step(2, term, body), Err(StepError::Invalid(_))));
}

#[test]
fn timeouts_follow_from_the_seed_alone() {
    // etcd takes a global lock and the system's dice for each; nothing of that can be replayed.
    let deadline = |seed, group_id, peer| {
        let config = Config { seed, group_id, ..config(peer) };
        Peer::start(&config, MemStorage::with_voters(3)).node.next_deadline().expect("a voter")
    };
    assert_eq!(deadline(7, 1, 1), deadline(7, 1, 1));
    let mut seen: Vec<u64> = (0..64).map(|group| deadline(7, group, 1)).collect();
    assert!(seen.iter().all(|ticks| (ELECTION_TICK..2 * ELECTION_TICK).contains(ticks)), "{seen:?}");
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() as u64 > ELECTION_TICK / 2, "groups differ: {seen:?}");
}

#[test]
fn a_restart_does_not_lower_what_was_promised() {
    // The hard state comes back as it was written, and a lagging commit index is raised to what is applied.
    let mut storage = storage(3, &[1, 1, 1], 3);
    storage.force_hard_state(HardState {
        term: Term(3),
        vote: PeerId(2),
        commit: LogIndex(1),
        ..HardState::default()
    });
    let config = Config { applied: LogIndex(2), ..config(1) };
    let peer = Peer::start(&config, storage);
    let status = peer.node.status();
    assert_eq!((status.term, status.vote, status.committed), (Term(3), PeerId(2), LogIndex(2)));
}

#[test]
fn a_pre_candidate_starts_from_nothing() {
    // raft-rs#83, raft-rs#84: a pre-candidate kept the leader that it had followed and the votes of its last attempt, and with
    // check-quorum nobody was ever elected after the leader had gone.
    let mut peer = peer(1, 3);
    peer.step(2, 4, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    peer.settle();
    let attempt = |peer: &mut Peer| {
        while peer.node.status().role != Role::PreCandidate {
            assert!(peer.node.tick_count() < 10 * ELECTION_TICK, "it never campaigns");
            peer.tick();
        }
        assert_eq!(peer.node.status().lead, PeerId(0), "whoever campaigns follows nobody");
    };
    let answer = |reject| Body::VoteResp { pre: true, reject, commit: EntryId::default() };
    attempt(&mut peer);
    peer.step(2, 4, answer(true));
    peer.step(3, 4, answer(true));
    assert_eq!(peer.node.status().role, Role::Follower, "both said no");
    attempt(&mut peer);
    peer.step(3, 5, answer(false));
    assert_eq!(
        (peer.node.status().role, peer.term()),
        (Role::Candidate, 5),
        "what was said before is forgotten"
    );
}

#[test]
fn a_candidate_does_not_begin_again_for_a_late_pre_vote() {
    // openraft 511f33c7, the other half: the answers of a pre-vote that is already won come in while the campaign runs.
    let mut peer = peer(1, 5);
    peer.node.campaign().expect("nobody leads");
    for voter in 2..=5 {
        peer.step(voter, 1, Body::VoteResp { pre: true, reject: false, commit: EntryId::default() });
    }
    assert_eq!((peer.node.status().role, peer.term()), (Role::Candidate, 1));
}

#[test]
fn a_candidate_whose_vote_is_being_written_waits_for_its_timeout() {
    // openraft 558e1b94: a second election began, in another term, while the first vote was on its way to the disk.
    let config = Config { pre_vote: false, ..config(1) };
    let mut peer = Peer::start(&config, MemStorage::with_voters(3));
    peer.node.campaign().expect("nobody leads");
    for _ in 1..ELECTION_TICK {
        let _ = peer.ready();
        assert_eq!((peer.node.status().role, peer.term()), (Role::Candidate, 1));
        peer.node.tick();
    }
}

#[test]
fn a_peer_that_knows_no_members_keeps_its_vote() {
    // tikv#3572, tikv#8381: a peer that was created by a message, and had no snapshot yet, forgot its vote in a restart.
    let mut newcomer = Peer::start(&config(4), MemStorage::default());
    newcomer.step(2, 5, vote(VoteKind::Real, EntryId::default()));
    assert_eq!(verdict(&newcomer.settle()), Some((true, 5)));
    let mut again = Peer::start(&config(4), newcomer.node.storage().clone());
    again.node.tick_n(ELECTION_TICK + 1);
    again.step(3, 5, vote(VoteKind::Real, EntryId::default()));
    assert_eq!(verdict(&again.settle()), Some((false, 5)));
}

#[test]
fn a_peer_may_win_before_the_end_of_its_log_is_durable() {
    // raft-rs#489: becoming leader asserted that the whole log was durable, and stopped the process when it was not.
    let mut peer = Peer::start(&Config { pre_vote: false, ..config(1) }, MemStorage::with_voters(3));
    peer.step(2, 1, append(EntryId::default(), entries(1, &[1, 1, 1]), 0));
    let _ = peer.ready();
    peer.node.tick_n(2 * ELECTION_TICK);
    let _ = peer.ready();
    assert_eq!((peer.node.status().role, peer.term()), (Role::Candidate, 2));
    peer.step(3, 2, granted());
    assert_eq!(peer.node.status().role, Role::Candidate, "its own vote is not on the disk either");
    peer.step(2, 2, granted());
    let _ = peer.ready();
    assert_eq!((peer.node.status().role, peer.node.status().persisted), (Role::Leader, LogIndex(0)));
    peer.step(2, 2, stored(4));
    assert_eq!(peer.node.status().committed, LogIndex(0), "one other, and nothing of its own on the disk");
    peer.persist();
    assert_eq!(peer.node.status().committed, LogIndex(4));
}
