//! Rules that a test may switch off, to see that its check would notice. Each is asked for where it is kept.

env::seeded_bugs! {
    /// A write whose outcome is unknown is made again.
    RetriesUndetermined,
    /// A write that was sent and not answered is said to be refused.
    UnansweredIsRefused,
    /// A scan goes on behind the page's region though the page was not all of it.
    ScanSkipsRestOfPage,
    // ---- transactions ----
    /// A commit whose outcome is unknown is said to be refused.
    UnknownCommitRefused,
    /// The keys of a transaction are committed before the one that decides.
    SecondariesFirst,
    /// A transaction fetches the timestamp of its commit before its keys are locked.
    CommitTimestampFirst,
    /// The lock of a transaction that has taken too long is removed without asking what became of it.
    LocksRemovedUnasked,
    /// A transaction that a reader finds committed is taken for one that commits later.
    CommittedTakenForLater,
    /// A transaction does not see what it has written when it reads a key.
    OwnWritesUnread,
    /// A transaction does not see what it has written when it scans.
    OwnWritesUnscanned,
    /// What a transaction has reserved it sees as it was when it began.
    ReservedReadAsItWas,
    /// Versions are removed though old locks were not resolved.
    OldLocksLeft,
    /// A serializable transaction does not look again at the ranges that it has scanned.
    RangesUnproved,
}
