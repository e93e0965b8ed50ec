//! Reading a range.
//!
//! One cursor goes over the write records until a page is full, and then another one over the locks of what was passed, and
//! no further: where keys are written often, what is left in the engine of locks that are gone is many times what a page
//! holds. Of a key's versions a few are stepped over, and if there are more the cursor seeks: a key that was written often
//! costs a seek and not a step for each of its versions. Work is bounded, and what is left begins at a key that is told.

use crate::key::{after_versions, versioned, without_timestamp};
use crate::reader::{Behind, record_at};
use crate::{Lock, MvccReader, ReadError, SeededBug, View, Write};
use bytes::Bytes;
use engine::{Cf, EngineError, EngineIterator, Snapshot};
use types::{Key, KeyRange};

/// So many steps are tried before a seek, which costs about as much.
const STEPS_BEFORE_SEEK: usize = 8;

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
        let page = self.scan_records(range, direction, view, limits)?;
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
    fn scan_records(
        &self,
        range: &KeyRange,
        direction: Direction,
        view: &View,
        limits: ScanLimits,
    ) -> Result<ScanPage, EngineError> {
        let writes = Cursor::new(self.snapshot.iter(Cf::Write, range));
        let mut scan = Scan { reader: self, direction, view, writes };
        scan.writes.begin(direction)?;
        let mut page = ScanPage::default();
        let (mut bytes, mut passed) = (0, None);
        while let Some(key) = scan.next_key()? {
            let full =
                page.items.len() >= limits.items_max || (!page.items.is_empty() && bytes >= limits.bytes_max);
            let tired = passed.is_some() && scan.writes.steps >= limits.steps_max;
            if full || tired {
                page.rest = Some(rest_from(range, direction, &key, passed.as_ref()));
                break;
            }
            if let Some(item) = scan.read(&key)? {
                bytes += item.size_bytes();
                page.items.push(item);
            }
            passed = Some(key);
        }
        page.steps = scan.writes.steps;
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
    /// The key that was passed last had so many versions that a seek was needed.
    had_many: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(iter: Box<dyn EngineIterator + 'a>) -> Self {
        Self { iter, valid: false, steps: 0, had_many: false }
    }

    pub(crate) fn go(
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

    /// True if it is on a version of the key.
    pub(crate) fn is_of(&self, key: &[u8]) -> Result<bool, EngineError> {
        Ok(self.valid && without_timestamp(self.iter.key())?.0 == key)
    }

    /// Moves on to another key's versions, in the direction of the scan.
    pub(crate) fn pass(&mut self, key: &[u8], direction: Direction) -> Result<(), EngineError> {
        // Neighbours are mostly written about as often.
        let steps_max = if self.had_many { 1 } else { STEPS_BEFORE_SEEK };
        self.had_many = false;
        for _ in 0..steps_max {
            if !self.is_of(key)? {
                return Ok(());
            }
            self.step(direction)?;
        }
        if self.is_of(key)? {
            self.had_many = true;
            // No version is as short as the key: it stands before all of them, and behind its oldest one come the next's.
            match direction {
                Direction::Forward => self.go(|iter| iter.seek(&after_versions(key)))?,
                Direction::Backward => self.go(|iter| iter.seek_for_prev(key))?,
            }
        }
        Ok(())
    }
}

struct Scan<'a, S> {
    reader: &'a MvccReader<'a, S>,
    direction: Direction,
    view: &'a View,
    writes: Cursor<'a>,
}

impl<S: Snapshot> Scan<'_, S> {
    /// The key that comes next.
    fn next_key(&self) -> Result<Option<Key>, EngineError> {
        match self.writes.valid {
            true => Ok(Some(Bytes::copy_from_slice(without_timestamp(self.writes.iter.key())?.0))),
            false => Ok(None),
        }
    }

    /// What its records say of a key that comes next; the cursor passes it.
    fn read(&mut self, key: &Key) -> Result<Option<ScanItem>, EngineError> {
        let write = match self.direction {
            Direction::Forward => self.seen_forward(key)?,
            Direction::Backward => self.seen_backward(key)?,
        };
        let value = write.map_or(Ok(None), |write| self.reader.value(key, write))?;
        self.writes.pass(key, self.direction)?;
        Ok(value.map(|value| ScanItem { key: key.clone(), outcome: Ok(value) }))
    }

    /// The newest data that is seen, of a key at whose newest version the cursor is, or before whose versions.
    fn seen_forward(&mut self, key: &[u8]) -> Result<Option<Write>, EngineError> {
        let mut too_new = 0;
        while self.writes.is_of(key)? {
            let (commit_ts, write) = record_at(&*self.writes.iter)?;
            if commit_ts > self.view.at {
                too_new += 1;
                match too_new < STEPS_BEFORE_SEEK {
                    true => self.writes.step(Direction::Forward)?,
                    false => self.writes.go(|iter| iter.seek(&versioned(key, self.view.at)))?,
                }
            } else if write.is_data() {
                return Ok(Some(write));
            } else {
                self.writes.step(Direction::Forward)?;
            }
        }
        Ok(None)
    }

    /// The same, of a key at whose oldest version the cursor is.
    fn seen_backward(&mut self, key: &[u8]) -> Result<Option<Write>, EngineError> {
        let mut seen = None;
        for _ in 0..STEPS_BEFORE_SEEK {
            if !self.writes.is_of(key)? {
                return Ok(seen);
            }
            let (commit_ts, write) = record_at(&*self.writes.iter)?;
            if commit_ts > self.view.at {
                return Ok(seen);
            }
            if write.is_data() {
                seen = Some(write);
            }
            self.writes.step(Direction::Backward)?;
        }
        if self.writes.is_of(key)? {
            // Newer ones are nearer from the other side.
            self.writes.go(|iter| iter.seek(&versioned(key, self.view.at)))?;
            seen = self.seen_forward(key)?;
            // That may have left the key on the far side, where all has been read.
            self.writes.go(|iter| iter.seek_for_prev(key))?;
        }
        Ok(seen)
    }
}
