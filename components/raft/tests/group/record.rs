//! What all peers of a group did, over all their lives, and the rules that it must obey whatever happens.

use bytes::Bytes;
use raft::{Body, ConfState, Entry, EntryId, EntryKind, HardState, Message, VoteKind};
use std::collections::BTreeMap;
use types::{LogIndex, PeerId, Term};

/// What stands at a position.
type Content = (EntryKind, Bytes);

#[derive(Default)]
pub(crate) struct Record {
    leaders: BTreeMap<Term, PeerId>,
    /// Whom each peer has told that it votes for it, by term.
    votes: BTreeMap<(PeerId, Term), PeerId>,
    /// Every entry that was ever written, and the term of the one before it.
    written: BTreeMap<(LogIndex, Term), (Content, Term)>,
    /// What a leader has called committed: the entry's term, and the first term in which it was.
    committed_entries: BTreeMap<LogIndex, (Term, Term)>,
    /// What was handed out for applying.
    chosen: BTreeMap<LogIndex, (Term, Content)>,
    /// What the state machine was after each index.
    states: BTreeMap<LogIndex, (u64, ConfState)>,
    /// The highest index that any leader has known to be committed.
    pub(crate) committed: LogIndex,
}

impl Record {
    /// Of a group that begins with everything up to `committed` behind it.
    pub(crate) fn new(committed: LogIndex) -> Self {
        Self { committed, ..Self::default() }
    }

    /// `id` leads `term`, with `log` from where that is compacted. Election safety and leader completeness (thesis §3.2,
    /// §3.6.3).
    pub(crate) fn leads(
        &mut self,
        term: Term,
        id: PeerId,
        log: &BTreeMap<LogIndex, Term>,
    ) -> Result<(), String> {
        if let Some(old) = self.leaders.insert(term, id)
            && old != id
        {
            return Err(format!("INV-RAFT-1: term {term} has two leaders, {old} and {id}"));
        }
        let Some((&base, _)) = log.first_key_value() else { return Ok(()) };
        for (index, (of, in_term)) in self.committed_entries.range(base..) {
            if *in_term < term && log.get(index) != Some(of) {
                return Err(format!(
                    "INV-RAFT-4: {id} leads term {term} without {index}@{of}, committed in term {in_term}"
                ));
            }
        }
        Ok(())
    }

    /// The leader of `term` calls everything up to `index` committed.
    pub(crate) fn commits(
        &mut self,
        term: Term,
        index: LogIndex,
        log: &BTreeMap<LogIndex, Term>,
    ) -> Result<(), String> {
        for (&at, &of) in log.range(..=index) {
            let known = self.committed_entries.entry(at).or_insert((of, term));
            if known.0 != of {
                let was = known.0;
                return Err(format!("INV-RAFT-3: {at}@{of} is committed where {at}@{was} was"));
            }
            known.1 = known.1.min(term);
        }
        self.committed = self.committed.max(index);
        Ok(())
    }

    /// The last entry that a leader has called committed.
    pub(crate) fn last_committed(&self) -> Option<(LogIndex, Term)> {
        self.committed_entries.last_key_value().map(|(&index, &(term, _))| (index, term))
    }

    /// Log matching: the same term at the same index is the same entry after the same entry (thesis §3.5).
    pub(crate) fn writes(&mut self, prev: EntryId, entries: &[Entry]) -> Result<(), String> {
        let mut before = prev.term;
        for entry in entries {
            let content = ((entry.kind, entry.data.clone()), before);
            let known = self.written.entry((entry.index, entry.term)).or_insert_with(|| content.clone());
            if *known != content {
                return Err(format!(
                    "INV-RAFT-3: {}@{} after term {before} was written otherwise elsewhere, after term {}",
                    entry.index, entry.term, known.1
                ));
            }
            before = entry.term;
        }
        Ok(())
    }

    /// State machine safety: nobody applies anything else at an index (thesis §3.6.3).
    pub(crate) fn applies(&mut self, id: PeerId, entry: &Entry) -> Result<(), String> {
        let content = (entry.term, (entry.kind, entry.data.clone()));
        let known = self.chosen.entry(entry.index).or_insert_with(|| content.clone());
        if *known != content {
            return Err(format!(
                "INV-RAFT-5: {id} applies {}@{} where {}@{} was applied",
                entry.index, entry.term, entry.index, known.0
            ));
        }
        if entry.index > self.committed {
            return Err(format!(
                "INV-RAFT-7: {id} applies {}@{}, leaders have committed up to {}",
                entry.index, entry.term, self.committed
            ));
        }
        Ok(())
    }

    /// Whoever applied the same log is in the same state, with the same members.
    pub(crate) fn reaches(&mut self, index: LogIndex, hash: u64, conf: &ConfState) -> Result<(), String> {
        let (known_hash, known_conf) = self.states.entry(index).or_insert_with(|| (hash, conf.clone()));
        if known_conf != conf {
            return Err(format!("INV-RAFT-14: members at {index} are {conf:?}, elsewhere {known_conf:?}"));
        }
        if *known_hash != hash {
            return Err(format!("INV-RAFT-5: the state at {index} is not what it is elsewhere"));
        }
        Ok(())
    }

    /// `message` leaves a peer that has `durable` on its disk, with a log to `last`.
    pub(crate) fn sends(
        &mut self,
        message: &Message,
        durable: HardState,
        last: LogIndex,
    ) -> Result<(), String> {
        let (from, term) = (message.from, message.term);
        let speaks_of_later = match message.body {
            Body::Vote { kind, .. } => kind == VoteKind::Pre,
            Body::VoteResp { pre, .. } => pre,
            _ => false,
        };
        if term > durable.term && !speaks_of_later {
            let durable = durable.term;
            return Err(format!("INV-RAFT-12: {from} speaks in term {term}, durable is {durable}"));
        }
        let vote = match message.body {
            Body::Vote { kind, .. } if kind != VoteKind::Pre => Some(from),
            Body::VoteResp { pre: false, reject: false, .. } => Some(message.to),
            _ => None,
        };
        if let Some(vote) = vote {
            let known = *self.votes.entry((from, term)).or_insert(vote);
            if known != vote {
                return Err(format!("INV-RAFT-11: {from} votes for {known} and {vote} in term {term}"));
            }
            if (durable.term, durable.vote) != (term, vote) {
                return Err(format!("INV-RAFT-12: {from} tells of a vote for {vote} that is not durable"));
            }
        }
        match message.body {
            Body::AppendResp { index, reject: None, .. } if index > last => {
                Err(format!("INV-RAFT-12: {from} acknowledges {index}, durable is {last}"))
            }
            _ => Ok(()),
        }
    }
}
