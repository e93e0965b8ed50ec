//! Rules that a test may switch off, to see that its check would notice. Each is asked for where it is kept.

env::seeded_bugs! {
    /// A write whose outcome is unknown is made again.
    RetriesUndetermined,
    /// A write that was sent and not answered is said to be refused.
    UnansweredIsRefused,
    /// A scan goes on behind the page's region though the page was not all of it.
    ScanSkipsRestOfPage,
}
