//! One peer with its disk and its state machine. What a driver does in one go is taken apart here, so that a story can
//! stop between any two steps.

use bytes::Bytes;
use codec::{Decode, Encode};
use raft::{
    Append, ConfState, Config, Entry, EntryId, EntryKind, HardState, MemStorage, Message, PersistToken,
    RawNode, Snapshot, SnapshotMeta, Storage,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use types::{LogIndex, PeerId, Term};

/// The state machine: a hash over everything applied, and the members.
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
}

/// A write that was asked for, and what waits for it.
pub(crate) struct Job {
    pub(crate) append: Append,
    pub(crate) after: Vec<Message>,
}

pub(crate) struct Host {
    pub(crate) config: Config,
    /// `None` while it is down.
    pub(crate) node: Option<RawNode<MemStorage>>,
    /// What survives a crash.
    pub(crate) disk: MemStorage,
    pub(crate) machine: Machine,
    /// The state machine after each index, from where the log begins: what a restart may go back to.
    pub(crate) machines: BTreeMap<LogIndex, Machine>,
    /// Writes asked for and not carried out, oldest first.
    pub(crate) writes: VecDeque<Job>,
    /// Durable, and not reported.
    pub(crate) durable: VecDeque<(PersistToken, Vec<Message>)>,
    /// Reported, oldest first: a report may come twice.
    pub(crate) reported: Vec<PersistToken>,
    /// Committed entries that wait to be applied.
    pub(crate) pages: VecDeque<Entry>,
    /// A durable snapshot that waits to be installed.
    pub(crate) install: Option<Machine>,
    pub(crate) hold_writes: bool,
    pub(crate) hold_applies: bool,
    /// The log as it was handed out for writing.
    pub(crate) log: BTreeMap<LogIndex, Term>,
    /// Where the changes of members stand that were ever handed out for writing.
    pub(crate) changes: BTreeSet<LogIndex>,
    /// Reads under way, and what each must see at least.
    pub(crate) reads: BTreeMap<u64, LogIndex>,
    /// The highest index that was known to be committed in this life, as of the last look.
    pub(crate) committed: LogIndex,
    /// The term it was last seen to lead.
    pub(crate) led: Term,
}

impl Host {
    /// A peer that has not started yet, with this on its disk.
    pub(crate) fn new(config: Config, disk: MemStorage, machine: Machine) -> Self {
        let machines = [(machine.applied, machine.clone())].into();
        Self {
            config,
            node: None,
            disk,
            machine,
            machines,
            writes: VecDeque::new(),
            durable: VecDeque::new(),
            reported: Vec::new(),
            pages: VecDeque::new(),
            install: None,
            hold_writes: false,
            hold_applies: false,
            log: BTreeMap::new(),
            changes: BTreeSet::new(),
            reads: BTreeMap::new(),
            committed: LogIndex::ZERO,
            led: Term::ZERO,
        }
    }

    /// A disk that begins with a snapshot at `base`, on which newcomers can build.
    pub(crate) fn snapshot_disk(base: EntryId, machine: &Machine) -> MemStorage {
        let mut disk = MemStorage::default();
        let meta = SnapshotMeta { index: base.index, term: base.term, conf_state: machine.conf.clone() };
        disk.apply_snapshot(Snapshot { meta, data: machine.to_bytes() });
        disk.force_hard_state(HardState { term: base.term, commit: base.index, ..HardState::default() });
        disk
    }

    /// Begins a life with what is on the disk.
    pub(crate) fn start(&mut self) -> Result<(), raft::Error> {
        let config = Config { applied: self.machine.applied, ..self.config.clone() };
        let mut storage = self.disk.clone();
        storage.set_conf_state(self.machine.conf.clone());
        let base = storage.base().meta.clone();
        self.log = storage.all_entries().iter().map(|entry| (entry.index, entry.term)).collect();
        self.log.insert(base.index, base.term);
        let node = RawNode::new(&config, storage)?;
        self.committed = node.status().committed;
        self.node = Some(node);
        Ok(())
    }

    /// Ends this life. The writes that wait are lost.
    pub(crate) fn crash(&mut self) {
        if let Some(machine) = self.install.take() {
            self.take_machine(machine);
        }
        self.node = None;
        self.writes.clear();
        self.durable.clear();
        self.reported.clear();
        self.pages.clear();
        self.reads.clear();
        self.hold_writes = false;
        self.hold_applies = false;
        self.led = Term::ZERO;
    }

    /// The oldest write becomes durable, and nobody is told yet. Nothing if there is none.
    pub(crate) fn write_oldest(&mut self) -> Option<Append> {
        let Job { append, after } = self.writes.pop_front()?;
        if let Some(node) = &mut self.node {
            node.storage_mut().write(&append);
        }
        self.disk.write(&append);
        if let Some(snapshot) = &append.snapshot {
            self.install = Some(Machine::from_bytes(&snapshot.data).expect("a snapshot holds a machine"));
        }
        self.durable.push_back((append.token, after));
        Some(append)
    }

    pub(crate) fn take_machine(&mut self, machine: Machine) {
        self.machines = [(machine.applied, machine.clone())].into();
        self.machine = machine;
    }

    /// Goes back to how the state machine was at `index`. False if nobody remembers.
    pub(crate) fn rewind(&mut self, index: LogIndex) -> bool {
        let Some(machine) = self.machines.get(&index).cloned() else { return false };
        self.machines.split_off(&index.next());
        self.machine = machine;
        true
    }

    /// Drops the log up to `index`, for which the state machine as it was there stands from now on; if that is not known,
    /// as it is now.
    pub(crate) fn compact(&mut self, index: LogIndex) {
        let machine = self.machines.get(&index).unwrap_or(&self.machine);
        let (conf, data): (ConfState, Bytes) = (machine.conf.clone(), machine.to_bytes());
        let storages = self.node.as_mut().map(RawNode::storage_mut).into_iter().chain([&mut self.disk]);
        for storage in storages {
            storage.set_conf_state(conf.clone());
            storage.compact(index, data.clone());
        }
        self.machines = self.machines.split_off(&index);
        self.log = self.log.split_off(&index);
    }

    /// Notes the writes that were asked for.
    pub(crate) fn note_log(&mut self, append: &Append) {
        if let Some(snapshot) = &append.snapshot {
            self.log = [(snapshot.meta.index, snapshot.meta.term)].into();
        }
        for entry in &append.entries {
            self.log.split_off(&entry.index);
            self.log.insert(entry.index, entry.term);
            self.changes.split_off(&entry.index);
            if entry.kind == EntryKind::ConfChange {
                self.changes.insert(entry.index);
            }
        }
    }

    /// Whether the entry of `term` at `index` is durable here.
    pub(crate) fn holds(&self, index: LogIndex, term: Term) -> bool {
        index <= self.disk.base().meta.index || self.disk.term(index) == Ok(term)
    }

    pub(crate) fn id(&self) -> PeerId {
        self.config.id
    }
}
