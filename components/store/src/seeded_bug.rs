//! Rules that a test may switch off, to see that its check would notice. Each is asked for where it is kept.

env::seeded_bugs! {
    /// How far a region is applied is written in a batch of its own, before the data.
    ApplyIndexInAnotherBatch,
    /// What is applied is written in two halves, each a batch of its own.
    HalfABatch,
    /// A read is served though the region was cut since its client learned of it.
    ReadIgnoresEpoch,
    /// A read is served by a lease that has ended.
    LeaseNeverEnds,
    /// A read looks at its lease first, and takes its view of the engine afterwards.
    LeaseBeforeView,
    /// A read is served from a view of the engine that an earlier one has left.
    ViewOfEarlierRead,
    /// A snapshot's data is taken whatever its checksum says.
    ChecksumNotVerified,
    /// Writes to the logs are told to the placement driver before they are durable.
    LogMarkBeforeSync,
    /// Commands of transactions on one key do not wait for each other.
    CommandsUnlatched,
    /// A command gives its latches up when its client does, though it may yet be applied.
    LatchesExpire,
    /// What a command decided is proposed though another has led since.
    DecidedInAnyTerm,
    /// A read at a timestamp is served from a view of the engine that was taken before it was announced.
    ViewBeforeAnnouncement,
    /// A transaction that commits without a second phase does so whatever was read at by now.
    CommitBelowReads,
    /// A transaction that commits without a second phase shows its locks to nobody before the engine has them.
    LocksNotShown,
    /// A leader takes what was read here for all that was ever read of the region.
    ReadsElsewhereForgotten,
    /// Whoever waits for a lock is not taken up when it goes.
    WaiterForgotten,
    /// Commands look for locks in the engine alone.
    HeldLocksUnseen,
    /// Whoever is taken up when a lock goes is still taken to wait for it.
    WokenWaitsOn,
    /// Whoever waits for a lock is taken up when its end is proposed.
    WokenBeforeApplied,
    /// A command gives its latches up when it is answered, though it is not applied.
    LatchesGoWithAnswer,
    /// Commands are answered once they are proposed, whatever they do.
    AnyPipelined,
}
