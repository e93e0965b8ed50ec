//! The part of a scheduler that answers commands which only reserve keys before they are applied.
//!
//! What a reservation is worth does not depend on when its client is told of it: it may be lost at any time, with the memory or
//! the log of its leader, and whoever prewrites a key whose reservation is lost is refused if somebody has committed the key
//! since the transaction began. So a client need not wait until a quorum has it. It is told as soon as the leader has it in
//! its log, and goes on.
//!
//! For everybody else nothing has changed (INV-TXN-21): the command keeps its latches until it is applied or known never to
//! be, so nobody decides on its keys meanwhile, its own transaction included, which finds the lock when it prewrites; those
//! that wait for the keys hear of the lock when it is there; and what it was refused by, if it is refused after all, nobody
//! but the counters hears of.

use super::{CommandId, Engine, KvReply, SeededBug, Stage, TxnScheduler, WriteItem};
use txn::Claim;

/// A command whose client need not wait until it is applied.
pub(super) struct Pipelined {
    /// What it weighs, as long as it runs.
    bytes: usize,
    is_answered: bool,
}

impl<E: Engine> TxnScheduler<E> {
    /// Whether the client of a command is answered once this is proposed, as far as there is room for such commands.
    pub(super) fn pipeline(&mut self, item: &WriteItem, only_reserves: bool) -> Option<Pipelined> {
        let bytes = item.size_bytes();
        let has_room = self.pipelined_bytes + bytes <= self.reservations.pipelined_bytes_max;
        let may = only_reserves || self.bugs.has(SeededBug::AnyPipelined);
        if !(may && self.reservations.pipelined && has_room) {
            return None;
        }
        self.pipelined_bytes += bytes;
        Some(Pipelined { bytes, is_answered: false })
    }

    /// What a command decided is in the log of the leader under which it was decided.
    pub(super) fn on_proposed(&mut self, id: CommandId) {
        // Whoever tells of it may be slower than who applies it.
        let Some(running) = self.running.get_mut(&id) else { return };
        let (Stage::Proposed(claim, reply), Some(pipelined)) = (&mut running.stage, &mut running.pipelined)
        else {
            unreachable!("INV-TXN-21: command {id} has not asked whether it is proposed")
        };
        // Its time may be over.
        let Some(token) = running.token.take() else { return };
        pipelined.is_answered = true;
        self.out.pipelined += 1;
        self.out.replies.push((token, Ok(std::mem::replace(reply, KvReply::Written))));
        self.out.waited.extend(running.waits.take().map(|(since, _)| self.now.since(since)));
        self.deadlines.remove(&(running.deadline, id));
        if self.bugs.has(SeededBug::LatchesGoWithAnswer) {
            let claim = std::mem::replace(claim, Claim::new(id, Vec::new()));
            self.let_go(claim);
        }
    }

    /// It is known what became of a command whose client did not have to wait for that.
    pub(super) fn end_pipelined(&mut self, pipelined: &Pipelined, is_done: bool) {
        self.pipelined_bytes -= pipelined.bytes;
        self.out.pipelined_lost += u64::from(pipelined.is_answered && !is_done);
    }
}
