//! Region snapshots that arrive in pieces: kept in memory while they are small, in files of the engine beyond that.

use crate::seeded_bug::{Bugs, SeededBug};
use bytes::Bytes;
use engine::{Cf, Engine, EngineError, SstWriter};
use env::sim_point;
use raftstore::{ReceivedSnapshot, SnapshotData, StoreMeta, check_snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::{MonoTime, Region, StoreId};
use wire::store::{RaftMessage, SnapshotKey, SnapshotPiece, SnapshotVerdict};

/// The checksum of a snapshot's pairs, in order.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Checksum(u32);

impl Checksum {
    pub(crate) fn add(&mut self, cf: Cf, key: &[u8], value: &[u8]) {
        let length =
            |bytes: &[u8]| u32::try_from(bytes.len()).expect("keys and values are under 4 GiB").to_le_bytes();
        for part in [&[cf as u8][..], &length(key), key, &length(value), value] {
            self.0 = crc32c::crc32c_append(self.0, part);
        }
    }

    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

/// What a piece led to.
#[derive(Debug, Default)]
pub struct Received {
    /// What to tell the sender, if it is owed an answer.
    pub verdict: Option<SnapshotVerdict>,
    /// The whole snapshot, for the worker that owns the region.
    pub snapshot: Option<Box<ReceivedSnapshot>>,
}

struct Incoming {
    region: Region,
    message: RaftMessage,
    small: Vec<(Cf, Bytes, Bytes)>,
    files: Vec<(Cf, String)>,
    writer: Option<(Cf, Box<dyn SstWriter>)>,
    /// The last pair that came: pairs come in order, family by family.
    last: Option<(Cf, Bytes)>,
    bytes: u64,
    pairs: u64,
    checksum: Checksum,
    /// When its last piece came.
    heard_at: MonoTime,
}

/// A snapshot of which nothing came for so long is given up: its sender waits half as long for anything, so it is gone,
/// whether or not the connection says so.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// How names of files begin; a number follows.
const FILE_PREFIX: &str = "snapshot-";

/// Takes snapshots in. What is half there when the process ends is cleared away at the next start.
pub struct SnapshotReceiver<E> {
    engine: E,
    meta: Arc<StoreMeta>,
    store_id: StoreId,
    incoming: BTreeMap<SnapshotKey, Incoming>,
    incoming_max: usize,
    batch_bytes_max: usize,
    /// The number of the next file. The same snapshot may come again while its files are still wanted, so no name is
    /// ever used twice, beyond a restart neither; `None` until the files that are there were looked at.
    next_file: Option<u64>,
    bugs: Bugs,
    /// It does not look whose range it is, for [`raftstore::SeededBug::SnapshotOverNeighbour`].
    over_neighbour: bool,
}

impl<E: Engine> SnapshotReceiver<E> {
    /// Takes in at most `incoming_max` at once; those beyond `batch_bytes_max` go to files.
    #[must_use]
    pub fn new(
        engine: E,
        meta: Arc<StoreMeta>,
        store_id: StoreId,
        incoming_max: usize,
        batch_bytes_max: usize,
    ) -> Self {
        Self {
            engine,
            meta,
            store_id,
            incoming: BTreeMap::new(),
            incoming_max,
            batch_bytes_max,
            next_file: None,
            bugs: Bugs::default(),
            over_neighbour: false,
        }
    }

    /// One that breaks rules on purpose, its own and those of the regions.
    #[must_use]
    pub fn breaking(self, bugs: Bugs, of_regions: raftstore::Bugs) -> Self {
        let over_neighbour = of_regions.has(raftstore::SeededBug::SnapshotOverNeighbour);
        Self { bugs, over_neighbour, ..self }
    }

    /// How many are arriving.
    #[must_use]
    pub fn arriving(&self) -> usize {
        self.incoming.len()
    }

    /// Takes a piece, at `now`.
    ///
    /// # Errors
    /// [`EngineError`] when a file cannot be written: the store must stop.
    pub fn on_piece(&mut self, piece: SnapshotPiece, now: MonoTime) -> Result<Received, EngineError> {
        match piece {
            SnapshotPiece::Start { key, region, message } => self.on_start(key, region, *message, now),
            SnapshotPiece::Chunk { key, family, pairs } => {
                if let Some(incoming) = self.incoming.get_mut(&key) {
                    incoming.heard_at = now;
                }
                self.on_chunk(key, family, pairs)
            }
            SnapshotPiece::End { key, pairs, checksum } => self.on_end(key, pairs, checksum),
        }
    }

    /// The sender is gone: what has arrived of its snapshot is of no use.
    ///
    /// # Errors
    /// [`EngineError`] when files cannot be removed.
    pub fn abandon(&mut self, key: SnapshotKey) -> Result<(), EngineError> {
        if let Some(incoming) = self.incoming.remove(&key) {
            self.drop_files(incoming)?;
        }
        Ok(())
    }

    /// When [`SnapshotReceiver::expire`] has something to do, if nothing else comes.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        let deadlines = self.incoming.values().map(|incoming| incoming.heard_at + ABANDONED_AFTER);
        deadlines.min().unwrap_or(MonoTime::MAX)
    }

    /// Gives up what has been silent for too long, and makes room for others. To be called after the pieces that have
    /// arrived were taken. Returns how many were given up.
    ///
    /// # Errors
    /// [`EngineError`] when files cannot be removed.
    pub fn expire(&mut self, now: MonoTime) -> Result<usize, EngineError> {
        let silent = |incoming: &Incoming| now.since(incoming.heard_at) >= ABANDONED_AFTER;
        let keys: Vec<SnapshotKey> =
            self.incoming.iter().filter(|(_, incoming)| silent(incoming)).map(|(key, _)| *key).collect();
        for key in &keys {
            self.abandon(*key)?;
        }
        Ok(keys.len())
    }

    fn on_start(
        &mut self,
        key: SnapshotKey,
        region: Region,
        message: RaftMessage,
        now: MonoTime,
    ) -> Result<Received, EngineError> {
        self.abandon(key)?;
        if message.to.store_id != self.store_id {
            return Ok(refuse(key, "it is for another store"));
        }
        if let Err(reason) = check_snapshot(key, &region, &message) {
            return Ok(refuse(key, reason));
        }
        if self.incoming.len() >= self.incoming_max || sim_point!("store.refuse_snapshot") {
            return Ok(refuse(key, "as many snapshots as are allowed are arriving already"));
        }
        // Looked at again, for good, when all of it is here; this saves sending what cannot be used.
        let looks = !self.over_neighbour;
        if looks && self.meta.overlapping(&region.range).iter().any(|other| other.id != region.id) {
            return Ok(refuse(key, "another region holds part of its range"));
        }
        self.incoming.insert(
            key,
            Incoming {
                region,
                message,
                small: Vec::new(),
                files: Vec::new(),
                writer: None,
                last: None,
                bytes: 0,
                pairs: 0,
                checksum: Checksum::default(),
                heard_at: now,
            },
        );
        Ok(Received { verdict: Some(SnapshotVerdict::Accepted(key)), snapshot: None })
    }

    fn on_chunk(
        &mut self,
        key: SnapshotKey,
        family: u8,
        pairs: Vec<(Bytes, Bytes)>,
    ) -> Result<Received, EngineError> {
        if self.next_file.is_none() {
            self.next_file = Some(self.first_free_file()?);
        }
        let next_file = self.next_file.as_mut().expect("set above");
        let Some(incoming) = self.incoming.get_mut(&key) else { return Ok(Received::default()) };
        let cf = Cf::ALL.get(usize::from(family)).copied().filter(|cf| Cf::DATA.contains(cf));
        let Some(cf) = cf else {
            self.abandon(key)?;
            return Ok(refuse(key, "a piece is of a family that holds no data"));
        };
        for (pair_key, value) in pairs {
            if !incoming.region.range.contains(&pair_key) {
                self.abandon(key)?;
                return Ok(refuse(key, "a key lies outside of the region"));
            }
            let position = (cf, pair_key.clone());
            if incoming.last.as_ref().is_some_and(|last| (last.0 as u8, &last.1) >= (cf as u8, &pair_key)) {
                self.abandon(key)?;
                return Ok(refuse(key, "its pairs are out of order"));
            }
            incoming.last = Some(position);
            incoming.bytes += (pair_key.len() + value.len()) as u64;
            incoming.pairs += 1;
            incoming.checksum.add(cf, &pair_key, &value);
            incoming.small.push((cf, pair_key, value));
        }
        if incoming.bytes > self.batch_bytes_max as u64 {
            incoming.spill(&self.engine, next_file)?;
        }
        Ok(Received::default())
    }

    /// Above the number of every file that is there.
    fn first_free_file(&self) -> Result<u64, EngineError> {
        let numbers = self.engine.list_sst()?.into_iter().filter_map(|name| {
            let (number, _) = name.strip_prefix(FILE_PREFIX)?.split_once('-')?;
            number.parse::<u64>().ok()
        });
        Ok(numbers.max().map_or(0, |last| last + 1))
    }

    fn on_end(&mut self, key: SnapshotKey, pairs: u64, checksum: u32) -> Result<Received, EngineError> {
        let Some(mut incoming) = self.incoming.remove(&key) else {
            // Its sender waits for a word; given up meanwhile, or refused at a piece.
            return Ok(refuse(key, "what came before is not here"));
        };
        let matches = incoming.pairs == pairs && incoming.checksum.value() == checksum;
        if !matches && !self.bugs.has(SeededBug::ChecksumNotVerified) {
            self.drop_files(incoming)?;
            return Ok(refuse(key, "its pairs do not match their checksum"));
        }
        // Whatever went to files did so when its piece came.
        incoming.close_writer()?;
        let data = match incoming.files.is_empty() {
            true => SnapshotData::Pairs(incoming.small),
            false => SnapshotData::Files(incoming.files),
        };
        let snapshot = ReceivedSnapshot {
            key,
            message: incoming.message,
            region: incoming.region,
            data,
            size_bytes: incoming.bytes,
            keys: incoming.pairs,
        };
        Ok(Received { verdict: Some(SnapshotVerdict::Accepted(key)), snapshot: Some(Box::new(snapshot)) })
    }

    fn drop_files(&self, mut incoming: Incoming) -> Result<(), EngineError> {
        incoming.close_writer()?;
        for (_, name) in incoming.files {
            self.engine.remove_sst(&name)?;
        }
        Ok(())
    }
}

impl Incoming {
    /// Moves what is in memory to files, one for each family.
    fn spill<E: Engine>(&mut self, engine: &E, next_file: &mut u64) -> Result<(), EngineError> {
        for (cf, pair_key, value) in std::mem::take(&mut self.small) {
            if self.writer.as_ref().is_none_or(|(open, _)| *open != cf) {
                self.close_writer()?;
                let name = format!("{FILE_PREFIX}{next_file}-{}-{}", self.region.id, cf.name());
                *next_file += 1;
                self.writer = Some((cf, engine.create_sst(cf, &name)?));
                self.files.push((cf, name));
            }
            let (_, writer) = self.writer.as_mut().expect("opened above");
            writer.put(&pair_key, &value)?;
        }
        Ok(())
    }

    fn close_writer(&mut self) -> Result<(), EngineError> {
        if let Some((_, writer)) = self.writer.take() {
            writer.finish()?;
        }
        Ok(())
    }
}

fn refuse(key: SnapshotKey, reason: &str) -> Received {
    let verdict = SnapshotVerdict::Refused { key, reason: reason.to_owned() };
    Received { verdict: Some(verdict), snapshot: None }
}
