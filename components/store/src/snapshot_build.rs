//! Region snapshots to be sent: a view of the engine for each, read out in pieces as the network takes them.
//!
//! Nothing is written to disk for it: the pieces come straight from the engine's own snapshot. The receiver makes files
//! of its own.

use crate::snapshot_receive::Checksum;
use bytes::Bytes;
use engine::{Cf, Engine, EngineError};
use env::sim_point;
use raftstore::{RaftSnapshot, gc_record, raft_snapshot, records_in};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use types::{Key, KeyRange, MonoTime, PeerId, Region, RegionId};
use wire::store::{RaftMessage, SnapshotKey, SnapshotPiece};

/// How long a view is kept for a snapshot that nobody has sent. Raft sends it at the peer's next answer, which comes with
/// the next heartbeats or not at all; this is a few elections.
const VIEW_KEPT: Duration = Duration::from_secs(5);

/// Keeps the views that snapshots are to be sent from, until they are.
pub struct SnapshotBuilder<E: Engine> {
    engine: E,
    views: VecDeque<View<E::Snapshot>>,
    views_max: usize,
    piece_bytes: usize,
}

/// A region as of one moment.
struct View<S> {
    key: SnapshotKey,
    region: Region,
    snapshot: Arc<S>,
    built_at: MonoTime,
}

impl<E: Engine> SnapshotBuilder<E> {
    /// Keeps at most `views_max` views; pieces hold about `piece_bytes`.
    #[must_use]
    pub fn new(engine: E, views_max: usize, piece_bytes: usize) -> Self {
        Self { engine, views: VecDeque::new(), views_max, piece_bytes }
    }

    /// Takes a view of a region for a peer. `None` if the region is not here (any more), or if there is no room for
    /// another view yet: Raft asks again. A view gives way to none that is newer, or else regions that outnumber the
    /// views would take them from each other for ever and send nothing.
    ///
    /// Data, region and applied index are read from one engine snapshot, so they belong together.
    ///
    /// # Errors
    /// [`EngineError`] when the records cannot be read.
    pub fn build(
        &mut self,
        region_id: RegionId,
        to: PeerId,
        now: MonoTime,
    ) -> Result<Option<RaftSnapshot>, EngineError> {
        // One view per peer: an older one would not be asked for again.
        self.views.retain(|view| {
            (view.key.region_id, view.key.to_peer) != (region_id, to) && now.since(view.built_at) < VIEW_KEPT
        });
        if self.views.len() >= self.views_max {
            return Ok(None);
        }
        let view = self.engine.snapshot();
        let Some((record, apply)) = records_in(&view, region_id)? else { return Ok(None) };
        if record.state != raftstore::PeerState::Normal {
            return Ok(None);
        }
        let key =
            SnapshotKey { region_id, to_peer: to, term: apply.applied.term, index: apply.applied.index };
        let snapshot = raft_snapshot(&record, apply, &gc_record(&view, region_id)?);
        self.views.push_back(View { key, region: record.region, snapshot: Arc::new(view), built_at: now });
        Ok(Some(snapshot))
    }

    /// The pieces of a snapshot that Raft now wants sent; `None` if its view is gone.
    pub fn take(&mut self, key: SnapshotKey, message: RaftMessage) -> Option<SnapshotSource<E::Snapshot>> {
        let View { region, snapshot: view, .. } = self.take_view(key)?;
        Some(SnapshotSource {
            key,
            range: region.range.clone(),
            start: Some((region, message)),
            view,
            families: Cf::DATA.into(),
            resume: None,
            piece_bytes: self.piece_bytes,
            pairs: 0,
            checksum: Checksum::default(),
            done: false,
        })
    }

    fn take_view(&mut self, key: SnapshotKey) -> Option<View<E::Snapshot>> {
        let at = self.views.iter().position(|view| view.key == key)?;
        let view = self.views.remove(at);
        if sim_point!("store.lose_view") { None } else { view }
    }
}

/// One snapshot on its way out, piece by piece.
pub struct SnapshotSource<S> {
    key: SnapshotKey,
    start: Option<(Region, RaftMessage)>,
    range: KeyRange,
    view: Arc<S>,
    families: VecDeque<Cf>,
    resume: Option<Key>,
    piece_bytes: usize,
    pairs: u64,
    checksum: Checksum,
    done: bool,
}

impl<S: engine::Snapshot> SnapshotSource<S> {
    /// Which snapshot.
    #[must_use]
    pub fn key(&self) -> SnapshotKey {
        self.key
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// [`EngineError`] when the data cannot be read.
    pub fn next_piece(&mut self) -> Result<Option<SnapshotPiece>, EngineError> {
        if let Some((region, message)) = self.start.take() {
            return Ok(Some(SnapshotPiece::Start { key: self.key, region, message: Box::new(message) }));
        }
        while let Some(cf) = self.families.front().copied() {
            let pairs = self.read_piece(cf)?;
            if self.resume.is_none() {
                self.families.pop_front();
            }
            if !pairs.is_empty() {
                self.pairs += pairs.len() as u64;
                for (key, value) in &pairs {
                    self.checksum.add(cf, key, value);
                }
                return Ok(Some(SnapshotPiece::Chunk { key: self.key, family: cf as u8, pairs }));
            }
        }
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        Ok(Some(SnapshotPiece::End { key: self.key, pairs: self.pairs, checksum: self.checksum.value() }))
    }

    /// Reads up to a piece's worth from where the last one ended.
    fn read_piece(&mut self, cf: Cf) -> Result<Vec<(Bytes, Bytes)>, EngineError> {
        let start = self.resume.take().unwrap_or_else(|| self.range.start.clone());
        let rest = KeyRange { start, end: self.range.end.clone() };
        let mut iter = self.view.iter(cf, &rest);
        let mut pairs = Vec::new();
        let mut bytes = 0;
        let mut found = iter.seek_to_first();
        while found {
            if bytes >= self.piece_bytes {
                self.resume = Some(Key::copy_from_slice(iter.key()));
                return Ok(pairs);
            }
            bytes += iter.key().len() + iter.value().len();
            pairs.push((Bytes::copy_from_slice(iter.key()), Bytes::copy_from_slice(iter.value())));
            found = iter.next();
        }
        iter.status()?;
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{MemEngine, WriteBatch};
    use raftstore::{ApplyRecord, LOG_START, PeerState, RegionRecord, put_apply, put_region};
    use types::{Epoch, Peer, StoreId};

    const TO: PeerId = PeerId(100);

    fn engine_with(regions: u64) -> MemEngine {
        let engine = MemEngine::new();
        let mut batch = WriteBatch::new();
        for id in 1..=regions {
            let peer_id = PeerId(id + 50);
            let region = Region {
                id: RegionId(id),
                range: KeyRange::new(vec![id as u8], vec![id as u8 + 1]),
                epoch: Epoch { conf_ver: 1, version: 1 },
                peers: vec![Peer::voter(peer_id, StoreId(1))],
            };
            put_region(
                &mut batch,
                &RegionRecord { state: PeerState::Normal, region, peer_id, removed: Vec::new() },
            );
            put_apply(&mut batch, RegionId(id), ApplyRecord { applied: LOG_START, truncated: LOG_START });
        }
        engine.write(&batch).expect("no fault");
        engine
    }

    fn key(region: u64) -> SnapshotKey {
        SnapshotKey { region_id: RegionId(region), to_peer: TO, term: LOG_START.term, index: LOG_START.index }
    }

    #[test]
    fn more_regions_than_views_are_sent_one_after_another() {
        // Each view once pushed out the oldest before that one's Raft had asked for it: regions that asked in turn
        // built views for ever and sent none (simulation seed 1233).
        let mut builder = SnapshotBuilder::new(engine_with(7), 2, 1 << 20);
        let mut waiting: Vec<u64> = (1..=7).collect();
        let mut offered = Vec::new();
        for heartbeat in 0..7 {
            let now = MonoTime(heartbeat * 200_000_000);
            let asks = std::mem::take(&mut waiting);
            for region in asks {
                if offered.contains(&region) {
                    assert!(builder.take_view(key(region)).is_some(), "what was offered is there");
                    continue;
                }
                let built = builder.build(RegionId(region), TO, now).expect("no fault");
                if built.is_some() {
                    offered.push(region);
                }
                waiting.push(region);
            }
        }
        assert!(waiting.is_empty(), "never sent: {waiting:?}");
    }

    #[test]
    fn a_view_that_nobody_sends_makes_room_after_a_while() {
        let mut builder = SnapshotBuilder::new(engine_with(2), 1, 1 << 20);
        let mut build = |region, now| builder.build(RegionId(region), TO, now).expect("no fault").is_some();
        assert!(build(1, MonoTime::ZERO));
        assert!(!build(2, MonoTime(1)));
        assert!(build(2, MonoTime::ZERO + VIEW_KEPT));
    }
}
