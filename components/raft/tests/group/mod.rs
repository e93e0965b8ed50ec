//! A whole group in the hands of a story: nothing is sent, written, applied or forgotten unless the story says so. After
//! every step all that happened is checked against the rules in `record.rs`.

mod host;
mod network;
mod record;
mod script;
mod show;

pub(crate) use script::Command;

use bytes::Bytes;
use codec::{Decode, Encode};
use host::{Host, Job, Machine};
use network::{Filter, Network};
use raft::{
    Body, ConfChange, ConfState, Config, Entry, EntryId, EntryKind, HardState, MemStorage, Message, RawNode,
    ReadState, Ready, Role, SeededBug, SnapshotMeta, Storage,
};
use record::Record;
use std::collections::BTreeMap;
use types::{LogIndex, PeerId, Term};

/// How often a peer may have something to do in one turn. More is a circle.
const READIES_MAX: usize = 1_000;
/// How many messages may pass until a group has nothing more to say. More is a circle.
const MESSAGES_MAX: usize = 10_000;

/// Why a story cannot go on: a rule is broken, or the story asks for what cannot be.
pub(crate) type Fault = String;

pub(crate) struct Group {
    hosts: BTreeMap<PeerId, Host>,
    network: Network,
    record: Record,
    /// Of those who have no wishes of their own.
    pub(crate) config: Config,
    /// Broken in every peer.
    bug: Option<SeededBug>,
    /// What happened, a line each.
    out: Vec<String>,
    /// Messages are told when they arrive.
    tell_messages: bool,
    /// Clocks did not move together, so leases are worth nothing.
    clocks_differ: bool,
    /// Clocks may differ by so many percent, and leases are used for so much less.
    pub(crate) drift_percent: Option<u64>,
}

impl Group {
    pub(crate) fn new(bug: Option<SeededBug>) -> Self {
        Self {
            hosts: BTreeMap::new(),
            network: Network::default(),
            record: Record::new(LogIndex::ZERO),
            config: Config { seed: 1, group_id: 1, ..Config::default() },
            bug,
            out: Vec::new(),
            tell_messages: true,
            clocks_differ: false,
            drift_percent: None,
        }
    }

    fn tell(&mut self, line: impl Into<String>) {
        self.out.push(line.into());
    }

    // ---- who there is ----

    pub(crate) fn ids(&self) -> Vec<PeerId> {
        self.hosts.keys().copied().collect()
    }

    pub(crate) fn live(&self) -> Vec<PeerId> {
        self.hosts.iter().filter(|(_, host)| host.node.is_some()).map(|(&id, _)| id).collect()
    }

    fn host(&mut self, id: PeerId) -> Result<&mut Host, Fault> {
        self.hosts.get_mut(&id).ok_or_else(|| format!("there is no peer {id}"))
    }

    pub(crate) fn node(&mut self, id: PeerId) -> Result<&mut RawNode<MemStorage>, Fault> {
        self.host(id)?.node.as_mut().ok_or_else(|| format!("{id} is down"))
    }

    /// The members at the beginning; with `base`, after a snapshot there on which newcomers can build.
    pub(crate) fn add_founders(&mut self, conf: &ConfState, base: Option<EntryId>) -> Result<(), Fault> {
        let index = base.map_or(LogIndex::ZERO, |base| base.index);
        self.record = Record::new(index);
        for id in conf.members() {
            let machine = Machine { applied: index, hash: 0, conf: conf.clone() };
            let disk = match base {
                Some(base) => Host::snapshot_disk(base, &machine),
                None => MemStorage::with_conf_state(conf.clone()),
            };
            self.add(id, disk, machine, true)?;
        }
        Ok(())
    }

    /// Somebody who knows nothing yet.
    pub(crate) fn add_newcomer(&mut self, id: PeerId) -> Result<(), Fault> {
        self.add(id, MemStorage::default(), Machine::default(), true)
    }

    fn add(&mut self, id: PeerId, disk: MemStorage, machine: Machine, newborn: bool) -> Result<(), Fault> {
        let config = Config { id, newborn, ..self.config.clone() };
        self.hosts.insert(id, Host::new(config, disk, machine));
        self.start(id)
    }

    /// Begins in the middle: `id` has this log (terms from index 1 on) and hard state, and has applied that much.
    pub(crate) fn put_state(
        &mut self,
        id: PeerId,
        terms: &[u64],
        state: HardState,
        applied: LogIndex,
    ) -> Result<(), Fault> {
        let host = self.host(id)?;
        let conf = host.machine.conf.clone();
        let mut disk = MemStorage::with_conf_state(conf.clone());
        let entries: Vec<Entry> = (1..)
            .zip(terms)
            .map(|(index, &term)| Entry {
                term: Term(term),
                index: LogIndex(index),
                kind: EntryKind::Normal,
                data: Bytes::new(),
            })
            .collect();
        disk.append(&entries);
        disk.force_hard_state(state);
        let mut machine = Machine { conf, ..Machine::default() };
        let mut machines = BTreeMap::from([(LogIndex::ZERO, machine.clone())]);
        for entry in entries.iter().take_while(|entry| entry.index <= applied) {
            machine.apply(entry);
            machines.insert(machine.applied, machine.clone());
        }
        host.node = None;
        (host.disk, host.machine, host.machines) = (disk, machine, machines);
        host.config.newborn = true;
        self.record.writes(EntryId::default(), &entries)?;
        let log = entries.iter().map(|entry| (entry.index, entry.term)).collect();
        self.record.commits(Term::ZERO, state.commit, &log)?;
        for entry in entries.iter().take_while(|entry| entry.index <= applied) {
            self.record.applies(id, entry)?;
        }
        self.start(id)
    }

    // ---- lives ----

    pub(crate) fn start(&mut self, id: PeerId) -> Result<(), Fault> {
        let bug = self.bug;
        let host = self.host(id)?;
        if host.node.is_some() {
            return Err(format!("{id} runs already"));
        }
        let before = host.disk.base().meta.clone();
        if let Err(error) = host.start() {
            self.tell(format!("{id} does not start: {error}"));
            return Ok(());
        }
        if let (Some(bug), Some(node)) = (bug, &mut host.node) {
            node.plant(bug);
        }
        let SnapshotMeta { index, .. } = before;
        if index > host.machine.applied {
            return Err(format!("INV-LOG-2: {id} begins its log after {index}, applied less"));
        }
        self.observe(id)
    }

    /// Ends a life. Of the writes that wait, the first `survive` reach the disk all the same.
    pub(crate) fn crash(&mut self, id: PeerId, survive: usize) -> Result<(), Fault> {
        self.node(id)?;
        self.write(id, survive)?;
        self.host(id)?.crash();
        self.tell(format!("{id}: crashes"));
        Ok(())
    }

    /// Begins another life; `applied`: the state machine comes back as it was there.
    pub(crate) fn restart(&mut self, id: PeerId, applied: Option<LogIndex>) -> Result<(), Fault> {
        let host = self.host(id)?;
        host.config.newborn = false;
        host.config.seed += 1;
        if let Some(applied) = applied
            && !host.rewind(applied)
        {
            return Err(format!("nobody knows what {id} was at {applied}"));
        }
        self.start(id)?;
        if self.node(id).is_ok() {
            self.turn(id)?;
        }
        Ok(())
    }

    // ---- turns ----

    /// Asks `id` for its effects, and carries out what the story does not hold back.
    pub(crate) fn turn(&mut self, id: PeerId) -> Result<(), Fault> {
        self.carry_out_held(id)?;
        for _ in 0..READIES_MAX {
            let node = self.node(id)?;
            if !node.has_ready() {
                return Ok(());
            }
            let ready = node.ready();
            if let Some(reason) = node.poisoned() {
                let line = format!("{id}: stops: {reason}");
                self.tell(line);
                return Ok(());
            }
            self.carry_out(id, ready)?;
        }
        Err(format!("{id} always has something more to do"))
    }

    fn carry_out(&mut self, id: PeerId, ready: Ready) -> Result<(), Fault> {
        let Ready { soft, append, messages, messages_after, committed, read_states } = ready;
        let committed_before = self.host(id)?.committed;
        self.observe(id)?;
        if let Some(soft) = soft {
            let term = self.node(id)?.status().term;
            let of = match (soft.role, soft.lead) {
                (Role::Follower, lead) if !lead.is_zero() => format!(" of {lead}"),
                _ => String::new(),
            };
            self.tell(format!("{id}: {}{of} t{term}", show::role(soft.role)));
        }
        self.send(messages)?;
        match append {
            Some(append) => {
                self.check_append(id, &append.entries)?;
                let host = self.host(id)?;
                host.note_log(&append);
                let held = host.hold_writes.then(|| format!("{id}: holds {}", show::append(&append)));
                host.writes.push_back(Job { append, after: messages_after });
                held.into_iter().for_each(|line| self.tell(line));
            }
            None => {
                let host = self.host(id)?;
                // Whatever waits goes after the last write that was asked for.
                match (host.writes.back_mut(), host.durable.back_mut()) {
                    (Some(job), _) => job.after.extend(messages_after),
                    (None, Some((_, after))) => after.extend(messages_after),
                    (None, None) => self.send(messages_after)?,
                }
            }
        }
        // What is committed is told when it is not applied in the same breath.
        let host = self.host(id)?;
        let silent = committed.is_empty() || host.hold_applies;
        let committed_now = host.committed;
        host.pages.extend(committed.iter().cloned());
        if silent && committed_now > committed_before {
            self.tell(format!("{id}: committed {committed_now}"));
        }
        for ReadState { token, index } in read_states {
            self.finish_read(id, token, index)?;
        }
        self.observe(id)?;
        self.carry_out_held(id)
    }

    /// Writes and applies, unless that is held.
    fn carry_out_held(&mut self, id: PeerId) -> Result<(), Fault> {
        if !self.host(id)?.hold_writes {
            self.persist(id, usize::MAX)?;
        }
        if !self.host(id)?.hold_applies {
            self.apply(id, usize::MAX)?;
        }
        Ok(())
    }

    /// The oldest `count` writes become durable, and `id` is told.
    pub(crate) fn persist(&mut self, id: PeerId, count: usize) -> Result<(), Fault> {
        self.write(id, count)?;
        while let Some(seq) = self.host(id)?.durable.front().map(|(token, _)| token.seq) {
            self.report(id, seq)?;
        }
        Ok(())
    }

    /// The oldest `count` writes become durable, and `id` is not told.
    pub(crate) fn write(&mut self, id: PeerId, count: usize) -> Result<(), Fault> {
        for _ in 0..count {
            let host = self.host(id)?;
            let Some(append) = host.write_oldest() else { break };
            if let Some(first) = append.entries.first() {
                let prev = first.index.prev();
                let term = host.disk.term(prev).map_err(|error| error.to_string())?;
                self.record.writes(EntryId::new(term, prev), &append.entries)?;
            }
        }
        Ok(())
    }

    /// `id` is told that the write `seq`, and all before it, are durable; or told once more.
    pub(crate) fn report(&mut self, id: PeerId, seq: u64) -> Result<(), Fault> {
        let host = self.host(id)?;
        let mut messages = Vec::new();
        let mut token = host.reported.iter().copied().find(|token| token.seq == seq);
        while host.durable.front().is_some_and(|(first, _)| first.seq <= seq) {
            let (first, after) = host.durable.pop_front().expect("there is a first one");
            messages.extend(after);
            host.reported.push(first);
            token = Some(first);
        }
        let token = token.ok_or_else(|| format!("write {seq} of {id} is not durable"))?;
        self.send(messages)?;
        self.node(id)?.on_persist(token);
        self.observe(id)
    }

    /// The next `count` committed entries, or the snapshot before them, are applied.
    pub(crate) fn apply(&mut self, id: PeerId, count: usize) -> Result<(), Fault> {
        if let Some(machine) = self.host(id)?.install.take() {
            let index = machine.applied;
            let host = self.host(id)?;
            host.take_machine(machine.clone());
            // What was handed out before is part of the snapshot.
            host.pages.retain(|entry| entry.index > index);
            self.node(id)?.on_applied(index);
            let members = show::members(&machine.conf);
            self.tell(format!("{id}: installs snapshot {index}, {members}"));
            self.record.reaches(index, machine.hash, &machine.conf)?;
            self.observe(id)?;
        }
        let mut applied: Vec<String> = Vec::new();
        for _ in 0..count {
            let Some(entry) = self.host(id)?.pages.pop_front() else { break };
            applied.push(show::entry(&entry));
            self.record.applies(id, &entry)?;
            let mut outcome = None;
            if entry.kind == EntryKind::ConfChange {
                let change = ConfChange::from_bytes(&entry.data).map_err(|error| error.to_string())?;
                outcome = Some(match self.node(id)?.apply_conf_change(&change) {
                    Ok(conf) => {
                        self.host(id)?.machine.conf = conf.clone();
                        show::members(&conf)
                    }
                    Err(error) => error.to_string(),
                });
            }
            let host = self.host(id)?;
            host.machine.apply(&entry);
            host.machines.insert(host.machine.applied, host.machine.clone());
            let machine = host.machine.clone();
            self.node(id)?.on_applied(entry.index);
            self.record.reaches(entry.index, machine.hash, &machine.conf)?;
            if let Some(outcome) = outcome {
                self.tell(format!("{id}: applies {}", applied.join(", ")));
                self.tell(format!("{id}: {outcome}"));
                applied.clear();
            }
            self.observe(id)?;
        }
        if !applied.is_empty() {
            self.tell(format!("{id}: applies {}", applied.join(", ")));
        }
        Ok(())
    }

    // ---- messages ----

    fn send(&mut self, messages: Vec<Message>) -> Result<(), Fault> {
        for message in messages {
            let host = self.host(message.from)?;
            let (durable, last) = (host.disk.hard_state(), host.disk.last_index());
            self.record.sends(&message, durable, last)?;
            if let Body::Append { prev, entries, .. } = &message.body {
                self.record.writes(*prev, entries)?;
            }
            // Through bytes, as in life.
            let message = Message::from_bytes(&message.to_bytes()).expect("what we encode we decode");
            self.network.send(message);
        }
        Ok(())
    }

    /// Brings one message to its receiver.
    pub(crate) fn arrive(&mut self, message: Message) -> Result<(), Fault> {
        let to = message.to;
        let line = show::message(&message);
        if self.node(to).is_err() {
            if self.tell_messages {
                self.tell(format!("{line} (nobody is there)"));
            }
            return Ok(());
        }
        if self.tell_messages {
            self.tell(line.clone());
        }
        if let Err(error) = self.node(to)?.step(message) {
            let line = if self.tell_messages { String::new() } else { format!("{line}: ") };
            self.tell(format!("{to}: {line}{error}"));
        }
        self.observe(to)?;
        self.turn(to)
    }

    /// Messages pass, oldest first, until nobody has anything to say.
    pub(crate) fn settle(&mut self) -> Result<(), Fault> {
        for id in self.live() {
            self.turn(id)?;
        }
        for _ in 0..MESSAGES_MAX {
            let Some(message) = self.network.next_open() else { return Ok(()) };
            self.arrive(message)?;
        }
        Err("the group never comes to rest".to_owned())
    }

    // ---- time ----

    /// A tick passes for each of `ids`, and each takes a turn.
    pub(crate) fn tick(&mut self, ids: &[PeerId]) -> Result<(), Fault> {
        self.pass(ids, 1)?;
        for &id in ids {
            self.turn(id)?;
        }
        Ok(())
    }

    /// Ticks pass, and nobody looks at the clock before something else happens.
    pub(crate) fn pass(&mut self, ids: &[PeerId], ticks: u64) -> Result<(), Fault> {
        self.clocks_differ |= ids != self.live();
        for &id in ids {
            self.node(id)?.tick_n(ticks);
        }
        Ok(())
    }

    // ---- reads ----

    pub(crate) fn read(&mut self, id: PeerId, token: u64) -> Result<(), Fault> {
        let at_least = self.record.committed;
        match self.node(id)?.read_index(token) {
            Ok(()) => {
                self.host(id)?.reads.insert(token, at_least);
                self.turn(id)
            }
            Err(error) => {
                self.tell(format!("{id}: read {token}: {error}"));
                Ok(())
            }
        }
    }

    fn finish_read(&mut self, id: PeerId, token: u64, index: Option<LogIndex>) -> Result<(), Fault> {
        let at_least = self.host(id)?.reads.remove(&token);
        let Some(at_least) = at_least else { return Err(format!("{id} answers read {token} twice")) };
        match index {
            None => self.tell(format!("{id}: read {token}: refused")),
            Some(index) if index < at_least => {
                return Err(format!(
                    "INV-RAFT-17: {id} serves read {token} at {index}, {at_least} was committed when it was asked"
                ));
            }
            Some(index) => self.tell(format!("{id}: read {token}: from {index} on")),
        }
        Ok(())
    }

    // ---- checks ----

    /// A leader only appends (thesis §3.2), and begins no change of members beside an unapplied one (§4.1).
    fn check_append(&mut self, id: PeerId, entries: &[Entry]) -> Result<(), Fault> {
        let Some(first) = entries.first() else { return Ok(()) };
        let host = self.host(id)?;
        let status = host.node.as_ref().map(RawNode::status).unwrap_or_default();
        let last = host.log.last_key_value().map(|(&index, _)| index).unwrap_or_default();
        if status.role != Role::Leader || host.led != status.term {
            return Ok(());
        }
        if first.index <= last {
            return Err(format!("INV-RAFT-2: {id} leads and rewrites {} of {last}", first.index));
        }
        let changes = entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange);
        for at in changes.map(|entry| entry.index) {
            let unapplied = host.changes.range(status.applied.next()..).find(|&&other| other < at);
            if let Some(other) = unapplied {
                return Err(format!(
                    "INV-RAFT-15: {id} begins a change at {at}, that at {other} is unapplied"
                ));
            }
        }
        Ok(())
    }

    /// Looks at one peer after anything has happened to it.
    fn observe(&mut self, id: PeerId) -> Result<(), Fault> {
        let host = self.host(id)?;
        let Some(node) = host.node.as_ref().filter(|node| node.poisoned().is_none()) else { return Ok(()) };
        node.check_invariants().map_err(|violated| violated.to_string())?;
        let status = node.status();
        if status.committed < host.committed {
            return Err(format!("INV-RAFT-6: {id} committed {} after {}", status.committed, host.committed));
        }
        let base = node.storage().first_index().prev();
        if base > status.applied && host.install.is_none() {
            return Err(format!("INV-LOG-2: {id} dropped its log up to {base}, applied {}", status.applied));
        }
        let advanced = status.committed > host.committed;
        host.committed = status.committed;
        if status.role != Role::Leader {
            return Ok(());
        }
        let host = &self.hosts[&id];
        // Its own entries are in the log when they are handed out; what it was elected for is there already.
        if host.led != status.term {
            self.record.leads(status.term, id, &host.log)?;
            self.hosts.get_mut(&id).expect("known").led = status.term;
        }
        if advanced && status.committed > self.record.committed {
            self.check_quorum(id, status.committed, status.term)?;
            let log = &self.hosts[&id].log;
            self.record.commits(status.term, status.committed, log)?;
        }
        self.look_at_leases()
    }

    /// What a leader calls committed is of its own term and durable at a quorum of its members (thesis §3.6.2, §4.3).
    fn check_quorum(&self, id: PeerId, index: LogIndex, term: Term) -> Result<(), Fault> {
        let host = &self.hosts[&id];
        let conf = host.node.as_ref().expect("observed while up").conf_state();
        if host.log.get(&index).is_some_and(|&of| of != term) {
            let of = host.log[&index];
            return Err(format!("INV-RAFT-4: {id} commits {index}@{of} in term {term} by counting"));
        }
        for half in [&conf.voters, &conf.voters_outgoing] {
            let holds = |voter: &&PeerId| self.hosts.get(*voter).is_some_and(|host| host.holds(index, term));
            if !half.is_empty() && half.iter().filter(holds).count() <= half.len() / 2 {
                return Err(format!(
                    "INV-RAFT-4: {id} calls {index}@{term} committed, which no quorum of {half:?} holds"
                ));
            }
        }
        Ok(())
    }

    /// What is committed stays on a majority of disks. Asked only while the members are those of the beginning: others
    /// may have decided by other majorities.
    fn check_committed(&self) -> Result<(), Fault> {
        let mut hosts = self.hosts.values();
        let Some((index, term)) = self.record.last_committed() else { return Ok(()) };
        if hosts.clone().any(|host| !host.changes.is_empty() || host.machine.conf.is_joint()) {
            return Ok(());
        }
        let Some(voters) =
            hosts.find_map(|host| Some(&host.machine.conf.voters).filter(|all| !all.is_empty()))
        else {
            return Ok(());
        };
        let holds = |voter: &&PeerId| self.hosts.get(*voter).is_some_and(|host| host.holds(index, term));
        if voters.iter().filter(holds).count() <= voters.len() / 2 {
            return Err(format!(
                "INV-RAFT-4: {index}@{term} was committed, and no quorum holds it any longer"
            ));
        }
        Ok(())
    }

    /// While a lease holds, nobody commits behind its holder's back. Its length is what a store may count on: an
    /// election timeout less a tick and the drift of clocks.
    fn look_at_leases(&self) -> Result<(), Fault> {
        if self.clocks_differ && self.drift_percent.is_none() {
            return Ok(());
        }
        let percent = 100 - self.drift_percent.unwrap_or_default();
        for host in self.hosts.values() {
            let Some(node) = &host.node else { continue };
            let Some(lease) = node.lease() else { continue };
            let age = node.tick_count() - lease.start_tick;
            let holds = age * 100 < (u64::from(host.config.election_tick) - 1) * percent;
            if holds && node.status().committed < self.record.committed {
                return Err(format!(
                    "INV-READ-1: {} holds a lease of term {} at {}, {} is committed",
                    host.id(),
                    lease.term,
                    node.status().committed,
                    self.record.committed
                ));
            }
        }
        Ok(())
    }
}
