//! What all peers of a group did, and the rules that it must obey whatever happens.

use bytes::Bytes;
use raft::{ConfState, Entry, EntryId, EntryKind};
use std::collections::BTreeMap;
use types::{LogIndex, PeerId, Term};

/// What stands at a position.
type Content = (EntryKind, Bytes);

#[derive(Default)]
pub(crate) struct Record {
    leaders: BTreeMap<Term, PeerId>,
    /// Every entry that was ever durable or sent anywhere, and the term of the one before it.
    written: BTreeMap<(LogIndex, Term), (Content, Term)>,
    /// What was handed out for applying.
    chosen: BTreeMap<LogIndex, (Term, Content)>,
    /// What the state machine was after each index.
    states: BTreeMap<LogIndex, (u64, ConfState)>,
    /// The highest index that any leader has known to be committed.
    pub(crate) committed: LogIndex,
    /// Up to where each term has committed.
    committed_in: BTreeMap<Term, LogIndex>,
}

impl Record {
    /// Of a group that begins with everything up to `committed` behind it.
    pub(crate) fn new(committed: LogIndex) -> Self {
        Self { committed, ..Self::default() }
    }

    /// Election safety: at most one leader in a term (thesis §3.2, figure 3.2).
    pub(crate) fn leads(&mut self, term: Term, id: PeerId) -> Result<bool, String> {
        match self.leaders.insert(term, id) {
            None => Ok(true),
            Some(old) if old == id => Ok(false),
            Some(old) => Err(format!("term {term} has two leaders, {old} and {id}")),
        }
    }

    /// The leader of `term` has committed up to `index`.
    pub(crate) fn commits(&mut self, term: Term, index: LogIndex) {
        self.committed = self.committed.max(index);
        self.committed_in.insert(term, index);
    }

    /// Leader completeness: whoever leads `term` holds everything that was committed in an earlier one (thesis §3.6.3).
    /// `log` is the leader's, from where it is compacted.
    pub(crate) fn is_complete(&self, term: Term, log: &BTreeMap<LogIndex, Term>) -> Result<(), String> {
        let (Some((&base, _)), Some(&end)) =
            (log.first_key_value(), self.committed_in.range(..term).map(|c| c.1).max())
        else {
            return Ok(());
        };
        for (index, (of, _)) in self.chosen.range(base..=end.max(base)) {
            if log.get(index) != Some(of) {
                return Err(format!(
                    "term {term} is led without {index} of term {of}, which was committed: {log:?}"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// Log matching: the same term at the same index is the same entry after the same entry.
    pub(crate) fn writes(&mut self, prev: EntryId, entries: &[Entry]) -> Result<(), String> {
        let mut before = prev.term;
        for entry in entries {
            let content = ((entry.kind, entry.data.clone()), before);
            let known = self.written.entry((entry.index, entry.term)).or_insert_with(|| content.clone());
            if *known != content {
                return Err(format!("{entry:?} after {before} was {known:?} elsewhere"));
            }
            before = entry.term;
        }
        Ok(())
    }

    /// State machine safety: nobody applies anything else at an index.
    pub(crate) fn chooses(&mut self, entry: &Entry) -> Result<(), String> {
        let content = (entry.term, (entry.kind, entry.data.clone()));
        let known = self.chosen.entry(entry.index).or_insert_with(|| content.clone());
        if *known != content {
            return Err(format!("{entry:?} is applied where {known:?} was applied elsewhere"));
        }
        if entry.index > self.committed {
            return Err(format!(
                "{entry:?} is applied, but no leader has committed beyond {}",
                self.committed
            ));
        }
        Ok(())
    }

    /// Whoever applied the same log is in the same state, with the same members.
    pub(crate) fn reaches(&mut self, index: LogIndex, hash: u64, conf: &ConfState) -> Result<(), String> {
        let state = (hash, conf.clone());
        let known = self.states.entry(index).or_insert_with(|| state.clone());
        if *known == state {
            Ok(())
        } else {
            Err(format!("at {index} the state is {state:?}, elsewhere {known:?}"))
        }
    }
}
