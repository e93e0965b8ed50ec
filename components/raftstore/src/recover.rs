//! What a store finds on its disk when it starts.

use crate::records::{
    ApplyRecord, PeerState, RegionRecord, UninitializedPeer, all_regions, guarded_to, uninitialized_peers,
};
use engine::{Engine, EngineError};
use std::fmt;
use types::{RegionId, Timestamp};

/// What goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The regions, in key order.
    pub regions: Vec<RecoveredRegion>,
    /// Peers that have got nothing of their regions yet.
    pub uninitialized: Vec<UninitializedPeer>,
    /// No region refuses whoever reads, or began, above this: see [`StoreMeta::guarded_to`](crate::StoreMeta::guarded_to).
    pub guarded: Timestamp,
}

/// A region that goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveredRegion {
    /// Its record: `Normal` or `Applying`.
    pub record: RegionRecord,
    /// How far it is applied.
    pub apply: ApplyRecord,
}

/// Why a store cannot start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoverError {
    /// The engine cannot be read.
    Engine(EngineError),
    /// Records contradict each other: durable state was lost.
    Corrupt {
        /// The region.
        region_id: RegionId,
        /// What is wrong.
        what: String,
    },
}

impl Recovered {
    /// The files of snapshots that are being put in place; all others are left over.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let files = self.regions.iter().map(|region| match &region.record.state {
            PeerState::Applying { files } => &files[..],
            PeerState::Normal | PeerState::Tombstone => &[],
        });
        files.flatten().map(|(_, name)| &name[..])
    }
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Corrupt { region_id, what } => write!(
                f,
                "region {region_id}: {what}; this disk has lost durable state: start the store on an empty directory \
                 with a new id, and let the placement driver make the copies again"
            ),
        }
    }
}

impl std::error::Error for RecoverError {}

impl From<EngineError> for RecoverError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// What an engine holds, checked against each other.
///
/// # Errors
/// [`RecoverError`]: the store must not start.
pub fn recover<E: Engine>(engine: &E) -> Result<Recovered, RecoverError> {
    let mut regions = Vec::new();
    for (record, apply) in all_regions(engine)? {
        if record.state == PeerState::Tombstone {
            continue;
        }
        let region_id = record.region.id;
        let corrupt = |what: &str| RecoverError::Corrupt { region_id, what: what.to_owned() };
        let apply = apply.ok_or_else(|| corrupt("its apply record is missing"))?;
        if apply.applied.index < apply.truncated.index {
            return Err(corrupt("its log was compacted beyond what was applied"));
        }
        regions.push(RecoveredRegion { record, apply });
    }
    regions.sort_by(|a, b| a.record.region.range.start.cmp(&b.record.region.range.start));
    for pair in regions.windows(2) {
        if pair[0].record.region.range.overlaps(&pair[1].record.region.range) {
            let what = format!("its range overlaps that of region {}", pair[1].record.region.id);
            return Err(RecoverError::Corrupt { region_id: pair[0].record.region.id, what });
        }
    }
    Ok(Recovered { regions, uninitialized: uninitialized_peers(engine)?, guarded: guarded_to(engine)? })
}
