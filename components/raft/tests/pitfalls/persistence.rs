//! Writes that finish late, in part, or never.

use crate::kit::{
    Peer, append, change, change_entry, config, entries, id, peer, snapshot, storage, stored, to,
};
use bytes::Bytes;
use raft::{
    Body, ConfChangeKind, ConfState, Config, Dropped, EntryId, FetchContext, HardState, MemStorage, Reject,
    Role, Storage,
};
use types::{LogIndex, PeerId, Term};

#[test]
fn a_write_that_was_overwritten_counts_for_nothing_even_when_its_entries_are_back() {
    // etcd-io/raft#8, cockroach#124440: entries 2 and 3 of term 1 are being written; term 2 replaces them, and the leader
    // of term 3 puts entries of term 1 back. The completion of the first write then spoke of (3, term 1), which the log
    // held again, though what was durable by then, or would be, was something else.
    let mut peer = peer(1, 3);
    peer.step(2, 1, append(EntryId::default(), entries(1, &[1]), 0));
    peer.settle();
    peer.step(2, 1, append(id(1, 1), entries(2, &[1, 1]), 0));
    let first = peer.ready().append.expect("entries 2 and 3").token;
    peer.step(3, 2, append(id(1, 1), entries(2, &[2]), 0));
    let second = peer.ready().append.expect("the other entry 2").token;
    peer.step(2, 3, append(id(1, 1), entries(2, &[1, 1]), 0));
    let ready = peer.ready();
    let third = ready.append.expect("entries 2 and 3 again").token;
    assert_eq!((first.mark.index, third.mark.index), (LogIndex(3), LogIndex(3)));
    assert!(first.mark.accepted_term < second.mark.accepted_term);

    peer.write(1);
    peer.node.on_persist(first);
    assert_eq!(
        peer.node.status().persisted,
        LogIndex(1),
        "the first write is gone but for what was before it"
    );
    peer.write(1);
    peer.node.on_persist(second);
    assert_eq!(peer.node.status().persisted, LogIndex(1));
    peer.write(1);
    // Still readable from where they wait, not from the storage of the time.
    peer.node.on_persist(first);
    assert_eq!(peer.node.status().persisted, LogIndex(1));
    peer.node.on_persist(third);
    assert_eq!(peer.node.status().persisted, LogIndex(3));
    peer.node.on_persist(second);
    assert_eq!(peer.node.status().persisted, LogIndex(3), "openraft 2af491fb: completions out of order");
    assert_eq!(peer.stored_terms(), [1, 1, 1]);
    peer.node.check_invariants().expect("invariants");
}

#[test]
fn entries_are_served_from_memory_until_their_own_write_can_be_read() {
    // etcd#1690: the completion for e1..e3 freed e1'..e3', which had replaced them and were not written yet.
    let mut peer = Peer::start(&config(1), MemStorage::with_voters(3));
    peer.step(2, 1, append(EntryId::default(), entries(1, &[1, 1, 1]), 0));
    let old = peer.ready().append.expect("three entries").token;
    peer.write(1);
    peer.step(3, 2, append(EntryId::default(), entries(1, &[2, 2, 2]), 0));
    let _ = peer.ready();
    peer.node.on_stable(old);
    assert_eq!(peer.node.status().last, id(2, 3));
    peer.step(3, 2, append(id(2, 3), Vec::new(), 3));
    assert!(peer.ready().committed.is_empty(), "committed, and not durable here");
    peer.persist();
    let committed = peer.ready().committed;
    assert_eq!(committed.iter().map(|entry| entry.term.0).collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn a_sole_voter_does_not_lead_a_term_that_it_could_forget() {
    // Seen in raft-rs: with a learner beside it, a sole voter led at once, and its appends left together with the write
    // that first recorded the term. After a crash it led the same term again, with another entry at the same place. Ours
    // led in silence until its vote was durable; in the simulator one lost power meanwhile, and voted for another.
    let conf = ConfState { learners: vec![PeerId(2)], ..ConfState::of_voters([PeerId(1)]) };
    let mut peer = Peer::start(&config(1), MemStorage::with_conf_state(conf));
    peer.node.tick();
    let ready = peer.ready();
    let campaign = ready.append.and_then(|append| append.hard_state).map(|state| (state.term, state.vote));
    assert_eq!((campaign, peer.node.status().role), (Some((Term(1), PeerId(1))), Role::Candidate));
    assert!(ready.messages.is_empty() && ready.messages_after.is_empty(), "there is nobody to ask");
    assert_eq!(peer.node.propose(Bytes::from_static(b"x")), Err(Dropped::NotLeader { lead: PeerId(0) }));
    peer.persist();
    assert_eq!(peer.node.status().role, Role::Leader, "its own disk is the quorum");
    assert!(!to(&peer.ready().messages, 2).is_empty(), "and it speaks at once");
    peer.persist();
    assert_eq!(peer.node.status().committed, LogIndex(1));
}

#[test]
fn only_promises_and_data_are_written() {
    // raft-rs#372, etcd 0675f3d: whether a write must be synced was said where it need not, and not said where it must.
    // Here there is nothing to say: whatever is written must be synced, and a commit index alone is not written.
    let mut peer = peer(1, 3);
    peer.step(2, 1, append(EntryId::default(), entries(1, &[1]), 0));
    let write = peer.ready().append.expect("term and entry");
    assert_eq!(write.hard_state.map(|state| (state.term, state.commit)), Some((Term(1), LogIndex(0))));
    peer.persist();
    peer.step(2, 1, append(id(1, 1), Vec::new(), 1));
    let ready = peer.ready();
    assert_eq!((ready.committed.len(), ready.append), (1, None), "it is applied, and that is all");
    peer.step(2, 1, append(id(1, 1), entries(2, &[1]), 1));
    let write = peer.ready().append.expect("an entry");
    assert_eq!(write.hard_state.map(|state| state.commit), Some(LogIndex(1)), "noted along with it");
    peer.persist();
    peer.step(2, 1, append(id(1, 2), entries(3, &[1]), 1));
    let write = peer.ready().append.expect("an entry");
    assert_eq!((write.entries.len(), write.hard_state), (1, None));
    peer.persist();
    peer.step(3, 2, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    assert_eq!(peer.ready().append.expect("a term").hard_state.map(|state| state.term), Some(Term(2)));
    peer.persist();
    peer.step(3, 2, Body::Heartbeat { commit: LogIndex(0), round: 2 });
    assert_eq!(peer.ready().append, None);
}

#[test]
fn what_was_applied_before_a_restart_is_committed_in_the_next_write() {
    // Found by our own checks: a change of members was applied, the commit index that says so was in no write, and after a
    // restart the log took the next change without saying it either. One power loss later, which takes back what is applied
    // and not durable, the peer would campaign by members that are two changes behind, past the quorum of the others.
    let mut storage = storage(3, &[1, 1, 1], 1);
    storage.set_hard_state(HardState { term: Term(1), commit: LogIndex(1), ..HardState::default() });
    let config = Config { applied: LogIndex(3), ..config(1) };
    let mut peer = Peer::start(&config, storage);
    peer.step(2, 1, append(id(1, 3), entries(4, &[1]), 3));
    let write = peer.ready().append.expect("an entry");
    assert_eq!((write.entries.len(), write.hard_state.map(|state| state.commit)), (1, Some(LogIndex(3))));
}

#[test]
fn a_leader_counts_on_itself_only_when_durable() {
    // openraft a9f696a9: a leader counted its own blank entry before it was on disk, and committed without a quorum.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    let _ = peer.ready();
    peer.step(2, 1, stored(2));
    assert_eq!(peer.node.status().committed, LogIndex(1), "one other and a half");
    let token = peer.write(1);
    peer.node.on_stable(token);
    assert_eq!(peer.node.status().committed, LogIndex(1), "readable is not durable");
    peer.node.on_persist(token);
    assert_eq!(peer.node.status().committed, LogIndex(2));
}

#[test]
fn others_may_commit_what_is_not_durable_here_but_it_is_not_applied_here() {
    // raft-rs#537, tikv#17868: a leader applied what its own disk did not have, and restarted behind its state machine.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    let _ = peer.ready();
    peer.step(2, 1, stored(2));
    peer.step(3, 1, stored(2));
    assert_eq!(peer.node.status().committed, LogIndex(2));
    assert!(peer.ready().committed.is_empty());
    peer.persist();
    assert_eq!(peer.ready().committed.len(), 1);
}

#[test]
fn pages_count_what_is_still_being_applied() {
    // etcd 2e0653d: each page kept to its limit, and their sum did not.
    let mut storage = storage(3, &[1; 10], 1);
    storage.set_hard_state(HardState { term: Term(1), commit: LogIndex(10), ..HardState::default() });
    // An entry weighs 24 bytes and its three bytes of data, the last one byte more.
    let mut peer = Peer::start(&Config { max_committed_bytes_per_ready: 60, ..config(1) }, storage);
    let first = peer.ready().committed;
    assert_eq!(first.len(), 2);
    let second = peer.ready().committed;
    assert_eq!(second.len(), 1, "there is a little room left, and one entry always passes");
    assert!(!peer.node.has_ready());
    assert!(peer.ready().committed.is_empty());
    peer.apply(&first[..1]);
    assert!(!peer.node.has_ready(), "pages are released as a whole");
    peer.apply(&first[1..]);
    assert_eq!(peer.ready().committed.first().map(|entry| entry.index), Some(LogIndex(4)));
}

#[test]
fn a_second_snapshot_replaces_one_that_is_being_written() {
    // raft-rs#417: the durable index stood still when a second snapshot arrived during the write of the first.
    let mut peer = peer(3, 3);
    peer.step(1, 2, Body::Snapshot { snapshot: Box::new(snapshot(id(1, 5), 3)) });
    let first = peer.ready().append.expect("a snapshot").token;
    peer.step(1, 2, Body::Snapshot { snapshot: Box::new(snapshot(id(2, 9), 3)) });
    peer.step(1, 2, append(id(2, 9), entries(10, &[2]), 10));
    let second = peer.ready().append.expect("another, and an entry");
    assert_eq!((second.snapshot.is_some(), second.entries.len()), (true, 1));
    peer.write(1);
    peer.node.on_persist(first);
    assert_eq!(peer.node.status().persisted, LogIndex(5));
    assert_eq!(peer.node.status().last, id(2, 10));
    peer.write(1);
    peer.node.on_persist(second.token);
    assert_eq!(peer.node.status().persisted, LogIndex(10));
    assert!(peer.ready().committed.is_empty(), "not before the snapshot is installed");
    peer.node.on_applied(LogIndex(9));
    assert_eq!(peer.ready().committed.len(), 1);
}

#[test]
fn entries_fetched_for_another_time_are_not_sent() {
    // raft-rs#462, tikv#12026: the completion of a fetch came after the peer, the role or the term had gone.
    let mut peer = Peer::leader(&config(1), storage(3, &[1; 5], 1));
    let term = peer.term();
    peer.node.storage_mut().set_entries_unavailable(true);
    let reject = Some(Reject { rejected: LogIndex(5), hint: id(1, 2) });
    peer.step(2, term, Body::AppendResp { index: LogIndex(0), commit: LogIndex(0), reject });
    assert!(to(&peer.settle(), 2).is_empty(), "being fetched");
    let context = FetchContext { to: PeerId(2), term: Term(term) };
    peer.node.on_entries_fetched(FetchContext { term: Term(term - 1), ..context });
    peer.node.on_entries_fetched(FetchContext { to: PeerId(9), ..context });
    assert!(to(&peer.settle(), 2).is_empty(), "still being fetched");
    peer.node.storage_mut().set_entries_unavailable(false);
    peer.node.on_entries_fetched(context);
    let messages = peer.settle();
    assert!(
        matches!(to(&messages, 2)[..], [Body::Append { prev, entries, .. }] if *prev == id(1, 2) && entries.len() == 4),
        "{messages:?}"
    );
    peer.step(2, term + 5, Body::HeartbeatResp { commit: LogIndex(0), round: 1 });
    peer.node.on_entries_fetched(context);
    assert!(to(&peer.settle(), 2).is_empty(), "we no longer lead");
}

#[test]
fn a_restart_finds_every_prefix_of_the_writes_sound() {
    // CurvineIO#1368: a commit index was on disk before the entries that it covers, and the group did not start again.
    let mut peer = Peer::settled_leader(&config(1), MemStorage::with_voters(3));
    for _ in 0..5 {
        peer.node.propose(Bytes::from_static(b"x")).expect("leads");
        let last = peer.node.status().last.index.0;
        let _ = peer.ready();
        peer.step(2, 1, stored(last));
        peer.step(3, 1, stored(last));
        let _ = peer.ready();
    }
    let base = peer.node.storage().clone();
    for written in 0..=peer.writes.len() {
        let mut disk = base.clone();
        peer.writes[..written].iter().for_each(|append| disk.write(append));
        Peer::start(&config(1), disk).node.check_invariants().expect("invariants");
    }
}

#[test]
fn storage_that_contradicts_itself_is_refused_at_the_start() {
    // etcd-io/raft#25: what cannot be is found when the group starts, for this group alone.
    let broken = |state: HardState, applied: u64| {
        let mut storage = storage(3, &[1, 1, 2], 2);
        storage.force_hard_state(state);
        raft::RawNode::new(&Config { applied: LogIndex(applied), ..config(1) }, storage).map(|_| ())
    };
    let sound = HardState { term: Term(2), commit: LogIndex(3), ..HardState::default() };
    assert_eq!(broken(sound, 3), Ok(()));
    for (state, applied) in [
        (HardState { commit: LogIndex(4), ..sound }, 0),
        (sound, 4),
        (HardState { term: Term(1), ..sound }, 0),
    ] {
        let result = broken(state, applied);
        assert!(
            matches!(result, Err(raft::Error::Poisoned { .. })),
            "{state:?}, applied {applied}: {result:?}"
        );
    }
}

#[test]
fn changes_of_members_are_found_again_after_a_restart() {
    // A leader that did not see an unapplied change in its log would begin another beside it (etcd#7625).
    let mut storage = storage(3, &[1, 1], 1);
    storage.append(&[change_entry(id(1, 3), &change(&[(ConfChangeKind::AddLearner, 4)]))]);
    storage.set_hard_state(HardState { term: Term(1), commit: LogIndex(3), ..HardState::default() });
    let mut peer = Peer::start(&Config { applied: LogIndex(1), ..config(1) }, storage);
    peer.node.tick_n(50);
    assert_eq!(peer.node.campaign(), Err(raft::CampaignError::ConfChangeUnapplied));
    peer.settle();
    assert_eq!(peer.node.conf_state().learners, [PeerId(4)]);
}

#[test]
fn storage_in_memory_refuses_whoever_breaks_its_contract() {
    // raft-rs#392, raft-rs#428: a driver mixed two loops, or appended without truncating, and nobody noticed. All tests and
    // simulations of this crate write through this storage.
    let refuses = |what: &str, write: raft::Append| {
        let result = std::panic::catch_unwind(|| {
            let mut storage = storage(3, &[1, 1, 2], 2);
            let state =
                HardState { term: Term(2), vote: PeerId(3), commit: LogIndex(2), ..HardState::default() };
            storage.set_hard_state(state);
            storage.compact(LogIndex(1), Bytes::new());
            storage.write(&write);
        });
        assert!(result.is_err(), "{what} is taken");
    };
    let state = |term, vote, commit| {
        let state = HardState {
            term: Term(term),
            vote: PeerId(vote),
            commit: LogIndex(commit),
            ..HardState::default()
        };
        raft::Append { hard_state: Some(state), ..raft::Append::default() }
    };
    let log = |first, terms: &[u64]| raft::Append {
        entries: entries(first, terms).into(),
        ..raft::Append::default()
    };
    let replaced = |index| raft::Append {
        snapshot: Some(Box::new(snapshot(id(1, index), 3))),
        ..raft::Append::default()
    };
    refuses("a term that falls", state(1, 0, 2));
    refuses("a commit index that falls", state(2, 3, 1));
    refuses("a second vote in a term", state(2, 2, 2));
    refuses("a commit index beyond the log", state(2, 3, 4));
    refuses("a gap", log(5, &[2]));
    refuses("an entry where a snapshot stands", log(1, &[1]));
    refuses("a snapshot before one", replaced(0));
    let mut sound = storage(3, &[1, 1, 2], 2);
    sound.write(&log(3, &[3, 3]));
    assert_eq!(sound.last_index(), LogIndex(4));
}
