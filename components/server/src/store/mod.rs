//! The store process.

use crate::{Hooks, ServerError, Shutdown, StoreConfig};

/// Runs a store until `shutdown` is triggered.
///
/// # Errors
/// Any [`ServerError`].
pub fn run(config: StoreConfig, shutdown: Shutdown, hooks: Hooks) -> Result<(), ServerError> {
    let _ = (config, shutdown, hooks);
    Ok(())
}
