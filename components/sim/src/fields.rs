//! Lines of `name=value` words, read strictly: what is missing, unknown or said twice is an error.

use crate::kernel::NodeId;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a line cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable(pub String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// The fields of a line that nobody has asked for yet.
pub(crate) struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    pub(crate) fn parse(words: impl Iterator<Item = &'a str>) -> Result<Self, Unreadable> {
        let mut fields = BTreeMap::new();
        for word in words {
            let (name, value) =
                word.split_once('=').ok_or_else(|| Unreadable(format!("{word:?} is not name=value")))?;
            if fields.insert(name, value).is_some() {
                return Err(Unreadable(format!("{name} is said twice")));
            }
        }
        Ok(Self(fields))
    }

    /// All that were given must have been asked for.
    pub(crate) fn end(self) -> Result<(), Unreadable> {
        match self.0.keys().next() {
            Some(name) => Err(Unreadable(format!("nothing here is called {name:?}"))),
            None => Ok(()),
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<&'a str, Unreadable> {
        self.0.remove(name).ok_or_else(|| Unreadable(format!("{name} is missing")))
    }

    /// Whether somebody has given this.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn number<T: FromStr>(&mut self, name: &str) -> Result<T, Unreadable> {
        let text = self.text(name)?;
        text.parse().map_err(|_| Unreadable(format!("{name}: {text:?} is not a number that fits")))
    }

    /// A number that older text does not have; zero then.
    pub(crate) fn added_number<T: FromStr + Default>(&mut self, name: &str) -> Result<T, Unreadable> {
        if self.0.contains_key(name) { self.number(name) } else { Ok(T::default()) }
    }

    /// A duration that older text does not have; zero then.
    pub(crate) fn added_duration(&mut self, name: &str) -> Result<Duration, Unreadable> {
        if self.0.contains_key(name) { self.duration(name) } else { Ok(Duration::ZERO) }
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Unreadable> {
        let text = self.text(name)?;
        text.parse().map_err(|_| Unreadable(format!("{name}: {text:?} is neither true nor false")))
    }

    pub(crate) fn node(&mut self, name: &str) -> Result<NodeId, Unreadable> {
        self.number(name).map(NodeId)
    }

    pub(crate) fn duration(&mut self, name: &str) -> Result<Duration, Unreadable> {
        let text = self.text(name)?;
        parse_duration(text)
            .ok_or_else(|| Unreadable(format!("{name}: {text:?} is not seconds with nine digits at most")))
    }

    pub(crate) fn directions(&mut self, name: &str) -> Result<Vec<(NodeId, NodeId)>, Unreadable> {
        let text = self.text(name)?;
        let one = |pair: &str| {
            let (from, to) = pair.split_once('>')?;
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            (from != to).then_some((NodeId(from), NodeId(to)))
        };
        let pairs: Option<Vec<_>> = text.split(',').map(one).collect();
        pairs.ok_or_else(|| Unreadable(format!("{name}: {text:?} is not from>to, and so on")))
    }
}

/// Directions as they are read by [`Fields::directions`].
pub(crate) fn nodes_text(directions: &[(NodeId, NodeId)]) -> String {
    let pairs: Vec<String> = directions.iter().map(|(from, to)| format!("{}>{}", from.0, to.0)).collect();
    pairs.join(",")
}

/// Seconds, to the nanosecond.
pub(crate) fn duration_text(duration: Duration) -> String {
    format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos())
}

pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // Two hundred years: what follows from it does not overflow.
    let seconds: u64 = seconds.parse().ok().filter(|seconds| *seconds < 6_000_000_000)?;
    if fraction.len() > 9 || !is_digits(fraction) {
        return None;
    }
    let nanos = if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse().ok()? };
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_as_it_was_written() {
        for nanos in [0, 1, 999_999_999, 1_000_000_000, 86_400_123_456_789] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
        }
        assert_eq!(parse_duration("1.5"), Some(Duration::from_millis(1_500)));
        for text in ["", "-1", "1.2.3", "1.0000000001", "1.-5", "99999999999", "1e3"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_missing_unknown_or_said_twice_is_told() {
        let read = |line: &'static str| -> Result<u64, Unreadable> {
            let mut fields = Fields::parse(line.split(' '))?;
            let number = fields.number("a")?;
            fields.end()?;
            Ok(number)
        };
        assert_eq!(read("a=7"), Ok(7));
        let wrong = [
            ("b=7", "a is missing"),
            ("a=7 b=8", "nothing here is called \"b\""),
            ("a=7 a=8", "a is said twice"),
            ("a=-1", "a: \"-1\" is not a number that fits"),
            ("a", "\"a\" is not name=value"),
        ];
        for (line, why) in wrong {
            assert_eq!(read(line), Err(Unreadable(why.to_owned())), "{line}");
        }
    }
}
