//! Locks that only this store's memory has, as commands and readers see them.

use codec::Decode;
use mvcc::Lock;
use raftstore::{HeldLimits, HeldLocks, HeldView};
use types::{RegionId, Term};
use wire::txn::TxnRead;

/// Where reservations of keys are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservations {
    /// In the leader's memory, as far as there is room; else in the log.
    pub in_memory: bool,
    /// How much of them memory takes.
    pub limits: HeldLimits,
    /// Whoever asks for some that go through the log is answered once they are proposed, not when they are applied.
    pub pipelined: bool,
    /// Bytes of those that may be on their way so, for one worker. Beyond that others are answered when theirs are applied.
    pub pipelined_bytes_max: usize,
}

impl Default for Reservations {
    fn default() -> Self {
        // A region's go with one entry when it is handed over; of the usual size they are some two thousand.
        let limits = HeldLimits { region_bytes_max: 512 << 10, store_bytes_max: 64 << 20 };
        // Of the usual size some tens of thousands: more than a log takes up in the time that a round trip needs.
        Self { in_memory: true, limits, pipelined: true, pipelined_bytes_max: 8 << 20 }
    }
}

/// What a read has to know of locks in memory, if it looks at locks that reserve keys. To be asked before a view is taken.
pub(crate) fn held_for(held: &HeldLocks, region_id: RegionId, read: &TxnRead) -> Option<Box<HeldView>> {
    match read {
        TxnRead::Locks { range, up_to, .. } => Some(Box::new(held.look_for(region_id, range, *up_to))),
        TxnRead::History { key } => Some(Box::new(held.view(region_id, std::slice::from_ref(key)))),
        // What reserves a key hides nothing of it.
        TxnRead::Get { .. }
        | TxnRead::BatchGet { .. }
        | TxnRead::Scan { .. }
        | TxnRead::KeyChanges { .. }
        | TxnRead::RangeChanges { .. } => None,
    }
}

/// The locks that count under this leadership; `None` as of [`HeldView::under`].
pub(crate) fn held_under(held: &HeldView, term: Term, version: u64) -> Option<mvcc::HeldLocks> {
    let locks = held.under(term, version)?.iter();
    let lock = |value| Lock::from_bytes(value).expect("it was encoded here");
    Some(locks.map(|(key, value)| (key.clone(), lock(value))).collect())
}
