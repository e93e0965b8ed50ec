//! What a peer hands out at the end of a turn, and what it learns when that is done.

use crate::apply::{ApplyOutcome, ApplyTask, NewRegion, Proposal, RegionChange, is_voter};
use crate::command::Command;
use crate::effects::{Background, CreatePeer, SendSnapshot};
use crate::membership;
use crate::peer::{PeerState, Phase, Turn};
use crate::records::{RegionRecord, UninitializedPeer, put_uninitialized};
use crate::seeded_bug::SeededBug;
use crate::stages::{EntryTimes, LogTimes};
use engine::Engine;
use raft::{Body, Entries, Entry, EntryId, EntryKind, Message, PersistToken, Ready, Role};
use raft_log::FetchRequest;
use types::Region;
use wire::kv::KvError;
use wire::store::{SnapshotKey, StoreMessage};

impl<E: Engine> PeerState<E> {
    /// Takes Raft's effects and adds them to the turn's.
    pub(crate) fn hand_out(&mut self, turn: &mut Turn<E>) {
        if !self.is_normal() || !self.raft.has_ready() {
            return;
        }
        let mut ready = std::mem::take(&mut turn.ready);
        self.raft.ready_into(&mut ready);
        self.carry_out(turn, &mut ready);
        turn.ready = ready;
    }

    /// Adds what the group asks for to the turn's effects. What stays behind in `ready` is room to be used again.
    fn carry_out(&mut self, turn: &mut Turn<E>, ready: &mut Ready) {
        if let Some(soft) = ready.soft {
            self.on_role(turn, soft.role);
        }
        self.hold_as_led(turn);
        if self.delegate.is_some() && self.raft.lease().is_none() {
            // A transfer, or a change of members that is on its way: what leaves with this turn may let others vote.
            self.revoke_lease(turn);
        }
        if let Some(append) = ready.append.take_if(|append| append.snapshot.is_some()) {
            assert!(
                ready.committed.is_empty(),
                "nothing is committed beside a snapshot that replaces the log"
            );
            self.on_read_states(turn, &mut ready.read_states);
            self.send(turn, &mut ready.messages);
            self.begin_install(turn, append, std::mem::take(&mut ready.messages_after));
            return;
        }
        if let Some(mut append) = ready.append.take() {
            if let Some(hard_state) = &mut append.hard_state
                && turn.shared.config.bugs.has(SeededBug::VoteNotWritten)
            {
                hard_state.vote = types::PeerId::ZERO;
            }
            self.raft.storage_mut().append(&append, &mut turn.log().batch);
            if !self.is_initialized() {
                let me = UninitializedPeer { region_id: self.region.id, peer_id: self.me.id };
                put_uninitialized(&mut turn.log().batch, me);
            }
            turn.log().must_sync = true;
            let token = append.token;
            turn.log().persisted.tokens.push((self.region.id, token));
            self.unpersisted += 1;
            // The log answers for it from here on, so Raft need not hold it.
            self.raft.on_stable(token);
        }
        self.send(turn, &mut ready.messages);
        self.send_after(turn, &mut ready.messages_after);
        self.on_read_states(turn, &mut ready.read_states);
        if !ready.committed.is_empty() {
            self.apply(turn, std::mem::take(&mut ready.committed));
        }
        let log = self.raft.storage();
        let region_id = self.region.id;
        while let Some(to) = log.take_snapshot_wanted() {
            turn.out.background.push(Background::BuildSnapshot { region_id, to });
        }
        while let Some(request) = log.take_fetch_wanted() {
            turn.out.background.push(Background::FetchEntries { region_id, request });
        }
    }

    /// Sends messages that wait for nothing, and leaves their list empty.
    pub(crate) fn send(&mut self, turn: &mut Turn<E>, messages: &mut Vec<Message>) {
        for message in messages.drain(..) {
            // A store whose log is stuck must not keep others from taking over.
            if turn.stalled && matches!(message.body, Body::Append { .. } | Body::Heartbeat { .. }) {
                continue;
            }
            if let Body::Snapshot { snapshot } = &message.body {
                let meta = &snapshot.meta;
                let key = SnapshotKey {
                    region_id: self.region.id,
                    to_peer: message.to,
                    term: meta.term,
                    index: meta.index,
                };
                match self.envelope(message) {
                    Some((to_store, StoreMessage::Raft(message))) => {
                        turn.out.snapshots.push(SendSnapshot { key, to_store, message });
                    }
                    _ => self.raft.report_snapshot(key.to_peer, false),
                }
            } else if let Some(message) = self.envelope(message) {
                turn.out.messages.push(message);
            }
        }
    }

    /// Sends messages once everything that was handed to the log so far is durable, and leaves their list empty.
    pub(crate) fn send_after(&mut self, turn: &mut Turn<E>, messages: &mut Vec<Message>) {
        if self.unpersisted == 0 {
            return self.send(turn, messages);
        }
        for message in messages.drain(..) {
            if let Some(message) = self.envelope(message) {
                turn.log().messages_after.push(message);
            }
        }
    }

    /// Hands entries to apply, with whoever waits for them.
    fn apply(&mut self, turn: &mut Turn<E>, entries: Entries) {
        let Some(last) = entries.last() else { return };
        self.applying.handed = last.index;
        let mut proposals = Vec::new();
        for entry in &entries {
            if entry.kind == EntryKind::Normal && Command::is_split(&entry.data) {
                if !self.applying.splits.contains(&entry.index) {
                    self.applying.splits.push(entry.index);
                }
                if self.is_leader() {
                    // The pieces can vote for each other only where the split is known to be committed.
                    self.raft.ping();
                }
            }
            while let Some((id, proposal)) = self.next_proposal(entry.index) {
                let any_term = turn.shared.config.bugs.has(SeededBug::ProposalMatchedByIndex);
                if id == entry.id() || (any_term && id.index == entry.index) {
                    let times = EntryTimes { committed: turn.now, ..proposal.times };
                    proposals.push(Proposal { id, tokens: proposal.tokens, times });
                } else {
                    // Another leader's entry stands where ours would: ours will never be applied.
                    for token in proposal.tokens {
                        turn.answer(token, Err(KvError::StaleCommand));
                    }
                }
            }
        }
        turn.out.apply.push(ApplyTask::Entries { region_id: self.region.id, entries, proposals });
    }

    fn on_role(&mut self, turn: &mut Turn<E>, role: Role) {
        let before = std::mem::replace(&mut self.role, role);
        if before == role {
            return;
        }
        if role == Role::Leader {
            self.report.heard = self.region.peers.iter().map(|peer| (peer.id, turn.now)).collect();
            self.report.due = true;
            self.stir(turn.ticks);
        } else if before == Role::Leader {
            self.revoke_lease(turn);
            self.wake_others(turn);
            // What was proposed is decided by what is applied at its index, not by this. Splits that were not handed out
            // may be overwritten; should they be committed, that is met again on their way to the data.
            let handed = self.applying.handed;
            self.applying.splits.retain(|at| *at <= handed);
            let error = self.not_leader();
            self.fail_waiting(turn, &error);
            if turn.shared.config.bugs.has(SeededBug::StepDownDecides) {
                for token in
                    std::mem::take(&mut self.proposals).into_values().flat_map(|proposal| proposal.tokens)
                {
                    turn.answer(token, Err(error.clone()));
                }
            }
        }
    }

    /// An append has become durable.
    pub(crate) fn on_persisted(&mut self, token: PersistToken, times: LogTimes) {
        self.unpersisted = self.unpersisted.saturating_sub(1);
        self.raft.storage_mut().on_written(token);
        self.raft.on_persist(token);
        self.stamp_durable(times);
    }

    /// Notes when what has just become durable did. Entries, not requests: there are few.
    fn stamp_durable(&mut self, times: LogTimes) {
        if self.proposals.is_empty() || times == LogTimes::default() {
            return;
        }
        let last = (self.raft.status().persisted, types::Term(u64::MAX));
        // Those before the first that has a stamp have theirs, too.
        for (_, proposal) in self.proposals.range_mut(..=last).rev() {
            if proposal.times.log != LogTimes::default() {
                break;
            }
            proposal.times.log = times;
        }
    }

    /// Entries for a follower that lags behind were read, or could not be.
    pub(crate) fn on_entries_fetched(&mut self, request: &FetchRequest, entries: Result<Vec<Entry>, String>) {
        let log = self.raft.storage_mut();
        let (low, to) = (request.low, request.context.to);
        match entries {
            Ok(entries) => log.offer_entries(to, entries),
            // Removed by a compaction of which the group knows by now: it sends a snapshot instead.
            Err(_) if low <= log.truncated().index => {}
            // A leader overwrites nothing, so what it lacks is lost. The group stops; asking again would only repeat it.
            Err(what) if request.context.term == self.raft.status().term && self.is_leader() => {
                self.raft.storage_mut().offer_failure(to, low, what);
            }
            Err(_) => {}
        }
        self.raft.on_entries_fetched(request.context);
    }

    /// Entries were applied.
    pub(crate) fn on_applied(&mut self, turn: &mut Turn<E>, outcome: ApplyOutcome) {
        if outcome.applied > self.applying.applied {
            self.applying.applied = outcome.applied;
        }
        self.size.unmeasured_bytes += outcome.bytes_written;
        self.size.bytes += outcome.bytes_written;
        self.size.log_bytes += outcome.bytes_applied;
        self.size.log_bytes_unseen += outcome.bytes_applied;
        let was_normal = self.is_normal();
        for change in outcome.changes {
            match change {
                // Even on the way out, or while a snapshot comes: the pieces are on disk, and live.
                RegionChange::Split { region, children } => self.on_split(turn, region, children),
                RegionChange::Members { change, record } if self.is_normal() => {
                    self.on_members(turn, &change, record)
                }
                RegionChange::Compacted { to } if self.is_normal() => {
                    self.on_compacted(turn, outcome.applied, to)
                }
                // Its group is cleared away, or begins anew with the snapshot's members and log.
                RegionChange::Members { .. } | RegionChange::Compacted { .. } => {}
            }
        }
        if !was_normal {
            return;
        }
        // Also if the last of the changes was our own removal: the log may have been cut before it, up to what is applied.
        let applied = self.applying.applied.index;
        self.applying.splits.retain(|at| *at > applied);
        if applied > self.raft.status().applied {
            self.raft.on_applied(applied);
        }
        let cache_bytes = turn.shared.config.entry_cache_bytes;
        self.raft.storage_mut().evict_cache(types::LogIndex::ZERO, cache_bytes);
        if self.size.log_bytes_unseen >= turn.shared.config.log_gc_bytes_min {
            self.compact_log(turn);
        }
    }

    fn on_compacted(&mut self, turn: &mut Turn<E>, applied: EntryId, to: EntryId) {
        let first = self.raft.storage().truncated().index;
        let (held, left) = (applied.index.distance_from(first), applied.index.distance_from(to.index));
        self.size.log_bytes = self.size.log_bytes * left / held.max(1);
        self.raft.storage_mut().compact(to);
        self.applying.collected = self.raft.storage().collect(self.applying.collected, &mut turn.log().batch);
    }

    fn on_split(&mut self, turn: &mut Turn<E>, region: Region, children: Vec<NewRegion>) {
        // The delegate first: a reader that still holds it must not see keys that are another region's by now.
        self.revoke_lease(turn);
        let pieces = children.len() as u64 + 1;
        let (size_bytes, keys) = (self.size.bytes / pieces, self.size.keys / pieces);
        let mut regions = vec![region.clone()];
        regions
            .extend(children.iter().filter(|child| child.record.is_some()).map(|child| child.region.clone()));
        turn.shared.meta.replace(Some(self.region.id), &regions);
        self.region = region;
        (self.size.bytes, self.size.keys) = (size_bytes, keys);
        // That is a guess; and one split makes so many pieces and no more, so the last may still be too large.
        self.size.measure_at = Some(turn.now);
        self.report.due = true;
        if let Some(split) = self.split.take() {
            // Its keys were chosen for the region as it was.
            let error = self.epoch_not_match(&turn.shared);
            for token in split.tokens {
                turn.answer(token, Err(error.clone()));
            }
        }
        let pieces: Vec<Region> = children.iter().map(|child| child.region.clone()).collect();
        let locks = turn.shared.held.split(&self.region, &pieces);
        for (child, locks) in children.into_iter().zip(locks) {
            if let Some(record) = child.record {
                let is_first = record.region.peers[0].id == record.peer_id;
                let anywhere = turn.shared.config.bugs.has(SeededBug::FirstChildCampaigns);
                let campaign = if anywhere { is_first } else { self.is_leader() };
                turn.out.create.push(CreatePeer { record, campaign, size_bytes, keys, locks });
            }
        }
    }

    fn on_members(&mut self, turn: &mut Turn<E>, change: &raft::ConfChange, record: Option<RegionRecord>) {
        let Some(RegionRecord { region, removed, .. }) = record else { return };
        self.revoke_lease(turn);
        // Answers of those who left may still be on their way, and ours to them.
        for peer in self.region.peers.clone() {
            self.remember(peer);
        }
        self.region = region;
        self.removed = removed;
        self.report.due = true;
        turn.shared.meta.replace(Some(self.region.id), std::slice::from_ref(&self.region));
        let removes_us = self.region.peer(self.me.id).is_none();
        match self.raft.apply_conf_change(change) {
            Ok(conf_state) => {
                let expected = membership::conf_state(&self.region);
                assert!(
                    membership::same_members(&conf_state, &expected),
                    "INV-STORE-15: region {} and its group disagree on the members: {expected:?}, {conf_state:?}",
                    self.region.id
                );
                self.raft.storage_mut().set_conf_state(conf_state);
            }
            Err(error) => {
                panic!("region {}: the descriptor took a change that Raft refuses: {error}", self.region.id)
            }
        }
        if let Some(me) = self.region.peer(self.me.id) {
            self.me = *me;
        }
        for peer in &self.region.peers {
            self.strangers.remove(&peer.id);
            self.report.heard.entry(peer.id).or_insert(turn.now);
        }
        let Self { report, region, .. } = self;
        report.heard.retain(|id, _| region.peer(*id).is_some());
        if removes_us {
            self.begin_destroy(turn, None);
        }
    }

    /// What the group's members are to PD: `None` unless we lead.
    pub(crate) fn pending_peers(&self) -> Vec<types::PeerId> {
        let mut pending = Vec::new();
        let truncated = self.raft.storage().truncated().index;
        self.raft.with_progress(&mut |id, progress| {
            if id != self.me.id && progress.matched <= truncated {
                pending.push(id);
            }
        });
        pending
    }

    /// True while a snapshot is being put in place.
    pub(crate) fn is_installing(&self) -> bool {
        matches!(self.phase, Phase::Installing(_))
    }

    /// True if we vote.
    pub(crate) fn votes(&self) -> bool {
        self.region.peer(self.me.id).is_some_and(|me| is_voter(me.role))
    }
}
