//! Rules that a test may switch off, to see that its check would notice. Each is asked for where it is kept.

env::seeded_bugs! {
    /// Timestamps are handed out up to a bound that no log has.
    TsoWindowNotSaved,
    /// A leader hands out timestamps without knowing that nobody else leads.
    TsoWithoutLease,
    /// A new leader's timestamps begin at its clock, not above the bound of those before it.
    TsoFromClock,
    /// Ids are handed out that no log has reserved.
    IdsNotReserved,
    /// A store that is to give its regions away gets new ones.
    DrainingStoreIsTarget,
    /// A store that introduces itself anew is to give nothing away any more.
    DrainForgotten,
    /// A store is taken back whatever its disk has forgotten.
    DiskAgeUnchecked,
    /// A store whose id has ended may come back with it.
    RetiredStoreReturns,
    /// Versions are given up that a service has asked to keep.
    SafePointIgnoresServices,
    /// Who has waited for a lock is taken to wait on until the longest time is over.
    LockWaitsNotRemoved,
}
