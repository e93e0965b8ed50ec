//! RocksDB beside the engine in memory: the same random operations, the same answers. What the simulator finds true of
//! the one is then true of the other.
//!
//! A failure names the seed and the step; the run is the same every time.
#![expect(clippy::unwrap_used, reason = "in the helpers of a test a failure is the test's")]

use engine::{Cf, Engine, EngineIterator, FileDeletion, MemEngine, MemSnapshot, Snapshot, WriteBatch};
use engine_rocks::{Options, RocksEngine, RocksSnapshot};
use env::{Dice, SplitMix};
use std::collections::BTreeSet;
use std::path::PathBuf;
use types::KeyRange;

const OPERATIONS: u64 = 250_000;
const KEYS: u64 = 3_000;

struct Pair {
    seed: u64,
    step: u64,
    /// Batch operations, reads and moves so far.
    operations: u64,
    dice: SplitMix,
    path: PathBuf,
    rocks: Option<RocksEngine>,
    mem: MemEngine,
    snapshots: Vec<(RocksSnapshot, MemSnapshot)>,
    files: u64,
}

fn options() -> Options {
    // Small memtables: many flushes and compactions in a short run.
    Options { write_buffer_bytes: 128 << 10, ..Options::default() }
}

impl Pair {
    fn rocks(&self) -> &RocksEngine {
        self.rocks.as_ref().expect("only missing in the middle of a restart")
    }

    fn key(&mut self) -> Vec<u8> {
        let number = self.dice.below(KEYS);
        // Different lengths, prefixes of each other, bytes at both ends of their range.
        match number % 5 {
            0 => vec![(number >> 8) as u8],
            1 => vec![(number >> 8) as u8, number as u8],
            2 => vec![(number >> 8) as u8, number as u8, 0],
            3 => vec![(number >> 8) as u8, number as u8, 0xff],
            _ => format!("r{number:08}").into_bytes(),
        }
    }

    /// Mostly narrow, at times without an end or without a beginning, rarely inverted.
    fn range(&mut self) -> KeyRange {
        let (mut start, mut end) = (self.key(), self.key());
        if start > end && self.dice.below(10) > 0 {
            std::mem::swap(&mut start, &mut end);
        }
        match self.dice.below(10) {
            0 => start.clear(),
            1 => end.clear(),
            2..6 => {
                end.clone_from(&start);
                end.push(0x80);
            }
            _ => {}
        }
        KeyRange::new(start, end)
    }

    fn family(&mut self) -> Cf {
        Cf::ALL[self.dice.below(4) as usize]
    }

    fn value(&mut self) -> Vec<u8> {
        let size = if self.dice.below(200) == 0 { 20_000 } else { self.dice.below(60) };
        let byte = self.dice.below(256) as u8;
        let mut value = self.step.to_be_bytes().to_vec();
        value.resize(8 + size as usize, byte);
        value
    }

    fn write(&mut self) {
        let mut batch = WriteBatch::new();
        for _ in 0..=self.dice.below(30) {
            let (cf, key) = (self.family(), self.key());
            match self.dice.below(40) {
                0 => {
                    let range = self.range();
                    batch.delete_range(cf, &range.start, &range.end);
                }
                1..9 => batch.delete(cf, &key),
                _ => {
                    let value = self.value();
                    batch.put(cf, &key, &value);
                }
            }
        }
        self.operations += batch.len() as u64;
        self.rocks().write(&batch).unwrap();
        self.mem.write(&batch).unwrap();
    }

    fn ingest(&mut self) {
        let mut names = Vec::new();
        for cf in Cf::DATA {
            let keys: BTreeSet<_> = (0..self.dice.below(40)).map(|_| self.key()).collect();
            let keys: Vec<_> = keys.into_iter().collect();
            // Ascending keys cut into parts: the files do not overlap.
            for part in keys.chunks(25) {
                let name = format!("{}.sst", self.files);
                self.files += 1;
                let value = self.value();
                let mut rocks = self.rocks().create_sst(cf, &name).unwrap();
                let mut mem = self.mem.create_sst(cf, &name).unwrap();
                for key in part {
                    rocks.put(key, &value).unwrap();
                    mem.put(key, &value).unwrap();
                }
                assert!(rocks.finish().unwrap() && mem.finish().unwrap());
                names.push((cf, name));
                self.operations += part.len() as u64;
            }
        }
        self.rocks().ingest(&names).unwrap();
        self.mem.ingest(&names).unwrap();
        assert_eq!(self.rocks().list_sst().unwrap(), self.mem.list_sst().unwrap());
        for (_, name) in names {
            self.rocks().remove_sst(&name).unwrap();
            self.mem.remove_sst(&name).unwrap();
        }
    }

    /// Clears a range as a region is cleared: files first, a batch for the rest. No reader may be left there.
    fn clear(&mut self) {
        self.snapshots.clear();
        let choice = self.dice.below(3) as usize;
        self.mem
            .set_file_deletion([FileDeletion::Everything, FileDeletion::Half, FileDeletion::Nothing][choice]);
        let range = self.range();
        let end = if range.end.is_empty() { vec![0xff; 4] } else { range.end.to_vec() };
        let mut batch = WriteBatch::new();
        for cf in Cf::DATA {
            self.rocks().delete_files_in_range(cf, &range).unwrap();
            self.mem.delete_files_in_range(cf, &range).unwrap();
            batch.delete_range(cf, &range.start, &end);
        }
        self.rocks().write(&batch).unwrap();
        self.mem.write(&batch).unwrap();
        self.operations += 6;
    }

    fn restart(&mut self) {
        self.snapshots.clear();
        self.rocks = None;
        self.rocks = Some(RocksEngine::open(&self.path, &options()).unwrap());
        self.mem = self.mem.crash(|range| *range.end());
    }

    fn get(&mut self) {
        for _ in 0..20 {
            let (cf, key) = (self.family(), self.key());
            let (rocks, mem) = match self.dice.below(self.snapshots.len() as u64 + 1) as usize {
                0 => (self.rocks().get(cf, &key), self.mem.get(cf, &key)),
                chosen => {
                    let (rocks, mem) = &self.snapshots[chosen - 1];
                    (rocks.get(cf, &key), mem.get(cf, &key))
                }
            };
            assert_eq!(rocks.unwrap(), mem.unwrap(), "{key:?}, seed {}, step {}", self.seed, self.step);
            self.operations += 1;
        }
    }

    fn walk(&mut self) {
        let (cf, range) = (self.family(), self.range());
        if self.snapshots.is_empty() || self.dice.below(2) == 0 {
            self.snapshots.push((self.rocks().snapshot(), self.mem.snapshot()));
        }
        let chosen = self.dice.below(self.snapshots.len() as u64) as usize;
        let keys: Vec<_> = (0..4).map(|_| self.key()).collect();
        let (rocks, mem) = &self.snapshots[chosen];
        let (mut rocks, mut mem) = (rocks.iter(cf, &range), mem.iter(cf, &range));
        let mut found = false;
        for _ in 0..60 {
            let key = &keys[self.dice.below(4) as usize];
            let movement = if found { self.dice.below(24) } else { self.dice.below(4) };
            let go = |iterator: &mut dyn EngineIterator| match movement {
                0 => iterator.seek_to_first(),
                1 => iterator.seek_to_last(),
                2 => iterator.seek(key),
                3 => iterator.seek_for_prev(key),
                4..16 => iterator.next(),
                _ => iterator.prev(),
            };
            found = go(&mut *rocks);
            let context = format!("{range:?}, movement {movement}, seed {}, step {}", self.seed, self.step);
            assert_eq!(found, go(&mut *mem), "{context}");
            if found {
                assert_eq!((rocks.key(), rocks.value()), (mem.key(), mem.value()), "{context}");
            }
            rocks.status().unwrap();
            mem.status().unwrap();
            self.operations += 1;
        }
    }

    fn compare_everything(&mut self) {
        let (rocks, mem) = (self.rocks().snapshot(), self.mem.snapshot());
        for cf in Cf::ALL {
            let (mut rocks, mut mem) = (rocks.iter(cf, &KeyRange::full()), mem.iter(cf, &KeyRange::full()));
            let (mut more, mut also) = (rocks.seek_to_first(), mem.seek_to_first());
            while more && also {
                assert_eq!((rocks.key(), rocks.value()), (mem.key(), mem.value()), "seed {}", self.seed);
                self.operations += 1;
                (more, also) = (rocks.next(), mem.next());
            }
            assert_eq!((more, also), (false, false), "seed {}, step {}", self.seed, self.step);
        }
    }

    fn step(&mut self) {
        self.step += 1;
        match self.dice.below(1000) {
            0..450 => self.write(),
            450..650 => self.get(),
            650..930 => self.walk(),
            // Each makes a handful of files, and each file is synced: the slowest step by far.
            930..934 => self.ingest(),
            940..945 => self.clear(),
            945..955 => {
                self.rocks().sync().unwrap();
                self.mem.sync().unwrap();
            }
            975..977 => self.rocks().flush().unwrap(),
            977 => {
                let (cf, range) = (self.family(), self.range());
                self.rocks().compact(cf, &range).unwrap();
            }
            978 => self.restart(),
            979 => self.compare_everything(),
            _ => {}
        }
        if self.snapshots.len() > 8 {
            let dropped = self.dice.below(9) as usize;
            drop(self.snapshots.swap_remove(dropped));
        }
    }
}

fn run(seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let mut pair = Pair {
        seed,
        step: 0,
        operations: 0,
        dice: SplitMix::new(seed),
        rocks: Some(RocksEngine::open(&path, &options()).unwrap()),
        path,
        mem: MemEngine::new(),
        snapshots: Vec::new(),
        files: 0,
    };
    while pair.operations < OPERATIONS {
        pair.step();
    }
    pair.compare_everything();
    pair.restart();
    pair.compare_everything();
}

// Four runs of a quarter of a million operations each, so that the test runner can spread them.

#[test]
fn rocksdb_and_the_engine_in_memory_give_the_same_answers_seed_1() {
    run(1);
}

#[test]
fn rocksdb_and_the_engine_in_memory_give_the_same_answers_seed_2() {
    run(2);
}

#[test]
fn rocksdb_and_the_engine_in_memory_give_the_same_answers_seed_3() {
    run(3);
}

#[test]
fn rocksdb_and_the_engine_in_memory_give_the_same_answers_seed_4() {
    run(4);
}
