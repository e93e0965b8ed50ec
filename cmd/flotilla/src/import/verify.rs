//! Compares what is stored with the files, both read once, side by side in key order.

use super::port::Pairs;
use super::progress::Progress;
use super::read::{LeftOut, Order, Piece, start};
use super::scheme::{Meaning, Scheme};
use super::walk::show_path;
use crate::text::show_key;
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream::StreamExt as _;
use serde::Serialize;
use std::collections::VecDeque;
use std::path::Path;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use types::Key;

/// So many of each kind are named; the others are counted.
const NAMED_MAX: usize = 100;

/// What differs.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct Findings {
    /// Files that are not stored, or not wholly.
    pub(crate) missing: Names,
    /// Files whose bytes are stored otherwise.
    pub(crate) different: Names,
    /// Keys within the prefix that no file has.
    pub(crate) superfluous: Names,
    /// How many keys were found as they should be.
    pub(crate) keys_equal: u64,
}

impl Findings {
    /// Whether all is as it should be.
    pub(crate) fn is_clean(&self) -> bool {
        self.missing.count + self.different.count + self.superfluous.count == 0
    }
}

/// A list that is counted whole and kept in part.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct Names {
    pub(crate) count: u64,
    pub(crate) first: Vec<String>,
    #[serde(skip)]
    latest: String,
}

impl Names {
    /// Adds a name; several keys of one file in a row count once.
    fn add(&mut self, name: String) {
        if self.count > 0 && self.latest == name {
            return;
        }
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(name.clone());
        }
        self.latest = name;
    }
}

/// What should be stored, one by one.
enum Expected {
    Pair(Key, Bytes),
    /// Nothing can be said of what lies under this path.
    Unknown(Bytes),
}

/// The pieces that are read, as single expectations.
struct Expectations {
    pieces: mpsc::Receiver<Piece>,
    pairs: VecDeque<(Key, Bytes)>,
    /// The room of the batch that `pairs` came from.
    room: Option<OwnedSemaphorePermit>,
    /// Files that end in that batch, and their bytes.
    read: (u64, u64),
}

impl Expectations {
    async fn next(&mut self, progress: &mut Progress) -> Option<Expected> {
        loop {
            if let Some((key, value)) = self.pairs.pop_front() {
                return Some(Expected::Pair(key, value));
            }
            let (files, bytes) = std::mem::take(&mut self.read);
            progress.advance(files, bytes);
            self.room = None;
            match self.pieces.recv().await? {
                Piece::Pairs(batch) => {
                    self.pairs = batch.pairs.into();
                    self.room = batch.room;
                    self.read = (batch.files, batch.bytes);
                }
                Piece::Unknown { path } => return Some(Expected::Unknown(path)),
                Piece::BeginChunks { .. } | Piece::EndChunks { .. } => {
                    unreachable!("these come in the order of writing only")
                }
            }
        }
    }
}

/// Compares all files below `root` with all keys of the scheme.
pub(crate) async fn verify<P: Pairs>(
    port: &P,
    root: &Path,
    scheme: &Scheme,
    memory_bytes: usize,
    progress: &mut Progress,
) -> anyhow::Result<(Findings, LeftOut)> {
    let (pieces, reader) = start(root, scheme.clone(), Order::ByKey, memory_bytes)
        .with_context(|| format!("listing {}", root.display()))?;
    let mut expectations = Expectations { pieces, pairs: VecDeque::new(), room: None, read: (0, 0) };
    let mut stored = port.scan(scheme.range(), false)?;
    let mut findings = Findings::default();
    let mut unknown: Option<Bytes> = None;
    let mut expected = expectations.next(progress).await;
    let mut found = stored.next().await.transpose().context("reading back")?;
    loop {
        match (&expected, &found) {
            (None, None) => break,
            (Some(Expected::Unknown(path)), Some(pair)) if is_under(scheme, &pair.key, path) => {
                found = stored.next().await.transpose().context("reading back")?;
            }
            // What sorts before the unknown path is judged first.
            (Some(Expected::Unknown(path)), Some(pair)) if pair.key < scheme.whole(path) => {
                superfluous(&mut findings, scheme, &pair.key, unknown.as_ref());
                found = stored.next().await.transpose().context("reading back")?;
            }
            (Some(Expected::Unknown(path)), _) => {
                unknown = Some(path.clone());
                expected = expectations.next(progress).await;
            }
            (Some(Expected::Pair(key, _)), pair) if pair.as_ref().is_none_or(|pair| *key < pair.key) => {
                findings.missing.add(name(scheme, key));
                expected = expectations.next(progress).await;
            }
            (Some(Expected::Pair(key, value)), Some(pair)) if *key == pair.key => {
                if *value == pair.value && pair.ttl_ms == 0 {
                    findings.keys_equal += 1;
                } else {
                    findings.different.add(name(scheme, key));
                }
                expected = expectations.next(progress).await;
                found = stored.next().await.transpose().context("reading back")?;
            }
            (_, Some(pair)) => {
                superfluous(&mut findings, scheme, &pair.key, unknown.as_ref());
                found = stored.next().await.transpose().context("reading back")?;
            }
            (Some(Expected::Pair(..)), None) => unreachable!("a pair without a counterpart is missing"),
        }
    }
    let left_out = reader.await.context("the reading thread failed")?;
    Ok((findings, left_out))
}

fn superfluous(findings: &mut Findings, scheme: &Scheme, key: &Key, unknown: Option<&Bytes>) {
    if unknown.is_none_or(|path| !is_under(scheme, key, path)) {
        findings.superfluous.add(show_key(key));
    }
}

/// Whether the key belongs to the file at this path, or to one in the directory there.
fn is_under(scheme: &Scheme, key: &Key, path: &[u8]) -> bool {
    scheme.meaning(key).path().is_some_and(|own| {
        own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

/// What a file is called in a report.
fn name(scheme: &Scheme, key: &Key) -> String {
    match scheme.meaning(key) {
        Meaning::Whole(path) | Meaning::Manifest(path) | Meaning::Chunk(path, _) => show_path(&path),
        Meaning::Foreign => show_key(key),
    }
}
