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
pub mod pd;
pub mod store;

pub use clock::BootClock;
pub use config::{
    ByteSize, EngineConfig, LogConfig, LogFormat, PdConfig, RaftConfig, RegionConfig, RequestConfig,
    ScheduleConfig, SnapshotConfig, Span, StoreConfig, ThreadConfig, TransportConfig,
};
pub use error::ServerError;
pub use hooks::{Hooks, ReadyInfo, Shutdown};
pub use logging::{abort_on_panic, init_logging};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
