//! The door.

use crate::*;
use bytes::Bytes;
use types::{LogIndex, PeerId};

/// One Raft group as a state machine: inputs go in by its methods, effects come out of [`RawNode::ready`].
pub struct RawNode<S: Storage> {
    storage: S,
}

#[expect(
    unused_variables,
    missing_docs,
    clippy::missing_errors_doc,
    reason = "the signatures stand before the bodies"
)]
impl<S: Storage> RawNode<S> {
    pub fn new(config: &Config, storage: S) -> Result<Self, Error> {
        unimplemented!()
    }
    pub fn tick(&mut self) {
        unimplemented!()
    }
    pub fn tick_n(&mut self, ticks: u64) {
        unimplemented!()
    }
    pub fn tick_count(&self) -> u64 {
        unimplemented!()
    }
    pub fn next_deadline(&self) -> Option<u64> {
        unimplemented!()
    }
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        unimplemented!()
    }
    pub fn campaign(&mut self) -> Result<(), CampaignError> {
        unimplemented!()
    }
    pub fn propose(&mut self, data: Bytes) -> Result<EntryId, Dropped> {
        unimplemented!()
    }
    pub fn propose_conf_change(&mut self, change: ConfChange) -> Result<EntryId, Dropped> {
        unimplemented!()
    }
    pub fn apply_conf_change(&mut self, change: &ConfChange) -> Result<ConfState, Error> {
        unimplemented!()
    }
    pub fn read_index(&mut self, token: u64) -> Result<(), ReadError> {
        unimplemented!()
    }
    pub fn lease(&self) -> Option<Lease> {
        unimplemented!()
    }
    pub fn transfer_leader(&mut self, to: PeerId) -> Result<(), TransferError> {
        unimplemented!()
    }
    pub fn forget_leader(&mut self) {
        unimplemented!()
    }
    pub fn ping(&mut self) {
        unimplemented!()
    }
    pub fn report_unreachable(&mut self, id: PeerId) {
        unimplemented!()
    }
    pub fn report_snapshot(&mut self, id: PeerId, ok: bool) {
        unimplemented!()
    }
    pub fn on_entries_fetched(&mut self, context: FetchContext) {
        unimplemented!()
    }
    pub fn has_ready(&self) -> bool {
        unimplemented!()
    }
    pub fn ready(&mut self) -> Ready {
        unimplemented!()
    }
    pub fn on_stable(&mut self, token: PersistToken) {
        unimplemented!()
    }
    pub fn on_persist(&mut self, token: PersistToken) {
        unimplemented!()
    }
    pub fn on_applied(&mut self, index: LogIndex) {
        unimplemented!()
    }
    pub fn status(&self) -> Status {
        unimplemented!()
    }
    pub fn with_progress(&self, visit: &mut dyn FnMut(PeerId, ProgressView)) {
        unimplemented!()
    }
    pub fn conf_state(&self) -> &ConfState {
        unimplemented!()
    }
    pub fn is_learner(&self) -> bool {
        unimplemented!()
    }
    pub fn promotable(&self) -> bool {
        unimplemented!()
    }
    pub fn poisoned(&self) -> Option<&str> {
        unimplemented!()
    }
    pub fn check_invariants(&self) -> Result<(), InvariantViolated> {
        unimplemented!()
    }
    pub fn storage(&self) -> &S {
        &self.storage
    }
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }
}
