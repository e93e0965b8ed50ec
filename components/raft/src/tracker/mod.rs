//! What a leader knows of its peers.

mod progress;

pub use progress::{ProgressState, ProgressView};
