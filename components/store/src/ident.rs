//! Whose disk this is.
//!
//! ```text
//! 0x01 | 0x01    StoreIdent: format version, cluster, store
//! 0x01 | 0x02    the region that this store prepared to bootstrap the cluster with, until PD has decided
//! 0x01 | 0x03    how many of its starts PD has taken: a varint
//! 0x01 | 0x04    how often it has written to its logs: a varint, in each of these writes
//! ```
//!
//! In the `raft` column family, like everything that is not a region's data.

use codec::{Decode, Encode, codec_struct};
use engine::{Cf, Engine, EngineError, WriteBatch};
use raftstore::{ApplyRecord, LOG_START, PeerState, RegionRecord, forget_region, put_apply, put_region};
use std::cmp::Ordering;
use std::fmt;
use types::{ClusterId, Region, StoreId};

/// The version of everything that this build writes to disk.
pub const FORMAT_VERSION: u32 = 2;

const IDENT_KEY: [u8; 2] = [0x01, 0x01];
const PREPARED_KEY: [u8; 2] = [0x01, 0x02];
const STARTS_KEY: [u8; 2] = [0x01, 0x03];
const LOG_MARK_KEY: [u8; 2] = [0x01, 0x04];

/// Whose disk this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreIdent {
    /// The version that the disk was written with.
    pub format_version: u32,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The store.
    pub store_id: StoreId,
}
codec_struct!(StoreIdent { format_version, cluster_id, store_id });

/// Why a disk cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IdentError {
    /// It was written by a newer build.
    NewerFormat {
        /// Its version.
        found: u32,
    },
    /// It was written by a build whose records of transactions stand elsewhere.
    OlderFormat {
        /// Its version.
        found: u32,
    },
    /// The engine cannot be read or written.
    Engine(EngineError),
}

impl fmt::Display for IdentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerFormat { found } => write!(
                f,
                "the data directory has format version {found}, this build reads up to {FORMAT_VERSION}: start it with \
                 the build that wrote it, or a newer one"
            ),
            Self::OlderFormat { found } => write!(
                f,
                "the data directory has format version {found}, this build reads {FORMAT_VERSION}, which keeps the records \
                 of transactions elsewhere: start it with the build that wrote it, `flotilla export` what it holds, and \
                 `flotilla import` that into a cluster with empty directories"
            ),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for IdentError {}

impl From<EngineError> for IdentError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// Whose disk this is; `None` if nobody's yet.
///
/// # Errors
/// [`IdentError`].
pub fn read_ident<E: Engine>(engine: &E) -> Result<Option<StoreIdent>, IdentError> {
    let Some(bytes) = engine.get(Cf::Raft, &IDENT_KEY)? else { return Ok(None) };
    let ident = StoreIdent::from_bytes(&bytes)
        .map_err(|error| EngineError::Corrupt(format!("the store's identity: {error}")))?;
    let found = ident.format_version;
    match found.cmp(&FORMAT_VERSION) {
        Ordering::Greater => Err(IdentError::NewerFormat { found }),
        Ordering::Less => Err(IdentError::OlderFormat { found }),
        Ordering::Equal => Ok(Some(ident)),
    }
}

/// How far a disk has come: what its store tells the placement driver when it starts, so that an older image of the disk is
/// known for what it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct DiskAge {
    /// How many starts of the store the placement driver has taken.
    pub starts: u64,
    /// How often it has written to its logs.
    pub log_mark: u64,
}

/// How far a disk has come.
///
/// # Errors
/// [`EngineError`].
pub fn read_age<E: Engine>(engine: &E) -> Result<DiskAge, EngineError> {
    let number = |key: &[u8], what: &str| match engine.get(Cf::Raft, key)? {
        None => Ok(0),
        Some(bytes) => u64::from_bytes(&bytes)
            .map_err(|error| EngineError::Corrupt(format!("the count of {what}: {error}"))),
    };
    Ok(DiskAge { starts: number(&STARTS_KEY, "starts")?, log_mark: number(&LOG_MARK_KEY, "log writes")? })
}

/// Notes, durably, that the placement driver has taken this start.
pub(crate) fn record_start<E: Engine>(engine: &E, starts: u64) -> Result<(), EngineError> {
    let mut batch = WriteBatch::new();
    batch.put(Cf::Raft, &STARTS_KEY, &starts.to_bytes());
    engine.write(&batch)?;
    engine.sync()
}

/// Adds the count of writes to the logs to one of them.
pub(crate) fn put_log_mark(batch: &mut WriteBatch, mark: u64) {
    batch.put(Cf::Raft, &LOG_MARK_KEY, &mark.to_bytes());
}

/// Makes the disk this store's, durably.
pub(crate) fn write_ident<E: Engine>(
    engine: &E,
    cluster_id: ClusterId,
    store_id: StoreId,
) -> Result<(), EngineError> {
    let ident = StoreIdent { format_version: FORMAT_VERSION, cluster_id, store_id };
    let mut batch = WriteBatch::new();
    batch.put(Cf::Raft, &IDENT_KEY, &ident.to_bytes());
    engine.write(&batch)?;
    engine.sync()
}

/// The region that was prepared, if PD has not decided yet.
pub(crate) fn read_prepared<E: Engine>(engine: &E) -> Result<Option<Region>, EngineError> {
    let Some(bytes) = engine.get(Cf::Raft, &PREPARED_KEY)? else { return Ok(None) };
    let region = Region::from_bytes(&bytes)
        .map_err(|error| EngineError::Corrupt(format!("the region prepared for bootstrap: {error}")))?;
    Ok(Some(region))
}

/// Prepares the first region, durably: all keys, one peer, here.
pub(crate) fn write_prepared<E: Engine>(engine: &E, region: &Region) -> Result<(), EngineError> {
    let mut batch = WriteBatch::new();
    batch.put(Cf::Raft, &PREPARED_KEY, &region.to_bytes());
    let record = RegionRecord {
        state: PeerState::Normal,
        region: region.clone(),
        peer_id: region.peers[0].id,
        removed: Vec::new(),
    };
    put_region(&mut batch, &record);
    put_apply(&mut batch, region.id, ApplyRecord { applied: LOG_START, truncated: LOG_START });
    engine.write(&batch)?;
    engine.sync()
}

/// Keeps (we were first) or forgets (we were not) the prepared region, durably.
pub(crate) fn settle_prepared<E: Engine>(engine: &E, region: &Region, keep: bool) -> Result<(), EngineError> {
    let mut batch = WriteBatch::new();
    batch.delete(Cf::Raft, &PREPARED_KEY);
    if !keep {
        forget_region(&mut batch, region.id);
    }
    engine.write(&batch)?;
    engine.sync()
}
