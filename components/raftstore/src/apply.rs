//! Committed entries become data: one batch over many regions, the apply records in the same batch.
//!
//! What an entry does depends on replicated state alone, so that every replica does the same: no clock, no local
//! configuration. A command that does not apply (its epoch is over, its change is invalid) is consumed all the same.

mod raw;

use crate::command::{Change, Command, WriteItem};
use crate::effects::Token;
use crate::membership::{self, ChangeError};
use crate::meta::StoreMeta;
use crate::records::{
    self, ApplyRecord, GcRecord, LOG_START, PeerState, RegionRecord, RemovedPeer, gc_record, put_apply,
    put_gc, put_region, region_record,
};
use crate::seeded_bug::{Bugs, SeededBug};
use crate::stages::EntryTimes;
use bytes::Bytes;
use codec::Decode;
use engine::{Cf, Engine, EngineError, WriteBatch};
use raft::{ConfChange, ConfChangeKind, Entries, Entry, EntryId, EntryKind};
use raw::Swap;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Key, KeyRange, LogIndex, Peer, PeerId, PeerRole, Region, RegionId, Timestamp};
use wire::kv::{KvError, KvReply};
use wire::pd::SplitIds;
use wire::txn::TxnFault;

/// Who awaits the outcome of an entry, in the order of its items.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The entry.
    pub id: EntryId,
    /// One for each item of a write; one for the whole of any other command; none if nobody waits.
    pub tokens: Vec<Token>,
    /// How it came here.
    pub times: EntryTimes,
}

/// What an applier is asked to do, region by region in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ApplyTask {
    /// A region begins (or begins anew, after a snapshot) here.
    Register {
        /// As it is on disk.
        record: RegionRecord,
        /// How far it is applied.
        apply: ApplyRecord,
    },
    /// Apply these.
    Entries {
        /// The region.
        region_id: RegionId,
        /// In order, right after those before.
        entries: Entries,
        /// Who awaits some of them, in order of their indexes.
        proposals: Vec<Proposal>,
    },
    /// A peer that was removed is known to be gone.
    Confirmed {
        /// The region.
        region_id: RegionId,
        /// The peer.
        peer_id: PeerId,
    },
    /// Apply nothing more for this region, and say so.
    Stop {
        /// The region.
        region_id: RegionId,
    },
}

/// A change of a region, as its entry made it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegionChange {
    /// It was cut.
    Split {
        /// The region as it is now: the last piece.
        region: Region,
        /// The other pieces, in key order.
        children: Vec<NewRegion>,
    },
    /// Its members changed.
    Members {
        /// What Raft is to do.
        change: ConfChange,
        /// The region's record now; `None` if the change did not apply and Raft is to do nothing.
        record: Option<RegionRecord>,
    },
    /// Its log was compacted.
    Compacted {
        /// The last entry that need not be kept.
        to: EntryId,
    },
}

/// A piece of a region that was cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewRegion {
    /// As it is on disk; `None` if this store must not make it, because a later peer of it was here already.
    pub record: Option<RegionRecord>,
    /// The region.
    pub region: Region,
}

/// What became of the entries of one region in one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApplyOutcome {
    /// The region.
    pub region_id: RegionId,
    /// The last entry applied.
    pub applied: EntryId,
    /// Changes of the region, in order.
    pub changes: Vec<RegionChange>,
    /// Bytes of keys and values that were written.
    pub bytes_written: u64,
    /// Bytes of entries that are done with.
    pub bytes_applied: u64,
    /// The region applies nothing more: it was told to stop.
    pub stopped: bool,
}

/// One batch of an applier. Write it, and only then let the answers and outcomes go.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ApplyBatch {
    /// Data and apply records of all regions concerned.
    pub batch: WriteBatch,
    /// Answers to those who wait.
    pub replies: Vec<(Token, Result<KvReply, KvError>)>,
    /// How the entries came here that are answered: the place of the first of their answers, in order.
    pub times: Vec<(usize, EntryTimes)>,
    /// For the workers.
    pub outcomes: Vec<ApplyOutcome>,
}

#[derive(Debug)]
struct ApplyRegion {
    record: RegionRecord,
    apply: ApplyRecord,
    /// As in the engine with the open batch; `None` if nobody has asked yet.
    gc: Option<GcRecord>,
    /// We were removed, or told to stop: entries that still come are not ours to apply.
    removed: bool,
}

/// Applies the entries of the regions that are assigned to it.
#[derive(Debug)]
pub struct Applier<E> {
    engine: E,
    meta: Arc<StoreMeta>,
    regions: BTreeMap<RegionId, ApplyRegion>,
    /// What readers are told too late, for a [`SeededBug`].
    late: Timestamp,
    bugs: Bugs,
}

impl<E: Engine> Applier<E> {
    /// Without regions.
    #[must_use]
    pub fn new(engine: E, meta: Arc<StoreMeta>) -> Self {
        Self { engine, meta, regions: BTreeMap::new(), late: Timestamp(0), bugs: Bugs::default() }
    }

    /// One that breaks rules on purpose.
    #[must_use]
    pub fn breaking(self, bugs: Bugs) -> Self {
        Self { bugs, ..self }
    }

    /// Does what the tasks ask, in order.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot be read: the store must stop.
    pub fn apply(&mut self, tasks: Vec<ApplyTask>) -> Result<ApplyBatch, EngineError> {
        self.meta.guard(std::mem::take(&mut self.late));
        let (engine, meta, late) = (&self.engine, &*self.meta, &mut self.late);
        let mut turn =
            Turn { engine, meta, bugs: self.bugs, out: ApplyBatch::default(), overlay: None, late };
        for task in tasks {
            match task {
                ApplyTask::Register { record, apply } => {
                    let region = ApplyRegion { record, apply, gc: None, removed: false };
                    self.regions.insert(region.record.region.id, region);
                }
                ApplyTask::Confirmed { region_id, peer_id } => {
                    if let Some(region) = self.regions.get_mut(&region_id) {
                        region.record.removed.retain(|removed| removed.peer.id != peer_id);
                        put_region(&mut turn.out.batch, &region.record);
                    }
                }
                ApplyTask::Stop { region_id } => {
                    let applied = self.regions.remove(&region_id).map(|region| region.apply.applied);
                    turn.outcome(region_id, applied.unwrap_or_default()).stopped = true;
                }
                ApplyTask::Entries { region_id, entries, proposals } => {
                    let Some(region) = self.regions.get_mut(&region_id) else {
                        // Stopped: nothing can be said about what the entries would have done here.
                        turn.undetermined(proposals);
                        let bytes: u64 = entries.iter().map(Entry::size_bytes).sum();
                        turn.outcome(region_id, EntryId::default()).bytes_applied += bytes;
                        continue;
                    };
                    turn.entries(region, entries, proposals)?;
                }
            }
        }
        Ok(turn.out)
    }
}

/// One call of [`Applier::apply`].
struct Turn<'a, E> {
    engine: &'a E,
    meta: &'a StoreMeta,
    bugs: Bugs,
    out: ApplyBatch,
    /// What the open batch holds; made when a command first needs to read what it changes.
    overlay: Option<Overlay>,
    /// As of the applier.
    late: &'a mut Timestamp,
}

impl<E: Engine> Turn<'_, E> {
    fn outcome(&mut self, region_id: RegionId, applied: EntryId) -> &mut ApplyOutcome {
        // A region's tasks mostly follow each other, and outcomes of one region keep their order.
        if self.out.outcomes.last().is_none_or(|last| last.region_id != region_id) {
            self.out.outcomes.push(ApplyOutcome {
                region_id,
                applied,
                changes: Vec::new(),
                bytes_written: 0,
                bytes_applied: 0,
                stopped: false,
            });
        }
        let outcome = self.out.outcomes.last_mut().expect("pushed if there was none");
        outcome.applied = outcome.applied.max(applied);
        outcome
    }

    fn undetermined(&mut self, proposals: Vec<Proposal>) {
        for Proposal { tokens, times, .. } in proposals {
            self.out.times.push((self.out.replies.len(), times));
            let answer = |token| (token, Err(KvError::UndeterminedResult));
            self.out.replies.extend(tokens.into_iter().map(answer));
        }
    }

    fn entries(
        &mut self,
        region: &mut ApplyRegion,
        entries: Entries,
        proposals: Vec<Proposal>,
    ) -> Result<(), EngineError> {
        let region_id = region.record.region.id;
        let mut proposals = proposals.into_iter().peekable();
        let mut before_last = region.apply.applied;
        for entry in &entries {
            let (tokens, times) = match proposals.next_if(|proposal| proposal.id.index <= entry.index) {
                Some(proposal) => {
                    assert_eq!(proposal.id, entry.id(), "region {region_id}: proposal and entry differ");
                    (proposal.tokens, proposal.times)
                }
                None => <(Vec<Token>, EntryTimes)>::default(),
            };
            if region.removed {
                self.undetermined(vec![Proposal { id: entry.id(), tokens, times }]);
                self.outcome(region_id, region.apply.applied).bytes_applied += entry.size_bytes();
                continue;
            }
            assert_eq!(
                entry.index,
                region.apply.applied.index.next(),
                "INV-STORE-3: region {region_id} applies entries in order, each once"
            );
            if !tokens.is_empty() {
                self.out.times.push((self.out.replies.len(), times));
            }
            before_last = std::mem::replace(&mut region.apply.applied, entry.id());
            let bytes_before = self.out.batch.size_bytes();
            let change = match entry.kind {
                EntryKind::ConfChange => {
                    self.answer_all(&tokens, &Ok(KvReply::Started));
                    Some(self.members(region, entry))
                }
                EntryKind::Normal if entry.data.is_empty() => None,
                EntryKind::Normal => self.command(region, entry, &tokens)?,
            };
            let written = (self.out.batch.size_bytes() - bytes_before) as u64;
            let outcome = self.outcome(region_id, entry.id());
            outcome.bytes_written += written;
            outcome.bytes_applied += entry.size_bytes();
            outcome.changes.extend(change);
        }
        let mut apply = region.apply;
        if self.bugs.has(SeededBug::TruncationNotSaved) {
            apply.truncated = LOG_START;
        }
        if self.bugs.has(SeededBug::ConfChangeAppliedTwice)
            && entries.last().is_some_and(|entry| entry.kind == EntryKind::ConfChange)
        {
            apply.applied = before_last;
        }
        put_apply(&mut self.out.batch, region_id, apply);
        Ok(())
    }

    fn answer_all(&mut self, tokens: &[Token], answer: &Result<KvReply, KvError>) {
        self.out.replies.extend(tokens.iter().map(|token| (*token, answer.clone())));
    }

    fn command(
        &mut self,
        region: &mut ApplyRegion,
        entry: &Entry,
        tokens: &[Token],
    ) -> Result<Option<RegionChange>, EngineError> {
        let command = Command::from_bytes(&entry.data).map_err(|error| {
            // A committed entry that we cannot read: written by a newer version, or damaged. Going on would make this
            // replica differ from the others.
            let at = entry.id();
            EngineError::Corrupt(format!("entry {at:?} of region {}: {error}", region.record.region.id))
        })?;
        match command {
            Command::Write { version, items } => {
                let unchecked = self.bugs.has(SeededBug::EpochUncheckedAtApply);
                if version != region.record.region.epoch.version && !unchecked {
                    let current_regions = vec![region.record.region.clone()];
                    let acknowledged = self.bugs.has(SeededBug::StaleWriteAcknowledged);
                    let refusal = Err(KvError::EpochNotMatch { current_regions });
                    self.answer_all(tokens, &if acknowledged { Ok(KvReply::Written) } else { refusal });
                    return Ok(None);
                }
                assert!(tokens.is_empty() || tokens.len() == items.len(), "one token for each item, or none");
                let mut tokens = tokens.iter();
                for item in items {
                    let reply = self.write(region, &item)?;
                    if let Some(token) = tokens.next() {
                        self.out.replies.push((*token, reply));
                    }
                }
                Ok(None)
            }
            Command::Split { epoch, keys, ids } => {
                if epoch != region.record.region.epoch {
                    let current_regions = vec![region.record.region.clone()];
                    self.answer_all(tokens, &Err(KvError::EpochNotMatch { current_regions }));
                    return Ok(None);
                }
                match self.split(region, &keys, &ids)? {
                    Ok((change, regions)) => {
                        self.answer_all(tokens, &Ok(KvReply::Regions(regions)));
                        Ok(Some(change))
                    }
                    Err(message) => {
                        self.answer_all(tokens, &Err(KvError::InvalidRequest { message }));
                        Ok(None)
                    }
                }
            }
            Command::CompactLog { to } => {
                let unapplied = to.index >= region.apply.applied.index;
                let goes_on = to.index > region.apply.truncated.index && !unapplied;
                if goes_on {
                    region.apply.truncated = to;
                }
                self.answer_all(tokens, &Ok(KvReply::Compacted { to: region.apply.truncated.index }));
                Ok(goes_on.then_some(RegionChange::Compacted { to }))
            }
        }
    }

    /// Applies one item. The outer result is the engine's; the inner one is the same on every replica.
    fn write(
        &mut self,
        region: &mut ApplyRegion,
        item: &WriteItem,
    ) -> Result<Result<KvReply, KvError>, EngineError> {
        Ok(Ok(match item {
            WriteItem::Ops(ops) => {
                self.ops(region, ops, 0)?;
                KvReply::Written
            }
            WriteItem::OpsAt { now_ms, ops } => {
                self.ops(region, ops, *now_ms)?;
                KvReply::Written
            }
            WriteItem::CompareAndSwap { key, expected, new, now_ms } => {
                let new = new.as_ref();
                return self.swap(region, &Swap { key, expected, new, ttl_ms: None, now_ms: *now_ms });
            }
            WriteItem::CompareAndSwapFor { key, expected, new, ttl_ms, now_ms } => {
                let (new, ttl_ms) = (Some(new), Some(*ttl_ms));
                return self.swap(region, &Swap { key, expected, new, ttl_ms, now_ms: *now_ms });
            }
            WriteItem::RemoveEnded { now_ms, keys } => {
                self.remove_ended(keys, *now_ms)?;
                KvReply::Written
            }
            WriteItem::Changes(changes) => {
                for change in changes {
                    self.change(change)?;
                }
                KvReply::Written
            }
            WriteItem::OfTxn { start_ts, gets_locks, changes } => {
                if let Some(safe_point) = self.guards_against(region, *start_ts, *gets_locks, changes)? {
                    let fault = TxnFault::BelowSafePoint { at: *start_ts, safe_point };
                    return Ok(Err(KvError::Txn(Box::new(fault))));
                }
                for change in changes {
                    self.change(change)?;
                }
                KvReply::Written
            }
            WriteItem::Guard(raised) => {
                let region_id = region.record.region.id;
                let gc = self.gc_of(region)?;
                if gc.raise(raised) {
                    put_gc(&mut self.out.batch, region_id, gc);
                    let to = gc.latest();
                    self.guard(to);
                }
                KvReply::Written
            }
        }))
    }

    /// Readers are to look for the record that the open batch holds, before anybody can see what it says may go (INV-TXN-13).
    fn guard(&mut self, to: Timestamp) {
        match self.bugs.has(SeededBug::GuardToldLate) {
            true => *self.late = to.max(*self.late),
            false => self.meta.guard(to),
        }
    }

    /// Up to when old versions of the region's keys may be gone, as of all that was applied so far.
    fn gc_of<'r>(&self, region: &'r mut ApplyRegion) -> Result<&'r mut GcRecord, EngineError> {
        let found = match region.gc.take() {
            Some(found) => found,
            // Whatever is in the open batch of it was put there by way of this.
            None => gc_record(&self.engine.snapshot(), region.record.region.id)?,
        };
        Ok(region.gc.insert(found))
    }

    /// The safe point of a key that a transaction must not write any more that began then (INV-TXN-13).
    fn guards_against(
        &self,
        region: &mut ApplyRegion,
        start_ts: Timestamp,
        gets_locks: bool,
        changes: &[Change],
    ) -> Result<Option<Timestamp>, EngineError> {
        let gc = self.gc_of(region)?;
        let safe_points = if gets_locks { &gc.guarded } else { &gc.removed };
        let points = changes.iter().map(|change| safe_points.of_key(change.key()));
        Ok(points.filter(|safe_point| start_ts <= *safe_point).max())
    }

    fn change(&mut self, change: &Change) -> Result<(), EngineError> {
        let Some(cf) = change.cf() else {
            return Err(EngineError::Corrupt("an entry changes a family that holds no data".to_owned()));
        };
        match change {
            Change::Put { key, value, .. } => self.put(cf, key, value),
            Change::Delete { key, .. } => self.delete(cf, key),
            Change::DeleteIf { key, value, .. } => {
                // Who decided it saw an earlier state.
                if self.bugs.has(SeededBug::RemovesWhatIsNew) || self.read(cf, key)?.as_ref() == Some(value) {
                    self.delete(cf, key);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, cf: Cf, key: &Key, value: &Bytes) {
        self.out.batch.put(cf, key, value);
        if let Some(overlay) = &mut self.overlay {
            overlay.values.insert((cf, key.clone()), Some(value.clone()));
        }
    }

    fn delete(&mut self, cf: Cf, key: &Key) {
        self.out.batch.delete(cf, key);
        if let Some(overlay) = &mut self.overlay {
            overlay.values.insert((cf, key.clone()), None);
        }
    }

    /// What a key holds as of all that was applied so far, the open batch included.
    fn read(&mut self, cf: Cf, key: &Key) -> Result<Option<Bytes>, EngineError> {
        if self.bugs.has(SeededBug::CasIgnoresOpenBatch) {
            return self.engine.get(cf, key);
        }
        let overlay = self.overlay.get_or_insert_with(|| Overlay::of(&self.out.batch));
        match overlay.get(cf, key) {
            Some(value) => Ok(value),
            None => self.engine.get(cf, key),
        }
    }

    /// Cuts a region. The outer result is the engine's; the inner one is the same on every replica.
    fn split(
        &mut self,
        region: &mut ApplyRegion,
        keys: &[Key],
        ids: &[SplitIds],
    ) -> Result<Result<(RegionChange, Vec<Region>), String>, EngineError> {
        let gc = self.gc_of(region)?.clone();
        let parent = &region.record.region;
        let pieces = match cut(parent, keys, ids) {
            Ok(pieces) => pieces,
            Err(message) => return Ok(Err(message)),
        };
        let (last, children) = pieces.split_last().expect("a split makes two pieces at least");
        let our_store = parent.peer(region.record.peer_id).expect("we are a member while we apply").store_id;
        let mut new_regions = Vec::with_capacity(children.len());
        for child in children {
            let peer = child.peer_on(our_store).expect("a child has the parent's stores");
            // A record that is here already, or on its way, is of a later life of that region: it was moved away and came
            // back, or is gone for good, before this replica got to apply the split. The child must not be born again.
            let claimed = self.meta.claim_birth(child.id, peer.id);
            let again = self.bugs.has(SeededBug::ChildBornAgain);
            let record = match claimed && (again || region_record(self.engine, child.id)?.is_none()) {
                false => {
                    if claimed {
                        self.meta.end_birth(child.id);
                    }
                    records::delete_data(&mut self.out.batch, &child.range);
                    None
                }
                true => {
                    let record = RegionRecord {
                        state: PeerState::Normal,
                        region: child.clone(),
                        peer_id: peer.id,
                        removed: Vec::new(),
                    };
                    put_region(&mut self.out.batch, &record);
                    put_gc(&mut self.out.batch, child.id, &gc);
                    let apply = ApplyRecord { applied: LOG_START, truncated: LOG_START };
                    if !self.bugs.has(SeededBug::SplitChildNotRecorded) {
                        put_apply(&mut self.out.batch, child.id, apply);
                    }
                    Some(record)
                }
            };
            new_regions.push(NewRegion { record, region: child.clone() });
        }
        region.record.region = last.clone();
        put_region(&mut self.out.batch, &region.record);
        Ok(Ok((RegionChange::Split { region: last.clone(), children: new_regions }, pieces)))
    }

    fn members(&mut self, region: &mut ApplyRegion, entry: &Entry) -> RegionChange {
        // The entry with which a leader ends a joint configuration by itself may carry nothing.
        let change = match entry.data.is_empty() {
            true => Ok(ConfChange::default()),
            false => ConfChange::from_bytes(&entry.data),
        };
        let applied = change
            .map_err(|_| ChangeError::Invalid("change cannot be decoded"))
            .and_then(|change| Ok((membership::apply_change(&region.record.region, &change)?, change)));
        let Ok((next, change)) = applied else {
            return RegionChange::Members { change: ConfChange::default(), record: None };
        };
        for op in &change.ops {
            if op.kind == ConfChangeKind::Remove {
                let peer = *region.record.region.peer(op.id).expect("a removed peer was a member");
                // Where a later peer of the store has been removed, an earlier one is gone: so there is at most one of
                // each store, however often the region moves.
                region.record.removed.retain(|earlier| earlier.peer.store_id != peer.store_id);
                region.record.removed.push(RemovedPeer { peer, epoch: next.epoch });
            }
        }
        region.record.region = next;
        region.removed = region.record.region.peer(region.record.peer_id).is_none();
        if !self.bugs.has(SeededBug::ConfChangeNotSaved) {
            put_region(&mut self.out.batch, &region.record);
        }
        RegionChange::Members { change, record: Some(region.record.clone()) }
    }
}

/// The pieces of a region that is cut at `keys`, in key order; the last keeps the region's id and peers.
fn cut(region: &Region, keys: &[Key], ids: &[SplitIds]) -> Result<Vec<Region>, String> {
    if keys.is_empty() || keys.len() != ids.len() {
        return Err(format!(
            "a split needs as many new ids as keys, and at least one ({} of {})",
            ids.len(),
            keys.len()
        ));
    }
    let mut epoch = region.epoch;
    epoch.version += keys.len() as u64;
    let mut start = region.range.start.clone();
    let mut pieces = Vec::with_capacity(keys.len() + 1);
    for (key, ids) in keys.iter().zip(ids) {
        if *key <= start || !region.range.contains(key) {
            return Err("split keys must ascend and lie inside the region, after its start".to_owned());
        }
        if ids.peer_ids.len() != region.peers.len() {
            return Err(format!("{} peer ids for {} peers", ids.peer_ids.len(), region.peers.len()));
        }
        let peers =
            region.peers.iter().zip(&ids.peer_ids).map(|(peer, id)| Peer { id: *id, ..*peer }).collect();
        pieces.push(Region { id: ids.region_id, range: KeyRange::new(start, key.clone()), epoch, peers });
        start = key.clone();
    }
    let range = KeyRange::new(start, region.range.end.clone());
    pieces.push(Region { id: region.id, range, epoch, peers: region.peers.clone() });
    Ok(pieces)
}

/// The data that an open batch changes, for commands that read what those before them wrote.
#[derive(Default, Debug)]
struct Overlay {
    values: BTreeMap<(Cf, Key), Option<Bytes>>,
    deleted: Vec<(Cf, KeyRange)>,
}

impl Overlay {
    fn of(batch: &WriteBatch) -> Self {
        let mut overlay = Self::default();
        for op in batch.ops() {
            match op {
                engine::Op::Put { cf, key, value } => {
                    let key = (cf, Bytes::copy_from_slice(key));
                    overlay.values.insert(key, Some(Bytes::copy_from_slice(value)));
                }
                engine::Op::Delete { cf, key } => {
                    overlay.values.insert((cf, Bytes::copy_from_slice(key)), None);
                }
                engine::Op::DeleteRange { cf, start, end } => {
                    let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
                    overlay.delete_range(cf, &KeyRange::new(start, end));
                }
            }
        }
        overlay
    }

    fn delete_range(&mut self, cf: Cf, range: &KeyRange) {
        let from_start = self.values.range_mut((cf, range.start.clone())..);
        for (_, value) in from_start.take_while(|((of, key), _)| *of == cf && *key < range.end) {
            *value = None;
        }
        self.deleted.push((cf, range.clone()));
    }

    /// `None` if the batch does not touch the key.
    fn get(&self, cf: Cf, key: &Key) -> Option<Option<Bytes>> {
        match self.values.get(&(cf, key.clone())) {
            Some(value) => Some(value.clone()),
            None => {
                let mut deleted = self.deleted.iter();
                deleted.any(|(of, range)| *of == cf && range.contains(key)).then_some(None)
            }
        }
    }
}

/// True for peers that vote in some configuration.
pub(crate) fn is_voter(role: PeerRole) -> bool {
    role != PeerRole::Learner
}

/// The highest index that a compaction may name: the entry itself stays out, but its term is kept.
pub(crate) fn compaction_bound(applied: LogIndex) -> LogIndex {
    applied.prev()
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
