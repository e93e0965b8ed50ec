//! One transaction.

use crate::batch::KeyAt;
use crate::call::{Call, Effect};
use crate::check::{check_key, check_range, check_value};
use crate::error::{Error, InvalidArgument};
use crate::scan::{Scan, ScanOptions, Source};
use crate::seeded_bug::SeededBug;
use crate::txn::beginning::Beginning;
use crate::txn::buffer::{Buffer, Inserting};
use crate::txn::client::TxnClient;
use crate::txn::commit::{Commit, CommitProtocol};
use crate::txn::error::TxnError;
use crate::txn::heartbeat::{Heartbeat, beat};
use crate::txn::isolation::Isolation;
use crate::txn::read_set::{ReadSet, Reads, SharedReads};
use crate::txn::reserve::Reserving;
use crate::txn::undo::Undo;
use bytes::Bytes;
use futures_util::future::{Either, select};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use types::{Key, KeyRange, Timestamp};
use wire::txn::{Mutation, MutationKind};

/// When a transaction locks what it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// When it commits.
    Optimistic,
    /// At once.
    Pessimistic,
}

/// A moment of a transaction: see [`Transaction::savepoint`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Savepoint {
    number: u64,
}

/// Reads as of its beginning and its own writes, and writes that become visible all at once, or not at all.
///
/// It begins when it first has to: when it reads, locks or reserves a key, or commits; or when it is told to
/// ([`Transaction::begin_now`]). Until then it asks for nothing, and what is written in it waits in memory: a transaction that
/// only writes begins with its commit, and overwrites whatever was committed before that call.
///
/// It sees what was committed before it began, and what it has written itself; others see nothing of it before it commits.
/// If another transaction has committed one of the keys that it writes since it began, it is refused
/// ([`TxnError::WriteConflict`]): that is snapshot isolation. Two transactions that each read what the other one writes,
/// and write different keys, may both commit ("write skew"); [`Transaction::get_for_update`] and
/// [`Transaction::lock_keys`] turn a read into something that the other one's write conflicts with, and a
/// [serializable](Isolation::Serializable) one is refused for it ([`TxnError::ReadConflict`]).
///
/// A *pessimistic* transaction reserves each key that it writes, or locks, at once, and waits for others that have done so.
/// A key that it has reserved is read as it has been since then, rather than as it was in the beginning.
///
/// Dropping it rolls it back. Dropping the future of [`Transaction::commit`] leaves its outcome unknown.
pub struct Transaction {
    beginning: Arc<Beginning>,
    mode: Mode,
    buffer: Buffer,
    /// Which key decides, once there is one that is reserved.
    primary: Option<Key>,
    heartbeat: Option<Heartbeat>,
    /// What it has reserved, if it has.
    undo: Option<Undo>,
    /// What it has read, if that is proved when it commits.
    reads: Option<SharedReads>,
    /// Something has failed that may not fail again when all of it is begun again.
    is_spoilt: AtomicBool,
}

impl Transaction {
    pub(crate) fn new(client: TxnClient, mode: Mode) -> Self {
        let size_max = client.core.shared.options.txn_size_bytes_max;
        let is_serializable = client.isolation == Isolation::Serializable;
        Self {
            mode,
            buffer: Buffer::new(size_max),
            primary: None,
            heartbeat: None,
            undo: None,
            reads: is_serializable.then(|| SharedReads::new(ReadSet::new(size_max).into())),
            is_spoilt: AtomicBool::new(false),
            beginning: Arc::new(Beginning::new(client)),
        }
    }

    /// When it began: what was committed by then is seen. `None` if it has not begun, because nothing has asked for it.
    #[must_use]
    pub fn start_timestamp(&self) -> Option<Timestamp> {
        self.beginning.begun().map(|begun| begun.origin.start_ts)
    }

    /// Begins now, if it has not before, and gives back when: what is committed from here on is not seen, and is a conflict
    /// where it is written here too.
    ///
    /// # Errors
    /// As [`TxnClient::timestamp`]. Then it begins when it has to.
    pub async fn begin_now(&self) -> Result<Timestamp, Error> {
        let begun = self.beginning.begin(&mut self.beginning.call(Effect::Read)).await?;
        Ok(begun.origin.start_ts)
    }

    /// True if keys are locked as soon as they are written.
    #[must_use]
    pub fn is_pessimistic(&self) -> bool {
        self.mode == Mode::Pessimistic
    }

    /// The value of a key, if it has one.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>, Error> {
        let key = self.key(key)?;
        let own = self.buffer.value(&key).filter(|_| !self.is_blind_to(&key));
        match own {
            Some(value) => Ok(value),
            None => {
                let value = self.noted(self.read(&key).await)?;
                self.has_read(&key)?;
                Ok(value)
            }
        }
    }

    /// The values of several keys, in their order; `None` for those that have none.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub async fn batch_get<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let (mut values, mut wanted, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (place, key) in keys.into_iter().enumerate() {
            let key = self.key(key)?;
            let own = self.buffer.value(&key);
            if own.is_none() {
                wanted.push(KeyAt { key, place: places.len() });
                places.push(place);
            }
            values.push(own.flatten());
        }
        let read: Vec<Key> = match &self.reads {
            Some(_) => wanted.iter().map(|item| item.key.clone()).collect(),
            None => Vec::new(),
        };
        let found = self.noted(self.read_all(wanted).await)?;
        read.iter().try_for_each(|key| self.has_read(key))?;
        for (place, value) in places.into_iter().zip(found) {
            values[place] = value;
        }
        Ok(values)
    }

    /// The pairs of a range, in key order or in reverse, as of this call: what is written later does not show in it.
    ///
    /// # Errors
    /// As [`Snapshot::scan`].
    pub fn scan(&self, range: KeyRange, options: ScanOptions) -> Result<Scan, Error> {
        check_range(&range)?;
        let TxnClient { core, deadline, .. } = &self.beginning.client;
        let keyspace = self.beginning.client.keyspace();
        let over = match self.beginning.breaks(SeededBug::OwnWritesUnscanned) {
            true => BTreeMap::new(),
            false => self.buffer.values_in(&keyspace.encode_range(&range)),
        };
        let source = Source::Of(Arc::clone(&self.beginning));
        let scan = Scan::new(core.clone(), keyspace, *deadline, range, options, source);
        Ok(scan.over(over).noting(self.reads.clone()))
    }

    /// The pairs of all keys that begin with `prefix`.
    ///
    /// # Errors
    /// As [`Snapshot::scan`].
    pub fn scan_prefix(&self, prefix: impl Into<Key>, options: ScanOptions) -> Result<Scan, Error> {
        self.scan(KeyRange::prefix(prefix), options)
    }

    /// The value of a key that nobody else may write until this transaction has ended: see [`Transaction::lock_keys`].
    ///
    /// # Errors
    /// As [`Transaction::lock_keys`] and [`Transaction::get`].
    pub async fn get_for_update(&mut self, key: impl Into<Key>) -> Result<Option<Bytes>, Error> {
        let key = key.into();
        self.lock_keys([key.clone()]).await?;
        self.get(key).await
    }

    /// Keeps others from writing these keys until this transaction has ended. A pessimistic transaction reserves them at
    /// once; an optimistic one finds out when it commits whether others have written them since it began, which is now at the
    /// latest.
    ///
    /// # Errors
    /// [`TxnError::Deadlock`], [`TxnError::LockTimeout`], [`TxnError::RolledBack`], [`TxnError::TooLarge`], and those of reads. None of the keys is
    /// locked then, but for those that were before.
    pub async fn lock_keys<K: Into<Key>>(&mut self, keys: impl IntoIterator<Item = K>) -> Result<(), Error> {
        let mut wanted = Vec::new();
        for key in keys {
            wanted.push(self.key(key)?);
        }
        match self.mode {
            Mode::Optimistic => {
                self.begin_now().await?;
                wanted.into_iter().try_for_each(|key| self.buffer.lock(key))
            }
            Mode::Pessimistic => self.reserve(wanted, false).await,
        }
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`TxnError::TooLarge`]; of a pessimistic transaction also those of
    /// [`Transaction::lock_keys`].
    pub async fn put(&mut self, key: impl Into<Key>, value: impl Into<Bytes>) -> Result<(), Error> {
        let (key, value) = (self.key(key)?, value.into());
        check_value(&value)?;
        self.reserve_if_pessimistic(&key, false).await?;
        self.buffer.put(key, value)
    }

    /// Sets a key that must not have a value. Where that cannot be told before, it is told by the commit.
    ///
    /// # Errors
    /// [`TxnError::AlreadyExists`], and those of [`Transaction::put`].
    pub async fn insert(&mut self, key: impl Into<Key>, value: impl Into<Bytes>) -> Result<(), Error> {
        let users_key = key.into();
        let (key, value) = (self.key(users_key.clone())?, value.into());
        check_value(&value)?;
        let inserting = self.buffer.inserting(&key);
        if inserting == Inserting::Exists {
            return Err(TxnError::AlreadyExists { key: users_key }.into());
        }
        self.reserve_if_pessimistic(&key, inserting == Inserting::Unknown).await?;
        self.buffer.insert(key, value)
    }

    /// Removes a key; one that is not there stays so.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub async fn delete(&mut self, key: impl Into<Key>) -> Result<(), Error> {
        let key = self.key(key)?;
        self.reserve_if_pessimistic(&key, false).await?;
        self.buffer.delete(key)
    }

    /// Marks this moment: [`Transaction::rollback_to`] takes back what is written from here on.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there are a thousand of them.
    pub fn savepoint(&mut self) -> Result<Savepoint, Error> {
        let message = || "so many savepoints cannot be kept: roll back to an earlier one first".to_owned();
        let number =
            self.buffer.savepoint().ok_or_else(|| InvalidArgument::Refused { message: message() })?;
        Ok(Savepoint { number })
    }

    /// Takes back what was written since a savepoint, which stays: it can be gone back to again. Those that were set after it
    /// are no more. What has been locked or reserved meanwhile stays so until the transaction ends, and what has been read
    /// has been read.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a savepoint of another transaction, and for one that is no more.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<(), Error> {
        match self.buffer.rollback_to(savepoint.number) {
            true => Ok(()),
            false => {
                let message = "the transaction has no such savepoint, or none any more".to_owned();
                Err(InvalidArgument::Refused { message }.into())
            }
        }
    }

    /// Makes all writes visible at once. Gives back when: who begins, or reads, at that timestamp or later sees them.
    /// `None` if the transaction has written and locked nothing, and then it cannot fail.
    ///
    /// # Errors
    /// [`Error::Undetermined`] when nobody knows whether it was committed. All others mean that it was not and never will
    /// be: [`Error::Txn`], [`Error::DeadlineExceeded`], [`Error::Unavailable`], [`Error::DiskFull`],
    /// [`Error::InvalidArgument`] if stores find something too large, [`Error::UnexpectedAnswer`].
    pub async fn commit(mut self) -> Result<Option<Timestamp>, Error> {
        let buffer = std::mem::replace(&mut self.buffer, Buffer::new(0));
        let mutations = buffer.into_mutations();
        let Some(first) = mutations.first() else { return Ok(None) };
        let locks = |kind: &MutationKind| *kind != MutationKind::CheckNotExists;
        let first_locked = mutations.iter().find(|mutation| locks(&mutation.kind));
        let primary = self.primary.clone().or_else(|| Some(first_locked?.key.clone()));
        let is_locking = primary.is_some();
        let reads = self.take_reads(&mutations)?;
        let mut call = self.beginning.call(Effect::Repeatable);
        // Where there is something to prove, it must be known when it commits, and its keys be locked, before that.
        let commits_at_once =
            is_locking && reads.is_empty() && self.beginning.client.protocol != CommitProtocol::TwoPhase;
        let (begun, asked_at) = match commits_at_once {
            true => {
                let (begun, now) = self.beginning.begin_with_now(&mut call).await?;
                (begun, Some(now))
            }
            false => (self.beginning.begin(&mut call).await?, None),
        };
        let origin = begun.origin.clone();
        let mut undo = self.undo.take().unwrap_or_else(|| Undo::new(origin.clone()));
        let commit = Commit {
            origin: origin.clone(),
            is_pessimistic: self.is_pessimistic(),
            primary: primary.unwrap_or_else(|| first.key.clone()),
            for_update_ts: *undo.seen_up_to().lock(),
            reads,
            asked_at,
            mutations,
        };
        if !is_locking {
            return commit.check(call).await.map(|()| None);
        }
        // Signs of life are given beside it. Most commits are over before the first: they need no task for that.
        let beats = self.heartbeat.is_none().then(|| beat(origin, commit.primary.clone()));
        let commit = pin!(commit.run(call, &mut undo));
        let committed = match beats {
            None => commit.await,
            Some(beats) => match select(commit, pin!(beats)).await {
                Either::Left((committed, _)) => committed,
                Either::Right(((), commit)) => commit.await,
            },
        };
        committed.map(Some)
    }

    /// Gives up. What was reserved is free for others afterwards.
    ///
    /// # Errors
    /// Those of reads: then others may have to wait until what was reserved has expired.
    pub async fn rollback(self) -> Result<(), Error> {
        let Self { undo, heartbeat, .. } = self;
        drop(heartbeat);
        match undo {
            Some(undo) => undo.undo().await,
            None => Ok(()),
        }
    }

    /// What has to be proved when these are committed.
    fn take_reads(&self, mutations: &[Mutation]) -> Result<Reads, Error> {
        let Some(reads) = &self.reads else { return Ok(Reads::default()) };
        let mut reads = reads.lock();
        // A key that must not be there, and is not written, has been looked at as any other that was read.
        for mutation in mutations.iter().filter(|mutation| mutation.kind == MutationKind::CheckNotExists) {
            reads.add_key(&mutation.key)?;
        }
        // A key that is locked without having been reserved is refused if it was written since the transaction began. One
        // that was reserved may have been read before, and have changed until then.
        Ok(reads.take(|key| {
            let place = mutations.binary_search_by(|mutation| mutation.key.cmp(key));
            place.is_ok_and(|place| {
                let Mutation { kind, is_reserved, .. } = &mutations[place];
                *kind != MutationKind::CheckNotExists && !is_reserved
            })
        }))
    }

    async fn read(&self, key: &Key) -> Result<Option<Bytes>, Error> {
        let mut call = self.beginning.call(Effect::Read);
        let begun = self.beginning.begin(&mut call).await?;
        begun.snapshot.get_encoded(call, key).await
    }

    async fn read_all(&self, wanted: Vec<KeyAt>) -> Result<Vec<Option<Bytes>>, Error> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.beginning.call(Effect::Read);
        let begun = self.beginning.begin(&mut call).await?;
        begun.snapshot.values_of(call, wanted).await
    }

    fn has_read(&self, key: &Key) -> Result<(), Error> {
        self.reads.as_ref().map_or(Ok(()), |reads| reads.lock().add_key(key))
    }

    /// True if something has failed that may not fail again when all of it is begun again.
    pub(crate) fn is_spoilt(&self) -> bool {
        self.is_spoilt.load(Ordering::Relaxed)
    }

    /// True if a rule is broken by which the transaction sees what it has itself of a key.
    fn is_blind_to(&self, key: &Key) -> bool {
        match self.buffer.has_written(key) {
            true => self.beginning.breaks(SeededBug::OwnWritesUnread),
            false => self.beginning.breaks(SeededBug::ReservedReadAsItWas),
        }
    }

    async fn reserve_if_pessimistic(&mut self, key: &Key, must_be_new: bool) -> Result<(), Error> {
        match self.mode {
            Mode::Optimistic => Ok(()),
            Mode::Pessimistic => self.reserve(vec![key.clone()], must_be_new).await,
        }
    }

    /// Reserves those of these keys that are not yet.
    async fn reserve(&mut self, mut keys: Vec<Key>, must_be_new: bool) -> Result<(), Error> {
        keys.retain(|key| !self.buffer.is_reserved(key));
        keys.sort();
        keys.dedup();
        let Some(first) = keys.first() else { return Ok(()) };
        let primary = self.primary.clone().unwrap_or_else(|| first.clone());
        let call = self.beginning.call(Effect::Repeatable);
        let (begun, now) = self.beginning.begin_with_now(&mut call.clone()).await?;
        let origin = begun.origin.clone();
        let undo = self.undo.get_or_insert_with(|| Undo::new(origin.clone()));
        undo.may_be_reserved(&keys);
        let seen_up_to = undo.seen_up_to();
        *seen_up_to.lock() = now.max(origin.start_ts);
        let reserving = Reserving::new(&origin, primary.clone(), must_be_new, seen_up_to);
        let result = self.reserve_with(&reserving, &call, &keys).await;
        if result.is_err() {
            // Any of them may be reserved. If one is reserved again later, it is with a later timestamp.
            if let Some(undo) = &mut self.undo {
                undo.release_later(&keys);
            }
            if self.primary.is_none() {
                self.heartbeat = None;
            }
        } else {
            self.primary = Some(primary);
        }
        self.noted(result)
    }

    async fn reserve_with(
        &mut self,
        reserving: &Reserving<'_>,
        call: &Call,
        keys: &[Key],
    ) -> Result<(), Error> {
        let mut others = keys.to_vec();
        let mut reserved = Vec::new();
        if self.primary.is_none() {
            // Whoever meets another key asks here, and must find something.
            let primary = reserving.primary();
            others.retain(|key| key != primary);
            reserved = reserving.reserve(call, vec![primary.clone()]).await?;
            self.heartbeat = Some(Heartbeat::begin(reserving.origin(), primary));
        }
        reserved.extend(reserving.reserve(call, others).await?);
        self.buffer.reserve_all(reserved)
    }

    fn noted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if matches!(&result, Err(Error::Txn(error)) if error.is_worth_another()) {
            self.is_spoilt.store(true, Ordering::Relaxed);
        }
        result
    }

    fn key(&self, key: impl Into<Key>) -> Result<Key, InvalidArgument> {
        let key = key.into();
        check_key(&key)?;
        Ok(self.beginning.client.keyspace().encode(&key))
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("start_ts", &self.start_timestamp())
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
