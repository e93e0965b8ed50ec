//! A peer that was removed is cleared away.
//!
//! ```text
//! readers and writers end → apply stops → one batch, synced: Tombstone in, log, apply record and data out → gone
//! ```
//!
//! The record of the region stays as a tombstone with the highest peer id, so that no late message brings the peer
//! back. The batch goes through the log writer, behind every append of the peer.

use crate::apply::ApplyTask;
use crate::peer::{PeerState, Phase, Turn};
use crate::records::{PeerState as State, RegionRecord, delete_apply, delete_data, put_region};
use engine::{Engine, WriteBatch};
use types::{Epoch, Peer, PeerId, Region, RegionId, StoreId};
use wire::kv::KvError;
use wire::store::StoreMessage;

/// A peer on its way out.
pub(crate) struct Destroy {
    /// Who wants to know when it is gone.
    pub(crate) confirm: Vec<(StoreId, StoreMessage)>,
    written: bool,
}

impl<E: Engine> PeerState<E> {
    /// Takes the peer out of service and begins to clear it away. `asked_by` is told when it is gone.
    pub(crate) fn begin_destroy(&mut self, turn: &mut Turn<E>, asked_by: Option<Peer>) {
        let confirm = asked_by.map(|to| confirmation(self.region.id, self.me, to));
        if let Phase::Destroying(destroy) = &mut self.phase {
            destroy.confirm.extend(confirm);
            return;
        }
        self.revoke_lease(turn);
        let error = KvError::RegionNotFound { region_id: self.region.id };
        self.fail_waiting(turn, &error);
        self.abandon_proposals(turn, types::LogIndex(u64::MAX));
        turn.shared.meta.remove(self.region.id);
        turn.shared.meta.release(self.region.id);
        self.phase = Phase::Destroying(Destroy { confirm: confirm.into_iter().collect(), written: false });
        turn.out.apply.push(ApplyTask::Stop { region_id: self.region.id });
    }

    /// Apply has stopped: write the batch.
    pub(crate) fn write_destroy(&mut self, turn: &mut Turn<E>) {
        let Phase::Destroying(destroy) = &mut self.phase else { unreachable!("called while destroying") };
        if std::mem::replace(&mut destroy.written, true) {
            return;
        }
        let log = &mut turn.out.log;
        if self.region.peers.is_empty() {
            // Never had anything: only the tombstone is worth writing.
            tombstone(&mut log.batch, self.region.id, self.region.epoch, self.me.id);
        } else {
            delete_data(&mut log.batch, &self.region.range);
            tombstone(&mut log.batch, self.region.id, self.region.epoch, self.me.id);
        }
        log.must_sync = true;
        log.persisted.destroyed.push(self.region.id);
        log.messages_after.append(&mut destroy.confirm);
    }
}

/// Appends to `batch` what makes a region's peers up to `peer_id` never come back, and removes its log.
pub(crate) fn tombstone(batch: &mut WriteBatch, region_id: RegionId, epoch: Epoch, peer_id: PeerId) {
    let region = Region { id: region_id, epoch, ..Region::default() };
    put_region(batch, &RegionRecord { state: State::Tombstone, region, peer_id, removed: Vec::new() });
    delete_apply(batch, region_id);
    raft_log::destroy(region_id, batch);
}

/// The message that tells that a peer is gone.
pub(crate) fn confirmation(region_id: RegionId, peer: Peer, to: Peer) -> (StoreId, StoreMessage) {
    (to.store_id, StoreMessage::RemovedConfirmed { region_id, peer, to })
}
