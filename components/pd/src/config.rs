//! What can be set, with the defaults and where they come from.

use std::time::Duration;
use types::Timestamp;

/// How a placement driver behaves. The defaults are those of a cluster in production.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// How many voters each region is to have.
    pub replicas: usize,
    /// A store that was silent for so long is no target any more, and its address may pass to another store. Several
    /// heartbeats of a store (3 s by default), so that one that is lost does not count.
    pub disconnected_after: Duration,
    /// A store that was silent for so long is given up: its copies are made again elsewhere. Long enough for a
    /// restart, a reboot or a short repair, since copying a disk costs more than waiting.
    pub down_after: Duration,
    /// How often the group's logical clock advances.
    pub tick: Duration,
    /// How often placement is looked at.
    pub plan_interval: Duration,
    /// How many regions are checked each time, besides those that changed.
    pub patrol_batch: usize,
    /// After a start, nothing is scheduled until heartbeats cover every key, or until so much time has passed.
    pub prepare_timeout: Duration,
    /// How far ahead of the timestamps handed out their durable bound lies.
    pub tso_window: Duration,
    /// The most timestamps that one request may ask for.
    pub tso_count_max: u32,
    /// How far the wall clock may get ahead of the monotonic clock between two readings before it is distrusted.
    pub clock_jump_max: Duration,
    /// How many ids one command reserves.
    pub id_window: u64,
    /// The most ids that one request may ask for.
    pub id_count_max: u32,
    /// The most children of one split.
    pub split_count_max: u32,
    /// The most regions in one answer.
    pub regions_per_answer_max: u32,
    /// The most requests that wait for the log at once; more are refused as busy.
    pub pending_requests_max: usize,
    /// The log is compacted whenever it holds so many applied entries.
    pub log_entries_max: u64,
    /// Running operators that repair replicas, at most.
    pub repair_limit: usize,
    /// Running operators that move regions for balance, at most.
    pub region_balance_limit: usize,
    /// Running operators that move leaders for balance, at most.
    pub leader_balance_limit: usize,
    /// Running operators that people have asked for, at most.
    pub order_limit: usize,
    /// Peers being added to one store at once, at most; likewise peers being removed from one.
    pub store_limit: usize,
    /// A store that receives so many snapshots already is no target.
    pub snapshots_receiving_max: u32,
    /// A target keeps at least this part of its disk free, in percent.
    pub space_reserve_percent: u64,
    /// How long a step without data to copy may take.
    pub fast_step_timeout: Duration,
    /// How long a step that copies data may take, at least.
    pub slow_step_timeout: Duration,
    /// What is added to [`slow_step_timeout`](Self::slow_step_timeout) for each MiB of the region.
    pub slow_step_timeout_per_mib: Duration,
    /// After an operator failed, its region is left alone for so long.
    pub retry_after: Duration,
    /// How often the log is told how far the disks of stores have come.
    pub mark_interval: Duration,
    /// How long versions live at least after they were replaced.
    pub gc_life_time: Duration,
    /// The safe point rises by so much at least: each time every region with keys of transactions is told.
    pub gc_interval: Duration,
    /// How many ended operators are remembered.
    pub history_max: usize,
    /// Rules that are broken on purpose.
    pub bugs: crate::Bugs,
    /// Rules of Raft that the group breaks.
    #[cfg(feature = "seeded_bugs")]
    pub raft_seeded_bugs: Vec<raft::SeededBug>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            replicas: 3,
            disconnected_after: Duration::from_secs(20),
            down_after: Duration::from_secs(30 * 60),
            tick: Duration::from_millis(100),
            plan_interval: Duration::from_millis(500),
            // A million regions are walked in about two minutes.
            patrol_batch: 4096,
            prepare_timeout: Duration::from_secs(5 * 60),
            tso_window: Duration::from_secs(3),
            tso_count_max: 1 << 16,
            clock_jump_max: Duration::from_secs(10),
            id_window: 4096,
            id_count_max: 1 << 16,
            split_count_max: 1024,
            regions_per_answer_max: 1024,
            pending_requests_max: 1 << 16,
            log_entries_max: 1024,
            repair_limit: 64,
            region_balance_limit: 64,
            leader_balance_limit: 16,
            order_limit: 64,
            store_limit: 8,
            snapshots_receiving_max: 16,
            space_reserve_percent: 10,
            fast_step_timeout: Duration::from_secs(60),
            slow_step_timeout: Duration::from_secs(10 * 60),
            slow_step_timeout_per_mib: Duration::from_secs(1),
            retry_after: Duration::from_secs(30),
            mark_interval: Duration::from_secs(3),
            gc_life_time: Duration::from_secs(10 * 60),
            gc_interval: Duration::from_secs(2 * 60),
            history_max: 256,
            bugs: crate::Bugs::default(),
            #[cfg(feature = "seeded_bugs")]
            raft_seeded_bugs: Vec::new(),
        }
    }
}

impl Config {
    /// Checks that the values fit together.
    ///
    /// # Errors
    /// What is wrong, naming the setting, for whoever wrote it.
    pub fn validate(&self) -> Result<(), String> {
        let rules: [(bool, &str); 13] = [
            (self.replicas >= 1 && self.replicas <= 9, "replicas must lie in 1..=9"),
            (!self.disconnected_after.is_zero(), "disconnected_after must not be zero"),
            (self.down_after > self.disconnected_after, "down_after must exceed disconnected_after"),
            (self.tick >= Duration::from_millis(1), "tick must be at least 1 ms"),
            (!self.plan_interval.is_zero(), "plan_interval must not be zero"),
            (self.patrol_batch > 0, "patrol_batch must not be zero"),
            (self.tso_window >= Duration::from_millis(100), "tso_window must be at least 100 ms"),
            (
                self.tso_count_max >= 1 && u64::from(self.tso_count_max) <= Timestamp::LOGICAL_MAX,
                "tso_count_max must lie in 1..=262143",
            ),
            (self.id_window >= 1 && self.id_count_max >= 1, "id_window and id_count_max must not be zero"),
            (self.split_count_max >= 1, "split_count_max must not be zero"),
            (self.log_entries_max >= 1, "log_entries_max must not be zero"),
            (!self.gc_interval.is_zero(), "gc_interval must not be zero"),
            (self.space_reserve_percent < 100, "space_reserve_percent must be less than 100"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err((*broken).to_owned()),
            None => Ok(()),
        }
    }
}
