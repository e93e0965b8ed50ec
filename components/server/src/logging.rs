//! Where log lines go, and what a panic means.

use crate::{LogConfig, LogFormat, ServerError};
use tracing_subscriber::EnvFilter;

/// Sends the process's log to standard error, as configured. For the binary, once.
///
/// # Errors
/// [`ServerError::Config`]: the level is none, or a log was set up before.
pub fn init_logging(config: &LogConfig) -> Result<(), ServerError> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| {
        ServerError::Config(format!(
            "log.level {:?}: {error}; use error, warn, info, debug or trace",
            config.level
        ))
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match config.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| ServerError::Config(format!("the log is set up already: {error}")))
}

/// Makes every panic, of any thread or task, the end of the process, after it is reported: a store of which a part has
/// gone must not go on answering. For the binary, once.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}

/// Ends the process at once: the engine has failed, so nothing more may be said.
pub(crate) fn fatal(doing: &'static str, error: &dyn std::fmt::Display) -> ! {
    tracing::error!(doing, %error, "the process stops: what it has on disk cannot be relied upon");
    std::process::abort()
}
