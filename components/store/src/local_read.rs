//! Reads under a lease: no message, no worker, no lock on the way.

use crate::concurrency::{ConcurrencyManager, ViewMark};
use crate::execute::{Query, ReadLimits, execute};
use crate::oracle::Oracle;
use crate::seeded_bug::{Bugs, SeededBug};
use engine::{Engine, EngineError};
use env::{Clock, sim_point};
use raftstore::{Delegate, StoreMeta};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Epoch, RegionId};
use wire::kv::{KvCommand, KvError, KvReply};

/// One reading thread's view of who may read alone.
pub struct LocalReader<E: Engine> {
    engine: E,
    meta: Arc<StoreMeta>,
    concurrency: Arc<ConcurrencyManager>,
    oracle: Arc<Oracle>,
    limits: ReadLimits,
    /// Copies of delegates, good as long as the store's version is `seen`.
    delegates: BTreeMap<RegionId, Arc<Delegate>>,
    seen: u64,
    /// Shared by the reads of one batch, those excepted that began too late for it.
    snapshot: Option<(ViewMark, E::Snapshot)>,
    bugs: Bugs,
}

/// What the first half of a read has found, good as long as nobody who leads here changes.
pub struct ReadView {
    delegate: Arc<Delegate>,
    /// The store's version by which the delegate is good.
    version: u64,
}

impl<E: Engine> LocalReader<E> {
    /// A reader of this engine.
    #[must_use]
    pub fn new(
        engine: E,
        meta: Arc<StoreMeta>,
        concurrency: Arc<ConcurrencyManager>,
        oracle: Arc<Oracle>,
        limits: ReadLimits,
    ) -> Self {
        let (seen, bugs) = (meta.version(), Bugs::default());
        let (delegates, snapshot) = Default::default();
        Self { engine, meta, concurrency, oracle, limits, delegates, seen, snapshot, bugs }
    }

    /// One that breaks rules on purpose.
    #[must_use]
    pub fn breaking(self, bugs: Bugs) -> Self {
        Self { bugs, ..self }
    }

    /// Forgets the snapshot of the batch before. Call it when a batch begins: a read must not be served from a snapshot
    /// that is older than its arrival.
    pub fn begin_batch(&mut self) {
        if !self.bugs.has(SeededBug::ViewOfEarlierRead) {
            self.snapshot = None;
        }
    }

    /// Serves a read if a lease allows it; `None` if it must go through the leader's worker.
    ///
    /// # Errors
    /// [`EngineError`] when the data cannot be read.
    pub fn read(
        &mut self,
        clock: &dyn Clock,
        region_id: RegionId,
        epoch: Epoch,
        query: Query<'_>,
    ) -> Result<Option<Result<KvReply, KvError>>, EngineError> {
        match self.look(clock, region_id, epoch, Some(query)) {
            Some(view) => self.answer(clock, view, query),
            None => Ok(None),
        }
    }

    /// A view of a region for a command, and who vouches for it, if a lease allows it.
    pub fn view(
        &mut self,
        clock: &dyn Clock,
        region_id: RegionId,
        epoch: Epoch,
    ) -> Option<(&E::Snapshot, Arc<Delegate>)> {
        let view = self.look(clock, region_id, epoch, None)?;
        let delegate = self.vouch(clock, view)?;
        self.snapshot.as_ref().map(|(_, snapshot)| (snapshot, delegate))
    }

    /// The first half of a read: who may answer it, and the view that it is answered from. `None` if it must go through
    /// the leader's worker.
    ///
    /// The order is what makes it right: delegate, engine snapshot, and in the second half the clock, and then once more
    /// whether the delegate was still good. So at the moment of the snapshot nobody else could have led, moved or cut the
    /// region. Whatever happens between the halves, the second one notices what matters. A read at a timestamp has been
    /// announced to the [`ConcurrencyManager`] before, and who looks at locks has seen those that are held.
    pub fn look(
        &mut self,
        clock: &dyn Clock,
        region_id: RegionId,
        epoch: Epoch,
        read: Option<Query<'_>>,
    ) -> Option<ReadView> {
        let version = self.meta.version();
        if version != self.seen {
            self.delegates.clear();
            // It may have been taken before somebody else's writes reached us.
            self.snapshot = None;
            self.seen = version;
        }
        let delegate = match self.delegates.get(&region_id) {
            Some(delegate) => delegate.clone(),
            None => {
                // Only what is there is kept: clients may ask for regions without end.
                let delegate = self.meta.delegate(region_id)?;
                self.delegates.insert(region_id, delegate.clone());
                delegate
            }
        };
        let any_epoch = self.bugs.has(SeededBug::ReadIgnoresEpoch);
        if delegate.region.epoch.version != epoch.version && !any_epoch {
            return None;
        }
        if self.bugs.has(SeededBug::LeaseBeforeView) {
            self.snapshot = None;
            return delegate.covers(clock.now()).then_some(ReadView { delegate, version });
        }
        if let (Some((mark, _)), Some(Query { command: KvCommand::TxnRead(read), held, .. })) =
            (&self.snapshot, read)
            && (held.is_some() || !self.concurrency.is_good_for(*mark, read))
            && !self.bugs.has(SeededBug::ViewBeforeAnnouncement)
        {
            self.snapshot = None;
        }
        self.snapshot.get_or_insert_with(|| (self.concurrency.mark(), self.engine.snapshot()));
        Some(ReadView { delegate, version })
    }

    /// The second half of a read: it is answered if its delegate is still good and the lease covers this moment.
    ///
    /// # Errors
    /// [`EngineError`] when the data cannot be read.
    pub fn answer(
        &mut self,
        clock: &dyn Clock,
        view: ReadView,
        query: Query<'_>,
    ) -> Result<Option<Result<KvReply, KvError>>, EngineError> {
        let (limits, guarded) = (self.limits, self.meta.guarded_to());
        let Some(delegate) = self.vouch(clock, view) else { return Ok(None) };
        let Some((_, snapshot)) = &self.snapshot else { return Ok(None) };
        let time = (&*self.oracle, clock);
        execute(snapshot, &delegate.region, delegate.term, query, limits, guarded, &time).map(Some)
    }

    /// Who vouches for the view, if its delegate is still good and the lease covers this moment.
    fn vouch(&mut self, clock: &dyn Clock, view: ReadView) -> Option<Arc<Delegate>> {
        let ReadView { delegate, version } = view;
        let was_covered = self.bugs.has(SeededBug::LeaseBeforeView);
        if was_covered {
            self.snapshot = Some((self.concurrency.mark(), self.engine.snapshot()));
        }
        let now = clock.now();
        let covered = was_covered || delegate.covers(now) || self.bugs.has(SeededBug::LeaseNeverEnds);
        if self.meta.version() != version || !covered || sim_point!("store.read_by_turn") {
            return None;
        }
        delegate.note_use();
        Some(delegate)
    }
}
