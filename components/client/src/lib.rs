//! Flotilla's client: connect to a cluster, read and write keys, look at its regions.
//!
//! Start with [`Client::connect`]. The logic is that of `client_core`, of which this crate re-exports what users need; it
//! adds tokio's clock and the connections of `transport`, and knows nothing of regions itself. [`PdClient`] is the stub
//! through which others (a store, for one) talk to the placement driver.
//!
//! What it keeps true: a request that may have left is never sent again from here; and a connection is made in a task
//! of its own, so that a call that is not polled holds up no other.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! use client::{Client, Options};
//!
//! let client = Client::connect(["127.0.0.1:2379".to_owned()], Options::default()).await?;
//! let raw = client.raw();
//! raw.put("ship", "Santa María").await?;
//! assert_eq!(raw.get("ship").await?.as_deref(), Some("Santa María".as_bytes()));
//! # Ok(())
//! # }
//! ```

mod connect;
mod pd;
mod ports;

pub use connect::{Client, Options};
pub use pd::{PdCallError, PdClient};

pub use bytes::Bytes;
/// Deadlines and bounds of calls.
pub use client_core::Options as CallOptions;
pub use client_core::{
    Admin, Attempt, CallTrace, Cause, ClientStats, Cluster, Collected, Collector, CommitProtocol, Core,
    Error, Incomplete, InvalidArgument, Isolation, KeyHistory, Keyspace, KeyspaceClient, KvPair, LockInfo,
    LockKind, RawClient, Savepoint, Scan, ScanOptions, SeenWait, Snapshot, Span, Stage, Swap, TimeToLive,
    Trace, Transaction, TxnClient, TxnError, Version, VersionKind, WaitEdge,
};
pub use transport::Settings;
pub use types::{Key, KeyRange, Region, RegionId, SafePoints, StoreId, Timestamp};
