//! What import, verify and export ask of a cluster, so that they can be tested without one.

use bytes::Bytes;
use client::{Error, KvPair, RawClient, Scan, ScanOptions};
use futures_util::Stream;
use types::{Key, KeyRange};

/// Pairs in order.
pub(crate) trait Pairs {
    /// Pairs of a range, one after another.
    type Scan: Stream<Item = Result<KvPair, Error>> + Unpin;

    /// Sets keys; not atomic.
    fn put(&self, pairs: Vec<(Key, Bytes)>) -> impl Future<Output = Result<(), Error>>;

    /// Removes keys; not atomic.
    fn delete(&self, keys: Vec<Key>) -> impl Future<Output = Result<(), Error>>;

    /// All pairs of a range, ascending.
    fn scan(&self, range: KeyRange, keys_only: bool) -> Result<Self::Scan, Error>;
}

impl Pairs for RawClient {
    type Scan = Scan;

    async fn put(&self, pairs: Vec<(Key, Bytes)>) -> Result<(), Error> {
        self.batch_put(pairs).await
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), Error> {
        self.batch_delete(keys).await
    }

    fn scan(&self, range: KeyRange, keys_only: bool) -> Result<Scan, Error> {
        Self::scan(self, range, ScanOptions { keys_only, ..ScanOptions::default() })
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use super::*;
    use futures_util::stream;
    use parking_lot::Mutex;
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    /// A cluster in a map, whose next writes can be made to fail.
    #[derive(Default)]
    pub(crate) struct FakePairs {
        pub(crate) pairs: Mutex<BTreeMap<Key, Bytes>>,
        /// Those of them that end.
        pub(crate) ending: Mutex<BTreeSet<Key>>,
        /// For each of the next puts: what it answers, after it has been made.
        pub(crate) answers: Mutex<VecDeque<Error>>,
        /// The sizes of the puts that came.
        pub(crate) puts: Mutex<Vec<usize>>,
    }

    impl Pairs for FakePairs {
        type Scan = stream::Iter<std::vec::IntoIter<Result<KvPair, Error>>>;

        async fn put(&self, pairs: Vec<(Key, Bytes)>) -> Result<(), Error> {
            self.puts.lock().push(pairs.len());
            self.pairs.lock().extend(pairs);
            match self.answers.lock().pop_front() {
                Some(error) => Err(error),
                None => Ok(()),
            }
        }

        async fn delete(&self, keys: Vec<Key>) -> Result<(), Error> {
            let mut pairs = self.pairs.lock();
            for key in keys {
                pairs.remove(&key);
            }
            Ok(())
        }

        fn scan(&self, range: KeyRange, keys_only: bool) -> Result<Self::Scan, Error> {
            let pairs = self.pairs.lock();
            let found = pairs.iter().filter(|(key, _)| range.contains(key)).map(|(key, value)| {
                let value = if keys_only { Bytes::new() } else { value.clone() };
                let ttl_ms = if self.ending.lock().contains(key) { 900 } else { 0 };
                Ok(KvPair { key: key.clone(), value, ttl_ms })
            });
            Ok(stream::iter(found.collect::<Vec<_>>()))
        }
    }
}
