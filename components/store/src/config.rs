//! How a store behaves.

use std::fmt;
use std::time::Duration;
use types::ENTRY_SIZE_MAX;

/// Of one region, in bytes: the entry that they go into has other things around them.
const LOCKS_MAX: usize = ENTRY_SIZE_MAX / 2;

/// How a store behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// How its peers behave.
    pub raftstore: raftstore::Config,
    /// How many workers share the regions.
    pub workers: usize,
    /// How many appliers share them.
    pub appliers: usize,
    /// Bytes of client writes that may be under way; more are refused.
    pub inflight_bytes_max: usize,
    /// Client writes are refused while some family has so many files in level 0 …
    pub level0_files_max: u64,
    /// … or so many memtables that wait to be flushed …
    pub immutable_memtables_max: u64,
    /// … or so many bytes for compaction to catch up with.
    pub pending_compaction_bytes_max: u64,
    /// Bytes of keys and values in one answer to a scan or batch read.
    pub read_bytes_max: usize,
    /// Pairs in one answer to a scan.
    pub scan_pairs_max: usize,
    /// A region snapshot up to this size goes through a batch, a larger one through files.
    pub snapshot_batch_bytes_max: usize,
    /// Bytes of keys and values in one piece of a snapshot.
    pub snapshot_piece_bytes: usize,
    /// Snapshots that are received at once; more are refused and sent again later.
    pub snapshots_receiving_max: usize,
    /// Views of regions that are kept for snapshots to be sent; more are taken when some of them are.
    pub snapshots_building_max: usize,
    /// How often the store tells PD how it is.
    pub store_heartbeat_interval: Duration,
    /// How many commands may wait for locks, and for how long.
    pub lock_waits: crate::WaitLimits,
    /// Bytes per second that the removal of what is over may write; zero for no bound.
    pub gc_bytes_per_second: u64,
    /// Where reservations of keys are kept.
    pub reservations: crate::Reservations,
    /// Rules that are broken on purpose.
    pub bugs: crate::Bugs,
    /// Those of records among them.
    pub record_bugs: mvcc::Bugs,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            raftstore: raftstore::Config::default(),
            workers: 1,
            appliers: 1,
            inflight_bytes_max: 64 << 20,
            level0_files_max: 20,
            immutable_memtables_max: 4,
            pending_compaction_bytes_max: 64 << 30,
            read_bytes_max: 1 << 20,
            scan_pairs_max: 10_000,
            snapshot_batch_bytes_max: 4 << 20,
            snapshot_piece_bytes: 512 << 10,
            snapshots_receiving_max: 4,
            snapshots_building_max: 8,
            store_heartbeat_interval: Duration::from_secs(3),
            lock_waits: crate::WaitLimits::default(),
            gc_bytes_per_second: 0,
            reservations: crate::Reservations::default(),
            bugs: crate::Bugs::default(),
            record_bugs: mvcc::Bugs::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// That of the peers.
    Raftstore(raftstore::ConfigError),
    /// A number is zero, so that nothing could happen.
    Zero(&'static str),
    /// A region's locks in memory would not fit an entry of the log.
    LocksExceedEntry,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raftstore(error) => error.fmt(f),
            Self::Zero(name) => write!(f, "{name} is zero; it must be positive"),
            Self::LocksExceedEntry => {
                write!(f, "memory for the locks of one region goes into one entry: at most {LOCKS_MAX} bytes")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Whether a store can run by this.
    ///
    /// # Errors
    /// [`ConfigError`], which says what to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.raftstore.validate().map_err(ConfigError::Raftstore)?;
        let positive = [
            ("workers", self.workers == 0),
            ("appliers", self.appliers == 0),
            ("inflight_bytes_max", self.inflight_bytes_max == 0),
            ("level0_files_max", self.level0_files_max == 0),
            ("immutable_memtables_max", self.immutable_memtables_max == 0),
            ("pending_compaction_bytes_max", self.pending_compaction_bytes_max == 0),
            ("read_bytes_max", self.read_bytes_max == 0),
            ("scan_pairs_max", self.scan_pairs_max == 0),
            ("snapshot_piece_bytes", self.snapshot_piece_bytes == 0),
            ("snapshots_receiving_max", self.snapshots_receiving_max == 0),
            ("snapshots_building_max", self.snapshots_building_max == 0),
            ("store_heartbeat_interval", self.store_heartbeat_interval.is_zero()),
        ];
        match positive.into_iter().find(|(_, zero)| *zero) {
            Some((name, _)) => Err(ConfigError::Zero(name)),
            None if self.reservations.limits.region_bytes_max > LOCKS_MAX => {
                Err(ConfigError::LocksExceedEntry)
            }
            None => Ok(()),
        }
    }
}
