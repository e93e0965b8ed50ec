//! Whether what was read has stayed as it was.
//!
//! Who read keys at one timestamp, and asks at a later one whether others have changed them in between, is answered from
//! the records alone: no value is looked at. Locks are in the way as they are for a reader at the later timestamp, because
//! what they stand for may yet be committed in between.

use crate::scan::{Cursor, Direction};
use crate::{Lock, MvccReader, Newest, View};
use bytes::Bytes;
use engine::{Cf, EngineError, Snapshot};
use types::{Key, KeyRange, Timestamp};

/// How much one search for changes may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangeLimits {
    /// Moves of each cursor; at least one key is passed.
    pub steps_max: usize,
    /// Locks told at once.
    pub locks_max: usize,
}

/// What a search for changes has come to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    /// Locks of transactions that may yet commit in between. If there are any, nothing else is said.
    pub locks: Vec<(Key, Lock)>,
    /// The first key that was changed, when, and when the transaction began that did it.
    pub first: Option<(Key, Timestamp, Timestamp)>,
    /// The search goes on at this key; `None` if it is finished.
    pub resume: Option<Key>,
}

impl<S: Snapshot> MvccReader<'_, S> {
    /// Whether any of these keys was given a value, or removed, later than `since`, and by the time of the view at the
    /// latest. Of the transactions that the view knows, those that are `resolved` are passed over, and no others.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn changed_keys(
        &self,
        keys: &[Key],
        since: Timestamp,
        view: &View,
        locks_max: usize,
    ) -> Result<Changes, EngineError> {
        let mut found = Changes::default();
        for key in keys {
            if let Some(lock) = self.lock(key)?.filter(|lock| is_in_the_way(lock, key, view)) {
                found.locks.push((key.clone(), lock));
                if found.locks.len() >= locks_max {
                    break;
                }
            } else if found.first.is_none() {
                let changed = self.data_at(key, view.at)?.filter(|(commit_ts, _)| *commit_ts > since);
                found.first = changed.map(|(commit_ts, write)| (key.clone(), commit_ts, write.start_ts));
            }
        }
        Ok(found)
    }

    /// The same for all keys of a range, those included that had no value.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn changed_in(
        &self,
        range: &KeyRange,
        since: Timestamp,
        view: &View,
        limits: ChangeLimits,
    ) -> Result<Changes, EngineError> {
        let mut found = Changes::default();
        if range.is_empty() {
            return Ok(found);
        }
        let mut locks = Cursor::new(self.snapshot.iter(Cf::Lock, range));
        locks.begin(Direction::Forward)?;
        let mut passed = false;
        while locks.valid
            && (locks.steps <= limits.steps_max || !passed)
            && found.locks.len() < limits.locks_max
        {
            passed = true;
            let key = Bytes::copy_from_slice(locks.iter.key());
            let lock = Lock::read(&Bytes::copy_from_slice(locks.iter.value()))?;
            if is_in_the_way(&lock, &key, view) {
                found.locks.push((key, lock));
            }
            locks.step(Direction::Forward)?;
        }
        if !found.locks.is_empty() {
            return Ok(found);
        }
        // Behind a lock that was not looked at, records prove nothing.
        let mut seen = range.clone();
        if locks.valid {
            let unseen = Bytes::copy_from_slice(locks.iter.key());
            (seen.end, found.resume) = (unseen.clone(), Some(unseen));
        }
        let mut newest = Cursor::new(self.snapshot.iter(Cf::Newest, &seen));
        newest.begin(Direction::Forward)?;
        let (mut passed, mut steps) = (false, 0);
        while newest.valid {
            let key = Bytes::copy_from_slice(newest.iter.key());
            if newest.steps + steps > limits.steps_max && std::mem::replace(&mut passed, true) {
                found.resume = Some(key);
                return Ok(found);
            }
            let version = Newest::read(&Bytes::copy_from_slice(newest.iter.value()))?;
            if version.commit_ts > since
                && let Some((commit_ts, write)) = self.data_by(&key, version, view.at, &mut steps)?
                && commit_ts > since
            {
                found.first = Some((key, commit_ts, write.start_ts));
                return Ok(found);
            }
            newest.step(Direction::Forward)?;
        }
        Ok(found)
    }
}

fn is_in_the_way(lock: &Lock, key: &[u8], view: &View) -> bool {
    lock.hides(key, view.at) && !view.resolved.contains(&lock.start_ts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engine, lock as put_lock, record as put_record};
    use crate::{LockKind, Write, WriteKind};
    use engine::{Engine, MemEngine};

    const LIMITS: ChangeLimits = ChangeLimits { steps_max: usize::MAX, locks_max: 8 };

    fn record(engine: &MemEngine, key: &[u8], kind: WriteKind, commit_ts: u64) {
        put_record(engine, key, Timestamp(commit_ts), &Write::new(kind, Timestamp(commit_ts - 1)));
    }

    /// Keys that were set, removed and added are changed, and those that were only locked or rolled back are not; what
    /// happened before the first moment or after the second does not count.
    #[test]
    fn what_was_changed_between_two_moments_is_found_in_keys_and_in_ranges() {
        let engine = engine(|engine| {
            record(engine, b"a", WriteKind::Put, 10);
            record(engine, b"a", WriteKind::Lock, 25);
            record(engine, b"a", WriteKind::Rollback, 26);
            record(engine, b"a", WriteKind::Put, 40);
            record(engine, b"b", WriteKind::Put, 10);
            record(engine, b"b", WriteKind::Delete, 25);
            for at in 26..60 {
                record(engine, b"b", WriteKind::Put, at);
            }
            record(engine, b"c", WriteKind::Put, 30);
        });
        let snapshot = engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        let (a, b, c) = (|| Key::from("a"), || Key::from("b"), || Key::from("c"));
        let keys = |keys: &[Key], since, at| {
            let found = reader.changed_keys(keys, Timestamp(since), &View::at(Timestamp(at)), 8).unwrap();
            assert_eq!((found.locks, found.resume), (Vec::new(), None));
            found.first.map(|(key, commit_ts, start_ts)| (key, commit_ts.0, start_ts.0))
        };
        assert_eq!(keys(&[a()], 20, 30), None);
        assert_eq!(keys(&[a()], 20, 40), Some((a(), 40, 39)));
        assert_eq!(keys(&[a(), b()], 20, 25), Some((b(), 25, 24)));
        assert_eq!(keys(&[a(), b(), c()], 25, 25), None);
        let range = |start: &'static str, end: &'static str, since, at| {
            let range = KeyRange::new(start, end);
            let view = View::at(Timestamp(at));
            let found = reader.changed_in(&range, Timestamp(since), &view, LIMITS).unwrap();
            assert_eq!((found.locks, found.resume), (Vec::new(), None));
            found.first.map(|(key, commit_ts, _)| (key, commit_ts.0))
        };
        assert_eq!(range("a", "b", 20, 30), None);
        assert_eq!(range("", "", 20, 24), None);
        assert_eq!(range("", "", 20, 25), Some((b(), 25)));
        assert_eq!(range("c", "", 20, 30), Some((c(), 30)), "a key that was not there is there now");
        assert_eq!(range("c", "d", 20, 29), None);
        assert_eq!(range("c", "", 30, 50), None);
    }

    /// What a lock stands for may be committed in between, unless its transaction is known to commit later, or not at all.
    #[test]
    fn locks_are_in_the_way_unless_they_are_known_to_commit_later() {
        let lock = |kind, start_ts, min: u64| Lock {
            min_commit_ts: Timestamp(min),
            ..Lock::new(kind, "p".into(), Timestamp(start_ts), 0)
        };
        let engine = engine(|engine| {
            put_lock(engine, b"a", &lock(LockKind::Put, 25, 26));
            put_lock(engine, b"b", &lock(LockKind::Pessimistic, 25, 0));
            put_lock(engine, b"c", &lock(LockKind::Delete, 22, 31));
            record(engine, b"d", WriteKind::Put, 30);
        });
        let snapshot = engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        let keys = ["a", "b", "c", "d"].map(Key::from);
        let both = |view: &View| {
            let range = reader.changed_in(&KeyRange::full(), Timestamp(20), view, LIMITS).unwrap();
            assert_eq!(reader.changed_keys(&keys, Timestamp(20), view, 8).unwrap().locks, range.locks);
            let locked: Vec<Key> = range.locks.iter().map(|(key, _)| key.clone()).collect();
            (locked, range.first.map(|(key, ..)| key))
        };
        let mut view = View::at(Timestamp(30));
        assert_eq!(both(&view), (vec![keys[0].clone()], None));
        view.resolved.insert(Timestamp(25));
        assert_eq!(both(&view), (vec![], Some(keys[3].clone())));
        view.at = Timestamp(31);
        assert_eq!(both(&view), (vec![keys[2].clone()], None));
    }

    /// A search that may do little at a time comes to the same in the end.
    #[test]
    fn a_search_that_is_cut_short_goes_on_where_it_stopped() {
        let engine = engine(|engine| {
            for number in 0..20u8 {
                let key = [b'k', number];
                record(engine, &key, WriteKind::Put, 10);
                record(engine, &key, WriteKind::Rollback, 25);
                put_lock(engine, &key, &Lock::new(LockKind::Lock, "p".into(), Timestamp(25), 0));
            }
            record(engine, &[b'k', 17], WriteKind::Put, 30);
        });
        let snapshot = engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        for steps_max in 0..70 {
            let limits = ChangeLimits { steps_max, locks_max: 8 };
            let (mut range, mut rounds) = (KeyRange::full(), 0);
            let first = loop {
                let view = View::at(Timestamp(30));
                let found = reader.changed_in(&range, Timestamp(20), &view, limits).unwrap();
                rounds += 1;
                assert!(found.locks.is_empty() && rounds <= 21, "{steps_max}: {found:?}");
                if found.first.is_some() {
                    break found.first.map(|(key, ..)| key);
                }
                let Some(resume) = found.resume else { break None };
                assert!(resume > range.start, "{steps_max}: {range:?} goes on at {resume:?}");
                range.start = resume;
            };
            assert_eq!(first, Some(Key::from(vec![b'k', 17])), "{steps_max}");
        }
    }
}
