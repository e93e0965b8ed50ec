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
}
