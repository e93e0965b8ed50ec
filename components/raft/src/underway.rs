//! What a group has handed out and has not heard of again: writes on their way to the disk, pages on their way to the state
//! machine.

use crate::PersistToken;
use crate::line::Line;
use types::{LogIndex, Term};

/// A write that was handed out and is not known to be durable.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Write {
    pub(crate) token: PersistToken,
    /// The term in the hard state as of this write.
    pub(crate) term: Term,
    /// The log is still as this write left it up to here.
    ///
    /// Invariant: grows from each write to the next.
    pub(crate) valid_to: LogIndex,
    /// The snapshot that was part of it.
    pub(crate) snapshot: Option<LogIndex>,
}

impl Write {
    /// `token`, if it is this write's, is handed back as it was.
    #[inline]
    pub(crate) fn check(&self, token: PersistToken) {
        let same = self.token.seq != token.seq || self.token.mark == token.mark;
        assert!(same, "INV-RAFT-13: {token:?} is reported done, but {:?} was handed out", self.token);
    }
}

/// What is on its way: to the disk, to the state machine.
#[derive(Debug, Default)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Underway {
    pub(crate) writes: Line<Write, 1>,
    /// Pages out for applying: the last index of each and its bytes.
    pub(crate) pages: Line<(LogIndex, u64), 1>,
    pub(crate) page_bytes: u64,
    /// Storage is fetching the next page.
    pub(crate) page_fetching: bool,
    /// The changes of members after what is applied.
    pub(crate) conf_entries: Vec<LogIndex>,
}

pub(crate) static NOTHING_UNDERWAY: Underway = Underway {
    writes: Line::new(),
    pages: Line::new(),
    page_bytes: 0,
    page_fetching: false,
    conf_entries: Vec::new(),
};
