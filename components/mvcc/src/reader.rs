//! Reading one key.

use crate::key::{versioned, versions, without_timestamp};
use crate::{Bugs, Lock, LockKind, Newest, ReadError, SeededBug, Write, WriteKind};
use bytes::Bytes;
use engine::{Cf, EngineError, EngineIterator, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use types::{Key, Timestamp};

/// Who reads, and when.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct View {
    /// What was committed by then is seen.
    pub at: Timestamp,
    /// Transactions of which the reader knows that they were rolled back, or commit later: their locks hide nothing.
    pub resolved: BTreeSet<Timestamp>,
    /// Transactions of which the reader knows that they are committed, at `at` or earlier: what their locks say is seen.
    pub committed: BTreeSet<Timestamp>,
}

impl View {
    /// A reader who knows nothing of any transaction.
    #[must_use]
    pub fn at(at: Timestamp) -> Self {
        Self { at, ..Self::default() }
    }
}

/// What the records of a key say about one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// It committed.
    Committed {
        /// When.
        commit_ts: Timestamp,
        /// What it did.
        write: Write,
    },
    /// It was rolled back.
    RolledBack,
    /// Nothing.
    None,
}

/// What the records of a key say to a transaction that is about to write it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Past {
    /// What became of the transaction itself.
    pub own: Record,
    /// The newest record of a transaction that has written the key, or claimed it, since this one began.
    pub newer: Option<(Timestamp, Write)>,
    /// What was done to the key last.
    pub newest: Option<Newest>,
}

/// What a lock lets a reader see.
pub(crate) enum Behind {
    /// What the records say.
    Records,
    /// The value of the lock's own transaction.
    Value(Option<Bytes>),
}

/// Locks that stand in no engine, by key.
pub type HeldLocks = BTreeMap<Key, Lock>;

/// Of those who know of none.
static NONE_HELD: HeldLocks = BTreeMap::new();

/// Reads keys of a view of the engine.
pub struct MvccReader<'a, S> {
    pub(crate) snapshot: &'a S,
    pub(crate) held: &'a HeldLocks,
    bugs: Bugs,
}

impl<'a, S: Snapshot> MvccReader<'a, S> {
    /// Reads that view. Taken after whatever has to be seen was applied.
    #[must_use]
    pub fn new(snapshot: &'a S) -> Self {
        Self { snapshot, held: &NONE_HELD, bugs: Bugs::default() }
    }

    /// One that takes these locks for those of their keys, whatever the engine says of them. They reserve keys, so who reads
    /// values need not know of them.
    #[must_use]
    pub fn holding(self, held: &'a HeldLocks) -> Self {
        Self { held, ..self }
    }

    /// One that breaks rules on purpose, and has those break them who read through it.
    #[must_use]
    pub fn breaking(self, bugs: Bugs) -> Self {
        Self { bugs, ..self }
    }

    /// True if the rule is broken.
    #[must_use]
    pub fn breaks(&self, rule: SeededBug) -> bool {
        self.bugs.has(rule)
    }

    /// The lock of a key.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn lock(&self, key: &[u8]) -> Result<Option<Lock>, EngineError> {
        match self.held.get(key) {
            Some(lock) => Ok(Some(lock.clone())),
            None => self.lock_in_engine(key),
        }
    }

    /// The lock that the engine has of a key.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn lock_in_engine(&self, key: &[u8]) -> Result<Option<Lock>, EngineError> {
        self.snapshot.get(Cf::Lock, key)?.map(|bytes| Lock::read(&bytes)).transpose()
    }

    /// The value of a key; `None` if it has none there.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn get(&self, key: &Key, view: &View) -> Result<Option<Bytes>, ReadError> {
        if let Some(lock) = self.lock(key)?
            && !self.breaks(SeededBug::GetIgnoresLocks)
            && let Behind::Value(value) = self.behind(key, lock, view)?
        {
            return Ok(value);
        }
        Ok(self.value_at(key, view.at)?)
    }

    /// What was done to a key last.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn newest(&self, key: &[u8]) -> Result<Option<Newest>, EngineError> {
        self.snapshot.get(Cf::Newest, key)?.map(|bytes| Newest::read(&bytes)).transpose()
    }

    /// The record of a key that stands at exactly this timestamp, where this was done to the key last.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn write_at(
        &self,
        key: &[u8],
        newest: Option<&Newest>,
        at: Timestamp,
    ) -> Result<Option<Write>, EngineError> {
        match newest {
            Some(newest) if newest.commit_ts == at => Ok(newest.write.clone()),
            Some(newest) if at <= newest.last() => {
                let bytes = self.snapshot.get(Cf::Write, &versioned(key, at))?;
                bytes.map(|bytes| Write::read(&bytes)).transpose()
            }
            Some(_) | None => Ok(None),
        }
    }

    /// The newest value that was committed at or before `at`, whatever locks there are; `None` if there is none.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn value_at(&self, key: &[u8], at: Timestamp) -> Result<Option<Bytes>, EngineError> {
        self.data_at(key, at)?.map_or(Ok(None), |(_, write)| self.value(key, write))
    }

    /// What was done last to the data of a key at or before `at`.
    pub(crate) fn data_at(
        &self,
        key: &[u8],
        at: Timestamp,
    ) -> Result<Option<(Timestamp, Write)>, EngineError> {
        let newest = self.newest(key)?;
        newest.map_or(Ok(None), |newest| self.data_by(key, newest, at, &mut 0))
    }

    /// The same, where this was done to the key last. Moves of a cursor are added to `steps`.
    pub(crate) fn data_by(
        &self,
        key: &[u8],
        newest: Newest,
        at: Timestamp,
        steps: &mut usize,
    ) -> Result<Option<(Timestamp, Write)>, EngineError> {
        let Some(write) = newest.write else { return Ok(None) };
        if newest.commit_ts <= at {
            return Ok(Some((newest.commit_ts, write)));
        }
        let mut range = versions(key, at);
        *steps += 1;
        let Some((first, value)) = self.snapshot.first(Cf::Write, &range)? else { return Ok(None) };
        let record = (without_timestamp(&first)?.1, Write::read(&value)?);
        // Mostly it is the first.
        if record.1.is_data() {
            return Ok(Some(record));
        }
        range.start = first;
        let mut iter = self.snapshot.iter(Cf::Write, &range);
        let mut valid = iter.seek_to_first();
        while valid {
            *steps += 1;
            let record = record_at(&*iter)?;
            if record.1.is_data() {
                return Ok(Some(record));
            }
            valid = iter.next();
        }
        iter.status()?;
        Ok(None)
    }

    /// All that happened to a key, the newest first.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn records(&self, key: &[u8]) -> Result<Records<'_>, EngineError> {
        let newest = self.newest(key)?;
        Ok(self.records_of(key, newest.as_ref()))
    }

    fn records_of(&self, key: &[u8], newest: Option<&Newest>) -> Records<'_> {
        let mut older = self.snapshot.iter(Cf::Write, &versions(key, Timestamp(u64::MAX)));
        let valid = older.seek_to_first();
        let newest = newest.and_then(|newest| Some((newest.commit_ts, newest.write.clone()?)));
        Records { newest, older, valid }
    }

    /// What became of the transaction that began at `start_ts`, as far as this key tells. Its commit, if there is one, is
    /// newer than its start.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn record_of(&self, key: &[u8], start_ts: Timestamp) -> Result<Record, EngineError> {
        Ok(self.past(key, start_ts)?.own)
    }

    /// What has happened to a key since a transaction began that is about to write it. Nobody newer is told of if `own` is
    /// not [`Record::None`].
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn past(&self, key: &[u8], start_ts: Timestamp) -> Result<Past, EngineError> {
        let newest = self.newest(key)?;
        let mut past = Past { own: Record::None, newer: None, newest };
        // Mostly nothing has happened to it since.
        let Some(newest) = past.newest.as_ref().filter(|newest| newest.last() >= start_ts) else {
            return Ok(past);
        };
        let mut records = self.records_of(key, Some(newest));
        while let Some((commit_ts, write)) = records.next()?
            && commit_ts >= start_ts
        {
            if write.start_ts == start_ts {
                past.own = match write.kind {
                    WriteKind::Rollback => Record::RolledBack,
                    WriteKind::Put | WriteKind::Delete | WriteKind::Lock => {
                        Record::Committed { commit_ts, write }
                    }
                };
                return Ok(past);
            }
            if commit_ts == start_ts && write.overlapped_rollback {
                past.own = Record::RolledBack;
                return Ok(past);
            }
            // Rollbacks change nothing, so they are in nobody's way.
            if past.newer.is_none() && commit_ts > start_ts && write.kind != WriteKind::Rollback {
                past.newer = Some((commit_ts, write));
            }
        }
        Ok(past)
    }

    /// What is seen past a lock.
    pub(crate) fn behind(&self, key: &[u8], lock: Lock, view: &View) -> Result<Behind, ReadError> {
        if !lock.hides(key, view.at) || view.resolved.contains(&lock.start_ts) {
            return Ok(Behind::Records);
        }
        if self.breaks(SeededBug::CommittedLockUnseen) && view.committed.contains(&lock.start_ts) {
            return Ok(Behind::Records);
        }
        if !view.committed.contains(&lock.start_ts) {
            return Err(ReadError::Locked { key: Bytes::copy_from_slice(key), lock: Box::new(lock) });
        }
        Ok(Behind::Value(self.locked_value(key, &lock)?))
    }

    /// The value that a lock's transaction gives to the key; `None` if it gives none.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn locked_value(&self, key: &[u8], lock: &Lock) -> Result<Option<Bytes>, EngineError> {
        match lock.kind {
            LockKind::Put => {
                let write = Write {
                    short_value: lock.short_value.clone(),
                    ..Write::new(WriteKind::Put, lock.start_ts)
                };
                self.value(key, write)
            }
            LockKind::Delete | LockKind::Lock | LockKind::Pessimistic => Ok(None),
        }
    }

    /// The value that a record of data stands for.
    pub(crate) fn value(&self, key: &[u8], write: Write) -> Result<Option<Bytes>, EngineError> {
        match (write.kind, write.short_value) {
            (WriteKind::Put, Some(value)) => Ok(Some(value)),
            (WriteKind::Put, None) => {
                let value = self.snapshot.get(Cf::Default, &versioned(key, write.start_ts))?;
                let missing = || EngineError::Corrupt("a committed value is missing".to_owned());
                value.map(Some).ok_or_else(missing)
            }
            _ => Ok(None),
        }
    }
}

/// What happened to one key.
pub struct Records<'a> {
    /// What was done to its data last, until it is told.
    newest: Option<(Timestamp, Write)>,
    older: Box<dyn EngineIterator + 'a>,
    valid: bool,
}

impl Records<'_> {
    /// What happened before what was told last, and when.
    ///
    /// # Errors
    /// [`EngineError`].
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot be asked again after an error")]
    pub fn next(&mut self) -> Result<Option<(Timestamp, Write)>, EngineError> {
        let older = if self.valid { Some(record_at(&*self.older)?) } else { None };
        let newest = self.newest.take_if(|(at, _)| older.as_ref().is_none_or(|(older, _)| *older <= *at));
        // A removal stands in both places, and so may a rollback that is noted in the commit at its timestamp.
        let is_told =
            newest.as_ref().is_none_or(|(at, _)| older.as_ref().is_some_and(|(older, _)| older == at));
        if self.valid && is_told {
            self.valid = self.older.next();
        }
        if !self.valid {
            self.older.status()?;
        }
        Ok(newest.or(older))
    }
}

/// The record under a position.
pub(crate) fn record_at(iter: &dyn EngineIterator) -> Result<(Timestamp, Write), EngineError> {
    let (_, commit_ts) = without_timestamp(iter.key())?;
    Ok((commit_ts, Write::read(&Bytes::copy_from_slice(iter.value()))?))
}
