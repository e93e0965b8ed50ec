//! What a store keeps on disk about its regions, beside their logs.
//!
//! ```text
//! 0x03 | region u64 BE | 0x01    RegionRecord: descriptor, our peer, its state
//! 0x03 | region u64 BE | 0x02    ApplyRecord: how far the log is applied and compacted
//! 0x03 | region u64 BE | 0x03    UninitializedPeer: our peer has a term and a vote, and nothing else yet
//! 0x03 | region u64 BE | 0x04    GcRecord: up to when old versions of the region's keys may be gone
//! ```
//!
//! All in the `raft` column family; the first byte keeps them apart from the logs (see `raft_log::keys`).

use codec::{Decode, DecodeError, Encode, codec_enum, codec_struct};
use engine::{Cf, Engine, EngineError, Snapshot, WriteBatch};
use raft::EntryId;
use types::{Epoch, KeyRange, LogIndex, Peer, PeerId, Region, RegionId, SafePoints, Term, Timestamp};

/// First byte of all region records.
pub(crate) const REGION_PREFIX: u8 = 0x03;

const RECORD: u8 = 0x01;
const APPLY: u8 = 0x02;
const UNINITIALIZED: u8 = 0x03;
const GC: u8 = 0x04;

/// Where every log begins: a region that is made by the bootstrap or by a split starts as if this entry had been
/// applied and compacted. So a peer with an empty log can never be caught up by entries alone and takes a snapshot.
pub const LOG_START: EntryId = EntryId::new(Term(5), LogIndex(5));

/// What becomes of a peer on this store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// It takes part.
    Normal,
    /// A region snapshot is being put in place; its files are named here. Until it is done the data is not usable.
    Applying {
        /// The files to ingest, as (number of the column family, name).
        files: Vec<(u8, String)>,
    },
    /// It was removed. The record stays, so that no late message brings the peer back.
    Tombstone,
}
codec_enum!(PeerState { 1 = Normal, 2 = Applying { files }, 3 = Tombstone });

/// A peer that was removed from the region, of which its store has not said yet that it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemovedPeer {
    /// The peer.
    pub peer: Peer,
    /// The epoch since which it is no member.
    pub epoch: Epoch,
}
codec_struct!(RemovedPeer { peer, epoch });

/// A region as this store knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionRecord {
    /// What becomes of our peer.
    pub state: PeerState,
    /// The region as of the applied index.
    pub region: Region,
    /// Our peer's id.
    pub peer_id: PeerId,
    /// Removed peers that are not known to be gone.
    pub removed: Vec<RemovedPeer>,
}
codec_struct!(RegionRecord { state, region, peer_id, removed });

/// How far a region's log is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplyRecord {
    /// The last entry applied.
    pub applied: EntryId,
    /// The last entry that the log no longer needs to hold.
    pub truncated: EntryId,
}
codec_struct!(ApplyRecord { applied, truncated });

/// A peer that has got nothing of its region yet, but has a hard state. In a record of its own, which only the log writer
/// writes: a split that makes the peer writes the other two, and must not wait for what is on its way to the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UninitializedPeer {
    /// The region.
    pub region_id: RegionId,
    /// Our peer's id.
    pub peer_id: PeerId,
}
codec_struct!(UninitializedPeer { region_id, peer_id });

/// Up to when old versions of a region's keys may be gone. It stands in the engine beside the versions, so whoever has a view
/// of the one has it of the other; and it comes to all replicas, to pieces of the region, and with its snapshots.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct GcRecord {
    /// Nobody reads below this any more, and no transaction that began by then gets locks here. Invariant: nowhere below
    /// `removed`.
    pub guarded: SafePoints,
    /// Versions may be gone that are not the newest ones by then.
    pub removed: SafePoints,
    /// Some raw value of the region may end, or have ended; it was written as such at some time.
    pub has_ends: bool,
}
codec_struct!(GcRecord { guarded, removed, has_ends });

impl GcRecord {
    /// Rises wherever `other` is higher, or knows of values that end. Returns whether anything has changed.
    pub fn raise(&mut self, other: &Self) -> bool {
        let guarded = self.guarded.raise(&other.guarded);
        let removed = self.removed.raise(&other.removed);
        let has_ends = other.has_ends && !self.has_ends;
        self.has_ends |= other.has_ends;
        self.guarded.raise(&self.removed) || guarded || removed || has_ends
    }

    /// Who reads or began above this is not concerned by it.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        // What versions are removed up to is never above it.
        self.guarded.latest()
    }
}

fn key(region_id: RegionId, kind: u8) -> [u8; 10] {
    let mut key = [REGION_PREFIX; 10];
    key[1..9].copy_from_slice(&region_id.get().to_be_bytes());
    key[9] = kind;
    key
}

/// Appends a region's record to `batch`.
pub fn put_region(batch: &mut WriteBatch, record: &RegionRecord) {
    batch.put(Cf::Raft, &key(record.region.id, RECORD), &record.to_bytes());
}

/// Appends a region's apply record to `batch`.
pub fn put_apply(batch: &mut WriteBatch, region_id: RegionId, record: ApplyRecord) {
    batch.put(Cf::Raft, &key(region_id, APPLY), &record.to_bytes());
}

/// Appends up to when old versions of a region's keys may be gone to `batch`.
pub fn put_gc(batch: &mut WriteBatch, region_id: RegionId, record: &GcRecord) {
    match *record == GcRecord::default() {
        true => batch.delete(Cf::Raft, &key(region_id, GC)),
        false => batch.put(Cf::Raft, &key(region_id, GC), &record.to_bytes()),
    }
}

/// True for the key of a [`GcRecord`], for checkers.
#[must_use]
pub fn is_gc_record(key: &[u8]) -> bool {
    gc_record_of(key).is_some()
}

/// The region whose [`GcRecord`] has this key, for checkers.
#[must_use]
pub fn gc_record_of(key: &[u8]) -> Option<RegionId> {
    match key {
        [REGION_PREFIX, id @ .., GC] => Some(RegionId(u64::from_be_bytes(id.try_into().ok()?))),
        _ => None,
    }
}

/// Up to when old versions of a region's keys may be gone in this view.
///
/// # Errors
/// [`EngineError`]; [`EngineError::Corrupt`] when it cannot be decoded.
pub fn gc_record<S: Snapshot>(snapshot: &S, region_id: RegionId) -> Result<GcRecord, EngineError> {
    match snapshot.get(Cf::Raft, &key(region_id, GC))? {
        Some(bytes) => decode("garbage collection record", region_id, &bytes),
        None => Ok(GcRecord::default()),
    }
}

/// Appends the removal of a region's apply record to `batch`.
pub(crate) fn delete_apply(batch: &mut WriteBatch, region_id: RegionId) {
    batch.delete(Cf::Raft, &key(region_id, APPLY));
}

/// Appends to `batch` that a peer exists that has got nothing yet.
pub(crate) fn put_uninitialized(batch: &mut WriteBatch, peer: UninitializedPeer) {
    batch.put(Cf::Raft, &key(peer.region_id, UNINITIALIZED), &peer.to_bytes());
}

/// Appends to `batch` that the region's peer is no longer one that has got nothing.
pub(crate) fn delete_uninitialized(batch: &mut WriteBatch, region_id: RegionId) {
    batch.delete(Cf::Raft, &key(region_id, UNINITIALIZED));
}

/// Appends the removal of everything that is known about a region to `batch`: as if it had never been here.
pub fn forget_region(batch: &mut WriteBatch, region_id: RegionId) {
    batch.delete(Cf::Raft, &key(region_id, RECORD));
    delete_apply(batch, region_id);
    delete_uninitialized(batch, region_id);
    put_gc(batch, region_id, &GcRecord::default());
    raft_log::destroy(region_id, batch);
}

/// Appends the removal of the data in `range` to `batch`.
pub fn delete_data(batch: &mut WriteBatch, range: &KeyRange) {
    // No key of the region layer begins with 0xff: a range without an end is bounded there.
    const AFTER_ALL_KEYS: &[u8] = &[0xff];
    let end = if range.end.is_empty() { AFTER_ALL_KEYS } else { &range.end[..] };
    for cf in Cf::DATA {
        batch.delete_range(cf, &range.start, end);
    }
}

/// A region's record, read from an engine.
///
/// # Errors
/// [`EngineError`]; [`EngineError::Corrupt`] when it cannot be decoded.
pub fn region_record<E: Engine>(
    engine: &E,
    region_id: RegionId,
) -> Result<Option<RegionRecord>, EngineError> {
    engine
        .get(Cf::Raft, &key(region_id, RECORD))?
        .map(|bytes| decode("region record", region_id, &bytes))
        .transpose()
}

/// A region's record and apply record, read from one view of an engine.
///
/// # Errors
/// As [`region_record`].
pub fn records_in<S: Snapshot>(
    snapshot: &S,
    region_id: RegionId,
) -> Result<Option<(RegionRecord, ApplyRecord)>, EngineError> {
    let region = snapshot.get(Cf::Raft, &key(region_id, RECORD))?;
    let apply = snapshot.get(Cf::Raft, &key(region_id, APPLY))?;
    match (region, apply) {
        (Some(region), Some(apply)) => Ok(Some((
            decode("region record", region_id, &region)?,
            decode("apply record", region_id, &apply)?,
        ))),
        _ => Ok(None),
    }
}

/// What a snapshot says of its region beside the descriptor and the data.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Beside {
    /// Removed peers that are not known to be gone: whoever leads next, from this snapshot, must go on asking for them.
    pub(crate) removed: Vec<RemovedPeer>,
    /// As of the region.
    pub(crate) gc: GcRecord,
}

/// What Raft sends for a region as it is in these records; region and data travel apart. With it goes what the next leader
/// must know.
#[must_use]
pub fn raft_snapshot(record: &RegionRecord, apply: ApplyRecord, gc: &GcRecord) -> raft::Snapshot {
    let conf_state = crate::membership::conf_state(&record.region);
    let meta = raft::SnapshotMeta { index: apply.applied.index, term: apply.applied.term, conf_state };
    let mut data = bytes::BytesMut::new();
    record.removed.encode(&mut data);
    gc.encode(&mut data);
    raft::Snapshot { meta, data: data.freeze() }
}

/// What a snapshot of [`raft_snapshot`] tells.
///
/// # Errors
/// [`DecodeError`] when it is none.
pub(crate) fn beside_in(snapshot: &raft::Snapshot) -> Result<Beside, DecodeError> {
    let mut reader = codec::Reader::new(&snapshot.data);
    let removed = Vec::decode(&mut reader)?;
    // Earlier versions collected no garbage.
    let gc = if reader.is_at_end() { GcRecord::default() } else { GcRecord::decode(&mut reader)? };
    match reader.is_at_end() {
        true => Ok(Beside { removed, gc }),
        false => Err(DecodeError::TrailingBytes { left: reader.remaining() }),
    }
}

/// All regions that an engine knows of, in order of their ids, with their apply records (tombstones have none).
///
/// # Errors
/// As [`region_record`].
pub fn all_regions<E: Engine>(engine: &E) -> Result<Vec<(RegionRecord, Option<ApplyRecord>)>, EngineError> {
    let mut regions: Vec<(RegionRecord, Option<ApplyRecord>)> = Vec::new();
    for_each_record(engine, |region_id, kind, value| {
        if kind == RECORD {
            regions.push((decode("region record", region_id, value)?, None));
        } else if let Some((_, apply)) =
            regions.last_mut().filter(|(record, _)| kind == APPLY && record.region.id == region_id)
        {
            *apply = Some(decode("apply record", region_id, value)?);
        }
        Ok(())
    })?;
    Ok(regions)
}

/// The latest of all [`GcRecord`]s on an engine.
///
/// # Errors
/// As [`region_record`].
pub fn guarded_to<E: Engine>(engine: &E) -> Result<Timestamp, EngineError> {
    let mut guarded = Timestamp(0);
    for_each_record(engine, |region_id, kind, value| {
        if kind == GC {
            let record: GcRecord = decode("garbage collection record", region_id, value)?;
            guarded = guarded.max(record.latest());
        }
        Ok(())
    })?;
    Ok(guarded)
}

/// The peers on an engine that have got nothing of their regions yet, in order of the regions' ids.
///
/// # Errors
/// As [`region_record`].
pub fn uninitialized_peers<E: Engine>(engine: &E) -> Result<Vec<UninitializedPeer>, EngineError> {
    let (mut peers, mut here) = (Vec::new(), None);
    for_each_record(engine, |region_id, kind, value| {
        if kind == RECORD {
            here = Some(decode::<RegionRecord>("region record", region_id, value)?);
        } else if kind == UNINITIALIZED {
            let peer: UninitializedPeer = decode("record of an uninitialized peer", region_id, value)?;
            // A split, or a snapshot, has made it since; or there was an earlier peer of the region, which is gone.
            let record = here.as_ref().filter(|record| record.region.id == region_id);
            let is_later =
                |record: &RegionRecord| record.state == PeerState::Tombstone && record.peer_id < peer.peer_id;
            peers.extend(record.is_none_or(is_later).then_some(peer));
        }
        Ok(())
    })?;
    Ok(peers)
}

/// Shows every record, in order of the regions' ids and of its kind.
fn for_each_record<E: Engine>(
    engine: &E,
    mut show: impl FnMut(RegionId, u8, &bytes::Bytes) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let snapshot = engine.snapshot();
    let range = KeyRange::prefix(vec![REGION_PREFIX]);
    let mut iter = snapshot.iter(Cf::Raft, &range);
    let mut valid = iter.seek_to_first();
    while valid {
        let corrupt = || EngineError::Corrupt("a region record has a key of the wrong length".to_owned());
        let found: [u8; 10] = iter.key().try_into().map_err(|_| corrupt())?;
        let region_id = RegionId(u64::from_be_bytes(found[1..9].try_into().map_err(|_| corrupt())?));
        show(region_id, found[9], &bytes::Bytes::copy_from_slice(iter.value()))?;
        valid = iter.next();
    }
    iter.status()
}

fn decode<T: Decode>(what: &str, region_id: RegionId, bytes: &bytes::Bytes) -> Result<T, EngineError> {
    T::from_bytes(bytes)
        .map_err(|error| EngineError::Corrupt(format!("{what} of region {region_id}: {error}")))
}
