//! When a write reached each stage on its way, by the clock of whoever drives: stamps that ride along with what is handed
//! on anyway, one set for each entry and none for each request. Nothing is decided by them.

use types::MonoTime;

/// When a log task went through the log writer; zeros where nobody looked at the clock.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LogTimes {
    /// The worker had handed it over.
    pub handed: MonoTime,
    /// The log writer took it.
    pub begun: MonoTime,
    /// It was durable.
    pub durable: MonoTime,
}

/// When the entry of a proposal reached each stage. A stage that it has not reached, or that nobody looked at, is zero.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EntryTimes {
    /// The turn that proposed it began.
    pub proposed: MonoTime,
    /// It went to the disk of this store.
    pub log: LogTimes,
    /// The turn began that found it committed, and durable here.
    pub committed: MonoTime,
}
