//! What people and the placement driver ask of a region: splits, changes of members, another leader; and the log's GC.

use crate::apply::{ApplyTask, compaction_bound};
use crate::command::{ChangeContext, Command};
use crate::config::Config;
use crate::effects::{Background, PdTask, Token};
use crate::peer::{PeerState, SplitRequest, Turn};
use crate::write::busy;
use codec::Encode;
use engine::Engine;
use env::sim_point;
use raft::{ConfChange, ConfChangeKind, ConfChangeOp, EntryId, Storage as _, TransferError, Transition};
use std::time::Duration;
use types::{Epoch, Key, MonoTime, Peer, PeerId, StoreId};
use wire::kv::{BusyReason, KvError, KvReply};
use wire::pd::{Instruction, RegionHeartbeat, SplitIds, Step};
use wire::store::StoreMessage;

/// How long PD may take to hand out ids; longer than its members need to elect a leader.
const SPLIT_IDS_WITHIN: Duration = Duration::from_secs(10);
/// When a region that is too large and could not be cut is looked at again.
const SPLIT_RETRY_AFTER: Duration = Duration::from_secs(10);

impl<E: Engine> PeerState<E> {
    fn admit_admin(&self, turn: &Turn<E>, epoch: Epoch) -> Result<(), KvError> {
        if !self.is_leader() || !self.is_normal() {
            return Err(self.not_leader());
        }
        if turn.stalled {
            return Err(busy(BusyReason::SlowDisk));
        }
        if epoch.version != self.region.epoch.version {
            return Err(self.epoch_not_match(&turn.shared));
        }
        // Until an entry of this term is applied, an earlier leader's change may still be on its way.
        if self.applying.applied.term != self.raft.status().term {
            return Err(busy(BusyReason::RegionMoving));
        }
        Ok(())
    }

    /// Begins a split at these keys; the ids come from PD.
    pub(crate) fn request_split(
        &mut self,
        turn: &mut Turn<E>,
        epoch: Epoch,
        keys: Vec<Key>,
        waiter: Option<(Token, MonoTime)>,
    ) {
        let ascending = keys.windows(2).all(|pair| pair[0] < pair[1]);
        let inside =
            keys.iter().all(|key| self.region.range.contains(key) && *key != self.region.range.start);
        let admitted = self.admit_admin(turn, epoch).and_then(|()| {
            if keys.is_empty() || !ascending || !inside {
                let message = "split keys must ascend and lie inside the region, after its start".to_owned();
                return Err(KvError::InvalidRequest { message });
            }
            if self.split.is_some() || self.region.is_joint() {
                return Err(busy(BusyReason::RegionMoving));
            }
            Ok(())
        });
        let tokens: Vec<Token> = waiter.into_iter().map(|(token, _)| token).collect();
        match admitted {
            Ok(()) => {
                let count = u32::try_from(keys.len()).expect("split keys fit a message");
                turn.out.pd.push(PdTask::AskSplit { region: self.region.clone(), count });
                let latest = turn.now + SPLIT_IDS_WITHIN;
                let deadline = waiter.map_or(latest, |(_, deadline)| deadline.min(latest));
                self.split = Some(SplitRequest { keys, tokens, deadline });
            }
            Err(error) => self.fail_split(turn, tokens, &error),
        }
    }

    /// A split does not come about: tells who waits for it, or tries again later if it was the region's size.
    fn fail_split(&mut self, turn: &mut Turn<E>, tokens: Vec<Token>, error: &KvError) {
        if tokens.is_empty() {
            self.size.measure_at = Some(turn.now + SPLIT_RETRY_AFTER);
        }
        for token in tokens {
            turn.answer(token, Err(error.clone()));
        }
    }

    /// Gives up a split for which PD has handed out no ids in time.
    pub(crate) fn expire_split(&mut self, turn: &mut Turn<E>) {
        if let Some(split) = self.split.take_if(|split| split.deadline <= turn.now) {
            self.fail_split(turn, split.tokens, &KvError::DeadlineExceeded);
        }
    }

    /// PD has answered with ids, or has not.
    pub(crate) fn on_split_ids(&mut self, turn: &mut Turn<E>, ids: Option<Vec<SplitIds>>) {
        let Some(SplitRequest { keys, tokens, deadline }) = self.split.take() else { return };
        let epoch = self.region.epoch;
        let admitted = self.admit_admin(turn, epoch).and_then(|()| match ids {
            Some(ids) if ids.len() == keys.len() => Ok(ids),
            _ => Err(busy(BusyReason::RegionMoving)),
        });
        let failed = match admitted {
            Ok(ids) => self.propose_command(&Command::Split { epoch, keys, ids }, tokens, deadline).err(),
            Err(error) => Some((error, tokens)),
        };
        if let Some((error, tokens)) = failed {
            self.fail_split(turn, tokens, &error);
        }
    }

    /// Hands leadership to the peer on a store.
    pub(crate) fn request_transfer(
        &mut self,
        turn: &mut Turn<E>,
        epoch: Epoch,
        to_store: StoreId,
        token: Token,
    ) {
        let answer = self.admit_admin(turn, epoch).and_then(|()| {
            let Some(peer) = self.region.peer_on(to_store).copied() else {
                let message = format!("region {} has no peer on store {to_store}", self.region.id);
                return Err(KvError::InvalidRequest { message });
            };
            self.transfer(turn, peer).map(|()| KvReply::Started)
        });
        turn.answer(token, answer);
    }

    fn transfer(&mut self, turn: &Turn<E>, to: Peer) -> Result<(), KvError> {
        if to.id == self.me.id {
            return Ok(());
        }
        self.hand_over_locks(turn)?;
        match self.raft.transfer_leader(to.id) {
            Ok(()) => Ok(()),
            Err(TransferError::InProgress { .. }) => Err(busy(BusyReason::RegionMoving)),
            Err(TransferError::NotVoter) => {
                let message = format!("peer {} on store {} does not vote", to.id, to.store_id);
                Err(KvError::InvalidRequest { message })
            }
            Err(TransferError::NotLeader { .. } | TransferError::Poisoned { .. }) => Err(self.not_leader()),
        }
    }

    /// Does what PD wants, if the region is still what PD decided on; PD sees by the next heartbeat what became of it.
    pub(crate) fn on_instruction(&mut self, turn: &mut Turn<E>, instruction: &Instruction) {
        if instruction.epoch != self.region.epoch || self.admit_admin(turn, instruction.epoch).is_err() {
            self.report.due = self.is_leader();
            return;
        }
        match &instruction.step {
            // A transfer that cannot begin now is ordered again.
            Step::TransferLeader { to } => drop(self.transfer(turn, *to)),
            Step::AddLearner { peer } => {
                self.change_members(&[(ConfChangeKind::AddLearner, peer.id)], &[*peer])
            }
            Step::ChangeRoles { promote, demote } => {
                if demote.contains(&self.me.id) {
                    // Leadership goes first, to one who stays.
                    if let Some(heir) = self.heir(demote) {
                        drop(self.transfer(turn, heir));
                    }
                    return;
                }
                let pending = self.pending_peers();
                if promote.iter().any(|id| pending.contains(id)) {
                    // It has lost touch with the log since PD looked: a voter that has no data helps no quorum.
                    self.report.due = true;
                    return;
                }
                let ops: Vec<(ConfChangeKind, PeerId)> = promote
                    .iter()
                    .map(|id| (ConfChangeKind::AddVoter, *id))
                    .chain(demote.iter().map(|id| (ConfChangeKind::AddLearner, *id)))
                    .collect();
                self.change_members(&ops, &[]);
            }
            Step::RemoveLearner { peer_id } => {
                self.change_members(&[(ConfChangeKind::Remove, *peer_id)], &[])
            }
        }
    }

    /// The voter that could lead at once, but for those in `without`: it answers, and lacks the least of the log.
    fn heir(&self, without: &[PeerId]) -> Option<Peer> {
        let mut best = None;
        self.raft.with_progress(&mut |id, progress| {
            if progress.active && !progress.learner && id != self.me.id && !without.contains(&id) {
                best = best.max(Some((progress.matched, id)));
            }
        });
        best.and_then(|(_, id)| self.region.peer(id).copied())
    }

    fn change_members(&mut self, ops: &[(ConfChangeKind, PeerId)], peers: &[Peer]) {
        let context = ChangeContext { epoch: self.region.epoch, peers: peers.to_vec() };
        let change = ConfChange {
            transition: Transition::Auto,
            ops: ops.iter().map(|(kind, id)| ConfChangeOp { kind: *kind, id: *id }).collect(),
            context: context.to_bytes(),
        };
        // The same rules as at apply, so that nothing is proposed that would be void.
        if crate::membership::apply_change(&self.region, &change).is_ok() {
            // Refused while an earlier change is on its way: PD orders it again.
            drop(self.raft.propose_conf_change(change));
        }
    }

    /// True when enough was written since the last time: as much as the region held then, so that measuring reads no more
    /// than was written, but not more than might have brought it to where it is split.
    pub(crate) fn wants_measuring(&self, config: &Config, now: MonoTime) -> bool {
        let due = self.size.unmeasured_bytes >= self.size.unmeasured_bytes_max(config.region_split_bytes)
            || self.size.measure_at.is_some_and(|at| at <= now);
        due && self.is_leader() && self.is_normal() && !self.size.measuring && self.split.is_none()
    }

    /// Measures the region when that is due.
    pub(crate) fn check_split(&mut self, turn: &mut Turn<E>) {
        if self.wants_measuring(&turn.shared.config, turn.now) {
            let split_bytes = turn.shared.config.region_split_bytes;
            self.size.measuring = true;
            self.size.unmeasured_bytes = 0;
            self.size.measure_at = None;
            turn.out.background.push(Background::CheckSplit { region: self.region.clone(), split_bytes });
        }
    }

    /// The region was measured.
    pub(crate) fn on_split_checked(
        &mut self,
        turn: &mut Turn<E>,
        epoch: Epoch,
        size: (u64, u64),
        keys: Vec<Key>,
    ) {
        self.size.measuring = false;
        if epoch.version != self.region.epoch.version {
            return;
        }
        // PD has been told a guess, or nothing; it should not have to wait for the next heartbeat that is due anyway.
        self.report.due |= (self.size.bytes, self.size.keys) != size;
        (self.size.bytes, self.size.keys) = size;
        if !keys.is_empty() {
            self.request_split(turn, epoch, keys, None);
        }
        if sim_point!("raftstore.hand_over")
            && let Some(heir) = self.heir(&[])
        {
            drop(self.transfer(turn, heir));
        }
    }

    /// Proposes to forget the part of the log that nobody needs, or that has grown beyond its bound.
    pub(crate) fn compact_log(&mut self, turn: &Turn<E>) {
        let unseen = std::mem::take(&mut self.size.log_bytes_unseen);
        if !self.is_leader() || !self.is_normal() || turn.stalled {
            return;
        }
        let config = &turn.shared.config;
        let bound = compaction_bound(self.applying.applied.index);
        let log = self.raft.storage();
        let first = log.first_index();
        let mut replicated = bound;
        self.raft.with_progress(&mut |_, progress| replicated = replicated.min(progress.matched));
        let held = bound.distance_from(first);
        let too_long = held >= config.log_gc_entries_max || self.size.log_bytes >= config.log_gc_bytes_max;
        let to = if too_long {
            // Half of it stays, so that a peer that lags a little need not take a snapshot.
            replicated.max(first + held / 2).min(bound)
        } else if replicated.distance_from(first) >= config.log_gc_entries_min
            || unseen >= config.log_gc_bytes_min
            || sim_point!("raftstore.compact_early")
        {
            replicated
        } else {
            return;
        };
        if to < first {
            return;
        }
        if let Ok(term) = log.term(to) {
            // Lost with a leader change, it is proposed again the next time.
            let command = Command::CompactLog { to: EntryId::new(term, to) };
            drop(self.propose_command(&command, Vec::new(), MonoTime::MAX));
        }
    }

    /// Proposes to forget all of the log that is applied, whoever lacks some of it.
    pub(crate) fn request_compaction(
        &mut self,
        turn: &mut Turn<E>,
        epoch: Epoch,
        token: Token,
        deadline: MonoTime,
    ) {
        if let Err(error) = self.admit_admin(turn, epoch) {
            turn.answer(token, Err(error));
            return;
        }
        let to = compaction_bound(self.applying.applied.index);
        let log = self.raft.storage();
        let first = log.first_index();
        let term = log.term(to).ok().filter(|_| to >= first);
        let Some(term) = term else {
            turn.answer(token, Ok(KvReply::Compacted { to: first.prev() }));
            return;
        };
        let command = Command::CompactLog { to: EntryId::new(term, to) };
        if let Err((error, _)) = self.propose_command(&command, vec![token], deadline) {
            turn.answer(token, Err(error));
        }
    }

    /// Asks the stores of removed peers whether they are gone.
    pub(crate) fn ask_removed(&self, turn: &mut Turn<E>) {
        if self.is_leader() {
            for removed in &self.removed {
                let message = StoreMessage::Removed {
                    region_id: self.region.id,
                    peer: removed.peer,
                    epoch: removed.epoch,
                    from: self.me,
                };
                turn.out.messages.push((removed.peer.store_id, message));
            }
        }
    }

    /// A removed peer is gone.
    pub(crate) fn on_removed_confirmed(&mut self, turn: &mut Turn<E>, peer_id: PeerId) {
        if self.removed.iter().any(|removed| removed.peer.id == peer_id) {
            self.removed.retain(|removed| removed.peer.id != peer_id);
            turn.out.apply.push(ApplyTask::Confirmed { region_id: self.region.id, peer_id });
        }
    }

    /// Tells PD how the region is, when something has changed or it is time.
    pub(crate) fn report(&mut self, turn: &mut Turn<E>) {
        // A group that has stopped leads nobody, whatever it was.
        if !self.is_leader() || !self.is_normal() || turn.stalled || self.raft.poisoned().is_some() {
            return;
        }
        let config = &turn.shared.config;
        let pending_peers = self.pending_peers();
        let late =
            self.report.last.is_none_or(|last| turn.now.since(last) >= config.region_heartbeat_interval);
        if !self.report.due && !late && pending_peers == self.report.pending {
            return;
        }
        self.report.due = false;
        self.report.last = Some(turn.now);
        self.report.pending.clone_from(&pending_peers);
        let silent = |id: &PeerId| {
            self.report.heard.get(id).is_some_and(|heard| turn.now.since(*heard) >= config.down_after)
        };
        // Whoever sleeps is silent, and its store is known to be at work.
        let others = self.region.peers.iter().map(|peer| peer.id);
        let others = others.filter(|id| *id != self.me.id && !self.is_asleep());
        let status = self.raft.status();
        let mut lags = Vec::new();
        self.raft.with_progress(&mut |id, progress| {
            if id != self.me.id {
                lags.push(status.last.index.get().saturating_sub(progress.matched.get()));
            }
        });
        let heartbeat = RegionHeartbeat {
            region: self.region.clone(),
            leader: self.me,
            term: status.term,
            pending_peers,
            down_peers: others.filter(silent).collect(),
            size_bytes: self.size.bytes,
            keys: self.size.keys,
        };
        turn.out.pd.push(PdTask::Heartbeat { heartbeat, lags });
    }
}
