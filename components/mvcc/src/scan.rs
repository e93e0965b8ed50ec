//! Reading a range.
//!
//! Two cursors go side by side, one over locks and one over write records; whichever is at the earlier key says what is
//! next. Of a key's versions a few are stepped over, and if there are more the cursor seeks: a key that was written often
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

/// A key that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScanItem {
    /// The key.
    pub key: Key,
    /// Its value; or the lock that hides it, and then only this key has to be read again.
    pub outcome: Result<Bytes, Box<Lock>>,
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
        let mut scan = Scan {
            reader: self,
            direction,
            view,
            locks: Cursor::new(self.snapshot.iter(Cf::Lock, range)),
            writes: Cursor::new(self.snapshot.iter(Cf::Write, range)),
        };
        for cursor in [&mut scan.locks, &mut scan.writes] {
            cursor.go(|iter| match direction {
                Direction::Forward => iter.seek_to_first(),
                Direction::Backward => iter.seek_to_last(),
            })?;
        }
        let mut page = ScanPage::default();
        let (mut bytes, mut passed) = (0, None);
        while let Some(key) = scan.next_key()? {
            let full =
                page.items.len() >= limits.items_max || (!page.items.is_empty() && bytes >= limits.bytes_max);
            let tired = passed.is_some() && scan.steps() >= limits.steps_max;
            if full || tired {
                page.rest = Some(match direction {
                    Direction::Forward => KeyRange::new(key, range.end.clone()),
                    Direction::Backward => {
                        KeyRange::new(range.start.clone(), passed.unwrap_or_else(|| range.end.clone()))
                    }
                });
                break;
            }
            if let Some(item) = scan.read(&key)? {
                bytes += item.size_bytes();
                page.items.push(item);
            }
            passed = Some(key);
        }
        page.steps = scan.steps();
        Ok(page)
    }
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

    pub(crate) fn go(
        &mut self,
        movement: impl FnOnce(&mut (dyn EngineIterator + 'a)) -> bool,
    ) -> Result<(), EngineError> {
        self.steps += 1;
        self.valid = movement(&mut *self.iter);
        if self.valid { Ok(()) } else { self.iter.status() }
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
        for _ in 0..STEPS_BEFORE_SEEK {
            if !self.is_of(key)? {
                return Ok(());
            }
            self.step(direction)?;
        }
        if self.is_of(key)? {
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
    locks: Cursor<'a>,
    writes: Cursor<'a>,
}

impl<S: Snapshot> Scan<'_, S> {
    fn steps(&self) -> usize {
        self.locks.steps + self.writes.steps
    }

    /// The key that comes next.
    fn next_key(&self) -> Result<Option<Key>, EngineError> {
        let locked = self.locks.valid.then(|| self.locks.iter.key());
        let written = match self.writes.valid {
            true => Some(without_timestamp(self.writes.iter.key())?.0),
            false => None,
        };
        let next = match (locked, written) {
            (Some(locked), Some(written)) => Some(match self.direction {
                Direction::Forward => locked.min(written),
                Direction::Backward => locked.max(written),
            }),
            (one, other) => one.or(other),
        };
        Ok(next.map(Bytes::copy_from_slice))
    }

    /// What is seen of a key that comes next; the cursors pass it.
    fn read(&mut self, key: &Key) -> Result<Option<ScanItem>, EngineError> {
        let lock = match self.locks.valid && self.locks.iter.key() == key {
            true => Some(Lock::read(&Bytes::copy_from_slice(self.locks.iter.value()))?),
            false => None,
        };
        if lock.is_some() {
            self.locks.step(self.direction)?;
        }
        let lock = lock.filter(|_| !self.reader.breaks(SeededBug::ScanIgnoresLocks));
        let behind = lock.map_or(Ok(Behind::Records), |lock| self.reader.behind(key, lock, self.view));
        let outcome = match behind {
            Ok(Behind::Value(value)) => value.map(Ok),
            Err(ReadError::Locked { lock, .. }) => Some(Err(lock)),
            Err(ReadError::Engine(error)) => return Err(error),
            Ok(Behind::Records) => {
                let write = match self.direction {
                    Direction::Forward => self.seen_forward(key)?,
                    Direction::Backward => self.seen_backward(key)?,
                };
                write.map_or(Ok(None), |write| self.reader.value(key, write))?.map(Ok)
            }
        };
        self.writes.pass(key, self.direction)?;
        Ok(outcome.map(|outcome| ScanItem { key: key.clone(), outcome }))
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
