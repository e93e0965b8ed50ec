//! The part of a scheduler that sees to commands which wait for locks: when they begin to, and when they are taken up again.

use super::{
    BusyReason, Change, CommandId, Due, Engine, FoundDeadlock, KvError, Led, LockInfo, Met, MonoTime,
    NO_ROOM_BACKOFF_MS, Stage, Timestamp, TxnCommand, TxnFault, TxnScheduler, WriteItem,
};
use codec::Decode;
use engine::Cf;
use std::time::Duration;
use types::Key;

impl<E: Engine> TxnScheduler<E> {
    /// A command cannot be done as it is: it waits if that may help and it wants to.
    pub(super) fn wait_or_end(
        &mut self,
        id: CommandId,
        command: Option<Box<TxnCommand>>,
        error: KvError,
        led: Led,
        now: MonoTime,
    ) {
        let running = self.running.get_mut(&id).expect("a command that is refused");
        let command = match (command, &running.stage) {
            (Some(command), _) => command,
            (None, Stage::Latching(_, command)) => command.clone(),
            (None, _) => unreachable!("command {id} is with its view or with its latches"),
        };
        let (TxnCommand::Acquire(acquire), Some(lock)) = (&*command, first_lock(&error)) else {
            return self.end(id, Err(error));
        };
        let wait = Duration::from_millis(acquire.wait_ms).min(self.parked.limits.time_max);
        let (_, until) = *running.waits.get_or_insert((now, now + wait));
        if until <= now || self.parked.is_abandoned(lock, now) {
            return self.end(id, Err(error));
        }
        if !self.parked.has_room(&lock.key) {
            let (reason, backoff_ms) = (BusyReason::LockWaits, NO_ROOM_BACKOFF_MS);
            return self.end(id, Err(KvError::ServerIsBusy { reason, backoff_ms }));
        }
        let (region_id, start_ts) = (running.region_id, acquire.start_ts);
        self.parked.park(id, &Met { lock, start_ts, until, region_id, led });
        self.deadlines.insert((running.deadline, id));
        let (Stage::Latching(claim, _) | Stage::Viewing(claim)) =
            std::mem::replace(&mut running.stage, Stage::Waiting(command, error))
        else {
            unreachable!("command {id} holds its latches when it is refused")
        };
        self.let_go(claim);
    }

    /// What a proposal does to keys that somebody waits for.
    pub(super) fn touches_of(&self, item: &WriteItem) -> Vec<(Key, Option<Timestamp>)> {
        let WriteItem::OfTxn { changes, .. } = item else { return Vec::new() };
        let touched = changes
            .iter()
            .filter(|change| change.cf() == Some(Cf::Lock) && self.parked.is_awaited(change.key()));
        let touch = |change: &Change| match change {
            Change::Put { key, value, .. } => {
                let lock = mvcc::Lock::from_bytes(value).expect("a lock that was just made");
                (key.clone(), Some(lock.start_ts))
            }
            Change::Delete { key, .. } | Change::DeleteIf { key, .. } => (key.clone(), None),
        };
        touched.map(touch).collect()
    }

    /// Takes those up that have waited and need not any more, or may not.
    pub(super) fn take_up_waiting(&mut self, now: MonoTime) {
        self.now = now;
        while let Some((key, by)) = self.touched.pop_front() {
            match by {
                Some(by) => self.parked.locked(&key, by),
                None => {
                    if let Some(id) = self.parked.released(&key, now) {
                        self.take_up(id);
                    }
                }
            }
        }
        for id in self.parked.moved(&self.meta) {
            self.take_up(id);
        }
        for (id, due) in self.parked.due(now) {
            match due {
                Due::Turn => self.take_up(id),
                Due::TimeOver => {
                    let Some(Stage::Waiting(_, error)) = self.running.get(&id).map(|it| &it.stage) else {
                        unreachable!(
                            "INV-TXN-15: command {id} is told that its time is over, and does not wait"
                        )
                    };
                    let error = error.clone();
                    self.end(id, Err(error));
                }
            }
        }
    }

    /// A command that has waited begins again as it came.
    fn take_up(&mut self, id: CommandId) {
        let running = self.running.get_mut(&id).expect("whoever waits runs");
        let Stage::Waiting(command, _) = &running.stage else {
            unreachable!("INV-TXN-15: command {id} is taken up, and does not wait")
        };
        let command = command.clone();
        let stage = self.latch(id, command);
        self.running.get_mut(&id).expect("whoever waits runs").stage = stage;
    }

    /// Whoever gives keys up, or all of its transaction, does not wait for them any more.
    pub(super) fn give_up_waiting(&mut self, command: &TxnCommand) {
        let (keys, start_ts, seen_by) = match command {
            TxnCommand::Release { keys, start_ts, for_update_ts } => (keys, *start_ts, *for_update_ts),
            TxnCommand::Rollback { keys, start_ts } => (keys, *start_ts, Timestamp(u64::MAX)),
            _ => return,
        };
        let waiting: Vec<CommandId> =
            keys.iter().flat_map(|key| self.parked.of_transaction(key, start_ts)).collect();
        for id in waiting {
            let Some(Stage::Waiting(command, error)) = self.running.get(&id).map(|it| &it.stage) else {
                continue;
            };
            // One that has come later is not meant.
            if matches!(&**command, TxnCommand::Acquire(acquire) if acquire.for_update_ts <= seen_by) {
                let error = error.clone();
                self.end(id, Err(error));
            }
        }
    }

    /// A command would wait for itself: unless it has gone on meanwhile, its transaction is to give way.
    pub(super) fn on_deadlock(&mut self, found: FoundDeadlock) {
        let id = found.id & super::COMMAND_MASK;
        let (Some(waiter), Some(first)) = (self.parked.get(id), found.wait_chain.first()) else { return };
        if (waiter.start_ts, waiter.lock_ts, &waiter.key) != (first.waiter_ts, first.lock_ts, &first.key) {
            return;
        }
        let (lock_ts, lock_key) = (waiter.lock_ts, waiter.key.clone());
        let fault = TxnFault::Deadlock { lock_ts, lock_key, wait_chain: found.wait_chain };
        self.end(id, Err(KvError::Txn(Box::new(fault))));
    }
}

/// The lock that a command is refused for, if it is.
fn first_lock(error: &KvError) -> Option<&LockInfo> {
    match error {
        KvError::Txn(fault) => match &**fault {
            TxnFault::KeyIsLocked { locks } => locks.first(),
            _ => None,
        },
        _ => None,
    }
}
