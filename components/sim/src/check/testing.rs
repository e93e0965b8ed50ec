//! What the checkers' tests share.

use super::Broken;
use bytes::Bytes;
use engine::{MemEngine, WriteBatch};
use raft::{Append, ConfState, Entry, EntryId, EntryKind, HardState, PersistToken};
use raft_log::GroupLog;
use types::{KeyRange, LogIndex, PeerId, Region, RegionId, StoreId, Term};

pub(super) const R: RegionId = RegionId(1);
pub(super) const P1: PeerId = PeerId(11);
pub(super) const P2: PeerId = PeerId(12);
pub(super) const S1: StoreId = StoreId(1);
pub(super) const S2: StoreId = StoreId(2);

/// The rule is found broken.
#[track_caller]
pub(super) fn broken<T>(result: Result<T, Broken>, invariant: &str) {
    assert_eq!(result.map(|_| ()).map_err(|broken| broken.invariant), Err(invariant));
}

/// A region with nothing but its range.
pub(super) fn region(id: u64, start: &'static str, end: &'static str) -> Region {
    Region { id: RegionId(id), range: KeyRange::new(start, end), ..Region::default() }
}

/// What a store writes for a group whose log begins after entry 5 of term 1: entries of these terms, and this hard state.
pub(super) fn log_batch(group: RegionId, terms: &[u64], hard_state: HardState) -> WriteBatch {
    let start = EntryId::new(Term(1), LogIndex(5));
    let log = GroupLog::load(MemEngine::new(), group, start, ConfState::default());
    let entry = |(number, term): (u64, &u64)| {
        let (term, index) = (Term(*term), LogIndex(6 + number));
        Entry { term, index, kind: EntryKind::Normal, data: Bytes::new() }
    };
    let append = Append {
        hard_state: Some(hard_state),
        entries: (0..).zip(terms).map(entry).collect(),
        snapshot: None,
        token: PersistToken::default(),
    };
    let mut batch = WriteBatch::default();
    log.expect("nothing is damaged").append(&append, &mut batch);
    batch
}
