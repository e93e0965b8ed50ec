//! How far one peer has come.

use types::LogIndex;

/// How a leader sends to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressState {
    /// One append at a time, to find out where the logs agree.
    Probe,
    /// Appends follow each other without waiting for answers.
    Replicate,
    /// The peer needs a snapshot up to `index`, which is on its way; nothing else is sent.
    Snapshot {
        /// Where the snapshot stands.
        index: LogIndex,
    },
}

/// What a leader knows of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgressView {
    /// Durable there and known to agree with us up to here.
    pub matched: LogIndex,
    /// The next entry to send.
    pub next: LogIndex,
    /// How we send.
    pub state: ProgressState,
    /// The peer was heard within the minimum election timeout.
    pub active: bool,
    /// The peer does not vote.
    pub learner: bool,
    /// Appends on the way.
    pub inflight_messages: usize,
    /// Bytes of entries on the way.
    pub inflight_bytes: u64,
}
