//! What no store will ever do with a request, whatever it holds.

use codec::ordered::read_ordered;
use std::collections::BTreeSet;
use types::{ENTRY_SIZE_MAX, KEY_SIZE_MAX, Key, TXN_MODE, Timestamp, VALUE_SIZE_MAX};
use wire::txn::{CommitMode, Mutation, MutationKind, Prewrite, TxnCommand, TxnRead};

/// Mode and id of the key space.
const PREFIX_SIZE: usize = 4;
/// Keys that one command may name.
const KEYS_MAX: usize = 4096;
/// Part of an entry that is left for what stands around the values: keys three times over, locks, envelopes.
const ENTRY_SHARE: usize = 4;

/// Why a command cannot be served by anybody, ever.
pub(crate) fn check_command(command: &TxnCommand) -> Result<(), String> {
    match command {
        TxnCommand::Prewrite(prewrite) => {
            check_key(&prewrite.primary)?;
            check_start(prewrite.start_ts)?;
            check_keys(prewrite.mutations.iter().map(|mutation| &mutation.key))?;
            check_mode(prewrite)?;
            let bytes: usize = prewrite.mutations.iter().map(Mutation::size_bytes).sum();
            if bytes > ENTRY_SIZE_MAX / ENTRY_SHARE && prewrite.mutations.len() > 1 {
                return Err(format!("a prewrite of {bytes} bytes is too large for one entry: split it"));
            }
            prewrite.mutations.iter().try_for_each(|mutation| match &mutation.kind {
                MutationKind::Put(value) | MutationKind::Insert(value) if value.len() > VALUE_SIZE_MAX => {
                    Err(format!("a value of {} bytes exceeds the limit of {VALUE_SIZE_MAX}", value.len()))
                }
                _ => Ok(()),
            })
        }
        TxnCommand::Commit { keys, start_ts, commit_ts } => {
            check_start(*start_ts)?;
            if commit_ts <= start_ts {
                return Err("a transaction commits after it began: ask for a new timestamp".to_owned());
            }
            check_keys(keys)
        }
        TxnCommand::Resolve { start_ts, commit_ts, keys } => {
            check_start(*start_ts)?;
            if commit_ts.is_some_and(|commit_ts| commit_ts <= *start_ts) {
                return Err("a transaction commits after it began".to_owned());
            }
            check_keys(keys)
        }
        TxnCommand::Rollback { keys, start_ts }
        | TxnCommand::CheckSecondaries { keys, start_ts }
        | TxnCommand::Release { keys, start_ts, .. } => {
            check_start(*start_ts)?;
            check_keys(keys)
        }
        TxnCommand::Acquire(acquire) => {
            check_key(&acquire.primary)?;
            check_start(acquire.start_ts)?;
            if acquire.for_update_ts < acquire.start_ts {
                return Err("a transaction cannot look at a key before it began".to_owned());
            }
            check_keys(&acquire.keys)
        }
        TxnCommand::CleanUp { key, start_ts, .. } => {
            check_start(*start_ts)?;
            check_key(key)
        }
        TxnCommand::CheckStatus(asked) => {
            check_start(asked.start_ts)?;
            check_key(&asked.primary)
        }
        TxnCommand::Heartbeat { primary, start_ts, .. } => {
            check_start(*start_ts)?;
            check_key(primary)
        }
        TxnCommand::CollectExpired { .. } => Ok(()),
        TxnCommand::Guard { safe_points } | TxnCommand::Collect { safe_points, .. } => {
            let is_time = |at: Timestamp| at < Timestamp(u64::MAX);
            match is_time(safe_points.common) && safe_points.own.iter().all(|point| is_time(point.at)) {
                true => Ok(()),
                false => Err("a safe point is a timestamp of the placement driver".to_owned()),
            }
        }
    }
}

/// Why a read cannot be served by anybody, ever.
pub(crate) fn check_read(read: &TxnRead) -> Result<(), String> {
    match read {
        TxnRead::Get { key, .. } | TxnRead::History { key } => check_key(key),
        TxnRead::KeyChanges { since, view, .. } | TxnRead::RangeChanges { since, view, .. }
            if *since > view.at || view.at == Timestamp(u64::MAX) || !view.committed.is_empty() =>
        {
            Err("changes are asked for up to a timestamp of the placement driver, of committed transactions too"
                .to_owned())
        }
        TxnRead::BatchGet { keys, .. } | TxnRead::KeyChanges { keys, .. } => match keys.len() {
            count if count > KEYS_MAX => Err(too_many(count)),
            _ => keys.iter().try_for_each(check_key),
        },
        TxnRead::Scan { scan, .. } if is_reversed(&scan.range) => Err(reversed()),
        TxnRead::Locks { range, .. } | TxnRead::RangeChanges { range, .. } if is_reversed(range) => {
            Err(reversed())
        }
        TxnRead::Scan { .. } | TxnRead::Locks { .. } | TxnRead::RangeChanges { .. } => Ok(()),
    }
}

/// Why a region cannot be cut at `key`: it would part the versions of a key from each other.
pub(crate) fn check_border(key: &Key) -> Result<(), String> {
    // What is shorter than an encoded key lies between keys.
    let is_short = key.len() < codec::ordered::ordered_len(0);
    match key.first() == Some(&TXN_MODE) && !is_short {
        true => check_key(key).map_err(|_| "the border would lie between versions of a key".to_owned()),
        false => Ok(()),
    }
}

/// Whether what a prewrite says of itself goes together.
fn check_mode(prewrite: &Prewrite) -> Result<(), String> {
    let writes = |mutation: &&Mutation| mutation.kind != MutationKind::CheckNotExists;
    let is_here = prewrite.mutations.iter().filter(writes).any(|mutation| mutation.key == prewrite.primary);
    match &prewrite.mode {
        CommitMode::OnePhase if !is_here => {
            Err("a transaction that commits in one phase has its primary among its keys".to_owned())
        }
        CommitMode::Async { secondaries } if !secondaries.is_empty() => match is_here {
            false => Err("the other keys are told where the primary is, which is not among these".to_owned()),
            true if secondaries.contains(&prewrite.primary) => {
                Err("the primary is none of the other keys".to_owned())
            }
            true => check_keys(secondaries),
        },
        CommitMode::TwoPhase | CommitMode::OnePhase | CommitMode::Async { .. } => Ok(()),
    }
}

/// The latest timestamp that a command names and that somebody must have been given.
pub(crate) fn latest_named(command: &TxnCommand) -> Timestamp {
    match command {
        TxnCommand::Prewrite(Prewrite { start_ts, for_update_ts, min_commit_ts, .. }) => {
            *start_ts.max(for_update_ts).max(min_commit_ts)
        }
        TxnCommand::Commit { start_ts, commit_ts, .. } => *start_ts.max(commit_ts),
        TxnCommand::Resolve { start_ts, commit_ts, .. } => (*start_ts).max(commit_ts.unwrap_or_default()),
        TxnCommand::Acquire(acquire) => acquire.start_ts.max(acquire.for_update_ts),
        TxnCommand::CleanUp { start_ts, current_ts, .. } => *start_ts.max(current_ts),
        TxnCommand::CheckStatus(asked) => {
            // Who reads the newest there is names no time.
            let reads_at = Some(asked.reads_at).filter(|at| *at != Timestamp(u64::MAX));
            // Nor does whoever takes the transaction for abandoned, whatever time it is.
            let current_ts = Some(asked.current_ts).filter(|at| *at != Timestamp(u64::MAX));
            asked.start_ts.max(current_ts.unwrap_or_default()).max(reads_at.unwrap_or_default())
        }
        TxnCommand::Rollback { start_ts, .. }
        | TxnCommand::CheckSecondaries { start_ts, .. }
        | TxnCommand::Heartbeat { start_ts, .. }
        | TxnCommand::Release { start_ts, .. } => *start_ts,
        TxnCommand::CollectExpired { .. } => Timestamp(0),
        TxnCommand::Guard { safe_points } | TxnCommand::Collect { safe_points, .. } => safe_points.latest(),
    }
}

fn check_keys<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for key in keys {
        check_key(key)?;
        if !seen.insert(key) {
            return Err("a key comes twice".to_owned());
        }
    }
    match seen.len() {
        0 => Err("a command needs at least one key".to_owned()),
        count if count > KEYS_MAX => Err(too_many(count)),
        _ => Ok(()),
    }
}

fn check_key(key: &Key) -> Result<(), String> {
    match read_ordered(key) {
        Ok((user, read)) if read == key.len() => match user.first() {
            Some(&TXN_MODE) if user.len() < PREFIX_SIZE => Err("the key has no key space".to_owned()),
            Some(&TXN_MODE) if user.len() > KEY_SIZE_MAX + PREFIX_SIZE => Err(format!(
                "a key of {} bytes exceeds the limit of {KEY_SIZE_MAX}",
                user.len() - PREFIX_SIZE
            )),
            Some(&TXN_MODE) => Ok(()),
            _ => Err("the key belongs to no transactional key space".to_owned()),
        },
        _ => Err("the key is not in the encoding of transactional keys".to_owned()),
    }
}

fn check_start(start_ts: Timestamp) -> Result<(), String> {
    match start_ts == Timestamp(0) || start_ts == Timestamp(u64::MAX) {
        true => Err("a transaction begins at a timestamp of the placement driver".to_owned()),
        false => Ok(()),
    }
}

fn is_reversed(range: &types::KeyRange) -> bool {
    !range.end.is_empty() && range.start > range.end
}

fn reversed() -> String {
    "the range is reversed: its start lies after its end".to_owned()
}

fn too_many(count: usize) -> String {
    format!("{count} keys in one request; at most {KEYS_MAX} go together")
}
