//! Time as the logic counts it: nanoseconds that are handed in, never read.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A reading of a process's monotonic clock: nanoseconds since an origin of its own.
///
/// Readings of two processes cannot be compared. A driver reads the clock *after* it has drained its inbox, so that
/// `now` is never older than any input of the step it is handed to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// The clock's origin.
    pub const ZERO: Self = Self(0);
    /// Later than every reading.
    pub const MAX: Self = Self(u64::MAX);

    /// The time that has passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for MonoTime {
    type Output = Self;
    /// Saturates at [`MonoTime::MAX`].
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for MonoTime {
    type Output = Self;
    /// Saturates at [`MonoTime::ZERO`].
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for MonoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1000)
    }
}

/// A timestamp from the oracle: milliseconds since the Unix epoch in the upper 46 bits, a counter in the lower 18.
///
/// Unique and growing across the cluster; the layout is that of TiKV's PD.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// How many of the low bits are the counter.
    pub const LOGICAL_BITS: u32 = 18;
    /// The largest counter within one millisecond.
    pub const LOGICAL_MAX: u64 = (1 << Self::LOGICAL_BITS) - 1;

    /// The timestamp with this physical and logical part.
    ///
    /// # Panics
    /// When `logical` exceeds [`Self::LOGICAL_MAX`].
    #[must_use]
    pub const fn compose(physical_ms: u64, logical: u64) -> Self {
        assert!(logical <= Self::LOGICAL_MAX);
        Self(physical_ms << Self::LOGICAL_BITS | logical)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn physical_ms(self) -> u64 {
        self.0 >> Self::LOGICAL_BITS
    }

    /// The counter within the millisecond.
    #[must_use]
    pub const fn logical(self) -> u64 {
        self.0 & Self::LOGICAL_MAX
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.physical_ms(), self.logical())
    }
}
