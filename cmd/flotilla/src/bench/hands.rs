//! One client's hands: it does what is picked for it, and notes it if somebody wants to know.

use super::history::{Asked, Came, History};
use super::workload::Operation;
use bytes::Bytes;
use client::{Error, KeyRange, Keyspace, KvPair, RawClient, ScanOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::Key;

/// All keys of a benchmark begin so.
const PREFIX: &str = "bench/";

/// Where the keys of a load lie.
#[derive(Clone, Debug)]
pub(super) struct Keys(Arc<str>);

impl Keys {
    /// A history has keys of its own, under which there was nothing before.
    pub(super) fn new(history: Option<&History>) -> Self {
        Self(format!("{PREFIX}{}", history.map(History::prefix).unwrap_or_default()).into())
    }

    pub(super) fn key(&self, number: u64) -> Key {
        format!("{}{number:016x}", self.0).into()
    }

    /// The key as regions know it.
    pub(super) fn inner(&self, number: u64) -> Key {
        Keyspace::RAW.encode(&self.key(number))
    }

    fn number(&self, key: &[u8]) -> Option<u64> {
        let digits = std::str::from_utf8(key.strip_prefix(self.0.as_bytes())?).ok()?;
        u64::from_str_radix(digits, 16).ok()
    }

    fn end(&self) -> Key {
        KeyRange::prefix(Bytes::copy_from_slice(self.0.as_bytes())).end
    }
}

/// Who notes what a client does.
pub(super) struct Witness {
    pub(super) history: Arc<History>,
    /// The client's number; one for all is kept for who fills the keys.
    pub(super) process: u64,
    made: u64,
}

impl Witness {
    pub(super) fn new(history: Arc<History>, process: u64) -> Self {
        Self { history, process, made: 0 }
    }

    /// A value that nobody else writes, at least `size` bytes long if it can be.
    pub(super) fn value(&mut self, size: usize) -> Bytes {
        self.made += 1;
        format!("{:.<size$}", format!("{}-{}", self.process, self.made)).into()
    }

    pub(super) fn note(&self, key: &Key, asked: Asked<'_>, start_ns: u64, came: Came<'_>) {
        self.history.note(self.process, key, asked, start_ns, came);
    }
}

/// One client.
pub(super) struct Hands {
    pub(super) client: RawClient,
    pub(super) keys: Keys,
    /// What is written; with a witness, only its length counts.
    pub(super) value: Bytes,
    pub(super) witness: Option<Witness>,
    /// What was seen last of keys that are swapped.
    seen: BTreeMap<u64, Option<Bytes>>,
}

impl Hands {
    pub(super) fn new(client: RawClient, keys: Keys, value: Bytes, witness: Option<Witness>) -> Self {
        Self { client, keys, value, witness, seen: BTreeMap::new() }
    }

    /// A key that is not there (an insert of it may be under way) is an answer like any other.
    pub(super) async fn perform(&mut self, operation: Operation) -> Result<(), Error> {
        match operation {
            Operation::Put { key } => self.put(key).await,
            Operation::Get { key } => self.get(key).await.map(|_| ()),
            Operation::Delete { key } => self.delete(key).await,
            Operation::Swap { key } => self.swap(key).await,
            Operation::Scan { first, pairs } => self.scan(first, pairs).await,
            Operation::Modify { key } => self.modify(key).await,
        }
    }

    fn value(&mut self) -> Bytes {
        match &mut self.witness {
            Some(witness) => witness.value(self.value.len()),
            None => self.value.clone(),
        }
    }

    fn now(&self) -> u64 {
        self.witness.as_ref().map_or(0, |witness| witness.history.now())
    }

    fn note(&self, key: &Key, asked: Asked<'_>, start_ns: u64, came: Came<'_>) {
        if let Some(witness) = &self.witness {
            witness.note(key, asked, start_ns, came);
        }
    }

    async fn get(&mut self, number: u64) -> Result<Option<Bytes>, Error> {
        let (key, start) = (self.keys.key(number), self.now());
        let result = self.client.get(key.clone()).await;
        let came = result.as_ref().map_or_else(Came::Failed, |value| Came::Found(value.as_ref()));
        self.note(&key, Asked::Get, start, came);
        result
    }

    async fn put(&mut self, number: u64) -> Result<(), Error> {
        let (key, value, start) = (self.keys.key(number), self.value(), self.now());
        let result = self.client.put(key.clone(), value.clone()).await;
        let came = result.as_ref().map_or_else(Came::Failed, |()| Came::Written);
        self.note(&key, Asked::Put(&value), start, came);
        result
    }

    /// Reads a key and writes what follows from it. Each swap that does not hold means that another client's did, so it
    /// ends with the last of the others at the latest.
    async fn modify(&mut self, number: u64) -> Result<(), Error> {
        let mut read = self.get(number).await?;
        loop {
            let (key, new, start) = (self.keys.key(number), self.value(), self.now());
            let result = self.client.compare_and_swap(key.clone(), read.clone(), Some(new.clone())).await;
            let came = result.as_ref().map_or_else(Came::Failed, |swap| Came::Swapped {
                succeeded: swap.succeeded,
                found: swap.previous.as_ref(),
            });
            self.note(&key, Asked::Swap { expect: read.as_ref(), new: Some(&new) }, start, came);
            let swap = result?;
            if swap.succeeded {
                return Ok(());
            }
            read = swap.previous;
        }
    }

    async fn delete(&mut self, number: u64) -> Result<(), Error> {
        let (key, start) = (self.keys.key(number), self.now());
        let result = self.client.delete(key.clone()).await;
        let came = result.as_ref().map_or_else(Came::Failed, |()| Came::Written);
        self.note(&key, Asked::Delete, start, came);
        result
    }

    /// Sets a key that holds what was seen there last. That it holds something else is an answer like any other.
    async fn swap(&mut self, number: u64) -> Result<(), Error> {
        let (key, new, start) = (self.keys.key(number), self.value(), self.now());
        let expect = self.seen.get(&number).cloned().unwrap_or_default();
        let result = self.client.compare_and_swap(key.clone(), expect.clone(), Some(new.clone())).await;
        let came = result.as_ref().map_or_else(Came::Failed, |swap| Came::Swapped {
            succeeded: swap.succeeded,
            found: swap.previous.as_ref(),
        });
        self.note(&key, Asked::Swap { expect: expect.as_ref(), new: Some(&new) }, start, came);
        let swap = result?;
        self.seen.insert(number, if swap.succeeded { Some(new) } else { swap.previous });
        Ok(())
    }

    async fn scan(&mut self, first: u64, pairs: u64) -> Result<(), Error> {
        let options = ScanOptions { limit: Some(pairs), ..ScanOptions::default() };
        let (range, start) = (KeyRange::new(self.keys.key(first), self.keys.end()), self.now());
        let found = self.client.scan(range, options)?.into_vec().await?;
        self.note_scan(first, found, start);
        Ok(())
    }

    /// A scan has read every key from its first to the last that it found, some of them absent. One that has failed has
    /// read nothing.
    fn note_scan(&self, first: u64, found: Vec<KvPair>, start: u64) {
        if self.witness.is_none() {
            return;
        }
        let found: BTreeMap<u64, Bytes> =
            found.into_iter().filter_map(|pair| Some((self.keys.number(&pair.key)?, pair.value))).collect();
        let Some((last, _)) = found.last_key_value() else { return };
        for number in first..=*last {
            self.note(&self.keys.key(number), Asked::Get, start, Came::Found(found.get(&number)));
        }
    }
}
