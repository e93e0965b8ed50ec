//! A peer that was removed is cleared away.
//!
//! ```text
//! readers and writers end → apply stops → one batch, synced: Tombstone in, log, apply record and data out → gone
//! ```
//!
//! Until it is gone its range stays taken, so that nobody puts data where the batch is about to remove it. A snapshot
//! whose install has been written is put in place first: its files are not taken from under the ingestion.
//!
//! The record of the region stays as a tombstone with the highest peer id, so that no late message brings the peer
//! back. The batch goes through the log writer, behind every append of the peer.

use crate::apply::ApplyTask;
use crate::peer::{PeerState, Phase, Turn};
use crate::records::{
    GcRecord, PeerState as State, RegionRecord, delete_apply, delete_data, delete_uninitialized,
    forget_region, put_gc, put_region,
};
use crate::seeded_bug::{Bugs, SeededBug};
use engine::{Engine, WriteBatch};
use types::{Epoch, Peer, PeerId, Region, RegionId, StoreId};
use wire::kv::KvError;
use wire::store::StoreMessage;

/// A peer on its way out.
pub(crate) struct Destroy {
    /// Who wants to know when it is gone.
    pub(crate) confirm: Vec<(StoreId, StoreMessage)>,
}

impl<E: Engine> PeerState<E> {
    /// Takes the peer out of service and begins to clear it away. `asked_by` is told when it is gone.
    pub(crate) fn begin_destroy(&mut self, turn: &mut Turn<E>, asked_by: Option<Peer>) {
        let confirm = asked_by.map(|to| confirmation(self.region.id, self.me, to));
        // Whether apply has been told to stop already.
        let mut stopping = false;
        let uninitialized = !self.is_initialized();
        match &mut self.phase {
            Phase::Destroying(destroy) => return add_confirmation(&mut destroy.confirm, confirm),
            Phase::Installing(install) if !install.can_be_dropped() => {
                return add_confirmation(install.destroy.get_or_insert_default(), confirm);
            }
            Phase::Installing(install) => {
                stopping = true;
                turn.out.background.extend(install.unused_files());
                turn.shared.meta.release(self.region.id);
            }
            // A split has just made its region: whoever wants this one gone asks again.
            Phase::GivesWay(_) => return,
            Phase::Normal if uninitialized => {
                if !turn.shared.meta.claim_removal(self.region.id, self.me.id) {
                    return;
                }
            }
            Phase::Normal => {}
        }
        self.revoke_lease(turn);
        turn.shared.held.close(self.region.id);
        let error = KvError::RegionNotFound { region_id: self.region.id };
        self.fail_waiting(turn, &error);
        self.abandon_proposals(turn, types::LogIndex(u64::MAX));
        self.phase = Phase::Destroying(Destroy { confirm: confirm.into_iter().collect() });
        // Apply knows nothing of a peer that has got nothing.
        let at_once = uninitialized || turn.shared.config.bugs.has(SeededBug::DestroyWithoutStop);
        match (stopping, at_once) {
            (true, _) => {}
            (false, true) => self.write_destroy(turn),
            (false, false) => turn.out.apply.push(ApplyTask::Stop { region_id: self.region.id }),
        }
    }

    /// Apply has stopped: write the batch.
    pub(crate) fn write_destroy(&mut self, turn: &mut Turn<E>) {
        let Phase::Destroying(destroy) = &mut self.phase else { unreachable!("called while destroying") };
        let log = &mut turn.out.log;
        // A peer without a region has no data, and its empty range would name everybody's.
        if !self.region.peers.is_empty() {
            let mut range = self.region.range.clone();
            if turn.shared.config.bugs.has(SeededBug::DestroyBeyondRange) {
                range.end = types::Key::new();
            }
            delete_data(&mut log.batch, &range);
        }
        let bugs = turn.shared.config.bugs;
        tombstone(&mut log.batch, self.region.id, self.region.epoch, self.me.id, bugs);
        delete_apply(&mut log.batch, self.region.id);
        delete_uninitialized(&mut log.batch, self.region.id);
        put_gc(&mut log.batch, self.region.id, &GcRecord::default());
        raft_log::destroy(self.region.id, &mut log.batch);
        log.must_sync = true;
        log.persisted.destroyed.push(self.region.id);
        if bugs.has(SeededBug::GoneBeforeDurable) {
            turn.out.messages.append(&mut destroy.confirm);
        } else {
            log.messages_after.append(&mut destroy.confirm);
        }
    }
}

/// Appends to `batch` what makes a region's peers up to `peer_id` never come back.
pub(crate) fn tombstone(
    batch: &mut WriteBatch,
    region_id: RegionId,
    epoch: Epoch,
    peer_id: PeerId,
    bugs: Bugs,
) {
    let region = Region { id: region_id, epoch, ..Region::default() };
    if bugs.has(SeededBug::TombstoneNotWritten) {
        forget_region(batch, region_id);
    } else {
        put_region(batch, &RegionRecord { state: State::Tombstone, region, peer_id, removed: Vec::new() });
    }
}

/// Adds who wants to know, once: stores ask until they are told.
fn add_confirmation(confirm: &mut Vec<(StoreId, StoreMessage)>, another: Option<(StoreId, StoreMessage)>) {
    confirm.extend(another.filter(|message| !confirm.contains(message)));
}

/// The message that tells that a peer is gone.
pub(crate) fn confirmation(region_id: RegionId, peer: Peer, to: Peer) -> (StoreId, StoreMessage) {
    (to.store_id, StoreMessage::RemovedConfirmed { region_id, peer, to })
}
