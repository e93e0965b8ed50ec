//! Our core, driven.

use crate::core::{At, Core, Setup};
use crate::log::{Item, Log};
use bytes::{Bytes, BytesMut};
use codec::{Decode, Encode};
use ours::{
    Body, ConfState, Config, Entry, EntryId, FetchContext, HardState, InitialState, Message, RawNode, Ready,
    Role, Snapshot, Storage, StorageError,
};
use std::collections::VecDeque;
use types::{LogIndex, PeerId, Term};

impl Item for Entry {
    fn at(&self) -> At {
        At { term: self.term.0, index: self.index.0 }
    }

    fn size(&self) -> u64 {
        self.size_bytes()
    }
}

/// A handle to the log, as small as a store's would be.
#[derive(Debug)]
pub(crate) struct Handle(Option<Box<Log<Entry>>>);

impl Handle {
    fn log(&self) -> &Log<Entry> {
        self.0.as_deref().expect("the log is there until it is forgotten")
    }

    fn log_mut(&mut self) -> &mut Log<Entry> {
        self.0.as_deref_mut().expect("the log is there until it is forgotten")
    }
}

impl Storage for Handle {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        let (term, vote, commit) = self.log().state;
        let hard_state = HardState {
            term: Term(term),
            vote: PeerId(vote),
            commit: LogIndex(commit),
            ..HardState::default()
        };
        let ids = |list: &[u64]| list.iter().map(|&id| PeerId(id)).collect();
        let conf_state = ConfState {
            voters: ids(&self.log().voters),
            voters_outgoing: ids(&self.log().outgoing),
            ..ConfState::default()
        };
        Ok(InitialState { hard_state, conf_state })
    }

    fn first_index(&self) -> LogIndex {
        LogIndex(self.log().first())
    }

    fn last_index(&self) -> LogIndex {
        LogIndex(self.log().last().index)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index.0 < self.log().base.index {
            return Err(StorageError::Compacted);
        }
        self.log().term(index.0).map(Term).ok_or(StorageError::Unavailable)
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        _: FetchContext,
        out: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        if low.0 < self.log().first() {
            return Err(StorageError::Compacted);
        }
        self.log().read(low.0, high.0, bytes_max, out);
        Ok(())
    }

    fn snapshot(&self, _: LogIndex, _: PeerId) -> Result<Snapshot, StorageError> {
        Err(StorageError::SnapshotTemporarilyUnavailable)
    }
}

/// One peer of ours.
#[derive(Debug)]
pub(crate) struct Ours {
    node: RawNode<Handle>,
}

impl Core for Ours {
    type Message = Message;
    type Room = Ready;
    type Wire = BytesMut;

    const NAME: &'static str = "ours";

    fn new(setup: &Setup, id: u64, log: &[u64], applied: u64) -> Self {
        let config = Config {
            id: PeerId(id),
            group_id: setup.group,
            seed: 1,
            election_tick: setup.election_tick,
            heartbeat_tick: setup.heartbeat_tick,
            applied: LogIndex(applied),
            newborn: true,
            max_inflight_messages: setup.max_inflight_messages,
            ..Config::default()
        };
        let entries = log.iter().zip(1..).map(|(&term, index)| Entry {
            term: Term(term),
            index: LogIndex(index),
            data: Bytes::from_static(b"a value"),
            ..Entry::default()
        });
        let log = Log {
            base: At::default(),
            entries: entries.collect(),
            voters: setup.voters.clone(),
            outgoing: setup.outgoing.clone(),
            state: (log.last().copied().unwrap_or(0), 0, applied),
        };
        let node = RawNode::new(&config, Handle(Some(Box::new(log)))).expect("a sound group");
        Self { node }
    }

    fn tick(&mut self) -> bool {
        self.node.tick();
        self.node.has_ready()
    }

    fn has_ready(&self) -> bool {
        self.node.has_ready()
    }

    fn campaign(&mut self) {
        self.node.campaign().expect("may campaign");
    }

    fn propose(&mut self, data: Vec<u8>) {
        self.node.propose(Bytes::from(data)).expect("leads");
    }

    fn step(&mut self, message: Message) {
        self.node.step(message).expect("well-formed");
    }

    fn turn(&mut self, ready: &mut Ready, out: &mut VecDeque<Message>) {
        while self.node.has_ready() {
            self.node.ready_into(ready);
            out.extend(ready.messages.drain(..));
            if let Some(append) = &ready.append {
                self.node.storage_mut().log_mut().write(append.entries.iter().cloned());
                self.node.on_persist(append.token);
            }
            out.extend(ready.messages_after.drain(..));
            if let Some(last) = ready.committed.last() {
                std::hint::black_box(&ready.committed);
                self.node.on_applied(last.index);
            }
        }
    }

    fn leads(&self) -> bool {
        self.node.status().role == Role::Leader
    }

    fn applied(&self) -> u64 {
        self.node.status().applied.0
    }

    fn last(&self) -> At {
        let last = self.node.status().last;
        At { term: last.term.0, index: last.index.0 }
    }

    fn compact(&mut self, keep: u64) {
        let index = self.applied().saturating_sub(keep);
        self.node.storage_mut().log_mut().compact(index);
    }

    fn forget_log(&mut self) {
        self.node.storage_mut().0 = None;
    }

    fn shrink(&mut self) {
        self.node.shrink();
    }

    fn to(message: &Message) -> u64 {
        message.to.0
    }

    fn is_append(message: &Message) -> bool {
        matches!(message.body, Body::Append { .. })
    }

    fn append(from: u64, to: u64, term: u64, prev: At, entries: u64, size: usize, commit: u64) -> Message {
        let entry = |offset| Entry {
            term: Term(term),
            index: LogIndex(prev.index + offset),
            data: Bytes::from(vec![7; size]),
            ..Entry::default()
        };
        let body = Body::Append {
            prev: EntryId::new(Term(prev.term), LogIndex(prev.index)),
            entries: (1..=entries).map(entry).collect(),
            commit: LogIndex(commit),
        };
        Message { from: PeerId(from), to: PeerId(to), term: Term(term), body }
    }

    fn append_resp(from: u64, to: u64, term: u64, index: u64) -> Message {
        let body = Body::AppendResp { index: LogIndex(index), commit: LogIndex(0), reject: None };
        Message { from: PeerId(from), to: PeerId(to), term: Term(term), body }
    }

    fn heartbeat_resp(heartbeat: &Message) -> Message {
        let Body::Heartbeat { commit, round } = heartbeat.body else {
            panic!("{heartbeat:?} is no heartbeat")
        };
        let body = Body::HeartbeatResp { commit, round };
        Message { from: heartbeat.to, to: heartbeat.from, term: heartbeat.term, body }
    }

    fn wire() -> BytesMut {
        BytesMut::new()
    }

    fn encode(message: &Message, wire: &mut BytesMut) -> usize {
        wire.clear();
        message.encode(wire);
        wire.len()
    }

    fn encoded(message: &Message) -> Bytes {
        message.to_bytes()
    }

    fn decode(bytes: &Bytes) -> Message {
        Message::from_bytes(bytes).expect("what we encode we decode")
    }

    fn quorum_reached(&mut self) -> u64 {
        self.node.quorum_reached().0
    }
}
