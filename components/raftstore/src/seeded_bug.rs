//! Rules that a test may switch off, to see that its check would notice. Each is asked for where it is kept.

env::seeded_bugs! {
    // ---- leases and reads ----
    /// A leader goes on renewing its lease while a split is committed that it has not applied: a child that is elected
    /// elsewhere takes writes for keys that the old leader still serves.
    LeaseOverSplit,
    /// Ticks that were missed are made up for after the messages of the turn were stepped: a voter that has just heard
    /// its leader takes it for long silent, and votes inside the leader's lease.
    MissedTicksCount,
    /// The lease begins when it is renewed, not when the round left that a quorum has answered.
    LeaseFromNow,
    /// A new leader serves by its lease before an entry of its own term is applied.
    LeaseBeforeOwnTermApplied,
    /// A read is served as soon as its index is known, applied or not.
    ReadBeforeApplied,
    /// A read that has its index is served while a split is committed and unapplied.
    ReadOverSplit,
    /// The first peer of a piece of a region campaigns as soon as it is made, though the parent's leader may be another
    /// one that still has its lease.
    FirstChildCampaigns,
    // ---- proposals ----
    /// What is proposed is taken for whatever is committed at its index, in whichever term.
    ProposalMatchedByIndex,
    /// A leader that steps down tells those who wait that their writes were refused.
    StepDownDecides,
    /// A write that was proposed and whose time is over is said to be refused.
    ExpiredProposalRefused,
    /// Writes over whose indexes a snapshot jumped are said to be refused.
    JumpedProposalRefused,
    // ---- locks in memory ----
    /// A leader that hands over leaves the locks behind that only its memory has.
    LocksNotHandedOver,
    /// A leader that hands over proposes its locks, also where a write that ends them is on its way before them.
    ChangingLocksHandedOver,
    /// Locks that only memory has are forgotten when their region is cut.
    SplitForgetsLocks,
    /// Locks that only memory has count again when the peer leads in a later term.
    LocksOutliveLeader,
    /// A piece of a region inherits locks from before the cut though others have led it.
    InheritedInAnyTerm,
    // ---- the log ----
    /// A vote is not written, only its term.
    VoteNotWritten,
    // ---- apply ----
    /// Writes are applied though the region was cut after they were proposed.
    EpochUncheckedAtApply,
    /// A write that came too late to be applied is said to be done.
    StaleWriteAcknowledged,
    /// A conditional write does not see what is before it in the same batch.
    CasIgnoresOpenBatch,
    /// A conditional write compares with a value whose time is over.
    EndedValueCompared,
    /// Values that were found to be over are removed, whatever their keys hold by then.
    RemovesWhatIsThere,
    /// What stood under a key of which nothing else was left is removed, whatever stands there by then.
    RemovesWhatIsNew,
    /// A change of members is applied, but not to the region's record on disk.
    ConfChangeNotSaved,
    /// A change of members is not counted as applied: whoever restarts applies it again.
    ConfChangeAppliedTwice,
    /// The log is compacted without a word of it in the apply record.
    TruncationNotSaved,
    /// Readers are told that a region has begun to refuse old ones when its next entries are applied, not before the batch is
    /// written that says so.
    GuardToldLate,
    /// A split makes a child without an apply record: nothing says where its log begins.
    SplitChildNotRecorded,
    /// A split makes its child over whatever is on disk of that region already.
    ChildBornAgain,
    // ---- snapshots ----
    /// A region whose data comes in files is `Normal` before they are ingested.
    ApplyingNotRecorded,
    /// A snapshot's data is put over the old data instead of in its place.
    InstallOverOldData,
    /// A snapshot is put in place without waiting for apply to stop.
    InstallWithoutStop,
    /// A snapshot that Raft has no use for, because it came twice or too late, is put in place all the same.
    InstallUnasked,
    /// A snapshot makes a peer although another region of the store has some of its range.
    SnapshotOverNeighbour,
    /// A peer that has got nothing of its region does not vote.
    UninitializedSilent,
    // ---- removal ----
    /// A peer is cleared away without a tombstone.
    TombstoneNotWritten,
    /// Tombstones keep nobody out.
    TombstoneIgnored,
    /// Others are told that a peer is gone before its tombstone is durable.
    GoneBeforeDurable,
    /// A peer is cleared away while apply goes on.
    DestroyWithoutStop,
    /// Of a peer's range only the start is looked at when its data is removed.
    DestroyBeyondRange,
}
