//! Writes of clients: checked, merged into entries, proposed, and given up when their time is over.

use crate::apply::is_voter;
use crate::command::{Change, Command, WriteItem};
use crate::peer::{PeerState, PendingProposal, QueuedWrite, Turn};
use crate::seeded_bug::SeededBug;
use crate::stages::EntryTimes;
use bytes::Bytes;
use codec::Encode;
use engine::{Cf, Engine};
use env::sim_point;
use raft::Dropped;
use types::{Epoch, KeyRange, MonoTime, Term};
use wire::kv::{BusyReason, KvError, WriteOp};
use wire::store::DiskState;

/// How long a client should wait before it comes back to a region that cannot take its write right now.
const BACKOFF_MS: u32 = 20;

impl<E: Engine> PeerState<E> {
    /// Takes a write, to be proposed at the end of the turn.
    pub(crate) fn queue_write(&mut self, turn: &mut Turn<E>, epoch: Epoch, write: QueuedWrite) {
        match self.admit_write(turn, epoch, &write) {
            Ok(()) => self.queued.push(write),
            Err(error) => turn.answer(write.token, Err(error)),
        }
    }

    fn admit_write(&self, turn: &Turn<E>, epoch: Epoch, write: &QueuedWrite) -> Result<(), KvError> {
        if !self.is_leader() || !self.is_normal() {
            return Err(self.not_leader());
        }
        if turn.stalled {
            return Err(busy(BusyReason::SlowDisk));
        }
        if epoch.version != self.region.epoch.version {
            return Err(self.epoch_not_match(&turn.shared));
        }
        if write.deadline <= turn.now {
            return Err(KvError::DeadlineExceeded);
        }
        if !self.holds(write.decided_in) {
            return Err(KvError::StaleCommand);
        }
        if needs_space(&write.item) && self.is_short_of_space(turn) {
            return Err(KvError::DiskFull);
        }
        let range = &self.region.range;
        match item_inside(&write.item, range) {
            true => Ok(()),
            false => Err(KvError::KeyNotInRegion { region_id: self.region.id, range: range.clone() }),
        }
    }

    /// True if what a write was decided on is still so: we lead in that term, and the region is uncut (INV-TXN-5).
    /// Otherwise another leader may have changed what was read, or another region own it.
    fn holds(&self, decided_in: Option<(u64, Term)>) -> bool {
        let now = (self.region.epoch.version, self.raft.status().term);
        decided_in.is_none_or(|then| then == now)
    }

    /// True if our disk is low, or if the voters whose disks are not make no quorum.
    fn is_short_of_space(&self, turn: &Turn<E>) -> bool {
        if turn.disks.values().all(|state| *state == DiskState::Ok) {
            return false;
        }
        let voters = || self.region.peers.iter().filter(|peer| is_voter(peer.role));
        let with_space = voters().filter(|peer| turn.disk(peer.store_id) == DiskState::Ok).count();
        turn.disk(self.me.store_id) != DiskState::Ok || with_space <= voters().count() / 2
    }

    /// Proposes what was queued: as few entries as their size allows, each write with an outcome of its own.
    pub(crate) fn propose_writes(&mut self, turn: &mut Turn<E>) {
        if self.queued.is_empty() {
            return;
        }
        if !self.is_leader() || !self.is_normal() {
            let error = self.not_leader();
            for write in self.queued.drain(..) {
                turn.answer(write.token, Err(error.clone()));
            }
            return;
        }
        // A split may have been applied since they were queued.
        let range = self.region.range.clone();
        let mut queued = std::mem::take(&mut self.queued).into_iter().peekable();
        while queued.peek().is_some() {
            let times = EntryTimes { proposed: turn.now, ..EntryTimes::default() };
            let mut proposal = PendingProposal { tokens: Vec::new(), deadline: MonoTime::MAX, times };
            let mut items = Vec::new();
            let mut terms = Vec::new();
            let mut bytes = 0;
            let bytes_max =
                if sim_point!("raftstore.lone_write") { 0 } else { turn.shared.config.entry_bytes_max };
            // What was decided on a view has no deadline here, so it shares no proposal with what has one.
            let is_decided = queued.peek().is_some_and(|write| write.decided_in.is_some());
            while let Some(write) = queued.next_if(|write| {
                let fits = items.is_empty() || bytes + write.item.size_bytes() <= bytes_max;
                fits && write.decided_in.is_some() == is_decided
            }) {
                if !item_inside(&write.item, &range) {
                    let error = self.epoch_not_match(&turn.shared);
                    turn.answer(write.token, Err(error));
                    continue;
                }
                if !self.holds(write.decided_in) {
                    turn.answer(write.token, Err(KvError::StaleCommand));
                    continue;
                }
                bytes += write.item.size_bytes();
                proposal.deadline = proposal.deadline.min(write.deadline);
                proposal.tokens.push(write.token);
                terms.push((write.deadline, write.decided_in, write.tells_proposed));
                items.push(write.item);
            }
            if items.is_empty() {
                continue;
            }
            let command = Command::Write { version: self.region.epoch.version, items };
            match self.raft.propose(command.to_bytes()) {
                Ok(id) => {
                    // What stands behind a change of the region's range is not applied: nobody is to count on it.
                    if self.applying.splits.is_empty() {
                        let told = proposal.tokens.iter().zip(&terms).filter(|(_, (.., tells))| *tells);
                        turn.out.proposed.extend(told.map(|(token, _)| *token));
                    }
                    self.proposals.insert((id.index, id.term), proposal);
                    self.note_lock_changes(turn, &command);
                }
                Err(Dropped::Transferring { .. }) => {
                    // Parked until the transfer is decided; what does not fit stays in order behind it.
                    let Command::Write { items, .. } = command else { unreachable!("made above") };
                    let parked = proposal.tokens.into_iter().zip(items).zip(terms);
                    self.queued = parked
                        .map(|((token, item), (deadline, decided_in, tells_proposed))| QueuedWrite {
                            token,
                            item,
                            deadline,
                            decided_in,
                            tells_proposed,
                        })
                        .chain(queued)
                        .collect();
                    self.expire_parked(turn);
                    return;
                }
                Err(dropped) => {
                    let error = self.dropped(&dropped);
                    for token in proposal.tokens {
                        turn.answer(token, Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Proposes a command of our own making, with whoever waits for it.
    pub(crate) fn propose_command(
        &mut self,
        command: &Command,
        tokens: Vec<u64>,
        deadline: MonoTime,
    ) -> Result<(), (KvError, Vec<u64>)> {
        let data: Bytes = command.to_bytes();
        match self.raft.propose(data) {
            Ok(id) => {
                if matches!(command, Command::Split { .. }) {
                    self.applying.splits.push(id.index);
                }
                if !tokens.is_empty() {
                    let times = EntryTimes::default();
                    self.proposals.insert((id.index, id.term), PendingProposal { tokens, deadline, times });
                }
                Ok(())
            }
            Err(dropped) => Err((self.dropped(&dropped), tokens)),
        }
    }

    /// Gives up what waits beyond its deadline. A write that was proposed may still be applied.
    pub(crate) fn expire_writes(&mut self, turn: &mut Turn<E>) {
        self.expire_parked(turn);
        let now = turn.now;
        if self.proposals.values().any(|proposal| proposal.deadline <= now) {
            let refused = turn.shared.config.bugs.has(SeededBug::ExpiredProposalRefused);
            let error = if refused { KvError::StaleCommand } else { KvError::UndeterminedResult };
            for proposal in self.proposals.values_mut() {
                if proposal.deadline <= now {
                    for token in proposal.tokens.drain(..) {
                        turn.answer(token, Err(error.clone()));
                    }
                }
            }
            self.proposals.retain(|_, proposal| !proposal.tokens.is_empty());
        }
    }

    fn expire_parked(&mut self, turn: &mut Turn<E>) {
        let now = turn.now;
        if self.queued.iter().any(|write| write.deadline <= now) {
            for write in std::mem::take(&mut self.queued) {
                match write.deadline <= now {
                    true => turn.answer(write.token, Err(KvError::DeadlineExceeded)),
                    false => self.queued.push(write),
                }
            }
        }
    }

    /// What a client is told about a proposal that Raft did not take.
    pub(crate) fn dropped(&self, dropped: &Dropped) -> KvError {
        match dropped {
            Dropped::NotLeader { .. } | Dropped::Poisoned { .. } => self.not_leader(),
            Dropped::Transferring { .. } => busy(BusyReason::RegionMoving),
            Dropped::QuorumStale | Dropped::TooManyUncommitted => busy(BusyReason::ProposalQueue),
            Dropped::ConfChange(_) => busy(BusyReason::RegionMoving),
        }
    }
}

pub(crate) fn busy(reason: BusyReason) -> KvError {
    KvError::ServerIsBusy { reason, backoff_ms: BACKOFF_MS }
}

/// Deletes free space, in time: they go on out of the reserve.
fn needs_space(item: &WriteItem) -> bool {
    match item {
        WriteItem::Ops(ops) | WriteItem::OpsAt { ops, .. } => {
            ops.iter().any(|op| matches!(op, WriteOp::Put { .. } | WriteOp::PutFor { .. }))
        }
        WriteItem::CompareAndSwap { new, .. } => new.is_some(),
        WriteItem::CompareAndSwapFor { .. } => true,
        WriteItem::Changes(changes) | WriteItem::OfTxn { changes, .. } => changes.iter().any(takes_a_lock),
        WriteItem::Guard(_) | WriteItem::RemoveEnded { .. } => false,
    }
}

/// Whatever a transaction writes begins with a lock. What ends one makes room, in time.
fn takes_a_lock(change: &Change) -> bool {
    matches!(change, Change::Put { .. }) && change.cf() == Some(Cf::Lock)
}

fn item_inside(item: &WriteItem, range: &KeyRange) -> bool {
    match item {
        WriteItem::Ops(ops) | WriteItem::OpsAt { ops, .. } => ops.iter().all(|op| op_inside(op, range)),
        WriteItem::CompareAndSwap { key, .. } | WriteItem::CompareAndSwapFor { key, .. } => {
            range.contains(key)
        }
        WriteItem::RemoveEnded { keys, .. } => keys.iter().all(|key| range.contains(key)),
        WriteItem::Changes(changes) | WriteItem::OfTxn { changes, .. } => {
            changes.iter().all(|change| range.contains(change.key()))
        }
        WriteItem::Guard(_) => true,
    }
}

fn op_inside(op: &WriteOp, range: &KeyRange) -> bool {
    match op {
        WriteOp::Put { key, .. } | WriteOp::PutFor { key, .. } | WriteOp::Delete { key } => {
            range.contains(key)
        }
        WriteOp::DeleteRange { range: deleted } => range.covers(deleted) && !deleted.end.is_empty(),
    }
}
