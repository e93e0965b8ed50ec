//! Changes of members.

use crate::kit::{ELECTION_TICK, Peer, append, change, change_entry, config, id, peer, storage, stored, to};
use bytes::Bytes;
use raft::{
    Body, ConfChange, ConfChangeError, ConfChangeKind, ConfState, Config, Dropped, EntryId, Error, HardState,
    MemStorage, Role, Transition,
};
use types::{LogIndex, PeerId, Term};

use ConfChangeKind::{AddLearner, AddVoter, Remove};

fn refused(peer: &mut Peer, change: ConfChange) -> ConfChangeError {
    match peer.node.propose_conf_change(change) {
        Err(Dropped::ConfChange(error)) => error,
        other => panic!("not refused for the change: {other:?}"),
    }
}

fn ids(list: &[u64]) -> Vec<PeerId> {
    list.iter().copied().map(PeerId).collect()
}

/// Voters 1 to 3 and learner 4.
fn with_learner() -> MemStorage {
    MemStorage::with_conf_state(ConfState { learners: ids(&[4]), ..ConfState::of_voters(ids(&[1, 2, 3])) })
}

#[test]
fn one_change_at_a_time_is_under_way() {
    // etcd#7625, valkey#3926: changes take effect when applied, which is safe only while at most one is unapplied.
    let mut peer = Peer::settled_leader(&config(1), with_learner());
    let first = peer.node.propose_conf_change(change(&[(AddLearner, 5)])).expect("nothing is under way");
    let pending = ConfChangeError::Pending { until: first.index };
    assert_eq!(refused(&mut peer, change(&[(AddLearner, 6)])), pending);
    let _ = peer.ready();
    peer.persist();
    peer.step(2, 1, stored(2));
    let committed = peer.ready().committed;
    assert_eq!(refused(&mut peer, change(&[(AddLearner, 6)])), pending, "committed is not applied");
    peer.apply(&committed);
    assert!(peer.node.propose_conf_change(change(&[(AddLearner, 6)])).is_ok());
}

#[test]
fn a_new_leader_counts_everything_in_its_log_as_a_change() {
    // Ongaro's bug of 2015, openraft#2051, braft#182: a new leader began a change before it knew whether an earlier one
    // was committed; both quorums then missed each other.
    let mut storage = storage(3, &[1], 1);
    storage.append(&[change_entry(id(1, 2), &change(&[(AddLearner, 4)]))]);
    let mut peer = Peer::leader(&config(1), storage);
    assert_eq!(refused(&mut peer, change(&[(AddLearner, 5)])), ConfChangeError::NotCommittedInTerm);
    peer.step(2, 2, stored(3));
    let committed = loop {
        let committed = peer.ready().committed;
        if !committed.is_empty() {
            break committed;
        }
    };
    let pending = ConfChangeError::Pending { until: LogIndex(2) };
    assert_eq!(refused(&mut peer, change(&[(AddLearner, 5)])), pending);
    peer.apply(&committed[..2]);
    assert!(peer.node.propose_conf_change(change(&[(AddLearner, 5)])).is_ok());
}

#[test]
fn a_bad_change_in_the_log_is_an_error_and_changes_nothing() {
    // etcd-io/raft#80, raft-rs#290: a change that broke a rule stopped every process that applied it.
    let mut peer = peer(1, 3);
    let before = peer.node.conf_state().clone();
    let joint = |ops| ConfChange { transition: Transition::JointExplicit, ..change(ops) };
    for (change, error) in [
        (change(&[(Remove, 2)]), ConfChangeError::RemovesVoter(PeerId(2))),
        (change(&[(Remove, 9)]), ConfChangeError::NotMember(PeerId(9))),
        (change(&[(AddVoter, 9)]), ConfChangeError::NotLearner(PeerId(9))),
        (change(&[(AddVoter, 2)]), ConfChangeError::AlreadyVoter(PeerId(2))),
        (change(&[(AddLearner, 0)]), ConfChangeError::NoId),
        (change(&[(AddLearner, 9), (Remove, 9)]), ConfChangeError::NamedTwice(PeerId(9))),
        (change(&[]), ConfChangeError::NotJoint),
        (joint(&[(AddLearner, 1), (AddLearner, 2), (AddLearner, 3)]), ConfChangeError::NoVoterLeft),
    ] {
        assert_eq!(peer.node.apply_conf_change(&change), Err(Error::ConfChange(error)), "{change:?}");
        assert_eq!(peer.node.conf_state(), &before);
    }
    assert_eq!(peer.node.poisoned(), None);
}

#[test]
fn a_voter_is_made_a_learner_before_it_is_removed() {
    // With changes that count when applied, a removed voter may still be needed to elect (etcd#7625, tikv#12359).
    let mut peer = Peer::settled_leader(&config(1), with_learner());
    assert_eq!(refused(&mut peer, change(&[(Remove, 3)])), ConfChangeError::RemovesVoter(PeerId(3)));
    let swap = change(&[(AddVoter, 4), (Remove, 3)]);
    assert_eq!(refused(&mut peer, swap), ConfChangeError::RemovesVoter(PeerId(3)));
    for (step, voters, learners) in
        [((AddLearner, 3), vec![1, 2], vec![3, 4]), ((Remove, 3), vec![1, 2], vec![4])]
    {
        peer.acknowledge_all();
        peer.node.propose_conf_change(change(&[step])).expect("one step at a time");
        peer.settle();
        peer.acknowledge_all();
        assert_eq!(peer.node.conf_state().voters, ids(&voters));
        assert_eq!(peer.node.conf_state().learners, ids(&learners));
    }
}

#[test]
fn a_joint_configuration_is_left_by_whoever_leads_then() {
    // etcd#12136: only the leader that had begun a joint configuration left it; after a change of leader nobody did.
    let swap = change(&[(AddVoter, 4), (AddLearner, 3)]);
    let mut storage = with_learner();
    storage.append(&[change_entry(id(1, 1), &swap)]);
    storage.set_hard_state(HardState { term: Term(1), ..HardState::default() });
    let mut peer = Peer::leader(&config(1), storage);
    let term = peer.term();
    peer.step(2, term, stored(2));
    peer.settle();
    let joint = peer.node.conf_state();
    assert_eq!((joint.is_joint(), joint.auto_leave), (true, true));
    assert_eq!((joint.voters.clone(), joint.learners_next.clone()), (ids(&[1, 2, 4]), ids(&[3])));
    assert_eq!(peer.node.status().last, id(term, 3), "the change that leaves is proposed, once");
    for _ in 0..5 {
        peer.tick();
    }
    assert_eq!(peer.node.status().last, id(term, 3));
    peer.step(2, term, stored(3));
    peer.settle();
    let left = ConfState { learners: ids(&[3]), ..ConfState::of_voters(ids(&[1, 2, 4])) };
    assert_eq!(peer.node.conf_state(), &left);
}

#[test]
fn while_joint_commits_need_both_majorities() {
    // camunda#61854: a leader left the joint configuration before it had ever been in force everywhere.
    let mut peer = Peer::settled_leader(
        &config(1),
        MemStorage::with_conf_state(ConfState {
            learners: ids(&[4, 5]),
            ..ConfState::of_voters(ids(&[1, 2, 3]))
        }),
    );
    let explicit = ConfChange {
        transition: Transition::JointExplicit,
        ..change(&[(AddVoter, 4), (AddVoter, 5), (AddLearner, 2), (AddLearner, 3)])
    };
    peer.node.propose_conf_change(explicit).expect("all are near");
    peer.settle();
    peer.step(2, 1, stored(2));
    peer.settle();
    assert!(peer.node.conf_state().is_joint());
    assert_eq!(refused(&mut peer, change(&[(AddLearner, 9)])), ConfChangeError::Joint);
    peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    peer.settle();
    peer.step(2, 1, stored(3));
    peer.step(3, 1, stored(3));
    assert_eq!(peer.node.status().committed, LogIndex(2), "the next voters have not got it");
    peer.step(5, 1, stored(3));
    assert_eq!(peer.node.status().committed, LogIndex(3));
    peer.node.propose_conf_change(ConfChange::default()).expect("an explicit one is left when asked");
    peer.acknowledge_all();
    peer.settle();
    assert_eq!(
        peer.node.conf_state(),
        &ConfState { learners: ids(&[2, 3]), ..ConfState::of_voters(ids(&[1, 4, 5])) }
    );
}

#[test]
fn a_demoted_leader_leads_until_the_joint_configuration_ends() {
    // etcd#11038, cockroach#105578: a removed leader went on with its heartbeats, or left before the change was through.
    let mut peer = Peer::settled_leader(&config(1), with_learner());
    peer.node.propose_conf_change(change(&[(AddVoter, 4), (AddLearner, 1)])).expect("all are near");
    peer.settle();
    peer.step(2, 1, stored(2));
    peer.step(3, 1, stored(2));
    peer.settle();
    assert!(peer.node.conf_state().is_joint());
    assert_eq!(peer.node.status().role, Role::Leader, "it is among the outgoing voters");
    assert_eq!(peer.node.status().last.index, LogIndex(3), "and ends the joint configuration");
    for from in [2, 3, 4] {
        peer.step(from, 1, stored(3));
    }
    assert_eq!(peer.node.status().role, Role::Leader, "until it has applied that");
    let messages = peer.settle();
    assert_eq!(peer.node.status().role, Role::Follower);
    assert!(peer.node.is_learner() && !peer.node.promotable());
    // openraft 0023cff1: the others must hear that it is committed, or they vote by members that are no longer.
    for other in [2, 3, 4] {
        let told =
            to(&messages, other).iter().any(|body| matches!(body, Body::Append { commit: LogIndex(3), .. }));
        assert!(told, "{other} of {messages:?}");
    }
}

#[test]
fn a_change_that_nobody_could_be_elected_after_is_refused() {
    // etcd#11284: a voter that had never been heard was added, and the group lost its quorum.
    let mut peer = Peer::settled_leader(
        &config(1),
        MemStorage::with_conf_state(ConfState { learners: ids(&[2]), ..ConfState::of_voters(ids(&[1])) }),
    );
    for _ in 0..ELECTION_TICK {
        peer.node.tick();
        peer.settle();
    }
    assert_eq!(refused(&mut peer, change(&[(AddVoter, 2)])), ConfChangeError::NoElectableQuorum);
    peer.acknowledge_all();
    assert!(peer.node.propose_conf_change(change(&[(AddVoter, 2)])).is_ok());
}

#[test]
fn the_removed_are_told_and_then_forgotten() {
    // A learner that is removed learns so from the last message that it is sent.
    let mut peer = Peer::settled_leader(&config(1), with_learner());
    peer.node.propose_conf_change(change(&[(Remove, 4)])).expect("a learner");
    peer.settle();
    peer.step(4, 1, stored(2));
    peer.step(2, 1, stored(2));
    let messages = peer.settle();
    assert!(
        to(&messages, 4).iter().any(|body| matches!(body, Body::Append { commit: LogIndex(2), .. })),
        "{messages:?}"
    );
    let late = peer.try_step(4, 1, stored(2));
    assert_eq!(late, Err(raft::StepError::UnknownSender { from: PeerId(4) }));
}

#[test]
fn a_peer_that_is_added_again_starts_from_nothing() {
    // openraft cecb5de8: what had been acknowledged before a peer was removed counted after it was back, empty.
    let mut peer = Peer::settled_leader(&config(1), with_learner());
    for ops in [[(Remove, 4)], [(AddLearner, 4)]] {
        peer.node.propose_conf_change(change(&ops)).expect("one after the other");
        peer.settle();
        peer.acknowledge_all();
    }
    let progress = peer.progress(4);
    assert_eq!(progress.matched, LogIndex(0));
}

#[test]
fn a_leader_alone_becomes_two_and_one_again() {
    // etcd#10563: with two members, one change is a matter of life and death for the quorum.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(1));
    peer.tick();
    for (step, voters) in
        [((AddLearner, 2), vec![1]), ((AddVoter, 2), vec![1, 2]), ((AddLearner, 2), vec![1])]
    {
        peer.acknowledge_all();
        peer.node.propose_conf_change(change(&[step])).expect("near and heard");
        peer.settle();
        peer.acknowledge_all();
        assert_eq!(peer.node.conf_state().voters, ids(&voters));
        assert_eq!(peer.node.status().role, Role::Leader);
    }
}

#[test]
fn configurations_are_kept_whole_by_every_change() {
    // etcd e515a67: the joint half of a configuration was lost on the way through a snapshot. And by thesis §4.1, §4.3:
    // majorities of a configuration and the next always meet.
    let mut state = 5_u64;
    let mut draw = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let majorities = |voters: &[PeerId]| -> Vec<Vec<PeerId>> {
        (0_u32..1 << voters.len())
            .filter(|mask| mask.count_ones() as usize > voters.len() / 2)
            .map(|mask| {
                voters.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0).map(|(_, id)| *id).collect()
            })
            .collect()
    };
    let mut conf = ConfState::of_voters(ids(&[1, 2, 3]));
    let (mut joint, mut simple) = (0, 0);
    for _ in 0..3_000 {
        let kinds = [AddVoter, AddLearner, Remove];
        let transitions = [Transition::Auto, Transition::JointImplicit, Transition::JointExplicit];
        let ops: Vec<_> = (0..draw(4)).map(|_| (kinds[draw(3) as usize], 1 + draw(6))).collect();
        let change = ConfChange { transition: transitions[draw(3) as usize], ..change(&ops) };
        let Ok(next) = conf.changed(&change) else { continue };
        assert_eq!(next.validate(), Ok(()), "{conf:?} by {change:?}");
        // Either half of a joint configuration must agree, so it suffices that one half of one meets one of the other.
        let halves = |conf: &ConfState| {
            [conf.voters.clone(), conf.voters_outgoing.clone()].into_iter().filter(|half| !half.is_empty())
        };
        let meet = halves(&conf).any(|old| {
            halves(&next).any(|new| {
                majorities(&old)
                    .iter()
                    .all(|a| majorities(&new).iter().all(|b| a.iter().any(|id| b.contains(id))))
            })
        });
        assert!(meet, "{conf:?} by {change:?} to {next:?}");
        let bytes = codec::Encode::to_bytes(&next);
        assert_eq!(codec::Decode::from_bytes(&bytes), Ok(next.clone()));
        if next.is_joint() {
            joint += 1
        } else {
            simple += 1
        }
        conf = next;
    }
    assert!(joint > 100 && simple > 100, "{joint} joint, {simple} simple");
}

#[test]
fn a_restart_in_the_middle_of_a_joint_change_goes_on_with_it() {
    // Crash at each step: before and after the joint entry is applied, the group ends up out of it.
    let swap = change(&[(AddVoter, 4), (AddLearner, 3)]);
    for applied in 0..=1 {
        let mut storage = with_learner();
        storage.append(&[change_entry(id(1, 1), &swap)]);
        storage.set_hard_state(HardState { term: Term(1), commit: LogIndex(1), ..HardState::default() });
        if applied == 1 {
            let joint = with_learner().initial_conf().changed(&swap).expect("a sound change");
            storage.set_conf_state(joint);
        }
        let config = Config { applied: LogIndex(applied), ..config(1) };
        let mut peer = Peer::leader(&config, storage);
        let term = peer.term();
        for _ in 0..3 {
            peer.acknowledge_all();
        }
        let status = peer.node.status();
        assert_eq!((status.term.0, status.committed), (term, LogIndex(3)));
        assert!(!peer.node.conf_state().is_joint(), "{:?}", peer.node.conf_state());
    }
}

/// What a storage says its members are.
trait InitialConf {
    fn initial_conf(&self) -> ConfState;
}

impl InitialConf for MemStorage {
    fn initial_conf(&self) -> ConfState {
        raft::Storage::initial_state(self).expect("in memory").conf_state
    }
}

#[test]
fn followers_apply_what_they_are_told_whoever_proposed_it() {
    let mut peer = peer(2, 3);
    let learner = change_entry(id(1, 1), &change(&[(AddLearner, 4)]));
    peer.step(1, 1, append(EntryId::default(), vec![learner], 0));
    peer.settle();
    assert!(peer.node.conf_state().learners.is_empty(), "appended is not applied");
    peer.step(1, 1, append(id(1, 1), Vec::new(), 1));
    peer.settle();
    assert_eq!(peer.node.conf_state().learners, ids(&[4]));
}

#[test]
fn a_change_counts_from_when_it_is_applied() {
    // openraft a5064712: entries in one batch with a change of members were committed by members that were not in force yet.
    let begin = |ops: &[(ConfChangeKind, u64)]| {
        let mut peer = Peer::settled_leader(&config(1), with_learner());
        peer.node.propose_conf_change(change(ops)).expect("all are near");
        peer.node.propose(Bytes::from_static(b"x")).expect("leads");
        let _ = peer.ready();
        peer.persist();
        peer
    };
    let mut adding = begin(&[(AddVoter, 4)]);
    adding.step(4, 1, stored(3));
    assert_eq!(adding.node.status().committed, LogIndex(1), "4 does not count yet");
    let mut demoting = begin(&[(AddLearner, 3)]);
    demoting.step(3, 1, stored(3));
    assert_eq!(demoting.node.status().committed, LogIndex(3), "3 still counts");
}

#[test]
fn a_leader_that_is_not_among_the_voters_does_not_count_itself() {
    // camunda#15232, RedisLabs/raft#13: a leader on its way out counted itself for the majority that it was not part of.
    let mut peer = Peer::settled_leader(&config(1), with_learner());
    peer.node.propose_conf_change(change(&[(AddVoter, 4), (AddLearner, 1)])).expect("all are near");
    peer.settle();
    peer.step(2, 1, stored(2));
    peer.settle();
    let joint = peer.node.conf_state();
    assert_eq!((joint.voters.clone(), joint.voters_outgoing.clone()), (ids(&[2, 3, 4]), ids(&[1, 2, 3])));
    peer.step(2, 1, stored(3));
    assert_eq!(peer.node.status().committed, LogIndex(2), "two of the outgoing, and one of the incoming");
    peer.step(4, 1, stored(3));
    assert_eq!(peer.node.status().committed, LogIndex(3));
}

#[test]
fn a_transfer_ends_when_its_target_is_no_voter_any_longer() {
    // A leader that went on waiting would refuse proposals for a target that can never lead.
    let mut peer = Peer::settled_leader(&config(1), with_learner());
    peer.node.propose_conf_change(change(&[(AddLearner, 2)])).expect("all are near");
    let _ = peer.ready();
    peer.persist();
    peer.node.transfer_leader(types::PeerId(2)).expect("it votes until the change is applied");
    assert!(matches!(peer.node.propose(Bytes::new()), Err(Dropped::Transferring { .. })));
    peer.step(3, 1, stored(2));
    let committed = peer.ready().committed;
    peer.apply(&committed);
    assert_eq!(peer.node.conf_state().voters, ids(&[1, 3]));
    assert!(peer.node.propose(Bytes::new()).is_ok());
}
