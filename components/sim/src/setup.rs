//! How a cluster is set up: drawn for each seed, every limit included, so that rare paths are walked often.

use crate::fields::{Fields, Unreadable, duration_text};
use crate::network::Lane;
use crate::nodes::StoreLinks;
use crate::workload::WorkloadConfig;
use env::{Dice, SplitMix};
use std::fmt;
use std::time::Duration;

/// The stream between two stores, or two members of the placement driver.
const PEER_LANE: Lane = Lane::Stream(1);

/// How a cluster is set up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// How many stores there are.
    pub stores: u32,
    /// How many of them are not there from the beginning.
    pub late_stores: u32,
    /// How many members the placement driver has.
    pub pd_members: u32,
    /// How stores behave.
    pub store: store::Config,
    /// How the placement driver does.
    pub pd: pd::Config,
    /// How they talk to each other.
    pub links: StoreLinks,
}

impl Setup {
    /// As the product is set up where nobody says otherwise, with one store.
    pub(crate) fn usual() -> Self {
        Self {
            stores: 1,
            late_stores: 0,
            pd_members: 1,
            store: store::Config::default(),
            pd: pd::Config::default(),
            links: StoreLinks::calm(PEER_LANE),
        }
    }

    /// A setup for one seed.
    ///
    /// # Panics
    /// When a configuration was drawn that is not valid: a mistake here.
    #[must_use]
    pub fn draw(dice: &mut SplitMix) -> Self {
        let stores = [1, 3, 3, 3, 4, 5][usize::try_from(dice.below(6)).expect("an index")];
        let late = u32::try_from(dice.below(3)).expect("small");
        let pd_members = if dice.chance(1, 2) { 1 } else { 3 };
        let (store, pd) = (draw_store(dice), draw_pd(dice));
        let lane = if dice.chance(1, 2) { Lane::Datagram } else { PEER_LANE };
        let mut setup = Self {
            stores: stores + late,
            late_stores: late,
            pd_members,
            store,
            pd,
            links: StoreLinks {
                one_by_one: dice.chance(1, 2),
                hand_over_max: Duration::from_micros(20 << dice.below(8)),
                stall_one_in: if dice.chance(1, 3) { 1_000 } else { 0 },
                ..StoreLinks::calm(lane)
            },
        };
        // Drawn aside, so that the rest does not depend on it: how the work of a store is spread over threads, and in how
        // many steps they do it.
        let mut threads = dice.fork("threads");
        setup.links.threads = threads.below(4);
        setup.links.pause_one_in = [0, 0, 2, 8][usize::try_from(threads.below(4)).expect("an index")];
        // Aside, too: whether locks of pessimistic transactions are kept in memory, and in how much of it.
        let mut locks = dice.fork("locks");
        setup.store.reservations.in_memory = locks.chance(7, 8);
        if locks.chance(1, 4) {
            setup.store.reservations.limits.region_bytes_max = 200 << locks.below(4);
        }
        setup.store.reservations.pipelined = locks.chance(3, 4);
        // More than there are stores are never complete, so nothing that is lost could be given up.
        setup.pd.replicas = setup.pd.replicas.min(setup.stores as usize);
        setup.store.validate().expect("drawn within what is valid");
        setup.pd.validate().expect("drawn within what is valid");
        setup
    }
}

impl Setup {
    fn validate(&self) -> Result<(), Unreadable> {
        self.store.validate().map_err(|error| Unreadable(format!("the stores: {error}")))?;
        self.pd.validate().map_err(|error| Unreadable(format!("the placement driver: {error}")))
    }

    /// What earlier schedules have not: each actor had a thread of its own then, and stopped nowhere.
    fn amend_threads(&mut self, fields: &mut Fields<'_>) -> Result<(), Unreadable> {
        if fields.has("threads") {
            self.links.threads = fields.number("threads")?;
        }
        if fields.has("pause-one-in") {
            self.links.pause_one_in = fields.number("pause-one-in")?;
        }
        Ok(())
    }

    /// What earlier schedules have not: all locks were in the log then, and nobody was told of one before it was applied.
    fn amend_locks(&mut self, fields: &mut Fields<'_>) -> Result<(), Unreadable> {
        if fields.has("locks-in-memory") {
            self.store.reservations.in_memory = fields.flag("locks-in-memory")?;
        }
        if fields.has("region-locks-bytes-max") {
            self.store.reservations.limits.region_bytes_max = fields.number("region-locks-bytes-max")?;
        }
        if fields.has("locks-pipelined") {
            self.store.reservations.pipelined = fields.flag("locks-pipelined")?;
        }
        Ok(())
    }

    /// What earlier schedules have not: versions lived for ever then, as far as a run could see.
    fn amend_gc(&mut self, fields: &mut Fields<'_>) -> Result<(), Unreadable> {
        if fields.has("gc-life-time") {
            self.pd.gc_life_time = fields.duration("gc-life-time")?;
        }
        if fields.has("gc-interval") {
            self.pd.gc_interval = fields.duration("gc-interval")?;
        }
        Ok(())
    }

    /// Versions live so shortly that they die while a run goes on.
    pub(crate) fn shorten_lives(&mut self, dice: &mut SplitMix) {
        self.pd.gc_life_time = Duration::from_millis(1_000 << dice.below(3));
        self.pd.gc_interval = Duration::from_millis(100 + dice.below(900));
    }

    /// Five stores, and a region for each key; clients that do some two thousand operations in a minute, half of them in
    /// a cluster that has much to suffer.
    pub(crate) fn enlarge(&mut self, workload: &mut WorkloadConfig) {
        (self.stores, self.late_stores, self.pd_members) = (5, 0, 3);
        self.store.raftstore.region_split_bytes = 25;
        workload.keys = 36;
        workload.processes = 4;
        workload.rest_max = Duration::from_millis(500);
    }
}

/// Lists what of a setup is drawn, each with its name, so that it is written and read alike.
macro_rules! tunables {
    ($($name:literal $kind:ident $($path:ident).+;)*) => {
        impl Setup {
            /// Reads what `Display` has written.
            ///
            /// # Errors
            /// [`Unreadable`].
            pub(crate) fn parse(fields: &mut Fields<'_>) -> Result<Self, Unreadable> {
                let mut setup = Self::usual();
                $(setup.$($path).+ = fields.$kind($name)?;)*
                setup.amend_threads(fields)?;
                setup.amend_gc(fields)?;
                (setup.store.reservations.in_memory, setup.store.reservations.pipelined) = (false, false);
                setup.amend_locks(fields)?;
                setup.links.lane = if fields.flag("streams")? { PEER_LANE } else { Lane::Datagram };
                setup.validate()?;
                Ok(setup)
            }

            /// Changes what is named, by the same names.
            ///
            /// # Errors
            /// [`Unreadable`].
            pub(crate) fn amend(&mut self, fields: &mut Fields<'_>) -> Result<(), Unreadable> {
                $(if fields.has($name) {
                    self.$($path).+ = fields.$kind($name)?;
                })*
                if fields.has("streams") {
                    self.links.lane = if fields.flag("streams")? { PEER_LANE } else { Lane::Datagram };
                }
                self.amend_threads(fields)?;
                self.amend_gc(fields)?;
                self.amend_locks(fields)?;
                self.validate()
            }
        }

        impl fmt::Display for Setup {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(write!(f, concat!($name, "={} "), tunables!(@text $kind self.$($path).+))?;)*
                write!(f, "threads={} pause-one-in={} ", self.links.threads, self.links.pause_one_in)?;
                let (life, interval) = (duration_text(self.pd.gc_life_time), duration_text(self.pd.gc_interval));
                write!(f, "gc-life-time={life} gc-interval={interval} ")?;
                let locks = self.store.reservations;
                let bytes_max = locks.limits.region_bytes_max;
                write!(f, "locks-in-memory={} region-locks-bytes-max={bytes_max} ", locks.in_memory)?;
                write!(f, "locks-pipelined={} ", locks.pipelined)?;
                write!(f, "streams={}", self.links.lane == PEER_LANE)
            }
        }
    };
    (@text duration $value:expr) => { duration_text($value) };
    (@text added_duration $value:expr) => { duration_text($value) };
    (@text $kind:ident $value:expr) => { $value };
}

tunables! {
    "stores" number stores;
    "late-stores" number late_stores;
    "members" number pd_members;
    "hand-over-max" duration links.hand_over_max;
    "one-by-one" flag links.one_by_one;
    "stall-one-in" number links.stall_one_in;
    "lag-one-in" added_number links.lag_one_in;
    "lag-max" added_duration links.lag_max;
    "workers" number store.workers;
    "appliers" number store.appliers;
    "tick" duration store.raftstore.tick;
    "election-ticks" number store.raftstore.election_ticks;
    "heartbeat-ticks" number store.raftstore.heartbeat_ticks;
    "lease" duration store.raftstore.lease;
    "entry-bytes-max" number store.raftstore.entry_bytes_max;
    "region-split-bytes" number store.raftstore.region_split_bytes;
    "log-gc-entries-max" number store.raftstore.log_gc_entries_max;
    "log-gc-bytes-max" number store.raftstore.log_gc_bytes_max;
    "log-gc-entries-min" number store.raftstore.log_gc_entries_min;
    "log-gc-bytes-min" number store.raftstore.log_gc_bytes_min;
    "log-gc-interval" duration store.raftstore.log_gc_interval;
    "region-heartbeat-interval" duration store.raftstore.region_heartbeat_interval;
    "hibernate-after" duration store.raftstore.hibernate_after;
    "region-down-after" duration store.raftstore.down_after;
    "entry-cache-bytes" number store.raftstore.entry_cache_bytes;
    "unpersisted-bytes-max" number store.raftstore.unpersisted_bytes_max;
    "unapplied-bytes-max" number store.raftstore.unapplied_bytes_max;
    "read-bytes-max" number store.read_bytes_max;
    "scan-pairs-max" number store.scan_pairs_max;
    "snapshot-batch-bytes-max" number store.snapshot_batch_bytes_max;
    "snapshot-piece-bytes" number store.snapshot_piece_bytes;
    "snapshots-receiving-max" number store.snapshots_receiving_max;
    "snapshots-building-max" number store.snapshots_building_max;
    "store-heartbeat-interval" duration store.store_heartbeat_interval;
    "replicas" number pd.replicas;
    "disconnected-after" duration pd.disconnected_after;
    "down-after" duration pd.down_after;
    "plan-interval" duration pd.plan_interval;
    "prepare-timeout" duration pd.prepare_timeout;
    "tso-window" duration pd.tso_window;
    "id-window" number pd.id_window;
    "pd-log-entries-max" number pd.log_entries_max;
    "retry-after" duration pd.retry_after;
    "pd-tick" duration pd.tick;
    "damage-one-in" number links.damage_one_in;
}

/// Plants a bug where it goes; drivers ask for theirs themselves.
#[cfg(feature = "seeded_bugs")]
pub(crate) fn plant(
    bug: crate::nodes::SeededBug,
    store: &mut store::Config,
    pd: &mut pd::Config,
    clients: &mut client_core::Bugs,
) {
    use crate::nodes::SeededBug;
    match bug {
        SeededBug::Client(bug) => clients.plant(bug),
        SeededBug::Pd(bug) => pd.bugs.plant(bug),
        SeededBug::Store(bug) => store.bugs.plant(bug),
        SeededBug::Records(bug) => store.record_bugs.plant(bug),
        SeededBug::Regions(bug) => store.raftstore.bugs.plant(bug),
        SeededBug::Raft(bug) => {
            store.raftstore.raft_seeded_bugs.push(bug);
            pd.raft_seeded_bugs.push(bug);
        }
        SeededBug::Together(bugs) => bugs.iter().for_each(|bug| plant(*bug, store, pd, clients)),
        SeededBug::StoreReleasesEarly
        | SeededBug::SyncBegunBeforeWrite
        | SeededBug::PdReleasesEarly
        | SeededBug::ClockBeforeDrain
        | SeededBug::RunsOnAfterFailure => {}
    }
}

/// Mostly a small value that makes something happen often, sometimes the product's.
fn tight(dice: &mut SplitMix, low: u64, high: u64, usual: u64) -> u64 {
    if dice.chance(1, 3) { usual } else { low + dice.below(high - low) }
}

fn draw_store(dice: &mut SplitMix) -> store::Config {
    let size = |value: u64| usize::try_from(value).expect("small");
    let usual = store::Config::default();
    let raft = raftstore::Config::default();
    let mut raftstore = raftstore::Config {
        lease: Duration::from_millis([700, 800, 500, 100][size(dice.below(4))]),
        heartbeat_ticks: 1 + u32::try_from(dice.below(2)).expect("small"),
        entry_bytes_max: size(tight(dice, 1, 400, 1 << 20)),
        region_split_bytes: tight(dice, 60, 2_000, raft.region_split_bytes),
        log_gc_entries_max: tight(dice, 5, 200, raft.log_gc_entries_max),
        log_gc_entries_min: tight(dice, 1, 50, raft.log_gc_entries_min),
        log_gc_interval: Duration::from_millis(tight(dice, 100, 3_000, 3_000)),
        region_heartbeat_interval: Duration::from_millis(tight(dice, 200, 3_000, 10_000)),
        entry_cache_bytes: tight(dice, 1, 2_000, raft.entry_cache_bytes),
        ..raft
    };
    // About what so many entries weigh here, so that at times the one comes first and at times the other.
    raftstore.log_gc_bytes_min = 50 * raftstore.log_gc_entries_min;
    // Drawn aside, so that the rest of a setup does not depend on it. Mostly soon: then regions sleep between requests.
    let mut sleep = dice.fork("sleep");
    let after_ms = if sleep.chance(1, 5) { 0 } else { tight(&mut sleep, 100, 700, 3_000) };
    raftstore.hibernate_after = Duration::from_millis(after_ms);
    if dice.chance(1, 3) {
        raftstore.unpersisted_bytes_max = size(1 + dice.below(2_000));
        raftstore.unapplied_bytes_max = 1 + dice.below(2_000);
    }
    store::Config {
        raftstore,
        workers: 1 + size(dice.below(3)),
        appliers: 1 + size(dice.below(2)),
        read_bytes_max: size(tight(dice, 20, 400, 1 << 20)),
        scan_pairs_max: size(tight(dice, 1, 6, 10_000)),
        snapshot_batch_bytes_max: size(tight(dice, 1, 200, 4 << 20)),
        snapshot_piece_bytes: size(tight(dice, 1, 100, 512 << 10)),
        snapshots_receiving_max: size(tight(dice, 1, 3, 4)),
        snapshots_building_max: size(tight(dice, 1, 3, 8)),
        store_heartbeat_interval: Duration::from_millis(tight(dice, 300, 2_000, 3_000)),
        ..usual
    }
}

fn draw_pd(dice: &mut SplitMix) -> pd::Config {
    let disconnected_ms = tight(dice, 4_000, 10_000, 20_000);
    pd::Config {
        disconnected_after: Duration::from_millis(disconnected_ms),
        down_after: Duration::from_millis(disconnected_ms + tight(dice, 1_000, 10_000, 1_800_000)),
        plan_interval: Duration::from_millis(tight(dice, 50, 500, 500)),
        prepare_timeout: Duration::from_millis(tight(dice, 500, 5_000, 20_000)),
        tso_window: Duration::from_millis(tight(dice, 100, 3_000, 3_000)),
        id_window: tight(dice, 1, 20, 4_096),
        log_entries_max: tight(dice, 1, 50, 1_024),
        retry_after: Duration::from_millis(tight(dice, 100, 3_000, 30_000)),
        replicas: [3, 3, 3, 3, 5, 1][usize::try_from(dice.below(6)).expect("an index")],
        ..pd::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawn_setup_is_valid() {
        for seed in 0..500 {
            let _valid = Setup::draw(&mut SplitMix::new(seed));
        }
    }

    #[test]
    fn a_setup_is_read_as_it_was_written_so_nothing_that_is_drawn_is_forgotten() {
        for seed in 0..50 {
            let setup = Setup::draw(&mut SplitMix::new(seed));
            let text = setup.to_string();
            let mut fields = Fields::parse(text.split(' ')).unwrap();
            assert_eq!(Setup::parse(&mut fields), Ok(setup));
            assert_eq!(fields.end(), Ok(()));
        }
    }
}
