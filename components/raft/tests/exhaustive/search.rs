//! Breadth first through everything that can happen, so that what is found is found by a shortest way.
//!
//! A world is small: its peers, the messages on their way, and the record of what was done are kept once each and named by
//! number, so a world is a handful of numbers, and what a peer does with an input is worked out once.

use crate::peer::{Done, Input, Make, Peer};
use raft::{Body, Entry, Message, SeededBug};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use types::Term;

/// How far a search goes. Everything within is tried, in every order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) voters: u64,
    /// Who may campaign: the first so many.
    pub(crate) candidates: u64,
    /// Nobody campaigns beyond this term.
    pub(crate) terms: u64,
    pub(crate) proposals: u8,
    /// How often a process ends, between two steps or before its write is durable.
    pub(crate) crashes: u8,
    /// How many messages arrive twice.
    pub(crate) repeats: u8,
    pub(crate) heartbeats: u8,
    /// How many messages are on their way at most. What is sent is either lost at once or arrives some time, so this
    /// bounds only those that do arrive. `None`: nothing is lost at once, but may be on its way for ever.
    pub(crate) flying: Option<usize>,
    pub(crate) pre_vote: bool,
    pub(crate) broken: Option<SeededBug>,
    /// A search that finds more worlds than this has failed: its bounds are too wide to close.
    pub(crate) states_max: usize,
}

/// What was searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) states: usize,
    /// The longest of the shortest ways to a world.
    pub(crate) depth: usize,
    pub(crate) steps: usize,
    /// How often the core had to be asked: the rest is known from other worlds with the same peer.
    pub(crate) steps_worked_out: usize,
    pub(crate) peers: usize,
    pub(crate) messages: usize,
    /// Leaders that were elected, and entries that were applied, in different ways.
    pub(crate) records: usize,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "closed: {} worlds, the farthest {} steps away; {} steps, {} of them worked out; {} states of a peer, {} \
             messages, {} histories",
            self.states,
            self.depth,
            self.steps,
            self.steps_worked_out,
            self.peers,
            self.messages,
            self.records
        )
    }
}

/// A rule was broken.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) what: String,
    pub(crate) trace: Vec<String>,
    pub(crate) states: usize,
}

type Id = u32;

/// What was done in a world so far, as far as the rules ask.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Record {
    leaders: BTreeMap<Term, u64>,
    /// What was applied at each index, and the lowest term of a peer that did.
    applied: Vec<(Term, Vec<u8>, Term)>,
}

/// How much of the bounds is used up: proposals, crashes, repeats, heartbeats.
type Used = [u8; 4];

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    peers: Vec<Id>,
    /// Sorted.
    network: Vec<Id>,
    record: Id,
    used: Used,
}

/// What happens next in a world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Act {
    Timeout,
    Deliver { message: Id, again: bool },
    Propose(u8),
    Heartbeat,
    Crash,
}

/// From which world, by what, at which peer, and whether its process ended with it.
type Way = (u32, Act, u8, bool);

/// What a peer makes of an input, worked out once.
#[derive(Clone, Debug)]
struct Outcome {
    peer: Id,
    sent: Vec<Id>,
    done: Done,
}

/// Things that are named by number, each once.
#[derive(Debug)]
struct Names<T> {
    all: Vec<T>,
    by_print: BTreeMap<u128, Id>,
}

fn print_of(value: &impl Hash) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        value.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

impl<T: Hash> Names<T> {
    fn name(&mut self, value: T) -> Id {
        let next = self.all.len() as Id;
        let id = *self.by_print.entry(print_of(&value)).or_insert(next);
        if id == next {
            self.all.push(value);
        }
        id
    }

    fn get(&self, id: Id) -> &T {
        &self.all[id as usize]
    }
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { all: Vec::new(), by_print: BTreeMap::new() }
    }
}

pub(crate) struct Search {
    bounds: Bounds,
    make: Make,
    peers: Names<Peer>,
    messages: Names<Message>,
    records: BTreeMap<Record, Id>,
    records_by_id: Vec<Record>,
    outcomes: BTreeMap<(Id, Act, bool), Result<Option<Outcome>, String>>,
    matching: BTreeSet<(Id, Id)>,
    seen: BTreeSet<u128>,
    /// How each world was first reached.
    ways: Vec<Way>,
    steps: usize,
}

impl Search {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let make = Make { voters: bounds.voters, pre_vote: bounds.pre_vote, broken: bounds.broken };
        Self {
            bounds,
            make,
            peers: Names::default(),
            messages: Names::default(),
            records: BTreeMap::new(),
            records_by_id: Vec::new(),
            outcomes: BTreeMap::new(),
            matching: BTreeSet::new(),
            seen: BTreeSet::new(),
            ways: Vec::new(),
            steps: 0,
        }
    }

    /// Goes through everything.
    ///
    /// # Errors
    /// The first rule found broken.
    pub(crate) fn run(mut self) -> Result<Closed, Box<Found>> {
        let peers = (1..=self.bounds.voters).map(|id| self.peers.name(Peer::new(self.make, id))).collect();
        let record = self.record(Record::default());
        let start = World { peers, network: Vec::new(), record, used: Used::default() };
        self.seen.insert(print_of(&start));
        self.ways.push((0, Act::Crash, 0, false));
        let mut level = vec![(0, start)];
        let mut depth = 0;
        loop {
            let mut next = Vec::new();
            for (number, world) in &level {
                self.expand(*number, world, &mut next)
                    .map_err(|(way, what)| Box::new(self.found(way, what)))?;
            }
            assert!(
                self.seen.len() <= self.bounds.states_max,
                "more than {} worlds at depth {depth} of {:?}",
                self.bounds.states_max,
                self.bounds
            );
            if next.is_empty() {
                return Ok(Closed {
                    states: self.seen.len(),
                    depth,
                    steps: self.steps,
                    steps_worked_out: self.outcomes.len(),
                    peers: self.peers.all.len(),
                    messages: self.messages.all.len(),
                    records: self.records_by_id.len(),
                });
            }
            depth += 1;
            level = next;
        }
    }

    fn record(&mut self, record: Record) -> Id {
        let next = self.records_by_id.len() as Id;
        let id = *self.records.entry(record.clone()).or_insert(next);
        if id == next {
            self.records_by_id.push(record);
        }
        id
    }

    fn expand(
        &mut self,
        number: u32,
        world: &World,
        next: &mut Vec<(u32, World)>,
    ) -> Result<(), (Way, String)> {
        for (at, act) in self.acts(world) {
            let [proposals, crashes, repeats, heartbeats] = world.used;
            let may_die = crashes < self.bounds.crashes && act != Act::Crash;
            for dies in [false, true] {
                if dies && !may_die {
                    continue;
                }
                self.steps += 1;
                let way = (number, act, at as u8, dies);
                let mut new = world.clone();
                new.used = match act {
                    Act::Timeout | Act::Deliver { again: false, .. } => world.used,
                    Act::Deliver { again: true, .. } => [proposals, crashes, repeats + 1, heartbeats],
                    Act::Propose(_) => [proposals + 1, crashes, repeats, heartbeats],
                    Act::Heartbeat => [proposals, crashes, repeats, heartbeats + 1],
                    Act::Crash => [proposals, crashes + 1, repeats, heartbeats],
                };
                new.used[1] += u8::from(dies);
                let outcome = self.outcome(world.peers[at], act, dies).map_err(|what| (way, what))?;
                let Some(outcome) = outcome else { continue };
                new.peers[at] = outcome.peer;
                if let Act::Deliver { message, again: false } = act {
                    let place = new.network.iter().position(|&id| id == message).expect("it was there");
                    new.network.remove(place);
                }
                self.judge(&mut new, at, &outcome.done).map_err(|what| (way, what))?;
                self.send(way, new, &outcome.sent, next);
            }
        }
        Ok(())
    }

    /// What was sent is on its way, all of it or (if there is a limit) any part of it.
    fn send(&mut self, way: Way, world: World, sent: &[Id], next: &mut Vec<(u32, World)>) {
        let all = (1_u32 << sent.len()) - 1;
        let least = if self.bounds.flying.is_some() { 0 } else { all };
        for part in least..=all {
            let mut new = world.clone();
            let arrives = |(at, _): &(usize, &Id)| part & (1 << at) != 0;
            new.network.extend(sent.iter().enumerate().filter(arrives).map(|(_, id)| id));
            self.clean(&mut new);
            if self.bounds.flying.is_some_and(|most| new.network.len() > most) {
                continue;
            }
            if self.seen.insert(print_of(&new)) {
                next.push((self.ways.len() as u32, new));
                self.ways.push(way);
            }
        }
    }

    /// What can happen in `world`, and to which peer.
    fn acts(&self, world: &World) -> Vec<(usize, Act)> {
        let bounds = &self.bounds;
        let mut acts = Vec::new();
        let mut before = None;
        for &id in &world.network {
            // Two of the same are the same.
            if before.replace(id) == Some(id) {
                continue;
            }
            let at = self.messages.get(id).to.0 as usize - 1;
            acts.push((at, Act::Deliver { message: id, again: false }));
            if world.used[2] < bounds.repeats {
                acts.push((at, Act::Deliver { message: id, again: true }));
            }
        }
        let start = world.used == Used::default() && world.network.is_empty();
        for (at, &id) in world.peers.iter().enumerate() {
            let peer = self.peers.get(id);
            // Whoever begins may be called the first.
            let symmetric = start && at > 0 && peer.term().is_zero();
            let may_stand = (at as u64) < bounds.candidates && peer.term().0 < bounds.terms;
            if !peer.leads() && may_stand && !symmetric {
                acts.push((at, Act::Timeout));
            }
            if peer.leads() && world.used[0] < bounds.proposals {
                acts.push((at, Act::Propose(world.used[0] + 1)));
            }
            if peer.leads() && world.used[3] < bounds.heartbeats {
                acts.push((at, Act::Heartbeat));
            }
            if world.used[1] < bounds.crashes {
                acts.push((at, Act::Crash));
            }
        }
        acts
    }

    fn input(&self, act: Act) -> Input {
        match act {
            Act::Timeout => Input::Timeout,
            Act::Deliver { message, .. } => Input::Deliver(self.messages.get(message).clone()),
            Act::Propose(value) => Input::Propose(value),
            Act::Heartbeat => Input::Heartbeat,
            Act::Crash => Input::Crash,
        }
    }

    /// What `peer` makes of `act`; nothing, when it may not do that now.
    fn outcome(&mut self, peer: Id, act: Act, dies: bool) -> Result<Option<Outcome>, String> {
        let of = match act {
            Act::Deliver { message, .. } => Act::Deliver { message, again: false },
            other => other,
        };
        if let Some(known) = self.outcomes.get(&(peer, of, dies)) {
            return known.clone();
        }
        let stepped = self.peers.get(peer).step(self.make, &self.input(of), dies);
        let outcome = match stepped {
            Ok((after, done)) => {
                let after = self.peers.name(after);
                let sent = done.sent.iter().map(|message| self.messages.name(message.clone())).collect();
                Ok(Some(Outcome { peer: after, sent, done }))
            }
            // It was not in a state to propose or campaign after all.
            Err(_) if matches!(of, Act::Propose(_)) => Ok(None),
            Err(what) => Err(what),
        };
        self.outcomes.insert((peer, of, dies), outcome.clone());
        outcome
    }

    /// Drops what can never have an effect again: answers to a term that their receiver has left for good.
    fn clean(&self, world: &mut World) {
        let peers = &world.peers;
        world.network.retain(|&id| {
            let message = self.messages.get(id);
            let answers = matches!(
                message.body,
                Body::VoteResp { pre: false, .. } | Body::AppendResp { .. } | Body::HeartbeatResp { .. }
            );
            let receiver = self.peers.get(peers[message.to.0 as usize - 1]);
            !answers || message.term >= receiver.node.storage().state.term
        });
        world.network.sort_unstable();
    }

    // ---- rules ----

    /// Whether the peers together keep the rules, after the one `at` has done what it did.
    fn judge(&mut self, world: &mut World, at: usize, done: &Done) -> Result<(), String> {
        self.logs_match(world, at)?;
        if done.leads.is_none() && done.applied.is_empty() {
            return Ok(());
        }
        let mut record = self.records_by_id[world.record as usize].clone();
        let (id, peer) = (at as u64 + 1, self.peers.get(world.peers[at]));
        if let Some(term) = done.leads {
            // Election safety.
            if let Some(other) = record.leaders.insert(term, id)
                && other != id
            {
                return Err(format!("term {term} has two leaders, {other} and {id}"));
            }
            // Leader completeness.
            for (place, (of, data, by)) in record.applied.iter().enumerate() {
                let held = peer.log().get(place).map(|entry| (entry.term, &entry.data[..]));
                if *by <= term && held != Some((*of, &data[..])) {
                    let index = place + 1;
                    return Err(format!(
                        "{id} leads term {term} without entry {index} of term {of}, which was applied in term {by}"
                    ));
                }
            }
        }
        for entry in &done.applied {
            Self::applies(&mut record, entry, peer.term(), id)?;
        }
        world.record = self.record(record);
        Ok(())
    }

    /// State machine safety: at an index everybody applies the same.
    fn applies(record: &mut Record, entry: &Entry, term: Term, id: u64) -> Result<(), String> {
        let place = entry.index.0 as usize - 1;
        let new = (entry.term, entry.data.to_vec());
        let next = record.applied.len();
        match record.applied.get_mut(place) {
            Some((of, data, by)) if (*of, &*data) == (new.0, &new.1) => *by = term.min(*by),
            Some((of, data, _)) => {
                return Err(format!(
                    "{id} applies {:?} of term {} at {}, where {data:?} of term {of} was applied",
                    new.1, new.0, entry.index
                ));
            }
            None if place == next => record.applied.push((new.0, new.1, term)),
            None => return Err(format!("{id} applies {} before what stands before it", entry.index)),
        }
        Ok(())
    }

    /// Log matching: the same term at the same index is the same entry after the same entries.
    fn logs_match(&mut self, world: &World, at: usize) -> Result<(), String> {
        for other in (0..world.peers.len()).filter(|&other| other != at) {
            let pair = (world.peers[at], world.peers[other]);
            if self.matching.contains(&pair) {
                continue;
            }
            let (ours, theirs) = (self.peers.get(pair.0).log(), self.peers.get(pair.1).log());
            let common = ours.iter().zip(theirs).rposition(|(a, b)| a.term == b.term);
            if let Some(common) = common
                && ours[..=common] != theirs[..=common]
            {
                let (a, b) = (at + 1, other + 1);
                return Err(format!(
                    "the logs of {a} and {b} differ before {}: {ours:?}, {theirs:?}",
                    common + 1
                ));
            }
            self.matching.insert(pair);
        }
        Ok(())
    }

    // ---- telling ----

    fn found(&self, way: Way, what: String) -> Found {
        let mut trace = Vec::new();
        let mut at = Some(way);
        while let Some((before, act, peer, dies)) = at {
            let dies = if dies { ", and its process ends before that is durable" } else { "" };
            let act = match act {
                Act::Deliver { message, again } => {
                    let Message { from, term, body, .. } = self.messages.get(message);
                    let again = if again { " (it comes again)" } else { "" };
                    format!("<- {from}: term {term}, {body:?}{again}")
                }
                Act::Timeout => "waits no longer for a leader".to_owned(),
                Act::Propose(value) => format!("is given {value}"),
                Act::Heartbeat => "sends heartbeats".to_owned(),
                Act::Crash => "ends, and starts again".to_owned(),
            };
            trace.push(format!("{} {act}{dies}", peer + 1));
            at = (before != 0).then(|| self.ways[before as usize]);
        }
        trace.reverse();
        Found { what, trace, states: self.seen.len() }
    }
}
