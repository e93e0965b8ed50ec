//! One Raft group as a deterministic state machine.

mod conf;
mod config;
mod encoding;
mod entry;
mod error;
mod message;
mod raw_node;
mod ready;
mod storage;
mod tracker;

pub use conf::{ConfChange, ConfChangeKind, ConfChangeOp, ConfState, Snapshot, SnapshotMeta, Transition};
pub use config::{Config, ConfigError, HEARTBEATS_PER_ELECTION_MIN};
pub use entry::{Entry, EntryId, EntryKind, HardState, LogMark};
pub use error::{
    CampaignError, ConfChangeError, Dropped, Error, InvariantViolated, ReadError, StepError, TransferError,
};
pub use message::{Body, Message, Reject, VoteKind};
pub use raw_node::RawNode;
pub use ready::{Append, Lease, PersistToken, ReadState, Ready, Role, SoftState, Status};
pub use storage::{FetchContext, InitialState, Storage, StorageError};
pub use tracker::{ProgressState, ProgressView};
