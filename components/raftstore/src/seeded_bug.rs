//! Rules that a test may switch off, to see that its check would notice.
//!
//! Without the feature `seeded_bugs` none of them can be, and the questions cost nothing.

use crate::config::Config;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SeededBug {
    /// A leader goes on renewing its lease while a split is committed that it has not applied: a child that is elected
    /// elsewhere takes writes for keys that the old leader still serves.
    LeaseOverSplit,
    /// Ticks that were missed are made up for after the messages of the turn were stepped: a voter that has just heard
    /// its leader takes it for long silent, and votes inside the leader's lease.
    MissedTicksCount,
}

impl SeededBug {
    /// All there are.
    pub const ALL: &[Self] = &[Self::LeaseOverSplit, Self::MissedTicksCount];
}

impl Config {
    /// True if the rule is switched off.
    #[cfg(feature = "seeded_bugs")]
    pub(crate) fn breaks(&self, bug: SeededBug) -> bool {
        self.seeded_bugs.contains(&bug)
    }

    /// Never.
    #[cfg(not(feature = "seeded_bugs"))]
    #[expect(clippy::unused_self, reason = "asked in the same words as under test")]
    pub(crate) const fn breaks(&self, _: SeededBug) -> bool {
        false
    }
}
