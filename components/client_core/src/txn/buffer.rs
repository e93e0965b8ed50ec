//! What a transaction does, before anybody else knows.

use crate::error::Error;
use crate::txn::error::TxnError;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use types::{Key, KeyRange};
use wire::txn::{Mutation, MutationKind};

/// Writes by key, and keys that are reserved with what they hold. All keys are as the region layer sees them.
///
/// Invariant: `size` is what all of them weigh, those included that savepoints keep, and does not exceed `size_max`.
#[derive(Debug)]
pub(crate) struct Buffer {
    writes: BTreeMap<Key, MutationKind>,
    reserved: BTreeMap<Key, Option<Bytes>>,
    /// In the order in which they were set.
    savepoints: Vec<Before>,
    size: u64,
    size_max: u64,
}

/// So many savepoints can be set at once.
const SAVEPOINTS_MAX: usize = 1024;

/// All of the process are counted together: a savepoint of one transaction is none of another's.
static NEXT_SAVEPOINT: AtomicU64 = AtomicU64::new(0);

/// What keys were to become when a savepoint was set, of those that were written after it and before the next one.
#[derive(Debug)]
struct Before {
    number: u64,
    keys: BTreeMap<Key, Option<MutationKind>>,
}

/// What inserting a key comes to, as far as the transaction itself can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inserting {
    /// It has set the key.
    Exists,
    /// It has removed the key, or seen that it is not there.
    IsNew,
    /// Nobody knows.
    Unknown,
}

impl Buffer {
    pub(crate) fn new(size_max: u64) -> Self {
        let (writes, reserved) = (BTreeMap::new(), BTreeMap::new());
        Self { writes, reserved, savepoints: Vec::new(), size: 0, size_max }
    }

    /// What the transaction itself sees of a key: `None` if that is what its snapshot says.
    pub(crate) fn value(&self, key: &Key) -> Option<Option<Bytes>> {
        let written = self.writes.get(key).and_then(written_value);
        written.or_else(|| self.reserved.get(key).cloned())
    }

    /// The same for all keys of a range.
    pub(crate) fn values_in(&self, range: &KeyRange) -> BTreeMap<Key, Option<Bytes>> {
        if range.is_empty() {
            return BTreeMap::new();
        }
        let mut values: BTreeMap<Key, Option<Bytes>> =
            within(&self.reserved, range).map(|(key, value)| (key.clone(), value.clone())).collect();
        let written =
            within(&self.writes, range).filter_map(|(key, kind)| Some((key.clone(), written_value(kind)?)));
        values.extend(written);
        values
    }

    pub(crate) fn put(&mut self, key: Key, value: Bytes) -> Result<(), Error> {
        let kind = match self.writes.get(&key) {
            // That it was new is still to be seen to.
            Some(MutationKind::Insert(_) | MutationKind::CheckNotExists) => MutationKind::Insert(value),
            _ => MutationKind::Put(value),
        };
        self.write(key, kind)
    }

    pub(crate) fn inserting(&self, key: &Key) -> Inserting {
        match (self.writes.get(key), self.reserved.get(key)) {
            (Some(MutationKind::Put(_) | MutationKind::Insert(_)), _) => Inserting::Exists,
            (Some(MutationKind::Delete | MutationKind::CheckNotExists), _) => Inserting::IsNew,
            (_, Some(Some(_))) => Inserting::Exists,
            (_, Some(None)) => Inserting::IsNew,
            (_, None) => Inserting::Unknown,
        }
    }

    /// After [`Buffer::inserting`] has not said that it exists.
    pub(crate) fn insert(&mut self, key: Key, value: Bytes) -> Result<(), Error> {
        let kind = match self.writes.get(&key) {
            Some(MutationKind::Delete) => MutationKind::Put(value),
            _ => MutationKind::Insert(value),
        };
        self.write(key, kind)
    }

    pub(crate) fn delete(&mut self, key: Key) -> Result<(), Error> {
        let kind = match self.writes.get(&key) {
            Some(MutationKind::Insert(_) | MutationKind::CheckNotExists) => MutationKind::CheckNotExists,
            _ => MutationKind::Delete,
        };
        self.write(key, kind)
    }

    /// Nobody else may write the key until the transaction has committed.
    pub(crate) fn lock(&mut self, key: Key) -> Result<(), Error> {
        if !self.writes.contains_key(&key) {
            // It stays locked whatever is taken back: nothing to remember.
            self.weigh(key.len(), 0)?;
            self.writes.insert(key, MutationKind::Lock);
            return Ok(());
        }
        for before in self.savepoints.iter_mut().filter_map(|savepoint| savepoint.keys.get_mut(&key)) {
            before.get_or_insert(MutationKind::Lock);
        }
        Ok(())
    }

    /// From here on what is written can be taken back, up to so many times at once; gives back the savepoint's number.
    pub(crate) fn savepoint(&mut self) -> Option<u64> {
        if self.savepoints.len() >= SAVEPOINTS_MAX {
            return None;
        }
        let number = NEXT_SAVEPOINT.fetch_add(1, Ordering::Relaxed);
        self.savepoints.push(Before { number, keys: BTreeMap::new() });
        Some(number)
    }

    /// Takes back what was written since this savepoint; it stays, and those behind it are no more. What was reserved or
    /// locked stays so. False, and nothing is done, if there is no such savepoint.
    pub(crate) fn rollback_to(&mut self, number: u64) -> bool {
        let Some(place) = self.savepoints.iter().position(|savepoint| savepoint.number == number) else {
            return false;
        };
        for savepoint in self.savepoints.drain(place..).rev() {
            for (key, before) in savepoint.keys {
                let now = self.writes.remove(&key).map(|kind| weight(&key, &kind)).unwrap_or_default();
                // What it kept is either back, or nothing.
                let kept = before_weight(&key, before.as_ref());
                self.size -= (now + kept) as u64;
                if let Some(kind) = before {
                    self.size += weight(&key, &kind) as u64;
                    self.writes.insert(key, kind);
                }
            }
        }
        self.savepoints.push(Before { number, keys: BTreeMap::new() });
        true
    }

    /// The key is reserved, and this is what it holds.
    pub(crate) fn reserved(&mut self, key: Key, value: Option<Bytes>) -> Result<(), Error> {
        let size = key.len() + value.as_ref().map_or(0, Bytes::len);
        let before = self.reserved.get(&key).map(|value| key.len() + value.as_ref().map_or(0, Bytes::len));
        self.weigh(size, before.unwrap_or_default())?;
        self.reserved.insert(key, value);
        Ok(())
    }

    /// All of these, or none.
    pub(crate) fn reserve_all(&mut self, pairs: Vec<(Key, Option<Bytes>)>) -> Result<(), Error> {
        for (place, (key, value)) in pairs.iter().enumerate() {
            if let Err(error) = self.reserved(key.clone(), value.clone()) {
                for (key, value) in &pairs[..place] {
                    self.reserved.remove(key);
                    self.size -= (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    pub(crate) fn has_written(&self, key: &Key) -> bool {
        self.writes.contains_key(key)
    }

    pub(crate) fn is_reserved(&self, key: &Key) -> bool {
        self.reserved.contains_key(key)
    }

    /// What is to be committed, in key order.
    pub(crate) fn into_mutations(self) -> Vec<Mutation> {
        let Self { mut writes, reserved, .. } = self;
        for key in reserved.keys() {
            let kind = writes.entry(key.clone()).or_insert(MutationKind::Lock);
            if *kind == MutationKind::CheckNotExists {
                // That was seen when it was reserved; now the reservation must be ended.
                *kind = MutationKind::Lock;
            }
        }
        let mutation = |(key, kind)| Mutation { is_reserved: reserved.contains_key(&key), key, kind };
        writes.into_iter().map(mutation).collect()
    }

    fn write(&mut self, key: Key, kind: MutationKind) -> Result<(), Error> {
        let size = weight(&key, &kind);
        let now = self.writes.get(&key);
        let removed = now.map(|kind| weight(&key, kind)).unwrap_or_default();
        let kept = match self.savepoints.last() {
            Some(savepoint) if !savepoint.keys.contains_key(&key) => before_weight(&key, now),
            Some(_) | None => 0,
        };
        self.weigh(size + kept, removed)?;
        let before = self.writes.insert(key.clone(), kind);
        if let Some(savepoint) = self.savepoints.last_mut() {
            savepoint.keys.entry(key).or_insert(before);
        }
        Ok(())
    }

    fn weigh(&mut self, added: usize, removed: usize) -> Result<(), Error> {
        let size = self.size - removed as u64 + added as u64;
        if size > self.size_max {
            return Err(TxnError::TooLarge { size, size_max: self.size_max }.into());
        }
        self.size = size;
        Ok(())
    }
}

fn weight(key: &Key, kind: &MutationKind) -> usize {
    key.len()
        + match kind {
            MutationKind::Put(value) | MutationKind::Insert(value) => value.len(),
            MutationKind::Delete | MutationKind::Lock | MutationKind::CheckNotExists => 0,
        }
}

/// What a savepoint keeps of a key.
fn before_weight(key: &Key, before: Option<&MutationKind>) -> usize {
    before.map_or(key.len(), |kind| weight(key, kind))
}

fn written_value(kind: &MutationKind) -> Option<Option<Bytes>> {
    match kind {
        MutationKind::Put(value) | MutationKind::Insert(value) => Some(Some(value.clone())),
        MutationKind::Delete | MutationKind::CheckNotExists => Some(None),
        MutationKind::Lock => None,
    }
}

fn within<'a, T>(map: &'a BTreeMap<Key, T>, range: &KeyRange) -> impl Iterator<Item = (&'a Key, &'a T)> {
    let end = range.end.clone();
    map.range(range.start.clone()..).take_while(move |(key, _)| end.is_empty() || **key < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(buffer: Buffer) -> Vec<(Key, MutationKind)> {
        buffer.into_mutations().into_iter().map(|mutation| (mutation.key, mutation.kind)).collect()
    }

    #[test]
    fn a_key_that_must_be_new_stays_so_whatever_is_done_to_it_afterwards() {
        let key = || Key::from("k");
        let mut buffer = Buffer::new(1000);
        assert_eq!(buffer.inserting(&key()), Inserting::Unknown);
        buffer.insert(key(), "1".into()).unwrap();
        assert_eq!(buffer.inserting(&key()), Inserting::Exists);
        buffer.put(key(), "2".into()).unwrap();
        buffer.delete(key()).unwrap();
        assert_eq!((buffer.value(&key()), buffer.inserting(&key())), (Some(None), Inserting::IsNew));
        buffer.lock(key()).unwrap();
        buffer.put(key(), "3".into()).unwrap();
        assert_eq!(kinds(buffer), [(key(), MutationKind::Insert("3".into()))]);
        // Of one that was removed first, it is known.
        let mut buffer = Buffer::new(1000);
        buffer.delete(key()).unwrap();
        buffer.insert(key(), "4".into()).unwrap();
        assert_eq!(kinds(buffer), [(key(), MutationKind::Put("4".into()))]);
    }

    #[test]
    fn what_is_held_is_weighed_and_what_is_too_much_is_left_out() {
        let mut buffer = Buffer::new(20);
        buffer.put("key".into(), "12345".into()).unwrap();
        buffer.put("key".into(), "123".into()).unwrap();
        buffer.reserved("other".into(), Some("12".into())).unwrap();
        let full = TxnError::TooLarge { size: 21, size_max: 20 };
        assert_eq!(buffer.put("more".into(), "1234".into()), Err(full.into()));
        assert_eq!(buffer.value(&"more".into()), None);
        buffer.put("more".into(), "123".into()).unwrap();
    }

    #[test]
    fn reserved_keys_are_read_as_they_were_then_and_committed_with_the_rest() {
        let mut buffer = Buffer::new(1000);
        for (key, value) in [("a", Some("old")), ("b", None), ("c", Some("old"))] {
            buffer.reserved(key.into(), value.map(Bytes::from)).unwrap();
        }
        buffer.delete("a".into()).unwrap();
        buffer.insert("b".into(), "new".into()).unwrap();
        buffer.put("d".into(), "new".into()).unwrap();
        let seen: Vec<_> = buffer.values_in(&KeyRange::new("a", "d")).into_iter().collect();
        let expected = [("a", None), ("b", Some("new")), ("c", Some("old"))];
        assert_eq!(seen, expected.map(|(key, value)| (Key::from(key), value.map(Bytes::from))));
        let mutations = buffer.into_mutations();
        let reserved: Vec<bool> = mutations.iter().map(|mutation| mutation.is_reserved).collect();
        assert_eq!(reserved, [true, true, true, false]);
        assert_eq!(mutations[2].kind, MutationKind::Lock);
    }

    #[test]
    fn what_was_written_after_a_savepoint_is_taken_back_and_nothing_else_is() {
        let mut buffer = Buffer::new(1000);
        buffer.put("a".into(), "1".into()).unwrap();
        let first = buffer.savepoint().unwrap();
        buffer.put("a".into(), "22".into()).unwrap();
        buffer.insert("b".into(), "2".into()).unwrap();
        let second = buffer.savepoint().unwrap();
        buffer.delete("a".into()).unwrap();
        buffer.put("b".into(), "333".into()).unwrap();
        buffer.put("c".into(), "3".into()).unwrap();
        buffer.lock("c".into()).unwrap();
        buffer.lock("d".into()).unwrap();
        buffer.put("d".into(), "4".into()).unwrap();
        let writes = |buffer: &Buffer| {
            let texts =
                buffer.writes.iter().map(|(key, kind)| format!("{} {kind:?}", types::escape_key(key)));
            texts.collect::<Vec<_>>()
        };
        for _ in 0..2 {
            assert!(buffer.rollback_to(second));
            let expected = ["a Put(b\"22\")", "b Insert(b\"2\")", "c Lock", "d Lock"];
            assert_eq!(writes(&buffer), expected);
            buffer.put("b".into(), "333".into()).unwrap();
        }
        assert!(buffer.rollback_to(first));
        assert_eq!(writes(&buffer), ["a Put(b\"1\")", "c Lock", "d Lock"]);
        assert!(!buffer.rollback_to(second), "it was set later, and is no more");
        assert!(buffer.rollback_to(first));
        assert_eq!(buffer.size, 4, "of three keys, and a value");
    }

    #[test]
    fn what_savepoints_keep_is_weighed() {
        let mut buffer = Buffer::new(12);
        buffer.put("k".into(), "12345".into()).unwrap();
        let savepoint = buffer.savepoint().unwrap();
        let full = |size| TxnError::TooLarge { size, size_max: 12 };
        assert_eq!(buffer.put("k".into(), "123456".into()), Err(full(13).into()));
        buffer.put("k".into(), "1234".into()).unwrap();
        buffer.put("k".into(), "12345".into()).unwrap();
        assert_eq!(buffer.size, 12);
        assert!(buffer.rollback_to(savepoint));
        assert_eq!(buffer.size, 6);
        let mut buffer = Buffer::new(12);
        assert!((0..SAVEPOINTS_MAX).all(|_| buffer.savepoint().is_some()));
        assert_eq!(buffer.savepoint(), None);
    }
}
