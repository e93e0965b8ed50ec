//! The newest version of a key, which stands under the key itself.

use crate::error::corrupt;
use crate::key::versioned;
use crate::{Write, WriteKind};
use bytes::Bytes;
use codec::{Decode, Encode, codec_struct};
use engine::{Cf, EngineError, WriteBatch};
use types::Timestamp;

/// What was done to a key last.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Newest {
    /// When its data was committed; zero if it never had any.
    pub commit_ts: Timestamp,
    /// What was done to its data then.
    pub write: Option<Write>,
    /// When the last record is of what has happened to the key since, and has not changed its data; zero if there is none.
    pub later: Timestamp,
}
codec_struct!(Newest { commit_ts, write, later });

impl Newest {
    /// When the last record of any kind is: after that nothing has happened to the key.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.commit_ts.max(self.later)
    }

    /// True if the key has a value.
    #[must_use]
    pub fn is_put(&self) -> bool {
        self.write.as_ref().is_some_and(|write| write.kind == WriteKind::Put)
    }

    pub(crate) fn read(bytes: &Bytes) -> Result<Self, EngineError> {
        Self::from_bytes(bytes).map_err(|error| corrupt("the newest version of a key", &error))
    }

    /// Appends to `batch` that it stands under the key.
    fn put(&self, batch: &mut WriteBatch, key: &[u8]) {
        batch.put(Cf::Newest, key, &self.to_bytes());
    }
}

/// Appends a record to `batch`, of a key whose newest version is `before`. The one of the data that was newest goes where the
/// older ones are.
pub fn put_write(batch: &mut WriteBatch, key: &[u8], before: Option<&Newest>, at: Timestamp, write: &Write) {
    let none = Newest::default();
    let before = before.unwrap_or(&none);
    let is_newest = write.is_data() && at >= before.commit_ts;
    // Garbage collection looks for what is over among the older ones, and is to find that the key is removed.
    if !is_newest || write.kind == WriteKind::Delete {
        batch.put(Cf::Write, &versioned(key, at), &write.to_bytes());
    }
    if is_newest {
        if let Some(older) = before.write.as_ref().filter(|_| before.is_put() && at > before.commit_ts) {
            batch.put(Cf::Write, &versioned(key, before.commit_ts), &older.to_bytes());
        }
        let later = if before.later > at { before.later } else { Timestamp(0) };
        Newest { commit_ts: at, write: Some(write.clone()), later }.put(batch, key);
    } else if at > before.last() {
        Newest { later: at, ..before.clone() }.put(batch, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engine, record};
    use crate::{MvccReader, View};
    use engine::{Engine, MemEngine, Snapshot};
    use types::KeyRange;

    fn put(start_ts: u64, value: &'static str) -> Write {
        Write { short_value: Some(value.into()), ..Write::new(WriteKind::Put, Timestamp(start_ts)) }
    }

    fn newest(engine: &MemEngine) -> Newest {
        MvccReader::new(&engine.snapshot()).newest(b"k").expect("readable").expect("there")
    }

    /// The commit timestamps that stand with the older versions.
    fn older(engine: &MemEngine) -> Vec<u64> {
        let snapshot = engine.snapshot();
        let (mut iter, mut found) = (snapshot.iter(Cf::Write, &KeyRange::full()), Vec::new());
        let mut valid = iter.seek_to_first();
        while valid {
            found.push(crate::without_timestamp(iter.key()).expect("a version").1.0);
            valid = iter.next();
        }
        found
    }

    fn history(engine: &MemEngine) -> Vec<(WriteKind, u64)> {
        let history = MvccReader::new(&engine.snapshot()).history(b"k", 100).expect("readable");
        history.into_iter().map(|version| (version.kind, version.commit_ts.0)).collect()
    }

    /// A version stands under its key until it is replaced, and then with the older ones, where readers of the past find it.
    #[test]
    fn what_is_replaced_goes_where_the_older_ones_are() {
        let engine = engine(|engine| {
            record(engine, b"k", Timestamp(20), &put(10, "1"));
            assert_eq!((older(engine), newest(engine).last()), (vec![], Timestamp(20)));
            record(engine, b"k", Timestamp(40), &put(30, "2"));
        });
        assert_eq!((older(&engine), newest(&engine).write), (vec![20], Some(put(30, "2"))));
        let snapshot = engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        let seen = |at| reader.get(&"k".into(), &View::at(Timestamp(at))).expect("readable");
        assert_eq!([seen(19), seen(39), seen(40)], [None, Some("1".into()), Some("2".into())]);
    }

    /// What happens to a key without a change of its data leaves the data where it is, and says that something happened.
    #[test]
    fn rollbacks_and_claims_stand_beside_the_newest_data() {
        let engine = engine(|engine| {
            record(engine, b"k", Timestamp(5), &Write::new(WriteKind::Rollback, Timestamp(5)));
            assert_eq!(newest(engine), Newest { later: Timestamp(5), ..Newest::default() });
            record(engine, b"k", Timestamp(20), &put(10, "1"));
            assert_eq!(newest(engine).later, Timestamp(0), "it is no later any more");
            record(engine, b"k", Timestamp(15), &Write::new(WriteKind::Rollback, Timestamp(15)));
            assert_eq!(newest(engine).last(), Timestamp(20));
            record(engine, b"k", Timestamp(30), &Write::new(WriteKind::Lock, Timestamp(25)));
        });
        let told = newest(&engine);
        assert_eq!((told.commit_ts, told.last(), told.is_put()), (Timestamp(20), Timestamp(30), true));
        assert_eq!(older(&engine), [30, 15, 5]);
        let (put, claim, rollback) = (WriteKind::Put, WriteKind::Lock, WriteKind::Rollback);
        assert_eq!(history(&engine), [(claim, 30), (put, 20), (rollback, 15), (rollback, 5)]);
    }

    /// Garbage collection goes over the older versions alone; a removal is there for it, and is told once.
    #[test]
    fn a_removal_stands_in_both_places_and_is_told_once() {
        let engine = engine(|engine| {
            record(engine, b"k", Timestamp(20), &put(10, "1"));
            record(engine, b"k", Timestamp(40), &Write::new(WriteKind::Delete, Timestamp(30)));
            assert_eq!((older(engine), newest(engine).is_put()), (vec![40, 20], false));
            assert_eq!(history(engine), [(WriteKind::Delete, 40), (WriteKind::Put, 20)]);
            record(engine, b"k", Timestamp(60), &put(50, "2"));
        });
        assert_eq!(older(&engine), [40, 20]);
        assert_eq!(history(&engine), [(WriteKind::Put, 60), (WriteKind::Delete, 40), (WriteKind::Put, 20)]);
    }

    /// A transaction is rolled back that began when another committed, before that is replaced and after: the one record says
    /// both, wherever it stands.
    #[test]
    fn a_rollback_is_noted_in_the_commit_in_whose_place_it_would_stand() {
        let both = Write { overlapped_rollback: true, ..put(10, "1") };
        let noted_before = engine(|engine| {
            record(engine, b"k", Timestamp(20), &put(10, "1"));
            record(engine, b"k", Timestamp(20), &both);
            record(engine, b"k", Timestamp(40), &put(30, "2"));
        });
        let noted_after = engine(|engine| {
            record(engine, b"k", Timestamp(20), &put(10, "1"));
            record(engine, b"k", Timestamp(40), &put(30, "2"));
            record(engine, b"k", Timestamp(20), &both);
        });
        for engine in [noted_before, noted_after] {
            assert_eq!((older(&engine), newest(&engine).commit_ts), (vec![20], Timestamp(40)));
            let snapshot = engine.snapshot();
            let own = MvccReader::new(&snapshot).record_of(b"k", Timestamp(20));
            assert_eq!(own, Ok(crate::Record::RolledBack));
        }
    }
}
