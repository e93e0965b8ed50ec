//! Writes stored files into a directory, each at once or not at all.

use super::port::Pairs;
use super::progress::Progress;
use super::scheme::{Manifest, Meaning, Scheme};
use super::walk::{absolute, show_path};
use crate::text::show_key;
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream::StreamExt as _;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// So many of what was left out is named; the others are counted.
const NAMED_MAX: usize = 100;

/// What came of an export.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct Exported {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// How many keys could not be made a file, or were no file.
    pub(crate) left_out: u64,
    /// The first of them, and why.
    pub(crate) left_out_first: Vec<String>,
}

impl Exported {
    fn leave_out(&mut self, what: &str, why: &dyn std::fmt::Display) {
        self.left_out += 1;
        if self.left_out_first.len() < NAMED_MAX {
            self.left_out_first.push(format!("{what}: {why}"));
        }
    }
}

/// A file that is being joined from chunks.
struct Joining {
    path: Bytes,
    manifest: Manifest,
    next: u32,
    file: Partial,
}

/// What a path's derived keys are worth.
enum State {
    /// Nothing is known of the path at hand.
    Idle,
    /// They are being joined.
    Joining(Joining),
    /// The rest of this path's keys is passed over: a whole file stands there, or it was reported already.
    Passing(Bytes),
}

/// Writes all files of the scheme below `root`, which is made if it is not there.
pub(crate) async fn export<P: Pairs>(
    port: &P,
    root: &Path,
    scheme: &Scheme,
    progress: &mut Progress,
) -> anyhow::Result<Exported> {
    std::fs::create_dir_all(root).with_context(|| format!("making the directory {}", root.display()))?;
    // What leads to the target may be a link; what lies in it may not.
    let root = root.canonicalize().with_context(|| format!("finding {}", root.display()))?;
    let mut exported = Exported::default();
    let mut target = Target { root, serial: 0 };
    let mut state = State::Idle;
    let mut stored = port.scan(scheme.range(), false)?;
    while let Some(pair) = stored.next().await.transpose().context("reading")? {
        let meaning = scheme.meaning(&pair.key);
        if let State::Joining(joining) = &state
            && meaning.path() != Some(&joining.path)
        {
            exported.leave_out(&show_path(&joining.path), &"its last chunks are missing");
            state = State::Idle;
        }
        if pair.ttl_ms > 0 {
            // Read back as a file, it would stay for ever.
            let why = format!("its value ends in {} ms, which a file cannot say", pair.ttl_ms);
            exported.leave_out(&show_key(&pair.key), &why);
            continue;
        }
        match meaning {
            Meaning::Foreign => {
                exported.leave_out(&show_key(&pair.key), &"no path of a file below a directory");
            }
            Meaning::Whole(path) => {
                match target.write(&path, &pair.value) {
                    Ok(()) => {
                        exported.files += 1;
                        exported.bytes += pair.value.len() as u64;
                        progress.advance(1, pair.value.len() as u64);
                    }
                    Err(error) => exported.leave_out(&show_path(&path), &error),
                }
                // Chunks beside a whole file are older: an import that cuts removes the whole one first.
                state = State::Passing(path);
            }
            _ if matches!((&state, meaning.path()), (State::Passing(passing), Some(path)) if passing == path) =>
                {}
            Meaning::Manifest(path) => {
                let begun = Manifest::decode(&pair.value)
                    .ok_or_else(|| io::Error::other("its manifest is damaged"))
                    .and_then(|manifest| Ok((manifest, target.begin(&path)?)));
                state = match begun {
                    Ok((manifest, file)) => State::Joining(Joining { path, manifest, next: 0, file }),
                    Err(error) => {
                        exported.leave_out(&show_path(&path), &error);
                        State::Passing(path)
                    }
                };
            }
            Meaning::Chunk(path, number) => {
                let State::Joining(mut joining) = state else {
                    exported.leave_out(&show_path(&path), &"it has chunks and no manifest");
                    state = State::Passing(path);
                    continue;
                };
                state = match joining.add(number, &pair.value) {
                    Ok(false) => {
                        progress.advance(0, pair.value.len() as u64);
                        State::Joining(joining)
                    }
                    Ok(true) => match joining.file.finish() {
                        Ok(()) => {
                            exported.files += 1;
                            exported.bytes += joining.manifest.size;
                            progress.advance(1, pair.value.len() as u64);
                            State::Passing(path)
                        }
                        Err(error) => {
                            exported.leave_out(&show_path(&path), &error);
                            State::Passing(path)
                        }
                    },
                    Err(error) => {
                        exported.leave_out(&show_path(&path), &error);
                        State::Passing(path)
                    }
                };
            }
        }
    }
    if let State::Joining(joining) = &state {
        exported.leave_out(&show_path(&joining.path), &"its last chunks are missing");
    }
    Ok(exported)
}

impl Joining {
    /// Adds a chunk; true after the last one.
    fn add(&mut self, number: u32, chunk: &[u8]) -> io::Result<bool> {
        if number != self.next {
            return Err(io::Error::other(format!("its chunk {} is missing", self.next)));
        }
        if chunk.len() as u64 != self.manifest.chunk_len(number) {
            return Err(io::Error::other(format!("its chunk {number} has the wrong length")));
        }
        self.file.file.write_all(chunk)?;
        self.next += 1;
        Ok(self.next == self.manifest.chunks())
    }
}

/// The directory that is written into.
struct Target {
    root: PathBuf,
    /// For names of files that are not whole yet.
    serial: u64,
}

/// A file that is not whole yet; removed unless it is finished.
struct Partial {
    file: File,
    partial: PathBuf,
    whole: PathBuf,
    is_finished: bool,
}

impl Target {
    fn write(&mut self, path: &[u8], value: &[u8]) -> io::Result<()> {
        let mut partial = self.begin(path)?;
        partial.file.write_all(value)?;
        partial.finish()
    }

    /// Begins a file beside the place where it will be. `path` has been checked to hold no `..`; here its directories are made, and none of
    /// them may be a link, which could lead out of the target.
    fn begin(&mut self, path: &[u8]) -> io::Result<Partial> {
        let mut at = 0;
        while let Some(length) = path[at..].iter().position(|byte| *byte == b'/') {
            let directory = absolute(&self.root, &path[..at + length]);
            match std::fs::symlink_metadata(&directory) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) if metadata.is_symlink() => {
                    return Err(io::Error::other(format!(
                        "{} is a symbolic link, which may lead out of the target",
                        directory.display()
                    )));
                }
                Ok(_) => {
                    return Err(io::Error::other(format!("{} is not a directory", directory.display())));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::create_dir(&directory)?,
                Err(error) => return Err(error),
            }
            at += length + 1;
        }
        let whole = absolute(&self.root, path);
        self.serial += 1;
        let name = format!(".flotilla-export-{}-{}", std::process::id(), self.serial);
        let partial = whole.parent().expect("it lies below the target").join(name);
        let file = File::create_new(&partial)?;
        Ok(Partial { file, partial, whole, is_finished: false })
    }
}

impl Partial {
    /// The file appears, whole, in place of what was there before. (It is not synced: the bytes are still in the cluster.)
    fn finish(mut self) -> io::Result<()> {
        std::fs::rename(&self.partial, &self.whole)?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_finished {
            // There is nobody left to tell: what is left out was reported already.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}
