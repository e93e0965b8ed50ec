//! The disk under a store: how much is left, and the room that is kept.

use super::hub::Hub;
use crate::mailbox::{Drained, Mailbox};
use crate::measure::{Durations, get};
use crate::{BootClock, ServerError};
use engine_rocks::EngineStats;
use env::Clock as _;
use parking_lot::Mutex;
use raftstore::Input;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::{info, warn};
use wire::store::DiskState;

/// How often the disk is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A look whose write and sync took longer counts against the disk.
const SLOW_PROBE: Duration = Duration::from_millis(250);
/// What is written to see how long it takes.
const PROBE_BYTES: [u8; 512] = [0; 512];
/// The part of the reserve that the placeholder takes.
const PLACEHOLDER_PART: u64 = 4;

/// Room on a file system, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Space {
    pub(crate) capacity_bytes: u64,
    pub(crate) available_bytes: u64,
}

impl Space {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = statvfs(path)?;
        Ok(Self {
            capacity_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    /// How a store judges it that keeps `reserve_bytes`.
    pub(crate) fn state(self, reserve_bytes: u64) -> DiskState {
        if self.available_bytes >= reserve_bytes {
            DiskState::Ok
        } else if self.available_bytes >= reserve_bytes / 2 {
            DiskState::Low
        } else {
            DiskState::Full
        }
    }
}

/// Makes the file that an operator may delete to let a full store run; not when there is too little room for it, since
/// then it was most likely deleted for a reason.
pub(crate) fn keep_placeholder(data_dir: &Path, reserve_bytes: u64) -> Result<(), ServerError> {
    let path = data_dir.join("space_placeholder");
    let unusable = |error: io::Error| {
        ServerError::DataDir(format!("the disk under {} cannot be used: {error}", data_dir.display()))
    };
    let wanted = reserve_bytes / PLACEHOLDER_PART;
    let has = path.metadata().map_or(0, |found| found.len());
    if has == wanted || (wanted == 0 && has == 0) {
        return Ok(());
    }
    if wanted > has && Space::of(data_dir).map_err(unusable)?.available_bytes < reserve_bytes {
        warn!(path = %path.display(), "there is too little space for the placeholder");
        return Ok(());
    }
    let made = make_placeholder(&path, wanted);
    if let Err(error) = made {
        // The store can run without it.
        warn!(path = %path.display(), %error, "the placeholder cannot be made");
        let _ = std::fs::remove_file(&path);
    }
    Ok(())
}

fn make_placeholder(path: &Path, bytes: u64) -> io::Result<()> {
    let file: File = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    if bytes > 0 {
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    }
    Ok(())
}

/// How slow the disk has been of late: one is well, a hundred is as bad as it gets. Each slow look doubles it, and each good
/// one takes a tenth of what it is above one, so that it rises within half a minute and falls over one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct SlowScore(f64);

impl Default for SlowScore {
    fn default() -> Self {
        Self(1.0)
    }
}

impl SlowScore {
    fn note(self, is_slow: bool) -> Self {
        Self(if is_slow { (self.0 * 2.0).min(100.0) } else { 1.0 + (self.0 - 1.0) * 0.9 })
    }

    pub(crate) fn get(self) -> f64 {
        self.0
    }
}

/// How long it takes to write a little to the disk and to sync it, in a file of its own.
fn probe(data_dir: &Path) -> io::Result<Duration> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(data_dir.join("disk_probe"))?;
    let begun = BootClock.now();
    file.write_all_at(&PROBE_BYTES, 0)?;
    file.sync_data()?;
    Ok(BootClock.now().since(begun))
}

/// Looks at the disk and at the engine every few seconds.
pub(crate) struct Watch {
    pub(crate) data_dir: PathBuf,
    pub(crate) reserve_bytes: u64,
    /// Closed when it is to end.
    pub(crate) stop: Mailbox<()>,
    /// The engine's numbers as of the last look.
    pub(crate) engine: Mutex<Option<EngineStats>>,
    /// How long probes of the disk took, whatever the store itself has written.
    pub(crate) probes: Durations,
    pub(crate) slow_score: Mutex<SlowScore>,
}

impl Watch {
    /// Looks until it is stopped.
    pub(crate) fn run(&self, hub: &Hub) {
        while self.stop.drain(&mut Vec::new(), 1, Some(LOOK_INTERVAL)) != Drained::Closed {
            self.look(hub);
        }
    }

    /// Looks once.
    pub(crate) fn look(&self, hub: &Hub) {
        let stats = hub.engine.stats();
        if stats.background_errors > 0 {
            crate::logging::fatal("background work of the engine", &"see the engine's own log");
        }
        let used = stats.wal_bytes + stats.families.iter().map(|family| family.sst_bytes).sum::<u64>();
        hub.disk.used_bytes.store(used, Ordering::Relaxed);
        *self.engine.lock() = Some(stats);
        // On a full disk there may be no room for it, which is told below.
        if let Ok(took) = probe(&self.data_dir) {
            self.probes.observe(took);
            let mut score = self.slow_score.lock();
            *score = score.note(took > SLOW_PROBE);
        }
        let space = match Space::of(&self.data_dir) {
            Ok(space) => space,
            Err(error) => return warn!(%error, "the disk does not say how much space is left"),
        };
        hub.disk.capacity_bytes.store(space.capacity_bytes, Ordering::Relaxed);
        hub.disk.available_bytes.store(space.available_bytes, Ordering::Relaxed);
        let (before, state) = (hub.disk.state(), space.state(self.reserve_bytes));
        if state != before {
            let available_bytes = get(&hub.disk.available_bytes);
            match state {
                DiskState::Ok => info!(available_bytes, "there is space on the disk again"),
                DiskState::Low => warn!(available_bytes, "space is low: client writes are refused"),
                DiskState::Full => warn!(available_bytes, "the disk is full: appends are refused"),
            }
            hub.disk.set_state(state);
            hub.workers.tell_all(|| Input::DiskOf(hub.store_id, state));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_follows_what_is_left_of_the_reserve() {
        let state = |available_bytes| Space { capacity_bytes: 1000, available_bytes }.state(100);
        assert_eq!(
            [state(100), state(99), state(50), state(49)],
            [DiskState::Ok, DiskState::Low, DiskState::Low, DiskState::Full]
        );
    }

    /// A disk that stalls once is soon forgiven; one that goes on is told apart within half a minute of looks.
    #[test]
    fn the_score_rises_with_slow_looks_and_falls_with_good_ones() {
        let after =
            |looks: &[bool]| looks.iter().fold(SlowScore::default(), |score, slow| score.note(*slow)).get();
        assert_eq!(after(&[false; 5]), 1.0);
        assert_eq!(after(&[true]), 2.0);
        assert_eq!(after(&[true; 7]), 100.0);
        assert!(after(&[[true; 7].as_slice(), &[false; 30]].concat()) < 10.0);
    }

    #[test]
    fn a_probe_leaves_one_small_file() {
        let dir = tempfile::tempdir().expect("a directory");
        for _ in 0..2 {
            assert!(probe(dir.path()).expect("the disk is well") > Duration::ZERO);
        }
        assert_eq!(dir.path().join("disk_probe").metadata().expect("it is there").len(), 512);
        assert!(probe(&dir.path().join("nowhere")).is_err());
    }

    #[test]
    fn the_placeholder_takes_its_part_and_is_not_forced_upon_a_full_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("space_placeholder");
        keep_placeholder(dir.path(), 400 << 10).expect("made");
        assert_eq!(path.metadata().expect("it is there").len(), 100 << 10);
        std::fs::remove_file(&path).expect("as an operator does");
        keep_placeholder(dir.path(), u64::MAX).expect("left out");
        assert!(!path.exists());
    }
}
