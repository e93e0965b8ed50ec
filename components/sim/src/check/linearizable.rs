//! INV-STORE-12: what clients saw is linearizable for each key, and what was refused is never seen.
//!
//! Wing and Gong's search, with Lowe's memory of visited configurations and
//! P-compositionality (each key is checked alone; Horn and Kroening, "Faster linearizability checking via
//! P-compositionality", 2015).
//!
//! Four observations keep the search small; none gives up completeness:
//!
//! * An operation that only observes, and could observe what it did right now, can take effect right now: in any valid
//!   order it may be moved forward to here, because it changes nothing.
//! * A value is not overwritten while completed operations still have to observe it and nothing is left to write it.
//! * An operation of unknown outcome takes effect only if the very next one observes it: otherwise "never" explains as
//!   much. So it is tried only where something waits for what it writes.
//! * Of two operations of unknown outcome that do the same, the earlier one is used first.

use crate::check::history::{Action, Operation, Outcome, show};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A limit on the steps of one key's search that no sane history comes near: about a minute.
pub const DEFAULT_STEPS_MAX: u64 = 20_000_000;

/// What the checker found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every key's operations can be put in an order that explains what was observed.
    Linearizable,
    /// Some key's cannot.
    Violation(Box<Violation>),
    /// The search for this key was given up; nothing is known of it. No other key is in violation.
    Undecided {
        /// The key.
        key: Bytes,
    },
}

/// Why a key's history has no explanation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The key.
    pub key: Bytes,
    /// The longest order that explains a part of the history.
    pub explained: Vec<Operation>,
    /// What the key holds after it.
    pub value: Option<Bytes>,
    /// Completed operations of which one would have to come next, and none can.
    pub stuck: Vec<Operation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The end of the explanation is where the guilty are.
        const SHOWN: usize = 12;
        writeln!(f, "key {} is not linearizable", types::escape_key(&self.key))?;
        writeln!(f, "  explained are {} operations, the last of them:", self.explained.len())?;
        for operation in self.explained.iter().skip(self.explained.len().saturating_sub(SHOWN)) {
            writeln!(f, "    {operation}")?;
        }
        writeln!(f, "  the key then holds {}, and none of these can follow:", show(&self.value))?;
        for operation in &self.stuck {
            writeln!(f, "    {operation}")?;
        }
        Ok(())
    }
}

/// Checks each key of a history as a register that begins empty.
///
/// Two operations are ordered only if one returned strictly before the other was invoked. At most `steps_max` steps are
/// spent on a key (see [`DEFAULT_STEPS_MAX`]).
///
/// # Panics
/// When an operation has an outcome that its action cannot have: the recorder's mistake.
#[must_use]
pub fn linearizable(history: &[Operation], steps_max: u64) -> Verdict {
    let mut keys: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation);
    }
    let mut undecided = None;
    for (key, operations) in keys {
        let register = Register::new(&operations);
        match Search::new(&register, steps_max).run() {
            Found::Order => {}
            Found::GaveUp => undecided = undecided.or_else(|| Some(key.clone())),
            Found::Nothing { order, value, stuck } => {
                return Verdict::Violation(Box::new(Violation {
                    key: key.clone(),
                    explained: order.iter().map(|step| register.operation(*step).clone()).collect(),
                    value: register.values[value as usize].clone(),
                    stuck: stuck.iter().map(|index| register.completed[*index].origin.clone()).collect(),
                }));
            }
        }
    }
    undecided.map_or(Verdict::Linearizable, |key| Verdict::Undecided { key })
}

/// A value of the register by number; [`ABSENT`] is "nothing".
type ValueId = u32;
const ABSENT: ValueId = 0;

/// What an operation asks of the register and does to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// It saw this value.
    Read(ValueId),
    /// It saw any other value than this.
    ReadOther(ValueId),
    /// It wrote this value.
    Write(ValueId),
    /// It saw `from` and wrote `to`, which differ.
    Swap { from: ValueId, to: ValueId },
    /// No register does this.
    Impossible,
}

impl Effect {
    /// The value that must be there, if one must.
    const fn observes(self) -> Option<ValueId> {
        match self {
            Self::Read(value) | Self::Swap { from: value, .. } => Some(value),
            Self::ReadOther(_) | Self::Write(_) | Self::Impossible => None,
        }
    }

    /// The value that is there afterwards, if it writes.
    const fn writes(self) -> Option<ValueId> {
        match self {
            Self::Write(value) | Self::Swap { to: value, .. } => Some(value),
            Self::Read(_) | Self::ReadOther(_) | Self::Impossible => None,
        }
    }
}

struct Completed<'a> {
    invoked: u64,
    returned: u64,
    effect: Effect,
    origin: &'a Operation,
}

/// Operations of unknown outcome that do the same, by time of invocation.
struct Unknown<'a> {
    effect: Effect,
    members: Vec<&'a Operation>,
}

/// One key's history, prepared.
struct Register<'a> {
    /// By time of invocation.
    completed: Vec<Completed<'a>>,
    unknown: Vec<Unknown<'a>>,
    values: Vec<Option<Bytes>>,
}

impl<'a> Register<'a> {
    fn new(operations: &[&'a Operation]) -> Self {
        let mut values: Vec<Option<Bytes>> = vec![None];
        let mut ids: BTreeMap<Option<&'a Bytes>, ValueId> = BTreeMap::from([(None, ABSENT)]);
        let mut id_of = |value: Option<&'a Bytes>| {
            *ids.entry(value).or_insert_with(|| {
                values.push(value.cloned());
                ValueId::try_from(values.len() - 1).expect("fewer than 2^32 values")
            })
        };
        let mut completed = Vec::new();
        let mut unknown: BTreeMap<Effect, Vec<&'a Operation>> = BTreeMap::new();
        for &origin in operations {
            let effect = match (&origin.action, &origin.outcome) {
                (_, Outcome::NotDone) | (Action::Get, Outcome::Unknown) => continue,
                (Action::Get, Outcome::Value(value)) => Effect::Read(id_of(value.as_ref())),
                (Action::Put(value), Outcome::Written | Outcome::Unknown) => {
                    Effect::Write(id_of(Some(value)))
                }
                (Action::Delete, Outcome::Written | Outcome::Unknown) => Effect::Write(ABSENT),
                (Action::CompareAndSwap { expected, new }, outcome) => {
                    let from = id_of(expected.as_ref());
                    let to = id_of(new.as_ref());
                    let swap = if from == to { Effect::Read(from) } else { Effect::Swap { from, to } };
                    match outcome {
                        Outcome::Unknown if from == to => continue,
                        Outcome::Unknown => swap,
                        Outcome::Swapped { succeeded: true, previous } => {
                            let told_truly = previous.as_ref().is_none_or(|previous| previous == expected);
                            if told_truly { swap } else { Effect::Impossible }
                        }
                        Outcome::Swapped { succeeded: false, previous: None } => Effect::ReadOther(from),
                        Outcome::Swapped { succeeded: false, previous: Some(previous) } => {
                            if previous == expected {
                                Effect::Impossible
                            } else {
                                Effect::Read(id_of(previous.as_ref()))
                            }
                        }
                        Outcome::Value(_) | Outcome::Written | Outcome::NotDone => {
                            panic!("no outcome of a compare-and-swap: {origin}")
                        }
                    }
                }
                _ => panic!("the action cannot have this outcome: {origin}"),
            };
            if origin.outcome == Outcome::Unknown {
                unknown.entry(effect).or_default().push(origin);
            } else {
                let (invoked, returned) = (origin.invoked, origin.returned);
                assert!(invoked <= returned, "an operation ends after it began: {origin}");
                completed.push(Completed { invoked, returned, effect, origin });
            }
        }
        completed.sort_by_key(|operation| (operation.invoked, operation.returned));
        let unknown = unknown
            .into_iter()
            .map(|(effect, mut members)| {
                members.sort_by_key(|operation| operation.invoked);
                Unknown { effect, members }
            })
            .collect();
        Self { completed, unknown, values }
    }

    fn operation(&self, step: Step) -> &'a Operation {
        match step {
            Step::Completed(index) => self.completed[index].origin,
            Step::Unknown { class, member } => self.unknown[class].members[member],
        }
    }
}

/// One operation taking effect.
#[derive(Clone, Copy)]
enum Step {
    Completed(usize),
    Unknown { class: usize, member: usize },
}

enum Found {
    Order,
    Nothing { order: Vec<Step>, value: ValueId, stuck: Vec<usize> },
    GaveUp,
}

/// A configuration on the way down, and what is still to be tried from it.
struct Frame {
    /// How long the order was when the configuration was entered, before its observers.
    order_before: usize,
    choices: Vec<Step>,
    next: usize,
}

/// A depth-first search over the orders in which operations may have taken effect.
struct Search<'r, 'a> {
    register: &'r Register<'a>,
    steps_left: u64,
    /// Which completed operations have taken effect.
    done: Vec<bool>,
    done_count: usize,
    /// All completed operations below have taken effect.
    watermark: usize,
    /// How many of each class of unknown operations have taken effect.
    used: Vec<usize>,
    value: ValueId,
    /// By value: completed operations that still have to observe it.
    observers_left: Vec<u32>,
    /// By value: operations left that can write it.
    sources_left: Vec<u32>,
    /// The order so far, with the value that each step replaced.
    order: Vec<(Step, ValueId)>,
    visited: BTreeSet<Box<[u32]>>,
    best: Option<Found>,
    best_done: usize,
}

impl<'r, 'a> Search<'r, 'a> {
    fn new(register: &'r Register<'a>, steps_max: u64) -> Self {
        let mut observers_left = vec![0; register.values.len()];
        let mut sources_left = vec![0; register.values.len()];
        for operation in &register.completed {
            if let Some(value) = operation.effect.observes() {
                observers_left[value as usize] += 1;
            }
            if let Some(value) = operation.effect.writes() {
                sources_left[value as usize] += 1;
            }
        }
        for class in &register.unknown {
            if let Some(value) = class.effect.writes() {
                sources_left[value as usize] += u32::try_from(class.members.len()).expect("fewer than 2^32");
            }
        }
        Self {
            register,
            steps_left: steps_max,
            done: vec![false; register.completed.len()],
            done_count: 0,
            watermark: 0,
            used: vec![0; register.unknown.len()],
            value: ABSENT,
            observers_left,
            sources_left,
            order: Vec::new(),
            visited: BTreeSet::new(),
            best: None,
            best_done: 0,
        }
    }

    fn run(mut self) -> Found {
        let mut stack = Vec::new();
        let Some(root) = self.enter(false) else { return Found::Order };
        stack.push(root);
        while let Some(frame) = stack.last_mut() {
            let Some(&step) = frame.choices.get(frame.next) else {
                self.undo_to(frame.order_before);
                stack.pop();
                if let Some(parent) = stack.last() {
                    // The step that led here sits on top of the parent's observers.
                    debug_assert!(self.order.len() > parent.order_before);
                    self.undo_to(self.order.len() - 1);
                }
                continue;
            };
            frame.next += 1;
            if self.steps_left == 0 {
                return Found::GaveUp;
            }
            self.steps_left -= 1;
            self.take(step);
            match self.enter(matches!(step, Step::Unknown { .. })) {
                Some(below) => stack.push(below),
                None => return Found::Order,
            }
        }
        self.best.expect("a dead end was noted")
    }

    /// Lets observers take effect and lists what may come next. `None`: everything is explained.
    ///
    /// With `must_observe`, the step before is of unknown outcome and the next has to observe it.
    fn enter(&mut self, mut must_observe: bool) -> Option<Frame> {
        let order_before = self.order.len();
        let mut candidates = Vec::new();
        loop {
            self.candidates(&mut candidates);
            let mut moved = false;
            for &index in &candidates {
                let observed = match self.register.completed[index].effect {
                    Effect::Read(value) => value == self.value,
                    Effect::ReadOther(value) => value != self.value,
                    Effect::Write(_) | Effect::Swap { .. } | Effect::Impossible => false,
                };
                if observed {
                    self.take(Step::Completed(index));
                    moved = true;
                    must_observe = false;
                }
            }
            if !moved {
                break;
            }
        }
        if self.done_count == self.done.len() {
            return None;
        }
        let choices = if self.visited.insert(self.configuration(must_observe)) {
            self.choices(&candidates, must_observe)
        } else {
            Vec::new()
        };
        if choices.is_empty() && (self.best.is_none() || self.done_count > self.best_done) {
            self.best_done = self.done_count;
            self.best = Some(Found::Nothing {
                order: self.order.iter().map(|(step, _)| *step).collect(),
                value: self.value,
                stuck: candidates,
            });
        }
        Some(Frame { order_before, choices, next: 0 })
    }

    /// Completed operations that may take effect next: no other one returned before they were invoked.
    fn candidates(&self, out: &mut Vec<usize>) {
        out.clear();
        let mut first_return = u64::MAX;
        for (index, operation) in self.register.completed.iter().enumerate().skip(self.watermark) {
            if operation.invoked > first_return {
                break;
            }
            if !self.done[index] {
                first_return = first_return.min(operation.returned);
                out.push(index);
            }
        }
        // Those met before the first to return was known.
        out.retain(|index| self.register.completed[*index].invoked <= first_return);
    }

    fn choices(&self, candidates: &[usize], must_observe: bool) -> Vec<Step> {
        let completed = |index: &usize| self.register.completed[*index].effect;
        let awaited =
            |value: ValueId| candidates.iter().any(|index| completed(index).observes() == Some(value));
        let mut choices: Vec<usize> = candidates
            .iter()
            .copied()
            .filter(|index| match completed(index) {
                Effect::Write(value) => !must_observe && self.may_replace(value, false),
                Effect::Swap { from, to } => from == self.value && self.may_replace(to, true),
                Effect::Read(_) | Effect::ReadOther(_) | Effect::Impossible => false,
            })
            .collect();
        // First what somebody waits for, then what had to end first: most histories then need no second try.
        choices.sort_by_key(|index| {
            let wanted = completed(index).writes().is_some_and(awaited);
            (!wanted, self.register.completed[*index].returned)
        });
        let mut choices: Vec<Step> = choices.into_iter().map(Step::Completed).collect();

        let first_return = candidates.iter().map(|index| self.register.completed[*index].returned).min();
        let available = |class: usize| {
            let members = &self.register.unknown[class].members;
            members.get(self.used[class]).is_some_and(|next| Some(next.invoked) <= first_return)
        };
        let differs_awaited =
            candidates.iter().any(|index| completed(index) == Effect::ReadOther(self.value));
        for (class, unknown) in self.register.unknown.iter().enumerate() {
            let possible = match unknown.effect {
                Effect::Write(_) => !must_observe,
                Effect::Swap { from, .. } => from == self.value,
                Effect::Read(_) | Effect::ReadOther(_) | Effect::Impossible => false,
            };
            let to = unknown.effect.writes().expect("unknown observers were left out");
            if !possible || to == self.value || !available(class) || !self.may_replace(to, false) {
                continue;
            }
            let chained = |(next, other): (usize, &Unknown<'_>)| {
                matches!(other.effect, Effect::Swap { from, .. } if from == to) && available(next)
            };
            if differs_awaited || awaited(to) || self.register.unknown.iter().enumerate().any(chained) {
                choices.push(Step::Unknown { class, member: self.used[class] });
            }
        }
        choices
    }

    /// True unless the present value would go while somebody still has to observe it and nothing brings it back.
    fn may_replace(&self, by: ValueId, observing: bool) -> bool {
        let value = self.value as usize;
        by == self.value || self.observers_left[value] == u32::from(observing) || self.sources_left[value] > 0
    }

    fn take(&mut self, step: Step) {
        self.order.push((step, self.value));
        let effect = match step {
            Step::Completed(index) => {
                debug_assert!(!self.done[index]);
                self.done[index] = true;
                self.done_count += 1;
                while self.done.get(self.watermark) == Some(&true) {
                    self.watermark += 1;
                }
                let effect = self.register.completed[index].effect;
                if let Some(value) = effect.observes() {
                    self.observers_left[value as usize] -= 1;
                }
                effect
            }
            Step::Unknown { class, .. } => {
                self.used[class] += 1;
                self.register.unknown[class].effect
            }
        };
        if let Some(value) = effect.writes() {
            self.sources_left[value as usize] -= 1;
            self.value = value;
        }
    }

    fn undo_to(&mut self, length: usize) {
        while self.order.len() > length {
            let (step, value) = self.order.pop().expect("longer than zero");
            let effect = match step {
                Step::Completed(index) => {
                    self.done[index] = false;
                    self.done_count -= 1;
                    self.watermark = self.watermark.min(index);
                    let effect = self.register.completed[index].effect;
                    if let Some(value) = effect.observes() {
                        self.observers_left[value as usize] += 1;
                    }
                    effect
                }
                Step::Unknown { class, .. } => {
                    self.used[class] -= 1;
                    self.register.unknown[class].effect
                }
            };
            if let Some(value) = effect.writes() {
                self.sources_left[value as usize] += 1;
            }
            self.value = value;
        }
    }

    /// The configuration as words: what has taken effect and what the register holds. How it came so does not matter.
    fn configuration(&self, must_observe: bool) -> Box<[u32]> {
        let word = |number: usize| u32::try_from(number).expect("fewer than 2^32 operations");
        let beyond = (self.watermark..self.done.len()).filter(|index| self.done[*index]);
        let ahead = self.done_count - self.watermark;
        [self.value, u32::from(must_observe), word(self.watermark), word(ahead)]
            .into_iter()
            .chain(beyond.take(ahead).map(word))
            .chain(
                self.used
                    .iter()
                    .enumerate()
                    .filter(|(_, used)| **used > 0)
                    .flat_map(|(class, used)| [word(class), word(*used)]),
            )
            .collect()
    }
}

#[cfg(test)]
#[path = "linearizable_tests.rs"]
mod tests;
