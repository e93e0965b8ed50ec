//! One peer whose messages and writes are in the test's hands.

use bytes::Bytes;
use codec::Encode;
use raft::{
    Append, Body, ConfChange, ConfChangeKind, ConfChangeOp, ConfState, Config, Entry, EntryId, EntryKind,
    HardState, MemStorage, Message, PersistToken, ProgressView, RawNode, Ready, Role, SeededBug, Snapshot,
    SnapshotMeta, StepError, Storage,
};
use std::cell::Cell;
use std::panic::catch_unwind;
use types::{LogIndex, PeerId, Term};

pub(crate) const ELECTION_TICK: u64 = 10;

pub(crate) struct Peer {
    pub(crate) node: RawNode<MemStorage>,
    /// Writes asked for and not carried out, oldest first.
    pub(crate) writes: Vec<Append>,
}

thread_local! {
    /// Broken in every peer that is started on this thread.
    static BROKEN: Cell<Option<SeededBug>> = const { Cell::new(None) };
}

/// What `test` says while a rule is broken in all its peers. It must say something.
pub(crate) fn notices(bug: SeededBug, test: fn()) -> String {
    BROKEN.set(Some(bug));
    let result = catch_unwind(test);
    BROKEN.set(None);
    let Err(panic) = result else { panic!("{bug:?} goes unnoticed") };
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

pub(crate) fn config(id: u64) -> Config {
    Config { id: PeerId(id), seed: 1, ..Config::default() }
}

/// One of `voters` voters at the very beginning.
pub(crate) fn peer(id: u64, voters: u64) -> Peer {
    Peer::start(&config(id), MemStorage::with_voters(voters))
}

/// A log of these terms from index 1 on, among `voters` voters, in `term`.
pub(crate) fn storage(voters: u64, terms: &[u64], term: u64) -> MemStorage {
    let mut storage = MemStorage::with_voters(voters);
    storage.append(&entries(1, terms));
    storage.set_hard_state(HardState { term: Term(term), ..HardState::default() });
    storage
}

/// Entries of these terms from index `first` on.
pub(crate) fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
    let entry = |(index, &term): (u64, &u64)| Entry {
        term: Term(term),
        index: LogIndex(index),
        kind: EntryKind::Normal,
        data: Bytes::from(format!("{index}@{term}")),
    };
    (first..).zip(terms).map(entry).collect()
}

pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), LogIndex(index))
}

pub(crate) fn change(ops: &[(ConfChangeKind, u64)]) -> ConfChange {
    let op = |&(kind, id): &(ConfChangeKind, u64)| ConfChangeOp { kind, id: PeerId(id) };
    ConfChange { ops: ops.iter().map(op).collect(), ..ConfChange::default() }
}

pub(crate) fn change_entry(at: EntryId, change: &ConfChange) -> Entry {
    Entry { term: at.term, index: at.index, kind: EntryKind::ConfChange, data: change.to_bytes() }
}

pub(crate) fn snapshot(at: EntryId, voters: u64) -> Snapshot {
    let conf_state = ConfState::of_voters((1..=voters).map(PeerId));
    Snapshot { meta: SnapshotMeta { index: at.index, term: at.term, conf_state }, data: Bytes::new() }
}

pub(crate) fn vote(kind: raft::VoteKind, last: EntryId) -> Body {
    Body::Vote { kind, last, commit: EntryId::default() }
}

pub(crate) fn append(prev: EntryId, entries: Vec<Entry>, commit: u64) -> Body {
    Body::Append { prev, entries: entries.into(), commit: LogIndex(commit) }
}

pub(crate) fn stored(index: u64) -> Body {
    Body::AppendResp { index: LogIndex(index), commit: LogIndex(0), reject: None }
}

pub(crate) fn granted() -> Body {
    Body::VoteResp { pre: false, reject: false, commit: EntryId::default() }
}

impl Peer {
    pub(crate) fn start(config: &Config, storage: MemStorage) -> Self {
        let mut node = RawNode::new(config, storage).expect("a sound storage");
        BROKEN.get().into_iter().for_each(|bug| node.plant(bug));
        Self { node, writes: Vec::new() }
    }

    /// The leader of the term after that of `storage`, its first entry durable and nothing of the term committed.
    pub(crate) fn leader(config: &Config, storage: MemStorage) -> Self {
        let mut peer = Self::start(config, storage);
        for _ in 0..=ELECTION_TICK {
            peer.tick();
        }
        peer.node.campaign().expect("nobody was heard");
        peer.settle();
        let others: Vec<_> =
            peer.node.conf_state().voters.iter().copied().filter(|id| *id != config.id).collect();
        for pre in [true, false] {
            for voter in &others {
                let role = peer.node.status().role;
                let (asks, term) = match role {
                    Role::PreCandidate => (pre, peer.term() + 1),
                    _ => (!pre && role == Role::Candidate, peer.term()),
                };
                if asks {
                    let body = Body::VoteResp { pre, reject: false, commit: EntryId::default() };
                    peer.step(voter.0, term, body);
                    peer.settle();
                }
            }
        }
        assert_eq!(peer.node.status().role, Role::Leader);
        peer.settle();
        peer
    }

    /// As [`Peer::leader`], with the first entry of the term stored and acknowledged by all.
    pub(crate) fn settled_leader(config: &Config, storage: MemStorage) -> Self {
        let mut peer = Self::leader(config, storage);
        peer.acknowledge_all();
        peer
    }

    /// All other members store everything, answer every heartbeat, and hear of the commit.
    pub(crate) fn acknowledge_all(&mut self) {
        let (own, last, term) = (self.node.status().id, self.node.status().last.index.0, self.term());
        for member in self.node.conf_state().members().filter(|&member| member != own) {
            self.step_from_member(member, term, stored(last));
        }
        self.node.ping();
        self.answer_heartbeats();
        self.settle();
    }

    /// Steps the answers to the heartbeats that are asked for; returns the other messages.
    pub(crate) fn answer_heartbeats(&mut self) -> Vec<Message> {
        let mut others = Vec::new();
        for message in self.settle() {
            match message.body {
                Body::Heartbeat { commit, round } => {
                    self.step_from_member(message.to, message.term.0, Body::HeartbeatResp { commit, round });
                }
                _ => others.push(message),
            }
        }
        others
    }

    pub(crate) fn term(&self) -> u64 {
        self.node.status().term.0
    }

    /// A tick alone in its turn.
    pub(crate) fn tick(&mut self) -> Vec<Message> {
        self.node.tick();
        self.settle()
    }

    pub(crate) fn step(&mut self, from: u64, term: u64, body: Body) {
        self.try_step(from, term, body).expect("a sound message");
    }

    /// From somebody who may have been removed meanwhile.
    fn step_from_member(&mut self, from: PeerId, term: u64, body: Body) {
        match self.try_step(from.0, term, body) {
            Ok(()) | Err(StepError::UnknownSender { .. }) => {}
            Err(error) => panic!("a sound message: {error}"),
        }
    }

    pub(crate) fn try_step(&mut self, from: u64, term: u64, body: Body) -> Result<(), StepError> {
        let to = self.node.status().id;
        let result = self.node.step(Message { from: PeerId(from), to, term: Term(term), body });
        if self.node.poisoned().is_none() {
            self.node.check_invariants().expect("invariants");
        }
        result
    }

    /// The effects; what is to be written waits.
    pub(crate) fn ready(&mut self) -> Ready {
        let ready = self.node.ready();
        self.writes.extend(ready.append.clone());
        self.node.check_invariants().expect("invariants");
        ready
    }

    /// Writes the oldest `count` waiting writes, without saying so; returns the last token.
    pub(crate) fn write(&mut self, count: usize) -> PersistToken {
        let mut token = None;
        for append in self.writes.drain(..count) {
            self.node.storage_mut().write(&append);
            token = Some(append.token);
        }
        token.expect("something to write")
    }

    /// All waiting writes are durable.
    pub(crate) fn persist(&mut self) {
        if !self.writes.is_empty() {
            let token = self.write(self.writes.len());
            self.node.on_persist(token);
            self.node.check_invariants().expect("invariants");
        }
    }

    /// Carries out all effects at once: everything is durable and applied. Returns the messages.
    pub(crate) fn settle(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        self.persist();
        while self.node.has_ready() {
            let ready = self.ready();
            messages.extend(ready.messages);
            self.persist();
            messages.extend(ready.messages_after);
            if let Some(snapshot) = ready.append.and_then(|append| append.snapshot) {
                self.node.on_applied(snapshot.meta.index);
            }
            self.apply(&ready.committed);
        }
        messages
    }

    pub(crate) fn apply(&mut self, committed: &[Entry]) {
        for entry in committed {
            if entry.kind == EntryKind::ConfChange {
                let change = codec::Decode::from_bytes(&entry.data).expect("a change");
                let _ = self.node.apply_conf_change(&change);
            }
            self.node.on_applied(entry.index);
            self.node.check_invariants().expect("invariants");
        }
    }

    pub(crate) fn progress(&self, of: u64) -> ProgressView {
        let mut found = None;
        self.node.with_progress(&mut |id, view| {
            if id == PeerId(of) {
                found = Some(view);
            }
        });
        found.expect("a member")
    }

    /// Sends what there is to send, to nobody: the round of the reads that wait is on its way.
    pub(crate) fn settle_reads_pending(&mut self) {
        let ready = self.ready();
        assert!(ready.read_states.is_empty(), "{:?}", ready.read_states);
        self.persist();
    }

    /// The terms of the log as far as storage has it.
    pub(crate) fn stored_terms(&self) -> Vec<u64> {
        let storage = self.node.storage();
        (storage.first_index().0..=storage.last_index().0)
            .map(|index| storage.term(LogIndex(index)).expect("held").0)
            .collect()
    }
}

/// The messages to `to`.
pub(crate) fn to(messages: &[Message], to: u64) -> Vec<&Body> {
    messages.iter().filter(|message| message.to == PeerId(to)).map(|message| &message.body).collect()
}

/// The answer to a vote among `messages`: whether it is granted, and its term.
pub(crate) fn verdict(messages: &[Message]) -> Option<(bool, u64)> {
    messages.iter().find_map(|message| match message.body {
        Body::VoteResp { reject, .. } => Some((!reject, message.term.0)),
        _ => None,
    })
}
