//! Random numbers as an argument, forked by label so that a draw added in one place shifts no draw elsewhere.

use std::time::Duration;

/// A source of random numbers.
pub trait Dice: Send {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// A number in `0..bound`; zero for a bound of zero.
    fn below(&mut self, bound: u64) -> u64 {
        // The multiply-shift map of a 64-bit draw onto the bound: its bias is below 2^-32 for bounds below 2^32.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True with a probability of `numerator / denominator`.
    fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// A duration in `low..high`.
    fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_nanos().min(u128::from(u64::MAX)) as u64;
        low + Duration::from_nanos(self.below(span))
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014): small, and the same on
/// every platform and in every version, so that a recorded seed stays a recorded run.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// The stream of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An independent stream for the purpose named by `label`. Does not advance `self`.
    #[must_use]
    pub fn fork(&self, label: &str) -> Self {
        // FNV-1a over the label, stirred into the seed by one step of the generator.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in label.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut stirred = Self(self.0 ^ hash);
        Self(stirred.next_u64())
    }
}

impl Dice for SplitMix {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_depends_on_its_label_and_not_on_draws_elsewhere() {
        let root = SplitMix::new(7);
        let first = root.fork("net").next_u64();
        let mut other = root.fork("disk");
        other.next_u64();
        assert_eq!(root.fork("net").next_u64(), first);
        assert_ne!(root.fork("disk").next_u64(), first);
    }

    #[test]
    fn below_stays_below() {
        let mut dice = SplitMix::new(1);
        for bound in 1..200 {
            assert!(dice.below(bound) < bound);
        }
    }
}
