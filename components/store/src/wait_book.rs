//! Who waits for locks at this store, as the placement driver is told.
//!
//! The placement driver's leader looks for deadlocks among the waits of all stores. It is told what has changed, in reports
//! that follow one another; when one is lost, or another member leads, the next one says all there is. Reports are sent one
//! at a time by the store's agent: what changes meanwhile goes with the next.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{MonoTime, StoreId};
use wire::pd::{LockWait, PdRequest};
use wire::txn::WaitEdge;

/// Waits in one report.
const REPORT_MAX: usize = 1024;
/// How long after a report that was not heard of the next one is sent.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Shared by all threads of a store.
pub struct WaitBook {
    inner: Mutex<Inner>,
    wake: Box<dyn Fn() + Send + Sync>,
}

struct Held {
    edge: WaitEdge,
    until: MonoTime,
}

#[derive(Default)]
struct Inner {
    waits: BTreeMap<u64, Held>,
    /// Whose wait has begun, changed or ended since it was reported.
    news: BTreeSet<u64>,
    /// What the placement driver takes to wait.
    told: BTreeSet<u64>,
    /// The last report that was sent, and the last that was taken: zero if all is to be said again.
    sent: u64,
    taken: u64,
    is_under_way: bool,
    /// When the last report left, and when the next one may.
    sent_at: MonoTime,
    next_at: MonoTime,
}

impl WaitBook {
    /// Nobody waits. `wake` is called, by any thread, when there is something to report.
    #[must_use]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { inner: Mutex::default(), wake: Box::new(wake) }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.lock().waits.len()
    }

    /// A request waits, or waits for somebody else than before.
    pub(crate) fn waits(&self, id: u64, edge: WaitEdge, until: MonoTime) {
        let mut inner = self.inner.lock();
        inner.waits.insert(id, Held { edge, until });
        inner.news.insert(id);
        drop(inner);
        (self.wake)();
    }

    /// It does not any more.
    pub(crate) fn ended(&self, id: u64) {
        let mut inner = self.inner.lock();
        inner.waits.remove(&id);
        // What was never told need not be taken back.
        let is_known = inner.told.contains(&id);
        match is_known {
            true => inner.news.insert(id),
            false => inner.news.remove(&id),
        };
        drop(inner);
        if is_known {
            (self.wake)();
        }
    }

    /// When a report is due.
    pub(crate) fn next_report(&self) -> MonoTime {
        let inner = self.inner.lock();
        match inner.is_under_way || inner.news.is_empty() {
            true => MonoTime::MAX,
            false => inner.next_at,
        }
    }

    /// The report that is due.
    pub(crate) fn report(&self, store_id: StoreId, now: MonoTime) -> PdRequest {
        let mut inner = self.inner.lock();
        inner.is_under_way = true;
        inner.sent_at = now;
        inner.sent += 1;
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for _ in 0..REPORT_MAX {
            let Some(id) = inner.news.pop_first() else { break };
            match inner.waits.get(&id) {
                Some(Held { edge, until }) => {
                    let left_ms = u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX);
                    added.push(LockWait { id, edge: edge.clone(), left_ms });
                    inner.told.insert(id);
                }
                None => {
                    removed.push(id);
                    inner.told.remove(&id);
                }
            }
        }
        PdRequest::ReportLockWaits { store_id, report: inner.sent, after: inner.taken, added, removed }
    }

    /// The report that was under way was taken, or not (`None`: it was not heard of).
    pub(crate) fn on_answer(&self, is_taken: Option<bool>) {
        let mut inner = self.inner.lock();
        inner.is_under_way = false;
        if is_taken == Some(true) {
            inner.taken = inner.sent;
            return;
        }
        inner.taken = 0;
        inner.told.clear();
        inner.news = inner.waits.keys().copied().collect();
        if is_taken.is_none() {
            inner.next_at = inner.sent_at + RETRY_AFTER;
        }
    }
}

impl std::fmt::Debug for WaitBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaitBook").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Key, Timestamp};

    fn edge(waiter: u64, holder: u64) -> WaitEdge {
        WaitEdge { waiter_ts: Timestamp(waiter), lock_ts: Timestamp(holder), key: Key::from_static(b"k") }
    }

    fn at(ms: u64) -> MonoTime {
        MonoTime::ZERO + Duration::from_millis(ms)
    }

    /// The report's number and the one that it follows; who waits for whom; who does not any more.
    fn told(book: &WaitBook, now: MonoTime) -> (u64, u64, Vec<(u64, u64)>, Vec<u64>) {
        assert!(book.next_report() <= now, "nothing is due");
        let PdRequest::ReportLockWaits { report, after, added, removed, .. } = book.report(StoreId(1), now)
        else {
            unreachable!("a report is a report")
        };
        (report, after, added.iter().map(|wait| (wait.id, wait.edge.lock_ts.0)).collect(), removed)
    }

    #[test]
    fn a_report_says_what_has_changed_since_the_last_one_that_was_taken() {
        let book = WaitBook::new(|| {});
        assert_eq!(book.next_report(), MonoTime::MAX);
        book.waits(1, edge(10, 20), at(500));
        book.waits(2, edge(11, 20), at(500));
        book.ended(2);
        assert_eq!(told(&book, at(0)), (1, 0, vec![(1, 20)], vec![]));
        book.waits(3, edge(12, 20), at(500));
        assert_eq!(book.next_report(), MonoTime::MAX, "one at a time");
        book.on_answer(Some(true));
        book.waits(1, edge(10, 30), at(500));
        assert_eq!(told(&book, at(1)), (2, 1, vec![(1, 30), (3, 20)], vec![]));
        book.on_answer(Some(true));
        book.ended(1);
        assert_eq!(told(&book, at(2)), (3, 2, vec![], vec![1]));
        book.on_answer(Some(true));
        assert_eq!((book.next_report(), book.waiting()), (MonoTime::MAX, 1));
    }

    /// Another member of the placement driver leads, and then nobody does: all is said again, after a while if nobody heard.
    #[test]
    fn after_a_report_that_was_not_taken_the_next_one_says_all() {
        let book = WaitBook::new(|| {});
        book.waits(1, edge(10, 20), at(500));
        told(&book, at(0));
        book.on_answer(Some(true));
        book.waits(2, edge(11, 20), at(500));
        assert_eq!(told(&book, at(1)), (2, 1, vec![(2, 20)], vec![]));
        book.on_answer(Some(false));
        assert_eq!(told(&book, at(1)), (3, 0, vec![(1, 20), (2, 20)], vec![]));
        book.on_answer(None);
        assert_eq!(book.next_report(), at(201));
        assert_eq!(told(&book, at(201)), (4, 0, vec![(1, 20), (2, 20)], vec![]));
    }
}
