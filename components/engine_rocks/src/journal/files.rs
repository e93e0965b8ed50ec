//! The files of the journal: segments, each written from its start to its end, then again as another one.
//!
//! ```text
//! head of a segment, in its first block:
//! magic 8 | checksum u32 | version u32 | generation u64 | segment u64 | first u64        (little-endian)
//! ```
//!
//! `first` is the number of the first batch in it. A file is called by the number of its place, `0.seg` and so on; which
//! segment it is says its head.

use super::Position;
use super::record::{BLOCK_BYTES, Identity, Records, seal};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"flotjrnl";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 40;

/// What a segment holds, unless one write alone has more.
pub(super) const SEGMENT_BYTES: u64 = 8 << 20;
/// A file that is new gets its blocks in such steps, ahead of what is written.
const STEP_BYTES: u64 = 1 << 20;
/// The most that is handed to the system in one write.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Files that are kept for other segments to come; more are removed.
const SPARE_FILES_MAX: usize = 8;

/// A segment as it was found.
struct Found {
    place: u64,
    identity: Identity,
    first: u64,
}

/// What is in a directory that was not opened for writing yet.
pub(crate) struct Recovered {
    directory: PathBuf,
    /// Places that hold a file, ascending.
    places: Vec<u64>,
    /// Segments that follow each other and hold what was not flushed.
    live: Vec<Found>,
}

/// Why the batches that follow what was flushed are not there.
#[derive(Debug)]
pub(crate) enum Missing {
    /// The system said so.
    Io(io::Error),
    /// Files were lost, or changed.
    Corrupt(String),
    /// A newer program has written them.
    Foreign(String),
}

impl From<io::Error> for Missing {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Recovered {
    /// Looks at the files of a directory of which everything up to `flushed` is in the database.
    pub(crate) fn look(directory: &Path, flushed: Position) -> Result<Self, Missing> {
        if !directory.try_exists()? {
            std::fs::create_dir(directory)?;
            // As durable as the files that will be in it: without them what is acknowledged would be refused.
            if let Some(parent) = directory.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let (mut places, mut live) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let place = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok());
            let Some(place) = place else { continue };
            places.push(place);
            live.extend(Found::read(directory, place)?);
        }
        places.sort_unstable();
        live.retain(|found| found.identity.generation == flushed.generation);
        live.sort_by_key(|found| found.identity);
        if flushed.generation > 0 && live.is_empty() {
            return Err(Missing::Corrupt("no segment of the journal is left".to_owned()));
        }
        // The one that has the next batch, or would have it, and those behind it.
        let last_needed = live.iter().rposition(|found| found.first <= flushed.number + 1);
        match last_needed {
            Some(needed) => drop(live.drain(..needed)),
            None if live.is_empty() => {}
            None => {
                return Err(Missing::Corrupt(format!(
                    "the journal begins with batch {}, and {} is the last that was flushed",
                    live[0].first, flushed.number
                )));
            }
        }
        let gap = live.windows(2).find(|pair| pair[1].identity.segment != pair[0].identity.segment + 1);
        if let Some(pair) = gap {
            let lost = pair[0].identity.segment + 1;
            return Err(Missing::Corrupt(format!("segment {lost} of the journal is missing")));
        }
        Ok(Self { directory: directory.to_owned(), places, live })
    }

    /// Hands the batches that follow `flushed` to `redo`, in order, until one is not whole. Returns the number of the last.
    pub(crate) fn replay(
        &self,
        flushed: Position,
        mut redo: impl FnMut(u64, &[u8]) -> Result<(), Missing>,
    ) -> Result<u64, Missing> {
        let mut last = flushed.number;
        for (at, found) in self.live.iter().enumerate() {
            // A segment is begun when all of the one before it is durable.
            if at > 0 && found.first != last + 1 {
                let segment = found.identity.segment - 1;
                return Err(Missing::Corrupt(format!(
                    "segment {segment} of the journal ends with batch {last}, and the next begins with {}",
                    found.first
                )));
            }
            let bytes = std::fs::read(path(&self.directory, found.place))?;
            for (number, payload) in Records::new(found.identity, &bytes, BLOCK_BYTES, found.first) {
                if number > last {
                    redo(number, payload)?;
                    last = number;
                }
            }
        }
        Ok(last)
    }
}

impl Found {
    /// What a file's head says; nothing if it was never finished.
    fn read(directory: &Path, place: u64) -> Result<Option<Self>, Missing> {
        let file = File::open(path(directory, place))?;
        let mut head = [0; HEAD_BYTES];
        match file.read_exact_at(&mut head, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let half = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let is_head = head[..8] == *MAGIC && half(8) == crc32c::crc32c(&head[12..]);
        if !is_head {
            return Ok(None);
        }
        if half(12) != VERSION {
            return Err(Missing::Foreign(format!("its journal has version {}", half(12))));
        }
        let identity = Identity { generation: number(16), segment: number(24) };
        Ok(Some(Self { place, identity, first: number(32) }))
    }
}

fn head(identity: Identity, first: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[12..16].copy_from_slice(&VERSION.to_le_bytes());
    head[16..24].copy_from_slice(&identity.generation.to_le_bytes());
    head[24..32].copy_from_slice(&identity.segment.to_le_bytes());
    head[32..].copy_from_slice(&first.to_le_bytes());
    let checksum = crc32c::crc32c(&head[12..]).to_le_bytes();
    head[8..12].copy_from_slice(&checksum);
    head
}

fn path(directory: &Path, place: u64) -> PathBuf {
    directory.join(format!("{place}.seg"))
}

/// A segment that is full and may hold what was not flushed.
#[derive(Debug)]
struct Closed {
    place: u64,
    /// The last batch in it.
    last: u64,
    bytes: u64,
}

/// The files of a directory that is open.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    /// Places whose segments nobody needs.
    spare: Vec<u64>,
    /// One more than the greatest place that was ever taken.
    places: u64,
    /// Oldest first.
    closed: Vec<Closed>,
    current: Current,
    /// The last batch that is on disk.
    written: u64,
    /// A segment was begun since somebody asked.
    has_begun: bool,
    /// A write has failed: what is on disk is unknown, and nothing may follow it.
    is_failed: bool,
    blocks: Blocks,
}

/// The segment that is written to.
#[derive(Debug)]
struct Current {
    place: u64,
    identity: Identity,
    file: File,
    /// Where the next write goes; at a block.
    end: u64,
    /// Up to there the file has blocks.
    length: u64,
}

impl Files {
    /// Makes the first segment of a life durable, in a file that holds nothing that is needed.
    pub(super) fn begin(directory: &Path, position: Position, recovered: Recovered) -> io::Result<Self> {
        let is_live = |place: &u64| recovered.live.iter().any(|found| found.place == *place);
        let (live, mut spare): (Vec<u64>, Vec<u64>) =
            recovered.places.iter().partition(|place| is_live(place));
        let mut places = recovered.places.last().map_or(0, |last| last + 1);
        let place = spare.pop().unwrap_or_else(|| {
            places += 1;
            places - 1
        });
        let identity = Identity { generation: position.generation, segment: 0 };
        let mut blocks = Blocks::new();
        let current = Current::begin(directory, place, identity, position.number + 1, &mut blocks)?;
        // Those of the last life are full in a sense: everything in them comes before this one.
        let closed = live
            .into_iter()
            .map(|place| Closed { place, last: position.number, bytes: SEGMENT_BYTES })
            .collect();
        let directory = directory.to_owned();
        Ok(Self {
            directory,
            spare,
            places,
            closed,
            current,
            written: position.number,
            has_begun: false,
            is_failed: false,
            blocks,
        })
    }

    /// Appends records, the last of which is that of batch `last`, and returns when they are durable. After a failure
    /// everything fails.
    pub(super) fn write(&mut self, records: &mut [u8], last: u64) -> io::Result<()> {
        if self.is_failed {
            return Err(io::Error::other("an earlier write has failed"));
        }
        // Before anybody else can come: who finds nothing left to write takes it for durable.
        self.is_failed = true;
        if !records.is_empty() {
            self.append(records)?;
        }
        self.written = last;
        self.is_failed = false;
        Ok(())
    }

    fn append(&mut self, records: &mut [u8]) -> io::Result<()> {
        let length = records.len().next_multiple_of(BLOCK_BYTES) as u64;
        let is_empty = self.current.end == BLOCK_BYTES as u64;
        if self.current.end + length > SEGMENT_BYTES && !is_empty {
            self.begin_next()?;
        }
        seal(self.current.identity, records);
        self.current.write(records, &mut self.blocks)
    }

    fn begin_next(&mut self) -> io::Result<()> {
        let place = self.spare.pop().unwrap_or_else(|| {
            self.places += 1;
            self.places - 1
        });
        let identity = Identity { segment: self.current.identity.segment + 1, ..self.current.identity };
        let next = Current::begin(&self.directory, place, identity, self.written + 1, &mut self.blocks)?;
        let before = std::mem::replace(&mut self.current, next);
        self.closed.push(Closed { place: before.place, last: self.written, bytes: before.length });
        self.has_begun = true;
        Ok(())
    }

    pub(super) fn forget(&mut self, flushed: Position) {
        assert_eq!(flushed.generation, self.current.identity.generation, "what is flushed is of this life");
        let (free, closed) =
            std::mem::take(&mut self.closed).into_iter().partition(|closed| closed.last <= flushed.number);
        self.closed = closed;
        let free: Vec<Closed> = free;
        for Closed { place, bytes, .. } in free {
            // A file that one great write has made longer than others is not kept.
            if self.spare.len() < SPARE_FILES_MAX && bytes <= SEGMENT_BYTES {
                self.spare.push(place);
            } else {
                // What cannot be removed is not needed: the next start finds it and uses it.
                drop(std::fs::remove_file(path(&self.directory, place)));
            }
        }
    }

    pub(super) fn unflushed_bytes(&self) -> u64 {
        self.closed.iter().map(|closed| closed.bytes).sum::<u64>() + self.current.end
    }

    pub(super) fn has_begun(&mut self) -> bool {
        std::mem::take(&mut self.has_begun)
    }
}

impl Current {
    fn begin(
        directory: &Path,
        place: u64,
        identity: Identity,
        first: u64,
        blocks: &mut Blocks,
    ) -> io::Result<Self> {
        let path = path(directory, place);
        let is_new = !path.try_exists()?;
        let open = |flags| {
            OpenOptions::new().write(true).create(true).truncate(false).custom_flags(flags).open(&path)
        };
        // Where the file system cannot do without its cache, each write is synced all the same.
        let file = open(libc::O_DIRECT | libc::O_DSYNC).or_else(|_| open(libc::O_DSYNC))?;
        if is_new {
            File::open(directory)?.sync_all()?;
        }
        let length = file.metadata()?.len() / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let mut current = Self { place, identity, file, end: 0, length };
        current.write(&head(identity, first), blocks)?;
        Ok(current)
    }

    /// Writes whole blocks, the last of them filled up.
    fn write(&mut self, bytes: &[u8], blocks: &mut Blocks) -> io::Result<()> {
        let end = self.end + bytes.len().next_multiple_of(BLOCK_BYTES) as u64;
        while self.length < end {
            let step = STEP_BYTES - self.length % STEP_BYTES;
            self.file.write_all_at(blocks.zeros(step as usize), self.length)?;
            self.length += step;
        }
        for part in bytes.chunks(WRITE_BYTES_MAX) {
            let filled = blocks.fill(part);
            self.file.write_all_at(filled, self.end)?;
            self.end += filled.len() as u64;
        }
        Ok(())
    }
}

/// Memory for one write, at an address that the disk can take it from.
#[derive(Debug)]
struct Blocks {
    memory: Vec<u8>,
    start: usize,
}

impl Blocks {
    fn new() -> Self {
        let memory = vec![0; WRITE_BYTES_MAX + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Self { memory, start }
    }

    fn fill(&mut self, bytes: &[u8]) -> &[u8] {
        let blocks = &mut self.memory[self.start..][..bytes.len().next_multiple_of(BLOCK_BYTES)];
        blocks[..bytes.len()].copy_from_slice(bytes);
        blocks[bytes.len()..].fill(0);
        blocks
    }

    fn zeros(&mut self, length: usize) -> &[u8] {
        let blocks = &mut self.memory[self.start..][..length];
        blocks.fill(0);
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::push;
    use super::*;

    #[test]
    fn nothing_is_durable_after_a_write_that_failed_not_even_nothing() {
        // A second sync finds that the first has taken all there was, and must not take that for having been written.
        let directory = tempfile::tempdir().unwrap();
        let recovered = Recovered::look(directory.path(), Position::NONE).unwrap();
        let position = Position { generation: 1, number: 0 };
        let mut files = Files::begin(directory.path(), position, recovered).unwrap();
        let mut records = Vec::new();
        push(1, b"batch", &mut records);
        files.write(&mut records, 1).unwrap();
        files.write(&mut [], 1).unwrap();
        let writable = std::mem::replace(
            &mut files.current.file,
            File::open(path(directory.path(), files.current.place)).unwrap(),
        );
        let mut records = Vec::new();
        push(2, b"batch", &mut records);
        assert!(files.write(&mut records, 2).is_err());
        // The disk takes writes again, but there would be a gap.
        files.current.file = writable;
        assert!(files.write(&mut [], 2).is_err());
        let recovered = Recovered::look(directory.path(), position).unwrap();
        assert_eq!(recovered.replay(position, |_, _| Ok(())).unwrap(), 1);
    }
}
