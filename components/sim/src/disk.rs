//! How long a disk takes.

use env::{Dice, SplitMix};
use std::time::Duration;

/// How a node's disk behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskConfig {
    /// The shortest sync.
    pub sync_min: Duration,
    /// A sync takes up to this much longer; short times are likelier.
    pub sync_spread: Duration,
    /// Syncs that stall, per mille.
    pub stall_per_mille: u64,
    /// How long a stall can be.
    pub stall_max: Duration,
}

impl Default for DiskConfig {
    /// A good solid-state disk.
    fn default() -> Self {
        Self {
            sync_min: Duration::from_micros(100),
            sync_spread: Duration::from_micros(900),
            stall_per_mille: 0,
            stall_max: Duration::ZERO,
        }
    }
}

/// One node's disk: draws how long each of its operations takes.
#[derive(Clone, Debug)]
pub struct Disk {
    /// How it behaves. Changed when a fault plan makes it slow.
    pub config: DiskConfig,
    dice: SplitMix,
}

impl Disk {
    /// A disk that behaves so.
    #[must_use]
    pub const fn new(config: DiskConfig, dice: SplitMix) -> Self {
        Self { config, dice }
    }

    /// How long the sync that begins now takes, in true time.
    pub fn sync_duration(&mut self) -> Duration {
        let spread = u64::try_from(self.config.sync_spread.as_nanos()).unwrap_or(u64::MAX - 1);
        let drawn = self.dice.below(spread + 1).min(self.dice.below(spread + 1));
        let stall = if self.dice.chance(self.config.stall_per_mille, 1000) {
            self.dice.duration(Duration::ZERO, self.config.stall_max)
        } else {
            Duration::ZERO
        };
        self.config.sync_min + Duration::from_nanos(drawn) + stall
    }
}
