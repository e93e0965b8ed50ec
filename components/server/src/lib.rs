//! The production driver of a store process and of a PD process.
//!
//! It owns what the logic does not: threads, sockets, the clock, RocksDB, configuration files, metrics. [`store::run`]
//! and [`pd::run`] start everything, say when they are ready, run until they are told to stop, and stop in good order.
//!
//! What it keeps true: the clock is read after the inbox is drained; no answer leaves before what it promises is done;
//! **the first error of the engine's writes ends the process** before another answer leaves. It decides nothing about
//! data: that is the business of the crates it drives. Start with [`StoreConfig`], then [`store::run`].

mod clock;
mod config;
mod error;
mod hooks;
mod logging;
mod mailbox;
#[cfg(test)]
mod mailbox_tests;
mod measure;
pub mod pd;
mod pools;
mod profile;
mod seat;
mod status;
pub mod store;
mod sync;

pub use clock::BootClock;
pub use config::{
    ByteSize, EngineConfig, LogConfig, LogFormat, PdConfig, PessimisticLockConfig, RaftConfig, RegionConfig,
    RequestConfig, ScheduleConfig, SnapshotConfig, Span, StoreConfig, ThreadConfig, TransportConfig,
};
pub use error::ServerError;
pub use hooks::{Hooks, ReadyInfo, Shutdown};
pub use logging::{abort_on_panic, init_logging};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A runtime for sockets. Its threads carry `name`.
pub(crate) fn runtime(name: &str, threads: usize) -> Result<tokio::runtime::Runtime, ServerError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(ServerError::System)
}

/// Listens; tells where, since port 0 takes a free one. Within a runtime.
pub(crate) fn bind(
    setting: &'static str,
    address: std::net::SocketAddr,
) -> Result<(tokio::net::TcpListener, std::net::SocketAddr), ServerError> {
    let unusable = |source| ServerError::Listen { setting, address: address.to_string(), source };
    let listener = transport::listen(address).map_err(unusable)?;
    let bound = listener.local_addr().map_err(unusable)?;
    Ok((listener, bound))
}
