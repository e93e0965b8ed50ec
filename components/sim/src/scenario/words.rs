//! The words of a scenario's lines: what each stands for, and what is said of one that stands for nothing.

use super::step::Request;
use crate::disk::DiskHurt;
use crate::faults::DiskFailure;
use crate::fields::Unreadable;
use crate::gate::Passage;
use crate::kernel::NodeId;
use crate::nodes::Thread;
use crate::script::Topic;
use std::collections::BTreeMap;
use std::time::Duration;
use store::Actor;
use wire::store::DiskState;

/// Who is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Who {
    /// A node by its number.
    Node(NodeId),
    /// A node that was given a name above.
    Named(String),
    /// All stores that the line does not name before.
    Others,
    /// All nodes that the line does not name before.
    All,
}

/// What there is to be named: how many stores, members and clients; and the names given so far.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) stores: u32,
    pub(super) members: u32,
    pub(super) clients: u32,
    pub(super) nodes: Vec<String>,
    pub(super) calls: Vec<String>,
    /// What each of them asks for.
    pub(super) begun: BTreeMap<String, Request>,
    pub(super) gates: Vec<String>,
}

/// Where stores, members and clients begin to be counted, but for one.
const STORES: u32 = 0;
const MEMBERS: u32 = 50;
const CLIENTS: u32 = 100;

impl Names {
    /// One node: `s1` a store, `p1` a member of the placement driver, `c1` a client, or a name.
    pub(super) fn node(&self, word: &str) -> Result<Who, Unreadable> {
        if self.nodes.iter().any(|name| name == word) {
            return Ok(Who::Named(word.to_owned()));
        }
        let numbered =
            [("s", self.stores, STORES), ("p", self.members, MEMBERS), ("c", self.clients, CLIENTS)];
        let number = numbered.iter().find_map(|(letter, count, first)| {
            let number: u32 = word.strip_prefix(letter)?.parse().ok()?;
            (1..=*count).contains(&number).then(|| NodeId(first + number))
        });
        number.map(Who::Node).ok_or_else(|| {
            let range =
                |letter: &'static str, count: u32| (1..=count).map(move |number| format!("{letter}{number}"));
            let mut all: Vec<String> = range("s", self.stores).collect();
            all.extend(range("p", self.members).chain(range("c", self.clients)));
            all.extend(self.nodes.iter().cloned());
            Unreadable(format!("{word:?} is no node; there are {}", all.join(", ")))
        })
    }

    /// Several nodes, separated by commas; also `others` for the other stores, `all` for all other nodes.
    pub(super) fn nodes(&self, words: &str) -> Result<Vec<Who>, Unreadable> {
        let one = |word: &str| match word {
            "others" => Ok(Who::Others),
            "all" => Ok(Who::All),
            word => self.node(word),
        };
        words.split(',').map(one).collect()
    }

    /// A client.
    pub(super) fn client(&self, word: &str) -> Result<NodeId, Unreadable> {
        match self.node(word)? {
            Who::Node(node) if node.0 > CLIENTS => Ok(node),
            _ => Err(Unreadable(format!("{word:?} is no client; there are c1 to c{}", self.clients))),
        }
    }

    /// A call that was begun above.
    pub(super) fn call(&self, word: &str) -> Result<String, Unreadable> {
        known(&self.calls, word, "call", "begun")
    }

    /// A gate that was set above.
    pub(super) fn gate(&self, word: &str) -> Result<String, Unreadable> {
        known(&self.gates, word, "gate", "set")
    }
}

fn known(names: &[String], word: &str, what: &str, how: &str) -> Result<String, Unreadable> {
    match names.iter().any(|name| name == word) {
        true => Ok(word.to_owned()),
        false if names.is_empty() => Err(Unreadable(format!("{word:?} is no {what}; none was {how} above"))),
        false => Err(Unreadable(format!("{word:?} is no {what}; {how} above: {}", names.join(", ")))),
    }
}

/// A word of a list, or what the list has.
pub(super) fn one_of<T: Copy>(all: &[(T, &str)], word: &str, what: &str) -> Result<T, Unreadable> {
    let found = all.iter().find(|(_, name)| *name == word).map(|(value, _)| *value);
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
        Unreadable(format!("{word:?} is no {what}; one of {} is", names.join(", ")))
    })
}

const UNITS: [(u64, &str); 5] =
    [(1_000_000, "ms"), (1_000, "us"), (1_000_000_000, "s"), (60_000_000_000, "m"), (3_600_000_000_000, "h")];

/// A span of time: a number and its unit, as `150ms`, `3s`, `2m`.
pub(super) fn span(word: &str) -> Result<Duration, Unreadable> {
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = word.split_at(digits);
    let nanos = number.parse::<u64>().ok().and_then(|number| {
        let (nanos, _) = UNITS.iter().find(|(_, name)| *name == unit)?;
        // A day is long for a scenario.
        number.checked_mul(*nanos).filter(|nanos| *nanos <= 86_400_000_000_000)
    });
    nanos.map(Duration::from_nanos).ok_or_else(|| {
        Unreadable(format!("{word:?} is no span of time; a number with us, ms, s, m or h is, up to a day"))
    })
}

/// Topics, separated by commas.
pub(super) fn topics(words: &str) -> Result<Vec<Topic>, Unreadable> {
    words.split(',').map(|word| one_of(&Topic::ALL, word, "topic of messages")).collect()
}

/// What becomes of messages at a gate.
pub(super) fn passage(word: &str) -> Result<Passage, Unreadable> {
    let all = [
        (Passage::Hold, "hold"),
        (Passage::Lose, "lose"),
        (Passage::Watch, "watch"),
        (Passage::Repeat, "repeat"),
    ];
    one_of(&all, word, "way to treat a message")
}

/// A thread of a store.
pub(super) fn thread(word: &str) -> Result<Thread, Unreadable> {
    let all = [
        (Thread::Reader, "reader"),
        (Thread::Log, "log"),
        (Thread::Runs(Actor::Worker(0)), "worker"),
        (Thread::Runs(Actor::Applier(0)), "applier"),
        (Thread::Runs(Actor::Background), "background"),
        (Thread::Runs(Actor::PdAgent), "pd-agent"),
    ];
    one_of(&all, word, "thread of a store")
}

/// What happens to a disk.
pub(super) fn disk_hurt(word: &str) -> Result<DiskHurt, Unreadable> {
    let fails = |what| {
        DiskHurt::FailOnce(match what {
            DiskFailure::Write => engine::Fault::Write,
            DiskFailure::Sync => engine::Fault::Sync,
            DiskFailure::Ingest => engine::Fault::Ingest,
        })
    };
    let all = [
        (fails(DiskFailure::Write), "fails-write"),
        (fails(DiskFailure::Sync), "fails-sync"),
        (fails(DiskFailure::Ingest), "fails-ingest"),
        (DiskHurt::Full(true), "takes-nothing"),
        (DiskHurt::Full(false), "takes-again"),
        (DiskHurt::Space(DiskState::Full), "full"),
        (DiskHurt::Space(DiskState::Low), "low"),
        (DiskHurt::Space(DiskState::Ok), "ok"),
        (DiskHurt::Lost, "lost"),
        (DiskHurt::Returned, "returned"),
    ];
    one_of(&all, word, "change of a disk")
}
