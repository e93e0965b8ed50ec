//! Power losses, on a model of what a disk keeps of the journal: what was synced, and of the last write any part.
//!
//! A machine writes numbered batches, syncs, flushes and ingests files. At each loss of power a sync is under way: the blocks
//! that it writes are on disk or not, each for itself, and one may be torn between two sectors. Or nothing of it was
//! begun. Tables and manifests are durable when RocksDB is done with them: it syncs them itself.
//!
//! What is recovered must be a prefix of the batches that has all that were synced (INV-ENGINE-1, INV-ENGINE-2), and the machine
//! then goes on with it, to the next loss of power.

use crate::{Options, RocksEngine};
use engine::{Cf, Engine, WriteBatch};
use env::{Dice, SplitMix};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SECTOR_BYTES: usize = 512;
const BLOCK_BYTES: usize = 4096;

/// What a disk does that it should not, to see that it is found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    None,
    /// Now and then a sync is acknowledged and not done.
    LosesSyncs,
    /// A write that is under way harms the block before it.
    HarmsNeighbours,
}

/// What is in a directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

struct Machine {
    lie: Lie,
    dice: SplitMix,
    directory: TempDir,
    engine: Option<RocksEngine>,
    life: u64,
    /// The journal's files when the last sync had ended.
    kept: Files,
    /// Batches written, and those of them that are synced.
    written: u64,
    synced: u64,
    /// The families that each batch writes to.
    families: Vec<Vec<Cf>>,
    /// By number of the file, how many batches had been written.
    ingested: Vec<u64>,
}

impl Machine {
    fn new(lie: Lie, seed: u64) -> Self {
        let memory = Path::new("/dev/shm");
        let directory =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let mut machine = Self {
            lie,
            dice: SplitMix::new(seed),
            directory,
            engine: None,
            life: 0,
            kept: Files::new(),
            written: 0,
            synced: 0,
            families: Vec::new(),
            ingested: Vec::new(),
        };
        machine.open().unwrap();
        machine
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(self.life.to_string())
    }

    fn open(&mut self) -> Result<(), String> {
        // Nothing is flushed by itself, so that a run is as the one before it.
        let options = Options { max_total_wal_bytes: 1 << 40, ..Options::default() };
        let opened = RocksEngine::open(self.path(), &options).map_err(|error| error.to_string())?;
        self.engine = Some(opened);
        self.kept = self.journal();
        Ok(())
    }

    fn engine(&self) -> &RocksEngine {
        self.engine.as_ref().unwrap()
    }

    /// RocksDB's files, at a moment at which no compaction changes them.
    fn database(&self) -> Files {
        loop {
            let found = files(&self.path());
            if found == files(&self.path()) {
                return found;
            }
        }
    }

    fn journal(&self) -> Files {
        files(&self.path().join("journal"))
    }

    fn step(&mut self) {
        match self.dice.below(40) {
            0..6 => self.sync(),
            6 => {
                self.engine().flush().unwrap();
                // Files hold them, whatever becomes of the journal.
                self.synced = self.written;
            }
            7 => self.ingest(),
            _ => self.write(),
        }
    }

    fn sync(&mut self) {
        self.engine().sync().unwrap();
        self.synced = self.written;
        if self.lie != Lie::LosesSyncs || self.dice.below(3) > 0 {
            self.kept = self.journal();
        }
    }

    /// Each batch has its number, and overwrites and removes what earlier ones have put.
    fn write(&mut self) {
        let mut families: Vec<Cf> = Cf::ALL.into_iter().filter(|_| self.dice.below(2) == 0).collect();
        if families.is_empty() {
            families.push(Cf::Raft);
        }
        // Some are longer than a block, few than a segment's step.
        let length = [10, 300, 5000, 50_000][self.dice.below(4) as usize / (1 + self.dice.below(2) as usize)];
        let mut batch = WriteBatch::new();
        for cf in &families {
            batch.put(*cf, &self.written.to_be_bytes(), &vec![self.written as u8; length]);
            batch.put(*cf, b"last", &self.written.to_be_bytes());
        }
        self.engine().write(&batch).unwrap();
        self.families.push(families);
        self.written += 1;
    }

    /// A file over what batches have put there. What permits it is synced first.
    fn ingest(&mut self) {
        self.write_shared(0);
        self.sync();
        let name = format!("file-{}", self.ingested.len());
        let mut writer = self.engine().create_sst(Cf::Default, &name).unwrap();
        writer.put(b"shared", &(self.ingested.len() as u64).to_be_bytes()).unwrap();
        assert!(writer.finish().unwrap());
        self.engine().ingest(&[(Cf::Default, name.clone())]).unwrap();
        self.engine().remove_sst(&name).unwrap();
        self.ingested.push(self.written);
    }

    /// A batch at the key that files are ingested over.
    fn write_shared(&mut self, value: u64) {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, b"shared", &(value | 1 << 63).to_be_bytes());
        batch.put(Cf::Raft, &self.written.to_be_bytes(), b"shared");
        batch.put(Cf::Raft, b"last", &self.written.to_be_bytes());
        self.engine().write(&batch).unwrap();
        self.families.push(vec![Cf::Raft]);
        self.written += 1;
    }

    fn lose_power(&mut self) -> Result<(), String> {
        let database = self.database();
        let old = self.kept.clone();
        // What the last write would have left.
        self.engine().sync().unwrap();
        let new = self.journal();
        let is_begun = self.dice.below(4) > 0;
        let mut journal = Files::new();
        for (path, old) in &old {
            let new = new.get(path).unwrap_or(old);
            journal.insert(path.clone(), if is_begun { self.torn(old, new) } else { old.clone() });
        }
        for (path, new) in &new {
            // A file that is new is there if its head is: the directory is synced before.
            if is_begun && !old.contains_key(path) {
                let torn = self.torn(&[], new);
                journal.insert(path.clone(), torn);
            }
        }
        self.engine = None;
        self.life += 1;
        let path = self.path();
        std::fs::create_dir_all(path.join("journal")).unwrap();
        for (name, content) in database.iter().chain(&journal) {
            let place = if journal.contains_key(name) { path.join("journal") } else { path.clone() };
            std::fs::write(place.join(name), content).unwrap();
        }
        self.open()?;
        self.check()
    }

    /// Some blocks of a write, and the others as they were.
    fn torn(&mut self, old: &[u8], new: &[u8]) -> Vec<u8> {
        let mut torn = old.to_vec();
        torn.resize(new.len().max(old.len()), 0);
        let is_whole = self.dice.below(4) == 0;
        for start in (0..new.len()).step_by(BLOCK_BYTES) {
            let block = start..(start + BLOCK_BYTES).min(new.len());
            if new[block.clone()] == torn[block.clone()] {
                continue;
            }
            if self.lie == Lie::HarmsNeighbours && start >= BLOCK_BYTES {
                torn[start - 1..start].fill(0x55);
                torn[start - BLOCK_BYTES..][..100].fill(0x55);
            }
            let sectors = match self.dice.below(3) {
                _ if is_whole => BLOCK_BYTES / SECTOR_BYTES,
                0 => 0,
                1 => self.dice.below(8) as usize,
                _ => BLOCK_BYTES / SECTOR_BYTES,
            };
            let end = (start + sectors * SECTOR_BYTES).min(block.end);
            torn[start..end].copy_from_slice(&new[start..end]);
        }
        torn
    }

    /// Finds out how many batches there are, and that they are the first ones.
    fn check(&mut self) -> Result<(), String> {
        let engine = self.engine();
        let has = |cf: Cf, number: u64| engine.get(cf, &number.to_be_bytes()).unwrap().is_some();
        let is_there = |number: u64| {
            let families = &self.families[number as usize];
            let there = families.iter().filter(|cf| has(**cf, number)).count();
            match there {
                0 => Ok(false),
                _ if there == families.len() => Ok(true),
                _ => Err(format!("batch {number} is there in part")),
            }
        };
        let mut found = 0;
        for number in 0..self.written {
            match is_there(number)? {
                true if found == number => found += 1,
                true => return Err(format!("batch {number} is there, and {found} is not")),
                false => {}
            }
        }
        if found < self.synced {
            return Err(format!("{found} batches are there, and {} were synced", self.synced));
        }
        for cf in Cf::ALL {
            let last = (0..found).rev().find(|number| {
                let is_shared = engine.get(Cf::Raft, &number.to_be_bytes()).unwrap();
                self.families[*number as usize].contains(&cf)
                    && (cf == Cf::Raft || is_shared.as_deref() != Some(b"shared"))
            });
            let expected = last.map(|last| last.to_be_bytes().to_vec());
            let is = engine.get(cf, b"last").unwrap().map(|value| value.to_vec());
            if is != expected {
                return Err(format!("{}: what was written last is {is:?}, not {expected:?}", cf.name()));
            }
        }
        let shared = engine.get(Cf::Default, b"shared").unwrap().map(|value| value.to_vec());
        let file = self.ingested.len().checked_sub(1).map(|file| (file as u64).to_be_bytes().to_vec());
        if shared != file {
            return Err(format!("the last file that was ingested is {file:?}, and {shared:?} is there"));
        }
        self.written = found;
        self.synced = found;
        self.families.truncate(found as usize);
        Ok(())
    }
}

/// The files of a directory, by their names.
fn files(directory: &Path) -> Files {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file() && entry.file_name() != "LOCK");
    // One that RocksDB does not need any more may go meanwhile.
    files
        .filter_map(|entry| Some((PathBuf::from(entry.file_name()), std::fs::read(entry.path()).ok()?)))
        .collect()
}

/// Runs machines; tells how many losses of power there were and what was found.
fn run(lie: Lie, seeds: std::ops::Range<u64>) -> (u64, Vec<String>) {
    let (mut losses, mut found) = (0, Vec::new());
    for seed in seeds {
        let mut machine = Machine::new(lie, seed);
        for life in 0..4 {
            for _ in 0..10 + machine.dice.below(80) {
                machine.step();
            }
            losses += 1;
            if let Err(what) = machine.lose_power() {
                found.push(format!("seed {seed}, life {life}: {what}"));
                break;
            }
        }
    }
    (losses, found)
}

#[test]
fn a_loss_of_power_leaves_a_prefix_that_has_all_that_was_synced() {
    let (losses, found) = run(Lie::None, 0..60);
    assert!(found.is_empty(), "{losses} losses: {found:#?}");
    assert!(losses == 240, "{losses}");
}

#[test]
fn a_disk_that_lies_is_found_out() {
    for lie in [Lie::LosesSyncs, Lie::HarmsNeighbours] {
        let (losses, found) = run(lie, 0..20);
        assert!(!found.is_empty(), "{lie:?}: {losses} losses");
    }
}
