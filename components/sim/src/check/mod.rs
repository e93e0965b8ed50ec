//! Checkers: they look at what was recorded and say whether a correct system could have done it.
//!
//! Those of what clients saw know nothing of the simulator, so tests of real processes use them as well.

mod disks;
mod history;
pub mod invariants;
mod linearizable;
mod lines;
mod promises;

pub use disks::{DurableLogs, LogChanges};
pub use history::{Action, OpId, Operation, Outcome, Recorder};
pub use linearizable::{DEFAULT_STEPS_MAX, Verdict, Violation, linearizable};
pub use lines::{HistoryError, parse_history, write_history};
pub use promises::Promise;
