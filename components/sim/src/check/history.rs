//! Recorded histories of operations on single keys.

use bytes::Bytes;
use std::fmt;
use types::escape_key;

/// What was asked for, on one key. An operation on several keys is recorded as one action for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Read the value.
    Get,
    /// Set the value.
    Put(Bytes),
    /// Remove the value.
    Delete,
    /// Set or remove the value if it is the expected one.
    CompareAndSwap {
        /// What the key must hold: `None` for "nothing".
        expected: Option<Bytes>,
        /// What it then holds: `None` for "nothing".
        new: Option<Bytes>,
    },
}

/// What came of an action.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A get's answer.
    Value(Option<Bytes>),
    /// A put or a delete was done.
    Written,
    /// A compare-and-swap was decided.
    Swapped {
        /// Whether the condition held.
        succeeded: bool,
        /// What the key held before, where the system tells.
        previous: Option<Option<Bytes>>,
    },
    /// The system promised that nothing was and will be done (INV-STORE-12). A read that sees it has no explanation.
    NotDone,
    /// Nobody knows: it takes effect at any time after it was invoked, or never.
    Unknown,
}

/// An action on a key, and when it took place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Who asked; for people only.
    pub process: u64,
    /// The key.
    pub key: Bytes,
    /// What was asked for.
    pub action: Action,
    /// What came of it.
    pub outcome: Outcome,
    /// When it was asked for, in nanoseconds of a clock that all processes of the history share.
    pub invoked: u64,
    /// When the answer came, on the same clock. Means nothing if the outcome is unknown.
    pub returned: u64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |nanos: u64| format!("{}.{:06}", nanos / 1_000_000_000, nanos % 1_000_000_000 / 1000);
        let end = if self.outcome == Outcome::Unknown { "?".to_owned() } else { seconds(self.returned) };
        write!(f, "[{}, {end}] process {} ", seconds(self.invoked), self.process)?;
        match &self.action {
            Action::Get => write!(f, "get {}", escape_key(&self.key))?,
            Action::Put(value) => write!(f, "put {} = {}", escape_key(&self.key), escape_key(value))?,
            Action::Delete => write!(f, "delete {}", escape_key(&self.key))?,
            Action::CompareAndSwap { expected, new } => {
                write!(f, "swap {} from {} to {}", escape_key(&self.key), show(expected), show(new))?;
            }
        }
        match &self.outcome {
            Outcome::Value(value) => write!(f, " -> {}", show(value)),
            Outcome::Written => write!(f, " -> done"),
            Outcome::Swapped { succeeded, previous } => {
                f.write_str(if *succeeded { " -> swapped" } else { " -> refused" })?;
                previous.as_ref().map_or(Ok(()), |previous| write!(f, ", was {}", show(previous)))
            }
            Outcome::NotDone => write!(f, " -> not done"),
            Outcome::Unknown => write!(f, " -> unknown"),
        }
    }
}

/// A value for people: `-` for none.
pub(crate) fn show(value: &Option<Bytes>) -> String {
    value.as_ref().map_or_else(|| "-".to_owned(), |value| escape_key(value))
}

/// Names an operation while it is under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpId(usize);

/// Collects a history. Operations that never complete stay of unknown outcome.
#[derive(Clone, Default, Debug)]
pub struct Recorder {
    operations: Vec<Operation>,
}

impl Recorder {
    /// An empty history.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `process` asks for `action` on `key` at the time `now`: before the request leaves it.
    pub fn invoke(&mut self, now: u64, process: u64, key: Bytes, action: Action) -> OpId {
        self.operations.push(Operation {
            process,
            key,
            action,
            outcome: Outcome::Unknown,
            invoked: now,
            returned: u64::MAX,
        });
        OpId(self.operations.len() - 1)
    }

    /// The answer is there at the time `now`: after it arrived.
    ///
    /// # Panics
    /// When the operation was completed before, or ends before it began.
    pub fn complete(&mut self, now: u64, id: OpId, outcome: Outcome) {
        let operation = &mut self.operations[id.0];
        assert_eq!(operation.outcome, Outcome::Unknown, "an operation completes once: {operation}");
        assert!(operation.invoked <= now, "an operation ends after it began: {operation} at {now}");
        operation.outcome = outcome;
        operation.returned = now;
    }

    /// What was recorded, in the order of invocation.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}
