//! Power losses, on a model of what a file system keeps of the write-ahead log: what was synced, and of the rest any part.
//!
//! A machine writes numbered batches, syncs, flushes single families and ingests files. At each loss of power every log
//! file keeps its synced bytes, and of later ones what chance leaves: a shorter file, cut anywhere and most often between two
//! records (which is where a file ends while it is written back), pages that are old beside new ones, a name that is
//! not there yet. A flush may not have happened yet although its log file was begun. Tables and manifests are durable when
//! RocksDB is done with them: it syncs them itself.
//!
//! What is recovered must be a prefix of the batches that has all that were synced (INV-ENGINE-1, INV-ENGINE-2), and the machine
//! then goes on with it, to the next loss of power.

use crate::{Options, options, raw};
use engine::Cf;
use env::{Dice, SplitMix};
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, IngestExternalFileOptions, SstFileWriter, WriteBatch};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How the database is opened.
#[derive(Clone, Copy)]
struct Kind {
    /// Log files begin with what the one before had at its end, and recovery compares.
    chained: bool,
    /// Log files that are written again.
    recycled: usize,
}

/// What is in a directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A log file as the disk surely has it.
#[derive(Clone)]
struct Kept {
    path: PathBuf,
    content: Vec<u8>,
}

struct Machine {
    kind: Kind,
    dice: SplitMix,
    directory: TempDir,
    database: Option<DB>,
    generation: u64,
    /// By inode.
    kept: BTreeMap<u64, Kept>,
    /// Batches written, and those of them that are synced.
    written: u64,
    synced: u64,
    /// The families that each batch writes to.
    families: Vec<Vec<Cf>>,
    ingested: Vec<u64>,
    /// The directory when the last flush began, if nothing was synced since.
    before_flush: Option<(Files, u64)>,
}

impl Machine {
    fn new(kind: Kind, seed: u64) -> Self {
        let mut machine = Self {
            kind,
            dice: SplitMix::new(seed),
            directory: memory_directory(),
            database: None,
            generation: 0,
            kept: BTreeMap::new(),
            written: 0,
            synced: 0,
            families: Vec::new(),
            ingested: Vec::new(),
            before_flush: None,
        };
        machine.open().unwrap();
        machine
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(self.generation.to_string())
    }

    fn open(&mut self) -> Result<(), rocksdb::Error> {
        let settings = Options { write_buffer_bytes: 2 << 20, ..Options::default() };
        let mut database = options::database(&settings);
        raw::chain_logs(&mut database, self.kind.chained);
        database.set_recycle_log_file_num(self.kind.recycled);
        let cache = Cache::new_lru_cache(1 << 20);
        // What runs by itself would make a run different from the next.
        let families = Cf::ALL.map(|cf| {
            let mut family = options::family(cf, &settings, Some(&cache));
            family.set_disable_auto_compactions(true);
            ColumnFamilyDescriptor::new(cf.name(), family)
        });
        self.database = Some(DB::open_cf_descriptors(&database, self.path(), families)?);
        self.keep_logs();
        Ok(())
    }

    fn database(&self) -> &DB {
        self.database.as_ref().unwrap()
    }

    /// From here on the disk has all log files as they are.
    fn keep_logs(&mut self) {
        self.kept = logs(&self.path());
        self.before_flush = None;
    }

    fn step(&mut self) {
        match self.dice.below(40) {
            0..4 => {
                self.database().flush_wal(true).unwrap();
                self.synced = self.written;
                self.keep_logs();
            }
            4..6 => self.flush(),
            6 => self.ingest(),
            // Now no older log file is needed.
            7 => {
                for cf in Cf::ALL {
                    self.database().flush_cf(&self.database().cf_handle(cf.name()).unwrap()).unwrap();
                }
                self.keep_logs();
            }
            _ => self.write(),
        }
    }

    /// The number of the batch under its own key in one family to three of them.
    fn write(&mut self) {
        let number = self.written;
        let families: Vec<Cf> = Cf::ALL.into_iter().filter(|_| self.dice.chance(1, 2)).collect();
        let families = if families.is_empty() { vec![Cf::Raft] } else { families };
        let mut batch = WriteBatch::default();
        // At times larger than a block of the log, so that records are cut into pieces.
        let padding = if self.dice.chance(1, 30) { 50_000 } else { self.dice.below(600) };
        for cf in &families {
            let mut value = number.to_be_bytes().to_vec();
            value.resize(8 + padding as usize, number as u8);
            batch.put_cf(&self.database().cf_handle(cf.name()).unwrap(), number.to_be_bytes(), value);
        }
        self.database().write(batch).unwrap();
        self.families.push(families);
        self.written += 1;
    }

    /// Begins a log file, then writes one family's memtable to a table. Other families keep the older log files alive.
    fn flush(&mut self) {
        if self.before_flush.take().is_some() {
            // The one before has happened meanwhile, and what it syncs is synced.
            let mut logs: Vec<_> = logs(&self.path()).into_iter().collect();
            logs.sort_by(|(_, a), (_, b)| a.path.cmp(&b.path));
            logs.pop();
            self.kept.extend(logs);
        }
        let before = files(&self.path());
        let logs_before = logs(&self.path());
        let kept = self.kept.clone();
        let cf = Cf::ALL[self.dice.below(4) as usize];
        self.database().flush_cf(&self.database().cf_handle(cf.name()).unwrap()).unwrap();
        // RocksDB has synced the log files before the current one by then.
        self.keep_logs();
        if self.dice.chance(1, 2) {
            // Or the flush itself is still to come: the log files stand as before, and a new one is begun.
            self.kept = kept;
            let still = logs_before.values().all(|log| log.path.exists());
            self.before_flush = still.then_some((before, self.synced));
            if !still {
                self.keep_logs();
            }
        }
    }

    /// As a store does it: what permits it is synced first.
    fn ingest(&mut self) {
        self.database().flush_wal(true).unwrap();
        self.synced = self.written;
        let number = self.written;
        let file = self.directory.path().join(format!("{number}.sst"));
        let settings = options::SST_FILE.clone();
        let mut writer = SstFileWriter::create(&settings);
        writer.open(&file).unwrap();
        writer.put([b"i", &number.to_be_bytes()[..]].concat(), number.to_be_bytes()).unwrap();
        // Over what memtables may hold: then they are flushed, and the file gets a sequence number of its own.
        writer.put([b"z", &[0_u8][..]].concat(), number.to_be_bytes()).unwrap();
        writer.finish().unwrap();
        let ingestion = IngestExternalFileOptions::default();
        let database = self.database();
        let handle = database.cf_handle(Cf::Default.name()).unwrap();
        database.ingest_external_file_cf_opts(&handle, &ingestion, vec![file]).unwrap();
        drop(handle);
        self.ingested.push(number);
        self.keep_logs();
    }

    /// Leaves of the directory what the disk has, opens it, and says what is wrong with it, if anything.
    fn lose_power(&mut self) -> Result<(), String> {
        let now = files(&self.path());
        let (mut left, undone) = match self.before_flush.take() {
            Some((before, _)) => (before, true),
            None => (now.clone(), false),
        };
        let current = logs(&self.path());
        left.retain(|path, _| !is_log(path));
        for (inode, log) in &current {
            let Some(before) = self.kept.get(inode).cloned() else {
                // A new file: its name may not be there yet.
                if self.dice.chance(3, 4) {
                    left.insert(log.path.clone(), self.torn(&[], &log.content));
                }
                continue;
            };
            let renamed = before.path != log.path;
            let path = if renamed && self.dice.chance(1, 4) { &before.path } else { &log.path };
            left.insert(path.clone(), self.torn(&before.content, &log.content));
        }
        drop(self.database.take());
        self.generation += 1;
        std::fs::create_dir(self.path()).unwrap();
        for (path, content) in left {
            std::fs::write(self.path().join(path.file_name().unwrap()), content).unwrap();
        }
        self.open().map_err(|error| format!("it does not open (flush undone: {undone}): {error}"))?;
        self.check(undone)
    }

    /// What a loss of power leaves of a file that had `old` for certain and was `new` at last.
    fn torn(&mut self, old: &[u8], new: &[u8]) -> Vec<u8> {
        const PAGE: usize = 4096;
        if old == new || self.dice.chance(1, 8) {
            return new.to_vec();
        }
        if old.len() >= new.len() {
            // Written again: pages of before and after.
            let mut content = new.to_vec();
            for (page, piece) in content.chunks_mut(PAGE).enumerate() {
                let at = page * PAGE;
                if old[at..].iter().zip(piece.iter()).any(|(a, b)| a != b) && self.dice.chance(1, 2) {
                    piece.copy_from_slice(&old[at..at + piece.len()]);
                }
            }
            return content;
        }
        let mut content = new.to_vec();
        let cut = if self.dice.chance(2, 3) {
            let ends = record_ends(new);
            let ends: Vec<usize> = ends.into_iter().filter(|end| *end >= old.len()).collect();
            ends.get(self.dice.below(ends.len() as u64) as usize).copied().unwrap_or(old.len())
        } else {
            old.len() + self.dice.below((new.len() - old.len() + 1) as u64) as usize
        };
        content.truncate(cut);
        for (page, piece) in content.chunks_mut(PAGE).enumerate() {
            let at = page * PAGE;
            let same = old.get(at..at + piece.len()).is_some_and(|old| old == piece);
            if !same && self.dice.chance(1, 12) {
                // A page that never reached the disk: zeros, or what was written again.
                for (offset, byte) in piece.iter_mut().enumerate() {
                    *byte = old.get(at + offset).copied().unwrap_or(0);
                }
            }
        }
        content
    }

    fn check(&mut self, undone: bool) -> Result<(), String> {
        let database = self.database.as_ref().unwrap();
        let found = |number: u64, cf: &Cf| {
            let handle = database.cf_handle(cf.name()).unwrap();
            let value = database.get_cf(&handle, number.to_be_bytes()).unwrap();
            value.is_some_and(|value| value[..8] == number.to_be_bytes())
        };
        let whole = |number: &u64| self.families[*number as usize].iter().all(|cf| found(*number, cf));
        let recovered = (0..self.written).take_while(whole).count() as u64;
        if recovered < self.synced {
            return Err(format!(
                "batch {recovered} is lost, {} were synced (flush undone: {undone})",
                self.synced
            ));
        }
        for number in recovered..self.written {
            for cf in &self.families[number as usize] {
                if found(number, cf) {
                    return Err(format!(
                        "batch {number} is there in part or whole, batch {recovered} is not (flush undone: {undone})"
                    ));
                }
            }
        }
        for number in &self.ingested {
            let handle = database.cf_handle(Cf::Default.name()).unwrap();
            let key = [b"i", &number.to_be_bytes()[..]].concat();
            if database.get_cf(&handle, key).unwrap().is_none() {
                return Err(format!("what was ingested after batch {number} is lost"));
            }
        }
        self.families.truncate(recovered as usize);
        self.written = recovered;
        self.synced = recovered;
        self.keep_logs();
        Ok(())
    }
}

/// Nothing here depends on the disk below, and syncs of one in memory are quick.
fn memory_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

fn files(directory: &Path) -> Files {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let entries = entries.filter(|entry| entry.file_type().unwrap().is_file());
    // A log file that nobody needs may go at any time.
    entries.filter_map(|entry| Some((entry.path(), std::fs::read(entry.path()).ok()?))).collect()
}

fn logs(directory: &Path) -> BTreeMap<u64, Kept> {
    let logs = files(directory).into_iter().filter(|(path, _)| is_log(path));
    logs.filter_map(|(path, content)| Some((std::fs::metadata(&path).ok()?.ino(), Kept { path, content })))
        .collect()
}

/// Where pieces of records end in a log file: blocks of 32 KiB, each piece with its length at byte 4 of its head.
fn record_ends(content: &[u8]) -> Vec<usize> {
    const BLOCK: usize = 32 << 10;
    let mut ends = Vec::new();
    let mut at = 0;
    while at + 11 <= content.len() {
        let head =
            if content[at + 6] >= 5 && content[at + 6] <= 8 || content[at + 6] == 131 { 11 } else { 7 };
        if BLOCK - at % BLOCK < head {
            at = (at / BLOCK + 1) * BLOCK;
            continue;
        }
        let length = usize::from(u16::from_le_bytes([content[at + 4], content[at + 5]]));
        at += head + length;
        if at > content.len() {
            break;
        }
        ends.push(at);
    }
    ends
}

/// Lives of machines until one loses what it should have: how many losses of power went well, and what went wrong.
fn run(kind: Kind, seeds: std::ops::Range<u64>) -> (u64, Vec<String>) {
    let mut well = 0;
    let mut wrong = Vec::new();
    for seed in seeds {
        let mut machine = Machine::new(kind, seed);
        for _ in 0..8 {
            for _ in 0..machine.dice.below(80) {
                machine.step();
            }
            if let Err(what) = machine.lose_power() {
                wrong.push(format!("seed {seed}: {what}"));
                break;
            }
            well += 1;
        }
    }
    (well, wrong)
}

#[test]
fn a_loss_of_power_leaves_a_prefix_that_has_all_that_was_synced() {
    let (well, wrong) = run(Kind { chained: true, recycled: 0 }, 0..16);
    assert_eq!((well, wrong), (16 * 8, Vec::new()));
}

#[test]
fn without_the_chain_a_log_file_that_ends_between_records_leaves_a_hole() {
    // What the chain is for: the older of two log files is short, the newer has what came later, and nothing told recovery
    // that something is missing between them. Seen also to say that the test above could fail.
    let mut wrong = (0..100).flat_map(|seed| run(Kind { chained: false, recycled: 0 }, seed..seed + 1).1);
    let first = wrong.next().expect("one machine in twenty loses so");
    assert!(first.contains("is there in part or whole"), "{first}");
}
