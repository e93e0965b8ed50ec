//! What happens, drawn from the seed.

mod sleep;

use crate::host::{Host, Job, TURNED_DOWN, is_change};
use crate::network::Network;
use crate::plan::{Broken, Plan, Summary};
use crate::record::Record;
use crate::steps::Claim;
use bytes::Bytes;
use codec::{Decode, Encode};
use env::{Dice, SplitMix};
use raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeOp, ConfState, Config, EntryId, Error, Message, ReadState,
    Ready, Role, Storage, Transition, VoteKind,
};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use types::{LogIndex, PeerId, Term};

/// A tick, in the units of our time.
const TICK: u64 = 10;
const ELECTION_TICK: u32 = 10;
/// The pace at which whole elections fit into a tick or two.
const QUICK: u64 = 10;
const PEERS_EVER_MAX: u64 = 9;

struct World {
    dice: SplitMix,
    now: u64,
    hosts: BTreeMap<PeerId, Host>,
    network: Network,
    record: Record,
    config: Config,
    /// Campaigns as soon as it may.
    hasty: Option<PeerId>,
    /// Nobody visits these.
    asleep: BTreeSet<PeerId>,
    /// Was a leader when it was cut off: what it answers now may be stale.
    lonely: Option<PeerId>,
    /// Peers differ in whether they ask before they campaign.
    mixed_pre_vote: bool,
    /// How many events pass while the time may move once.
    pace: u64,
    /// How much rarer mishaps are than they might be.
    calm: u64,
    next_value: u64,
    broken: Broken,
    trace: bool,
    summary: Summary,
}

/// One run of `seed`; the first rule found broken, if any.
pub(crate) fn run(seed: u64, broken: Broken, trace: bool) -> Result<Summary, String> {
    run_plan(seed, Plan::FULL, broken, trace)
}

/// One run of `seed` that is as long as `plan` says.
pub(crate) fn run_plan(seed: u64, plan: Plan, broken: Broken, trace: bool) -> Result<Summary, String> {
    let mut world = World::new(seed, plan, broken, trace)?;
    for _ in 0..plan.events * if world.pace == QUICK { 2 } else { 1 } {
        world.event().map_err(|what| format!("at {}: {what}", world.now))?;
        world.look().map_err(|what| format!("at {}: {what}", world.now))?;
    }
    if plan.ends_in_peace {
        world.recover().map_err(|what| format!("at {}: {what}", world.now))?;
    }
    world.summary.committed = world.record.committed.0;
    world.summary.elections = world.record.elections();
    Ok(world.summary)
}

impl World {
    fn new(seed: u64, plan: Plan, broken: Broken, trace: bool) -> Result<Self, String> {
        let dice = SplitMix::new(seed).fork("world");
        let mut setup = SplitMix::new(seed).fork("setup");
        let pick = |dice: &mut SplitMix, of: &[u64]| of[dice.below(of.len() as u64) as usize];
        let config = Config {
            seed,
            group_id: 1,
            election_tick: ELECTION_TICK,
            heartbeat_tick: 2,
            pre_vote: setup.chance(5, 6),
            check_quorum: setup.chance(7, 8) || broken != Broken::Nothing,
            max_size_per_message: pick(&mut setup, &[1, 100, 1_000, 1 << 20]),
            max_inflight_messages: pick(&mut setup, &[1, 3, 256]) as usize,
            max_inflight_bytes: pick(&mut setup, &[1, 300, 1 << 20]),
            max_uncommitted_bytes: pick(&mut setup, &[200, 1 << 20]),
            max_committed_bytes_per_ready: pick(&mut setup, &[1, 200, 1 << 20]),
            // From dice of its own, so that what the others give for a seed stays as it was.
            lazy_commit: SplitMix::new(seed).fork("lazy commit").chance(2, 3),
            ..Config::default()
        };
        let mut network = Network::new(SplitMix::new(seed).fork("network"));
        let drawn = setup.below(5).max(setup.below(3));
        let voters = plan.founders_min + drawn * plan.founders_spread / 4;
        let conf = ConfState::of_voters((1..=voters).map(PeerId));
        let hosts = (1..=voters).map(|id| (PeerId(id), Host::founder(PeerId(id), &conf))).collect();
        let mixed_pre_vote = setup.chance(1, 6);
        let mut pace = pick(&mut setup, &[1, 1, 2, 6]);
        if setup.chance(1, 3) || broken == Broken::RestartAsNewborn {
            // Much happens within a tick, as in life: an election fits into what is left of a lease.
            (pace, network.delay_max) = (QUICK, 1);
        }
        let mut world = Self {
            dice,
            now: 0,
            hosts,
            network,
            record: Record::new(LogIndex(1)),
            config,
            hasty: None,
            asleep: BTreeSet::new(),
            lonely: None,
            mixed_pre_vote,
            pace,
            calm: pick(&mut setup, &[1, 1, 5]),
            next_value: 0,
            broken,
            trace,
            summary: Summary::default(),
        };
        for id in world.ids() {
            world.start(id, true)?;
        }
        if plan.campaigns_first {
            let _ = world.node(PeerId(1)).campaign();
        }
        Ok(world)
    }

    fn ids(&self) -> Vec<PeerId> {
        self.hosts.keys().copied().collect()
    }

    fn any(&mut self) -> PeerId {
        let at = self.dice.below(self.hosts.len() as u64) as usize;
        *self.hosts.keys().nth(at).expect("drawn below the length")
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>6} {}", self.now, what());
        }
    }

    fn start(&mut self, id: PeerId, newborn: bool) -> Result<(), String> {
        let newborn = newborn || self.broken == Broken::RestartAsNewborn;
        // Each life has a seed of its own.
        let seed = self.dice.next_u64();
        let pre_vote = self.config.pre_vote && !(self.mixed_pre_vote && id.0.is_multiple_of(2));
        let config = Config { newborn, seed, pre_vote, ..self.config.clone() };
        let now = self.now;
        self.hosts.get_mut(&id).expect("known").start(now, &config)?;
        if let Broken::Seeded(bug) = self.broken {
            self.node(id).plant(bug);
        }
        self.say(|| format!("{id} starts"));
        Ok(())
    }

    // ---- events ----

    fn event(&mut self) -> Result<(), String> {
        // Whether a little or much happens in a tick depends on the seed.
        if self.dice.chance(1, self.pace) {
            self.now += self.dice.below(3);
        }
        let id = self.any();
        if self.hosts[&id].paused_until > self.now {
            return Ok(());
        }
        let draw = self.dice.below(1_000);
        if self.hosts[&id].node.is_none() {
            return if draw < 200 { self.start(id, false) } else { Ok(()) };
        }
        if self.sleeps_on(id) {
            return Ok(());
        }
        // Mishaps come with time, work as it can.
        if draw < 50 && self.dice.chance(1, self.pace * self.calm) {
            return self.mishap(id);
        }
        match draw {
            0..410 => {
                self.turn(id)?;
                if self.dice.chance(1, 10) {
                    self.fall_asleep(id);
                }
                Ok(())
            }
            410..640 => self.advance_writes(id),
            640..770 => self.apply_some(id),
            770..880 => self.propose(id),
            880..950 => self.read(id),
            950..970 => self.flush(id),
            970..975 => {
                let gently = self.dice.chance(1, 2);
                self.hosts.get_mut(&id).expect("known").compact(gently)
            }
            _ => self.propose_change(),
        }
    }

    fn mishap(&mut self, id: PeerId) -> Result<(), String> {
        match self.dice.below(50) {
            0..8 => self.upheaval(id),
            8..12 => {
                let node = self.node(id);
                let campaigns = node.campaign().is_ok();
                self.say(|| format!("{id} is told to campaign: {campaigns}"));
                Ok(())
            }
            12..20 => self.crash(id),
            20..28 => {
                let ids = self.ids();
                self.network.cut_some(&ids);
                self.lonely = None;
                Ok(())
            }
            28..34 => {
                let to = self.any();
                let leader = self.leader().unwrap_or(id);
                self.rouse(leader);
                let node = self.hosts.get_mut(&leader).and_then(|host| host.node.as_mut());
                if node.is_some_and(|node| node.transfer_leader(to).is_ok()) {
                    self.summary.transfers += 1;
                    self.say(|| format!("{leader} hands over to {to}"));
                    if self.dice.chance(1, 2) {
                        // It has said so, and hears nothing of what follows.
                        self.turn(leader)?;
                        let ids = self.ids();
                        self.network.cut_off(leader, &ids);
                    }
                }
                Ok(())
            }
            34..40 => {
                // Those who lead are the ones that others may miss.
                let id = if self.dice.chance(1, 2) { self.leader().unwrap_or(id) } else { id };
                let lags = self.dice.chance(1, 3);
                let until = self.now + self.dice.below(if lags { 200 } else { 40 } * TICK);
                let host = self.hosts.get_mut(&id).expect("known");
                // It stands still, or only its state machine does.
                *(if lags { &mut host.lags_until } else { &mut host.paused_until }) = until;
                Ok(())
            }
            40..45 => {
                self.node(id).forget_leader();
                Ok(())
            }
            _ => {
                let peer = self.any();
                self.node(id).report_unreachable(peer);
                Ok(())
            }
        }
    }

    /// The leader is alone, of the others most may just have been restarted, and one campaigns as soon as it may: whoever
    /// votes too early breaks a promise that the leader's lease rests on.
    fn upheaval(&mut self, id: PeerId) -> Result<(), String> {
        let Some(leader) = self.leader().filter(|leader| *leader != id) else { return Ok(()) };
        let ids = self.ids();
        self.network.cut_off(leader, &ids);
        let restart = self.dice.chance(1, 2);
        for other in ids {
            let restarts = restart && (other == id || self.dice.chance(3, 4));
            if other != leader && restarts && self.hosts[&other].node.is_some() {
                self.crash(other)?;
                self.start(other, false)?;
            }
        }
        self.lonely = Some(leader);
        let behind = self.hosts.values().find(|host| host.lags_until > self.now && host.id != leader);
        self.hasty = Some(behind.map_or(id, |host| host.id));
        self.say(|| format!("{leader} is cut off, {:?} campaigns as soon as it may", self.hasty));
        Ok(())
    }

    fn node(&mut self, id: PeerId) -> &mut raft::RawNode<raft::CheckedStorage> {
        self.hosts.get_mut(&id).and_then(|host| host.node.as_mut()).expect("up")
    }

    fn leader(&self) -> Option<PeerId> {
        let leaders = self.hosts.values().filter_map(|host| {
            let status = host.node.as_ref()?.status();
            (status.role == Role::Leader).then_some((status.term, host.id))
        });
        leaders.max().map(|(_, id)| id)
    }

    /// One turn of a driver: ticks, then what came in, then the effects.
    fn turn(&mut self, id: PeerId) -> Result<(), String> {
        let now = self.now;
        let messages = self.network.receive(now, id);
        let host = self.hosts.get_mut(&id).expect("known");
        let ticks = (now - host.started) / TICK;
        let node = host.node.as_mut().expect("up");
        node.tick_n(ticks - node.tick_count());
        let mut reports = Vec::new();
        for message in messages {
            if let Body::Snapshot { .. } = message.body {
                reports.push(message.from);
            }
            self.say(|| format!("{id} <- {}: {} {:?}", message.from, message.term, message.body));
            let (claim, before) = (Claim::of(&message), self.node(id).status());
            match self.node(id).step(message) {
                Ok(()) | Err(raft::StepError::UnknownSender { .. }) => {}
                Err(error) => return Err(format!("{id}: {error}")),
            }
            let host = self.hosts.get_mut(&id).expect("known");
            let after = host.node.as_ref().expect("up").status();
            if after.role != Role::Leader {
                claim.check(&before, &after, &mut host.heard).map_err(|what| format!("{id}: {what}"))?;
            } else if before.role == Role::Leader && after.last != before.last {
                return Err(format!("{id} changes its log as leader: {before:?} becomes {after:?}"));
            }
            self.observe(id)?;
        }
        for from in reports {
            if self.dice.chance(1, 2)
                && let Some(node) = self.hosts.get_mut(&from).and_then(|host| host.node.as_mut())
            {
                node.report_snapshot(id, true);
            }
        }
        if self.hasty == Some(id) && (self.leader() == Some(id) || self.node(id).campaign().is_ok()) {
            self.hasty = None;
        }
        self.carry_out(id)
    }

    fn carry_out(&mut self, id: PeerId) -> Result<(), String> {
        let node = self.node(id);
        if !node.has_ready() {
            return Ok(());
        }
        let ready = node.ready();
        node.storage_mut().take(&ready).map_err(|what| format!("{id}: {what}"))?;
        let Ready { soft, append, messages, messages_after, committed, read_states } = ready;
        if let Some(reason) = node.poisoned() {
            return Err(format!("{id} is poisoned: {reason}"));
        }
        self.observe(id)?;
        if let Some(soft) = soft {
            let term = self.node(id).status().term;
            self.say(|| format!("{id} is {soft:?} in {term}"));
        }
        let host = self.hosts.get_mut(&id).expect("known");
        if let Some(append) = append {
            host.note_log(&append);
            host.jobs.push_back(Job { append, after: Vec::new(), written: false });
        }
        for entry in &committed {
            let disk = host.disk();
            if disk.term(entry.index) != Ok(entry.term) && entry.index > disk.base().meta.index {
                return Err(format!("{id} is to apply {:?}, which is not durable", entry.id()));
            }
            self.record.chooses(entry)?;
        }
        host.pages.extend(committed.iter().cloned());
        if std::mem::take(&mut host.check_log) {
            let status = host.node.as_ref().expect("up").status();
            if status.role == Role::Leader {
                self.record.is_complete(status.term, &host.log).map_err(|what| format!("{id}: {what}"))?;
            }
        }
        for state in read_states {
            self.finish_read(id, state)?;
        }
        for message in messages {
            self.send(message)?;
        }
        let host = self.hosts.get_mut(&id).expect("known");
        match host.jobs.back_mut() {
            Some(job) if self.broken != Broken::AnswerBeforeDurable => job.after.extend(messages_after),
            _ => {
                for message in messages_after {
                    self.send(message)?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, message: Message) -> Result<(), String> {
        let from = &self.hosts[&message.from];
        let strict = matches!(self.broken, Broken::Nothing | Broken::Seeded(_));
        if let (true, Some(node)) = (strict, &from.node) {
            node.storage().may_leave(&message)?;
        }
        if let Body::Vote { kind: VoteKind::Transfer { leader_term }, .. } = message.body
            && message.term != leader_term.next()
        {
            return Err(format!("{message:?} is no first attempt"));
        }
        if let Body::Append { prev, entries, .. } = &message.body {
            self.record.writes(*prev, entries)?;
        }
        let (sender, to, snapshot) =
            (message.from, message.to, matches!(message.body, Body::Snapshot { .. }));
        self.summary.snapshots += u64::from(snapshot);
        let arrives = self.hosts.contains_key(&to) && self.network.send(self.now, &message);
        if !arrives && let Some(node) = self.hosts.get_mut(&sender).and_then(|host| host.node.as_mut()) {
            if snapshot { node.report_snapshot(to, false) } else { node.report_unreachable(to) }
        }
        Ok(())
    }

    fn advance_writes(&mut self, id: PeerId) -> Result<(), String> {
        let (draw, durable, broken) = (self.dice.below(4), self.dice.below(4), self.broken);
        let host = self.hosts.get_mut(&id).expect("known");
        let node = host.node.as_mut().expect("up");
        // Any number of writes become readable...
        for job in host.jobs.iter_mut().filter(|job| !job.written).take(1 + draw as usize) {
            node.storage_mut().write();
            job.written = true;
            if draw.is_multiple_of(2) {
                node.on_stable(job.append.token);
            }
            if broken == Broken::ReportBeforeDurable {
                node.on_persist(job.append.token);
            }
        }
        // ...then durable, and then what waits for that leaves...
        for _ in 0..durable {
            let host = self.hosts.get_mut(&id).expect("known");
            let Some(job) = host.make_durable() else { break };
            host.done.push_back(job.append.token);
            if let Some(first) = job.append.entries.first() {
                let before = host.disk().term(first.index.prev()).map_err(|error| error.to_string())?;
                self.record.writes(EntryId::new(before, first.index.prev()), &job.append.entries)?;
            }
            for message in job.after {
                self.send(message)?;
            }
        }
        // ...and later the group hears of it, of several at once, or again.
        let host = self.hosts.get_mut(&id).expect("known");
        let node = host.node.as_mut().expect("up");
        if draw != 3 {
            let some = host.done.len().min(1 + draw as usize);
            if let Some(token) = host.done.drain(..some).next_back() {
                node.storage().may_report(token)?;
                node.on_persist(token);
                host.reported.push(token);
            }
        }
        if draw == 1
            && let Some(&token) = host.reported.first()
        {
            node.on_persist(token);
        }
        self.observe(id)?;
        self.carry_out(id)
    }

    fn apply_some(&mut self, id: PeerId) -> Result<(), String> {
        let count = 1 + self.dice.below(4);
        let host = self.hosts.get_mut(&id).expect("known");
        if host.done.is_empty()
            && let Some(machine) = host.install.take()
        {
            let index = machine.applied;
            host.pages.retain(|entry| entry.index > index);
            if host.machine.applied < index {
                host.machine = machine;
            }
            self.say(|| format!("{id} installs a snapshot at {index}"));
            self.node(id).on_applied(index);
        }
        for _ in 0..count {
            let host = self.hosts.get_mut(&id).expect("known");
            if host.lags_until > self.now {
                break;
            }
            let Some(entry) = host.pages.pop_front() else { break };
            self.apply(id, &entry)?;
        }
        self.observe(id)?;
        self.carry_out(id)
    }

    fn apply(&mut self, id: PeerId, entry: &raft::Entry) -> Result<(), String> {
        let host = self.hosts.get_mut(&id).expect("known");
        if entry.index != host.machine.applied.next() {
            return Err(format!("{id} is to apply {:?} after {}", entry.id(), host.machine.applied));
        }
        let node = host.node.as_mut().expect("up");
        if is_change(entry) {
            let change =
                ConfChange::from_bytes(&entry.data).map_err(|error| format!("{entry:?}: {error}"))?;
            let skipped = self.broken == Broken::SkipConfChange && id == PeerId(1);
            if change.context != TURNED_DOWN && !skipped {
                match node.apply_conf_change(&change) {
                    Ok(conf) => host.machine.conf = conf,
                    Err(Error::ConfChange(_)) => {}
                    Err(error) => return Err(format!("{id}: {error}")),
                }
            }
        }
        host.machine.apply(entry);
        node.on_applied(entry.index);
        self.record.reaches(entry.index, host.machine.hash, &host.machine.conf)?;
        if is_change(entry) {
            let conf = host.machine.conf.clone();
            self.say(|| format!("{id} applies {:?}: {conf:?}", entry.id()));
            self.admit(&conf)?;
        }
        Ok(())
    }

    /// Starts members that are not there yet.
    fn admit(&mut self, conf: &ConfState) -> Result<(), String> {
        for id in conf.members() {
            if let Entry::Vacant(place) = self.hosts.entry(id) {
                place.insert(Host::newcomer(id));
                self.start(id, true)?;
            }
        }
        Ok(())
    }

    fn propose(&mut self, id: PeerId) -> Result<(), String> {
        // Mostly at the leader, sometimes at whoever thinks to be one.
        let id = if self.dice.chance(9, 10) { self.leader().unwrap_or(id) } else { id };
        if self.hosts[&id].paused_until > self.now {
            return Ok(());
        }
        self.rouse(id);
        for _ in 0..=self.dice.below(3) {
            self.next_value += 1;
            let mut data = self.next_value.to_be_bytes().to_vec();
            data.resize(8 + self.dice.below(100) as usize, 0);
            let _ = self.node(id).propose(Bytes::from(data));
        }
        if self.dice.chance(1, 2) { self.carry_out(id) } else { Ok(()) }
    }

    fn propose_change(&mut self) -> Result<(), String> {
        let Some(id) = self.leader() else { return Ok(()) };
        self.rouse(id);
        let conf = self.node(id).conf_state().clone();
        let change = self.draw_change(&conf);
        let (joint, result) = (conf.changed(&change).is_ok_and(|next| next.is_joint()), {
            let change = change.clone();
            self.node(id).propose_conf_change(change)
        });
        self.say(|| format!("{id} proposes {:?} {:?}: {result:?}", change.transition, change.ops));
        if result.is_ok() {
            self.summary.conf_changes += 1;
            self.summary.joint += u64::from(joint);
        }
        Ok(())
    }

    fn draw_change(&mut self, conf: &ConfState) -> ConfChange {
        let transition =
            [Transition::Auto, Transition::Auto, Transition::JointImplicit, Transition::JointExplicit]
                [self.dice.below(4) as usize];
        let mut ops = Vec::new();
        if !conf.is_joint() {
            for _ in 0..=self.dice.below(3) {
                let drawn = |dice: &mut SplitMix, list: &[PeerId]| match list.len() as u64 {
                    0 => PeerId(1),
                    len => list[dice.below(len) as usize],
                };
                let newcomer = PeerId(self.hosts.len() as u64 + 1);
                let op = match self.dice.below(5) {
                    0 if newcomer.0 <= PEERS_EVER_MAX => (ConfChangeKind::AddLearner, newcomer),
                    0 | 1 => (ConfChangeKind::Remove, drawn(&mut self.dice, &conf.learners)),
                    2 => (ConfChangeKind::AddLearner, drawn(&mut self.dice, &conf.voters)),
                    _ => (ConfChangeKind::AddVoter, drawn(&mut self.dice, &conf.learners)),
                };
                let op = ConfChangeOp { kind: op.0, id: op.1 };
                let mut tried = ops.clone();
                tried.push(op);
                let tried = ConfChange { transition, ops: tried, ..ConfChange::default() };
                if conf.changed(&tried).is_ok() {
                    ops = tried.ops;
                }
            }
        }
        let turned_down = self.dice.chance(1, 8);
        let context = if turned_down { Bytes::from_static(TURNED_DOWN) } else { Bytes::new() };
        ConfChange { transition, ops, context }
    }

    fn read(&mut self, id: PeerId) -> Result<(), String> {
        // Few names, used again and again.
        let token = self.dice.below(6);
        let id = self.lonely.filter(|lone| self.hosts[lone].node.is_some()).unwrap_or(id);
        let floor = self.record.committed;
        self.rouse(id);
        let host = self.hosts.get_mut(&id).expect("known");
        if !host.reads.contains_key(&token) && host.node.as_mut().expect("up").read_index(token).is_ok() {
            host.reads.insert(token, floor);
        }
        Ok(())
    }

    /// Linearizability: a read sees everything that was committed anywhere when it was asked.
    fn finish_read(&mut self, id: PeerId, state: ReadState) -> Result<(), String> {
        let host = self.hosts.get_mut(&id).expect("known");
        let Some(floor) = host.reads.remove(&state.token) else {
            return Err(format!("{id} answers {state:?}, which nobody asks"));
        };
        match state.index {
            Some(index) if index < floor => {
                Err(format!("{id} answers {state:?} with {floor} committed before it was asked"))
            }
            Some(_) => {
                self.summary.reads += 1;
                Ok(())
            }
            None => {
                self.summary.reads_refused += 1;
                Ok(())
            }
        }
    }

    fn flush(&mut self, id: PeerId) -> Result<(), String> {
        self.hosts.get_mut(&id).expect("known").flush_machine()
    }

    fn crash(&mut self, id: PeerId) -> Result<(), String> {
        let host = self.hosts.get_mut(&id).expect("known");
        self.asleep.remove(&id);
        let survive = self.dice.below(host.jobs.len() as u64 + 1) as usize;
        host.crash(survive);
        if self.broken == Broken::ForgetVote {
            host.forget_vote();
        }
        self.summary.crashes += 1;
        self.say(|| format!("{id} crashes, {survive} writes survive"));
        Ok(())
    }

    // ---- rules ----

    /// What a peer has become by the last step.
    fn observe(&mut self, id: PeerId) -> Result<(), String> {
        let host = self.hosts.get_mut(&id).expect("known");
        let node = host.node.as_ref().expect("up");
        node.check_invariants().map_err(|violated| violated.to_string())?;
        if let Some(reason) = node.poisoned() {
            return Err(format!("{id} is poisoned: {reason}"));
        }
        let status = node.status();
        if status.committed < host.committed {
            return Err(format!("{id} committed {} after {}", status.committed, host.committed));
        }
        let advanced = status.committed > host.committed;
        host.committed = status.committed;
        if status.role != Role::Leader {
            if status.committed > self.record.committed {
                return Err(format!("{id} knows {} to be committed, no leader does", status.committed));
            }
            return Ok(());
        }
        host.heard = status.term;
        if host.led != status.term {
            host.led = status.term;
            host.check_log = true;
            self.record.leads(status.term, id)?;
        }
        if advanced && status.committed > self.record.committed {
            self.check_quorum(id, status.committed, status.term)?;
            self.record.commits(status.term, status.committed);
        }
        Ok(())
    }

    /// What a leader calls committed is of its own term and durable at a quorum of its members.
    fn check_quorum(&self, id: PeerId, index: LogIndex, term: Term) -> Result<(), String> {
        let conf = self.hosts[&id].node.as_ref().expect("up").conf_state();
        for half in [&conf.voters, &conf.voters_outgoing] {
            let holds = |voter: &&PeerId| self.hosts.get(*voter).is_some_and(|host| host.holds(index, term));
            if !half.is_empty() && half.iter().filter(holds).count() <= half.len() / 2 {
                return Err(format!(
                    "{id} calls {index} committed, which no quorum of {half:?} holds in term {term}"
                ));
            }
        }
        Ok(())
    }

    /// A lease is worth what it says: while it holds, nobody commits behind its holder's back.
    fn look(&mut self) -> Result<(), String> {
        let factor = if self.broken == Broken::LeaseTooLong { 10 } else { 1 };
        for host in self.hosts.values().filter(|host| host.paused_until <= self.now) {
            let Some(node) = &host.node else { continue };
            let Some(lease) = node.lease() else { continue };
            let length = (u64::from(ELECTION_TICK) - 1) * TICK * factor;
            if self.now < host.started + lease.start_tick * TICK + length {
                self.summary.leases += 1;
                if node.status().committed < self.record.committed {
                    return Err(format!(
                        "{} holds {lease:?} at {} but {} is committed",
                        host.id,
                        node.status().committed,
                        self.record.committed
                    ));
                }
            }
        }
        Ok(())
    }

    // ---- the end ----

    /// Left in peace, the group comes to one leader and one state, and every read has ended.
    fn recover(&mut self) -> Result<(), String> {
        self.say(|| "peace".to_owned());
        self.network.heal();
        self.hasty = None;
        for id in self.ids() {
            self.rouse(id);
            let host = self.hosts.get_mut(&id).expect("known");
            (host.paused_until, host.lags_until) = (0, 0);
            if self.hosts[&id].node.is_none() {
                self.start(id, false)?;
            }
        }
        let mut goal = None;
        for round in 0..3_000 {
            self.now += TICK;
            for id in self.ids() {
                self.turn(id)?;
                for _ in 0..4 {
                    self.advance_writes(id)?;
                    self.apply_some(id)?;
                }
                if round % 20 == 0 {
                    self.flush(id)?;
                    self.hosts.get_mut(&id).expect("known").compact(false)?;
                }
            }
            self.look()?;
            let Some(leader) = self.leader() else { continue };
            let conf = self.node(leader).conf_state().clone();
            if conf.is_joint() && !conf.auto_leave {
                let _ = self.node(leader).propose_conf_change(ConfChange::default());
            }
            if round > 60 && goal.is_none() && !conf.is_joint() {
                self.next_value += 1;
                let value = self.next_value.to_bytes();
                goal = self.node(leader).propose(value).ok();
            }
            // A leader that was about to learn that it votes no longer takes proposals with it.
            let term = self.node(leader).status().term;
            goal = goal.filter(|goal: &EntryId| goal.term == term);
            if goal.is_some_and(|goal| self.has_settled(leader, goal.index)) {
                return Ok(());
            }
        }
        let all: Vec<_> =
            self.hosts.values().map(|host| host.node.as_ref().map(|node| node.status())).collect();
        Err(format!("the group has not settled: {all:?}"))
    }

    fn has_settled(&self, leader: PeerId, goal: LogIndex) -> bool {
        let conf = &self.hosts[&leader].machine.conf;
        let reads_end = self.hosts.values().all(|host| host.reads.is_empty());
        reads_end
            && !conf.is_joint()
            && conf.members().all(|id| {
                let host = &self.hosts[&id];
                let status = host.node.as_ref().map(|node| node.status()).unwrap_or_default();
                host.machine.applied >= goal && status.lead == leader && host.machine.conf == *conf
            })
    }
}
