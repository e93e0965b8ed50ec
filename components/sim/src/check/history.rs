//! Recorded histories of operations on single keys.

use bytes::Bytes;
use std::fmt::{self, Write as _};
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

/// A line of a written history cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: &'static str,
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the history: {}", self.line, self.message)
    }
}

impl std::error::Error for HistoryError {}

/// The history as text, one operation a line: process, invoked, returned, key, action, outcome, separated by spaces,
/// bytes in hexadecimal with `-` for "nothing" and `.` for "not told" (an empty value is `=`).
#[must_use]
pub fn write_history(history: &[Operation]) -> String {
    let mut out = String::new();
    for operation in history {
        let action = match &operation.action {
            Action::Get => "get".to_owned(),
            Action::Put(value) => format!("put {}", hex(Some(value))),
            Action::Delete => "delete".to_owned(),
            Action::CompareAndSwap { expected, new } => {
                format!("cas {} {}", hex(expected.as_ref()), hex(new.as_ref()))
            }
        };
        let outcome = match &operation.outcome {
            Outcome::Value(value) => format!("value {}", hex(value.as_ref())),
            Outcome::Written => "written".to_owned(),
            Outcome::Swapped { succeeded, previous } => {
                let word = if *succeeded { "swapped" } else { "refused" };
                let previous = previous.as_ref().map_or_else(|| ".".to_owned(), |value| hex(value.as_ref()));
                format!("{word} {previous}")
            }
            Outcome::NotDone => "not-done".to_owned(),
            Outcome::Unknown => "unknown".to_owned(),
        };
        let (process, invoked, returned) = (operation.process, operation.invoked, operation.returned);
        let key = hex(Some(&operation.key));
        writeln!(out, "{process} {invoked} {returned} {key} {action} {outcome}")
            .expect("writing to a String does not fail");
    }
    out
}

/// Reads what [`write_history`] wrote. Empty lines and lines that begin with `#` are skipped.
///
/// # Errors
/// [`HistoryError`] at the first line that is not of that form.
pub fn parse_history(text: &str) -> Result<Vec<Operation>, HistoryError> {
    let mut history = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        history.push(parse_line(line).map_err(|message| HistoryError { line: index + 1, message })?);
    }
    Ok(history)
}

fn parse_line(line: &str) -> Result<Operation, &'static str> {
    let mut words = line.split_whitespace();
    let mut word = || words.next().ok_or("too few words");
    let number = |text: &str| text.parse::<u64>().map_err(|_| "not a number");
    let process = number(word()?)?;
    let invoked = number(word()?)?;
    let returned = number(word()?)?;
    let key = unhex(word()?)?.ok_or("a key is never nothing")?;
    let action = match word()? {
        "get" => Action::Get,
        "put" => Action::Put(unhex(word()?)?.ok_or("put writes a value")?),
        "delete" => Action::Delete,
        "cas" => Action::CompareAndSwap { expected: unhex(word()?)?, new: unhex(word()?)? },
        _ => return Err("unknown action"),
    };
    let outcome = match word()? {
        "value" => Outcome::Value(unhex(word()?)?),
        "written" => Outcome::Written,
        verdict @ ("swapped" | "refused") => {
            let previous = match word()? {
                "." => None,
                told => Some(unhex(told)?),
            };
            Outcome::Swapped { succeeded: verdict == "swapped", previous }
        }
        "not-done" => Outcome::NotDone,
        "unknown" => Outcome::Unknown,
        _ => return Err("unknown outcome"),
    };
    if words.next().is_some() {
        return Err("too many words");
    }
    if outcome != Outcome::Unknown && returned < invoked {
        return Err("it ends before it begins");
    }
    Ok(Operation { process, key, action, outcome, invoked, returned })
}

fn hex(value: Option<&Bytes>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.is_empty() => "=".to_owned(),
        Some(value) => value.iter().fold(String::with_capacity(value.len() * 2), |mut out, byte| {
            write!(out, "{byte:02x}").expect("writing to a String does not fail");
            out
        }),
    }
}

fn unhex(text: &str) -> Result<Option<Bytes>, &'static str> {
    match text {
        "-" => return Ok(None),
        "=" => return Ok(Some(Bytes::new())),
        _ => {}
    }
    let digits = text
        .chars()
        .map(|digit| digit.to_digit(16).ok_or("not hexadecimal"))
        .collect::<Result<Vec<u32>, _>>()?;
    if digits.len() % 2 != 0 {
        return Err("half a byte");
    }
    Ok(Some(digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_history_reads_back() {
        let mut recorder = Recorder::new();
        let key = Bytes::from_static(b"k\0");
        let put = recorder.invoke(1, 1, key.clone(), Action::Put(Bytes::new()));
        let get = recorder.invoke(2, 2, key.clone(), Action::Get);
        let swap = Action::CompareAndSwap { expected: None, new: Some(Bytes::from_static(b"v")) };
        let first = recorder.invoke(3, 3, key.clone(), swap.clone());
        let second = recorder.invoke(3, 4, key.clone(), swap);
        recorder.invoke(4, 5, key, Action::Delete);
        recorder.complete(4, put, Outcome::Written);
        recorder.complete(5, get, Outcome::Value(None));
        recorder.complete(
            5,
            first,
            Outcome::Swapped { succeeded: false, previous: Some(Some(Bytes::new())) },
        );
        recorder.complete(5, second, Outcome::Swapped { succeeded: true, previous: None });
        let text = write_history(recorder.operations());
        assert_eq!(parse_history(&text).unwrap(), recorder.operations());
    }

    #[test]
    fn a_damaged_line_is_named() {
        for (line, message) in [
            ("1 2", "too few words"),
            ("1 2 3 zz get unknown", "not hexadecimal"),
            ("1 2 3 6b get unknown more", "too many words"),
            ("1 3 2 6b get value -", "it ends before it begins"),
        ] {
            let text = format!("# comment\n{line}\n");
            assert_eq!(parse_history(&text).unwrap_err(), HistoryError { line: 2, message });
        }
    }
}
