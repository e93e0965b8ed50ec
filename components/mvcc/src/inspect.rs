//! What people and garbage collection want to know: all versions of a key, all locks of a range.

use crate::{Lock, MvccReader, WriteKind};
use bytes::Bytes;
use engine::{Cf, EngineError, Snapshot};
use types::{Key, KeyRange, Timestamp};

/// Locks that one search looks at, wanted or not.
const LOCKS_PASSED_MAX: usize = 100_000;

/// One thing that happened to a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// What.
    pub kind: WriteKind,
    /// When; for a rollback, when the transaction began.
    pub commit_ts: Timestamp,
    /// When the transaction began that did it.
    pub start_ts: Timestamp,
    /// The value of a `Put`.
    pub value: Option<Bytes>,
}

/// Some locks of a range.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LockPage {
    /// In key order.
    pub locks: Vec<(Key, Lock)>,
    /// Where the search goes on; `None` when it is finished.
    pub resume: Option<Key>,
}

impl<S: Snapshot> MvccReader<'_, S> {
    /// What happened to a key, the newest first, at most so much.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn history(&self, key: &[u8], versions_max: usize) -> Result<Vec<Version>, EngineError> {
        let (mut found, mut records) = (Vec::new(), self.records(key)?);
        while found.len() < versions_max
            && let Some((commit_ts, write)) = records.next()?
        {
            let (kind, start_ts) = (write.kind, write.start_ts);
            found.push(Version { kind, commit_ts, start_ts, value: self.value(key, write)? });
        }
        Ok(found)
    }

    /// The locks of transactions that began at `up_to` or before, those that are held included, at most so many.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn locks(
        &self,
        range: &KeyRange,
        up_to: Timestamp,
        locks_max: usize,
    ) -> Result<LockPage, EngineError> {
        let (mut locks, mut passed) = (Vec::new(), 0);
        if range.is_empty() {
            return Ok(LockPage { locks, resume: None });
        }
        let mut held = self.held.iter().filter(|(key, _)| range.contains(key)).peekable();
        let mut iter = self.snapshot.iter(Cf::Lock, range);
        let mut valid = iter.seek_to_first();
        loop {
            let in_engine = valid.then(|| Bytes::copy_from_slice(iter.key()));
            // One that stands in both is told as it is held.
            let is_held = match (held.peek(), &in_engine) {
                (Some((key, _)), Some(other)) => *key <= other,
                (held, _) => held.is_some(),
            };
            let next = if is_held { held.peek().map(|(key, _)| (*key).clone()) } else { in_engine.clone() };
            let Some(key) = next else { break };
            if locks.len() >= locks_max || passed >= LOCKS_PASSED_MAX {
                return Ok(LockPage { locks, resume: Some(key) });
            }
            passed += 1;
            let lock = match held.next_if(|_| is_held) {
                Some((_, lock)) => lock.clone(),
                None => Lock::read(&Bytes::copy_from_slice(iter.value()))?,
            };
            if in_engine.as_ref() == Some(&key) {
                valid = iter.next();
            }
            if lock.start_ts <= up_to {
                locks.push((key, lock));
            }
        }
        iter.status()?;
        Ok(LockPage { locks, resume: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engine, lock as put_lock, record, write};
    use crate::{LockKind, Write, put_value};
    use engine::Engine;

    /// Whoever looks at a key sees all that happened to it, the newest first, and nothing of its neighbours.
    #[test]
    fn the_history_of_a_key_is_told_from_its_newest_version_on() {
        let engine = engine(|engine| {
            write(engine, |batch| put_value(batch, b"k", Timestamp(10), b"a long value"));
            record(engine, b"k", Timestamp(20), &Write::new(WriteKind::Put, Timestamp(10)));
            record(engine, b"k", Timestamp(30), &Write::new(WriteKind::Rollback, Timestamp(30)));
            record(engine, b"k", Timestamp(50), &Write::new(WriteKind::Delete, Timestamp(40)));
            record(engine, b"l", Timestamp(60), &Write::new(WriteKind::Lock, Timestamp(55)));
        });
        let snapshot = engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        let history = reader.history(b"k", 10).expect("readable");
        let told: Vec<_> =
            history.iter().map(|seen| (seen.kind, seen.commit_ts.0, seen.start_ts.0)).collect();
        assert_eq!(
            told,
            [(WriteKind::Delete, 50, 40), (WriteKind::Rollback, 30, 30), (WriteKind::Put, 20, 10)]
        );
        assert_eq!(history[2].value.as_deref(), Some(&b"a long value"[..]));
        assert_eq!(reader.history(b"k", 1).map(|history| history.len()), Ok(1), "no more than asked for");
        assert_eq!(reader.history(b"nobody", 10), Ok(Vec::new()));
    }

    /// A search for locks that were left behind takes older ones only, stops at its limit, and says where it goes on.
    #[test]
    fn locks_are_found_page_by_page_up_to_a_timestamp() {
        let engine = engine(|engine| {
            for (key, start_ts) in [("a", 10), ("b", 99), ("c", 20), ("d", 30)] {
                let lock = Lock::new(LockKind::Put, key.into(), Timestamp(start_ts), 0);
                put_lock(engine, key.as_bytes(), &lock);
            }
        });
        let snapshot = engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        let names = |page: &LockPage| -> Vec<Key> { page.locks.iter().map(|(key, _)| key.clone()).collect() };
        let first = reader.locks(&KeyRange::full(), Timestamp(50), 2).expect("readable");
        assert_eq!((names(&first), first.resume.as_deref()), (vec!["a".into(), "c".into()], Some(&b"d"[..])));
        let rest = KeyRange { start: first.resume.expect("more"), end: Key::new() };
        let second = reader.locks(&rest, Timestamp(50), 2).expect("readable");
        assert_eq!((names(&second), second.resume), (vec!["d".into()], None));
        let none = reader.locks(&KeyRange::new("b", "c"), Timestamp(50), 2).expect("readable");
        assert_eq!(none, LockPage::default());
    }

    /// Some locks stand in the engine and some elsewhere: they are told in the order of their keys, each once.
    #[test]
    fn locks_that_are_held_are_found_among_the_others() {
        let lock = |key: &'static str, start_ts| Lock::new(LockKind::Put, key.into(), Timestamp(start_ts), 0);
        let engine = engine(|engine| {
            ["b", "d", "f"].iter().for_each(|key| put_lock(engine, key.as_bytes(), &lock(key, 10)));
        });
        let held = ["a", "d", "e", "g"].map(|key| (Key::from(key), lock(key, 20))).into();
        let snapshot = engine.snapshot();
        let reader = MvccReader::new(&snapshot).holding(&held);
        let (mut found, mut from) = (Vec::new(), Some(Key::new()));
        while let Some(start) = from {
            let rest = KeyRange { start, end: Key::new() };
            let page = reader.locks(&rest, Timestamp(50), 2).expect("readable");
            found.extend(page.locks.into_iter().map(|(key, lock)| (key, lock.start_ts.0)));
            from = page.resume;
        }
        let expected = [("a", 20), ("b", 10), ("d", 20), ("e", 20), ("f", 10), ("g", 20)];
        assert_eq!(found, expected.map(|(key, start_ts)| (Key::from(key), start_ts)));
        let old = reader.locks(&KeyRange::new("a", "e"), Timestamp(15), 9).expect("readable");
        assert_eq!(old.locks.len(), 1, "of old transactions: {old:?}");
    }
}
