//! One peer with its disk and its state machine: what a driver does, with every step apart from the next.

use bytes::Bytes;
use codec::{Decode, Encode};
use raft::{
    Append, CheckedStorage, ConfState, Config, Entry, EntryKind, HardState, MemStorage, Message,
    PersistToken, RawNode, Snapshot, SnapshotMeta, Storage,
};
use std::collections::{BTreeMap, VecDeque};
use types::{LogIndex, PeerId, Term};

/// The state machine: a hash over everything applied.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Machine {
    pub(crate) applied: LogIndex,
    pub(crate) hash: u64,
    pub(crate) conf: ConfState,
}
codec::codec_struct!(Machine { applied, hash, conf });

impl Machine {
    pub(crate) fn apply(&mut self, entry: &Entry) {
        let inputs = entry.data.iter().map(|&byte| u64::from(byte)).chain([entry.term.0, entry.index.0]);
        self.hash = inputs.fold(self.hash, |hash, input| (hash ^ input).wrapping_mul(0x0100_0000_01b3));
        self.applied = entry.index;
    }

    pub(crate) fn restore(snapshot: &Snapshot) -> Self {
        let machine = Self::from_bytes(&snapshot.data).expect("a snapshot holds a machine");
        assert_eq!(machine.applied, snapshot.meta.index, "a snapshot stands where its machine does");
        machine
    }
}

/// A write that was asked for and is not durable.
pub(crate) struct Job {
    pub(crate) append: Append,
    pub(crate) after: Vec<Message>,
    /// It can be read.
    pub(crate) written: bool,
}

pub(crate) struct Host {
    pub(crate) id: PeerId,
    /// `None` while it is down.
    pub(crate) node: Option<RawNode<CheckedStorage>>,
    /// When this life began.
    pub(crate) started: u64,
    /// Nothing runs here before.
    pub(crate) paused_until: u64,
    /// Nothing is applied here before.
    pub(crate) lags_until: u64,
    /// Up to date while the peer is down; else see [`Host::disk`].
    disk: MemStorage,
    pub(crate) disk_machine: Machine,
    pub(crate) machine: Machine,
    pub(crate) jobs: VecDeque<Job>,
    /// Durable, and not reported.
    pub(crate) done: VecDeque<PersistToken>,
    pub(crate) reported: Vec<PersistToken>,
    pub(crate) pages: VecDeque<Entry>,
    /// A snapshot that is durable and not installed.
    pub(crate) install: Option<Machine>,
    /// The terms of the log as it was handed out for writing.
    pub(crate) log: BTreeMap<LogIndex, Term>,
    /// Reads under way, and what each must see at least.
    pub(crate) reads: BTreeMap<u64, LogIndex>,
    /// As of the last look.
    pub(crate) committed: LogIndex,
    pub(crate) led: Term,
    /// The term of the leader that was last heard in this life.
    pub(crate) heard: Term,
    pub(crate) check_log: bool,
}

impl Host {
    /// One of the first members.
    pub(crate) fn founder(id: PeerId, conf: &ConfState) -> Self {
        let machine = Machine { applied: LogIndex(1), hash: 1, conf: conf.clone() };
        let mut disk = MemStorage::default();
        let meta = SnapshotMeta { index: LogIndex(1), term: Term(1), conf_state: conf.clone() };
        disk.apply_snapshot(Snapshot { meta, data: machine.to_bytes() });
        disk.force_hard_state(HardState { term: Term(1), commit: LogIndex(1), ..HardState::default() });
        Self::with_disk(id, disk, machine)
    }

    /// Somebody who knows nothing yet.
    pub(crate) fn newcomer(id: PeerId) -> Self {
        Self::with_disk(id, MemStorage::default(), Machine::default())
    }

    fn with_disk(id: PeerId, disk: MemStorage, machine: Machine) -> Self {
        Self {
            id,
            node: None,
            started: 0,
            paused_until: 0,
            lags_until: 0,
            disk,
            disk_machine: machine.clone(),
            machine,
            jobs: VecDeque::new(),
            done: VecDeque::new(),
            reported: Vec::new(),
            pages: VecDeque::new(),
            install: None,
            log: BTreeMap::new(),
            reads: BTreeMap::new(),
            committed: LogIndex::ZERO,
            led: Term::ZERO,
            heard: Term::ZERO,
            check_log: false,
        }
    }

    /// What is durable.
    pub(crate) fn disk(&self) -> &MemStorage {
        self.node.as_ref().map_or(&self.disk, |node| node.storage().durable())
    }

    /// The vote on the disk is gone, while the peer is down.
    pub(crate) fn forget_vote(&mut self) {
        let state = self.disk.hard_state();
        self.disk.force_hard_state(HardState { vote: PeerId::ZERO, ..state });
    }

    /// Begins a life with what is on the disk.
    pub(crate) fn start(&mut self, now: u64, config: &Config) -> Result<(), String> {
        let config = Config { id: self.id, applied: self.disk_machine.applied, ..config.clone() };
        let mut storage = self.disk.clone();
        storage.set_conf_state(self.disk_machine.conf.clone());
        self.machine = self.disk_machine.clone();
        let base = storage.base().meta.clone();
        self.log = storage.all_entries().iter().map(|entry| (entry.index, entry.term)).collect();
        self.log.insert(base.index, base.term);
        let node = RawNode::new(&config, CheckedStorage::new(storage))
            .map_err(|error| format!("{} does not start: {error}", self.id))?;
        self.committed = node.status().committed;
        self.node = Some(node);
        self.started = now;
        Ok(())
    }

    /// Ends this life. Of the writes under way, `survive` have reached the disk.
    pub(crate) fn crash(&mut self, survive: usize) {
        let node = self.node.as_mut().expect("up");
        self.disk = std::mem::take(node.storage_mut()).crash(survive);
        for job in self.jobs.drain(..).take(survive) {
            if let Some(snapshot) = &job.append.snapshot {
                self.disk_machine = Machine::restore(snapshot);
            }
        }
        self.jobs.clear();
        self.node = None;
        self.heard = Term::ZERO;
        self.done.clear();
        self.reported.clear();
        self.pages.clear();
        self.install = None;
        self.reads.clear();
    }

    /// The oldest write becomes durable.
    pub(crate) fn make_durable(&mut self) -> Option<Job> {
        if !self.jobs.front()?.written {
            return None;
        }
        let token = self.node.as_mut()?.storage_mut().sync();
        let job = self.jobs.pop_front()?;
        assert_eq!(token, Some(job.append.token), "writes are durable in order");
        if let Some(snapshot) = &job.append.snapshot {
            let machine = Machine::restore(snapshot);
            self.disk_machine = machine.clone();
            self.install = Some(machine);
        }
        Some(job)
    }

    /// What is applied becomes durable.
    pub(crate) fn flush_machine(&mut self) -> Result<(), String> {
        let last = self.disk().last_index();
        if self.machine.applied > last {
            return Err(format!("{} applied {}, durable {}", self.id, self.machine.applied, last));
        }
        if self.machine.applied > self.disk_machine.applied {
            self.disk_machine = self.machine.clone();
        }
        Ok(())
    }

    /// Drops the log up to what is applied durably, or, gently, only if that is of no more use to anybody.
    pub(crate) fn compact(&mut self, gently: bool) -> Result<(), String> {
        let index = self.disk_machine.applied;
        if let Some(node) = self.node.as_ref().filter(|_| gently) {
            let hint = node.compaction_hint();
            if hint > self.machine.applied {
                return Err(format!("{} may compact to {hint}, applied {}", self.id, self.machine.applied));
            }
            if hint < index {
                return Ok(());
            }
        }
        let (conf, data): (ConfState, Bytes) = (self.disk_machine.conf.clone(), self.disk_machine.to_bytes());
        let storages = match &mut self.node {
            Some(node) => node.storage_mut().both_mut().into_iter().collect(),
            None => vec![&mut self.disk],
        };
        for storage in storages {
            if storage.base().meta.index < index {
                storage.set_conf_state(conf.clone());
                storage.compact(index, data.clone());
            }
        }
        self.log.retain(|&at, _| at >= index);
        Ok(())
    }

    /// Notes the writes that were asked for.
    pub(crate) fn note_log(&mut self, append: &Append) {
        if let Some(snapshot) = &append.snapshot {
            self.log.clear();
            self.log.insert(snapshot.meta.index, snapshot.meta.term);
        }
        for entry in &append.entries {
            self.log.split_off(&entry.index);
            self.log.insert(entry.index, entry.term);
        }
    }

    /// Whether the entry of `term` at `index` is durable here.
    pub(crate) fn holds(&self, index: LogIndex, term: Term) -> bool {
        index <= self.disk().base().meta.index || self.disk().term(index) == Ok(term)
    }
}

/// A change of members that the application turns down, on every peer alike.
pub(crate) const TURNED_DOWN: &[u8] = b"no";

pub(crate) fn is_change(entry: &Entry) -> bool {
    entry.kind == EntryKind::ConfChange
}
