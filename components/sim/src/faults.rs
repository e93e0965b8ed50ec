//! What can go wrong, and what operators do meanwhile; each as one line of text.

use crate::disk::DiskConfig;
use crate::fields::{Fields, Unreadable, duration_text, nodes_text};
use crate::kernel::{CrashKind, NodeId};
use crate::time::SimTime;
use crate::workload::Change;
use std::fmt;
use std::time::Duration;
use wire::pd::StoreMode;
use wire::store::DiskState;

/// How a network is cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Shape {
    /// Two parts, neither hears the other.
    Parted,
    /// Two parts, one hears the other.
    OneWay,
    /// One node hears nobody, or nobody hears it, or both.
    Alone,
    /// Two parts, neither hears the other, and one node that both hear and that hears both.
    Bridge,
    /// Each node hears its two neighbours alone.
    Ring,
    /// Two nodes that do not hear each other.
    Pair,
}

impl Shape {
    const ALL: [(Self, &str); 6] = [
        (Self::Parted, "parted"),
        (Self::OneWay, "one-way"),
        (Self::Alone, "alone"),
        (Self::Bridge, "bridge"),
        (Self::Ring, "ring"),
        (Self::Pair, "pair"),
    ];
}

/// What of a disk fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DiskFailure {
    /// The next write: perhaps all of it is there afterwards, perhaps nothing.
    Write,
    /// The next sync: of what was not synced any prefix may be there afterwards.
    Sync,
    /// The next ingestion of a file.
    Ingest,
}

impl DiskFailure {
    const ALL: [(Self, &str); 3] = [(Self::Write, "write"), (Self::Sync, "sync"), (Self::Ingest, "ingest")];
}

/// Something that goes wrong, or that an operator does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A process ends, and starts again after a while.
    Crash {
        /// Whose.
        node: NodeId,
        /// How.
        kind: CrashKind,
        /// Not at once, but in the middle of its next sync.
        in_sync: bool,
        /// For how long it is down.
        down: Duration,
    },
    /// A process does not run for a while.
    Freeze {
        /// Whose.
        node: NodeId,
        /// For how long.
        duration: Duration,
    },
    /// Nothing passes in some directions for a while.
    Cut {
        /// What that looks like.
        shape: Shape,
        /// From the first to the second of each.
        directions: Vec<(NodeId, NodeId)>,
        /// For how long.
        duration: Duration,
    },
    /// Some directions are slow for a while.
    Slow {
        /// From the first to the second of each.
        directions: Vec<(NodeId, NodeId)>,
        /// By how much.
        by: Duration,
        /// For how long.
        duration: Duration,
    },
    /// All connections of a node break.
    Reset {
        /// Which.
        node: NodeId,
    },
    /// A disk is slow for a while.
    SlowDisk {
        /// Whose.
        node: NodeId,
        /// How slow.
        disk: DiskConfig,
        /// For how long.
        duration: Duration,
    },
    /// A disk fails once: the process ends, for it does not know what is on its disk, and is started again.
    FailDisk {
        /// Whose.
        node: NodeId,
        /// At what.
        what: DiskFailure,
    },
    /// A disk takes nothing more for a while: the process ends at its next write, whenever it is started.
    FullDisk {
        /// Whose.
        node: NodeId,
        /// For how long.
        duration: Duration,
    },
    /// A store notices that its disk fills up, and after a while that there is room again.
    LowDisk {
        /// Whose.
        node: NodeId,
        /// How it judges that.
        state: DiskState,
        /// For how long.
        duration: Duration,
    },
    /// The machine fails with its disk; it comes back with an empty one.
    ///
    /// Promised is: no acknowledged write is lost as long as each region keeps the disks of a majority of its voters. So
    /// this takes effect only where that holds, counting all disks that were lost and are still counted on.
    LoseDisk {
        /// Whose.
        node: NodeId,
        /// For how long it is down.
        down: Duration,
    },
    /// A disk that was lost turns up again, as it was when it was lost, and is put back in the place of the present one.
    /// The store that it belongs to must be refused if its place was taken. Under the same promise.
    OldDisk {
        /// Whose.
        node: NodeId,
        /// For how long it is down.
        down: Duration,
    },
    /// The appliers of a store do not run for a while, and all else of it does.
    Lag {
        /// Whose.
        node: NodeId,
        /// For how long.
        duration: Duration,
    },
    /// An image of a disk is taken while its store runs, or not.
    Image {
        /// Whose.
        node: NodeId,
    },
    /// The machine fails, and comes back with the image of its disk that was taken last.
    ///
    /// Takes effect only where the placement driver knows of something that the store has said since, so that the store must be
    /// refused; it then begins with an empty disk. Under the same promise as a lost disk.
    RestoreDisk {
        /// Whose.
        node: NodeId,
        /// For how long it is down.
        down: Duration,
    },
    /// A wall clock jumps.
    WallJump {
        /// Whose.
        node: NodeId,
        /// How far.
        by_ms: i64,
    },
    /// A monotonic clock begins to drift otherwise.
    Drift {
        /// Whose.
        node: NodeId,
        /// In parts per million.
        drift_ppm: i64,
    },
    /// A store that was not there from the beginning is started.
    Start {
        /// Which.
        node: NodeId,
    },
    /// An operator has a region cut in two.
    Split {
        /// The client that asks.
        client: NodeId,
        /// At which key of the workload, and how far behind it: counted round and round.
        key: u64,
    },
    /// An operator has a leader hand over to another peer of its region.
    Transfer {
        /// The client that asks.
        client: NodeId,
        /// The region: counted in the order of their keys, round and round.
        region: u64,
        /// The peer: counted as the region names them, round and round.
        peer: u64,
    },
    /// An operator has the members of a region changed.
    Members {
        /// How.
        change: Change,
        /// The client that asks.
        client: NodeId,
        /// The region: counted in the order of their keys, round and round.
        region: u64,
        /// The peer that goes: counted as the region names them, round and round.
        peer: u64,
        /// Where a new one comes: counted in the order of their ids, round and round.
        store: u64,
    },
    /// An operator ends what is being done with a region.
    Cancel {
        /// The client that asks.
        client: NodeId,
        /// The region: counted in the order of their keys, round and round.
        region: u64,
    },
    /// An operator has a store drained, or of its leaderships alone, or used as any other again.
    Mode {
        /// What it is to do.
        mode: StoreMode,
        /// The client that asks.
        client: NodeId,
        /// The store: counted in the order of their ids, round and round.
        store: u64,
    },
    /// An operator has a region's log forgotten.
    CompactLog {
        /// The client that asks.
        client: NodeId,
        /// The region: counted in the order of their keys, round and round.
        region: u64,
    },
}

impl Fault {
    /// The kind of fault, in a word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Crash { kind: CrashKind::Power, .. } => "power-loss",
            Self::Crash { .. } => "crash",
            Self::Freeze { .. } => "freeze",
            Self::Cut { shape, .. } => match shape {
                Shape::Parted => "cut-parted",
                Shape::OneWay => "cut-one-way",
                Shape::Alone => "cut-alone",
                Shape::Bridge => "cut-bridge",
                Shape::Ring => "cut-ring",
                Shape::Pair => "cut-pair",
            },
            Self::Slow { .. } => "slow-links",
            Self::Reset { .. } => "reset",
            Self::SlowDisk { .. } => "slow-disk",
            Self::FailDisk { what, .. } => match what {
                DiskFailure::Write => "failed-write",
                DiskFailure::Sync => "failed-sync",
                DiskFailure::Ingest => "failed-ingest",
            },
            Self::FullDisk { .. } => "full-disk",
            Self::LowDisk { .. } => "low-disk",
            Self::LoseDisk { .. } => "lost-disk",
            Self::OldDisk { .. } => "old-disk",
            Self::Lag { .. } => "slow-apply",
            Self::Image { .. } => "disk-image",
            Self::RestoreDisk { .. } => "restored-disk",
            Self::WallJump { .. } => "wall-jump",
            Self::Drift { .. } => "drift",
            Self::Start { .. } => "start",
            Self::Split { .. } => "split",
            Self::Transfer { .. } => "transfer",
            Self::Members { change, .. } => change.name(),
            Self::Cancel { .. } => "cancel-operator",
            Self::CompactLog { .. } => "compact-log",
            Self::Mode { mode, .. } => match mode {
                StoreMode::Serving => "undrain",
                StoreMode::LeadingNone => "drain-leaders",
                StoreMode::Draining => "drain",
            },
        }
    }

    /// How long it lasts; `None` for what is over at once.
    pub(crate) const fn duration_mut(&mut self) -> Option<&mut Duration> {
        match self {
            Self::Crash { down: duration, .. }
            | Self::LoseDisk { down: duration, .. }
            | Self::OldDisk { down: duration, .. }
            | Self::RestoreDisk { down: duration, .. }
            | Self::Freeze { duration, .. }
            | Self::Cut { duration, .. }
            | Self::Slow { duration, .. }
            | Self::SlowDisk { duration, .. }
            | Self::Lag { duration, .. }
            | Self::FullDisk { duration, .. }
            | Self::LowDisk { duration, .. } => Some(duration),
            _ => None,
        }
    }

    /// Reads what `Display` has written.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub(crate) fn parse(name: &str, fields: &mut Fields<'_>) -> Result<Self, Unreadable> {
        Ok(match name {
            "power-loss" | "crash" => Self::Crash {
                node: fields.node("node")?,
                kind: if name == "crash" { CrashKind::Process } else { CrashKind::Power },
                in_sync: fields.flag("in-sync")?,
                down: fields.duration("for")?,
            },
            "freeze" => Self::Freeze { node: fields.node("node")?, duration: fields.duration("for")? },
            "slow-links" => Self::Slow {
                directions: fields.directions("links")?,
                by: fields.duration("by")?,
                duration: fields.duration("for")?,
            },
            "reset" => Self::Reset { node: fields.node("node")? },
            "slow-disk" => Self::SlowDisk {
                node: fields.node("node")?,
                disk: DiskConfig::parse(fields)?,
                duration: fields.duration("for")?,
            },
            "full-disk" => Self::FullDisk { node: fields.node("node")?, duration: fields.duration("for")? },
            "low-disk" => Self::LowDisk {
                node: fields.node("node")?,
                state: if fields.flag("full")? { DiskState::Full } else { DiskState::Low },
                duration: fields.duration("for")?,
            },
            "lost-disk" => Self::LoseDisk { node: fields.node("node")?, down: fields.duration("for")? },
            "old-disk" => Self::OldDisk { node: fields.node("node")?, down: fields.duration("for")? },
            "slow-apply" => Self::Lag { node: fields.node("node")?, duration: fields.duration("for")? },
            "disk-image" => Self::Image { node: fields.node("node")? },
            "restored-disk" => {
                Self::RestoreDisk { node: fields.node("node")?, down: fields.duration("for")? }
            }
            "wall-jump" => Self::WallJump { node: fields.node("node")?, by_ms: fields.number("by-ms")? },
            "drift" => Self::Drift { node: fields.node("node")?, drift_ppm: fields.number("ppm")? },
            "start" => Self::Start { node: fields.node("node")? },
            "split" => Self::Split { client: fields.node("client")?, key: fields.number("key")? },
            "transfer" => Self::Transfer {
                client: fields.node("client")?,
                region: fields.number("region")?,
                peer: fields.number("peer")?,
            },
            "cancel-operator" => {
                Self::Cancel { client: fields.node("client")?, region: fields.number("region")? }
            }
            "undrain" | "drain-leaders" | "drain" => Self::Mode {
                mode: match name {
                    "undrain" => StoreMode::Serving,
                    "drain" => StoreMode::Draining,
                    _ => StoreMode::LeadingNone,
                },
                client: fields.node("client")?,
                store: fields.number("store")?,
            },
            "compact-log" => {
                Self::CompactLog { client: fields.node("client")?, region: fields.number("region")? }
            }
            _ => {
                let change = Change::ALL.into_iter().find(|change| change.name() == name);
                let shape = name.strip_prefix("cut-").and_then(|name| by_name(&Shape::ALL, name));
                let what = name.strip_prefix("failed-").and_then(|name| by_name(&DiskFailure::ALL, name));
                match (shape, what, change) {
                    (.., Some(change)) => Self::Members {
                        change,
                        client: fields.node("client")?,
                        region: fields.number("region")?,
                        peer: fields.number("peer")?,
                        store: fields.number("store")?,
                    },
                    (Some(shape), ..) => Self::Cut {
                        shape,
                        directions: fields.directions("links")?,
                        duration: fields.duration("for")?,
                    },
                    (None, Some(what), _) => Self::FailDisk { node: fields.node("node")?, what },
                    (None, None, None) => return Err(Unreadable(format!("no fault is called {name:?}"))),
                }
            }
        })
    }
}

fn by_name<T: Copy>(all: &[(T, &str)], wanted: &str) -> Option<T> {
    all.iter().find(|(_, name)| *name == wanted).map(|(value, _)| *value)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        match self {
            Self::Crash { node, in_sync, down, .. } => {
                write!(f, " node={} in-sync={in_sync} for={}", node.0, duration_text(*down))
            }
            Self::Freeze { node, duration }
            | Self::FullDisk { node, duration }
            | Self::Lag { node, duration } => {
                write!(f, " node={} for={}", node.0, duration_text(*duration))
            }
            Self::LoseDisk { node, down }
            | Self::OldDisk { node, down }
            | Self::RestoreDisk { node, down } => {
                write!(f, " node={} for={}", node.0, duration_text(*down))
            }
            Self::Cut { directions, duration, .. } => {
                write!(f, " links={} for={}", nodes_text(directions), duration_text(*duration))
            }
            Self::Slow { directions, by, duration } => {
                let (by, duration) = (duration_text(*by), duration_text(*duration));
                write!(f, " links={} by={by} for={duration}", nodes_text(directions))
            }
            Self::Reset { node }
            | Self::Start { node }
            | Self::Image { node }
            | Self::FailDisk { node, .. } => {
                write!(f, " node={}", node.0)
            }
            Self::SlowDisk { node, disk, duration } => {
                write!(f, " node={} {disk} for={}", node.0, duration_text(*duration))
            }
            Self::LowDisk { node, state, duration } => {
                let is_full = *state == DiskState::Full;
                write!(f, " node={} full={is_full} for={}", node.0, duration_text(*duration))
            }
            Self::WallJump { node, by_ms } => write!(f, " node={} by-ms={by_ms}", node.0),
            Self::Drift { node, drift_ppm } => write!(f, " node={} ppm={drift_ppm}", node.0),
            Self::Split { client, key } => write!(f, " client={} key={key}", client.0),
            Self::Transfer { client, region, peer } => {
                write!(f, " client={} region={region} peer={peer}", client.0)
            }
            Self::Members { client, region, peer, store, .. } => {
                write!(f, " client={} region={region} peer={peer} store={store}", client.0)
            }
            Self::Mode { client, store, .. } => write!(f, " client={} store={store}", client.0),
            Self::Cancel { client, region } | Self::CompactLog { client, region } => {
                write!(f, " client={} region={region}", client.0)
            }
        }
    }
}

/// A fault and when it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action {
    /// When, in true time.
    pub at: SimTime,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at={} {}", duration_text(Duration::from_nanos(self.at.0)), self.fault)
    }
}
