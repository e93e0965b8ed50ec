//! How far the engine is from slowing down, read seldom and known to all.

use engine::{Engine as _, Pressure};
use engine_rocks::RocksEngine;
use std::sync::atomic::{AtomicU64, Ordering};
use types::MonoTime;

/// Asking RocksDB costs as much as a request; what it says changes by files and memtables, not by requests.
const FRESH_NANOS: u64 = 5_000_000;

/// The engine's pressure as of a few milliseconds ago.
#[derive(Default, Debug)]
pub(crate) struct PressureCache {
    read_at: AtomicU64,
    level0_files: AtomicU64,
    immutable_memtables: AtomicU64,
    pending_compaction_bytes: AtomicU64,
}

impl PressureCache {
    pub(crate) fn get(&self, engine: &RocksEngine, now: MonoTime) -> Pressure {
        let read_at = self.read_at.load(Ordering::Relaxed);
        let is_old = read_at == 0 || now.0 > read_at + FRESH_NANOS;
        // Whoever sets the time is the one who asks; others use what is there.
        if is_old
            && self
                .read_at
                .compare_exchange(read_at, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let pressure = engine.pressure();
            if pressure.background_errors > 0 {
                crate::logging::fatal("background work of the engine", &"see the engine's own log");
            }
            self.level0_files.store(pressure.level0_files, Ordering::Relaxed);
            self.immutable_memtables.store(pressure.immutable_memtables, Ordering::Relaxed);
            self.pending_compaction_bytes.store(pressure.pending_compaction_bytes, Ordering::Relaxed);
        }
        Pressure {
            level0_files: self.level0_files.load(Ordering::Relaxed),
            immutable_memtables: self.immutable_memtables.load(Ordering::Relaxed),
            pending_compaction_bytes: self.pending_compaction_bytes.load(Ordering::Relaxed),
            background_errors: 0,
        }
    }
}
