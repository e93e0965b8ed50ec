//! The group of PD members: commands go in, committed ones are applied, and one write batch a turn comes out.
//!
//! Invariant (INV-PD-ORDER): what a turn writes (the log, the state applied, the compaction that relies on it) is one
//! batch, and batches are written in the order of their tokens. So after a crash the state on disk is never ahead of the
//! log, and the log never begins after the state.

use crate::state::{Command, Outcome, State};
use crate::{Config, Error};
use bytes::Bytes;
use codec::{Decode as _, Encode as _};
use engine::{Engine, WriteBatch};
use raft::{
    Body, ConfState, Dropped, EntryId, EntryKind, HardState, Message, PersistToken, RawNode, Ready, Role,
    Snapshot, SnapshotMeta, Status,
};
use raft_log::{GroupLog, LoadError};
use std::collections::VecDeque;
use std::time::Duration;
use types::{LogIndex, MonoTime, PeerId, RegionId, Term};

/// PD's log is the only one in its engine.
const GROUP: RegionId = RegionId(1);

/// Commands are small; what followers a little behind need is read from memory up to here.
const CACHE_BYTES_MAX: u64 = 1 << 20;

/// A leader's right to answer alone lasts so long after it last asked a quorum: less than the minimum election timeout
/// of ten ticks, less a tick for rounding, less a tenth for clocks that run apart.
const LEASE_TICKS: u32 = 8;

/// Names a write. They are to be completed in the order in which they were handed out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct WriteToken(pub u64);

/// A write that is not known to be durable, and what waits for it.
#[derive(Debug)]
struct PendingWrite {
    token: WriteToken,
    raft: Option<PersistToken>,
    /// A snapshot that counts as installed then.
    snapshot: Option<LogIndex>,
    messages: Vec<Message>,
}

/// What a turn of the group leads to.
#[derive(Debug, Default)]
pub(crate) struct GroupEffects {
    pub(crate) batch: WriteBatch,
    pub(crate) must_sync: bool,
    /// Set if there is something to write.
    pub(crate) token: Option<WriteToken>,
    pub(crate) messages: Vec<Message>,
    /// What became of each command applied, in order.
    pub(crate) applied: Vec<(EntryId, Outcome)>,
}

/// One member of the group and its copy of the state.
pub(crate) struct Group<E: Engine> {
    node: RawNode<GroupLog<E>>,
    /// Where it puts its effects: the lists keep their room from turn to turn.
    ready: Ready,
    state: State,
    writes: VecDeque<PendingWrite>,
    last_token: WriteToken,
    /// Entries before this one are removed from disk.
    collected: LogIndex,
    log_entries_max: u64,
    tick: Duration,
    next_tick: Option<MonoTime>,
    /// The reading of the clock at which each of the latest ticks began.
    tick_readings: VecDeque<(u64, MonoTime)>,
}

impl<E: Engine> Group<E> {
    pub(crate) fn open(
        config: &Config,
        engine: E,
        id: PeerId,
        members: &ConfState,
        seed: u64,
    ) -> Result<Self, Error> {
        let mut state = State::load(&engine)?;
        state.bugs = config.bugs;
        if state.is_new() {
            state.found(members.clone());
        } else if state.conf_state() != members {
            return Err(Error::Config(format!(
                "the members of this placement driver are {:?}, not {:?}; they cannot be changed by configuration",
                state.conf_state().voters,
                members.voters
            )));
        }
        let mut log = GroupLog::load(engine, GROUP, state.truncated(), state.conf_state().clone())?;
        log.on_recovered(state.applied().index)?;
        let newborn = log.hard_state() == HardState::default();
        let raft_config = raft::Config {
            id,
            group_id: GROUP.get(),
            seed,
            applied: state.applied().index,
            newborn,
            ..raft::Config::default()
        };
        let collected = LogIndex::ZERO;
        let node = RawNode::new(&raft_config, log).map_err(|error| Error::Raft(error.to_string()))?;
        #[cfg(feature = "seeded_bugs")]
        let node = {
            let mut node = node;
            config.raft_seeded_bugs.iter().for_each(|bug| node.plant(*bug));
            node
        };
        let mut group = Self {
            node,
            ready: Ready::default(),
            state,
            writes: VecDeque::new(),
            last_token: WriteToken(0),
            collected,
            log_entries_max: config.log_entries_max,
            tick: config.tick,
            next_tick: None,
            tick_readings: VecDeque::new(),
        };
        if group.is_sole_voter() {
            // Nobody else could lead. A refusal (there is none for a sole voter) leaves it to the election timeout.
            let _ = group.node.campaign();
        }
        Ok(group)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn status(&self) -> Status {
        self.node.status()
    }

    /// The term that we lead and in which everything before us is applied.
    pub(crate) fn leading_term(&self) -> Option<Term> {
        let status = self.node.status();
        (status.role == Role::Leader && self.state.applied().term == status.term).then_some(status.term)
    }

    /// True while no other member can have become leader: for answers that are right only at this moment.
    pub(crate) fn holds_lease(&self, now: MonoTime) -> bool {
        if self.is_sole_voter() {
            return true;
        }
        let Some(lease) = self.node.lease() else { return false };
        // The turn in which that tick was reached read the clock before it sent anything. Older turns are forgotten.
        let oldest = self.tick_readings.front().map_or(u64::MAX, |(tick, _)| *tick);
        let start = self.tick_readings.iter().find(|(tick, _)| *tick >= lease.start_tick);
        lease.start_tick >= oldest
            && start.is_some_and(|(_, reading)| now < *reading + self.tick * LEASE_TICKS)
    }

    /// When [`advance`](Self::advance) has something to do.
    pub(crate) fn next_tick(&self) -> MonoTime {
        self.next_tick.unwrap_or(MonoTime::ZERO)
    }

    /// Lets time pass. Called before messages are stepped.
    pub(crate) fn advance(&mut self, now: MonoTime) {
        let Some(due) = self.next_tick else {
            self.next_tick = Some(now + self.tick);
            self.tick_readings.push_back((self.node.tick_count(), now));
            return;
        };
        if now < due {
            return;
        }
        let ticks = 1 + (now.since(due).as_nanos() / self.tick.as_nanos()) as u64;
        self.node.tick_n(ticks);
        let passed = self.tick.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
        self.next_tick = Some(due + passed);
        self.tick_readings.push_back((self.node.tick_count(), now));
        while self.tick_readings.len() > 4 * LEASE_TICKS as usize {
            self.tick_readings.pop_front();
        }
    }

    /// A message from another member. What it has no use for is dropped: Raft repeats what matters.
    pub(crate) fn step(&mut self, message: Message) {
        let _ = self.node.step(message);
    }

    pub(crate) fn propose(&mut self, command: &Command) -> Result<EntryId, Dropped> {
        self.node.propose(command.to_bytes())
    }

    /// The write of this token, and all before it, are durable.
    pub(crate) fn on_written(&mut self, token: WriteToken, effects: &mut GroupEffects) {
        while self.writes.front().is_some_and(|write| write.token <= token) {
            let write = self.writes.pop_front().expect("there is a first one");
            if let Some(raft) = write.raft {
                self.node.storage_mut().on_written(raft);
                self.node.on_persist(raft);
            }
            if let Some(index) = write.snapshot {
                self.node.on_applied(index);
            }
            effects.messages.extend(write.messages);
        }
        self.node.storage_mut().evict_cache(self.state.applied().index, CACHE_BYTES_MAX);
    }

    /// Carries out all that Raft asks for.
    pub(crate) fn drain(&mut self, effects: &mut GroupEffects) -> Result<(), Error> {
        let (mut persist, mut installed) = (None, None);
        let mut held = Vec::new();
        let mut ready = std::mem::take(&mut self.ready);
        while self.node.has_ready() {
            self.node.ready_into(&mut ready);
            if let Some(append) = ready.append.take() {
                if let Some(snapshot) = &append.snapshot {
                    let at = EntryId::new(snapshot.meta.term, snapshot.meta.index);
                    self.state.restore(at, &snapshot.data, &mut effects.batch)?;
                    installed = Some(at.index);
                }
                self.node.storage_mut().append(&append, &mut effects.batch);
                self.node.on_stable(append.token);
                effects.must_sync = true;
                persist = Some(append.token);
            }
            for message in &ready.messages {
                if matches!(message.body, Body::Snapshot { .. }) {
                    // It travels in this one message; what became of it shows in the answer to the next.
                    self.node.report_snapshot(message.to, true);
                }
            }
            effects.messages.append(&mut ready.messages);
            held.append(&mut ready.messages_after);
            self.apply(&std::mem::take(&mut ready.committed), effects)?;
            self.serve_storage()?;
        }
        self.ready = ready;
        if let Some(reason) = self.node.poisoned() {
            return Err(Error::Raft(reason.to_owned()));
        }
        self.compact(effects)?;
        if persist.is_some() || !effects.batch.is_empty() {
            self.last_token.0 += 1;
            effects.token = Some(self.last_token);
            self.writes.push_back(PendingWrite {
                token: self.last_token,
                raft: persist,
                snapshot: installed,
                messages: held,
            });
        } else if let Some(last) = self.writes.back_mut() {
            last.messages.extend(held);
        } else {
            effects.messages.extend(held);
        }
        Ok(())
    }

    fn apply(&mut self, entries: &[raft::Entry], effects: &mut GroupEffects) -> Result<(), Error> {
        for entry in entries {
            let command = match entry.kind {
                EntryKind::Normal if entry.data.is_empty() => None,
                EntryKind::Normal => Some(Command::from_bytes(&entry.data)?),
                EntryKind::ConfChange => {
                    return Err(Error::Corrupt(format!("entry {} changes the members", entry.index)));
                }
            };
            let outcome = self.state.apply(entry.id(), command, &mut effects.batch);
            effects.applied.push((entry.id(), outcome));
        }
        if let Some(last) = entries.last() {
            self.node.on_applied(last.index);
        }
        Ok(())
    }

    /// Hands in what Raft could not read at once: the state is in memory and the log is small, so both are at hand.
    fn serve_storage(&mut self) -> Result<(), Error> {
        if let Some(to) = self.node.storage().take_snapshot_wanted() {
            let EntryId { term, index } = self.state.applied();
            let meta = SnapshotMeta { index, term, conf_state: self.state.conf_state().clone() };
            let data: Bytes = self.state.image();
            self.node.storage_mut().offer_snapshot(to, Snapshot { meta, data });
        }
        while let Some(request) = self.node.storage().take_fetch_wanted() {
            let engine = self.node.storage().engine().clone();
            match GroupLog::fetch(&engine, GROUP, &request) {
                Ok(entries) => self.node.storage_mut().offer_entries(request.context.to, entries),
                Err(error) => return Err(Error::Corrupt(error.to_string())),
            }
            self.node.on_entries_fetched(request.context);
        }
        Ok(())
    }

    /// Drops the older half of a log that has grown to its limit, so that members a little behind need no snapshot.
    fn compact(&mut self, effects: &mut GroupEffects) -> Result<(), Error> {
        let applied = self.state.applied().index;
        if applied.distance_from(self.state.truncated().index) < self.log_entries_max.max(2) {
            return Ok(());
        }
        let index = applied - self.log_entries_max / 2;
        let term = raft::Storage::term(self.node.storage(), index)
            .map_err(|error| Error::Corrupt(error.to_string()))?;
        let to = EntryId::new(term, index);
        self.state.truncate(to, &mut effects.batch);
        self.node.storage_mut().compact(to);
        self.collected = self.node.storage().collect(self.collected, &mut effects.batch);
        Ok(())
    }

    fn is_sole_voter(&self) -> bool {
        self.state.conf_state().voters.len() == 1
    }

    pub(crate) fn check_invariants(&self) {
        self.state.check_invariants();
        if let Err(violated) = self.node.check_invariants() {
            panic!("{violated}");
        }
        let status = self.node.status();
        assert!(
            self.state.applied().index <= status.committed,
            "INV-PD-ORDER: applied beyond what is committed"
        );
        assert!(
            self.state.truncated().index <= self.state.applied().index,
            "INV-PD-ORDER: compacted too far"
        );
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Engine(error) => Self::Engine(error),
            corrupt @ LoadError::Corrupt { .. } => Self::Corrupt(corrupt.to_string()),
        }
    }
}
