//! Locks that only the memory of their region's leader has.
//!
//! A lock that reserves a key helps its transaction: whoever would write the key meanwhile waits. Nothing rests on it, for
//! a transaction that writes the key looks at it again and is refused if its lock was lost and somebody else has written.
//! So it need not be replicated. The leader keeps it here instead, as long as it leads in that term and the region is
//! uncut; everybody who looks at locks of the region's keys looks here too.
//!
//! What holds (INV-TXN-18): a lock is held under one leadership, that is in one term and under one version of the region,
//! and counts under no other. It passes on in two ways. A leader that hands over proposes its locks before, and
//! takes no new ones ([`HeldLocks::hand_over`]). When a region is cut its locks go to the pieces
//! ([`HeldLocks::split`]), where they count if the piece's first leader is ours: it has had no other. Whoever loses its
//! leadership otherwise loses its locks.
//!
//! A key is locked here or in the engine (INV-TXN-19). While a write that changes the lock is on its way through the log, it is
//! in both, or was; it stays marked until it is known what became of the write, is not proposed by a leader that hands over,
//! since it would come after the write, and does not go to a piece.
//!
//! This knows no transaction beyond when it began: a lock is bytes here, as it would be in the engine.

use crate::command::{Change, WriteItem};
use crate::seeded_bug::{Bugs, SeededBug};
use crate::sync::{AtomicU64, Mutex, Ordering};
use bytes::Bytes;
use engine::Cf;
use std::collections::BTreeMap;
use types::{Key, KeyRange, Region, RegionId, Term, Timestamp};

/// What a lock weighs beside its key and its bytes.
const ENVELOPE: usize = 128;

/// How much may be held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldLimits {
    /// Bytes of one region's locks. They are proposed in one entry when its leader hands over.
    pub region_bytes_max: usize,
    /// Bytes of all locks of a store.
    pub store_bytes_max: usize,
}

/// Why locks cannot be held: they are to be proposed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NotHeld {
    /// The region is led otherwise than when it was decided, or is being handed over.
    LeaderMoves,
    /// The key's lock is on its way to the engine, or has come there.
    Moving,
    /// Somebody has looked for all locks of this age.
    LookedFor,
    /// The region's locks take as much room as they may.
    RegionFull,
    /// The store's do.
    StoreFull,
}

impl NotHeld {
    /// All there are, with their names.
    pub const ALL: [(Self, &str); 5] = [
        (Self::LeaderMoves, "leader_moves"),
        (Self::Moving, "moving"),
        (Self::LookedFor, "looked_for"),
        (Self::RegionFull, "region_full"),
        (Self::StoreFull, "store_full"),
    ];
}

/// A lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldLock {
    /// When its transaction began.
    pub start_ts: Timestamp,
    /// As it would be in the engine.
    pub value: Bytes,
}

/// A lock, as it is held now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldNow {
    /// The region that it is held for.
    pub region_id: RegionId,
    /// Its key.
    pub key: Key,
    /// It.
    pub lock: HeldLock,
    /// A write that changes it, or that brings it to the engine, is on its way: else the engine has no lock of the key
    /// (INV-TXN-19).
    pub is_moving: bool,
}

fn size_of(key: &Key, value: &Bytes) -> usize {
    key.len() + value.len() + ENVELOPE
}

/// Some locks of a region, as they were held when somebody looked.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HeldView {
    /// Under which term and version; `None` if the region was not led here.
    led: Option<(Term, u64)>,
    locks: Vec<(Key, Bytes)>,
}

impl HeldView {
    /// The locks, for a view of the engine that was taken later under this leadership. `None` if that is another one than
    /// when somebody looked here: it may have inherited locks since.
    #[must_use]
    pub fn under(&self, term: Term, version: u64) -> Option<&[(Key, Bytes)]> {
        (self.led == Some((term, version))).then_some(&*self.locks)
    }
}

/// What is held, and what was.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HeldStats {
    /// Locks.
    pub locks: u64,
    /// What they weigh, in bytes.
    pub bytes: u64,
    /// Changes of locks that were made here instead of in the log, ever.
    pub absorbed: u64,
    /// Those that were not, ever, by reason, in the order of [`NotHeld::ALL`].
    pub refused: [u64; NotHeld::ALL.len()],
    /// Locks that were proposed by leaders that handed over, ever.
    pub handed_over: u64,
    /// Locks that were lost with their leadership, ever.
    pub lost: u64,
}

struct Entry {
    lock: HeldLock,
    /// A write that changes it is on its way through the log.
    is_changing: bool,
    /// It is on its way to the engine as it is.
    is_handed_over: bool,
}

impl Entry {
    const fn is_marked(&self) -> bool {
        self.is_changing || self.is_handed_over
    }
}

struct Table {
    term: Term,
    version: u64,
    /// Takes new locks.
    is_open: bool,
    /// Somebody has looked for all locks of transactions that began by then, and refuses them more.
    looked_for: Timestamp,
    locks: BTreeMap<Key, Entry>,
    bytes: usize,
}

#[derive(Default)]
struct Inner {
    tables: BTreeMap<RegionId, Table>,
    stats: HeldStats,
}

/// The locks that a store holds, by region. One mutex, under which nothing is read or written elsewhere.
#[derive(Default)]
pub struct HeldLocks {
    inner: Mutex<Inner>,
    /// How many locks there are, for those who need not look when there is none.
    count: AtomicU64,
    bugs: Bugs,
}

impl HeldLocks {
    /// One that breaks rules on purpose.
    #[must_use]
    pub fn breaking(self, bugs: Bugs) -> Self {
        Self { bugs, ..self }
    }

    /// What is held, and what was.
    #[must_use]
    pub fn stats(&self) -> HeldStats {
        self.inner.lock().stats
    }

    /// True if no lock is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// The locks of these keys. To be called with the latches of the keys held, and before a view of the engine is taken: a
    /// lock goes from here to the engine, and never back.
    #[must_use]
    pub fn view(&self, region_id: RegionId, keys: &[Key]) -> HeldView {
        let inner = self.inner.lock();
        let Some(table) = inner.tables.get(&region_id) else { return HeldView::default() };
        let held = keys.iter().filter_map(|key| Some((key, table.locks.get(key)?)));
        table.view(held)
    }

    /// The locks of a range, for somebody who looks for all those of transactions that began by `up_to`; the last timestamp of
    /// all stands for nobody in particular. No such transaction gets more locks here: those who look have seen to it that
    /// the log refuses them. To be called before a view of the engine is taken.
    #[must_use]
    pub fn look_for(&self, region_id: RegionId, range: &KeyRange, up_to: Timestamp) -> HeldView {
        let mut inner = self.inner.lock();
        let Some(table) = inner.tables.get_mut(&region_id) else { return HeldView::default() };
        if up_to != Timestamp(u64::MAX) {
            table.looked_for = up_to.max(table.looked_for);
        }
        let inside = table.locks.range(range.start.clone()..).take_while(|(key, _)| range.contains(key));
        table.view(inside.filter(|(_, entry)| entry.lock.start_ts <= up_to))
    }

    /// Makes these changes here, all or none, instead of in the log: each sets or removes the lock of a key, for the transaction
    /// that began at `start_ts`. When that was decided the locks of the keys in `seen` stood here, and of the others the
    /// engine had none. To be called with the latches of the keys held.
    ///
    /// # Errors
    /// [`NotHeld`]: nothing was changed.
    ///
    /// # Panics
    /// When another transaction has a key's lock (INV-TXN-2).
    pub fn absorb(
        &self,
        region_id: RegionId,
        (term, version): (Term, u64),
        start_ts: Timestamp,
        changes: &[Change],
        seen: &[Key],
        limits: HeldLimits,
    ) -> Result<(), NotHeld> {
        let mut inner = self.inner.lock();
        let Inner { tables, stats } = &mut *inner;
        let table = tables.get_mut(&region_id).filter(|table| (table.term, table.version) == (term, version));
        let fits = table.as_ref().ok_or(NotHeld::LeaderMoves).and_then(|table| {
            let left =
                limits.store_bytes_max.saturating_sub(usize::try_from(stats.bytes).unwrap_or(usize::MAX));
            // Since then a lock may have come to the engine.
            match seen.iter().all(|key| table.locks.contains_key(key)) {
                true => table.check(start_ts, changes, limits.region_bytes_max, left),
                false => Err(NotHeld::Moving),
            }
        });
        match (fits, table) {
            (Ok(()), Some(table)) => {
                for change in changes {
                    match change {
                        Change::Put { key, value, .. } => {
                            let lock = HeldLock { start_ts, value: value.clone() };
                            table.insert(key.clone(), lock, stats);
                        }
                        Change::Delete { key, .. } | Change::DeleteIf { key, .. } => table.remove(key, stats),
                    }
                }
                stats.absorbed += changes.len() as u64;
                self.count.store(stats.locks, Ordering::SeqCst);
                Ok(())
            }
            (fits, _) => {
                let reason = fits.err().unwrap_or(NotHeld::LeaderMoves);
                let place = NotHeld::ALL.iter().position(|(other, _)| *other == reason);
                stats.refused[place.expect("all there are")] += 1;
                Err(reason)
            }
        }
    }

    /// It is known what became of a write that changes the locks of these keys: it was applied, so that the engine says
    /// what there is to say, or never will be. To be called before the latches of the keys go.
    pub fn settle(&self, region_id: RegionId, keys: &[Key], is_applied: bool) {
        self.change(region_id, |table, stats| {
            for key in keys {
                let Some(entry) = table.locks.get_mut(key) else { continue };
                // What was handed over meanwhile has come to the engine by the time that others are taken again.
                let is_elsewhere = entry.is_handed_over && table.is_open;
                entry.is_changing = false;
                if is_applied || is_elsewhere {
                    table.remove(key, stats);
                }
            }
        });
    }

    /// All that is held, for checkers.
    #[must_use]
    pub fn all(&self) -> Vec<HeldNow> {
        let inner = self.inner.lock();
        let of_table = |(id, table): (&RegionId, &Table)| {
            let now = |(key, entry): (&Key, &Entry)| HeldNow {
                region_id: *id,
                key: key.clone(),
                lock: entry.lock.clone(),
                is_moving: entry.is_marked(),
            };
            table.locks.iter().map(now).collect::<Vec<_>>()
        };
        inner.tables.iter().flat_map(of_table).collect()
    }

    /// We lead the region from now on, under this leadership, and have these locks of it.
    pub(crate) fn open(&self, region_id: RegionId, term: Term, version: u64, locks: Vec<(Key, HeldLock)>) {
        let mut inner = self.inner.lock();
        let Inner { tables, stats } = &mut *inner;
        let (looked_for, nothing) = (Timestamp(0), BTreeMap::new());
        let new = Table { term, version, is_open: true, looked_for, locks: nothing, bytes: 0 };
        let table = tables.entry(region_id).or_insert(new);
        // Only what breaks the rule leaves a table behind.
        (table.term, table.version, table.is_open) = (term, version, true);
        for (key, lock) in locks {
            table.insert(key, lock, stats);
        }
        self.count.store(stats.locks, Ordering::SeqCst);
    }

    /// We do not lead the region any more.
    pub(crate) fn close(&self, region_id: RegionId) {
        if self.bugs.has(SeededBug::LocksOutliveLeader) {
            return;
        }
        let mut inner = self.inner.lock();
        let Inner { tables, stats } = &mut *inner;
        let Some(mut table) = tables.remove(&region_id) else { return };
        stats.lost += table.locks.values().filter(|entry| !entry.is_marked()).count() as u64;
        for key in table.locks.keys().cloned().collect::<Vec<_>>() {
            table.remove(&key, stats);
        }
        self.count.store(stats.locks, Ordering::SeqCst);
    }

    /// We are about to hand the region over: it takes no more locks, and these writes bring those that it has to the engine.
    pub(crate) fn hand_over(&self, region_id: RegionId) -> Vec<WriteItem> {
        let mut by_transaction: BTreeMap<Timestamp, Vec<Change>> = BTreeMap::new();
        self.change(region_id, |table, stats| {
            table.is_open = false;
            let any = self.bugs.has(SeededBug::ChangingLocksHandedOver);
            for (key, entry) in table.locks.iter_mut().filter(|(_, entry)| !entry.is_marked() || any) {
                entry.is_handed_over = true;
                stats.handed_over += 1;
                let (key, value) = (key.clone(), entry.lock.value.clone());
                let change = Change::Put { family: Cf::Lock as u8, key, value };
                by_transaction.entry(entry.lock.start_ts).or_default().push(change);
            }
        });
        let item = |(start_ts, changes)| WriteItem::OfTxn { start_ts, gets_locks: true, changes };
        by_transaction.into_iter().map(item).collect()
    }

    /// The region was not handed over. What was proposed before is in the engine, unless it `was_refused`: then it is here as
    /// before.
    pub(crate) fn keep(&self, region_id: RegionId, was_refused: bool) {
        self.change(region_id, |table, stats| {
            table.is_open = true;
            let handed = table.locks.iter_mut().filter(|(_, entry)| entry.is_handed_over);
            let mut gone = Vec::new();
            for (key, entry) in handed {
                match was_refused {
                    true => entry.is_handed_over = false,
                    false if entry.is_changing => {}
                    false => gone.push(key.clone()),
                }
            }
            gone.iter().for_each(|key| table.remove(key, stats));
        });
    }

    /// Writes that change the locks of these keys were proposed.
    pub(crate) fn proposed<'a>(&self, region_id: RegionId, keys: impl Iterator<Item = &'a Key>) {
        self.change(region_id, |table, _| {
            for key in keys {
                if let Some(entry) = table.locks.get_mut(key) {
                    entry.is_changing = true;
                }
            }
        });
    }

    /// The region that we lead was cut: it has another version, and these pieces of it are regions of their own, whose locks are
    /// given back, in their order. What a write changes, or did, is not among them, and is not kept: if the write was
    /// proposed before the cut the engine says what there is to say, and after it nobody knows what becomes of it.
    pub(crate) fn split(&self, region: &Region, pieces: &[Region]) -> Vec<Vec<(Key, HeldLock)>> {
        let mut of_pieces = vec![Vec::new(); pieces.len()];
        self.change(region.id, |table, stats| {
            table.version = region.epoch.version;
            let marked =
                table.locks.iter().filter(|(_, entry)| entry.is_marked()).map(|(key, _)| key.clone());
            marked.collect::<Vec<_>>().iter().for_each(|key| table.remove(key, stats));
            for (piece, locks) in pieces.iter().zip(&mut of_pieces) {
                let inside = table.locks.iter().filter(|(key, _)| piece.range.contains(key));
                *locks = inside.map(|(key, entry)| (key.clone(), entry.lock.clone())).collect();
                locks.iter().for_each(|(key, _)| table.remove(key, stats));
                if self.bugs.has(SeededBug::SplitForgetsLocks) {
                    locks.clear();
                }
            }
        });
        of_pieces
    }

    fn change(&self, region_id: RegionId, change: impl FnOnce(&mut Table, &mut HeldStats)) {
        let mut inner = self.inner.lock();
        let Inner { tables, stats } = &mut *inner;
        if let Some(table) = tables.get_mut(&region_id) {
            change(table, stats);
            self.count.store(stats.locks, Ordering::SeqCst);
        }
    }
}

impl std::fmt::Debug for HeldLocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldLocks").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Table {
    fn view<'a>(&self, locks: impl Iterator<Item = (&'a Key, &'a Entry)>) -> HeldView {
        let locks = locks.map(|(key, entry)| (key.clone(), entry.lock.value.clone())).collect();
        HeldView { led: Some((self.term, self.version)), locks }
    }

    /// Whether these changes can be made, with so much room in the region and so much left in the store.
    fn check(
        &self,
        start_ts: Timestamp,
        changes: &[Change],
        room: usize,
        left: usize,
    ) -> Result<(), NotHeld> {
        let (mut grows, mut shrinks) = (0, 0);
        for change in changes {
            let held = self.locks.get(change.key());
            if let Some(Entry { lock, .. }) = held {
                assert_eq!(lock.start_ts, start_ts, "INV-TXN-2: another transaction has {:?}", change.key());
                shrinks += size_of(change.key(), &lock.value);
            }
            match (change, held) {
                (_, Some(entry)) if entry.is_marked() => return Err(NotHeld::Moving),
                (Change::Delete { .. } | Change::DeleteIf { .. }, Some(_)) => {}
                (Change::Delete { .. } | Change::DeleteIf { .. }, None) => return Err(NotHeld::Moving),
                (Change::Put { .. }, _) if !self.is_open => return Err(NotHeld::LeaderMoves),
                (Change::Put { .. }, None) if start_ts <= self.looked_for => return Err(NotHeld::LookedFor),
                (Change::Put { key, value, .. }, _) => grows += size_of(key, value),
            }
        }
        match grows.saturating_sub(shrinks) {
            0 => Ok(()),
            more if self.bytes + more > room => Err(NotHeld::RegionFull),
            more if more > left => Err(NotHeld::StoreFull),
            _ => Ok(()),
        }
    }

    fn insert(&mut self, key: Key, lock: HeldLock, stats: &mut HeldStats) {
        self.remove(&key, stats);
        let size = size_of(&key, &lock.value);
        self.bytes += size;
        (stats.locks, stats.bytes) = (stats.locks + 1, stats.bytes + size as u64);
        self.locks.insert(key, Entry { lock, is_changing: false, is_handed_over: false });
    }

    fn remove(&mut self, key: &Key, stats: &mut HeldStats) {
        if let Some(Entry { lock, .. }) = self.locks.remove(key) {
            let size = size_of(key, &lock.value);
            self.bytes -= size;
            (stats.locks, stats.bytes) = (stats.locks - 1, stats.bytes - size as u64);
        }
    }
}
