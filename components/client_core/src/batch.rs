//! Many raw keys in one call.

use crate::call::{Call, Effect};
use crate::core::Core;
use crate::error::{Error, Incomplete};
use crate::keyspace::Keyspace;
use crate::pieces::{Item, Outcome, Work};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use types::Key;
use wire::kv::{KvCommand, KvReply, WriteOp};

/// A key to read, and its place among those asked for.
#[derive(Clone, Debug)]
pub(crate) struct KeyAt {
    pub(crate) key: Key,
    pub(crate) place: usize,
}

impl Item for KeyAt {
    fn key(&self) -> &Key {
        &self.key
    }
    fn size_bytes(&self) -> usize {
        self.key.len()
    }
}

impl Item for WriteOp {
    fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::PutFor { key, .. } | Self::Delete { key } => key,
            Self::DeleteRange { range } => &range.start,
        }
    }
    fn size_bytes(&self) -> usize {
        Self::size_bytes(self)
    }
}

struct Reading;

impl Work for Reading {
    type Item = KeyAt;
    fn command(&self, items: &[KeyAt]) -> KvCommand {
        KvCommand::BatchGet { keys: items.iter().map(|item| item.key.clone()).collect() }
    }
    fn fits(&self, items: &[KeyAt], reply: &KvReply) -> bool {
        matches!(reply, KvReply::Values(found) if found.len() == items.len())
    }
}

struct Writing;

impl Work for Writing {
    type Item = WriteOp;
    fn command(&self, items: &[WriteOp]) -> KvCommand {
        KvCommand::Write { ops: items.to_vec() }
    }
    fn fits(&self, _: &[WriteOp], reply: &KvReply) -> bool {
        matches!(reply, KvReply::Written)
    }
}

/// Puts in key order, the last one for each key.
pub(crate) fn put_ops(pairs: Vec<(Key, Bytes)>) -> Vec<WriteOp> {
    let last: BTreeMap<Key, Bytes> = pairs.into_iter().collect();
    last.into_iter().map(|(key, value)| WriteOp::Put { key, value }).collect()
}

/// The same, for a while.
pub(crate) fn put_ops_for(pairs: Vec<(Key, Bytes)>, ttl_ms: u64) -> Vec<WriteOp> {
    let last: BTreeMap<Key, Bytes> = pairs.into_iter().collect();
    last.into_iter().map(|(key, value)| WriteOp::PutFor { key, value, ttl_ms }).collect()
}

impl Core {
    /// The values of `wanted`, each at its place.
    pub(crate) async fn batch_get(
        &self,
        wanted: Vec<KeyAt>,
        deadline: Duration,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        self.values_of(self.begin(Effect::Read, deadline), wanted, &Reading).await
    }

    /// The same, by any kind of work that reads values.
    pub(crate) async fn values_of(
        &self,
        call: Call,
        mut wanted: Vec<KeyAt>,
        work: &impl Work<Item = KeyAt>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let mut values = vec![None; wanted.len()];
        wanted.sort_by(|a, b| a.key.cmp(&b.key));
        let mut failure = None;
        self.in_pieces(wanted, call, work, |outcome| match outcome {
            Outcome::Done(items, KvReply::Values(found)) => {
                for (item, value) in items.into_iter().zip(found) {
                    values[item.place] = value;
                }
                true
            }
            // `in_pieces` has made sure that the answer is one of values.
            Outcome::Done(..) | Outcome::Left { .. } => true,
            Outcome::Failed { error, .. } => {
                failure.get_or_insert(error);
                false
            }
        })
        .await;
        failure.map_or(Ok(values), Err)
    }

    /// Makes all `ops`, of which no two are for one key.
    pub(crate) async fn batch_write(
        &self,
        keyspace: Keyspace,
        mut ops: Vec<WriteOp>,
        deadline: Duration,
    ) -> Result<(), Error> {
        ops.sort_by(|a, b| a.key().cmp(b.key()));
        ops.dedup_by(|a, b| a.key() == b.key());
        let call = self.begin(Effect::Write, deadline);
        let (mut written, mut undetermined, mut not_written) = (Vec::new(), Vec::new(), Vec::new());
        let mut failure = None;
        self.in_pieces(ops, call, &Writing, |outcome| {
            let (list, items, error) = match outcome {
                // `in_pieces` has made sure that the answer is the one to a write.
                Outcome::Done(items, _) => (&mut written, items, None),
                Outcome::Failed { items, error: error @ Error::Undetermined { .. }, .. } => {
                    (&mut undetermined, items, Some(error))
                }
                Outcome::Failed { items, error, .. } => (&mut not_written, items, Some(error)),
                Outcome::Left { items, .. } => (&mut not_written, items, None),
            };
            list.extend(items.iter().filter_map(|op| keyspace.decode(op.key())));
            let goes_on = error.is_none();
            if failure.is_none() {
                failure = error;
            }
            goes_on
        })
        .await;
        let Some(cause) = failure else { return Ok(()) };
        let kinds = [&written, &undetermined, &not_written].iter().filter(|keys| !keys.is_empty()).count();
        if kinds == 1 {
            // What holds of one holds of all.
            return Err(cause);
        }
        for keys in [&mut written, &mut undetermined, &mut not_written] {
            keys.sort();
        }
        Err(Error::Incomplete(Box::new(Incomplete { written, undetermined, not_written, cause })))
    }
}
