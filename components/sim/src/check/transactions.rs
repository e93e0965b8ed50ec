//! INV-TXN-1, INV-TXN-2, INV-TXN-3, INV-TXN-4, INV-TXN-6, INV-TXN-7, INV-TXN-8, INV-TXN-9, INV-TXN-10,
//! INV-TXN-22: transactions are atomic, lose no update, and are seen from their commit on.
//!
//! Fed with every batch that an applier writes, on any store. Replicas write the same records again, and a store that has
//! restarted does too; so records are remembered once for all, and locks are looked up where they are replaced.

use super::{Broken, require};
use bytes::Bytes;
use engine::{Cf, Op, WriteBatch};
use mvcc::{Lock, LockKind, Newest, Write, WriteKind, without_timestamp};
use raftstore::{GcRecord, is_gc_record};
use std::collections::{BTreeMap, BTreeSet};
use types::{Key, Timestamp, escape_key};

/// What a reader was given for a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotRead {
    /// Who read; for people only.
    pub process: u64,
    /// The key, as the region layer sees it.
    pub key: Key,
    /// When the reader looked.
    pub at: Timestamp,
    /// What it saw.
    pub value: Option<Bytes>,
}

/// What a client was told of a transaction that writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TxnOutcome {
    /// It committed at this timestamp.
    Committed(Timestamp),
    /// It did not, and never will.
    NotDone,
    /// Nobody knows.
    Unknown,
}

#[derive(Clone, Debug)]
struct Record {
    write: Write,
    /// Up to when its transaction had seen the key.
    seen_to: Timestamp,
}

#[derive(Clone, Debug)]
enum Fate {
    Committed(Timestamp),
    RolledBack(Key),
}

/// All that transactions have done, on any replica.
#[derive(Clone, Default, Debug)]
pub struct Transactions {
    /// By key and commit timestamp.
    records: BTreeMap<Key, BTreeMap<Timestamp, Record>>,
    /// Values that do not stand in their records, by key and start timestamp.
    values: BTreeMap<(Key, Timestamp), Bytes>,
    /// What was to be written, by key and start timestamp.
    locks: BTreeMap<(Key, Timestamp), Lock>,
    /// Up to when a transaction had seen a key when it reserved it in some leader's memory, by key and start timestamp.
    reserved: BTreeMap<(Key, Timestamp), Timestamp>,
    fates: BTreeMap<Timestamp, Fate>,
    /// The highest safe point below which some region has said that versions may be gone.
    removed_to: Timestamp,
    /// Records that some store has removed.
    collected: BTreeSet<(Key, Timestamp)>,
}

impl Transactions {
    /// How many transactions have committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.fates.values().filter(|fate| matches!(fate, Fate::Committed(_))).count() as u64
    }

    /// How many were rolled back on some key.
    #[must_use]
    pub fn rolled_back(&self) -> u64 {
        self.fates.len() as u64 - self.committed()
    }

    /// How many records of old versions were removed.
    #[must_use]
    pub fn collected(&self) -> u64 {
        self.collected.len() as u64
    }

    /// A store has a lock in its memory, and nowhere else.
    pub fn held(&mut self, key: Key, lock: &Bytes) {
        let lock: Lock = read(lock);
        let seen_to = self.reserved.entry((key, lock.start_ts)).or_default();
        *seen_to = lock.for_update_ts.max(*seen_to);
    }

    /// A store is about to write what it has applied. `before` tells what a key of locks, or of newest versions, holds there
    /// now.
    ///
    /// # Errors
    /// When this contradicts what was written before, there or elsewhere.
    pub fn applied(
        &mut self,
        batch: &WriteBatch,
        before: impl Fn(Cf, &[u8]) -> Option<Bytes>,
    ) -> Result<(), Broken> {
        // Locks as of the operations so far, and those that went.
        let mut now: BTreeMap<&[u8], Option<Lock>> = BTreeMap::new();
        let mut gone: BTreeMap<&[u8], Lock> = BTreeMap::new();
        let lock_before = |key: &[u8]| before(Cf::Lock, key).map(|bytes| read::<Lock>(&bytes));
        let newest_before = |key: &[u8]| before(Cf::Newest, key).map(|bytes| read::<Newest>(&bytes));
        // Newest versions as of the operations so far, and the older ones that they brought.
        let mut newest: BTreeMap<&[u8], Option<Newest>> = BTreeMap::new();
        let mut older: BTreeSet<(&[u8], Timestamp)> = BTreeSet::new();
        for op in batch.ops() {
            match op {
                Op::Put { cf: Cf::Lock, key, value } => {
                    let lock: Lock = read(&Bytes::copy_from_slice(value));
                    let held = now.remove(key).unwrap_or_else(|| lock_before(key));
                    if let Some(held) = held.filter(|held| held.start_ts != lock.start_ts) {
                        let (key, ours, theirs) = (escape_key(key), lock.start_ts, held.start_ts);
                        let facts = format!("{key} is locked by {ours:?} while {theirs:?} holds it");
                        return Err(Broken { invariant: "INV-TXN-2 (one lock)", facts });
                    }
                    if lock.kind != LockKind::Pessimistic {
                        self.locks.insert((Bytes::copy_from_slice(key), lock.start_ts), lock.clone());
                        self.all_may_be_locked(&lock)?;
                    }
                    now.insert(key, Some(lock));
                }
                Op::Delete { cf: Cf::Lock, key } => {
                    let lock = now.remove(key).unwrap_or_else(|| lock_before(key));
                    gone.extend(lock.map(|lock| (key, lock)));
                    now.insert(key, None);
                }
                Op::Put { cf: Cf::Write, key, value } => {
                    let (key, at) = without_timestamp(key).expect("written by this build");
                    older.insert((key, at));
                    let write: Write = read(&Bytes::copy_from_slice(value));
                    self.record(&Bytes::copy_from_slice(key), at, write, gone.get(key))?;
                }
                Op::Delete { cf: Cf::Write, key } => {
                    let (key, at) = without_timestamp(key).expect("written by this build");
                    self.goes(&Bytes::copy_from_slice(key), at)?;
                }
                Op::Put { cf: Cf::Newest, key, value } => {
                    let before = newest.remove(key).unwrap_or_else(|| newest_before(key)).unwrap_or_default();
                    let after: Newest = read(&Bytes::copy_from_slice(value));
                    nothing_is_lost(key, &before, &after, |at| older.contains(&(key, at)))?;
                    if let Some(write) = &after.write {
                        self.record(
                            &Bytes::copy_from_slice(key),
                            after.commit_ts,
                            write.clone(),
                            gone.get(key),
                        )?;
                    }
                    newest.insert(key, Some(after));
                }
                Op::Delete { cf: Cf::Newest, key } => {
                    let spent = newest.remove(key).unwrap_or_else(|| newest_before(key)).unwrap_or_default();
                    let is_over = !spent.is_put() && spent.last() <= self.removed_to;
                    require(is_over, "INV-TXN-6 (what is seen stays)", || {
                        let (key, to) = (escape_key(key), self.removed_to);
                        format!("{key} loses {spent:?}, which is its newest; the safe point is {to:?}")
                    })?;
                    newest.insert(key, None);
                }
                Op::Put { cf: Cf::Raft, key, value } if is_gc_record(key) => {
                    let record: GcRecord = read(&Bytes::copy_from_slice(value));
                    self.removed_to = self.removed_to.max(record.removed.common);
                }
                Op::Put { cf: Cf::Default, key, value } if key.first() == Some(&b'x') => {
                    let (key, start_ts) = without_timestamp(key).expect("written by this build");
                    let key = Bytes::copy_from_slice(key);
                    self.values.insert((key, start_ts), Bytes::copy_from_slice(value));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A transaction that commits once all of its keys are locked does so at the latest timestamp that one of them names; all
    /// of them name one above what was read before.
    fn all_may_be_locked(&mut self, lock: &Lock) -> Result<(), Broken> {
        let (primary, start_ts) = (&lock.primary, lock.start_ts);
        let Some(at_primary) = self.locks.get(&(primary.clone(), start_ts)) else { return Ok(()) };
        let Some(secondaries) = at_primary.secondaries.as_ref().filter(|_| at_primary.async_commit) else {
            return Ok(());
        };
        let mut commit_ts = at_primary.min_commit_ts;
        for key in secondaries {
            match self.locks.get(&(key.clone(), start_ts)) {
                Some(lock) if lock.async_commit => commit_ts = commit_ts.max(lock.min_commit_ts),
                Some(_) | None => return Ok(()),
            }
        }
        self.commits_at(primary.clone(), start_ts, commit_ts)
    }

    /// A record is removed: nobody who reads at the safe point or above sees it.
    fn goes(&mut self, key: &Key, at: Timestamp) -> Result<(), Broken> {
        let newest = self.records.get(key).and_then(|records| {
            records.range(..=self.removed_to).rev().find(|(_, record)| record.write.is_data())
        });
        let is_seen =
            newest.is_some_and(|(newest, record)| *newest == at && record.write.kind == WriteKind::Put);
        require(at <= self.removed_to && !is_seen, "INV-TXN-6 (what is seen stays)", || {
            format!(
                "{} loses its record of {at:?}; the safe point is {:?}, the newest by then {newest:?}",
                escape_key(key),
                self.removed_to
            )
        })?;
        self.collected.insert((key.clone(), at));
        Ok(())
    }

    fn record(&mut self, key: &Key, at: Timestamp, write: Write, lock: Option<&Lock>) -> Result<(), Broken> {
        let shown = escape_key(key);
        let start_ts = write.start_ts;
        if let Some(known) = self.records.get_mut(key).and_then(|records| records.get_mut(&at)) {
            let is_same = known.write.start_ts == start_ts && known.write.kind == write.kind;
            if is_same {
                known.write.overlapped_rollback |= write.overlapped_rollback;
                return Ok(());
            }
            let one_gives_way = [known.write.kind, write.kind].contains(&WriteKind::Rollback);
            require(one_gives_way, "INV-TXN-3 (one record)", || {
                format!("{shown} at {at:?} has {:?}, and gets {write:?}", known.write)
            })?;
            if write.kind == WriteKind::Rollback {
                // Written by a replica that is behind; the commit that took its place says it too.
                return Ok(());
            }
        }
        if write.kind == WriteKind::Rollback {
            if let Some(Fate::Committed(commit_ts)) = self.fates.get(&start_ts) {
                let facts = format!("{start_ts:?} committed at {commit_ts:?}, and is rolled back on {shown}");
                return Err(Broken { invariant: "INV-TXN-7 (all or nothing)", facts });
            }
            self.fates.insert(start_ts, Fate::RolledBack(key.clone()));
        } else {
            self.commits(key, at, start_ts, lock)?;
        }
        let reserved = self.reserved.get(&(key.clone(), start_ts)).copied().unwrap_or_default();
        let seen_to = lock.map_or(start_ts, |lock| start_ts.max(lock.for_update_ts)).max(reserved);
        if write.kind != WriteKind::Rollback {
            self.loses_no_update(key, at, seen_to)?;
        }
        self.records.entry(key.clone()).or_default().insert(at, Record { write, seen_to });
        Ok(())
    }

    fn commits(
        &mut self,
        key: &Key,
        at: Timestamp,
        start_ts: Timestamp,
        lock: Option<&Lock>,
    ) -> Result<(), Broken> {
        let shown = escape_key(key);
        let lock = lock.filter(|lock| lock.start_ts == start_ts);
        // Who commits in one phase has locked nothing, or only reserved it.
        let is_locked = self.locks.contains_key(&(key.clone(), start_ts));
        require(
            at > start_ts && lock.map_or(!is_locked, |lock| at >= lock.min_commit_ts),
            "INV-TXN-1 (commit timestamps)",
            || format!("{start_ts:?} commits {shown} at {at:?}; its lock: {lock:?}"),
        )?;
        self.commits_at(key.clone(), start_ts, at)
    }

    /// It has committed then, as this key tells.
    fn commits_at(&mut self, key: Key, start_ts: Timestamp, at: Timestamp) -> Result<(), Broken> {
        let shown = escape_key(&key);
        match self.fates.entry(start_ts).or_insert(Fate::Committed(at)) {
            Fate::Committed(commit_ts) => require(*commit_ts == at, "INV-TXN-7 (all at once)", || {
                format!("{start_ts:?} committed at {commit_ts:?}, and commits {shown} at {at:?}")
            }),
            Fate::RolledBack(other) => {
                let other = escape_key(other);
                let facts = format!("{start_ts:?} was rolled back on {other}, and commits {shown} at {at:?}");
                Err(Broken { invariant: "INV-TXN-7 (all or nothing)", facts })
            }
        }
    }

    /// A transaction that had seen the key up to `seen_to` commits it at `at`.
    fn loses_no_update(&self, key: &Key, at: Timestamp, seen_to: Timestamp) -> Result<(), Broken> {
        let Some(records) = self.records.get(key) else { return Ok(()) };
        let is_commit = |record: &&Record| record.write.kind != WriteKind::Rollback;
        let below = records.range(..at).rev().find(|(_, record)| is_commit(record));
        let above = records.range(at..).find(|(other, record)| **other > at && is_commit(record));
        let shown = || escape_key(key);
        if let Some((other, _)) = below {
            require(*other <= seen_to, "INV-TXN-8 (no lost update)", || {
                format!(
                    "{} was committed at {other:?}; who commits it at {at:?} had seen it at {seen_to:?}",
                    shown()
                )
            })?;
        }
        if let Some((other, record)) = above {
            require(at <= record.seen_to, "INV-TXN-8 (no lost update)", || {
                format!(
                    "{} was committed at {other:?} by one who had seen it at {:?}, and is at {at:?}",
                    shown(),
                    record.seen_to
                )
            })?;
        }
        Ok(())
    }

    /// What readers were given, at the end of a run.
    ///
    /// # Errors
    /// When one has seen something else than what was committed by then.
    pub fn reads_are_right(&self, reads: &[SnapshotRead]) -> Result<(), Broken> {
        for read in reads {
            let value = self.value_at(&read.key, read.at);
            require(value == read.value, "INV-TXN-9 (reads at a timestamp)", || {
                let show =
                    |value: &Option<Bytes>| value.as_ref().map_or_else(|| "-".into(), |v| escape_key(v));
                format!(
                    "process {} read {} at {:?}: {}; committed by then: {}",
                    read.process,
                    escape_key(&read.key),
                    read.at,
                    show(&read.value),
                    show(&value)
                )
            })?;
        }
        Ok(())
    }

    /// What clients were told of their transactions, by when these began, at the end of a run.
    ///
    /// # Errors
    /// When one that was told to be committed is not, or was at another timestamp; or one that was not is.
    pub fn outcomes_are_right(&self, outcomes: &[(Timestamp, TxnOutcome)]) -> Result<(), Broken> {
        for (start_ts, outcome) in outcomes {
            let committed_at = match self.fates.get(start_ts) {
                Some(Fate::Committed(commit_ts)) => Some(*commit_ts),
                Some(Fate::RolledBack(_)) | None => None,
            };
            let is_right = match outcome {
                TxnOutcome::Committed(commit_ts) => committed_at == Some(*commit_ts),
                TxnOutcome::NotDone => committed_at.is_none(),
                TxnOutcome::Unknown => true,
            };
            require(is_right, "INV-TXN-10 (told as it is)", || {
                format!("of {start_ts:?} was told {outcome:?}; it has committed at {committed_at:?}")
            })?;
        }
        Ok(())
    }

    /// The value that was committed last by `at`: locks of transactions included that have committed elsewhere and were not
    /// resolved here.
    fn value_at(&self, key: &Key, at: Timestamp) -> Option<Bytes> {
        let is_data = |record: &&Record| record.write.is_data();
        let newest = self.records.get(key).and_then(|records| {
            records.range(..=at).rev().find(|(_, record)| is_data(record)).map(|(at, record)| (*at, record))
        });
        let unresolved = self
            .locks
            .range((key.clone(), Timestamp(0))..=(key.clone(), at))
            .filter(|(_, lock)| matches!(lock.kind, LockKind::Put | LockKind::Delete))
            .filter_map(|((_, start_ts), lock)| match self.fates.get(start_ts) {
                Some(Fate::Committed(commit_ts)) if *commit_ts <= at => Some((*commit_ts, lock)),
                _ => None,
            })
            .max_by_key(|(commit_ts, _)| *commit_ts);
        let (is_put, start_ts, short_value) = match (newest, unresolved) {
            (Some((known, record)), other) if other.is_none_or(|(commit_ts, _)| commit_ts <= known) => {
                let write = &record.write;
                (write.kind == WriteKind::Put, write.start_ts, write.short_value.clone())
            }
            (_, Some((_, lock))) => (lock.kind == LockKind::Put, lock.start_ts, lock.short_value.clone()),
            (_, None) => return None,
        };
        let long = || self.values.get(&(key.clone(), start_ts)).cloned();
        if is_put { short_value.or_else(long) } else { None }
    }
}

/// A key gets a new newest version: the one before it is among the older ones, which `kept` tells of those that the same batch
/// brings, and the new one says that nothing has happened since no earlier than the one before.
fn nothing_is_lost(
    key: &[u8],
    before: &Newest,
    after: &Newest,
    kept: impl Fn(Timestamp) -> bool,
) -> Result<(), Broken> {
    let is_kept = before.commit_ts == after.commit_ts || !before.is_put() || kept(before.commit_ts);
    let is_later = before.last() <= after.last() && before.commit_ts <= after.commit_ts;
    require(is_kept && is_later, "INV-TXN-22 (the newest stands under its key)", || {
        format!("{} had {before:?} and gets {after:?}", escape_key(key))
    })
}

fn read<T: codec::Decode>(bytes: &Bytes) -> T {
    T::from_bytes(bytes).expect("written by this build")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::broken;
    use mvcc::{delete_lock, put_lock, put_write};

    const KEY: &[u8] = b"xkey";
    const OTHER: &[u8] = b"xother";

    fn lock(start_ts: u64, value: &'static str) -> Lock {
        Lock {
            short_value: Some(value.into()),
            min_commit_ts: Timestamp(start_ts + 1),
            ..Lock::new(LockKind::Put, "xkey".into(), Timestamp(start_ts), 0)
        }
    }

    /// Applies a batch where these are the locks.
    fn apply(
        all: &mut Transactions,
        held: &[(&[u8], &Lock)],
        fill: impl FnOnce(&mut WriteBatch),
    ) -> Result<(), Broken> {
        let mut batch = WriteBatch::new();
        fill(&mut batch);
        all.applied(&batch, |cf, key| {
            let held = held.iter().find(|(held, _)| cf == Cf::Lock && *held == key);
            held.map(|(_, lock)| codec::Encode::to_bytes(*lock))
        })
    }

    fn commit(all: &mut Transactions, key: &[u8], held: &Lock, commit_ts: u64) -> Result<(), Broken> {
        apply(all, &[(key, held)], |batch| {
            delete_lock(batch, key);
            let write =
                Write { short_value: held.short_value.clone(), ..Write::new(WriteKind::Put, held.start_ts) };
            put_write(batch, key, None, Timestamp(commit_ts), &write);
        })
    }

    fn roll_back(all: &mut Transactions, key: &[u8], start_ts: u64) -> Result<(), Broken> {
        let start_ts = Timestamp(start_ts);
        let record = Write::new(WriteKind::Rollback, start_ts);
        apply(all, &[], |batch| put_write(batch, key, None, start_ts, &record))
    }

    #[test]
    fn a_lock_over_anothers_is_found_and_replicas_may_say_the_same_again() {
        let mut all = Transactions::default();
        let (first, second) = (lock(10, "1"), lock(20, "2"));
        for _ in 0..2 {
            apply(&mut all, &[], |batch| put_lock(batch, KEY, &first)).unwrap();
            apply(&mut all, &[(KEY, &first)], |batch| put_lock(batch, KEY, &first)).unwrap();
            commit(&mut all, KEY, &first, 15).unwrap();
        }
        broken(
            apply(&mut all, &[(KEY, &first)], |batch| put_lock(batch, KEY, &second)),
            "INV-TXN-2 (one lock)",
        );
        let in_one_batch = apply(&mut all, &[], |batch| {
            put_lock(batch, KEY, &first);
            put_lock(batch, KEY, &second);
        });
        broken(in_one_batch, "INV-TXN-2 (one lock)");
        assert_eq!((all.committed(), all.rolled_back()), (1, 0));
    }

    fn put_newest(batch: &mut WriteBatch, key: &[u8], newest: &Newest) {
        batch.put(Cf::Newest, key, &codec::Encode::to_bytes(newest));
    }

    /// The version that a commit replaces goes where the older ones are, in the same batch, and what stands under a key says
    /// no less than before of what has happened to it. It goes when nothing is seen of it.
    #[test]
    fn the_version_that_is_replaced_is_kept() {
        let write = |start_ts| Write::new(WriteKind::Put, Timestamp(start_ts));
        let newest = |start_ts, commit_ts| {
            let (commit_ts, write) = (Timestamp(commit_ts), Some(write(start_ts)));
            Newest { commit_ts, write, later: Timestamp(0) }
        };
        let first = newest(10, 20);
        let over = |all: &mut Transactions, fill: &dyn Fn(&mut WriteBatch)| {
            let mut batch = WriteBatch::new();
            fill(&mut batch);
            all.applied(&batch, |cf, _| (cf == Cf::Newest).then(|| codec::Encode::to_bytes(&first)))
        };
        let mut all = Transactions::default();
        commit(&mut all, KEY, &lock(10, "1"), 20).unwrap();
        let replaced = over(&mut all.clone(), &|batch| put_newest(batch, KEY, &newest(30, 40)));
        broken(replaced, "INV-TXN-22 (the newest stands under its key)");
        let kept = |batch: &mut WriteBatch| put_write(batch, KEY, Some(&first), Timestamp(40), &write(30));
        over(&mut all.clone(), &kept).unwrap();
        let forgets = Newest { later: Timestamp(15), ..Newest::default() };
        let forgotten = over(&mut all.clone(), &|batch| put_newest(batch, KEY, &forgets));
        broken(forgotten, "INV-TXN-22 (the newest stands under its key)");
        let removed = over(&mut all, &|batch| batch.delete(Cf::Newest, KEY));
        broken(removed, "INV-TXN-6 (what is seen stays)");
    }

    #[test]
    fn a_transaction_commits_once_on_all_keys_or_on_none() {
        let mut all = Transactions::default();
        commit(&mut all, KEY, &lock(10, "1"), 20).unwrap();
        broken(commit(&mut all, OTHER, &lock(10, "1"), 21), "INV-TXN-7 (all at once)");
        broken(roll_back(&mut all, OTHER, 10), "INV-TXN-7 (all or nothing)");
        roll_back(&mut all, KEY, 30).unwrap();
        broken(commit(&mut all, OTHER, &lock(30, "1"), 40), "INV-TXN-7 (all or nothing)");
        broken(commit(&mut all, KEY, &lock(50, "1"), 50), "INV-TXN-1 (commit timestamps)");
        let pushed = Lock { min_commit_ts: Timestamp(70), ..lock(60, "1") };
        broken(commit(&mut all, KEY, &pushed, 69), "INV-TXN-1 (commit timestamps)");
        broken(commit(&mut all, KEY, &lock(15, "2"), 20), "INV-TXN-3 (one record)");
    }

    /// All keys of a transaction are locked: it is committed, whoever may say so first, or never.
    #[test]
    fn a_transaction_whose_keys_are_all_locked_is_committed_then() {
        let at_primary = Lock { async_commit: true, secondaries: Some(vec![OTHER.into()]), ..lock(10, "1") };
        let other = Lock { async_commit: true, min_commit_ts: Timestamp(15), ..lock(10, "2") };
        let mut all = Transactions::default();
        apply(&mut all, &[], |batch| put_lock(batch, OTHER, &other)).unwrap();
        assert_eq!(all.committed(), 0);
        apply(&mut all, &[], |batch| put_lock(batch, KEY, &at_primary)).unwrap();
        assert_eq!(all.committed(), 1);
        let told = [(Timestamp(10), TxnOutcome::Committed(Timestamp(15)))];
        assert_eq!(all.outcomes_are_right(&told), Ok(()));
        broken(commit(&mut all.clone(), OTHER, &other, 16), "INV-TXN-7 (all at once)");
        broken(roll_back(&mut all.clone(), KEY, 10), "INV-TXN-7 (all or nothing)");
        commit(&mut all, KEY, &at_primary, 15).unwrap();
        // One that is locked otherwise makes it one that commits in two phases.
        let mut all = Transactions::default();
        apply(&mut all, &[], |batch| put_lock(batch, KEY, &at_primary)).unwrap();
        apply(&mut all, &[], |batch| put_lock(batch, OTHER, &lock(10, "2"))).unwrap();
        assert_eq!(all.committed(), 0);
        // And what was never locked is committed in one phase; what was is not.
        let without_lock = |all: &mut Transactions, key: &[u8]| {
            let write = Write { short_value: Some("1".into()), ..Write::new(WriteKind::Put, Timestamp(10)) };
            apply(all, &[], |batch| put_write(batch, key, None, Timestamp(20), &write))
        };
        without_lock(&mut Transactions::default(), KEY).unwrap();
        broken(without_lock(&mut all, KEY), "INV-TXN-1 (commit timestamps)");
    }

    #[test]
    fn an_update_that_was_not_seen_is_lost() {
        let mut all = Transactions::default();
        commit(&mut all, KEY, &lock(10, "1"), 20).unwrap();
        broken(commit(&mut all.clone(), KEY, &lock(15, "2"), 30), "INV-TXN-8 (no lost update)");
        let seen = Lock { for_update_ts: Timestamp(25), ..lock(15, "2") };
        commit(&mut all, KEY, &seen, 30).unwrap();
        // The same, told in the other order.
        let mut all = Transactions::default();
        commit(&mut all, KEY, &lock(15, "2"), 30).unwrap();
        broken(commit(&mut all, KEY, &lock(10, "1"), 20), "INV-TXN-8 (no lost update)");
    }

    #[test]
    fn clients_are_told_what_became_of_their_transactions() {
        let mut all = Transactions::default();
        commit(&mut all, KEY, &lock(10, "1"), 20).unwrap();
        roll_back(&mut all, KEY, 30).unwrap();
        let told = |start_ts, outcome| all.outcomes_are_right(&[(Timestamp(start_ts), outcome)]);
        let committed = |at| TxnOutcome::Committed(Timestamp(at));
        for (start_ts, outcome) in [
            (10, committed(20)),
            (10, TxnOutcome::Unknown),
            (30, TxnOutcome::NotDone),
            (30, TxnOutcome::Unknown),
            (40, TxnOutcome::NotDone),
        ] {
            assert_eq!(told(start_ts, outcome), Ok(()));
        }
        for (start_ts, outcome) in
            [(10, committed(21)), (10, TxnOutcome::NotDone), (30, committed(40)), (50, committed(60))]
        {
            broken(told(start_ts, outcome), "INV-TXN-10 (told as it is)");
        }
    }

    #[test]
    fn readers_see_what_was_committed_by_then() {
        let mut all = Transactions::default();
        commit(&mut all, KEY, &lock(10, "1"), 20).unwrap();
        let unresolved = lock(10, "other");
        apply(&mut all, &[], |batch| put_lock(batch, OTHER, &unresolved)).unwrap();
        let read = |key: &'static [u8], at, value: Option<&'static str>| SnapshotRead {
            process: 1,
            key: key.into(),
            at: Timestamp(at),
            value: value.map(Bytes::from),
        };
        let right = [
            read(KEY, 19, None),
            read(KEY, 20, Some("1")),
            read(OTHER, 20, Some("other")),
            read(OTHER, 19, None),
        ];
        assert_eq!(all.reads_are_right(&right), Ok(()));
        for wrong in [read(KEY, 19, Some("1")), read(KEY, 25, None), read(OTHER, 20, None)] {
            broken(all.reads_are_right(&[wrong]), "INV-TXN-9 (reads at a timestamp)");
        }
    }
}
