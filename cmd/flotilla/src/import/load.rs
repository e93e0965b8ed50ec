//! Writes what is read, several batches at a time.

use super::port::Pairs;
use super::progress::Progress;
use super::read::{Batch, Piece};
use super::scheme::Scheme;
use anyhow::Context as _;
use bytes::Bytes;
use client::Error;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use types::Key;

/// How many batches are on their way at a time: enough to keep several regions busy over a round trip each.
const BATCHES_IN_FLIGHT_MAX: usize = 16;
/// How often a batch of unknown outcome is put again. Each time takes the client's deadline or a lost connection, and a store comes
/// back, or another leads, within seconds.
const REPEATS_MAX: u32 = 10;
/// How many keys one request removes.
const REMOVALS_PER_REQUEST: usize = 1000;

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Loaded {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// How many of the files were cut.
    pub(crate) files_cut: u64,
    /// How many keys.
    pub(crate) keys: u64,
}

/// Writes all pieces; ends with the first error, when what was on its way has come to an end.
pub(crate) async fn load<P: Pairs>(
    port: &P,
    scheme: &Scheme,
    mut pieces: mpsc::Receiver<Piece>,
    progress: &mut Progress,
) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut running = FuturesUnordered::new();
    let mut take = |loaded: &mut Loaded, batch: Batch| {
        loaded.files += batch.files;
        loaded.bytes += batch.bytes;
        progress.advance(batch.files, batch.bytes);
    };
    let mut failure = None;
    while failure.is_none() {
        let piece = tokio::select! {
            // Finished batches first: they give room back.
            biased;
            Some(result) = running.next(), if !running.is_empty() => {
                match result {
                    Ok(batch) => take(&mut loaded, batch),
                    Err(error) => failure = Some(error),
                }
                continue;
            }
            piece = pieces.recv(), if running.len() < BATCHES_IN_FLIGHT_MAX => piece,
        };
        let Some(piece) = piece else { break };
        let order_matters = matches!(piece, Piece::BeginChunks { .. } | Piece::EndChunks { .. });
        while order_matters && let Some(result) = running.next().await {
            match result {
                Ok(batch) => take(&mut loaded, batch),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if failure.is_some() {
            break;
        }
        match piece {
            Piece::Pairs(mut batch) => {
                loaded.keys += batch.pairs.len() as u64;
                let pairs = std::mem::take(&mut batch.pairs);
                running.push(async move { put_until_known(port, pairs).await.map(|()| batch) });
            }
            Piece::BeginChunks { path } => {
                if let Err(error) = remove_old(port, scheme, &path).await {
                    failure = Some(error);
                }
            }
            Piece::EndChunks { path, manifest } => {
                let pair = (scheme.manifest(&path), manifest.encode());
                match put_until_known(port, vec![pair]).await {
                    Ok(()) => {
                        loaded.files_cut += 1;
                        loaded.keys += 1;
                    }
                    Err(error) => failure = Some(error),
                }
            }
            Piece::Unknown { .. } => {}
        }
    }
    // The reading thread sees that nobody listens, and ends.
    drop(pieces);
    while let Some(result) = running.next().await {
        match result {
            Ok(batch) => take(&mut loaded, batch),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None => Ok(loaded),
        Some(error) => Err(anyhow::Error::new(error).context(format!(
            "the import stopped after {} files; run it again, which does no harm to what is there already",
            loaded.files
        ))),
    }
}

/// Puts pairs, and puts those again of which nobody knows whether they were: this is the caller's right, not the
/// client's, and it is safe here because the bytes are the same, so that it makes no difference which of the two writes comes
/// last. Definite errors were tried again by the client already.
async fn put_until_known<P: Pairs>(port: &P, mut pairs: Vec<(Key, Bytes)>) -> Result<(), Error> {
    for _ in 0..REPEATS_MAX {
        match port.put(pairs.clone()).await {
            Ok(()) => return Ok(()),
            Err(Error::Undetermined { .. }) => {}
            Err(Error::Incomplete(incomplete)) if matches!(incomplete.cause, Error::Undetermined { .. }) => {
                pairs.retain(|(key, _)| incomplete.written.binary_search(key).is_err());
            }
            Err(error) => return Err(error),
        }
    }
    port.put(pairs).await
}

/// Before a file is written in chunks: removes what an earlier import left under its path, a whole file or more chunks than there will be.
///
/// If it is unknown whether something was removed, the import ends: the removal may still come, after the chunks.
async fn remove_old<P: Pairs>(port: &P, scheme: &Scheme, path: &[u8]) -> Result<(), Error> {
    let mut old = port.scan(scheme.keys_of(path), true)?;
    let mut keys = Vec::new();
    loop {
        let key = old.next().await.transpose()?.map(|pair| pair.key);
        let is_last = key.is_none();
        keys.extend(key);
        if keys.len() >= REMOVALS_PER_REQUEST || (is_last && !keys.is_empty()) {
            port.delete(std::mem::take(&mut keys)).await?;
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Reads `root` and writes it, all with the bound of memory.
pub(crate) async fn import<P: Pairs>(
    port: &P,
    root: &std::path::Path,
    scheme: &Scheme,
    memory_bytes: usize,
    progress: &mut Progress,
) -> anyhow::Result<(Loaded, super::read::LeftOut)> {
    let (pieces, reader) =
        super::read::start(root, scheme.clone(), super::read::Order::Writing, memory_bytes)
            .with_context(|| format!("listing {}", root.display()))?;
    let loaded = load(port, scheme, pieces, progress).await?;
    let left_out = reader.await.context("the reading thread failed")?;
    Ok((loaded, left_out))
}
