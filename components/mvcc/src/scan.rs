//! Reading a range.
//!
//! One cursor goes over the newest versions until a page is full, and then another one over the locks of what was passed,
//! and no further: where keys are written often, what is left in the engine of locks that are gone is many times what a page
//! holds. A key whose newest version came too late for the reader costs a seek among the older ones. Work is bounded, and
//! what is left begins at a key that is told.

use crate::reader::Behind;
use crate::{Lock, MvccReader, Newest, ReadError, SeededBug, View};
use bytes::Bytes;
use engine::{Cf, EngineError, EngineIterator, Snapshot};
use types::{Key, KeyRange};

/// Which way a scan goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the range's start on.
    Forward,
    /// From before the range's end on, towards its start.
    Backward,
}

/// How much a scan may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanLimits {
    /// Items returned.
    pub items_max: usize,
    /// Bytes of keys and values returned, at least one item whatever it weighs.
    pub bytes_max: usize,
    /// Moves of the cursors, what is not seen included; at least one key is passed.
    pub steps_max: usize,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self { items_max: usize::MAX, bytes_max: usize::MAX, steps_max: usize::MAX }
    }
}

/// A key's value; or the lock that hides it.
type Outcome = Result<Bytes, Box<Lock>>;

/// A key that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScanItem {
    /// The key.
    pub key: Key,
    /// Its value; or the lock that hides it, and then only this key has to be read again.
    pub outcome: Outcome,
}

impl ScanItem {
    fn size_bytes(&self) -> usize {
        self.key.len() + self.outcome.as_ref().map_or(0, Bytes::len)
    }
}

/// A part of a range.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ScanPage {
    /// What was found, in the order of the scan.
    pub items: Vec<ScanItem>,
    /// What is left of the range; `None` when nothing is.
    pub rest: Option<KeyRange>,
    /// Moves of the cursors that it took.
    pub steps: usize,
}

impl<S: Snapshot> MvccReader<'_, S> {
    /// The keys of `range` that have a value, or a lock that hides whether they have one.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        view: &View,
        limits: ScanLimits,
    ) -> Result<ScanPage, EngineError> {
        let page = self.scan_versions(range, direction, view, limits)?;
        let seen = match (&page.rest, direction) {
            (Some(rest), _) if rest == range => return Ok(page),
            (None, _) => range.clone(),
            (Some(rest), Direction::Forward) => KeyRange::new(range.start.clone(), rest.start.clone()),
            (Some(rest), Direction::Backward) => KeyRange::new(rest.end.clone(), range.end.clone()),
        };
        if self.breaks(SeededBug::ScanIgnoresLocks) {
            return Ok(page);
        }
        let steps_max = limits.steps_max.saturating_sub(page.steps);
        let behind = self.behind_locks(&seen, direction, view, steps_max)?;
        match behind.outcomes.is_empty() && behind.unseen.is_none() {
            true => Ok(ScanPage { steps: page.steps + behind.steps, ..page }),
            false => Ok(merge(range, direction, limits, page, behind)),
        }
    }

    /// The same as if there were no locks.
    fn scan_versions(
        &self,
        range: &KeyRange,
        direction: Direction,
        view: &View,
        limits: ScanLimits,
    ) -> Result<ScanPage, EngineError> {
        let mut newest = Cursor::new(self.snapshot.iter(Cf::Newest, range));
        newest.begin(direction)?;
        let mut page = ScanPage::default();
        let (mut bytes, mut passed, mut steps) = (0, None, 0);
        while newest.valid {
            let key = Bytes::copy_from_slice(newest.iter.key());
            let full =
                page.items.len() >= limits.items_max || (!page.items.is_empty() && bytes >= limits.bytes_max);
            let tired = passed.is_some() && newest.steps + steps >= limits.steps_max;
            if full || tired {
                page.rest = Some(rest_from(range, direction, &key, passed.as_ref()));
                break;
            }
            let version = Newest::read(&Bytes::copy_from_slice(newest.iter.value()))?;
            if let Some((_, write)) = self.data_by(&key, version, view.at, &mut steps)?
                && let Some(value) = self.value(&key, write)?
            {
                let item = ScanItem { key: key.clone(), outcome: Ok(value) };
                bytes += item.size_bytes();
                page.items.push(item);
            }
            passed = Some(key);
            newest.step(direction)?;
        }
        page.steps = newest.steps + steps;
        Ok(page)
    }

    /// What locks let be seen where they do not leave it to the records.
    fn behind_locks(
        &self,
        range: &KeyRange,
        direction: Direction,
        view: &View,
        steps_max: usize,
    ) -> Result<BehindLocks, EngineError> {
        let mut locks = Cursor::new(self.snapshot.iter(Cf::Lock, range));
        locks.begin(direction)?;
        let mut behind = BehindLocks::default();
        while locks.valid {
            let key = Bytes::copy_from_slice(locks.iter.key());
            if behind.passed.is_some() && locks.steps >= steps_max {
                behind.unseen = Some(key);
                break;
            }
            let lock = Lock::read(&Bytes::copy_from_slice(locks.iter.value()))?;
            match self.behind(&key, lock, view) {
                Ok(Behind::Records) => {}
                Ok(Behind::Value(value)) => behind.outcomes.push((key.clone(), value.map(Ok))),
                Err(ReadError::Locked { lock, .. }) => behind.outcomes.push((key.clone(), Some(Err(lock)))),
                Err(ReadError::Engine(error)) => return Err(error),
            }
            behind.passed = Some(key);
            locks.step(direction)?;
        }
        behind.steps = locks.steps;
        Ok(behind)
    }
}

/// What locks let be seen, in the order of the scan.
#[derive(Default)]
struct BehindLocks {
    outcomes: Vec<(Key, Option<Outcome>)>,
    /// The last lock that was looked at.
    passed: Option<Key>,
    /// The next one: it was not.
    unseen: Option<Key>,
    steps: usize,
}

/// What is left of a range whose key `next` is the next one, after `passed`.
fn rest_from(range: &KeyRange, direction: Direction, next: &Key, passed: Option<&Key>) -> KeyRange {
    match direction {
        Direction::Forward => KeyRange::new(next.clone(), range.end.clone()),
        Direction::Backward => KeyRange::new(range.start.clone(), passed.unwrap_or(&range.end).clone()),
    }
}

/// A page of records as it is seen behind locks.
fn merge(
    range: &KeyRange,
    direction: Direction,
    limits: ScanLimits,
    page: ScanPage,
    behind: BehindLocks,
) -> ScanPage {
    let is_before = |one: &Key, other: &Key| match direction {
        Direction::Forward => one < other,
        Direction::Backward => one > other,
    };
    let mut merged = ScanPage { steps: page.steps + behind.steps, rest: page.rest, items: Vec::new() };
    let (mut records, mut outcomes) =
        (page.items.into_iter().peekable(), behind.outcomes.into_iter().peekable());
    let (mut bytes, mut passed) = (0, None);
    loop {
        let is_locked = match (records.peek(), outcomes.peek()) {
            (None, None) => break,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(item), Some((key, _))) => !is_before(&item.key, key),
        };
        let next = match is_locked {
            true => outcomes.peek().map(|(key, _)| key),
            false => records.peek().map(|item| &item.key),
        };
        let next = next.expect("one of them has more").clone();
        if behind.unseen.as_ref().is_some_and(|unseen| !is_before(&next, unseen)) {
            break;
        }
        let full =
            merged.items.len() >= limits.items_max || (!merged.items.is_empty() && bytes >= limits.bytes_max);
        if full {
            merged.rest = Some(rest_from(range, direction, &next, passed.as_ref()));
            return merged;
        }
        let item = match is_locked {
            false => records.next(),
            true => {
                drop(records.next_if(|item| item.key == next));
                let outcome = outcomes.next().and_then(|(_, outcome)| outcome);
                outcome.map(|outcome| ScanItem { key: next.clone(), outcome })
            }
        };
        if let Some(item) = item {
            bytes += item.size_bytes();
            merged.items.push(item);
        }
        passed = Some(next);
    }
    if let Some(unseen) = &behind.unseen {
        // The last lock that was looked at may lie closer to it than what is seen.
        let last = match (passed, behind.passed) {
            (Some(one), Some(other)) => Some(if is_before(&one, &other) { other } else { one }),
            (one, other) => one.or(other),
        };
        merged.rest = Some(rest_from(range, direction, unseen, last.as_ref()));
    }
    merged
}

/// An iterator that knows whether it is on a key, and how often it was moved.
pub(crate) struct Cursor<'a> {
    pub(crate) iter: Box<dyn EngineIterator + 'a>,
    pub(crate) valid: bool,
    pub(crate) steps: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(iter: Box<dyn EngineIterator + 'a>) -> Self {
        Self { iter, valid: false, steps: 0 }
    }

    fn go(
        &mut self,
        movement: impl FnOnce(&mut (dyn EngineIterator + 'a)) -> bool,
    ) -> Result<(), EngineError> {
        self.steps += 1;
        self.valid = movement(&mut *self.iter);
        if self.valid { Ok(()) } else { self.iter.status() }
    }

    /// Goes to the first key of a direction.
    pub(crate) fn begin(&mut self, direction: Direction) -> Result<(), EngineError> {
        self.go(|iter| match direction {
            Direction::Forward => iter.seek_to_first(),
            Direction::Backward => iter.seek_to_last(),
        })
    }

    pub(crate) fn step(&mut self, direction: Direction) -> Result<(), EngineError> {
        self.go(|iter| match direction {
            Direction::Forward => iter.next(),
            Direction::Backward => iter.prev(),
        })
    }
}
