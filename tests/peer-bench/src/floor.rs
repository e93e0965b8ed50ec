//! The floor: what is left of a put when everything but its storage work is taken away.
//!
//! One thread writes batches of log entries unsynced and syncs them, as a store's log writer does; another applies them, a
//! key and a value each and one apply state per batch, unsynced. It goes through our engine, in one process or in three
//! at once (what three replicas cost on one machine). Beside it stands the disk alone: a file that grows by a block and
//! is synced, again and again.

use crate::clock;
use crate::driver::{Measured, Timing, repeat};
use crate::workload::DataSet;
use anyhow::{Context as _, ensure};
use engine::{Cf, Engine as _, WriteBatch};
use engine_rocks::{Options, RocksEngine};
use env::{Dice as _, SplitMix};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Bytes of one entry of the log: the command of a put of sixteen and 128 bytes, and what Raft adds.
const ENTRY_BYTES: usize = 170;
/// Bytes of an apply state.
const STATE_BYTES: usize = 40;
/// Batches that may wait to be applied.
const WAITING_MAX: usize = 8;
/// Puts after which the log's older half is cut off.
const LOG_PUTS_MAX: u64 = 20_000;
/// One block of the file that the disk alone is measured by.
const BLOCK: [u8; 4096] = [0x5a; 4096];

/// One kind of floor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Floor {
    pub(crate) name: &'static str,
    /// Puts of each batch.
    pub(crate) batch: u64,
    /// Processes at once.
    pub(crate) processes: usize,
    /// Whether the puts of a batch are one entry of the log, as those of one turn of our workers are; else each is one.
    pub(crate) is_merged: bool,
}

const fn floor(name: &'static str, batch: u64, processes: usize) -> Floor {
    Floor { name, batch, processes, is_merged: false }
}

pub(crate) const FLOORS: [Floor; 5] = [
    floor("floor_b1_x1", 1, 1),
    floor("floor_b1_x3", 1, 3),
    floor("floor_b50_x1", 50, 1),
    floor("floor_b50_x3", 50, 3),
    floor("floor_b100_x3", 100, 3),
];

/// The name of the row of the disk alone.
pub(crate) const DISK: &str = "disk_fdatasync_4k";

/// What a process of the floor tells when it ends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Told {
    seconds: f64,
    /// Puts applied.
    puts: u64,
    cpu_seconds: f64,
    syncs: u64,
    /// Write and sync of a log batch, in microseconds.
    latencies: Vec<u32>,
}

/// Measures a floor: starts its processes, which are this program again, and adds up what they tell. Operations are the
/// puts of one process, costs those of all: what a put costs that so many replicas store.
pub(crate) fn measure(floor: Floor, directory: &Path, timing: Timing) -> anyhow::Result<Measured> {
    let own = std::env::current_exe().context("finding this program")?;
    let directories: Vec<_> =
        (0..floor.processes).map(|number| directory.join(format!("floor-{number}"))).collect();
    let start = |directory: &std::path::PathBuf| -> anyhow::Result<Child> {
        Command::new(&own)
            .arg("--floor-worker")
            .arg(directory)
            .arg("--floor-batch")
            .arg(floor.batch.to_string())
            .args(floor.is_merged.then_some("--floor-merged"))
            .arg("--warm-up")
            .arg(timing.warm_up.as_secs().to_string())
            .arg("--seconds")
            .arg(timing.counted.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a process of the floor")
    };
    let children = directories.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let mut measured = Measured { syncs: Some(0), ..Measured::default() };
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "a process of the floor ended: {}", output.status);
        let told: Told = serde_json::from_slice(&output.stdout).context("reading what the floor tells")?;
        measured.seconds += told.seconds / floor.processes as f64;
        measured.operations += told.puts as f64 / floor.processes as f64;
        measured.servers_cpu += Duration::from_secs_f64(told.cpu_seconds);
        measured.syncs = measured.syncs.map(|syncs| syncs + told.syncs);
        measured.latencies.extend(told.latencies);
    }
    measured.latencies.sort_unstable();
    for directory in directories {
        std::fs::remove_dir_all(directory)?;
    }
    Ok(measured)
}

/// What a process of the floor does; prints what it has to tell.
pub(crate) fn work(directory: &Path, batch: u64, is_merged: bool, timing: Timing) -> anyhow::Result<()> {
    let engine = RocksEngine::open(directory, &Options::default())?;
    fill(&engine)?;
    let (is_counting, is_stopped) = (AtomicBool::new(false), AtomicBool::new(false));
    let (applied, synced) = (AtomicU64::new(0), AtomicU64::new(0));
    let told = std::thread::scope(|scope| -> anyhow::Result<Told> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let applier = scope.spawn(|| apply(&engine, receiver, batch, &applied));
        let writer = scope.spawn(|| -> anyhow::Result<Vec<u32>> {
            let sender = sender;
            let mut latencies = Vec::new();
            let mut log = if is_merged { Log::new(1, batch) } else { Log::new(batch, 1) };
            while !is_stopped.load(Ordering::Relaxed) {
                let begin = clock::now();
                log.append(&engine)?;
                let took = begin.elapsed();
                if is_counting.load(Ordering::Relaxed) {
                    latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                    synced.fetch_add(1, Ordering::Relaxed);
                }
                if sender.send(()).is_err() {
                    break;
                }
            }
            Ok(latencies)
        });
        clock::pause(timing.warm_up);
        let (begin, cpu, puts) = (clock::now(), clock::own_cpu(), applied.load(Ordering::Relaxed));
        is_counting.store(true, Ordering::Relaxed);
        clock::pause(timing.counted);
        let puts = applied.load(Ordering::Relaxed) - puts;
        let syncs = synced.load(Ordering::Relaxed);
        let (seconds, cpu) = (begin.elapsed().as_secs_f64(), clock::own_cpu().saturating_sub(cpu));
        is_stopped.store(true, Ordering::Relaxed);
        let latencies = writer.join().expect("the log writer does not panic")?;
        applier.join().expect("the applier does not panic")?;
        Ok(Told { seconds, puts, cpu_seconds: cpu.as_secs_f64(), syncs, latencies })
    })?;
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

/// All keys, so that puts find what they find in a store that was loaded.
fn fill(engine: &RocksEngine) -> anyhow::Result<()> {
    let data = DataSet::Small;
    let mut dice = SplitMix::new(1).fork("load");
    let mut batch = WriteBatch::new();
    for number in 0..data.keys() {
        batch.put(Cf::Default, data.key(number).as_bytes(), data.value(&mut dice).as_bytes());
        if batch.len() == 1000 {
            engine.write(&batch)?;
            batch.clear();
        }
    }
    engine.write(&batch)?;
    engine.flush()?;
    Ok(())
}

/// The log of one group, as the log writer sees it.
struct Log {
    /// Entries of each batch.
    batch: u64,
    /// One entry.
    entry: Vec<u8>,
    /// Entries after which the older half is cut off.
    entries_max: u64,
    first: u64,
    next: u64,
    dice: SplitMix,
    write: WriteBatch,
}

impl Log {
    /// With so many entries in a batch, of so many puts each.
    fn new(batch: u64, puts: u64) -> Self {
        let entry = vec![0; ENTRY_BYTES * usize::try_from(puts).expect("a batch fits memory")];
        let entries_max = LOG_PUTS_MAX / puts;
        Self {
            batch,
            entry,
            entries_max,
            first: 1,
            next: 1,
            dice: SplitMix::new(2).fork("log"),
            write: WriteBatch::new(),
        }
    }

    /// Where an entry lies: shaped like the entries of a group's log.
    fn key(index: u64) -> [u8; 18] {
        let mut key = [0; 18];
        key[0] = 2;
        key[8] = 7;
        key[9] = 1;
        key[10..].copy_from_slice(&index.to_be_bytes());
        key
    }

    /// Appends a batch and makes it durable.
    fn append(&mut self, engine: &RocksEngine) -> anyhow::Result<()> {
        self.write.clear();
        for _ in 0..self.batch {
            for piece in self.entry.chunks_mut(8) {
                let bytes = self.dice.next_u64().to_le_bytes();
                piece.copy_from_slice(&bytes[..piece.len()]);
            }
            self.write.put(Cf::Raft, &Self::key(self.next), &self.entry);
            self.next += 1;
        }
        if self.next - self.first > self.entries_max {
            let cut = self.next - self.entries_max / 2;
            self.write.delete_range(Cf::Raft, &Self::key(self.first), &Self::key(cut));
            self.first = cut;
        }
        engine.write(&self.write)?;
        engine.sync()?;
        Ok(())
    }
}

/// Applies a batch for every one that the log has.
fn apply(engine: &RocksEngine, logged: Receiver<()>, batch: u64, applied: &AtomicU64) -> anyhow::Result<()> {
    let data = DataSet::Small;
    let mut dice = SplitMix::new(3).fork("apply");
    let value = data.value(&mut dice);
    let mut write = WriteBatch::new();
    for () in logged {
        write.clear();
        for _ in 0..batch {
            write.put(Cf::Default, data.key(dice.below(data.keys())).as_bytes(), value.as_bytes());
        }
        write.put(Cf::Raft, &[3, 7], &[0; STATE_BYTES]);
        engine.write(&write)?;
        applied.fetch_add(batch, Ordering::Relaxed);
    }
    Ok(())
}

/// Measures the disk alone.
pub(crate) fn measure_disk(directory: &Path, timing: Timing) -> anyhow::Result<Measured> {
    let path = directory.join("disk");
    let mut file = File::create(&path)?;
    let measured = repeat(timing, || {
        let begin = clock::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        Ok(begin.elapsed())
    })?;
    std::fs::remove_file(path)?;
    let syncs = Some(measured.latencies.len() as u64);
    Ok(Measured { syncs, ..measured })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_cut_and_keeps_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(directory.path(), &Options::default()).unwrap();
        let mut log = Log::new(1000, 1);
        for _ in 0..30 {
            log.append(&engine).unwrap();
        }
        assert_eq!(log.next, 30_001);
        assert!(log.next - log.first <= LOG_PUTS_MAX);
        let has = |index| engine.get(Cf::Raft, &Log::key(index)).unwrap().is_some();
        assert!(!has(1) && !has(log.first - 1) && has(log.first) && has(30_000));
    }

    #[test]
    fn what_is_logged_is_applied() {
        let directory = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(directory.path(), &Options::default()).unwrap();
        let (sender, receiver) = sync_channel(3);
        (0..3).for_each(|_| sender.send(()).unwrap());
        drop(sender);
        let applied = AtomicU64::new(0);
        apply(&engine, receiver, 50, &applied).unwrap();
        assert_eq!(applied.into_inner(), 150);
        assert!(engine.get(Cf::Raft, &[3, 7]).unwrap().is_some());
    }
}
