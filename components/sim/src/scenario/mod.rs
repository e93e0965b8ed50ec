//! Scenarios: what is to happen to a cluster, and what must be seen meanwhile, as text.
//!
//! A [`Scenario`] is a [`Script`](crate::script::Script) that is written down line by line: requests of clients and how
//! they end, faults, gates for chosen messages, and conditions that are waited for or must hold. After each line every
//! observer is asked whether something was broken, and at the end whether what clients saw is linearizable. Words and
//! meaning are listed in docs/simulation.md.
//!
//! What keeps it honest: a line that is not understood is refused with its number, what was read and what is allowed; and
//! a scenario names the rules of the product that it guards ([`Guard`]), each of which it must miss when that is broken.

mod play;
mod step;
#[cfg(test)]
mod tests;
mod words;

pub use play::{Missed, Played, ScenarioFailure};

use crate::fields::{Fields, Unreadable};
use crate::nodes::SeededBug;
use crate::script::ScriptConfig;
use crate::setup::Setup;
use crate::trace::TraceMode;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use step::Step;
use words::{Names, span};

/// The language of scenarios. Grows when an old one would be read differently.
pub const SCENARIO_VERSION: u32 = 1;

/// The line that a scenario begins with, but for its version.
const HEADER: &str = "flotilla-sim scenario version=";

/// A scenario that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// What it tells: its first comment.
    pub story: String,
    /// Rules without which it fails.
    pub guards: Vec<Guard>,
    /// The seeds that it is played with: each draws what the scenario does not say.
    pub seeds: Vec<u64>,
    stores: u32,
    late: u32,
    clients: u32,
    deadline: Duration,
    setup: Setup,
    lines: Vec<Line>,
}

/// A rule of the product that a scenario is there for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guard {
    /// The rule, as the table of seeded bugs names it, with a colon for the space; several that cover for each other are
    /// joined by a plus.
    pub rule: String,
    /// What notices that it is broken: a part of the checker's name, as `INV-READ-6`, or `expectation` for a line of the
    /// scenario.
    pub by: String,
}

#[cfg(feature = "seeded_bugs")]
impl Guard {
    /// The rule itself; `None` if this build has none of that name.
    #[must_use]
    pub fn bugs(&self) -> Option<Vec<SeededBug>> {
        let all = SeededBug::all();
        let named = |name: &str| all.iter().copied().find(|bug| bug.name().replace(' ', ":") == name);
        self.rule.split('+').map(named).collect()
    }
}

/// A step with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    number: usize,
    text: String,
    step: Step,
}

/// Why a scenario cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the scenario: {}", self.line, self.reason)
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// The first line that makes no sense.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let mut reader = Reader::default();
        let mut last = 1;
        for (index, line) in text.lines().enumerate() {
            last = index + 1;
            reader.line(last, line.trim()).map_err(|error| ScenarioError { line: last, reason: error.0 })?;
        }
        reader.finish().map_err(|error| ScenarioError { line: last, reason: error.0 })
    }

    fn config(
        &self,
        seed: u64,
        bugs: &[SeededBug],
        trace: TraceMode,
        filter: Option<String>,
    ) -> ScriptConfig {
        let Setup { store, pd, links, pd_members, .. } = self.setup.clone();
        ScriptConfig {
            seed,
            stores: self.stores,
            late: self.late,
            members: pd_members,
            clients: self.clients,
            deadline: self.deadline,
            store,
            pd,
            links,
            bugs: bugs.to_vec(),
            trace,
            filter,
        }
    }
}

/// A scenario that is being read.
#[derive(Default)]
struct Reader {
    has_header: bool,
    story: Option<String>,
    guards: Vec<Guard>,
    cluster: Option<Cluster>,
    setup: Option<Setup>,
    names: Option<Names>,
    lines: Vec<Line>,
}

/// The line `cluster`.
#[derive(Clone, Debug)]
struct Cluster {
    stores: u32,
    late: u32,
    members: u32,
    clients: u32,
    deadline: Duration,
    seeds: Vec<u64>,
}

impl Default for Cluster {
    fn default() -> Self {
        let ScriptConfig { stores, late, members, clients, deadline, .. } = ScriptConfig::default();
        Self { stores, late, members, clients, deadline, seeds: vec![0] }
    }
}

impl Cluster {
    fn parse(mut fields: Fields<'_>) -> Result<Self, Unreadable> {
        let mut cluster = Self::default();
        let mut count = |name: &str, value: &mut u32, least: u32, most: u32| {
            if fields.has(name) {
                *value = fields.number(name)?;
            }
            if (least..=most).contains(value) {
                return Ok(());
            }
            Err(Unreadable(format!("{name}: {value} is not from {least} to {most}")))
        };
        count("stores", &mut cluster.stores, 1, 9)?;
        count("late", &mut cluster.late, 0, cluster.stores - 1)?;
        count("members", &mut cluster.members, 1, 5)?;
        count("clients", &mut cluster.clients, 1, 9)?;
        let (mut first, mut seeds) = (0, 1);
        count("seed", &mut first, 0, u32::MAX / 2)?;
        count("seeds", &mut seeds, 1, 100)?;
        cluster.seeds = (u64::from(first)..u64::from(first + seeds)).collect();
        if fields.has("deadline") {
            cluster.deadline = span(fields.text("deadline")?)?;
        }
        fields.end()?;
        Ok(cluster)
    }
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Unreadable> {
        if !self.has_header {
            let version = line.strip_prefix(HEADER).ok_or_else(|| {
                Unreadable(format!("this is no scenario: it does not begin with {HEADER}{SCENARIO_VERSION}"))
            })?;
            if version != SCENARIO_VERSION.to_string() {
                return Err(Unreadable(format!(
                    "written for a version {version} of the language, this is version {SCENARIO_VERSION}"
                )));
            }
            self.has_header = true;
            return Ok(());
        }
        if let Some(comment) = line.strip_prefix('#') {
            self.story.get_or_insert_with(|| comment.trim().to_owned());
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { return Ok(()) };
        if self.story.is_none() {
            return Err(Unreadable(
                "a scenario tells its story in a comment before its first line".to_owned(),
            ));
        }
        match first {
            "cluster" | "config" | "guards" if self.names.is_some() => {
                Err(Unreadable(format!("{first:?} comes before the first step")))
            }
            "cluster" if self.cluster.is_some() || self.setup.is_some() => {
                Err(Unreadable("\"cluster\" comes once, and before \"config\"".to_owned()))
            }
            "cluster" => {
                self.cluster = Some(Cluster::parse(Fields::parse(words)?)?);
                Ok(())
            }
            "config" => {
                let mut fields = Fields::parse(words)?;
                for taken in ["stores", "late-stores", "members"] {
                    if fields.has(taken) {
                        return Err(Unreadable(format!("{taken} is said by \"cluster\"")));
                    }
                }
                self.setup().amend(&mut fields)?;
                fields.end()
            }
            "guards" => {
                let rule = words.next().ok_or_else(|| Unreadable("a rule is missing".to_owned()))?.to_owned();
                let mut fields = Fields::parse(words)?;
                let by = fields.text("by")?.to_owned();
                fields.end()?;
                self.guards.push(Guard { rule, by });
                Ok(())
            }
            _ => {
                let cluster = self.cluster.get_or_insert_with(Cluster::default);
                let Cluster { stores, members, clients, .. } = *cluster;
                let names = self.names.get_or_insert_with(|| Names {
                    stores,
                    members,
                    clients,
                    nodes: Vec::new(),
                    calls: Vec::new(),
                    begun: BTreeMap::new(),
                    gates: Vec::new(),
                });
                let step = Step::parse(line, names)?;
                self.lines.push(Line { number, text: line.to_owned(), step });
                Ok(())
            }
        }
    }

    /// What `config` changes, as scripts have it where it does not.
    fn setup(&mut self) -> &mut Setup {
        let members = self.cluster.clone().unwrap_or_default().members;
        self.setup.get_or_insert_with(|| {
            let ScriptConfig { store, pd, links, .. } = ScriptConfig::default();
            Setup { store, pd, links, pd_members: members, ..Setup::usual() }
        })
    }

    fn finish(mut self) -> Result<Scenario, Unreadable> {
        if !self.has_header {
            return Err(Unreadable("there is nothing in it".to_owned()));
        }
        if self.lines.is_empty() {
            return Err(Unreadable("nothing happens in it".to_owned()));
        }
        let setup = self.setup().clone();
        let Cluster { stores, late, clients, deadline, seeds, .. } = self.cluster.unwrap_or_default();
        let story = self.story.expect("no line is read before it");
        Ok(Scenario {
            story,
            guards: self.guards,
            seeds,
            stores,
            late,
            clients,
            deadline,
            setup,
            lines: self.lines,
        })
    }
}
