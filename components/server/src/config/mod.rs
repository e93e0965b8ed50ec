//! Configuration files: every key, its default, and what must hold between them.

mod pd;
mod store;
mod units;

pub use pd::{PdConfig, ScheduleConfig};
pub use store::{
    PessimisticLockConfig, RaftConfig, RegionConfig, RequestConfig, SnapshotConfig, StoreConfig, ThreadConfig,
};
pub use units::{ByteSize, Span};

use crate::ServerError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;

/// What is logged, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// The least important lines that are written: error, warn, info, debug, trace; or per module, `info,raft=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// How RocksDB uses the machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Memory for blocks of data, indexes and filters.
    pub block_cache_size: ByteSize,
    /// A family's memtable is flushed at this size.
    pub write_buffer_size: ByteSize,
    /// Log files on disk beyond which the oldest memtables are flushed; about what a restart replays.
    pub wal_size_max: ByteSize,
    /// Threads for flushes and compactions together.
    pub background_jobs: u32,
    /// Files held open.
    pub open_files_max: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let defaults = engine_rocks::Options::default();
        Self {
            block_cache_size: ByteSize(defaults.block_cache_bytes as u64),
            write_buffer_size: ByteSize(defaults.write_buffer_bytes as u64),
            wal_size_max: ByteSize(defaults.max_total_wal_bytes),
            background_jobs: defaults.max_background_jobs,
            open_files_max: defaults.max_open_files,
        }
    }
}

impl EngineConfig {
    pub(crate) fn options(&self) -> engine_rocks::Options {
        engine_rocks::Options {
            block_cache_bytes: self.block_cache_size.as_usize(),
            write_buffer_bytes: self.write_buffer_size.as_usize(),
            max_total_wal_bytes: self.wal_size_max.0,
            max_background_jobs: self.background_jobs,
            max_open_files: self.open_files_max,
        }
    }

    fn validate(&self) -> Result<(), ServerError> {
        positive(&[
            ("engine.write_buffer_size", self.write_buffer_size.0 == 0),
            ("engine.wal_size_max", self.wal_size_max.0 == 0),
            ("engine.background_jobs", self.background_jobs == 0),
            ("engine.open_files_max", self.open_files_max == 0),
        ])
    }
}

/// Connections to this process, and from it to others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransportConfig {
    /// Connections held at once; further ones are turned away.
    pub connections_max: usize,
    /// Bytes of one connection's requests that may be under way before its socket is left unread.
    pub in_flight_size_max: ByteSize,
    /// Time for a TCP connection to be made.
    pub connect_timeout: Span,
    /// After so much silence the other side is asked whether it is there.
    pub keep_alive_interval: Span,
    /// After so much silence the connection is given up.
    pub keep_alive_timeout: Span,
}

impl Default for TransportConfig {
    fn default() -> Self {
        let defaults = transport::Settings::default();
        Self {
            connections_max: defaults.connections_max,
            in_flight_size_max: ByteSize(defaults.in_flight_bytes_max as u64),
            connect_timeout: Span(defaults.connect_timeout),
            keep_alive_interval: Span(defaults.keep_alive_interval),
            keep_alive_timeout: Span(defaults.keep_alive_timeout),
        }
    }
}

impl TransportConfig {
    pub(crate) fn settings(&self) -> transport::Settings {
        transport::Settings {
            connections_max: self.connections_max,
            in_flight_bytes_max: self.in_flight_size_max.as_usize(),
            connect_timeout: self.connect_timeout.0,
            keep_alive_interval: self.keep_alive_interval.0,
            keep_alive_timeout: self.keep_alive_timeout.0,
            ..transport::Settings::default()
        }
    }

    fn validate(&self) -> Result<(), ServerError> {
        self.settings().validate().map_err(|what| ServerError::Config(format!("transport: {what}")))
    }
}

/// Reads a file; unknown keys are refused.
fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ServerError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ServerError::ConfigFile { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| ServerError::Config(format!("{}: {error}", path.display())))
}

/// Refuses what must not be zero.
fn positive(zeros: &[(&'static str, bool)]) -> Result<(), ServerError> {
    match zeros.iter().find(|(_, is_zero)| *is_zero) {
        Some((name, _)) => Err(ServerError::Config(format!("{name} is zero; it must be positive"))),
        None => Ok(()),
    }
}

/// The address to listen on.
pub(crate) fn resolve(setting: &'static str, address: &str) -> Result<SocketAddr, ServerError> {
    let unusable = |what: String| {
        ServerError::Config(format!(
            "{setting} {address:?}: {what}; write host:port, for instance 127.0.0.1:20160"
        ))
    };
    let mut found = address.to_socket_addrs().map_err(|error| unusable(error.to_string()))?;
    found.next().ok_or_else(|| unusable("no such host".to_owned()))
}

/// Refuses to be reachable from other machines unless that was asked for: nothing is encrypted, nobody is asked who
/// they are.
fn check_insecure(setting: &'static str, address: &str, insecure: bool) -> Result<(), ServerError> {
    if insecure || resolve(setting, address)?.ip().is_loopback() {
        return Ok(());
    }
    Err(ServerError::Config(format!(
        "{setting} {address:?} can be reached from other machines, without encryption and without authentication: set \
         insecure = true if the network is trusted, or listen on a loopback address"
    )))
}

/// The address to tell others: as configured, else where we listen.
pub(crate) fn advertised(
    setting: &'static str,
    configured: &str,
    listening: SocketAddr,
) -> Result<String, ServerError> {
    if !configured.is_empty() {
        return match configured.rsplit_once(':') {
            Some((host, "0")) => Ok(format!("{host}:{}", listening.port())),
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(configured.to_owned())
            }
            _ => Err(ServerError::Config(format!("{setting} {configured:?} is no host:port"))),
        };
    }
    if listening.ip().is_unspecified() {
        return Err(ServerError::Config(format!(
            "{setting} is needed: others cannot connect to {listening}, which stands for every address of this machine"
        )));
    }
    Ok(listening.to_string())
}

/// Where others find the status page: on the advertised host, if we listen on every address.
pub(crate) fn status_advertised(address: &str, status: SocketAddr) -> String {
    let any: IpAddr = status.ip();
    match address.rsplit_once(':') {
        Some((host, _)) if any.is_unspecified() => format!("{host}:{}", status.port()),
        _ => status.to_string(),
    }
}

#[cfg(test)]
mod tests;
