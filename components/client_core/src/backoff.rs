//! How long to wait before the next attempt.

use env::Dice;
use std::time::Duration;

/// What an attempt failed of, as far as waiting is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// A store named the leader: go there at once, unless that happens again and again.
    LeaderNamed,
    /// Nobody knows the leader: an election takes a second or two.
    NoLeader,
    /// The region changed and we know how, or a command was stale: at once, then slower.
    RegionChanged,
    /// The region is not where we believed, or the store lags behind.
    RegionMissing,
    /// The store has too much to do.
    Busy,
    /// The store cannot be reached: at once to the next peer, then slower.
    Unreachable,
    /// The placement driver cannot answer.
    Pd,
    /// Another transaction, which is still at work, has locked a key.
    Locked,
}

impl Class {
    /// Every one, in order.
    pub(crate) const ALL: [Self; 8] = [
        Self::LeaderNamed,
        Self::NoLeader,
        Self::RegionChanged,
        Self::RegionMissing,
        Self::Busy,
        Self::Unreachable,
        Self::Pd,
        Self::Locked,
    ];

    /// Its name among metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::LeaderNamed => "leader_named",
            Self::NoLeader => "no_leader",
            Self::RegionChanged => "region_changed",
            Self::RegionMissing => "region_missing",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Pd => "pd",
            Self::Locked => "locked",
        }
    }

    /// The first wait and the longest, in milliseconds; and how many attempts are made at once before that.
    const fn curve(self) -> (u64, u64, u32) {
        match self {
            Self::LeaderNamed => (2, 200, 2),
            Self::NoLeader => (10, 300, 0),
            Self::RegionChanged => (2, 200, 2),
            Self::RegionMissing => (4, 400, 0),
            Self::Busy => (4, 1000, 0),
            Self::Unreachable => (10, 500, 1),
            Self::Pd => (10, 500, 0),
            // A commit that meets no trouble takes a few milliseconds.
            Self::Locked => (4, 256, 0),
        }
    }
}

/// The waits of one call so far, by class.
#[derive(Clone, Default, Debug)]
pub(crate) struct Backoff {
    failures: [u32; Class::ALL.len()],
}

impl Backoff {
    /// The wait after one more failure of this class: doubling from the class's first wait to its longest, of which a
    /// random part between half and all is taken, so that those who failed together do not return together. Never less
    /// than `at_least`, which the server asked for; then up to a quarter more.
    pub(crate) fn next(&mut self, class: Class, at_least: Duration, dice: &mut dyn Dice) -> Duration {
        let (first_ms, longest_ms, free) = class.curve();
        let failures = &mut self.failures[class as usize];
        let step = failures.checked_sub(free);
        *failures = failures.saturating_add(1);
        let own = match step {
            None => Duration::ZERO,
            Some(step) => {
                let whole = first_ms.saturating_mul(1 << step.min(20)).min(longest_ms);
                let whole = Duration::from_millis(whole);
                dice.duration(whole / 2, whole)
            }
        };
        if at_least.is_zero() { own } else { own.max(dice.duration(at_least, at_least + at_least / 4)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::SplitMix;

    #[test]
    fn waits_double_up_to_their_limit_and_jitter_below_it() {
        let mut dice = SplitMix::new(1);
        let mut backoff = Backoff::default();
        for expected_ms in [4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000] {
            let wait = backoff.next(Class::Busy, Duration::ZERO, &mut dice);
            let whole = Duration::from_millis(expected_ms);
            assert!(wait >= whole / 2 && wait < whole, "{wait:?} is not in the upper half of {whole:?}");
        }
        // Classes do not share their counts.
        assert_eq!(backoff.next(Class::LeaderNamed, Duration::ZERO, &mut dice), Duration::ZERO);
    }

    #[test]
    fn a_wait_is_never_shorter_than_the_server_asked_for() {
        let mut dice = SplitMix::new(2);
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            let asked = Duration::from_millis(300);
            assert!(backoff.next(Class::Busy, asked, &mut dice) >= asked);
        }
    }
}
