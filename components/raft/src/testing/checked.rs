//! A storage that holds its driver and its group to the contract of writing (see the crate's first page).

use super::MemStorage;
use crate::{
    Append, Body, Entry, EntryKind, FetchContext, InitialState, Message, PersistToken, Ready, Snapshot,
    Storage, StorageError, VoteKind,
};
use std::collections::VecDeque;
use types::{LogIndex, PeerId, Term};

/// A log in memory that knows what of it is durable, and checks what a group and its driver do with it.
///
/// A driver [takes](Self::take) each [`Ready`], [writes](Self::write) its appends in order, [syncs](Self::sync) them, asks
/// [`may_leave`](Self::may_leave) before a message leaves, and [crashes](Self::crash) when it likes. What is refused is an
/// error that names the rule; nothing has happened then.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CheckedStorage {
    /// What can be read: all that was written.
    readable: MemStorage,
    /// What a crash leaves.
    durable: MemStorage,
    /// Handed out and not written.
    waiting: VecDeque<Append>,
    /// Written and not durable.
    unsynced: VecDeque<Append>,
    /// The last token that was handed out.
    handed: u64,
    /// The last token that is durable.
    synced: u64,
}

impl CheckedStorage {
    /// A life that begins with what `disk` holds.
    #[must_use]
    pub fn new(disk: MemStorage) -> Self {
        Self { readable: disk.clone(), durable: disk, ..Self::default() }
    }

    /// What a crash leaves.
    #[must_use]
    pub fn durable(&self) -> &MemStorage {
        &self.durable
    }

    /// Both what can be read and what a crash leaves, to be compacted alike.
    pub fn both_mut(&mut self) -> [&mut MemStorage; 2] {
        [&mut self.readable, &mut self.durable]
    }

    /// Takes what is to be written from `ready`, which has just been collected, and checks that none of the messages that
    /// leave at once says anything that could still be forgotten.
    ///
    /// # Errors
    /// INV-RAFT-12: such a message. INV-RAFT-13: the order of writes is broken. INV-RAFT-10, INV-RAFT-11: the hard state
    /// falls or votes twice. INV-RAFT-19: a second change of members is written, and not that the first is committed.
    pub fn take(&mut self, ready: &Ready) -> Result<(), String> {
        for message in &ready.messages {
            self.may_leave(message)?;
            let promises = match message.body {
                Body::AppendResp { .. } | Body::VoteResp { .. } => true,
                Body::Vote { kind, .. } => kind != VoteKind::Pre,
                _ => false,
            };
            if promises {
                return Err(format!("INV-RAFT-12: {message:?} is to leave at once"));
            }
        }
        let Some(append) = &ready.append else { return Ok(()) };
        if append.token.seq != self.handed + 1 {
            return Err(format!("INV-RAFT-13: {:?} is handed out after write {}", append.token, self.handed));
        }
        let before = self.last_handed();
        if append.token.mark.accepted_term < before.token.mark.accepted_term {
            return Err(format!("INV-RAFT-13: {:?} is handed out after {:?}", append.token, before.token));
        }
        let old = before.hard_state.unwrap_or_default();
        if let Some(state) = append.hard_state {
            if state.term < old.term || state.commit < old.commit {
                return Err(format!("INV-RAFT-6, INV-RAFT-10: {state:?} is to be written after {old:?}"));
            }
            if state.term == old.term && !old.vote.is_zero() && state.vote != old.vote {
                return Err(format!("INV-RAFT-11: {state:?} is to be written after {old:?}"));
            }
        }
        let state = append.hard_state.unwrap_or(old);
        let promises = (state.term, state.vote) != (old.term, old.vote);
        if !promises && append.entries.is_empty() && append.snapshot.is_none() {
            return Err(format!("{append:?} after {old:?} is a write of nothing that must not be forgotten"));
        }
        if let [.., before, _] = self.changes_with(append)[..]
            && before > state.commit.max(self.readable.first_index().prev())
        {
            return Err(format!(
                "INV-RAFT-19: {append:?} is to be written, the change at {before} not as committed"
            ));
        }
        self.handed = append.token.seq;
        self.waiting.push_back(append.clone());
        Ok(())
    }

    /// Where changes of members stand in the log once all that was handed out, and `append` after it, is written.
    fn changes_with(&self, append: &Append) -> Vec<LogIndex> {
        let changes = |entries: &[Entry]| -> Vec<LogIndex> {
            let changes = entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange);
            changes.map(|entry| entry.index).collect()
        };
        let mut all = changes(self.readable.all_entries());
        for append in self.waiting.iter().chain([append]) {
            if append.snapshot.is_some() {
                all.clear();
            }
            if let Some(first) = append.entries.first() {
                all.retain(|&index| index < first.index);
            }
            all.extend(changes(&append.entries));
        }
        all
    }

    /// The last write that was handed out, with the hard state as of then.
    fn last_handed(&self) -> Append {
        let mut last = Append { hard_state: Some(self.durable.hard_state()), ..Append::default() };
        for append in self.unsynced.iter().chain(&self.waiting) {
            last.hard_state = append.hard_state.or(last.hard_state);
            last.token = append.token;
        }
        last
    }

    /// The oldest write that waits can be read from now on; it is no more durable for that. `None` when none waits.
    pub fn write(&mut self) -> Option<PersistToken> {
        let append = self.waiting.pop_front()?;
        let token = append.token;
        self.readable.write(&append);
        self.unsynced.push_back(append);
        Some(token)
    }

    /// The oldest write that can be read is durable from now on. `None` when all are.
    pub fn sync(&mut self) -> Option<PersistToken> {
        let append = self.unsynced.pop_front()?;
        self.durable.write(&append);
        self.synced = append.token.seq;
        Some(append.token)
    }

    /// Whether `message` may leave now, as far as what it promises is concerned.
    ///
    /// # Errors
    /// INV-RAFT-12: it is of a term, grants a vote or acknowledges entries that a crash would take back.
    pub fn may_leave(&self, message: &Message) -> Result<(), String> {
        let state = self.durable.hard_state();
        let holds = |what: bool| {
            if what {
                return Ok(());
            }
            Err(format!(
                "INV-RAFT-12: {message:?} leaves with {state:?} durable, to {}",
                self.durable.last_index()
            ))
        };
        match &message.body {
            // Questions and answers about a coming term are no claim to be in it.
            Body::Vote { kind: VoteKind::Pre, .. }
            | Body::VoteResp { pre: true, .. }
            | Body::ReadIndex { .. } => Ok(()),
            Body::VoteResp { reject: false, .. } => {
                holds((state.term, state.vote) == (message.term, message.to) || state.term > message.term)
            }
            Body::AppendResp { index, reject: None, .. } => {
                holds(message.term <= state.term && *index <= self.durable.last_index())
            }
            _ => holds(message.term <= state.term),
        }
    }

    /// Whether `token` may be reported as durable.
    ///
    /// # Errors
    /// INV-RAFT-13: it is not.
    pub fn may_report(&self, token: PersistToken) -> Result<(), String> {
        if token.seq <= self.synced {
            return Ok(());
        }
        Err(format!("INV-RAFT-13: {token:?} is reported durable, write {} is", self.synced))
    }

    /// How many writes are not durable.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.waiting.len() + self.unsynced.len()
    }

    /// What is left after a crash: what is durable, and the oldest `survive` of the other writes.
    #[must_use]
    pub fn crash(mut self, survive: usize) -> MemStorage {
        for append in self.unsynced.iter().chain(&self.waiting).take(survive) {
            self.durable.write(append);
        }
        self.durable
    }
}

impl Storage for CheckedStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.readable.initial_state()
    }

    fn first_index(&self) -> LogIndex {
        self.readable.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.readable.last_index()
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.readable.term(index)
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        context: FetchContext,
        out: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        self.readable.entries(low, high, bytes_max, context, out)
    }

    fn snapshot(&self, at_least: LogIndex, to: PeerId) -> Result<Snapshot, StorageError> {
        self.readable.snapshot(at_least, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, EntryId, HardState, RawNode};

    fn node(id: u64) -> RawNode<CheckedStorage> {
        let config = Config { id: PeerId(id), ..Config::default() };
        let storage = CheckedStorage::new(MemStorage::with_voters(3));
        RawNode::new(&config, storage).expect("a fresh group starts")
    }

    fn vote(from: u64) -> Message {
        let body = Body::Vote { kind: VoteKind::Real, last: EntryId::default(), commit: EntryId::default() };
        Message { from: PeerId(from), to: PeerId(1), term: Term(1), body }
    }

    #[test]
    fn a_vote_leaves_when_it_is_durable_and_not_before() {
        // camunda#5356: a vote that left first was forgotten in a crash and cast again.
        let mut node = node(1);
        node.step(vote(2)).expect("well-formed");
        let ready = node.ready();
        let storage = node.storage_mut();
        storage.take(&ready).expect("nothing leaves too early");
        let answer = &ready.messages_after[0];
        assert!(storage.may_leave(answer).is_err());
        let token = storage.write().expect("a vote is written");
        assert!(storage.may_leave(answer).is_err() && storage.may_report(token).is_err());
        assert_eq!(storage.clone().crash(0).hard_state(), HardState::default());
        assert_eq!(storage.sync(), Some(token));
        storage.may_leave(answer).expect("durable");
        storage.may_report(token).expect("durable");
        assert_eq!(storage.clone().crash(0).hard_state().vote, PeerId(2));
    }

    #[test]
    fn a_group_that_answers_too_early_is_caught() {
        let mut node = node(1);
        node.step(vote(2)).expect("well-formed");
        let mut ready = node.ready();
        ready.messages.append(&mut ready.messages_after);
        let refused = node.storage_mut().take(&ready).expect_err("an answer leaves with its write");
        assert!(refused.starts_with("INV-RAFT-12"), "{refused}");
    }

    #[test]
    fn writes_are_taken_once_and_in_order() {
        let mut node = node(1);
        node.step(vote(2)).expect("well-formed");
        let ready = node.ready();
        node.storage_mut().take(&ready).expect("the first write");
        let refused = node.storage_mut().take(&ready).expect_err("the same write again");
        assert!(refused.starts_with("INV-RAFT-13"), "{refused}");
    }
}
