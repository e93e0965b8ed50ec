//! One Raft group as a deterministic state machine.

mod conf;
mod entry;
mod message;
mod ready;
mod storage;

pub use conf::{ConfChange, ConfChangeKind, ConfChangeOp, ConfState, Snapshot, SnapshotMeta, Transition};
pub use entry::{Entry, EntryId, EntryKind, HardState, LogMark};
pub use message::{Body, Message, Reject, VoteKind};
pub use ready::{Append, Lease, PersistToken, ReadState, Ready, Role, SoftState, Status};
pub use storage::{FetchContext, InitialState, Storage, StorageError};
