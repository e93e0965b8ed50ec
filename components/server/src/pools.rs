//! Processor time of a process's pools of threads.
//!
//! Threads of one pool are named alike, but for a number at the end. What a thread has used is remembered when it ends, so that a
//! pool's sum only grows.

use crate::measure::Exposition;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What each thread had used when it was last looked at, and what those had used that are gone, by pool.
#[derive(Default)]
struct Known {
    threads: BTreeMap<u64, (String, u64)>,
    gone: BTreeMap<String, u64>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { threads: BTreeMap::new(), gone: BTreeMap::new() });

/// Shows the processor time of this process's threads.
pub(crate) fn metrics(exposition: &mut Exposition) {
    let threads = threads(Path::new("/proc/self/task"));
    let help = "Processor time of threads; a pool that uses a whole core for each of its threads is what holds the process back.";
    for (pool, nanos) in KNOWN.lock().update(threads) {
        let time = Duration::from_nanos(nanos);
        exposition.seconds("flotilla_thread_cpu_seconds_total", help, &[("pool", &pool)], time);
    }
}

impl Known {
    /// The sums by pool, after these threads were found.
    fn update(&mut self, threads: BTreeMap<u64, (String, u64)>) -> BTreeMap<String, u64> {
        for (id, (pool, nanos)) in std::mem::take(&mut self.threads) {
            // A number may be given again, to a thread that has used less.
            let goes_on = threads.get(&id).is_some_and(|(now, used)| *now == pool && *used >= nanos);
            if !goes_on {
                *self.gone.entry(pool).or_default() += nanos;
            }
        }
        self.threads = threads;
        let mut sums = self.gone.clone();
        for (pool, nanos) in self.threads.values() {
            *sums.entry(pool.clone()).or_default() += nanos;
        }
        sums
    }
}

/// Pool and nanoseconds of processor time of each thread; those that end meanwhile are left out.
fn threads(tasks: &Path) -> BTreeMap<u64, (String, u64)> {
    let entries = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let thread = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        // The first number is the time on a processor.
        let times = std::fs::read_to_string(entry.path().join("schedstat")).ok()?;
        // The first thread is named like the program's file.
        let pool = if id == u64::from(std::process::id()) { "main" } else { pool_of(name.trim()) };
        Some((id, (pool.to_owned(), times.split(' ').next()?.parse().ok()?)))
    };
    entries.filter_map(thread).collect()
}

fn pool_of(name: &str) -> &str {
    name.trim_end_matches(|end: char| end.is_ascii_digit()).trim_end_matches(['-', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_pool_have_its_name() {
        for (name, pool) in
            [("raft-0", "raft"), ("apply-12", "apply"), ("rocksdb:low0", "rocksdb:low"), ("log", "log")]
        {
            assert_eq!(pool_of(name), pool);
        }
    }

    #[test]
    fn what_a_thread_has_used_stays_counted_when_it_is_gone() {
        let mut known = Known::default();
        let thread = |pool: &str, nanos| (pool.to_owned(), nanos);
        known.update(BTreeMap::from([(1, thread("raft", 5)), (2, thread("raft", 7))]));
        // One ends, and its number goes to another.
        let sums = known.update(BTreeMap::from([(1, thread("raft", 6)), (2, thread("slow", 1))]));
        assert_eq!(sums, BTreeMap::from([("raft".to_owned(), 13), ("slow".to_owned(), 1)]));
        let sums = known.update(BTreeMap::from([(1, thread("raft", 8)), (2, thread("slow", 2))]));
        assert_eq!(sums, BTreeMap::from([("raft".to_owned(), 15), ("slow".to_owned(), 2)]));
    }

    #[test]
    fn this_process_has_threads() {
        assert!(!threads(Path::new("/proc/self/task")).is_empty());
        assert!(threads(Path::new("/nowhere")).is_empty());
    }
}
