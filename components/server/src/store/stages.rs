//! Where the time of a request went: from stamps that were taken on its way to what its asker, or the log, is told.
//!
//! Stamps are arguments, taken once for a batch and carried along with it. Only for a request that asks, or that was slow,
//! are they put together.

use super::answers::Answer;
use super::counters::Method;
use raftstore::{EntryTimes, LogTimes};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;
use types::{MonoTime, RegionId, StoreId};
use wire::kv::{KvPair, KvReply};
use wire::trace::{Span, Stage, Trace};

/// Slow requests that are logged, at most, in each [`WINDOW`]; of the others it is said how many there were.
const LINES_MAX: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);

/// What was stamped on the way of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// Nothing: it was refused, or is no request of data.
    Unknown,
    /// Through the log.
    Applied {
        entry: EntryTimes,
        /// The applier took it.
        begun: MonoTime,
        /// It was in the engine.
        written: MonoTime,
    },
    /// A read.
    Read {
        /// A lease allowed it; otherwise a quorum was asked.
        by_lease: bool,
        /// It was begun.
        begun: MonoTime,
    },
}

impl Way {
    /// The stages of a request that arrived at `since` and is answered `now`; those that were not stamped are left out.
    fn spans(self, since: MonoTime, now: MonoTime) -> Vec<Span> {
        let mut spans = Vec::with_capacity(Stage::ALL.len());
        let mut push = |stage, begin: MonoTime, end: MonoTime| {
            if begin > MonoTime::ZERO && end > MonoTime::ZERO {
                spans.push(Span {
                    stage,
                    begin_us: micros(begin.since(since)),
                    took_us: micros(end.since(begin)),
                });
            }
        };
        match self {
            Self::Unknown => {}
            Self::Applied { entry: EntryTimes { proposed, log, committed }, begun, written } => {
                let LogTimes { handed, begun: log_begun, durable } = log;
                push(Stage::Queue, since, proposed);
                push(Stage::Propose, proposed, handed);
                push(Stage::LogWait, handed, log_begun);
                push(Stage::LogSync, log_begun, durable);
                push(Stage::Replicate, handed, committed);
                push(Stage::Commit, committed, begun);
                push(Stage::Apply, begun, written);
                push(Stage::Reply, written, now);
            }
            Self::Read { by_lease, begun } => {
                push(if by_lease { Stage::Queue } else { Stage::Confirm }, since, begun);
                push(Stage::Read, begun, now);
            }
        }
        spans
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What is known of a request when it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) region_id: RegionId,
    pub(crate) method: Method,
    /// Bytes that it writes.
    pub(crate) bytes: usize,
    /// When it arrived.
    pub(crate) since: MonoTime,
}

/// Tells where time went, and knows what is slow.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    store_id: StoreId,
    /// Requests that take so long are logged.
    pub(crate) slow: Duration,
    lines: Mutex<Lines>,
}

/// How many lines were written in the window that began last.
#[derive(Default, Debug)]
pub(crate) struct Lines {
    begun: MonoTime,
    written: u32,
    left_out: u64,
}

impl Lines {
    /// Whether there is room for one more, and if so how many were left out before it.
    pub(crate) fn next(&mut self, now: MonoTime) -> Option<u64> {
        if now.since(self.begun) >= WINDOW {
            (self.begun, self.written) = (now, 0);
        }
        if self.written == LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Stopwatch {
    /// Of this store; requests are slow from `slow` on, none if that is zero.
    pub(crate) fn new(store_id: StoreId, slow: Duration) -> Self {
        let slow = if slow.is_zero() { Duration::MAX } else { slow };
        Self { store_id, slow, lines: Mutex::default() }
    }

    /// What an asker is told who wanted to know.
    pub(crate) fn trace(&self, asked: Asked, way: Way, now: MonoTime) -> Trace {
        let Asked { region_id, since, .. } = asked;
        let took_us = micros(now.since(since));
        Trace { store_id: self.store_id, region_id, took_us, spans: way.spans(since, now) }
    }

    /// Logs a request that was slow, unless too many were of late. Keys and values stay out.
    pub(crate) fn log(&self, asked: Asked, answer: &Answer, way: Way, now: MonoTime) {
        let room = self.lines.lock().expect("no one panics while counting lines").next(now);
        let Some(left_out) = room else { return };
        let Asked { region_id, method, bytes, since } = asked;
        tracing::warn!(
            region_id = region_id.get(),
            method = method.label(),
            request_bytes = bytes,
            answer_bytes = answer_bytes(answer),
            took_us = micros(now.since(since)),
            stages_us = stages(&way.spans(since, now)),
            outcome = if answer.is_ok() { "ok" } else { "refused" },
            left_out,
            "slow request"
        );
    }
}

/// The stages as text: `queue 12, propose 30`.
fn stages(spans: &[Span]) -> String {
    let mut text = String::new();
    for span in spans {
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{} {}", span.stage.name(), span.took_us).expect("a string takes all");
    }
    text
}

fn answer_bytes(answer: &Answer) -> usize {
    let len = |value: &Option<bytes::Bytes>| value.as_ref().map_or(0, bytes::Bytes::len);
    match answer {
        Ok(KvReply::Value(value)) => len(value),
        Ok(KvReply::Values(values)) => values.iter().map(len).sum(),
        Ok(KvReply::Page { pairs, .. }) => {
            pairs.iter().map(|KvPair { key, value, .. }| key.len() + value.len()).sum()
        }
        Ok(KvReply::Swapped { previous, .. }) => len(previous),
        _ => 0,
    }
}
