//! What a store tells the placement driver, and what it is told.

use crate::keyspaces::Keyspaces;
use crate::oracle::Oracle;
use crate::txn::{TxnShared, scheduler_of};
use crate::wait_book::WaitBook;
use raftstore::{Input, PdTask};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::{MonoTime, RegionId, StoreId};
use wire::pd::{FoundDeadlock, PdError, PdReply, PdRequest, RegionHeartbeat, StoreStats};

/// A question to PD that is under way; handed back with its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PdCall {
    /// What is asked.
    pub request: PdRequest,
    purpose: Purpose,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Purpose {
    Regions(Vec<RegionHeartbeat>),
    Split(RegionId),
    /// How the store is; whether the answer tells those who wait which key spaces there are.
    Store {
        asks: bool,
    },
    Timestamp,
    LockWaits,
}

/// Regions in one message to PD.
const HEARTBEATS_MAX: usize = 512;
/// How long after a question, or a message about regions, that PD did not take the next one is sent.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Somebody waits to be told which key spaces there are: then the store says how it is again after so long at least.
const STORE_REPEAT: Duration = Duration::from_millis(100);
/// Questions about splits that may be under way.
const SPLITS_MAX: usize = 16;

/// Gathers what workers want told, sends it in few messages, and turns answers into inputs.
#[derive(Debug)]
pub struct PdAgent {
    store_id: StoreId,
    interval: Duration,
    next_store: MonoTime,
    store_sent: MonoTime,
    keyspaces: Arc<Keyspaces>,
    /// The latest word on each region; a newer one replaces it.
    regions: BTreeMap<RegionId, RegionHeartbeat>,
    regions_under_way: bool,
    /// When the last message about regions left, and whether PD took it.
    regions_sent: MonoTime,
    regions_taken: bool,
    splits: BTreeMap<RegionId, PdRequest>,
    splits_under_way: usize,
    /// What time it is, asked with every word on how the store is, and when it is wanted.
    oracle: Arc<Oracle>,
    timestamp_sent: MonoTime,
    timestamp_taken: bool,
    /// Who waits for locks, and whom the placement driver has found to wait for itself.
    waits: Arc<WaitBook>,
    deadlocks: Vec<FoundDeadlock>,
}

impl PdAgent {
    /// For this store, which tells how it is every `interval`.
    #[must_use]
    pub fn new(store_id: StoreId, interval: Duration, txn: TxnShared) -> Self {
        Self {
            store_id,
            interval,
            next_store: MonoTime::ZERO,
            store_sent: MonoTime::ZERO,
            keyspaces: txn.keyspaces,
            regions: BTreeMap::new(),
            regions_under_way: false,
            regions_sent: MonoTime::ZERO,
            regions_taken: true,
            splits: BTreeMap::new(),
            splits_under_way: 0,
            oracle: txn.oracle,
            waits: txn.waits,
            deadlocks: Vec::new(),
            timestamp_sent: MonoTime::ZERO,
            timestamp_taken: true,
        }
    }

    /// Takes what a worker wants told.
    pub fn push(&mut self, task: PdTask) {
        match task {
            PdTask::Heartbeat { heartbeat, .. } => {
                self.regions.insert(heartbeat.region.id, heartbeat);
            }
            PdTask::AskSplit { region, count } => {
                self.splits.insert(region.id, PdRequest::AskSplit { region, count });
            }
        }
    }

    /// When something is due to be told even if nothing new comes.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        let regions = match self.regions_under_way || self.regions.is_empty() {
            true => MonoTime::MAX,
            false => self.next_regions(),
        };
        let timestamp = if self.oracle.has_question() { self.next_timestamp() } else { MonoTime::MAX };
        self.due_store().min(regions).min(timestamp).min(self.waits.next_report())
    }

    fn due_store(&self) -> MonoTime {
        match self.keyspaces.has_question() {
            true => self.next_store.min(self.store_sent + STORE_REPEAT),
            false => self.next_store,
        }
    }

    /// Not at once after a failure: a PD that refuses quickly would be asked all the time.
    fn next_regions(&self) -> MonoTime {
        match self.regions_taken {
            true => MonoTime::ZERO,
            false => self.regions_sent + RETRY_AFTER,
        }
    }

    fn next_timestamp(&self) -> MonoTime {
        match self.timestamp_taken {
            true => MonoTime::ZERO,
            false => self.timestamp_sent + RETRY_AFTER,
        }
    }

    fn regions_are_due(&self, now: MonoTime) -> bool {
        !self.regions_under_way && !self.regions.is_empty() && now >= self.next_regions()
    }

    /// True if [`PdAgent::calls`] would ask something now.
    #[must_use]
    pub fn has_calls(&self, now: MonoTime) -> bool {
        now >= self.due_store()
            || self.regions_are_due(now)
            || (self.oracle.has_question() && now >= self.next_timestamp())
            || now >= self.waits.next_report()
            || (self.splits_under_way < SPLITS_MAX && !self.splits.is_empty())
    }

    /// What to ask now. `stats` is called when the store is due to tell how it is.
    pub fn calls(&mut self, now: MonoTime, stats: impl FnOnce() -> StoreStats) -> Vec<PdCall> {
        let mut calls = Vec::new();
        if now >= self.due_store() {
            (self.next_store, self.store_sent) = (now + self.interval, now);
            let request = PdRequest::StoreHeartbeat { stats: stats() };
            calls.push(PdCall { request, purpose: Purpose::Store { asks: self.keyspaces.ask() } });
            self.oracle.want();
        }
        if self.oracle.has_question() && now >= self.next_timestamp() {
            self.oracle.ask(now);
            self.timestamp_sent = now;
            let request = PdRequest::GetTimestamps { count: 1 };
            calls.push(PdCall { request, purpose: Purpose::Timestamp });
        }
        if now >= self.waits.next_report() {
            let request = self.waits.report(self.store_id, now);
            calls.push(PdCall { request, purpose: Purpose::LockWaits });
        }
        // One message about regions at a time: what is new meanwhile goes with the next.
        if self.regions_are_due(now) {
            self.regions_under_way = true;
            self.regions_sent = now;
            let mut regions = Vec::new();
            while let Some((_, heartbeat)) = self.regions.pop_first() {
                regions.push(heartbeat);
                if regions.len() == HEARTBEATS_MAX {
                    break;
                }
            }
            let request = PdRequest::RegionHeartbeats { store_id: self.store_id, regions: regions.clone() };
            calls.push(PdCall { request, purpose: Purpose::Regions(regions) });
        }
        while self.splits_under_way < SPLITS_MAX {
            let Some((region_id, request)) = self.splits.pop_first() else { break };
            self.splits_under_way += 1;
            calls.push(PdCall { request, purpose: Purpose::Split(region_id) });
        }
        calls
    }

    /// Takes PD's answer (`None` if there was none) and returns what the workers must know, each with its region.
    pub fn on_answer(
        &mut self,
        call: PdCall,
        answer: Option<Result<PdReply, PdError>>,
    ) -> Vec<(RegionId, Input)> {
        match (call.purpose, answer) {
            (Purpose::Regions(_), Some(Ok(PdReply::Instructions(instructions)))) => {
                (self.regions_under_way, self.regions_taken) = (false, true);
                let input = |instruction: wire::pd::Instruction| {
                    (instruction.region_id, Input::Instruction(instruction))
                };
                instructions.into_iter().map(input).collect()
            }
            (Purpose::Regions(unheard), _) => {
                (self.regions_under_way, self.regions_taken) = (false, false);
                for heartbeat in unheard {
                    self.regions.entry(heartbeat.region.id).or_insert(heartbeat);
                }
                Vec::new()
            }
            (Purpose::Split(region_id), answer) => {
                self.splits_under_way = self.splits_under_way.saturating_sub(1);
                let ids = match answer {
                    Some(Ok(PdReply::SplitIds(ids))) => Some(ids),
                    _ => None,
                };
                vec![(region_id, Input::SplitIds { region_id, ids })]
            }
            (Purpose::Timestamp, answer) => {
                let timestamp = match answer {
                    Some(Ok(PdReply::Timestamp(timestamp))) => Some(timestamp),
                    _ => None,
                };
                self.timestamp_taken = timestamp.is_some();
                self.oracle.on_answer(timestamp);
                Vec::new()
            }
            (Purpose::LockWaits, Some(Ok(PdReply::Deadlocks { is_taken, found }))) => {
                self.waits.on_answer(Some(is_taken));
                self.deadlocks.extend(found);
                Vec::new()
            }
            (Purpose::LockWaits, _) => {
                self.waits.on_answer(None);
                Vec::new()
            }
            (Purpose::Store { asks }, answer) => {
                let last = match answer {
                    Some(Ok(PdReply::StoreHeard { last_keyspace })) => Some(last_keyspace),
                    // One of an earlier version does not tell: everything is believed.
                    Some(Ok(_)) => Some(u32::MAX),
                    Some(Err(_)) | None => None,
                };
                if asks {
                    self.keyspaces.on_answer(last);
                }
                Vec::new()
            }
        }
    }

    /// Whom the placement driver has found to wait for itself, each with its scheduler.
    pub fn take_deadlocks(&mut self) -> Vec<(usize, FoundDeadlock)> {
        let found = std::mem::take(&mut self.deadlocks).into_iter();
        found.filter_map(|found| Some((scheduler_of(found.id)?, found))).collect()
    }
}
