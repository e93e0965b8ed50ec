//! How the peers of a store behave.

use std::fmt;
use std::time::Duration;

/// How the peers of a store behave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// What one Raft tick lasts.
    pub tick: Duration,
    /// The minimum election timeout, in ticks; timeouts are drawn from one to two of it.
    pub election_ticks: u32,
    /// How often leaders send heartbeats, in ticks.
    pub heartbeat_ticks: u32,
    /// For how long a leader may answer reads alone after a quorum has heard it.
    pub lease: Duration,
    /// Writes of one region and turn are merged into entries of at most so many bytes.
    pub entry_bytes_max: usize,
    /// A region that grows beyond this is split into regions of about this size, in bytes of keys and values.
    pub region_split_bytes: u64,
    /// A log is compacted, even past a peer that lags behind, when it holds so many applied entries …
    pub log_gc_entries_max: u64,
    /// … or so many bytes of them.
    pub log_gc_bytes_max: u64,
    /// A log is compacted up to what all peers hold once that is so many entries …
    pub log_gc_entries_min: u64,
    /// … or so many bytes were applied since it was looked at, which is when it is looked at again: what is compacted before
    /// memtables are flushed is never written to files.
    pub log_gc_bytes_min: u64,
    /// How often logs are looked at for compaction that have not grown by so much.
    pub log_gc_interval: Duration,
    /// How often a leader reports a region of which nothing has changed.
    pub region_heartbeat_interval: Duration,
    /// A region that nobody has read or written for so long sleeps: it costs no heartbeats until somebody comes, whose
    /// first request takes a round trip more. Zero: regions never sleep.
    pub hibernate_after: Duration,
    /// A peer that was silent for so long is reported as down.
    pub down_after: Duration,
    /// Bytes of log entries that one region keeps in memory.
    pub entry_cache_bytes: u64,
    /// Bytes that a worker hands to the log writer before it waits for some of them to become durable.
    pub unpersisted_bytes_max: usize,
    /// Entries that a worker hands to apply before it waits for some of them to be applied, in bytes.
    pub unapplied_bytes_max: u64,
    /// Rules that are broken on purpose.
    pub bugs: crate::Bugs,
    /// Rules of Raft that every group breaks.
    #[cfg(feature = "seeded_bugs")]
    pub raft_seeded_bugs: Vec<raft::SeededBug>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(100),
            election_ticks: 10,
            heartbeat_ticks: 2,
            lease: Duration::from_millis(700),
            entry_bytes_max: 1 << 20,
            region_split_bytes: 96 << 20,
            log_gc_entries_max: 72_000,
            log_gc_bytes_max: 72 << 20,
            log_gc_entries_min: 64,
            log_gc_bytes_min: 1 << 20,
            log_gc_interval: Duration::from_secs(3),
            region_heartbeat_interval: Duration::from_secs(10),
            hibernate_after: Duration::from_secs(10),
            down_after: Duration::from_secs(30),
            entry_cache_bytes: 4 << 20,
            unpersisted_bytes_max: 32 << 20,
            unapplied_bytes_max: 64 << 20,
            bugs: crate::Bugs::default(),
            #[cfg(feature = "seeded_bugs")]
            raft_seeded_bugs: Vec::new(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// A leader could serve reads under a lease that another leader has outlived.
    LeaseTooLong {
        /// What was asked for.
        lease: Duration,
        /// What the election timeout allows.
        below: Duration,
    },
    /// Losing a few heartbeats would depose a healthy leader.
    ElectionTooShort {
        /// What was asked for, in ticks.
        election_ticks: u32,
        /// The least that the heartbeat interval allows.
        at_least: u32,
    },
    /// A time or a limit is zero, so that nothing could happen.
    Zero(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseTooLong { lease, below } => write!(
                f,
                "lease {lease:?} is not below {below:?}: followers vote again after the election timeout less one \
                 tick, on clocks that may run {CLOCK_DRIFT_PERCENT} % fast, so a longer lease would allow stale reads; \
                 shorten lease or raise election_ticks"
            ),
            Self::ElectionTooShort { election_ticks, at_least } => write!(
                f,
                "election_ticks {election_ticks} is below {at_least} (five heartbeats): a few lost heartbeats would \
                 depose a healthy leader"
            ),
            Self::Zero(name) => write!(f, "{name} is zero; it must be positive"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// By how much the clock of one process may run faster than that of another.
pub(crate) const CLOCK_DRIFT_PERCENT: u32 = 10;

impl Config {
    /// The minimum election timeout.
    #[must_use]
    pub fn election_timeout_min(&self) -> Duration {
        self.tick * self.election_ticks
    }

    /// The maximum election timeout.
    #[must_use]
    pub fn election_timeout_max(&self) -> Duration {
        self.election_timeout_min() * 2
    }

    /// For how many ticks a region must have been idle before it sleeps; zero: never.
    pub(crate) fn hibernate_after_ticks(&self) -> u64 {
        let ticks = self.hibernate_after.as_nanos().div_ceil(self.tick.as_nanos().max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// Whether a store can run by this.
    ///
    /// # Errors
    /// [`ConfigError`], which says what to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = [
            ("tick", self.tick.is_zero()),
            ("heartbeat_ticks", self.heartbeat_ticks == 0),
            ("entry_bytes_max", self.entry_bytes_max == 0),
            ("region_split_bytes", self.region_split_bytes == 0),
            ("log_gc_entries_max", self.log_gc_entries_max == 0),
            ("log_gc_bytes_min", self.log_gc_bytes_min == 0),
            ("log_gc_interval", self.log_gc_interval.is_zero()),
            ("region_heartbeat_interval", self.region_heartbeat_interval.is_zero()),
            ("unpersisted_bytes_max", self.unpersisted_bytes_max == 0),
            ("unapplied_bytes_max", self.unapplied_bytes_max == 0),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(name));
        }
        let at_least = self.heartbeat_ticks * raft::HEARTBEATS_PER_ELECTION_MIN;
        if self.election_ticks < at_least {
            return Err(ConfigError::ElectionTooShort { election_ticks: self.election_ticks, at_least });
        }
        let below = (self.election_timeout_min() - self.tick) * (100 - CLOCK_DRIFT_PERCENT) / 100;
        if self.lease >= below {
            return Err(ConfigError::LeaseTooLong { lease: self.lease, below });
        }
        Ok(())
    }
}
