//! What is tried, each as a function of bytes that panics when something is wrong.

use crate::made::Source;
use bytes::{Bytes, BytesMut};
use codec::frame::{FrameHead, put_frame, take_frame};
use codec::{Decode, Encode};
use raft::{
    Body, ConfState, Config, Entry, EntryId, EntryKind, MemStorage, Message, PersistToken, RawNode, Role,
    Storage,
};
use std::collections::VecDeque;
use std::fmt::Debug;
use types::{LogIndex, PeerId, Term};

/// What is understood can be written, and is then understood as the same.
fn understood<T: Decode + Encode + PartialEq + Debug>(bytes: &Bytes) {
    if let Ok(value) = T::from_bytes(bytes) {
        assert_eq!(T::from_bytes(&value.to_bytes()), Ok(value));
    }
}

/// The words of the Raft core, as anyone might send or store them: the first byte says which.
pub fn raft_message(data: &[u8]) {
    let Some((&which, rest)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(rest);
    match which % 7 {
        0 => understood::<Message>(&bytes),
        1 => understood::<Entry>(&bytes),
        2 => understood::<raft::HardState>(&bytes),
        3 => understood::<raft::ConfState>(&bytes),
        4 => understood::<raft::ConfChange>(&bytes),
        5 => understood::<raft::Snapshot>(&bytes),
        _ => {
            // What the core makes up itself always survives.
            let message = Source::new(rest).message(PeerId(1));
            assert_eq!(Message::from_bytes(&message.to_bytes()), Ok(message));
        }
    }
}

/// All messages between processes: the first byte says which.
pub fn wire_message(data: &[u8]) {
    let Some((&which, rest)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(rest);
    match which % 10 {
        0 => understood::<wire::hello::Hello>(&bytes),
        1 => understood::<wire::hello::HelloAck>(&bytes),
        2 => understood::<wire::hello::Close>(&bytes),
        3 => understood::<wire::kv::KvRequest>(&bytes),
        4 => understood::<wire::kv::KvResponse>(&bytes),
        5 => understood::<wire::pd::PdRequest>(&bytes),
        6 => understood::<wire::pd::PdResponse>(&bytes),
        7 => understood::<wire::store::StoreBatch>(&bytes),
        8 => understood::<wire::store::SnapshotPiece>(&bytes),
        _ => understood::<wire::store::SnapshotVerdict>(&bytes),
    }
}

/// A connection's bytes, as they come: whatever they are, frames are taken off one after the other until none is whole or
/// one is refused. With an even first byte the rest is also sent in frames, and comes back, however it is cut.
pub fn frames(data: &[u8]) {
    const SIZE_MAX: usize = 1 << 16;
    let Some((&how, rest)) = data.split_first() else { return };
    let mut input = BytesMut::from(rest);
    while let Ok(Some(frame)) = take_frame(&mut input, SIZE_MAX) {
        assert!(frame.trace.len() + frame.payload.len() <= rest.len(), "a frame of more than there is");
    }
    if how % 2 == 1 {
        return;
    }
    let mut sent = BytesMut::new();
    let cut = 1 + usize::from(how) / 2;
    let heads: Vec<_> = rest
        .chunks(cut)
        .map(|payload| {
            let head = FrameHead {
                kind: payload[0],
                flags: how,
                request_id: payload.len() as u64,
                deadline_ms: u32::from(how),
            };
            put_frame(&mut sent, head, &payload[..payload.len() / 2], |out| {
                out.extend_from_slice(payload);
            });
            (head, Bytes::copy_from_slice(payload))
        })
        .collect();
    let (mut arrived, mut taken) = (BytesMut::new(), Vec::new());
    for piece in sent.chunks(cut * 3) {
        arrived.extend_from_slice(piece);
        while let Some(frame) = take_frame(&mut arrived, SIZE_MAX).expect("what we send is sound") {
            taken.push((frame.head, frame.payload));
        }
    }
    assert_eq!(taken, heads, "what is sent arrives");
}

/// A write that was asked for, with what it waits for.
struct Job {
    append: raft::Append,
    done: bool,
}

/// A group, its storage and its driver.
struct Driven {
    node: RawNode<MemStorage>,
    jobs: VecDeque<Job>,
    applying: VecDeque<Entry>,
    /// A snapshot is durable and not installed.
    install: Option<LogIndex>,
    last_token: Option<PersistToken>,
}

/// How far a group came; for whoever wants to know that the bytes reach anything.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Reached {
    /// It led.
    pub led: bool,
    /// It committed something.
    pub committed: bool,
    /// It installed a snapshot.
    pub installed: bool,
    /// It stopped with a reason.
    pub stopped: bool,
}

/// A group that is told whatever the bytes make up, by members and by strangers, while its driver does its work now and
/// then. It must refuse, or stop with a reason, and keep what must hold.
pub fn step(data: &[u8]) -> Reached {
    let mut reached = Reached::default();
    let mut source = Source::new(data);
    let Some(mut driven) = Driven::new(&mut source) else { return reached };
    let committed = driven.node.status().committed;
    while !source.is_used_up() {
        let install = driven.install;
        driven.event(&mut source);
        let status = driven.node.status();
        reached.led |= status.role == Role::Leader;
        reached.committed |= status.committed > committed;
        reached.installed |= install == Some(status.applied);
        if driven.node.poisoned().is_some() {
            let last_words = driven.node.ready();
            let said =
                (last_words.append, last_words.committed, last_words.messages, last_words.messages_after);
            assert_eq!(said, Default::default(), "a group that has stopped refuses reads, and nothing else");
            assert!(!driven.node.has_ready(), "a group that has stopped has nothing to say");
            assert!(driven.node.propose(Bytes::new()).is_err(), "nor to take");
            reached.stopped = true;
            return reached;
        }
        driven.node.check_invariants().expect("invariants hold");
    }
    reached
}

impl Driven {
    fn new(source: &mut Source<'_>) -> Option<Self> {
        let voters = |ids: &[u64]| ConfState::of_voters(ids.iter().map(|&id| PeerId(id)));
        let conf = match source.below(12) {
            0 => source.conf_state(),
            1 => voters(&[1]),
            2 => voters(&[2]),
            3 => ConfState { learners: vec![PeerId(1)], ..voters(&[2, 3, 4]) },
            4 => ConfState { learners: vec![PeerId(2), PeerId(3)], ..voters(&[1]) },
            5 => ConfState { voters_outgoing: vec![PeerId(1), PeerId(2)], ..voters(&[1, 3, 4]) },
            6 => voters(&[1, 2]),
            _ => voters(&[1, 2, 3]),
        };
        let mut storage = MemStorage::with_conf_state(conf);
        let mut term = 1;
        let entries: Vec<_> = (1..=source.below(6))
            .map(|index| {
                term += source.below(2);
                Entry {
                    term: Term(term),
                    index: LogIndex(index),
                    kind: EntryKind::Normal,
                    data: Bytes::from_static(b"old"),
                }
            })
            .collect();
        storage.append(&entries);
        let applied = source.below(entries.len() as u64 + 1);
        storage.force_hard_state(raft::HardState {
            term: Term(term + source.below(3)),
            vote: source.peer(),
            commit: LogIndex(applied),
            ..raft::HardState::default()
        });
        if source.flag() && applied > 0 {
            storage.compact(LogIndex(applied), Bytes::new());
        }
        let config = Config {
            id: PeerId(1),
            applied: LogIndex(applied),
            pre_vote: source.flag(),
            check_quorum: source.flag(),
            newborn: source.flag(),
            max_size_per_message: [1, 40, 1 << 20][source.below(3) as usize],
            max_inflight_messages: [1, 256][source.below(2) as usize],
            max_uncommitted_bytes: [1, 1 << 20][source.below(2) as usize],
            max_committed_bytes_per_ready: [1, 1 << 20][source.below(2) as usize],
            ..Config::default()
        };
        let node = RawNode::new(&config, storage).ok()?;
        Some(Self { node, jobs: VecDeque::new(), applying: VecDeque::new(), install: None, last_token: None })
    }

    fn event(&mut self, source: &mut Source<'_>) {
        match source.byte() % 32 {
            0..14 => {
                // Mostly it speaks of what is: otherwise hardly anything would be looked at twice.
                let status = self.node.status();
                let index = if source.flag() { status.last.index } else { status.committed };
                source.near = EntryId::new(status.term, index);
                let mut message = source.message(PeerId(1));
                match (&message.body, source.below(4)) {
                    (Body::ReadIndex { .. }, 0..3) => message.term = Term::ZERO,
                    (Body::Append { entries, commit, .. }, 0..2) => {
                        let (entries, commit) = (entries.clone(), *commit);
                        message.body = Body::Append { prev: status.last, entries, commit };
                    }
                    (Body::VoteResp { commit, .. }, 0..3) => {
                        let pre = status.role == Role::PreCandidate;
                        message.term = if pre { status.term.next() } else { status.term };
                        message.body = Body::VoteResp { pre, reject: false, commit: *commit };
                    }
                    _ => {}
                }
                let _ = self.node.step(message);
            }
            14..19 => self.collect(),
            19..22 => self.write(),
            22..25 => self.apply(),
            25 => self.node.tick_n(source.below(25)),
            26 => {
                let _ = self.node.campaign();
            }
            27 => {
                let _ = self.node.propose(Bytes::from(vec![source.byte(); 5]));
            }
            28 => {
                let _ = self.node.propose_conf_change(source.conf_change());
            }
            29 => {
                let _ = self.node.read_index(source.number());
            }
            30 => match source.below(6) {
                0 => drop(self.node.transfer_leader(source.peer())),
                1 => self.node.forget_leader(),
                2 => self.node.report_unreachable(source.peer()),
                3 => self.node.report_snapshot(source.peer(), source.flag()),
                4 => self.node.ping(),
                _ => self.node.shrink(),
            },
            _ => {
                let applied = self.node.status().applied;
                if applied <= self.node.storage().last_index() && self.install.is_none() {
                    let conf = self.node.conf_state().clone();
                    self.node.storage_mut().set_conf_state(conf);
                    self.node.storage_mut().compact(applied, Bytes::new());
                }
            }
        }
    }

    fn collect(&mut self) {
        let ready = self.node.ready();
        if let Some(append) = ready.append {
            self.jobs.push_back(Job { append, done: false });
        }
        self.applying.extend(ready.committed.iter().cloned());
    }

    /// The oldest write becomes readable, or durable.
    fn write(&mut self) {
        let Some(job) = self.jobs.front_mut() else { return };
        let token = job.append.token;
        if !job.done {
            job.done = true;
            self.node.storage_mut().write(&job.append);
            self.node.on_stable(token);
            return;
        }
        self.node.on_persist(token);
        if let Some(snapshot) = &job.append.snapshot {
            self.install = Some(snapshot.meta.index);
        }
        if let Some(old) = self.last_token.replace(token) {
            self.node.on_persist(old);
        }
        self.jobs.pop_front();
    }

    fn apply(&mut self) {
        if let Some(index) = self.install.take() {
            self.applying.retain(|entry| entry.index > index);
            if self.node.status().applied < index {
                self.node.on_applied(index);
            }
            return;
        }
        let Some(entry) = self.applying.pop_front() else { return };
        if entry.index <= self.node.status().applied {
            return;
        }
        if entry.kind == EntryKind::ConfChange
            && let Ok(change) = raft::ConfChange::from_bytes(&entry.data)
        {
            let _ = self.node.apply_conf_change(&change);
        }
        if self.node.poisoned().is_none() {
            self.node.on_applied(entry.index);
        }
    }
}
