//! How a store process runs.

use super::{
    ByteSize, EngineConfig, LogConfig, Span, TransportConfig, check_insecure, load, positive, resolve,
};
use crate::ServerError;
use ::store::Reservations;
use raftstore::HeldLimits;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Requests that take less than this are not called slow: a disk's sync takes as long.
const SLOW_MIN: Duration = Duration::from_millis(1);
/// Below this, one step of the removal of what is over would hold up the next for longer than it may take.
const GC_RATE_MIN: u64 = 64 << 10;

/// How a store process runs. Every key has a default; `etc/store.toml` explains them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Where the data lies.
    pub data_dir: PathBuf,
    /// Where clients and other stores connect to. Port 0 takes a free one.
    pub listen_addr: String,
    /// What others are told to connect to; empty: `listen_addr`.
    pub advertise_addr: String,
    /// Where status and metrics are served over HTTP.
    pub status_addr: String,
    /// The members of the placement driver.
    pub pd_endpoints: Vec<String>,
    /// Whether to listen on addresses that other machines can reach.
    pub insecure: bool,
    /// Room on the disk that is kept for what is already replicated, and for an operator.
    pub reserve_space: ByteSize,
    /// How long an orderly stop may take.
    pub stop_deadline: Span,
    /// What is logged.
    pub log: LogConfig,
    /// How many threads do what.
    pub threads: ThreadConfig,
    /// How the groups behave.
    pub raft: RaftConfig,
    /// How regions are kept.
    pub region: RegionConfig,
    /// What clients may ask at once.
    pub requests: RequestConfig,
    /// Requests of transactions that wait for locks.
    pub lock_waits: LockWaitConfig,
    /// The removal of what is over.
    pub gc: StoreGcConfig,
    /// Where locks of pessimistic transactions are kept.
    pub pessimistic_locks: PessimisticLockConfig,
    /// Region snapshots.
    pub snapshot: SnapshotConfig,
    /// RocksDB.
    pub engine: EngineConfig,
    /// Connections.
    pub transport: TransportConfig,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data/store"),
            listen_addr: "127.0.0.1:20160".to_owned(),
            advertise_addr: String::new(),
            status_addr: "127.0.0.1:20180".to_owned(),
            pd_endpoints: vec!["127.0.0.1:2379".to_owned()],
            insecure: false,
            reserve_space: ByteSize(1 << 30),
            stop_deadline: Span(Duration::from_secs(20)),
            log: LogConfig::default(),
            threads: ThreadConfig::default(),
            raft: RaftConfig::default(),
            region: RegionConfig::default(),
            requests: RequestConfig::default(),
            lock_waits: LockWaitConfig::default(),
            gc: StoreGcConfig::default(),
            pessimistic_locks: PessimisticLockConfig::default(),
            snapshot: SnapshotConfig::default(),
            engine: EngineConfig::default(),
            transport: TransportConfig::default(),
        }
    }
}

/// How many threads do what; zero: by the number of cores.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThreadConfig {
    /// For sockets, and for reads that a lease allows.
    pub sockets: usize,
    /// For the groups.
    pub workers: usize,
    /// For applying what is committed.
    pub appliers: usize,
}

impl ThreadConfig {
    /// The numbers on this machine.
    pub(crate) fn resolved(&self) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let or = |configured: usize, automatic: usize| if configured == 0 { automatic } else { configured };
        // On few cores one of each: more would only take turns with one another.
        let many = if cores <= 4 { 1 } else { (cores / 4).clamp(2, 8) };
        Self {
            sockets: or(self.sockets, many),
            workers: or(self.workers, many),
            appliers: or(self.appliers, many),
        }
    }
}

/// How the groups behave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftConfig {
    /// What one tick lasts.
    pub tick: Span,
    /// The minimum election timeout, in ticks; timeouts are drawn from one to two of it.
    pub election_ticks: u32,
    /// How often leaders send heartbeats, in ticks.
    pub heartbeat_ticks: u32,
    /// For how long a leader may answer reads alone after a quorum has heard it.
    pub lease: Span,
    /// Writes of one region and turn are merged into entries of at most this size.
    pub entry_size_max: ByteSize,
    /// A log is compacted, even past a peer that lags behind, when it holds so many applied entries …
    pub log_gc_entries_max: u64,
    /// … or so much of them.
    pub log_gc_size_max: ByteSize,
    /// A log is compacted up to what all peers hold once that is so many entries …
    pub log_gc_entries_min: u64,
    /// … or it has grown by so much, which is when it is looked at.
    pub log_gc_size_min: ByteSize,
    /// How often logs are looked at that grow slowly.
    pub log_gc_interval: Span,
    /// A region that nobody has wanted anything of for so long sleeps; zero: regions never sleep.
    pub hibernate_after: Span,
    /// A peer that was silent for so long is reported as down.
    pub down_after: Span,
    /// Log entries that one region keeps in memory.
    pub entry_cache_size: ByteSize,
    /// What a worker hands to the log before it waits.
    pub unpersisted_size_max: ByteSize,
    /// What a worker hands to apply before it waits.
    pub unapplied_size_max: ByteSize,
}

impl Default for RaftConfig {
    fn default() -> Self {
        let defaults = raftstore::Config::default();
        Self {
            tick: Span(defaults.tick),
            election_ticks: defaults.election_ticks,
            heartbeat_ticks: defaults.heartbeat_ticks,
            lease: Span(defaults.lease),
            entry_size_max: ByteSize(defaults.entry_bytes_max as u64),
            log_gc_entries_max: defaults.log_gc_entries_max,
            log_gc_size_max: ByteSize(defaults.log_gc_bytes_max),
            log_gc_entries_min: defaults.log_gc_entries_min,
            log_gc_size_min: ByteSize(defaults.log_gc_bytes_min),
            log_gc_interval: Span(defaults.log_gc_interval),
            hibernate_after: Span(defaults.hibernate_after),
            down_after: Span(defaults.down_after),
            entry_cache_size: ByteSize(defaults.entry_cache_bytes),
            unpersisted_size_max: ByteSize(defaults.unpersisted_bytes_max as u64),
            unapplied_size_max: ByteSize(defaults.unapplied_bytes_max),
        }
    }
}

/// How regions are kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegionConfig {
    /// A region that grows well beyond this is split into regions of about this size.
    pub split_size: ByteSize,
    /// How often a leader reports a region of which nothing has changed.
    pub heartbeat_interval: Span,
    /// How often the store reports how it is.
    pub store_heartbeat_interval: Span,
}

impl Default for RegionConfig {
    fn default() -> Self {
        let defaults = ::store::Config::default();
        Self {
            split_size: ByteSize(defaults.raftstore.region_split_bytes),
            heartbeat_interval: Span(defaults.raftstore.region_heartbeat_interval),
            store_heartbeat_interval: Span(defaults.store_heartbeat_interval),
        }
    }
}

/// What clients may ask at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestConfig {
    /// Writes under way; more are refused as busy.
    pub inflight_size_max: ByteSize,
    /// Requests under way; more are refused as busy.
    pub pending_max: usize,
    /// For requests that say nothing of their deadline.
    pub timeout: Span,
    /// Requests that take so long are logged, with where their time went; zero: none.
    pub slow_request_threshold: Span,
    /// Keys and values in one answer to a scan or batch read.
    pub read_size_max: ByteSize,
    /// Pairs in one answer to a scan.
    pub scan_pairs_max: usize,
    /// Writes are refused while some family has more files in level 0 …
    pub level0_files_max: u64,
    /// … or more memtables that wait to be flushed …
    pub immutable_memtables_max: u64,
    /// … or more for compaction to catch up with.
    pub pending_compaction_size_max: ByteSize,
}

impl Default for RequestConfig {
    fn default() -> Self {
        let defaults = ::store::Config::default();
        Self {
            inflight_size_max: ByteSize(defaults.inflight_bytes_max as u64),
            pending_max: 1 << 16,
            timeout: Span(Duration::from_secs(30)),
            slow_request_threshold: Span(Duration::from_secs(1)),
            read_size_max: ByteSize(defaults.read_bytes_max as u64),
            scan_pairs_max: defaults.scan_pairs_max,
            level0_files_max: defaults.level0_files_max,
            immutable_memtables_max: defaults.immutable_memtables_max,
            pending_compaction_size_max: ByteSize(defaults.pending_compaction_bytes_max),
        }
    }
}

/// Requests of pessimistic transactions that wait for locks of others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LockWaitConfig {
    /// How long one request waits at most; its client asks again.
    pub time_max: Span,
    /// Requests that wait at this store; more are refused as busy.
    pub count_max: usize,
    /// Of these, for one key.
    pub count_per_key_max: usize,
    /// When a lock goes, whoever is first has so much time to take it before the next one is taken up.
    pub wake_delay: Span,
}

impl Default for LockWaitConfig {
    fn default() -> Self {
        let defaults = ::store::WaitLimits::default();
        Self {
            time_max: Span(defaults.time_max),
            count_max: defaults.count_max,
            count_per_key_max: defaults.count_per_key_max,
            wake_delay: Span(defaults.wake_delay),
        }
    }
}

/// Where locks of pessimistic transactions are kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PessimisticLockConfig {
    /// In the memory of the store that leads their region, instead of in its log.
    pub in_memory: bool,
    /// Whoever asks for some that go to the log is answered before they are applied.
    pub pipelined: bool,
    /// So much of them in all, …
    pub memory_size_max: ByteSize,
    /// … and of one region.
    pub region_memory_size_max: ByteSize,
}

impl Default for PessimisticLockConfig {
    fn default() -> Self {
        let Reservations { in_memory, limits, pipelined, .. } = Reservations::default();
        Self {
            in_memory,
            pipelined,
            memory_size_max: ByteSize(limits.store_bytes_max as u64),
            region_memory_size_max: ByteSize(limits.region_bytes_max as u64),
        }
    }
}

/// The removal of old versions, and of raw values whose time to live is over.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreGcConfig {
    /// Bytes per second that regions which this store leads write for it; zero: no bound.
    pub write_rate_max: ByteSize,
}

/// Region snapshots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// A snapshot up to this size is installed through a batch, a larger one through files.
    pub batch_size_max: ByteSize,
    /// What one piece holds.
    pub piece_size: ByteSize,
    /// Received at once; more are refused and sent again later.
    pub receiving_max: usize,
    /// Views kept for snapshots that are to be sent.
    pub building_max: usize,
    /// Sent at once.
    pub sending_max: usize,
    /// Bytes per second for all that are sent; zero: no bound.
    pub send_rate_max: ByteSize,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        let defaults = ::store::Config::default();
        Self {
            batch_size_max: ByteSize(defaults.snapshot_batch_bytes_max as u64),
            piece_size: ByteSize(defaults.snapshot_piece_bytes as u64),
            receiving_max: defaults.snapshots_receiving_max,
            building_max: defaults.snapshots_building_max,
            sending_max: 2,
            send_rate_max: ByteSize(0),
        }
    }
}

impl StoreConfig {
    /// Reads a file and checks it.
    ///
    /// # Errors
    /// [`ServerError::ConfigFile`], [`ServerError::Config`].
    pub fn load(path: &Path) -> Result<Self, ServerError> {
        let config: Self = load(path)?;
        config.validate()?;
        Ok(config)
    }

    /// Whether a store can run by this.
    ///
    /// # Errors
    /// [`ServerError::Config`], which says what to change.
    pub fn validate(&self) -> Result<(), ServerError> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(ServerError::Config("data_dir is empty".to_owned()));
        }
        check_insecure("listen_addr", &self.listen_addr, self.insecure)?;
        check_insecure("status_addr", &self.status_addr, self.insecure)?;
        if self.pd_endpoints.is_empty() {
            return Err(ServerError::Config(
                "pd_endpoints is empty: a store needs its placement driver".to_owned(),
            ));
        }
        for endpoint in &self.pd_endpoints {
            // Only its form: the host may be unknown for now.
            if endpoint.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                return Err(ServerError::Config(format!("pd_endpoints: {endpoint:?} is no host:port")));
            }
        }
        positive(&[
            ("stop_deadline", self.stop_deadline.0.is_zero()),
            ("requests.pending_max", self.requests.pending_max == 0),
            ("requests.timeout", self.requests.timeout.0.is_zero()),
            ("snapshot.sending_max", self.snapshot.sending_max == 0),
            ("lock_waits.time_max", self.lock_waits.time_max.0.is_zero()),
        ])?;
        let gc_rate = self.gc.write_rate_max.0;
        if gc_rate > 0 && gc_rate < GC_RATE_MIN {
            return Err(ServerError::Config(format!(
                "gc.write_rate_max: {gc_rate} bytes per second are less than one step of a region takes; give at least \
                 {GC_RATE_MIN}, or 0 for no bound"
            )));
        }
        let waits = &self.lock_waits;
        if waits.wake_delay.0 > waits.time_max.0 {
            return Err(ServerError::Config(format!(
                "lock_waits.wake_delay ({:?}) is longer than anybody waits (lock_waits.time_max, {:?})",
                waits.wake_delay.0, waits.time_max.0
            )));
        }
        let slow = self.requests.slow_request_threshold.0;
        if !slow.is_zero() && slow < SLOW_MIN {
            return Err(ServerError::Config(format!(
                "requests.slow_request_threshold: {slow:?} would log about every request; give at least {SLOW_MIN:?}, or 0s \
                 to log none"
            )));
        }
        self.engine.validate()?;
        self.transport.validate()?;
        self.store_config().validate().map_err(|error| ServerError::Config(error.to_string()))?;
        resolve("listen_addr", &self.listen_addr).map(|_| ())
    }

    /// What the store's logic needs of it.
    pub(crate) fn store_config(&self) -> ::store::Config {
        let threads = self.threads.resolved();
        ::store::Config {
            raftstore: raftstore::Config {
                tick: self.raft.tick.0,
                election_ticks: self.raft.election_ticks,
                heartbeat_ticks: self.raft.heartbeat_ticks,
                lease: self.raft.lease.0,
                entry_bytes_max: self.raft.entry_size_max.as_usize(),
                region_split_bytes: self.region.split_size.0,
                log_gc_entries_max: self.raft.log_gc_entries_max,
                log_gc_bytes_max: self.raft.log_gc_size_max.0,
                log_gc_entries_min: self.raft.log_gc_entries_min,
                log_gc_bytes_min: self.raft.log_gc_size_min.0,
                log_gc_interval: self.raft.log_gc_interval.0,
                region_heartbeat_interval: self.region.heartbeat_interval.0,
                hibernate_after: self.raft.hibernate_after.0,
                down_after: self.raft.down_after.0,
                entry_cache_bytes: self.raft.entry_cache_size.0,
                unpersisted_bytes_max: self.raft.unpersisted_size_max.as_usize(),
                unapplied_bytes_max: self.raft.unapplied_size_max.0,
                ..raftstore::Config::default()
            },
            workers: threads.workers,
            appliers: threads.appliers,
            inflight_bytes_max: self.requests.inflight_size_max.as_usize(),
            level0_files_max: self.requests.level0_files_max,
            immutable_memtables_max: self.requests.immutable_memtables_max,
            pending_compaction_bytes_max: self.requests.pending_compaction_size_max.0,
            read_bytes_max: self.requests.read_size_max.as_usize(),
            scan_pairs_max: self.requests.scan_pairs_max,
            snapshot_batch_bytes_max: self.snapshot.batch_size_max.as_usize(),
            snapshot_piece_bytes: self.snapshot.piece_size.as_usize(),
            snapshots_receiving_max: self.snapshot.receiving_max,
            snapshots_building_max: self.snapshot.building_max,
            store_heartbeat_interval: self.region.store_heartbeat_interval.0,
            lock_waits: ::store::WaitLimits {
                time_max: self.lock_waits.time_max.0,
                count_max: self.lock_waits.count_max,
                count_per_key_max: self.lock_waits.count_per_key_max,
                wake_delay: self.lock_waits.wake_delay.0,
            },
            gc_bytes_per_second: self.gc.write_rate_max.0,
            reservations: Reservations {
                in_memory: self.pessimistic_locks.in_memory,
                limits: HeldLimits {
                    region_bytes_max: self.pessimistic_locks.region_memory_size_max.as_usize(),
                    store_bytes_max: self.pessimistic_locks.memory_size_max.as_usize(),
                },
                pipelined: self.pessimistic_locks.pipelined,
                ..Reservations::default()
            },
            ..::store::Config::default()
        }
    }
}
