//! Rules that hold for whatever comes, tried with what is drawn.

use crate::kit::{ELECTION_TICK, Peer, append, config, entries, id, notices, storage, stored, vote};
use bytes::Bytes;
use env::{Dice, SplitMix};
use raft::{
    Body, Config, Entry, EntryId, FetchContext, HardState, InitialState, MemStorage, Message, PersistToken,
    RawNode, Reject, Role, SeededBug, Snapshot, Storage, StorageError, VoteKind,
};
use std::collections::{BTreeMap, VecDeque};
use types::{LogIndex, PeerId, Term};

/// Terms that do not fall, from `first` to at most `last`.
fn terms(dice: &mut SplitMix, count: u64, first: u64, last: u64) -> Vec<u64> {
    let mut term = first;
    (0..count)
        .map(|_| {
            if dice.chance(1, 3) && term < last {
                term += 1;
            }
            term
        })
        .collect()
}

/// The entry at `index` of a log of these terms, or what stands before the first.
fn at(log: &[u64], index: u64) -> EntryId {
    if index == 0 { EntryId::default() } else { id(log[index as usize - 1], index) }
}

#[test]
fn a_vote_changes_once_in_a_term_whatever_comes() {
    // CCF#8094, camunda#5356: a vote was forgotten on the way down from leadership, or in a crash. Requests, heartbeats,
    // campaigns and crashes come in any order; what was said of a vote in a term stays so.
    let mut votes_in_all = 0;
    for seed in 0..300 {
        let mut dice = SplitMix::new(seed);
        let config = Config { pre_vote: seed % 2 == 0, check_quorum: seed % 3 == 0, ..config(1) };
        let mut peer = Peer::start(&config, MemStorage::with_voters(5));
        let mut said: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..80 {
            let (from, term) = (2 + dice.below(4), 1 + dice.below(12));
            match dice.below(8) {
                0..3 => drop(peer.try_step(from, term, vote(VoteKind::Real, id(term - 1, dice.below(3))))),
                3 => drop(peer.try_step(from, term, vote(VoteKind::Pre, id(term - 1, dice.below(3))))),
                4 => drop(peer.try_step(from, term, Body::Heartbeat { commit: LogIndex(0), round: 1 })),
                5 => drop(peer.node.campaign()),
                6 => {
                    let pre = dice.chance(1, 2);
                    let term = peer.term() + u64::from(pre);
                    let body = Body::VoteResp { pre, reject: dice.chance(1, 3), commit: EntryId::default() };
                    drop(peer.try_step(from, term, body));
                }
                _ => peer.node.tick_n(dice.below(2 * ELECTION_TICK)),
            }
            if dice.chance(1, 4) {
                // Effects are asked for, and the power fails before anything is written.
                let ready = peer.ready();
                hear(&mut said, &ready.messages);
                peer = Peer::start(&config, peer.node.storage().clone());
                peer.node.tick_n(dice.below(2 * ELECTION_TICK));
            } else {
                let messages = peer.settle();
                hear(&mut said, &messages);
            }
        }
        votes_in_all += said.len();
    }
    assert!(votes_in_all > 600, "only {votes_in_all} votes");
}

/// Notes whom 1 says that it votes for.
fn hear(said: &mut BTreeMap<u64, u64>, messages: &[Message]) {
    for message in messages {
        let vote = match message.body {
            Body::Vote { kind, .. } if kind != VoteKind::Pre => 1,
            Body::VoteResp { pre: false, reject: false, .. } => message.to.0,
            _ => continue,
        };
        let known = *said.entry(message.term.0).or_insert(vote);
        assert_eq!(known, vote, "two votes in term {}", message.term);
    }
}

#[test]
fn a_leader_commits_what_a_quorum_has_and_nothing_that_ends_in_an_older_term() {
    // logcabin#44, figure 8 of the Raft paper; openraft#1802 (a quorum counted wrongly). Acknowledgements come in any order.
    for seed in 0..300 {
        let mut dice = SplitMix::new(seed);
        let count = 1 + dice.below(6);
        let log = terms(&mut dice, count, 1, 4);
        let mut peer = Peer::leader(&config(1), storage(5, &log, 4));
        let (term, first) = (peer.term(), peer.node.status().last.index.0);
        let mut known = BTreeMap::from([(1, first)]);
        for _ in 0..40 {
            if dice.chance(1, 3) {
                peer.node.propose(Bytes::new()).expect("leads, and is heard");
                peer.settle();
                known.insert(1, peer.node.status().last.index.0);
            } else {
                let (from, index) = (2 + dice.below(4), 1 + dice.below(peer.node.status().last.index.0));
                peer.step(from, term, stored(index));
                peer.settle();
                let best = known.entry(from).or_default();
                *best = index.max(*best);
            }
            let held = |index: u64| known.values().filter(|&&best| best >= index).count() >= 3;
            let reached = (1..=known[&1]).rev().find(|&index| held(index)).unwrap_or(0);
            let expected = if reached >= first { reached } else { 0 };
            assert_eq!(peer.node.status().committed, LogIndex(expected), "seed {seed}: {known:?}");
        }
    }
}

/// What an append does to a log by the book (thesis figure 3.1), with nothing but lists.
fn by_the_book(log: &mut Vec<u64>, prev: EntryId, entries: &[Entry]) -> bool {
    if prev.index.0 > log.len() as u64 || at(log, prev.index.0) != prev {
        return false;
    }
    for entry in entries {
        let place = entry.index.0 as usize - 1;
        if log.get(place) != Some(&entry.term.0) {
            log.truncate(place);
            log.push(entry.term.0);
        }
    }
    true
}

#[test]
fn appends_do_to_a_log_what_the_book_says_and_commit_what_they_prove() {
    // etcd 235a62a, akka-entity-replication#151, scylladb#9965, copycat#265: a conflict before the batch, an old and short
    // append, a commit index beyond what the append had proved. Appends of one leader come in any order, repeated, cut short.
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..600 {
        let mut dice = SplitMix::new(seed);
        let common = dice.below(4);
        let shared = terms(&mut dice, common, 1, 2);
        let (ours, theirs) = (dice.below(6), 1 + dice.below(8));
        let mut log = [shared.clone(), terms(&mut dice, ours, 3, 5)].concat();
        let leaders = [shared, terms(&mut dice, theirs, 4, 7)].concat();
        let mut peer = Peer::start(&config(1), storage(3, &log, 7));
        let mut committed = 0;
        for _ in 0..20 {
            let before = dice.below(leaders.len() as u64 + 1);
            let count = dice.below(leaders.len() as u64 - before + 1);
            let batch = entries(before + 1, &leaders[before as usize..(before + count) as usize]);
            // What the leader calls committed is at a majority, so of what differs here at most what this follower lacks.
            let commit = dice.below(leaders.len() as u64 + 1);
            let prev = at(&leaders, before);
            let fits = if before < committed { true } else { by_the_book(&mut log, prev, &batch) };
            peer.step(2, 8, append(prev, batch, commit));
            peer.settle();
            if fits && before >= committed {
                committed = committed.max(commit.min(before + count));
                taken += 1;
            } else if !fits {
                refused += 1;
            }
            assert_eq!(peer.stored_terms(), log, "seed {seed}");
            assert_eq!(peer.node.status().committed, LogIndex(committed), "seed {seed}");
        }
    }
    assert!(taken > 2_000 && refused > 1_000, "{taken} taken, {refused} refused");
}

#[test]
fn no_answer_brings_next_down_to_match_or_match_beyond_the_log() {
    // etcd-io/raft#149, raft-rs#557, openraft cecb5de8: stale acknowledgements and refusals moved a peer's progress where it
    // could not be. `match < next` and `match <= last` are among the invariants, which are checked at every step.
    for seed in 0..300 {
        let mut dice = SplitMix::new(seed);
        let count = 1 + dice.below(8);
        let log = terms(&mut dice, count, 1, 4);
        let config = Config { max_inflight_messages: 1 + dice.below(3) as usize, ..config(1) };
        let mut peer = Peer::leader(&config, storage(3, &log, 4));
        let term = peer.term();
        for _ in 0..60 {
            let from = 2 + dice.below(2);
            let before = peer.progress(from);
            let rejected = dice.below(12);
            let hint = id(dice.below(6), dice.below(rejected + 1));
            let reject = Some(Reject { rejected: LogIndex(rejected), hint });
            let body = match dice.below(7) {
                0 | 1 => stored(dice.below(14)),
                2 | 3 => Body::AppendResp { index: LogIndex(0), commit: LogIndex(0), reject },
                4 => Body::HeartbeatResp { commit: LogIndex(dice.below(9)), round: 1 },
                5 => {
                    peer.node.report_unreachable(PeerId(from));
                    continue;
                }
                _ => {
                    drop(peer.node.propose(Bytes::new()));
                    peer.settle();
                    continue;
                }
            };
            let refusal = matches!(body, Body::AppendResp { reject: Some(_), .. });
            drop(peer.try_step(from, term, body));
            let after = peer.progress(from);
            assert!(after.matched >= before.matched, "seed {seed}: what is durable there was taken back");
            if refusal && LogIndex(rejected) <= before.matched {
                assert_eq!(
                    (after.matched, after.next),
                    (before.matched, before.next),
                    "seed {seed}: overtaken"
                );
            }
            peer.settle();
        }
    }
}

#[test]
fn what_is_called_durable_is_on_the_disk() {
    // etcd-io/raft#8, etcd#1690, raft-rs maybe_append: entries that were overwritten while their write was under way counted
    // as durable. Leaders replace each other's entries, writes finish late, and reports come late, or again.
    let mut overwritten = 0;
    for seed in 0..600 {
        let mut dice = SplitMix::new(seed);
        let mut peer = Peer::start(&Config { check_quorum: false, ..config(1) }, MemStorage::with_voters(3));
        let (mut log, mut term) = (Vec::new(), 1);
        let mut written: VecDeque<PersistToken> = VecDeque::new();
        let mut reported: Vec<PersistToken> = Vec::new();
        for _ in 0..60 {
            match dice.below(6) {
                0 | 1 => {
                    // A later leader continues or replaces any of it: nothing is committed.
                    term += dice.below(2);
                    let before = dice.below(log.len() as u64 + 1);
                    let fresh = vec![term; dice.below(4) as usize];
                    let batch = entries(before + 1, &fresh);
                    if before < log.len() as u64
                        && fresh.first().is_some_and(|&new| new != log[before as usize])
                    {
                        overwritten += 1;
                    }
                    let prev = at(&log, before);
                    assert!(by_the_book(&mut log, prev, &batch));
                    let from = 2 + term % 2;
                    peer.step(from, term, append(prev, batch, 0));
                    let _ = peer.ready();
                }
                2 | 3 if !peer.writes.is_empty() => written.push_back(peer.write(1)),
                4 if !written.is_empty() => {
                    let count = 1 + dice.below(written.len() as u64) as usize;
                    let token = written.drain(..count).next_back().expect("at least one");
                    peer.node.on_persist(token);
                    reported.push(token);
                }
                5 if !reported.is_empty() => {
                    let again = reported[dice.below(reported.len() as u64) as usize];
                    peer.node.on_persist(again);
                }
                _ => {}
            }
            peer.node.check_invariants().expect("invariants");
            let disk = peer.stored_terms();
            let durable = peer.node.status().persisted.0 as usize;
            assert!(durable <= log.len(), "seed {seed}: {durable} of {log:?}");
            // The disk may hold less than was written since, and what it holds up to there is the log.
            assert_eq!(disk.get(..durable), log.get(..durable), "seed {seed}");
        }
    }
    assert!(overwritten > 1_000, "only {overwritten} overwritten");
}

/// Gives no more than an entry at a time, whatever it is asked for.
#[derive(Debug)]
struct Stingy(MemStorage);

impl Storage for Stingy {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.0.initial_state()
    }

    fn first_index(&self) -> LogIndex {
        self.0.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.0.last_index()
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.0.term(index)
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        _: u64,
        context: FetchContext,
        out: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        self.0.entries(low, high, 1, context, out)
    }

    fn snapshot(&self, at_least: LogIndex, to: PeerId) -> Result<Snapshot, StorageError> {
        self.0.snapshot(at_least, to)
    }
}

#[test]
fn each_of_these_notices_when_its_rule_is_broken() {
    type Broken = (fn(), &'static [SeededBug]);
    let tests: [Broken; 4] = [
        (
            a_vote_changes_once_in_a_term_whatever_comes,
            &[SeededBug::VoteTwiceInTerm, SeededBug::VoteNotDurable],
        ),
        (
            a_leader_commits_what_a_quorum_has_and_nothing_that_ends_in_an_older_term,
            &[SeededBug::CommitOlderTermByCounting, SeededBug::MajorityIsHalf],
        ),
        (
            appends_do_to_a_log_what_the_book_says_and_commit_what_they_prove,
            &[
                SeededBug::AppendWithoutLogMatch,
                SeededBug::OvertakenAppendTruncates,
                SeededBug::CommitBeyondProven,
            ],
        ),
        (what_is_called_durable_is_on_the_disk, &[SeededBug::OverwrittenWriteCounts]),
    ];
    for (test, bugs) in tests {
        for &bug in bugs {
            println!("{bug:?}: {}", notices(bug, test));
        }
    }
}

#[test]
fn pages_cover_the_log_once_each_and_the_commit_index_never_falls() {
    // etcd 8ecce32 (etcd#9982): a page that was cut short lowered the commit index on disk, and entries were skipped. Storage
    // gives an entry at a time, pages are of any size, and applying falls behind.
    for seed in 0..200 {
        let mut dice = SplitMix::new(seed);
        let log = vec![1; 30];
        let held = dice.below(31);
        let mut disk = storage(3, &log[..held as usize], 1);
        disk.set_hard_state(HardState {
            term: Term(1),
            commit: LogIndex(dice.below(held + 1)),
            ..HardState::default()
        });
        let config = Config { max_committed_bytes_per_ready: 1 + dice.below(200), ..config(1) };
        let mut node = RawNode::new(&config, Stingy(disk)).expect("a sound storage");
        let (mut handed, mut applied, mut commit) = (0, 0, 0);
        let mut steps = 0;
        while applied < 30 {
            steps += 1;
            assert!(steps < 10_000, "seed {seed}: stands still at {applied} of {handed}");
            let known = node.status().last.index.0;
            let count = dice.below(30 - known + 1);
            let batch = entries(known + 1, &log[known as usize..(known + count) as usize]);
            let body = append(at(&log, known), batch, dice.below(31));
            node.step(Message { from: PeerId(2), to: PeerId(1), term: Term(1), body }).expect("well-formed");
            let ready = node.ready();
            if let Some(write) = ready.append {
                if let Some(state) = write.hard_state {
                    assert!(state.commit.0 >= commit, "seed {seed}: {} after {commit}", state.commit);
                    commit = state.commit.0;
                }
                node.storage_mut().0.write(&write);
                node.on_persist(write.token);
            }
            for entry in &ready.committed {
                handed += 1;
                assert_eq!(entry.index, LogIndex(handed), "seed {seed}: once each, in order");
            }
            applied += dice.below(handed - applied + 1);
            node.on_applied(LogIndex(applied));
            node.check_invariants().expect("invariants");
        }
        assert_eq!(node.status().role, Role::Follower);
    }
}
