//! Log entries for followers that lag behind.

use engine::{Engine, EngineError};
use raft_log::{FetchRequest, GroupLog, LoadError};
use raftstore::Input;
use types::RegionId;

/// Reads what a group wants of its log, for its worker. What is not there, or makes no sense, concerns that group alone,
/// and it knows whether it was compacted meanwhile: so that is handed on, in words.
///
/// # Errors
/// [`EngineError`]: the store must stop.
pub(crate) fn fetch_entries<E: Engine>(
    engine: &E,
    region_id: RegionId,
    request: FetchRequest,
) -> Result<Input, EngineError> {
    let entries = match GroupLog::fetch(engine, region_id, &request) {
        Ok(entries) => Ok(entries),
        Err(error @ LoadError::Corrupt { .. }) => Err(error.to_string()),
        Err(LoadError::Engine(error)) => return Err(error),
    };
    Ok(Input::EntriesFetched { region_id, request, entries })
}
