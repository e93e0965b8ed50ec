//! The thread that writes the log: a batch, its sync, and then what waited for it.

use super::{LOG_END, Phase, StoreNode};
use crate::cluster::World;
use crate::nodes::{SeededBug, Thread};
use ::store::Merged;
use engine::{Engine, SyncTicket};
use std::time::Duration;

/// What the log writer is at.
pub(super) enum LogStep {
    /// The batch is written, and is to be synced.
    Written(Merged),
    /// The sync is under way.
    Syncing(Merged, SyncTicket),
    /// Nothing more is waited for: what waited is to be released.
    Durable(Merged),
}

impl StoreNode {
    /// Sees to it that the log writer goes on, if it can.
    pub(super) fn wake_log(&mut self, world: &mut World<'_>, hand_over_max: Duration, token: u64) {
        let joins = self.has_bug(SeededBug::SyncBegunBeforeWrite);
        let process = self.process();
        let can_go_on = match &process.log {
            None => process.log_may_have_work,
            Some(LogStep::Syncing(..)) => joins && process.log_may_have_work,
            Some(LogStep::Written(_) | LogStep::Durable(_)) => true,
        };
        if can_go_on && !process.held.contains(&Thread::Log) {
            process.log_begin.soon(world, hand_over_max, token);
        }
    }

    /// The log writer takes its next step, and those after it until something else may come first.
    pub(super) fn run_log(&mut self, world: &mut World<'_>) {
        if self.process().held.contains(&Thread::Log) {
            return;
        }
        loop {
            match self.process().log.take() {
                None => {
                    if !self.write_log() {
                        return;
                    }
                }
                Some(LogStep::Syncing(merged, ticket)) => {
                    // Only a writer that breaks the rule goes on before the sync has ended.
                    self.process().log = Some(LogStep::Syncing(merged, ticket));
                    if self.has_bug(SeededBug::SyncBegunBeforeWrite) {
                        self.write_log();
                    }
                    return;
                }
                Some(LogStep::Written(merged)) => {
                    let ticket = self.engine.begin_sync();
                    self.process().log = Some(LogStep::Syncing(merged, ticket));
                    world.wake_after_sync(LOG_END);
                    return;
                }
                Some(LogStep::Durable(merged)) => {
                    let process = self.process();
                    process.log_may_have_work = true;
                    let joined = std::mem::take(&mut process.log_joined);
                    if let Phase::Running(store) = &mut process.phase {
                        store.finish_log(merged);
                        joined.into_iter().for_each(|merged| store.finish_log(merged));
                    }
                    return;
                }
            }
            if self.links.pauses(world) {
                return;
            }
        }
    }

    /// Writes what has come. Returns false if there is nothing, or the disk has failed.
    fn write_log(&mut self) -> bool {
        let waits = !self.has_bug(SeededBug::StoreReleasesEarly);
        let process = self.process();
        let Phase::Running(store) = &mut process.phase else { return false };
        process.log_may_have_work = false;
        let Some(merged) = store.begin_log() else { return false };
        let written = self.engine.write(&merged.batch);
        if self.survive(written).is_none() {
            return false;
        }
        self.sight.wrote(&merged.batch);
        let process = self.process();
        if process.log.is_some() {
            process.log_joined.push(merged);
        } else if merged.must_sync && waits {
            process.log = Some(LogStep::Written(merged));
        } else {
            process.log = Some(LogStep::Durable(merged));
        }
        true
    }

    /// The sync has ended.
    pub(super) fn end_sync(&mut self, world: &mut World<'_>) {
        let Some(LogStep::Syncing(merged, ticket)) = self.process().log.take() else {
            unreachable!("a sync is under way");
        };
        let synced = self.engine.finish_sync(ticket);
        if self.survive(synced).is_none() {
            return;
        }
        let joined = self.process().log_joined.len();
        self.sight.synced(joined);
        self.process().log = Some(LogStep::Durable(merged));
        if !self.links.pauses(world) {
            self.run_log(world);
        }
    }
}
