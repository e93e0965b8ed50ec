//! How a PD process runs.

use super::{ByteSize, EngineConfig, LogConfig, Span, TransportConfig, check_insecure, load, positive};
use crate::ServerError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a PD process runs. Every key has a default; `etc/pd.toml` explains them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PdConfig {
    /// Where the data lies.
    pub data_dir: PathBuf,
    /// Where stores and clients connect to. Port 0 takes a free one.
    pub listen_addr: String,
    /// What others are told to connect to; empty: `listen_addr`.
    pub advertise_addr: String,
    /// Where status and metrics are served over HTTP.
    pub status_addr: String,
    /// Whether to listen on addresses that other machines can reach.
    pub insecure: bool,
    /// How long an orderly stop may take.
    pub stop_deadline: Span,
    /// What is logged.
    pub log: LogConfig,
    /// Where copies of regions go.
    pub schedule: ScheduleConfig,
    /// Removing old versions.
    pub gc: GcConfig,
    /// RocksDB.
    pub engine: EngineConfig,
    /// Connections.
    pub transport: TransportConfig,
}

impl Default for PdConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data/pd"),
            listen_addr: "127.0.0.1:2379".to_owned(),
            advertise_addr: String::new(),
            status_addr: "127.0.0.1:2380".to_owned(),
            insecure: false,
            stop_deadline: Span(Duration::from_secs(10)),
            log: LogConfig::default(),
            schedule: ScheduleConfig::default(),
            gc: GcConfig::default(),
            // What a placement driver keeps is small.
            engine: EngineConfig {
                block_cache_size: ByteSize(8 << 20),
                write_buffer_size: ByteSize(4 << 20),
                wal_size_max: ByteSize(32 << 20),
                open_files_max: 128,
                ..EngineConfig::default()
            },
            transport: TransportConfig::default(),
        }
    }
}

/// Where copies of regions go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// How many voters each region is to have.
    pub replicas: usize,
    /// A store that was silent for so long is no target any more.
    pub disconnected_after: Span,
    /// A store that was silent for so long is given up: its copies are made again elsewhere.
    pub down_after: Span,
    /// How often placement is looked at.
    pub plan_interval: Span,
    /// After a start nothing is scheduled until every region is known, or so much time has passed.
    pub prepare_timeout: Span,
    /// Running operators that repair replicas, at most.
    pub repair_limit: usize,
    /// Running operators that move regions for balance, at most.
    pub region_balance_limit: usize,
    /// Running operators that move leaders for balance, at most.
    pub leader_balance_limit: usize,
    /// Peers being added to one store at once, at most; likewise peers being removed.
    pub store_limit: usize,
    /// A store that receives so many snapshots already is no target.
    pub snapshots_receiving_max: u32,
    /// A target keeps at least this part of its disk free, in percent.
    pub space_reserve_percent: u64,
    /// After an operator failed, its region is left alone for so long.
    pub retry_after: Span,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        let defaults = ::pd::Config::default();
        Self {
            replicas: defaults.replicas,
            disconnected_after: Span(defaults.disconnected_after),
            down_after: Span(defaults.down_after),
            plan_interval: Span(defaults.plan_interval),
            prepare_timeout: Span(defaults.prepare_timeout),
            repair_limit: defaults.repair_limit,
            region_balance_limit: defaults.region_balance_limit,
            leader_balance_limit: defaults.leader_balance_limit,
            store_limit: defaults.store_limit,
            snapshots_receiving_max: defaults.snapshots_receiving_max,
            space_reserve_percent: defaults.space_reserve_percent,
            retry_after: Span(defaults.retry_after),
        }
    }
}

/// Removing old versions of keys that transactions write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GcConfig {
    /// How long versions live at least after they were replaced, and transactions and snapshots with them.
    pub life_time: Span,
    /// The safe point rises by so much at least.
    pub interval: Span,
    /// Raw values whose time to live is over are removed so often.
    pub expired_interval: Span,
}

impl Default for GcConfig {
    fn default() -> Self {
        let defaults = ::pd::Config::default();
        Self {
            life_time: Span(defaults.gc_life_time),
            interval: Span(defaults.gc_interval),
            expired_interval: Span(Duration::from_secs(10 * 60)),
        }
    }
}

impl PdConfig {
    /// Reads a file and checks it.
    ///
    /// # Errors
    /// [`ServerError::ConfigFile`], [`ServerError::Config`].
    pub fn load(path: &Path) -> Result<Self, ServerError> {
        let config: Self = load(path)?;
        config.validate()?;
        Ok(config)
    }

    /// Whether a placement driver can run by this.
    ///
    /// # Errors
    /// [`ServerError::Config`], which says what to change.
    pub fn validate(&self) -> Result<(), ServerError> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(ServerError::Config("data_dir is empty".to_owned()));
        }
        check_insecure("listen_addr", &self.listen_addr, self.insecure)?;
        check_insecure("status_addr", &self.status_addr, self.insecure)?;
        positive(&[
            ("stop_deadline", self.stop_deadline.0.is_zero()),
            ("gc.interval", self.gc.interval.0.is_zero()),
            ("gc.expired_interval", self.gc.expired_interval.0.is_zero()),
        ])?;
        self.engine.validate()?;
        self.transport.validate()?;
        self.pd_config().validate().map_err(|what| ServerError::Config(format!("schedule: {what}")))
    }

    /// What the placement driver's logic needs of it.
    pub(crate) fn pd_config(&self) -> ::pd::Config {
        let schedule = &self.schedule;
        ::pd::Config {
            replicas: schedule.replicas,
            disconnected_after: schedule.disconnected_after.0,
            down_after: schedule.down_after.0,
            plan_interval: schedule.plan_interval.0,
            prepare_timeout: schedule.prepare_timeout.0,
            repair_limit: schedule.repair_limit,
            region_balance_limit: schedule.region_balance_limit,
            leader_balance_limit: schedule.leader_balance_limit,
            store_limit: schedule.store_limit,
            snapshots_receiving_max: schedule.snapshots_receiving_max,
            space_reserve_percent: schedule.space_reserve_percent,
            retry_after: schedule.retry_after.0,
            gc_life_time: self.gc.life_time.0,
            gc_interval: self.gc.interval.0,
            ..::pd::Config::default()
        }
    }
}
