//! Versions of a key on a flat engine, and reading at a timestamp.
//!
//! ```text
//! lock     key                → Lock     a transaction is about to write the key; at most one
//! newest   key                → Newest   what was done to its data last, and when
//! write    key | !commit_ts   → Write    something else happened to the key at commit_ts
//! default  key | !start_ts    → value    of a write that is too long to stand in its record
//! ```
//!
//! Hardly anybody reads the past, so the newest version stands under the key itself, where it is found without a search
//! and passed in one step, however many there were before it. Whoever replaces it puts it with the others. There
//! timestamps are inverted, so that the newest comes first. A key here is one of the region layer in the encoding
//! of `codec::ordered`, which keeps its order when a timestamp is appended: so all versions of a key lie together, between
//! those of its neighbours, and within the range of its region. The format is that of Percolator (Peng and Dabek, OSDI
//! 2010, §2.2) in TiKV's variant: one record of both kinds of commit, short values inlined.
//!
//! What holds: a key has at most one lock; at most one record for each key and commit timestamp, but that a removal stands
//! among the others too (so that garbage collection finds it); nothing has happened to a key after its `Newest` says; a `Put`
//! whose value does not stand in its record has it in `default` at its start timestamp.
//!
//! This room knows no transaction and proposes nothing: it reads a view of the engine, and appends to a batch what others
//! have decided on. Start with [`MvccReader`]; [`put_lock`] and its neighbours write.

mod changes;
mod error;
mod gc;
mod inspect;
mod key;
mod lock;
mod newest;
mod reader;
mod scan;
mod seeded_bug;
#[cfg(test)]
mod testing;
mod write;

pub use changes::{ChangeLimits, Changes};
pub use error::ReadError;
pub use gc::{GcLimits, GcStep};
pub use inspect::{LockPage, Version};
pub use key::{versioned, without_timestamp};
pub use lock::{Lock, LockKind, delete_lock, put_lock};
pub use newest::{Newest, put_write};
pub use reader::{HeldLocks, MvccReader, Past, Record, Records, View};
pub use scan::{Direction, ScanItem, ScanLimits, ScanPage};
pub use seeded_bug::{Bugs, SeededBug};
pub use write::{SHORT_VALUE_MAX, Write, WriteKind, delete_value, put_value};
