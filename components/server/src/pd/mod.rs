//! The PD process.

use crate::{Hooks, PdConfig, ServerError, Shutdown};

/// Runs a placement driver until `shutdown` is triggered.
///
/// # Errors
/// Any [`ServerError`].
pub fn run(config: PdConfig, shutdown: Shutdown, hooks: Hooks) -> Result<(), ServerError> {
    let _ = (config, shutdown, hooks);
    Ok(())
}
