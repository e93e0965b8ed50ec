//! The files of a region snapshot take the place of the region's data.

use engine::{Cf, Engine, EngineError, WriteBatch};
use raftstore::{PeerState, RegionRecord, delete_data, put_region};
use types::RegionId;

/// How far an ingestion has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum IngestStep {
    /// There is more to do.
    More,
    /// All is in place.
    Done,
    /// This file is not there any more. Nothing was ingested, and nothing ever can be: the peer has to be given up.
    FileLost(String),
}

/// Puts the files of a snapshot in place, step by step: each may be the last before a crash, and all may be done again.
/// `Applying` is durable before the first.
#[derive(Debug)]
pub(crate) struct Ingest<E> {
    engine: E,
    record: RegionRecord,
    files: Vec<(Cf, String)>,
    step: usize,
}

impl<E: Engine> Ingest<E> {
    /// For a region whose record says `Applying`.
    #[must_use]
    pub(crate) fn new(engine: E, mut record: RegionRecord) -> Self {
        let files = match std::mem::replace(&mut record.state, PeerState::Normal) {
            PeerState::Applying { files } => files
                .into_iter()
                .filter_map(|(cf, name)| Some((*Cf::ALL.get(usize::from(cf))?, name)))
                .collect(),
            PeerState::Normal | PeerState::Tombstone => Vec::new(),
        };
        Self { engine, record, files, step: 0 }
    }

    /// The region.
    #[must_use]
    pub(crate) fn region_id(&self) -> RegionId {
        self.record.region.id
    }

    /// Does the next step.
    ///
    /// # Errors
    /// Any [`EngineError`] stops the store.
    pub(crate) fn step(&mut self) -> Result<IngestStep, EngineError> {
        self.step += 1;
        match self.step {
            1 => {
                let mut batch = WriteBatch::new();
                delete_data(&mut batch, &self.record.region.range);
                self.engine.write(&batch)?;
            }
            // Ingestion stands outside of the log's order: what it must come after is made durable first.
            2 | 5 => self.engine.sync()?,
            3 => match self.engine.ingest(&self.files) {
                Ok(()) => {}
                Err(EngineError::MissingFile(name)) => return Ok(IngestStep::FileLost(name)),
                Err(error) => return Err(error),
            },
            4 => {
                let mut batch = WriteBatch::new();
                put_region(&mut batch, &self.record);
                self.engine.write(&batch)?;
            }
            _ => match self.files.pop() {
                Some((_, name)) => self.engine.remove_sst(&name)?,
                None => return Ok(IngestStep::Done),
            },
        }
        Ok(IngestStep::More)
    }
}
