//! Work that is done beside the workers: which of it somebody waits for, and its steps.

use crate::fetch::fetch_entries;
use crate::ingest::{Ingest, IngestStep};
use crate::split_check::{Measured, check_split};
use engine::{Engine, EngineError};
use env::sim_point;
use raftstore::{Background, Input, RaftSnapshot};
use types::{PeerId, RegionId};

/// A task that is under way.
pub struct Aside<E>(Job<E>);

enum Job<E> {
    Task(Background),
    Ingest(Ingest<E>),
}

/// What a step has come to.
pub enum AsideStep<E> {
    /// There is more to do.
    More(Aside<E>),
    /// It is done. The worker of the region is to hear of it, if there is something to hear.
    Done(Option<(RegionId, Input)>),
    /// A file of the snapshot that was to be put in place is gone: the worker is to hear [`Input::FilesLost`], and a
    /// person too.
    FileLost {
        /// The region whose copy is given up.
        region_id: RegionId,
        /// The file.
        file: String,
    },
}

/// True for a task that a peer waits for and that takes little: it should not wait behind one that takes long.
#[must_use]
pub const fn is_waited_for(task: &Background) -> bool {
    match task {
        Background::BuildSnapshot { .. } | Background::FetchEntries { .. } => true,
        Background::Ingest { .. } | Background::CheckSplit { .. } | Background::RemoveFiles(_) => false,
    }
}

impl<E: Engine> Aside<E> {
    /// Begins a task; nothing is done yet.
    #[must_use]
    pub const fn new(task: Background) -> Self {
        Self(Job::Task(task))
    }

    /// Does a part of it; `build` makes the snapshot of a region for a peer, if that is the task.
    ///
    /// # Errors
    /// [`EngineError`]: the store must stop.
    pub fn step(
        self,
        engine: &E,
        build: impl FnOnce(RegionId, PeerId) -> Result<Option<RaftSnapshot>, EngineError>,
    ) -> Result<AsideStep<E>, EngineError> {
        let task = match self.0 {
            Job::Task(task) => task,
            Job::Ingest(mut ingest) => {
                let region_id = ingest.region_id();
                return Ok(match ingest.step()? {
                    IngestStep::More => AsideStep::More(Self(Job::Ingest(ingest))),
                    IngestStep::Done => AsideStep::Done(Some((region_id, Input::Ingested { region_id }))),
                    IngestStep::FileLost(file) => AsideStep::FileLost { region_id, file },
                });
            }
        };
        Ok(AsideStep::Done(match task {
            Background::Ingest { record } => {
                return Ok(AsideStep::More(Self(Job::Ingest(Ingest::new(engine.clone(), record)))));
            }
            Background::BuildSnapshot { region_id, to } => {
                let snapshot = build(region_id, to)?;
                Some((region_id, Input::SnapshotBuilt { region_id, to, snapshot }))
            }
            Background::FetchEntries { region_id, request } => {
                Some((region_id, fetch_entries(engine, region_id, request)?))
            }
            // Whoever wants to know has time.
            task @ Background::CheckSplit { .. } if sim_point!("store.measure_later") => {
                return Ok(AsideStep::More(Self(Job::Task(task))));
            }
            Background::CheckSplit { region, split_bytes } => {
                let Measured { size_bytes, keys, split_keys } =
                    check_split(&engine.snapshot(), &region, split_bytes)?;
                let (region_id, epoch) = (region.id, region.epoch);
                Some((region_id, Input::SplitChecked { region_id, epoch, size_bytes, keys, split_keys }))
            }
            Background::RemoveFiles(names) => {
                names.iter().try_for_each(|name| engine.remove_sst(name))?;
                None
            }
        }))
    }
}
