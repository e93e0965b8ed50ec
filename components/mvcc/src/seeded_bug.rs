//! Rules that a test may switch off, to see that its check would notice: those of reading, and those of the commands,
//! which see all records through a reader. Each is asked for where it is kept.

env::seeded_bugs! {
    // ---- reading ----
    /// Who reads a key takes no notice of locks.
    GetIgnoresLocks,
    /// Who scans takes no notice of locks.
    ScanIgnoresLocks,
    /// What a lock's committed transaction does to a key is not seen before the lock is gone.
    CommittedLockUnseen,
    // ---- the first phase ----
    /// A key is locked whoever has locked it.
    PrewriteIgnoresLocks,
    /// A key is locked though others have committed it since the transaction began.
    PrewriteSkipsWrites,
    /// A key is locked though the transaction was rolled back on it.
    PrewriteForgetsRollback,
    /// A reservation that was lost is as good as held, though others have written the key since.
    LostLockAmended,
    /// A key is reserved though others have committed it since the transaction last looked.
    AcquireSkipsNewer,
    // ---- the second phase ----
    /// A lock is committed for whoever asks.
    CommitTakesAnyLock,
    /// A transaction commits earlier than readers were told.
    CommitIgnoresMinimum,
    /// A commit that comes again is refused.
    CommitNotRepeatable,
    /// A value that stands in its lock is not kept.
    ShortValueDropped,
    /// What was newest before a commit is not put with the older versions.
    OlderVersionLost,
    // ---- the end of others ----
    /// A transaction is rolled back on a key and nothing says so.
    RollbackWithoutRecord,
    /// An abandoned transaction is said to be rolled back, and is left as it is.
    ExpiredNotRolledBack,
    /// A transaction of which nothing is known is said to be rolled back, and may yet begin.
    UnknownNotForbidden,
    /// Readers are told that a transaction commits later, and it is not.
    MinimumNotPushed,
    /// Who reads below the safe point is served from what is left.
    ReadsBelowSafePoint,
    /// Versions are removed that are above the safe point.
    VersionsGoTooSoon,
}
