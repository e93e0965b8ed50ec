//! Plays a scenario, and says at which line it went otherwise.

use super::step::{Condition, Expected, Links, Request, Role, Step, WITHIN};
use super::words::Who;
use super::{Line, Scenario};
use crate::check::{Verdict, has_converged};
use crate::disk::{DiskConfig, DiskHurt};
use crate::gate::GateId;
use crate::kernel::{CrashKind, NodeId};
use crate::nodes::{SeededBug, Thread};
use crate::observer::Told;
use crate::run::{Fail, message_of};
use crate::script::{Answer, CallError, CallId, Reply, Script};
use crate::time::SimTime;
use crate::trace::{TraceHash, TraceMode};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use types::{PeerRole, RegionId, StoreId};
use wire::pd::Order as Change;
use wire::store::DiskState;

/// What a scenario was that went as it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Played {
    /// The seed it was played with.
    pub seed: u64,
    /// The fold of all its events.
    pub hash: TraceHash,
    /// How many events there were.
    pub events: u64,
    /// How long it took, in its own time.
    pub simulated: SimTime,
    /// How many operations were recorded.
    pub operations: usize,
}

/// What was not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missed {
    /// A checker found something.
    Found(Fail),
    /// What the line expects was not so.
    Expectation(String),
}

impl Missed {
    /// What noticed it: a checker, by its name, or `expectation`.
    #[must_use]
    pub fn checker(&self) -> String {
        match self {
            Self::Found(fail) => fail.checker(),
            Self::Expectation(_) => "expectation".to_owned(),
        }
    }
}

/// A scenario that did not go as it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioFailure {
    /// The line at which that was noticed, counted from 1; past the last one for what the whole shows.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// The seed it was played with.
    pub seed: u64,
    /// When, in its own time.
    pub at: SimTime,
    /// What it was.
    pub missed: Missed,
    /// The last lines of the trace, if it was kept.
    pub tail: Vec<String>,
}

impl fmt::Display for ScenarioFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, text, seed, at, missed, tail } = self;
        for line in tail {
            writeln!(f, "{line}")?;
        }
        write!(f, "line {line}, {text:?}, with seed {seed} at {at}: ")?;
        match missed {
            Missed::Found(fail) => fail.fmt(f),
            Missed::Expectation(what) => f.write_str(what),
        }
    }
}

impl Scenario {
    /// Plays it with a seed, these rules of the product being broken.
    ///
    /// # Errors
    /// The first line that was not as it says.
    pub fn play(
        &self,
        seed: u64,
        bugs: &[SeededBug],
        trace: TraceMode,
        filter: Option<String>,
    ) -> Result<Played, Box<ScenarioFailure>> {
        let mut player = Player {
            script: Script::new(&self.config(seed, bugs, trace, filter)),
            names: BTreeMap::new(),
            calls: BTreeMap::new(),
            gates: BTreeMap::new(),
            cuts: Vec::new(),
            slow: Vec::new(),
            still: BTreeSet::new(),
            off: BTreeSet::new(),
            loads: Vec::new(),
            told_before: Told::default(),
        };
        player.off = player.script.stores().iter().rev().take(self.late as usize).copied().collect();
        let mut at = &Line { number: 0, text: "the beginning".to_owned(), step: Step::Heal };
        let end = Line { number: usize::MAX, text: "the end".to_owned(), step: Step::Heal };
        let result = catch_unwind(AssertUnwindSafe(|| {
            player.boot()?;
            for line in &self.lines {
                at = line;
                player.script.kernel_mut().note(|| format!("line {}: {}", line.number, line.text));
                player.step(&line.step)?;
                player.is_sound()?;
            }
            at = &end;
            player.verdict()
        }));
        let result =
            result.unwrap_or_else(|payload| Err(Missed::Found(Fail::Panicked(message_of(payload.as_ref())))));
        let last = self.lines.last().map_or(0, |line| line.number);
        let script = &player.script;
        let trace = script.cluster().kernel().trace();
        match result {
            Ok(()) => Ok(Played {
                seed,
                hash: trace.hash(),
                events: trace.events(),
                simulated: script.now(),
                operations: script.history().len(),
            }),
            Err(missed) => Err(Box::new(ScenarioFailure {
                line: at.number.min(last + 1),
                text: at.text.clone(),
                seed,
                at: script.now(),
                missed,
                tail: trace.tail().map(str::to_owned).collect(),
            })),
        }
    }
}

/// A scenario that is being played.
struct Player {
    script: Script,
    names: BTreeMap<String, NodeId>,
    calls: BTreeMap<String, CallId>,
    gates: BTreeMap<String, GateId>,
    /// Directions that are cut, and those that are slow.
    cuts: Vec<(NodeId, NodeId)>,
    slow: Vec<(NodeId, NodeId)>,
    /// Threads that do not run.
    still: BTreeSet<(NodeId, Thread)>,
    /// Stores that were never started.
    off: BTreeSet<NodeId>,
    loads: Vec<CallId>,
    /// What the stores had told when the first line was played.
    told_before: Told,
}

fn unmet<T>(what: impl Into<String>) -> Result<T, Missed> {
    Err(Missed::Expectation(what.into()))
}

impl Player {
    fn node(&self, who: &Who) -> NodeId {
        match who {
            Who::Node(node) => *node,
            Who::Named(name) => self.names[name],
            Who::Others | Who::All => unreachable!("one node is named"),
        }
    }

    /// The nodes of a list; `others` and `all` are those that `but` does not have.
    fn nodes(&self, all: &[Who], but: &[NodeId]) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        let rest =
            |from: &[NodeId]| from.iter().copied().filter(|node| !but.contains(node)).collect::<Vec<_>>();
        let (stores, members, clients) = (self.script.stores(), self.script.members(), self.script.clients());
        for who in all {
            match who {
                Who::Others => nodes.extend(rest(stores)),
                Who::All => nodes.extend([rest(stores), rest(members), rest(clients)].concat()),
                who => nodes.push(self.node(who)),
            }
        }
        nodes
    }

    fn directions(&self, links: &Links) -> Vec<(NodeId, NodeId)> {
        let from = self.nodes(&links.from, &[]);
        let to = self.nodes(&links.to, &from);
        let pairs =
            from.iter().flat_map(|from| to.iter().map(|to| (*from, *to))).filter(|(from, to)| from != to);
        let mut pairs: Vec<_> = pairs.collect();
        if links.both {
            let back: Vec<_> = pairs.iter().map(|(from, to)| (*to, *from)).collect();
            pairs.extend(back);
        }
        pairs
    }

    /// Nothing was seen to be broken so far.
    fn is_sound(&self) -> Result<(), Missed> {
        match self.script.broken().first() {
            Some(broken) => Err(Missed::Found(Fail::Invariant(broken.clone()))),
            None => Ok(()),
        }
    }

    /// Lets time pass until something holds, or is broken. Returns whether it holds.
    fn until(&mut self, within: Duration, holds: impl Fn(&Script) -> bool) -> Result<bool, Missed> {
        let holds_or_broken = |script: &Script| !script.broken().is_empty() || holds(script);
        let came = self.script.run_until(within, holds_or_broken);
        self.is_sound()?;
        Ok(came)
    }

    fn boot(&mut self) -> Result<(), Missed> {
        self.script.boot();
        self.told_before = self.script.cluster().observer().told;
        self.is_sound()
    }

    fn step(&mut self, step: &Step) -> Result<(), Missed> {
        match step {
            Step::Request { request, by, expected } => {
                let call = self.begin(request, *by)?;
                self.end(call, expected)
            }
            Step::Begin { name, request, by } => {
                let call = self.begin(request, *by)?;
                self.calls.insert(name.clone(), call);
                Ok(())
            }
            Step::End { name, expected } => self.end(self.calls[name], expected),
            Step::Load { by, keys, rest } => {
                let call = self.script.load(*by, keys, *rest);
                self.loads.push(call);
                Ok(())
            }
            Step::EndLoad => self.end_load(),
            Step::Run(duration) => self.until(*duration, |_| false).map(|_| ()),
            Step::Wait { condition: Condition::Known(key, who), wanted, within } => {
                self.wait_known(key, self.node(who), *wanted, *within)
            }
            Step::Wait { condition, wanted, within } => {
                let holds = self.judge(condition);
                if self.until(*within, |script| holds(script) == *wanted)? {
                    return Ok(());
                }
                unmet(format!("not within {within:?}; {}", sight(&self.script)))
            }
            Step::Expect { condition, wanted } => {
                if self.judge(condition)(&self.script) == *wanted {
                    return Ok(());
                }
                unmet(format!("that is not so; {}", sight(&self.script)))
            }
            Step::Name { name, role } => {
                let Some(node) = self.cast(role) else { return unmet("there is nobody of that kind") };
                self.names.insert(name.clone(), node);
                Ok(())
            }
            Step::Lead { key, who } => self.lead(key, self.node(who)),
            Step::Check => self.check(),
            fault => {
                self.fault(fault);
                Ok(())
            }
        }
    }

    // ---- conditions ----

    /// What decides a condition, names resolved as of now.
    fn judge(&self, condition: &Condition) -> Box<dyn Fn(&Script) -> bool> {
        let node = |who: &Who| self.node(who);
        match condition.clone() {
            Condition::Leader(key, who) => {
                let node = node(&who);
                Box::new(move |script| script.leader_of(&key).is_some_and(|(leader, _)| leader == node))
            }
            Condition::Deposed(key, who) => {
                let node = node(&who);
                Box::new(move |script| script.leader_of(&key).is_some_and(|(leader, _)| leader != node))
            }
            Condition::Leads(key, who) => {
                let node = node(&who);
                Box::new(move |script| script.copy_on(node, &key).is_some_and(|copy| copy.leads_in.is_some()))
            }
            Condition::Lease(key, who) => {
                let node = node(&who);
                Box::new(move |script| script.lease_on(node, &key).is_some())
            }
            Condition::Copy(key, who) => {
                let node = node(&who);
                Box::new(move |script| script.copy_on(node, &key).is_some())
            }
            Condition::Applied(key, who) => {
                let node = node(&who);
                Box::new(move |script| {
                    let leader = script.leader_of(&key).map(|(_, leader)| leader);
                    let copy = script.copy_on(node, &key);
                    leader.zip(copy).is_some_and(|(leader, copy)| {
                        leader.region == copy.region && leader.applied == copy.applied
                    })
                })
            }
            Condition::Voters(key, who) => {
                let wanted: BTreeSet<NodeId> = self.nodes(&who, &[]).into_iter().collect();
                Box::new(move |script| {
                    let Some((_, leader)) = script.leader_of(&key) else { return false };
                    let peers = &leader.region.peers;
                    let stores = peers.iter().filter_map(|peer| script.node_of(peer.store_id));
                    peers.iter().all(|peer| peer.role == PeerRole::Voter)
                        && stores.collect::<BTreeSet<_>>() == wanted
                })
            }
            Condition::Regions(count) => Box::new(move |script| {
                let views = script.cluster().regions();
                let led = views.iter().filter(|view| view.leads_in.is_some()).map(|view| view.region.id);
                led.collect::<BTreeSet<_>>().len() as u64 >= count
            }),
            Condition::Known(..) => unreachable!("it is waited for elsewhere"),
            Condition::PdLeader(who) => {
                let node = node(&who);
                Box::new(move |script| script.pd_leader() == Some(node))
            }
            Condition::Up(who) => {
                let node = node(&who);
                Box::new(move |script| script.cluster().kernel().is_up(node))
            }
            Condition::Ended(who) => {
                let node = node(&who);
                Box::new(move |script| script.ended().iter().any(|(ended, _)| *ended == node))
            }
            Condition::Answered(name) => {
                let call = self.calls[&name];
                Box::new(move |script| script.answer(call).is_some())
            }
            Condition::Seen(name, count) => {
                let gate = self.gates[&name];
                Box::new(move |script| script.seen_at(gate) >= count)
            }
            Condition::Held(name, count) => {
                let gate = self.gates[&name];
                Box::new(move |script| script.held_at(gate) as u64 >= count)
            }
            Condition::Done(count) => Box::new(move |script| script.done() as u64 >= count),
            Condition::Snapshots(count) => self.told(count, |told| told.snapshots),
            Condition::Compactions(count) => self.told(count, |told| told.compactions),
            Condition::Sleeps(count) => self.told(count, |told| told.sleeps),
            Condition::Agreed => Box::new(|script| has_converged(&script.cluster().regions()).is_ok()),
        }
    }

    /// Whether the stores have told so much since the first line.
    fn told(&self, count: u64, number: fn(&Told) -> u64) -> Box<dyn Fn(&Script) -> bool> {
        let wanted = number(&self.told_before) + count;
        Box::new(move |script| number(&script.cluster().observer().told) >= wanted)
    }

    /// The client that asks for what no line asks for.
    fn operator(&self) -> NodeId {
        *self.script.clients().last().expect("there is one at least")
    }

    fn wait_known(&mut self, key: &str, node: NodeId, wanted: bool, within: Duration) -> Result<(), Missed> {
        let (client, until) = (self.operator(), self.script.now() + within);
        while self.script.now() < until {
            let call = self.script.locate(client, key);
            let left = until.since(self.script.now());
            self.until(left, |script| script.answer(call).is_some())?;
            let leader = match self.script.answer(call) {
                Some(Ok(Reply::Leader(store))) => store.and_then(|store| self.script.node_of(store)),
                _ => None,
            };
            if (leader == Some(node)) == wanted {
                return Ok(());
            }
            self.until(Duration::from_millis(5), |_| false)?;
        }
        unmet(format!("not within {within:?}"))
    }

    fn cast(&self, role: &Role) -> Option<NodeId> {
        let is_free = |node: &NodeId| !self.names.values().any(|named| named == node);
        match role {
            Role::Leader(key) => self.script.leader_of(key).map(|(node, _)| node),
            Role::Follower(key) => {
                let (leads, leader) = self.script.leader_of(key)?;
                let voters = leader.region.peers.iter().filter(|peer| peer.role == PeerRole::Voter);
                let nodes = voters.filter_map(|peer| self.script.node_of(peer.store_id));
                nodes.filter(|node| *node != leads && is_free(node)).min()
            }
            Role::PdLeader => self.script.pd_leader(),
            Role::PdFollower => {
                let leader = self.script.pd_leader();
                let members = self.script.members().iter().copied();
                members.filter(|node| Some(*node) != leader && is_free(node)).min()
            }
        }
    }

    // ---- clients ----

    /// The region of a key, as its leader knows it.
    fn region(&self, key: &str) -> Result<RegionId, Missed> {
        match self.script.leader_of(key) {
            Some((_, leader)) => Ok(leader.region.id),
            None => unmet(format!("nobody leads the region of {key}")),
        }
    }

    fn store(&self, who: &Who) -> Result<StoreId, Missed> {
        let node = self.node(who);
        match self.script.store_of(node) {
            Some(store) => Ok(store),
            None => unmet(format!("{node} has not joined")),
        }
    }

    fn begin(&mut self, request: &Request, by: NodeId) -> Result<CallId, Missed> {
        Ok(match request {
            Request::Put(key, value) => self.script.put(by, key, value),
            Request::Get(key) => self.script.get(by, key),
            Request::Delete(key) => self.script.delete(by, key),
            Request::Swap(key, expected, new) => {
                self.script.swap(by, key, expected.as_deref(), new.as_deref())
            }
            Request::Scan { reverse } => self.script.scan(by, *reverse),
            Request::Timestamp => self.script.timestamp(by),
            Request::Split(key) => self.script.split(by, key),
            Request::Transfer(key, to) => {
                let (region, to) = (self.region(key)?, self.node(to));
                self.store(&Who::Node(to))?;
                self.script.transfer(by, region, to)
            }
            Request::AddPeer(key, to) => {
                let (region, to_store) = (self.region(key)?, self.store(to)?);
                self.script.change_members(by, region, Change::AddPeer { to_store })
            }
            Request::RemovePeer(key, from) => {
                let (region, from_store) = (self.region(key)?, self.store(from)?);
                self.script.change_members(by, region, Change::RemovePeer { from_store })
            }
            Request::TransferPeer(key, from, to) => {
                let (from_store, to_store) = (self.store(from)?, self.store(to)?);
                let region = self.region(key)?;
                self.script.change_members(by, region, Change::TransferPeer { from_store, to_store })
            }
            Request::CancelOperator(key) => {
                let region = self.region(key)?;
                self.script.cancel_operator(by, region)
            }
            Request::CompactLog(key) => {
                let region = self.region(key)?;
                self.script.compact_log(by, region)
            }
        })
    }

    fn end(&mut self, call: CallId, expected: &Expected) -> Result<(), Missed> {
        if !self.until(WITHIN, |script| script.answer(call).is_some())? {
            return unmet(format!("no answer within {WITHIN:?}; {}", sight(&self.script)));
        }
        let answer = self.script.answer(call).expect("waited for it");
        if is_as(&answer, expected) { Ok(()) } else { unmet(format!("it ended so: {}", told_so(&answer))) }
    }

    fn end_load(&mut self) -> Result<(), Missed> {
        self.script.end_load();
        for call in std::mem::take(&mut self.loads) {
            self.end(call, &Expected::Ok)?;
        }
        Ok(())
    }

    /// Brings it about that a store leads the region of a key, has a lease, and is known to.
    fn lead(&mut self, key: &str, node: NodeId) -> Result<(), Missed> {
        let leads = |script: &Script, key: &str| {
            script.leader_of(key).is_some_and(|(leader, _)| leader == node)
                && script.lease_on(node, key).is_some()
        };
        // The target may be behind, or the leader about to change: then once more.
        for _ in 0..20 {
            if self.until(Duration::from_secs(2), |script| leads(script, key))? {
                return self.wait_known(key, node, true, WITHIN);
            }
            let to = Request::Transfer(key.to_owned(), Who::Node(node));
            let call = self.begin(&to, self.operator())?;
            self.end(call, &Expected::Any)?;
        }
        unmet(format!("{node} does not come to lead; {}", sight(&self.script)))
    }

    // ---- faults ----

    fn fault(&mut self, step: &Step) {
        match step {
            Step::Cut { links, cut } => {
                for (from, to) in self.directions(links) {
                    if *cut {
                        self.script.cut(from, to);
                        self.cuts.push((from, to));
                    } else if let Some(at) = self.cuts.iter().position(|pair| *pair == (from, to)) {
                        self.cuts.remove(at);
                        self.script.mend(from, to);
                    }
                }
            }
            Step::Slow { links, by } => {
                for (from, to) in self.directions(links) {
                    self.script.kernel_mut().set_slow(from, to, *by);
                    self.slow.push((from, to));
                }
            }
            Step::Heal => self.heal(),
            Step::Crash { nodes, kind } => {
                for node in self.nodes(nodes, &[]) {
                    self.crash(node, *kind);
                }
            }
            Step::Restart(nodes) => {
                for node in self.nodes(nodes, &[]) {
                    self.off.remove(&node);
                    self.script.restart(node);
                }
            }
            Step::Freeze { who, lasts } => {
                let node = self.node(who);
                self.script.kernel_mut().freeze(node, *lasts);
            }
            Step::Thaw(who) => self.script.thaw(self.node(who)),
            Step::Drift { who, ppm } => self.script.set_drift(self.node(who), *ppm),
            Step::WallJump { who, ms } => {
                let node = self.node(who);
                self.script.kernel_mut().clock_mut(node).jump_wall(*ms);
            }
            Step::Disk { nodes, hurt } => {
                for node in self.nodes(nodes, &[]) {
                    if matches!(hurt, DiskHurt::Lost | DiskHurt::Returned) {
                        self.crash(node, CrashKind::Power);
                    }
                    self.script.hurt_disk(node, *hurt);
                }
            }
            Step::Hold { who, thread, still } => {
                let node = self.node(who);
                if *still {
                    self.still.insert((node, *thread));
                    self.script.hold(node, *thread);
                } else if self.still.remove(&(node, *thread)) {
                    self.script.go_on(node, *thread);
                }
            }
            Step::Gate { name, passage, topics, from, to } => {
                let [from, to] = [from, to].map(|end| end.as_ref().map(|who| self.node(who)));
                let gate = self.script.gate(from, to, topics, *passage);
                self.gates.insert(name.clone(), gate);
            }
            Step::Open { name, lost } => {
                let gate = self.gates.remove(name).expect("it is known to be set");
                if *lost { self.script.forget(gate) } else { self.script.open(gate) }
            }
            step => unreachable!("{step:?} is no fault"),
        }
    }

    fn crash(&mut self, node: NodeId, kind: CrashKind) {
        self.script.crash(node, kind);
        self.still.retain(|(at, _)| *at != node);
    }

    /// All links are whole and quick.
    fn heal(&mut self) {
        for (from, to) in std::mem::take(&mut self.cuts) {
            self.script.mend(from, to);
        }
        for (from, to) in std::mem::take(&mut self.slow) {
            self.script.kernel_mut().set_slow(from, to, Duration::ZERO);
        }
    }

    // ---- the end ----

    /// Nothing is wrong any more and everybody is there: then peers agree, every request is answered, and each key that
    /// was spoken of can be read.
    fn check(&mut self) -> Result<(), Missed> {
        self.heal();
        for (_, gate) in std::mem::take(&mut self.gates) {
            self.script.open(gate);
        }
        for (node, thread) in std::mem::take(&mut self.still) {
            self.script.go_on(node, thread);
        }
        let nodes: Vec<NodeId> = self.script.cluster().kernel().nodes().collect();
        for node in nodes.into_iter().filter(|node| !self.off.contains(node)) {
            self.script.thaw(node);
            self.script.kernel_mut().disk_mut(node).config = DiskConfig::default();
            self.script.hurt_disk(node, DiskHurt::Full(false));
            self.script.hurt_disk(node, DiskHurt::Space(DiskState::Ok));
            self.script.restart(node);
        }
        self.end_load()?;
        let is_well = |script: &Script| {
            script.cluster().all_answered().and_then(|()| has_converged(&script.cluster().regions()))
        };
        if !self.until(WITHIN * 3, |script| is_well(script).is_ok())? {
            let missing = is_well(&self.script).expect_err("it was waited for in vain").to_string();
            return Err(Missed::Found(Fail::NotLive { served: 0, of: 0, missing: Some(missing) }));
        }
        let keys: BTreeSet<_> = self.script.history().into_iter().map(|operation| operation.key).collect();
        for key in keys {
            let key = String::from_utf8(key.to_vec()).expect("scenarios are text");
            let call = self.script.get(self.operator(), &key);
            self.end(call, &Expected::Ok)?;
        }
        self.verdict()
    }

    fn verdict(&self) -> Result<(), Missed> {
        match self.script.verdict() {
            Verdict::Linearizable => Ok(()),
            Verdict::Violation(violation) => Err(Missed::Found(Fail::NotLinearizable(violation))),
            Verdict::Undecided { key } => Err(Missed::Found(Fail::Undecided { key })),
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_as(answer: &Answer, expected: &Expected) -> bool {
    match (expected, answer) {
        (Expected::Any, _) | (Expected::Ok, Ok(_)) | (Expected::Unknown, Err(CallError::Unknown(_))) => true,
        (Expected::Values(values), Ok(Reply::Value(value))) => values.contains(&value.as_ref().map(text)),
        (Expected::Pairs(pairs), Ok(Reply::Pairs(found))) => {
            found.iter().map(|(key, value)| (text(key), text(value))).eq(pairs.iter().cloned())
        }
        (Expected::Swapped(swapped), Ok(Reply::Swapped(is_swapped))) => swapped == is_swapped,
        (Expected::Refused(words), Err(CallError::Refused(why))) => why.contains(words.as_str()),
        _ => false,
    }
}

fn told_so(answer: &Answer) -> String {
    match answer {
        Ok(reply) => format!("{reply:?}"),
        Err(error) => error.to_string(),
    }
}

/// Who holds what, for somebody who has to understand why something did not come about.
fn sight(script: &Script) -> String {
    let mut lines: Vec<String> = Vec::new();
    for node in script.stores() {
        if !script.cluster().kernel().is_up(*node) {
            lines.push(format!("{node} is down"));
        }
        for view in script.regions_of(*node) {
            let leads = view.leads_in.map_or_else(String::new, |term| format!(" leads in term {term}"));
            lines.push(format!("{node} has {:?} applied {}{leads}", view.region, view.applied));
        }
    }
    lines.join("; ")
}
