//! Our core, driven.

use crate::core::{At, Core, Setup};
use bytes::{Bytes, BytesMut};
use codec::{Decode, Encode};
use ours::{
    Body, ConfState, Config, Entries, Entry, EntryId, FetchContext, HardState, InitialState, Message,
    RawNode, Ready, Role, Snapshot, Storage, StorageError,
};
use std::collections::VecDeque;
use types::{LogIndex, PeerId, Term};

/// Our log: the runs as they were handed out.
#[derive(Debug)]
struct Log {
    /// What stands before the first entry.
    base: EntryId,
    /// Contiguous from `base.index + 1`; none is empty.
    runs: VecDeque<Entries>,
    initial: InitialState,
}

impl Log {
    fn first(&self) -> LogIndex {
        self.base.index.next()
    }

    fn last(&self) -> EntryId {
        self.runs.back().and_then(|run| run.last()).map_or(self.base, Entry::id)
    }

    /// Which run holds `index`.
    fn place(&self, index: LogIndex) -> usize {
        self.runs.partition_point(|run| run.last().is_some_and(|last| last.index < index))
    }

    fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let run = self.runs.get(self.place(index))?;
        run.get(index.0.checked_sub(run[0].index.0)? as usize).map(|entry| entry.term)
    }

    /// Appends, replacing what stands at and after the first.
    fn write(&mut self, entries: Entries) {
        let Some(first) = entries.first() else { return };
        while let Some(run) = self.runs.back_mut().filter(|run| run[run.len() - 1].index >= first.index) {
            let kept = first.index.0.saturating_sub(run[0].index.0) as usize;
            if kept > 0 {
                *run = run.slice(0..kept);
                break;
            }
            self.runs.pop_back();
        }
        self.runs.push_back(entries);
    }

    /// Drops everything before `index`.
    fn compact(&mut self, index: LogIndex) {
        if index <= self.base.index {
            return;
        }
        self.base = EntryId::new(self.term(index).expect("compaction ends at an entry"), index);
        self.runs.drain(..self.place(index.next()));
        if let Some(run) = self.runs.front_mut() {
            let gone = (index.0 + 1).saturating_sub(run[0].index.0) as usize;
            *run = run.slice(gone..run.len());
        }
    }
}

/// A handle to the log, as small as a store's would be.
#[derive(Debug)]
pub(crate) struct Handle(Option<Box<Log>>);

impl Handle {
    fn log(&self) -> &Log {
        self.0.as_deref().expect("the log is there until it is forgotten")
    }

    fn log_mut(&mut self) -> &mut Log {
        self.0.as_deref_mut().expect("the log is there until it is forgotten")
    }
}

impl Storage for Handle {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        Ok(self.log().initial.clone())
    }

    fn first_index(&self) -> LogIndex {
        self.log().first()
    }

    fn last_index(&self) -> LogIndex {
        self.log().last().index
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index < self.log().base.index {
            return Err(StorageError::Compacted);
        }
        self.log().term(index).ok_or(StorageError::Unavailable)
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        _: FetchContext,
        out: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        let log = self.log();
        if low < log.first() {
            return Err(StorageError::Compacted);
        }
        let mut bytes = 0;
        let entries = log.runs.range(log.place(low)..).flat_map(|run| run.iter());
        for entry in entries.skip_while(|entry| entry.index < low).take_while(|entry| entry.index < high) {
            bytes += entry.size_bytes();
            if bytes > bytes_max && entry.index > low {
                break;
            }
            out.push(entry.clone());
        }
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
        let ids = |list: &[u64]| list.iter().map(|&id| PeerId(id)).collect();
        let hard_state = HardState {
            term: Term(log.last().copied().unwrap_or(0)),
            commit: LogIndex(applied),
            ..HardState::default()
        };
        let conf_state = ConfState {
            voters: ids(&setup.voters),
            voters_outgoing: ids(&setup.outgoing),
            ..ConfState::default()
        };
        let entries: Entries = entries.collect();
        let log = Log {
            base: EntryId::default(),
            runs: Some(entries).filter(|entries| !entries.is_empty()).into_iter().collect(),
            initial: InitialState { hard_state, conf_state },
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

    fn turn(&mut self, ready: &mut Ready, out: &mut Vec<Message>) {
        while self.node.has_ready() {
            self.node.ready_into(ready);
            out.append(&mut ready.messages);
            if let Some(append) = &mut ready.append {
                self.node.storage_mut().log_mut().write(std::mem::take(&mut append.entries));
                self.node.on_persist(append.token);
            }
            out.append(&mut ready.messages_after);
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
        self.node.storage_mut().log_mut().compact(LogIndex(index));
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
