//! Reads files ahead of the network, on a thread of its own, within a bound of bytes.

use super::scheme::{CHUNK_SIZE, Manifest, Scheme};
use super::walk::{Entry, Kind, Walk, absolute, show_path};
use bytes::Bytes;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use types::{Key, VALUE_SIZE_MAX};

/// A batch ends with the pair that brings it to so many bytes, or pairs: what the client sends as one request.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_PAIRS: usize = 256;
/// How many batches wait at most, however small they are.
const BATCHES_WAITING_MAX: usize = 64;
/// The unit in which memory is counted.
const ROOM_UNIT: usize = 1 << 10;

/// What was passed over.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct LeftOut {
    /// Symbolic links; never followed.
    pub(crate) links: u64,
    /// Sockets, pipes, devices.
    pub(crate) special: u64,
    /// How many files and directories could not be read, or have a path that is too long for a key.
    pub(crate) unreadable: u64,
    /// The first of them, and why.
    pub(crate) unreadable_first: Vec<String>,
}

/// So many files that could not be read are named; the others are counted.
const NAMED_MAX: usize = 100;

impl LeftOut {
    fn add(&mut self, path: &[u8], why: &dyn std::fmt::Display) {
        self.unreadable += 1;
        if self.unreadable_first.len() < NAMED_MAX {
            self.unreadable_first.push(format!("{}: {why}", show_path(path)));
        }
    }
}

/// What comes from the reading thread, in order.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Pairs.
    Pairs(Batch),
    /// Chunks of this file follow.
    BeginChunks {
        /// Its path.
        path: Bytes,
    },
    /// All chunks of the file have come.
    EndChunks {
        /// Its path.
        path: Bytes,
        /// What they are to be joined by.
        manifest: Manifest,
    },
    /// Nothing can be said of this file or directory.
    Unknown {
        /// Its path.
        path: Bytes,
    },
}

/// Pairs in key order, and the room that they take.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) pairs: Vec<(Key, Bytes)>,
    /// How many files end in it.
    pub(crate) files: u64,
    /// The bytes of files in it.
    pub(crate) bytes: u64,
    /// Held until the pairs are no longer needed.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// The order in which a file that is cut comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Manifest last and by itself: for writing, so that a manifest is there only when its chunks are.
    Writing,
    /// By keys, the manifest a pair before its chunks: for comparing. The size is then what the file system says.
    ByKey,
}

/// Starts to read all files below `root`, of which no more than about `memory_bytes` are in memory at a time, what the receiver has
/// taken and not dropped included. The handle gives back what was left out.
pub(crate) fn start(
    root: &Path,
    scheme: Scheme,
    order: Order,
    memory_bytes: usize,
) -> io::Result<(mpsc::Receiver<Piece>, tokio::task::JoinHandle<LeftOut>)> {
    let walk = Walk::new(root)?;
    let root = root.to_owned();
    let (pieces, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
    let room_max = (memory_bytes / ROOM_UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
    let room = Arc::new(Semaphore::new(room_max));
    let mut reader = Reader {
        scheme,
        order,
        pieces,
        room,
        room_max,
        runtime: Handle::current(),
        left_out: LeftOut::default(),
        filling: Vec::new(),
        filling_files: 0,
        filling_bytes: 0,
        filling_weight: 0,
    };
    let task = tokio::task::spawn_blocking(move || {
        // The receiver is gone when something failed there: then there is nothing more to do here.
        let _ = reader.run(&root, walk);
        reader.left_out
    });
    Ok((receiver, task))
}

/// The receiver is gone.
struct Gone;

struct Reader {
    scheme: Scheme,
    order: Order,
    pieces: mpsc::Sender<Piece>,
    room: Arc<Semaphore>,
    room_max: usize,
    runtime: Handle,
    left_out: LeftOut,
    filling: Vec<(Key, Bytes)>,
    filling_files: u64,
    filling_bytes: usize,
    /// Keys and values.
    filling_weight: usize,
}

impl Reader {
    fn run(&mut self, root: &Path, walk: Walk) -> Result<(), Gone> {
        for Entry { path, kind } in walk {
            match kind {
                Kind::Link => self.left_out.links += 1,
                Kind::Special => self.left_out.special += 1,
                Kind::Unreadable(error) => self.unknown(path, &error)?,
                Kind::File if !self.scheme.fits(&path) => self.unknown(path, &"path too long for a key")?,
                Kind::File => self.file(root, path)?,
            }
        }
        self.flush()
    }

    fn unknown(&mut self, path: Vec<u8>, why: &dyn std::fmt::Display) -> Result<(), Gone> {
        self.left_out.add(&path, why);
        self.flush()?;
        self.send(Piece::Unknown { path: path.into() })
    }

    fn file(&mut self, root: &Path, path: Vec<u8>) -> Result<(), Gone> {
        // What it holds decides, not what its size was a moment ago: one byte more than a value may have is asked for.
        let (mut file, value) = match open(root, &path) {
            Ok(opened) => opened,
            Err(error) => return self.unknown(path, &error),
        };
        if value.len() <= VALUE_SIZE_MAX {
            let key = self.scheme.whole(&path);
            self.filling_files += 1;
            return self.add(key, value.into());
        }
        let path = Bytes::from(path);
        self.flush()?;
        match self.chunks(&mut file, &path, value.into()) {
            Ok(result) => result,
            // Its chunks have no manifest then, and are no file.
            Err(error) => self.unknown(path.to_vec(), &error),
        }
    }

    /// Sends the chunks of a file that begins with `first`.
    fn chunks(&mut self, file: &mut File, path: &Bytes, first: Bytes) -> io::Result<Result<(), Gone>> {
        if self.order == Order::ByKey {
            let manifest = Manifest { size: file.metadata()?.len(), chunk_size: CHUNK_SIZE };
            let key = self.scheme.manifest(path);
            self.filling.push((key, manifest.encode()));
        } else if self.send(Piece::BeginChunks { path: path.clone() }).is_err() {
            return Ok(Err(Gone));
        }
        let chunk_size = CHUNK_SIZE as usize;
        let mut ahead = first;
        let mut size = 0;
        for number in 0.. {
            if ahead.len() < chunk_size {
                let mut chunk = ahead.to_vec();
                file.take((chunk_size - chunk.len()) as u64).read_to_end(&mut chunk)?;
                ahead = chunk.into();
            }
            if ahead.is_empty() {
                break;
            }
            let chunk = ahead.split_to(ahead.len().min(chunk_size));
            size += chunk.len() as u64;
            let key = self.scheme.chunk(path, number);
            if self.add(key, chunk).is_err() {
                return Ok(Err(Gone));
            }
        }
        self.filling_files += 1;
        Ok(self.flush().and_then(|()| match self.order {
            Order::ByKey => Ok(()),
            Order::Writing => {
                let manifest = Manifest { size, chunk_size: CHUNK_SIZE };
                self.send(Piece::EndChunks { path: path.clone(), manifest })
            }
        }))
    }

    fn add(&mut self, key: Key, value: Bytes) -> Result<(), Gone> {
        self.filling_bytes += value.len();
        self.filling_weight += key.len() + value.len();
        self.filling.push((key, value));
        if self.filling_weight >= BATCH_BYTES || self.filling.len() >= BATCH_PAIRS {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if self.filling.is_empty() && self.filling_files == 0 {
            return Ok(());
        }
        let pairs = std::mem::take(&mut self.filling);
        let weight = std::mem::take(&mut self.filling_weight);
        // A batch that is larger than all room waits until it is alone.
        let units = weight.div_ceil(ROOM_UNIT).clamp(1, self.room_max);
        let units = u32::try_from(units).expect("room_max fits 32 bits");
        let room = self
            .runtime
            .block_on(Arc::clone(&self.room).acquire_many_owned(units))
            .expect("the semaphore is never closed");
        let batch = Batch {
            pairs,
            files: std::mem::take(&mut self.filling_files),
            bytes: std::mem::take(&mut self.filling_bytes) as u64,
            room: Some(room),
        };
        self.send(Piece::Pairs(batch))
    }

    fn send(&self, piece: Piece) -> Result<(), Gone> {
        self.pieces.blocking_send(piece).map_err(|_| Gone)
    }
}

/// Opens a file and reads it up to one byte more than a value may have.
fn open(root: &Path, path: &[u8]) -> io::Result<(File, Vec<u8>)> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // What was a file when it was listed may be a link or a pipe by now: neither is followed or waited for.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("flags of open fit an int");
    let file = File::options().read(true).custom_flags(flags).open(absolute(root, path))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("no longer a file"));
    }
    let mut value =
        Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(VALUE_SIZE_MAX) + 1);
    (&file).take(VALUE_SIZE_MAX as u64 + 1).read_to_end(&mut value)?;
    Ok((file, value))
}
