//! The disk under a store: how much is left, and the room that is kept.

use super::hub::Hub;
use crate::ServerError;
use crate::mailbox::{Drained, Mailbox};
use crate::measure::get;
use engine_rocks::EngineStats;
use parking_lot::Mutex;
use raftstore::Input;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::{info, warn};
use wire::store::DiskState;

/// How often the disk is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
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

/// Looks at the disk and at the engine every few seconds.
pub(crate) struct Watch {
    pub(crate) data_dir: PathBuf,
    pub(crate) reserve_bytes: u64,
    /// Closed when it is to end.
    pub(crate) stop: Mailbox<()>,
    /// The engine's numbers as of the last look.
    pub(crate) engine: Mutex<Option<EngineStats>>,
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
