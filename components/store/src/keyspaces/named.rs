//! The key spaces that a request is about.

use types::{Key, KeyRange, RAW_MODE, TXN_MODE};
use wire::kv::{KvCommand, WriteOp};
use wire::txn::{TxnCommand, TxnRead};

/// Calls `see` with the id of each key space that a request names by a key, or by a range that lies within one, until that
/// returns an error. What is about whole regions names none.
pub(crate) fn named<T>(command: &KvCommand, mut see: impl FnMut(u32) -> Result<(), T>) -> Result<(), T> {
    let mut see = |key: &Key| space_of(key).map_or(Ok(()), &mut see);
    match command {
        KvCommand::Get { key }
        | KvCommand::GetLife { key }
        | KvCommand::CompareAndSwap { key, .. }
        | KvCommand::CompareAndSwapFor { key, .. } => see(key),
        KvCommand::BatchGet { keys } => keys.iter().try_for_each(see),
        KvCommand::Scan(scan) => within(&scan.range).map_or(Ok(()), see),
        KvCommand::Write { ops } => ops.iter().try_for_each(|op| match op {
            WriteOp::Put { key, .. } | WriteOp::PutFor { key, .. } | WriteOp::Delete { key } => see(key),
            WriteOp::DeleteRange { range } => within(range).map_or(Ok(()), &mut see),
        }),
        KvCommand::Txn(command) => match &**command {
            TxnCommand::Prewrite(prewrite) => {
                prewrite.mutations.iter().try_for_each(|mutation| see(&mutation.key))
            }
            TxnCommand::Acquire(acquire) => acquire.keys.iter().try_for_each(see),
            TxnCommand::Commit { keys, .. }
            | TxnCommand::Rollback { keys, .. }
            | TxnCommand::CheckSecondaries { keys, .. }
            | TxnCommand::Resolve { keys, .. }
            | TxnCommand::Release { keys, .. } => keys.iter().try_for_each(see),
            TxnCommand::CleanUp { key, .. } => see(key),
            TxnCommand::CheckStatus(asked) => see(&asked.primary),
            TxnCommand::Heartbeat { primary, .. } => see(primary),
            TxnCommand::Guard { .. } | TxnCommand::Collect { .. } | TxnCommand::CollectExpired { .. } => {
                Ok(())
            }
        },
        KvCommand::TxnRead(read) => match &**read {
            TxnRead::Get { key, .. } | TxnRead::History { key } => see(key),
            TxnRead::BatchGet { keys, .. } | TxnRead::KeyChanges { keys, .. } => {
                keys.iter().try_for_each(see)
            }
            TxnRead::Scan { scan, .. } => within(&scan.range).map_or(Ok(()), see),
            TxnRead::Locks { range, .. } | TxnRead::RangeChanges { range, .. } => {
                within(range).map_or(Ok(()), see)
            }
        },
        KvCommand::Split { .. } | KvCommand::TransferLeader { .. } | KvCommand::CompactLog => Ok(()),
    }
}

/// The key space of a key, as the region layer sees it.
fn space_of(key: &[u8]) -> Option<u32> {
    match key {
        [RAW_MODE | TXN_MODE, high, middle, low, ..] => Some(u32::from_be_bytes([0, *high, *middle, *low])),
        _ => None,
    }
}

/// The start of a range that ends in its key space, or with it.
fn within(range: &KeyRange) -> Option<&Key> {
    let prefix = range.start.get(..4)?;
    KeyRange::prefix(Key::copy_from_slice(prefix)).covers(range).then_some(&range.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::kv::Scan;

    fn ids(command: &KvCommand) -> Vec<u32> {
        let mut ids = Vec::new();
        let seen: Result<(), ()> = named(command, |id| {
            ids.push(id);
            Ok(())
        });
        assert_eq!(seen, Ok(()));
        ids
    }

    /// A range names a key space if all of it lies there; what looks over several, as who collects garbage does, names none.
    #[test]
    fn keys_and_ranges_within_a_key_space_name_it() {
        let key = |text: &'static [u8]| Key::from_static(text);
        assert_eq!(ids(&KvCommand::Get { key: key(b"r\0\0\x07k") }), [7]);
        let keys = vec![key(b"x\0\x01\0k"), key(b"r\0\0\0"), key(b"other"), key(b"r\0")];
        assert_eq!(ids(&KvCommand::BatchGet { keys }), [256, 0]);
        for (start, end, wanted) in [
            (&b"r\0\0\x07a"[..], &b"r\0\0\x07b"[..], vec![7]),
            (b"r\0\0\x07", b"r\0\0\x08", vec![7]),
            (b"r\0\0\x07", b"r\0\0\x08a", vec![]),
            (b"r\0\0\x07", b"", vec![]),
            (b"", b"r\0\0\x07", vec![]),
        ] {
            let range = KeyRange::new(start, end);
            assert_eq!(
                ids(&KvCommand::Scan(Scan { range, ..Scan::default() })),
                wanted,
                "{start:?} to {end:?}"
            );
        }
    }
}
