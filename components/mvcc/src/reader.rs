//! Reading one key.

use crate::key::{versioned, versions, without_timestamp};
use crate::{Bugs, Lock, LockKind, ReadError, SeededBug, Write, WriteKind};
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
    /// When the newest record of any kind is; zero if there is none.
    pub newest: Timestamp,
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
        Ok(self.newest_value(key, view.at)?)
    }

    /// The record of a key that stands at exactly this timestamp.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn write_at(&self, key: &[u8], commit_ts: Timestamp) -> Result<Option<Write>, EngineError> {
        let bytes = self.snapshot.get(Cf::Write, &versioned(key, commit_ts))?;
        bytes.map(|bytes| Write::read(&bytes)).transpose()
    }

    /// The newest value that was committed at or before `at`, whatever locks there are; `None` if there is none.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn newest_value(&self, key: &[u8], at: Timestamp) -> Result<Option<Bytes>, EngineError> {
        self.newest(key, at, Write::is_data)?.map_or(Ok(None), |(_, write)| self.value(key, write))
    }

    /// The newest record at or before `at` of a kind that is wanted.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn newest(
        &self,
        key: &[u8],
        at: Timestamp,
        wanted: impl Fn(&Write) -> bool,
    ) -> Result<Option<(Timestamp, Write)>, EngineError> {
        let mut range = versions(key, at);
        let Some((first, value)) = self.snapshot.first(Cf::Write, &range)? else { return Ok(None) };
        let record = (without_timestamp(&first)?.1, Write::read(&value)?);
        // Mostly it is the first.
        if wanted(&record.1) {
            return Ok(Some(record));
        }
        range.start = first;
        let mut iter = self.snapshot.iter(Cf::Write, &range);
        let mut valid = iter.seek_to_first();
        while valid {
            let record = record_at(&*iter)?;
            if wanted(&record.1) {
                return Ok(Some(record));
            }
            valid = iter.next();
        }
        iter.status()?;
        Ok(None)
    }

    /// What became of the transaction that began at `start_ts`, as far as this key tells. Its commit, if there is one, is
    /// newer than its start.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn record_of(&self, key: &[u8], start_ts: Timestamp) -> Result<Record, EngineError> {
        Ok(self.past(key, start_ts)?.own)
    }

    /// What has happened to a key since a transaction began that is about to write it. Nothing but `own` is told if that
    /// is not [`Record::None`].
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn past(&self, key: &[u8], start_ts: Timestamp) -> Result<Past, EngineError> {
        let mut past = Past { own: Record::None, newer: None, newest: Timestamp(0) };
        let range = versions(key, Timestamp(u64::MAX));
        let Some((first, _)) = self.snapshot.first(Cf::Write, &range)? else { return Ok(past) };
        past.newest = without_timestamp(&first)?.1;
        // Mostly nothing has happened to it since.
        if past.newest < start_ts {
            return Ok(past);
        }
        let mut iter = self.snapshot.iter(Cf::Write, &range);
        let mut valid = iter.seek_to_first();
        while valid {
            let (commit_ts, write) = record_at(&*iter)?;
            if commit_ts < start_ts {
                return Ok(past);
            }
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
            valid = iter.next();
        }
        iter.status()?;
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

/// The record under a position.
pub(crate) fn record_at(iter: &dyn EngineIterator) -> Result<(Timestamp, Write), EngineError> {
    let (_, commit_ts) = without_timestamp(iter.key())?;
    Ok((commit_ts, Write::read(&Bytes::copy_from_slice(iter.value()))?))
}
