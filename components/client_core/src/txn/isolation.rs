//! What transactions may see of each other.

/// How far transactions are kept apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Isolation {
    /// Each sees everything as it was when it began, and of two that write the same key one fails. Two that each read what
    /// the other writes may both commit ("write skew").
    #[default]
    Snapshot,
    /// As if one transaction had come after the other. One that writes is refused
    /// ([`TxnError::ReadConflict`](crate::TxnError::ReadConflict)) if others have changed what it has read before it
    /// commits: keys, and ranges that it has scanned, with the keys that were not there. What it has read and not written
    /// costs it one more round of requests, and it commits in two phases; one that only reads pays nothing.
    ///
    /// It holds among transactions that are all serializable. One that is not, and decides by what it reads, can still break a
    /// rule that others keep.
    Serializable,
}
