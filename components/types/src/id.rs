//! Ids and log positions as distinct types, so that a peer id cannot stand where a region id belongs.

use std::fmt;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// Zero: "none" for ids, "before the first" for log positions.
            pub const ZERO: Self = Self(0);

            /// The plain number, for encodings and logs.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// True for [`Self::ZERO`].
            #[must_use]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

newtype!(
    /// One cluster: all PD members and stores that were bootstrapped together.
    ClusterId
);
newtype!(
    /// One region, from its birth in a split (or the bootstrap) to its merge; never used again.
    RegionId
);
newtype!(
    /// One copy of a region on a store; never used again after the copy is removed. Zero means "no peer".
    PeerId
);
newtype!(
    /// One store process with its disk; never used again after it is retired.
    StoreId
);
newtype!(
    /// A Raft term. Zero is the term before the first election.
    Term
);
newtype!(
    /// A position in a Raft log. The first entry has index 1; zero is "before the log".
    LogIndex
);

impl LogIndex {
    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The position before this one; zero stays zero.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many entries lie after `earlier` up to and including `self`; zero if `earlier` is not earlier.
    #[must_use]
    pub const fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<u64> for LogIndex {
    type Output = Self;
    fn add(self, rhs: u64) -> Self {
        Self(self.0 + rhs)
    }
}

impl std::ops::Sub<u64> for LogIndex {
    type Output = Self;
    /// # Panics
    /// In debug builds when the result would lie before the log.
    fn sub(self, rhs: u64) -> Self {
        Self(self.0 - rhs)
    }
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
