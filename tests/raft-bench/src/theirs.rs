//! raft-rs, driven, with its settings for speed: appends of one turn batched, no message for a commit index alone, no
//! logging.

use crate::core::{At, Core, Setup};
use crate::log::{Item, Log};
use bytes::Bytes;
use protobuf::{CodedInputStream, CodedOutputStream, Message as _};
use raft_rs::eraftpb::{ConfState, Entry, HardState, Message, MessageType, Snapshot};
use raft_rs::{Config, Error, GetEntriesContext, RaftState, RawNode, StateRole, Storage, StorageError};
use slog::{Discard, Logger, o};

impl Item for Entry {
    fn at(&self) -> At {
        At { term: self.term, index: self.index }
    }

    fn size(&self) -> u64 {
        // As raft-rs weighs entries.
        u64::from(self.compute_size())
    }
}

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
    fn initial_state(&self) -> raft_rs::Result<RaftState> {
        let (term, vote, commit) = self.log().state;
        let hard_state = HardState { term, vote, commit, ..HardState::default() };
        let conf_state = ConfState {
            voters: self.log().voters.clone(),
            voters_outgoing: self.log().outgoing.clone(),
            ..ConfState::default()
        };
        Ok(RaftState { hard_state, conf_state })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft_rs::Result<Vec<Entry>> {
        if low < self.log().first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        let mut out = Vec::new();
        self.log().read(low, high, max_size.into().unwrap_or(u64::MAX), &mut out);
        Ok(out)
    }

    fn term(&self, index: u64) -> raft_rs::Result<u64> {
        if index < self.log().base.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.log().term(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft_rs::Result<u64> {
        Ok(self.log().first())
    }

    fn last_index(&self) -> raft_rs::Result<u64> {
        Ok(self.log().last().index)
    }

    fn snapshot(&self, _: u64, _: u64) -> raft_rs::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// One peer of raft-rs.
pub(crate) struct Theirs {
    node: RawNode<Handle>,
}

impl Theirs {
    fn apply(applied: &[Entry]) {
        std::hint::black_box(applied);
    }
}

impl Core for Theirs {
    type Message = Message;
    type Room = ();
    type Wire = Vec<u8>;

    const NAME: &'static str = "raft-rs";

    fn new(setup: &Setup, id: u64, log: &[u64], applied: u64) -> Self {
        let config = Config {
            id,
            election_tick: setup.election_tick as usize,
            heartbeat_tick: setup.heartbeat_tick as usize,
            applied,
            // The limits of ours.
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: setup.max_inflight_messages,
            max_uncommitted_size: 32 << 20,
            max_committed_size_per_ready: 8 << 20,
            check_quorum: true,
            pre_vote: true,
            skip_bcast_commit: true,
            batch_append: true,
            ..Config::default()
        };
        let entries = log.iter().zip(1..).map(|(&term, index)| Entry {
            term,
            index,
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
        thread_local! {
            /// One for all groups of a store, as a store would have it.
            static LOGGER: Logger = Logger::root(Discard, o!());
        }
        let node = LOGGER.with(|logger| RawNode::new(&config, Handle(Some(Box::new(log))), logger));
        Self { node: node.expect("a sound group") }
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
        self.node.propose(Vec::new(), data).expect("leads");
    }

    fn step(&mut self, message: Message) {
        self.node.step(message).expect("well-formed");
    }

    fn turn(&mut self, (): &mut (), out: &mut Vec<Message>) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            out.extend(ready.take_messages());
            let applied = ready.take_committed_entries();
            Self::apply(&applied);
            let entries = ready.take_entries();
            self.node.mut_store().log_mut().write(entries);
            out.extend(ready.take_persisted_messages());
            let mut light = self.node.advance_append(ready);
            out.extend(light.take_messages());
            let applied = light.take_committed_entries();
            Self::apply(&applied);
            self.node.advance_apply();
        }
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn applied(&self) -> u64 {
        self.node.raft.raft_log.applied
    }

    fn last(&self) -> At {
        At { term: self.node.raft.raft_log.last_term(), index: self.node.raft.raft_log.last_index() }
    }

    fn compact(&mut self, keep: u64) {
        let index = self.applied().saturating_sub(keep);
        self.node.mut_store().log_mut().compact(index);
    }

    fn forget_log(&mut self) {
        self.node.mut_store().0 = None;
    }

    fn shrink(&mut self) {
        // Its own call for idle groups.
        self.node.raft.maybe_free_inflight_buffers();
    }

    fn to(message: &Message) -> u64 {
        message.to
    }

    fn is_append(message: &Message) -> bool {
        message.msg_type == MessageType::MsgAppend
    }

    fn append(from: u64, to: u64, term: u64, prev: At, entries: u64, size: usize, commit: u64) -> Message {
        let entry = |offset| Entry {
            term,
            index: prev.index + offset,
            data: Bytes::from(vec![7; size]),
            ..Entry::default()
        };
        Message {
            msg_type: MessageType::MsgAppend,
            from,
            to,
            term,
            log_term: prev.term,
            index: prev.index,
            entries: (1..=entries).map(entry).collect::<Vec<_>>().into(),
            commit,
            ..Message::default()
        }
    }

    fn append_resp(from: u64, to: u64, term: u64, index: u64) -> Message {
        let msg_type = MessageType::MsgAppendResponse;
        Message { msg_type, from, to, term, index, ..Message::default() }
    }

    fn heartbeat_resp(heartbeat: &Message) -> Message {
        assert_eq!(heartbeat.msg_type, MessageType::MsgHeartbeat, "{heartbeat:?} is no heartbeat");
        Message {
            msg_type: MessageType::MsgHeartbeatResponse,
            from: heartbeat.to,
            to: heartbeat.from,
            term: heartbeat.term,
            commit: heartbeat.commit,
            context: heartbeat.context.clone(),
            ..Message::default()
        }
    }

    fn wire() -> Vec<u8> {
        Vec::new()
    }

    fn encode(message: &Message, wire: &mut Vec<u8>) -> usize {
        wire.clear();
        let mut stream = CodedOutputStream::vec(wire);
        message.write_to(&mut stream).expect("memory takes everything");
        stream.flush().expect("memory takes everything");
        drop(stream);
        wire.len()
    }

    fn encoded(message: &Message) -> Bytes {
        message.write_to_bytes().expect("memory takes everything").into()
    }

    fn decode(bytes: &Bytes) -> Message {
        let mut message = Message::default();
        // From shared bytes, so that payloads are not copied.
        let mut stream = CodedInputStream::from_carllerche_bytes(bytes);
        message.merge_from(&mut stream).expect("what it encodes it decodes");
        message
    }

    fn quorum_reached(&mut self) -> u64 {
        self.node.raft.mut_prs().maximal_committed_index().0
    }
}
