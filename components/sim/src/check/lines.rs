//! Histories as JSON lines, as `docs/formats/history.md` describes them.

use crate::check::history::{Action, Operation, Outcome};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::fmt::{self, Write as _};
use types::escape_key;

/// A line of a history cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the history: {}", self.line, self.message)
    }
}

impl std::error::Error for HistoryError {}

/// The history as text, one operation a line.
#[must_use]
pub fn write_history(history: &[Operation]) -> String {
    let mut out = String::new();
    for operation in history {
        write_line(&mut out, operation).expect("writing to a String does not fail");
    }
    out
}

fn write_line(out: &mut String, operation: &Operation) -> fmt::Result {
    let Operation { process, key, action, outcome, invoked, returned } = operation;
    let (op, written) = match action {
        Action::Get => ("get", None),
        Action::Put(value) => ("put", Some(value)),
        Action::Delete => ("delete", None),
        Action::CompareAndSwap { new, .. } => ("cas", new.as_ref()),
    };
    let value = match outcome {
        Outcome::Value(value) => value.as_ref(),
        _ => written,
    };
    write!(out, r#"{{"process":{process},"op":"{op}","key":{},"value":{}"#, text(Some(key)), text(value))?;
    if let Action::CompareAndSwap { expected, .. } = action {
        write!(out, r#","expect":{}"#, text(expected.as_ref()))?;
    }
    let status = match outcome {
        Outcome::Value(_) | Outcome::Written | Outcome::Swapped { .. } => "ok",
        Outcome::NotDone => "fail",
        Outcome::Unknown => "info",
    };
    if let Outcome::Swapped { succeeded, previous } = outcome {
        write!(out, r#","swapped":{succeeded}"#)?;
        if let Some(previous) = previous {
            write!(out, r#","found":{}"#, text(previous.as_ref()))?;
        }
    }
    write!(out, r#","status":"{status}","start_ns":{invoked},"end_ns":"#)?;
    match outcome {
        Outcome::Unknown => out.write_str("null}\n"),
        _ => writeln!(out, "{returned}}}"),
    }
}

/// Bytes as a JSON string in which everything but graphic ASCII is escaped once more; `null` for nothing.
fn text(bytes: Option<&Bytes>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| Value::String(escape_key(bytes)).to_string())
}

/// Reads JSON lines. Empty lines are skipped. Operations come in the order of their invocation.
///
/// # Errors
/// [`HistoryError`] at the first line that is not of the form.
pub fn parse_history(text: &str) -> Result<Vec<Operation>, HistoryError> {
    let mut history = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let read = parse_line(line).map_err(|message| HistoryError { line: index + 1, message })?;
        history.push(read);
    }
    history.sort_by_key(|operation| operation.invoked);
    Ok(history)
}

fn parse_line(line: &str) -> Result<Operation, String> {
    let parsed: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(fields) = parsed else { return Err("not an object".to_owned()) };
    let mut fields = Fields(fields);
    let process = fields.number("process")?;
    let key = fields.bytes("key")?.ok_or("`key` is null: a key is never nothing")?;
    let (op, status) = (fields.word("op")?, fields.word("status")?);
    let value = fields.bytes("value")?;
    let action = match op.as_str() {
        "get" => Action::Get,
        "put" => Action::Put(value.clone().ok_or("`value` is null: a put writes something")?),
        "delete" => Action::Delete,
        "cas" => Action::CompareAndSwap { expected: fields.bytes("expect")?, new: value.clone() },
        other => return Err(format!("`op` is {other:?}, not get, put, delete or cas")),
    };
    if action == Action::Delete && value.is_some() {
        return Err("`value` is given: a delete writes none".to_owned());
    }
    let outcome = match (status.as_str(), &action) {
        ("ok", Action::Get) => Outcome::Value(value),
        ("ok", Action::Put(_) | Action::Delete) => Outcome::Written,
        ("ok", Action::CompareAndSwap { .. }) => Outcome::Swapped {
            succeeded: fields.truth("swapped")?,
            previous: if fields.has("found") { Some(fields.bytes("found")?) } else { None },
        },
        ("fail" | "info", Action::Get) if value.is_some() => {
            return Err("`value` is given: a get that has no answer has found none".to_owned());
        }
        ("fail", _) => Outcome::NotDone,
        ("info", _) => Outcome::Unknown,
        (other, _) => return Err(format!("`status` is {other:?}, not ok, fail or info")),
    };
    let invoked = fields.number("start_ns")?;
    let returned = match outcome {
        Outcome::Unknown => {
            if fields.take("end_ns")? != Value::Null {
                return Err("`end_ns` is given: what is unknown has not ended".to_owned());
            }
            u64::MAX
        }
        _ => fields.number("end_ns")?,
    };
    if returned < invoked {
        return Err("it ends before it begins".to_owned());
    }
    match fields.0.keys().next() {
        None => Ok(Operation { process, key, action, outcome, invoked, returned }),
        Some(name) => Err(format!("`{name}` does not belong to a {op} that is {status}")),
    }
}

/// The fields of a line that were not looked at yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn take(&mut self, name: &str) -> Result<Value, String> {
        self.0.remove(name).ok_or_else(|| format!("`{name}` is missing"))
    }

    fn number(&mut self, name: &str) -> Result<u64, String> {
        let value = self.take(name)?;
        value.as_u64().ok_or_else(|| format!("`{name}` is {value}, which is no number of at most 64 bits"))
    }

    fn truth(&mut self, name: &str) -> Result<bool, String> {
        let value = self.take(name)?;
        value.as_bool().ok_or_else(|| format!("`{name}` is {value}, not true or false"))
    }

    fn word(&mut self, name: &str) -> Result<String, String> {
        match self.take(name)? {
            Value::String(word) => Ok(word),
            other => Err(format!("`{name}` is {other}, not a string")),
        }
    }

    fn bytes(&mut self, name: &str) -> Result<Option<Bytes>, String> {
        match self.take(name)? {
            Value::Null => Ok(None),
            Value::String(text) => unescape(&text).map(Some).map_err(|why| format!("`{name}`: {why}")),
            other => Err(format!("`{name}` is {other}, not a string or null")),
        }
    }
}

/// The bytes that [`escape_key`] has written.
fn unescape(text: &str) -> Result<Bytes, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => match rest.next() {
                Some(b'\\') => bytes.push(b'\\'),
                Some(b'x') => {
                    let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                    let pair = digit().zip(digit()).map(|(high, low)| high * 16 + low);
                    let byte = pair.and_then(|byte| u8::try_from(byte).ok());
                    bytes.push(byte.ok_or("`\\x` takes two hexadecimal digits")?);
                }
                _ => return Err("a backslash begins `\\\\` or `\\xNN`"),
            },
            0x20..=0x7e => bytes.push(byte),
            _ => return Err("other than graphic ASCII is written as `\\xNN`"),
        }
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Recorder;

    #[test]
    fn a_written_history_reads_back() {
        let mut recorder = Recorder::new();
        let key = Bytes::from_static(b"k\0\\\"\xff");
        let put = recorder.invoke(1, 1, key.clone(), Action::Put(Bytes::new()));
        let get = recorder.invoke(2, 2, key.clone(), Action::Get);
        let swap = Action::CompareAndSwap { expected: None, new: Some(Bytes::from_static(b"v")) };
        let refused = recorder.invoke(3, 3, key.clone(), swap.clone());
        let swapped = recorder.invoke(3, 4, key.clone(), swap.clone());
        let failed = recorder.invoke(4, 5, key.clone(), swap);
        recorder.invoke(4, 6, key, Action::Delete);
        recorder.complete(4, put, Outcome::Written);
        recorder.complete(5, get, Outcome::Value(None));
        let previous = Some(Some(Bytes::new()));
        recorder.complete(5, refused, Outcome::Swapped { succeeded: false, previous });
        recorder.complete(5, swapped, Outcome::Swapped { succeeded: true, previous: None });
        recorder.complete(9, failed, Outcome::NotDone);
        let text = write_history(recorder.operations());
        assert_eq!(parse_history(&text).unwrap(), recorder.operations(), "{text}");
        let first = r#"{"process":1,"op":"put","key":"k\\x00\\\\\"\\xff","value":"","status":"ok","start_ns":1,"end_ns":4}"#;
        assert_eq!(text.lines().next(), Some(first));
        assert!(text.ends_with("\"status\":\"info\",\"start_ns\":4,\"end_ns\":null}\n"), "{text}");
    }

    #[test]
    fn operations_come_in_the_order_in_which_they_began() {
        let line = |start: u64| {
            format!(
                r#"{{"process":0,"op":"delete","key":"k","value":null,"status":"ok","start_ns":{start},"end_ns":9}}"#
            )
        };
        let history = parse_history(&format!("{}\n\n{}\n", line(7), line(3))).unwrap();
        assert_eq!(history.iter().map(|operation| operation.invoked).collect::<Vec<_>>(), [3, 7]);
    }

    #[test]
    fn a_line_that_is_not_of_the_form_is_named_with_the_reason() {
        let good = r#"{"process":1,"op":"get","key":"k","value":null,"status":"ok","start_ns":1,"end_ns":2}"#;
        assert!(parse_history(good).is_ok());
        for (from, to, message) in [
            ("}", "", "not JSON"),
            (good, "[1]", "not an object"),
            ("\"process\":1,", "", "`process` is missing"),
            ("\"process\":1", "\"process\":-1", "`process` is -1"),
            ("\"k\"", "null", "`key` is null"),
            ("\"k\"", "\"\\\\y\"", "`key`: a backslash begins"),
            ("\"k\"", "\"\\\\x4\"", "two hexadecimal digits"),
            ("\"k\"", "\"\u{e9}\"", "other than graphic ASCII"),
            ("get", "scan", "`op` is \"scan\""),
            ("get", "put", "a put writes something"),
            ("get", "cas", "`expect` is missing"),
            ("null", "7", "`value` is 7"),
            ("ok", "done", "`status` is \"done\""),
            ("\"end_ns\":2", "\"end_ns\":0", "it ends before it begins"),
            ("\"end_ns\":2", "\"end_ns\":null", "`end_ns` is null"),
            ("ok", "info", "what is unknown has not ended"),
            (
                "\"end_ns\":2",
                "\"end_ns\":2,\"swapped\":true",
                "`swapped` does not belong to a get that is ok",
            ),
            ("null,\"status\":\"ok\"", "\"v\",\"status\":\"fail\"", "has found none"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = parse_history(&format!("{good}\n{}\n", good.replacen(from, to, 1))).unwrap_err();
            assert_eq!(error.line, 2);
            assert!(error.message.contains(message), "{error}: {message}");
        }
    }
}
