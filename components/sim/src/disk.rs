//! How long a disk takes, and what else can happen to it.

use crate::fields::{Fields, Unreadable, duration_text};
use engine::Fault;
use env::{Dice, SplitMix};
use std::fmt;
use std::time::Duration;
use wire::store::DiskState;

/// Something that happens to a disk, but for being slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskHurt {
    /// The next operation of this kind fails.
    FailOnce(Fault),
    /// Nothing can be written to it any more; or again.
    Full(bool),
    /// Whoever watches the space on it sees this.
    Space(DiskState),
    /// It is taken away, and an empty one put in its place. The machine is off.
    Lost,
    /// An image of it is taken, in the place of an earlier one.
    Imaged,
    /// The image is written over it. The machine is off.
    Restored,
    /// The one that was taken away last is put back in the place of the present one. The machine is off.
    Returned,
}

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

impl DiskConfig {
    /// Reads what `Display` has written.
    pub(crate) fn parse(fields: &mut Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            sync_min: fields.duration("sync-min")?,
            sync_spread: fields.duration("sync-spread")?,
            stall_per_mille: fields.number("stall-per-mille")?,
            stall_max: fields.duration("stall-max")?,
        })
    }
}

impl fmt::Display for DiskConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sync_min, sync_spread, stall_per_mille, stall_max } = self;
        let [sync_min, sync_spread, stall_max] =
            [sync_min, sync_spread, stall_max].map(|time| duration_text(*time));
        write!(
            f,
            "sync-min={sync_min} sync-spread={sync_spread} stall-per-mille={stall_per_mille} stall-max={stall_max}"
        )
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
