//! The one place of this binary that reads a clock or waits for it.
#![expect(
    clippy::disallowed_methods,
    reason = "tools for people run in real time; there is no logic behind them to simulate"
)]

use std::time::{Duration, Instant};

/// Now, on the monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits.
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
