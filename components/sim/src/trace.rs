//! What happened: always as one number, on request as text.

use crate::time::SimTime;
use std::collections::VecDeque;
use std::fmt;

/// A 64-bit fold of everything that happened in a run. Two runs of one seed must end with the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl TraceHash {
    /// Folds a number in.
    pub fn fold(&mut self, word: u64) {
        // One round of a multiply-xorshift mix: every bit of the state and of the word reaches the whole result.
        let mut z = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        z ^= z >> 32;
        self.0 = z.wrapping_mul(0xc4ce_b9fe_1a85_ec53).rotate_left(23);
    }

    /// Folds bytes in, with their length.
    pub fn fold_bytes(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    /// The fold so far.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where the text of a trace goes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum TraceMode {
    /// Nowhere; no text is made.
    #[default]
    Off,
    /// Kept: the last so many lines.
    Tail(usize),
    /// To the standard output, as it happens.
    Print,
}

/// The trace of a run: hash and, if asked for, text.
#[derive(Debug)]
pub struct Trace {
    hash: TraceHash,
    mode: TraceMode,
    /// Only lines that hold this text.
    filter: Option<String>,
    tail: VecDeque<String>,
    events: u64,
}

impl Trace {
    /// A trace in this mode; with a filter, lines are kept only if they hold that text.
    #[must_use]
    pub fn new(mode: TraceMode, filter: Option<String>) -> Self {
        Self { hash: TraceHash::default(), mode, filter, tail: VecDeque::new(), events: 0 }
    }

    /// An event happened; `words` tell it from all others.
    pub fn event(&mut self, now: SimTime, words: &[u64]) {
        self.events += 1;
        self.hash.fold(now.0);
        for word in words {
            self.hash.fold(*word);
        }
    }

    /// A line of text, made only if somebody wants it.
    pub fn line(&mut self, now: SimTime, text: impl FnOnce() -> String) {
        if self.mode == TraceMode::Off {
            return;
        }
        let line = format!("{now} #{} {}", self.events, text());
        if self.filter.as_ref().is_some_and(|wanted| !line.contains(wanted.as_str())) {
            return;
        }
        match self.mode {
            TraceMode::Off => {}
            TraceMode::Print => println!("{line}"),
            TraceMode::Tail(most) => {
                if self.tail.len() >= most {
                    self.tail.pop_front();
                }
                self.tail.push_back(line);
            }
        }
    }

    /// True if text is wanted at all.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.mode != TraceMode::Off
    }

    /// The hash, to be folded into by whoever has something to tell apart.
    pub fn hash_mut(&mut self) -> &mut TraceHash {
        &mut self.hash
    }

    /// The fold of all events so far.
    #[must_use]
    pub const fn hash(&self) -> TraceHash {
        self.hash
    }

    /// How many events there were.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The lines kept by [`TraceMode::Tail`], oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_order_and_length_apart() {
        let fold = |words: &[u64]| {
            let mut hash = TraceHash::default();
            words.iter().for_each(|word| hash.fold(*word));
            hash
        };
        assert_ne!(fold(&[1, 2]), fold(&[2, 1]));
        assert_ne!(fold(&[0]), fold(&[0, 0]));
        let mut one = TraceHash::default();
        let mut other = TraceHash::default();
        one.fold_bytes(b"a\0");
        other.fold_bytes(b"a");
        assert_ne!(one, other);
    }

    #[test]
    fn a_tail_keeps_the_last_lines_that_pass_the_filter() {
        let mut trace = Trace::new(TraceMode::Tail(2), Some("yes".to_owned()));
        for text in ["yes 1", "no", "yes 2", "yes 3"] {
            trace.event(SimTime::ZERO, &[]);
            trace.line(SimTime::ZERO, || text.to_owned());
        }
        let kept: Vec<_> = trace.tail().collect();
        assert_eq!(kept, ["0.000000s #3 yes 2", "0.000000s #4 yes 3"]);
    }
}
