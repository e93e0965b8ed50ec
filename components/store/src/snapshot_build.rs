//! Region snapshots to be sent: a view of the engine for each, read out in pieces as the network takes them.
//!
//! Nothing is written to disk for it: the pieces come straight from the engine's own snapshot. The receiver makes files
//! of its own.

use crate::snapshot_receive::Checksum;
use bytes::Bytes;
use engine::{Cf, Engine, EngineError};
use raftstore::{RaftSnapshot, raft_snapshot, records_in};
use std::collections::VecDeque;
use std::sync::Arc;
use types::{Key, KeyRange, PeerId, Region, RegionId};
use wire::store::{RaftMessage, SnapshotKey, SnapshotPiece};

/// Keeps the views that snapshots are to be sent from, until they are.
pub struct SnapshotBuilder<E: Engine> {
    engine: E,
    views: VecDeque<(SnapshotKey, Region, Arc<E::Snapshot>)>,
    views_max: usize,
    piece_bytes: usize,
}

impl<E: Engine> SnapshotBuilder<E> {
    /// Keeps at most `views_max` views; pieces hold about `piece_bytes`.
    #[must_use]
    pub fn new(engine: E, views_max: usize, piece_bytes: usize) -> Self {
        Self { engine, views: VecDeque::new(), views_max, piece_bytes }
    }

    /// Takes a view of a region for a peer. `None` if the region is not here (any more).
    ///
    /// Data, region and applied index are read from one engine snapshot, so they belong together.
    ///
    /// # Errors
    /// [`EngineError`] when the records cannot be read.
    pub fn build(&mut self, region_id: RegionId, to: PeerId) -> Result<Option<RaftSnapshot>, EngineError> {
        let view = self.engine.snapshot();
        let Some((record, apply)) = records_in(&view, region_id)? else { return Ok(None) };
        if record.state != raftstore::PeerState::Normal {
            return Ok(None);
        }
        let key =
            SnapshotKey { region_id, to_peer: to, term: apply.applied.term, index: apply.applied.index };
        let snapshot = raft_snapshot(&record, apply);
        // One view per peer: an older one would not be asked for again.
        self.views.retain(|(other, ..)| (other.region_id, other.to_peer) != (region_id, to));
        if self.views.len() >= self.views_max {
            self.views.pop_front();
        }
        self.views.push_back((key, record.region, Arc::new(view)));
        Ok(Some(snapshot))
    }

    /// The pieces of a snapshot that Raft now wants sent; `None` if its view is gone.
    pub fn take(&mut self, key: SnapshotKey, message: RaftMessage) -> Option<SnapshotSource<E::Snapshot>> {
        let at = self.views.iter().position(|(other, ..)| *other == key)?;
        let (_, region, view) = self.views.remove(at)?;
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
